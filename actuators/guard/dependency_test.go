package guard

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

const ms = time.Millisecond

// callSetting is a good Setting of the calls to payments; change may alter its values.
func callSetting(revision int, change func(*actuators.Setting)) []byte {
	return settingOf(func(s *actuators.Setting) {
		s.Callee, s.Revision = "payments", uint64(revision)
		s.Concurrency = &concurrency{Limit: 7, Ceiling: 40, LatencyTargetSeconds: 0.05, Fallback: 9, Min: 2, Max: 60}
		if change != nil {
			change(s)
		}
	})
}

func callsAt(g *Guard, d time.Duration) CallSnapshot { return g.SnapshotAt(epoch.Add(d)).Calls[0] }

func TestOneDependencyPerName(t *testing.T) {
	g := simGuard(t, Config{Fallback: 50})
	d := g.Dependency("payments", MaxCalls(20), CallTarget(70*ms))
	if g.Dependency("payments", MaxCalls(5)) != d || d.Name() != "payments" || g.Dependency("cart") == d {
		t.Error("a name has several dependencies, or several names have one")
	}
	if s := callsAt(g, 0); s.To != "cart" || s.Limit != 25 || s.Setpoint != 120*ms || s.OwnLatency != 0 {
		t.Errorf("without options: %+v; expected half of the guard's fallback, and 0.4 of its SLO", s)
	}
	if s := g.SnapshotAt(epoch).Calls[1]; s.To != "payments" || s.Limit != 20 || s.Setpoint != 70*ms {
		t.Errorf("with options: %+v", s)
	}
	for name, make := range map[string]func(){
		`"a//b"`:          func() { g.Dependency("a//b") },
		"CallTarget 1µs":  func() { g.Dependency("a", CallTarget(time.Microsecond)) },
		"CallTarget -1ns": func() { g.Dependency("a", CallTarget(-1)) },
		"MaxCalls -1":     func() { g.Dependency("a", MaxCalls(-1)) },
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, name) {
					t.Errorf("%s: panic %q", name, text)
				}
			}()
			make()
		}()
	}
}

func TestBulkheadRefusesBeyondItsLimit(t *testing.T) {
	g := simGuard(t, Config{})
	d := g.Dependency("payments", MaxCalls(2))
	var slots []slot
	for range 2 {
		s, ok := d.acquireAt(0, nil, 0)
		if !ok {
			t.Fatal("refused below the limit")
		}
		slots = append(slots, s)
	}
	if _, ok := d.acquireAt(0, nil, 0); ok {
		t.Fatal("admitted beyond the limit")
	}
	slots[0].endless(ms) // a stream has no slot
	stream := slots[0]
	last, ok := d.acquireAt(ms, nil, 0)
	if !ok {
		t.Fatal("a stream keeps its slot")
	}
	for _, s := range []slot{stream, slots[1], last, last, {}} {
		s.release(2*ms, Success)
	}
	if s := callsAt(g, 2*ms); s.InFlight != 0 || s.Refused["bulkhead"] != 1 || s.Latency.Count != 2 {
		t.Errorf("%d in flight, %d refused, %d latencies; expected 0, 1, 2", s.InFlight, s.Refused["bulkhead"], s.Latency.Count)
	}
	if n := d.pool.twice.Load(); n != 1 {
		t.Errorf("%d second releases noticed, expected 1", n)
	}
}

// Which outcomes teach the bulkhead a latency: a callee's refusal (Ignored) does not, however long it takes, and a failure
// that comes fast does not.
func TestOutcomesOfCalls(t *testing.T) {
	for _, c := range []struct {
		outcome Outcome
		took    time.Duration
		counts  uint64
	}{
		{Success, 3 * ms, 1},
		{Failure, 3 * ms, 0},
		{Failure, 121 * ms, 1},
		{Ignored, 3 * ms, 0},
		{Ignored, time.Second, 0},
		{Canceled, 119 * ms, 0},
		{Canceled, 121 * ms, 1},
	} {
		g := simGuard(t, Config{})
		s, _ := g.Dependency("payments").acquireAt(0, nil, 0)
		s.release(c.took, c.outcome)
		if got := callsAt(g, c.took).Latency.Count; got != c.counts {
			t.Errorf("outcome %d after %v: %d latencies, expected %d", c.outcome, c.took, got, c.counts)
		}
	}
}

