package guard

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A14 (Netflix/concurrency-limits#147), across a hop: while the callee refuses most calls, or all, nothing binds in the
// caller, and neither its limit nor the bulkhead of the calls grows.
func TestNothingGrowsWhileTheCalleeRefuses(t *testing.T) {
	for seed := uint64(1); seed <= seeds; seed++ {
		p := newPlant(simGuard(t, Config{}), seed)
		p.rate = 560
		p.calls = &callee{share: 1, servers: 400, service: 20 * ms, breaker: true}
		bulkhead(p)
		p.runCalls(time.Minute)
		before := p.snapshot()
		for _, refuses := range []float64{0.8, 1} {
			p.calls.refuses = refuses
			p.runCalls(time.Minute)
			s := p.snapshot()
			if s.Limit > before.Limit || s.Calls[0].Limit > before.Calls[0].Limit+1 { // which moves by one in calm, too
				t.Errorf("seed %d: while %.0f%% of the calls are refused the limit grew from %d to %d, that of the calls from %d to %d",
					seed, 100*refuses, before.Limit, s.Limit, before.Calls[0].Limit, s.Calls[0].Limit)
			}
		}
		if n := p.snapshot().Calls[0].CalleeRefusals; n < 560*60 {
			t.Errorf("seed %d: only %d calls were refused", seed, n)
		}
	}
}

// A15 (envoyproxy/envoy#8274), across a hop: at twice the caller's own capacity, the callee refuses some of the calls in no
// time. The requests that fail by that have done all of their own work or none, and do not make the caller look fast: it keeps
// the limit that its own part needs.
func TestRefusalsOfTheCalleeDoNotMakeTheCallerLookFast(t *testing.T) {
	const capacity = 800.0
	for seed := uint64(1); seed <= seeds; seed++ {
		for _, first := range []bool{false, true} {
			for _, refuses := range []float64{0.5, 0.8} {
				p := newPlant(simGuard(t, Config{}), seed)
				p.calls = &callee{share: 1, servers: 400, service: ms, breaker: true, first: first}
				bulkhead(p)
				p.rate = 0.7 * capacity
				p.runCalls(time.Minute)
				bound := capacity
				if p.calls.refuses, p.rate = refuses, 2*capacity; first { // what is refused does no work
					p.rate /= 1 - refuses
				} else {
					bound *= 1 - refuses
				}
				p.runCalls(10 * time.Second)
				p.runCalls(30 * time.Second)
				if got := p.perSecond(30*time.Second) / bound; got < 0.95 {
					t.Errorf("seed %d, %.0f%% of the calls refused, calls first %v: %.1f%% of the bound; limits %v", seed,
						100*refuses, first, 100*got, p.limits)
				}
			}
		}
	}
}

// A23 (Netflix/concurrency-limits PR 179, #234), across a hop: requests call a service four at a time, with contexts that end
// around the moment of admission, handlers that panic or turn out endless, and permits released twice. Neither guard admits
// more than its limit or keeps a slot, and no group stays inside.
func TestGroupsLeakNothingInAStorm(t *testing.T) {
	const limit, fan, workers, rounds = 12, 4, 50, 200
	front := newGuard(t, Config{Min: workers, Max: workers, SLO: time.Second})
	back := newGuard(t, Config{Min: limit, Max: limit, SLO: time.Second, ShedThreshold: 0.5})
	d := front.Dependency("back")
	var inside, most, admitted atomic.Int64
	handle := func(ctx context.Context, rng *rand.Rand, p Permit) {
		defer p.Release(Success) // after a panic, too
		n := inside.Add(1)
		defer inside.Add(-1)
		admitted.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		switch rng.IntN(4) {
		case 0:
			panic("handler")
		case 1:
			<-ctx.Done()
		case 2:
			p.Release(Failure)
		}
	}
	call := func(ctx context.Context, rng *rand.Rand) {
		defer func() { _ = recover() }()
		c := d.Start(ctx, CallOptions{})
		attempt, err := c.Try("back")
		if err != nil {
			return
		}
		result := Result{Outcome: Failure} // if the handler panics
		defer func() { attempt.Done(result) }()
		arrival, _ := c.Arrival()
		p, err := back.Admit(ctx, arrival)
		if err != nil {
			result = Result{Refused: true}
			return
		}
		handle(ctx, rng, p)
		result = Result{Outcome: Success}
	}
	var storm sync.WaitGroup
	for i := range workers {
		storm.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 23))
			for range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(2000))*time.Microsecond)
				if p, err := front.Admit(ctx, Arrival{Criticality: Default}); err == nil {
					group := WithGroup(NewContext(ctx, p), fan)
					var calls sync.WaitGroup
					for range fan {
						seed := rng.Uint64()
						calls.Go(func() { call(group, rand.New(rand.NewPCG(seed, 23))) })
					}
					if rng.IntN(2) == 0 {
						cancel()
					}
					calls.Wait()
					p.Release(Success)
				}
				cancel()
			}
		})
	}
	storm.Wait()
	if most.Load() > limit {
		t.Errorf("%d in flight at a limit of %d", most.Load(), limit)
	}
	s, f := back.Snapshot(), front.Snapshot()
	if admitted.Load() < workers || s.DoubleReleases == 0 || s.Refused["shed"] == [criticalities]uint64{} {
		t.Errorf("%d admitted, %d released twice, refused %v: the storm has not blown", admitted.Load(), s.DoubleReleases, s.Refused)
	}
	if s.InFlight != 0 || f.InFlight != 0 || f.Calls[0].InFlight != 0 {
		t.Errorf("after the storm %d in flight behind, %d in front, %d calls", s.InFlight, f.InFlight, f.Calls[0].InFlight)
	}
	if n := len(back.groups.inside); n != 0 {
		t.Errorf("%d groups stay inside", n)
	}
	for i := range limit {
		if _, err := back.Admit(t.Context(), Arrival{Criticality: Critical, Rank: Rank{Drawn: true, Again: true}}); err != nil {
			t.Fatalf("admission %d of %d after the storm: %v", i+1, limit, err)
		}
	}
}
