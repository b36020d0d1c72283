package guard

import (
	"math"
	"sync/atomic"
	"time"
)

// shedder decides whom a nearly full service refuses first. Every request has a rank u in [0, 1), the higher the more
// important, and at n requests in flight under the limit L it is admitted if
//
//	u ≥ (n/L − φ)/(1 − φ)      or, without the division:   n ≤ L·(φ + (1 − φ)·u)
//
// φ is the shed threshold: at or below φ·L nobody is shed, from there on up to L the requests of a rising share, the
// least important first. Since it looks at the occupancy of this instant, it stops when the load has gone: a share of
// requests to refuse, published from outside, would go on until somebody noticed.
//
// The classes divide the ranks by their shares of what arrives, so that u is the rank among all arrivals:
//
//	0         background   sheddable          default              critical   1
//	├───────────┼─────────────┼──────────────────────────────┼─────────────────┤
//	 refused at φ·L                                                  refused at L
//
// Within its class a request stands where the hash of its user or tenant puts it, so that some are served whole and
// others not at all, rather than every one of them by halves (a page takes many requests). The hash knows nothing of
// the process, the instance or the service: a tenant that one lets through, the next one does, too. It changes every
// hour, so that nobody is always the first to be refused (both as in WeChat: Zhou et al., Overload Control for Scaling
// WeChat Microservices, SoCC 2018).
type shedder struct {
	plan atomic.Pointer[plan] // nil: nothing is ever shed

	// Arrivals by class, fading: their shares are an average over the last mixSpan. Guarded by Guard.mu.
	mix  [criticalities]float64
	seen [criticalities]uint64 // arrivals already in mix
	at   time.Duration         // of the last look
}

// mixSpan is the time constant of the classes' shares: long against a burst, short against a change of customs.
const mixSpan = 10 * time.Second

// plan is what admission needs of φ and the shares. A request of class c at the place h of its class, 0 ≤ h < 1, is
// admitted at an occupancy up to from[c] + width[c]·h.
type plan struct {
	threshold   float64
	from, width [criticalities]float64
	salt        uint64 // changes every hour
}

// observe brings the average of the shares up to now; offered counts the arrivals since the start.
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
	if total < 1e-9 { // idle for minutes: the last shares known are better than none
		return
	}
	s.mix, s.seen = mix, offered
}

// shares returns each class's part of the arrivals. Before the first arrival all are equal.
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

// set puts the threshold φ, 0..1, into force with the shares of now. wall is the time of day, for the hourly salt.
func (s *shedder) set(threshold float64, wall time.Time) {
	if threshold >= 1 {
		s.plan.Store(nil)
		return
	}
	p := plan{threshold: threshold, salt: mix64(uint64(wall.Unix() / 3600))}
	shares, below := s.shares(), 0.0
	for c := criticalities - 1; c >= 0; c-- {
		p.from[c] = threshold + (1-threshold)*below
		p.width[c] = (1 - threshold) * shares[c]
		below += shares[c]
	}
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

// fill is the occupancy up to which a request of class c is admitted. A request without a key gets a place of its own:
// a mix of n, the number of its class's arrivals so far, which needs no shared generator and replays exactly.
func (p *plan) fill(c Criticality, key string, n uint64) float64 {
	place := mix64(n)
	if key != "" {
		place = hashKey(key, p.salt)
	}
	return p.from[c] + p.width[c]*float64(place>>11)*0x1p-53
}

// hashKey is FNV-1a, well mixed: by itself its upper bits hardly depend on the last letters of a key.
func hashKey(key string, salt uint64) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return mix64(h ^ salt)
}

// mix64 is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): consecutive numbers come out unrelated.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
