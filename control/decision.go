package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// State is what a loop is doing, in the words of the API, the journal and govtop.
type State string

// The states.
const (
	Steady      State = "steady"
	Raising     State = "raising"
	Cutting     State = "cutting"
	AtMin       State = "at_min"
	AtMax       State = "at_max"
	Ineffective State = "ineffective"
	Infeasible  State = "infeasible"
	Hold        State = "hold"
	Frozen      State = "frozen"
	Override    State = "override"
)

// Mode is how far governor may go with a service.
type Mode string

// The modes: Observe reads signals only, Shadow decides and publishes nothing, Enforce publishes.
const (
	Observe Mode = "observe"
	Shadow  Mode = "shadow"
	Enforce Mode = "enforce"
)

// Knob names one actuated quantity of a service.
type Knob string

// The knobs.
const (
	KnobConcurrency Knob = "concurrency"
	KnobRate        Knob = "rate"
	KnobShed        Knob = "shed"
	KnobRetry       Knob = "retry"
)

// Decision is the complete record of one step of one loop: what was measured, what every term said, what bound the
// result, and why. Log line, journal, API and govtop are views of this one value. Quantities that are unknown or do
// not apply are NaN (null in JSON).
type Decision struct {
	Service string    `json:"service"`
	Knob    Knob      `json:"knob"`
	Mode    Mode      `json:"mode"`
	At      time.Time `json:"at"`
	State   State     `json:"state"`
	// HoldReason is set where State is Hold, where a partial or missing signal limited the step to tightening, and where
	// one would have but for a person's order.
	HoldReason Reason `json:"hold_reason,omitempty"`
	Detail     string `json:"detail,omitempty"`
	// Reason is the whole decision in one line of plain words.
	Reason string `json:"reason"`

	Inputs Inputs `json:"inputs"`

	// Setpoint and Measured are in seconds of mean latency of admitted requests (τ in force, max(LatencyTarget, 1.25·ŝ)),
	// for the knob shed in shares of the protected requests refused.
	Setpoint Number `json:"setpoint"`
	Measured Number `json:"measured"`
	// LatencyTarget is τ*, what is published for the guards' reflex: they know ŝ themselves.
	LatencyTarget Number `json:"latency_target_seconds"`
	Terms         Terms  `json:"terms"`
	Gates         Gates  `json:"gates"`

	From  Number `json:"from"`  // the value in force before
	Raw   Number `json:"raw"`   // what the law asked for, before any constraint
	Bound string `json:"bound"` // the constraint that shaped the result: one of the bounds, or ""
	Value Number `json:"value"` // what governor wants in force now

	Ceiling Number `json:"ceiling"` // how far the guard's reflex may go
	// Publish says that Value, Ceiling or Setpoint moved enough to be written; Renew that the lease may be renewed (the
	// measurements were valid, or a person's order stands). Both are false in a hold.
	Publish bool `json:"publish"`
	Renew   bool `json:"renew"`
}

// NewDecision returns a decision in which every quantity is unknown and nothing has been decided.
func NewDecision(service string, knob Knob) Decision {
	nan := Number(math.NaN())
	return Decision{
		Service: service, Knob: knob,
		Setpoint: nan, Measured: nan, LatencyTarget: nan, From: nan, Raw: nan, Value: nan, Ceiling: nan,
		Inputs: Inputs{
			AgeSeconds: nan, TookSeconds: nan, WindowSeconds: nan, Requests: nan, Throughput: nan, RefusedShare: nan,
			RefusedBy: RefusedBy{Concurrency: nan, Shed: nan, Rate: nan},
			Quantile:  nan, SlowRatio: nan, FailedRatio: nan, BadRatio: nan, Burn5m: nan, Burn1h: nan, EffectiveLimit: nan,
			Applied: -1,
		},
		Terms: Terms{Error: nan, P: nan, I: nan, D: nan},
		Gates: Gates{
			Occupancy: nan, BindingShare: nan, Floor: nan, FloorTest: FloorTestIdle, OwnLatencySeconds: nan,
			ServiceTimeSeconds: nan,
		},
	}
}

