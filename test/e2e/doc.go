// Package e2e is the proof that the loop closes: the built binaries, a real Prometheus, a real Consul and real services
// under a load that they cannot carry (package internal/world draws the picture). A person steps in at govtop, key by
// key on a terminal, and at a shell.
//
// The test takes about four minutes and needs the machine for itself: it measures latencies of tens of milliseconds
// while it sends 1800 requests a second. `make test` runs it alone, after everything else. Where the load generator
// itself came too late, what the clients saw in that stretch says nothing about the services: such a stretch is
// measured again, and a machine that is too busy throughout fails the test with those words.
package e2e
