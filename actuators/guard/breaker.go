package guard

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// breaker decides whether calling one instance of a dependency is worth it.
//
//	         a share of failures, or of slow calls, above its threshold
//	closed ─────────────────────────────────────────────────────────────► open
//	  ▲                                                                    │ 1 s to 60 s, jittered
//	  │  31 probes, on 1, 2, 4, 8 and 16 places                            ▼
//	  └───────────────────────────────────────────────────────────── half-open
//	                                                           (a bad share, or probes that hang: open again)
//
// Closed, it judges windows of three seconds and at least 50 calls, and trips above the threshold
//
//	max(0.2, p + 5·√(p·(1−p)/n))
//
// where n is the number of calls in the window and p the share that is usual: a dependency that always fails a little does
// not trip it. The usual share is learned from windows that did not trip, failures and slow calls apart; a new breaker
// begins with 0.1. A call is slow if it took more than slowFactor times the latency target of the dependency.
//
// It trips earlier after at least 50 bad calls in a row, over at least two seconds. A blip of half a second trips neither:
// the retries save it, and a breaker that opened would make it longer. Only a bad call trips, and a window is forgotten if
// nothing has ended it in time: what has passed by the time of the next call is not held against it.
//
// A failure with the hint not to retry, or with a threshold of admission, is that of a service further down. Opening for it
// would refuse the calls that do not need that service, too, so it says nothing about the instance. Of several instances,
// though, one may have lost its own way down, and failing fast it would draw the calls of the others. There, such failures
// count among the bad calls in a row, and one as the first probe opens again.
//
// It stays open for a second, and then for a tenth of the time since it tripped, at most 60 s: an instance that was away for
// ten seconds gets a probe after one more, and one that was away for an hour a probe a minute. Each time it trips again soon
// after it has closed doubles the first second. All times are jittered.
//
// A caller that gives up says nothing about the instance, unless the call was slow already. The callee's refusals say
// that it is alive. Calls admitted before the last change of state change nothing.
//
// Half-open, few probes are under way at a time, and each success makes room for more. A probe that ends without a
// verdict gives its place back. If all places are taken for probePatience, the instance hangs, and the breaker opens
// again: a probe that never ends cannot block it.
//
// Closed, admission is one load and reads no clock.
type breaker struct {
	word     atomic.Uint64 // generation<<2 | state
	inFlight atomic.Int64  // calls to the instance
	used     atomic.Int64  // the latest call
	instance string
	seed     uint64
	refusal  *CallRefusal

	mu     sync.Mutex
	window callWindow
	usual  [badKinds]float64 // share of failures, of slow calls
	learnt int               // windows behind them
	opened [badKinds]uint64  // times
	row    [badKinds]badRow
	until  time.Duration // when open turns half-open
	trips  int           // without a long enough closed time in between
	since  time.Duration // when it tripped
	length time.Duration // of the last open time
	closed time.Duration // when it closed last

	places int           // probes allowed at a time
	probes int           // under way
	ok     int           // probes that succeeded at this number of places
	judged callWindow    // probes with a verdict
	probed time.Duration // when the latest probe started
}

// newBreaker returns a closed breaker. The seed makes its open times differ from those of others.
func newBreaker(instance string, seed uint64, refusal *CallRefusal) *breaker {
	return &breaker{
		instance: instance, seed: seed, refusal: refusal,
		usual: [badKinds]float64{byFailures: usualStart, bySlowness: usualStart},
	}
}

// callWindow counts calls with a verdict.
type callWindow struct {
	since time.Duration
	calls int
	bad   [badKinds]int
}

// badRow counts bad calls without a good one in between.
type badRow struct {
	since time.Duration
	calls int
}

// add counts a bad call and says whether the row is long enough to trip.
func (r *badRow) add(now time.Duration) bool {
	if r.calls == 0 || now-r.since > breakerOldest {
		*r = badRow{since: now}
	}
	r.calls++
	return r.calls >= breakerCalls && now-r.since >= breakerNothing
}

// badKind is a reason to open.
type badKind uint8

