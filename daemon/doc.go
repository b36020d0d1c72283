// Package daemon is the shell around the pure loops of package control. It is the only part of governor with a clock,
// goroutines and a network.
//
// Services that share their queries form a group, and each group has one worker. A worker sleeps until the next point
// of a wall-clock grid of its period T, reads the clock again and runs one tick:
//
//	      T                 T                 T
//	──────┼─────────────────┼─────────────────┼──────▶ wall clock
//	      └ measure, read KV → step → apply → track → record
//
// Each worker has at most one tick in flight. Grid points that pass during a slow tick, an outage or a suspended laptop
// are skipped; the next tick is an ordinary one, based on the state at that time. So a slow group delays only its own
// services, and nothing ever queues.
//
// Three facts, looked up in every tick, decide what a tick may do. The mode: only enforce writes. The lock: a standby
// measures and decides too, and its loops track the Setting that the leader published, so its first decision as leader
// continues where the other stopped. The KV: its content is in force. The daemon adopts an edited Setting and never
// fights it; if a write fails, it tells the loop that the value was not applied.
//
// Package publish turns the decisions of a tick into one Setting and decides when to renew its lease. It has no clock
// and no network; the simulator uses it too.
//
// A reload replaces the workers between two ticks and hands each service's state to its successor. All observers (a
// scrape, a page, a stream) read from the Recorder, and none can delay a tick.
//
// A dependency that is down never ends the daemon. Without Prometheus the loops hold; without Consul nothing is
// written. Both show in the status, the journal and the metrics, and the values in force stay.
package daemon
