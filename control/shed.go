package control

import (
	"math"
	"time"
)

// shed is the control law for the shed threshold φ: the occupancy, in flight ÷ limit, from which the least important
// requests are refused. It is PI on the share r of protected requests that are still refused,
//
//	e = clip(ln((r + 0.002)/0.004), −1, 2),   φ −= 0.1·(T/θ)·e + 0.033·Δe
//
// so that r settles near 0.2%. Nothing is shed below φ·L, so a threshold that is released late costs nothing. A
// published share of requests to refuse would go on refusing after the load has gone.
type shed struct {
	spec ShedSpec
	pid  PID
	phi  float64 // the law's own value; publishing follows in steps of shedStep. NaN: start from what is in force
}

const (
	shedSetpoint = 0.002 // share of protected requests refused
	shedStep     = 0.02  // smallest change of φ worth a write
	shedGain     = 0.1   // of φ per dead time at e = 1: from 0.6 to 0.4 in two dead times
	shedKick     = 0.033
)

func newShed(s *Spec) *shed {
	return &shed{
		spec: *s.Shed, phi: s.Shed.Fallback,
		pid: PID{Kp: -shedKick, Ki: -shedGain / s.Timing.DeadTime().Seconds()},
	}
}

// track keeps φ within one step of the value in force, so that a failed write cannot wind it up.
func (c *shed) track(_ time.Time, _, after float64) {
	c.phi = min(max(c.phi, after-shedStep), after+shedStep)
}

func (c *shed) lose()    { c.pid.Lose() }
func (c *shed) restart() { c.pid.Lose(); c.phi = math.NaN() }

func (c *shed) overrule() { c.restart() }

func (c *shed) rest(s step) outcome {
	o := s.rest(PIDLaw)
	o.setpoint, o.measured = Read(shedSetpoint), s.v.protectedRefused(c.spec.Protect)
	o.detail = "decides whom the concurrency limit refuses"
	return o
}

func (c *shed) decide(s step) outcome {
	o := c.rest(s)
	o.gates.binds = s.v.binds(s.v.limit.Float())
	switch why, detail := o.measured.Why(); why {
	case "":
	case TooLittleTraffic:
		// The measurement is valid but there are too few requests to judge. While the service is overloaded the
		// threshold stays. Otherwise nobody needs it and it is released. The lease is renewed either way.
		o.detail = detail
		if o.gates.binds {
			c.lose()
			o.state = Steady
			return o
		}
	default:
		c.lose()
		return o.held(why, detail)
	}
	if math.IsNaN(c.phi) {
		c.phi = o.from
	}
	e := -1.0
	if o.measured.Above(0) {
		e = min(max(math.Log((o.measured.value+shedSetpoint)/(2*shedSetpoint)), -1), 2)
	}
	c.pid.Track(c.phi)
	terms, _ := c.pid.Step(s.spec.Timing.Period, e)
	o.terms, o.raw = pidTerms(e, terms, c.phi), Read(terms.Output)
	c.phi, o.bound = c.constrain(o.from, terms.Output, s.noRaise())
	if c.worthAWrite(s, c.phi) {
		o.value, o.publish = math.Round(c.phi*1000)/1000, true
	} else if o.bound == "" && c.phi != o.from {
		o.bound = BoundDeadband
	}
	o.state = c.state(o, e)
	return o
}

// constrain returns what φ may become if the law asks for next.
func (c *shed) constrain(from, next float64, noRaise string) (phi float64, bound string) {
	if next > from && noRaise != "" {
		next, bound = from, noRaise
	}
	switch {
	case next <= c.spec.Min:
		return c.spec.Min, BoundMin
	case next >= c.spec.Max:
		return c.spec.Max, BoundMax
	}
	return next, bound
}

// worthAWrite says whether φ is far enough from the value in force, has reached a bound, or was never published.
func (c *shed) worthAWrite(s step, phi float64) bool {
	from := s.inForce.Value
	return !s.inForce.published() || math.Abs(phi-from) >= shedStep ||
		phi != from && (phi == c.spec.Min || phi == c.spec.Max)
}

func (c *shed) state(o outcome, e float64) State {
	switch {
	case o.value < o.from:
		return Cutting
	case o.value > o.from:
		return Raising
	case o.value <= c.spec.Min && e > 0:
		return AtMin
	case o.value >= c.spec.Max && o.gates.binds:
		return AtMax
	}
	return Steady
}

// Reserve is how many of limit slots a threshold φ keeps from the least important requests: guard admits those while at
// most φ·limit others are in flight. At small limits that is little. A limit of 7 at φ = 0.4 keeps 4, a limit of 2 at
// φ = 0.6 none; and while all slots are taken, the most important request is refused, too.
func Reserve(limit, threshold float64) int {
	return int(max(0, limit-math.Floor(limit*threshold+1e-9)-1))
}

// SmallLimit is the limit below which a threshold cannot protect anybody well: chance fills so few slots.
const SmallLimit = 20