const (
	byFailures badKind = iota
	bySlowness
	badKinds
)

var badNames = [badKinds]string{byFailures: "failures", bySlowness: "slow"}

// The states of a breaker.
const (
	breakerClosed = iota
	breakerOpen
	breakerHalfOpen
	breakerStates
)

var breakerNames = [breakerStates]string{"closed", "open", "half_open"}

const (
	breakerCalls   = 50               // least calls in a window, or bad calls in a row, that trip
	breakerWindow  = 3 * time.Second  // a window with enough calls ends after this long,
	breakerLate    = 6 * time.Second  // and is forgotten if no call has ended it after this long
	breakerNothing = 2 * time.Second  // a row of so many bad calls trips after this long
	breakerOldest  = 30 * time.Second // a window or a row without enough calls is forgotten after this long
	breakerShare   = 0.2              // least share that trips
	breakerSigmas  = 5.0              // above the usual share
	usualStart     = 0.1              // usual share of a new breaker
	usualWeight    = 0.05             // least weight of a new window in the usual share: it forgets over about 20 windows
	openFirst      = time.Second
	openShare      = 0.1 // of the time since it tripped
	openMost       = time.Minute
	openSteady     = 10 * time.Second // closed for that much longer than it was open, it has recovered
	openJitter     = 0.25             // an open time is shortened by up to this share
	probePlaces    = 16               // the last step of the ramp
	probeShare     = 0.5              // bad share of the probes that opens, whatever is usual
	probePatience  = 5 * time.Second
	slowFactor     = 5 // × the latency target: less than 1% of an exponential latency with the target as its mean
	generationStep = 1 << 2
	stateMask      = generationStep - 1
)

// passage is the breaker's admission of one call.
type passage struct {
	breaker *breaker
	word    uint64 // of the breaker at admission
}

// admit lets a call pass, or not.
func (b *breaker) admit(now time.Duration) (passage, bool) {
	if w := b.word.Load(); w&stateMask == breakerClosed {
		return passage{b, w}, true
	}
	return b.probe(now)
}

