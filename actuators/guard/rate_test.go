package guard

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
)

// rated is a good Setting with a rate limit and a lease of a day.
func rated(revision int, perSecond, burst float64, instances int) []byte {
	return settingOf(func(s *actuators.Setting) {
		s.Revision, s.LeaseSeconds = uint64(revision), 86400
		s.Rate = &actuators.Rate{
			PerSecond: perSecond, Burst: burst, Instances: instances, Fallback: 1e6, Min: 0, Max: 1e6,
		}
	})
}

// pass sends one request at d that is over at once, and says whether it was admitted. Any refusal must be by rate.
func pass(t testing.TB, g *Guard, d time.Duration) bool {
	t.Helper()
	p, err := g.AcquireAt(epoch.Add(d), Default)
	if err != nil && !errors.Is(err, ErrRate) {
		t.Fatalf("after %v: %v", d, err)
	}
	p.ReleaseAt(epoch.Add(d), Ignored)
	return err == nil
}

// burstAt sends as many requests at d as are admitted, 10 000 at most.
func burstAt(t testing.TB, g *Guard, d time.Duration) int {
	t.Helper()
	for n := range 10_000 {
		if !pass(t, g, d) {
			return n
		}
	}
	return 10_000
}

// As long as time goes forward and the rate is above zero, every single decision is that of golang.org/x/time/rate.
// (Time goes in quarters of a token, so that what x/time/rate rounds to nanoseconds does not matter.)
func TestRateIsThatOfXTimeRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quarter := time.Duration(rapid.IntRange(10, 1_000_000_000).Draw(t, "ns a quarter of a token"))
		interval := 4 * quarter
		burst := rapid.IntRange(1, 50).Draw(t, "burst")
		perSecond := float64(time.Second) / float64(interval)
		var ours rater
		ours.set(0, perSecond, float64(burst))
		theirs := rate.NewLimiter(rate.Limit(perSecond), burst)
		now := time.Duration(0)
		steps := rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 4, 5, 40, 400}), 100, 300).Draw(t, "quarters")
		for i, quarters := range steps {
			now += time.Duration(quarters) * quarter
			wait, ready := ours.wait(now)
			_, took := ours.request(now)
			if want := theirs.AllowN(epoch.Add(now), 1); took != want || ready != want {
				t.Fatalf("request %d at %v: ready %v, took %v, x/time/rate says %v", i, now, ready, took, want)
			}
			if !ready {
				if _, ok := ours.wait(now + wait - 1); ok {
					t.Fatalf("a token was there before the %v that the caller was told", wait)
				}
				if _, ok := ours.wait(now + wait); !ok {
					t.Fatalf("no token after the %v that the caller was told", wait)
				}
			}
		}
	})
}

// With changes of rate and burst on the way, both have admitted the same number at any time, but for the one request
// that rounding to nanoseconds can move.
func TestRateChangesAreThoseOfXTimeRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ours rater
		ours.set(0, 100, 10)
		theirs := rate.NewLimiter(100, 10)
		now, admitted, want := time.Duration(0), 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond
				for range rapid.IntRange(1, 20).Draw(t, "requests") {
					if _, ok := ours.request(now); ok {
						admitted++
					}
					if theirs.AllowN(epoch.Add(now), 1) {
						want++
					}
				}
			},
			"change": func(t *rapid.T) {
				perSecond := rapid.SampledFrom([]float64{0.5, 30, 100, 1000, 12345.6}).Draw(t, "per second")
				burst := rapid.IntRange(1, 40).Draw(t, "burst")
				ours.set(now, perSecond, float64(burst))
				theirs.SetLimitAt(epoch.Add(now), rate.Limit(perSecond))
				theirs.SetBurstAt(epoch.Add(now), burst)
			},
			"": func(t *rapid.T) {
				if d := admitted - want; d < -1 || d > 1 {
					t.Fatalf("admitted %d, x/time/rate %d", admitted, want)
				}
			},
		})
	})
}

