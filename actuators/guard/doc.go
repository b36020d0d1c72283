// Package guard is the final control element of governor's loop: the few lines inside (or, as a sidecar, in front of) a
// service that decide per request whether to admit it. It keeps the requests in flight below a limit and refuses the
// rest at once, because refusing work is how a system keeps the ability to do any.
//
//	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
//	p, err := g.Acquire(ctx, guard.Default)
//	if err != nil {
//		return err // a *guard.Refusal: answer 503, do not retry at once
//	}
//	defer p.Release(guard.Success)
//
// Three policies decide about a request, the cheapest first: is there a slot, is there a token, and is it important
// enough for a service as full as this one is now.
//
//	           Setting (limit, ceiling, latency target, rate, shed threshold)      works without it, too
//	               │
//	request ──► limit ──► rate ──► shed ──► handler ──► latency ──► reflex ──► limit
//	   └──────────┴─────────┴────────┴──► refused: 503, by rate 429, Retry-After
//
// What one policy refuses takes nothing from another: a token is only spent on a request that has a slot. The rate is a
// token bucket and knows no priorities. Shedding is about them: from the shed threshold on, a filling service refuses
// the least important requests first, and keeps its last slots for the critical ones.
//
// Two layers move the limit. The reflex, here, every 250 ms: the mean latency of admitted requests against its target.
// Governor, outside, every few seconds: the target, the ceiling and the bounds around the reflex, the rate and the shed
// threshold, by way of a Setting.
//
// The package is a guest in its host. It starts no goroutine (the reflex steps inside Acquire and Release once its time
// has come), allocates nothing to admit or to refuse, works before governor has ever run, and fails to the last good
// Setting, else to its fallback. It never acts on doubt: a Setting that is blank, damaged, older than the one in force
// or outside its own bounds changes nothing but a counter.
//
// What it does not do: it has no queue (a request is admitted or refused at once), and it does not look at the
// latency of single requests or at percentiles, which say little about how much is waiting.
//
// The bindings are sub-packages: guardhttp (net/http), guardprom (Prometheus). Everything in this package imports the
// standard library only.
package guard
