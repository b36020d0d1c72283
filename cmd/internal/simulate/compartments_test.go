package simulate_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/models"
)

// bar is what a scenario of several services must reach in the fault, with patterns and governed.
type bar struct {
	scenario string
	what     string
	least    float64 // NaN: none
	most     float64
	of       func(r simulate.Row) float64
}

// The measures of the bars.
func ofBound(r simulate.Row) float64   { return r.Worst[simulate.Fault] }
func ofOffered(r simulate.Row) float64 { return r.Good[simulate.Fault] }
func attempts(r simulate.Row) float64  { return r.Graph.Attempts }
func inASecond(r simulate.Row) float64 { return r.Graph.Worst }
func back(r simulate.Row) float64      { return r.Graph.LastBack }
func wasted(r simulate.Row) float64    { return r.Graph.MostWasted }

// innocent is the route that does not need the dependency.
func innocent(r simulate.Row) float64 { return routeOf(r, "plain") }

func routeOf(r simulate.Row, name string) float64 {
	return r.Routes[slices.IndexFunc(r.Routes, func(x simulate.RouteRow) bool { return x.Name == name })].Worst
}

// others is the least of the routes but one.
func others(but string) func(r simulate.Row) float64 {
	return func(r simulate.Row) float64 {
		worst := math.Inf(1)
		for _, x := range r.Routes {
			if x.Name != but {
				worst = min(worst, x.Worst)
			}
		}
		return worst
	}
}

func least(scenario, what string, least float64, of func(simulate.Row) float64) bar {
	return bar{scenario, what, least, math.Inf(1), of}
}

func most(scenario, what string, most float64, of func(simulate.Row) float64) bar {
	return bar{scenario, what, math.Inf(-1), most, of}
}

var bars = func() (all []bar) {
	all = append(all,
		least("dep-dead", "% of the bound, worst seed", 92, ofBound),
		least("dep-dead", "% of the innocent route, worst seed", 99, innocent),
		most("tiers-away", "seconds until it is back, worst seed", 2, back),
		least("tiers-blips", "% of the offered", 95, ofOffered),
		least("sick-elsewhere", "% of the bound, worst seed", 98, ofBound),
	)
	for _, scenario := range []string{"dep-quarter", "dep-quarter-bare", "dep-eighth", "dep-eighth-bare"} {
		all = append(all,
			least(scenario, "% of the innocent route, worst seed", 99, innocent),
			least(scenario, "% of the bound, worst seed", 95, ofBound))
	}
	for _, scenario := range []string{"tiers-x1.2", "tiers-x2", "tiers-away"} {
		all = append(all,
			most(scenario, "attempts at the last tier per request", 1.1, attempts),
			most(scenario, "attempts at the last tier per request, worst second", 2.5, inASecond))
	}
	for _, scenario := range []string{"tiers-x2", "chain-x2", "chain-x5"} {
		all = append(all,
			most(scenario, "% of the server time in vain, worst seed", 14, wasted),
			least(scenario, "% of the bound, worst seed", 98, ofBound))
	}
	for _, b := range []struct {
		shape string
		least [3]float64 // at 1.2, 2 and 5 times the load
	}{
		{"seq2", [3]float64{97, 97, 97}},
		{"seq4", [3]float64{97, 97, 97}},
		{"fan4", [3]float64{95, 95, 95}},
		{"seq2-wide", [3]float64{97, 97, 97}},
		{"seq4-wide", [3]float64{97, 97, 97}},
		{"fan4-wide", [3]float64{95, 95, 80}},
		{"seq2-small", [3]float64{93, 93, 93}},
		{"seq4-small", [3]float64{93, 93, 93}},
		{"fan4-small", [3]float64{78, 78, 45}},
	} {
		for i, load := range []string{"1.2", "2", "5"} {
			all = append(all, least(b.shape+"-x"+load, "% of the bound, worst seed", b.least[i], ofBound))
		}
	}
	for scenario, whole := range map[string]float64{"front-x2": 97, "front-x5": 96, "front-x10": 93} {
		all = append(all,
			least(scenario, "% of the innocent API, worst seed", 97, innocent),
			least(scenario, "% of the bound, worst seed", whole, ofBound))
	}
	for _, scenario := range crowded {
		all = append(all, least(scenario, "% of the bound, worst seed, no case", 80, ofBound))
	}
	for _, api := range []string{"product", "add", "order"} {
		all = append(all, least("shop-"+api+"-x10", "% of the other APIs, worst seed", 85, others(api)))
	}
	all = append(all, least("shop-currency-quarter", "% of the API that does not need it, worst seed", 85,
		func(r simulate.Row) float64 { return routeOf(r, "add") }))
	slices.SortStableFunc(all, func(a, b bar) int { return strings.Compare(a.scenario, b.scenario) })
	return all
}()

