package guard

import (
	"math"
	"time"
)

// raiseTest asks, before the first cut of an overload, whether the limit is to blame for the latency at all. A service
// short of capacity and one that waits for a slow dependency look alike: slow, with some requests refused. With more in
// flight they differ. In front of a full service the queue and the mean grow, and as many requests are refused as
// before. A delay that is not a queue stays the same, and the requests that were refused get through.
//
//	idle ──slow, and it binds──► before ──a clean window──► raised by half ──a clean window──► ŝ is the mean,
//	                                │                            │                             the limit stays raised
//	                                └─ too late, or too many ────┴─ the mean grew, or as many are refused
//	                                   are refused                    │
//	                                                                  ▼
//	                                             queue: the limit as before; cuts, until five seconds without overload
//
// The test runs only where raising costs little: the mean must be low enough to meet the SLO even if it grew in
// proportion, and at most half of the requests may be refused. Anything worse is cut at once. (A cut would answer the
// same question, but costs a service that waits for others as much goodput as it takes off the limit.)
type raiseTest struct {
	slo   float64 // seconds
	phase raisePhase
	from  tally // start of the phase; once clean, start of the window that counts
	clean bool  // the requests from before the phase have finished

	limit, raised float64
	mean, refused float64   // before the raise: seconds, share
	over          time.Time // in raiseQueue: when the service was last overloaded
}

type raisePhase uint8

const (
	raiseIdle raisePhase = iota
	raiseBefore
	raiseAfter
	raiseQueue // the last verdict
)

const (
	raiseBy      = 1.5
	raiseLeast   = 1.25 // below this, noise would decide
	raiseRefused = 0.5  // share refused above which there is no test

	// A window is one second with at least two hundred requests, whose mean has a noise of one sixth of what a queue
	// would add, or two seconds.
	raiseSpan    = time.Second
	raiseSamples = 200

	raiseFill   = 3 * time.Second // longest wait for a queue to fill the raised limit
	raiseForget = 5 * time.Second

	raiseDoubt = 10 * time.Second // after a finding: the limit has had time to rise as far as it takes
	raiseStill = 0.05             // share refused in two seconds from which the finding is wrong
)

// plight is the reflex's judgment of its last window.
type plight struct {
	over     bool // the limit binds
	slow     bool // and the mean is above the setpoint
	limit    float64
	setpoint float64 // seconds, without guarded calls
	ceiling  float64
}

func (x *raiseTest) running() bool { return x.phase == raiseBefore || x.phase == raiseAfter }

// stop ends a running test without a verdict and returns the limit to go on with.
func (x *raiseTest) stop(limit float64) float64 {
	if x.running() {
		x.phase, limit = raiseIdle, x.limit
	}
	return limit
}

// step takes the window w that ended at t. It returns the limit that the test imposes, 0 if none is running, and ŝ in
// seconds if the test has just found that the limit is not to blame.
func (x *raiseTest) step(t tally, w window, p plight) (limit, service float64) {
	switch x.phase {
	case raiseIdle:
		if p.slow {
			return x.begin(t, w, p), 0
		}
		return 0, 0
	case raiseQueue:
		if p.over {
			x.over = t.at
		} else if t.at.Sub(x.over) >= raiseForget {
			x.phase = raiseIdle
		}
		return 0, 0
	}
	if x.hopeless(w) {
		return x.blame(t), 0
	}
	seen, ok := x.window(t, w)
	switch {
	case x.phase == raiseBefore && !ok:
		return x.limit, 0
	case x.phase == raiseBefore:
		return x.raise(t, seen, p), 0
	case !ok:
		return x.raised, 0
	case seen.alone() < p.setpoint: // the trouble went away by itself
		x.phase = raiseIdle
		return x.limit, 0
	case x.queued(seen):
		return x.blame(t), 0
	}
	x.phase = raiseIdle
	return x.raised, max(seen.mean, x.mean)
}

func (x *raiseTest) hopeless(w window) bool { return w.mean > x.slo || w.refused > raiseRefused }

// blame ends the test with the verdict that there is a queue.
func (x *raiseTest) blame(t tally) float64 {
	x.phase, x.over = raiseQueue, t.at
	return x.limit
}

func (x *raiseTest) begin(t tally, w window, p plight) float64 {
	x.limit = p.limit
	if x.hopeless(w) || p.ceiling < raiseLeast*p.limit {
		x.blame(t)
		return 0
	}
	x.phase, x.from, x.clean = raiseBefore, t, false
	return x.limit
}

// window returns what has happened since the phase settled, and whether that is enough to judge by. The phase has not
// settled while requests from before it are in flight, or while there is still room under the raised limit, because a
// queue that fills it slowly would not show yet.
func (x *raiseTest) window(t tally, w window) (seen window, ok bool) {
	seen = t.since(x.from)
	if x.clean {
		return seen, seen.finished >= raiseSamples && seen.span >= raiseSpan || seen.span >= learnWindow
	}
	settle := max(testWait, time.Duration(testFactor*w.mean*float64(time.Second)))
	if x.phase == raiseAfter && w.refused < refusing {
		settle = max(settle, raiseFill)
	}
	if seen.span >= settle {
		x.from, x.clean = t, true
	}
	return seen, false
}

// raise begins the second half of the test; seen is the result of the first.
func (x *raiseTest) raise(t tally, seen window, p plight) float64 {
	switch {
	case seen.mean*raiseBy > x.slo:
		return x.blame(t)
	case seen.alone() < p.setpoint*math.Exp(reflexBand):
		x.phase = raiseIdle
		return x.limit
	}
	x.phase, x.from, x.clean = raiseAfter, t, false
	x.raised, x.mean, x.refused = min(raiseBy*x.limit, p.ceiling), seen.mean, seen.refused
	return x.raised
}

// queued says whether the raised limit only lengthened the queue. Either of two signs is enough if it lies more than
// halfway from a mere delay to a queue: the mean, between unchanged and growth in proportion to the limit, and the
// share refused, between what the larger limit leaves over and unchanged.
func (x *raiseTest) queued(seen window) bool {
	growth := x.raised / x.limit
	left := max(0, 1-growth*(1-x.refused))
	return seen.mean > x.mean*math.Sqrt(growth) || seen.refused > (x.refused+left)/2+refusing
}
