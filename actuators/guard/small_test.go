package guard

import (
	"testing"
	"time"
)

// small is a service of a few servers of 200 ms and an SLO of 1.5 s: too few requests finish for a step of the reflex
// every 250 ms. It runs at 0.7 of what it can carry, then five minutes at a multiple of that, then as before.
type small struct {
	servers int
	times   float64
}

// goodput of the three phases, per second. The overload counts from its second minute on, when the limit has settled.
func (s small) goodput(t *testing.T, seed uint64, c Config) (phases [3]float64, last Snapshot) {
	t.Helper()
	c.SLO = 1500 * time.Millisecond
	p := newPlant(simGuard(t, c), seed)
	p.servers, p.service = s.servers, 200*time.Millisecond
	calm := 0.7 * 5 * float64(s.servers)
	for i, rate := range []float64{calm, calm * s.times, calm} {
		p.rate = rate
		p.run(300 * time.Second)
		phases[i] = p.perSecond(300 * time.Second)
	}
	return phases, p.snapshot()
}

// best is the goodput of the best fixed limit, for each phase by itself.
func (s small) best(t *testing.T, seed uint64) (phases [3]float64) {
	t.Helper()
	for limit := 1; limit <= 24; limit++ {
		fixed, _ := s.goodput(t, seed, Config{NoReflex: true, Min: limit, Max: limit})
		for i, g := range fixed {
			phases[i] = max(phases[i], g)
		}
	}
	return phases
}

// Mean and worst seed of the goodput beside the best fixed limit, which knows the phase in advance.
//
//	go test ./guard -run TestSmallServices -v
func TestSmallServices(t *testing.T) {
	if seeds == 1 {
		t.Skip("nothing for the race detector to find")
	}
	for _, s := range []small{{1, 3}, {1, 4}, {2, 3}, {2, 4}} {
		var sum, worst [3]float64
		const runs = 12
		for seed := uint64(1); seed <= runs; seed++ {
			best := s.best(t, seed)
			got, _ := s.goodput(t, seed, Config{Min: 1, Max: 1000})
			for i := range got {
				share := got[i] / best[i]
				sum[i] += share
				if seed == 1 || share < worst[i] {
					worst[i] = share
				}
			}
		}
		t.Logf("%d servers, x%.0f: calm %.1f (%.1f), overload %.1f (%.1f), after %.1f (%.1f)", s.servers, s.times,
			100*sum[0]/runs, 100*worst[0], 100*sum[1]/runs, 100*worst[1], 100*sum[2]/runs, 100*worst[2])
		if sum[1] < 0.92*runs || sum[2] < 0.96*runs || min(worst[1], worst[2]) < 0.88 {
			t.Error("expected 92 and 96 on average, 88 at worst")
		}
	}
}
