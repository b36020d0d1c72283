package simulate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/configs/suggest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// service is the name of the service in every run.
const service = "simulated"

// Contender names the controller in charge of a run; Describe says what it is.
type Contender string

// The contenders.
const (
	None      Contender = "none"
	Static    Contender = "static"
	Outer     Contender = "outer"
	OuterAIMD Contender = "outer-aimd"
	Reflex    Contender = "reflex"
	Cascade   Contender = "cascade"

	Shed        Contender = "shed"
	ShedFixed   Contender = "shed-fixed"
	CascadeRate Contender = "cascade-rate"
	OuterRate   Contender = "outer-rate"
	Rate        Contender = "rate"
	Fair        Contender = "fair"
	Routes      Contender = "routes"

	CascadeRoutes     Contender = "cascade-routes"
	ShedRoutes        Contender = "shed-routes"
	CascadeRateRoutes Contender = "cascade-rate-routes"

	// Of call graphs.
	Naive    Contender = "naive"
	Guards   Contender = "guards"
	Patterns Contender = "patterns"
	Governed Contender = "governed"

	// Experiments with call graphs, which are no part of governor.
	Entry         Contender = "entry"
	EntryPatterns Contender = "entry-patterns"
	RetryLaw      Contender = "retry-law"
)

// fixedThreshold is the shed threshold of ShedFixed.
const fixedThreshold = 0.6

// Contenders returns the contenders that steer the concurrency limit or nothing.
func Contenders() []Contender {
	return []Contender{None, Static, Outer, OuterAIMD, Reflex, Cascade}
}

// RouteContenders returns the contenders whose guard has a compartment for each route with an SLO of its own.
func RouteContenders() []Contender {
	return []Contender{Routes, CascadeRoutes, ShedRoutes, CascadeRateRoutes}
}

// GraphContenders returns the contenders in scenarios of several services that call each other. The others are for
// scenarios of one service.
func GraphContenders() []Contender { return []Contender{Naive, Guards, Patterns, Governed} }

// Experiments returns the contenders in scenarios of several services that were tried and are no part of governor.
func Experiments() []Contender { return []Contender{Entry, EntryPatterns, RetryLaw} }

// AllContenders returns Contenders, the contenders with further knobs, RouteContenders, GraphContenders and Experiments.
func AllContenders() []Contender {
	return slices.Concat(Contenders(), []Contender{Shed, ShedFixed, CascadeRate, OuterRate, Rate, Fair}, RouteContenders(),
		GraphContenders(), Experiments())
}

// Suits says whether the contender is one for the scenario.
func (c Contender) Suits(s Scenario) bool {
	return (slices.Contains(GraphContenders(), c) || slices.Contains(Experiments(), c)) == (s.Graph != nil)
}

// Check returns an error, with a suggestion, if c is none of the contenders.
func (c Contender) Check() error {
	var names []string
	for _, known := range AllContenders() {
		if c == known {
			return nil
		}
		names = append(names, string(known))
	}
	if near := suggest.Nearest(string(c), names); near != "" {
		return fmt.Errorf("did you mean %s?", near)
	}
	return fmt.Errorf("expected one of %s", strings.Join(names, ", "))
}

// Describe says in one line which controller is in charge.
func (c Contender) Describe() string {
	switch c {
	case None:
		return "everything is admitted"
	case Static:
		return "the scenario's initial limit, unchanged"
	case Outer:
		return "governor's PID loop on a plain limiter"
	case OuterAIMD:
		return "governor's AIMD loop on a plain limiter"
	case Reflex:
		return "guard alone, from its fallback"
	case Cascade:
		return "governor's PID loop around guard"
	case Shed:
		return "the cascade with the shed threshold"
	case ShedFixed:
		return "the cascade with a fixed shed threshold of 0.6"
	case CascadeRate:
		return "the cascade with the rate knob"
	case OuterRate:
		return "the loop on a plain limiter with the rate knob"
	case Rate:
		return "governor's rate knob alone: a gateway without a concurrency limit"
	case Fair:
		return "the cascade with fair shares of tenants"
	case Routes:
		return "guard alone, with a compartment for each route that has a deadline of its own, under a roof"
	case CascadeRoutes:
		return "the cascade with routes, a loop around each compartment"
	case ShedRoutes:
		return "the cascade with routes, each with the shed threshold"
	case CascadeRateRoutes:
		return "the cascade with routes, each with the rate knob"
	case Naive:
		return "call graphs: everything is admitted, callers time out and retry"
	case Guards:
		return "call graphs: a guard in front of each service, callers as naive"
	case Patterns:
		return "call graphs: guards, and guarded calls with bulkhead, breaker and retry budget"
	case Governed:
		return "call graphs: patterns, and governor's PID loop around each service"
	case Entry:
		return "experiment with call graphs: guards, and a loop that admits at the entry"
	case EntryPatterns:
		return "experiment with call graphs: patterns, and a loop that admits at the entry"
	case RetryLaw:
		return "experiment with call graphs: patterns, and a loop that sets the retry budgets"
	}
	return ""
}

