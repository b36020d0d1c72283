package control

import (
	"math"
	"time"
)

// AIMD is additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease
// Algorithms for Congestion Avoidance in Computer Networks", 1989), with at most one decrease per cooldown: reacting
// twice before the first reaction can be seen halves a limit once too often.
//
// The increase is max(Add, AddShare·value), so that the way up from a small value is not endless. Step proposes,
// Track confirms: a decrease that was refused on its way (a failed write) does not start the cooldown.
// The zero AIMD never moves. It is not safe for concurrent use.
type AIMD struct {
	Add      float64       // smallest increase a step, units of the value; ≥ 0
	AddShare float64       // increase a step as a share of the value; ≥ 0
	Cooldown time.Duration // shortest time between two decreases

	lastCut  time.Time
	proposed float64 // the decrease that Step asked for last, NaN or 0: none
}

// Step returns the next value. Congestion decreases to decreaseTo (never above the present value), otherwise grow
// allows the increase. The event is EventIncrease,
// EventDecrease or EventCooldown, or "" where nothing moved.
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

// Track tells the controller which value is in force after before; a confirmed decrease starts the cooldown.
func (a *AIMD) Track(now time.Time, before, inForce float64) {
	if a.proposed > 0 && inForce < before {
		a.lastCut = now
	}
	a.proposed = 0
}
