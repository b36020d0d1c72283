package control

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// SLO is what the service owes its callers: at least the share Objective of admitted requests finishes within Latency,
// and at most the share Errors fails.
type SLO struct {
	Latency   time.Duration // > 0
	Objective float64       // in (0, 1): 0.99
	Errors    float64       // in [0, 1): 0.001
}

// Law selects the controller of a knob.
type Law string

// The laws.
const (
	PIDLaw      Law = "pid"
	AIMDLaw     Law = "aimd"
	ConstantLaw Law = "constant" // the configured value; people alone move it
	CallLaw     Law = "call"     // a multiple of the dependency's own latency
)

// Spec describes one service to its LoopSet. Zero values in Tuning mean "derive from Timing".
type Spec struct {
	Service     string
	Mode        Mode
	Capped      string // why the mode is shadow although enforce is configured; "": it is the configured one
	SLO         SLO
	Timing      Timing
	Concurrency *ConcurrencySpec // nil: the knob is not steered
	Rate        *RateSpec        // likewise
	Shed        *ShedSpec        // likewise
	Retry       *RetrySpec       // likewise
	Calls       []CallSpec       // the dependencies whose bulkheads get a target, sorted by name
	Tuning      Tuning
}

// ConcurrencySpec bounds the concurrency knob: requests in flight per instance.
type ConcurrencySpec struct {
	Min, Max float64 // 1 ≤ Min ≤ Max; Min = Max fixes the value
	Fallback float64 // in [Min, Max]; 0: √(Min·Max)
	Law      Law     // "": PIDLaw
}

// RateSpec bounds the rate knob: admissions per second of the whole service. At Max the rate is off.
type RateSpec struct {
	Min, Max float64 // 0 < Min ≤ Max
	Fallback float64 // in [Min, Max]; 0: Max
}

// ShedSpec bounds the shed threshold and names the classes it protects.
type ShedSpec struct {
	Protect  Criticality // the least important class that is protected
	Min, Max float64     // 0 < Min ≤ Max ≤ 1; 0: 0.4 and 0.6; outside of these the middle classes suffer
	Fallback float64     // in [Min, Max]; 0: Max
}

// RetrySpec sets the retry budget of the calls that the service makes: retries per request.
type RetrySpec struct {
	Budget float64 // in [0, 1]; 0 allows no retries
}

// Bounds are the hard bounds of a knob and the value that its readers drift to without a live lease.
type Bounds struct{ Min, Max, Fallback float64 }

// Bounds returns the bounds of a knob in a complete spec, zero if the knob is not steered.
func (s Spec) Bounds(knob Knob) Bounds {
	switch c, h, r, b := s.Concurrency, s.Shed, s.Rate, s.Retry; {
	case knob == KnobConcurrency && c != nil:
		return Bounds{c.Min, c.Max, c.Fallback}
	case knob == KnobShed && h != nil:
		return Bounds{h.Min, h.Max, h.Fallback}
	case knob == KnobRate && r != nil:
		return Bounds{r.Min, r.Max, r.Fallback}
	case knob == KnobRetry && b != nil:
		return Bounds{Min: 0, Max: 1, Fallback: b.Budget}
	}
	if s.Call(knob) != nil {
		return callBounds(s.SLO)
	}
	return Bounds{}
}

// Call returns the spec of the calls that knob steers; nil if there is none.
func (s Spec) Call(knob Knob) *CallSpec {
	for i := range s.Calls {
		if KnobCall(s.Calls[i].To) == knob {
			return &s.Calls[i]
		}
	}
	return nil
}

// Tuning holds every gain, window and gate. Tuning.WithDefaults derives zero fields from Timing. A field that may
// legitimately be zero is a pointer.
type Tuning struct {
	Gain             float64  // integral gain on the predicted error, per period; default 1, stable below 2
	ProportionalGain *float64 // default 0
	DerivativeGain   *float64 // default 0
	CutMax           float64  // largest cut per period, ln units; default 0.7 (halves the limit)
	RaiseMax         float64  // largest raise per period, ln units; default min(0.2, 0.6·T/θ)
	Deadband         float64  // smallest move, ln units; default max(0.05, 4/√n), with n completions in the window
	RefusingAt       float64  // refused share from which the service counts as refusing; default 0.01
	RefusedCut       float64  // refused share above which a cut is allowed although the mean is fine; default 0.05
	MinRequests      float64  // arrivals in the window below which nothing is judged; default 100
	StaleAfter       time.Duration
	TargetWeight     float64       // EWMA weight of D̂ per period; default 0.5·T/θ
	FloorTestHold    time.Duration // how long a floor test's result stands; default max(20θ, 300 s)
	AIMDIncrease     float64       // additive increase per period, share of the limit; default 0.02, at least one request
}

