package guard

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
)

func newGuard(t testing.TB, c Config) *Guard {
	t.Helper()
	if c.Service == "" {
		c.Service = "checkout"
	}
	if c.SLO == 0 {
		c.SLO = 300 * time.Millisecond
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A23 (Netflix/concurrency-limits#234 let 12 in at a limit of 10, PR 179 lost slots for good): two hundred goroutines
// with contexts that end around the moment of admission, panics, and permits released twice, some of them after the
// slot has been used again. With all three policies at work it is the same.
func TestLimitHoldsThroughAStorm(t *testing.T) {
	t.Run("concurrency", func(t *testing.T) { storm(t, nil) })
	t.Run("concurrency, rate and shed", func(t *testing.T) {
		storm(t, settingOf(func(s *actuators.Setting) {
			s.Rate = &actuators.Rate{PerSecond: 50_000, Burst: 20, Instances: 1, Fallback: 1e6, Min: 0, Max: 1e6}
			s.Shed = &actuators.Shed{Threshold: 0.5, Fallback: 0.5, Min: 0, Max: 1}
		}))
	})
}

func storm(t *testing.T, setting []byte) {
	const limit, workers, rounds = 10, 200, 200
	g := newGuard(t, Config{Min: limit, Max: limit, ShedThreshold: 1})
	if setting != nil {
		if err := g.Apply(setting); err != nil {
			t.Fatal(err)
		}
	}
	var inside, most, admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 23))
			var old Permit
			for range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(2000))*time.Microsecond)
				func() {
					defer func() { _ = recover() }()
					_ = g.DoFor(ctx, Criticality(rng.IntN(4)), strconv.Itoa(i), func(ctx context.Context) error {
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
							return ctx.Err()
						}
						return nil
					})
				}()
				cancel()
				old.Release(Success)
				if p, err := g.Acquire(t.Context(), Default); err == nil {
					p.Release(Success)
					p.Release(Failure)
					old = p
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > limit {
		t.Errorf("%d requests in flight at a limit of %d", most.Load(), limit)
	}
	if admitted.Load() < workers {
		t.Errorf("only %d requests were admitted: the storm has not blown", admitted.Load())
	}
	s := g.Snapshot()
	if s.InFlight != 0 {
		t.Errorf("%d in flight after the storm", s.InFlight)
	}
	if s.DoubleReleases == 0 {
		t.Error("second releases were not counted")
	}
	if setting != nil {
		none := [criticalities]uint64{} // which of the two meets more depends on the machine
		if s.Refused["rate"] == none && s.Refused["shed"] == none {
			t.Error("nothing was refused by rate or shed: the storm has not blown")
		}
		return
	}
	for i := range limit {
		if _, err := g.Acquire(t.Context(), Default); err != nil {
			t.Fatalf("acquisition %d of %d after the storm: %v", i+1, limit, err)
		}
	}
	if _, err := g.Acquire(t.Context(), Default); !errors.Is(err, ErrConcurrency) {
		t.Errorf("acquisition beyond the limit: %v, expected ErrConcurrency", err)
	}
}

// A23 (resilience4j PR 981): a limit lowered below what is in flight lets nobody in until that has drained.
func TestShrunkLimitDrainsFirst(t *testing.T) {
	g := simGuard(t, Config{NoReflex: true, Fallback: 10})
	now := epoch
	var held []Permit
	for range 8 {
		p, err := g.AcquireAt(now, Default)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}
	apply(t, g, now, setting(1, func(c *concurrency) { c.Limit, c.Ceiling = 3, 3 }))
	for n := 8; n > 0; n-- {
		_, err := g.AcquireAt(now, Default)
		if (err == nil) != (n < 3) {
			t.Fatalf("with %d in flight and a limit of 3: %v", n, err)
		}
		if err == nil {
			break
		}
		if got := g.SnapshotAt(now).InFlight; got != n {
			t.Fatalf("%d in flight, expected %d", got, n)
		}
		held[n-1].ReleaseAt(now, Success)
	}
	apply(t, g, now, setting(2, func(c *concurrency) { c.Limit, c.Ceiling = 5, 5 }))
	for range 2 {
		if _, err := g.AcquireAt(now, Default); err != nil {
			t.Fatalf("after the limit has grown: %v", err)
		}
	}
}