// law is the control law of the concurrency limit, "" if it is not steered.
func (c Contender) law() control.Law {
	switch c {
	case Outer, Cascade, Fair, Governed, Shed, ShedFixed, CascadeRate, OuterRate, CascadeRoutes, ShedRoutes, CascadeRateRoutes:
		return control.PIDLaw
	case OuterAIMD:
		return control.AIMDLaw
	}
	return ""
}

func (c Contender) shed() bool { return c == Shed || c == ShedRoutes }

func (c Contender) rate() bool {
	return c == CascadeRate || c == OuterRate || c == Rate || c == CascadeRateRoutes
}

// divides says whether the guard has a compartment for each route with an SLO of its own.
func (c Contender) divides() bool { return slices.Contains(RouteContenders(), c) }

// guardsCalls says whether services call each other through guard.
func (c Contender) guardsCalls() bool {
	return c == Patterns || c == Governed || c == EntryPatterns || c == RetryLaw
}

// governed says whether the contender includes a loop of governor's.
func (c Contender) governed() bool { return c.law() != "" || c.rate() }

// subject is what stands in front of the plant and obeys a Setting.
type subject interface {
	models.Admitter
	// Apply puts a Setting in force, as a watcher of the KV would.
	Apply(now time.Duration, s actuators.Setting)
}

// subject returns the contender's admission control for an instance that comes up now, with limit in force before any
// Setting. What a contender switches on or off in its guards is said here.
func (r Run) subject(now time.Duration, t Tier) subject {
	if t.Unguarded {
		return plain{models.NewLimiter(math.Inf(1))}
	}
	config := guard.Config{
		Service: t.Name, SLO: t.SLO.Latency, Min: int(t.Min), Max: int(t.Max),
		Fallback: int(t.Start), ShedThreshold: 1,
		Now: func() time.Time { return start.Add(now) }, Routes: t.guarded(),
	}
	switch r.Contender {
	case None, Naive:
		return plain{models.NewLimiter(math.Inf(1))}
	case ShedFixed:
		config.ShedThreshold = fixedThreshold
	case Fair:
		config.FairKeys, config.ShedThreshold = true, 0
	case OuterRate:
		config.NoReflex = true
	case Rate:
		config.NoReflex, config.Max, config.Fallback = true, unlimited, unlimited
	case Reflex, Cascade, Shed, CascadeRate, Guards, Entry, Routes, CascadeRoutes, ShedRoutes, CascadeRateRoutes:
	case Patterns, Governed, EntryPatterns, RetryLaw:
		config.ShedThreshold = 0
	default:
		return plain{models.NewLimiter(t.Start)}
	}
	return newGuarded(config)
}

// unlimited is a concurrency limit that no scenario reaches.
const unlimited = 1 << 24

// plain is the plain limiter, which uses only the limit of a Setting.
type plain struct{ *models.Limiter }

func (p plain) Apply(now time.Duration, s actuators.Setting) {
	p.Set(now, float64(s.Concurrency.Limit), float64(s.Revision))
}

// guarded is the real guard on simulated time.
type guarded struct {
	guard     *guard.Guard
	permits   []guard.Permit    // by Request.Slot
	calls     bool              // guarded ones are made for the requests
	contexts  []context.Context // by Request.Slot, if calls
	unlimited bool
	slo       time.Duration
	excused   bool // the last request that ended
}

func newGuarded(c guard.Config) *guarded {
	g, err := guard.New(c)
	if err != nil {
		panic(fmt.Sprintf("simulate: %v", err))
	}
	return &guarded{guard: g, slo: c.SLO, unlimited: c.Max == unlimited}
}

// users are the senders of the requests. Each sends an equal share at random; all attempts of a request come from the
// same user.
var users = func() (names [1000]string) {
	for i := range names {
		names[i] = fmt.Sprintf("user-%d", i)
	}
	return names
}()

// senderOf is the user or tenant who sends a request.
func senderOf(r models.Request) string {
	if r.Tenant > 0 {
		return "tenant-" + strconv.Itoa(r.Tenant)
	}
	return users[(r.ID*0x9e3779b97f4a7c15>>32)%uint64(len(users))]
}

// apiOf is the API that a request is for. Where tenants are told apart, all of them use the same.
func apiOf(r models.Request) string {
	if r.Tenant > 0 {
		return "all"
	}
	return strconv.Itoa(r.Route)
}

