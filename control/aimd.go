package control

import (
	"math"
	"time"
)

// AIMD is additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms
// for Congestion Avoidance in Computer Networks", 1989). It decreases at most once per cooldown: a second decrease
// before the effect of the first is visible would halve the limit once too often.
//
// The increase is max(Add, AddShare·value), so that growth from a small value does not take forever. Step proposes and
// Track confirms: a decrease that never took effect (a failed write) does not start the cooldown. The zero AIMD never
// moves. It is not safe for concurrent use.
type AIMD struct {
	Add      float64       // smallest increase per step, in units of the value; ≥ 0
	AddShare float64       // increase per step as a share of the value; ≥ 0
	Cooldown time.Duration // shortest time between two decreases

	lastCut  time.Time
	proposed float64 // the decrease that the last Step asked for; NaN or 0: none
}

// Step returns the next value. If congested, it decreases to decreaseTo (never above the present value); otherwise it
// increases if grow is set. The event is EventIncrease, EventDecrease or EventCooldown, or "" if nothing moved.
func (a *AIMD) Step(now time.Time, value float64, congested, grow bool, decreaseTo float64) (next float64, event string) {
	a.proposed = 0
	switch {
	case congested && !a.lastCut.IsZero() && now.Sub(a.lastCut) < a.Cooldown:
		return value, EventCooldown
	case congested:
		if math.IsNaN(decreaseTo) || decreaseTo >= value {
			return value, ""
		}
		a.proposed = decreaseTo
		return decreaseTo, EventDecrease
	case grow:
		return value + max(a.Add, a.AddShare*value), EventIncrease
	}
	return value, ""
}

// Track tells the controller that inForce has replaced before as the value in force. A confirmed decrease starts the
// cooldown.
func (a *AIMD) Track(now time.Time, before, inForce float64) {
	if a.proposed > 0 && inForce < before {
		a.lastCut = now
	}
	a.proposed = 0
}
