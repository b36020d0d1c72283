package simulate_test

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
)

// goal is what a contender should reach in the fault phase, in percent of the oracle's goodput. The bars lie at most
// three points below what independent simulations of the same situations have seen.
type goal struct {
	scenario  string
	contender simulate.Contender
	timing    control.Timing
	want      float64 // aimed at; a miss is shown, not hidden
	bar       float64 // asserted; raised when more is reached, never lowered to pass
}

var goals = []goal{
	{"x2", simulate.Cascade, simulate.Usual, 99.5, 98.5},
	{"x5", simulate.Cascade, simulate.Usual, 99.5, 98.5},
	{"x10", simulate.Cascade, simulate.Usual, 99.5, 98.5},
	{"half", simulate.Cascade, simulate.Usual, 99.5, 98.5},
	{"half", simulate.Outer, simulate.Usual, 98, 95.4},
	{"fifth", simulate.Cascade, simulate.Usual, 98.5, 97},
	{"fifth", simulate.Outer, simulate.Usual, 93, 90},
	{"slow2", simulate.Cascade, simulate.Usual, 99, 97.5},
	{"slow2", simulate.Outer, simulate.Usual, 98, 95.4},
	{"slow5", simulate.Cascade, simulate.Usual, 90, 85.8},
	{"slow5", simulate.Outer, simulate.Usual, 85, 79},
	{dependency, simulate.Cascade, simulate.Usual, 99.5, 98.5},
	{dependency, simulate.Cascade, simulate.Fast, 99.5, 98.5},
	{dependency, simulate.Outer, simulate.Usual, 90, 84},
	{dependency, simulate.Outer, simulate.Fast, 97, 94},
	{"dep128", simulate.Outer, simulate.Usual, 99.9, 99.9}, // does not bind: nothing to lose
	{"dep128", simulate.Outer, simulate.Fast, 99.9, 99.9},
	{"dep200", simulate.Outer, simulate.Usual, 99.9, 99.9},
	{"dep200", simulate.Outer, simulate.Fast, 99.9, 99.9},
	{"dep200", simulate.Cascade, simulate.Usual, 99.9, 99.9},
	{"healed", simulate.Reflex, simulate.Usual, 99, 97.5},
	{"healed", simulate.Cascade, simulate.Fast, 99, 97.5},
	{"healed", simulate.Cascade, simulate.Usual, 99, 97.5},
	{"healed", simulate.Shed, simulate.Fast, 99, 97.5},
	{"healed", simulate.Shed, simulate.Usual, 99, 97.5},
}

// afterGoals are the same for the aftermath: what a controller has learned in the fault must not lock the service up.
var afterGoals = []goal{
	{"dip", simulate.Cascade, simulate.Usual, 99, 98.5},
	{"dip", simulate.CascadeRate, simulate.Usual, 94, 98.5}, // as without: the rate yields
	{"dip", simulate.CascadeRate, simulate.Fast, 94, 98.5},
	{"dip", simulate.OuterRate, simulate.Usual, 94, 96.5},
	{"dip", simulate.Rate, simulate.Fast, 88, 90},
	{"dip", simulate.Rate, simulate.Usual, 74, 70},
	{"meta70", simulate.Cascade, simulate.Usual, 95, 98},
	{"meta90", simulate.Cascade, simulate.Usual, 95, 98},
}

// criticalGoals are shares of the critical requests that are served in time during the fault.
var criticalGoals = []goal{
	{"x2", simulate.Shed, simulate.Usual, 99.5, 99.4},
	{"x5", simulate.Shed, simulate.Usual, 98, 97.7},
	{"burst12", simulate.Shed, simulate.Usual, 99.5, 99.4},
}

// dependency stands for the three limits of the slow dependency together.
const dependency = "dep all"

// The aftermath, for every contender: a fault must not linger.
const (
	afterWant = 99.5
	afterBar  = 96.5
)

// runs keeps every run of this process, because several tests look at the same one.
var runs sync.Map