// calls makes n calls one after the other that take so long each, from the instant now on, and returns when they end.
func calls(t *testing.T, d *Dependency, now time.Duration, n int, took time.Duration) time.Duration {
	t.Helper()
	for range n {
		s, ok := d.acquireAt(now, nil, 0)
		if !ok {
			t.Fatal("refused")
		}
		now += took
		s.release(now, Success)
	}
	return now
}

func TestTargetIsLearnedInCalm(t *testing.T) {
	for _, c := range []struct {
		took     time.Duration
		setpoint time.Duration
		options  []CallOption
	}{
		{took: 4 * ms, setpoint: 15 * ms},                                                // 0.05·SLO
		{took: 20 * ms, setpoint: 60 * ms},                                               // 3·m₀
		{took: 60 * ms, setpoint: 120 * ms},                                              // 0.4·SLO
		{took: 150 * ms, setpoint: 187500 * time.Microsecond},                            // 1.25·m₀: refusing cannot make it faster
		{took: 220 * ms, setpoint: 240 * ms},                                             // 0.8·SLO
		{took: 20 * ms, setpoint: 45 * ms, options: []CallOption{CallTarget(45 * ms)}},   // the host's
		{took: 20 * ms, setpoint: 500 * ms, options: []CallOption{CallTarget(500 * ms)}}, // above the SLO, too
	} {
		g := simGuard(t, Config{})
		d := g.Dependency("payments", c.options...)
		now := calls(t, d, 0, 2000, c.took)
		s := callsAt(g, now)
		if diff := s.Setpoint - c.setpoint; diff < -ms/100 || diff > ms/100 || math.Abs(s.OwnLatency-c.took.Seconds()) > 1e-6 {
			t.Errorf("calls of %v: setpoint %v, own latency %v s; expected %v", c.took, s.Setpoint, s.OwnLatency, c.setpoint)
		}
	}
}

// A dependency whose calls fail at once, because it is away, is not slow when it takes its usual time again.
func TestFastFailuresAreNotACalmLatency(t *testing.T) {
	g := simGuard(t, Config{})
	d := g.Dependency("payments")
	now := calls(t, d, 0, 1000, 40*ms)
	for range 4000 {
		s, _ := d.acquireAt(now, nil, 0)
		now += 10 * ms
		s.release(now-10*ms+ms/5, Failure)
	}
	s := callsAt(g, now)
	if math.Abs(s.OwnLatency-0.04) > 1e-6 || s.Setpoint < 119*ms || d.slow(200*ms) {
		t.Errorf("own latency %v s, setpoint %v after failures that took 0.2 ms; expected 0.04 s and 120ms", s.OwnLatency, s.Setpoint)
	}
}

// In calm the limit comes down to what the calls need three times over, and a few for bursts, from wherever it was.
func TestLimitInCalmIsWhatTheCallsNeed(t *testing.T) {
	g := simGuard(t, Config{Fallback: 400})
	now := calls(t, g.Dependency("payments"), 0, 2000, 20*ms)
	if s := callsAt(g, now); s.Limit < 10 || s.Limit > 12 {
		t.Errorf("limit %d for one call in flight, expected 3·1 + 8", s.Limit)
	}
}

