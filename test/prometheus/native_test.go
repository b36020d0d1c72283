package prometheus

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

// native is an instance with an exponential native histogram by code: 100/s of 50 ms, 5/s of 500 ms, 5/s refused.
func native(t *testing.T) *httptest.Server {
	h := prom.NewHistogramVec(prom.HistogramOpts{Name: "rpc_seconds", NativeHistogramBucketFactor: 1.1}, []string{"code"})
	inFlight := prom.NewGauge(prom.GaugeOpts{Name: "rpc_in_flight"})
	inFlight.Set(8)
	registry := prom.NewRegistry()
	registry.MustRegister(h, inFlight)
	began, done := time.Now(), 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for n := int(5 * time.Since(began).Seconds()); done < n; done++ {
			for range 20 {
				h.WithLabelValues("200").Observe(0.05)
			}
			h.WithLabelValues("200").Observe(0.5)
			h.WithLabelValues("429").Observe(0.0001)
		}
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// dotted is a classic histogram whose names are not those of Prometheus 2, as OpenTelemetry has them.
func dotted(t *testing.T) *httptest.Server {
	began := time.Now()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8")
		n := 100 * time.Since(began).Seconds()
		for _, le := range []string{"0.1", "0.3", "1", "+Inf"} {
			within := n
			if le == "0.1" || le == "0.3" {
				within *= 0.9
			}
			fmt.Fprintf(w, "{\"http.server.request.duration_bucket\",\"service.name\"=\"dotted\",\"k8s.pod.name\"=\"p1\",le=%q} %g\n", le, within)
		}
		fmt.Fprintf(w, "{\"http.server.request.duration_sum\",\"service.name\"=\"dotted\",\"k8s.pod.name\"=\"p1\"} %g\n", 0.1*n)
		fmt.Fprintf(w, "{\"http.server.request.duration_count\",\"service.name\"=\"dotted\",\"k8s.pod.name\"=\"p1\"} %g\n", n)
	}))
	t.Cleanup(s.Close)
	return s
}

