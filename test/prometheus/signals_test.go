package prometheus

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

var timing = control.Timing{Scrape: time.Second, Window: 4 * time.Second, Period: time.Second}

// rig is one Prometheus that all tests share; each test has its own services.
type rig struct {
	prom *servers.TestPrometheus

	mu      sync.Mutex
	targets []servers.TargetGroup
}

// add and remove change the scrape targets of Prometheus.
func (r *rig) add(t *testing.T, exporters ...*exporter) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range exporters {
		r.targets = append(r.targets, servers.TargetGroup{Targets: []string{e.target()}})
	}
	if err := r.prom.PrometheusServer.SetTargets(r.targets...); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) remove(t *testing.T, e *exporter) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, g := range r.targets {
		if g.Targets[0] == e.target() {
			r.targets = append(r.targets[:i:i], r.targets[i+1:]...)
			break
		}
	}
	if err := r.prom.PrometheusServer.SetTargets(r.targets...); err != nil {
		t.Fatal(err)
	}
}

// group returns the group that measures the services, whose SLO is 300 ms for 99%.
func (r *rig) group(t *testing.T, services ...string) *signals.Group {
	t.Helper()
	return r.groupOf(t, false, services...)
}

// groupOf is group, with the calls of the services if they are asked for.
func (r *rig) groupOf(t *testing.T, calls bool, services ...string) *signals.Group {
	t.Helper()
	var list []signals.Service
	for _, name := range services {
		list = append(list, signals.Service{
			Name: name, Timing: timing, SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99}, Calls: calls,
		})
	}
	s, err := signals.New(signals.Options{URL: r.prom.URL(), Timeout: 5 * time.Second}, list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if n := len(s.Groups()); n != 1 {
		t.Fatalf("%d groups for services of one kind, want 1", n)
	}
	return s.Groups()[0]
}

// until measures once per scrape until the snapshot is as wanted, and fails the test if that takes longer than most.
func until(
	t *testing.T, g *signals.Group, most time.Duration, what string, want func(control.Measurement) bool,
) control.Measurement {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		m := g.Measure(t.Context(), time.Now())[0]
		if want(m) {
			return m
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s\nlast: %s", most, what, show(m))
		}
	}
}

func show(m control.Measurement) string {
	var b strings.Builder
	fmt.Fprintf(&b, "invalid=%q detail=%q partial=%q quantile=%s", m.Invalid, m.Detail, m.Partial, reading(m.Quantile))
	for _, in := range m.Instances {
		fmt.Fprintf(&b, "\n  %s age=%s offered=%s completed=%s refused=%s mean=%s slow=%s limit=%s", in.Name,
			reading(in.Age), reading(in.Offered), reading(in.Completed), reading(in.Refused), reading(in.Mean),
			reading(in.Slow), reading(in.Limit))
	}
	return b.String()
}

func reading(r control.Reading) string {
	if v, ok := r.Value(); ok {
		return fmt.Sprintf("%.4g", v)
	}
	why, detail := r.Why()
	return fmt.Sprintf("%s (%s)", why, detail)
}

func judged(n int) func(control.Measurement) bool {
	return func(m control.Measurement) bool {
		known := 0
		for _, in := range m.Instances {
			if _, ok := in.Offered.Value(); ok {
				known++
			}
		}
		return m.Invalid == "" && known == n && len(m.Instances) == n
	}
}

// steady is judged plus every scrape of two windows in place: then counts are exact.
func steady(g *signals.Group, n int) func(control.Measurement) bool {
	return func(m control.Measurement) bool {
		v, ok := g.ObservedScrape().Value()
		return ok && math.Abs(v-1) < 0.01 && judged(n)(m)
	}
}

// near fails the test unless r is within the share tolerance of want.
func near(t *testing.T, what string, r control.Reading, want, tolerance float64) {
	t.Helper()
	if v, ok := r.Value(); !ok || math.Abs(v-want) > tolerance*math.Max(want, 1e-9) {
		t.Errorf("%s = %s, want %g ± %g %%", what, reading(r), want, 100*tolerance)
	}
}

