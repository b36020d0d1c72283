package prometheus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

// C29: three services of one Prometheus, scraped every 1, 5 and 15 s, and one whose two instances differ. Nobody says so.
func TestScrapeIntervalIsLearned(t *testing.T) {
	var jobs strings.Builder
	job := func(name, every string, targets ...string) {
		fmt.Fprintf(&jobs, "- job_name: %s\n  scrape_interval: %s\n  static_configs:\n  - targets: ['%s']\n",
			name, every, strings.Join(targets, "', '"))
	}
	slo := control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01}
	want := map[string]time.Duration{"one": time.Second, "five": 5 * time.Second, "fifteen": 15 * time.Second, "mixed": 5 * time.Second}
	var services []signals.Service
	for _, name := range []string{"one", "five", "fifteen"} {
		job(name, want[name].String(), newExporter(t, name, load{offered: 100, mean: 0.05, limit: 96, inFlight: 5}).target())
		services = append(services, signals.Service{Name: name, SLO: slo})
	}
	job("mixed", "1s", newWeb(t, traffic{"200", "/", 100, 0.05}).target())
	job("mixed2", "5s", newWeb(t, traffic{"200", "/", 100, 0.05}).target())
	services = append(services, signals.Service{
		Name: "mixed", SLO: slo, Preset: signals.HTTPHistogram,
		Histogram: signals.Histogram{Metric: "http_request_duration_seconds", InFlight: "http_requests_in_flight"},
	}, signals.Service{Name: "absent", SLO: slo}, signals.Service{
		Name: "own", SLO: slo, Preset: signals.Custom, Queries: map[signals.Signal]string{
			signals.Offered: `sum by (instance) (rate(guard_offered_total{service="one"}[$window]))`,
			signals.Mean:    `sum by (instance) (rate(guard_latency_seconds_sum{service="one"}[$window]))`,
		},
	})
	want["own"] = time.Second
	prom := servers.Prometheus(t, servers.Config(jobs.String()))
	options := signals.Options{URL: prom.URL(), Timeout: 5 * time.Second}

	var learned map[string]signals.Learned
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(2 * time.Second) {
		var err error
		if learned, err = signals.Learn(t.Context(), options, services); err != nil {
			t.Fatal(err)
		}
		if len(learned) == len(want) {
			break
		}
	}
	for name, every := range want {
		if got := learned[name].Scrape; got != every {
			t.Errorf("%s: learned %s, want %s", name, got, every)
		}
	}
	if _, ok := learned["absent"]; ok {
		t.Error("something was learned of a service that is not there")
	}

	// With what follows from it, the slowest can be measured.
	s := services[2]
	every := learned["fifteen"].Scrape
	s.Timing = control.Timing{Scrape: every, Window: 4 * every, Period: every}
	sensor, err := signals.New(options, []signals.Service{s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sensor.Close)
	m := sensor.Groups()[0].Measure(t.Context(), time.Now())[0]
	if m.Invalid != "" && m.Invalid != control.Starting || len(m.Instances) != 1 {
		t.Errorf("%s", show(m))
	}
}