// For any sequence of calls nobody is admitted at or above the limit in force. Every permit that is out is in flight,
// found to be endless, or declared to be, and exactly one of these.
func TestAdmissionIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, err := New(Config{
			Service: "checkout", SLO: 300 * time.Millisecond, NoReflex: rapid.Bool().Draw(t, "no reflex"),
			ShedThreshold: 1, // the limit alone decides
			Now:           func() time.Time { return epoch },
		})
		if err != nil {
			t.Fatal(err)
		}
		now, revision := epoch, 0
		var held, spent []Permit
		declaredNow := map[Permit]bool{}
		step := func() {
			now = now.Add(time.Duration(rapid.IntRange(-10, 1000).Draw(t, "ms")) * time.Millisecond)
		}
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				step()
				p, err := g.AcquireAt(now, Criticality(rapid.IntRange(0, 5).Draw(t, "criticality")))
				s := g.SnapshotAt(now)
				inFlight := len(held) - s.EndlessFound - s.EndlessDeclared
				if admitted := inFlight < s.Limit; admitted != (err == nil) {
					t.Fatalf("%d in flight, limit %d: %v", inFlight, s.Limit, err)
				}
				if err == nil {
					held = append(held, p)
				}
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing in flight")
				}
				step()
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				held[i].ReleaseAt(now, Outcome(rapid.IntRange(0, 3).Draw(t, "outcome")))
				spent = append(spent, held[i])
				delete(declaredNow, held[i])
				held = append(held[:i], held[i+1:]...)
			},
			"declare": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing in flight")
				}
				p := rapid.SampledFrom(held).Draw(t, "which")
				p.EndlessAt(now)
				declaredNow[p] = true
			},
			"declare what has ended": func(t *rapid.T) {
				if len(spent) == 0 {
					t.Skip("nothing released")
				}
				rapid.SampledFrom(spent).Draw(t, "which").EndlessAt(now)
			},
			"a long pause": func(*rapid.T) { now = now.Add(4 * time.Second) },
			"release again": func(t *rapid.T) {
				if len(spent) == 0 {
					t.Skip("nothing released")
				}
				rapid.SampledFrom(spent).Draw(t, "which").ReleaseAt(now, Success)
			},
			"apply": func(t *rapid.T) {
				step()
				revision++
				limit := rapid.IntRange(1, 20).Draw(t, "limit")
				raw := setting(revision, func(c *concurrency) { c.Limit, c.Ceiling = limit, limit+2 })
				if err := g.ApplyAt(now, raw); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				s := g.SnapshotAt(now)
				if s.InFlight+s.EndlessFound+s.EndlessDeclared != len(held) || s.EndlessDeclared != len(declaredNow) {
					t.Fatalf("%d in flight, %d found, %d declared; %d permits out, %d of them declared",
						s.InFlight, s.EndlessFound, s.EndlessDeclared, len(held), len(declaredNow))
				}
				if s.Limit < 1 {
					t.Fatalf("limit %d", s.Limit)
				}
				if s.Binding < 0 || s.Binding > now.Sub(epoch)+time.Second {
					t.Fatalf("binding for %v", s.Binding)
				}
			},
		})
	})
}

func TestSecondReleaseAfterTheSlotWasUsedAgain(t *testing.T) {
	g := newGuard(t, Config{})
	first, _ := g.Acquire(t.Context(), Default)
	first.Release(Success)
	second, _ := g.Acquire(t.Context(), Default) // takes over the slot
	first.Release(Failure)
	copied := first
	copied.Release(Failure)
	s := g.Snapshot()
	if s.InFlight != 1 || s.DoubleReleases != 2 || s.Failed != 0 || s.Latency.Count != 1 {
		t.Errorf("in flight %d, double releases %d, failed %d, finished %d; expected 1, 2, 0, 1",
			s.InFlight, s.DoubleReleases, s.Failed, s.Latency.Count)
	}
	second.Release(Success)
	Permit{}.Release(Success)
	if n := g.Snapshot().InFlight; n != 0 {
		t.Errorf("%d in flight at the end", n)
	}
}