// crowded are the cases of overload and loss whose mean must be 94% of the bound.
var crowded = []string{
	"seq2-x2", "seq2-x5", "seq2-x10", "seq4-x2", "seq4-x5", "seq4-x10", "front-x2", "front-x5", "front-x10",
	"shop-x3", "shop-x5", "shop-x10", "shop-product-x10", "shop-add-x10", "shop-order-x10",
	"shop-catalog-quarter", "shop-currency-quarter",
}

// TestTenants holds fair shares of tenants to their bars: the others, in every seed, and nobody demoted without overload.
func TestTenants(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of simulation")
	}
	var seeds []uint64
	for n := range barSeeds(t) {
		seeds = append(seeds, uint64(n+1))
	}
	for _, tc := range []struct {
		scenario string
		others   float64
	}{
		{"tenant30-x10", 98}, {"tenant10-x10", 99}, {"tenants-x5", 99}, {"tenants-zipf", math.NaN()},
	} {
		t.Run(tc.scenario, func(t *testing.T) {
			s, err := simulate.Get(tc.scenario)
			if err != nil {
				t.Fatal(err)
			}
			run := simulate.Run{Scenario: s, Contender: simulate.Fair, Timing: simulate.Usual}
			fair, err := simulate.Rows(t.Context(), []simulate.Run{run}, seeds, func(int, int) {})
			if err != nil {
				t.Fatal(err)
			}
			r := fair[0]
			if math.IsNaN(tc.others) {
				if r.Demoted > 0 {
					t.Errorf("%.0f requests demoted without overload", r.Demoted)
				}
				return
			}
			mean := r.Routes[slices.IndexFunc(r.Routes, func(x simulate.RouteRow) bool { return x.Name == "others" })].Good
			t.Logf("the others: %.2f%%, worst seed %.2f%%", mean, routeOf(r, "others"))
			b := least(tc.scenario, "% of the other tenants, worst seed", tc.others, others("heavy"))
			b.judge(t, simulate.Fair, b.of(r))
		})
	}
}

// missed is a known gap: what a contender reaches where it misses a bar. It is there to be seen. The test fails if it gets
// worse by more than the tolerance, and if the bar is met.
type missed struct {
	scenario, what string
}

// missedTolerance is the share by which what is reached varies with the number of seeds.
const missedTolerance = 0.25

var misses = map[missed]float64{
	{"chain-x5", "% of the server time in vain, worst seed"}:        17.1,
	{"shop-catalog-quarter", "% of the bound, worst seed, no case"}: 72.5,
}

