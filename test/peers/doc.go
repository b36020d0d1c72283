// Package peers compares guard with the libraries that people would use instead, in one run: what admitting and releasing a
// request costs, what refusing it costs, and how that stands to what nobody can do without, two readings of the clock.
//
//	make bench-peers      rows (this package) ──► rounds of `go test -bench` ──► report: medians, ratios, goals
//	make overload         server ◄── three times what it can do ── load        no guard, guard, a peer in turns
//	make soak             a guard, a million keys, for minutes                 its memory stays flat
//
// Every peer is used as its documentation shows, with limits that do not bind, and without what would need a request to
// run: a row measures the limiter alone. Where a setting decides how expensive a peer is, the row has the cheaper one.
// A figure in nanoseconds is that of one machine in one hour, so the goals are ratios between rows of the same rounds.
//
// It is a module of its own, because only it needs the peers.
package peers