func TestSettingOfCalls(t *testing.T) {
	g := simGuard(t, Config{Fallback: 400})
	d := g.Dependency("payments")
	apply := func(at time.Duration, raw []byte) error { return d.ApplyAt(epoch.Add(at), raw) }
	if err := apply(0, callSetting(3, nil)); err != nil {
		t.Fatal(err)
	}
	if s := callsAt(g, 0); s.Limit != 40 || s.Setpoint != 50*ms || s.Revision != 3 || s.Epoch != 7 {
		t.Errorf("%+v; expected target, ceiling and revision of the Setting, and not its limit", s)
	}
	if s := g.SnapshotAt(epoch); s.Revision != 0 || s.Setpoint != 120*ms {
		t.Errorf("the service's own guard follows the calls' Setting: %+v", s)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want actuators.RefusalReason
	}{
		{"lower revision", callSetting(2, nil), actuators.RefusedOldRevision},
		{"older epoch", callSetting(9, func(s *actuators.Setting) { s.Epoch = 6 }), actuators.RefusedOldEpoch},
		{"other callee", callSetting(9, func(s *actuators.Setting) { s.Callee = "cart" }), actuators.RefusedWrongService},
		{"the service's own", setting(9, nil), actuators.RefusedWrongService},
		{"blank", []byte(" "), actuators.RefusedNotJSON},
	} {
		if got := actuators.ReasonOf(apply(0, c.raw)); got != c.want {
			t.Errorf("%s: %q, expected %q", c.name, got, c.want)
		}
	}
	if n := callsAt(g, 0).SettingRefused[actuators.RefusedWrongService]; n != 2 {
		t.Errorf("%d refused as wrong, expected 2", n)
	}
	if got := actuators.ReasonOf(g.ApplyAt(epoch, callSetting(9, nil))); got != actuators.RefusedWrongService {
		t.Errorf("the service's own guard takes the calls' Setting: %q", got)
	}
	// Order is by dependency: the service's own and another's are at revisions of their own.
	if err := g.ApplyAt(epoch, setting(1, nil)); err != nil {
		t.Error(err)
	}
	if s := callsAt(g, 179*time.Second); s.Limit > 40 {
		t.Errorf("limit %d above the ceiling of a Setting under its lease", s.Limit)
	}
	// The host's bound wins over the Setting.
	bounded := g.Dependency("cart", MaxCalls(30))
	if err := bounded.ApplyAt(epoch, callSetting(1, func(s *actuators.Setting) { s.Callee = "cart" })); err != nil {
		t.Fatal(err)
	}
	if s := callsAt(g, 0); s.To != "cart" || s.Limit != 30 {
		t.Errorf("%+v, expected the host's bound of 30", s)
	}
}

// Without a live lease the target drifts to the guard's own: calls that governor no longer steers, or whose key has been
// deleted, must not keep a target that nobody can take back.
func TestTargetOfALapsedSetting(t *testing.T) {
	g := simGuard(t, Config{})
	d := g.Dependency("payments")
	raw := callSetting(3, func(s *actuators.Setting) { s.LeaseSeconds, s.Concurrency.LatencyTargetSeconds = 30, 0.2 })
	if err := d.ApplyAt(epoch, raw); err != nil {
		t.Fatal(err)
	}
	now := time.Duration(0)
	for _, c := range []struct {
		until    time.Duration
		setpoint time.Duration
	}{{29 * time.Second, 200 * ms}, {45 * time.Second, 110 * ms}, {61 * time.Second, 60 * ms}} {
		now = calls(t, d, now, int((c.until-now)/(20*ms)), 20*ms)
		if s := callsAt(g, now); (s.Setpoint - c.setpoint).Abs() > 5*ms {
			t.Errorf("after %v: setpoint %v, expected %v", now, s.Setpoint, c.setpoint)
		}
	}
}

// partSource delivers the Settings of calls, as the Watcher of actuators/consul does.
type partSource struct{ values map[string][]byte }

func (partSource) Watch(context.Context, string, func([]byte)) error {
	panic("watched only the service's own key")
}

func (s partSource) WatchParts(ctx context.Context, _ string, apply func(part actuators.Part, raw []byte)) error {
	for callee, raw := range s.values {
		apply(actuators.Part{Callee: callee}, raw)
	}
	<-ctx.Done()
	return ctx.Err()
}

// Users of Run need no new code, whether they make their dependencies before it or later, and a start without the store
// has what the last one received.
func TestRunDeliversTheSettingsOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "checkout.json")
		g := newGuard(t, Config{CacheFile: file})
		g.Dependency("payments")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- g.Run(ctx, partSource{map[string][]byte{
				"":         setting(4, nil),
				"payments": callSetting(5, nil),
				"cart":     callSetting(6, func(s *actuators.Setting) { s.Callee = "cart" }),
			}})
		}()
		synctest.Wait()
		g.Dependency("cart")
		check := func(g *Guard, cart uint64) {
			t.Helper()
			s := g.Snapshot()
			if s.Revision != 4 || s.Calls[0].Revision != cart || s.Calls[1].Revision != 5 {
				t.Errorf("revisions %d, %d, %d", s.Revision, s.Calls[0].Revision, s.Calls[1].Revision)
			}
		}
		check(g, 6)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		again := newGuard(t, Config{CacheFile: file})
		again.Dependency("payments")
		again.Dependency("cart")
		check(again, 6)
		if files, _ := os.ReadDir(filepath.Dir(file)); len(files) != 3 {
			t.Errorf("%d cache files, expected one each", len(files))
		}
	})
}

// A store full of Settings for calls that nobody makes does not fill the memory of the service.
func TestEarlySettingsAreBounded(t *testing.T) {
	var c dependencies
	for i := range 10 * earlyMost {
		c.deliver(strings.Repeat("a", i%1000+1), []byte("x"))
	}
	c.deliver("b", make([]byte, actuators.MaxBytes+1))
	if len(c.early) != earlyMost {
		t.Errorf("%d kept, expected %d", len(c.early), earlyMost)
	}
	c.deliver("a", nil)
	if len(c.early) != earlyMost-1 {
		t.Error("a deleted Setting is kept")
	}
}

func TestRetryRatio(t *testing.T) {
	g := simGuard(t, Config{})
	retry := func(revision int, ratio float64) []byte {
		return settingOf(func(s *actuators.Setting) {
			s.Revision = uint64(revision)
			s.Retry = &actuators.Retry{BudgetRatio: ratio, Fallback: 0.2, Min: 0, Max: 0.5}
		})
	}
	at := func(d time.Duration, want float64) {
		t.Helper()
		if got := g.retryRatio(d); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %v: ratio %v, expected %v", d, got, want)
		}
	}
	at(0, 0.1)
	apply(t, g, epoch, retry(1, 0)) // somebody stops the retries of the fleet
	at(0, 0)
	apply(t, g, epoch.Add(time.Second), setting(2, nil)) // a Setting without the knob leaves it
	at(time.Second, 0)
	const lease = 180 * time.Second
	at(lease, 0)
	for d := lease; d <= 2*lease; d += time.Second {
		g.retryRatio(d)
	}
	at(lease+lease/2, 0.2) // time does not go back: two leases have passed
	if got := g.SnapshotAt(epoch.Add(2 * lease)).RetryRatio; math.Abs(got-0.2) > 1e-9 {
		t.Errorf("snapshot: %v", got)
	}
}

// A request that was in a call is judged by the rest of its time.
func TestOwnLatencyIsWithoutTheUnionOfTheCalls(t *testing.T) {
	type interval struct{ from, to time.Duration }
	for _, c := range []struct {
		name  string
		calls []interval
		want  time.Duration
	}{
		{"none", nil, 0},
		{"one", []interval{{10, 30}}, 20},
		{"in sequence", []interval{{10, 30}, {40, 50}}, 30},
		{"in parallel", []interval{{10, 30}, {20, 50}, {20, 25}}, 40},
		{"one in another", []interval{{10, 90}, {20, 30}, {40, 50}}, 80},
		{"outlives its request", []interval{{90, 130}, {95, 99}}, 10},
		{"all the time", []interval{{0, 100}}, 100},
	} {
		g := simGuard(t, Config{})
		d := g.Dependency("payments")
		p, _ := g.AcquireAt(epoch, Default)
		r := requestOf(NewContext(t.Context(), p))
		var steps events
		for _, call := range c.calls {
			var s slot
			steps = append(steps,
				event{call.from * ms, func() { s, _ = d.acquireAt(call.from*ms, r, 0) }},
				event{call.to * ms, func() { s.release(call.to*ms, Success); s.release(call.to*ms, Success) }})
		}
		steps = append(steps, event{100 * ms, func() { p.ReleaseAt(epoch.Add(100*ms), Success) }})
		for now := time.Duration(0); now < 200*ms; now += ms {
			for _, step := range steps {
				if step.at == now {
					step.do()
				}
			}
		}
		l := g.SnapshotAt(epoch.Add(200 * ms)).Latency
		if math.Abs(l.Sum-0.1) > 1e-9 || math.Abs(l.Waited-(c.want*ms).Seconds()) > 1e-9 {
			t.Errorf("%s: %v s of %v s in calls, expected %v", c.name, l.Waited, l.Sum, c.want*ms)
		}
	}
}

// Tickets are used again. Calls of an earlier request, and a context made too late, must not touch the next one.
func TestLateCallsDoNotTouchTheNextRequest(t *testing.T) {
	g := simGuard(t, Config{})
	d := g.Dependency("payments")
	first, _ := g.AcquireAt(epoch, Default)
	r := requestOf(NewContext(t.Context(), first))
	late, _ := d.acquireAt(10*ms, r, 0)
	first.ReleaseAt(epoch.Add(10*ms), Success)
	second, _ := g.AcquireAt(epoch.Add(10*ms), Default)
	if second.ticket != first.ticket {
		t.Fatal("another ticket, though that of the same goroutine is free")
	}
	its := requestOf(NewContext(t.Context(), second))
	late.release(40*ms, Success)
	NewContext(t.Context(), first)
	again, _ := d.acquireAt(50*ms, r, 0)
	call, _ := d.acquireAt(50*ms, its, 0)
	call.release(53*ms, Success)
	second.ReleaseAt(epoch.Add(60*ms), Success)
	again.release(70*ms, Success)
	l := g.SnapshotAt(epoch.Add(100 * ms)).Latency
	if l.Count != 2 || math.Abs(l.Waited-0.003) > 1e-9 {
		t.Errorf("%d requests, %v s in calls; expected 2, and the 3 ms of the second", l.Count, l.Waited)
	}

	// A NewContext that was suspended between its check and its store.
	third, _ := g.AcquireAt(epoch.Add(100*ms), Default)
	third.ticket.work.Store(r)
	r.enter(110 * ms)
	third.ReleaseAt(epoch.Add(120*ms), Success)
	if got := g.SnapshotAt(epoch.Add(120 * ms)).Latency.Waited; math.Abs(got-0.003) > 1e-9 {
		t.Errorf("%v s in calls, with those of an earlier request", got)
	}

	// Instants out of order: a request never waits longer than it lasts.
	fourth, _ := g.AcquireAt(epoch.Add(150*ms), Default)
	early := requestOf(NewContext(t.Context(), fourth))
	early.enter(130 * ms)
	fourth.ReleaseAt(epoch.Add(160*ms), Success)
	if got := g.SnapshotAt(epoch.Add(160 * ms)).Latency.Waited; math.Abs(got-0.013) > 1e-9 {
		t.Errorf("%v s in calls, expected the 10 ms that the last request lasted and 3 ms before", got)
	}
}

// The same with real goroutines: requests end while their calls go on, and tickets are used again all the time. Nothing
// is counted twice, and nobody waits longer than the request lasted.
func TestStormOfLateCalls(t *testing.T) {
	g := newGuard(t, Config{Min: 50, Max: 50})
	d := g.Dependency("payments", MaxCalls(20))
	var wg, late sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 500 {
				p, err := g.Acquire(t.Context(), Default)
				if err != nil {
					continue
				}
				ctx := NewContext(t.Context(), p)
				for range i % 4 {
					late.Go(func() {
						if s, ok := d.acquireAt(g.now(), requestOf(ctx), 0); ok {
							s.release(g.now(), Success)
						}
					})
				}
				p.Release(Success)
				NewContext(ctx, p)
			}
		})
	}
	wg.Wait()
	late.Wait()
	s := g.Snapshot()
	if s.InFlight != 0 || s.Calls[0].InFlight != 0 || s.DoubleReleases != 0 {
		t.Errorf("%d requests and %d calls left, %d double releases", s.InFlight, s.Calls[0].InFlight, s.DoubleReleases)
	}
	if s.Latency.Waited > s.Latency.Sum || s.Calls[0].Latency.Count == 0 {
		t.Errorf("%v s in %d calls of requests that lasted %v s", s.Latency.Waited, s.Calls[0].Latency.Count, s.Latency.Sum)
	}
}

func TestOptional(t *testing.T) {
	at := func(g *Guard, d time.Duration, want bool, when string) {
		t.Helper()
		if got := g.OptionalAt(epoch.Add(d)); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	fill := func(g *Guard, n int) {
		for range n {
			g.gate.enter(0, 1, 0)
		}
	}
	g := simGuard(t, Config{Min: 100, Max: 100})
	at(g, 0, true, "idle")
	fill(g, 85)
	at(g, 0, true, "at 85%")
	fill(g, 1)
	at(g, 0, false, "above 85%")
	shedding := simGuard(t, Config{Min: 100, Max: 100, ShedThreshold: 0.6})
	fill(shedding, 60)
	at(shedding, 0, true, "at the shed threshold")
	fill(shedding, 1)
	at(shedding, 0, false, "above the shed threshold")

	calling := simGuard(t, Config{})
	d := calling.Dependency("payments", MaxCalls(1))
	d.acquireAt(0, nil, 0)
	at(calling, 0, true, "the dependency has had room")
	d.acquireAt(100*ms, nil, 0)
	at(calling, 1099*ms, false, "within a second of a refused call")
	at(calling, 1100*ms, true, "a second later")

	limited := simGuard(t, Config{})
	if err := limited.ApplyAt(epoch, settingOf(func(s *actuators.Setting) {
		s.Rate = &actuators.Rate{PerSecond: 1, Burst: 1, Instances: 1, Fallback: 1, Min: 0, Max: 10}
	})); err != nil {
		t.Fatal(err)
	}
	at(limited, 0, true, "a token is there")
	if _, err := limited.AcquireAt(epoch, Default); err != nil {
		t.Fatal(err)
	}
	at(limited, 0, false, "no token is left")

	p, _ := g.AcquireAt(epoch, Default)
	if ctx := NewContext(t.Context(), p); Optional(ctx) || !Optional(t.Context()) {
		t.Error("the context does not lead to its guard")
	}
}

func TestContextOfARequest(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	defer cancel()
	if NewContext(parent, Permit{}) != parent {
		t.Error("a zero permit has a context")
	}
	p, _ := newGuard(t, Config{}).Acquire(parent, Default)
	ctx := NewContext(parent, p)
	child, stop := context.WithTimeout(ctx, time.Hour)
	defer stop()
	if child.Value(key{}) != "value" || requestOf(child) != ctx || requestOf(parent) != nil {
		t.Error("values are lost")
	}
	if cancel(); child.Err() == nil || ctx.Err() == nil {
		t.Error("the end of the parent is lost")
	}
}

// The costs: a call allocates nothing, and the context of a request once.
func TestCallsAllocateNothing(t *testing.T) {
	g := newGuard(t, Config{Min: 100, Max: 100})
	d := g.Dependency("payments", MaxCalls(1))
	p, _ := g.Acquire(t.Context(), Default)
	ctx := NewContext(t.Context(), p)
	call := func() {
		s, _ := d.acquireAt(g.now(), requestOf(ctx), 0)
		d.acquireAt(g.now(), nil, 0)
		_ = Optional(ctx)
		s.release(g.now(), Success)
	}
	call()
	if n := testing.AllocsPerRun(1000, call); n != 0 {
		t.Errorf("%v allocations in a call", n)
	}
	request := func() {
		p, _ := g.Acquire(t.Context(), Default)
		NewContext(t.Context(), p)
		p.Release(Success)
	}
	if n := testing.AllocsPerRun(1000, request); n != 1 {
		t.Errorf("%v allocations in a request with a context, expected 1", n)
	}
}
