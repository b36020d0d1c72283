package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// State is what a loop is doing. The API, the journal and govtop use these words.
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
	NotObeyed   State = "not_obeyed"
	Hold        State = "hold"
	Frozen      State = "frozen"
	Override    State = "override"
)

// Mode is how far governor may intervene in a service.
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
	// KnobCall returns those of the calls to dependencies.
)

// Decision is the complete record of one step of one loop: the measurement, every term of the law, the constraint that
// shaped the result, and the reason. The log line, the journal, the API and govtop are views of this one value.
// Quantities that are unknown or do not apply are NaN (null in JSON).
type Decision struct {
	Service string `json:"service"`
	Knob    Knob   `json:"knob"`
	Mode    Mode   `json:"mode"`
	// Capped says why the mode is shadow although enforce is configured; "": it is the configured one.
	Capped string    `json:"capped,omitempty"`
	At     time.Time `json:"at"`
	State  State     `json:"state"`
	// HoldReason is set if State is Hold, if a partial or missing signal limited the step to tightening, and if an
	// order kept the loop from holding for that reason.
	HoldReason Reason `json:"hold_reason,omitempty"`
	Detail     string `json:"detail,omitempty"`
	// Reason is the whole decision in one plain sentence.
	Reason string `json:"reason"`

	Inputs Inputs `json:"inputs"`

	// Setpoint is what the law aims at now, max(LatencyTarget, 1.25·ŝ), and Measured what it is compared with: both
	// in seconds of mean latency of admitted requests. For the knob shed both are shares of the protected requests
	// refused.
	Setpoint Number `json:"setpoint"`
	Measured Number `json:"measured"`
	// LatencyTarget is τ*, published for the guards' reflex. The guards know ŝ themselves.
	LatencyTarget Number `json:"latency_target_seconds"`
	Terms         Terms  `json:"terms"`
	// Learned are the estimates behind the target and the floor, with what they rest on.
	Learned Learned `json:"learned"`
	Gates   Gates   `json:"gates"`

	From  Number `json:"from"`  // the value in force before this step
	Raw   Number `json:"raw"`   // what the law asked for, before any constraint
	Bound string `json:"bound"` // the constraint that shaped the result: one of the bounds, or ""
	Value Number `json:"value"` // what governor wants in force now

	Ceiling Number `json:"ceiling"` // the highest limit the guard's reflex may choose
	// Publish is set if Value, Ceiling or LatencyTarget moved enough to be written. Renew is set if the lease may be
	// renewed: the measurements were valid, or an order is in effect. Both are false in a hold.
	Publish bool `json:"publish"`
	Renew   bool `json:"renew"`
}

// NewDecision returns a decision in which every quantity is unknown and nothing is decided.
func NewDecision(service string, knob Knob) Decision {
	nan := Number(math.NaN())
	return Decision{
		Service: service, Knob: knob,
		Setpoint: nan, Measured: nan, LatencyTarget: nan, From: nan, Raw: nan, Value: nan, Ceiling: nan,
		Inputs: Inputs{
			AgeSeconds: nan, TookSeconds: nan, WindowSeconds: nan, Requests: nan, Throughput: nan, RefusedShare: nan,
			RefusedBy: RefusedBy{
				Concurrency: nan, Shed: nan, Rate: nan, Callee: nan, Share: nan, Roof: nan, Endless: nan,
			},
			Quantile: nan, SlowRatio: nan, FailedRatio: nan, BadRatio: nan, Burn5m: nan, Burn1h: nan, EffectiveLimit: nan,
			WaitedSeconds: nan, Applied: -1,
		},
		Terms: Terms{Error: nan, P: nan, I: nan, D: nan},
		Learned: Learned{
			OwnLatency: Estimate{Value: nan, AgeSeconds: nan}, Spread: Estimate{Value: nan, AgeSeconds: nan},
			ServiceTime: Estimate{Value: nan, AgeSeconds: nan}, Carried: Estimate{Value: nan, AgeSeconds: nan},
		},
		Gates: Gates{
			Occupancy: nan, BindingShare: nan, Floor: nan, FloorTest: FloorTestIdle, OwnLatencySeconds: nan,
			ServiceTimeSeconds: nan,
		},
	}
}

// Inputs are the readings the law used, aggregated over the instances that the decision is about.
type Inputs struct {
	AgeSeconds    Number    `json:"age_seconds"`    // of the oldest sample used; if there is none, of the last good one
	TookSeconds   Number    `json:"took_seconds"`   // duration of the slowest query
	WindowSeconds Number    `json:"window_seconds"` // W
	Requests      Number    `json:"requests"`       // arrivals in the window, all instances
	Throughput    Number    `json:"throughput"`     // X̂: completions per second and instance, without those that a failed call cut short
	RefusedShare  Number    `json:"refused_share"`  // share of the offered requests, any policy
	RefusedBy     RefusedBy `json:"refused_by"`     // the same, per policy
	Quantile      Number    `json:"quantile"`       // the objective's quantile, seconds
	Censored      bool      `json:"censored"`       // Quantile is a lower bound (top bucket)
	SlowRatio     Number    `json:"slow_ratio"`     // admitted requests slower than the SLO
	FailedRatio   Number    `json:"failed_ratio"`   // admitted requests that failed
	BadRatio      Number    `json:"bad_ratio"`      // the worse of both, as a multiple of its budget (> 1: SLO violated)
	// Burn5m and Burn1h are the bad-request ratio over 5 minutes and 1 hour, as a multiple of its budget (like
	// BadRatio).
	Burn5m         Number `json:"burn_5m"`
	Burn1h         Number `json:"burn_1h"`
	EffectiveLimit Number `json:"effective_limit"` // mean of what the instances report
	// LongInFlight is how many requests in flight, per instance, are so long that the laws judge the others without them; the
	// measured mean is that of the others. 0: none are known.
	LongInFlight Number `json:"long_in_flight,omitempty"`
	Instances    int    `json:"instances"`
	// Arrivals are the requests per second at each instance; none if not all of them are known.
	Arrivals []float64 `json:"-"`
	Applied  int       `json:"applied"`            // instances at the published revision; -1 if none reports any
	Outliers []string  `json:"outliers,omitempty"` // instances in trouble that the decision ignores
	// WaitedSeconds is how long a request spends in guarded calls to other services, on average. Measured, the setpoint and
	// everything learned leave it out: no limit of this service can change it.
	WaitedSeconds Number `json:"waited_seconds"`
	// Dependencies are the services that this one calls through guard, sorted by name: for the knob of a call its own one
	// alone.
	Dependencies []Calls `json:"dependencies,omitempty"`
	// Culprit is the service that explains why this one is slow, refuses or fails, as FindCulprit finds it: this one itself,
	// one that it calls, or one behind that. "": nothing is wrong, the service makes no calls through guard that governor
	// reads, or nothing is known well enough.
	Culprit string `json:"culprit,omitempty"`
	// CulpritVia are the services on the way there, in the order of the calls.
	CulpritVia []string `json:"culprit_via,omitempty"`
}

