package guard

import (
	"maps"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Snapshot is the state and the counters of a guard at one instant: a copy, which belongs to the caller. Counters are requests
// unless it says otherwise; they start at zero in New and only increase. Arrays are indexed by Criticality.
type Snapshot struct {
	Service string    // or SERVICE/ROUTE
	Started time.Time // when New made the guard
	At      time.Time // the instant

	Offered  [criticalities]uint64            // Admitted + refused
	Admitted [criticalities]uint64            // ended or in flight
	Refused  map[string][criticalities]uint64 // by Refusal.Reason; every reason is present
	Demoted  uint64                           // requests above the share of their API or tenant; they count as Background
	Failed   uint64                           // of those that ended, by Outcome
	Latency  Latency                          // of those that ended and count, see Outcome
	CutShort CutShort                         // of these, those that a call has ended early

	InFlight      int           // without the endless requests
	Limit         int           // enforced now
	Held          time.Duration // how long no slot has come free, here or under the roof; 0: one is free
	Blind         bool          // the reflex has too little data to move the limit, or is off
	Setpoint      time.Duration // mean latency the reflex aims at, guarded calls included: the target, or more while ŝ stands
	Reflex        bool          // false: Config.NoReflex, the limit is the Setting's
	ServiceTime   float64       // ŝ of the raise test or the floor test, seconds; 0: none stands
	Binding       time.Duration // total time with at least 85% of the limit in flight
	ShedThreshold float64       // φ in force, 0..1; 1: nothing is shed
	RateLimit     float64       // admissions per second in force on this instance; +Inf: no limit

	Epoch, Revision uint64                             // of the Setting in force; 0: none
	Leased          bool                               // the lease of at least one knob is running
	SettingRefused  map[actuators.RefusalReason]uint64 // every reason is present
	DoubleReleases  uint64                             // permits released more than once: a mistake in the calling code

	// Requests in flight that hold no slot because they do not end: found by the guard, or declared with
	// Permit.Endless. The totals also count those that have ended.
	EndlessFound, EndlessDeclared           int
	EndlessFoundTotal, EndlessDeclaredTotal uint64 // since the start
	MaxEndless                              int    // that may be open; 0: no bound

	RetryRatio float64        // retry budget in force: retries allowed as a share of requests, 0..1
	Calls      []CallSnapshot // one for each Dependency, by name

	// Of a service with Config.Routes. All above is then for the requests on none of them.
	Routes []Snapshot // one for each, by name; Service is SERVICE/ROUTE, and there are no Calls
	Roof   *Roof      // nil: there are no Routes
	Share  int        // of this compartment under the roof, in requests in flight; 0: none is in force
}

// Roof is the limit over all routes of a service.
type Roof struct {
	InFlight int           // requests of all routes, without the endless ones
	Limit    int           // enforced now, in requests in flight
	Binding  time.Duration // total time with at least 85% of the limit in flight
}

// CutShort are those requests of a Latency that failed after a guarded call of theirs was refused or had failed. How long they
// would have taken nobody knows, so they are no evidence of how fast the service is.
type CutShort struct {
	Count uint64 // requests
	// The parts of Latency.Sum that were the service's own, and that they spent in guarded calls, in seconds.
	Own, Waited float64
}

// CallSnapshot is the state and the counters of a Dependency at one instant.
//
// Counters start at zero with the dependency and only increase.
type CallSnapshot struct {
	To string // name of the dependency

	Latency    Latency       // of calls that finished, failed ones included, without what the callee refused
	InFlight   int           // without streams
	Limit      int           // enforced now
	Setpoint   time.Duration // mean latency that the calls may have
	OwnLatency float64       // m₀, what calls take in calm, seconds; 0: not known yet
	Binding    time.Duration // total time with at least 85% of the limit in flight

	Epoch, Revision uint64                             // of the Setting in force; 0: none
	SettingRefused  map[actuators.RefusalReason]uint64 // every reason is present

	Requests       uint64            // logical calls
	Attempts       uint64            // that were sent
	Retries        uint64            // that were allowed
	Failures       uint64            // attempts that failed
	CalleeRefusals uint64            // attempts that the callee refused
	DoubleReleases uint64            // attempts that ended more than once: a mistake in the calling code
	Refused        map[string]uint64 // attempts refused here, by CallRefusal.Reason, and requests refused at the door: "early"; every reason is present
	Suppressed     map[string]uint64 // retries that were not allowed, by what kept them; every reason is present

	Breakers      map[string]int    // instances known, by the state of their breaker; every state is present
	BreakerOpened map[string]uint64 // times that a breaker opened, by what opened it; every reason is present
}

// snapshot returns the state of the bulkhead, the breakers and the retries.
func (d *Dependency) snapshot(now time.Duration) CallSnapshot {
	s := d.pool.snapshot(now)
	c := CallSnapshot{
		To: d.name, Latency: s.Latency, InFlight: s.InFlight, Limit: s.Limit,
		Setpoint: s.Setpoint, OwnLatency: d.pool.ownLatency(),
		Binding: s.Binding, Epoch: s.Epoch, Revision: s.Revision, SettingRefused: s.SettingRefused,
		DoubleReleases: s.DoubleReleases,
	}
	d.out.snapshot(&c)
	return c
}

// ownLatency is m₀ in seconds, 0 before the first window in calm.
func (g *Guard) ownLatency() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if windows, _ := g.reflex.own.Evidence(); windows == 0 {
		return 0
	}
	return g.reflex.ownSeconds
}

