// Package consul carries Settings through Consul KV: a Publisher that only the leader can use, a Watcher that every
// service uses, and an Elector that decides who the leader is.
//
//	governor A ──Elector── session lock on governor/leader ──Elector── governor B
//	    │ leader, epoch 42                                                 standby
//	    ▼
//	Publisher: one transaction per service
//	    ┌ check-session governor/leader   is the lock still ours?   else ErrFenced, and nothing is written
//	    └ cas governor/services/…/setting is it as we read it?      else ErrConflict, and nothing is written
//	                    │
//	                    ▼
//	Watcher: one blocking query per process ──▶ guard decodes, checks order and bounds
//
// The lock alone does not make one writer: a leader that was paused for a minute wakes up believing in its lock. Three
// things do. The Elector steps down by its own monotonic clock before Consul can expire the session. The transaction
// is refused by Consul unless the lock is held at that very moment. And readers refuse an epoch older than one they
// have seen. So the lock delay, which Consul sets to 15 s by default to cover the same case, is redundant and kept at
// one second: a killed leader is replaced within twice the session TTL and about a second more.
//
// The package refuses to guess. A write whose answer was lost is looked up, and reported as ErrUnknown if that fails
// too; a permission that is missing is named; a value that breaks the contract is not written. Every request has a
// deadline, every retry a capped backoff with full jitter.
package consul
