package simulate_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/models"
)

type routeBar struct {
	scenario  string
	contender simulate.Contender
	route     string
	least     float64
}

// routeBars are what a route must reach in the fault, in percent of what it offers, in every seed. Those of Routes are also
// those of the contenders in which governor steers the compartments.
var routeBars = []routeBar{
	{"slack-x4", simulate.Routes, "tight", 89},
	{"slack-x4", simulate.Routes, "slack", 53}, // the tight leave 63
	{"slack-x10", simulate.Routes, "tight", 89},
	{"slack-x10", simulate.Routes, "slack", 21}, // the tight leave 25
	{"tight-x4", simulate.Routes, "slack", 97},
	{"tight-x4", simulate.Routes, "tight", 49},    // the slack leave 53
	{"routes-x4", simulate.Routes, "tight", 39},   // its part of the work in calm is 41
	{"routes-x4", simulate.Routes, "slack", 33},   // 41
	{"routes-half", simulate.Routes, "tight", 77}, // 82
	{"routes-half", simulate.Routes, "slack", 66}, // 82
	// With one limit for all, each gets the same part of what it offers.
	{"slack-x4", simulate.Reflex, "tight", 68}, // 72 fit
	{"slack-x4", simulate.Reflex, "slack", 68},
	{"slack-x4", simulate.Cascade, "tight", 66},
	{"slack-x4", simulate.ShedFixed, "tight", 78},
	{"slack-x10", simulate.Reflex, "tight", 31}, // 34
	{"slack-x10", simulate.Cascade, "tight", 27},
	{"slack-x10", simulate.ShedFixed, "tight", 67},
	{"batch8", simulate.Reflex, "fast", 72},
	{"batch8", simulate.Routes, "fast", 94},
	{"batch8-labeled", simulate.ShedFixed, "fast", 95},
	{"batch8-labeled", simulate.Routes, "fast", 94},
	{"batch4-labeled", simulate.ShedFixed, "fast", 95},
}

// routeShortfalls are known gaps, which are there to be seen: by how many points a route gets less with governor than without,
// over thirty seeds, by scenario and route.
var routeShortfalls = map[[2]string]float64{
	// Governor's latency target is 0.38 of the SLO here, guard's own 0.4. With 0.4, 0.3 points are left.
	{"routes-half", "tight"}: 0.4,
}

// routeNoise is by how many points a route may get less with governor than without for no reason but chance: two standard
// errors of the mean of as many seeds. A single difference has a standard deviation of a point at most, over ten seeds of these
// scenarios; of the batch jobs, which are few, 2.4.
func routeNoise(route string, seeds int) float64 {
	deviation := 1.0
	if route == "batch" {
		deviation = 2.4
	}
	return 2 * deviation / math.Sqrt(float64(seeds))
}

