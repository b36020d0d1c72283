package control

import "math"

// Constraint limits every output before it may be published: deadband, then slew, then floor, clamp and whole units.
// Moves are measured in ln units of the value, so that a step means the same at 20 and at 2000.
type Constraint struct {
	Deadband float64 // smaller moves are suppressed
	RaiseMax float64 // largest raise per step
	CutMax   float64 // largest cut per step
	Floor    float64 // a cut stops here; the floor never raises the value
	Min, Max float64 // hard bounds, 0 < Min ≤ Max
	Whole    bool    // the value counts things: a move is at least one of them
	NoRaise  string  // the constraint that forbids a raise, "" if none does
}

// The names of the constraints, as Decision.Bound reports them.
const (
	BoundDeadband = "deadband"
	BoundSlew     = "slew"
	BoundFloor    = "floor"
	BoundMin      = "min"
	BoundMax      = "max"
	BoundTighten  = "tighten_only" // no raise: something is unknown, or contradicts something else
	BoundSLO      = "slo_violated" // no raise: more is late or failed already than the SLO allows
	BoundObey     = "not_obeyed"   // no raise: the service does not keep to the limit it has
)

// Apply returns the value that may follow from when the law asks for raw, and the constraint that shaped it: "" if none
// did, the last one if several did. A raw value that is NaN changes nothing. Apply first clamps from to the bounds, so
// that a changed bound takes effect at once.
func (c Constraint) Apply(from, raw float64) (value float64, bound string) {
	if clamped := min(max(from, c.Min), c.Max); clamped != from {
		bound = BoundMin
		if clamped == c.Max {
			bound = BoundMax
		}
		return clamped, bound
	}
	if math.IsNaN(raw) {
		return from, ""
	}
	move := math.Log(max(raw, math.SmallestNonzeroFloat64) / from)
	switch {
	case move == 0:
		return from, ""
	case move > 0 && c.NoRaise != "":
		return from, c.NoRaise
	case math.Abs(move) < c.Deadband:
		return from, BoundDeadband
	case move > c.RaiseMax:
		move, bound = c.RaiseMax, BoundSlew
	case move < -c.CutMax:
		move, bound = -c.CutMax, BoundSlew
	}
	value = from * math.Exp(move)
	if floor := min(c.Floor, from); value < floor {
		value, bound = floor, BoundFloor
	}
	if c.Whole {
		value = wholeStep(from, value)
	}
	if value <= c.Min && move < 0 {
		return c.Min, BoundMin
	}
	if value >= c.Max && move > 0 {
		return c.Max, BoundMax
	}
	return value, bound
}

// wholeStep rounds value toward from, but any move is at least one unit.
func wholeStep(from, value float64) float64 {
	switch {
	case value > from:
		return max(math.Floor(value), math.Floor(from)+1)
	case value < from:
		return min(math.Ceil(value), math.Ceil(from)-1)
	}
	return from
}
