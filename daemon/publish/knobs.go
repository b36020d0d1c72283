package publish

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// Knobs lists the knobs of a service that governor steers, in the order in which they act. Those of its calls come last:
// each has a Setting of its own.
func Knobs(spec control.Spec) []control.Knob {
	var knobs []control.Knob
	if spec.Concurrency != nil {
		knobs = append(knobs, control.KnobConcurrency)
	}
	if spec.Shed != nil {
		knobs = append(knobs, control.KnobShed)
	}
	if spec.Rate != nil {
		knobs = append(knobs, control.KnobRate)
	}
	if spec.Retry != nil {
		knobs = append(knobs, control.KnobRetry)
	}
	for _, c := range spec.Calls {
		knobs = append(knobs, control.KnobCall(c.To))
	}
	return knobs
}

// InForce returns the value that a Setting has in force for a knob. It returns false if there is no Setting, or if it
// lacks the knob; the loop then knows best where it starts.
func InForce(knob control.Knob, s *actuators.Setting) (control.InForce, bool) {
	if to, ok := knob.Callee(); ok || s != nil && s.Callee != "" {
		if s == nil || s.Callee != to || s.Concurrency == nil {
			return control.InForce{}, false
		}
		return control.InForce{Value: s.Concurrency.LatencyTargetSeconds, Revision: s.Revision}, true
	}
	switch {
	case s == nil:
	case knob == control.KnobConcurrency && s.Concurrency != nil:
		c := s.Concurrency
		return control.InForce{
			Value: float64(c.Limit), Ceiling: float64(c.Ceiling), LatencyTarget: c.LatencyTargetSeconds, Revision: s.Revision,
		}, true
	case knob == control.KnobShed && s.Shed != nil:
		return control.InForce{Value: s.Shed.Threshold, Revision: s.Revision}, true
	case knob == control.KnobRate && s.Rate != nil:
		return control.InForce{Value: s.Rate.PerSecond, Revision: s.Revision}, true
	case knob == control.KnobRetry && s.Retry != nil:
		return control.InForce{Value: s.Retry.BudgetRatio, Revision: s.Revision}, true
	}
	return control.InForce{}, false
}

// ByHand is the Setting that a person has put in force by editing before. Lowering a limit lowers the ceiling with it,
// unless the edit says otherwise: the guards' reflex goes up to the ceiling.
func ByHand(before *actuators.Setting, edited actuators.Setting) actuators.Setting {
	if before == nil || before.Concurrency == nil || edited.Concurrency == nil {
		return edited
	}
	c := *edited.Concurrency
	if c.Limit < before.Concurrency.Limit && c.Ceiling == before.Concurrency.Ceiling {
		c.Ceiling = c.Limit
	}
	edited.Concurrency = &c
	return edited
}

// Order is an order of a person as a loop obeys it; nil: none.
func Order(o *actuators.Order) *control.Order {
	if o == nil {
		return nil
	}
	why := o.Actor + ": " + o.Reason
	if o.ExpiresAt.IsZero() {
		why = "kill switch, " + why
	}
	state := control.Frozen
	if o.Kind == actuators.Override {
		state = control.Override
	}
	return &control.Order{State: state, Value: o.Value, Why: why, Expires: o.ExpiresAt}
}

// put writes one knob into next: the values of the decision if it asks for that, else the values last in force. A knob
// that is not in force yet starts with the values of its decision in either case.
func (l Last) put(next *actuators.Setting, spec control.Spec, d control.Decision) error {
	b := spec.Bounds(d.Knob)
	value, ceiling, target := d.Value, d.Ceiling, d.LatencyTarget
	if f, ok := InForce(d.Knob, l.Setting); ok && !d.Publish {
		value, ceiling, target = control.Number(f.Value), control.Number(f.Ceiling), control.Number(f.LatencyTarget)
	}
	if !value.Known() {
		return fmt.Errorf("the decision has no finite value (%v)", float64(value))
	}
	bounded := min(max(float64(value), b.Min), b.Max)
	if c := spec.Call(d.Knob); c != nil {
		next.Concurrency = call(*c, bounded)
		return nil
	}

	switch d.Knob {
	case control.KnobConcurrency:
		if !target.Known() {
			return fmt.Errorf("the decision has no finite latency target (%v)", float64(target))
		}
		if !ceiling.Known() {
			ceiling = value
		}
		c := actuators.Concurrency{Min: int(math.Ceil(b.Min)), Max: int(math.Floor(b.Max))}
		clamp := func(x float64, lo int) int { return int(min(max(x, float64(lo)), float64(c.Max))) }
		c.Limit = clamp(math.Round(bounded), c.Min)
		c.Ceiling = clamp(math.Ceil(float64(ceiling)), c.Limit)
		c.Fallback = clamp(math.Round(b.Fallback), c.Min)
		c.LatencyTargetSeconds = float64(target)
		next.Concurrency = &c
	case control.KnobShed:
		next.Shed = &actuators.Shed{Threshold: bounded, Fallback: b.Fallback, Min: b.Min, Max: b.Max}
	case control.KnobRate:
		next.Rate = &actuators.Rate{
			PerSecond: bounded, Burst: control.Burst(bounded), Instances: l.instances(d), Borrow: l.borrow(d, bounded, b.Max),
			Fallback: b.Fallback, Min: b.Min, Max: b.Max,
		}
	case control.KnobRetry:
		next.Retry = &actuators.Retry{BudgetRatio: bounded, Fallback: b.Fallback, Min: b.Min, Max: b.Max}
	default:
		return errors.New("the Setting has no such knob")
	}
	return nil
}