// TestRoutes holds routes with SLOs of their own, and batch jobs beside short requests, to their bars, and prints what the
// contenders reach. Where governor steers the compartments, no route gets less than where it does not, beyond two standard
// errors of the mean.
//
//	SEEDS=20 go test ./cmd/internal/simulate -run TestRoutes$ -v -timeout 1h
func TestRoutes(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of simulation")
	}
	contenders := []simulate.Contender{simulate.Reflex, simulate.Cascade, simulate.ShedFixed, simulate.Routes, simulate.CascadeRoutes}
	var names []string
	for _, b := range routeBars {
		if !slices.Contains(names, b.scenario) {
			names = append(names, b.scenario)
		}
	}
	var runs []simulate.Run
	for _, name := range names {
		s, err := simulate.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range contenders {
			runs = append(runs, simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual})
		}
	}
	var seeds []uint64
	for n := range barSeeds(t) {
		seeds = append(seeds, uint64(n+1))
	}
	rows, err := simulate.Rows(t.Context(), runs, seeds, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(out, "scenario\troute")
	for _, c := range contenders {
		fmt.Fprintf(out, "\t%s", c)
	}
	fmt.Fprintln(out)
	row := func(scenario string, c simulate.Contender) simulate.Row {
		return rows[slices.IndexFunc(rows, func(r simulate.Row) bool { return r.Scenario == scenario && r.Contender == c })]
	}
	for _, name := range names {
		for i, route := range row(name, simulate.Routes).Routes {
			fmt.Fprintf(out, "%s\t%s", name, route.Name)
			for _, c := range contenders {
				got := row(name, c).Routes[i]
				fmt.Fprintf(out, "\t%.1f (%.1f)", got.Good, got.Worst)
			}
			fmt.Fprintln(out)
		}
	}
	_ = out.Flush()
	t.Logf("%d seeds; goodput of the fault in percent of what the route offers, the worst seed in parentheses\n%s", len(seeds),
		text.String())
	var bars []routeBar
	for _, b := range routeBars {
		bars = append(bars, b)
		if b.contender == simulate.Routes {
			b.contender = simulate.CascadeRoutes
			bars = append(bars, b)
		}
	}
	for _, b := range bars {
		if got := routeOf(row(b.scenario, b.contender), b.route); got < b.least {
			t.Errorf("%s, %s: %.1f%% of %s in the worst seed, want %g", b.scenario, b.contender, got, b.route, b.least)
		}
		if calm := row(b.scenario, b.contender).RefusedInCalm; calm > 0.1 {
			t.Errorf("%s, %s: %.2f%% refused in calm", b.scenario, b.contender, calm)
		}
	}
	for _, name := range names {
		for i, alone := range row(name, simulate.Routes).Routes {
			steered := row(name, simulate.CascadeRoutes).Routes[i]
			gap, noise := alone.Good-steered.Good, routeNoise(alone.Name, len(seeds))
			if known := routeShortfalls[[2]string{name, alone.Name}]; gap > known+noise {
				t.Errorf("%s: %s gets %.1f points less than without governor; known are %.1f, chance %.1f", name, alone.Name, gap,
					known, noise)
			}
		}
	}
}

// With the rate or the shed threshold steered as well, the routes still reach their bars. The rate has nothing to do: it
// answers limits at their minimum.
func TestRoutesWithFurtherKnobs(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of simulation")
	}
	for _, scenario := range []string{"slack-x4", "routes-half"} {
		s, err := simulate.Get(scenario)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []simulate.Contender{simulate.ShedRoutes, simulate.CascadeRateRoutes} {
			for _, seed := range seeds {
				t.Run(fmt.Sprintf("%s %s seed=%d", scenario, c, seed), func(t *testing.T) {
					t.Parallel()
					r := run(simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual, Seed: seed})
					for _, x := range r.Score.Phases[s.Phase(simulate.Fault)].Routes {
						t.Logf("%.1f%% of %s", goodShare(x), x.Name)
						if got := goodShare(x); got < barOf(scenario, x.Name) {
							t.Errorf("%.1f%% of %s, want %g", got, x.Name, barOf(scenario, x.Name))
						}
					}
				})
			}
		}
	}
}

// Decisions say whose they are: of the service, or of a route.
func TestDecisionsOfRoutesAreToldApart(t *testing.T) {
	s, err := simulate.Get("slack-x4")
	if err != nil {
		t.Fatal(err)
	}
	s.Phases = []models.Phase{{Name: simulate.Calm, To: 30 * time.Second}}
	r := simulate.Run{Scenario: s, Contender: simulate.CascadeRoutes, Timing: simulate.Usual, Seed: 1}
	result := r.Do()
	var explained, lines bytes.Buffer
	if err := errors.Join(simulate.Explain(&explained, r, result, 25*time.Second), simulate.CSV(&lines, result)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nsimulated/concurrency  ", "\nsimulated/slack/concurrency  "} {
		if !strings.Contains(explained.String(), want) {
			t.Errorf("explained as %s, want it to have %q", explained.String(), want)
		}
	}
	if want := " | simulated/slack/concurrency "; !strings.Contains(lines.String(), want) {
		t.Errorf("the lines are\n%s\nwant them to have %q", lines.String(), want)
	}
}
