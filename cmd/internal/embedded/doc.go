// Package embedded is the world around governor in one process: a Prometheus that scrapes and answers queries, and a
// Consul that holds keys and sessions, each on a loopback port of its own. Governor and guard talk to them over HTTP as
// they talk to the real ones, so a demonstration without any server runs the code of production throughout.
//
// Each part can be stopped and started again, as a process is killed and comes back: connections are cut, the port is
// refused, the data are kept. What the parts are not, packages prom and memkv say; every answer of theirs says in the
// header X-Governor-Embedded that it is not the real thing.
package embedded
