package prometheus

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

// traffic is one kind of reply of a web service: how many per second, and how long each takes.
type traffic struct {
	code, handler string
	rate, seconds float64
}

// web is an instance of a service without guard: a histogram of all replies by code and handler, as in many frameworks,
// and a gauge of the requests in flight.
type web struct {
	*httptest.Server
	metric string
	unit   float64 // seconds in one unit of the histogram

	mu       sync.Mutex
	since    time.Time
	traffic  []traffic
	inFlight float64
}

func newWeb(t *testing.T, all ...traffic) *web {
	w := &web{metric: "http_request_duration_seconds", unit: 1, since: time.Now(), traffic: all}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *web) target() string { return strings.TrimPrefix(w.URL, "http://") }

func (w *web) ServeHTTP(rw http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Content-Type", "text/plain; version=0.0.4")
	w.write(rw, time.Since(w.since).Seconds())
}

func (w *web) write(out io.Writer, age float64) {
	fmt.Fprintf(out, "# TYPE http_requests_in_flight gauge\nhttp_requests_in_flight %g\n", w.inFlight)
	fmt.Fprintf(out, "# TYPE %s histogram\n", w.metric)
	for _, tr := range w.traffic {
		labels, n := fmt.Sprintf("code=%q,handler=%q", tr.code, tr.handler), tr.rate*age
		for _, edge := range []float64{0.1, 0.3, 1, 10} {
			within := n
			if tr.seconds > edge {
				within = 0
			}
			fmt.Fprintf(out, "%s_bucket{%s,le=\"%g\"} %g\n", w.metric, labels, edge/w.unit, within)
		}
		fmt.Fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %g\n", w.metric, labels, n)
		fmt.Fprintf(out, "%s_sum{%s} %g\n%s_count{%s} %g\n", w.metric, labels, n*tr.seconds/w.unit, w.metric, labels, n)
	}
}

// overloaded is a service at its limit: it refuses four of five requests in no time. Over all replies the mean is 0.19
// s, within any target; admitted requests take 0.9 s.
func overloaded() []traffic {
	return []traffic{
		{"200", "/", 76, 0.9}, {"500", "/", 4, 0.9}, {"429", "/", 320, 0.0003}, {"200", "/healthz", 20, 0.0001},
	}
}

// of returns a group for the services of the test.
func (r *rig) of(t *testing.T, services ...signals.Service) (*signals.Sensor, *signals.Group) {
	t.Helper()
	for i := range services {
		services[i].Timing = timing
		if services[i].SLO == (control.SLO{}) {
			services[i].SLO = control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01}
		}
	}
	s, err := signals.New(signals.Options{URL: r.prom.URL(), Timeout: 5 * time.Second}, services)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if n := len(s.Groups()); n != 1 {
		t.Fatalf("%d groups, want 1", n)
	}
	return s, s.Groups()[0]
}

// job gives the targets a separate Prometheus job, which is how most people tell services apart.
func (r *rig) job(t *testing.T, name string, all ...*web) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range all {
		r.targets = append(r.targets, servers.TargetGroup{
			Targets: []string{w.target()}, Labels: map[string]string{"job": name},
		})
	}
	if err := r.prom.PrometheusServer.SetTargets(r.targets...); err != nil {
		t.Fatal(err)
	}
}

// A15, envoyproxy/envoy#8274, Netflix/concurrency-limits#176: the limiter's own refusals make a service look fast.
func testAdmittedOnly(t *testing.T, r *rig) {
	a, b := newWeb(t, overloaded()...), newWeb(t, overloaded()...)
	a.inFlight = 72
	r.job(t, "shop", a, b)
	h := signals.Histogram{
		Metric: "http_request_duration_seconds", Selector: `handler!="/healthz"`, Admitted: `code!~"429|503"`,
		Failed: `code=~"5.."`, InFlight: "http_requests_in_flight",
	}
	s, g := r.of(t, signals.Service{
		Name: "web", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "shop"}, Histogram: h,
	})
	m := until(t, g, patience, "both instances judged", steady(g, 2))
	w := timing.Window.Seconds()
	for _, in := range m.Instances {
		near(t, "mean", in.Mean, 0.9, 1e-6)
		near(t, "offered", in.Offered, 400*w, 0.05)
		near(t, "admitted", in.Admitted, 80*w, 0.05)
		near(t, "completed", in.Completed, 80*w, 0.05)
		near(t, "refused", in.Refused, 320*w, 0.05)
		near(t, "failed", in.Failed, 4*w, 0.05)
		near(t, "slow", in.Slow, 80*w, 0.05)
		if in.Name == a.target() {
			near(t, "in flight", in.InFlight, 72, 0)
		}
	}
	if v, ok := m.Quantile.Value(); !ok || v <= 0.9 || v > 1 {
		t.Errorf("p99 = %s, want it in the bucket of the admitted ones, 0.3..1", reading(m.Quantile))
	}

	// The same without a selector: the trap, and the probe's advice about it.
	h.Admitted = ""
	blind, g := r.of(t, signals.Service{
		Name: "web", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "shop"}, Histogram: h,
	})
	m = until(t, g, patience, "judged", steady(g, 2))
	near(t, "mean over all replies", m.Instances[0].Mean, 0.18, 0.01)
	advised(t, blind, "web", `set admitted, such as code!~"429|503"`)

	p, err := s.Probe(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	near(t, "arrivals", p.Arrivals, 800*w, 0.1)
	near(t, "scrape interval", p.ObservedScrape, 1, 0.2)
	if !p.AtSLO || p.Below != 100*time.Millisecond || p.Above != time.Second || p.Method != "POST" || len(p.Edges) != 4 {
		t.Errorf("%+v", p)
	}
	for _, f := range p.Signals {
		if f.Signal == signals.Failed {
			near(t, "series of failed", f.Series, 2, 0)
			near(t, "failed", f.Value, 8*w, 0.1)
			if age, ok := f.Age.Value(); !ok || age < 0 || age > 3 {
				t.Errorf("age of failed %s", reading(f.Age))
			}
		}
	}
}

