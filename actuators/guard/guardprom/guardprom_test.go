package guardprom_test

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
)

func newGuard(t testing.TB, service string, limit int) *guard.Guard {
	t.Helper()
	g, err := guard.New(guard.Config{Service: service, SLO: 300 * time.Millisecond, Min: limit, Max: limit})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The names, labels and types are the contract with governor's preset: all of them are there before the first request.
func TestEverythingIsThereFromTheStart(t *testing.T) {
	g := newGuard(t, "checkout", 10)
	c := guardprom.New(g)
	const want = `
# HELP guard_admitted_total Requests admitted.
# TYPE guard_admitted_total counter
guard_admitted_total{criticality="background",service="checkout"} 0
guard_admitted_total{criticality="critical",service="checkout"} 0
guard_admitted_total{criticality="default",service="checkout"} 0
guard_admitted_total{criticality="sheddable",service="checkout"} 0
# HELP guard_binding_seconds_total Time with at least 85% of the limit in flight.
# TYPE guard_binding_seconds_total counter
guard_binding_seconds_total{service="checkout"} 0
# HELP guard_blind 1 while the reflex has too little data to judge and the limit is governor's or the fallback; absent without a reflex.
# TYPE guard_blind gauge
guard_blind{service="checkout"} 1
# HELP guard_double_release_total Permits released more than once: a mistake in the calling code.
# TYPE guard_double_release_total counter
guard_double_release_total{service="checkout"} 0
# HELP guard_demoted_total Requests that counted as background because their API or tenant demands more than its share.
# TYPE guard_demoted_total counter
guard_demoted_total{service="checkout"} 0
# HELP guard_endless Requests in flight that do not end and hold no slot, found by the guard or declared.
# TYPE guard_endless gauge
guard_endless{kind="declared",service="checkout"} 0
guard_endless{kind="found",service="checkout"} 0
# HELP guard_endless_total Requests that did not end and gave back their slot, found by the guard or declared.
# TYPE guard_endless_total counter
guard_endless_total{kind="declared",service="checkout"} 0
guard_endless_total{kind="found",service="checkout"} 0
# HELP guard_failed_total Admitted requests that failed; canceled by the caller is not failed.
# TYPE guard_failed_total counter
guard_failed_total{service="checkout"} 0
# HELP guard_inflight Requests in flight.
# TYPE guard_inflight gauge
guard_inflight{service="checkout"} 0
# HELP guard_limit Concurrency limit enforced now, in requests in flight.
# TYPE guard_limit gauge
guard_limit{service="checkout"} 10
# HELP guard_offered_total Requests that arrived, admitted or refused.
# TYPE guard_offered_total counter
guard_offered_total{criticality="background",service="checkout"} 0
guard_offered_total{criticality="critical",service="checkout"} 0
guard_offered_total{criticality="default",service="checkout"} 0
guard_offered_total{criticality="sheddable",service="checkout"} 0
# HELP guard_refused_total Requests refused, by the policy that refused them.
# TYPE guard_refused_total counter
guard_refused_total{criticality="background",reason="callee",service="checkout"} 0
guard_refused_total{criticality="background",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="background",reason="endless",service="checkout"} 0
guard_refused_total{criticality="background",reason="rate",service="checkout"} 0
guard_refused_total{criticality="background",reason="roof",service="checkout"} 0
guard_refused_total{criticality="background",reason="share",service="checkout"} 0
guard_refused_total{criticality="background",reason="shed",service="checkout"} 0
guard_refused_total{criticality="critical",reason="callee",service="checkout"} 0
guard_refused_total{criticality="critical",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="critical",reason="endless",service="checkout"} 0
guard_refused_total{criticality="critical",reason="rate",service="checkout"} 0
guard_refused_total{criticality="critical",reason="roof",service="checkout"} 0
guard_refused_total{criticality="critical",reason="share",service="checkout"} 0
guard_refused_total{criticality="critical",reason="shed",service="checkout"} 0
guard_refused_total{criticality="default",reason="callee",service="checkout"} 0
guard_refused_total{criticality="default",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="default",reason="endless",service="checkout"} 0
guard_refused_total{criticality="default",reason="rate",service="checkout"} 0
guard_refused_total{criticality="default",reason="roof",service="checkout"} 0
guard_refused_total{criticality="default",reason="share",service="checkout"} 0
guard_refused_total{criticality="default",reason="shed",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="callee",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="endless",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="rate",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="roof",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="share",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="shed",service="checkout"} 0
# HELP guard_service_time_seconds Service time found by the reflex's floor test, 0 while none stands; absent without a reflex.
# TYPE guard_service_time_seconds gauge
guard_service_time_seconds{service="checkout"} 0
# HELP guard_setting_refused_total Settings that were refused, the last good one staying in force.
# TYPE guard_setting_refused_total counter
guard_setting_refused_total{reason="invalid",service="checkout"} 0
guard_setting_refused_total{reason="not_json",service="checkout"} 0
guard_setting_refused_total{reason="old_epoch",service="checkout"} 0
guard_setting_refused_total{reason="old_revision",service="checkout"} 0
guard_setting_refused_total{reason="rewritten",service="checkout"} 0
guard_setting_refused_total{reason="schema",service="checkout"} 0
guard_setting_refused_total{reason="too_large",service="checkout"} 0
guard_setting_refused_total{reason="wrong_service",service="checkout"} 0
# HELP guard_setting_revision Revision of the Setting in force, 0 while there is none.
# TYPE guard_setting_revision gauge
guard_setting_revision{service="checkout"} 0
# HELP guard_shed_threshold Occupancy, in flight by limit, above which the least important requests are refused; 1: nothing is shed.
# TYPE guard_shed_threshold gauge
guard_shed_threshold{service="checkout"} 1
`
	names := []string{
		"guard_admitted_total", "guard_binding_seconds_total", "guard_double_release_total", "guard_failed_total",
		"guard_inflight", "guard_limit", "guard_offered_total", "guard_refused_total", "guard_service_time_seconds",
		"guard_setting_refused_total", "guard_setting_revision", "guard_shed_threshold", "guard_rate_limit",
		"guard_blind", "guard_demoted_total", "guard_endless", "guard_endless_total",
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
}

// The rate limit is there while there is one, as this instance's part, and the refusals of all policies are counted.
func TestRateAndShed(t *testing.T) {
	g := newGuard(t, "checkout", 2)
	c := guardprom.New(g)
	if n := testutil.CollectAndCount(c, "guard_rate_limit"); n != 0 {
		t.Errorf("%d guard_rate_limit without a limit", n)
	}
	if err := g.Apply([]byte(`{
		"schema": 1, "service": "checkout", "epoch": 1, "revision": 1, "lease_seconds": 180,
		"rate": {"per_second": 0.5, "burst": 1, "instances": 4, "fallback": 100, "min": 0, "max": 100},
		"shed": {"threshold": 0.4, "fallback": 0.6, "min": 0.4, "max": 1}
	}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Acquire(t.Context(), guard.Critical); err != nil { // takes the only token
		t.Fatal(err)
	}
	if _, err := g.Acquire(t.Context(), guard.Sheddable); err == nil {
		t.Fatal("admitted beyond the rate")
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP guard_rate_limit Admissions per second enforced now on this instance; absent without a limit.
# TYPE guard_rate_limit gauge
guard_rate_limit{service="checkout"} 0.125
# HELP guard_refused_total Requests refused, by the policy that refused them.
# TYPE guard_refused_total counter
guard_refused_total{criticality="background",reason="callee",service="checkout"} 0
guard_refused_total{criticality="background",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="background",reason="endless",service="checkout"} 0
guard_refused_total{criticality="background",reason="rate",service="checkout"} 0
guard_refused_total{criticality="background",reason="roof",service="checkout"} 0
guard_refused_total{criticality="background",reason="share",service="checkout"} 0
guard_refused_total{criticality="background",reason="shed",service="checkout"} 0
guard_refused_total{criticality="critical",reason="callee",service="checkout"} 0
guard_refused_total{criticality="critical",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="critical",reason="endless",service="checkout"} 0
guard_refused_total{criticality="critical",reason="rate",service="checkout"} 0
guard_refused_total{criticality="critical",reason="roof",service="checkout"} 0
guard_refused_total{criticality="critical",reason="share",service="checkout"} 0
guard_refused_total{criticality="critical",reason="shed",service="checkout"} 0
guard_refused_total{criticality="default",reason="callee",service="checkout"} 0
guard_refused_total{criticality="default",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="default",reason="endless",service="checkout"} 0
guard_refused_total{criticality="default",reason="rate",service="checkout"} 0
guard_refused_total{criticality="default",reason="roof",service="checkout"} 0
guard_refused_total{criticality="default",reason="share",service="checkout"} 0
guard_refused_total{criticality="default",reason="shed",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="callee",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="concurrency",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="endless",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="rate",service="checkout"} 1
guard_refused_total{criticality="sheddable",reason="roof",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="share",service="checkout"} 0
guard_refused_total{criticality="sheddable",reason="shed",service="checkout"} 0
# HELP guard_shed_threshold Occupancy, in flight by limit, above which the least important requests are refused; 1: nothing is shed.
# TYPE guard_shed_threshold gauge
guard_shed_threshold{service="checkout"} 0.4
`), "guard_rate_limit", "guard_refused_total", "guard_shed_threshold"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

func histogramOf(t testing.TB, c prometheus.Collector) *dto.Histogram {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "guard_latency_seconds" {
			return f.GetMetric()[0].GetHistogram()
		}
	}
	t.Fatal("no guard_latency_seconds")
	return nil
}

// The latency is a classic and a native histogram at once, both complete, with an edge exactly at the SLO.
func TestLatencyIsClassicAndNative(t *testing.T) {
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond,
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, ms := range []int{0, 40, 300, 301, 90_000} {
		p, err := g.AcquireAt(now, guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		p.ReleaseAt(now.Add(time.Duration(ms)*time.Millisecond), guard.Failure)
	}
	h := histogramOf(t, guardprom.New(g))
	if h.GetSampleCount() != 5 || math.Abs(h.GetSampleSum()-90.641) > 1e-6 {
		t.Errorf("count %d, sum %v; expected 5, 90.641", h.GetSampleCount(), h.GetSampleSum())
	}
	edges := map[float64]uint64{}
	for _, b := range h.GetBucket() {
		edges[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	if edges[0.3] != 3 || edges[3] != 4 || edges[0.015] != 1 {
		t.Errorf("classic buckets %v", edges)
	}
	if h.GetSchema() != 3 || h.GetZeroCount() != 1 || len(h.GetPositiveSpan()) == 0 {
		t.Errorf("native: schema %d, zeros %d, spans %v", h.GetSchema(), h.GetZeroCount(), h.GetPositiveSpan())
	}
	native, running := int64(h.GetZeroCount()), int64(0)
	for _, delta := range h.GetPositiveDelta() {
		running += delta
		native += running
	}
	if native != 5 {
		t.Errorf("native buckets hold %d, expected 5", native)
	}
}

// Scrapes during traffic are consistent in themselves: a pedantic registry accepts every one.
func TestScrapesUnderTraffic(t *testing.T) {
	g := newGuard(t, "checkout", 4)
	c := guardprom.New(g)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if p, err := g.Acquire(ctx, guard.Critical); err == nil {
					p.Release(guard.Failure)
				}
			}
		})
	}
	var last uint64
	for range 50 {
		h := histogramOf(t, c)
		if h.GetSampleCount() < last {
			t.Errorf("count fell from %d to %d", last, h.GetSampleCount())
		}
		last = h.GetSampleCount()
	}
	cancel()
	wg.Wait()
}

func TestSeveralGuardsShareARegistry(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for _, service := range []string{"checkout", "payments"} {
		reg.MustRegister(guardprom.New(newGuard(t, service, 10)))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "service" {
					services[l.GetValue()] = true
				}
			}
		}
	}
	if got := slices.Sorted(maps.Keys(services)); !slices.Equal(got, []string{"checkout", "payments"}) {
		t.Errorf("services %v", got)
	}
}

