package simulate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
	"github.com/seed-de83e32b/governor/models/scenarios"
)

// service is the name of the service in every run.
const service = "simulated"

// Contender names who is in charge.
type Contender string

// The contenders.
const (
	None      Contender = "none"       // everything is admitted
	Static    Contender = "static"     // the scenario's initial limit, for ever
	Outer     Contender = "outer"      // governor's loop by PID on a plain limiter
	OuterAIMD Contender = "outer-aimd" // governor's loop by AIMD on a plain limiter
	Reflex    Contender = "reflex"     // guard alone, from its fallback
	Cascade   Contender = "cascade"    // governor's loop by PID around guard
)

// Contenders returns all of them.
func Contenders() []Contender {
	return []Contender{None, Static, Outer, OuterAIMD, Reflex, Cascade}
}

// Known says whether c is one of the contenders.
func (c Contender) Known() bool { return slices.Contains(Contenders(), c) }

// law is the control law of governor's loop, "" for a contender without one.
func (c Contender) law() control.Law {
	switch c {
	case Outer, Cascade:
		return control.PIDLaw
	case OuterAIMD:
		return control.AIMDLaw
	}
	return ""
}

// subject is what stands in front of the plant and obeys a Setting.
type subject interface {
	models.Admitter
	// Apply puts a Setting in force, as a watcher of the KV would.
	Apply(now time.Duration, s actuators.Setting)
}

// subject returns the contender's admission control, with limit in force before any Setting.
func (r Run) subject(limit float64) subject {
	switch r.Contender {
	case None:
		return plain{models.NewLimiter(math.Inf(1))}
	case Reflex, Cascade:
		return newGuarded(r.Scenario, limit)
	}
	return plain{models.NewLimiter(limit)}
}

// plain is the plain limiter, which takes the limit out of a Setting and nothing else.
type plain struct{ *models.Limiter }

func (p plain) Apply(now time.Duration, s actuators.Setting) {
	p.Set(now, float64(s.Concurrency.Limit), float64(s.Revision))
}

// guarded is the real guard, told the simulated time.
type guarded struct {
	guard   *guard.Guard
	permits []guard.Permit // by Request.Slot
}

func newGuarded(s scenarios.Scenario, limit float64) *guarded {
	g, err := guard.New(guard.Config{
		Service: service, SLO: scenarios.SLO, Min: int(s.Min), Max: int(s.Max), Fallback: int(limit),
		Now: func() time.Time { return start },
	})
	if err != nil {
		panic(fmt.Sprintf("simulate %s: %v", s.Name, err))
	}
	return &guarded{guard: g}
}

func (g *guarded) Admit(now time.Duration, r models.Request) bool {
	permit, err := g.guard.AcquireAt(start.Add(now), guard.Criticality(r.Criticality))
	if err != nil {
		return false
	}
	for len(g.permits) <= r.Slot {
		g.permits = append(g.permits, guard.Permit{})
	}
	g.permits[r.Slot] = permit
	return true
}

func (g *guarded) Done(now time.Duration, r models.Request, o models.Outcome) {
	outcome := guard.Success
	switch o {
	case models.Failed:
		outcome = guard.Failure
	case models.TimedOut:
		outcome = guard.Cancelled
	}
	g.permits[r.Slot].ReleaseAt(start.Add(now), outcome)
}

func (g *guarded) Report(now time.Duration) models.Report {
	s := g.guard.SnapshotAt(start.Add(now))
	return models.Report{
		Limit: float64(s.Limit), ServiceTime: s.ServiceTime,
		BindingSeconds: s.Binding.Seconds(), Revision: float64(s.Revision),
	}
}

// Apply hands the Setting over as the bytes that the KV holds, so that it passes the same checks.
func (g *guarded) Apply(now time.Duration, s actuators.Setting) {
	raw, err := s.Encode()
	if err == nil {
		err = g.guard.ApplyAt(start.Add(now), raw)
	}
	if err != nil {
		panic(fmt.Sprintf("simulate: the guard refused a Setting of governor: %v", err))
	}
}
