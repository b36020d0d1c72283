package guard

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dependency returns a dependency of a guard on a clock that stands at start and counts who reads it.
func dependency(t testing.TB, options ...CallOption) (d *Dependency, start time.Time, reads *atomic.Int64) {
	t.Helper()
	start, reads = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC), new(atomic.Int64)
	g, err := New(Config{Service: "checkout", SLO: 300 * time.Millisecond, Now: func() time.Time {
		reads.Add(1)
		return start
	}})
	if err != nil {
		t.Fatal(err)
	}
	reads.Store(0)
	return g.Dependency("payments", options...), start, reads
}

var failure = Result{Outcome: Failure}

// attempt makes one attempt of c at now that ends with r at once.
func attempt(t testing.TB, c *Call, now time.Time, instance string, r Result) {
	t.Helper()
	a, err := c.TryAt(now, instance)
	if err != nil {
		t.Fatal(err)
	}
	a.DoneAt(now, r)
}

// What a retry needs, and what is counted if it is not there.
func TestRetryRules(t *testing.T) {
	refused := Result{Outcome: Ignored, Refused: true, Elsewhere: true}
	with := func(r Result, change func(*Result)) Result { change(&r); return r }
	hinted := func(r *Result) { r.Advice.NoRetry = true }
	in := func(left time.Duration) time.Time { return time.Date(2025, 6, 1, 0, 0, 0, int(left), time.UTC) }
	for _, tc := range []struct {
		name       string
		options    CallOptions
		result     Result
		ok         bool
		elsewhere  bool
		suppressed string
	}{
		{"an idempotent failure", CallOptions{Idempotent: true}, failure, true, false, ""},
		{"a success", CallOptions{Idempotent: true}, Result{}, false, false, ""},
		{"the caller gave up", CallOptions{Idempotent: true}, Result{Outcome: Canceled}, false, false, ""},
		{"a failure that may have been executed", CallOptions{}, failure, false, false, "not_idempotent"},
		{"a refusal proves that nothing was executed", CallOptions{}, refused, true, false, ""},
		{"so does a connection that fails", CallOptions{}, Result{Outcome: Failure, Unsent: true}, true, false, ""},
		{"a body that is spent", CallOptions{Idempotent: true, OneShot: true}, failure, false, false, "body"},
		{"an outer layer retries", CallOptions{Idempotent: true, Inner: true}, failure, false, false, "layer"},
		{"the hint", CallOptions{Idempotent: true}, with(failure, hinted), false, false, "hint"},
		{"the hint of the only instance", CallOptions{Idempotent: true}, with(refused, hinted), false, false, "hint"},
		{"another instance", CallOptions{Instances: 2}, refused, true, true, ""},
		{"another instance, though this one hints", CallOptions{Instances: 2}, with(refused, hinted), true, true, ""},
		{"another instance, though an outer layer retries", CallOptions{Instances: 2, Inner: true}, refused, true, true, ""},
		{
			"another instance, but a failure with a hint",
			CallOptions{Instances: 2, Idempotent: true},
			with(failure, hinted), false, false, "hint",
		},
		{"time for the backoff", CallOptions{Idempotent: true, Deadline: in(51 * time.Millisecond)}, failure, true, false, ""},
		{
			"a deadline shorter than the backoff",
			CallOptions{Idempotent: true, Deadline: in(50 * time.Millisecond)},
			failure, false, false, "deadline",
		},
		{
			"Retry-After beyond the deadline",
			CallOptions{Idempotent: true, Deadline: in(time.Second)},
			with(failure, func(r *Result) { r.RetryAfter = 2 * time.Second }), false, false, "deadline",
		},
		{
			"Retry-After beyond anybody's patience",
			CallOptions{Idempotent: true},
			with(failure, func(r *Result) { r.RetryAfter = 1 << 62 }), false, false, "deadline",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, now, _ := dependency(t)
			c := d.StartAt(t.Context(), now, tc.options)
			attempt(t, &c, now, "a", tc.result)
			retry, ok := c.RetryAt(now, 0.5, tc.result)
			if ok != tc.ok || retry.Elsewhere != tc.elsewhere || (retry.Wait == 0) != (tc.elsewhere || !tc.ok) {
				t.Errorf("%v %+v", ok, retry)
			}
			if n := d.out.retries.Load(); (n == 1) != tc.ok {
				t.Errorf("%d retries counted", n)
			}
			for reason, name := range suppressionReasons {
				if n := d.out.suppressed[reason].Load(); (n == 1) != (name == tc.suppressed) {
					t.Errorf("suppressed by %s: %d", name, n)
				}
			}
		})
	}
}