// Inputs are the readings the law used, aggregated over the instances that the decision is about.
type Inputs struct {
	AgeSeconds    Number    `json:"age_seconds"`    // of the oldest sample used; where nothing is found, of the last good one
	TookSeconds   Number    `json:"took_seconds"`   // duration of the slowest query
	WindowSeconds Number    `json:"window_seconds"` // W
	Requests      Number    `json:"requests"`       // arrivals in the window, all instances
	Throughput    Number    `json:"throughput"`     // X̂: completions per second and instance
	RefusedShare  Number    `json:"refused_share"`  // of the offered, by any policy
	RefusedBy     RefusedBy `json:"refused_by"`     // the same, policy by policy
	Quantile      Number    `json:"quantile"`       // the objective's quantile, seconds
	Censored      bool      `json:"censored"`       // Quantile is a lower bound (top bucket)
	SlowRatio     Number    `json:"slow_ratio"`     // admitted requests slower than the SLO
	FailedRatio   Number    `json:"failed_ratio"`   // admitted requests that failed
	BadRatio      Number    `json:"bad_ratio"`      // the worse of both, each as a multiple of its objective's budget (> 1: SLO violated)
	// Burn5m and Burn1h are the bad-request ratio over these windows as a multiple of its budget (BadRatio's unit).
	Burn5m         Number   `json:"burn_5m"`
	Burn1h         Number   `json:"burn_1h"`
	EffectiveLimit Number   `json:"effective_limit"` // as the instances report it, mean
	Instances      int      `json:"instances"`
	Applied        int      `json:"applied"`            // instances that report the published revision; -1 where it is not reported
	Outliers       []string `json:"outliers,omitempty"` // instances in trouble that the decision is not about
}

// RefusedBy are the shares of the offered requests that each policy refused.
type RefusedBy struct {
	Concurrency Number `json:"concurrency"` // the limit is reached
	Shed        Number `json:"shed"`        // nearly so, and others are more important
	Rate        Number `json:"rate"`
}

// Terms are the controller's contributions, in ln units of the knob for the log-form laws.
type Terms struct {
	Law   Law    `json:"law"`
	Error Number `json:"error"`
	P     Number `json:"p"`
	I     Number `json:"i"`
	D     Number `json:"d"`
	Event string `json:"event,omitempty"` // what the law did besides its arithmetic: one of the events
}

// The events.
const (
	EventIncrease     = "increase"      // AIMD: healthy, a step up
	EventDecrease     = "decrease"      // AIMD: congested, a share down
	EventCooldown     = "cooldown"      // AIMD: the last decrease has yet to show
	EventHang         = "hang"          // hardly anything finishes: the largest cut, there is no latency to steer by
	EventFirstSetting = "first setting" // nothing was published before
	EventYields       = "yields"        // the rate leaves it to the concurrency limit
	EventDrains       = "drains"        // the service works off a backlog: cutting the rate would not speed it up
	EventRestore      = "restore"       // cutting the rate did not help: it goes back
)

// Gates are the findings that were made before any law ran.
type Gates struct {
	Binds              bool   `json:"binds"`                // the knob's value holds traffic back: a law may move it
	Occupancy          Number `json:"occupancy"`            // in flight ÷ limit
	BindingShare       Number `json:"binding_share"`        // of the window, in which the limit was nearly full (little.BindingAt)
	Floor              Number `json:"floor"`                // Little's-law floor X̂max·m₀
	FloorTest          string `json:"floor_test"`           // one of the FloorTest constants
	OwnLatencySeconds  Number `json:"own_latency_seconds"`  // m₀
	ServiceTimeSeconds Number `json:"service_time_seconds"` // ŝ, 0 when none stands
	Infeasible         bool   `json:"infeasible"`
	BurnSteps          int    `json:"burn_steps"` // how often fast burning of the error budget has tightened the setpoint by 10%
}

// The values of Gates.FloorTest.
const (
	FloorTestIdle   = string(little.Idle)
	FloorTestDwell  = string(little.Dwell)  // the condition holds, the test is about to start
	FloorTestHalved = string(little.Halved) // the limit is halved on purpose, throughput is being watched
	FloorTestGuard  = "guard"               // the guards run their own
)
