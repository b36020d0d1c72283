package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
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

// obedient starts a leader with a service in steady state at the limit that it has found in the KV.
func obedient(t *testing.T) (*world, *governor) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	g.win(1)
	g.start(t)
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

// TestOrderRenewsTheLease: guards that drifted to their fallback would break the order, so the lease is renewed while a
// person wants the value to stand, even if nothing can be measured. Without the order it is not.
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

func TestKillSwitchFreezesEveryLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.start(t)
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

// TestOrderByHand: an order that somebody puts into the KV without an audit is told of like any other.
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

func TestOrdersThroughTheInterface(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	client := g.client(t)
	command := api.Command{Actor: "ana", Reason: "INC-1412", ExpiresInSeconds: 900}
	order := func(kind actuators.OrderKind, c api.Command) (api.Receipt, error) {
		return client.Order(t.Context(), "checkout", control.KnobConcurrency, kind, c)
	}

	r, err := order(actuators.Freeze, command)
	if err != nil || r.Note != api.NotEnforced || r.Leader != "" || r.Action.ExpiresAt.Sub(r.Action.At) != 15*time.Minute {
		t.Errorf("without a leader: %+v, %v", r, err)
	}
	g.win(1)
	if r, err = order(actuators.Freeze, command); err != nil || r.Leader != "test:9747" || r.Note == api.NotEnforced {
		t.Errorf("with a leader: %+v, %v", r, err)
	}
	g.workers[0].tick(t.Context(), time.Now())
	if l, err := client.Loop(t.Context(), "checkout", control.KnobConcurrency); err != nil || l.Order == nil ||
		l.Order.Reason != "INC-1412" || l.Decision.State != control.Frozen {
		t.Errorf("%+v, %v", l, err)
	}
	if a, err := client.Audit(t.Context()); err != nil || len(a.Actions) != 2 || a.Actions[0].Actor != "ana" {
		t.Errorf("audit: %+v, %v", a, err)
	}
	if _, err := order(actuators.Resume, api.Command{Actor: "bob", Reason: "over"}); err != nil {
		t.Error(err)
	}
	if r, err := client.OrderAll(t.Context(), actuators.Freeze, api.Command{Actor: "ana", Reason: "all"}); err != nil ||
		r.Action.Kind != actuators.Freeze {
		t.Errorf("kill switch: %+v, %v", r, err)
	}
	r, err = order(actuators.Freeze, command)
	if err != nil || r.Leader != "" || !strings.Contains(r.Note, "kill switch") {
		t.Errorf("under the kill switch: %+v, %v", r, err)
	}
	if _, err := client.OrderAll(t.Context(), actuators.Resume, api.Command{Actor: "bob", Reason: "over"}); err != nil {
		t.Error(err)
	}

	for name, tc := range map[string]struct {
		kind    actuators.OrderKind
		command api.Command
		want    string
	}{
		"no reason":        {actuators.Freeze, api.Command{Actor: "ana", ExpiresInSeconds: 900}, "reason"},
		"no actor":         {actuators.Freeze, api.Command{Reason: "x", ExpiresInSeconds: 900}, "actor"},
		"no expiry":        {actuators.Freeze, api.Command{Actor: "ana", Reason: "x"}, "expiry"},
		"for ever":         {actuators.Freeze, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 1e9}, "168h"},
		"without a number": {actuators.Override, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 9}, "20 to 400"},
		"out of bounds": {
			actuators.Override, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 9, Value: 19}, "20 to 400",
		},
	} {
		if _, err := order(tc.kind, tc.command); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v does not say %q", name, err, tc.want)
		}
	}
	_, err = client.OrderAll(t.Context(), actuators.Freeze, command)
	if err == nil || !strings.Contains(err.Error(), "stands until it is lifted") {
		t.Errorf("a kill switch for a quarter of an hour: %v", err)
	}
	w.kv.mu.Lock()
	w.kv.down = errDown
	w.kv.mu.Unlock()
	if _, err := order(actuators.Freeze, command); err == nil || !strings.Contains(err.Error(), "nothing was recorded") {
		t.Errorf("without Consul: %v", err)
	}
	g.opts.Closed = func() error { return errors.New("governor listens on all addresses and asks for no credentials") }
	_, err = order(actuators.Freeze, command)
	if err == nil || !strings.Contains(err.Error(), "asks for no credentials (listen on loopback") {
		t.Errorf("on an open listener: %v", err)
	}

	// Shadow publishes nothing.
	shadow := newWorld("checkout").governor(t, control.Shadow)
	other := shadow.client(t)
	command.Value = 50
	_, err = other.Order(t.Context(), "checkout", control.KnobConcurrency, actuators.Override, command)
	if err == nil || !strings.Contains(err.Error(), "shadow") {
		t.Errorf("override in shadow: %v", err)
	}
}

