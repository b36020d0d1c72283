package control

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
	"github.com/seed-de83e32b/governor/control/format"
)

// Call is what an instance reports of its calls to one dependency, another service. Counts are over the window.
type Call struct {
	To string // the dependency

	Requests      Reading // calls, each with all its attempts
	Attempts      Reading
	Retries       Reading
	Failures      Reading // attempts that failed
	CalleeRefused Reading // attempts that the dependency or its guard refused
	// Calls that were refused on the way out, without the dependency, by what refused them.
	PastDeadline, BreakerOpen, BulkheadFull Reading
	// Early are the requests that were refused at the service's own door because the dependency would have refused their
	// calls. They count among Requests, so that they do not look like less demand. A missing one counts as zero.
	Early Reading
	// Finished are the attempts whose latency counts, and Mean is theirs in seconds: those that succeeded, and failures that
	// took longer than a success may.
	Finished, Mean Reading

	InFlight      Reading // last samples, as all that follow
	Limit         Reading // of the bulkhead
	LatencyTarget Reading // of the bulkhead, seconds
	OwnLatency    Reading // m₀ of the dependency as the instance has learned it, seconds; 0: not learned
	Revision      Reading // of the Setting in force for these calls
	// Breakers, one for each instance of the dependency, by state; and how often one opened lately, by reason.
	Closed, Open, HalfOpen         Reading
	OpenedByFailures, OpenedAsSlow Reading
}

// CallRefusals are the calls that were refused on the way out, without the dependency, by what refused them.
type CallRefusals struct {
	Deadline Number `json:"deadline"` // too little time was left
	Breaker  Number `json:"breaker"`
	Bulkhead Number `json:"bulkhead"`
	Early    Number `json:"early"` // at the door of the service, because the dependency would have refused
}

// Breakers count the instances of a dependency by the state of their breaker.
type Breakers struct {
	Closed   Number `json:"closed"`
	Open     Number `json:"open"`
	HalfOpen Number `json:"half_open"`
}

// BreakersOpened counts why breakers opened.
type BreakersOpened struct {
	Failures Number `json:"failures"`
	Slow     Number `json:"slow"`
}

// Calls is what the instances of a service report together of their calls to one other service. Counts are sums,
// other quantities means over the instances, unless they say otherwise. What no instance reports is NaN.
type Calls struct {
	Name      string `json:"name"`
	Instances int    `json:"instances"` // that report calls to it

	Requests      Number       `json:"requests"`       // calls in the window, each with all its attempts
	RetryRatio    Number       `json:"retry_ratio"`    // retries per call
	FailedRatio   Number       `json:"failed_ratio"`   // of the attempts
	RefusedRatio  Number       `json:"refused_ratio"`  // calls refused on the way out, of all calls
	RefusedBy     CallRefusals `json:"refused_by"`     // the same, by what refused them
	CalleeRefused Number       `json:"callee_refused"` // attempts that the dependency refused, of all attempts
	// Lost are the attempts that failed at once, that the dependency refused, and that a breaker, the bulkhead or the door refused
	// for its sake, as a share of all that were sent or refused so. One that failed late counts as slow.
	Lost           Number         `json:"lost_ratio"`
	Mean           Number         `json:"mean_seconds"`           // latency of the attempts that finished
	PerRequest     Number         `json:"per_request_seconds"`    // seconds of calls to it, per request of the service
	InFlight       Number         `json:"in_flight"`              // per instance
	Limit          Number         `json:"limit"`                  // of the bulkhead, per instance
	LatencyTarget  Number         `json:"latency_target_seconds"` // of the bulkhead, in seconds
	OwnLatency     Number         `json:"own_latency_seconds"`    // m₀ in seconds, median of those that have learned it
	LearnedBy      int            `json:"learned_by"`             // instances that have learned m₀
	Breakers       Breakers       `json:"breakers"`               // sums of all instances
	BreakersOpened BreakersOpened `json:"breakers_opened"`        // lately

	lost, tried   Reading // attempts, as in Lost
	excess        excess  // of the attempts that finished
	contradiction string
	revisions     []float64
}

