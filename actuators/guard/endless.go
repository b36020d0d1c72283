package guard

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// endless finds the requests that never end: WebSockets, event streams, long polls, calls that hang without a timeout.
// Nobody declared them, and each would keep its slot for as long as it lives, until no slot is left for the others.
//
// Every request is counted with those that started at the same time, its cohort. A cohort whose last member started ten
// SLOs ago has finished nearly all its work. If at most a fifth of it is still there, those are endless: they are
// excused. They give their slots back, and their latency counts for nothing. One that ends as a failure counts as failed:
// to the users it may have been a request that hung.
//
//	started together   ████████████████████  20
//	10 SLOs later      ███·················   3   at most a fifth: these three are excused
//	                   ███████████·········  11   more: the service hangs, nobody is excused
//
// A service that hangs as a whole is not mistaken for that, because everything it started is still there. Only of the
// cohort in which the hang began may up to a fifth be excused, once; those requests hang anyway.
//
// A request costs nothing to be counted so: the word of its ticket says with which cohort it started. To excuse it is a
// compare-and-swap of that word, and so is its release, so that each slot is given back exactly once.
type endless struct {
	current atomic.Uint64 // the cohort that requests join, as the word of a ticket in use has it
	resumed atomic.Uint64 // requests that have joined another cohort after a pause

	// Excused requests and those declared by Permit.Endless that have not ended yet.
	found, declared         atomic.Int64
	foundEver, declaredEver atomic.Uint64

	// Guarded by Guard.mu:
	cohort *cohort            // the current one
	opened time.Duration      // when
	before uint64             // requests that had joined one by then
	closed []closed           // oldest first
	left   map[uint64]float64 // by cohort, the requests that hold a slot
	logged time.Duration      // 0: never
}

// cohort is the requests that started within one span of time.
type cohort struct {
	mark    uint64       // in the words of their tickets
	excused atomic.Int64 // of those in flight
}

// closed is a cohort that requests no longer join. (One that read endless.current and was then suspended may still join it,
// though it is counted with those of the next.)
type closed struct {
	*cohort
	at     time.Duration
	joined float64
	seen   attendance // at the last step
}

const (
	endlessAge   = 10   // SLOs
	endlessShare = 0.2  // of a cohort, above which nobody in it is excused
	endlessLeast = 20   // members of a cohort, below which its neighbors are counted, too
	endlessMost  = 1000 // excused at any one time

	cohortSpan  = 0.5 // SLOs: the shortest time for which a cohort is open
	cohortsKept = 64

	endlessLogEvery = time.Hour
)

// attendance is a cohort's state: how many have joined, how many of them are left, and how many of those hold a slot.
type attendance struct{ joined, left, holding float64 }

func (e *endless) attendance(c closed) attendance {
	holding := e.left[c.mark]
	return attendance{joined: c.joined, left: holding + float64(c.excused.Load()), holding: holding}
}

// open opens the cohort n. Marks come around again, so it takes the next one that no cohort has of those that are kept.
func (e *endless) open(n uint64) {
	mark := n << cohortShift & cohortMask
	for slices.ContainsFunc(e.closed, func(c closed) bool { return c.mark == mark }) {
		mark = (mark + 1<<cohortShift) & cohortMask
	}
	e.cohort = &cohort{mark: mark}
	e.current.Store(e.cohort.mark | inUse)
}

// count counts the requests that hold a slot by cohort.
func (e *endless) count(pools *[criticalities]tickets) {
	clear(e.left)
	for class := range pools {
		s := &pools[class]
		s.mu.Lock()
		for _, w := range s.all {
			if w&holding == inUse {
				e.left[w&cohortMask]++
			}
		}
		s.mu.Unlock()
	}
}

// holding masks a state so that inUse is left of a request that holds a slot.
const holding = inUse | declared | paused | excused | ended

// step closes the current cohort when its time has come, and excuses the endless requests of those that are old enough.
// It returns how many slots they give back. joined counts the requests that have ever joined a cohort. The caller holds Guard.mu.
func (e *endless) step(now, slo time.Duration, pools *[criticalities]tickets, joined uint64) (slots uint64) {
	e.count(pools)
	if now-e.opened >= time.Duration(cohortSpan*float64(slo)) {
		e.opened = now
		if joined > e.before {
			e.keep(closed{cohort: e.cohort, at: now, joined: float64(joined - e.before)})
			e.before = joined
			e.open(e.cohort.mark>>cohortShift + 1)
		}
	}
	ripe := 0
	for ripe < len(e.closed) && now-e.closed[ripe].at >= endlessAge*slo {
		if c := &e.closed[ripe]; c.seen.left > 0 || c.seen.joined == 0 {
			c.seen = e.attendance(*c)
		}
		ripe++
	}
	for i, c := range e.closed[:ripe] {
		if c.seen.holding > 0 && fewLeft(e.closed[:ripe], i) {
			slots += e.excuse(c.cohort, pools)
		}
	}
	return slots
}

// keep adds a cohort. When there are too many it drops the oldest one in which nobody holds a slot, else the oldest:
// those in it keep their slots until they end.
func (e *endless) keep(c closed) {
	if len(e.closed) == cohortsKept {
		drop := 0
		for i := range e.closed {
			if e.attendance(e.closed[i]).holding == 0 {
				drop = i
				break
			}
		}
		e.closed = append(e.closed[:drop], e.closed[drop+1:]...)
	}
	e.closed = append(e.closed, c)
}

