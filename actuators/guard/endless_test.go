package guard

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One in twenty requests is a long poll of 20 s that nobody declared, at 0.7 and then at twice what the service can
// carry. Their slots come back after ten SLOs, so the others are served as if they were not there.
func TestLongPollsAreFound(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{Fallback: 60})
		p.polls, p.pollFor = 0.05, 20*time.Second
		p.rate = 560
		p.run(60 * time.Second)
		p.run(60 * time.Second)
		calm := p.perSecond(60*time.Second) / (0.95 * 560)
		p.rate = 1600
		p.run(10 * time.Second)
		p.run(60 * time.Second)
		over := p.perSecond(60*time.Second) / 800
		s := p.snapshot()
		t.Logf("seed %d: %.1f %% of the best in calm, %.1f %% at twice the capacity; limit %d, found %d",
			seed, 100*calm, 100*over, s.Limit, s.EndlessFound)
		if calm < 0.98 || over < 0.97 {
			t.Errorf("goodput %.1f %%, %.1f %%", 100*calm, 100*over)
		}
		if s.EndlessFound == 0 || uint64(s.EndlessFound) > s.EndlessFoundTotal {
			t.Errorf("found %d now, %d ever", s.EndlessFound, s.EndlessFoundTotal)
		}
		p.polls, p.rate = 0, 400
		p.run(30 * time.Second)
		if s := p.snapshot(); s.EndlessFound != 0 {
			t.Errorf("%d still in flight after all of them have ended", s.EndlessFound)
		}
	})
}

// One request in ten waits forever for something that does not answer. If nobody were excused, every slot would be taken
// after seconds. When a thousand have been excused, no more are.
func TestSomeRequestsHang(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := trained(t, seed, Config{Min: 4, Max: 200})
		p.polls, p.pollFor = 0.1, time.Hour
		p.rate = 160
		p.run(60 * time.Second)
		share := p.perSecond(60*time.Second) / (0.9 * 160)
		t.Logf("seed %d: %.1f %% of the rest is served in time", seed, 100*share)
		if share < 0.95 {
			t.Errorf("%.1f %% of the rest is served in time", 100*share)
		}
		p.run(10 * time.Minute)
		if s := p.snapshot(); s.EndlessFound > endlessMost || s.EndlessFound < endlessMost-50 {
			t.Errorf("%d excused at once, expected nearly %d", s.EndlessFound, endlessMost)
		}
	})
}

// Everything hangs, in a busy service and in one of a few requests: at most a fifth of the cohort in which it began is
// excused. When it is over, the count is right.
func TestAHangOfEverythingIsNotMistaken(t *testing.T) {
	for name, rate := range map[string]float64{"busy": 400, "two a second": 2, "one in five seconds": 0.2} {
		t.Run(name, func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				p := newPlant(simGuard(t, Config{Min: 4, Max: 1000, Fallback: 30}), seed)
				p.rate = rate
				p.run(10 * time.Minute)
				p.servers = 0
				p.run(5 * time.Minute)
				cohort := max(endlessLeast, rate*(reflexPeriod+cohortSpan*300*time.Millisecond).Seconds())
				if s := p.snapshot(); float64(s.EndlessFound) > endlessShare*cohort {
					t.Errorf("%d excused while everything hangs, %d in flight", s.EndlessFound, s.InFlight)
				}
				p.servers = 32
				p.serve()
				p.run(20 * time.Second)
				p.rate = 1e-9
				p.run(time.Minute)
				if s := p.snapshot(); s.EndlessFound != 0 || s.InFlight != 0 {
					t.Errorf("%d found, %d in flight at the end", s.EndlessFound, s.InFlight)
				}
			})
		})
	}
}

// Two in five requests are endless: too many to be told from a hang, apart from a few cohorts that have fewer by chance.
// They have to be declared.
func TestTooManyToTell(t *testing.T) {
	p := trained(t, 1, Config{})
	p.rate, p.polls, p.pollFor = 100, 0.4, time.Hour
	p.run(time.Minute)
	if s := p.snapshot(); float64(s.EndlessFound) > 0.1*0.4*100*60 {
		t.Errorf("%d excused", s.EndlessFound)
	}
}

