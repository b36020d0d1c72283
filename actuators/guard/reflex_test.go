package guard

import (
	"testing"
	"time"
)

func simGuard(t testing.TB, c Config) *Guard {
	t.Helper()
	c.Now = func() time.Time { return epoch }
	return newGuard(t, c)
}

func (p *plant) snapshot() Snapshot { return p.g.SnapshotAt(epoch.Add(p.now)) }

func (p *plant) mean() time.Duration { return p.latency / time.Duration(max(1, p.good+p.slow)) }

// perSecond is the goodput of the last run.
func (p *plant) perSecond(d time.Duration) float64 { return float64(p.good) / d.Seconds() }

// trained returns a guard and its plant after a calm half minute at half load: 32 servers of 40 ms carry 800/s.
func trained(t *testing.T, seed uint64, c Config) *plant {
	t.Helper()
	if c.Max == 0 {
		c.Min, c.Max = 4, 1000
	}
	p := newPlant(simGuard(t, c), seed)
	p.run(30 * time.Second)
	return p
}

func eachSeed(t *testing.T, test func(t *testing.T, seed uint64)) {
	for seed := uint64(1); seed <= seeds; seed++ {
		test(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// Three times what the service can carry: from the second second on nearly every admitted request is good, and there
// are nearly as many as the service can finish.
func TestReflexEndsOverload(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{Fallback: 400})
		p.rate = 2400
		p.run(3 * time.Second)
		p.run(20 * time.Second)
		if got := p.perSecond(20 * time.Second); got < 0.96*800 {
			t.Errorf("goodput %.0f/s of 800", got)
		}
		if share := float64(p.slow) / float64(p.good+p.slow); share > 0.02 {
			t.Errorf("%.1f %% of the admitted requests were slow", 100*share)
		}
		if m := p.mean(); m < 100*time.Millisecond || m > 145*time.Millisecond {
			t.Errorf("mean latency %v, target 120 ms", m)
		}
	})
}

// Half the servers are lost while the load is three times too high: the limit follows, and nothing lingers when they
// return.
func TestReflexFollowsCapacity(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{})
		p.rate = 2400
		p.run(10 * time.Second)
		p.servers = 16
		p.run(5 * time.Second)
		p.run(30 * time.Second)
		if got := p.perSecond(30 * time.Second); got < 0.94*400 {
			t.Errorf("halved: goodput %.0f/s of 400", got)
		}
		p.servers = 32
		p.run(10 * time.Second)
		p.run(30 * time.Second)
		if got := p.perSecond(30 * time.Second); got < 0.94*800 {
			t.Errorf("back: goodput %.0f/s of 800", got)
		}
		p.rate = 400
		p.run(time.Second)
		p.run(10 * time.Second)
		if p.refused > 0 {
			t.Errorf("%d refused after the load has gone", p.refused)
		}
	})
}

// A slow dependency and a limit that does not bind: the limit has no part in the trouble and is left alone.
func TestLimitThatDoesNotBindIsLeftAlone(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{Fallback: 300})
		p.delay = 250 * time.Millisecond
		p.run(30 * time.Second)
		if m := p.mean(); m < 140*time.Millisecond {
			t.Fatalf("mean %v: the dependency does not show", m)
		}
		if s := p.snapshot(); s.Limit != 300 || p.refused > 0 {
			t.Errorf("limit %d, refused %d; expected 300, 0", s.Limit, p.refused)
		}
	})
}

// It does not grow either: with nobody waiting, a higher limit helps no one and only allows a larger backlog later.
func TestLimitGrowsOnlyWhileItBinds(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{Fallback: 60})
		p.run(30 * time.Second)
		if s := p.snapshot(); s.Limit != 60 {
			t.Errorf("limit %d without need, expected 60", s.Limit)
		}
		p.servers, p.rate = 128, 2400 // 96 in flight: the limit binds, the service is fast
		p.run(20 * time.Second)
		if s := p.snapshot(); s.Limit < 90 {
			t.Errorf("limit %d, though 96 are needed and the service is fast", s.Limit)
		}
	})
}

// A slow dependency and a limit that binds: the floor test finds that throughput falls with the limit, puts the limit
// back and lets it grow, so that the service keeps its capacity.
func TestFloorTestKeepsCapacityWithASlowDependency(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{Fallback: 50})
		p.delay = 250 * time.Millisecond // 66 in flight for 400/s
		p.run(20 * time.Second)
		s := p.snapshot()
		if s.ServiceTime < 0.14 || s.ServiceTime > 0.20 {
			t.Errorf("service time %.3f s found, expected about 0.165", s.ServiceTime)
		}
		p.run(10 * time.Second)
		p.run(20 * time.Second)
		if share := float64(p.refused) / (400 * 20); share > 0.02 {
			t.Errorf("%.1f %% refused, limit %d: capacity was given away", 100*share, p.snapshot().Limit)
		}
		p.delay = 0
		p.run(10 * time.Second)
		if s := p.snapshot(); s.ServiceTime != 0 {
			t.Errorf("service time %.3f s still stands after the dependency has recovered", s.ServiceTime)
		}
	})
}