func run(r simulate.Run) simulate.Result {
	key := fmt.Sprint(r.Scenario.Name, r.Contender, r.Timing, r.Seed, r.Limit, r.Lag, r.Tuning)
	f, _ := runs.LoadOrStore(key, sync.OnceValue(r.Do))
	return f.(func() simulate.Result)()
}

// row sums up the seeds of one scenario, contender and timing. Numbers are means over the seeds.
type row struct {
	scenario   string
	contender  simulate.Contender
	timing     control.Timing
	fault      float64 // goodput ÷ oracle, percent
	worst      float64 // the same, of the worst seed
	after      float64
	critical   float64       // of the critical requests served in time during the fault, percent
	attempts   float64       // a request, after the fault
	above      time.Duration // time above the SLO during the fault
	p50, p99   time.Duration // of the admitted during the fault
	variation  float64       // of the effective limit during the fault, ln units a minute
	writes     float64       // a minute, during the fault
	calmWrites float64       // a minute, in the last two minutes of calm
}

func measureRow(s simulate.Scenario, c simulate.Contender, timing control.Timing) row {
	out := row{scenario: s.Name, contender: c, timing: timing, worst: math.Inf(1)}
	n := float64(len(seeds))
	fault, after := s.Phase(simulate.Fault), s.Phase(simulate.After)
	for _, seed := range seeds {
		r := simulate.Run{Scenario: s, Contender: c, Timing: timing, Seed: seed}
		result := run(r)
		p := result.Score.Phases[fault]
		good := ofOracle(r, result, fault)
		out.fault += good / n
		out.worst = min(out.worst, good)
		out.after += ofOracle(r, result, after) / n
		out.critical += 100 * float64(p.GoodBy[0]) / float64(p.OfferedBy[0]) / n
		healed := result.Score.Phases[after]
		out.attempts += float64(healed.Admitted+healed.Refused) / float64(healed.Offered) / n
		out.above += result.Score.AboveSLO(p.From, p.To) / time.Duration(len(seeds))
		out.p50 += p.Quantile(0.50) / time.Duration(len(seeds))
		out.p99 += p.Quantile(0.99) / time.Duration(len(seeds))
		out.variation += result.Variation(p.From, p.To) / n
		out.writes += float64(result.WritesIn(p.From, p.To)) / (p.To - p.From).Minutes() / n
		out.calmWrites += float64(result.WritesIn(p.From-2*time.Minute, p.From)) / 2 / n
	}
	return out
}

// together returns one row for each contender and timing over the limits of the slow dependency.
func together(rows []*row) (sums []*row) {
	for _, r := range rows {
		if !strings.HasPrefix(r.scenario, "dep") || r.contender == simulate.Rate {
			continue
		}
		i := slices.IndexFunc(sums, func(s *row) bool { return s.contender == r.contender && s.timing == r.timing })
		if i < 0 {
			i = len(sums)
			sums = append(sums, &row{scenario: dependency, contender: r.contender, timing: r.timing, worst: math.Inf(1)})
		}
		s := sums[i]
		s.fault += r.fault / 3
		s.after += r.after / 3
		s.critical += r.critical / 3
		s.attempts += r.attempts / 3
		s.worst = min(s.worst, r.worst)
		s.above += r.above / 3
		s.p50 += r.p50 / 3
		s.p99 += r.p99 / 3
		s.variation += r.variation / 3
		s.writes += r.writes / 3
		s.calmWrites += r.calmWrites / 3
	}
	return sums
}

// entry is one line of the table.
type entry struct {
	contender simulate.Contender
	timing    control.Timing
}

