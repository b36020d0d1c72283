package guard

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// gate counts the requests in flight against the limit. Both share one word, so that an admission is one
// compare-and-swap against the limit of that very instant. Checking first and then counting would admit more than the
// limit.
//
// The gate of a route compartment stands under a roof, the gate of all compartments together, and may have a share of it.
// The limit in the word is then the smaller one of its own limit and its share. Whoever has entered or left it has entered
// or left the roof, too.
type gate struct {
	_     line
	word  atomic.Uint64 // limit in the upper 32 bits, requests in flight in the lower; every request writes it
	_     line
	roof  *gate         // nil: none
	own   atomic.Uint64 // the gate's own limit
	share atomic.Uint64 // 0: none
	busy  stopwatch
}

func pack(limit, inFlight uint64) uint64 { return limit<<32 | inFlight }

func unpack(w uint64) (limit, inFlight uint64) { return w >> 32, w & 0xffffffff }

// verdict is the gate's answer to a request.
type verdict uint8

const (
	entered   verdict = iota
	full              // the limit is reached
	overfull          // the occupancy is above the part of the limit that this request may fill
	overShare         // one of the two, only because the share is smaller than the limit
	overRoof          // the roof's limit is reached
)

// look says whether a request would be refused now, however important it is.
func (g *gate) look() verdict {
	limit, n := unpack(g.word.Load())
	if n >= limit {
		return g.fullBy(n)
	}
	if g.roof != nil && g.roof.reached() {
		return overRoof
	}
	return entered
}

// lookUpTo says whether a request would be refused now that may fill the limit up to that share of it.
func (g *gate) lookUpTo(fill float64) verdict {
	limit, n := unpack(g.word.Load())
	if fill < 1 && overfilled(n, limit, fill, 0) {
		return g.overfullBy(n, fill, 0)
	}
	return entered
}

// reached says whether the limit is reached.
func (g *gate) reached() bool {
	limit, n := unpack(g.word.Load())
	return n >= limit
}

// fullBy says what makes the gate full with n in flight.
func (g *gate) fullBy(n uint64) verdict {
	if n < g.own.Load() {
		return overShare
	}
	return full
}

// overfullBy says what makes the gate overfull with n in flight.
func (g *gate) overfullBy(n uint64, fill float64, spare uint64) verdict {
	if !overfilled(n, g.own.Load(), fill, spare) {
		return overShare
	}
	return overfull
}

// enter takes a slot if there is one and the share of the limit in use is at most fill, with spare more slots below that.
// Where nothing is in flight, one slot is enough.
func (g *gate) enter(now time.Duration, fill float64, spare uint64) verdict {
	for {
		w := g.word.Load()
		limit, n := unpack(w)
		switch {
		case n >= limit:
			return g.fullBy(n)
		case (fill < 1 || spare > 0) && overfilled(n, limit, fill, spare):
			return g.overfullBy(n, fill, spare)
		}
		if g.word.CompareAndSwap(w, w+1) {
			if n+1 == bindingAt(limit) {
				g.watch(now)
			}
			if g.roof != nil && g.roof.enter(now, 1, 0) != entered {
				g.leaveOwn(now)
				return overRoof
			}
			return entered
		}
	}
}

func overfilled(n, limit uint64, fill float64, spare uint64) bool {
	return float64(n+min(n, 1)*spare) > float64(limit)*fill+1e-9 // tolerate rounding: 29 of 100 is at most 0.29
}

// enterAnyway takes a slot whether or not there is one.
func (g *gate) enterAnyway(now time.Duration) {
	if limit, n := unpack(g.word.Add(1)); n == bindingAt(limit) {
		g.watch(now)
	}
	if g.roof != nil {
		g.roof.enterAnyway(now)
	}
}

// leave gives a slot back.
func (g *gate) leave(now time.Duration) {
	limit, n := unpack(g.word.Add(^uint64(0)))
	if n+1 == bindingAt(limit) {
		g.watch(now)
	}
	if g.roof != nil {
		g.roof.leave(now)
	}
}

// leaveOwn is leave for a request that the roof has refused.
func (g *gate) leaveOwn(now time.Duration) {
	g.word.Add(^uint64(0))
	g.watch(now)
}

// leaveAll gives several slots back.
func (g *gate) leaveAll(now time.Duration, slots uint64) {
	g.word.Add(-slots)
	g.watch(now)
	if g.roof != nil {
		g.roof.leaveAll(now, slots)
	}
}

// setLimit changes the gate's own limit. Requests in flight above a lowered limit stay; none are admitted until enough have
// finished.
func (g *gate) setLimit(now time.Duration, limit uint64) {
	g.busy.mu.Lock()
	defer g.busy.mu.Unlock()
	g.own.Store(limit)
	g.enforce(now)
}

// setShare changes the share, as setLimit does; 0: there is none.
func (g *gate) setShare(now time.Duration, share uint64) {
	g.busy.mu.Lock()
	defer g.busy.mu.Unlock()
	g.share.Store(share)
	g.enforce(now)
}

// enforce puts the smaller one of limit and share in force. The caller holds g.busy.mu.
func (g *gate) enforce(now time.Duration) {
	limit := g.own.Load()
	if share := g.share.Load(); share > 0 {
		limit = min(limit, share)
	}
	for {
		w := g.word.Load()
		old, n := unpack(w)
		if old == limit {
			return
		}
		if g.word.CompareAndSwap(w, pack(limit, n)) {
			g.busy.set(now, n >= bindingAt(g.own.Load()))
			return
		}
	}
}

// bindingAt is the number in flight from which the limit counts as binding: its share little.BindingAt, rounded up.
func bindingAt(limit uint64) uint64 { return (limit*(100*little.BindingAt) + 99) / 100 }

// watch synchronizes the stopwatch with the gate. It uses the gate's state now, not the crossing that called it: the
// last call sees the final state, so overtaking calls cannot leave the stopwatch running or stopped wrongly.
func (g *gate) watch(now time.Duration) time.Duration {
	g.busy.mu.Lock()
	defer g.busy.mu.Unlock()
	_, n := unpack(g.word.Load())
	return g.busy.set(now, n >= bindingAt(g.own.Load()))
}

// stopwatch sums the time during which something was on.
type stopwatch struct {
	mu    sync.Mutex
	on    bool
	since time.Duration
	total time.Duration
}

func (s *stopwatch) set(now time.Duration, on bool) time.Duration {
	if s.on && now > s.since {
		s.total += now - s.since
	}
	if now > s.since || !s.on {
		s.since = now
	}
	s.on = on
	return s.total
}