// In real overload the same test must not give in: the floor is too high after half the servers have gone, and halving
// the limit costs no throughput.
func TestFloorTestLowersTheFloorWhenCapacityIsGone(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{})
		p.rate = 2400
		p.run(10 * time.Second)
		p.servers = 4 // the floor, 32 in flight, means 320 ms
		p.run(15 * time.Second)
		p.run(30 * time.Second)
		s := p.snapshot()
		if s.ServiceTime != 0 || s.Limit > 18 {
			t.Errorf("service time %.3f s, limit %d; expected none, about 12", s.ServiceTime, s.Limit)
		}
		if got := p.perSecond(30 * time.Second); got < 0.9*100 {
			t.Errorf("goodput %.0f/s of 100", got)
		}
	})
}

// steps drives the reflex by hand: every 250 ms one window of n requests with the given mean, at a limit that binds.
func steps(r *reflex, b bounds, count, n int, mean float64) {
	t := r.past[len(r.past)-1]
	if !r.started {
		t = tally{at: epoch}
		r.step(t, b)
	}
	for range count {
		t.at = t.at.Add(reflexPeriod)
		t.finished += uint64(n)
		t.seconds += float64(n) * mean
		t.binding += reflexPeriod
		t.inFlight = int(r.limit)
		r.step(t, b)
	}
}

func TestOneStep(t *testing.T) {
	b := bounds{base: 50, min: 1, ceiling: 200, target: 0.1, fallback: 50}
	for _, c := range []struct {
		name  string
		n     int
		mean  float64
		start float64
		want  float64
	}{
		{"within the deadband nothing moves", 100, 0.114, 100, 100},
		{"nor on the other side", 100, 0.088, 100, 100},
		{"beyond it the root of the ratio", 100, 0.13, 100, 87.7},
		{"a cut is at most a fifth", 100, 3, 100, 80},
		{"a raise is at most a tenth", 100, 0.01, 100, 110},
		{"up to the ceiling", 100, 0.01, 195, 200},
		{"down to the minimum", 100, 3, 1.1, 1},
		{"39 samples are not enough for a step", 39, 3, 100, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReflex(300*time.Millisecond, c.start, false)
			r.raise.phase = raiseQueue // the law by itself
			steps(&r, b, 1, c.n, c.mean)
			if diff := r.limit - c.want; diff < -0.1 || diff > 0.1 {
				t.Errorf("limit %.2f, expected %.2f", r.limit, c.want)
			}
		})
	}
}

// Few samples accumulate. From two seconds on fewer than forty count if they prove something; what proves nothing in ten
// seconds is thrown away, not kept forever.
func TestFewSamplesAccumulate(t *testing.T) {
	b := bounds{base: 100, min: 1, ceiling: 200, target: 0.1, fallback: 100}
	r := newReflex(300*time.Millisecond, 100, false)
	steps(&r, b, 7, 6, 1) // 24 a second: the step comes after 1.75 s
	if r.limit != 80 {
		t.Errorf("limit %.1f after 42 samples, expected 80", r.limit)
	}
	steps(&r, b, 7, 4, 1)
	if r.limit != 80 {
		t.Errorf("limit %.1f after 28 samples in less than two seconds, expected 80", r.limit)
	}
	steps(&r, b, 1, 4, 1)
	if r.limit != 40 || r.blind {
		t.Errorf("limit %.1f, blind %v after 32 samples of ten times the target; expected 40, false", r.limit, r.blind)
	}
	steps(&r, b, 39, 2, 0.115) // 78 samples, 15% too slow: within twice their noise
	if r.limit != 40 || r.blind {
		t.Errorf("limit %.1f, blind %v before ten seconds are over", r.limit, r.blind)
	}
	steps(&r, b, 1, 2, 0.115)
	if r.limit != 40 || !r.blind {
		t.Errorf("limit %.1f, blind %v after ten seconds without proof", r.limit, r.blind)
	}
}

