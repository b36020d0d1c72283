package guard

import (
	"context"
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
// There is no list of requests. A request only keeps the address of its headcount, one word that holds how many have
// joined, how many are left, and whether those are excused. Marking the word excused by compare-and-swap yields how many
// slots to give back. A request that leaves learns from the word's previous value, in the same atomic operation,
// whether its slot was among them, so that each slot is given back exactly once.
type endless struct {
	current atomic.Pointer[cohort] // the one that requests join

	// Excused requests and those declared by Permit.Endless that have not ended yet.
	found, declared         atomic.Int64
	foundEver, declaredEver atomic.Uint64

	// Guarded by Guard.mu:
	opened time.Duration // the current cohort
	closed []closed      // oldest first
	logged time.Duration // 0: never
}

// closed is a cohort that requests no longer join. (One that read endless.current long ago and was then suspended may
// still join it. It is counted correctly, though it may be excused early.)
type closed struct {
	*cohort
	at   time.Duration
	seen attendance // at the last step
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

// cohort is the requests that started within one span of time. Each request joins the headcount that its ticket
// belongs to. Tickets stay with a processor (sync.Pool), so that processors rarely share a cache line.
type cohort [8]headcount

// headcount counts a part of a cohort in one word: excused in bit 63, joined in the 31 bits below it, left in the lower
// 32.
type headcount struct {
	_    line
	word atomic.Uint64
	_    line
}

const (
	excusedBit = 1 << 63
	oneJoined  = 1<<32 | 1
)

// join counts one more request, unless the headcount has been excused meanwhile.
func (h *headcount) join() bool {
	if h.word.Add(oneJoined)&excusedBit == 0 {
		return true
	}
	h.word.Add(^uint64(oneJoined - 1))
	return false
}

// leave counts one request less and says whether it still holds a slot.
func (h *headcount) leave() (holds bool) { return h.word.Add(^uint64(0))&excusedBit == 0 }

// excuse excuses those that are left and returns how many slots they held.
func (h *headcount) excuse() (slots uint64) {
	for {
		w := h.word.Load()
		if w&excusedBit != 0 {
			return 0
		}
		if h.word.CompareAndSwap(w, w|excusedBit) {
			return w & 0xffffffff
		}
	}
}

// attendance is a cohort's state: how many have joined, how many of them are left, and how many of those hold a slot.
type attendance struct{ joined, left, holding float64 }

func (c *cohort) attendance() (a attendance) {
	for i := range c {
		w := c[i].word.Load()
		left := float64(w & 0xffffffff)
		a.joined += float64(w &^ excusedBit >> 32)
		a.left += left
		if w&excusedBit == 0 {
			a.holding += left
		}
	}
	return a
}

// join counts a request whose ticket has the number shard and returns where.
func (e *endless) join(shard uint32) *headcount {
	for {
		h := &e.current.Load()[shard%uint32(len(cohort{}))]
		if h.join() {
			return h
		}
	}
}

// step closes the current cohort when its time has come, and excuses the endless requests of those that are old enough.
// It returns how many slots they give back. The caller holds Guard.mu.
func (e *endless) step(now, slo time.Duration) (slots uint64) {
	if now-e.opened >= time.Duration(cohortSpan*float64(slo)) {
		c := e.current.Load()
		e.opened = now
		if c.attendance().joined > 0 {
			e.current.Store(new(cohort))
			e.keep(closed{cohort: c, at: now})
		}
	}
	ripe := 0
	for ripe < len(e.closed) && now-e.closed[ripe].at >= endlessAge*slo {
		if c := &e.closed[ripe]; c.seen.left > 0 || c.seen.joined == 0 {
			c.seen = c.attendance()
		}
		ripe++
	}
	for i, c := range e.closed[:ripe] {
		if c.seen.holding > 0 && fewLeft(e.closed[:ripe], i) {
			slots += e.excuse(c.cohort)
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
			if e.closed[i].attendance().holding == 0 {
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

// excuse excuses what is left of c, as far as the largest number permits.
func (e *endless) excuse(c *cohort) (slots uint64) {
	for i := range c {
		h := &c[i]
		if left := h.word.Load() & 0xffffffff; left == 0 || e.found.Load()+int64(left) > endlessMost {
			continue
		}
		n := h.excuse()
		e.found.Add(int64(n))
		e.foundEver.Add(n)
		slots += n
	}
	return slots
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
		return g.endless.open()
	}
	for _, part := range g.roof.parts {
		n += part.endless.open()
	}
	return n
}

// open is how many endless requests there are.
func (e *endless) open() int64 { return e.declared.Load() + e.found.Load() }

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
	g, count := p.ticket.guard, p.ticket.counted(p)
	slot := p.ticket.gen.CompareAndSwap(p.gen, p.gen|declared)
	if !slot && !p.ticket.gen.CompareAndSwap(p.gen|paused, p.gen|declared) {
		return
	}
	g.endless.declared.Add(1)
	g.endless.declaredEver.Add(1)
	if !slot {
		return
	}
	if count.leave() {
		g.gate.leave(now)
	} else { // it was found before
		g.endless.found.Add(-1)
	}
	g.tick(now)
}

// excuse takes the slots back that endless requests hold. The caller holds g.mu.
func (g *Guard) excuse(now time.Duration) {
	e := &g.endless
	slots := e.step(now, g.cfg.SLO)
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