// advised fails the test unless the probe gives the advice.
func advised(t *testing.T, s *signals.Sensor, service, want string) {
	t.Helper()
	p, err := s.Probe(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(p.Advice, "\n"), want) {
		t.Errorf("no advice that mentions %q, but %q", want, p.Advice)
	}
}

func testOutcomesThatHaveNotHappened(t *testing.T, r *rig) {
	r.job(t, "calm", newWeb(t, traffic{"200", "/", 100, 0.05}))
	service := signals.Service{
		Name: "calm", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "calm"},
		Histogram: signals.Histogram{
			Metric: "http_request_duration_seconds", Refused: `code="429"`, Failed: `code=~"5.."`,
		},
	}
	_, g := r.of(t, service)
	m := until(t, g, patience, "judged", steady(g, 1))
	for what, v := range map[string]control.Reading{"failed": m.Instances[0].Failed, "refused": m.Instances[0].Refused} {
		if n, ok := v.Value(); !ok || n != 0 {
			t.Errorf("%s = %s: no series of that outcome means none", what, reading(v))
		}
	}
	near(t, "admitted", m.Instances[0].Admitted, 100*timing.Window.Seconds(), 0.05)

	service.Histogram.Failed = `status=~"5.."`
	_, g = r.of(t, service)
	m = until(t, g, patience, "judged", steady(g, 1))
	if why, detail := m.Instances[0].Failed.Why(); why != control.NoData || !strings.Contains(detail, `status!=""`) {
		t.Errorf("failed = %s: a label that is nowhere is a mistake, not none", reading(m.Instances[0].Failed))
	}
}

// Prometheus 3 writes le="1.0" whatever the exporter says; older servers keep le="1", like the job old here.
func testBothSpellings(t *testing.T, r *rig) {
	now := newWeb(t, traffic{"200", "/", 100, 0.5}, traffic{"200", "/slow", 100, 2})
	r.job(t, "new", now)
	for _, job := range []string{"old", "new"} {
		_, g := r.of(t, signals.Service{
			Name: "spelled", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": job},
			SLO:       control.SLO{Latency: time.Second, Objective: 0.9},
			Histogram: signals.Histogram{Metric: "http_request_duration_seconds", Refused: `code="429"`},
		})
		m := until(t, g, patience, "judged", steady(g, 1))
		near(t, job+": slow", m.Instances[0].Slow, 100*timing.Window.Seconds(), 0.05)
	}
}

func testMilliseconds(t *testing.T, r *rig) {
	w := newWeb(t, traffic{"200", "/", 90, 0.05}, traffic{"200", "/slow", 10, 0.5})
	w.metric, w.unit = "istio_request_duration_milliseconds", 1e-3
	r.job(t, "mesh", w)
	_, g := r.of(t, signals.Service{
		Name: "mesh", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "mesh"},
		Histogram: signals.Histogram{Metric: w.metric},
	})
	m := until(t, g, patience, "judged", steady(g, 1))
	near(t, "mean", m.Instances[0].Mean, 0.095, 1e-6)
	near(t, "slow", m.Instances[0].Slow, 10*timing.Window.Seconds(), 0.05)
	if v, ok := m.Quantile.Value(); !ok || v < 0.3 || v > 1 {
		t.Errorf("p99 = %s, want seconds", reading(m.Quantile))
	}
}

