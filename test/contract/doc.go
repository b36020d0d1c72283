// Package contract tests what package actuators and its Consul binding promise to others against the real things: the
// store's contract on a real Consul, the documented least-privilege policy on a real Consul that enforces ACLs, and the
// published JSON Schema of Setting against the code that reads one.
package contract
