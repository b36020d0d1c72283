// Package docs tests the documentation: the program that it shows compiles, the version that it names is the one in go.mod,
// and pages and comments avoid phrases that native readers stumble over.
package docs
