package daemon

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

const route = "checkout/export"

// A route is a service of its own: it has a key, a journal, metrics and orders that its service has no part in.
func TestRouteIsSteeredLikeAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout", route)
		w.sensor.set(func(p *plants) { p.services[route].offered = 1200 })
		pass(3 * time.Minute)
		own, of := w.kv.stored("checkout"), w.kv.stored(route)
		if of.Service != route || of.Epoch != 1 || of.Concurrency.Limit > 60 ||
			of.Concurrency.Limit >= own.Concurrency.Limit {
			t.Errorf("the route has %+v with %+v, its service %+v", of, of.Concurrency, own.Concurrency)
		}
		l := g.loop(t, route)
		if l.Published == nil || l.Published.Key != "governor/services/checkout/routes/export/setting" ||
			l.Published.Revision != of.Revision {
			t.Errorf("the loop shows %+v", l.Published)
		}
		if n := len(g.records(route)); n < 3*60/5-1 || n != len(g.records("checkout")) {
			t.Errorf("%d records of the route, %d of its service", n, len(g.records("checkout")))
		}
		if n := testutil.ToFloat64(g.recorder.metrics.value.WithLabelValues(route, "concurrency")); n != float64(l.Decision.Value) {
			t.Errorf("the metric is %v, the loop has %v", n, l.Decision.Value)
		}

		// Another governor takes over, and goes on from the value in force.
		other := w.governor(t, control.Enforce)
		g.lose()
		other.win(2)
		other.start(t)
		pass(3 * period)
		after := w.kv.stored(route)
		if after.Epoch != 2 || after.Concurrency.Limit < of.Concurrency.Limit-5 || after.Concurrency.Limit > of.Concurrency.Limit+5 {
			t.Errorf("after the handover %+v with %+v, before %+v", after, after.Concurrency, of.Concurrency)
		}

		// The configuration loses the route: nobody writes its key any more, and its series are gone.
		w.sensor.set(func(p *plants) { delete(p.services, route) })
		other.load(w, nil, w.group(specOf("checkout", control.Enforce)))
		if err := other.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := w.kv.stored(route)
		pass(10 * time.Minute)
		if now := w.kv.stored(route); now.Revision != last.Revision {
			t.Errorf("the key of the route that is gone was written: %+v", now)
		}
		if n := testutil.CollectAndCount(other.recorder.metrics.value); n != 1 {
			t.Errorf("%d series of governor_loop_value, want that of the service", n)
		}
	})
}

