package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// Loop steers one knob of one service: what is common to every knob is here, the arithmetic of each is its law. It is
// not safe for concurrent use.
type Loop struct {
	knob Knob
	spec *Spec
	law  law

	inForce InForce
	changed time.Time // when the value in force last changed
	fresh   bool      // restarted: hold one period
	order   *Order    // of a person; nil: none
}

// law turns a good snapshot into the next value of one knob.
type law interface {
	// decide completes d: what was in force, what the law asked for, what became of it, and whether it is to be written.
	decide(l *Loop, t *tick, d *Decision)
	// describe fills in the setpoint and the measurement of this knob, as far as they are known.
	describe(l *Loop, t *tick, d *Decision)
	// track learns that the value in force went from before to after.
	track(now time.Time, before, after float64)
	// lose forgets the last error: a sample is missing, and the jump over the gap must be no kick.
	lose()
	// restart forgets everything that belongs to the present run of the loop.
	restart()
}

// tick is one period of one service as its loops see it, in their order: concurrency acts first, shed decides which
// requests it refuses, rate follows sustained capacity. One signal never drives two knobs at once.
type tick struct {
	now time.Time
	v   *view
	sp  *Setpoint

	// concurrency is the decision of the concurrency loop, nil where that knob is not steered.
	concurrency *Decision
}

func newLoop(s *Spec, knob Knob, fallback float64, law law) *Loop {
	return &Loop{knob: knob, spec: s, law: law, inForce: InForce{Value: fallback}, fresh: true}
}

// published says whether the value in force came from a Setting.
func (l *Loop) published() bool { return l.inForce.Revision > 0 }

// restart begins anew from f: bumpless, with one period of holding.
func (l *Loop) restart(now time.Time, f InForce) {
	l.inForce, l.changed, l.fresh = f, now, true
	l.law.restart()
}

// track takes note of the value in force after the actuator ran.
func (l *Loop) track(now time.Time, f InForce) {
	l.law.track(now, l.inForce.Value, f.Value)
	if f.Value != l.inForce.Value {
		l.changed = now
	}
	l.inForce = f
}

// step decides.
func (l *Loop) step(t *tick) Decision {
	d := l.report(t)
	l.law.describe(l, t, &d)
	if l.order.active(t.now) {
		l.obey(t, &d)
		d.Reason = explainOrder(d, l.order.Expires)
		return d
	}
	switch {
	case t.v.hold != "":
		l.hold(&d, t.v.hold, t.v.detail)
	case l.fresh:
		l.fresh = false
		l.hold(&d, Starting, "holding one period from the value in force")
	case l.spec.Mode == Observe:
		d.State = Steady
	default:
		l.law.decide(l, t, &d)
		l.doubt(t, &d)
	}
	d.Reason = explain(d, l.spec.SLO)
	return d
}

// doubt marks a decision that was made while something was unknown. It renews no lease.
func (l *Loop) doubt(t *tick, d *Decision) {
	if d.State == Hold {
		return
	}
	d.Renew = t.v.unsure == ""
	if t.v.unsure != "" {
		d.HoldReason, d.Detail = t.v.unsure, t.v.unsureDetail
		if d.Bound == BoundTighten {
			d.State = Hold
		}
	}
}

// report is the part of a Decision that holds whatever comes of it.
func (l *Loop) report(t *tick) Decision {
	v, sp := t.v, t.sp
	nan := Number(math.NaN())
	value := Number(l.inForce.Value)
	d := Decision{
		Service: l.spec.Service, Knob: l.knob, Mode: l.spec.Mode, At: t.now,
		Setpoint: nan, Measured: nan, LatencyTarget: Number(sp.target()),
		From: value, Raw: nan, Value: value, Ceiling: Number(l.inForce.Ceiling),
		Terms: Terms{Error: nan, P: nan, I: nan, D: nan},
		Gates: Gates{
			Occupancy: Number(v.occupancy(v.limit.Or(math.NaN()))), Binding: Number(v.binding),
			Floor: Number(sp.floor(t.now)), FloorTest: string(little.Idle), OwnLatencySeconds: Number(sp.own.Seconds()),
			ServiceTimeSeconds: Number(v.service), Infeasible: sp.infeasible(), BurnSteps: sp.burnSteps(),
		},
		Inputs: Inputs{
			AgeSeconds: nan, TookSeconds: Number(v.took.Seconds()), WindowSeconds: Number(v.window.Seconds()),
			Requests: Number(v.offered), Throughput: Number(v.throughput), RefusedShare: Number(v.refused),
			Quantile: Number(v.quantile.Or(math.NaN())), Censored: v.censored,
			SlowRatio: Number(v.slow.Or(math.NaN())), FailedRatio: Number(v.failed.Or(math.NaN())),
			BadRatio: Number(v.badRatio(l.spec.SLO)),
			Burn5m:   Number(v.burn[0].Short.Or(math.NaN())), Burn1h: Number(v.burn[0].Long.Or(math.NaN())),
			EffectiveLimit: Number(v.limit.Or(math.NaN())),
			Instances:      v.total, Applied: l.applied(v), Outliers: v.outliers,
		},
	}
	if d.Gates.Floor == 0 {
		d.Gates.Floor = nan // nothing was carried yet
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

// hold changes nothing, and says why.
func (l *Loop) hold(d *Decision, why Reason, detail string) {
	l.law.lose()
	d.State, d.HoldReason, d.Detail = Hold, why, detail
}

// moved says whether a and b differ by more than step in ln units.
func moved(a, b, step float64) bool {
	if a <= 0 || b <= 0 {
		return a != b
	}
	return math.Abs(math.Log(a/b)) > step
}