// Patience on a machine that is busy with other tests.
const patience = 60 * time.Second

// TestMain runs all tests in parallel: they wait for scrapes and need no processor meanwhile.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestRealPrometheus(t *testing.T) {
	twice := newExporter(t, "twice", load{offered: 100, mean: 0.05, limit: 96})
	old := newWeb(t, traffic{"200", "/", 100, 0.5}, traffic{"200", "/slow", 100, 2})
	nobody := [2]*exporter{
		newExporter(t, "nobody", load{offered: 100, mean: 0.05, limit: 96, inFlight: 5}),
		newExporter(t, "nobody", load{offered: 100, mean: 0.05, limit: 96, inFlight: 5}),
	}
	nobody[1].since = nobody[1].since.Add(-time.Hour)
	r := &rig{prom: servers.Prometheus(t, servers.ScrapeInterval(timing.Scrape), servers.Config(fmt.Sprintf(
		"- job_name: nobody\n  static_configs:\n  - targets: [%q, %q]\n  metric_relabel_configs:\n"+
			"  - action: labeldrop\n    regex: instance\n"+
			"- job_name: again\n  static_configs:\n  - targets: [%q]\n"+
			"- job_name: old\n  static_configs:\n  - targets: [%q]\n  metric_relabel_configs:\n"+
			"  - source_labels: [le]\n    regex: '(\\d+)\\.0'\n    target_label: le\n", nobody[0].target(), nobody[1].target(), twice.target(), old.target())))}

	t.Run("group", func(t *testing.T) {
		t.Run("CountsMeansAndRatios", func(t *testing.T) { t.Parallel(); testCounts(t, r) })
		t.Run("StaleSampleIsNotFresh", func(t *testing.T) { t.Parallel(); testStaleSample(t, r) })
		t.Run("UnreachableAndRemovedTargets", func(t *testing.T) { t.Parallel(); testTargets(t, r) })
		t.Run("CounterReset", func(t *testing.T) { t.Parallel(); testCounterReset(t, r) })
		t.Run("SameInstanceScrapedTwice", func(t *testing.T) { t.Parallel(); testTwice(t, r, twice) })
		t.Run("IdleIsNotAbsent", func(t *testing.T) { t.Parallel(); testIdle(t, r) })
		t.Run("SLOWithoutBucketEdge", func(t *testing.T) { t.Parallel(); testNoEdge(t, r) })
		t.Run("AdmittedOnly", func(t *testing.T) { t.Parallel(); testAdmittedOnly(t, r) })
		t.Run("OutcomesThatHaveNotHappened", func(t *testing.T) { t.Parallel(); testOutcomesThatHaveNotHappened(t, r) })
		t.Run("BothSpellings", func(t *testing.T) { t.Parallel(); testBothSpellings(t, r) })
		t.Run("Milliseconds", func(t *testing.T) { t.Parallel(); testMilliseconds(t, r) })
		t.Run("OwnQueries", func(t *testing.T) { t.Parallel(); testOwnQueries(t, r) })
		t.Run("BurnRates", func(t *testing.T) { t.Parallel(); testBurn(t, r) })
		t.Run("GoneWithoutAMarker", func(t *testing.T) { t.Parallel(); testGone(t, r) })
		t.Run("NobodysIdentity", func(t *testing.T) { t.Parallel(); testNobody(t, r) })
		t.Run("EdgeThatIsASum", func(t *testing.T) { t.Parallel(); testEdgeThatIsASum(t, r) })
		t.Run("EdgeThatIsNew", func(t *testing.T) { t.Parallel(); testEdgeThatIsNew(t, r) })
		t.Run("CallsToOtherServices", func(t *testing.T) { t.Parallel(); testCalls(t, r) })
		t.Run("GuardSpeaksThePreset", func(t *testing.T) { t.Parallel(); testGuard(t, r) })
	})
}

