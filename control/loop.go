package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// Loop steers one knob of one service: the concurrency limit, by PID in log form with a Little's-law predictor, or by
// AIMD. It is not safe for concurrent use.
//
// The law uses the latency that the present limit will produce rather than the late measurement: with L requests in
// flight and X̂ completions per second the mean becomes L/X̂, so e = ln(X̂·τ/L) is the error of the limit itself, and the
// dead time drops out of the loop. Integral action of gain 1 on e cuts an oversized limit in one step to X̂·τ, however old
// the measurement.
type Loop struct {
	service string
	mode    Mode
	slo     SLO
	timing  Timing
	spec    ConcurrencySpec
	tuning  Tuning

	pid       PID
	aimd      AIMD
	floorTest little.FloorTest

	inForce   InForce
	published bool      // inForce came from a Setting
	changed   time.Time // when the value in force last changed
	lastTick  time.Time
	fresh     bool      // restarted: hold one period
	runaway   time.Time // since when the reflex has run against its ceiling and failed, zero: it does not
	contained time.Time // when the ceiling was pulled down, zero: it is not
}

func newLoop(s Spec) *Loop {
	c, t := *s.Concurrency, s.Tuning
	period := s.Timing.Period.Seconds()
	return &Loop{
		service: s.Service, mode: s.Mode, slo: s.SLO, timing: s.Timing, spec: c, tuning: t,
		pid:       PID{Kp: *t.ProportionalGain, Ki: t.Gain / period, Kd: *t.DerivativeGain * period},
		aimd:      AIMD{Add: 1, AddShare: t.AIMDIncrease, Cooldown: s.Timing.Settle()},
		floorTest: newFloorTest(s.Timing, t.FloorTestHold),
		inForce:   InForce{Value: c.Fallback},
		fresh:     true,
	}
}

func newFloorTest(t Timing, hold time.Duration) little.FloorTest {
	return little.FloorTest{
		// increase() sees only samples inside its window, so that W + d after a change a window is clean; the scrape
		// interval on top would cost a whole period more, twice.
		Dwell: t.Window + t.PublishDelay, Window: t.Window, MinWait: t.PublishDelay, Hold: hold,
	}
}

// restart begins anew from f: bumpless, with one period of holding.
func (l *Loop) restart(now time.Time, f InForce) {
	l.inForce, l.published, l.changed = f, true, now
	l.fresh = true
	l.floorTest = newFloorTest(l.timing, l.tuning.FloorTestHold)
	l.pid.Lose()
	l.runaway, l.contained = time.Time{}, time.Time{}
}

// track takes note of the value in force after the actuator ran.
func (l *Loop) track(now time.Time, f InForce) {
	l.aimd.Track(now, l.inForce.Value, f.Value)
	if f.Value != l.inForce.Value {
		l.changed = now
	}
	l.inForce, l.published = f, true
}

// present is the value that the plant obeys as far as anybody knows. Where a reflex lives it is the effective limit that
// the guards report. Elsewhere it is what was published last, unless the instances still report another one long
// after (they cannot read the KV, or nothing was ever published): then theirs is true.
func (l *Loop) present(now time.Time, v *view) float64 {
	reported, ok := v.limit.Value()
	if !ok || reported <= 0 {
		return l.inForce.Value
	}
	if v.reflex || !l.published || l.mode != Enforce {
		return reported
	}
	if now.Sub(l.changed) > l.timing.Settle() && math.Abs(reported-l.inForce.Value) >= 1 {
		return reported
	}
	return l.inForce.Value
}

// step decides. The Setpoint has not yet seen v; a hold must not teach it anything.
func (l *Loop) step(now time.Time, v *view, sp *Setpoint) Decision {
	gap := now.Sub(l.lastTick)
	first := l.lastTick.IsZero()
	if !first && gap <= 0 {
		return l.hold(now, v, sp, Clock, "the clock did not advance since the last decision")
	}
	l.lastTick = now
	if v.hold != "" {
		return l.hold(now, v, sp, v.hold, v.detail)
	}
	if why := l.implausible(v); why != "" {
		return l.hold(now, v, sp, Implausible, why)
	}
	if longGap := max(5*l.timing.Period, l.timing.Settle()); !first && gap > longGap {
		l.restart(now, l.inForce)
	}
	if v.unsure == "" {
		sp.observe(now, v)
	}
	if l.fresh {
		l.fresh = false
		return l.hold(now, v, sp, Starting, "holding one period from the value in force")
	}
	if l.mode == Observe {
		d := l.report(now, v, sp)
		d.State, d.Gates.FloorTest = Steady, string(little.Idle)
		d.Reason = explain(d, l.slo)
		return d
	}
	return l.decide(now, v, sp)
}

// implausible checks throughput against Little's law: X̂·mean requests were in flight on average, and there cannot have
// been many more than the limit allows. A counter reset seen through two replicas reads as a hundredfold rate.
func (l *Loop) implausible(v *view) string {
	limit, ok := v.limit.Value()
	if !ok {
		return ""
	}
	most := 3 * max(limit, l.inForce.Value, l.spec.Max)
	if inFlight := v.throughput * v.mean; inFlight > most {
		return "completions × mean latency = " + num(inFlight) + " requests in flight, where the limits allow " + num(most/3)
	}
	return ""
}

