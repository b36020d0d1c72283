package demo

import (
	"testing"
	"time"
)

func TestStoryTakesAsLongAsItIsTold(t *testing.T) {
	for _, d := range []time.Duration{MinDuration, 60 * time.Second, DefaultDuration, 10 * time.Minute} {
		acts, err := Story(d)
		if err != nil {
			t.Fatal(err)
		}
		var sum time.Duration
		for _, a := range acts {
			sum += a.Lasts
			if a.Lasts < time.Second {
				t.Errorf("%s: %s lasts %s: there is nothing to see", d, a.Name, a.Lasts)
			}
		}
		if off := (sum - d).Abs(); off > time.Second {
			t.Errorf("a story of %s takes %s", d, sum)
		}
		if first, last := acts[0].Lasts, acts[len(acts)-1].Lasts; first != settling || last != takeover {
			t.Errorf("%s: %s for the first samples and %s for the takeover, which do not scale", d, first, last)
		}
	}
	if _, err := Story(MinDuration - 1); err == nil {
		t.Error("a story too short for its last act was accepted")
	}
}

// TestSimulatedTwinsDoAsTheStoryHasIt checks in the simulator the two claims of the demo about fixed limits: the static
// twin's limit does not recover, and some fixed limit does.
func TestSimulatedTwinsDoAsTheStoryHasIt(t *testing.T) {
	acts, err := Story(DefaultDuration)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(5) {
		static := simulated(acts, seed, StaticLimit)
		best, limit := Optimum(acts, seed)
		t.Logf("seed %d: limit %d: after %.3f; best limit %d: good %.3f, after %.3f, critical %.3f", seed, StaticLimit,
			static.AfterRatio, limit, best.GoodputRatio, best.AfterRatio, best.CriticalRatio)
		if static.AfterRatio > 0.05 || static.Good > best.Good/2 {
			t.Errorf("seed %d: the static twin comes back by itself: %+v", seed, static)
		}
		if best.AfterRatio < 0.95 || best.GoodputRatio < 0.9 || limit == limits[0] || limit == limits[len(limits)-1] {
			t.Errorf("seed %d: the best limit of %v is %d: %+v", seed, limits, limit, best)
		}
	}
}

// TestLimitBeyondTheClientsPatienceDoesNotComeBack: requests admitted beyond capacity × client timeout are answered
// after their clients have given up, and come back as retries.
func TestLimitBeyondTheClientsPatienceDoesNotComeBack(t *testing.T) {
	acts, err := Story(DefaultDuration)
	if err != nil {
		t.Fatal(err)
	}
	patience := int(Capacity * ClientTimeout.Seconds())
	for _, l := range limits {
		s := simulated(acts, 1, l)
		t.Logf("limit %4d: good %.3f, after %.3f, critical %.3f, p99 %.3f s", l, s.GoodputRatio, s.AfterRatio,
			s.CriticalRatio, s.P99Seconds)
		switch {
		case l < patience*2/3 && s.AfterRatio < 0.9:
			t.Errorf("limit %d does not come back: %+v", l, s)
		case l > patience*3/2 && s.AfterRatio > 0.05:
			t.Errorf("limit %d comes back: %+v", l, s)
		}
	}
}