// A small service whose every slot is held by an endless request: nobody starts after the last of them, so that those
// that started before make up the twenty.
func TestEverySlotIsHeld(t *testing.T) {
	g := simGuard(t, Config{NoReflex: true, Fallback: 3})
	now := epoch
	for i := range 60 {
		now = now.Add(200 * time.Millisecond)
		p, err := g.AcquireAt(now, Default)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if i%20 == 19 {
			continue // never ends
		}
		p.ReleaseAt(now.Add(20*time.Millisecond), Success)
	}
	if s := g.SnapshotAt(now); s.InFlight+s.EndlessFound != 3 {
		t.Fatalf("%d in flight, %d found", s.InFlight, s.EndlessFound)
	}
	for range 8 {
		now = now.Add(time.Second / 2)
		g.SnapshotAt(now)
	}
	if s := g.SnapshotAt(now); s.InFlight != 0 || s.EndlessFound != 3 {
		t.Errorf("%d in flight, %d found; expected 0, 3", s.InFlight, s.EndlessFound)
	}
}

// Of an excused request only a failure counts, and it gives no second slot back. Of a declared one nothing counts.
func TestExcusedRequestsGiveNoSecondSlotBack(t *testing.T) {
	var log bytes.Buffer
	g := simGuard(t, Config{NoReflex: true, Fallback: 10, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	now := epoch
	var endless []Permit
	for i := range 50 {
		p, err := g.AcquireAt(now, Default)
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			endless = append(endless, p)
			continue
		}
		p.ReleaseAt(now.Add(time.Millisecond), Success)
	}
	for range 6 { // seconds
		now = now.Add(time.Second)
		g.SnapshotAt(now)
	}
	s := g.SnapshotAt(now)
	if s.InFlight != 0 || s.EndlessFound != 5 || s.EndlessFoundTotal != 5 {
		t.Fatalf("in flight %d, found %d of %d; expected 0, 5 of 5", s.InFlight, s.EndlessFound, s.EndlessFoundTotal)
	}
	if n := strings.Count(log.String(), "found=5"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	for i, p := range endless {
		if i == 0 {
			p.EndlessAt(now) // declared too late: found and declared are one request
			if s := g.SnapshotAt(now); s.EndlessFound != 4 || s.EndlessDeclared != 1 {
				t.Errorf("found %d, declared %d; expected 4, 1", s.EndlessFound, s.EndlessDeclared)
			}
		}
		p.ReleaseAt(now, Failure)
		p.ReleaseAt(now, Failure)
	}
	s = g.SnapshotAt(now)
	if s.InFlight != 0 || s.EndlessFound != 0 || s.EndlessDeclared != 0 {
		t.Errorf("in flight %d, found %d, declared %d at the end", s.InFlight, s.EndlessFound, s.EndlessDeclared)
	}
	if s.Latency.Count != 45 || s.Failed != 4 || s.DoubleReleases != 5 {
		t.Errorf("finished %d, failed %d, double releases %d; expected 45, 4, 5", s.Latency.Count, s.Failed, s.DoubleReleases)
	}
}

// A declared request gives its slot back at once, once.
func TestDeclaredEndless(t *testing.T) {
	g := newGuard(t, Config{Min: 1, Max: 1})
	p, err := g.Acquire(t.Context(), Default)
	if err != nil {
		t.Fatal(err)
	}
	p.Endless()
	p.Endless()
	q, err := g.Acquire(t.Context(), Default)
	if err != nil {
		t.Fatalf("the slot of a declared request was not free: %v", err)
	}
	if s := g.Snapshot(); s.InFlight != 1 || s.EndlessDeclared != 1 {
		t.Errorf("in flight %d, declared %d; expected 1, 1", s.InFlight, s.EndlessDeclared)
	}
	p.Release(Failure)
	p.Release(Failure)
	p.Endless()
	Permit{}.Endless()
	q.Release(Success)
	s := g.Snapshot()
	if s.InFlight != 0 || s.EndlessDeclared != 0 || s.EndlessDeclaredTotal != 1 {
		t.Errorf("in flight %d, declared %d of %d; expected 0, 0 of 1", s.InFlight, s.EndlessDeclared, s.EndlessDeclaredTotal)
	}
	if s.Latency.Count != 1 || s.Failed != 0 || s.DoubleReleases != 1 {
		t.Errorf("finished %d, failed %d, double releases %d; expected 1, 0, 1", s.Latency.Count, s.Failed, s.DoubleReleases)
	}
}

// Requests start, end, are declared and released twice from many goroutines, while others are excused all the time
// (with an SLO of 1 ms a request of 10 ms is old). At the end every slot has come back exactly once.
func TestEndlessInAStorm(t *testing.T) {
	const limit, workers, rounds = 64, 64, 400
	var clock atomic.Int64
	g := newGuard(t, Config{
		SLO: time.Millisecond, Min: limit, Max: limit, ShedThreshold: 1,
		Now: func() time.Time { return epoch.Add(time.Duration(clock.Load())) },
	})
	var inside, most atomic.Int64
	var wg sync.WaitGroup
	lingering := make(chan Permit, 1<<20)
	for i := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			for range rounds {
				clock.Add(int64(time.Millisecond))
				p, err := g.Acquire(t.Context(), Criticality(rng.IntN(4)))
				if err != nil {
					continue
				}
				switch rng.IntN(20) {
				case 0, 1:
					lingering <- p
					continue
				case 2: // declare and release at once, from two goroutines
					wg.Go(p.Endless)
				case 3:
					wg.Go(func() { p.Release(Failure) })
				}
				n := inside.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				inside.Add(-1)
				p.Release(Success)
			}
		})
	}
	wg.Go(func() {
		for range rounds {
			clock.Add(int64(5 * time.Millisecond))
			g.Snapshot()
			if len(lingering) > 50 {
				p := <-lingering
				wg.Go(func() { p.Release(Success) })
				p.Endless()
			}
		}
	})
	wg.Wait()
	close(lingering)
	out := len(lingering)
	if s := g.Snapshot(); s.InFlight+s.EndlessFound+s.EndlessDeclared != out || s.EndlessFoundTotal == 0 {
		t.Errorf("%d in flight, %d found, %d declared; %d permits out (%d found ever)",
			s.InFlight, s.EndlessFound, s.EndlessDeclared, out, s.EndlessFoundTotal)
	}
	if most.Load() > limit {
		t.Errorf("%d at once within a limit of %d", most.Load(), limit)
	}
	for p := range lingering {
		p.Release(Success)
	}
	if s := g.Snapshot(); s.InFlight != 0 || s.EndlessFound != 0 || s.EndlessDeclared != 0 {
		t.Errorf("at the end %d in flight, %d found, %d declared", s.InFlight, s.EndlessFound, s.EndlessDeclared)
	}
	for range limit {
		if _, err := g.Acquire(t.Context(), Default); err != nil {
			t.Fatal("a slot was lost")
		}
	}
	if _, err := g.Acquire(t.Context(), Default); err == nil {
		t.Error("a slot was given back twice")
	}
}

