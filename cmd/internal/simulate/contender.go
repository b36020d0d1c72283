package simulate

import (
	"errors"
	"fmt"
	"math"
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
)

// fixedThreshold is the shed threshold of ShedFixed.
const fixedThreshold = 0.6

// Contenders returns the contenders that steer the concurrency limit or nothing.
func Contenders() []Contender {
	return []Contender{None, Static, Outer, OuterAIMD, Reflex, Cascade}
}

// AllContenders returns Contenders and the contenders with further knobs.
func AllContenders() []Contender {
	return append(Contenders(), Shed, ShedFixed, CascadeRate, OuterRate, Rate)
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
	}
	return ""
}

// law is the control law of the concurrency limit, "" if it is not steered.
func (c Contender) law() control.Law {
	switch c {
	case Outer, Cascade, Shed, ShedFixed, CascadeRate, OuterRate:
		return control.PIDLaw
	case OuterAIMD:
		return control.AIMDLaw
	}
	return ""
}

func (c Contender) shed() bool { return c == Shed }

func (c Contender) rate() bool { return c == CascadeRate || c == OuterRate || c == Rate }

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
func (r Run) subject(now time.Duration, limit float64) subject {
	config := guard.Config{
		Service: service, SLO: r.Scenario.SLO.Latency, Min: int(r.Scenario.Min), Max: int(r.Scenario.Max),
		Fallback: int(limit),
		Now:      func() time.Time { return start.Add(now) },
	}
	switch r.Contender {
	case None:
		return plain{models.NewLimiter(math.Inf(1))}
	case ShedFixed:
		config.ShedThreshold = fixedThreshold
	case OuterRate:
		config.NoReflex = true
	case Rate:
		config.NoReflex, config.Max, config.Fallback = true, unlimited, unlimited
	case Reflex, Cascade, Shed, CascadeRate:
	default:
		return plain{models.NewLimiter(limit)}
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
	permits   []guard.Permit // by Request.Slot
	unlimited bool
}

func newGuarded(c guard.Config) *guarded {
	g, err := guard.New(c)
	if err != nil {
		panic(fmt.Sprintf("simulate: %v", err))
	}
	return &guarded{guard: g, unlimited: c.Max == unlimited}
}

// users are the senders of the requests. Each sends an equal share at random; all attempts of a request come from the
// same user.
var users = func() (names [1000]string) {
	for i := range names {
		names[i] = fmt.Sprintf("user-%d", i)
	}
	return names
}()

func (g *guarded) Admit(now time.Duration, r models.Request) models.Verdict {
	user := users[(r.ID*0x9e3779b97f4a7c15>>32)%uint64(len(users))]
	permit, err := g.guard.AcquireForAt(start.Add(now), guard.Criticality(r.Criticality), user)
	switch {
	case errors.Is(err, guard.ErrRate):
		return models.RefusedByRate
	case err != nil:
		return models.Refused
	}
	for len(g.permits) <= r.Slot {
		g.permits = append(g.permits, guard.Permit{})
	}
	g.permits[r.Slot] = permit
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
	g.permits[r.Slot].ReleaseAt(start.Add(now), outcome)
}

func (g *guarded) Report(now time.Duration) models.Report {
	s := g.guard.SnapshotAt(start.Add(now))
	r := models.Report{
		Limit: float64(s.Limit), ServiceTime: s.ServiceTime, ShedThreshold: s.ShedThreshold,
		BindingSeconds: s.Binding.Seconds(), Revision: float64(s.Revision),
	}
	if !s.Reflex {
		r.ServiceTime = math.NaN()
	}
	if g.unlimited {
		r.Limit = math.Inf(1)
	}
	return r
}

// Apply passes the Setting as the bytes that the KV holds, so that it goes through the same checks.
func (g *guarded) Apply(now time.Duration, s actuators.Setting) {
	raw, err := s.Encode()
	if err == nil {
		err = g.guard.ApplyAt(start.Add(now), raw)
	}
	if err != nil {
		panic(fmt.Sprintf("simulate: the guard refused a Setting of governor: %v", err))
	}
}
