package control

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Loop steers one knob of one service. It holds what all knobs have in common; the arithmetic of each knob is its law.
// It is not safe for concurrent use.
type Loop struct {
	knob Knob
	spec *Spec
	law  law

	inForce InForce
	changed time.Time // when the value in force last changed
	fresh   bool      // restarted: hold one period
	edited  time.Time // when a person last edited the value; zero: never
	edit    string    // what the edit did, until a decision has reported it
	order   *Order    // from an operator; nil: none
}

// law is the arithmetic of one knob. It knows nothing of orders, modes or how a decision is reported.
type law interface {
	// rest returns the outcome of a step that moves nothing: the setpoint and the findings, as far as they are known.
	rest(s step) outcome
	// decide returns the outcome of a step on a valid view.
	decide(s step) outcome
	// track notes that the value in force changed from before to after.
	track(now time.Time, before, after float64)
	// lose forgets the last error. It is called when a sample is missing, so that the jump across the gap gives no
	// derivative kick.
	lose()
	// restart forgets everything that belongs to the current run of the loop.
	restart()
	// overrule ends whatever the law was trying out: a person sets the value.
	overrule()
}

// tick is one period of one service, shared by all its loops.
type tick struct {
	now    time.Time
	v      *view
	target *latencyTarget

	// concurrency is the limit that the concurrency loop wants in force, missing if that knob is not steered. The knobs
	// act in order: concurrency first, then shed decides which requests that limit refuses, then rate follows the
	// sustained capacity. One signal never drives two knobs at once.
	concurrency Reading

	// long is how many requests in flight, per instance, are so long that the laws judge the others without them.
	long float64

	notObeyed  bool   // the instances have had far more in flight than their limit for a settling time
	infeasible string // the quantity that leaves no room below the SLO: one of the causes, "" if there is room
	// culprit is the way from the service to the one that explains what it suffers, itself first; nil: none is known.
	culprit []string
}

// step is a tick from the point of view of one knob's law.
type step struct {
	*tick
	spec    *Spec
	inForce InForce
	changed time.Time // when the value in force last changed
	edited  time.Time // when a person last edited it; zero: never
}

// editedWithin says whether a person edited the value less than d ago.
func (s step) editedWithin(d time.Duration) bool {
	return !s.edited.IsZero() && s.now.Sub(s.edited) < d
}

// outcome is the result of a step. A Decision is assembled from it in one place.
type outcome struct {
	state  State
	hold   Reason // why nothing was decided, or why the step could only tighten
	detail string
	event  string

	setpoint, measured Reading
	gates              found
	terms              Terms

	from    float64 // the value the step starts from
	raw     Reading // what the law asked for, before any constraint
	bound   string  // the constraint that shaped the value
	value   float64
	ceiling float64
	publish bool // value, ceiling or target moved enough to be written
	renew   bool // the lease may be renewed
}

// noRaise names the constraint that forbids a raise in this step, "" if none does.
func (s step) noRaise() string {
	switch {
	case s.v.unsure != "":
		return BoundTighten
	case s.notObeyed:
		return BoundObey
	case s.v.violates(s.spec.SLO):
		return BoundSLO
	}
	return ""
}

// found holds the findings of a law's gates.
type found struct {
	binds       bool
	occupancy   Reading
	floor       float64 // requests in flight, 0: none
	floorTest   string
	serviceTime float64   // ŝ in seconds, 0: none stands
	serviceAt   time.Time // when it was found here; zero: a guard found it
}

// rest is the outcome of a step that moves nothing, before the law adds what it knows.
func (s step) rest(law Law) outcome {
	v := s.v
	return outcome{
		terms: termsOf(law),
		gates: found{
			occupancy: v.occupancy(v.limit.Float()), floor: s.target.floor(s.now, s.v), floorTest: FloorTestIdle,
			serviceTime: v.serviceTime,
		},
		from: s.inForce.Value, value: s.inForce.Value, ceiling: s.inForce.Ceiling,
	}
}

