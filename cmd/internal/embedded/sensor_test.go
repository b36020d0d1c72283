package embedded

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded/prom"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

// exporter is an instance of checkout that never changes its load: its counters are a function of the time of the
// scrape, so two servers that scrape it on their own grids see the same truth.
func exporter(t *testing.T) (address string) {
	since := time.Now().Add(-time.Minute)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		age := time.Since(since).Seconds()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		line := func(name, labels string, v float64) {
			fmt.Fprintf(w, "%s{service=\"checkout\"%s} %g\n", name, labels, v)
		}
		line("guard_offered_total", `,criticality="default"`, 100*age)
		line("guard_admitted_total", `,criticality="default"`, 90*age)
		line("guard_refused_total", `,reason="concurrency",criticality="default"`, 10*age)
		line("guard_failed_total", "", 2*age)
		line("guard_binding_seconds_total", "", 0.3*age)
		line("guard_inflight", "", 5)
		line("guard_limit", "", 96)
		line("guard_service_time_seconds", "", 0)
		line("guard_setting_revision", "", 7)
		_, _ = io.WriteString(w, "# TYPE guard_latency_seconds histogram\n")
		line("guard_latency_seconds_bucket", `,le="0.1"`, 60*age)
		line("guard_latency_seconds_bucket", `,le="0.3"`, 80*age)
		line("guard_latency_seconds_bucket", `,le="1"`, 90*age)
		line("guard_latency_seconds_bucket", `,le="+Inf"`, 90*age)
		line("guard_latency_seconds_sum", "", 9*age)
		line("guard_latency_seconds_count", "", 90*age)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// Each on its own grid, over HTTP, with its own scrapes: the sensor measures the same through both.
func TestSensorMeasuresTheSameThroughBothPrometheus(t *testing.T) {
	targets := []string{exporter(t), exporter(t)}
	const scrape, window = 500 * time.Millisecond, 3 * time.Second
	real := servers.Prometheus(t, servers.ScrapeInterval(scrape), servers.Targets(servers.TargetGroup{Targets: targets}))
	ours := start(t, Options{ScrapeInterval: scrape, Targets: []prom.TargetGroup{{Targets: targets}}})

	measure := func(url string) control.Measurement {
		t.Helper()
		s, err := signals.New(signals.Options{URL: url, Timeout: 5 * time.Second}, []signals.Service{{
			Name: "checkout", Timing: control.Timing{Scrape: scrape, Window: window, Period: scrape},
			SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99},
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var m control.Measurement
		waittest.Succeeds(t, 30*time.Second, "all instances are judged at "+url, func() error {
			m = s.Groups()[0].Measure(t.Context(), time.Now())[0]
			judged := 0
			for _, in := range m.Instances {
				if _, ok := in.Offered.Value(); ok {
					judged++
				}
			}
			if m.Invalid != "" || judged != len(targets) {
				return fmt.Errorf("last measured %+v", m)
			}
			return nil
		})
		return m
	}
	want, got := measure(real.URL()), measure(ours.PrometheusURL())

	// increase() extrapolates linear counters exactly, except for the time between the stamp of a scrape and its answer:
	// some milliseconds of the 2.5 s between the first and the last sample in the window.
	const tolerance = 0.05
	same := func(what string, want, got control.Reading) {
		t.Helper()
		x, known := want.Value()
		y, ok := got.Value()
		if !known || !ok || math.Abs(x-y) > tolerance*math.Abs(x) {
			t.Errorf("%s: real %v, embedded %v", what, want, got)
		}
	}
	same("quantile", want.Quantile, got.Quantile)
	for i, in := range want.Instances {
		if in.Name != got.Instances[i].Name {
			t.Fatalf("instance %s at the real one, %s at the embedded one", in.Name, got.Instances[i].Name)
		}
		for what, read := range map[string]func(control.Instance) control.Reading{
			"offered":      func(in control.Instance) control.Reading { return in.Offered },
			"admitted":     func(in control.Instance) control.Reading { return in.Admitted },
			"refused":      func(in control.Instance) control.Reading { return in.Refused },
			"completed":    func(in control.Instance) control.Reading { return in.Completed },
			"failed":       func(in control.Instance) control.Reading { return in.Failed },
			"slow":         func(in control.Instance) control.Reading { return in.Slow },
			"mean":         func(in control.Instance) control.Reading { return in.Mean },
			"in flight":    func(in control.Instance) control.Reading { return in.InFlight },
			"limit":        func(in control.Instance) control.Reading { return in.Limit },
			"binding":      func(in control.Instance) control.Reading { return in.Binding },
			"service time": func(in control.Instance) control.Reading { return in.ServiceTime },
			"revision":     func(in control.Instance) control.Reading { return in.Revision },
		} {
			same(in.Name+" "+what, read(in), read(got.Instances[i]))
		}
	}
}
