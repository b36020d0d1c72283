package guard

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Guard admits or refuses the requests of one service in one process. With Config.Routes it has a compartment for each route,
// and one for all other requests, which is the one that its own methods are about where they do not say otherwise. All methods
// are safe for concurrent use.
type Guard struct {
	cfg   Config
	base  time.Time // internal instants are durations since base
	gate  gate
	rate  rater
	shed  shedder
	count counters

	// crowded: the gate has refused somebody since the last step, or the limit was reached at it. Only then is it worth a look at
	// the gate before one at the clock.
	crowded atomic.Bool
	due     atomic.Int64 // when the reflex's next step is due
	slow    atomic.Int64 // the setpoint, in nanoseconds
	calm    atomic.Int64 // of a bulkhead: m₀ in nanoseconds, 0 until it is known

	retry atomic.Uint64 // the retry budget's ratio, as math.Float64bits
	short atomic.Int64  // until when a dependency counts as short of room
	calls dependencies
	hint  hint

	latency  *latency
	cutShort cutShort
	twice    atomic.Uint64 // second releases
	tickets  [criticalities]tickets
	endless  endless
	groups   groups
	crowding crowding
	routes   *routes
	ranked   atomic.Bool // see noteRank; since the last step
	draws    atomic.Uint64
	spared   atomic.Uint64 // requests refused by callers in place of this guard while it was refusing

	shares shares

	service      *Guard            // of the requests on no route of their own; g itself, unless g is a compartment of it
	compartments map[string]*Guard // by Arrival.Route
	roof         *roof             // over all compartments; nil: there is one only
	told         atomic.Pointer[report]
	given        atomic.Uint64 // by the roof, while shares are in force, in requests in flight

	mu      sync.Mutex // guards everything below; never held by Acquire and Release unless a step is due
	reflex  reflex
	regime  regime
	held    held
	refused map[actuators.RefusalReason]uint64 // Settings
	logged  logged
}

// SLO returns the latency within which the request should be answered: of its route, if that has an SLO of its own, else of the
// service; 0 for a zero Permit.
func (p Permit) SLO() time.Duration {
	if p.ticket == nil {
		return 0
	}
	return p.ticket.guard.cfg.SLO
}

// Outcome is how an admitted request ended.
type Outcome uint8

// The outcomes differ in whether their latency is counted:
const (
	// Success and Failure count with their latency. A failed request held its slot like any other, and Little's law
	// covers all requests; a service that fails fast has no queue that a lower limit could shorten.
	Success Outcome = iota
	Failure
	// Canceled: the caller gave up first, which is not a failure of the service. It counts with its latency if it
	// lasted longer than the setpoint, because it would have taken at least that long. A shorter one shows nothing
	// about the service and would make it look fast.
	Canceled
	// Ignored: the request shows nothing about how the service is doing (a health check). The guard only frees its
	// slot. A request that lasts (a WebSocket, a stream) should not hold its slot that long, see Permit.Endless.
	Ignored
)

// New returns a guard for the service that c describes. It starts from the cached Setting if there is one, otherwise
// from the fallback. The error lists everything wrong with c. A cache file that is unreadable or damaged is logged and
// is not an error; a missing one is ignored.
func New(c Config) (*Guard, error) {
	cfg, err := c.ready()
	if err != nil {
		return nil, err
	}
	base := time.Now()
	if cfg.Now != nil {
		base = cfg.Now()
	}
	g := start(cfg, base, newRegime(cfg), newReflex(cfg.SLO, float64(cfg.Fallback), cfg.NoReflex))
	if len(cfg.Routes) > 0 {
		g.divide()
	}
	g.loadCache()
	return g, nil
}

