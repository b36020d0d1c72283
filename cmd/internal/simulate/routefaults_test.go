package simulate_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// slackX4 are the loops of the scenario slack-x4: that of the service, which is its tight route, and that of the slack one.
var slackX4 = []string{"simulated", "simulated/slack"}

// The faults of governor and of its telemetry begin with the overload, before the loops have answered it.
const (
	blindFrom = 300 * time.Second
	blindTo   = 450 * time.Second
)

// lost are the ways in which the series of one route can be missing or contradict each other.
var lost = map[string]func(m *control.Measurement){
	"no answer": func(m *control.Measurement) {
		m.Invalid, m.Detail, m.Instances = control.Timeout, "no answer within 4.25s", nil
	},
	"no series":   func(m *control.Measurement) { m.Invalid, m.Detail, m.Instances = control.NoData, "nothing found", nil },
	"partial":     func(m *control.Measurement) { m.Partial = "one of two stores did not answer" },
	"stale":       func(m *control.Measurement) { m.Instances[0].Age = control.Read(42) },
	"no mean":     func(m *control.Measurement) { m.Instances[0].Mean = control.Missing(control.NaN, "the sum reads NaN") },
	"no refusals": func(m *control.Measurement) { m.Instances[0].Refused = control.Missing(control.ManySeries, "2 series") },
	"more finished": func(m *control.Measurement) {
		m.Instances[0].Completed = m.Instances[0].Completed.Times(control.Read(70))
	},
	"more refused": func(m *control.Measurement) {
		m.Instances[0].RefusedByShare = m.Instances[0].Offered.Times(control.Read(3))
	},
}

// A route whose telemetry is missing, or contradicts itself, keeps the limit that it has: nothing raises it, however much is
// refused. The other routes are steered on, and get what they would get.
func TestRouteWithoutTelemetryHoldsItsLimit(t *testing.T) {
	s, err := simulate.Get("slack-x4")
	if err != nil {
		t.Fatal(err)
	}
	s.Phases = []models.Phase{
		{Name: simulate.Calm, To: blindFrom},
		{Name: simulate.Fault, From: blindFrom, To: blindTo},
		{Name: simulate.After, From: blindTo, To: blindTo + time.Minute},
	}
	r := simulate.Run{Scenario: s, Contender: simulate.CascadeRoutes, Timing: simulate.Usual, Seed: 1}
	if _, raised, _ := blind(r.Do(), "simulated/slack"); raised == 0 {
		t.Fatal("with its telemetry, the limit of the slack route is never raised: this test shows nothing")
	}
	for _, part := range slackX4 {
		for name, spoil := range lost {
			t.Run(fmt.Sprintf("%s, %s", part, name), func(t *testing.T) {
				t.Parallel()
				r := r
				r.Spoil = func(now time.Duration, m *control.Measurement) {
					if m.Service == part && now >= blindFrom {
						spoil(m)
					}
				}
				result := r.Do()
				ticks, raised, held := blind(result, part)
				if ticks < 20 || raised > 0 || held < ticks && name != "partial" { // which may cut
					t.Errorf("%s: in %d ticks the limit is raised %d times and held %d times", part, ticks, raised, held)
				}
				for _, other := range slackX4 {
					if _, _, held := blind(result, other); other != part && held > 0 {
						t.Errorf("%s holds %d times", other, held)
					}
				}
				for _, x := range result.Score.Phases[1].Routes {
					if good := goodShare(x); good < barOf(s.Name, x.Name) {
						t.Errorf("%.1f%% of %s, want %g", good, x.Name, barOf(s.Name, x.Name))
					} else {
						t.Logf("%.1f%% of %s", good, x.Name)
					}
				}
			})
		}
	}
}

// blind counts the ticks of a loop from blindFrom on, and those in which it raised its limit, or held it for want of data.
func blind(r simulate.Result, loop string) (ticks, raised, held int) {
	before := math.Inf(1)
	for _, p := range during(r, blindFrom-simulate.Usual.Period, blindTo) {
		for _, d := range p.Decisions {
			if d.Service != loop || d.Knob != control.KnobConcurrency {
				continue
			}
			if p.At >= blindFrom {
				ticks++
				if float64(d.Value) > before {
					raised++
				}
				if d.State == control.Hold {
					held++
				}
			}
			before = float64(d.Value)
		}
	}
	return ticks, raised, held
}

// barOf is what TestRoutes wants of a route with compartments.
func barOf(scenario, route string) float64 {
	for _, b := range routeBars {
		if b.scenario == scenario && b.contender == simulate.Routes && b.route == route {
			return b.least
		}
	}
	return math.NaN()
}

// Governor is killed at the height of the overload. Its Settings stay in force until their leases end, and then the guards go
// on by themselves: every route gets what it gets without governor.
func TestGovernorStopsInTheFaultOfRoutes(t *testing.T) {
	for _, scenario := range []string{"slack-x4", "routes-half"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			s, err := simulate.Get(scenario)
			if err != nil {
				t.Fatal(err)
			}
			const stops = 400 * time.Second
			fault := s.Phases[s.Phase(simulate.Fault)]
			s.Phases = []models.Phase{{Name: simulate.Calm, To: stops}, {Name: simulate.Fault, From: stops, To: fault.To}}
			gap := map[string]float64{} // by route, mean over the seeds
			for _, seed := range seeds {
				r := simulate.Run{Scenario: s, Contender: simulate.CascadeRoutes, Timing: simulate.Usual, Seed: seed, Stops: stops}
				stopped := r.Do()
				if before, after := stopped.WritesIn(0, stops), stopped.WritesIn(stops, fault.To); before == 0 || after > 0 {
					t.Fatalf("%d writes before its end, %d after it", before, after)
				}
				r.Contender, r.Stops = simulate.Routes, 0
				alone := r.Do().Score.Phases[1].Routes
				for i, x := range stopped.Score.Phases[1].Routes {
					got, want := goodShare(x), goodShare(alone[i])
					gap[x.Name] += (want - got) / float64(len(seeds))
					t.Logf("seed %d: %.1f%% of %s, %.1f%% without governor", seed, got, x.Name, want)
					if got < barOf(scenario, x.Name) {
						t.Errorf("seed %d: %.1f%% of %s, want %g", seed, got, x.Name, barOf(scenario, x.Name))
					}
				}
			}
			for route, points := range gap {
				most := routeShortfalls[[2]string{scenario, route}] + routeNoise(route, len(seeds))
				if points > most {
					t.Errorf("%s gets %.1f points less than without governor, more than %.1f", route, points, most)
				}
			}
		})
	}
}

// goodShare is in percent of what a route offers.
func goodShare(r models.RouteScore) float64 { return 100 * float64(r.Good) / float64(r.Offered) }
