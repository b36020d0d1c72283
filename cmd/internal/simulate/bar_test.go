package simulate_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
)

// unhurt are the scenarios in which nothing is overloaded: governor alone has to leave the service at least as well off as
// the limit that it started from.
var unhurt = []string{
	"endless-declared-x1", "endless-undeclared-x1", "batch4", "batch4-labeled", "own150-x1", "dep60", "dep128", "dep200",
	"dep-all180", "rolling", "rolling-lif", "sick-lif", "pauses", "low", "step",
}

// tooLong are scenarios of hours, or of a million requests, that add nothing here.
var tooLong = []string{"atmax", "degrade", "halved", "idle", "x10", "wide-half", "diurnal"}

// uneven are scenarios in which the seeds differ by ten points, so that three of them say nothing.
var uneven = []string{"crisis", "small1-x3"}

const unevenSeeds = 12

// shortfall is a known gap: how many points a contender is below another in a phase. It is there to be seen. The test fails
// if the gap grows by more than half a point, and if it has closed.
type shortfall struct {
	scenario         string
	contender, below simulate.Contender
	phase            string
}

var shortfalls = map[shortfall]float64{
	// The latency target falls as the p99 runs away from the mean, which costs the cascade what the reflex's fixed 0.4·SLO keeps.
	{"meta90", simulate.Cascade, simulate.Reflex, simulate.Fault}: 15.3, // of ten seconds
	// Few requests: the published limit pulls where the reflex alone would stay.
	{"small1-x3", simulate.Cascade, simulate.Reflex, simulate.After}: 1.0,
	// Guard excuses undeclared jobs only after they have taught governor's target.
	{"batch8", simulate.Cascade, simulate.Reflex, simulate.Fault}:         2.4,
	{"batch8-labeled", simulate.Cascade, simulate.Reflex, simulate.Fault}: 2.4,
	// The p99 of routes of 40 ms and 1 s under one limit is that of the slower one, so governor publishes the least latency target,
	// 0.3·SLO, where the reflex alone takes 0.4·SLO: (q) of docs/design-laws.md. Such a service needs compartments, see TestRoutes.
	{"slack-x10", simulate.Cascade, simulate.Reflex, simulate.Fault}:   7.0, // 2.3 of what is offered
	{"routes-half", simulate.Cascade, simulate.Reflex, simulate.Fault}: 1.6,
	// After the fault the ceiling, twice the published limit, holds the reflex back for half a minute.
	{"polls-fifth", simulate.Cascade, simulate.Reflex, simulate.After}: 2.7,
	{"polls-fifth", simulate.Cascade, simulate.Static, simulate.After}: 2.3,
	// The reflex, and the limit that it started from, know nothing of the SLO that is violated for good.
	{"tail-slow", simulate.Cascade, simulate.Static, simulate.After}: 1.0,
	// Without a guard nobody finds jobs whose mix with the short requests keeps a mean below the SLO: it looks like a queue.
	{"batch4", simulate.Outer, simulate.Static, simulate.Fault}:         14.2,
	{"batch4", simulate.Outer, simulate.Static, simulate.After}:         2.6,
	{"batch4-labeled", simulate.Outer, simulate.Static, simulate.Fault}: 14.2,
	{"batch4-labeled", simulate.Outer, simulate.Static, simulate.After}: 2.6,
}

// TestNeverWorse holds the bar: in no scenario and no phase is the cascade more than a point below the reflex alone, or below the
// limit that it started from; and governor alone is not more than a point below that limit where nothing is overloaded. Points
// are percentages of the best of them all in that phase, means over the seeds; the worst seed is printed beside each.
//
//	SEEDS=20 go test ./cmd/internal/simulate -run TestNeverWorse -v -timeout 2h
func TestNeverWorse(t *testing.T) {
	if testing.Short() {
		t.Skip("two minutes of simulation")
	}
	contenders := []simulate.Contender{simulate.Static, simulate.Reflex, simulate.Outer, simulate.Cascade}
	seeds := barSeeds(t)
	seedsOf := func(scenario string) int {
		if slices.Contains(uneven, scenario) {
			return max(seeds, unevenSeeds)
		}
		return seeds
	}
	type cell struct {
		scenario  string
		contender simulate.Contender
		seed      int
	}
	good := map[cell][]float64{} // of the offered, by phase
	var lock sync.Mutex
	var work sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all []simulate.Scenario
	for _, s := range simulate.All() {
		if slices.Contains(tooLong, s.Name) || s.Graph != nil {
			continue
		}
		all = append(all, s)
		for _, c := range contenders {
			for seed := range seedsOf(s.Name) {
				slots <- struct{}{}
				work.Go(func() {
					defer func() { <-slots }()
					r := run(simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual, Seed: uint64(seed + 1)})
					var phases []float64
					for _, p := range r.Score.Phases {
						phases = append(phases, float64(p.Good)/float64(max(p.Offered, 1)))
					}
					lock.Lock()
					good[cell{s.Name, c, seed}] = phases
					lock.Unlock()
				})
			}
		}
	}
	work.Wait()

	var text bytes.Buffer
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "scenario\tphase\tcontender\tbelow\tpoints\tworst seed")
	found := map[shortfall]bool{}
	for _, s := range all {
		for i, phase := range s.Phases {
			compare := func(c, below simulate.Contender) {
				mean, worst := 0.0, math.Inf(-1)
				for seed := range seedsOf(s.Name) {
					best := 0.0
					for _, other := range contenders {
						best = max(best, good[cell{s.Name, other, seed}][i])
					}
					if best == 0 {
						return
					}
					gap := 100 * (good[cell{s.Name, below, seed}][i] - good[cell{s.Name, c, seed}][i]) / best
					mean += gap / float64(seedsOf(s.Name))
					worst = max(worst, gap)
				}
				key := shortfall{s.Name, c, below, phase.Name}
				known, listed := shortfalls[key]
				if mean > 0.5 {
					fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%.1f\t%.1f\n", s.Name, phase.Name, c, below, mean, worst)
				}
				switch {
				case listed:
					found[key] = true
					if mean > known+0.5 {
						t.Errorf("%s, %s: %s is %.1f points below %s, known are %.1f", s.Name, phase.Name, c, mean, below, known)
					} else if mean <= 0.5 {
						t.Errorf("%s, %s: %s is %.1f points below %s, no longer %.1f: take it off the list", s.Name, phase.Name, c, mean, below, known)
					}
				case mean >= 1:
					t.Errorf("%s, %s: %s is %.1f points below %s", s.Name, phase.Name, c, mean, below)
				}
			}
			compare(simulate.Cascade, simulate.Reflex)
			compare(simulate.Cascade, simulate.Static)
			if slices.Contains(unhurt, s.Name) {
				compare(simulate.Outer, simulate.Static)
			}
		}
	}
	for key := range shortfalls {
		if !found[key] {
			t.Errorf("%+v is listed and does not exist", key)
		}
	}
	_ = out.Flush()
	t.Logf("more than half a point below, %d seeds\n%s", seeds, text.String())
}

// barSeeds is how many seeds to judge by: three, or as many as SEEDS says.
func barSeeds(t *testing.T) int {
	text := os.Getenv("SEEDS")
	if text == "" {
		return len(seeds)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SEEDS=%s: expected a number of seeds, like 20", text)
	}
	return n
}