func (g *guarded) Admit(now time.Duration, r models.Request) models.Verdict {
	permit, err := g.guard.AdmitAt(start.Add(now), arrivalOf(r))
	switch {
	case errors.Is(err, guard.ErrRate):
		return models.RefusedByRate
	case errors.Is(err, guard.ErrShed):
		return models.RefusedByShed
	case errors.Is(err, guard.ErrCallee):
		return models.RefusedForCallee
	case errors.Is(err, guard.ErrShare):
		return models.RefusedByShare
	case errors.Is(err, guard.ErrRoof):
		return models.RefusedByRoof
	case err != nil:
		return models.Refused
	}
	for len(g.permits) <= r.Slot {
		g.permits = append(g.permits, guard.Permit{})
	}
	g.permits[r.Slot] = permit
	if g.calls {
		for len(g.contexts) <= r.Slot {
			g.contexts = append(g.contexts, nil)
		}
		g.contexts[r.Slot] = guard.NewContext(context.Background(), permit)
	}
	if r.Endless {
		permit.EndlessAt(start.Add(now))
		return models.Aside
	}
	return models.Admitted
}

func (g *guarded) Done(now time.Duration, r models.Request, o models.Outcome) {
	outcome := guard.Success
	switch o {
	case models.Failed:
		outcome = guard.Failure
	case models.TimedOut:
		outcome = guard.Canceled
	}
	old := now-r.Sent >= g.slo // no other can have been excused
	before := uint64(0)
	if old {
		before = g.excusedSoFar(now)
	}
	g.permits[r.Slot].ReleaseAt(start.Add(now), outcome)
	g.excused = old && g.excusedSoFar(now) > before
}

// Excused implements models.Excuser.
func (g *guarded) Excused() bool { return g.excused }

// excusedSoFar is how many of the requests that the guard has found endless have ended.
func (g *guarded) excusedSoFar(now time.Duration) uint64 {
	s := g.guard.SnapshotAt(start.Add(now))
	n := s.EndlessFoundTotal - uint64(s.EndlessFound)
	for _, r := range s.Routes {
		n += r.EndlessFoundTotal - uint64(r.EndlessFound)
	}
	return n
}

func (g *guarded) Report(now time.Duration) models.Report {
	s := g.guard.SnapshotAt(start.Add(now))
	report := g.report(s)
	for _, r := range s.Routes {
		report.Compartments = append(report.Compartments, g.report(r))
	}
	return report
}

// report is what a guard, or a compartment of it, exposes.
func (g *guarded) report(s guard.Snapshot) models.Report {
	r := models.Report{
		Limit: float64(s.Limit), ServiceTime: s.ServiceTime, ShedThreshold: s.ShedThreshold,
		BindingSeconds: s.Binding.Seconds(), Revision: float64(s.Revision), Waited: s.Latency.Waited,
		Excused: float64(s.EndlessFound), Demoted: float64(s.Demoted),
	}
	for _, c := range s.Calls {
		r.Calls = append(r.Calls, models.Calls{
			To: c.To, Requests: float64(c.Requests), Attempts: float64(c.Attempts), Retries: float64(c.Retries),
			Failures: float64(c.Failures), CalleeRefused: float64(c.CalleeRefusals),
			PastDeadline: float64(c.Refused["deadline"]), BreakerOpen: float64(c.Refused["breaker"]),
			BulkheadFull: float64(c.Refused["bulkhead"]), Early: float64(c.Refused["early"]), Finished: float64(c.Latency.Count), LatencySum: c.Latency.Sum,
			OwnLatency: c.OwnLatency,
		})
	}
	if !s.Reflex {
		r.ServiceTime = math.NaN()
	}
	if g.unlimited {
		r.Limit = math.Inf(1)
	}
	return r
}

// arrivalOf is what a request brings along.
func arrivalOf(r models.Request) guard.Arrival {
	s := r.Standing
	return guard.Arrival{
		Criticality: guard.Criticality(r.Criticality),
		Key:         senderOf(r),
		Route:       apiOf(r),
		Entry:       s.Entry,
		Rank:        guard.Rank{Place: s.Rank, Drawn: s.Ranked, Again: s.Again, Group: uint8(s.Group), ID: s.ID},
		Early:       s.Early,
	}
}

// Advise implements models.Adviser.
func (g *guarded) Advise(now time.Duration, r models.Request, refused bool) models.Advice {
	var a guard.Advice
	switch {
	case refused:
		a = g.guard.RefusalAdviceAt(start.Add(now), arrivalOf(r))
	case g.calls:
		a = guard.AdviceAt(g.contexts[r.Slot], start.Add(now))
	}
	return models.Advice{NoRetry: a.NoRetry, Background: a.Background, Threshold: uint64(a.Threshold)}
}

// Apply passes the Setting as the bytes that the KV holds, so that it goes through the same checks.
func (g *guarded) Apply(now time.Duration, s actuators.Setting) {
	raw, err := s.Encode()
	_, route := actuators.SplitCompartment(s.Service)
	switch {
	case err != nil:
	case route == "":
		err = g.guard.ApplyAt(start.Add(now), raw)
	default:
		err = g.guard.ApplyRouteAt(start.Add(now), route, raw)
	}
	if err != nil {
		panic(fmt.Sprintf("simulate: the guard refused a Setting of governor: %v", err))
	}
}
