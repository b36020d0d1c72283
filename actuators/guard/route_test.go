package guard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// caller is a guard whose requests call one dependency.
type caller struct {
	*Guard
	t   testing.TB
	now time.Duration
}

func newCaller(t testing.TB) *caller {
	g := newGuard(t, Config{Service: "front", Min: 1000, Max: 1000, Now: func() time.Time { return epoch }})
	g.Dependency("back")
	return &caller{Guard: g, t: t}
}

const (
	low  = 0x40000000 // places
	high = 0xc0000000
	half = Threshold(2)<<32 | 0x80000000 // refuses the lower half of the class Default
)

func at(place uint32) Arrival {
	return Arrival{Criticality: Default, Route: "/buy", Rank: Rank{Place: place, Drawn: true}}
}

// request serves a, with a call that ends with r unless r is nil.
func (c *caller) request(a Arrival, r *Result, o Outcome) error {
	c.t.Helper()
	c.now += time.Millisecond
	p, err := c.AdmitAt(epoch.Add(c.now), a)
	if err != nil {
		return err
	}
	if r != nil {
		call := c.Dependency("back").StartAt(NewContext(context.Background(), p), epoch.Add(c.now), CallOptions{})
		attempt, err := call.TryAt(epoch.Add(c.now), "a")
		if err != nil {
			c.t.Fatal(err)
		}
		attempt.DoneAt(epoch.Add(c.now), *r)
	}
	p.ReleaseAt(epoch.Add(c.now), o)
	return nil
}

func telling(level Threshold) *Result {
	return &Result{Outcome: Success, Advice: Advice{Threshold: level}}
}

// learn has good requests whose answers tell that level, enough of them to know the route.
func (c *caller) learn(a Arrival, level Threshold) {
	c.t.Helper()
	for range max(needLeast, adviceCount) + 20 {
		if err := c.request(a, telling(level), Success); err != nil {
			c.t.Fatal(err)
		}
	}
}

// refused says of how many requests like a the door refuses.
func (c *caller) refused(a Arrival, n int) (refused int) {
	c.t.Helper()
	for range n {
		switch err := c.request(a, telling(half), Success); {
		case errors.Is(err, ErrCallee):
			refused++
		case err != nil:
			c.t.Fatal(err)
		}
	}
	return refused
}

func TestDoorRefusesWhatACalleeWould(t *testing.T) {
	again, sheddable, critical, other := at(low), at(high), at(low), at(low)
	again.Rank.Again = true
	sheddable.Criticality = Sheddable
	critical.Criticality = Critical
	other.Route = "/look"
	for name, x := range map[string]struct {
		asks Arrival
		want int
	}{
		"below": {at(low), 10}, "above": {at(high), 0}, "continues": {again, 0}, "less important": {sheddable, 10},
		"more important": {critical, 0}, "another route": {other, 0},
	} {
		c := newCaller(t)
		c.learn(at(high), half)
		if got := c.refused(x.asks, 10); got != x.want {
			t.Errorf("%s: %d of 10 refused, expected %d", name, got, x.want)
		}
	}
}

// A callee of an older version tells nothing, and refuses itself.
func TestCalleeThatTellsNothing(t *testing.T) {
	c := newCaller(t)
	c.learn(at(high), 0)
	if n := c.refused(at(low), 1); n != 0 {
		t.Error("refused on nobody's word")
	}
}

func TestLevelIsValidForASecond(t *testing.T) {
	for after, want := range map[time.Duration]int{990 * time.Millisecond: 1, 1010 * time.Millisecond: 0} {
		c := newCaller(t)
		c.learn(at(high), half)
		c.now += after - time.Millisecond
		if n := c.refused(at(low), 1); n != want {
			t.Errorf("after %v: %d of 1 refused, expected %d", after, n, want)
		}
	}
}

// One in 20 of those below the level is admitted, so that somebody sees when the callee has room again, and no more than 50
// a second. With no answer but theirs the level stays valid.
func TestProbes(t *testing.T) {
	c := newCaller(t)
	c.learn(at(high), half)
	for range 20 {
		before := c.now
		admitted := 100 - c.refused(at(low), 100)
		if spent := c.now - before; admitted != 5 || spent != 100*time.Millisecond {
			t.Errorf("%d of 100 admitted in %v, expected 5", admitted, spent)
		}
	}
	c.now += probeGap
	admitted := 0
	for range 1000 {
		c.now -= time.Millisecond - time.Millisecond/20 // 20 requests in a millisecond
		admitted += 1 - c.refused(at(low), 1)
	}
	if admitted < 2 || admitted > 4 {
		t.Errorf("%d of 1000 admitted in 50 ms, expected one in 20 ms", admitted)
	}
}

