package guard

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/little"
)

// Dependency guards the calls of a service to one other service. Its bulkhead limits how many are in flight, so that a
// dependency that is slow or dead does not take all of the caller's slots with it. All methods are safe for concurrent
// use.
//
// The bulkhead is a guard in itself, with a target of its own. The mean latency of the calls may be
//
//	min(max(3·m₀, 0.05·SLO), 0.4·SLO)      m₀: what calls take in calm, learned; SLO: the caller's
//
// and 0.4·SLO until m₀ is known. Below 0.05·SLO the caller cannot notice that calls have become slower. A dependency that has
// never been faster than that gets a little more than its fastest mean, up to 0.8·SLO: refusing its calls could not make it
// faster. The host or a Setting may give the target instead.
// In calm the limit settles at what the calls need three times over, so that a dependency that hangs takes no more than
// that: a bulkhead needs no call to finish in order to protect.
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
	early  map[string][]byte // Settings that came before their Dependency was made
}

// earlyMost bounds the Settings kept for dependencies that may never be made.
const earlyMost = 256

// deliver returns the dependency called name. If it does not exist yet, deliver keeps raw for it and returns nil.
func (c *dependencies) deliver(name string, raw []byte) *Dependency {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.byName[name]; d != nil {
		return d
	}
	if c.early == nil {
		c.early = map[string][]byte{}
	}
	if _, known := c.early[name]; raw == nil {
		delete(c.early, name)
	} else if (known || len(c.early) < earlyMost) && len(raw) <= actuators.MaxBytes {
		c.early[name] = raw
	}
	return nil
}

// sorted returns all dependencies, by name.
func (c *dependencies) sorted() []*Dependency {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.byName), func(a, b *Dependency) int { return strings.Compare(a.name, b.name) })
}

// The law of a bulkhead. By Little's law its target and its limit in calm belong together: X̂max·m₀ calls are in flight
// at the highest throughput the dependency has carried, and three times as many when each takes three times as long.
const (
	callFactor = 3.0         // of the target, × m₀; of the limit in calm, × X̂max·m₀
	callShare  = 0.05        // of the caller's SLO, the lowest target learned
	callMost   = 0.8         // of the caller's SLO, the highest target learned: slower calls leave a request no time
	callLeast  = 8.0         // in flight beyond that: arrivals come in bursts, and a small number varies most
	callLearn  = time.Minute // longest window to learn from: most dependencies are called less often than the service
	callDrift  = 0.025       // share of the way to the limit in calm per step of the reflex: most of it in ten seconds
)

// CallOption changes the bulkhead of a Dependency.
type CallOption func(*callConfig)

type callConfig struct {
	target time.Duration
	max    int
}

// CallTarget sets the mean latency that calls may have, 1 ms to 1 h; 0: it is learned. A Setting overrides it.
func CallTarget(d time.Duration) CallOption { return func(c *callConfig) { c.target = d } }

// MaxCalls bounds the calls in flight against any Setting, 1 to 2³⁰; 0: no bound of the host's own, see Config.Max. Without it
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
	if raw := g.calls.early[name]; raw != nil {
		delete(g.calls.early, name)
		if d.Apply(raw) == nil { // else the refusal is counted and logged
			d.pool.saveCache()
		}
	}
	return d
}

// bulkhead returns the guard of the calls to the dependency called name. Until it has learned what they need, half of
// the limit that the service starts from may be in flight.
func (g *Guard) bulkhead(name string, c callConfig) *Guard {
	cfg := Config{
		Service: g.cfg.Service, SLO: g.cfg.SLO, Max: c.max,
		Logger: g.cfg.Logger.With("to", name), Now: g.cfg.Now,
	}
	lo, hi := cfg.bounds()
	cfg.Fallback = min(max(g.cfg.Fallback/2, lo), hi)
	if g.cfg.CacheFile != "" {
		cfg.CacheFile = g.cfg.CacheFile + ".calls." + name
	}
	regime := newRegime(cfg)
	regime.callee, regime.learns = name, c.target == 0
	if c.target > 0 {
		regime.target = c.target.Seconds()
	}
	regime.start = regime.target
	reflex := newReflex(cfg.SLO, float64(cfg.Fallback), false)
	reflex.most, reflex.learnMost = callMost*cfg.SLO.Seconds(), callLearn
	pool := start(cfg, g.base, regime, reflex)
	pool.loadCache()
	return pool
}

// learn takes the target, and the limit in calm, from what the reflex of a bulkhead has learned.
func (r *regime) learn(x *reflex) {
	if r.callee == "" {
		return
	}
	windows, newest := x.own.Evidence()
	fastest, target := x.own.Lowest(), r.start
	if windows > 0 {
		fastest = x.ownSeconds
		target = min(max(callFactor*fastest, callShare*x.slo), r.start)
		r.known, r.base = true, callLeast+callFactor*x.carried.PerSecond(newest)*fastest
	}
	if r.learns && !math.IsInf(fastest, 1) {
		r.target = max(target, min(little.Setpoint(target, fastest, x.slo), x.most))
	}
}

// Name returns the name of the dependency.
func (d *Dependency) Name() string { return d.name }

// Apply puts the bytes of a Setting of these calls in force, like Guard.Apply. The calls follow its latency target,
// bounds and ceiling. Its limit and fallback are ignored: the limit is local. Guard.Run calls Apply if its source is a
// PartSource.
func (d *Dependency) Apply(raw []byte) error { return d.pool.Apply(raw) }

// ApplyAt is Apply at the instant now.
func (d *Dependency) ApplyAt(now time.Time, raw []byte) error { return d.pool.ApplyAt(now, raw) }

// slot is the right to have one call in flight in a bulkhead. It is a small value: copy it freely, release it once.
type slot struct {
	permit  Permit
	request *request
}

// acquireAt takes a slot at the instant now, a duration since the caller's base. It never waits; ok is false if the
// bulkhead is full. r is the request that makes the call (requestOf); nil: none. group is as in Rank.
func (d *Dependency) acquireAt(now time.Duration, r *request, group uint8) (s slot, ok bool) {
	a := Arrival{Criticality: Default}
	if r != nil {
		a = r.arrivalAt(d, group)
	}
	p, err := d.pool.acquire(now, &a)
	if err != nil {
		d.out.refused[byBulkhead].Add(1)
		d.shortAt(now)
		return slot{}, false
	}
	r.enter(now)
	return slot{permit: p, request: r}, true
}

// release gives the slot back. Success counts with the latency of the call. A refusal by the callee must be Ignored: it
// says nothing about how long calls take. Canceled and Failure count if the call took longer than the setpoint: most
// failures are faster than any work, and a dependency that has been away must not be found slow when it is back.
// Releasing a slot again only increments a counter; it says whether it was the first time.
func (s slot) release(now time.Duration, o Outcome) bool {
	if o == Failure {
		o = Canceled
	}
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
