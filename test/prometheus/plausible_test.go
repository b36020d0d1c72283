package prometheus

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// C10, open-telemetry/opentelemetry-collector-contrib#32484: the scrape drops the label instance, and two processes
// write the same series.
func testNobody(t *testing.T, r *rig) {
	g := r.group(t, "nobody")
	m := until(t, g, patience, "counters that fall all the time", func(m control.Measurement) bool {
		return len(m.Instances) == 1 && m.Instances[0].Resets.AtLeast(3)
	})
	if !strings.Contains(m.Capped, "capped at shadow") {
		t.Errorf("capped %q", m.Capped)
	}
	v, err := control.Judge(control.Spec{
		Service: "nobody", Mode: control.Enforce, Timing: timing, Concurrency: &control.ConcurrencySpec{Min: 20, Max: 400},
		SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01},
	}, m)
	if err != nil || v.Hold != control.Implausible || !strings.Contains(v.Detail, "counters fall") {
		t.Errorf("%+v, %v", v, err)
	}
}

// C12: prometheus.LinearBuckets(0.1, 0.1, 10).
func testEdgeThatIsASum(t *testing.T, r *rig) {
	e := newExporter(t, "linear", load{
		offered: 100, mean: 0.05, slowShare: 0.05, limit: 96, edges: []string{"0.1", "0.2", "0.30000000000000004", "0.4", "+Inf"},
	})
	r.add(t, e)
	g := r.group(t, "linear")
	m := until(t, g, patience, "judged", steady(g, 1))
	near(t, "slow", m.Instances[0].Slow, 0.05*100*timing.Window.Seconds(), 0.05)
}

// C11, slo-libsonnet#46: a service is deployed anew, under the same name, with a bucket edge at the SLO. No request is
// slow at any time, and none must seem so.
func testEdgeThatIsNew(t *testing.T, r *rig) {
	e := newExporter(t, "redeployed", load{offered: 100, mean: 0.05, limit: 96, edges: []string{"0.1", "1", "+Inf"}})
	r.add(t, e)
	g := r.group(t, "redeployed")
	until(t, g, patience, "judged without the edge", func(m control.Measurement) bool {
		return judged(1)(m) && !m.Instances[0].Slow.Known()
	})
	e.mu.Lock()
	e.load.edges, e.since = []string{"0.1", "0.3", "1", "+Inf"}, time.Now()
	e.mu.Unlock()
	until(t, g, patience, "slow requests known", func(m control.Measurement) bool {
		if len(m.Instances) == 1 && m.Instances[0].Slow.Above(0.5) {
			t.Fatalf("slow requests that nobody had:\n%s", show(m))
		}
		return judged(1)(m) && m.Instances[0].Slow.Known()
	})
}

// C17, open-telemetry/opentelemetry-collector-contrib#27893: an instance leaves the targets, and no staleness marker says
// so. It is stale for five minutes, and counts no longer.
func testGone(t *testing.T, r *rig) {
	leaves := newExporter(t, "replaced", load{offered: 100, mean: 0.05, limit: 96})
	stays := newExporter(t, "replaced", load{offered: 100, mean: 0.05, limit: 96})
	leaves.timestamps = true
	r.add(t, leaves, stays)
	g := r.group(t, "replaced")
	until(t, g, patience, "both judged", judged(2))
	r.remove(t, leaves)
	until(t, g, patience, "one gone", func(m control.Measurement) bool {
		gone := 0
		for _, in := range m.Instances {
			if in.Gone && in.Name == leaves.target() {
				gone++
			}
		}
		return gone == 1 && len(m.Instances) == 2
	})
}
