// Package calls holds the end-to-end tests of the way out: services that call each other as real processes over loopback,
// each once with all of guard's patterns on its calls and once as most services are written, with a timeout and three
// attempts. Both have a guard on the way in, but for the naive fleet of TestAnOverloadedBackend, which has none.
//
// In TestAnOverloadedBackend, with the patterns, one service stands behind a sidecar, one speaks gRPC, and a governor with a
// real Prometheus and a real Consul says whose fault it is. TestHalfOfTheFleetIsOld mixes versions.
package calls