// A full guard whose slots are all held by endless requests hears nothing but refusals, and finds them all the same.
func TestRefusalsLookAtTheClock(t *testing.T) {
	var clock atomic.Int64
	g := newGuard(t, Config{Min: 3, Max: 3, Now: func() time.Time { return epoch.Add(time.Duration(clock.Load())) }})
	for i := range 33 {
		clock.Add(int64(30 * time.Millisecond))
		p, err := g.Acquire(t.Context(), Default)
		if err != nil {
			t.Fatal(err)
		}
		if i%11 != 10 {
			p.Release(Success)
		}
	}
	for range 1000 {
		clock.Add(int64(10 * time.Millisecond))
		if p, err := g.Acquire(t.Context(), Default); err == nil {
			p.Release(Success)
			return
		}
	}
	t.Error("refused for ten seconds")
}

// A request that hangs for so long that the marks of the cohorts come around is not counted with those that start then.
func TestCohortsDifferWhenMarksComeAround(t *testing.T) {
	g := simGuard(t, Config{Min: 100, Max: 100, NoReflex: true})
	at := epoch
	start := func(n int) (permits []Permit) {
		for range n {
			p, err := g.AcquireAt(at, Default)
			if err != nil {
				t.Fatal(err)
			}
			permits = append(permits, p)
		}
		return permits
	}
	end := func(permits []Permit) {
		for _, p := range permits {
			p.ReleaseAt(at, Success)
		}
	}
	old := start(40)
	end(old[9:]) // more than a fifth is left, so nobody is excused
	for range 100 {
		at = at.Add(reflexPeriod)
		end(start(1))
	}
	g.endless.open(old[0].word & cohortMask >> cohortShift) // as after 1<<cohortBits cohorts
	end(old[:5])
	start(3)
	at = at.Add(reflexPeriod)
	if s := g.SnapshotAt(at); s.EndlessFound != 4 || s.InFlight != 3 {
		t.Errorf("%d found, %d in flight; want 4, 3", s.EndlessFound, s.InFlight)
	}
}

