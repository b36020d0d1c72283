package daemon

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// Bounds of one knob, as configured.
type Bounds struct{ Min, Max, Fallback float64 }

// knobsOf lists the knobs of a service that governor steers.
func knobsOf(spec control.Spec) []control.Knob {
	var knobs []control.Knob
	if spec.Concurrency != nil {
		knobs = append(knobs, control.KnobConcurrency)
	}
	return knobs
}

// boundsOf returns the bounds of a knob.
func boundsOf(spec control.Spec, knob control.Knob) Bounds {
	if c := spec.Concurrency; knob == control.KnobConcurrency && c != nil {
		fallback := c.Fallback
		if fallback == 0 {
			fallback = c.DefaultFallback()
		}
		return Bounds{Min: c.Min, Max: c.Max, Fallback: fallback}
	}
	return Bounds{}
}

// inForce reads the value of a knob out of a Setting, false where it has none.
func inForce(knob control.Knob, s *actuators.Setting) (control.InForce, bool) {
	if s == nil || knob != control.KnobConcurrency || s.Concurrency == nil {
		return control.InForce{}, false
	}
	c := s.Concurrency
	return control.InForce{
		Value: float64(c.Limit), Ceiling: float64(c.Ceiling), Setpoint: c.LatencyTargetSeconds, Revision: s.Revision,
	}, true
}

// put writes the decision on one knob into next: the values it wants published, and for the rest those of the Setting
// last in force (nil: none, then the decision's). The hard bounds are enforced here once more.
func put(next *actuators.Setting, spec control.Spec, last *actuators.Setting, d control.Decision) error {
	b := boundsOf(spec, d.Knob)
	switch d.Knob {
	case control.KnobConcurrency:
		c := actuators.Concurrency{Min: int(math.Ceil(b.Min)), Max: int(math.Floor(b.Max))}
		value, ceiling, target := d.Value, d.Ceiling, d.LatencyTarget
		if f, ok := inForce(d.Knob, last); ok && !d.Publish {
			value, ceiling, target = control.Number(f.Value), control.Number(f.Ceiling), control.Number(f.Setpoint)
		}
		if !finite(value) || !finite(target) {
			return fmt.Errorf("the decision has no finite value or latency target (value %v, target %v)",
				float64(value), float64(target))
		}
		if !finite(ceiling) {
			ceiling = value
		}
		within := func(x float64, lo int) int { return int(min(max(x, float64(lo)), float64(c.Max))) }
		c.Limit = within(math.Round(float64(value)), c.Min)
		c.Ceiling = within(math.Ceil(float64(ceiling)), c.Limit)
		c.Fallback = within(math.Round(b.Fallback), c.Min)
		c.LatencyTargetSeconds = float64(target)
		next.Concurrency = &c
		return nil
	}
	return errors.New("the Setting has no such knob")
}

func finite(n control.Number) bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// sameValues reports whether two Settings ask the same of a service.
func sameValues(a, b actuators.Setting) bool {
	values := func(s actuators.Setting) []any { return []any{s.LeaseSeconds, s.Concurrency, s.Rate, s.Shed, s.Retry} }
	return reflect.DeepEqual(values(a), values(b))
}

// sameWrite reports whether found is the write that was attempted.
func sameWrite(found, attempt actuators.Setting) bool {
	return found.Epoch == attempt.Epoch && found.Revision == attempt.Revision && found.IssuedAt.Equal(attempt.IssuedAt)
}
