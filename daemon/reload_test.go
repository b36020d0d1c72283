package daemon

import (
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// load makes the next reload find these groups, or the error.
func (g *governor) load(w *world, err error, groups ...Group) {
	setup := w.setup(groups...)
	setup.Config.Hash = "000000000002"
	g.opts.Load = func() (Setup, error) { return setup, err }
}

// A27 (g): cloudamqp/lavinmq PR 2091: a new configuration is applied as a whole, and unchanged parts are undisturbed.
func TestReloadKeepsTheStateOfUnchangedServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "payments", "search")
		g := w.governorOf(t, w.group(
			threeKnobs("checkout"), specOf("payments", control.Enforce), specOf("search", control.Enforce),
		))
		g.win(1)
		g.start(t)
		w.overload()
		w.sensor.set(func(p *plants) { p.services["checkout"].critical = 0.006 })
		pass(3 * time.Minute)
		before, checkout := w.kv.writes(), g.loopOf(t, "checkout", control.KnobConcurrency)
		old, shed := w.kv.stored("search"), w.kv.stored("checkout").Shed.Threshold
		r, _ := g.listen(t, "")
		synctest.Wait()

		// search is renamed to find, payments must not go below 80, checkout is unchanged.
		w.sensor.set(func(p *plants) { p.services["find"] = p.services["search"]; delete(p.services, "search") })
		payments := specOf("payments", control.Enforce)
		payments.Concurrency.Min = 80
		g.load(w, nil, w.group(
			threeKnobs("checkout"), specOf("find", control.Enforce), payments,
		))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := g.Status().Config; c.Hash != "000000000002" || c.Error != "" {
			t.Errorf("the status shows the configuration %+v", c)
		}
		pass(3 * period)

		if d := g.loopOf(t, "checkout", control.KnobConcurrency); d.Decision.State == control.Hold ||
			!d.Since.Equal(checkout.Since) && d.Decision.State == checkout.Decision.State {
			t.Errorf("checkout noticed: since %s %s", d.Since, d.Decision.Reason)
		}
		if now := w.kv.stored("checkout"); now.Shed.Threshold > shed || now.Epoch != 1 {
			t.Errorf("the threshold of checkout went from %v to %v", shed, now.Shed.Threshold)
		}
		for _, s := range w.kv.writes()[len(before):] {
			if s.Service == "search" {
				t.Errorf("the service that is gone was written: %+v", s)
			}
		}
		if s := w.kv.stored("search"); s.Revision != old.Revision {
			t.Errorf("the key of the service that is gone changed: %+v", s)
		}
		clamped := w.kv.stored("payments")
		if c := clamped.Concurrency; c.Limit != 80 || c.Min != 80 {
			t.Errorf("payments: %+v, want a limit of 80", c)
		}
		if d := g.loop(t, "payments"); d.Min != 80 || d.Decision.State != control.AtMin || d.Published.Value != 80 {
			t.Errorf("payments is shown with %v..%v, %s", d.Min, d.Max, d.Decision.Reason)
		}
		if w.kv.stored("find").Concurrency == nil {
			t.Error("nothing was written for the service that is new")
		}
		if n := len(g.records("checkout")); n < 3*(3*60/5+2) {
			t.Errorf("the journal lost its past: %d records of checkout", n)
		}
		if loops, _ := g.recorder.Loops(); len(loops) != 5 {
			t.Errorf("%d loops, want 5", len(loops))
		}
		if n := testutil.CollectAndCount(g.recorder.metrics.value); n != 5 {
			t.Errorf("%d series of governor_loop_value, want one for each loop", n)
		}
		if n := len(ids(r.heard(), api.EventSnapshot)); n != 2 || !strings.Contains(r.heard(), "find") {
			t.Errorf("the stream had %d snapshots, want one more after the reload", n)
		}
	})
}

// The bounds are a person's decision. They apply even if nothing can be measured.
func TestReloadedBoundsHoldWithoutAMeasurement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governorOf(t, w.group(threeKnobs("checkout")))
		g.win(1)
		g.start(t)
		pass(time.Minute)
		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		pass(time.Minute)
		writes := len(w.kv.writes())

		spec := threeKnobs("checkout")
		spec.Concurrency.Max, spec.Concurrency.Fallback = 50, 30
		spec.Shed.Max = 0.5
		g.load(w, nil, w.group(spec))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		now := w.kv.stored("checkout")
		if now.Concurrency.Limit != 50 || now.Concurrency.Fallback != 30 || now.Shed.Threshold != 0.5 {
			t.Errorf("%+v %+v", now.Concurrency, now.Shed)
		}
		if n := len(w.kv.writes()) - writes; n != 1 || !strings.Contains(now.Reason, "configuration") {
			t.Errorf("%d writes because %q, want one: a hold renews no lease", n, now.Reason)
		}
		if n := strings.Count(w.log.String(), "msg=\"Setting written\""); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, &w.log)
		}
		if l := g.loopOf(t, "checkout", control.KnobConcurrency); float64(l.Decision.Value) != 50 {
			t.Errorf("the loop holds %v", l.Decision.Value)
		}
	})
}

