package daemon

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

func get(t *testing.T, g *governor, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	g.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	if w.Header().Get(api.VersionHeader) == "" {
		t.Errorf("%s: no %s header: a client would not recognize a governor", path, api.VersionHeader)
	}
	body, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

// A1: kedacore/keda#7475, kubernetes-sigs/prometheus-adapter#280, argoproj/argo-rollouts#180: NaN must stay a missing
// number all the way to the screen.
func TestNaNIsShownAsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		w.overload()
		pass(2 * time.Minute)
		limit := w.kv.stored("checkout").Concurrency.Limit

		w.sensor.set(func(p *plants) {
			p.services["checkout"].spoil = func(m *control.Measurement) {
				for i := range m.Instances {
					m.Instances[i].Mean = control.Read(math.NaN())
				}
			}
		})
		pass(3 * period)
		l := g.loop(t, "checkout")
		if l.Decision.State != control.Hold || l.Decision.HoldReason != control.NaN {
			t.Errorf("%s, want a hold with reason nan", l.Decision.Reason)
		}
		for _, path := range []string{"/loops", "/loops/checkout/concurrency", "/decisions", "/status"} {
			code, body := get(t, g, "GET", api.Prefix+path)
			if code != http.StatusOK || !json.Valid([]byte(body)) || strings.Contains(body, "NaN") {
				t.Errorf("%s: %d, valid %v, %.200s", path, code, json.Valid([]byte(body)), body)
			}
		}
		_, metrics := get(t, g, "GET", "/metrics")
		if strings.Contains(metrics, "NaN") {
			t.Errorf("NaN in the metrics:\n%s", metrics)
		}
		if strings.Contains(metrics, "governor_loop_measured_seconds{") {
			t.Error("the measurement is unknown, yet there is a number for it")
		}
		if v := testutil.ToFloat64(g.recorder.metrics.value); v != float64(limit) {
			t.Errorf("the limit's metric reads %v in the hold, want %d", v, limit)
		}
		if n := testutil.ToFloat64(g.recorder.metrics.holds.WithLabelValues("checkout", "concurrency", "nan")); n != 3 {
			t.Errorf("%v holds counted, want 3", n)
		}

		w.sensor.set(func(p *plants) { p.services["checkout"].spoil = nil })
		pass(period)
		if after := w.kv.stored("checkout").Concurrency.Limit; math.Abs(float64(after)/float64(limit)-1) > 0.1 {
			t.Errorf("the first good tick moved the limit from %d to %d", limit, after)
		}
	})
}

func TestMetricsKeepTheConventions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		w.kv.refuse["checkout"] = errDown
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.start(t)
		pass(time.Minute)
		w.kv.set(func(kv *memoryKV) { delete(kv.refuse, "checkout") })
		pass(time.Minute)
		w.kv.set(func(kv *memoryKV) { kv.index++; delete(kv.settled, checkoutKey) })
		w.sensor.set(func(p *plants) { p.fail = control.Timeout })
		pass(time.Minute)
		problems, err := testutil.GatherAndLint(g.registry)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		families, err := g.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, f := range families {
			got[f.GetName()] = true
			if !strings.HasPrefix(f.GetName(), "governor_") {
				t.Errorf("%s lacks the prefix", f.GetName())
			}
		}
		for _, name := range []string{
			"governor_loop_value", "governor_loop_published_value", "governor_loop_setpoint_seconds",
			"governor_loop_state",
			"governor_decisions_total", "governor_holds_total", "governor_setting_writes_total",
			"governor_setting_write_failures_total", "governor_setting_drifts_total",
			"governor_leader", "governor_leader_epoch", "governor_prometheus_up", "governor_consul_up",
			"governor_measure_duration_seconds", "governor_tick_lateness_seconds",
		} {
			if !got[name] {
				t.Errorf("%s is missing", name)
			}
		}
	})
}

