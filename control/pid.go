package control

import (
	"math"
	"time"
)

// PID is a general controller in the positional form
//
//	u = bias + Kp·e + ∫Ki·e dt + Kd·de/dt
//
// It works as P, PI, PD or PID from its first sample: a gain of zero simply removes its term. The derivative starts
// with the second sample and can be low-pass filtered. Tracking prevents wind-up (Åström and Murray, Feedback
// Systems, 2nd ed., §11.4, with a tracking time of one sample): Track tells the controller which output is really in
// force, after any clamp, delay or refusal, and the integral absorbs the difference. The same call gives a bumpless
// start and a bumpless transfer from manual control.
//
// The zero PID with gains set is ready to use. It is not safe for concurrent use.
type PID struct {
	Kp   float64 // output units per unit of error
	Ki   float64 // output units per unit of error and second
	Kd   float64 // output units · seconds per unit of error
	Bias float64 // output of a controller without integral action at zero error
	// DerivativeFilter is the time constant of a first-order low-pass on the derivative; 0: none.
	DerivativeFilter time.Duration

	integral float64
	prevE    float64
	rate     float64 // filtered de/dt
	hasPrev  bool
	tracked  float64
	tracking bool // Track was called since the last Step
}

// PIDTerms are the contributions of the terms to one output.
type PIDTerms struct {
	Error, P, I, D float64 // I includes the bias
	Output         float64
}

// largestError keeps the arithmetic finite. No real plant produces an error near it.
const largestError = 1e6

// Step advances the controller by dt with the error e (setpoint − measurement, in the units that the gains expect)
// and returns its terms. It does nothing and returns false if e is NaN or dt ≤ 0. Infinite errors count as very large
// ones.
func (c *PID) Step(dt time.Duration, e float64) (PIDTerms, bool) {
	if math.IsNaN(e) || dt <= 0 {
		return PIDTerms{}, false
	}
	e = min(max(e, -largestError), largestError)
	h := dt.Seconds()

	rate := 0.0
	if c.hasPrev {
		rate = (e - c.prevE) / h
		if tf := c.DerivativeFilter.Seconds(); tf > 0 {
			rate = c.rate + (rate-c.rate)*h/(tf+h)
		}
	}
	if c.tracking && c.Ki != 0 {
		before := e // no previous error: start as if it had always been e, without a bump
		if c.hasPrev {
			before = c.prevE
		}
		c.integral = c.tracked - c.Bias - c.Kp*before - c.Kd*c.rate
	}
	c.tracking = false
	c.integral += c.Ki * e * h
	c.prevE, c.rate, c.hasPrev = e, rate, true

	t := PIDTerms{Error: e, P: c.Kp * e, I: c.Bias + c.integral, D: c.Kd * rate}
	t.Output = t.P + t.I + t.D
	return t, true
}

// Track tells the controller that the output u is in force. A controller without integral action keeps its bias,
// because it has nothing that could wind up. Values that are not finite are ignored.
func (c *PID) Track(u float64) {
	if math.IsNaN(u) || math.IsInf(u, 0) {
		return
	}
	c.tracked, c.tracking = u, true
}

// Lose tells the controller that a sample is missing. The next sample gets no derivative, so that the jump across the
// gap gives no kick. The integral is kept.
func (c *PID) Lose() { c.hasPrev, c.rate = false, 0 }