// TestCompartments holds the guarded calls to their bars, with guard alone and governed, and prints what every contender
// reaches.
//
//	SEEDS=20 go test ./cmd/internal/simulate -run TestCompartments -v -timeout 1h
func TestCompartments(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of simulation")
	}
	var few, many []simulate.Run
	for _, s := range simulate.All() {
		if s.Graph == nil {
			continue
		}
		for _, c := range simulate.GraphContenders() {
			run := simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual}
			switch {
			case !severalCalls(s.Name):
				few = append(few, run)
			case judged(c):
				many = append(many, run)
			}
		}
	}
	var seeds []uint64
	for n := range barSeeds(t) {
		seeds = append(seeds, uint64(n+1))
	}
	seedsOfMany := seeds
	if os.Getenv("SEEDS") == "" {
		seedsOfMany = seeds[:1]
	}
	rows, err := simulate.Rows(t.Context(), few, seeds, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	more, err := simulate.Rows(t.Context(), many, seedsOfMany, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	rows = append(rows, more...)
	var text bytes.Buffer
	if err := simulate.GraphTable(&text, rows); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&text)
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "scenario\tmeasure\tbar\tnaive\tguards\tpatterns\tgoverned")
	for _, b := range bars {
		limit := fmt.Sprintf("≥ %g", b.least)
		if math.IsInf(b.least, -1) {
			limit = fmt.Sprintf("≤ %g", b.most)
		}
		fmt.Fprintf(out, "%s\t%s\t%s", b.scenario, b.what, limit)
		for _, c := range simulate.GraphContenders() {
			i := slices.IndexFunc(rows, func(r simulate.Row) bool { return r.Scenario == b.scenario && r.Contender == c })
			if i < 0 && !judged(c) && severalCalls(b.scenario) {
				fmt.Fprint(out, "\t")
				continue
			}
			if i < 0 {
				t.Fatalf("there is no scenario %s", b.scenario)
			}
			got := b.of(rows[i])
			note := ""
			if judged(c) {
				note = b.judge(t, c, got)
			}
			fmt.Fprintf(out, "\t%.2f%s", got, note)
		}
		fmt.Fprintln(out)
	}
	for _, c := range []simulate.Contender{simulate.Patterns, simulate.Governed} {
		mean := 0.0
		for _, scenario := range crowded {
			i := slices.IndexFunc(rows, func(r simulate.Row) bool { return r.Scenario == scenario && r.Contender == c })
			mean += rows[i].OfBest[simulate.Fault] / float64(len(crowded))
		}
		fmt.Fprintf(out, "%d cases\t%% of the bound, mean\t≥ 94\t\t\t%s %.2f\n", len(crowded), c, mean)
		if mean < 94 {
			t.Errorf("%s: %.2f%% of the bound in the mean of %d cases", c, mean, len(crowded))
		}
	}
	_ = out.Flush()
	for m := range misses {
		if !slices.ContainsFunc(bars, func(b bar) bool { return b.scenario == m.scenario && b.what == m.what }) {
			t.Errorf("%+v is listed and does not exist", m)
		}
	}
	t.Logf("%d seeds, %d of several calls or APIs\n%s", len(seeds), len(seedsOfMany), text.String())
}

// judged says whether the bars are for c.
func judged(c simulate.Contender) bool { return c == simulate.Patterns || c == simulate.Governed }

// severalCalls says whether a scenario is one of those of several calls of one service, or of several APIs. They are many, so
// only what is judged runs, and with one seed unless SEEDS says how many.
func severalCalls(scenario string) bool {
	return strings.HasPrefix(scenario, "seq") || strings.HasPrefix(scenario, "fan") || strings.HasPrefix(scenario, "shop") ||
		strings.HasPrefix(scenario, "front")
}

// judge fails the test where a bar is missed that is not listed, or a listed one is met or missed by more.
func (b bar) judge(t *testing.T, c simulate.Contender, got float64) string {
	t.Helper()
	known, listed := misses[missed{b.scenario, b.what}]
	met := got >= b.least && got <= b.most
	switch {
	case met && listed && severalCalls(b.scenario) && os.Getenv("SEEDS") == "": // one seed may be lucky
	case met && listed:
		t.Errorf("%s, %s: %s has %.2f and meets the bar: take it off the list", b.scenario, c, b.what, got)
	case !met && !listed:
		t.Errorf("%s, %s: %s: %.2f", b.scenario, c, b.what, got)
	case !met && (got < known && b.most > 1e9 && known-got > missedTolerance*known || got > known*(1+missedTolerance) && b.least < -1e9):
		t.Errorf("%s, %s: %s: %.2f, known is %.2f", b.scenario, c, b.what, got, known)
	}
	if !met {
		return " missed"
	}
	return ""
}

// graphs is a scenario of two services in a file.
const graphs = `
title: two services
slo: {latency: 200ms, objective: 95%}
services:
- {name: a, time: 10ms, calls: [b], drops-abandoned: true}
- {name: b, servers: 4, instances: 2, unguarded: true, limit: {start: 8, min: 2, max: 64}}
calls: {timeout: 250ms, retries: {times: 2, wait: 20ms}, direct: true}
routes:
- {name: both, load: 100, service: a}
- {name: twice, load: 10, service: a, time: 5ms, calls: [b, [b, b]]}
phases: [{calm: 20s}, {fault: 30s}]
script:
- {at: 20s, service: b, instance: 2, away: refuses}
- {at: 20s, service: a, slowdown: 2}
- {at: 25s, times: 3, route: both}
`