// decide runs gates, law and constraints on a good view.
func (l *Loop) decide(now time.Time, v *view, sp *Setpoint) Decision {
	d := l.report(now, v, sp)
	from := l.present(now, v)
	d.From = Number(from)

	over := v.overloaded(from, l.tuning.OverloadAt)
	test := l.testFloor(now, v, sp, from)
	tau := max(sp.inForce, little.ServiceTimeMargin*test.ServiceTime)
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
	case l.spec.Law == AIMDLaw:
		raw = l.aimdStep(now, &d, v, from, over)
	default:
		raw = l.pidStep(&d, v, from, over)
	}
	d.Raw = Number(raw)

	c := l.constraint(v, test)
	value, bound := c.Apply(from, raw)
	d.Value, d.Bound = Number(value), bound
	d.Ceiling = Number(l.ceiling(now, v, sp, value, tau, over))
	if v.reflex {
		d.From = Number(l.inForce.Value)
	}
	if d.Publish = l.news(&d, v); !d.Publish && v.reflex {
		// The guards' own motion between their bounds is not a decision of governor's.
		d.Value, d.Ceiling = d.From, Number(l.inForce.Ceiling)
	}
	d.State = l.state(&d, over, test)
	d.Renew = v.unsure == ""
	if v.unsure != "" {
		d.HoldReason, d.Detail = v.unsure, v.unsureDetail
		if bound == BoundTighten {
			d.State = Hold
		}
	}
	d.Reason = explain(d, l.slo)
	return d
}

// testFloor runs the floor test where no guard runs its own, and takes theirs where one does.
func (l *Loop) testFloor(now time.Time, v *view, sp *Setpoint, from float64) little.Finding {
	floor := sp.floor(now)
	if v.reflex {
		return little.Finding{Phase: "guard", Floor: max(l.spec.Min, floor), ServiceTime: v.service}
	}
	return l.floorTest.Step(now, little.Sample{
		Throughput: v.throughput, Mean: v.mean, Refusing: v.refusing,
		Limit: from, Floor: floor, Min: l.spec.Min, Setpoint: sp.inForce,
	})
}

// pidStep is the default law. It moves ln L by the gain times the predicted error, down only where the mean is above
// the setpoint or much is refused, up only where the limit binds.
func (l *Loop) pidStep(d *Decision, v *view, from float64, over bool) float64 {
	d.Terms.Law = string(PIDLaw)
	tau := float64(d.Setpoint)
	e := l.predictedError(v, from, tau, float64(d.Gates.ServiceTimeSeconds))
	l.pid.Track(math.Log(from))
	t, ok := l.pid.Step(l.timing.Period, e)
	if !ok {
		return from
	}
	d.Terms.Error, d.Terms.P, d.Terms.D = Number(e), Number(t.P), Number(t.D)
	d.Terms.I = Number(t.I - math.Log(from)) // the integral's move this period: its level is ln L itself
	raw := math.Exp(t.Output)
	switch {
	case !over:
		return from
	case raw < from && !(v.mean > tau || v.refused > l.tuning.RefusedCut):
		return from
	}
	return raw
}

// predictedError is e = ln(X̂·τ/L). While the service is fast and refuses all the same, the throughput says only what
// the limit let through, so the latency's own margin drives the way up: slowly, or, while ŝ stands and the limit was cut
// for nothing, all of it.
func (l *Loop) predictedError(v *view, from, tau, service float64) float64 {
	e := math.Log(v.throughput * tau / from)
	if v.mean > tau {
		return e
	}
	margin := math.Log(tau / v.mean)
	if v.refusing {
		half := 0.5 * l.timing.Period.Seconds() / l.timing.DeadTime().Seconds()
		e = max(e, half*margin)
	}
	if service > 0 {
		e = max(e, margin)
	}
	return e
}

// aimdStep is the alternative law: additive increase while binding and healthy, one decrease per settling time, sized
// by Little's law.
func (l *Loop) aimdStep(now time.Time, d *Decision, v *view, from float64, over bool) float64 {
	d.Terms.Law = string(AIMDLaw)
	tau := float64(d.Setpoint)
	d.Terms.Error = Number(l.predictedError(v, from, tau, float64(d.Gates.ServiceTimeSeconds)))
	raw, event := l.aimd.Step(now, from, over && v.mean > tau, over && v.mean <= tau, v.throughput*tau)
	d.Terms.Event = event
	return raw
}

// constraint is what the output passes. A floor test's move is exact: it needs no deadband, and its floor is its own.
func (l *Loop) constraint(v *view, test little.Finding) Constraint {
	c := Constraint{
		Deadband: max(l.tuning.Deadband, 4/math.Sqrt(max(v.completed, 1))),
		RaiseMax: l.tuning.RaiseMax, CutMax: l.tuning.CutMax,
		Floor: test.Floor, Min: l.spec.Min, Max: l.spec.Max, Whole: true, NeverRise: v.unsure != "",
	}
	if test.Phase == little.Halved || test.Ended && test.Restore > 0 {
		c.Deadband, c.RaiseMax = 0, math.Ln2
	}
	if l.spec.Law == AIMDLaw {
		c.Deadband = 0
	}
	return c
}