// start returns a guard of a complete config that counts time from base.
func start(cfg Config, base time.Time, regime regime, reflex reflex) *Guard {
	g := &Guard{
		cfg:     cfg,
		base:    base,
		latency: newLatency(cfg.SLO),
		reflex:  reflex,
		regime:  regime,
		refused: map[actuators.RefusalReason]uint64{},
		logged:  logged{},
		routes:  &routes{},
	}
	g.service = g
	g.shares.entries.mix.longest = endlessAge * cfg.SLO
	g.due.Store(math.MinInt64) // the first request starts the windows
	for class := range g.tickets {
		g.tickets[class].start(g)
	}
	g.endless.left = map[uint64]float64{}
	g.endless.open(0)
	g.mu.Lock()
	g.enforce(0)
	g.mu.Unlock()
	return g
}

// refusalsPerLook is how many requests a full guard refuses between two looks at the clock. Where every slot is held by
// a request that does not end, refusals are the only thing that happens.
const refusalsPerLook = 128

// now reads the clock. time.Since on a monotonic base costs half as much as time.Now.
func (g *Guard) now() time.Duration {
	if g.cfg.Now == nil {
		return time.Since(g.base)
	}
	return g.cfg.Now().Sub(g.base)
}

// Acquire admits a request of criticality c or refuses it with a *Refusal. It never waits. If ctx has already ended, it
// returns ctx's error and counts nothing, because nobody is waiting for the answer.
func (g *Guard) Acquire(ctx context.Context, c Criticality) (Permit, error) {
	return g.AcquireFor(ctx, c, "")
}

// AcquireFor is Acquire for a request of the user or tenant called key. If the guard sheds part of a criticality, the
// same key gets the same verdict at the same occupancy, from every guard, for an hour at a time: some tenants are
// served fully instead of all of them partly. With the key "" each request is judged on its own.
func (g *Guard) AcquireFor(ctx context.Context, c Criticality, key string) (Permit, error) {
	return g.admitOrEnd(ctx, &Arrival{Criticality: c, Key: key})
}

// AcquireAt is Acquire at the instant now, for simulations and replays. Instants may repeat; an instant before an
// earlier one counts as the same time.
func (g *Guard) AcquireAt(now time.Time, c Criticality) (Permit, error) {
	return g.AcquireForAt(now, c, "")
}

// AcquireForAt is AcquireFor at the instant now.
func (g *Guard) AcquireForAt(now time.Time, c Criticality, key string) (Permit, error) {
	return g.AdmitAt(now, Arrival{Criticality: c, Key: key})
}

// acquire admits or refuses a request.
func (g *Guard) acquire(now time.Duration, a *Arrival) (Permit, error) {
	g.tick(now)
	g.read(a)
	return g.decide(now, a)
}

// decide is acquire for a request that has been read.
func (g *Guard) decide(now time.Duration, a *Arrival) (Permit, error) {
	parties := g.cfg.partiesOf(a)
	if a.Early > 0 {
		g.hearEarly(now, a, parties.entry)
	}
	class, fill, plan := a.Criticality, 1.0, g.shed.plan.Load()
	switch {
	case plan == nil:
	// With a clock that is told, every request draws, so that the draws do not depend on how full the guard is.
	case a.Rank == Rank{} && g.cfg.Now == nil && !g.shares.active():
		fill = plan.threshold
	default:
		class, fill = g.place(a, parties, plan)
		plan = nil
	}
	p, err := g.admit(now, a, parties, class, fill, plan)
	if err != nil && parties.some() && !errors.Is(err, ErrCallee) { // nothing of this service was missing
		g.shares.refuse(parties, a.Criticality)
	}
	return p, err
}

// place returns the criticality that a request has here, and the occupancy up to which it is admitted. It draws the rank.
func (g *Guard) place(a *Arrival, parties parties, plan *plan) (class Criticality, fill float64) {
	a.Rank = g.drawn(a.Rank, a.Key, plan.salt)
	active := g.shares.active()
	switch {
	case active && g.demotes(parties, a):
		g.shares.demoted.Add(1)
		return Background, plan.demoted(a.Criticality, a.Rank)
	case active && !g.cfg.SpareCritical && g.shares.entries.spares(parties.entry, a.Criticality):
		return a.Criticality, 1
	}
	return a.Criticality, plan.fill(a.Criticality, a.Rank)
}

