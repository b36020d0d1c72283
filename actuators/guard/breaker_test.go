package guard

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	good = [badKinds]bool{}
	bad  = [badKinds]bool{byFailures: true}
	late = [badKinds]bool{bySlowness: true}
)

func (b *breaker) state() string { return breakerNames[b.word.Load()&stateMask] }

// serve sends n calls at now; isBad of them end with how.
func (b *breaker) serve(now time.Duration, n, isBad int, how [badKinds]bool) {
	for i := range n {
		p, ok := b.admit(now)
		if !ok {
			return
		}
		if i < isBad {
			p.done(now, true, how)
		} else {
			p.done(now, true, good)
		}
	}
}

// tripped returns a breaker that has just opened, and when it turns half-open.
func tripped(t *testing.T, now time.Duration) (b *breaker, until time.Duration) {
	t.Helper()
	b = newBreaker("", 7, nil)
	b.serve(now, 50, 50, bad)
	if b.state() != "open" {
		t.Fatalf("%s after 50 failures", b.state())
	}
	return b, b.until
}

func TestBreakerTrips(t *testing.T) {
	for _, tc := range []struct {
		name       string
		calls, bad int
		how        [badKinds]bool
		want       string
	}{
		{"49 failures are too few to judge", 49, 49, bad, "closed"},
		{"50 failures", 50, 50, bad, "open"},
		{"a fifth of failures", 50, 10, bad, "closed"},
		{"more than a fifth", 50, 11, bad, "open"},
		{"more than a fifth of slow calls", 50, 11, late, "open"},
	} {
		b := newBreaker("", 0, nil)
		b.usual = [badKinds]float64{} // as learned in a long calm
		b.serve(0, tc.calls, tc.bad, tc.how)
		if b.state() != tc.want {
			t.Errorf("%s: %s, expected %s", tc.name, b.state(), tc.want)
		}
	}
}

// A dependency that always fails a little does not trip its breaker, and one that has always been good does at the same
// share: five deviations above what is usual. The bad share is random, as it is in life.
func TestBreakerLearnsWhatIsUsual(t *testing.T) {
	const usual = 0.12
	random := rand.New(rand.NewPCG(1, 2))
	b := newBreaker("", 0, nil)
	now := time.Duration(0)
	call := func(share float64) {
		how := good
		if random.Float64() < share {
			how = bad
		}
		p, ok := b.admit(now)
		if ok {
			p.done(now, true, how)
		}
		now += 10 * time.Millisecond
	}
	for range 1_000_000 { // nearly three hours at 100/s
		call(usual)
	}
	if b.opened[byFailures] > 0 {
		t.Errorf("opened %d times at the usual share of failures", b.opened[byFailures])
	}
	if p := b.usual[byFailures]; p < 0.08 || p > 0.16 {
		t.Errorf("usual share %.3f, expected about %.2f", p, usual)
	}
	for range 200 {
		call(0.6)
	}
	if b.state() != "open" {
		t.Errorf("%s two seconds after the failures have risen to 60%%", b.state())
	}
}

// Little traffic is judged over longer windows; what is older than half a minute is forgotten.
func TestBreakerForgets(t *testing.T) {
	b := newBreaker("", 0, nil)
	b.serve(0, 49, 49, bad)
	b.serve(31*time.Second, 49, 0, good)
	b.serve(32*time.Second, 1, 1, bad)
	if b.state() != "closed" {
		t.Errorf("%s by failures of 31 s ago", b.state())
	}
}

// A25 (cockroachdb/cockroach PR 35433, sony/gobreaker#122, nodeshift/opossum#119): callers that give up do not open it;
// 200 callers in the instant it turns half-open send exactly one probe; a canceled probe gives its place back; a call
// from before the trip changes nothing.
func TestBreakerAtItsEdges(t *testing.T) {
	b := newBreaker("", 7, nil)
	for i := range 500 {
		p, _ := b.admit(0)
		p.done(0, i%5 >= 2, good) // 40% say nothing
	}
	if b.state() != "closed" {
		t.Fatalf("%s after cancellations", b.state())
	}
	early, _ := b.admit(0)
	b.serve(2*time.Second, 51, 51, bad) // the first of them ends the window of the cancellations
	if b.state() != "open" {
		t.Fatalf("%s after failures", b.state())
	}
	if _, ok := b.admit(b.until - 1); ok {
		t.Error("a call passed while it was open")
	}
	now := b.until
	var probe passage
	probes := 0
	for range 200 {
		if p, ok := b.admit(now); ok {
			probe = p
			probes++
		}
	}
	if probes != 1 || b.state() != "half_open" {
		t.Fatalf("%d probes of 200 callers, %s; expected 1, half_open", probes, b.state())
	}
	early.done(now, true, good)
	early.done(now, true, bad)
	if _, ok := b.admit(now); ok || b.state() != "half_open" || b.places != 1 {
		t.Errorf("a call from before the trip changed something: %s, %d places", b.state(), b.places)
	}
	probe.done(now, false, good)
	if _, ok := b.admit(now); !ok {
		t.Error("the canceled probe kept its place")
	}
}