func testCalls(t *testing.T, r *rig) {
	of := func(own float64) load {
		return load{offered: 100, mean: 0.12, limit: 96, calls: []calls{
			{to: "payments", perSecond: 100, mean: 0.06, own: own, open: 1}, {to: "search", perSecond: 20, mean: 0.02, own: 0.01},
		}}
	}
	a, b := newExporter(t, "front", of(0.04)), newExporter(t, "front", of(0.05))
	r.add(t, a, b)
	g := r.groupOf(t, true, "front")
	m := until(t, g, patience, "both instances judged", steady(g, 2))
	w := timing.Window.Seconds()
	for _, in := range m.Instances {
		near(t, "waited", in.Waited, (110*0.06+22*0.02)*w, 0.05)
		if len(in.Calls) != 2 || in.Calls[0].To != "payments" || in.Calls[1].To != "search" {
			t.Fatalf("%s calls %+v", in.Name, in.Calls)
		}
		c := in.Calls[0]
		own := map[string]float64{a.target(): 0.04, b.target(): 0.05}[in.Name]
		for _, q := range []struct {
			what      string
			got       control.Reading
			want, off float64
		}{
			{"requests", c.Requests, 100 * w, 0.05},
			{"attempts", c.Attempts, 110 * w, 0.05},
			{"retries", c.Retries, 10 * w, 0.05},
			{"failures", c.Failures, 20 * w, 0.05},
			{"refused by the dependency", c.CalleeRefused, 11 * w, 0.05},
			{"refused for the deadline", c.PastDeadline, 0, 0},
			{"refused by the breaker", c.BreakerOpen, 5 * w, 0.05},
			{"refused by the bulkhead", c.BulkheadFull, 2 * w, 0.05},
			{"mean", c.Mean, 0.06, 1e-6},
			{"in flight", c.InFlight, 6, 1e-9},
			{"limit", c.Limit, 24, 0},
			{"latency target", c.LatencyTarget, 3 * own, 1e-9},
			{"own latency", c.OwnLatency, own, 1e-9},
			{"revision", c.Revision, 5, 0},
			{"closed breakers", c.Closed, 2, 0},
			{"open breakers", c.Open, 1, 0},
			{"half-open breakers", c.HalfOpen, 0, 0},
		} {
			near(t, q.what, q.got, q.want, q.off)
		}
		if !c.OpenedByFailures.Above(1) || !c.OpenedAsSlow.AtMost(0) {
			t.Errorf("opened for failures %s, for being slow %s", reading(c.OpenedByFailures), reading(c.OpenedAsSlow))
		}
	}
}