// admit asks the three policies, cheapest first, and takes a token last: a request that one policy refuses must not
// use up what another policy grants. If another request takes the last token in between, admit gives the slot back.
//
// class is the criticality that the request has here, and fill the occupancy up to which it is admitted. With a plan, fill is
// only what everybody may fill, and the rank is drawn if the guard is fuller than that: the request may have a higher place.
func (g *Guard) admit(
	now time.Duration, a *Arrival, parties parties, class Criticality, fill float64, plan *plan,
) (Permit, error) {
	bucket, tat, wait := g.rate.look(now)
	routed := int64(now) < g.routes.until.Load()
	room := entered
	if wait > 0 || routed {
		room = g.gate.look()
	}
	switch {
	case room != entered:
		return g.refuseFor(class, room)
	case wait > 0:
		g.count.refuse(class, byRate)
		return Permit{}, rateRefusal(wait)
	case routed && g.hopeless(now, a):
		g.count.refuse(class, byCallee)
		return Permit{}, ErrCallee
	}
	spare := uint64(0)
	if a.Rank.Group > 1 {
		if g.groups.has(a.Rank.ID) {
			fill = 1
		} else {
			spare = uint64(a.Rank.Group) - 1
		}
	}
	verdict := g.gate.enter(now, fill, spare)
	if (verdict == overfull || verdict == overShare) && plan != nil {
		a.Rank = g.drawn(a.Rank, a.Key, plan.salt)
		verdict = g.gate.enter(now, plan.fill(class, a.Rank), spare)
	}
	if verdict != entered {
		return g.refuseFor(class, verdict)
	}
	if wait, ok := g.rate.take(now, bucket, tat); !ok {
		g.gate.leave(now)
		g.count.refuse(class, byRate)
		return Permit{}, rateRefusal(wait)
	}
	start := g.endless.current.Load() | uint64(a.Criticality)<<stateBits
	if a.Rank.Group > 1 || parties.tenant != 0 {
		start |= marked
	}
	t, w := g.tickets[class].take(start)
	t.keep(a)
	if start&marked != 0 {
		t.tenant = parties.tenant
		if a.Rank.Group > 1 {
			g.groups.join(a.Rank.ID)
		}
	}
	return Permit{ticket: t, word: w, start: now, entry: parties.entry}, nil
}

// refuseFor refuses a request for which the gate has no room.
func (g *Guard) refuseFor(class Criticality, v verdict) (Permit, error) {
	policy, err := v.refusal()
	g.count.refuse(class, policy)
	if !g.crowded.Load() {
		g.crowded.Store(true)
	}
	return Permit{}, err
}

// Release ends the request. Call it exactly once for every admitted request, whatever happens to it; a deferred call is
// the safest way.
func (p Permit) Release(o Outcome) {
	if p.ticket != nil {
		p.release(p.ticket.guard.now(), o)
	}
}

// ReleaseAt is Release at the instant now.
func (p Permit) ReleaseAt(now time.Time, o Outcome) {
	if p.ticket != nil {
		p.release(now.Sub(p.ticket.guard.base), o)
	}
}

// release says whether the request was still in flight.
func (p Permit) release(now time.Duration, o Outcome) bool {
	t := p.ticket
	g := t.guard
	if p.word&marked != 0 || t.work.Load() != nil || g.routes.table.Load() != nil ||
		!t.word.CompareAndSwap(p.word, p.word&^(oneUse-1)) {
		return p.releaseWhole(now, o)
	}
	took := max(0, now-p.start)
	own := notCounted
	if g.finish(t.shard, took, o) {
		own = took
	}
	if p.entry != 0 {
		g.shares.entries.complete(p.entry, p.class(), took, own)
	}
	g.gate.leave(now)
	g.tick(now)
	return true
}