// lineup lists the contenders of a scenario.
func lineup(scenario string) (entries []entry) {
	add := func(timings []control.Timing, contenders ...simulate.Contender) {
		for _, c := range contenders {
			for _, timing := range timings {
				entries = append(entries, entry{c, timing})
			}
		}
	}
	usual, both := []control.Timing{simulate.Usual}, []control.Timing{simulate.Fast, simulate.Usual}
	switch scenario {
	case "x10": // the most requests of all: nothing that x5 says as well
		add(usual, simulate.Static, simulate.Reflex, simulate.Outer, simulate.Cascade, simulate.ShedFixed, simulate.Shed)
		return entries
	case "burst12":
		add(usual, simulate.Cascade, simulate.ShedFixed, simulate.Shed)
		return entries
	case "dip":
		add(usual, simulate.None, simulate.Static)
		add(both, simulate.Outer, simulate.OuterRate, simulate.Cascade, simulate.CascadeRate, simulate.Rate)
		return entries
	case "dip256":
		add(both, simulate.Cascade, simulate.CascadeRate)
		return entries
	case "dipcancel":
		add(usual, simulate.None)
		add(both, simulate.Rate)
		return entries
	case "meta70", "meta90":
		add(usual, simulate.None, simulate.Outer, simulate.Reflex, simulate.Cascade)
		return entries
	}
	add(usual, simulate.None, simulate.Static, simulate.Reflex) // nobody measures
	add(both, simulate.Outer, simulate.OuterAIMD, simulate.Cascade)
	switch scenario {
	case "x2", "x5":
		add(usual, simulate.ShedFixed, simulate.Shed)
		add(both, simulate.Rate)
	case "half", "dep128":
		add(both, simulate.Rate)
	case "healed":
		add(both, simulate.Shed)
	}
	return entries
}

// verdict says whether r meets the goal that there is for it, if any, and fails the test where it misses the bar.
func (r *row) verdict(t *testing.T, goals []goal, what string, got float64) string {
	for _, g := range goals {
		if g.scenario != r.scenario || g.contender != r.contender || g.timing != r.timing {
			continue
		}
		if got < g.bar {
			t.Errorf("%s, %s, S=%v: %s %.1f %%, at least %.1f expected", g.scenario, g.contender, g.timing.Scrape, what, got, g.bar)
		}
		if got < g.want {
			return fmt.Sprintf("%g missed", g.want)
		}
		return fmt.Sprintf("%g met", g.want)
	}
	return ""
}

// TestTable prints how every contender fares in every scenario, and holds those with a goal to their bar.
func TestTable(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of simulation")
	}
	var rows []*row
	var work sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, s := range rigs() {
		for _, e := range lineup(s.Name) {
			r := &row{}
			rows = append(rows, r)
			work.Go(func() {
				slots <- struct{}{}
				*r = measureRow(s, e.contender, e.timing)
				<-slots
			})
		}
	}
	work.Wait()
	rows = append(rows, together(rows)...)

	var text bytes.Buffer
	out := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "scenario\tcontender\tS\tfault %\tworst\tgoal\tafter %\tgoal\tcritical %\tgoal\tattempts\t"+
		"above SLO\tp50\tp99\tTV/min\twrites/min\tin calm")
	for _, r := range rows {
		fault := r.verdict(t, goals, "of the oracle's goodput in the fault", r.fault)
		after := r.verdict(t, afterGoals, "of the oracle's goodput after the fault", r.after)
		critical := r.verdict(t, criticalGoals, "of the critical requests in the fault", r.critical)
		if (r.contender == simulate.Outer || r.contender == simulate.Cascade) && r.after < afterBar {
			t.Errorf("%s, %s, S=%v: %.1f %% of the oracle's goodput after the fault, at least %.1f expected",
				r.scenario, r.contender, r.timing.Scrape, r.after, afterBar)
		}
		fmt.Fprintf(out, "%s\t%s\t%.0f\t%.1f\t%.1f\t%s\t%.1f\t%s\t%.1f\t%s\t%.2f\t%.0f s\t%.0f ms\t%.0f ms\t%.2f\t%.1f\t%.1f\n",
			r.scenario, r.contender, r.timing.Scrape.Seconds(), r.fault, r.worst, fault, r.after, after, r.critical, critical,
			r.attempts, r.above.Seconds(), r.p50.Seconds()*1e3, r.p99.Seconds()*1e3, r.variation, r.writes, r.calmWrites)
	}
	_ = out.Flush()
	t.Logf("goodput in percent of the best fixed limit's, mean of %d seeds; after the fault the goal is %v\n%s",
		len(seeds), afterWant, text.String())
}
