// Package contract tests the promises of package actuators and its Consul binding against the real things: the store's
// contract on a real Consul, the documented least-privilege policy on a real Consul that enforces ACLs, and the
// published JSON Schema of Setting against the code that reads one.
package contract
