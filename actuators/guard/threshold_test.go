package guard

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A caller that refuses what is below the threshold refuses what the guard would refuse, whatever φ, the mix and the
// occupancy.
func TestThresholdInvertsThePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shedder
		for c := range s.mix {
			if rapid.Bool().Draw(t, "seen") {
				s.mix[c] = rapid.Float64Range(0.01, 100).Draw(t, "share")
			}
		}
		s.set(rapid.Float64Range(0, 0.99).Draw(t, "φ"), 100, epoch)
		p := s.plan.Load()
		x := rapid.Float64Range(0, 1).Draw(t, "occupancy")
		c := Criticality(rapid.IntRange(0, criticalities-1).Draw(t, "class"))
		r := Rank{Place: rapid.Uint32().Draw(t, "place"), Drawn: true}
		fill := p.fill(c, r)
		if math.Abs(x-fill) < 1e-6 {
			return
		}
		if refused, below := x > fill, LevelOf(c, r) < p.refusing(x); refused != below {
			t.Errorf("%s at place %x: admitted up to %.6f, at %.6f: level %x, threshold %x", c, r.Place, fill, x, LevelOf(c, r),
				p.refusing(x))
		}
	})
}

// thresholdAfter asks g for its threshold every 5 ms for d, as its answers do, and returns the last.
func thresholdAfter(g *Guard, now *time.Duration, d time.Duration) (level Threshold) {
	for end := *now + d; *now < end; *now += 5 * time.Millisecond {
		level = g.threshold(*now, 0)
	}
	return level
}

// The threshold rises within tenths of a second, falls more slowly the more is refused, and is 0 at φ.
func TestThresholdFollowsTheOccupancy(t *testing.T) {
	g := newGuard(t, Config{Min: 100, Max: 100, ShedThreshold: 0.6})
	p := g.shed.plan.Load()
	var permits []Permit
	fill := func(n int) {
		for len(permits) < n {
			permit, err := g.AdmitAt(epoch, Arrival{Criticality: Critical, Rank: Rank{Drawn: true, Again: true}})
			if err != nil {
				t.Fatal(err)
			}
			permits = append(permits, permit)
		}
		for len(permits) > n {
			permits[len(permits)-1].ReleaseAt(epoch, Ignored)
			permits = permits[:len(permits)-1]
		}
	}
	near := func(what string, got Threshold, low, high float64) {
		t.Helper()
		if got < p.refusing(low) || got > p.refusing(high) {
			t.Errorf("%s: %x, expected %x to %x", what, got, p.refusing(low), p.refusing(high))
		}
	}
	var now time.Duration
	fill(60)
	near("at φ", thresholdAfter(g, &now, 2*time.Second), 0, 0)
	fill(90)
	near("200 ms after a rise", thresholdAfter(g, &now, crowdingSpan), 0.6+0.3*0.55, 0.6+0.3*0.75)
	near("two seconds after it", thresholdAfter(g, &now, 2*time.Second), 0.899, 0.9)
	fill(61)
	near("200 ms after a fall", thresholdAfter(g, &now, crowdingSpan), 0.61+0.29*0.55, 0.61+0.29*0.85)
	near("after three seconds", thresholdAfter(g, &now, 3*time.Second), 0.61, 0.611)
	fill(50)
	near("below φ", thresholdAfter(g, &now, 3*time.Second), 0, 0)

	open := newGuard(t, Config{Min: 1, Max: 1})
	if _, err := open.AdmitAt(epoch, Arrival{}); err != nil || open.threshold(0, 0) != 0 {
		t.Errorf("nothing is shed: threshold %x, %v", open.threshold(0, 0), err)
	}
}
