package simulate

import (
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// Contender names who is in charge.
type Contender string

// The contenders.
const (
	None      Contender = "none"       // everything is admitted
	Static    Contender = "static"     // the scenario's initial limit, for ever
	Outer     Contender = "outer"      // governor's loop by PID on a plain limiter
	OuterAIMD Contender = "outer-aimd" // governor's loop by AIMD on a plain limiter
)

// Contenders returns all of them.
func Contenders() []Contender { return []Contender{None, Static, Outer, OuterAIMD} }

// Known says whether c is one of the contenders.
func (c Contender) Known() bool { return slices.Contains(Contenders(), c) }

// law is the control law of governor's loop, "" for a contender without one.
func (c Contender) law() control.Law {
	switch c {
	case Outer:
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
	default:
		return plain{models.NewLimiter(limit)}
	}
}

// plain is the plain limiter, which takes the limit out of a Setting and nothing else.
type plain struct{ *models.Limiter }

func (p plain) Apply(now time.Duration, s actuators.Setting) {
	p.Set(now, float64(s.Concurrency.Limit), float64(s.Revision))
}
