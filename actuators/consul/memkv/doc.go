// Package memkv is the part of Consul that governor and guard need, in memory and behind the same HTTP interface: keys
// with flags, check-and-set and locks, sessions with TTL and lock delay, transactions, blocking queries. A Store is an
// http.Handler; whoever has a listener has a store that consul/api's client cannot tell from the real one, except by
// the header X-Governor-Embedded that every answer carries.
//
// It exists for tests and for a demonstration in one process. Nothing is written to disk, one node is the whole
// cluster, there are no ACLs and no services: it refuses what it does not have with 404 or 400 and never pretends.
// That what it does have behaves as Consul's does is tested: package consultest runs one suite against both.
//
// The clock is package time's, so inside a testing/synctest bubble an hour of sessions takes no time.
package memkv