// held turns o, the outcome of a step that moves nothing, into a hold.
func (o outcome) held(why Reason, detail string) outcome {
	o.state, o.hold, o.detail = Hold, why, detail
	return o
}

// termsOf are the terms of a law that has not run.
func termsOf(law Law) Terms {
	t := NewDecision("", "").Terms
	t.Law = law
	return t
}

// pidTerms are the terms of a PID step whose integral stood at level before the step. That level is the knob's value
// itself, so the integral's contribution is its move.
func pidTerms(e float64, t PIDTerms, level float64) Terms {
	return Terms{
		Law: PIDLaw, Error: Number(e), P: Number(t.P), I: Number(t.I - level), D: Number(t.D + 0), // + 0: no negative zero
	}
}

func newLoop(s *Spec, knob Knob, fallback float64, law law) *Loop {
	return &Loop{knob: knob, spec: s, law: law, inForce: InForce{Value: fallback}, fresh: true}
}

// published says whether the value in force came from a Setting.
func (f InForce) published() bool { return f.Revision > 0 }

// restart starts over from f: bumpless, and holding for one period.
func (l *Loop) restart(now time.Time, f InForce) {
	l.inForce, l.changed, l.fresh = f, now, true
	l.law.restart()
}

// track records the value in force after the actuator ran.
func (l *Loop) track(now time.Time, f InForce) {
	l.law.track(now, l.inForce.Value, f.Value)
	if f.Value != l.inForce.Value {
		l.changed = now
	}
	l.inForce = f
}

// step decides.
func (l *Loop) step(t *tick) Decision {
	s := step{tick: t, spec: l.spec, inForce: l.inForce, changed: l.changed, edited: l.edited}
	by := l.edit
	l.edit = ""
	if l.order.active(t.now) {
		return l.decision(s, l.obey(s))
	}
	o := l.act(s)
	if by != "" {
		o.event, o.detail = EventEdited, strings.Join(slices.DeleteFunc([]string{by, o.detail}, isEmpty), "; ")
	}
	return l.decision(s, o)
}

func isEmpty(s string) bool { return s == "" }

// adopt continues from a value that a person has put into force.
func (l *Loop) adopt(now time.Time, f InForce) {
	before := l.inForce.Value
	l.restart(now, f)
	l.edited = now
	l.edit = "edited by hand from " + l.knob.Format(before) + " to " + l.knob.Format(f.Value)
	if c, ok := l.law.(*concurrency); ok && f.Value < before {
		c.contain(now)
	}
}

// act is a step under automatic control.
func (l *Loop) act(s step) outcome {
	switch {
	case l.knob == KnobRetry && l.spec.Mode != Observe:
		return l.law.decide(s)
	case s.v.hold != "":
		l.law.lose()
		return l.law.rest(s).held(s.v.hold, s.v.detail)
	case l.fresh:
		l.fresh = false
		l.law.lose()
		return l.law.rest(s).held(Starting, "holding one period from the value in force")
	case l.spec.Mode == Observe:
		o := l.law.rest(s)
		o.state = Steady
		return o
	}
	o := l.law.decide(s)
	switch {
	case o.state == Hold:
	case s.v.unsure == "":
		o.renew = true
	default: // something was unknown: do not renew the lease
		o.hold, o.detail = s.v.unsure, s.v.unsureDetail
		if o.bound == BoundTighten {
			o.state = Hold
		}
	}
	return o
}

