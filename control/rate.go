package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// rate is the law of the admission rate of a whole service: AIMD on what the service completes. At its maximum the rate
// is off.
//
// A service that falls behind completes less than it admits, X < A, and then X is its capacity, however late the mean
// latency tells of it. So a decrease is sized by X rather than by the rate: made twice for one loss, it is the same
// decrease. It leaves room to work off the backlog, of which everything is late and no use to anybody; while that lasts,
// X > A, nothing is cut. The way up is exponential in ln, slow near the capacity last seen, and faster the longer that
// goes well: a probe of fixed slowness locks a service up for an hour after a short loss.
//
//	X < A  backlog grows   cut to clip(0.9·G, 0.5, 0.8 of min(X, A, x̂)), at once
//	X ≈ A  and still slow  the same, once a settling time; if it did not help, limiting cannot: say so and put it back
//	X > A  backlog drains  wait
//	fast                   grow
//
// A mean above the setpoint is what both the rate and the concurrency limit answer to, so the rate yields to a
// concurrency limit that can still be cut, which is faster and needs no probing. It acts where that one has come to its
// minimum, or where there is none.
type rate struct {
	spec   RateSpec
	period time.Duration
	settle time.Duration
	hold   time.Duration
	aimd   AIMD

	want   float64 // as the law has it; what is published follows in steps of rateStep. NaN: what is in force
	good   []float64
	best   float64 // x̂: largest goodput that was sustained for one settling time, fading
	bestAt time.Time

	cut     rateCut   // the last one made, zero: none since the rate was off
	asked   rateCut   // proposed in this period
	crossed time.Time // when the rate came near the last cut again
	busy    time.Time // when it was last fast, cut or draining: windows up to one settling time later show that, too

	service   float64 // ŝ: the service's own mean latency where limiting did not help, 0: none
	serviceAt time.Time
}

// rateCut is the situation in which a cut was made.
type rateCut struct {
	from    float64 // the rate before it, in force
	to      float64 // and after it
	carried float64 // what the service completed
	top     float64 // from, of the first of a run of cuts
	most    float64 // carried, of that
	good    float64
	mean    float64
}

const (
	rateMemory   = 300 * time.Second // time constant of x̂
	rateBalance  = 0.05              // X and A this close are equal
	rateNear     = 0.9               // of what was carried at the last cut: from here growth probes
	rateProbe    = 0.03              // of the normal growth at first, doubling each settling time
	rateOff      = 3.0               // × x̂: a rate above this limits nothing
	rateAim      = 0.9               // of the goodput
	rateDeepest  = 0.5               // of what is carried
	rateShallow  = 0.8
	rateLast     = 1.3  // × its minimum: a concurrency limit above this can still be cut
	rateHelped   = 0.8  // of the mean before a cut: if it does not get below, the cut was no help
	rateStep     = 0.05 // smallest raise worth a write, in ln
	rateBurst    = 0.25 // seconds of tokens
	serviceFades = 0.8  // a mean below this share of ŝ ends it
)

func newRate(s *Spec) *rate {
	return &rate{
		spec: *s.Rate, period: s.Timing.Period, settle: s.Timing.Settle(), hold: s.Tuning.FloorTestHold, want: math.NaN(),
	}
}

// track keeps the law within one step of what is in force, and takes note of a cut once it is made: a write that failed
// winds nothing up.
func (c *rate) track(now time.Time, before, after float64) {
	c.want = min(max(c.want, after*math.Exp(-rateStep)), after*math.Exp(rateStep))
	if c.asked.from > 0 && after < before {
		c.cut, c.crossed, c.busy = c.asked, time.Time{}, now
	}
	c.asked = rateCut{}
	if after >= c.spec.Max {
		c.cut, c.crossed = rateCut{}, time.Time{}
	}
}

func (c *rate) lose() {}
func (c *rate) restart() {
	*c = rate{
		spec: c.spec, period: c.period, settle: c.settle, hold: c.hold, want: math.NaN(), best: c.best, bestAt: c.bestAt,
	}
}

func (c *rate) describe(_ *Loop, t *tick, d *Decision) {
	d.Terms.Law = string(AIMDLaw)
	d.Setpoint = Number(max(t.sp.target(), little.ServiceTimeMargin*c.service))
	d.Measured = Number(t.v.mean)
	d.Gates.ServiceTimeSeconds = Number(c.service)
}

func (c *rate) decide(l *Loop, t *tick, d *Decision) {
	v, from := t.v, l.inForce.Value
	if math.IsNaN(c.want) {
		c.want = from
	}
	c.learn(t)
	c.describe(l, t, d)
	binding := v.rateRefused >= l.spec.Tuning.RefusingAt
	d.Gates.Overloaded = binding
	yields := c.arbitrate(l, t, d)

	slow := v.hang || v.mean > float64(d.Setpoint)
	cut := slow && !yields && c.mayCut(t, d)
	switch {
	case !slow && c.cut.from == 0:
		c.busy = t.now // it may be slow for a while before it is taken for overload
	case yields:
		d.Terms.Event = "yields"
	}
	if cut && from <= c.cut.to && c.useless(v) {
		c.service, c.serviceAt = v.mean, t.now
		c.want, c.cut = c.cut.top, rateCut{}
		d.Terms.Event = "restore"
	} else {
		c.aimd.AddShare = math.Expm1(c.growth(l, t))
		next, event := c.aimd.Step(t.now, c.want, cut, !slow && c.want < c.spec.Max, c.decreaseTo(v, from))
		if event != "" {
			c.want, d.Terms.Event = next, event
		}
	}
	d.Raw = Number(c.want)
	if most := rateOff * c.sustained(t.now); most > 0 && c.want > most && !slow {
		if c.want = most; !binding {
			c.want = c.spec.Max
		}
	}
	c.constrain(l, t, d)
	if d.Terms.Event == AIMDDecrease && d.Publish {
		c.asked = rateCut{from: from, to: float64(d.Value), carried: c.carried(v), good: v.good(), mean: v.mean}
		if c.asked.top, c.asked.most = from, c.asked.carried; from <= c.cut.to {
			c.asked.top, c.asked.most = c.cut.top, c.cut.most
		}
	}
	d.State = c.state(d, binding, slow)
}

