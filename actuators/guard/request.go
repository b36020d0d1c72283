package guard

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// request is an admitted request in its context. It adds up the time that the request spends in guarded calls, which the
// guard subtracts from its latency: a service must not be cut for the slowness of its dependencies, which their own
// limits answer. Of calls in parallel, the union of the intervals counts:
//
//	call 1   ├────────────┤
//	call 2          ├───────────┤      ├────┤
//	waited   ███████████████████·······██████
//
// It belongs to one request and is never reused, unlike the ticket, so a call that outlives its request changes nothing.
type request struct {
	context.Context
	guard *Guard
	use   uint64 // of its ticket

	arrival Arrival // its Rank and its Entry are guarded by mu

	place   routeKey
	route   *route       // of place; nil: not known
	entry   uint64       // as in parties
	marked  atomic.Bool  // a layer further out retries
	attempt atomic.Int32 // of that layer
	noRetry atomic.Bool  // a retry of the request is useless

	mu    sync.Mutex
	calls int           // in flight
	since time.Duration // when calls last rose from 0
	total time.Duration // of the intervals that are over

	called []called // guarded by mu
	unmet  bool     // a call was refused or failed; guarded by mu
}

type requestKey struct{}

// Value implements context.Context.
func (r *request) Value(key any) any {
	if key == (requestKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// NewContext returns a context that carries the admitted request of p: guarded calls made with it count as waiting, not
// as the service's own latency, and Optional can answer for it. guardhttp.New does this. It allocates once. With a zero
// Permit it returns ctx.
func NewContext(ctx context.Context, p Permit) context.Context {
	t := p.ticket
	if t == nil {
		return ctx
	}
	r := &request{Context: ctx, guard: t.guard, use: p.use(), arrival: Arrival{Criticality: Default}}
	if p.current(t.word.Load()) {
		r.arrival = t.arrival
		r.place, r.entry = routeKey{t.arrival.Entry, t.arrival.Route}, p.entry
		r.route = t.guard.routeOf(&t.arrival)
		t.work.Store(r)
	}
	return r
}

// requestOf returns the admitted request of the caller of d that ctx carries; nil: none. The request of another guard has
// another clock, and other routes.
func (d *Dependency) requestOf(ctx context.Context) *request {
	if r := requestOf(ctx); r != nil && r.guard.service == d.caller {
		return r
	}
	return nil
}

// requestOf returns the admitted request that ctx carries; nil: none.
func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// waited ends the request of that use of the ticket and returns how long it spent in guarded calls, and whether one of them
// was refused or failed. A request of another use, left by a NewContext that came too late, counts for nothing.
func (t *ticket) waited(use uint64, now time.Duration, o Outcome) (waited time.Duration, unmet bool) {
	if t.work.Load() == nil { // nearly free for a request without a context
		if t.guard.routes.table.Load() != nil {
			t.guard.routeOf(&t.arrival).learn(nil, o)
		}
		return 0, false
	}
	return t.endWork(use, now, o)
}

func (t *ticket) endWork(use uint64, now time.Duration, o Outcome) (waited time.Duration, unmet bool) {
	r := t.work.Swap(nil)
	if r == nil || r.use != use {
		return 0, false
	}
	return r.end(now, o)
}

// enter begins a guarded call. Every enter needs one leave. A nil request ignores both.
func (r *request) enter(now time.Duration) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == 0 {
		r.since = now
	}
	r.calls++
}

// leave ends a guarded call.
func (r *request) leave(now time.Duration) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls--
	if r.calls == 0 {
		r.total += max(0, now-r.since)
	}
}

// end ends the request with the outcome o. It returns how long the request spent in guarded calls, of which those still in
// flight count until now, and whether one was refused or failed.
func (r *request) end(now time.Duration, o Outcome) (waited time.Duration, unmet bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	route := r.route
	if route == nil && len(r.called) > 0 && o == Success {
		route = r.guard.routes.add(r.place, r.guard.service.cfg.Service)
	}
	route.learn(r.called, o)
	if r.calls > 0 {
		r.total += max(0, now-r.since)
	}
	return r.total, r.unmet
}

// Optional says whether the optional part of the work for the request in ctx should run (brownout): recommendations, a
// preview, a refresh in the background. It says no while the service is nearly full or refuses by its rate, and for a
// second after one of its dependencies had no room for a call. Without a request in ctx it says yes.
func Optional(ctx context.Context) bool {
	r := requestOf(ctx)
	return r == nil || r.guard.optional(r.guard.now())
}

// OptionalAt is Optional for any request of g at the instant now.
func (g *Guard) OptionalAt(now time.Time) bool { return g.optional(now.Sub(g.base)) }

// optional compares the occupancy with what Background requests may fill, or with the occupancy from which a limit binds
// if nothing is shed.
func (g *Guard) optional(now time.Duration) bool {
	if int64(now) < g.service.short.Load() {
		return false
	}
	limit, n := unpack(g.gate.word.Load())
	if float64(n) > float64(limit)*min(g.shed.threshold(), little.BindingAt) {
		return false
	}
	if g.roof != nil {
		if limit, n := unpack(g.roof.gate.word.Load()); float64(n) > float64(limit)*little.BindingAt {
			return false
		}
	}
	return g.rate.ready(now)
}
