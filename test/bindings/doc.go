// Package bindings tests guard with the routers and frameworks that services use: chi, gin, Echo, connect-go, and
// golang.org/x/time/rate. They are no dependencies of the project, so this is a module of its own. Its examples are the lines
// of docs/bindings.md.
package bindings