func testOwnQueries(t *testing.T, r *rig) {
	a, b := newWeb(t, overloaded()...), newWeb(t, overloaded()...)
	r.job(t, "own", a, b)
	const metric, who = "http_request_duration_seconds", `job="own", handler="/"`
	rate := func(what, matchers string) string {
		return fmt.Sprintf(`sum by (instance) (rate(%s%s{%s}[$window]))`, metric, what, matchers)
	}
	queries := map[signals.Signal]string{
		signals.Offered: rate("_count", who),
		signals.Refused: rate("_count", who+`, code="429"`),
		signals.Failed:  rate("_count", who+`, code=~"5.."`),
		signals.Mean:    rate("_sum", who+`, code!="429"`) + " / " + rate("_count", who+`, code!="429"`),
		signals.Slow: rate("_count", who+`, code!="429"`) + " - " +
			rate("_bucket", who+`, code!="429", le=~"0.3"`),
		signals.Quantile: fmt.Sprintf(
			`histogram_quantile(0.99, sum by (le) (rate(%s_bucket{%s, code!="429"}[$window])))`, metric, who),
	}
	s, g := r.of(t, signals.Service{Name: "own", Preset: signals.Custom, Queries: queries})
	m := until(t, g, patience, "judged", steady(g, 2))
	w := timing.Window.Seconds()
	for _, in := range m.Instances {
		near(t, "offered", in.Offered, 400*w, 0.05)
		near(t, "refused", in.Refused, 320*w, 0.05)
		near(t, "admitted", in.Admitted, 80*w, 0.05)
		near(t, "failed", in.Failed, 4*w, 0.05)
		near(t, "slow", in.Slow, 80*w, 0.05)
		near(t, "mean", in.Mean, 0.9, 1e-6)
		if age, ok := in.Age.Value(); !ok || age < 0 || age > 3 {
			t.Errorf("age %s", reading(in.Age))
		}
	}
	if v, ok := m.Quantile.Value(); !ok || v < 0.3 || v > 1 {
		t.Errorf("p99 = %s", reading(m.Quantile))
	}
	p, err := s.Probe(t.Context(), "own")
	if err != nil || len(p.Advice) != 0 {
		t.Errorf("%v, advice %q", err, p.Advice)
	}

	// One sample for the whole service.
	for signal, q := range queries {
		queries[signal] = strings.ReplaceAll(q, "sum by (instance)", "sum")
	}
	_, g = r.of(t, signals.Service{Name: "own", Preset: signals.Custom, Queries: queries})
	m = until(t, g, patience, "judged as one", steady(g, 1))
	if m.Instances[0].Name != "" {
		t.Errorf("instance %q", m.Instances[0].Name)
	}
	near(t, "offered", m.Instances[0].Offered, 800*w, 0.05)

	queries[signals.Mean] = rate("_sum", who) + " / " + rate("_count", who)
	_, g = r.of(t, signals.Service{Name: "own", Preset: signals.Custom, Queries: queries})
	m = until(t, g, patience, "judged as one", judged(1))
	if why, detail := m.Instances[0].Mean.Why(); why != control.NoData || !strings.Contains(detail, "aggregate all alike") {
		t.Errorf("mean = %s, want no_data", reading(m.Instances[0].Mean))
	}

	// A4, kedacore/keda PR 2092: a forgotten aggregation gives two series for one instance.
	queries[signals.Mean] = fmt.Sprintf(`rate(%s_sum{%s, code!="429"}[$window])`, metric, who)
	queries[signals.Offered] = rate("_count", who)
	_, g = r.of(t, signals.Service{Name: "own", Preset: signals.Custom, Queries: queries})
	m = until(t, g, patience, "judged", steady(g, 2))
	why, detail := m.Instances[0].Mean.Why()
	if why != control.ManySeries || !strings.Contains(detail, "code (200, 500)") {
		t.Errorf("mean = %s, want many_series that names code", reading(m.Instances[0].Mean))
	}
}

// A history much shorter than the windows: the short windows report what there is, the long ones that it is too short.
func testBurn(t *testing.T, r *rig) {
	r.add(t, newExporter(t, "burning", load{offered: 200, failed: 4, mean: 0.08, slowShare: 0.2, limit: 96}))
	_, g := r.of(t, signals.Service{Name: "burning"})
	until(t, g, patience, "judged", steady(g, 1))
	// The first answer came before there was anything to count, and the interval is half a minute: query with a new group.
	deadline := time.Now().Add(patience)
	for {
		_, g := r.of(t, signals.Service{Name: "burning"})
		var m control.Measurement
		until(t, g, patience, "burn rates answered", func(got control.Measurement) bool {
			m = got
			why, _ := m.Burn[0].Short.Why()
			return why != control.Starting
		})
		if _, ok := m.Burn[1].Short.Value(); ok {
			for _, b := range m.Burn {
				near(t, "burn", b.Short, 20, 0.01) // 20% slow of 1% allowed
				if why, detail := b.Long.Why(); why != control.Starting || !strings.Contains(detail, "does not cover its time") {
					t.Errorf("long = %s", reading(b.Long))
				}
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no burn rates: %+v", m.Burn)
		}
	}
}
