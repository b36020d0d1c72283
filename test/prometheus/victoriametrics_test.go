package prometheus

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

// C14: the sensor behind VictoriaMetrics, with the flag that it needs. Its increase() does not extrapolate, and what it
// has scraped can be queried a second or two later: counts read lower, by up to that part of the window. Ratios are exact.
func TestVictoriaMetrics(t *testing.T) {
	pace := control.Timing{Scrape: 2 * time.Second, Window: 10 * time.Second, Period: 2 * time.Second}
	prom := servers.VictoriaMetrics(t, servers.ScrapeInterval(pace.Scrape), servers.Flags("-search.latencyOffset=0s"))
	r := &rig{prom: prom}
	slo := control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01}
	guard := newExporter(t, "checkout", load{
		offered: 200, refused: 40, byRate: 10, failed: 1, mean: 0.08, slowShare: 0.05, limit: 96, inFlight: 12, binding: 0.5,
	})
	leaves := newExporter(t, "checkout", load{offered: 80, mean: 0.02, limit: 64, inFlight: 2})
	shop := newWeb(t, overloaded()...)
	r.add(t, guard, leaves)
	r.job(t, "shop", shop)
	services := []signals.Service{
		{Name: "checkout", SLO: slo, Timing: pace},
		{
			Name: "web", SLO: slo, Timing: pace, Preset: signals.HTTPHistogram, Labels: map[string]string{"job": "shop"},
			Histogram: signals.Histogram{
				Metric: "http_request_duration_seconds", Selector: `handler!="/healthz"`, Admitted: `code!~"429|503"`, Failed: `code=~"5.."`,
			},
		},
	}
	s, err := signals.New(signals.Options{URL: prom.URL(), Timeout: 5 * time.Second}, services)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	groups := s.Groups()
	w := pace.Window.Seconds()
	share := func(a, b control.Reading) control.Reading { return a.Over(b, "none") }

	m := until(t, groups[0], patience, "both guards judged", judged(2))
	for _, in := range m.Instances {
		if in.Name != guard.target() {
			continue
		}
		near(t, "offered", in.Offered, 200*w, 0.6)
		near(t, "refused share", share(in.Refused, in.Offered), 0.2, 1e-6)
		near(t, "failed share", share(in.Failed, in.Completed), 1.0/160, 1e-6)
		near(t, "slow share", share(in.Slow, in.Completed), 0.05, 1e-6)
		near(t, "mean", in.Mean, 0.08, 1e-6)
		near(t, "in flight", in.InFlight, 12, 1e-9)
		near(t, "limit", in.Limit, 96, 0)
		near(t, "resets", control.Read(in.Resets.Float()+1), 1, 0)
	}
	near(t, "p99", m.Quantile, 0.75, 0.3)

	m = until(t, groups[1], patience, "the histogram judged", judged(1))
	in := m.Instances[0]
	near(t, "refused share", share(in.Refused, in.Offered), 0.8, 1e-6)
	near(t, "failed share", share(in.Failed, in.Completed), 0.05, 1e-6)
	near(t, "slow share", share(in.Slow, in.Completed), 1, 1e-6)
	near(t, "mean", in.Mean, 0.9, 1e-6)

	leaves.Close()
	until(t, groups[0], patience, "the unreachable one is not judged, and not called gone", func(m control.Measurement) bool {
		for _, in := range m.Instances {
			if in.Name == leaves.target() {
				return !in.Offered.Known() && !in.Gone
			}
		}
		return false
	})
	r.remove(t, leaves)
	until(t, groups[0], patience, "the removed one does not count", func(m control.Measurement) bool {
		n := 0
		for _, in := range m.Instances {
			if !in.Gone && (in.Name == leaves.target() || in.Name == guard.target()) {
				n++
			}
		}
		return n == 1
	})
}

// C14, VictoriaMetrics/VictoriaMetrics#272: by default everything is 30 s old, and the text says why that may be.
func TestVictoriaMetricsByDefault(t *testing.T) {
	e := newExporter(t, "checkout", load{offered: 100, mean: 0.05, limit: 96})
	r := &rig{prom: servers.VictoriaMetrics(t, servers.ScrapeInterval(timing.Scrape))}
	r.add(t, e)
	g := r.group(t, "checkout")
	m := until(t, g, patience, "stale", func(m control.Measurement) bool { return m.Invalid == control.Stale })
	if !strings.Contains(m.Detail, "-search.latencyOffset") {
		t.Errorf("detail %q does not name the latency offset", m.Detail)
	}
}