// People freeze and override a route through the interface, whether or not they escape the slash in its name.
func TestOrdersForRoutesThroughTheInterface(t *testing.T) {
	w := newWorld("checkout", route)
	g := w.governor(t, control.Enforce)
	g.win(1)
	client := g.client(t)
	tick := func() { g.workers[0].tick(t.Context(), time.Now()) }
	tick()
	c := api.Command{Actor: "ana", Reason: "INC-1412", ExpiresInSeconds: 900, Value: new(50.0)}
	if _, err := client.Order(t.Context(), route, control.KnobConcurrency, actuators.Override, c); err != nil {
		t.Fatal(err)
	}
	tick()
	if s := w.kv.stored(route); s.Concurrency.Limit != 50 || w.kv.stored("checkout").Concurrency.Limit == 50 {
		t.Errorf("the route has %+v, its service %+v", s.Concurrency, w.kv.stored("checkout").Concurrency)
	}
	l, err := client.Loop(t.Context(), route, control.KnobConcurrency)
	if err != nil || l.Service != route || l.Decision.State != control.Override {
		t.Errorf("%+v, %v", l.Decision, err)
	}
	if h, err := client.LoopHistory(t.Context(), route, control.KnobConcurrency, time.Hour, 0); err != nil || h.Service != route {
		t.Errorf("history: %+v, %v", h, err)
	}
	if d, err := client.Decisions(t.Context(), api.Query{Service: route}); err != nil || len(d.Decisions) != 2 {
		t.Errorf("decisions: %+v, %v", d, err)
	}
	for _, path := range []string{
		"checkout/export/concurrency", "checkout%2Fexport/concurrency", "checkout/export%2Fconcurrency",
		"checkout%2Fexport%2Fconcurrency", "checkout%2fexport%2Fconcurrency/x",
	} {
		code, body := get(t, g, http.MethodGet, "/api/v1/loops/"+path)
		known := !strings.HasSuffix(path, "x")
		if err := json.Unmarshal([]byte(body), &l); known && (err != nil || code != http.StatusOK || l.Service != route) ||
			!known && code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := get(t, g, http.MethodGet, "/api/v1/loops/checkout%2Fexport%2Fconcurrency/history"); code != http.StatusOK ||
		!strings.Contains(body, `"checkout/export"`) || strings.Count(body, `"knob"`) != 1 {
		t.Errorf("%d: %s", code, body)
	}
	if code, body := get(t, g, http.MethodGet, "/api/v1/loops/checkout/export/concurrency/history"); code != http.StatusOK {
		t.Errorf("history: %d %s", code, body)
	}
	if code, body := get(t, g, http.MethodGet, "/api/v1/loops/checkout/export/concurrency/freeze"); code != http.StatusMethodNotAllowed {
		t.Errorf("freeze by GET: %d %s", code, body)
	}
	if code, body := get(t, g, http.MethodGet, "/api/v1/loops/checkout/exprt/concurrency"); code != http.StatusNotFound ||
		!strings.Contains(body, "there is no loop checkout/exprt/concurrency") || !strings.Contains(body, "checkout/export/concurrency") {
		t.Errorf("a typo: %d %s", code, body)
	}
	if _, err := client.Order(t.Context(), route, control.KnobConcurrency, actuators.Resume, api.Command{Actor: "bob", Reason: "over"}); err != nil {
		t.Error(err)
	}
	tick()
	if o := w.kv.operators[route]; len(o.Orders) != 0 || len(o.Audit) != 2 {
		t.Errorf("the operator key of the route holds %+v", o)
	}
	if a, err := client.Audit(t.Context()); err != nil || len(a.Actions) != 2 || a.Actions[0].Service != route {
		t.Errorf("audit: %+v, %v", a, err)
	}
}

// The callees of a route are those of its service.
func TestRouteNamesTheCulpritBehindItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", route, "payments")
		took := 0.02
		w.sensor.set(func(p *plants) {
			// Only the route calls payments; guard counts the calls for the service.
			p.services[route].spoil = func(m *control.Measurement) {
				in := &m.Instances[0]
				n, mean := in.Completed.Float(), in.Mean.Float()
				if took > 0.1 {
					in.Slow, in.Fast = in.Completed, control.Read(0)
				}
				in.Mean, in.Waited = control.Read(mean+took), control.Read(n*took)
				in.InFlight = control.Read(in.InFlight.Float() + n*took/m.Window.Seconds())
			}
			p.services["checkout"].spoil = func(m *control.Measurement) {
				zero, n := control.Read(0), control.Read(2000)
				m.Instances[0].Waited = zero
				m.Instances[0].Calls = []control.Call{{
					To: "payments", Requests: n, Attempts: n, Retries: zero, Failures: zero, CalleeRefused: zero, BreakerOpen: zero,
					BulkheadFull: zero, PastDeadline: zero, Finished: n, Mean: control.Read(took), OwnLatency: control.Read(0.02),
				}}
			}
		})
		caller := specOf("checkout", control.Shadow)
		caller.Calls = []control.CallSpec{{To: "payments", Max: 64}}
		g := w.governorOf(t, w.group(caller), w.group(specOf(route, control.Shadow)), w.group(specOf("payments", control.Shadow)))
		g.win(1)
		g.start(t)
		pass(2 * time.Minute)
		w.sensor.set(func(*plants) { took = 0.4 })
		pass(time.Minute)
		if d := g.loop(t, route).Decision; d.Inputs.Culprit != "payments" || !strings.Contains(d.Reason, "because of payments") {
			t.Errorf("the route names %q: %s", d.Inputs.Culprit, d.Reason)
		}
		if d := g.loopOf(t, "checkout", control.KnobConcurrency).Decision; d.Inputs.Culprit != "" {
			t.Errorf("the service, which is well, names %q: %s", d.Inputs.Culprit, d.Reason)
		}
	})
}
