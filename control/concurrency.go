package control

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// concurrency is the law of the limit of requests in flight: PID in log form with a Little's-law predictor, or AIMD.
//
// It uses the latency that the present limit will produce rather than the late measurement: with L requests in flight
// and X̂ completions per second the mean becomes L/X̂, so e = ln(X̂·τ/L) is the error of the limit itself, and the dead
// time drops out of the loop. Integral action of gain 1 on e cuts an oversized limit in one step to X̂·τ, however old the
// measurement.
type concurrency struct {
	spec      ConcurrencySpec
	pid       PID
	aimd      AIMD
	floorTest little.FloorTest
	test      little.FloorTest // a fresh one, for a restart

	easing       bool
	arrivals     float64 // in the window before this one, 0: unknown
	smooth       float64 // ln of the limit to publish beside a reflex, NaN before the first
	settle, hold time.Duration
	runaway      time.Time // since when the reflex has run against its ceiling and failed, zero: it does not
	contained    time.Time // when the ceiling was pulled down, zero: it is not
	hangCut      time.Time // when a hang last cut the limit
}

func newConcurrency(s *Spec) *concurrency {
	t, period := s.Tuning, s.Timing.Period.Seconds()
	test := little.FloorTest{
		// increase() sees only samples inside its window, so that W + d after a change a window is clean; the scrape
		// interval on top would cost a whole period more, twice.
		Dwell: s.Timing.Window + s.Timing.PublishDelay, Window: s.Timing.Window, MinWait: s.Timing.PublishDelay,
		Hold: t.FloorTestHold,
	}
	return &concurrency{
		spec:      *s.Concurrency,
		pid:       PID{Kp: *t.ProportionalGain, Ki: t.Gain / period, Kd: *t.DerivativeGain * period},
		aimd:      AIMD{Add: 1, AddShare: t.AIMDIncrease, Cooldown: s.Timing.Settle()},
		floorTest: test, test: test, smooth: math.NaN(), settle: s.Timing.Settle(), hold: t.FloorTestHold,
	}
}

func (c *concurrency) track(now time.Time, before, after float64) { c.aimd.Track(now, before, after) }

func (c *concurrency) lose() {
	c.pid.Lose()
	c.arrivals, c.easing = 0, false
}

func (c *concurrency) restart() {
	c.floorTest = c.test
	c.smooth = math.NaN()
	c.lose()
	c.runaway, c.contained = time.Time{}, time.Time{}
}

func (c *concurrency) describe(l *Loop, t *tick, d *Decision) {
	d.Terms.Law = string(c.spec.Law)
	d.Setpoint = Number(max(t.sp.target(), little.ServiceTimeMargin*t.v.service))
	d.Measured = Number(t.v.mean)
	d.Gates.Occupancy = Number(t.v.occupancy(c.present(l, t)))
}

// present is the value that the plant obeys as far as anybody knows. Where a reflex lives it is the effective limit that
// the guards report. Elsewhere it is what was published last, unless the instances still report another one long
// after (they cannot read the KV, or nothing was ever published): then theirs is true.
func (c *concurrency) present(l *Loop, t *tick) float64 {
	reported, ok := t.v.limit.Value()
	if !ok || reported <= 0 {
		return l.inForce.Value
	}
	if t.v.reflex || !l.published() || l.spec.Mode != Enforce {
		return reported
	}
	if t.now.Sub(l.changed) > c.settle && math.Abs(reported-l.inForce.Value) >= 1 {
		return reported
	}
	return l.inForce.Value
}

// decide runs gates, law and constraints on a good view.
func (c *concurrency) decide(l *Loop, t *tick, d *Decision) {
	v, tuning := t.v, l.spec.Tuning
	from := c.present(l, t)
	d.From = Number(from)
	if v.hang {
		c.decideHang(l, t, d, from)
		return
	}

	c.observeArrivals(v.offered)
	test := c.testFloor(t, from)
	tau := max(t.sp.target(), little.ServiceTimeMargin*test.ServiceTime)
	over := v.overloaded(from, tuning.OverloadAt)
	d.Setpoint = Number(tau)
	d.Gates.Overloaded = over
	d.Gates.Floor, d.Gates.FloorTest = Number(test.Floor), string(test.Phase)
	d.Gates.ServiceTimeSeconds = Number(test.ServiceTime)

	raw := from
	switch {
	case test.Phase == little.Halved:
		raw = test.Limit
	case test.Ended && test.Restore > 0:
		raw = test.Restore
	case c.spec.Law == AIMDLaw:
		raw = c.aimdStep(l, t, d, from)
	default:
		raw = c.pidStep(l, t, d, from)
	}
	d.Raw = Number(raw)

	value, bound := c.constraint(l, v, test).Apply(from, raw)
	d.Value, d.Bound = Number(value), bound
	if v.reflex {
		c.follow(l, d)
	}
	d.Ceiling = Number(c.ceiling(l, t, float64(d.Value), tau, over))
	if d.Publish = c.news(l, d, v); !d.Publish && v.reflex {
		if d.Value != d.From {
			d.Bound = BoundDeadband // too small a difference to be written
		}
		d.Value, d.Ceiling = d.From, Number(l.inForce.Ceiling)
	}
	d.State = c.state(d, test)
}