// Dependencies returns what the instances of m report of their calls to other services, sorted by name. It is the very
// code by which the loops see them.
func Dependencies(m Measurement) []Calls {
	completed := Read(0)
	var fresh []Instance
	for _, in := range m.Instances {
		if in.Age.Known() {
			fresh, completed = append(fresh, in), completed.Plus(in.Completed)
		}
	}
	return dependencies(fresh, completed)
}

// dependencies combines the calls that the instances report, sorted by name. The service answered completed requests
// meanwhile, all instances together.
func dependencies(ins []Instance, completed Reading) []Calls {
	calls := map[string][]Call{}
	for _, in := range ins {
		for _, c := range in.Calls {
			calls[c.To] = append(calls[c.To], c)
		}
	}
	all := make([]Calls, 0, len(calls))
	for name, of := range calls {
		all = append(all, dependency(name, of, completed))
	}
	slices.SortFunc(all, func(a, b Calls) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// dependency combines the calls of several instances to one dependency.
func dependency(name string, calls []Call, completed Reading) Calls {
	d := Calls{Name: name, Instances: len(calls)}
	sum := func(of func(Call) Reading) Reading {
		total, found := 0.0, false
		for _, c := range calls {
			if v, ok := of(c).Value(); ok {
				total, found = total+v, true
			}
		}
		if !found {
			return Missing(NoData, "no instance reports it")
		}
		return Read(total)
	}
	mean := func(of func(Call) Reading) Number {
		n := 0
		for _, c := range calls {
			if of(c).Known() {
				n++
			}
		}
		return sum(of).Over(Read(float64(n)), "").Number()
	}
	requests := sum(func(c Call) Reading { return c.Requests })
	attempts := sum(func(c Call) Reading { return c.Attempts })
	retries := sum(func(c Call) Reading { return c.Retries })
	failures := sum(func(c Call) Reading { return c.Failures })
	finished := sum(func(c Call) Reading { return c.Finished })
	busy := sum(func(c Call) Reading { return c.busy() })
	calleeRefused := sum(func(c Call) Reading { return c.CalleeRefused })
	refused := func(of func(Call) Reading) Reading { return sum(of).Over(requests, "") }
	byDeadline := refused(func(c Call) Reading { return c.PastDeadline })
	byBreaker := refused(func(c Call) Reading { return c.BreakerOpen })
	byBulkhead := refused(func(c Call) Reading { return c.BulkheadFull })
	early := refused(func(c Call) Reading { return Read(c.Early.Or(0)) })
	latency := busy.Over(finished, "")

	d.Requests = requests.Number()
	d.RetryRatio, d.FailedRatio = retries.Over(requests, "").Number(), failures.Over(attempts, "").Number()
	d.RefusedRatio = byDeadline.Plus(byBreaker).Plus(byBulkhead).Plus(early).Number()
	d.RefusedBy = CallRefusals{byDeadline.Number(), byBreaker.Number(), byBulkhead.Number(), early.Number()}
	d.CalleeRefused = calleeRefused.Over(attempts, "").Number()
	withheld := sum(func(c Call) Reading { return c.BreakerOpen.Plus(c.BulkheadFull).Plus(Read(c.Early.Or(0))) })
	sudden := Read(min(failures.Float(), attempts.Less(calleeRefused).Less(finished).Float()))
	d.lost, d.tried = withheld.Plus(calleeRefused).Plus(sudden), withheld.Plus(attempts)
	d.Lost = d.lost.Over(d.tried, "").Number()
	d.Mean, d.PerRequest = latency.Number(), busy.Over(completed, "").Number()
	d.InFlight = mean(func(c Call) Reading { return c.InFlight })
	d.Limit = mean(func(c Call) Reading { return c.Limit })
	d.LatencyTarget = mean(func(c Call) Reading { return c.LatencyTarget })
	d.Breakers = Breakers{
		Closed:   sum(func(c Call) Reading { return c.Closed }).Number(),
		Open:     sum(func(c Call) Reading { return c.Open }).Number(),
		HalfOpen: sum(func(c Call) Reading { return c.HalfOpen }).Number(),
	}
	d.BreakersOpened = BreakersOpened{
		Failures: sum(func(c Call) Reading { return c.OpenedByFailures }).Number(),
		Slow:     sum(func(c Call) Reading { return c.OpenedAsSlow }).Number(),
	}
	own := Number(math.NaN())
	var learned []float64
	for _, c := range calls {
		if v, ok := c.OwnLatency.Value(); ok && v > 0 {
			learned = append(learned, v)
		}
		if r, ok := c.Revision.Value(); ok {
			d.revisions = append(d.revisions, r)
		}
	}
	if d.LearnedBy = len(learned); d.LearnedBy > 0 {
		slices.Sort(learned)
		own = Number(learned[(len(learned)-1)/2]) // of two in the middle the lower one: doubt does not loosen
	}
	d.OwnLatency = own
	d.excess = unknownExcess
	if spent, ok := busy.Value(); ok {
		d.excess = beyond(spent, finished.Float(), Read(float64(own)))
	}
	d.contradiction = contradictory(attempts, retries, failures, latency, own)
	return d
}

// busy is the time that the attempts that finished took together, in seconds.
func (c Call) busy() Reading {
	if c.Finished.AtMost(0) {
		return Read(0)
	}
	return c.Mean.Times(c.Finished)
}

// contradictory says which readings about the calls to a dependency cannot all be true; "": none is known to be wrong.
func contradictory(attempts, retries, failures, latency Reading, own Number) string {
	switch {
	case larger(failures, attempts):
		return fmt.Sprintf("%s failed of %s attempts", format.Count(failures.value), format.Count(attempts.value))
	case larger(retries, attempts):
		return fmt.Sprintf("%s retries among %s attempts", format.Count(retries.value), format.Count(attempts.value))
	case attempts.AtLeast(fewJudged) && latency.Above(0) && float64(own) > quantileFactor*latency.value:
		return fmt.Sprintf("an own latency of %s, where the mean is %s now", format.Latency(float64(own)), format.Latency(latency.value))
	}
	return ""
}

// CallSpec describes the calls of a service to one dependency whose bulkhead gets its latency target from governor.
type CallSpec struct {
	To       string
	Min, Max float64 // bounds of the calls in flight per instance, 1 ≤ Min ≤ Max; 0: 1 and MostCalls
}

// MostCalls bounds the calls in flight per instance where the configuration does not: in practice, the limit that the
// service itself finds.
const MostCalls = 1_000_000

// withDefaults returns c with every zero field filled in.
func (c CallSpec) withDefaults() CallSpec {
	def(&c.Min, 1)
	def(&c.Max, MostCalls)
	return c
}

func (c CallSpec) validate() error {
	d := c.withDefaults()
	switch {
	case c.To == "":
		return fmt.Errorf("calls without the name of a dependency")
	case !(d.Min >= 1 && d.Max >= d.Min) || math.IsInf(d.Max, 0):
		return fmt.Errorf("bounds %g..%g of the calls to %s: need 1 <= min <= max", d.Min, d.Max, c.To)
	}
	return nil
}

// knobCalls is the beginning of the knobs of calls.
const knobCalls = "calls/"

// KnobCall is the knob of the calls to a dependency: the latency target of their bulkhead, in seconds.
func KnobCall(to string) Knob { return Knob(knobCalls + to) }

// Callee is the dependency of a knob that KnobCall returned; "" and false for every other knob.
func (k Knob) Callee() (to string, ok bool) {
	if to, ok = strings.CutPrefix(string(k), knobCalls); !ok {
		return "", false
	}
	return to, true
}

// call is the law for the latency target of the bulkhead of the calls to one dependency:
//
//	target = min(max(3·m₀, 0.05·SLO), 0.4·SLO)
//
// where m₀ is how long the dependency takes when nothing queues there, as the instances have learned it, and the SLO is
// the caller's. A dependency that is slower than that by itself gets 1.25·m₀, up to 0.8·SLO: refusing its calls could not
// make it faster. A bulkhead with a target far above that fills with calls to a dependency that is slow, and takes the
// caller's slots with it; one far below refuses calls to a dependency that merely varies. Between three times m₀ and the
// bound little depends on the exact value.
//
// Every guard can compute that from its own m₀, and does until it has a Setting. Governor sees all instances: the
// median is not moved by one that has learned nonsense, and an instance that has just started need not learn. The limit
// stays with the guards, which see every call.
//
// The target moves only by more than a tenth, so that the noise of m₀ writes nothing. A dependency in overload cannot
// raise it: guards learn m₀ from windows without a queue.
type call struct {
	spec CallSpec
	slo  SLO
}

const (
	callTargetFactor = 3    // × m₀
	callTargetShare  = 0.4  // of the caller's SLO, at most
	callTargetMost   = 0.8  // of the caller's SLO, at most for a dependency that is slow by itself
	callTargetFloor  = 0.05 // of the caller's SLO, at least: below that the caller cannot notice that calls are slower
	callTargetLeast  = 0.001
	callTargetStep   = 0.1 // smallest move, in ln units
	callLearnedBy    = 0.5 // share of the instances that must have learned m₀
)

// callBounds are the bounds of the target in seconds. Timers and schedulers make latencies below a millisecond
// meaningless as a target, whatever the SLO.
func callBounds(slo SLO) Bounds {
	within := slo.Latency.Seconds()
	share := callTargetShare * within
	return Bounds{Min: max(callTargetFloor*within, min(callTargetLeast, share)), Max: callTargetMost * within, Fallback: share}
}

func newCall(c CallSpec, slo SLO) *call { return &call{spec: c, slo: slo} }

// rest keeps the target in force.
func (c *call) rest(s step) outcome {
	o := s.rest(CallLaw)
	o.setpoint, o.measured = Missing(NoData, ""), Missing(NoData, "")
	if d := s.v.dependency(c.spec.To); d != nil {
		if d.Mean.Known() {
			o.measured = Read(float64(d.Mean))
		}
		if d.OwnLatency.Known() {
			o.setpoint = Read(callTarget(float64(d.OwnLatency), c.slo))
		}
	}
	return o
}

// callTarget is what the law aims at for a dependency with that own latency, in seconds.
func callTarget(own float64, slo SLO) float64 {
	b := callBounds(slo)
	target := min(max(callTargetFactor*own, b.Min), b.Fallback)
	return max(target, min(little.Setpoint(target, own, slo.Latency.Seconds()), b.Max))
}

func (c *call) decide(s step) outcome {
	o := c.rest(s)
	d := s.v.dependency(c.spec.To)
	switch {
	case d == nil:
		return o.held(NoData, fmt.Sprintf("no instance reports calls to %s: is the name right, does the service make them "+
			"through guard?", c.spec.To))
	case d.contradiction != "":
		return o.held(Implausible, d.contradiction)
	case d.LearnedBy == 0 || float64(d.LearnedBy) < callLearnedBy*float64(d.Instances):
		return o.held(TooLittleTraffic, fmt.Sprintf("%d of %d instances know the own latency of %s, needs half of them",
			d.LearnedBy, d.Instances, c.spec.To))
	}
	o.raw = Read(callTargetFactor * float64(d.OwnLatency))
	next := o.setpoint.value
	switch from := o.from; {
	case !s.inForce.published():
	case next > from && s.v.unsure != "":
		next, o.bound = from, BoundTighten
	case !moved(next, from, callTargetStep):
		if next != from {
			o.bound = BoundDeadband
		}
		next = from
	}
	switch {
	case o.bound != "":
	case next < o.raw.value:
		o.bound = BoundMax
	case next > o.raw.value:
		o.bound = BoundMin
	}
	o.value = next
	o.publish = next != o.from || !s.inForce.published()
	o.state = moveState(o)
	return o
}

func (c *call) track(time.Time, float64, float64) {}
func (c *call) lose()                             {}
func (c *call) restart()                          {}
func (c *call) overrule()                         {}

// dependency is what the view knows about the calls to a dependency; nil: nothing.
func (v *view) dependency(name string) *Calls {
	for i := range v.dependencies {
		if v.dependencies[i].Name == name {
			return &v.dependencies[i]
		}
	}
	return nil
}

// retried is the retries per call of all dependencies together.
func (v *view) retried() Reading {
	retries, calls := 0.0, 0.0
	for _, d := range v.dependencies {
		if d.RetryRatio.Known() {
			retries, calls = retries+float64(d.RetryRatio*d.Requests), calls+float64(d.Requests)
		}
	}
	return Read(retries).Over(Read(calls), "no calls")
}
