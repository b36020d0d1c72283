// Package embedded runs governor's surroundings in one process: a Prometheus that scrapes and answers queries, and a
// Consul that holds keys and sessions, each on its own loopback port. Governor and guard talk to them over HTTP as to
// the real ones, so a demonstration without any server runs the production code throughout.
//
// Each part can be stopped and started again like a process that is killed and comes back: connections are cut, the
// port refuses connections, the data is kept. Packages prom and memkv say what the parts cannot do. The header
// X-Governor-Embedded in every answer says that it is not from the real server.
package embedded
