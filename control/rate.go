package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// rate is the law of the admission rate, AIMD on the sustained goodput, per service. At its maximum the rate is off.
//
// A decrease goes to nine tenths of the good completions per second G, between half and four fifths of the base: the
// smaller of the rate and what the service has shown it can do, x̂. That is fed by what is served, never by the knob's own
// effect alone. The way up is exponential in ln, slow near the last failure and then faster the longer that goes well: a
// probe of fixed slowness locks the service up for an hour after a short loss of capacity.
//
// Beside a concurrency limit the rate is the second line: it cuts only where that one can do no more.
type rate struct {
	spec RateSpec
	aimd AIMD

	best    float64 // x̂: best good completions per second of a window, fading
	bestAt  time.Time
	lastCut float64   // the rate at which the last decrease was made; 0: none
	crossed time.Time // when the rate came near it again
	cutFrom float64   // proposed
}

const (
	rateMemory    = 300 * time.Second // time constant of x̂
	rateNear      = 0.9               // of the last cut: from here growth probes
	rateProbe     = 0.03              // of the normal growth at first, doubling each settling time
	rateOff       = 3.0               // × x̂: a rate above this limits nothing
	rateAim       = 0.9               // of the goodput
	rateDeepest   = 0.5               // of the base
	rateShallow   = 0.8
	rateBurstSpan = 0.25 // seconds of tokens
)

func newRate(s *Spec) *rate {
	return &rate{spec: *s.Rate, aimd: AIMD{Cooldown: s.Timing.Settle()}}
}

func (c *rate) track(now time.Time, before, after float64) {
	c.aimd.Track(now, before, after)
	if c.cutFrom > 0 && after < before {
		c.lastCut, c.crossed = c.cutFrom, time.Time{}
	}
	c.cutFrom = 0
}

func (c *rate) lose()    {}
func (c *rate) restart() { c.lastCut, c.crossed, c.cutFrom = 0, time.Time{}, 0 }

func (c *rate) describe(l *Loop, t *tick, d *Decision) {
	d.Terms.Law = string(AIMDLaw)
	d.Setpoint = Number(max(t.sp.target(), little.ServiceTimeMargin*t.v.service))
	d.Measured = Number(t.v.mean)
}

func (c *rate) decide(l *Loop, t *tick, d *Decision) {
	v, tau := t.v, float64(d.Setpoint)
	good := v.good()
	if v.unsure == "" && good >= c.bestNow(t.now) {
		c.best, c.bestAt = good, t.now
	}
	from := l.inForce.Value
	off := from >= c.spec.Max
	binding := v.rateRefused >= l.spec.Tuning.RefusingAt
	congested := v.mean > tau && (off || binding || v.refusing)
	if v.hang {
		congested, good = true, 0
	}
	d.Gates.Overloaded = binding
	if congested && t.concurrency != nil && t.concurrency.State != AtMin {
		congested = false
		d.Terms.Event = "yields"
		d.Detail = "the concurrency limit acts first"
	}

	base := min(from, c.bestNow(t.now))
	if off {
		base = min(v.admittedRate, c.bestNow(t.now))
	}
	to := min(max(rateAim*good, rateDeepest*base), rateShallow*base)
	c.aimd.AddShare = math.Expm1(c.growth(l, t, from))
	next, event := c.aimd.Step(t.now, from, congested, binding && v.mean <= tau && !off, to)
	if event != "" {
		d.Terms.Event = event
	}
	if event == AIMDDecrease {
		c.cutFrom = base
	}
	d.Raw = Number(next)
	if next > from && next > rateOff*c.bestNow(t.now) || !off && !binding && from > rateOff*c.bestNow(t.now) {
		next = c.spec.Max
	}
	switch {
	case next > from && v.unsure != "":
		next, d.Bound = from, BoundTighten
	case next < c.spec.Min:
		next, d.Bound = c.spec.Min, BoundMin
	case next > c.spec.Max:
		next, d.Bound = c.spec.Max, BoundMax
	}
	d.Value = Number(math.Round(next*10) / 10)
	if moved(next, from, 0.01) || !l.published() {
		d.Publish = true
	} else {
		d.Value = Number(from)
	}
	d.State = c.state(d, binding, congested)
}

// bestNow is x̂ as of now.
func (c *rate) bestNow(now time.Time) float64 {
	if dt := now.Sub(c.bestAt); dt > 0 && c.best > 0 {
		return c.best * math.Exp(-dt.Seconds()/rateMemory.Seconds())
	}
	return c.best
}

// growth is the raise a period in ln units.
func (c *rate) growth(l *Loop, t *tick, from float64) float64 {
	u := l.spec.Tuning.RaiseMax
	if c.lastCut == 0 || from < rateNear*c.lastCut {
		return u
	}
	if c.crossed.IsZero() {
		c.crossed = t.now
	}
	settles := t.now.Sub(c.crossed).Seconds() / l.spec.Timing.Settle().Seconds()
	return u * min(1, rateProbe*math.Exp2(settles))
}

func (c *rate) state(d *Decision, binding, congested bool) State {
	switch {
	case d.Value < d.From:
		return Cutting
	case d.Value > d.From:
		return Raising
	case float64(d.Value) <= c.spec.Min && congested:
		return AtMin
	case binding && float64(d.Value) >= c.spec.Max:
		return AtMax
	}
	return Steady
}

// Burst is the token bucket's size for a rate: a quarter of a second of it, at least one token.
func Burst(perSecond float64) float64 { return max(1, math.Round(rateBurstSpan*perSecond)) }
