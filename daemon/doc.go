// Package daemon is the shell around the pure loops of package control: the one place of governor that has a clock,
// goroutines and a network.
//
// Services that share their queries form a group, and each group has one worker. A worker sleeps until the next point
// of a wall-clock grid of its period T, reads the clock again and runs one tick:
//
//	      T                 T                 T
//	──────┼─────────────────┼─────────────────┼──────▶ wall clock
//	      └ measure, read KV → step → apply → track → record
//
// Each worker has at most one tick in flight. Grid points that passed during a slow tick, an outage or a suspended
// laptop are gone: the next tick is an ordinary one, made on what is true then. So a slow group delays only its own
// services, and nothing ever queues.
//
// What a tick may do is decided by three facts that are looked up anew each time. The mode: only enforce writes. The
// lock: a standby measures and decides too, its loops tracking the Setting that the leader published, so that its first
// decision as leader continues where the other stopped. The KV: what is in there is in force; a Setting that somebody
// edited is adopted, never fought over, and a write that failed is told to the loop as not applied.
//
// How the decisions of a tick become one Setting, and when its lease is renewed, is package publish: rules without a
// clock or a network, which the simulator obeys too.
//
// A reload replaces the workers between two ticks, and hands each service's state to its successor. Whoever watches, a
// scrape, a page, a stream, is a reader of the Recorder: none can hold up a tick.
//
// A dependency that is down is never an exit. Without Prometheus the loops hold, without Consul nothing is written,
// both are visible in the status, the journal and the metrics, and the values in force stay.
package daemon