// learn feeds x̂ and lets go of ŝ. x̂ takes what was sustained: a counter that is reset in one of two replicas reads
// seventyfold for as long as the window, and not for a settling time.
func (c *rate) learn(t *tick) {
	if c.service > 0 && (t.now.Sub(c.serviceAt) >= c.hold || t.v.mean < serviceFades*c.service) {
		c.service = 0
	}
	if t.v.unsure != "" || t.v.hang {
		return
	}
	n := max(1, int(c.settle/c.period))
	if c.good = append(c.good, t.v.good()); len(c.good) <= n {
		return
	}
	c.good = c.good[len(c.good)-n-1:]
	least := c.good[0]
	for _, g := range c.good {
		least = min(least, g)
	}
	if least >= c.sustained(t.now) {
		c.best, c.bestAt = least, t.now
	}
}

// sustained is x̂ as of now, 0 while unknown.
func (c *rate) sustained(now time.Time) float64 {
	return c.best * math.Exp(-max(now.Sub(c.bestAt), 0).Seconds()/rateMemory.Seconds())
}

// arbitrate says whether the rate yields to the concurrency limit, and names in d who acts.
func (c *rate) arbitrate(l *Loop, t *tick, d *Decision) bool {
	switch k := t.concurrency; {
	case k == nil:
		return false
	case float64(k.Value) >= rateLast*l.spec.Concurrency.Min:
		d.Detail = "the concurrency limit acts first"
		return true
	}
	d.Detail = "the concurrency limit is near its minimum, the rate may act"
	return false
}

// mayCut says whether a slow service may be cut now.
func (c *rate) mayCut(t *tick, d *Decision) bool {
	v := t.v
	completed, admitted := v.completedRate(), v.admittedRate
	switch {
	case v.hang:
	case completed < (1-rateBalance)*admitted:
		return true // it falls behind
	case completed > (1+rateBalance)*admitted:
		c.busy = t.now
		d.Terms.Event = "drains"
		return false
	}
	if t.now.Sub(c.busy) < c.settle {
		d.Terms.Event = AIMDCooldown
		return false
	}
	return true
}

// carried is what the service can do as far as a slow window tells.
func (c *rate) carried(v *view) float64 {
	if v.hang {
		return v.admittedRate
	}
	return min(v.completedRate(), v.admittedRate)
}

// decreaseTo sizes a cut. A hang says nothing of what is carried, so that one halves the rate.
func (c *rate) decreaseTo(v *view, from float64) float64 {
	base, good := c.carried(v), v.good()
	if v.hang {
		base, good = min(from, base), 0
	}
	return max(min(max(rateAim*good, rateDeepest*base), rateShallow*base), c.spec.Min)
}

// useless says whether the last cut did not help: less comes in than the service has just carried, no backlog is left,
// it is as slow as before and no larger part of what it does is in time. Then the mean is its own. Of a service that does
// hardly anything in time that takes a run of cuts down to a fifth: its queue may just be so long that clients give up.
func (c *rate) useless(v *view) bool {
	admitted, slower := v.admittedRate, v.mean/c.cut.mean
	switch {
	case v.hang, v.completedRate() < (1-rateBalance)*admitted, admitted >= (1-rateBalance)*c.cut.carried,
		slower < rateHelped, slower > 1/rateHelped:
		return false
	case admitted < c.cut.most/5:
		return true
	}
	inTime := v.good() / v.completedRate()
	return inTime > 0.1 && inTime < c.cut.good/c.cut.carried/rateHelped
}

// growth is the raise a period in ln units.
func (c *rate) growth(l *Loop, t *tick) float64 {
	u := l.spec.Tuning.RaiseMax
	if c.cut.from == 0 || c.want < rateNear*c.cut.carried {
		return u
	}
	if c.crossed.IsZero() {
		c.crossed = t.now
	}
	return u * min(1, rateProbe*math.Exp2(t.now.Sub(c.crossed).Seconds()/c.settle.Seconds()))
}

// constrain turns what the law wants into what is published.
func (c *rate) constrain(l *Loop, t *tick, d *Decision) {
	from := l.inForce.Value
	next := c.want
	switch {
	case next > from && t.v.unsure != "":
		next, c.want, d.Bound = from, from, BoundTighten
	case next <= c.spec.Min:
		next, d.Bound = c.spec.Min, BoundMin
	case next >= c.spec.Max:
		next, d.Bound = c.spec.Max, BoundMax
	case next > from && !moved(next, from, rateStep):
		next, d.Bound = from, BoundDeadband
	}
	c.want = min(max(c.want, c.spec.Min), c.spec.Max)
	d.Value = Number(next)
	d.Publish = next != from || !l.published()
}

func (c *rate) state(d *Decision, binding, slow bool) State {
	switch {
	case c.service > 0:
		return Ineffective
	case d.Value < d.From:
		return Cutting
	case d.Value > d.From:
		return Raising
	case float64(d.Value) <= c.spec.Min && (slow || binding):
		return AtMin
	case binding && float64(d.Value) >= c.spec.Max:
		return AtMax
	}
	return Steady
}

// Burst is the token bucket's size for a rate: a quarter of a second of it, at least one token.
func Burst(perSecond float64) float64 { return max(1, math.Round(rateBurst*perSecond)) }
