package control

import "time"

// SLO is what the service owes its callers: the share Objective of admitted requests finishes within Latency, and at
// most the share Errors fails.
type SLO struct {
	Latency   time.Duration // > 0
	Objective float64       // in (0, 1): 0.99
	Errors    float64       // in [0, 1): 0.001
}

// Law selects the controller of a knob.
type Law string

// The laws.
const (
	PIDLaw  Law = "pid"
	AIMDLaw Law = "aimd"
)

// Spec describes one service to its LoopSet. Zero values in Tuning mean "derive from Timing".
type Spec struct {
	Service     string
	Mode        Mode
	SLO         SLO
	Timing      Timing
	Concurrency *ConcurrencySpec // nil: the knob is not steered
	Tuning      Tuning
}

// ConcurrencySpec bounds the concurrency knob: requests in flight per instance.
type ConcurrencySpec struct {
	Min, Max float64 // 1 ≤ Min ≤ Max; Min = Max fixes the value
	Fallback float64 // in [Min, Max]; 0: √(Min·Max)
	Law      Law     // "": PIDLaw
}

// Tuning holds every gain, window and gate. A zero field takes its default, derived from Timing by Tuning.WithDefaults;
// a field that may legitimately be zero is a pointer.
type Tuning struct {
	Gain             float64  // integral gain on the predicted error, per period; default 1, stable below 2
	ProportionalGain *float64 // default 0
	DerivativeGain   *float64 // default 0
	CutMax           float64  // largest cut a period, ln units; default 0.7 (halves the limit)
	RaiseMax         float64  // largest raise a period, ln units; default min(0.2, 0.6·T/θ)
	Deadband         float64  // smallest move, ln units; default max(0.05, 4/√n), n the completions in the window
	RefusedCut       float64  // refused share above which a cut is allowed though the mean is fine; default 0.05
	OverloadAt       float64  // occupancy at which the service counts as overloaded; default 0.85
	MinRequests      float64  // arrivals in the window below which nothing is judged; default 100
	StaleAfter       time.Duration
	TargetWeight     float64       // EWMA weight of D̂ a period; default 0.5·T/θ
	FloorTestHold    time.Duration // how long a floor test's result stands; default max(20θ, 300 s)
	AIMDIncrease     float64       // additive increase a period, share of the limit; default 0.02, at least one request
}