// C16, perses#3804, alloy PR 6281: exponential native histograms, classic ones that the server converts into custom
// buckets, histograms that recording rules make, and names in UTF-8.
func TestHistogramsOfOtherKinds(t *testing.T) {
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	converted := newExporter(t, "converted", load{offered: 100, mean: 0.05, slowShare: 0.05, limit: 96, inFlight: 5})
	wide := newExporter(t, "wide", load{
		offered: 100, mean: 0.05, slowShare: 0.05, limit: 96, inFlight: 5, edges: []string{"0.25", "1", "+Inf"},
	})
	shop := newWeb(t, traffic{"200", "/", 90, 0.05}, traffic{"200", "/", 0, 0.5}, traffic{"500", "/", 10, 0.5})
	rules := filepath.Join(t.TempDir(), "rules.yml")
	var text strings.Builder
	text.WriteString("groups:\n- name: shop\n  interval: 1s\n  rules:\n")
	for _, part := range []string{"bucket", "sum", "count"} {
		fmt.Fprintf(&text, "  - record: shop:latency_%s\n    expr: sum by (job, instance, code, le) (http_request_duration_seconds_%[1]s{job=\"ruled\"})\n", part)
	}
	if err := os.WriteFile(rules, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var jobs strings.Builder
	job := func(name, options string, targets ...string) {
		fmt.Fprintf(&jobs, "- job_name: %s\n%s  static_configs:\n  - targets: ['%s']\n", name, options, strings.Join(targets, "', '"))
	}
	job("exponential", "  scrape_native_histograms: true\n", host(native(t)))
	job("custom", "  scrape_native_histograms: true\n  convert_classic_histograms_to_nhcb: true\n", converted.target(), wide.target())
	job("ruled", "", shop.target())
	job("dotted", "", host(dotted(t)))
	fmt.Fprintf(&jobs, "rule_files: [%q]\n", rules)
	server := servers.Prometheus(t, servers.ScrapeInterval(timing.Scrape), servers.Config(jobs.String()))

	slo := control.SLO{Latency: 300 * time.Millisecond, Objective: 0.9, Errors: 0.01}
	services := []signals.Service{
		{Name: "exponential", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "exponential"}, Histogram: signals.Histogram{
			Metric: "rpc_seconds", Admitted: `code!="429"`, Failed: `code=~"5.."`, InFlight: "rpc_in_flight",
		}},
		{Name: "converted"},
		{Name: "wide"},
		{Name: "ruled", Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "ruled"}, Histogram: signals.Histogram{
			Metric: "shop:latency", Failed: `code=~"5.."`,
		}},
		{
			Name: "dotted", Preset: signals.HTTPHistogram, Labels: map[string]string{"service.name": "dotted"},
			InstanceLabel: "k8s.pod.name", Histogram: signals.Histogram{Metric: "http.server.request.duration"},
		},
	}
	for i := range services {
		services[i].SLO, services[i].Timing = slo, timing
	}
	options := signals.Options{URL: server.URL(), Timeout: 5 * time.Second}
	var learned map[string]signals.Learned
	for end := time.Now().Add(patience); len(learned) < len(services) && time.Now().Before(end); time.Sleep(time.Second) {
		var err error
		if learned, err = signals.Learn(t.Context(), options, services); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range services {
		native := s.Name == "exponential" || s.Name == "converted" || s.Name == "wide"
		if got := learned[s.Name]; got.Native != native || got.Scrape != time.Second {
			t.Errorf("%s: learned %+v, want native %v, 1s", s.Name, got, native)
		}
		services[i].Native = native
	}
	sensor, err := signals.New(options, services)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sensor.Close)
	share := func(a, b control.Reading) control.Reading { return a.Over(b, "none") }
	w := timing.Window.Seconds()
	for _, g := range sensor.Groups() {
		index := map[string]int{}
		for i, name := range g.Services() {
			index[name] = i
		}
		for _, name := range g.Services() {
			t.Run(name, func(t *testing.T) {
				var m control.Measurement
				for end := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
					m = g.Measure(t.Context(), time.Now())[index[name]]
					every, ok := g.ObservedScrape().Value()
					if judged(1)(m) && ok && every < 1.05 {
						break
					}
					if time.Now().After(end) {
						t.Fatal(show(m))
					}
				}
				in := m.Instances[0]
				switch name {
				case "exponential":
					near(t, "completed", in.Completed, 105*w, 0.15)
					near(t, "refused", in.Refused, 5*w, 0.2)
					near(t, "mean", in.Mean, 7.5/105, 0.05)
					near(t, "slow share", share(in.Slow, in.Completed), 5.0/105, 0.05)
					near(t, "p90", m.Quantile, 0.05, 0.1)
					near(t, "failed", control.Read(in.Failed.Float()+1), 1, 0)
				case "converted":
					near(t, "completed", in.Completed, 100*w, 0.05)
					near(t, "mean", in.Mean, 0.05, 1e-6)
					near(t, "slow share", share(in.Slow, in.Completed), 0.05, 1e-6)
				case "wide":
					near(t, "completed", in.Completed, 100*w, 0.05)
					if _, detail := in.Slow.Why(); !strings.Contains(detail, "0.25 to 1, too wide") {
						t.Errorf("slow = %s", reading(in.Slow))
					}
				case "ruled":
					near(t, "completed", in.Completed, 100*w, 0.15)
					near(t, "mean", in.Mean, 0.095, 0.05)
					near(t, "slow share", share(in.Slow, in.Completed), 0.1, 0.05)
				case "dotted":
					near(t, "completed", in.Completed, 100*w, 0.05)
					near(t, "slow share", share(in.Slow, in.Completed), 0.1, 1e-6)
					if in.Name != "p1" || m.Capped != "" {
						t.Errorf("instance %q, capped %q", in.Name, m.Capped)
					}
				}
				if m.Censored {
					t.Error("censored")
				}
			})
		}
	}
}