// TestLiftsAreToldOnce: who lifts the kill switch through this governor is told of by name, who lifts it by hand right
// after is not taken for the same.
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

// TestOrdersOutliveAReloadWhileConsulIsDown: what was ordered is known, whatever the new configuration says.
func TestOrdersOutliveAReloadWhileConsulIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := obedient(t)
		w.do(t, ordered(actuators.Freeze, 0, time.Hour))
		pass(period + time.Second)
		w.kv.set(func(kv *memoryKV) { kv.down = errDown })
		wider := threeKnobs("checkout")
		wider.Concurrency.Max = 500
		g.load(w, nil, Group{Sensor: w.sensor, Specs: []control.Spec{wider}})
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

// TestOrderWithoutALeader: a standby tells of an order as a leader does, and obeys it from its first tick as leader.
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

// TestFullAuditForgets: what has fallen out of the audit is not told again with the next action of its service.
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

// TestActorIsWhoHasLoggedIn: a body, or a user name that nobody asked for, names nobody else.
func TestActorIsWhoHasLoggedIn(t *testing.T) {
	workload := &url.URL{Scheme: "spiffe", Host: "shop", Path: "/ops"}
	verified := func(c x509.Certificate) *tls.ConnectionState {
		c.SerialNumber = big.NewInt(7)
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{&c}, VerifiedChains: [][]*x509.Certificate{{&c}}}
	}
	cert := x509.Certificate{Subject: pkix.Name{CommonName: "cid"}}
	claimed := verified(cert)
	claimed.VerifiedChains = nil
	for name, tc := range map[string]struct {
		tls  *tls.ConnectionState
		user string
		want string
	}{
		"nobody":                          {nil, "", "ana"},
		"a user":                          {nil, "ben", "ben"},
		"a user over TLS":                 {&tls.ConnectionState{}, "ben", "ben"},
		"a certificate":                   {verified(cert), "", "cid"},
		"a certificate, and a name":       {verified(cert), "ben", "cid"},
		"a certificate of a workload":     {verified(x509.Certificate{URIs: []*url.URL{workload}}), "", "spiffe://shop/ops"},
		"a certificate of a host":         {verified(x509.Certificate{DNSNames: []string{"ops1"}}), "", "ops1"},
		"a certificate by mail":           {verified(x509.Certificate{EmailAddresses: []string{"c@x"}}), "", "c@x"},
		"a certificate without a name":    {verified(x509.Certificate{}), "", "serial 7"},
		"a certificate that nobody asked": {claimed, "", "ana"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"actor": "ana"}`))
		r.TLS = tc.tls
		if tc.user != "" {
			r.SetBasicAuth(tc.user, "x")
		}
		if c, ok := commandOf(httptest.NewRecorder(), r); !ok || c.Actor != tc.want {
			t.Errorf("%s: the actor is %q, want %q", name, c.Actor, tc.want)
		}
	}
}

// TestEarlierTickLiftsNothing: a group whose tick began before the kill switch was seen may end after it.
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
