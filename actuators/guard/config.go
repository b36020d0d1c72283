package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Config describes one guard. Service and SLO are required; every other zero value has a sensible meaning.
type Config struct {
	// Service is the name under which governor steers this service. The guard refuses a Setting for any other service.
	Service string
	// SLO is the latency within which the service should answer, 1 ms to 1 h. It is an edge of the latency histogram.
	// Until governor publishes a latency target, the reflex uses 0.4·SLO.
	SLO time.Duration

	// Min and Max bound the limit, in requests in flight, 1 to 2³⁰, against any Setting. Zero means no bound of the host's own:
	// the Setting's bounds apply, and before the first Setting 1 and 1000.
	Min, Max int
	// Fallback is the limit to start from without a Setting, in [Min, Max]; 0: √(Min·Max). Two to three times what
	// the service carries (throughput × latency) is a good value.
	Fallback int

	// ShedThreshold is the occupancy (in flight ÷ limit) above which the least important requests are refused, in (0,
	// 1]. A Setting overrides it. 0 means 0.6 while requests bring a criticality, a key or a rank along, or hand on a rank, and
	// otherwise 1: nothing is shed.
	ShedThreshold float64

	// FairKeys divides what the service completes between the keys of its requests, the users or tenants: while the guard
	// refuses, what a key demands above its max-min fair share has the criticality Background here, the least important
	// requests first. Without it that holds for APIs only (see Arrival.Entry). With a ShedThreshold of 1, it holds for nobody.
	FairKeys bool
	// SpareCritical leaves critical requests out of both: they keep their criticality however many there are.
	SpareCritical bool

	// MaxEndless is how many endless requests may be open at a time: WebSockets, event streams, long polls, streams of gRPC.
	// They hold no slot, so nothing else bounds the memory that they take. Above it, AdmitEndless refuses. 0: no bound. A good
	// value is the memory that they may take, divided by what one takes.
	MaxEndless int

	// Routes gives routes an SLO of their own, by name, as in
	//
	//	Routes: map[string]guard.Route{"export": {SLO: 10 * time.Second}}
	//
	// SLO, Min, Max, Fallback, ShedThreshold and Weight are then for the requests on no such route. MaxEndless bounds all together,
	// and the rest holds for each compartment. At most 32.
	Routes map[string]Route
	// Weight is, for the requests on no route of Routes, what Route.Weight is for those of a route. 0: it is learned.
	Weight float64

	// NoReflex switches the local reflex off: the limit is then exactly what governor publishes.
	NoReflex bool

	// CacheFile, if set, stores the last good Setting, for starts while the store is down. New reads it and Run writes
	// it.
	CacheFile string

	// Logger logs rare events (refused Settings, findings of the floor test); nil: none.
	Logger *slog.Logger

	// Holders, if set, names up to so many of the oldest requests that hold a slot, for the log line that says that no slot
	// has come free for ten SLOs. It must be safe for concurrent use, and must not call the guard.
	Holders func(most int) []string

	// Observer, if set, hears of each decision, for traces.
	Observer Observer

	// Now replaces the clock, for tests and simulations; nil: the monotonic clock.
	Now func() time.Time
}

const (
	defaultMin = 1
	defaultMax = 1000
	hardMax    = 1 << 30 // the admission word has 32 bits for the limit
)

// targetShare of the SLO is the reflex's latency target until one is published: low enough that the tail of an
// exponential service still meets the SLO.
const targetShare = 0.4

// ready checks c and fills in its defaults.
func (c Config) ready() (Config, error) {
	ready, errs := c.complete()
	if len(errs) > 0 {
		return c, fmt.Errorf("guard: config of service %q: %w", c.Service, errors.Join(errs...))
	}
	return ready, nil
}

// complete fills in the defaults of c, and reports everything wrong with it.
func (c Config) complete() (_ Config, errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := actuators.ValidCompartment(c.Service); err != nil {
		bad("Service: expected %w", err)
	}
	if c.SLO < time.Millisecond || c.SLO > time.Hour {
		bad("SLO %v is outside 1ms..1h: give the latency objective of the service", c.SLO)
	}
	if c.Min < 0 || c.Min > hardMax {
		bad("Min %d is outside 0..%d", c.Min, hardMax)
	}
	if c.Max < 0 || c.Max > hardMax {
		bad("Max %d is outside 0..%d", c.Max, hardMax)
	}
	if c.MaxEndless < 0 {
		bad("MaxEndless %d is below 0: give the number of endless requests that may be open, or 0 for no bound", c.MaxEndless)
	}
	lo, hi := c.bounds()
	if lo > hi {
		bad("Min %d is above Max %d (an unset Min is %d, an unset Max %d)", lo, hi, defaultMin, defaultMax)
	}
	switch {
	case c.Fallback == 0:
		c.Fallback = int(math.Round(math.Sqrt(float64(lo) * float64(hi))))
	case c.Fallback < lo || c.Fallback > hi:
		bad("Fallback %d is outside Min..Max, %d..%d", c.Fallback, lo, hi)
	}
	switch {
	case c.ShedThreshold == 0: // see regime.shedAbove
	case !(c.ShedThreshold > 0 && c.ShedThreshold <= 1):
		bad("ShedThreshold %v is outside 0..1: give the share of the limit above which the least important are refused",
			c.ShedThreshold)
	}
	if c.FairKeys && c.ShedThreshold == 1 {
		bad("FairKeys with a ShedThreshold of 1: nobody is refused before others then; leave it 0, or choose less, like 0.6")
	}
	c.checkRoutes(bad)
	c.checkWeights(bad)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errs
}

// bounds returns the bounds of the limit while there is no Setting.
func (c Config) bounds() (lo, hi int) {
	lo, hi = c.Min, c.Max
	if lo == 0 {
		lo = defaultMin
		if hi > 0 {
			lo = min(lo, hi)
		}
	}
	if hi == 0 {
		hi = max(defaultMax, lo)
	}
	return lo, hi
}
