package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Config describes one guard. Service and SLO are required; every other zero value has a sane meaning.
type Config struct {
	// Service is the name under which governor steers this service; a Setting for another one is refused.
	Service string
	// SLO is the latency within which the service should answer, 1 ms to 1 h. It is an edge of the latency histogram,
	// and 0.4 of it is the reflex's target until governor publishes one.
	SLO time.Duration

	// Min and Max bound the limit, in requests in flight. They hold against any Setting. Zero means unbounded here:
	// the Setting's own bounds apply, and before there is one, 1 and 1000.
	Min, Max int
	// Fallback is the limit to start from where there is no Setting, in [Min, Max]; 0: √(Min·Max). Two to three times
	// what the service carries (throughput × latency) is a good value.
	Fallback int

	// ShedThreshold is the occupancy (in flight ÷ limit) above which the least important requests are refused, in (0, 1],
	// until a Setting says so; 0 means 1: nothing is shed. 0.6 is a good value.
	ShedThreshold float64

	// NoReflex switches the local reflex off: the limit is then exactly what governor publishes.
	NoReflex bool

	// CacheFile, if set, keeps the last good Setting for a start while the store is down. It is read by New and written
	// by Run.
	CacheFile string

	// Logger takes the rare events (refused Settings, findings of the floor test); nil: none.
	Logger *slog.Logger

	// Now replaces the clock, for tests and simulations; nil: the monotonic clock.
	Now func() time.Time
}

const (
	defaultMin = 1
	defaultMax = 1000
	hardMax    = 1 << 30 // a limit is 32 bits of the admission word
)

// targetShare of the SLO is the mean latency that the reflex aims at while nobody publishes a target: low enough that
// the tail of an exponential service still meets the SLO.
const targetShare = 0.4

// ready checks c and fills in its defaults.
func (c Config) ready() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := actuators.ValidServiceName(c.Service); err != nil {
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
	case c.ShedThreshold == 0:
		c.ShedThreshold = 1
	case !(c.ShedThreshold > 0 && c.ShedThreshold <= 1):
		bad("ShedThreshold %v is outside 0..1: give the share of the limit from which on the least important are refused",
			c.ShedThreshold)
	}
	if len(errs) > 0 {
		return c, fmt.Errorf("guard: config of service %q: %w", c.Service, errors.Join(errs...))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// bounds are the limits of the limit while there is no Setting.
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