// call is the knob of the calls to a dependency with the latency target. Readers ignore limit and fallback, so they are
// out of the way at the upper bound.
func call(c control.CallSpec, target float64) *actuators.Concurrency {
	lo, hi := int(math.Ceil(c.Min)), int(math.Floor(c.Max))
	return &actuators.Concurrency{
		Limit: hi, Ceiling: hi, Fallback: hi, Min: lo, Max: hi, LatencyTargetSeconds: target,
	}
}

// Sharers remembers how long fewer instances have been seen than share the rate. More are believed at once: each takes
// its share from the moment it starts, and until the share is smaller all together admit more than the rate. Fewer are
// believed once they have been gone for a settling time: an instance that merely was not heard of still takes its share.
//
//	seen        3   3   4   4   3   3   3   3 …
//	shared by   3   3   4   4   4   4   4   3      ◄── after Timing.Settle
type Sharers struct {
	since time.Time // of the first complete measurement with fewer; zero: as many or more
	most  int       // that were seen since then
	gone  bool      // for a settling time
}

// Count takes in a tick: call it before Next. It is for standbys too, so that a new leader knows how many instances there are.
func (l *Last) Count(now time.Time, spec control.Spec, ds []control.Decision) {
	shared := sharing(l.Setting)
	for _, d := range ds {
		seen := d.Inputs.Instances
		switch {
		case d.Knob != control.KnobRate || seen == 0:
		case seen >= shared || l.Sharers.since.After(now):
			l.Sharers = Sharers{}
		case !whole(d):
		case l.Sharers.since.IsZero() || l.Sharers.most >= shared: // the last ones that went are in force
			l.Sharers = Sharers{since: now, most: seen}
		default:
			l.Sharers.most = max(l.Sharers.most, seen)
			l.Sharers.gone = now.Sub(l.Sharers.since) >= spec.Timing.Settle()
		}
	}
}

// whole says whether a measurement without gaps is behind the decision.
func whole(d control.Decision) bool { return d.Renew && d.HoldReason == "" }

// sharing is how many instances share the rate in force.
func sharing(last *actuators.Setting) int {
	if last != nil && last.Rate != nil {
		return last.Rate.Instances
	}
	return 1
}

// instances is how many share the rate from now on.
func (l Last) instances(d control.Decision) int {
	shared := sharing(l.Setting)
	switch seen := d.Inputs.Instances; {
	case seen > shared:
		return seen
	case seen > 0 && l.Sharers.gone && whole(d):
		return l.Sharers.most
	}
	return shared
}

// resized says whether the rate in force is shared by another number of instances than the Setting says, or that the
// instances need other shares of it. That is worth a write of its own: the number even in a hold, because twice the instances
// would admit twice the rate.
func (l Last) resized(d control.Decision) bool {
	last := l.Setting
	return d.Knob == control.KnobRate && last != nil && last.Rate != nil &&
		last.Rate.PerSecond < last.Rate.Max &&
		(l.instances(d) != last.Rate.Instances || l.borrow(d, last.Rate.PerSecond, last.Rate.Max) != last.Rate.Borrow)
}

// borrow is what instances may borrow of a rate from now on; 0: nothing. Without a measurement of all of them it stays.
func (l Last) borrow(d control.Decision, perSecond, off float64) float64 {
	before := 0.0
	if last := l.Setting; last != nil && last.Rate != nil {
		before = last.Rate.Borrow
	}
	if perSecond >= off {
		return 0
	}
	if !whole(d) || len(d.Inputs.Arrivals) == 0 {
		return before
	}
	if borrow := control.Borrow(perSecond, l.instances(d), d.Inputs.Arrivals, max(1, before)); borrow > 1 {
		return borrow
	}
	return 0
}

// reconfigured says whether the bounds of a knob in the Setting differ from the configuration. A person decided on the
// new bounds, so they are written even if nothing can be measured now.
func reconfigured(last *actuators.Setting, spec control.Spec) bool {
	if last == nil {
		return false
	}
	if c := spec.Call(control.KnobCall(last.Callee)); c != nil {
		return last.Concurrency != nil && (*last.Concurrency != *call(*c, last.Concurrency.LatencyTargetSeconds))
	}
	differs := func(knob control.Knob, lo, hi, fallback float64) bool {
		return spec.Bounds(knob) != control.Bounds{Min: lo, Max: hi, Fallback: fallback}
	}
	c, h, r, b := last.Concurrency, last.Shed, last.Rate, last.Retry
	return spec.Concurrency != nil && c != nil &&
		differs(control.KnobConcurrency, float64(c.Min), float64(c.Max), float64(c.Fallback)) ||
		spec.Shed != nil && h != nil && differs(control.KnobShed, h.Min, h.Max, h.Fallback) ||
		spec.Rate != nil && r != nil && differs(control.KnobRate, r.Min, r.Max, r.Fallback) ||
		spec.Retry != nil && b != nil && differs(control.KnobRetry, b.Min, b.Max, b.Fallback)
}

// sameValues says whether two Settings ask a service for the same values.
func sameValues(a, b actuators.Setting) bool {
	values := func(s actuators.Setting) []any { return []any{s.LeaseSeconds, s.Concurrency, s.Rate, s.Shed, s.Retry} }
	return reflect.DeepEqual(values(a), values(b))
}