// A24 (envoyproxy/envoy#24282: 600 to 700 served of 1000/s because of a coarse refill): a minute of saturation gets the
// rate and the burst, to one in a hundred.
func TestSaturationGetsTheRate(t *testing.T) {
	for _, c := range []struct {
		perSecond, burst float64
		instances        int
		every            time.Duration // between attempts
	}{
		{1000, 250, 1, 970 * time.Microsecond},
		{1000, 250, 3, 97 * time.Microsecond},
		{100, 10, 1, 333 * time.Microsecond},
		{333.3, 1, 7, 200 * time.Microsecond},
		{0.5, 1, 1, 9 * time.Millisecond},
		{20_000, 100, 1, 40 * time.Microsecond},
	} {
		t.Run(fmt.Sprintf("%v per second, burst %v, %d instances", c.perSecond, c.burst, c.instances), func(t *testing.T) {
			g := simGuard(t, Config{Min: 1000})
			apply(t, g, epoch, rated(1, c.perSecond, c.burst, c.instances))
			admitted := 0
			for d := time.Duration(0); d < time.Minute; d += c.every {
				if pass(t, g, d) {
					admitted++
				}
			}
			n := float64(c.instances)
			want := c.perSecond/n*60 + max(1, c.burst/n)
			if math.Abs(float64(admitted)-want) > max(1, 0.01*want) {
				t.Errorf("%d admitted, expected %.0f", admitted, want)
			}
		})
	}
}

// A24 (golang/go#47221, #68541): at 0 per second nothing is admitted, not even what is in the bucket; back at the old
// rate, the tokens of before are there, and the next one comes in its time.
func TestRateOfZeroAdmitsNothingAndRecovers(t *testing.T) {
	g := simGuard(t, Config{})
	apply(t, g, epoch, rated(1, 100, 10, 1))
	for range 7 {
		pass(t, g, 0)
	}
	apply(t, g, epoch, rated(2, 0, 10, 1))
	for _, d := range []time.Duration{0, time.Second, time.Hour} {
		if pass(t, g, d) {
			t.Errorf("admitted at 0 per second, after %v", d)
		}
	}
	_, err := g.AcquireAt(epoch.Add(time.Hour), Default)
	if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.RetryAfter() != time.Minute {
		t.Errorf("%v: expected a refusal by rate that asks for a minute", err)
	}
	apply(t, g, epoch.Add(time.Hour), rated(3, 100, 10, 1))
	if n := burstAt(t, g, time.Hour); n != 3 {
		t.Errorf("%d admitted at once, expected the 3 that were left", n)
	}
	if !pass(t, g, time.Hour+10*time.Millisecond) {
		t.Error("nothing after one token's time")
	}
}

// A24 (golang/go#23575): a change makes no gift. The bucket keeps what it holds, and holds no more than the new burst.
func TestRateChangeGivesNothingAway(t *testing.T) {
	for _, c := range []struct {
		name             string
		perSecond, burst float64
		want             int // at once, after an idle hour at 100/s, burst 10, and the change
	}{
		{"more", 1000, 100, 10},
		{"less", 10, 3, 3},
		{"the same", 100, 10, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := simGuard(t, Config{})
			apply(t, g, epoch, rated(1, 100, 10, 1))
			burstAt(t, g, 0)
			apply(t, g, epoch.Add(time.Hour), rated(2, c.perSecond, c.burst, 1))
			if n := burstAt(t, g, time.Hour); n != c.want {
				t.Errorf("%d admitted at once, expected %d", n, c.want)
			}
			// From here on it is the new rate and burst.
			if n := burstAt(t, g, 2*time.Hour); n != int(c.burst) {
				t.Errorf("%d admitted at once an hour later, expected %v", n, c.burst)
			}
		})
	}
	t.Run("in debt, in full flight", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, rated(1, 100, 10, 1))
		total := 0
		for revision := range 100 { // the instance count flaps, and the clock stands still
			total += burstAt(t, g, 0)
			apply(t, g, epoch, rated(revision+2, 100, 10, 1+revision%2))
		}
		if total != 10 {
			t.Errorf("%d admitted in one instant, expected the burst of 10", total)
		}
	})
}

