package simulate_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"text/tabwriter"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
)

// routeBars are what a route must reach in the fault, in percent of what it offers, in every seed.
var routeBars = []struct {
	scenario  string
	contender simulate.Contender
	route     string
	least     float64
}{
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

// TestRoutes holds routes with SLOs of their own, and batch jobs beside short requests, to their bars, and prints what the
// contenders reach.
//
//	SEEDS=20 go test ./cmd/internal/simulate -run TestRoutes$ -v -timeout 1h
func TestRoutes(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of simulation")
	}
	contenders := []simulate.Contender{simulate.Reflex, simulate.Cascade, simulate.ShedFixed, simulate.Routes}
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
	for _, b := range routeBars {
		if got := routeOf(row(b.scenario, b.contender), b.route); got < b.least {
			t.Errorf("%s, %s: %.1f%% of %s in the worst seed, want %g", b.scenario, b.contender, got, b.route, b.least)
		}
		if calm := row(b.scenario, b.contender).RefusedInCalm; calm > 0.1 {
			t.Errorf("%s, %s: %.2f%% refused in calm", b.scenario, b.contender, calm)
		}
	}
}