func TestModeChangesWithoutForgettingWhatWasLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Shadow)
		g.win(1)
		g.start(t)
		pass(5 * time.Minute)
		learned := g.loop(t, "checkout").Decision.Gates
		g.load(w, nil, w.group(specOf("checkout", control.Enforce)))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(period)
		l := g.loop(t, "checkout")
		if l.Mode != control.Enforce || l.Decision.Mode != control.Enforce || w.kv.stored("checkout").Concurrency == nil {
			t.Errorf("it does not enforce: %+v", l)
		}
		if l.Decision.Gates.OwnLatencySeconds != learned.OwnLatencySeconds || l.Decision.Gates.Floor != learned.Floor {
			t.Errorf("it knew %+v, now %+v", learned, l.Decision.Gates)
		}
	})
}

func TestRefusedReloadChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		pass(time.Minute)
		failed := func() bool { return testutil.ToFloat64(g.recorder.metrics.reloaded) == 0 }
		at := testutil.ToFloat64(g.recorder.metrics.reloadedAt)
		if failed() || at == 0 {
			t.Error("the metrics do not show that the first configuration was read")
		}

		bad := errors.New("governor.yml:5:32: services.checkout.slo.objective: 99 has no percent sign; write 99%")
		g.load(w, bad)
		code, body := get(t, g, "POST", "/-/reload")
		if code != 500 || !strings.Contains(body, bad.Error()) {
			t.Errorf("%d %s", code, body)
		}
		if s := g.Status().Config; s.Error != bad.Error() || s.Hash != "3f9ac1d20b77" || !failed() ||
			testutil.ToFloat64(g.recorder.metrics.reloadedAt) != at {
			t.Errorf("the refusal does not show: %+v", s)
		}
		// A file that is valid, but from which a loop cannot be built.
		odd := specOf("checkout", control.Enforce)
		odd.Concurrency.Min = 0
		closed := false
		setup := w.setup(w.group(odd))
		setup.Close = func() { closed = true }
		g.opts.Load = func() (Setup, error) { return setup, nil }
		if err := g.Reload(t.Context()); err == nil || !closed {
			t.Errorf("bounds of 0..400 were applied, or the sensor left open: %v", err)
		}
		n := len(g.records("checkout"))
		pass(time.Minute)
		if more := len(g.records("checkout")) - n; more != 12 {
			t.Errorf("%d decisions in the minute after, want 12", more)
		}

		g.load(w, nil, w.group(specOf("checkout", control.Enforce)))
		if code, body := get(t, g, "POST", "/-/reload"); code != 200 || failed() || g.Status().Config.Error != "" {
			t.Errorf("a good one after that: %d %s", code, body)
		}
	})
}

func TestReloadIsForThoseWhoMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Shadow)
		loads := 0
		good := w.setup(w.group(specOf("checkout", control.Shadow)))
		g.opts.Load = func() (Setup, error) { loads++; return good, nil }
		g.start(t)
		if code, body := get(t, g, "GET", "/-/reload"); code != 405 || !strings.Contains(body, "POST") {
			t.Errorf("GET: %d %s", code, body)
		}
		page := httptest.NewRequest("POST", "/-/reload", nil)
		page.Header.Set("Sec-Fetch-Site", "cross-site")
		answer := httptest.NewRecorder()
		if g.Handler().ServeHTTP(answer, page); answer.Code != 403 {
			t.Errorf("a page of another site: %d %s", answer.Code, answer.Body)
		}
		g.opts.Closed = func() error { return errors.New("governor listens on :9747") }
		if code, body := get(t, g, "POST", "/-/reload"); code != 403 || !strings.Contains(body, "loopback") {
			t.Errorf("an open door: %d %s", code, body)
		}
		if loads != 0 {
			t.Errorf("%d reloads by those who may not", loads)
		}
		g.opts.Closed = nil
		if code, _ := get(t, g, "POST", "/-/reload"); code != 200 || loads != 1 {
			t.Errorf("%d after %d reloads", code, loads)
		}
	})
}

// Reloads run one after the other, whoever requests them, while the loops tick and people look.
func TestReloadsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		w.sensor.delay = 3 * time.Second // a reload most likely comes in the middle of a query
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.load(w, nil, w.group(
			threeKnobs("checkout"), specOf("search", control.Enforce),
		))
		stop := g.start(t)
		g.listen(t, "")
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * 700 * time.Millisecond)
				if err := g.Reload(t.Context()); err != nil {
					t.Error(err)
				}
				g.Status()
			})
		}
		callers.Wait()
		pass(30 * time.Second)
		if n := len(g.records("search")); n < 5 || w.sensor.most > 1 {
			t.Errorf("%d decisions, %d queries at once", n, w.sensor.most)
		}
		stop()
		if err := g.Reload(t.Context()); !errors.Is(err, errStopped) {
			t.Errorf("a reload of a daemon that has stopped: %v", err)
		}
	})
}