// fewLeft says whether those left in the cohort i are endless. Where fewer than twenty started together, neighbors make
// up the twenty: first those that started later, because having been overtaken by them tells most; then, if nobody came
// later (endless requests may hold every slot), those that started earlier. A neighbor counts in proportion, never for
// more than what is missing, so that a busy hour does not outweigh the twenty that count.
func fewLeft(ripe []closed, i int) bool {
	joined, left := ripe[i].seen.joined, ripe[i].seen.left
	count := func(n attendance) {
		share := min(1, (endlessLeast-joined)/n.joined)
		joined, left = joined+share*n.joined, left+share*n.left
	}
	for j := i + 1; j < len(ripe) && joined < endlessLeast; j++ {
		count(ripe[j].seen)
	}
	for j := i - 1; j >= 0 && joined < endlessLeast; j-- {
		count(ripe[j].seen)
	}
	return joined > endlessLeast-1e-9 && left <= endlessShare*joined
}

// excuse excuses those of c that hold a slot, as far as the largest number permits, and returns how many.
func (e *endless) excuse(c *cohort, pools *[criticalities]tickets) (slots uint64) {
	for class := range pools {
		slots += e.excuseOf(c, &pools[class])
	}
	return slots
}

func (e *endless) excuseOf(c *cohort, s *tickets) (slots uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, w := range s.all {
		if w&holding != inUse || w&cohortMask != c.mark {
			continue
		}
		if e.found.Load() >= endlessMost {
			break
		}
		t.of = c
		e.begin(c)
		if !t.word.CompareAndSwap(w, w|excused) { // it has just ended
			e.ended(c)
			continue
		}
		e.foundEver.Add(1)
		s.remove(t, w)
		slots++
	}
	return slots
}

// begin and ended count an excused request of the cohort c.
func (e *endless) begin(c *cohort) {
	c.excused.Add(1)
	e.found.Add(1)
}

func (e *endless) ended(c *cohort) {
	c.excused.Add(-1)
	e.found.Add(-1)
}

// AdmitEndless is Admit for a request that is going to be declared by Permit.Endless, or might be. It refuses with ErrEndless
// while Config.MaxEndless requests or more are endless, found ones included; without that bound, it is Admit. Requests that have
// been admitted and not yet declared are not among them, so at most as many as the limit allows may come on top.
func (g *Guard) AdmitEndless(ctx context.Context, a Arrival) (Permit, error) {
	if err := ctx.Err(); err != nil {
		return Permit{}, err
	}
	if most := g.cfg.MaxEndless; most > 0 && g.openEndless() >= int64(most) {
		g, now := g.compartmentOf(a.Route), g.now()
		a.Criticality = a.Criticality.valid()
		if a.Early > 0 {
			g.hearEarly(now, &a, g.cfg.partiesOf(&a).entry)
		}
		g.count.refuse(a.Criticality, byEndless)
		g.tick(now)
		g.observe(ctx, &a, ErrEndless)
		return Permit{}, ErrEndless
	}
	return g.Admit(ctx, a)
}

// openEndless is how many endless requests there are, in all compartments.
func (g *Guard) openEndless() (n int64) {
	if g.roof == nil {
		return g.endless.inFlight()
	}
	for _, part := range g.roof.parts {
		n += part.endless.inFlight()
	}
	return n
}

// inFlight is how many endless requests there are.
func (e *endless) inFlight() int64 { return e.declared.Load() + e.found.Load() }

// Endless declares a request that does not end like others: a WebSocket, an event stream, a long poll. Its slot is given
// back at once. Its latency and its end count for nothing. Call it when the handshake is done and the long part begins;
// the request must still be released when it has ended. On a permit that has been released it has no effect.
func (p Permit) Endless() {
	if p.ticket != nil {
		p.endless(p.ticket.guard.now())
	}
}

// EndlessAt is Endless at the instant now.
func (p Permit) EndlessAt(now time.Time) {
	if p.ticket != nil {
		p.endless(now.Sub(p.ticket.guard.base))
	}
}

func (p Permit) endless(now time.Duration) {
	t := p.ticket
	g, w := t.guard, t.word.Load()
	for {
		if !p.current(w) || w&declared != 0 {
			return
		}
		if t.word.CompareAndSwap(w, w&^paused|declared) {
			break
		}
		w = t.word.Load()
	}
	g.endless.declared.Add(1)
	g.endless.declaredEver.Add(1)
	if w&excused != 0 { // it was found before
		g.endless.ended(t.of)
		return
	}
	t.pool.leave(t)
	if w&paused == 0 {
		g.gate.leave(now)
		g.tick(now)
	}
}

// excuse takes the slots back that endless requests hold. The caller holds g.mu.
func (g *Guard) excuse(now time.Duration, admitted uint64) {
	e := &g.endless
	slots := e.step(now, g.cfg.SLO, &g.tickets, admitted+e.resumed.Load())
	if slots == 0 {
		return
	}
	g.gate.leaveAll(now, slots)
	if e.logged > 0 && now-e.logged < endlessLogEvery {
		return
	}
	e.logged = max(now, 1)
	g.cfg.Logger.Warn("requests that do not end were found; they no longer hold a slot of the limit, and their latency "+
		"does not count; declare them with Permit.Endless or guardhttp.WithEndless, or give a call that hangs a timeout",
		"service", g.cfg.Service, "found", slots, "in_flight", e.found.Load(),
		"older_than_seconds", (endlessAge * g.cfg.SLO).Seconds())
}