func testCounts(t *testing.T, r *rig) {
	a := newExporter(t, "checkout", load{
		offered: 200, refused: 40, byRate: 10, failed: 4, mean: 0.08, slowShare: 0.05, limit: 96, inFlight: 12,
		binding: 0.5,
	})
	b := newExporter(t, "checkout", load{offered: 80, mean: 0.02, limit: 64, inFlight: 2})
	other := newExporter(t, "checkout/export", load{offered: 50, refused: 20, byShare: 15, mean: 0.01, limit: 30})
	r.add(t, a, b, other)
	g := r.group(t, "checkout", "checkout/export")
	m := until(t, g, patience, "both instances judged", steady(g, 2))
	if m.Partial != "" {
		t.Errorf("partial: %s", m.Partial)
	}
	if m.Took <= 0 || m.Took > g.Deadline() {
		t.Errorf("took %s", m.Took)
	}
	w := timing.Window.Seconds()
	for _, in := range m.Instances {
		if age, ok := in.Age.Value(); !ok || age < 0 || age > timing.StaleAfter().Seconds() {
			t.Errorf("%s: age %s", in.Name, reading(in.Age))
		}
		near(t, "revision", in.Revision, 7, 0)
		near(t, "service time", in.ServiceTime, 0, 0)
		switch in.Name {
		case a.target():
			near(t, "offered", in.Offered, 200*w, 0.05)
			near(t, "admitted", in.Admitted, 160*w, 0.05)
			near(t, "refused", in.Refused, 40*w, 0.05)
			near(t, "refused by rate", in.RefusedByRate, 10*w, 0.05)
			near(t, "critical offered", in.Classes[control.Critical].Offered, 50*w, 0.05)
			near(t, "critical refused", in.Classes[control.Critical].Refused, 0, 0)
			near(t, "default offered", in.Classes[control.Default].Offered, 150*w, 0.05)
			near(t, "default refused, but for the rate", in.Classes[control.Default].Refused, 30*w, 0.05)
			near(t, "shed threshold", in.ShedThreshold, 0.5, 0)
			if _, ok := in.Classes[control.Background].Offered.Value(); ok {
				t.Error("a class that nobody reports is known")
			}
			near(t, "completed", in.Completed, 160*w, 0.05)
			near(t, "failed", in.Failed, 4*w, 0.05)
			near(t, "slow", in.Slow, 8*w, 0.05)
			near(t, "mean", in.Mean, 0.08, 1e-6) // extrapolation cancels
			near(t, "binding", in.Binding, 0.5, 0.05)
			near(t, "in flight", in.InFlight, 12, 1e-9)
			near(t, "limit", in.Limit, 96, 0)
			slow, _ := in.Slow.Value()
			completed, _ := in.Completed.Value()
			near(t, "slow share", control.Read(slow/completed), 0.05, 1e-6)
		case b.target():
			near(t, "offered", in.Offered, 80*w, 0.05)
			near(t, "mean", in.Mean, 0.02, 1e-6)
			near(t, "slow", control.Read(in.Slow.Or(math.NaN())+1), 1, 1e-6)
			near(t, "limit", in.Limit, 64, 0)
		default:
			t.Errorf("unexpected instance %s", in.Name)
		}
	}
	// 8 of 240 requests per second are between 0.3 s and 1 s: the p99 is 2.4 from the top of those 8.
	near(t, "p99", m.Quantile, 0.3+0.7*(8-2.4)/8, 0.02)
	if m.Censored {
		t.Error("the p99 lies inside a finite bucket and is not censored")
	}
	route := g.Measure(t.Context(), time.Now())[1]
	if route.Service != "checkout/export" || !judged(1)(route) {
		t.Fatalf("the route: %s", show(route))
	}
	in := route.Instances[0]
	near(t, "share refused by its share of the roof", in.RefusedByShare.Over(in.Offered, ""), 0.3, 0.01) // extrapolation cancels
	near(t, "the others refused, by class", in.Classes[control.Default].Refused.Over(in.Offered, ""), 0.1, 0.01)
}

// A7: an instant query stamps every sample with the evaluation time (prometheus/prometheus#1557), and a series without
// staleness markers lives on for the look-back of five minutes (prometheus/prometheus#398).
func testStaleSample(t *testing.T, r *rig) {
	e := newExporter(t, "stamped", load{offered: 100, mean: 0.05, limit: 96})
	e.timestamps = true
	r.add(t, e)
	g := r.group(t, "stamped")
	until(t, g, patience, "judged while fresh", judged(1))

	e.Close()
	m := until(t, g, patience, "stale", func(m control.Measurement) bool { return m.Invalid == control.Stale })
	if !strings.Contains(m.Detail, "s > 3s") {
		t.Errorf("detail %q does not say how old the sample is and what is allowed", m.Detail)
	}
	if age, ok := m.Instances[0].Age.Value(); !ok || age <= 3 {
		t.Errorf("age %s, want above 3 s", reading(m.Instances[0].Age))
	}
	// The trap: in a plain query, Prometheus presents the same old sample as current.
	now := time.Now()
	at, value := instant(t, r, `guard_limit{service="stamped"}`, now)
	if value != "96" || math.Abs(at-float64(now.UnixMilli())/1000) > 0.01 {
		t.Errorf("an instant query gives %s at %f, expected the old value stamped with the evaluation time", value, at)
	}
	at, value = instant(t, r, `timestamp(guard_limit{service="stamped"})`, now)
	var stamp float64
	if _, err := fmt.Sscan(value, &stamp); err != nil || at-stamp < 3 {
		t.Errorf("timestamp() gives %s at %f, expected at least 3 s between them", value, at)
	}
}