// finish counts the end of a request that took so long, and says whether its latency counts.
func (g *Guard) finish(shard uint32, took time.Duration, o Outcome) bool {
	if o == Failure {
		g.count.failed[shard].n.Add(1)
	}
	if o == Ignored || o == Canceled && int64(took) <= g.slow.Load() {
		return false
	}
	g.latency.observe(shard, took)
	return true
}

// releaseWhole is release for a request of which more is known than when it began.
func (p Permit) releaseWhole(now time.Duration, o Outcome) bool {
	t := p.ticket
	g := t.guard
	w, ok := p.claim()
	if !ok {
		g.twice.Add(1)
		return false
	}
	defer g.tick(now)
	if w&declared != 0 {
		t.waited(p.use(), now, Ignored)
		t.free(w)
		g.endless.declared.Add(-1)
		return true
	}
	if w&paused != 0 {
		t.idle += max(0, now-t.since)
	}
	took := max(0, now-p.start-t.idle)
	observed := t.observed(p.use())
	waited, unmet := t.waited(p.use(), now, o)
	waited = min(waited, took)
	counts, own := w&excused == 0 && g.finish(t.shard, took, o), notCounted
	if counts && waited > 0 {
		g.latency.wait(waited)
	}
	switch {
	case counts && o == Failure && unmet:
		g.cutShort.add(took, waited)
	case counts:
		own = took - waited
	}
	if w&paused == 0 {
		g.shares.entries.complete(p.entry, p.class(), took, own)
		if w&marked != 0 {
			g.shares.tenants.complete(t.tenant, p.class(), took, notCounted)
		}
	}
	t.free(w)
	if w&excused != 0 { // it has no slot, and its latency counts for nothing
		g.endless.ended(t.of)
		if o == Failure {
			g.count.failed[t.shard].n.Add(1)
		}
		return true
	}
	if counts && observed != nil {
		g.cfg.Observer.Finished(observed, g.cfg.Service, took)
	}
	if w&paused == 0 {
		g.gate.leave(now)
	}
	return true
}

// Do runs fn as one request: it acquires a permit first and releases it however fn ends, even by a panic. It returns
// the error of Acquire or of fn. An error of fn counts as a failure, unless the caller canceled ctx. The context that fn gets
// carries the request (see NewContext): guarded calls made with it do not count as the service's own latency.
func (g *Guard) Do(ctx context.Context, c Criticality, fn func(context.Context) error) error {
	return g.DoFor(ctx, c, "", fn)
}

// DoFor is Do for a request of the user or tenant called key, see AcquireFor.
func (g *Guard) DoFor(ctx context.Context, c Criticality, key string, fn func(context.Context) error) (err error) {
	p, err := g.AcquireFor(ctx, c, key)
	if err != nil {
		return err
	}
	outcome := Failure // if fn panics
	defer func() { p.Release(outcome) }()
	switch err = fn(NewContext(ctx, p)); {
	case err == nil:
		outcome = Success
	case errors.Is(ctx.Err(), context.Canceled):
		outcome = Canceled
	}
	return err
}

// tick runs the reflex's step if one is due. One caller runs it; nobody waits for it.
func (g *Guard) tick(now time.Duration) {
	if int64(now) >= g.due.Load() {
		g.tryStep(now)
	}
}

func (g *Guard) tryStep(now time.Duration) {
	if !g.mu.TryLock() {
		return
	}
	defer g.mu.Unlock()
	if int64(now) >= g.due.Load() {
		g.step(now)
	}
}