// Service returns the name of the guarded service.
func (g *Guard) Service() string { return g.cfg.Service }

// SLO returns the latency of a good request, from the Config.
func (g *Guard) SLO() time.Duration { return g.cfg.SLO }

// Load returns the requests in flight, without the endless ones, and the limit in force: that of the roof, if there are routes.
// It takes one atomic load.
func (g *Guard) Load() (inFlight, limit int) {
	word := &g.gate.word
	if g.gate.roof != nil {
		word = &g.gate.roof.word
	}
	l, n := unpack(word.Load())
	return int(n), int(l)
}

// Snapshot returns the state as of now. It takes some microseconds: use it for scrapes, not for requests.
func (g *Guard) Snapshot() Snapshot { return g.whole(g.now()) }

// SnapshotAt is Snapshot at the instant now.
func (g *Guard) SnapshotAt(now time.Time) Snapshot { return g.whole(now.Sub(g.base)) }

// whole is the snapshot of g with its routes.
func (g *Guard) whole(now time.Duration) Snapshot {
	s := g.snapshot(now)
	if g.roof == nil {
		return s
	}
	for _, part := range g.roof.parts[1:] {
		s.Routes = append(s.Routes, part.snapshot(now))
	}
	limit, n := unpack(g.roof.gate.word.Load())
	s.Roof = &Roof{InFlight: int(n), Limit: int(limit), Binding: g.roof.gate.watch(now)}
	return s
}

// heldFor is how long no slot has come free, of g or of the roof. The caller holds g.mu.
func (g *Guard) heldFor(now time.Duration) (d time.Duration) {
	if limit, n := unpack(g.gate.word.Load()); n >= limit {
		d = max(d, now-g.held.since)
	}
	if g.roof == nil {
		return d
	}
	if limit, n := unpack(g.roof.gate.word.Load()); n >= limit {
		g.roof.mu.Lock()
		defer g.roof.mu.Unlock()
		d = max(d, now-g.roof.held.since)
	}
	return d
}

func (g *Guard) snapshot(now time.Duration) Snapshot {
	g.tick(now)                 // without traffic, nothing else ends a lease
	short := g.cutShort.total() // before the latencies, which are added to first
	s := Snapshot{
		Service:        g.cfg.Service,
		Started:        g.base,
		At:             g.base.Add(now),
		Refused:        map[string][criticalities]uint64{},
		Demoted:        g.shares.demoted.Load(),
		Failed:         g.count.failures(),
		Latency:        g.latency.snapshot(),
		CutShort:       short,
		Setpoint:       time.Duration(g.slow.Load()),
		Binding:        g.gate.watch(now),
		SettingRefused: map[actuators.RefusalReason]uint64{},
		DoubleReleases: g.twice.Load(),
		MaxEndless:     g.cfg.MaxEndless,
	}
	s.Admitted = g.admitted()
	s.Offered = s.Admitted
	for policy, reason := range reasons {
		var refused [criticalities]uint64
		for i := range criticalities {
			refused[i] = g.count.refusedOf(i, policy)
			s.Offered[i] += refused[i]
		}
		s.Refused[reason] = refused
	}
	s.ShedThreshold, s.RateLimit = g.shed.threshold(), g.rate.perSecond()
	_, inFlight := unpack(g.gate.word.Load())
	s.InFlight, s.Limit, s.Share = int(inFlight), int(g.gate.own.Load()), int(g.gate.share.Load())
	s.RetryRatio = g.retryRatio(now)
	for _, d := range g.calls.sorted() {
		s.Calls = append(s.Calls, d.snapshot(now))
	}
	for _, reason := range actuators.RefusalReasons {
		s.SettingRefused[reason] = 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.Copy(s.SettingRefused, g.refused)
	s.Blind, s.Reflex = g.reflex.blind, !g.reflex.off
	s.ServiceTime = g.reflex.finding.ServiceTime
	s.Epoch, s.Revision = g.regime.last.Epoch, g.regime.last.Revision
	s.Leased = g.regime.leased(now)
	s.Held = g.heldFor(now)
	e := &g.endless
	s.EndlessFound, s.EndlessDeclared = int(e.found.Load()), int(e.declared.Load())
	s.EndlessFoundTotal, s.EndlessDeclaredTotal = e.foundEver.Load(), e.declaredEver.Load()
	return s
}
