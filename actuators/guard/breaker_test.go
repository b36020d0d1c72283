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

// fail lets 50 calls in a row end with how, the last at now.
func (b *breaker) fail(now time.Duration, how [badKinds]bool) {
	b.serve(now-breakerNothing, 1, 1, how)
	b.serve(now, 49, 49, how)
}

// tripped returns a breaker that has just opened, and when it turns half-open.
func tripped(t *testing.T, now time.Duration) (b *breaker, until time.Duration) {
	t.Helper()
	b = newBreaker("", 7, nil)
	b.fail(now, bad)
	if b.state() != "open" {
		t.Fatalf("%s after 50 failures", b.state())
	}
	return b, b.until
}

func TestBreakerTrips(t *testing.T) {
	for _, tc := range []struct {
		name       string
		calls, bad int
		span       time.Duration
		how        [badKinds]bool
		want       string
	}{
		{"49 failures are too few to judge", 49, 49, breakerWindow, bad, "closed"},
		{"50 failures", 50, 50, breakerNothing, bad, "open"},
		{"50 failures in a moment", 50, 50, breakerNothing - 1, bad, "closed"},
		{"one of 50 is good", 50, 49, breakerNothing, bad, "closed"},
		{"one of 50 is good, over a whole window", 50, 49, breakerWindow, bad, "open"},
		{"a fifth of failures", 50, 10, breakerWindow, bad, "closed"},
		{"more than a fifth", 50, 11, breakerWindow, bad, "open"},
		{"more than a fifth of slow calls", 50, 11, breakerWindow, late, "open"},
	} {
		b := newBreaker("", 0, nil)
		b.usual = [badKinds]float64{} // as learned in a long calm
		b.serve(0, tc.calls-1, tc.bad-1, tc.how)
		b.serve(tc.span, 1, 1, tc.how)
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
	for range 600 {
		call(0.6)
	}
	if b.opened[byFailures] == 0 {
		t.Error("closed for six seconds after the failures have risen to 60%")
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
	b = newBreaker("", 0, nil)
	b.serve(0, 49, 49, bad)
	b.serve(31*time.Second, 1, 1, bad)
	if b.state() != "closed" {
		t.Errorf("%s by a row of failures that began 31 s ago", b.state())
	}
}

// A calm after a burst of failures does not turn them into a long outage: the first call after it, if it is good, does not
// open, and what is too old is forgotten.
func TestBreakerAfterACalm(t *testing.T) {
	for _, tc := range []struct {
		calm time.Duration
		how  [badKinds]bool // of the second call after the calm
		want string
	}{
		{4 * time.Second, good, "closed"},
		{4 * time.Second, bad, "open"},
		{7 * time.Second, bad, "closed"},
		{time.Hour, bad, "closed"},
	} {
		b := newBreaker("", 0, nil)
		b.serve(0, 60, 60, bad)
		b.serve(tc.calm, 1, 0, good)
		if b.state() != "closed" {
			t.Errorf("%s by a good call after %v", b.state(), tc.calm)
		}
		b.serve(tc.calm+time.Millisecond, 1, 1, tc.how)
		if b.state() != tc.want {
			t.Errorf("%s by the second call after %v, expected %s", b.state(), tc.calm, tc.want)
		}
	}
}

// The retries save a blip, and a breaker that opened would make it longer. It rides out a blip of half a second, however
// many calls fall into it and wherever it begins in a window, and sees an outage within three seconds.
func TestBreakerRidesOutABlip(t *testing.T) {
	for _, gap := range []time.Duration{100 * time.Millisecond, 10 * time.Millisecond, time.Millisecond} {
		for begin := 30 * time.Second; begin < 33*time.Second; begin += 100 * time.Millisecond {
			for _, long := range []time.Duration{500 * time.Millisecond, time.Minute} {
				b := newBreaker("", 0, nil)
				var opened time.Duration
				for now := time.Duration(0); now < begin+10*time.Second && opened == 0; now += gap {
					away := 0
					if now >= begin && now < begin+long {
						away = 1
					}
					b.serve(now, 1, away, bad)
					if b.state() != "closed" {
						opened = now - begin
					}
				}
				switch most := max(3*time.Second, 50*gap); {
				case long < time.Second && opened != 0:
					t.Errorf("a call every %v, away for %v at %v: opened after %v", gap, long, begin, opened)
				case long > time.Second && (opened == 0 || opened > most):
					t.Errorf("a call every %v, away from %v on: opened after %v, expected at most %v", gap, begin, opened, most)
				}
			}
		}
	}
}

// An instance that was away for ten seconds is probed within 1.1 s of its return, and closes at once if it serves.
func TestBreakerProbesSoonAfterAReturn(t *testing.T) {
	const begin, end = 30 * time.Second, 40 * time.Second
	for seed := range uint64(100) {
		b := newBreaker("", mix64(seed), nil)
		var back time.Duration
		for now := time.Duration(0); now < time.Minute && back == 0; now += 10 * time.Millisecond {
			away := 0
			if now >= begin && now < end {
				away = 1
			}
			b.serve(now, 1, away, bad)
			if now >= end && b.state() == "closed" {
				back = now - end
			}
		}
		if b.opened[byFailures] < 2 || back == 0 || back > 1100*time.Millisecond+31*10*time.Millisecond {
			t.Errorf("seed %d: opened %d times, closed %v after the return", seed, b.opened[byFailures], back)
		}
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
	b.serve(3*time.Second, 1, 1, bad) // it ends the window of the cancellations
	b.fail(6*time.Second, bad)
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
	if b.window.calls != 0 || b.row[byFailures].calls != 0 {
		t.Errorf("it closes with %d old calls in its window, %d in a row", b.window.calls, b.row[byFailures].calls)
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

// It stays open for a second, then for a tenth of the time since it tripped, at most a minute, up to a quarter less. One that
// trips again soon starts with twice as much. Instances do not turn half-open together.
func TestBreakerOpenTimes(t *testing.T) {
	b := newBreaker("", 3, nil)
	now := time.Duration(0)
	b.fail(now, bad)
	for now < time.Hour {
		most := min(max(now/10, time.Second), time.Minute)
		if open := b.until - now; open > most || open < most*3/4 {
			t.Fatalf("open for %v at %v, expected %v to %v", open, now, most*3/4, most)
		}
		now = b.until
		b.serve(now, 1, 1, bad)
	}
	b, now = tripped(t, 0)
	for _, most := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		most *= time.Second
		b.serve(now, 31, 0, good)
		if b.state() != "closed" {
			t.Fatalf("%s after 31 good probes", b.state())
		}
		now += 5 * time.Second
		b.fail(now, bad)
		if open := b.until - now; open > most || open < most*3/4 {
			t.Errorf("open for %v when it failed again after 5 s, expected %v to %v", open, most*3/4, most)
		}
		now = b.until
	}
	b.serve(now, 31, 0, good)
	now += 2 * time.Minute
	b.fail(now, bad)
	if open := b.until - now; open > time.Second {
		t.Errorf("open for %v after two good minutes, expected at most 1s", open)
	}
	ends := map[time.Duration]bool{}
	for seed := range uint64(1000) {
		b := newBreaker("", mix64(seed), nil)
		b.fail(0, bad)
		ends[b.until/(10*time.Millisecond)] = true
	}
	if len(ends) < 20 {
		t.Errorf("a thousand breakers that opened together turn half-open in %d hundredths of a second", len(ends))
	}
}

// The names of instances may come from anywhere: their number is bounded, and an open breaker outlives closed ones.
func TestInstancesAreBounded(t *testing.T) {
	var s instances
	s.make = func(instance string) *breaker { return newBreaker(instance, 0, nil) }
	broken := s.of(0, "broken")
	broken.fail(0, bad)
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
