// Package docs tests the instructions in the documentation: a program on a page compiles, and the Go version on a page
// is the one in go.mod.
package docs
