package guard

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Dependency guards the calls of a service to one other service. Its bulkhead limits how many are in flight, so that a
// dependency that is slow or dead does not take all of the caller's slots with it. All methods are safe for concurrent
// use.
//
// The bulkhead is a guard in itself with another target: the mean latency of its calls may be three times what the
// dependency needs in calm (m₀), and at most the share of the caller's SLO that a whole request may take.
type Dependency struct {
	name   string
	caller *Guard
	pool   *Guard // the bulkhead
	out    outgoing
}

// dependencies are the dependencies of a guard by name.
type dependencies struct {
	mu     sync.Mutex
	byName map[string]*Dependency
}

const (
	callTargetFactor = 3.0 // × m₀
	callDrift        = 1.0 / 40
	callLeast        = 8.0
)

// callLaw is what the limit of a bulkhead aims at.
type callLaw struct {
	most     float64      // highest target learned, seconds
	explicit bool         // the target is the host's
	calm     atomic.Int64 // m₀ in nanoseconds; 0: not learned
}

// CallOption changes the bulkhead of a Dependency.
type CallOption func(*callConfig)

type callConfig struct {
	target time.Duration
	max    int
}

// CallTarget sets the mean latency that calls may have, 1 ms to 1 h; 0: it is learned. A Setting overrides it.
func CallTarget(d time.Duration) CallOption { return func(c *callConfig) { c.target = d } }

// MaxCalls bounds the calls in flight against any Setting; 0: no bound of the host's own, see Config.Max. Without it
// the bound is that of the guard.
func MaxCalls(n int) CallOption { return func(c *callConfig) { c.max = n } }

// Dependency returns the dependency called name, the service name of the callee. There is one per name: options count
// only in the first call. It panics if the name is not valid (see actuators.ValidServiceName), or an option is outside
// its range.
func (g *Guard) Dependency(name string, options ...CallOption) *Dependency {
	g.calls.mu.Lock()
	defer g.calls.mu.Unlock()
	if d := g.calls.byName[name]; d != nil {
		return d
	}
	if err := actuators.ValidServiceName(name); err != nil {
		panic(fmt.Sprintf("guard: dependency %q of service %q: expected %v", name, g.cfg.Service, err))
	}
	c := callConfig{max: g.cfg.Max}
	for _, o := range options {
		o(&c)
	}
	if c.target != 0 && (c.target < time.Millisecond || c.target > time.Hour) {
		panic(fmt.Sprintf("guard: dependency %q: CallTarget %v is outside 1ms..1h", name, c.target))
	}
	if c.max < 0 || c.max > hardMax {
		panic(fmt.Sprintf("guard: dependency %q: MaxCalls %d is outside 0..%d", name, c.max, hardMax))
	}
	d := &Dependency{name: name, caller: g, pool: g.bulkhead(name, c)}
	d.out.ready(d)
	if g.calls.byName == nil {
		g.calls.byName = map[string]*Dependency{}
	}
	g.calls.byName[name] = d
	return d
}

// bulkhead returns the guard of the calls to the dependency called name. Until it has learned what they need, half of
// the limit that the service starts from may be in flight.
func (g *Guard) bulkhead(name string, c callConfig) *Guard {
	cfg := Config{
		Service: g.cfg.Service, SLO: g.cfg.SLO, Max: c.max, ShedThreshold: 1,
		Logger: g.cfg.Logger.With("to", name), Now: g.cfg.Now,
	}
	lo, hi := cfg.bounds()
	cfg.Fallback = min(max(g.cfg.Fallback/2, lo), hi)
	law := &callLaw{most: targetShare * cfg.SLO.Seconds(), explicit: c.target > 0}
	regime := newRegime(cfg)
	regime.call = law
	if law.explicit {
		regime.target = c.target.Seconds()
	}
	reflex := newReflex(cfg.SLO, float64(cfg.Fallback), false)
	reflex.most = law.most
	return start(cfg, g.base, regime, reflex)
}

// learn takes the target, and the limit in calm, from what the reflex of a bulkhead has learned.
func (r *regime) learn(x *reflex, now time.Duration) {
	if r.call == nil {
		return
	}
	if windows, _ := x.own.Evidence(); windows == 0 {
		return
	}
	r.call.calm.Store(int64(x.ownSeconds * float64(time.Second)))
	if !r.call.explicit {
		r.target = min(callTargetFactor*x.ownSeconds, r.call.most)
	}
	need := x.carried.PerSecond(x.learned.at) * x.ownSeconds
	r.base = callLeast + callTargetFactor*need
}

// Name returns the name of the dependency.
func (d *Dependency) Name() string { return d.name }

// slot is the right to have one call in flight in a bulkhead. It is a small value: copy it freely, release it once.
type slot struct {
	permit  Permit
	request *request
}

// acquireAt takes a slot at the instant now, a duration since the caller's base. It never waits; ok is false if the
// bulkhead is full. r is the request that makes the call (requestOf); nil: none.
func (d *Dependency) acquireAt(now time.Duration, r *request) (s slot, ok bool) {
	p, err := d.pool.acquire(now, Default, "")
	if err != nil {
		d.shortAt(now)
		return slot{}, false
	}
	r.enter(now)
	return slot{permit: p, request: r}, true
}

// release gives the slot back. Success and Failure count with the latency of the call. A refusal by the callee must be
// Ignored: it says nothing about how long calls take. Canceled counts if the call took longer than the setpoint.
// Releasing a slot again only increments a counter; it says whether it was the first time.
func (s slot) release(now time.Duration, o Outcome) bool {
	if s.permit.ticket == nil || !s.permit.release(now, o) {
		return false
	}
	s.request.leave(now)
	return true
}

// endless gives the slot back, but not the call: its latency and its end count for nothing (a stream). It must still be
// released when it has ended.
func (s slot) endless(now time.Duration) {
	if s.permit.ticket != nil {
		s.permit.endless(now)
	}
}

// shortFor is how long after a refusal a dependency counts as short of room.
const shortFor = time.Second

// shortAt notes at the instant now that the dependency has refused a call, or that the calls to it were refused here.
func (d *Dependency) shortAt(now time.Duration) {
	g := d.caller
	if until := int64(now + shortFor); until > g.short.Load() {
		g.short.Store(until)
	}
}

// retryRatio is the retry budget in force at the instant now: retries allowed as a share of requests, 0..1.
func (g *Guard) retryRatio(now time.Duration) float64 {
	g.tick(now)
	return math.Float64frombits(g.retry.Load())
}