// Without exemplars, or with one that breaks the rules of OpenMetrics, the histogram is as it was.
func TestBadExemplarsCostNoScrape(t *testing.T) {
	g := newGuard(t, "checkout", 10)
	for _, exemplars := range [][]prometheus.Exemplar{nil, {{Value: 1, Labels: prometheus.Labels{"id": strings.Repeat("x", 200)}}}} {
		c := guardprom.New(g, guardprom.WithExemplars(func(string) []prometheus.Exemplar { return exemplars }))
		if n := testutil.CollectAndCount(c, "guard_latency_seconds"); n != 1 {
			t.Errorf("%d histograms with %v", n, exemplars)
		}
	}
}

// What a collector describes, it sends, except what is said to be absent for now; nothing else is described for a route, and
// for a guard without routes.
func TestWhatIsDescribedIsSent(t *testing.T) {
	absent := []string{"guard_endless_limit", "guard_rate_limit", "guard_share"} // there is no bound, and room for all
	for _, routes := range []map[string]guard.Route{nil, {"export": {SLO: 10 * time.Second}}} {
		g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Routes: routes})
		if err != nil {
			t.Fatal(err)
		}
		c := guardprom.New(g)
		descs, metrics := make(chan *prometheus.Desc, 1000), make(chan prometheus.Metric, 1000)
		c.Describe(descs)
		c.Collect(metrics)
		close(descs)
		close(metrics)
		sent := map[string]bool{}
		for m := range metrics {
			sent[m.Desc().String()] = true
		}
		described := map[string]bool{}
		for d := range descs {
			text := d.String()
			if described[text] {
				t.Errorf("described twice: %s", text)
			}
			described[text] = true
			may := slices.ContainsFunc(absent, func(name string) bool { return strings.Contains(text, `"`+name+`"`) })
			ofCalls := strings.Contains(text, `"guard_client_`) && strings.Contains(text, `service="checkout"`)
			if !sent[text] && !may && !ofCalls { // no call has been made
				t.Errorf("with %d routes, described and not sent: %s", len(routes), text)
			}
			if routes == nil && (strings.Contains(text, `"guard_roof_`) || strings.Contains(text, `"guard_share"`)) {
				t.Errorf("described without routes: %s", text)
			}
		}
		for text := range sent {
			if !described[text] {
				t.Errorf("with %d routes, sent and not described: %s", len(routes), text)
			}
		}
	}
}