func instant(t *testing.T, r *rig, query string, now time.Time) (at float64, value string) {
	t.Helper()
	form := url.Values{"query": {query}, "time": {fmt.Sprintf("%.3f", float64(now.UnixMilli())/1000)}}
	resp, err := http.PostForm(r.prom.URL()+"/api/v1/query", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || len(body.Data.Result) != 1 {
		t.Fatalf("%s: %v, %d results", query, err, len(body.Data.Result))
	}
	v := body.Data.Result[0].Value
	return v[0].(float64), v[1].(string)
}

func testTargets(t *testing.T, r *rig) {
	a := newExporter(t, "fleet", load{offered: 100, mean: 0.05, limit: 96})
	b := newExporter(t, "fleet", load{offered: 100, mean: 0.05, limit: 96})
	r.add(t, a, b)
	g := r.group(t, "fleet")
	until(t, g, patience, "both judged", judged(2))

	// A new instance is listed, but not judged before it has filled a window.
	c := newExporter(t, "fleet", load{offered: 100, mean: 0.05, limit: 96})
	r.add(t, c)
	until(t, g, patience, "the new one starting, the others judged", func(m control.Measurement) bool {
		why, n := reasonOf(m, c.target())
		return m.Invalid == "" && why == control.Starting && n == 2
	})
	until(t, g, patience, "all three judged", judged(3))

	// One that cannot be scraped stays a member, stale; the others are judged.
	c.Close()
	until(t, g, patience, "one unreachable, the others judged", func(m control.Measurement) bool {
		why, n := reasonOf(m, c.target())
		return m.Invalid == "" && why == control.Stale && n == 2
	})
	// One that has left the targets is gone.
	r.remove(t, c)
	until(t, g, patience, "the removed one gone, the others judged", judged(2))

	a.Close()
	b.Close()
	m := until(t, g, patience, "nobody reachable", func(m control.Measurement) bool { return m.Invalid == control.Stale })
	if !strings.Contains(m.Detail, "up = 0") || !strings.Contains(m.Detail, "2 instances") {
		t.Errorf("detail %q", m.Detail)
	}
	r.remove(t, a)
	r.remove(t, b)
	until(t, g, patience, "nothing left", func(m control.Measurement) bool { return m.Invalid == control.NoData })
}

// reasonOf returns why the arrivals of the instance are missing, and how many other instances are judged.
func reasonOf(m control.Measurement, instance string) (why control.Reason, others int) {
	for _, in := range m.Instances {
		if in.Name == instance {
			why, _ = in.Offered.Why()
		} else if _, ok := in.Offered.Value(); ok {
			others++
		}
	}
	return why, others
}

func testCounterReset(t *testing.T, r *rig) {
	e := newExporter(t, "restarted", load{offered: 100, mean: 0.05, limit: 96})
	e.since = e.since.Add(-time.Hour) // 360 000 requests so far
	r.add(t, e)
	g := r.group(t, "restarted")
	until(t, g, patience, "judged", judged(1))
	e.restart()
	ends := time.Now().Add(timing.Window + 2*timing.Scrape)
	until(t, g, patience, "a window over", func(m control.Measurement) bool {
		if v, ok := m.Instances[0].Offered.Value(); !ok || v < 200 || v > 420 {
			t.Errorf("offered %s across a counter reset, want 300 to 400", reading(m.Instances[0].Offered))
		}
		near(t, "mean", m.Instances[0].Mean, 0.05, 1e-6)
		return time.Now().After(ends)
	})
}

// A4 for a preset: sum by (service, instance) would silently double every count.
func testTwice(t *testing.T, r *rig, e *exporter) {
	r.add(t, e)
	g := r.group(t, "twice")
	m := until(t, g, patience, "refused", func(m control.Measurement) bool { return m.Invalid == control.ManySeries })
	if !strings.Contains(m.Detail, "job (again, services)") {
		t.Errorf("detail %q does not name the label that differs", m.Detail)
	}
}

// A1: no traffic is a known zero, neither a fault nor missing data.
func testIdle(t *testing.T, r *rig) {
	e := newExporter(t, "idle", load{limit: 96})
	r.add(t, e)
	g := r.group(t, "idle")
	m := until(t, g, patience, "judged", judged(1))
	in := m.Instances[0]
	near(t, "offered", in.Offered, 0, 0)
	for what, r := range map[string]control.Reading{"mean": in.Mean, "quantile": m.Quantile} {
		if why, _ := r.Why(); why != control.Idle {
			t.Errorf("%s = %s, want idle", what, reading(r))
		}
	}
}

func testNoEdge(t *testing.T, r *rig) {
	e := newExporter(t, "edgeless", load{
		offered: 100, mean: 0.05, limit: 96, slowShare: 0.2, edges: []string{"0.1", "1", "+Inf"},
	})
	r.add(t, e)
	g := r.group(t, "edgeless")
	m := until(t, g, patience, "judged", judged(1))
	why, detail := m.Instances[0].Slow.Why()
	if why != control.NoData || !strings.Contains(detail, "le = 0.1, 1.0, +Inf") {
		t.Errorf("slow = %s, want no_data that names the edges", reading(m.Instances[0].Slow))
	}
}

// testGuard is the contract between the metrics of the real guard and the preset that reads them.
func testGuard(t *testing.T, r *rig) {
	g, err := guard.New(guard.Config{Service: "guarded", SLO: 300 * time.Millisecond, Min: 1, Max: 100, Fallback: 20})
	if err != nil {
		t.Fatal(err)
	}
	registry := prom.NewRegistry()
	registry.MustRegister(guardprom.New(g))
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	t.Cleanup(server.Close)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-t.Context().Done():
				return
			case now := <-tick.C:
				if p, err := g.AcquireAt(now, guard.Default); err == nil {
					p.ReleaseAt(now.Add(25*time.Millisecond), guard.Success)
				}
			}
		}
	}()
	r.add(t, &exporter{Server: server, service: "guarded"})
	group := r.group(t, "guarded")
	m := until(t, group, patience, "judged", judged(1))
	in := m.Instances[0]
	for what, v := range map[string]control.Reading{
		"age": in.Age, "offered": in.Offered, "admitted": in.Admitted, "refused": in.Refused, "completed": in.Completed,
		"failed": in.Failed, "slow": in.Slow, "mean": in.Mean, "in flight": in.InFlight, "limit": in.Limit,
		"refused by rate": in.RefusedByRate, "critical offered": in.Classes[control.Critical].Offered,
		"background refused": in.Classes[control.Background].Refused, "binding": in.Binding,
		"service time": in.ServiceTime, "shed threshold": in.ShedThreshold, "revision": in.Revision, "quantile": m.Quantile,
	} {
		if _, ok := v.Value(); !ok {
			t.Errorf("%s = %s", what, reading(v))
		}
	}
	near(t, "mean", in.Mean, 0.025, 0.01)
	sensor, _ := r.of(t, signals.Service{Name: "guarded"})
	p, err := sensor.Probe(t.Context(), "guarded")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Signals {
		if n, ok := f.Series.Value(); !ok || n == 0 {
			t.Errorf("%s: %s series of %s", f.Signal, reading(f.Series), f.Selector)
		}
	}
	near(t, "slow", control.Read(in.Slow.Or(math.NaN())+1), 1, 1e-6)
	if m.Partial != "" {
		t.Errorf("partial: %s", m.Partial)
	}
}