// decision assembles the Decision from the step and its outcome.
func (l *Loop) decision(s step, o outcome) Decision {
	v, target := s.v, s.target
	d := NewDecision(l.spec.Service, l.knob)
	d.Mode, d.At = l.spec.Mode, s.now
	d.State, d.HoldReason, d.Detail = o.state, o.hold, o.detail
	d.Setpoint, d.Measured, d.LatencyTarget = o.setpoint.Number(), o.measured.Number(), Number(target.seconds())
	d.From, d.Raw, d.Value = Number(o.from), o.raw.Number(), Number(o.value)
	if o.ceiling > 0 { // else the knob has none
		d.Ceiling = Number(o.ceiling)
	}
	d.Bound, d.Publish, d.Renew = o.bound, o.publish, o.renew
	d.Terms = o.terms
	d.Learned = target.learned(s.now)
	if o.gates.serviceTime > 0 {
		d.Learned.ServiceTime = estimate(s.now, o.gates.serviceTime, o.gates.serviceAt, 1)
	}
	d.Terms.Event = o.event
	d.Inputs = Inputs{
		AgeSeconds: v.age.Number(), TookSeconds: Number(v.took.Seconds()), WindowSeconds: Number(v.window.Seconds()),
		Requests: v.offered.Number(), Throughput: v.throughput.Number(), RefusedShare: v.refused.Number(),
		RefusedBy: RefusedBy{
			Concurrency: v.limitRefused.Less(v.shedRefused).Number(), Shed: v.shedRefused.Number(),
			Rate: v.rateRefused.Number(), Callee: v.calleeRefused.Number(), Share: v.shareRefused.Number(),
			Roof: v.roofRefused.Number(), Endless: v.endlessOver.Number(),
		},
		Quantile: v.quantile.Number(), Censored: v.censored,
		SlowRatio: v.slow.Number(), FailedRatio: v.failed.Number(), BadRatio: v.badRatio(l.spec.SLO).Number(),
		Burn5m: v.burn[0].Short.Number(), Burn1h: v.burn[0].Long.Number(),
		EffectiveLimit: v.limit.Number(), LongInFlight: Number(s.long), Instances: v.total, Arrivals: v.arrivals,
		Applied: applied(v.revisions, s.inForce.Revision), Outliers: v.outliers,
		WaitedSeconds: v.whole().Less(v.mean).Number(), Dependencies: v.dependencies,
	}
	if n := len(s.culprit); n > 0 {
		d.Inputs.Culprit, d.Inputs.CulpritVia = s.culprit[n-1], s.culprit[1:max(1, n-1)]
	}
	if to, ok := l.knob.Callee(); ok {
		d.call(v.dependency(to), s.inForce.Revision)
	}
	d.Gates = Gates{
		Binds: o.gates.binds, Occupancy: o.gates.occupancy.Number(), BindingShare: v.binding.Number(),
		Floor: d.Gates.Floor, FloorTest: o.gates.floorTest, OwnLatencySeconds: Number(target.own.Seconds()),
		ServiceTimeSeconds: Number(o.gates.serviceTime), Infeasible: s.infeasible != "", InfeasibleBy: s.infeasible, BurnSteps: target.burnSteps(),
	}
	if o.gates.floor > 0 { // otherwise nothing has been carried yet
		d.Gates.Floor = Number(o.gates.floor)
	}
	d.Reason = explain(d, l.spec.SLO, l.order)
	return d
}

// call makes d a decision about the calls to one dependency; nil: nothing is known of it.
func (d *Decision) call(dep *Calls, revision uint64) {
	d.LatencyTarget = d.Value
	d.Inputs.Dependencies, d.Inputs.Applied = nil, -1
	if dep != nil {
		d.Inputs.Dependencies = []Calls{*dep}
		d.Inputs.Applied = applied(dep.revisions, revision)
		d.Inputs.Instances = dep.Instances
	}
}

// applied counts the instances that report this revision or a later one; -1 if none reports any.
func applied(revisions []float64, revision uint64) int {
	if len(revisions) == 0 || revision == 0 {
		return -1
	}
	n := 0
	for _, r := range revisions {
		if r >= float64(revision) {
			n++
		}
	}
	return n
}

// moved says whether a and b differ by more than step in ln units.
func moved(a, b, step float64) bool {
	if a <= 0 || b <= 0 {
		return a != b
	}
	return math.Abs(math.Log(a/b)) > step
}