// step brings everything that changes with time up to now: endless requests, lease, drift, reflex, limit. The caller holds g.mu.
func (g *Guard) step(now time.Duration) {
	g.due.Store(int64(now + reflexPeriod))
	g.crowded.Store(g.gate.look() != entered)
	admitted := g.admitted()
	g.excuse(now, sum(admitted))
	g.watchSlots(now, sum(admitted))
	t := g.tally(now)
	g.regime.given = float64(g.given.Load())
	b := g.regime.advance(now, g.reflex.healthy(t, g.regime.bounds(now)))
	before := g.reflex.finding.ServiceTime
	g.reflex.step(t, b)
	if w := g.reflex.lesson; w.span > 0 {
		g.shares.entries.learnMix(w)
	}
	g.report(before, g.reflex.finding.ServiceTime)
	g.regime.learn(&g.reflex)
	g.shed.observe(now, g.offered(admitted))
	if g.shed.ordered() {
		g.noteRank()
	}
	limit, _ := unpack(g.gate.word.Load())
	if g.shares.judge(now, float64(limit)) {
		g.noteRank() // a class means nothing without a threshold
	}
	if g.ranked.Swap(false) {
		g.regime.rankedUntil = now + rankedFor
	}
	g.enforce(now)
	if g.roof != nil {
		g.tellRoof(now)
		g.roof.tick(now)
	}
}

// report logs what the floor test found. Findings are rare and worth an operator's attention.
func (g *Guard) report(before, found float64) {
	switch {
	case before == 0 && found > 0:
		g.cfg.Logger.Warn("limiting cannot help: throughput falls with the limit, so the service or a dependency is "+
			"slow; the setpoint is raised above the latency target", "service", g.cfg.Service, "service_time_seconds", found)
	case before > 0 && found == 0:
		g.cfg.Logger.Info("the service is as fast as before", "service", g.cfg.Service)
	}
}

// enforce puts the reflex's limit and the regime's rate and shed threshold in force. The caller holds g.mu.
func (g *Guard) enforce(now time.Duration) {
	b := g.regime.bounds(now)
	g.reflex.limit = min(max(g.reflex.limit, b.min), b.ceiling)
	g.gate.setLimit(now, uint64(max(1, math.Floor(g.reflex.limit+1e-9))))
	g.slow.Store(int64(g.reflex.setpoint(window{wait: g.reflex.wait}, b) * float64(time.Second)))
	g.shed.set(g.regime.shedAbove(now), g.reflex.limit, g.base.Add(now))
	perSecond, burst := g.regime.pace(now)
	g.rate.set(now, perSecond, burst)
	g.retry.Store(math.Float64bits(g.regime.ratio))
	if g.regime.known {
		g.calm.Store(int64(g.reflex.ownSeconds * float64(time.Second)))
	}
}

// offered counts the arrivals by criticality, and those that callers refused in place of this guard. admitted are those of them
// that were admitted.
func (g *Guard) offered(admitted [criticalities]uint64) (n [criticalities]uint64) {
	for i := range n {
		n[i] = admitted[i] + g.count.early[i].Load()
		for policy := range policies {
			n[i] += g.count.refusedOf(i, policy)
		}
	}
	return n
}

// tally adds up the counters as of now. Refusals by the rate limit, for a callee and of endless requests are left out: they say
// nothing about the concurrency limit.
func (g *Guard) tally(now time.Duration) tally {
	t := tally{at: g.base.Add(now), binding: g.gate.watch(now)}
	g.addFinished(&t)
	t.refused, t.above = g.refusals()
	_, n := unpack(g.gate.word.Load())
	t.inFlight = int(n)
	return t
}

// addFinished adds the requests to t whose latency was counted, but for those that were cut short: how many, the seconds that they
// took, the part of these in guarded calls, and the part that is due to the mix.
func (g *Guard) addFinished(t *tally) {
	short := g.cutShort.total()
	n, seconds, waited := g.latency.total()
	t.finished += n - short.Count
	t.seconds += seconds - short.Own - short.Waited
	t.waited += waited - short.Waited
	t.shifted += g.shares.entries.shifted()
}
