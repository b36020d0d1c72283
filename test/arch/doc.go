// Package arch holds the tests of the architecture: who may import whom, what must never be linked in and why, how much
// the daemon may depend on, and which modules the Makefile walks. They read `go list`, so a new package is covered from
// its first commit.
//
// A test that fails here asks a question: is the new edge a mistake, or has the design changed? In the second case
// change the table, with its reason, in the same commit.
package arch