// What a request can do without is no reason to refuse it.
func TestDoorIsForCalleesThatAreNeeded(t *testing.T) {
	refusal := &Result{Outcome: Ignored, Refused: true, Advice: Advice{Threshold: half}}
	for name, x := range map[string]struct {
		shape func(c *caller, i int) // one of many requests
		want  bool
	}{
		"nine in ten call it": {func(c *caller, i int) {
			if i%20 != 0 {
				_ = c.request(at(high), telling(half), Success)
			} else {
				_ = c.request(at(high), nil, Success)
			}
		}, true},
		"four in five call it": {func(c *caller, i int) {
			if i%5 != 0 {
				_ = c.request(at(high), telling(half), Success)
			} else {
				_ = c.request(at(high), nil, Success)
			}
		}, false},
		"they fail without it": {func(c *caller, i int) {
			if i%20 != 0 {
				_ = c.request(at(high), telling(half), Success)
			} else {
				_ = c.request(at(high), refusal, Failure)
			}
		}, true},
		"they have a fallback": {func(c *caller, i int) {
			if i%20 != 0 {
				_ = c.request(at(high), telling(half), Success)
			} else {
				_ = c.request(at(high), refusal, Success)
			}
		}, false},
		"one in five answers tells less": {func(c *caller, i int) {
			level := half
			if i%5 == 0 {
				level = 0
			}
			_ = c.request(at(high), telling(level), Success)
		}, false},
	} {
		c := newCaller(t)
		for i := range 200 {
			x.shape(c, i)
		}
		c.now += adviceSample
		x.shape(c, 201)
		if got := c.refused(at(low), 1) == 1; got != x.want {
			t.Errorf("%s: refused %v", name, got)
		}
	}
}

// What is refused for a callee is no overload of the caller, and counts as calls that the callee did not get.
func TestCountsOfTheDoor(t *testing.T) {
	c := newCaller(t)
	c.learn(at(high), half)
	before := c.SnapshotAt(epoch.Add(c.now))
	if n := c.refused(at(low), 10); n != 10 {
		t.Fatalf("%d of 10 refused", n)
	}
	s := c.SnapshotAt(epoch.Add(c.now))
	if s.Refused["callee"][Default] != 10 || s.Offered[Default]-before.Offered[Default] != 10 || s.Admitted != before.Admitted {
		t.Errorf("refused %v, offered %v, admitted %v", s.Refused, s.Offered, s.Admitted)
	}
	if refused := c.tally(c.now).refused; refused != 0 {
		t.Errorf("%d refusals for the law of the limit", refused)
	}
	if to, was := s.Calls[0], before.Calls[0]; to.Refused["early"] != 10 || to.Requests-was.Requests != 10 || to.Attempts != was.Attempts {
		t.Errorf("calls: %+v", to)
	}
	if c.OptionalAt(epoch.Add(c.now)) {
		t.Error("a callee without room leaves room for optional work")
	}

	p, err := c.AdmitAt(epoch.Add(c.now), at(high))
	if err != nil {
		t.Fatal(err)
	}
	call := c.Dependency("back").StartAt(NewContext(context.Background(), p), epoch.Add(c.now), CallOptions{})
	for _, want := range []uint32{10, 0} {
		if a, _ := call.Arrival(); a.Early != want {
			t.Errorf("the next call reports %d, expected %d", a.Early, want)
		}
	}
}

// Requests that callers have refused count among the arrivals from which the shares of the classes are learned, up to a
// bound, and are passed on where the callee would not have served them either.
func TestEarlyCountsAsDemand(t *testing.T) {
	c := newCaller(t)
	c.learn(at(high), half)
	a := at(high)
	before := c.offered(c.admitted())
	for early, want := range map[uint32]uint64{7: 8, 1 << 30: maxEarly + 1} {
		a.Early = early
		if err := c.request(a, nil, Success); err != nil {
			t.Fatal(err)
		}
		got := c.offered(c.admitted())
		if got[Default]-before[Default] != want || c.SnapshotAt(epoch).Offered[Default] >= got[Default] {
			t.Errorf("%d early: %d arrivals, expected %d", early, got[Default]-before[Default], want)
		}
		before = got
	}
	if early := c.routeOf(&a).takeEarly(c.Dependency("back"), Default); early != 7+maxEarly {
		t.Errorf("%d passed on, expected %d", early, 7+maxEarly)
	}
}