// RefusedBy are the shares of the offered requests that each policy refused.
type RefusedBy struct {
	Concurrency Number `json:"concurrency"` // the limit is reached
	Shed        Number `json:"shed"`        // the limit is nearly reached; the rest is kept for more important requests
	Rate        Number `json:"rate"`
	Callee      Number `json:"callee"`  // a service behind this one would refuse the request
	Share       Number `json:"share"`   // the route is over its share of the roof
	Roof        Number `json:"roof"`    // the limit over all routes is reached
	Endless     Number `json:"endless"` // too many requests that never end are in flight
}

// Learned are the quantities that the loops have learned from earlier measurements.
type Learned struct {
	OwnLatency  Estimate `json:"own_latency"`  // m₀ in seconds: the mean latency when nothing queues
	Spread      Estimate `json:"spread"`       // D̂ in seconds: how far the objective's quantile lies above the mean
	ServiceTime Estimate `json:"service_time"` // ŝ in seconds: the service's own mean where a test found that limiting cannot help
	Carried     Estimate `json:"carried"`      // X̂max: completions per second and instance; it fades within hours
}

// Estimate is a learned quantity with its evidence. New evidence replaces old: nothing is learned for good.
type Estimate struct {
	Value      Number `json:"value"`
	AgeSeconds Number `json:"age_seconds"` // since the newest evidence
	Samples    int    `json:"samples"`     // windows or findings that it rests on; 0: it is a default
}

// Terms are the controller's contributions, in ln units of the knob for the log-form laws.
type Terms struct {
	Law   Law    `json:"law"`
	Error Number `json:"error"`
	P     Number `json:"p"`
	I     Number `json:"i"`
	D     Number `json:"d"`
	Event string `json:"event,omitempty"` // what else the law did: one of the events
}

// The events.
const (
	EventIncrease       = "increase"      // AIMD: healthy, one step up
	EventDecrease       = "decrease"      // AIMD: congested, multiplicative cut
	EventCooldown       = "cooldown"      // AIMD: the last decrease is not visible yet
	EventHang           = "hang"          // hardly anything finishes: the largest cut, for want of a latency to steer by
	EventFirstSetting   = "first setting" // nothing was published before
	EventFloorTestEnded = "test ended"    // a floor test or a raise test puts back the limit that it had changed
	EventYields         = "yields"        // the rate leaves the overload to the concurrency limit
	EventDrains         = "drains"        // the service is draining a backlog: cutting the rate would not speed it up
	EventEdited         = "edited"        // a person edited the Setting: the loop goes on from that value
	EventRestore        = "restore"       // cutting the rate did not help: it is restored
)

// Gates are the findings made before the law runs.
type Gates struct {
	Binds              bool   `json:"binds"`                // the knob's value holds traffic back: a law may move it
	Occupancy          Number `json:"occupancy"`            // in flight ÷ limit
	BindingShare       Number `json:"binding_share"`        // share of the window near the limit (little.BindingAt)
	Floor              Number `json:"floor"`                // Little's-law floor X̂max·m₀
	FloorTest          string `json:"floor_test"`           // one of the FloorTest constants
	OwnLatencySeconds  Number `json:"own_latency_seconds"`  // m₀
	ServiceTimeSeconds Number `json:"service_time_seconds"` // ŝ; 0: none stands
	Infeasible         bool   `json:"infeasible"`
	InfeasibleBy       string `json:"infeasible_by,omitempty"` // the quantity that is too large: one of the causes
	BurnSteps          int    `json:"burn_steps"`              // number of 10% setpoint cuts for a fast burn of the error budget
}

// The causes of an infeasible SLO, as in Gates.InfeasibleBy.
const (
	ByOwnLatency = "own_latency" // m₀, the mean latency without a queue
	BySpread     = "spread"      // how far the objective's quantile lies above the mean
	ByCalls      = "calls"       // the time in guarded calls to other services
)

// The values of Gates.FloorTest.
const (
	FloorTestIdle   = string(little.Idle)
	FloorTestDwell  = string(little.Dwell)  // the condition holds, the test is about to start
	FloorTestHalved = string(little.Halved) // the limit is halved on purpose to watch the throughput
	FloorTestGuard  = "guard"               // the guards run their own
	RaiseTestRaised = "raised"              // the limit is raised on purpose: does the latency grow with it?
)
