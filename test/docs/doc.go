// Package docs holds the tests of what the documentation tells its readers to do: a program that it shows compiles, and a
// version that it names is the one in go.mod.
package docs
