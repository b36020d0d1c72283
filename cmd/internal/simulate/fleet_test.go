package simulate_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
)

// once runs a scenario with the first seed.
func once(t *testing.T, name string, c simulate.Contender) (simulate.Scenario, simulate.Result) {
	t.Helper()
	s, err := simulate.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual, Seed: 1})
}

// One of eight instances is five times slower: it is named, the limit that governor publishes for all stays where it is,
// and the seven that are healthy keep theirs.
func TestSickInstanceIsNamed(t *testing.T) {
	s, r := once(t, "sick-rr", simulate.Cascade)
	fault := s.Phases[s.Phase(simulate.Fault)]
	named := false
	for _, p := range during(r, fault.From+time.Minute, fault.To) {
		if slices.Contains(p.Decision.Inputs.Outliers, "simulated-8") {
			named = true
		}
		if others := len(p.Decision.Inputs.Outliers); others > 1 {
			t.Errorf("at %v: %v are called outliers", p.At, p.Decision.Inputs.Outliers)
		}
		if p.Limit < s.Start {
			t.Errorf("at %v the limit is %v: %s", p.At, p.Limit, p.Decision.Reason)
		}
	}
	if !named {
		t.Error("nobody named the sick instance")
	}
}

// An autoscaler's instances are seen as they come, and are not judged before their window is filled.
func TestInstancesAreSeenAsTheyCome(t *testing.T) {
	_, r := once(t, "autoscale", simulate.Cascade)
	for at, want := range map[time.Duration][2]int{
		300 * time.Second: {2, 2}, 435 * time.Second: {11, 12}, 600 * time.Second: {20, 20}, 895 * time.Second: {2, 2},
	} {
		for _, p := range during(r, at, at+1) {
			if n := p.Decision.Inputs.Instances; n < want[0] || n > want[1] {
				t.Errorf("at %v there are %d instances, want %v: %s", at, n, want, p.Decision.Reason)
			}
		}
	}
}

// A new instance starts with the Setting that is in force: eight restarts do not bring the initial limit back.
func TestNewInstanceReadsTheSetting(t *testing.T) {
	s, err := simulate.Parse("restarts.yml", []byte(`
title: half of the speed, then a restart of each
limit: {start: 64, min: 2, max: 128}
service: {servers: 4, instances: 4}
load: 280
phases: [{calm: 60s}, {fault: 400s}]
script:
- {at: 60s, slowdown: 2}
- {at: 300s, until: 340s, every: 10s, restart: 1s}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := simulate.Run{Scenario: s, Contender: simulate.Outer, Timing: simulate.Usual, Seed: 1}.Do()
	before := r.Limits[299]
	if before > 0.6*s.Start {
		t.Fatalf("the limit is still %v before the restarts", before)
	}
	for i, limit := range r.Limits[300:345] {
		if math.Log(limit/before) > 0.3 { // the law may cut meanwhile
			t.Fatalf("%d s after the first restart the mean of the limits is %v, before it was %v", i, limit, before)
		}
	}
}

// While Prometheus does not answer, nothing is decided; the reason says why.
func TestOutageHolds(t *testing.T) {
	s, r := once(t, "outage512", simulate.Outer)
	outage := s.Outages[0]
	for _, p := range during(r, outage.From, outage.To) {
		if p.Limit != s.Start || p.Decision.State != control.Hold || p.Decision.HoldReason != control.Timeout {
			t.Fatalf("at %v: %s", p.At, p.Decision.Reason)
		}
	}
	after := during(r, outage.To, outage.To+time.Second)[0]
	if after.Decision.State == control.Hold && after.Decision.HoldReason == control.Timeout {
		t.Errorf("at %v: %s", after.At, after.Decision.Reason)
	}
}

// Four quarters of the rig carry what the rig carries.
func TestFleetIsSumOfItsInstances(t *testing.T) {
	s, err := simulate.Parse("fleet.yml", []byte(`
title: four quarters of the rig, double the load
limit: {start: 32, min: 2, max: 256}
service: {servers: 8, instances: 4, balancer: least in flight}
phases: [{calm: 60s}, {fault: 180s}]
script:
- {at: 60s, times: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := simulate.Run{Scenario: s, Contender: simulate.Cascade, Timing: simulate.Usual, Seed: 1}.Do()
	p := r.Score.Phases[s.Phase(simulate.Fault)]
	if served := float64(p.Good) / 120; math.Abs(served-800) > 20 {
		t.Errorf("%.0f requests a second are served in time, capacity is 800", served)
	}
	last := r.Points[len(r.Points)-1].Decision
	if x := float64(last.Inputs.Throughput); math.Abs(x-200) > 15 || last.Inputs.Instances != 4 {
		t.Errorf("%d instances with a throughput of %.0f/s each: %s", last.Inputs.Instances, x, last.Reason)
	}
	if strings.Contains(last.Reason, "nan") {
		t.Error(last.Reason)
	}
}
