package guard

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// The reflex's constants. They suit queues that form within milliseconds and are not configurable: a service for which
// they are wrong needs a different latency target.
const (
	reflexPeriod   = 250 * time.Millisecond
	reflexPatience = 2 * time.Second // longest time that forty samples may take to come together
	reflexSamples  = 40
	reflexCut      = 0.8  // largest cut per step: halves the limit in about a second
	reflexRaise    = 1.1  // largest raise per step: doubles the limit in about two seconds
	reflexBand     = 0.15 // of ln(τ/mean): the noise of forty samples

	// Where forty take longer, the window runs on, and fewer count as soon as their mean is off by twice its noise, which
	// is 1/√n of it for exponential latencies.
	gatherPatience = 10 * time.Second
	gatherLeast    = 8
	gatherProof    = 2.0
	gatherCut      = 0.5 // largest cut per step, because steps come less often

	learnWindow = 2 * time.Second // of throughput and own latency
	calm        = 0.1             // share of a window at a binding limit, below which OwnLatency learns
	bound       = 0.5             // share of a window at a binding limit, from which the limit binds
	boundLong   = 0.25            // the same over two seconds: a short excursion is not overload
	refusing    = 0.01            // share refused over two seconds, likewise: a rare burst is not overload

	testDwell  = 2 * time.Second // floor test, see little.FloorTest
	testWait   = 500 * time.Millisecond
	testFactor = 1.5
	testHold   = 300 * time.Second
)

// tally is everything the guard has counted from its start to one instant.
type tally struct {
	at       time.Time
	finished uint64  // requests whose latency was counted, but for those that were cut short
	seconds  float64 // the sum of those latencies
	waited   float64 // the part of it spent in guarded calls
	shifted  float64 // the part of it due to the mix of APIs, see mix
	refused  uint64
	above    uint64        // refused for want of room that others take, see roof
	binding  time.Duration // time spent at a binding limit
	inFlight int
}

// window is what happened between two tallies.
type window struct {
	span     time.Duration
	finished uint64
	mean     float64 // seconds; NaN if nothing finished
	wait     float64 // the part of it spent in guarded calls, or due to the mix of APIs; negative if that is faster than usual
	refused  float64 // share of what finished or was refused, 0..1
	above    bool    // requests were refused for want of room that others take
	binding  float64 // share of the span, 0..1
}

func (t tally) since(from tally) window {
	w := window{
		span:     t.at.Sub(from.at),
		finished: uint64(max(0, int64(t.finished-from.finished))), // one may be cut short after it was counted
		mean:     math.NaN(),
		above:    t.above > from.above,
	}
	if n := t.refused - from.refused; n > 0 {
		w.refused = float64(n) / float64(n+w.finished)
	}
	if w.finished > 0 {
		w.mean = max(0, t.seconds-from.seconds) / float64(w.finished)
		w.wait = min((max(0, t.waited-from.waited)+t.shifted-from.shifted)/float64(w.finished), w.mean)
	}
	if w.span > 0 {
		w.binding = (t.binding - from.binding).Seconds() / w.span.Seconds()
	}
	return w
}

func (w window) alone() float64      { return w.mean - w.wait }
func (w window) enough() bool        { return w.finished >= reflexSamples }
func (w window) throughput() float64 { return float64(w.finished) / w.span.Seconds() }

// reflex moves the limit using local data: every 250 ms with at least forty finished requests,
//
//	L ← L · clip(√(τ/mean), 0.8, 1.1)
//
// and only while the limit binds, because a limit that does not bind is neither the cause of a high latency nor the
// cure. The square root makes it converge where the plant's gain is highest (above the knee, the mean is proportional
// to L). Two tests ask whether limiting helps at all: the raise test before the first cut, and the floor test below
// X̂max·m₀, where by Little's law the service could not do what it has already done.
//
// Where requests wait in guarded calls, τ is for the rest of their time, see little.WithCalls.
//
// It is pure arithmetic: the guard passes it tallies and uses the limit it returns.
type reflex struct {
	off  bool    // the limit is the regime's
	slo  float64 // seconds
	most float64 // highest setpoint above the latency target, seconds; +Inf: no bound

	learnMost time.Duration // longest window to learn from, where forty samples take longer than learnWindow
	limit     float64
	blind     bool // too little data for a step within gatherPatience

	gathering  bool      // the step's window runs on beyond reflexPatience
	leaned     time.Time // the last step on few samples
	started    bool
	from       tally // start of the step's window
	learned    tally // start of the learning window
	lesson     lesson
	past       [9]tally // the latest tallies, oldest first: two seconds at four a second
	own        *little.OwnLatency
	ownSeconds float64
	alone      *little.OwnLatency // the same without guarded calls
	wait       float64            // in guarded calls, mean of the last two seconds
	carried    little.Carried
	test       little.FloorTest
	finding    little.Finding
	found      time.Time // time of the last finding
	raised     time.Time // when the raise test found the service time that stands; zero: it did not
	raise      raiseTest
}