func (l *Loop) state(d *Decision, over bool, test little.Finding) State {
	switch {
	case test.ServiceTime > 0:
		return Ineffective
	case d.Value < d.From:
		return Cutting
	case d.Value > d.From:
		return Raising
	case d.Gates.Infeasible:
		return Infeasible
	case over && float64(d.Value) <= l.spec.Min && d.Raw <= d.From:
		return AtMin
	case over && float64(d.Value) >= l.spec.Max && d.Raw >= d.From:
		return AtMax
	}
	return Steady
}

// ceiling contains a reflex that misbehaves and otherwise costs nothing: twice the limit, and never less than three
// times what the service has carried. A reflex that runs against it while the service stays slow is not doing its job:
// the ceiling comes down to the limit and stays there for the hold time.
func (l *Loop) ceiling(now time.Time, v *view, sp *Setpoint, limit, tau float64, over bool) float64 {
	if !v.reflex {
		return limit
	}
	present := l.inForce.Ceiling
	if !l.contained.IsZero() {
		if now.Sub(l.contained) < l.tuning.FloorTestHold {
			return min(limit, present)
		}
		l.contained = time.Time{}
	}
	effective := v.limit.Or(0)
	if present > 0 && over && v.mean > tau && effective >= 0.85*present {
		if l.runaway.IsZero() {
			l.runaway = now
		} else if now.Sub(l.runaway) >= l.timing.Settle() {
			l.runaway, l.contained = time.Time{}, now
			return limit
		}
	} else {
		l.runaway = time.Time{}
	}
	c := math.Round(min(l.spec.Max, max(2*limit, 3*sp.floor(now))))
	if present > 0 && c > present && (v.mean > tau || v.unsure != "") {
		return max(present, limit)
	}
	return c
}

// news decides whether anything moved enough to be written. Where a reflex lives, the effective limit moves by itself
// all the time, and only a large difference to what is published is news.
func (l *Loop) news(d *Decision, v *view) bool {
	if v.unsure != "" {
		return d.Value < d.From
	}
	if !l.published {
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

// moved says whether a and b differ by more than step in ln units.
func moved(a, b, step float64) bool {
	if a <= 0 || b <= 0 {
		return a != b
	}
	return math.Abs(math.Log(a/b)) > step
}

// report is the part of a Decision that holds whatever comes of it.
func (l *Loop) report(now time.Time, v *view, sp *Setpoint) Decision {
	nan := Number(math.NaN())
	value := Number(l.inForce.Value)
	d := Decision{
		Service: l.service, Knob: KnobConcurrency, Mode: l.mode, At: now,
		Setpoint:      Number(max(sp.inForce, little.ServiceTimeMargin*v.service)),
		LatencyTarget: Number(sp.inForce), Measured: Number(v.mean),
		From: value, Raw: nan, Value: value, Ceiling: Number(l.inForce.Ceiling),
		Terms: Terms{Law: string(l.spec.Law), Error: nan, P: nan, I: nan, D: nan},
		Gates: Gates{
			Occupancy: Number(v.occupancy(l.present(now, v))), Binding: Number(v.binding),
			Floor: Number(sp.floor(now)), OwnLatencySeconds: Number(sp.own.Seconds()),
			ServiceTimeSeconds: Number(v.service), Infeasible: sp.infeasible(),
		},
		Inputs: Inputs{
			AgeSeconds: nan, TookSeconds: Number(v.took.Seconds()), WindowSeconds: Number(v.window.Seconds()),
			Requests: Number(v.offered), Throughput: Number(v.throughput), RefusedShare: Number(v.refused),
			Quantile: Number(v.quantile.Or(math.NaN())), Censored: v.censored,
			SlowRatio: Number(v.slow.Or(math.NaN())), FailedRatio: Number(v.failed.Or(math.NaN())),
			BadRatio: Number(v.badRatio(l.slo)), EffectiveLimit: Number(v.limit.Or(math.NaN())),
			Instances: v.total, Applied: l.applied(v), Outliers: v.outliers,
		},
	}
	if v.age >= 0 {
		d.Inputs.AgeSeconds = Number(v.age.Seconds())
	}
	return d
}

// applied counts the instances that report the published revision or a later one; -1 where none reports any.
func (l *Loop) applied(v *view) int {
	if len(v.revisions) == 0 || l.inForce.Revision == 0 {
		return -1
	}
	n := 0
	for _, r := range v.revisions {
		if r >= float64(l.inForce.Revision) {
			n++
		}
	}
	return n
}

// hold changes nothing, and says why. The controller forgets its last error, so that the jump over the gap is no kick.
func (l *Loop) hold(now time.Time, v *view, sp *Setpoint, why Reason, detail string) Decision {
	l.pid.Lose()
	d := l.report(now, v, sp)
	d.State, d.HoldReason, d.Detail = Hold, why, detail
	d.Gates.FloorTest = "idle"
	d.Reason = explain(d, l.slo)
	return d
}