func TestPanicReleasesAndGoesOn(t *testing.T) {
	g := newGuard(t, Config{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = g.Do(t.Context(), Default, func(context.Context) error { panic("handler") })
	}()
	if s := g.Snapshot(); s.InFlight != 0 || s.Failed != 1 {
		t.Errorf("in flight %d, failed %d; expected 0, 1", s.InFlight, s.Failed)
	}
}

func TestEndedContextIsNeitherAdmittedNorRefused(t *testing.T) {
	g := newGuard(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Acquire(ctx, Default); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, expected context.Canceled", err)
	}
	if s := g.Snapshot(); s.Offered[Default] != 0 {
		t.Errorf("%d offered", s.Offered[Default])
	}
}

// A15 (envoyproxy/envoy#8274, Netflix/concurrency-limits#176): eight in ten requests are refused in no time; the
// latency is that of the admitted ones only, and the limit does not grow.
func TestRefusalsDoNotMakeTheServiceLookFast(t *testing.T) {
	g := simGuard(t, Config{Min: 1, Max: 1000, Fallback: 20})
	p := newPlant(g, 15)
	p.servers, p.rate = 4, 400
	p.run(time.Second)
	limit := g.SnapshotAt(epoch.Add(p.now)).Limit
	p.service = 400 * time.Millisecond // 20 in flight, 4 servers: admitted requests take 2 s
	p.run(10 * time.Second)
	s := g.SnapshotAt(epoch.Add(p.now))
	if mean := s.Latency.Sum / float64(s.Latency.Count); mean < 0.3 {
		t.Errorf("mean latency %.3f s: refusals have diluted it", mean)
	}
	if s.Limit > limit {
		t.Errorf("limit grew from %d to %d in overload", limit, s.Limit)
	}
	if refused := s.Refused["concurrency"][Default]; refused == 0 || s.Offered[Default] != s.Admitted[Default]+refused {
		t.Errorf("offered %d, admitted %d, refused %d", s.Offered[Default], s.Admitted[Default], refused)
	}
	if got := s.Latency.Count + uint64(s.InFlight); got != s.Admitted[Default] {
		t.Errorf("admitted %d, finished or in flight %d", s.Admitted[Default], got)
	}
}

// What each outcome adds to the latency and the failures; the target is 0.4 × 300 ms.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name     string
		outcome  Outcome
		took     time.Duration
		finished uint64
		failed   uint64
	}{
		{"success", Success, time.Second, 1, 0},
		{"failure counts its latency", Failure, time.Second, 1, 1},
		{"a caller that gave up after a second is evidence of slowness", Canceled, time.Second, 1, 0},
		{"a caller that gave up at once says nothing", Canceled, 2 * time.Millisecond, 0, 0},
		{"at the target it still says nothing", Canceled, 120 * time.Millisecond, 0, 0},
		{"a socket's life is no latency", Ignored, time.Hour, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := simGuard(t, Config{})
			p, err := g.AcquireAt(epoch, Default)
			if err != nil {
				t.Fatal(err)
			}
			p.ReleaseAt(epoch.Add(c.took), c.outcome)
			s := g.SnapshotAt(epoch.Add(c.took))
			if s.Latency.Count != c.finished || s.Failed != c.failed || s.InFlight != 0 {
				t.Errorf("finished %d, failed %d, in flight %d; expected %d, %d, 0",
					s.Latency.Count, s.Failed, s.InFlight, c.finished, c.failed)
			}
		})
	}
}

// The time at a binding limit is right at any instant, also in the middle of such a time.
func TestBindingTime(t *testing.T) {
	g := simGuard(t, Config{NoReflex: true, Fallback: 10})
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	binding := func(d, want time.Duration) {
		t.Helper()
		if got := g.SnapshotAt(at(d)).Binding; got != want {
			t.Errorf("after %v: binding for %v, expected %v", d, got, want)
		}
	}
	var held []Permit
	for range 8 {
		p, _ := g.AcquireAt(at(0), Default)
		held = append(held, p)
	}
	binding(time.Second, 0) // 8 of 10 is not binding
	ninth, _ := g.AcquireAt(at(2*time.Second), Default)
	binding(5*time.Second, 3*time.Second)
	ninth.ReleaseAt(at(6*time.Second), Success)
	binding(9*time.Second, 4*time.Second)
	apply(t, g, at(10*time.Second), setting(1, func(c *concurrency) { c.Limit, c.Ceiling = 8, 8 }))
	binding(11*time.Second, 5*time.Second)
	held[0].ReleaseAt(at(11*time.Second), Success)
	held[1].ReleaseAt(at(11*time.Second), Success)
	binding(20*time.Second, 5*time.Second)
}

// The hot path must not make garbage: a guard that allocates costs most when there is least to spare.
func TestNoAllocation(t *testing.T) {
	g := newGuard(t, Config{Min: 1, Max: 1})
	ctx := t.Context()
	admit := func() {
		p, err := g.Acquire(ctx, Critical)
		if err != nil {
			t.Fatal(err)
		}
		p.Release(Success)
	}
	if n := testing.AllocsPerRun(1000, admit); n != 0 {
		t.Errorf("%v allocations to admit and release", n)
	}
	if _, err := g.Acquire(ctx, Critical); err != nil {
		t.Fatal(err)
	}
	refuse := func() {
		if _, err := g.Acquire(ctx, Background); err == nil {
			t.Fatal("admitted")
		}
	}
	if n := testing.AllocsPerRun(1000, refuse); n != 0 {
		t.Errorf("%v allocations to refuse", n)
	}
}

