package daemon

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestOrderByHand: an order that somebody writes into the KV without an audit is reported like any other.
func TestOrderByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		operator := func(raw string) {
			o, err := actuators.DecodeOperator([]byte(raw), "checkout")
			if err != nil {
				t.Fatal(err)
			}
			w.kv.mu.Lock()
			w.kv.operators["checkout"] = o
			w.kv.mu.Unlock()
			pass(period + time.Second)
		}
		operator(`{"orders":{"concurrency":{"kind":"freeze","actor":"bob","reason":"by hand",
			"expires_at":"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"}}}`)
		if l := g.loop(t, "checkout"); l.Decision.State != control.Frozen {
			t.Errorf("%+v", l.Decision)
		}
		operator(`{}`)
		audit := g.recorder.Audit("checkout", "")
		if len(audit) != 2 || audit[0].Actor != "bob" || audit[1].Kind != actuators.Resume || audit[1].Actor != "unknown" {
			t.Errorf("audit: %+v", audit)
		}
	})
}

// TestOrderWithoutALeader: a standby reports an order like a leader, and obeys it from its first tick as leader.
func TestOrderWithoutALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, first := obedient(t)
		stood := first.loop(t, "checkout").Published.Value
		w.do(t, ordered(actuators.Freeze, 0, 10*time.Minute))
		w.do(t, ordered(actuators.Resume, 0, 0))
		pass(time.Second)
		w.do(t, ordered(actuators.Freeze, 0, 10*time.Minute))
		first.lose()
		pass(time.Second)
		second := w.governor(t, control.Enforce)
		second.start(t)
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 100 })
		pass(time.Minute)
		second.win(2)
		pass(time.Minute)
		if l := second.loop(t, "checkout"); l.Decision.State != control.Frozen || l.Published.Value != stood ||
			l.Published.Epoch != 2 {
			t.Errorf("after the takeover: %+v", l)
		}
		pass(10 * time.Minute)
		for name, tc := range map[string]struct {
			g     *governor
			count float64
		}{"before": {first, 2}, "after the orders were given": {second, 0}} {
			var told []string
			for _, a := range tc.g.recorder.Audit("checkout", "") {
				told = append(told, string(a.Kind)+" "+a.Actor)
			}
			if got := strings.Join(told, ", "); got != "freeze ana, resume ana, freeze ana, resume governor" {
				t.Errorf("audit of the governor that started %s: %s", name, got)
			}
			counted := testutil.ToFloat64(tc.g.recorder.metrics.actions.WithLabelValues("checkout", "concurrency", "freeze"))
			if counted != tc.count {
				t.Errorf("freezes counted by the governor that started %s: %v", name, counted)
			}
		}
	})
}

// TestLiftsAreToldOnce: a lift of the kill switch through this governor is reported with its actor; a lift by hand
// right after it is reported separately.
func TestLiftsAreToldOnce(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	client := g.client(t)
	tick := func() { g.workers[0].tick(t.Context(), time.Now()) }
	through := func(kind actuators.OrderKind) {
		if _, err := client.OrderAll(t.Context(), kind, api.Command{Actor: "ana", Reason: "\x1b[31mred"}); err != nil {
			t.Fatal(err)
		}
	}
	byHand := func(order *actuators.Order) { w.kv.set(func(kv *memoryKV) { kv.freeze = order }) }

	through(actuators.Freeze)
	tick()
	through(actuators.Resume)
	tick()
	byHand(&actuators.Order{Kind: actuators.Freeze, Actor: "bob", Reason: "by hand"})
	tick()
	tick()
	byHand(nil)
	tick()
	through(actuators.Freeze) // and lifted before anybody saw it
	through(actuators.Resume)
	tick()
	byHand(&actuators.Order{Kind: actuators.Freeze, Actor: "bob", Reason: "again"})
	tick()
	byHand(nil)
	tick()
	var told []string
	for _, a := range g.recorder.Audit("", "") {
		told = append(told, string(a.Kind)+" "+a.Actor)
	}
	want := "freeze ana, resume ana, freeze bob, resume unknown, freeze ana, resume ana, freeze bob, resume unknown"
	if got := strings.Join(told, ", "); got != want {
		t.Errorf("audit: %s\nwant: %s", got, want)
	}
	if n := testutil.ToFloat64(g.recorder.metrics.actions.WithLabelValues("", "", "resume")); n != 4 {
		t.Errorf("%v lifts counted", n)
	}
}

// TestEarlierTickLiftsNothing: a group's tick may begin before the kill switch was seen and end after it.
func TestEarlierTickLiftsNothing(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	now := time.Now()
	order := &actuators.Order{Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412"}
	g.recorder.Everywhere(now, order)
	g.recorder.Everywhere(now.Add(-time.Second), nil)
	if audit := g.recorder.Audit("", ""); g.recorder.KillSwitch() == nil || len(audit) != 1 {
		t.Errorf("audit: %+v", audit)
	}
	g.recorder.Everywhere(now.Add(time.Second), nil)
	if audit := g.recorder.Audit("", ""); g.recorder.KillSwitch() != nil || len(audit) != 2 {
		t.Errorf("audit: %+v", audit)
	}
}

// TestFullAuditForgets: an action that has dropped out of the audit is not reported again with its service's next
// action.
func TestFullAuditForgets(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	old := ordered(actuators.Resume, 0, 0)
	r := g.recorder
	r.acted(old)
	for i := range auditSpan + 5 {
		a := old
		a.At, a.Reason = old.At.Add(time.Duration(i+1)*time.Second), fmt.Sprint(i)
		r.acted(a)
	}
	r.acted(old)
	if n := testutil.ToFloat64(r.metrics.actions.WithLabelValues("checkout", "concurrency", "resume")); n != auditSpan+6 {
		t.Errorf("%v actions counted", n)
	}
	if n := len(r.Audit("", "")); n != auditSpan {
		t.Errorf("%d actions kept", n)
	}
}
