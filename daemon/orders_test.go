package daemon

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// ordered is an action on the concurrency of checkout, given now.
func ordered(kind actuators.OrderKind, value float64, lasts time.Duration) actuators.Action {
	a := actuators.Action{
		Service: "checkout", Knob: "concurrency", Kind: kind, Value: value, Actor: "ana", Reason: "INC-1412", At: time.Now(),
	}
	if lasts > 0 {
		a.ExpiresAt = a.At.Add(lasts)
	}
	return a
}

func (w *world) do(t *testing.T, a actuators.Action) {
	t.Helper()
	if _, err := w.kv.Do(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// obedient starts a leader with a service in steady state at the limit that it found in the KV.
func obedient(t *testing.T) (*world, *governor) {
	w, g := lead(t, "checkout")
	w.overload()
	pass(4 * time.Minute)
	if l := g.loop(t, "checkout"); l.Decision.State == control.Hold || l.Order != nil || l.Published.Value > 60 {
		t.Fatalf("not steady: %+v", l)
	}
	return w, g
}

func TestFreezeHoldsUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		stood := g.loop(t, "checkout").Published.Value
		w.do(t, ordered(actuators.Freeze, 0, 10*time.Minute))
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 100 }) // worth a cut to a quarter
		pass(9 * time.Minute)
		l := g.loop(t, "checkout")
		if l.Decision.State != control.Frozen || l.Published.Value != stood || l.Order == nil || l.Order.Actor != "ana" ||
			!strings.Contains(l.Decision.Reason, "ana: INC-1412") {
			t.Errorf("while frozen: %+v", l)
		}
		expiry := g.recorder.metrics.expiry.WithLabelValues("checkout", "concurrency", "freeze")
		if got := testutil.ToFloat64(expiry); got != float64(l.Order.ExpiresAt.UnixMilli())/1000 {
			t.Errorf("the metric says that it expires at %v", got)
		}
		pass(5 * time.Minute)
		if l := g.loop(t, "checkout"); l.Order != nil || l.Published.Value > 0.75*stood {
			t.Errorf("after the expiry: %+v", l)
		}
		var heard []string
		for _, a := range g.recorder.Audit("checkout", "concurrency") {
			heard = append(heard, string(a.Kind)+" "+a.Actor)
		}
		if got := strings.Join(heard, ", "); got != "freeze ana, resume governor" {
			t.Errorf("audit: %s", got)
		}
		if n := testutil.CollectAndCount(g.recorder.metrics.expiry); n != 0 {
			t.Errorf("%d expiries of an automatic loop", n)
		}
		if log := w.log.String(); !strings.Contains(log, "action=freeze actor=ana reason=INC-1412") {
			t.Errorf("the log does not tell of it:\n%s", log)
		}
	})
}

// TestOrderRenewsTheLease: guards that drifted to their fallback would break the order, so the lease is renewed while
// an order keeps the value, even if nothing can be measured. Without the order it is not.
func TestOrderRenewsTheLease(t *testing.T) {
	for name, give := range map[string]func(*testing.T, *world){
		"freeze":   func(t *testing.T, w *world) { w.do(t, ordered(actuators.Freeze, 0, time.Hour)) },
		"override": func(t *testing.T, w *world) { w.do(t, ordered(actuators.Override, 200, time.Hour)) },
		"no order": func(*testing.T, *world) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := obedient(t)
				give(t, w)
				pass(period + time.Second)
				w.sensor.set(func(p *plants) { p.fail = control.NoData })
				before := len(w.kv.writes())
				const minutes = 10 // a third of the lease each
				pass(minutes * time.Minute)
				renewals := w.kv.writes()[before:]
				want := minutes
				if name == "no order" {
					want = 0
				}
				if len(renewals) != want {
					t.Errorf("%d renewals in %d minutes without a measurement, want %d", len(renewals), minutes, want)
				}
				for _, s := range renewals {
					if s.Concurrency.Limit != int(g.loop(t, "checkout").Published.Value) || s.ChangedAt.Equal(s.IssuedAt) {
						t.Errorf("not a renewal: %+v", s)
					}
				}
			})
		})
	}
}