// lesson is the learning window that has ended with a step.
type lesson struct {
	span time.Duration // 0: none has
	calm bool          // nothing queued
}

func newReflex(slo time.Duration, limit float64, off bool) reflex {
	own, alone := little.NewOwnLatency(slo, learnWindow), little.NewOwnLatency(slo, learnWindow)
	return reflex{
		off: off, slo: slo.Seconds(), most: math.Inf(1), learnMost: learnWindow, limit: limit, blind: true, own: own, ownSeconds: own.Seconds(), alone: alone,
		test: little.FloorTest{
			Dwell: testDwell, Window: learnWindow, MinWait: testWait, WaitFactor: testFactor, Hold: testHold,
		},
		raise: raiseTest{slo: slo.Seconds()},
	}
}

// target is the latency target in the window w: of the whole latency, which includes guarded calls.
func (r *reflex) target(w window, b bounds) float64 {
	if w.wait == 0 {
		return b.target
	}
	alone := r.alone.Seconds()
	return little.WithCalls(b.target, w.wait, max(0, r.ownSeconds-alone), alone, r.slo)
}

// setpoint is what the reflex aims at in the window w: the latency target, or a little more than ŝ if that is higher,
// because a lower setpoint would cut a service for a slowness that a test found to be its own.
func (r *reflex) setpoint(w window, b bounds) float64 {
	target := r.target(w, b)
	return min(little.Setpoint(target, r.finding.ServiceTime, r.slo), max(target, r.most))
}

// error returns how far the window w is from the setpoint, as a logarithm: that of the service's own latency, which says
// whether the limit should move, and that of the whole, which says how far. Without guarded calls they are the same.
func (r *reflex) error(w window, b bounds) (own, whole float64) {
	setpoint := r.setpoint(w, b)
	return math.Log((setpoint - w.wait) / w.alone()), math.Log(setpoint / w.mean)
}

// healthy says whether the service keeps its setpoint over the last two seconds. An idle service is healthy; one with
// requests in flight of which none finishes is not.
func (r *reflex) healthy(t tally, b bounds) bool {
	w := t.since(r.oldest(t))
	if w.finished == 0 {
		return t.inFlight == 0
	}
	return w.mean <= r.setpoint(w, b)
}

// step moves the limit according to the data up to t and the bounds b.
func (r *reflex) step(t tally, b bounds) {
	r.lesson = lesson{}
	if !r.started {
		r.start(t)
		return
	}
	if !t.at.After(r.past[len(r.past)-1].at) {
		return
	}
	copy(r.past[:], r.past[1:])
	r.past[len(r.past)-1] = t
	r.wait = t.since(r.oldest(t)).wait
	if r.off {
		r.limit = b.base
		return
	}
	r.learn(t)
	w, long := t.since(r.from), t.since(r.oldest(t))
	over := w.refused > 0 && long.refused >= refusing || w.binding >= bound && long.binding >= boundLong
	if b.drift > 0 && !over { // a limit in demand does not drift
		r.limit = approach(r.limit, b.fallback, b.drift)
	}
	switch {
	case !r.gathering && w.enough() || r.testing() && w.finished > 0 && w.span >= reflexPatience:
		r.begin(t, false)
		r.move(t, w, long, over, b)
	case w.span >= gatherPatience && !r.proof(w, b) || r.testing() && w.span >= reflexPatience:
		r.begin(t, true)
		r.grope(t.at, over, b)
	case w.span >= reflexPatience && r.proof(w, b):
		r.begin(t, false)
		r.lean(w, b)
		r.leaned = t.at
	case w.span >= reflexPatience && !r.gathering:
		r.gathering = true
		r.limit = r.raise.stop(r.limit)
	}
	r.limit = min(max(r.limit, b.min), b.ceiling)
}

// begin starts the next step's window.
func (r *reflex) begin(t tally, blind bool) { r.from, r.blind, r.gathering = t, blind, false }

// proof says whether a window with few samples shows beyond its noise that the limit should move.
func (r *reflex) proof(w window, b bounds) bool {
	own, _ := r.error(w, b)
	e := math.Abs(own)
	binds := w.refused >= refusing || w.binding >= bound
	return binds && w.finished >= gatherLeast && e > reflexBand && e*math.Sqrt(float64(w.finished)) >= gatherProof
}

// lean moves the limit on the proof of few samples, by one request at least: a tenth of a small limit is no step at all.
// The two tests are left out. They compare throughputs, for which a few samples are too few.
func (r *reflex) lean(w window, b bounds) {
	_, e := r.error(w, b)
	factor := math.Exp(e / 2)
	if factor > 1 {
		r.limit = max(r.limit*min(factor, reflexRaise), math.Floor(r.limit)+1)
	} else {
		r.limit = min(r.limit*max(factor, gatherCut), math.Ceil(r.limit)-1)
	}
	r.limit = max(r.limit, r.finding.Floor)
}

// testing says whether a floor test has cut the limit. Few requests may then finish; that is what the test measures.
func (r *reflex) testing() bool { return r.finding.Limit > 0 }

