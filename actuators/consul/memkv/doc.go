// Package memkv implements the part of Consul that governor and guard need, in memory and behind the same HTTP
// interface: keys with flags, check-and-set and locks, sessions with TTL and lock delay, transactions, blocking
// queries. A Store is an http.Handler. The client of consul/api cannot tell it from the real one, except by the header
// X-Governor-Embedded that every answer carries.
//
// It exists for tests and for a demonstration in one process. Nothing is written to disk, one node is the whole
// cluster, and there are no ACLs and no services. It answers requests for anything else with 404 or 400 and never
// pretends. Package consultest runs one suite against it and against the real Consul, so that both behave alike.
//
// It uses the clock of package time, so inside a testing/synctest bubble an hour of sessions takes no time.
package memkv