func TestBreakerRamp(t *testing.T) {
	b, now := tripped(t, 0)
	var places []int
	for b.state() != "closed" {
		var at []passage
		for {
			p, ok := b.admit(now)
			if !ok {
				break
			}
			at = append(at, p)
		}
		places = append(places, len(at))
		now += 50 * time.Millisecond
		for _, p := range at {
			p.done(now, true, good)
		}
		if len(places) > 10 {
			break
		}
	}
	if got := fmt.Sprint(places); got != "[1 2 4 8 16]" {
		t.Errorf("probes at a time %s, expected 1 2 4 8 16, then closed", got)
	}
	if b.window.calls != 0 {
		t.Errorf("it closes with %d old calls in its window", b.window.calls)
	}
}

// One failure opens it again at the first probe, but one of six does not.
func TestBreakerOpensAgainByProbes(t *testing.T) {
	b, now := tripped(t, 0)
	b.usual = [badKinds]float64{} // as learned in a long calm
	b.serve(now, 1, 1, bad)
	if b.state() != "open" {
		t.Errorf("%s after the first probe failed", b.state())
	}
	now = b.until
	b.serve(now, 5, 0, good)
	b.serve(now, 1, 1, bad)
	if b.state() != "half_open" {
		t.Errorf("%s after one of six probes failed", b.state())
	}
	b.serve(now, 1, 1, late)
	b.serve(now, 1, 1, bad)
	if b.state() != "open" {
		t.Errorf("%s after two of eight probes failed", b.state())
	}
}

// A probe that never ends does not block it: the instance hangs, so it opens and tries again later.
func TestBreakerOutlivesAProbeThatHangs(t *testing.T) {
	b, now := tripped(t, 0)
	hung, ok := b.admit(now)
	if !ok {
		t.Fatal("no probe")
	}
	if _, ok := b.admit(now + probePatience - 1); ok {
		t.Error("a second probe beside the first")
	}
	if _, ok := b.admit(now + probePatience); ok || b.state() != "open" {
		t.Errorf("%s, admitted %v; expected open again", b.state(), ok)
	}
	now = b.until
	p, ok := b.admit(now)
	if !ok {
		t.Fatal("no probe after the second time open")
	}
	hung.done(now, true, bad)
	hung.done(now, false, good)
	if b.state() != "half_open" || b.probes != 1 {
		t.Errorf("the probe that hung changed something: %s, %d probes", b.state(), b.probes)
	}
	p.done(now, true, good)
	if b.places != 2 {
		t.Errorf("%d places after a good probe", b.places)
	}
}

// It stays open 5, 10, 20, 40, then 60 s, up to a quarter less. Once it has been closed for longer than that, it starts
// with 5 s again. Instances do not turn half-open together.
func TestBreakerOpenTimes(t *testing.T) {
	b := newBreaker("", 3, nil)
	now := time.Duration(0)
	b.serve(now, 50, 50, bad)
	for _, most := range []time.Duration{5, 10, 20, 40, 60, 60} {
		most *= time.Second
		if open := b.until - now; open > most || open < most*3/4 {
			t.Errorf("open for %v, expected %v to %v", open, most*3/4, most)
		}
		now = b.until
		b.serve(now, 1, 1, bad)
	}
	now = b.until
	b.serve(now, 31, 0, good)
	if b.state() != "closed" {
		t.Fatalf("%s after 31 good probes", b.state())
	}
	b.serve(now+30*time.Second, 50, 50, bad)
	if open := b.until - now - 30*time.Second; open < 45*time.Second {
		t.Errorf("open for %v when it failed again after half a minute, expected a minute", open)
	}
	now = b.until
	b.serve(now, 31, 0, good)
	b.serve(now+2*time.Minute, 50, 50, bad)
	if open := b.until - now - 2*time.Minute; open > 5*time.Second {
		t.Errorf("open for %v after two good minutes, expected at most 5s", open)
	}
	ends := map[time.Duration]bool{}
	for seed := range uint64(100) {
		b := newBreaker("", mix64(seed), nil)
		b.serve(0, 50, 50, bad)
		ends[b.until/(100*time.Millisecond)] = true
	}
	if len(ends) < 10 {
		t.Errorf("a hundred breakers that opened together turn half-open in %d tenths of a second", len(ends))
	}
}

// The names of instances may come from anywhere: their number is bounded, and an open breaker outlives closed ones.
func TestInstancesAreBounded(t *testing.T) {
	var s instances
	s.make = func(instance string) *breaker { return newBreaker(instance, 0, nil) }
	broken := s.of(0, "broken")
	broken.serve(0, 50, 50, bad)
	idle := s.of(1, "idle")
	idle.opened[bySlowness] = 3
	for i := range 10 * maxInstances {
		s.of(time.Duration(2+i), fmt.Sprint(i))
	}
	if n := len(*s.table.Load()); n != maxInstances {
		t.Errorf("%d instances, expected %d", n, maxInstances)
	}
	if s.of(time.Hour, "broken") != broken {
		t.Error("the open breaker made room for closed ones")
	}
	if s.of(time.Hour, "idle") == idle || s.past[bySlowness] != 3 {
		t.Errorf("the idle one is still there, or its count is lost: %d", s.past[bySlowness])
	}
}