// A file of several services becomes the graph that it says.
func TestGraphFile(t *testing.T) {
	s, err := simulate.Parse("two.yml", []byte(graphs))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.Graph(7)
	links := []models.Link{
		{From: 0, To: 1, Timeout: 250 * time.Millisecond, Retries: 2, RetryWait: 20 * time.Millisecond, Direct: true},
		{From: models.Clients, To: 0, Timeout: time.Second},
	}
	if cfg.Seed != 7 || !slices.Equal(cfg.Links, links) || len(cfg.Services) != 2 || s.Plant != nil {
		t.Fatalf("got %+v", cfg)
	}
	a, b := cfg.Services[0], cfg.Services[1]
	if len(a.Operations) != 3 || a.Operations[2].ServiceTime != 5*time.Millisecond || !a.DropsAbandoned ||
		fmt.Sprint(a.Operations[1].Steps) != "[[{0 0}]]" || fmt.Sprint(a.Operations[2].Steps) != "[[{0 0}] [{0 0} {0 0}]]" {
		t.Errorf("got %+v", a)
	}
	if len(b.Instances) != 2 || b.Instances[1].Name != "b-2" || len(b.Instances[0].Stages) != 1 ||
		b.Instances[1].Stages[1].Absence != models.RefusesConnections || b.Instances[0].Stages[0].Servers != 4 {
		t.Errorf("got %+v", b)
	}
	if slow := a.Instances[0].Stages; len(slow) < 2 || slow[1].Slowdown != 2 || slow[1].From != 20*time.Second {
		t.Errorf("got %+v", slow)
	}
	if e := cfg.Entries; len(e) != 2 || e[0].Load.Rate(26*time.Second) != 300 || e[1].Load.Rate(26*time.Second) != 10 ||
		e[1].Call != (models.CallSpec{Link: 1, Operation: 2}) {
		t.Errorf("got %+v", e)
	}
	if tiers := s.Tiers; tiers[0].Start != 128 || tiers[1].Start != 8 || !tiers[1].Unguarded || tiers[0].SLO.Objective != 0.95 {
		t.Errorf("got %+v", tiers)
	}
	// Half of b's servers are left: 4 ÷ 40 ms = 100 requests/s for 100 + 10·3 in calm, which halves in the fault.
	bounds := s.Optimum()
	if calm := bounds[0]; math.Abs(calm.Good-110) > 1e-9 || calm.Capacity[1] != 8 {
		t.Errorf("bound in calm: %+v", calm)
	}
	if fault := bounds[1]; math.Abs(fault.Good-100) > 1e-6 || fault.Capacity[0] != 16 || math.Abs(fault.Offered[0]-200) > 1e-9 {
		t.Errorf("bound in the fault: %+v", fault)
	}
}

// All contenders meet the same requests, a run repeats exactly, and governor publishes for the guarded service only.
func TestGraphRuns(t *testing.T) {
	s, err := simulate.Parse("two.yml", []byte(graphs))
	if err != nil {
		t.Fatal(err)
	}
	offered := 0
	for _, c := range simulate.GraphContenders() {
		r := simulate.Run{Scenario: s, Contender: c, Timing: simulate.Fast, Seed: 3}
		one, two := r.Do(), r.Do()
		if fmt.Sprint(one.Score.Phases) != fmt.Sprint(two.Score.Phases) {
			t.Errorf("%s: two runs of one seed differ", c)
		}
		n := one.Score.Phases[0].Offered + one.Score.Phases[1].Offered
		if offered == 0 {
			offered = n
		}
		if n != offered {
			t.Errorf("%s met %d requests, not %d", c, n, offered)
		}
		decided := map[string]bool{}
		for _, p := range one.Points {
			for _, d := range p.Decisions {
				decided[d.Service] = true
			}
		}
		if want := c == simulate.Governed; decided["a"] != want || decided["b"] {
			t.Errorf("%s: decisions about %v", c, decided)
		}
		var explained bytes.Buffer
		if err := simulate.Explain(&explained, r, one, 25*time.Second); (err == nil) != (c == simulate.Governed) ||
			err == nil && !strings.Contains(explained.String(), "\na/concurrency  ") {
			t.Errorf("%s: %v\n%s", c, err, explained.String())
		}
	}
}