// A call has three attempts, one of them at most on another instance by the rule for refusals, and the last failure says
// that the request has been tried enough.
func TestCallEndsAfterThreeAttempts(t *testing.T) {
	d, now, _ := dependency(t)
	ctx := NewContext(t.Context(), mustAcquire(t, d.caller, now))
	c := d.StartAt(ctx, now, CallOptions{Idempotent: true, Instances: 3})
	refused := Result{Outcome: Ignored, Refused: true, Elsewhere: true}
	for i, elsewhere := range []bool{true, false} {
		attempt(t, &c, now, "a", refused)
		if retry, ok := c.RetryAt(now, 1, refused); !ok || retry.Elsewhere != elsewhere {
			t.Errorf("retry %d: %v %+v", i, ok, retry)
		}
	}
	attempt(t, &c, now, "b", refused)
	if AdviceOf(ctx).NoRetry {
		t.Error("the hint came before the last attempt")
	}
	if _, ok := c.RetryAt(now, 1, refused); ok || !AdviceOf(ctx).NoRetry {
		t.Errorf("fourth attempt %v, hint %v", ok, AdviceOf(ctx).NoRetry)
	}
	if a, r, n := d.out.attempts.Load(), d.out.retries.Load(), d.out.calleeRefusals.Load(); a != 3 || r != 2 || n != 3 {
		t.Errorf("%d attempts, %d retries, %d refusals; expected 3, 2, 3", a, r, n)
	}
}