// follow replaces the law's next value, which starts from a reflex's wandering limit, by a smooth one that starts from
// what is published, with a time constant of two dead times: the reflex is there for everything faster, and its noise of
// 10 to 25 % would be written to the KV several times a minute.
func (c *concurrency) follow(l *Loop, d *Decision) {
	next := math.Log(float64(d.Value))
	d.Bound = ""
	switch {
	case l.published():
		d.From = Number(l.inForce.Value)
		if math.IsNaN(c.smooth) {
			c.smooth = math.Log(l.inForce.Value)
		}
	default:
		d.Terms.Event = "first setting"
		if math.IsNaN(c.smooth) {
			c.smooth = next
		}
	}
	weight := min(1, 0.5*l.spec.Timing.Period.Seconds()/l.spec.Timing.DeadTime().Seconds())
	c.smooth += weight * (next - c.smooth)
	d.Value = Number(math.Round(math.Exp(c.smooth)))
}

// decideHang cuts once a settling time while requests arrive, the limit is full and hardly anything finishes: that is
// no lack of traffic. There is no latency to steer by, so each cut is the largest that is allowed.
func (c *concurrency) decideHang(l *Loop, t *tick, d *Decision, from float64) {
	d.Gates.Overloaded = true
	d.Detail = t.v.detail
	raw := from
	if t.now.Sub(c.hangCut) >= c.settle {
		raw = from * math.Exp(-l.spec.Tuning.CutMax)
	}
	constraint := c.constraint(l, t.v, little.Finding{Floor: c.spec.Min})
	constraint.Deadband = 0
	value, bound := constraint.Apply(from, raw)
	d.Raw, d.Value, d.Bound = Number(raw), Number(value), bound
	d.Terms.Event = "hang"
	d.Ceiling = Number(min(max(l.inForce.Ceiling, value), c.spec.Max))
	d.Publish = value < from
	d.State = Hold
	d.HoldReason = NoData
	if d.Publish {
		c.hangCut = t.now
		d.State, d.HoldReason = Cutting, ""
	}
}

// guardTests is the phase of a floor test that is the guards' own.
const guardTests = "guard"

// testFloor runs the floor test where no guard runs its own, and takes theirs where one does.
func (c *concurrency) testFloor(t *tick, from float64) little.Finding {
	v, floor := t.v, t.sp.floor(t.now)
	if v.reflex {
		return little.Finding{Phase: guardTests, Floor: max(c.spec.Min, floor), ServiceTime: v.service}
	}
	return c.floorTest.Step(t.now, little.Sample{
		Throughput: v.throughput, Mean: v.mean, Refusing: v.refusing,
		Limit: from, Floor: floor, Min: c.spec.Min, Setpoint: t.sp.target(),
	})
}

// pidStep is the default law. It moves ln L by the gain times the predicted error, down only where the mean is above
// the setpoint or much is refused, up only where the limit binds.
func (c *concurrency) pidStep(l *Loop, t *tick, d *Decision, from float64) float64 {
	v, tau := t.v, float64(d.Setpoint)
	e := c.predictedError(l, t, from, tau, float64(d.Gates.ServiceTimeSeconds))
	c.pid.Track(math.Log(from))
	terms, ok := c.pid.Step(l.spec.Timing.Period, e)
	if !ok {
		return from
	}
	d.Terms.Error, d.Terms.P, d.Terms.D = Number(e), Number(terms.P), Number(terms.D+0) // + 0: no negative zero
	d.Terms.I = Number(terms.I - math.Log(from))                                        // the integral's move this period: its level is ln L itself
	raw := math.Exp(terms.Output)
	switch {
	case !d.Gates.Overloaded:
		return from
	case raw < from && (c.easing || !(v.mean > tau || v.refused > l.spec.Tuning.RefusedCut)):
		return from
	}
	return raw
}

// observeArrivals notes whether the load is on its way down. Then throughput falls with the arrivals, not because of the
// limit, and a cut sized by it would leave the service with a limit for the load that has gone.
func (c *concurrency) observeArrivals(offered float64) {
	c.easing = offered < easingShare*c.arrivals
	c.arrivals = offered
}

// easingShare of the arrivals of one period earlier: below it the load is easing. Windows overlap by three quarters, so
// that a load that stops falls by a quarter a period.
const easingShare = 0.9

// predictedError is e = ln(X̂·τ/L). With shedding the queue hovers between the threshold φ and the limit, so that the
// limit counts as L·(φ + (1 − φ)·refused share). While the service is fast and refuses all the same, the throughput says
// only what the limit let through, so the latency's own margin drives the way up: slowly, or, while ŝ stands and the
// limit was cut for nothing, all of it.
func (c *concurrency) predictedError(l *Loop, t *tick, from, tau, service float64) float64 {
	v := t.v
	effective := from * (v.threshold + (1-v.threshold)*v.refused)
	e := math.Log(v.throughput * tau / effective)
	if v.mean > tau {
		return e
	}
	margin := math.Log(tau / v.mean)
	if v.refusing {
		half := 0.5 * l.spec.Timing.Period.Seconds() / l.spec.Timing.DeadTime().Seconds()
		e = max(e, half*margin)
	}
	if service > 0 {
		e = max(e, margin)
	}
	return e
}