// A24 (golang/go#56287, tikv/pd#10744): a clock that jumps back and forth mints no tokens.
func TestTimeGoingBackMintsNothing(t *testing.T) {
	const perSecond, burst, workers, rounds = 1000, 10, 8, 5000
	var r rater
	r.set(0, perSecond, burst)
	var admitted atomic.Int64
	var clock atomic.Int64
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for j := range rounds {
				now := time.Duration(clock.Add(int64(10 * time.Microsecond)))
				if (i+j)%2 == 0 {
					now -= 10 * time.Millisecond
				} else {
					now += 10 * time.Millisecond
				}
				if _, ok := r.request(now); ok {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	span := time.Duration(clock.Load()) + 10*time.Millisecond
	most := burst + perSecond*span.Seconds()
	if n := float64(admitted.Load()); n > most || n < 0.9*most {
		t.Errorf("%v admitted in %v, expected up to %.0f", n, span, most)
	}
}

// A change of the rate replaces the bucket while other goroutines take from it. No token is taken twice.
func TestChangeWhileTokensAreTaken(t *testing.T) {
	const burst, rounds, workers = 3000, 20, 3
	for range rounds {
		var r rater
		r.set(0, 1, burst)
		var admitted, done atomic.Int64
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				defer done.Add(1)
				for {
					if _, ok := r.request(0); !ok {
						return
					}
					admitted.Add(1)
				}
			})
		}
		for i := 0; done.Load() < workers; i++ {
			r.set(0, float64(2-i%2), burst)
		}
		wg.Wait()
		if n := admitted.Load(); n != burst {
			t.Fatalf("%d admitted in one instant, expected the burst of %d", n, burst)
		}
	}
}

// A24: half a request per second, burst 1. The caller is told how long it will be.
func TestSlowRate(t *testing.T) {
	g := simGuard(t, Config{})
	apply(t, g, epoch, rated(1, 0.5, 1, 1))
	for d := time.Duration(0); d < 10*time.Second; d += 100 * time.Millisecond {
		_, err := g.AcquireAt(epoch.Add(d), Default)
		left := (2*time.Second - d%(2*time.Second)) % (2 * time.Second)
		if (err == nil) != (left == 0) {
			t.Fatalf("after %v: %v", d, err)
		}
		if err == nil {
			continue
		}
		want := (left + time.Second - 1).Truncate(time.Second)
		if refusal, _ := errors.AsType[*Refusal](err); refusal.RetryAfter() != want {
			t.Errorf("after %v: retry after %v, expected %v", d, refusal.RetryAfter(), want)
		}
	}
}

// Extreme rates neither overflow nor divide by zero.
func TestExtremeRates(t *testing.T) {
	for _, c := range []struct {
		perSecond, burst float64
		want             int // at once, of 100
	}{
		{1e12, 1, 100}, {1e12, 1e12, 100}, {1e-12, 1, 1}, {1e-12, 1e12, 1}, {1, 1e12, 100}, {5e-324, 1, 1},
	} {
		var r rater
		r.set(0, c.perSecond, c.burst)
		n := 0
		for range 100 {
			if _, ok := r.request(time.Hour); ok {
				n++
			}
		}
		// A bucket that takes longer to fill than the clock lasts may hold fewer tokens than asked for, never more.
		if c.perSecond < 1e-3 && n >= 1 && n <= 100 || n == c.want {
			continue
		}
		t.Errorf("%v per second, burst %v: %d of 100", c.perSecond, c.burst, n)
	}
}