// TestResumeContinuesFromTheValueInForce is A13 for a knob that a person held: no wind-up, no bump.
func TestResumeContinuesFromTheValueInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		w.do(t, ordered(actuators.Override, 200, time.Hour))
		pass(period + time.Second)
		if s := w.kv.stored("checkout"); s.Concurrency.Limit != 200 || s.Concurrency.Ceiling != 200 {
			t.Fatalf("one period after the override: %+v", s.Concurrency)
		}
		pass(30 * time.Minute)
		if l := g.loop(t, "checkout"); l.Decision.State != control.Override || l.Published.Value != 200 {
			t.Errorf("while overridden: %+v", l)
		}
		w.do(t, ordered(actuators.Resume, 0, 0))
		pass(period + time.Second)
		l := g.loop(t, "checkout")
		if l.Order != nil || l.Decision.State == control.Override || l.Decision.From != 200 {
			t.Errorf("after the resume: %+v", l)
		}
		pass(2 * time.Minute)
		if l := g.loop(t, "checkout"); l.Published.Value > 60 {
			t.Errorf("two minutes later the limit is %v, the right one is 48", l.Published.Value)
		}
		if n := testutil.ToFloat64(g.recorder.metrics.actions.WithLabelValues("checkout", "concurrency", "resume")); n != 1 {
			t.Errorf("%v resumes counted", n)
		}
	})
}

func TestOverrideKeepsTheHardBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		w.do(t, ordered(actuators.Override, 5000, time.Hour)) // as somebody's script may write it
		pass(period + time.Second)
		l := g.loop(t, "checkout")
		if l.Published.Value != 400 || l.Decision.Bound != control.BoundMax || !strings.Contains(l.Decision.Reason, "5000") {
			t.Errorf("%+v", l)
		}
	})
}

func TestKillSwitchFreezesEveryLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout", "search")
		pass(time.Minute)
		w.do(t, actuators.Action{Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412", At: time.Now()})
		w.overload()
		pass(time.Minute)
		for _, service := range []string{"checkout", "search"} {
			if l := g.loop(t, service); l.Decision.State != control.Frozen || l.Published.Value != 89 ||
				!strings.Contains(l.Decision.Reason, "kill switch") {
				t.Errorf("%s: %+v", service, l)
			}
		}
		if s := g.Status(); s.Freeze == nil || s.Freeze.Actor != "ana" {
			t.Errorf("status: %+v", s.Freeze)
		}
		w.kv.mu.Lock()
		w.kv.freeze = nil // consul kv delete governor/freeze
		w.kv.mu.Unlock()
		pass(time.Minute)
		if l := g.loop(t, "search"); l.Decision.State == control.Frozen || l.Published.Value > 60 {
			t.Errorf("after it was lifted: %+v", l)
		}
		if audit := g.recorder.Audit("", ""); len(audit) != 2 || audit[1].Kind != actuators.Resume {
			t.Errorf("audit: %+v", audit)
		}
	})
}

func TestOrdersOutliveAnUnreadableKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		w.do(t, ordered(actuators.Freeze, 0, time.Hour))
		pass(period + time.Second)
		w.kv.mu.Lock()
		w.kv.unclear = errors.New("orders.concurrency: expires_at: missing")
		w.kv.mu.Unlock()
		pass(period)
		if l := g.loop(t, "checkout"); l.Decision.State != control.Frozen {
			t.Errorf("an unreadable key has lifted a freeze: %+v", l.Decision)
		}
		if ws := strings.Join(g.Status().Warnings, "\n"); !strings.Contains(ws, "expires_at: missing") {
			t.Errorf("warnings: %q", ws)
		}
		pass(3 * period)
		if n := strings.Count(w.log.String(), "expires_at: missing"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		w.kv.mu.Lock()
		w.kv.unclear = nil
		w.kv.mu.Unlock()
		pass(period)
		if ws := g.Status().Warnings; len(ws) != 0 {
			t.Errorf("warnings: %q", ws)
		}
	})
}

// TestOrdersOutliveAReloadWhileConsulIsDown: known orders stay in force under the new configuration.
func TestOrdersOutliveAReloadWhileConsulIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		w.do(t, ordered(actuators.Freeze, 0, time.Hour))
		pass(period + time.Second)
		w.kv.set(func(kv *memoryKV) { kv.down = errDown })
		wider := threeKnobs("checkout")
		wider.Concurrency.Max = 500
		g.load(w, nil, w.group(wider))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(2 * period)
		l := g.loopOf(t, "checkout", control.KnobConcurrency)
		if l.Decision.State != control.Frozen || l.Order == nil || l.Max != 500 {
			t.Errorf("%+v", l)
		}
		if l = g.loopOf(t, "checkout", control.KnobRate); l.Decision.State == control.Frozen || l.Order != nil {
			t.Errorf("a knob that the reload has added: %+v", l)
		}
		if audit := g.recorder.Audit("", ""); len(audit) != 1 {
			t.Errorf("audit: %+v", audit)
		}
	})
}