// aimdStep is the alternative law: additive increase while binding and healthy, one decrease per settling time, sized
// by Little's law.
func (c *concurrency) aimdStep(l *Loop, t *tick, d *Decision, from float64) float64 {
	tau, over := float64(d.Setpoint), d.Gates.Overloaded
	d.Terms.Error = Number(c.predictedError(l, t, from, tau, float64(d.Gates.ServiceTimeSeconds)))
	raw, event := c.aimd.Step(t.now, from, over && t.v.mean > tau, over && t.v.mean <= tau, t.v.throughput*tau)
	d.Terms.Event = event
	return raw
}

// constraint is what the output passes. A floor test's move is exact: it needs no deadband, and its floor is its own.
func (c *concurrency) constraint(l *Loop, v *view, test little.Finding) Constraint {
	tuning := l.spec.Tuning
	k := Constraint{
		Deadband: max(tuning.Deadband, 4/math.Sqrt(max(v.completed, 1))),
		RaiseMax: tuning.RaiseMax, CutMax: tuning.CutMax,
		Floor: test.Floor, Min: c.spec.Min, Max: c.spec.Max, Whole: true, NeverRise: v.unsure != "",
	}
	if test.Phase == little.Halved || test.Ended && test.Restore > 0 {
		k.Deadband, k.RaiseMax = 0, math.Ln2
	}
	if c.spec.Law == AIMDLaw {
		k.Deadband = 0
	}
	return k
}

func (c *concurrency) state(d *Decision, test little.Finding) State {
	over := d.Gates.Overloaded
	switch {
	case test.ServiceTime > 0:
		return Ineffective
	case d.Value < d.From:
		return Cutting
	case d.Value > d.From:
		return Raising
	case d.Gates.Infeasible:
		return Infeasible
	case over && float64(d.Value) <= c.spec.Min && d.Raw <= d.From:
		return AtMin
	case over && float64(d.Value) >= c.spec.Max && d.Raw >= d.From:
		return AtMax
	}
	return Steady
}

// ceiling contains a reflex that misbehaves and otherwise costs nothing: twice the limit, and never less than three
// times what the service has carried. A reflex that runs against it while the service stays slow is not doing its job:
// the ceiling comes down to the limit and stays there for the hold time.
func (c *concurrency) ceiling(l *Loop, t *tick, limit, tau float64, over bool) float64 {
	v := t.v
	if !v.reflex {
		return limit
	}
	present := l.inForce.Ceiling
	if !c.contained.IsZero() {
		if t.now.Sub(c.contained) < c.hold {
			return min(limit, present)
		}
		c.contained = time.Time{}
	}
	if present > 0 && over && v.mean > tau && v.limit.Or(0) >= 0.85*present {
		if c.runaway.IsZero() {
			c.runaway = t.now
		} else if t.now.Sub(c.runaway) >= c.settle {
			c.runaway, c.contained = time.Time{}, t.now
			return limit
		}
	} else {
		c.runaway = time.Time{}
	}
	ceiling := math.Round(min(c.spec.Max, max(2*limit, 3*t.sp.floor(t.now))))
	if present > 0 && ceiling > present && (v.mean > tau || v.unsure != "") {
		return max(present, limit)
	}
	return ceiling
}

// news decides whether anything moved enough to be written. Where a reflex lives, the effective limit moves by itself
// all the time, and only a large difference to what is published is news.
func (c *concurrency) news(l *Loop, d *Decision, v *view) bool {
	if v.unsure != "" {
		return d.Value < d.From
	}
	if !l.published() {
		return true
	}
	if !v.reflex {
		return moved(float64(d.Value), l.inForce.Value, 0)
	}
	return moved(float64(d.Value), l.inForce.Value, newsStep) || moved(float64(d.Ceiling), l.inForce.Ceiling, newsStep) ||
		moved(float64(d.LatencyTarget), l.inForce.Setpoint, setpointStep)
}

// newsStep is how far, in ln units, a limit that a reflex moves anyway must be off before it is worth a write.
var newsStep = math.Log(1.2)

// implausible checks throughput against Little's law: X̂·mean requests were in flight on average, and there cannot have
// been many more than the limits allow, nor ten times as many as a few samples of them have shown. A counter reset seen
// through two replicas reads as a hundredfold rate.
func implausible(v *view, most float64) string {
	limit, ok := v.limit.Value()
	if !ok || v.hold != "" {
		return ""
	}
	bound := 3 * max(most, limit)
	if v.sampled > 0 {
		bound = min(bound, 10*max(v.sampled, fewInFlight))
	}
	if inFlight := v.throughput * v.mean; inFlight > bound {
		return fmt.Sprintf("completions x mean latency = %s requests in flight, where %s were seen and the limit is %s",
			num(inFlight), num(v.sampled), num(limit))
	}
	return ""
}

// fewInFlight is a number that a handful of samples can miss altogether.
const fewInFlight = 5