// validate reports the first problem that no loop could work with.
func (s Spec) validate() error {
	switch c := s.Concurrency; {
	case s.SLO.Latency <= 0:
		return fmt.Errorf("SLO latency %s: must be positive", s.SLO.Latency)
	case !(s.SLO.Objective > 0 && s.SLO.Objective < 1):
		return fmt.Errorf("SLO objective %g: must lie between 0 and 1, both excluded", s.SLO.Objective)
	case !(s.SLO.Errors >= 0 && s.SLO.Errors < 1):
		return fmt.Errorf("SLO errors %g: must lie between 0 and 1", s.SLO.Errors)
	case s.Timing.Scrape <= 0 || s.Timing.Window <= 0 || s.Timing.Period <= 0 || s.Timing.PublishDelay < 0:
		return fmt.Errorf("timing %+v: scrape, window and period must be positive", s.Timing)
	case s.Mode != Observe && s.Mode != Shadow && s.Mode != Enforce:
		return fmt.Errorf("mode %q: must be observe, shadow or enforce", s.Mode)
	case c == nil && s.Rate == nil && s.Shed == nil && s.Retry == nil && len(s.Calls) == 0:
		return fmt.Errorf("no knob: needs concurrency, rate, shed, retry or calls")
	case s.Shed != nil && c == nil:
		return fmt.Errorf("shed decides whom the concurrency limit refuses: concurrency is missing")
	}
	if err := s.Concurrency.validate(); err != nil {
		return err
	}
	if r := s.Rate; r != nil && (!(r.Min > 0 && r.Max >= r.Min) || math.IsInf(r.Max, 0) ||
		r.Fallback != 0 && !(r.Fallback >= r.Min && r.Fallback <= r.Max)) {
		return fmt.Errorf("rate bounds %g..%g/s, fallback %g: need 0 < min <= fallback <= max", r.Min, r.Max, r.Fallback)
	}
	if r := s.Retry; r != nil && !(r.Budget >= 0 && r.Budget <= 1) {
		return fmt.Errorf("retry budget %g: must lie between 0 and 1", r.Budget)
	}
	for _, k := range s.Calls {
		if err := k.validate(); err != nil {
			return err
		}
	}
	if h := s.Shed; h != nil {
		d := h.withDefaults()
		if !(d.Min > 0 && d.Max >= d.Min && d.Max <= 1 && d.Fallback >= d.Min && d.Fallback <= d.Max) {
			return fmt.Errorf("shed bounds %g..%g, fallback %g: need 0 < min <= fallback <= max <= 1", d.Min, d.Max, d.Fallback)
		}
		if d.Protect < Critical || d.Protect >= Background {
			return fmt.Errorf("shed protects class %d: must leave something to shed", d.Protect)
		}
	}
	return nil
}

// validate accepts a knob that is not steered.
func (c *ConcurrencySpec) validate() error {
	switch {
	case c == nil:
	case !(c.Min >= 1 && c.Max >= c.Min) || math.IsInf(c.Max, 0):
		return fmt.Errorf("concurrency bounds %g..%g: need 1 <= min <= max", c.Min, c.Max)
	case c.Fallback != 0 && !(c.Fallback >= c.Min && c.Fallback <= c.Max):
		return fmt.Errorf("concurrency fallback %g: must lie within %g..%g", c.Fallback, c.Min, c.Max)
	case c.Law != "" && c.Law != PIDLaw && c.Law != AIMDLaw:
		return fmt.Errorf("concurrency law %q: must be pid or aimd", c.Law)
	}
	return nil
}

// withDefaults returns a copy in which every zero field has its derived value.
func (s Spec) withDefaults() Spec {
	s.Tuning = s.Tuning.WithDefaults(s.Timing)
	if s.Concurrency != nil {
		c := *s.Concurrency
		def(&c.Fallback, c.DefaultFallback())
		if c.Law == "" {
			c.Law = PIDLaw
		}
		s.Concurrency = &c
	}
	if s.Rate != nil {
		r := *s.Rate
		def(&r.Fallback, r.Max)
		s.Rate = &r
	}
	s.Calls = slices.Clone(s.Calls)
	for i, k := range s.Calls {
		s.Calls[i] = k.withDefaults()
	}
	if s.Shed != nil {
		h := s.Shed.withDefaults()
		s.Shed = &h
	}
	return s
}

func (h ShedSpec) withDefaults() ShedSpec {
	def(&h.Min, 0.4)
	def(&h.Max, 0.6)
	def(&h.Fallback, h.Max)
	return h
}

// DefaultFallback is √(Min·Max) in whole requests: the middle of the bounds in ln units.
func (c ConcurrencySpec) DefaultFallback() float64 {
	return min(max(math.Round(math.Sqrt(c.Min*c.Max)), c.Min), c.Max)
}

// WithDefaults returns t with every zero field derived from the timing. The comments say what each number does to the
// plant.
func (t Tuning) WithDefaults(timing Timing) Tuning {
	theta := timing.DeadTime().Seconds()
	perDeadTime := timing.Period.Seconds() / theta // one period as a share of the dead time
	zero := 0.0
	def(&t.Gain, 1)
	if t.ProportionalGain == nil {
		t.ProportionalGain = &zero
	}
	if t.DerivativeGain == nil {
		t.DerivativeGain = &zero
	}
	def(&t.CutMax, 0.7)                         // at most halves the limit in a period
	def(&t.RaiseMax, min(0.2, 0.6*perDeadTime)) // at most +80% within a dead time, before the effect is visible
	def(&t.Deadband, 0.05)
	def(&t.RefusingAt, 0.01) // an occasional burst into a roomy limit is not overload
	def(&t.RefusedCut, 0.05)
	def(&t.MinRequests, 100)
	def(&t.TargetWeight, min(0.5*perDeadTime, 1))
	def(&t.AIMDIncrease, 0.02)
	if t.StaleAfter == 0 {
		t.StaleAfter = timing.StaleAfter()
	}
	if t.FloorTestHold == 0 {
		t.FloorTestHold = max(20*timing.DeadTime(), 300*time.Second)
	}
	return t
}

func def(field *float64, value float64) {
	if *field == 0 {
		*field = value
	}
}