// admits says whether admit would let a call pass. It takes no place.
func (b *breaker) admits(now time.Duration) bool {
	if b.word.Load()&stateMask == breakerClosed {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.word.Load() & stateMask {
	case breakerClosed:
		return true
	case breakerOpen:
		return now >= b.until
	}
	return !b.taken(now)
}

// taken says whether all places for probes are taken. If that has lasted too long, the breaker opens: whoever chooses
// among instances passes this one over, and nobody else would find out. The caller holds b.mu.
func (b *breaker) taken(now time.Duration) bool {
	if b.probes < b.places {
		return false
	}
	if now-b.probed >= probePatience {
		b.open(now, bySlowness)
	}
	return true
}

// probe admits a call to a breaker that is not closed.
func (b *breaker) probe(now time.Duration) (passage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.word.Load() & stateMask {
	case breakerClosed:
		return passage{b, b.word.Load()}, true
	case breakerOpen:
		if now < b.until {
			return passage{}, false
		}
		b.turn(breakerHalfOpen)
		b.places, b.probes, b.ok, b.judged = 1, 0, 0, callWindow{}
	}
	if b.taken(now) {
		return passage{}, false
	}
	b.probes++
	b.probed = now
	return passage{b, b.word.Load()}, true
}

// probing says whether the call is a probe.
func (p passage) probing() bool { return p.word&stateMask == breakerHalfOpen }

// done ends a call: bad says whether it failed and whether it was slow; verdict false: it says nothing.
func (p passage) done(now time.Duration, verdict bool, bad [badKinds]bool) {
	b := p.breaker
	if !verdict && p.word&stateMask == breakerClosed {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load() != p.word { // the state changed while the call was under way: it tells about the past
		return
	}
	if p.word&stateMask == breakerClosed {
		b.watch(now, bad)
		return
	}
	b.probes--
	if verdict {
		b.ramp(now, bad)
	}
}

// late judges a probe that has given its place back before.
func (p passage) late(now time.Duration, bad [badKinds]bool) {
	b := p.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.word.Load() == p.word {
		b.ramp(now, bad)
	}
}

// doneBelow ends a call that failed further down, where others might have served it.
func (p passage) doneBelow(now time.Duration) {
	b := p.breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.word.Load() != p.word:
	case p.probing():
		b.probes--
		if b.judged.calls == 0 {
			b.open(now, byFailures)
		}
	case b.row[byFailures].add(now):
		b.open(now, byFailures)
	}
}

// watch counts a call while the breaker is closed. The caller holds b.mu.
func (b *breaker) watch(now time.Duration, bad [badKinds]bool) {
	for kind := range badKinds {
		switch {
		case !bad[kind]:
			b.row[kind] = badRow{}
		case b.row[kind].add(now):
			b.open(now, kind)
			return
		}
	}
	w, oldest := &b.window, breakerOldest
	if w.calls >= breakerCalls {
		oldest = breakerLate
	}
	if w.calls == 0 || now-w.since > oldest {
		*w = callWindow{since: now}
	}
	w.add(bad)
	if w.calls < breakerCalls || now-w.since < breakerWindow {
		return
	}
	over := false
	for kind := range badKinds {
		if w.share(kind) > threshold(b.usual[kind], w.calls) {
			if bad[kind] {
				b.open(now, kind)
				return
			}
			over = true
		}
	}
	if over { // it may have passed: the next bad call decides
		return
	}
	b.learnt++
	weight := max(usualWeight, 1/float64(b.learnt+1)) // the start counts as one window
	for kind := range badKinds {
		b.usual[kind] += weight * (w.share(kind) - b.usual[kind])
	}
	*w = callWindow{}
}

// ramp judges a probe. The caller holds b.mu.
func (b *breaker) ramp(now time.Duration, bad [badKinds]bool) {
	b.judged.add(bad)
	for kind := range badKinds {
		if b.judged.share(kind) > min(threshold(b.usual[kind], b.judged.calls), probeShare) {
			b.open(now, kind)
			return
		}
	}
	if bad != ([badKinds]bool{}) {
		return
	}
	if b.ok++; b.ok < b.places {
		return
	}
	b.ok = 0
	if b.places *= 2; b.places > probePlaces {
		b.turn(breakerClosed)
		b.closed, b.window, b.row = now, callWindow{}, [badKinds]badRow{}
	}
}

func (w *callWindow) add(bad [badKinds]bool) {
	w.calls++
	for kind := range bad {
		if bad[kind] {
			w.bad[kind]++
		}
	}
}

func (w *callWindow) share(kind badKind) float64 { return float64(w.bad[kind]) / float64(w.calls) }

// threshold is the share of bad calls among n above which a breaker opens, where p is usual.
func threshold(p float64, n int) float64 {
	return max(breakerShare, p+breakerSigmas*math.Sqrt(p*(1-p)/float64(n)))
}

// open opens the breaker, for longer the longer ago it tripped. If it closed only a short while ago, it stays open for twice
// as long as the last time. The caller holds b.mu.
func (b *breaker) open(now time.Duration, why badKind) {
	if b.word.Load()&stateMask == breakerClosed {
		b.since = now
		if now-b.closed >= b.length+openSteady {
			b.trips = 0
		}
		b.trips++
	}
	b.length = min(openMost, max(openFirst<<min(b.trips-1, 6), time.Duration(openShare*float64(now-b.since))))
	b.opened[why]++
	// Whoever calls the same instance must not come back at the same time. Where the instants are given, so are the
	// times open.
	jitter := openJitter * unit(mix64(b.seed^uint64(now)))
	b.until = now + time.Duration(float64(b.length)*(1-jitter))
	b.turn(breakerOpen)
}

// turn changes the state. Calls under way belong to the old generation. The caller holds b.mu.
func (b *breaker) turn(state uint64) {
	b.word.Store(b.word.Load()&^stateMask + generationStep | state)
}

// unit maps 64 random bits to [0, 1).
func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }
