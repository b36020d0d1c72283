package daemon

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/control"
)

// wedged is a sensor that hangs, whatever its context says, from one tick until it is freed.
type wedged struct {
	*plants
	mu   sync.Mutex
	hang chan struct{} // nil: it does not
}

func (s *wedged) Measure(ctx context.Context, now time.Time) []control.Measurement {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return s.plants.Measure(ctx, now)
}

func (s *wedged) wedge() (free func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = make(chan struct{})
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.hang)
		s.hang = nil
	})
}

func healthCode(g *governor) (int, string) {
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/-/healthy", nil))
	return w.Code, w.Body.String()
}

// hanging is a leader whose sensor hangs when the test says so. leads counts how often it competed for the lock, and
// says whether it does now.
func hanging(t *testing.T) (w *world, g *governor, s *wedged, leads func() (times int, now bool)) {
	w = newWorld("checkout")
	s = &wedged{plants: w.sensor}
	g = w.governorOf(t, Group{Sensor: s, Specs: []control.Spec{specOf("checkout", control.Enforce)}})
	g.win(1)
	g.start(t)
	var mu sync.Mutex
	times, now := 0, false
	ctx, cancel := context.WithCancel(t.Context())
	var election sync.WaitGroup
	election.Go(func() {
		g.WhileTicking(ctx, func(ctx context.Context) {
			mu.Lock()
			times, now = times+1, true
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			now = false
			mu.Unlock()
		})
	})
	t.Cleanup(func() { cancel(); election.Wait() })
	return w, g, s, func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		return times, now
	}
}

func TestTickThatDoesNotEndGivesUpTheLeadAndIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g, s, leads := hanging(t)
		pass(time.Minute)
		last := time.Now()
		free := s.wedge()
		defer free()
		pass(stoppedAfter*period - time.Second)
		if code, body := healthCode(g); code != 200 {
			t.Errorf("after %s: %d %s", time.Since(last), code, body)
		}
		if times, now := leads(); times != 1 || !now {
			t.Errorf("leads %v, the %dth time: a tick may be late", now, times)
		}
		// They count while the tick hangs: nobody would see them afterwards.
		if n := testutil.ToFloat64(g.recorder.metrics.ticksSkipped); n != 3 {
			t.Errorf("%v grid points counted as skipped after %s, want 3", n, time.Since(last))
		}

		pass(period)
		if code, body := healthCode(g); code != 503 || !strings.Contains(body, "the loops have stopped") {
			t.Errorf("after %s: %d %s", time.Since(last), code, body)
		}
		if _, now := leads(); now {
			t.Error("still leads")
		}
		if n := strings.Count(w.log.String(), "the loops have stopped"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, &w.log)
		}
		if got := g.Status().Warnings; len(got) != 1 || !strings.Contains(got[0], "the loops have stopped") {
			t.Errorf("warnings %q", got)
		}

		pass(time.Minute)
		free()
		pass(2 * period)
		if code, body := healthCode(g); code != 200 {
			t.Errorf("afterwards: %d %s", code, body)
		}
		if times, now := leads(); times != 2 || !now {
			t.Errorf("afterwards: leads %v, the %dth time", now, times)
		}
	})
}

func TestNeitherPrometheusNorConsulNorAStandbyIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		standby := w.governor(t, control.Enforce)
		standby.start(t)
		w.sensor.set(func(p *plants) { p.delay = time.Hour })
		w.kv.set(func(kv *memoryKV) { kv.down = errDown })
		for range 30 {
			pass(10 * time.Second)
			for _, d := range []*governor{g, standby} {
				if code, body := healthCode(d); code != 200 {
					t.Fatalf("%d %s", code, body)
				}
			}
		}
		if n := testutil.ToFloat64(g.recorder.metrics.ticksSkipped); n != 0 {
			t.Errorf("%v grid points counted as skipped, every one had its tick", n)
		}
		want := time.Since(g.pace.Load().lastRound())
		if want > 2*period {
			t.Errorf("the last tick ended %s ago", want)
		}
	})
}

// One group that hangs is found although all others tick.
func TestOneGroupThatHangsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		s := &wedged{plants: w.sensor}
		g := w.governorOf(t, w.group(specOf("checkout", control.Enforce)),
			Group{Sensor: s, Specs: []control.Spec{specOf("search", control.Enforce)}})
		g.start(t)
		pass(time.Minute)
		free := s.wedge()
		defer free()
		pass(7 * period)
		if code, _ := healthCode(g); code != 503 {
			t.Errorf("%d", code)
		}
		problems, err := testutil.GatherAndLint(g.registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
		families, err := g.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "governor_last_tick_timestamp_seconds" {
				age := time.Since(time.Unix(0, int64(1e9*f.Metric[0].GetGauge().GetValue())))
				if age < 6*period || age > 8*period {
					t.Errorf("the metric says that the loops came round %s ago", age)
				}
				return
			}
		}
		t.Error("no metric of the last tick")
	})
}

func TestReloadReplacesAGroupThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		s := &wedged{plants: w.sensor}
		g := w.governorOf(t, w.group(specOf("checkout", control.Enforce)),
			Group{Sensor: s, Specs: []control.Spec{specOf("search", control.Enforce)}})
		g.load(w, nil, w.group(specOf("checkout", control.Enforce), specOf("search", control.Enforce)))
		g.win(1)
		g.start(t)
		pass(time.Minute)
		free := s.wedge()
		defer free()
		pass(period)
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(2 * period)
		if code, body := healthCode(g); code != 200 {
			t.Errorf("%d %s", code, body)
		}
		for _, name := range []string{"checkout", "search"} {
			if old := time.Since(g.loop(t, name).Decision.At); old > period {
				t.Errorf("%s decided %s ago", name, old)
			}
		}
	})
}

// SIGTERM must not wait for a tick that hangs: the lock would stay taken.
func TestDaemonStopsAlthoughATickHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		s := &wedged{plants: w.sensor}
		g := w.governorOf(t, Group{Sensor: s, Specs: []control.Spec{specOf("checkout", control.Enforce)}})
		stop := g.start(t)
		pass(time.Minute)
		free := s.wedge()
		defer free()
		pass(period)
		begun := time.Now()
		stop()
		if took := time.Since(begun); took > stopPatience {
			t.Errorf("took %s", took)
		}
	})
}

// The clock of the wall may be set, and a laptop may sleep: neither skips a tick that the loops could have run.
func TestSkippedTicksAreThoseOfTheMonotonicClock(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	p := progress{period: 5 * time.Second}
	for _, step := range []struct {
		point, end float64
		want       int64
	}{
		{0, 0.1, 0},
		{5, 5.1, 0},
		{8.2, 8.3, 0}, // the wall clock was set forward
		{16, 16.1, 1}, // woke late
		{21, 22, 0},
	} {
		if n := p.begin(at(step.point)); n != step.want {
			t.Errorf("the tick at %v s: %d skipped, want %d", step.point, n, step.want)
		}
		p.end(at(step.end))
	}
	p.begin(at(26))
	if n := p.skipped(at(37)) + p.skipped(at(38)) + p.skipped(at(41)); n != 3 {
		t.Errorf("%d counted while the tick runs, want 3", n)
	}
	if n := p.begin(at(46)); n != 0 {
		t.Errorf("%d counted twice", n)
	}
}

func TestReloadsBackToBackAreCoalescedAndDelayNoTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		w.sensor.delay = 2 * time.Second
		g := w.governor(t, control.Enforce)
		g.win(1)
		loads := 0
		g.load(w, nil, w.group(specOf("checkout", control.Enforce), specOf("search", control.Enforce)))
		load := g.opts.Load
		g.opts.Load = func() (Setup, error) { loads++; return load() }
		g.start(t)
		pass(time.Minute)
		before := len(g.records("checkout"))

		var callers sync.WaitGroup
		const each = time.Second / 450
		begun := time.Now()
		for n := 0; time.Since(begun) < 30*time.Second; n++ {
			callers.Go(func() {
				if err := g.Reload(t.Context()); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(each)
		}
		callers.Wait()
		if n := len(g.records("checkout")) - before; n < 6 || n > 8 {
			t.Errorf("%d decisions in %s, want one a period of %s", n, time.Since(begun), period)
		}
		if loads < 10 || loads > 33 {
			t.Errorf("%d reloads in %s, want at most one a second", loads, time.Since(begun))
		}
		if n := testutil.ToFloat64(g.recorder.metrics.ticksSkipped); n != 0 {
			t.Errorf("%v ticks were skipped", n)
		}
	})
}