// move takes one step on the window w, which has enough data. The floor test uses the two-second window long.
func (r *reflex) move(t tally, w, long window, over bool, b bounds) {
	if long.span >= learnWindow && (long.enough() || r.testing() && long.finished > 0) && !r.raise.running() {
		r.found = t.at
		r.finding = r.test.Step(t.at, little.Sample{
			Throughput: long.throughput(), Mean: long.mean, Refusing: long.refused >= refusing,
			Limit: r.limit, Floor: min(r.carried.PerSecond(t.at)*r.ownSeconds, b.ceiling), Min: b.min,
			Target: r.target(long, b),
		})
	}
	r.doubt(t, long)
	switch f := r.finding; {
	case f.Limit > 0:
		r.limit = f.Limit
		return
	case f.Ended && f.Restore > 0:
		r.limit, r.finding.Ended = f.Restore, false
		return
	}
	if w.enough() {
		r.follow(t, w, long, over, b)
	}
	r.limit = max(r.limit, b.min, r.finding.Floor)
}

// doubt withdraws a service time that the raise test found, if the service goes on refusing. Where the limit is not to
// blame, a higher one lets in what was refused. Where as much is refused all the same, there is a queue behind it, and
// the window that the test judged by was too short for service times as uneven as these.
func (r *reflex) doubt(t tally, long window) {
	if r.raised.IsZero() || t.at.Sub(r.raised) < raiseDoubt {
		return
	}
	if r.finding.ServiceTime > 0 && long.refused >= raiseStill {
		r.test.Found(t.at, 0)
		r.finding.ServiceTime = 0
		r.raise.blame(t)
	} else if r.finding.ServiceTime > 0 {
		return // it may still turn out wrong
	}
	r.raised = time.Time{}
}

// follow moves the limit by the law, or lets the raise test move it.
func (r *reflex) follow(t tally, w, long window, over bool, b bounds) {
	own, whole := r.error(w, b)
	trying := r.raise.running()
	limit, service := r.raise.step(t, w, plight{
		over: over, slow: over && own < -reflexBand, limit: r.limit, setpoint: r.setpoint(w, b) - w.wait, ceiling: b.ceiling,
	})
	switch {
	case limit > 0:
		r.limit = limit
		if !trying {
			r.test.Abort() // a dwell at the floor must not continue meanwhile
		}
		if service > 0 {
			r.test.Found(t.at, service)
			r.finding.ServiceTime, r.found, r.raised = service, t.at, t.at
		}
	case w.refused > 0 && own >= 0 && r.test.Needless(max(w.mean, long.mean)):
		r.limit *= reflexRaise
	case over && math.Abs(own) > reflexBand:
		r.limit *= min(max(math.Exp(whole/2), reflexCut), reflexRaise)
	}
}

// grope takes the limit from the regime when there is too little data to judge. It does not raise a limit that binds:
// with requests in flight and hardly any finishing, the service may be hanging. Nor does it soon raise one that a small
// service has come down to: that takes minutes of proof to find again, and a new Setting is followed at once anyway.
func (r *reflex) grope(now time.Time, over bool, b bounds) {
	r.stopTests()
	if now.Sub(r.found) >= testHold {
		r.finding.ServiceTime = 0
	}
	if b.base <= r.limit || !over && now.Sub(r.leaned) >= testHold {
		r.limit = b.base
	}
}

// stopTests ends a test of the limit and undoes what it did.
func (r *reflex) stopTests() {
	r.limit = r.raise.stop(r.limit)
	if restore := r.test.Abort(); restore > 0 {
		r.limit = restore
	}
	r.finding.Limit = 0
}

// takeOver goes on in place of another reflex, with its limit. The own latency stays known.
func (r *reflex) takeOver(last *reflex) {
	last.stopTests()
	r.limit, r.blind = last.limit, last.blind
	r.started, r.gathering = false, false
}

// learn updates the long-term estimates from windows that do not overlap.
func (r *reflex) learn(t tally) {
	w := t.since(r.learned)
	if w.span < learnWindow || !w.enough() && w.span < r.learnMost {
		return
	}
	r.learned, r.lesson.span = t, w.span
	if !w.enough() {
		return
	}
	r.carried.Observe(t.at, w.throughput())
	inCalm := w.refused == 0 && !w.above && w.binding < calm
	r.lesson.calm = inCalm
	r.own.Observe(t.at, w.mean, inCalm)
	r.alone.Observe(t.at, w.alone(), inCalm)
	r.ownSeconds = r.own.Seconds()
}

// oldest returns the latest tally that is two seconds older than t, or the oldest there is.
func (r *reflex) oldest(t tally) tally {
	for i := len(r.past) - 1; i >= 0; i-- {
		if t.at.Sub(r.past[i].at) >= learnWindow {
			return r.past[i]
		}
	}
	return r.past[0]
}

func (r *reflex) start(t tally) {
	r.started = true
	r.from, r.learned = t, t
	for i := range r.past {
		r.past[i] = t
	}
}
