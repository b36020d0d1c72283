package guard

import (
	"math"
	"sync/atomic"
	"time"
)

// shedder decides which requests a nearly full service refuses first. Every request has a rank u in [0, 1), higher for
// more important ones. With n requests in flight under the limit L it is admitted if
//
//	u ≥ (n/L − φ)/(1 − φ)      or, without the division:   n ≤ L·(φ + (1 − φ)·u)
//
// φ is the shed threshold: at or below φ·L nothing is shed; from there up to L a rising share of requests is
// refused, the least important first. Because it depends on the occupancy of this instant, shedding stops when the load
// is gone. A share of requests to refuse, published from outside, would apply until somebody noticed.
//
// Each class covers a range of ranks in proportion to its share of the arrivals, so that u is the rank among all
// arrivals:
//
//	0         background   sheddable          default              critical   1
//	├───────────┼─────────────┼──────────────────────────────┼─────────────────┤
//	 refused at φ·L                                                  refused at L
//
// Within its class a hash of the user or tenant gives a request its place, so that some users are fully served and
// others not at all, rather than all of them partly (a page takes many requests). The hash does not depend on the
// process, the instance or the service, so a tenant that one of them admits is also admitted by the next. It changes
// every hour, so that nobody is always refused first (both as in WeChat: Zhou et al., Overload Control for Scaling
// WeChat Microservices, SoCC 2018).
type shedder struct {
	plan atomic.Pointer[plan] // nil: nothing is ever shed

	// Arrivals by class, fading: an average over the last mixSpan. Guarded by Guard.mu.
	mix  [criticalities]float64
	seen [criticalities]uint64 // arrivals already in mix
	at   time.Duration         // of the last update
}

// mixSpan is the time constant of the classes' shares: longer than a burst, shorter than a real change of traffic.
const mixSpan = 10 * time.Second

// plan is what admission needs to know of φ and the shares. A request of class c at place h within its class, 0 ≤ h
// < 1, is admitted up to the occupancy from[c] + width[c]·h.
type plan struct {
	threshold   float64
	from, width [criticalities]float64
	demotedTo   float64 // occupancy up to which the most important of the demoted requests are admitted
	salt        uint64  // changes every hour
}

// observe updates the average shares to now; offered counts the arrivals since the start.
func (s *shedder) observe(now time.Duration, offered [criticalities]uint64) {
	fade := 1.0
	if now > s.at {
		fade = math.Exp(-(now - s.at).Seconds() / mixSpan.Seconds())
		s.at = now
	}
	total, mix := 0.0, s.mix
	for c := range mix {
		mix[c] = mix[c]*fade + float64(offered[c]-s.seen[c])
		total += mix[c]
	}
	if total < 1e-9 { // idle for minutes: keep the last known shares
		return
	}
	s.mix, s.seen = mix, offered
}

// ordered says whether the arrivals differ in their criticality: one in twenty is not Default. Fewer could be the claim of a
// client that is not believed, and who may only lower his own.
func (s *shedder) ordered() bool {
	total := 0.0
	for _, n := range s.mix {
		total += n
	}
	return total >= 1 && total-s.mix[Default] > orderedFrom*total
}

// orderedFrom is a share of the arrivals.
const orderedFrom = 0.05

// shares returns each class's share of the arrivals. Before the first arrival all shares are equal.
func (s *shedder) shares() (shares [criticalities]float64) {
	total := 0.0
	for _, n := range s.mix {
		total += n
	}
	for c, n := range s.mix {
		if total > 0 {
			shares[c] = n / total
		} else {
			shares[c] = 1.0 / criticalities
		}
	}
	return shares
}

// set puts the threshold φ, 0..1, in force with the current shares, for a limit. wall is the time of day, for the hourly
// salt.
func (s *shedder) set(threshold, limit float64, wall time.Time) {
	if threshold >= 1 {
		s.plan.Store(nil)
		return
	}
	p := plan{threshold: threshold, salt: saltAt(wall)}
	shares, below := s.shares(), 0.0
	for c := criticalities - 1; c >= 0; c-- {
		p.from[c] = threshold + (1-threshold)*below
		p.width[c] = (1 - threshold) * shares[c]
		below += shares[c]
	}
	p.demotedTo = max(threshold, p.from[Background]+p.width[Background]-demotedApart/math.Sqrt(limit))
	if old := s.plan.Load(); old == nil || *old != p {
		s.plan.Store(&p)
	}
}

// threshold is φ in force.
func (s *shedder) threshold() float64 {
	if p := s.plan.Load(); p != nil {
		return p.threshold
	}
	return 1
}

// fill is the occupancy up to which a request of class c and rank r is admitted: 1 if refusing it would waste work.
func (p *plan) fill(c Criticality, r Rank) float64 {
	if r.Again {
		return 1
	}
	return p.from[c] + p.width[c]*float64(r.Place)*0x1p-32
}

// demotedApart is how far below the limit demoted requests end, in standard deviations of the number in flight, which is
// about the root of the limit: by chance alone, those that are not demoted need so much room. demotedFrom is the part of that
// up to which the least important of them are admitted.
const (
	demotedApart = 2
	demotedFrom  = 0.8

	demotedLevels = float64(criticalities << 32)
)

// demoted is fill for a request above the share of its API or tenant. Among themselves, demoted requests keep their order.
func (p *plan) demoted(c Criticality, r Rank) float64 {
	if r.Again {
		return 1
	}
	return p.demotedTo * (demotedFrom + (1-demotedFrom)*float64(LevelOf(c, r))/demotedLevels)
}

// saltAt is the salt of the hour.
func saltAt(wall time.Time) uint64 { return mix64(uint64(wall.Unix() / 3600)) }

// hashKey is FNV-1a followed by mix64: in FNV-1a alone the upper bits hardly depend on the last bytes of a key.
func hashKey(key string, salt uint64) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return mix64(h ^ salt)
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): it makes consecutive numbers look unrelated.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
