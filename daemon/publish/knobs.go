package publish

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// Knobs lists the knobs of a service that governor steers, in the order in which they act.
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
	return knobs
}

// InForce returns the value that a Setting has in force for a knob. It returns false if there is no Setting, or if it
// lacks the knob; the loop then knows best where it starts.
func InForce(knob control.Knob, s *actuators.Setting) (control.InForce, bool) {
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
	}
	return control.InForce{}, false
}

// put writes one knob into next: the values of the decision if it asks for that, else the values last in force. In
// either case a knob that is not in force yet starts with the values of its decision.
func put(next *actuators.Setting, spec control.Spec, last *actuators.Setting, d control.Decision) error {
	b := spec.Bounds(d.Knob)
	value, ceiling, target := d.Value, d.Ceiling, d.LatencyTarget
	if f, ok := InForce(d.Knob, last); ok && !d.Publish {
		value, ceiling, target = control.Number(f.Value), control.Number(f.Ceiling), control.Number(f.LatencyTarget)
	}
	if !value.Known() {
		return fmt.Errorf("the decision has no finite value (%v)", float64(value))
	}
	bounded := min(max(float64(value), b.Min), b.Max)

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
			PerSecond: bounded, Burst: control.Burst(bounded), Instances: instances(last, d),
			Fallback: b.Fallback, Min: b.Min, Max: b.Max,
		}
	default:
		return errors.New("the Setting has no such knob")
	}
	return nil
}

// instances is the number of instances that share the rate: as seen by a complete measurement, else as before. An
// instance that was merely not seen still takes its share.
func instances(last *actuators.Setting, d control.Decision) int {
	known := 1
	if last != nil && last.Rate != nil {
		known = last.Rate.Instances
	}
	if seen := d.Inputs.Instances; d.Renew && d.HoldReason == "" && seen > 0 {
		return seen
	}
	return known
}

// resized says whether the number of instances that share the rate in force differs from the Setting's. That is worth
// its own write: twice the instances would admit twice the rate.
func resized(last *actuators.Setting, d control.Decision) bool {
	return d.Knob == control.KnobRate && last != nil && last.Rate != nil &&
		last.Rate.PerSecond < last.Rate.Max && instances(last, d) != last.Rate.Instances
}

// reconfigured says whether the bounds of a knob in the Setting differ from the configuration. A person decided on the
// new bounds, so they are written even if nothing can be measured now.
func reconfigured(last *actuators.Setting, spec control.Spec) bool {
	if last == nil {
		return false
	}
	differs := func(knob control.Knob, lo, hi, fallback float64) bool {
		return spec.Bounds(knob) != control.Bounds{Min: lo, Max: hi, Fallback: fallback}
	}
	c, h, r := last.Concurrency, last.Shed, last.Rate
	return spec.Concurrency != nil && c != nil &&
		differs(control.KnobConcurrency, float64(c.Min), float64(c.Max), float64(c.Fallback)) ||
		spec.Shed != nil && h != nil && differs(control.KnobShed, h.Min, h.Max, h.Fallback) ||
		spec.Rate != nil && r != nil && differs(control.KnobRate, r.Min, r.Max, r.Fallback)
}

// sameValues says whether two Settings ask a service for the same values.
func sameValues(a, b actuators.Setting) bool {
	values := func(s actuators.Setting) []any { return []any{s.LeaseSeconds, s.Concurrency, s.Rate, s.Shed, s.Retry} }
	return reflect.DeepEqual(values(a), values(b))
}
