package guard

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// regime is what the guard obeys: the last good Setting and how far its lease has run, or the Config where there is
// none.
//
//	receipt ──── lease ────► lapsed ──── one further lease, spent healthy ────► drifted
//	 limit, ceiling, target    no ceiling; the limit moves towards the fallback    fallback
//
// A guard in trouble does not move: the last thing an overloaded service needs is a limit that changes because its
// controller is silent.
type regime struct {
	cfg  Config
	last actuators.Setting      // the last one accepted, for the order; zero: none
	knob *actuators.Concurrency // the last good values; nil: none

	heard time.Duration // until when last orders its successors

	base  float64 // the limit asked for: by the Setting, drifting towards the fallback after its lease
	lease time.Duration
	ends  time.Duration // when the lease does
	drift float64       // how much of the further lease has been spent healthy, 0..1
	seen  time.Duration // when drift was last brought up to date
}

// bounds are what the regime asks of the reflex.
type bounds struct {
	base    float64 // the limit to use without local data
	min     float64
	ceiling float64
	target  float64 // τ, seconds

	fallback float64
	drift    float64 // share of the way to the fallback to go now
}

func newRegime(cfg Config) regime { return regime{cfg: cfg, base: float64(cfg.Fallback)} }

// predecessor is the Setting that the next one must follow. After its lease and one further lease it has no authority
// left: a store that was wiped, or restored from an old copy, starts again at a lower epoch and must not be refused for
// ever.
func (r *regime) predecessor(now time.Duration) actuators.Setting {
	if now >= r.heard {
		return actuators.Setting{}
	}
	return r.last
}

// adopt takes an accepted Setting into force from now on. A Setting without a concurrency knob leaves the last values
// and their lease as they are.
func (r *regime) adopt(now time.Duration, s actuators.Setting) {
	lease := time.Duration(s.LeaseSeconds * float64(time.Second))
	r.last, r.heard = s, now+2*lease
	if s.Concurrency == nil {
		return
	}
	knob := *s.Concurrency
	r.knob, r.base = &knob, float64(knob.Limit)
	r.lease, r.ends, r.seen, r.drift = lease, now+lease, now, 0
}

// advance brings the drift up to now and returns the bounds with the share of the remaining way to the fallback that
// was covered.
func (r *regime) advance(now time.Duration, healthy bool) bounds {
	from := max(r.seen, r.ends)
	r.seen = max(r.seen, now)
	if r.knob == nil || now <= from || !healthy || r.drift >= 1 {
		return r.bounds(now)
	}
	step := (now - from).Seconds() / r.lease.Seconds()
	share := min(1, step/(1-r.drift))
	r.drift = min(1, r.drift+step)
	r.base = approach(r.base, r.fallback(), share)
	b := r.bounds(now)
	b.drift = share
	return b
}

// approach moves v by share of the way to target, evenly in its logarithm: a limit is a matter of proportion.
func approach(v, target, share float64) float64 {
	if share >= 1 {
		return target
	}
	return v * math.Pow(target/v, share)
}

func (r *regime) fallback() float64 {
	if r.knob == nil {
		return float64(r.cfg.Fallback)
	}
	lo, hi := r.span()
	return min(max(float64(r.knob.Fallback), lo), hi)
}

// span returns the hard bounds: those of the Setting within those of the Config, which wins where they disagree.
func (r *regime) span() (lo, hi float64) {
	cl, ch := r.cfg.bounds()
	if r.knob == nil {
		return float64(cl), float64(ch)
	}
	lo, hi = float64(r.knob.Min), float64(r.knob.Max)
	if r.cfg.Min > 0 {
		lo, hi = max(lo, float64(cl)), max(hi, float64(cl))
	}
	if r.cfg.Max > 0 {
		lo, hi = min(lo, float64(ch)), min(hi, float64(ch))
	}
	return lo, hi
}

func (r *regime) bounds(now time.Duration) bounds {
	lo, hi := r.span()
	b := bounds{min: lo, ceiling: hi, target: targetShare * r.cfg.SLO.Seconds(), fallback: r.fallback()}
	if r.knob != nil {
		b.target = r.knob.LatencyTargetSeconds
		if now < r.ends {
			b.ceiling = min(max(float64(r.knob.Ceiling), lo), hi)
		}
	}
	b.base = min(max(r.base, lo), b.ceiling)
	return b
}