// An answer tells the highest threshold on the way of its request, and so does a refusal.
func TestThresholdIsPassedUp(t *testing.T) {
	c := newCaller(t)
	c.learn(at(high), half)
	other := at(high)
	other.Route = "/look"
	for _, x := range []struct {
		asks Arrival
		want Threshold
	}{{at(high), half}, {other, 0}} {
		p, err := c.AdmitAt(epoch.Add(c.now), x.asks)
		if err != nil {
			t.Fatal(err)
		}
		ctx := NewContext(context.Background(), p)
		answer, refusal := AdviceAt(ctx, epoch.Add(c.now)), c.RefusalAdviceAt(epoch.Add(c.now), x.asks)
		if answer.Threshold != x.want || refusal.Threshold != x.want {
			t.Errorf("%s: %+v, %+v, expected %x", x.asks.Route, answer, refusal, x.want)
		}
	}
}

// A full bulkhead is a callee without room: it refuses by rank, and so does the door before it.
func TestDoorBeforeABulkhead(t *testing.T) {
	g := newGuard(t, Config{Service: "front", Min: 1000, Max: 1000, Now: func() time.Time { return epoch }})
	c := &caller{Guard: g, t: t}
	d := g.Dependency("back", MaxCalls(10))
	c.learn(at(high), 0)
	d.pool.mu.Lock()
	d.pool.reflex.limit, d.pool.regime.base = 10, 10
	d.pool.enforce(c.now)
	d.pool.mu.Unlock()
	var held []Permit
	for range 100 { // calls that hang
		p, err := d.pool.acquire(c.now, &Arrival{Criticality: Critical, Rank: Rank{Drawn: true, Again: true}})
		if err != nil {
			break
		}
		held = append(held, p)
	}
	if len(held) != 10 {
		t.Fatalf("%d calls in flight", len(held))
	}
	door, last := 0, error(nil)
	for range 400 {
		c.now += 5 * time.Millisecond
		p, err := c.AdmitAt(epoch.Add(c.now), at(low))
		if errors.Is(err, ErrCallee) {
			door++
			continue
		}
		call := d.StartAt(NewContext(context.Background(), p), epoch.Add(c.now), CallOptions{})
		_, last = call.TryAt(epoch.Add(c.now), "a")
		if !errors.Is(last, ErrBulkhead) {
			t.Fatalf("got %v", last)
		}
		p.ReleaseAt(epoch.Add(c.now), Failure)
	}
	if door < 300 {
		t.Errorf("%d of 400 refused at the door", door)
	}
}

// Whoever makes up entries and routes fills no memory.
func TestRoutesAreBounded(t *testing.T) {
	c := newCaller(t)
	for i := range 10 * maxRoutes {
		a := at(high)
		a.Entry, a.Route = fmt.Sprint("e", i%1000), fmt.Sprint("r", i)
		if err := c.request(a, telling(half), Success); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(*c.routes.table.Load()); n > maxRoutes {
		t.Errorf("%d routes, expected at most %d", n, maxRoutes)
	}
}

func TestDoorAllocatesNothing(t *testing.T) {
	c := newCaller(t)
	c.learn(at(high), half)
	now := epoch.Add(c.now)
	if n := testing.AllocsPerRun(1000, func() {
		_, _ = c.AdmitAt(now, at(low))
		p, _ := c.AdmitAt(now, at(high))
		p.ReleaseAt(now, Success)
		_ = c.RefusalAdviceAt(now, at(low))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// With a threshold that is heeded, for a request above it and for one below it.
func BenchmarkAdmitAboveTheThreshold(b *testing.B) { benchmarkDoor(b, at(high)) }
func BenchmarkRefuseForCallee(b *testing.B)        { benchmarkDoor(b, at(low)) }

func benchmarkDoor(b *testing.B, a Arrival) {
	c := newCaller(b)
	c.learn(at(high), half)
	now := epoch.Add(c.now)
	b.ReportAllocs()
	for b.Loop() {
		p, _ := c.AdmitAt(now, a)
		p.ReleaseAt(now, Success)
	}
}
