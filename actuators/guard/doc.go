// Package guard is the final control element of governor's loop: it runs inside a service (or in front of it, as a
// sidecar) and decides for each request whether to admit it. It keeps the number of requests in flight below a limit
// and refuses the rest at once, so that an overloaded service keeps doing useful work.
//
//	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
//	p, err := g.Acquire(ctx, guard.Default)
//	if err != nil {
//		return err // a *guard.Refusal: answer 503, do not retry at once
//	}
//	defer p.Release(guard.Success)
//
// Three policies decide about a request, the cheapest first: whether there is a slot, whether there is a token, and
// whether the request is important enough for a service as full as this one is now.
//
//	           Setting (limit, ceiling, latency target, rate, shed threshold)      works without it, too
//	               │
//	request ──► limit ──► rate ──► shed ──► handler ──► latency ──► reflex ──► limit
//	   └──────────┴─────────┴────────┴──► refused: 503, by rate 429, Retry-After
//
// A request that one policy refuses takes nothing from another: only a request that has a slot spends a token. The rate
// limit is a token bucket and ignores priorities. Shedding applies priorities: above the shed threshold a filling
// service refuses the least important requests first and keeps its last slots for the critical ones.
//
// Two layers move the limit. Inside the service, every 250 ms, the reflex compares the mean latency of admitted
// requests with its setpoint. Outside, every few seconds, governor publishes a Setting with the latency target, the
// ceiling and the bounds of the reflex, the rate and the shed threshold.
//
// The package is a guest in its host. It starts no goroutine (the reflex steps inside Acquire and Release when its time
// has come), allocates nothing to admit or refuse a request, and works before governor has ever run. Without governor
// it falls back to the last good Setting, or to its fallback if there is none. It never acts on doubt: a Setting that
// is blank, damaged, older than the one in force or outside its own bounds changes nothing but a counter.
//
// A request that does not end gives its slot back: at once if Permit.Endless declares it, else when the guard finds it.
//
// On the way out, Guard.Dependency limits the calls to another service by a bulkhead, so that a dependency that is slow or
// dead does not take all slots of its callers. The time that a request spends in such calls is not held against the
// service.
//
// It has no queue: a request is admitted or refused at once. It ignores the latency of single requests and percentiles,
// because they say little about how much is waiting.
//
// The bindings are subpackages: guardhttp (net/http) and guardprom (Prometheus). This package imports only the standard
// library.
package guard