func TestReadyOnceEveryLoopHasBeenThroughATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		w.kv.down = errDown
		w.sensor.fail = control.QueryError // neither dependency is there
		g := w.governor(t, control.Enforce)
		code, body := get(t, g, "GET", "/-/ready")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "2 of 2") {
			t.Errorf("before the first tick: %d %s", code, body)
		}
		g.start(t)
		pass(period)
		for _, path := range []string{"/-/ready", "/-/healthy", "/api/v1/status"} {
			if code, body := get(t, g, "GET", path); code != http.StatusOK {
				t.Errorf("%s with Prometheus and Consul down: %d %s", path, code, body)
			}
		}
	})
}

func TestErrorsOfTheInterface(t *testing.T) {
	g := newWorld("checkout", "search").governor(t, control.Shadow)
	for _, tc := range []struct {
		method, path string
		code         int
		want         []string
	}{
		{
			"GET", "/api/v1/loops/chekout/concurrency", 404,
			[]string{"chekout/concurrency", "checkout/concurrency", "search/concurrency"},
		},
		{"GET", "/api/v1/loops/checkout/rate", 404, []string{"checkout/rate"}},
		{"GET", "/api/v1/lops", 404, []string{"/api/v1/lops", "/decisions"}},
		{"POST", "/api/v1/loops", 405, []string{"POST", "use GET"}},
		{"GET", "/api/v1/loops/checkout/concurrency/freeze", 405, []string{"GET", "use POST"}},
		{"GET", "/api/v1/loops?at=noon", 400, []string{"at=noon", "like 5m"}},
		{"GET", "/api/v1/decisions?since=-1", 400, []string{"since=-1", "next"}},
		{"GET", "/api/v1/decisions?limit=10001", 400, []string{"limit=10001", "10000"}},
	} {
		code, body := get(t, g, tc.method, tc.path)
		var e api.Error
		if err := json.Unmarshal([]byte(body), &e); err != nil || code != tc.code {
			t.Errorf("%s %s: %d %q, want %d and a JSON error", tc.method, tc.path, code, body, tc.code)
		}
		for _, part := range tc.want {
			if !strings.Contains(e.Error+e.Hint, part) {
				t.Errorf("%s %s: %q (%q) does not say %q", tc.method, tc.path, e.Error, e.Hint, part)
			}
		}
	}
	if code, body := get(t, g, "GET", "/"); code != 200 || !strings.Contains(body, "/api/v1/loops") {
		t.Errorf("landing page: %d %s", code, body)
	}
	if code, _ := get(t, g, "GET", "/debug/pprof/goroutine?debug=1"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
}

func TestClientReadsWhatTheDaemonServes(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	g.win(3)
	for i := range 3 {
		g.workers[0].tick(t.Context(), time.Now().Add(time.Duration(i)*period))
	}
	client := g.client(t)

	status, err := client.Status(t.Context())
	if err != nil || status.Role != api.Leader || status.Leader.Epoch != 3 || status.Instance != "test:9747" {
		t.Errorf("status %+v, %v", status, err)
	}
	loops, err := client.Loops(t.Context())
	if err != nil || len(loops) != 1 || loops[0].Published == nil || loops[0].Min != 20 || loops[0].Fallback != 89 {
		t.Errorf("loops %+v, %v", loops, err)
	}
	all, err := client.Decisions(t.Context(), api.Query{})
	if err != nil || len(all.Decisions) != 3 {
		t.Fatalf("decisions %+v, %v", all, err)
	}
	rest, err := client.Decisions(t.Context(), api.Query{Since: all.Decisions[1].Seq})
	if err != nil || len(rest.Decisions) != 1 || rest.Next != all.Next {
		t.Errorf("after the second: %+v, %v", rest, err)
	}
	_, err = client.Loop(t.Context(), "checkout", control.KnobRate)
	if err == nil || !strings.Contains(err.Error(), "checkout/concurrency") {
		t.Errorf("unknown loop: %v", err)
	}
}