func mustAcquire(t testing.TB, g *Guard, now time.Time) Permit {
	t.Helper()
	p, err := g.AcquireAt(now, Default)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The order is deadline, breaker, bulkhead. A call that one policy refuses uses up nothing of the policies after it, and a
// probe that finds the bulkhead full gives its place back.
func TestTryAsksInOrder(t *testing.T) {
	d, now, _ := dependency(t, MaxCalls(50))
	const instance = "10.0.0.1:80"
	c := d.StartAt(t.Context(), now, CallOptions{Deadline: now})
	_, err := c.TryAt(now, instance)
	refusal, ok := errors.AsType[*CallRefusal](err)
	if !errors.Is(err, ErrCallDeadline) || !ok || refusal.Reason() != "deadline" || refusal.Dependency() != "payments" ||
		refusal.Retryable() {
		t.Errorf("with no time left: %v", err)
	}
	for i := range 51 {
		c := d.StartAt(t.Context(), now, CallOptions{})
		a, err := c.TryAt(now, instance)
		if err != nil {
			break
		}
		a.DoneAt(now, failure)
		if i == 48 {
			now = now.Add(breakerNothing)
		}
	}
	c = d.StartAt(t.Context(), now, CallOptions{})
	if _, err = c.TryAt(now, instance); !errors.Is(err, ErrBreakerOpen) || errors.Is(err, ErrBulkhead) {
		t.Errorf("after 50 failures: %v", err)
	}
	later := now.Add(5 * time.Second)
	var held []Attempt
	for {
		a, err := c.TryAt(later, "another")
		if err != nil {
			if !errors.Is(err, ErrBulkhead) {
				t.Errorf("at a full bulkhead: %v", err)
			}
			break
		}
		held = append(held, a)
	}
	if _, err := c.TryAt(later, instance); !errors.Is(err, ErrBulkhead) {
		t.Errorf("a probe at a full bulkhead: %v", err)
	}
	held[0].DoneAt(later, Result{})
	held[0].DoneAt(later, Result{})
	if _, err := c.TryAt(later, instance); err != nil {
		t.Errorf("the probe after it: %v", err)
	}
	if n := d.out.instances.of(0, "another").inFlight.Load(); int(n) != len(held)-1 {
		t.Errorf("%d in flight on the other instance, expected %d", n, len(held)-1)
	}
}

// A person's "retry 0" stops retries at once, also those for which tokens are saved.
func TestRetryRatioOfZero(t *testing.T) {
	d, now, _ := dependency(t)
	raw := `{"schema": 1, "service": "checkout", "epoch": 1, "revision": 1, "lease_seconds": 180,
		"retry": {"budget_ratio": 0, "fallback": 0.1, "min": 0, "max": 1}}`
	if err := d.caller.ApplyAt(now, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	c := d.StartAt(t.Context(), now, CallOptions{Idempotent: true})
	attempt(t, &c, now, "", failure)
	if _, ok := c.RetryAt(now, 0, failure); ok || d.out.suppressed[noRetryBudget].Load() != 1 {
		t.Error("a retry was allowed")
	}
}

// A retry that waits counts as time in a guarded call; giving it up ends that.
func TestBackoffIsNotTheServicesOwnLatency(t *testing.T) {
	d, now, _ := dependency(t)
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	p := mustAcquire(t, d.caller, now)
	ctx := NewContext(t.Context(), p)
	c := d.StartAt(ctx, at(10), CallOptions{Idempotent: true})
	a, err := c.TryAt(at(10), "")
	if err != nil {
		t.Fatal(err)
	}
	a.DoneAt(at(30), failure)
	if _, ok := c.RetryAt(at(30), 0.5, failure); !ok {
		t.Fatal("no retry")
	}
	attempt(t, &c, at(80), "", failure)
	if _, ok := c.RetryAt(at(80), 0.5, failure); !ok {
		t.Fatal("no second retry")
	}
	c.GiveUpAt(at(100))
	c.GiveUpAt(at(200))
	if waited, _ := requestOf(ctx).end(250*time.Millisecond, Success); waited != 90*time.Millisecond {
		t.Errorf("%v in guarded calls, expected 90ms: from 10 to 100", waited)
	}
}

// Marks and hints travel with the admitted request.
func TestMarkOfAnOuterLayer(t *testing.T) {
	d, now, _ := dependency(t)
	ctx := NewContext(t.Context(), mustAcquire(t, d.caller, now))
	if _, ok := AttemptOf(ctx); ok {
		t.Error("marked at birth")
	}
	MarkAttempt(ctx, -5)
	if n, ok := AttemptOf(ctx); n != 0 || !ok {
		t.Errorf("attempt %d, %v", n, ok)
	}
	MarkAttempt(ctx, 1<<40)
	if n, _ := AttemptOf(ctx); n != maxMark {
		t.Errorf("attempt %d", n)
	}
	c := d.StartAt(ctx, now, CallOptions{Idempotent: true})
	if c.Retries() {
		t.Error("an inner layer retries")
	}
	attempt(t, &c, now, "", Result{Outcome: Success})
	if n, ok := c.Mark(ctx); n != maxMark || !ok {
		t.Errorf("an inner layer hands on the mark %d, %v", n, ok)
	}
	outer := d.StartAt(t.Context(), now, CallOptions{Idempotent: true})
	attempt(t, &outer, now, "", Result{Outcome: Success})
	if n, ok := outer.Mark(t.Context()); n != 0 || !ok {
		t.Errorf("the layer that retries marks its first attempt %d, %v", n, ok)
	}
	once := d.StartAt(t.Context(), now, CallOptions{})
	if _, ok := once.Mark(t.Context()); ok {
		t.Error("a call that nobody retries is marked")
	}
	MarkAttempt(context.Background(), 3) // no request: nothing to mark
	if _, ok := AttemptOf(context.Background()); ok || AdviceOf(context.Background()).NoRetry {
		t.Error("a context without a request carries a mark")
	}
}

// A closed breaker reads no clock: a whole call reads it at its start and at its end, for all policies together.
func TestClosedBreakerReadsNoClock(t *testing.T) {
	d, _, reads := dependency(t)
	for range 10 {
		reads.Store(0)
		c := d.Start(t.Context(), CallOptions{Idempotent: true})
		a, err := c.Try("10.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		a.Answered()
		if n := reads.Load(); n != 1 {
			t.Fatalf("%d looks at the clock until the answer, expected 1", n)
		}
		a.Done(Result{})
		if n := reads.Load(); n != 2 {
			t.Fatalf("%d looks at the clock, expected 2", n)
		}
	}
}

func TestCallAllocatesNothing(t *testing.T) {
	d, now, _ := dependency(t)
	ctx := NewContext(t.Context(), mustAcquire(t, d.caller, now))
	end := now.Add(40 * time.Millisecond)
	hosts := []string{"a", "b", "c"}
	for name, fn := range map[string]func(){
		"call": func() {
			c := d.StartAt(ctx, now, CallOptions{Idempotent: true, Instances: 3})
			a, _ := c.TryAt(now, c.Pick(hosts, "", 0.4))
			a.DoneAt(end, Result{})
		},
		"retry": func() {
			c := d.StartAt(ctx, now, CallOptions{Idempotent: true})
			a, _ := c.TryAt(now, "d")
			a.DoneAt(now, Result{Refused: true})
			if _, ok := c.RetryAt(now, 0.3, Result{Refused: true}); ok {
				a, _ = c.TryAt(end, "d")
				a.DoneAt(end, Result{})
			}
		},
		"refusal": func() {
			c := d.StartAt(ctx, now, CallOptions{Deadline: now})
			_, _ = c.TryAt(now, "a")
		},
	} {
		if n := testing.AllocsPerRun(1000, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Two random choices: the instance with fewer calls in flight, never the excluded one or one whose breaker is open, as
// long as there is another.
func TestPick(t *testing.T) {
	d, now, _ := dependency(t)
	hosts := []string{"a", "b", "c", "d"}
	pick := func(except string) map[string]int {
		seen := map[string]int{}
		for i := range 1000 {
			seen[d.PickAt(now, hosts, except, (float64(i)+0.5)/1000)]++
		}
		return seen
	}
	even := pick("")
	for _, h := range hosts {
		if even[h] < 200 || even[h] > 300 {
			t.Errorf("%s chosen %d times of 1000 while all are idle", h, even[h])
		}
	}
	d.out.instances.of(0, "b").inFlight.Store(9)
	if n := pick("")["b"]; n != 0 {
		t.Errorf("the busiest chosen %d times", n)
	}
	d.out.instances.of(0, "c").fail(0, bad)
	if seen := pick("a"); seen["a"] != 0 || seen["c"] != 0 || seen["d"] < 600 {
		t.Errorf("a excluded, b busy, c open: %v", seen)
	}
	if got := d.PickAt(now, []string{"c"}, "c", 0.9999); got != "c" {
		t.Errorf("the only one: %q", got)
	}
	if got := d.PickAt(now, []string{"a", "c"}, "a", 0); got != "c" {
		t.Errorf("the only other one is open: %q", got)
	}
	for _, u := range []float64{-1, 0, 1, 2} {
		if got := d.PickAt(now, hosts, "", u); got == "" {
			t.Errorf("u = %v: none", u)
		}
	}
}

// A call with less time left than a quarter of what calls take in calm is not sent; a retry needs the whole of it.
func TestDeadlineLeavesTimeForTheCallee(t *testing.T) {
	d, now, _ := dependency(t)
	d.pool.calm.Store(int64(100 * time.Millisecond))
	try := func(left time.Duration) (retry bool, err error) {
		c := d.StartAt(t.Context(), now, CallOptions{Idempotent: true, Deadline: now.Add(left)})
		a, err := c.TryAt(now, "")
		if err != nil {
			return false, err
		}
		a.DoneAt(now, failure)
		_, retry = c.RetryAt(now, 0, failure)
		return retry, nil
	}
	if _, err := try(24 * time.Millisecond); !errors.Is(err, ErrCallDeadline) {
		t.Errorf("24 ms left: %v", err)
	}
	if retry, err := try(99 * time.Millisecond); err != nil || retry {
		t.Errorf("99 ms left: %v, %v", retry, err)
	}
	if retry, err := try(100 * time.Millisecond); err != nil || !retry {
		t.Errorf("100 ms left: %v, %v", retry, err)
	}
}

// Long answers must not hold up an instance's way back: the probe counts when its answer begins.
func TestProbeCountsWhenItsAnswerBegins(t *testing.T) {
	d, now, _ := dependency(t)
	b := d.out.instances.of(0, "a")
	b.fail(0, bad)
	later := now.Add(b.until)
	c := d.StartAt(t.Context(), later, CallOptions{})
	a, err := c.TryAt(later, "a")
	if err != nil {
		t.Fatal(err)
	}
	a.AnsweredAt(later)
	a.AnsweredAt(later)
	if b.places != 2 || b.probes != 0 {
		t.Errorf("%d places, %d probes under way; expected 2, 0", b.places, b.probes)
	}
	a.DoneAt(later, failure)
	if b.state() != "half_open" || b.probes != 0 {
		t.Errorf("the end of the answer counted again: %s, %d probes", b.state(), b.probes)
	}
}

// A probe that is canceled, or that the callee refuses, neither closes nor opens: its place is free again.
func TestProbeWithoutAVerdict(t *testing.T) {
	for name, r := range map[string]Result{
		"canceled": {Outcome: Canceled}, "refused": {Refused: true}, "ignored": {Outcome: Ignored},
		"failed further down": {Outcome: Failure, Advice: Advice{NoRetry: true}},
	} {
		d, now, _ := dependency(t)
		b := d.out.instances.of(0, "a")
		b.fail(0, bad)
		later := now.Add(b.until)
		for range 100 {
			c := d.StartAt(t.Context(), later, CallOptions{})
			attempt(t, &c, later, "a", r)
		}
		if b.state() != "half_open" || b.places != 1 || b.probes != 0 {
			t.Errorf("%s: %s, %d places, %d probes; expected half_open, 1, 0", name, b.state(), b.places, b.probes)
		}
	}
}

// A failure with the hint is that of a service further down. It opens no breaker, because other requests may not need that
// service. Only one of several instances opens that has nothing but such failures: it may have lost its own way down.
func TestFailuresFurtherDown(t *testing.T) {
	hinted := Result{Outcome: Failure, Advice: Advice{NoRetry: true}}
	for _, tc := range []struct {
		name      string
		instances int
		good      int // every so manyth call is good; 0: none
		r         Result
		want      string
	}{
		{"the only instance", 1, 0, hinted, "closed"},
		{"the only instance, without the hint", 1, 0, failure, "open"},
		{"one of two", 2, 0, hinted, "open"},
		{"one of two that serves a tenth", 2, 10, hinted, "closed"},
		{"one of two that serves a tenth, without the hint", 2, 10, failure, "open"},
	} {
		d, now, _ := dependency(t)
		b := d.out.instances.of(0, "a")
		try := func() bool {
			c := d.StartAt(t.Context(), now, CallOptions{Instances: tc.instances})
			a, err := c.TryAt(now, "a")
			if err != nil {
				return false
			}
			if i := d.out.attempts.Load(); tc.good > 0 && i%uint64(tc.good) == 0 {
				a.DoneAt(now, Result{})
			} else {
				a.DoneAt(now, tc.r)
			}
			now = now.Add(10 * time.Millisecond)
			return true
		}
		for range 500 {
			if !try() {
				break
			}
		}
		if b.state() != tc.want {
			t.Errorf("%s: %s, expected %s", tc.name, b.state(), tc.want)
		}
	}
}

// The first probe of one of several instances that fails further down opens again; after one that served, such a failure
// says nothing, so that a service further down that is half back holds nobody up.
func TestProbeThatFailsFurtherDown(t *testing.T) {
	hinted := Result{Outcome: Failure, Advice: Advice{NoRetry: true}}
	d, now, _ := dependency(t)
	b := d.out.instances.of(0, "a")
	b.fail(0, bad)
	probe := func(r Result) {
		t.Helper()
		at := now.Add(b.until)
		c := d.StartAt(t.Context(), at, CallOptions{Instances: 2})
		attempt(t, &c, at, "a", r)
	}
	probe(hinted)
	if b.state() != "open" {
		t.Errorf("%s after the first probe", b.state())
	}
	probe(Result{})
	for range 30 {
		probe(hinted)
		probe(Result{})
	}
	if b.state() != "closed" {
		t.Errorf("%s after 31 good probes and 30 that failed further down", b.state())
	}
}

// Trying a refusal elsewhere costs half a token: the reserve of ten lasts for twenty, and for ten retries.
func TestElsewhereCostsHalf(t *testing.T) {
	refused := Result{Outcome: Ignored, Refused: true, Elsewhere: true}
	for instances, want := range map[int]uint64{1: 10, 2: 20} {
		d, now, _ := dependency(t)
		if err := d.caller.ApplyAt(now, []byte(`{"schema": 1, "service": "checkout", "epoch": 1, "revision": 1,
			"lease_seconds": 180, "retry": {"budget_ratio": 1e-9, "fallback": 0.1, "min": 0, "max": 1}}`)); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			c := d.StartAt(t.Context(), now, CallOptions{Instances: instances})
			attempt(t, &c, now, "a", refused)
			if retry, ok := c.RetryAt(now, 0, refused); ok && retry.Elsewhere != (instances > 1) {
				t.Errorf("%d instances: %+v", instances, retry)
			}
			c.GiveUpAt(now)
		}
		if n := d.out.retries.Load(); n != want {
			t.Errorf("%d instances: %d retries, expected %d", instances, n, want)
		}
	}
}

// A probe that hangs does not keep its instance out forever, though other instances take all calls meanwhile.
func TestHungProbeAmongSeveralInstances(t *testing.T) {
	d, now, _ := dependency(t)
	b := d.out.instances.of(0, "a")
	b.fail(0, bad)
	instances := []string{"a", "b"}
	hung := false
	for second := range 300 {
		at := now.Add(time.Duration(second) * time.Second)
		for i := range 20 {
			c := d.StartAt(t.Context(), at, CallOptions{Instances: 2})
			instance := d.PickAt(at, instances, "", float64(i)/20)
			a, err := c.TryAt(at, instance)
			switch {
			case err != nil:
				t.Fatalf("second %d, instance %s: %v", second, instance, err)
			case instance == "a" && !hung:
				hung = true // and never ends
			default:
				a.DoneAt(at, Result{})
			}
		}
	}
	if b.state() != "closed" || b.opened[bySlowness] != 1 {
		t.Errorf("%s after five minutes, opened %v; expected closed, once by the hung probe", b.state(), b.opened)
	}
}

// A caller that gives up on a call that was slow already tells about the callee.
func TestCanceledSlowCallsTrip(t *testing.T) {
	for took, want := range map[time.Duration]string{100 * time.Millisecond: "closed", 10 * time.Second: "open"} {
		d, now, _ := dependency(t, MaxCalls(200))
		var held []Attempt
		for range 10 {
			c := d.StartAt(t.Context(), now, CallOptions{})
			for range 10 {
				a, err := c.TryAt(now, "a")
				if err == nil {
					held = append(held, a)
				}
			}
			for _, a := range held {
				a.DoneAt(now.Add(took), Result{Outcome: Canceled})
			}
			held, now = held[:0], now.Add(breakerWindow/9)
		}
		if got := d.out.instances.of(0, "a").state(); got != want {
			t.Errorf("canceled after %v: %s, expected %s", took, got, want)
		}
	}
}

// Many goroutines, instances and outcomes at once: at the end nothing is in flight, nothing has ended twice, and every
// call is accounted for.
func TestCallsInParallel(t *testing.T) {
	g := newGuard(t, Config{})
	d := g.Dependency("payments")
	instances := []string{"a", "b", "c", "d"}
	const workers, each = 8, 2000
	var group sync.WaitGroup
	var refused, sent, halves atomic.Uint64 // halves: tokens charged, ×2
	for worker := range uint64(workers) {
		group.Go(func() {
			random := rand.New(rand.NewPCG(worker, 1))
			for range each {
				c := d.Start(t.Context(), CallOptions{Idempotent: random.IntN(2) == 0, Instances: len(instances)})
				for {
					a, err := c.Try(c.Pick(instances, "", random.Float64()))
					if err != nil {
						refused.Add(1)
						break
					}
					sent.Add(1)
					r := Result{Outcome: Outcome(random.IntN(4)), Refused: random.IntN(8) == 0, Elsewhere: true}
					a.Answered()
					a.Done(r)
					retry, ok := c.Retry(random.Float64(), r)
					if !ok {
						break
					}
					halves.Add(2)
					if retry.Elsewhere {
						halves.Add(^uint64(0))
					}
					if random.IntN(4) == 0 {
						c.GiveUp()
						break
					}
				}
			}
		})
	}
	group.Wait()
	s := g.Snapshot().Calls[0]
	if s.InFlight != 0 || s.DoubleReleases != 0 || s.Requests != workers*each || s.Attempts != sent.Load() {
		t.Errorf("%+v", s)
	}
	if n := s.Refused["deadline"] + s.Refused["breaker"] + s.Refused["bulkhead"]; n != refused.Load() {
		t.Errorf("%d refusals counted, %d seen", n, refused.Load())
	}
	if most := uint64(budgetReserve + defaultRetryRatio*workers*each + 1); halves.Load() > 2*most {
		t.Errorf("%d half tokens charged for retries, expected at most %d", halves.Load(), 2*most)
	}
	for _, instance := range instances {
		if n := d.out.instances.of(0, instance).inFlight.Load(); n != 0 {
			t.Errorf("%d in flight on %s", n, instance)
		}
	}
}

// A guarded call inside Do is no latency of the service's own.
func TestCallsInDoAreNotItsOwnLatency(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := newGuard(t, Config{Now: func() time.Time { return now }})
	d := g.Dependency("payments")
	err := g.Do(t.Context(), Default, func(ctx context.Context) error {
		c := d.Start(ctx, CallOptions{})
		a, err := c.Try("")
		if err != nil {
			return err
		}
		now = now.Add(30 * time.Millisecond)
		a.Done(Result{})
		now = now.Add(10 * time.Millisecond)
		return nil
	})
	if l := g.Snapshot().Latency; err != nil || l.Sum != 0.04 || l.Waited != 0.03 {
		t.Errorf("%v s waited of %v s, %v; expected 0.03 of 0.04", l.Waited, l.Sum, err)
	}
}

// A stream that is silent for long before it begins is no slow call.
func TestLateStreamsDoNotTrip(t *testing.T) {
	d, now, _ := dependency(t, MaxCalls(200))
	var held []Attempt
	for range 10 {
		c := d.StartAt(t.Context(), now, CallOptions{})
		for range 10 {
			if a, err := c.TryAt(now, "a"); err == nil {
				held = append(held, a)
			}
		}
		for _, a := range held {
			a.EndlessAt(now.Add(10 * time.Second))
			a.DoneAt(now.Add(10*time.Second), Result{Outcome: Ignored})
		}
		held, now = held[:0], now.Add(breakerWindow/9)
	}
	if b := d.out.instances.of(0, "a"); b.state() != "closed" || d.out.attempts.Load() != 100 {
		t.Errorf("%s after %d attempts", b.state(), d.out.attempts.Load())
	}
}

// A long poll holds no slot and is not slow, but one that fails is a failure, and tells the breaker so.
func TestEndlessCalls(t *testing.T) {
	d, now, _ := dependency(t, MaxCalls(3))
	poll := func() (Attempt, error) {
		c := d.StartAt(t.Context(), now, CallOptions{Endless: true})
		return c.TryAt(now, "a")
	}
	var open []Attempt
	for range 50 {
		a, err := poll()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, a)
	}
	var held []Attempt
	for range 3 {
		c := d.StartAt(t.Context(), now, CallOptions{})
		a, err := c.TryAt(now, "a")
		if err != nil {
			t.Fatalf("beside 50 long polls: %v", err)
		}
		held = append(held, a)
	}
	if _, err := poll(); !errors.Is(err, ErrBulkhead) {
		t.Errorf("a long poll without a slot: %v", err)
	}
	for _, a := range held {
		a.DoneAt(now, Result{Outcome: Ignored})
	}
	now = now.Add(time.Minute)
	for _, a := range open {
		a.DoneAt(now, Result{Outcome: Success})
	}
	b := d.out.instances.of(0, "a")
	if s := d.snapshot(0); b.state() != "closed" || s.Latency.Count != 0 || s.InFlight != 0 || s.DoubleReleases != 0 {
		t.Errorf("after 50 good ones: breaker %s, %d latencies, %d in flight", b.state(), s.Latency.Count, s.InFlight)
	}
	for range 200 {
		if a, err := poll(); err == nil {
			a.DoneAt(now, failure)
		}
		now = now.Add(20 * time.Millisecond)
	}
	if b.state() != "open" {
		t.Fatalf("after 200 failures: %s", b.state())
	}
	now = now.Add(time.Minute)
	probe, err := poll()
	if err != nil {
		t.Fatal(err)
	}
	second, err := poll()
	if err != nil || b.state() != "half_open" {
		t.Fatalf("beside a probe that waits: %v, %s", err, b.state())
	}
	second.DoneAt(now, failure)
	if b.state() != "open" {
		t.Errorf("after a probe that failed: %s", b.state())
	}
	probe.DoneAt(now, Result{Outcome: Success}) // of an earlier time
	now = now.Add(2 * time.Minute)
	for range 100 {
		a, err := poll()
		if err != nil {
			t.Fatal(err)
		}
		a.AnsweredAt(now.Add(time.Second))
		a.DoneAt(now.Add(time.Second), Result{Outcome: Success})
	}
	if b.state() != "closed" {
		t.Errorf("after 100 good probes: %s", b.state())
	}
}

// A request that fails after a call of its own has failed counts as cut short; others that fail do not.
func TestCutShort(t *testing.T) {
	d, now, _ := dependency(t)
	request := func(call Result, o Outcome) {
		p := mustAcquire(t, d.caller, now)
		c := d.StartAt(NewContext(t.Context(), p), now, CallOptions{})
		a, err := c.TryAt(now, "")
		if err != nil {
			t.Fatal(err)
		}
		a.DoneAt(now.Add(3*time.Millisecond), call)
		p.ReleaseAt(now.Add(5*time.Millisecond), o)
	}
	request(Result{Outcome: Success}, Failure)
	request(Result{Outcome: Failure}, Success) // it had an answer without the call
	if s := d.caller.SnapshotAt(now); s.CutShort != (CutShort{}) || s.Latency.Count != 2 {
		t.Errorf("%+v of %d", s.CutShort, s.Latency.Count)
	}
	request(Result{Refused: true}, Failure)
	request(Result{Outcome: Failure}, Failure)
	s := d.caller.SnapshotAt(now)
	if c := s.CutShort; c.Count != 2 || math.Abs(c.Own-0.004) > 1e-9 || math.Abs(c.Waited-0.006) > 1e-9 {
		t.Errorf("%+v, expected two of 2 ms and 3 ms of waiting", c)
	}
	if s.Latency.Count != 4 || math.Abs(s.Latency.Sum-0.02) > 1e-9 {
		t.Errorf("users see %d requests of %v s in all", s.Latency.Count, s.Latency.Sum)
	}
}