// A small limit moves by at least one request, in both directions, and seven samples prove nothing.
func TestSmallLimitsMoveByOneRequest(t *testing.T) {
	b := bounds{base: 100, min: 1, ceiling: 200, target: 0.1, fallback: 100}
	for _, c := range []struct {
		name        string
		n           int // a second
		mean        float64
		start, want float64
	}{
		{"up", 8, 0.05, 3, 4},
		{"up by a tenth", 8, 0.05, 30, 33},
		{"down", 8, 0.25, 3, 1.897},
		{"down by one", 16, 0.16, 3, 2},
		{"eight in two seconds", 4, 0.02, 3, 4},
		{"not enough of a difference", 8, 0.09, 3, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReflex(300*time.Millisecond, c.start, false)
			r.step(tally{at: epoch}, b)
			for range 2 {
				steps(&r, b, 1, c.n, c.mean)
				steps(&r, b, 3, 0, 0)
			}
			if diff := r.limit - c.want; diff < -0.01 || diff > 0.01 {
				t.Errorf("limit %.2f, expected %.2f", r.limit, c.want)
			}
		})
	}
}

// What a small service has come down to is kept for five minutes without data, unless a Setting says otherwise.
func TestBlindReflexKeepsWhatWasProved(t *testing.T) {
	b := bounds{base: 100, min: 1, ceiling: 200, target: 0.1, fallback: 100}
	r := newReflex(300*time.Millisecond, 10, false)
	steps(&r, b, 8, 2, 1)
	if r.limit != 5 {
		t.Fatalf("limit %.1f, expected 5", r.limit)
	}
	quiet := func(d time.Duration) {
		tl := r.past[len(r.past)-1]
		for end := tl.at.Add(d); tl.at.Before(end); {
			tl.at = tl.at.Add(reflexPeriod)
			r.step(tl, b)
		}
	}
	quiet(4 * time.Minute)
	if r.limit != 5 || !r.blind {
		t.Errorf("limit %.1f, blind %v after four minutes; expected 5, true", r.limit, r.blind)
	}
	quiet(2 * time.Minute)
	if r.limit != 100 {
		t.Errorf("limit %.1f after six minutes, expected the regime's 100", r.limit)
	}
}

// Without data the regime's limit applies, but a limit that binds is not raised by that: nothing finishes, so the
// service may be hanging.
func TestUnknownNeverLoosens(t *testing.T) {
	b := bounds{base: 100, min: 1, ceiling: 200, target: 0.1, fallback: 100}
	r := newReflex(300*time.Millisecond, 50, false)
	steps(&r, b, 4, 100, 0.1)
	steps(&r, b, 40, 0, 0)
	if r.limit != 50 {
		t.Errorf("limit %.1f with a hanging service, expected 50", r.limit)
	}
	r = newReflex(300*time.Millisecond, 150, false)
	steps(&r, b, 4, 100, 0.1)
	steps(&r, b, 40, 0, 0)
	if r.limit != 100 {
		t.Errorf("limit %.1f with a hanging service, expected governor's 100", r.limit)
	}
}

// Governor's limit applies if the reflex sees too little, and each new one takes effect at once.
func TestQuietServiceFollowsTheSetting(t *testing.T) {
	g := simGuard(t, Config{})
	apply(t, g, epoch, setting(1, nil))
	for d := time.Duration(0); d < time.Minute; d += 500 * time.Millisecond {
		p, err := g.AcquireAt(epoch.Add(d), Default)
		if err != nil {
			t.Fatal(err)
		}
		p.ReleaseAt(epoch.Add(d+50*time.Millisecond), Success)
	}
	apply(t, g, epoch.Add(time.Minute), setting(2, func(c *concurrency) { c.Limit = 70 }))
	if s := g.SnapshotAt(epoch.Add(time.Minute)); s.Limit != 70 || !s.Blind {
		t.Errorf("limit %d, blind %v; expected 70, true", s.Limit, s.Blind)
	}
}

// Governor's ceiling contains a reflex that runs away, here on a target far too high.
func TestCeilingContainsTheReflex(t *testing.T) {
	p := trained(t, 1, Config{})
	p.rate = 2400
	apply(t, p.g, epoch.Add(p.now), setting(1, func(c *concurrency) { c.LatencyTargetSeconds = 5 }))
	p.run(20 * time.Second)
	for _, limit := range p.limits {
		if limit > 100 {
			t.Fatalf("limits %v above the ceiling of 100", p.limits)
		}
	}
	if s := p.snapshot(); s.Limit != 100 {
		t.Errorf("limit %d, expected it at the ceiling", s.Limit)
	}
}

// The limit settles: in steady overload the reflex does not swing by more than the noise of its samples.
func TestReflexDoesNotSwing(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{})
		p.rate = 2400
		p.run(20 * time.Second)
		p.run(60 * time.Second)
		lo, hi := p.limits[0], p.limits[0]
		for _, l := range p.limits {
			lo, hi = min(lo, l), max(hi, l)
		}
		if float64(hi)/float64(lo) > 1.6 {
			t.Errorf("limit between %d and %d: %v", lo, hi, p.limits)
		}
	})
}
