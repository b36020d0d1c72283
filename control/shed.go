package control

import (
	"math"
	"time"
)

// shed is the law of the shed threshold φ: how full the service is, in flight ÷ limit, when the least important requests
// are refused. PI on the share r of protected requests that are refused all the same,
//
//	e = clip(ln((r + 0.002)/0.004), −1, 2),   φ −= 0.1·(T/θ)·e + 0.033·Δe
//
// so that r settles near 0.2 %. Nothing is shed below φ·L: a threshold that is late to be released costs nothing, where a
// published share of admissions would go on refusing after the load has gone.
type shed struct {
	spec ShedSpec
	pid  PID
	phi  float64 // as the law has it; what is published follows in steps of shedStep
}

const (
	shedSetpoint = 0.002 // share of protected requests refused
	shedStep     = 0.02  // smallest change of φ worth a write
	shedGain     = 0.1   // of φ per dead time at e = 1: from 0.6 to 0.4 in two
	shedKick     = 0.033
)

func newShed(s *Spec) *shed {
	return &shed{
		spec: *s.Shed, phi: s.Shed.Fallback,
		pid: PID{Kp: -shedKick, Ki: -shedGain / s.Timing.DeadTime().Seconds()},
	}
}

// track keeps φ within one step of what is in force: a write that failed cannot wind it up.
func (c *shed) track(_ time.Time, _, after float64) {
	c.phi = min(max(c.phi, after-shedStep), after+shedStep)
}

func (c *shed) lose()    { c.pid.Lose() }
func (c *shed) restart() { c.pid.Lose(); c.phi = math.NaN() }

func (c *shed) describe(_ *Loop, t *tick, d *Decision) {
	d.Terms.Law = string(PIDLaw)
	d.Setpoint = shedSetpoint
	d.Detail = "decides whom the concurrency limit refuses"
	if r, ok := t.v.protectedRefused(c.spec.Protect).Value(); ok {
		d.Measured = Number(r)
	}
}

func (c *shed) decide(l *Loop, t *tick, d *Decision) {
	share := t.v.protectedRefused(c.spec.Protect)
	d.Gates.Overloaded = t.v.overloaded(t.v.limit.Or(math.NaN()), l.spec.Tuning.OverloadAt)
	switch why, detail := share.Why(); why {
	case "":
	case TooLittleTraffic:
		// The service is measured well, there are only too few to judge by. While it is overloaded the threshold stays;
		// else nobody needs it, and it goes back. The lease is renewed either way.
		d.Detail = detail
		if d.Gates.Overloaded {
			c.lose()
			d.State = Steady
			return
		}
	default:
		l.hold(d, why, detail)
		return
	}
	r := share.Or(0)
	from := l.inForce.Value
	if math.IsNaN(c.phi) {
		c.phi = from
	}
	e := -1.0
	if r > 0 {
		e = min(max(math.Log((r+shedSetpoint)/(2*shedSetpoint)), -1), 2)
	}
	c.pid.Track(c.phi)
	terms, _ := c.pid.Step(l.spec.Timing.Period, e)
	d.Terms.Error, d.Terms.P, d.Terms.D = Number(e), Number(terms.P), Number(terms.D)
	d.Terms.I = Number(terms.I - c.phi)
	d.Raw = Number(terms.Output)

	next := terms.Output
	if next > from && t.v.unsure != "" {
		next, d.Bound = from, BoundTighten
	}
	switch {
	case next <= c.spec.Min:
		next, d.Bound = c.spec.Min, BoundMin
	case next >= c.spec.Max:
		next, d.Bound = c.spec.Max, BoundMax
	}
	c.phi = next
	if !l.published() || math.Abs(next-from) >= shedStep || next != from && (next == c.spec.Min || next == c.spec.Max) {
		d.Value, d.Publish = Number(math.Round(next*1000)/1000), true
	} else if d.Bound == "" && next != from {
		d.Bound = BoundDeadband
	}
	d.State = c.state(d, e)
}

func (c *shed) state(d *Decision, e float64) State {
	switch {
	case d.Value < d.From:
		return Cutting
	case d.Value > d.From:
		return Raising
	case float64(d.Value) <= c.spec.Min && e > 0:
		return AtMin
	case float64(d.Value) >= c.spec.Max && d.Gates.Overloaded:
		return AtMax
	}
	return Steady
}
