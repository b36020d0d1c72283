// Package e2e proves that the loop closes. It runs the built binaries, a real Prometheus, a real Consul and real
// services under a load that they cannot carry (package internal/world has a diagram). A person steps in with govtop,
// key by key on a terminal, and from a shell.
//
// The test takes about four minutes and needs an idle machine: it measures latencies of tens of milliseconds while it
// sends 1800 requests per second. `make test` runs it alone, after everything else. If the load generator itself was
// too late, the measurements of that stretch say nothing about the services. Such a stretch is measured again; if the
// machine is too busy throughout, the test fails and says so.
package e2e