func TestNoAllocationWithAllKnobs(t *testing.T) {
	for name, g := range map[string]*Guard{
		"admit": knobs(t, 1e9, 0.6, 0), "rate": knobs(t, 1, 0.6, 0), "shed": knobs(t, 1e9, 0.6, 90),
	} {
		ctx, key := t.Context(), "tenant-4711"
		var last error
		request := func() {
			p, err := g.AcquireFor(ctx, Background, key)
			p.Release(Success)
			last = err
		}
		request()
		if n := testing.AllocsPerRun(1000, request); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		want := map[string]error{"admit": nil, "rate": ErrRate, "shed": ErrShed}[name]
		if !errors.Is(last, want) {
			t.Errorf("%s: %v", name, last)
		}
	}
}

// knobs returns a guard with a limit of 100, all three knobs in force and some requests in flight.
func knobs(t testing.TB, perSecond, threshold float64, inFlight int) *Guard {
	t.Helper()
	g := newGuard(t, Config{Min: 100, Max: 100})
	if err := g.Apply(settingOf(func(s *actuators.Setting) {
		s.Rate = &actuators.Rate{PerSecond: perSecond, Burst: 1, Instances: 1, Fallback: 1, Min: 1, Max: 1e12}
		s.Shed = &actuators.Shed{Threshold: threshold, Fallback: 0.6, Min: 0, Max: 1}
	})); err != nil {
		t.Fatal(err)
	}
	for range inFlight {
		g.gate.enter(0, 1, 0)
	}
	return g
}

// Every refusal says by its reason, and to errors.Is, which policy it was; refusals by rate differ only in the wait.
func TestRefusals(t *testing.T) {
	all := map[string]error{"concurrency": ErrConcurrency, "rate": ErrRate, "shed": ErrShed}
	for reason, err := range all {
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok || refusal.Reason() != reason || refusal.RetryAfter() != time.Second || refusal.Retryable() {
			t.Errorf("%s: %+v", reason, refusal)
		}
		for other, e := range all {
			if errors.Is(err, e) != (other == reason) {
				t.Errorf("%s is %s: %v", reason, other, errors.Is(err, e))
			}
		}
	}
	for _, c := range []struct{ wait, want time.Duration }{
		{1, time.Second},
		{time.Second, time.Second},
		{time.Second + 1, 2 * time.Second},
		{59 * time.Second, 59 * time.Second},
		{time.Hour, time.Minute},
		{math.MaxInt64, time.Minute},
	} {
		err := rateRefusal(c.wait)
		if refusal, _ := errors.AsType[*Refusal](err); refusal.RetryAfter() != c.want || !errors.Is(err, ErrRate) {
			t.Errorf("a token in %v: %v, retry after %v", c.wait, err, refusal.RetryAfter())
		}
	}
}

func TestConfigErrorsNameEverythingAtOnce(t *testing.T) {
	_, err := New(Config{Service: "a//b", SLO: 300, Min: 20, Max: 10, Fallback: 15, ShedThreshold: 60})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{`"a//b"`, "SLO 300ns", "Min 20 is above Max 10", "Fallback 15", "ShedThreshold 60"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	for _, c := range []struct {
		min, max, fallback, want int
	}{
		{0, 0, 0, 32},     // √(1·1000)
		{20, 400, 0, 89},  // √(20·400)
		{20, 400, 60, 60}, // as given
		{0, 10, 0, 3},
		{5000, 0, 0, 5000},
	} {
		g := newGuard(t, Config{Min: c.min, Max: c.max, Fallback: c.fallback})
		if got := g.Snapshot().Limit; got != c.want {
			t.Errorf("min %d, max %d, fallback %d: starts at %d, expected %d", c.min, c.max, c.fallback, got, c.want)
		}
	}
}

func TestCriticalityNames(t *testing.T) {
	for _, c := range Criticalities() {
		if got, ok := ParseCriticality(c.String()); got != c || !ok {
			t.Errorf("%v parses as %v", c, got)
		}
	}
	if c, ok := ParseCriticality("CRITICAL!"); c != Default || ok {
		t.Errorf("an unknown name parses as %v, %v", c, ok)
	}
	if got := Criticality(9).String(); got != "default" {
		t.Errorf("a value out of range is %q: it must not promote a request", got)
	}
}