func TestFewLeft(t *testing.T) {
	of := func(joined, left float64) closed {
		return closed{seen: attendance{joined: joined, left: left, holding: left}}
	}
	for _, c := range []struct {
		name string
		ripe []closed
		i    int
		want bool
	}{
		{"a fifth of twenty", []closed{of(20, 4)}, 0, true},
		{"more than a fifth", []closed{of(20, 5)}, 0, false},
		{"nineteen are too few", []closed{of(19, 1)}, 0, false},
		{"the next ones make up the twenty", []closed{of(5, 1), of(10, 1), of(5, 1)}, 0, true},
		{"or the earlier ones, if nobody came later", []closed{of(15, 1), of(5, 3)}, 1, true},
		{"later ones that hang, too", []closed{of(100, 0), of(2, 2), of(18, 18)}, 1, false},
		{"a busy hour before counts for no more than is missing", []closed{of(5000, 0), of(6, 6)}, 1, false},
		{"alone among the healthy", []closed{of(1, 0), of(1, 1), of(40, 0)}, 1, true},
	} {
		if got := fewLeft(c.ripe, c.i); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// At most MaxEndless requests are open without end; one more is refused for a reason of its own, which does not move the limit.
// Found ones count, and are never refused.
func TestEndlessAreBounded(t *testing.T) {
	var clock atomic.Int64
	g := newGuard(t, Config{Min: 100, Max: 100, MaxEndless: 3, Now: func() time.Time { return epoch.Add(time.Duration(clock.Load())) }})
	lasting := func() (Permit, error) {
		p, err := g.AdmitEndless(t.Context(), Arrival{Criticality: Sheddable})
		p.Endless()
		return p, err
	}
	var open []Permit
	for range 3 {
		p, err := lasting()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, p)
	}
	before := g.tally(0).refused
	if _, err := lasting(); !errors.Is(err, ErrEndless) {
		t.Errorf("the fourth of three: %v", err)
	}
	s := g.Snapshot()
	if s.Refused["endless"] != [criticalities]uint64{Sheddable: 1} || s.Offered[Sheddable] != 4 || s.Admitted[Sheddable] != 3 {
		t.Errorf("refused %v, offered %v, admitted %v", s.Refused, s.Offered, s.Admitted)
	}
	if refused := g.tally(0).refused; refused != before {
		t.Errorf("the reflex sees %d refusals", refused-before)
	}
	late, err := g.Acquire(t.Context(), Default)
	if err != nil {
		t.Fatalf("an ordinary request: %v", err)
	}
	late.Endless()
	if s := g.Snapshot(); s.EndlessDeclared != 4 || s.MaxEndless != 3 {
		t.Errorf("%d declared of %d; one that says so late is not refused", s.EndlessDeclared, s.MaxEndless)
	}
	late.Release(Ignored)
	open[0].Release(Ignored)
	if open[0], err = lasting(); err != nil {
		t.Errorf("where one had ended: %v", err)
	}
	for _, p := range open {
		p.Release(Ignored)
	}
	for range 3 { // nobody declares these
		for range 20 {
			p, err := g.Acquire(t.Context(), Default)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, p)
		}
		for range 19 {
			open[len(open)-1].Release(Success)
			open = open[:len(open)-1]
		}
		clock.Add(int64(20 * time.Second))
		g.Snapshot()
		clock.Add(int64(20 * time.Second))
	}
	if s := g.Snapshot(); s.EndlessFound != 3 {
		t.Fatalf("%d found", s.EndlessFound)
	}
	if _, err := lasting(); !errors.Is(err, ErrEndless) {
		t.Errorf("beside three that were found: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.AdmitEndless(ended, Arrival{}); !errors.Is(err, context.Canceled) {
		t.Errorf("whose client has gone: %v", err)
	}
}

// arrivals keeps what its methods hear of requests.
type arrivals []Decision

func (a *arrivals) Arrived(_ context.Context, d Decision)         { *a = append(*a, d) }
func (*arrivals) Finished(context.Context, string, time.Duration) {}
func (*arrivals) Called(context.Context, CallDecision)            {}

// An observer hears of each request that does not end once, whether it is admitted or refused.
func TestObserverHearsOfEndless(t *testing.T) {
	var heard arrivals
	g := newGuard(t, Config{MaxEndless: 1, Observer: &heard, Routes: map[string]Route{"live": {SLO: time.Second}}})
	for _, want := range []error{nil, ErrEndless} {
		p, err := g.AdmitEndless(t.Context(), Arrival{Criticality: Sheddable, Key: "alice", Route: "/live"})
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
		p.Endless()
	}
	if len(heard) != 2 {
		t.Fatalf("heard %v", heard)
	}
	for i, want := range []error{nil, ErrEndless} {
		d := heard[i]
		if d.Service != "checkout/live" || !errors.Is(d.Err, want) || d.Arrival.Key != "alice" || d.Arrival.Criticality != Sheddable ||
			d.Limit == 0 {
			t.Errorf("%d: %+v", i, d)
		}
	}
}
