// Package consul carries Settings through Consul KV. It has a Publisher that only the leader can use, a Watcher that
// every service uses, and an Elector that decides who leads.
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
// The lock alone does not guarantee a single writer: a leader that was paused for a minute wakes up and still believes
// that it holds the lock. Three things do. The Elector steps down by its own monotonic clock before Consul can expire
// the session. Consul refuses the transaction unless the lock is held at that very moment. And readers refuse an epoch
// older than one they have seen. So the lock delay, which Consul sets to 15 s by default to cover the same case, is
// redundant and is set to one second: a killed leader is replaced within twice the session TTL plus about one second.
//
// The package does not guess. It looks up a write whose answer was lost, and reports ErrUnknown if that fails too. It
// names a missing permission. It does not write a value that breaks the contract. Every request has a deadline, and
// every retry a capped backoff with full jitter.
package consul
