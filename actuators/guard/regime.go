package guard

import (
	"math"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// regime is what the guard obeys: for each knob the last good values and the state of their lease, or the Config if
// there are none.
//
//	receipt ──── lease ────► lapsed ──── one further lease, spent healthy ────► drifted
//	 value, ceiling, target    no ceiling; the value moves towards the fallback    fallback
//
// A guard in trouble does not drift: an overloaded service must not have its limit changed because its controller is
// silent. A Setting without a knob leaves that knob's values and lease unchanged.
type regime struct {
	cfg   Config
	last  actuators.Setting // the last one accepted; zero: none
	heard time.Duration     // until when successors must follow last in order

	knob      *actuators.Concurrency // the last good values; nil: none
	knobLease lease
	base      float64 // the limit asked for

	rate      *actuators.Rate
	rateLease lease
	perSecond float64 // the rate asked for, whole service

	shed      *actuators.Shed
	shedLease lease
	threshold float64 // φ asked for; 0: nobody does

	rankedUntil time.Duration // requests have an order, see Guard.noteRank

	retry      *actuators.Retry
	retryLease lease
	ratio      float64 // the retry budget asked for

	given  float64 // by the roof: the limit does not fall below it
	target float64 // τ* until a Setting gives one, seconds

	// Of a bulkhead:
	callee string  // "": the regime is the service's own
	learns bool    // the target is learned
	start  float64 // the target before that, seconds
	known  bool    // base is the limit in calm
}

// lease tracks how long a knob's values are valid, and the drift after that.
type lease struct {
	length time.Duration // 0: never granted
	ends   time.Duration
	spent  float64       // share of the further lease spent healthy, 0..1
	seen   time.Duration // when spent was last brought up to date
}

func newLease(now, length time.Duration) lease {
	return lease{length: length, ends: now + length, seen: now}
}

func (l lease) running(now time.Duration) bool { return l.length > 0 && now < l.ends }

// advance brings the drift up to now and returns the share of the remaining way to the fallback to cover.
func (l *lease) advance(now time.Duration, healthy bool) float64 {
	from := max(l.seen, l.ends)
	l.seen = max(l.seen, now)
	if l.length == 0 || now <= from || !healthy || l.spent >= 1 {
		return 0
	}
	step := (now - from).Seconds() / l.length.Seconds()
	share := min(1, step/(1-l.spent))
	l.spent = min(1, l.spent+step)
	return share
}

// bounds are the regime's constraints on the reflex.
type bounds struct {
	base    float64 // the limit to use without local data
	min     float64
	ceiling float64
	target  float64 // τ*, seconds

	fallback float64
	drift    float64 // share of the way to the fallback to go now
}

func newRegime(cfg Config) regime {
	return regime{
		cfg: cfg, base: float64(cfg.Fallback), perSecond: math.Inf(1), threshold: cfg.ShedThreshold,
		ratio: defaultRetryRatio, target: targetShare * cfg.SLO.Seconds(),
	}
}

// predecessor is the Setting that the next one must follow. Once its lease and one further lease have passed it no
// longer counts: a store that was wiped, or restored from an old copy, starts again at a lower epoch, and the guard
// must not refuse it forever.
func (r *regime) predecessor(now time.Duration) actuators.Setting {
	if now >= r.heard {
		return actuators.Setting{}
	}
	return r.last
}

// accept puts the bytes of a Setting in force, unless actuators.AcceptCall refuses them. The same Setting again is no news. In
// particular it does not renew the lease: reading the store again must not keep alive the word of a governor that has died.
func (r *regime) accept(now time.Duration, raw []byte) (news bool, err error) {
	s, err := actuators.AcceptCall(raw, r.cfg.Service, r.callee, r.predecessor(now))
	if err != nil || reflect.DeepEqual(s, r.last) {
		return false, err
	}
	r.adopt(now, s)
	return true, nil
}

// adopt puts an accepted Setting in force from now on.
func (r *regime) adopt(now time.Duration, s actuators.Setting) {
	granted := newLease(now, time.Duration(s.LeaseSeconds*float64(time.Second)))
	r.last, r.heard = s, now+2*granted.length
	if s.Concurrency != nil {
		knob := *s.Concurrency
		r.knob, r.knobLease = &knob, granted
		if r.callee == "" {
			r.base = float64(knob.Limit)
		}
	}
	if s.Rate != nil {
		rate := *s.Rate
		r.rate, r.perSecond, r.rateLease = &rate, rate.PerSecond, granted
	}
	if s.Shed != nil {
		shed := *s.Shed
		r.shed, r.threshold, r.shedLease = &shed, shed.Threshold, granted
	}
	if s.Retry != nil {
		retry := *s.Retry
		r.retry, r.ratio, r.retryLease = &retry, retry.BudgetRatio, granted
	}
}

// rankedThreshold is φ where nobody asks for one and requests have an order. rankedFor is for how long after the last of
// them.
const (
	rankedThreshold = 0.6
	rankedFor       = 10 * time.Second
)

// shedAbove is φ to put in force. Requests of which nothing is known are all alike, and a rank that each guard drew anew
// would be worse than no shedding from two calls on. So without a wish nothing is shed until requests have an order.
func (r *regime) shedAbove(now time.Duration) float64 {
	switch {
	case r.threshold > 0:
		return r.threshold
	case now < r.rankedUntil:
		return rankedThreshold
	}
	return 1
}

// defaultRetryRatio is the retry budget until a Setting gives one: one retry for every ten requests.
const defaultRetryRatio = 0.1

// leased says whether the lease of any knob is running.
func (r *regime) leased(now time.Duration) bool {
	return r.knobLease.running(now) || r.rateLease.running(now) || r.shedLease.running(now) ||
		r.retryLease.running(now)
}

// advance brings the drift of every knob up to now and returns the bounds with the share of the remaining way to the
// concurrency fallback that was covered.
func (r *regime) advance(now time.Duration, healthy bool) bounds {
	if share := r.rateLease.advance(now, healthy); share > 0 {
		r.perSecond = approach(r.perSecond, r.rate.Fallback, share)
	}
	if share := r.shedLease.advance(now, healthy); share > 0 {
		r.threshold += (r.shed.Fallback - r.threshold) * share
	}
	if share := r.retryLease.advance(now, healthy); share > 0 {
		r.ratio += (r.retry.Fallback - r.ratio) * share
	}
	share := r.knobLease.advance(now, healthy)
	if share > 0 {
		r.base = approach(r.base, r.fallback(), share)
	}
	b := r.bounds(now)
	b.drift = share
	if r.known {
		b.drift = callDrift
	}
	return b
}

// approach moves v by share of the way to target, evenly in its logarithm, because a limit is a matter of proportion.
// From or to zero it moves evenly in v itself.
func approach(v, target, share float64) float64 {
	switch {
	case share >= 1:
		return target
	case v <= 0 || target <= 0:
		return v + (target-v)*share
	}
	return v * math.Pow(target/v, share)
}

func (r *regime) fallback() float64 {
	lo, hi := r.span()
	switch {
	case r.callee != "":
		return min(max(r.base, lo), hi)
	case r.knob == nil:
		return float64(r.cfg.Fallback)
	}
	return min(max(float64(r.knob.Fallback), lo), hi)
}

// span returns the hard bounds: the Setting's bounds clamped to the Config's, which win if they conflict.
func (r *regime) span() (lo, hi float64) {
	cl, ch := r.cfg.bounds()
	if r.knob == nil {
		return float64(cl), float64(ch)
	}
	lo, hi = float64(r.knob.Min), float64(r.knob.Max)
	if r.cfg.Min > 0 {
		lo, hi = max(lo, float64(cl)), max(hi, float64(cl))
	}
	if r.cfg.Max > 0 {
		lo, hi = min(lo, float64(ch)), min(hi, float64(ch))
	}
	return lo, hi
}

func (r *regime) bounds(now time.Duration) bounds {
	lo, hi := r.span()
	b := bounds{min: lo, ceiling: hi, target: r.target, fallback: r.fallback()}
	if r.knob != nil {
		b.target = r.knob.LatencyTargetSeconds
		if r.callee != "" { // it has a target of its own, so a Setting that nobody writes any more does not stay forever
			b.target = approach(b.target, r.target, r.knobLease.spent)
		}
		if r.knobLease.running(now) {
			b.ceiling = min(max(float64(r.knob.Ceiling), lo), hi)
		}
	}
	b.min = min(max(lo, r.given), b.ceiling)
	b.base = min(max(r.base, b.min), b.ceiling)
	return b
}

// pace returns this instance's part of the rate limit: admissions per second, +Inf if there is no limit, and the burst.
func (r *regime) pace(now time.Duration) (perSecond, burst float64) {
	if r.rate == nil {
		return math.Inf(1), 0
	}
	return r.rateAt(now).Part()
}

// rateAt is the knob as it is in force.
func (r *regime) rateAt(now time.Duration) actuators.Rate {
	rate := *r.rate
	rate.PerSecond = r.perSecond
	if !r.rateLease.running(now) {
		rate.Borrow = 0
	}
	return rate
}

// inForce is the Setting as a reader without latency or traffic of its own obeys it: the knobs as they are on the way from
// their values to their fallbacks.
func (r *regime) inForce(now time.Duration) actuators.Setting {
	s := r.last
	if r.knob != nil {
		knob, b := *r.knob, r.bounds(now)
		knob.Limit, knob.Ceiling = int(math.Floor(b.base+1e-9)), int(b.ceiling)
		s.Concurrency = &knob
	}
	if r.rate != nil {
		rate := r.rateAt(now)
		s.Rate = &rate
	}
	if r.shed != nil {
		shed := *r.shed
		shed.Threshold = r.threshold
		s.Shed = &shed
	}
	if r.retry != nil {
		retry := *r.retry
		retry.BudgetRatio = r.ratio
		s.Retry = &retry
	}
	return s
}

// driftSteps is how many steps of a drift are looked at if nothing else happens.
const driftSteps = 16

// nextChange is when inForce changes next if no Setting comes; ok is false if it does not.
func (r *regime) nextChange(now time.Duration) (at time.Duration, ok bool) {
	for _, l := range []lease{r.knobLease, r.rateLease, r.shedLease, r.retryLease} {
		if l.length == 0 || l.spent >= 1 {
			continue
		}
		next := l.ends
		if next <= now {
			next = now + l.length/driftSteps + 1
		}
		if !ok || next < at {
			at, ok = next, true
		}
	}
	return at, ok
}