// per_second = max means no limit, and a service's rate is divided among its instances.
func TestRateOfThisInstance(t *testing.T) {
	g := simGuard(t, Config{})
	if s := g.SnapshotAt(epoch); !math.IsInf(s.RateLimit, 1) {
		t.Errorf("rate %v before any setting, expected none", s.RateLimit)
	}
	apply(t, g, epoch, rated(1, 300, 30, 3))
	if s := g.SnapshotAt(epoch); s.RateLimit != 100 {
		t.Errorf("rate %v, expected a third of 300", s.RateLimit)
	}
	if n := burstAt(t, g, 0); n != 10 {
		t.Errorf("burst %d, expected a third of 30", n)
	}
	apply(t, g, epoch, rated(2, 1e6, 30, 3))
	if s := g.SnapshotAt(epoch); !math.IsInf(s.RateLimit, 1) {
		t.Errorf("rate %v at the maximum, expected none", s.RateLimit)
	}
	if n := burstAt(t, g, 0); n != 10_000 {
		t.Errorf("%d admitted without a limit", n)
	}
	apply(t, g, epoch, rated(3, 300, 1, 300))
	if n := burstAt(t, g, 0); n != 1 {
		t.Errorf("burst %d, expected at least 1 on every instance", n)
	}
}

// A request that one policy refuses takes nothing from the others.
func TestRefusedRequestsTakeNoTokens(t *testing.T) {
	g := simGuard(t, Config{Min: 10, Max: 10})
	apply(t, g, epoch, settingOf(func(s *actuators.Setting) {
		s.Rate = &actuators.Rate{PerSecond: 1, Burst: 12, Instances: 1, Fallback: 1, Min: 0, Max: 100}
		s.Shed = &actuators.Shed{Threshold: 0.5, Fallback: 0.5, Min: 0, Max: 1}
	}))
	var held []Permit
	admit := func(n int) {
		t.Helper()
		for range n {
			p, err := g.AcquireAt(epoch, Critical)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, p)
		}
	}
	refuse := func(c Criticality, want error) {
		t.Helper()
		for range 100 {
			if _, err := g.AcquireAt(epoch, c); !errors.Is(err, want) {
				t.Fatalf("%v, expected %v", err, want)
			}
		}
	}
	admit(8)
	refuse(Background, ErrShed)
	admit(2)
	refuse(Critical, ErrConcurrency)
	for _, p := range held {
		p.ReleaseAt(epoch, Success)
	}
	held = nil
	admit(2) // the last two of twelve tokens
	refuse(Critical, ErrRate)
	if s := g.SnapshotAt(epoch); s.InFlight != 2 {
		t.Errorf("%d in flight: a request refused by rate has kept its slot", s.InFlight)
	}
}

// Refusals by rate are not a sign that the limit binds: the reflex does not raise the limit for them.
func TestRateDoesNotDriveTheReflex(t *testing.T) {
	g := simGuard(t, Config{Min: 10, Max: 1000})
	apply(t, g, epoch, rated(1, 200, 20, 1))
	p := newPlant(g, 24)
	p.rate = 2400
	p.run(30 * time.Second)
	s := g.SnapshotAt(epoch.Add(p.now))
	if s.Limit != 50 {
		t.Errorf("limit %d, expected that of the setting", s.Limit)
	}
	if got := p.perSecond(30 * time.Second); got < 195 || got > 205 {
		t.Errorf("%.0f/s served of 200", got)
	}
}

// wait is how long a request waits for a token at now, which it does not take.
func (r *rater) wait(now time.Duration) (wait time.Duration, ok bool) {
	_, _, wait = r.look(now)
	return wait, wait <= 0
}

// request takes a token as a request does.
func (r *rater) request(now time.Duration) (wait time.Duration, ok bool) {
	b, tat, wait := r.look(now)
	if wait > 0 {
		return wait, false
	}
	return r.take(now, b, tat)
}
