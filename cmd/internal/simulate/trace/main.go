// Trace runs one scenario with one contender and prints what the loop saw and did, one line a period, as CSV; a summary
// by phase goes to standard error.
//
//	go run ./cmd/internal/simulate/trace -scenario slow5 -contender outer -S 5 -seed 1
package main

import (
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
)

func main() {
	scenario := flag.String("scenario", "x2", "name of the scenario")
	contender := flag.String("contender", string(simulate.Outer), fmt.Sprint("who is in charge: ", simulate.AllContenders()))
	s := flag.Float64("S", 5, "scrape interval in seconds")
	w := flag.Float64("W", 0, "query window in seconds (default 4·S)")
	t := flag.Float64("T", 0, "period in seconds (default S)")
	seed := flag.Uint64("seed", 1, "seed of arrivals and service times")
	limit := flag.Float64("limit", 0, "initial limit (default the scenario's)")
	lag := flag.Duration("lag", 0, "extra age of every sample")
	gain := flag.Float64("gain", 0, "integral gain (default 1)")
	oracle := flag.Bool("oracle", true, "compare with the best fixed limit of each phase, which takes twenty runs")
	list := flag.Bool("list", false, "list the scenarios")
	flag.Parse()

	if *list {
		for _, sc := range simulate.All() {
			fmt.Printf("%-8s  %s\n", sc.Name, sc.Title)
		}
		return
	}
	sc, err := simulate.Get(*scenario)
	if err == nil && !simulate.Contender(*contender).Known() {
		err = fmt.Errorf("no contender is called %q; there are %v", *contender, simulate.AllContenders())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(2)
	}
	seconds := func(x float64) time.Duration { return time.Duration(x * float64(time.Second)) }
	if *w == 0 {
		*w = 4 * *s
	}
	if *t == 0 {
		*t = *s
	}
	run := simulate.Run{
		Scenario: sc, Contender: simulate.Contender(*contender), Seed: *seed, Limit: *limit, Lag: *lag,
		Timing: simulate.Pace(seconds(*s), seconds(*w), seconds(*t)),
	}
	run.Tuning.Gain = *gain
	result := run.Do()
	if err := write(os.Stdout, result); err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
	summarize(os.Stderr, run, result, *oracle)
}

func write(to io.Writer, result simulate.Result) error {
	out := csv.NewWriter(to)
	_ = out.Write([]string{
		"t", "L", "L_eff", "mean_ms", "X", "refused", "tau_ms", "m0_ms", "s_ms",
		"floor", "raw", "ceiling", "floor_test", "state", "hold", "bound", "goodput", "phi", "rate", "reason",
	})
	for _, p := range result.Points {
		d := p.Decision
		var reason strings.Builder
		reason.WriteString(d.Reason)
		for _, other := range p.Decisions[min(1, len(p.Decisions)):] {
			reason.WriteString(" | " + string(other.Knob) + " " + other.Reason)
		}
		_ = out.Write([]string{
			num(p.At.Seconds()), num(p.Limit), num(p.Effective), num(1e3 * float64(d.Measured)),
			num(float64(d.Inputs.Throughput)), num(float64(d.Inputs.RefusedShare)), num(1e3 * float64(d.Setpoint)),
			num(1e3 * float64(d.Gates.OwnLatencySeconds)), num(1e3 * float64(d.Gates.ServiceTimeSeconds)),
			num(float64(d.Gates.Floor)), num(float64(d.Raw)), num(float64(d.Ceiling)),
			d.Gates.FloorTest, string(d.State), string(d.HoldReason), d.Bound, num(p.Goodput),
			num(float64(p.Knob(control.KnobShed).Value)), num(float64(p.Knob(control.KnobRate).Value)), reason.String(),
		})
	}
	out.Flush()
	return out.Error()
}

// num keeps four digits and leaves unknown numbers empty.
func num(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	if math.Abs(v) >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func summarize(to io.Writer, run simulate.Run, result simulate.Result, oracle bool) {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "phase\tgood %\tof oracle %\toracle L\tabove SLO\tp50\tp99\tTV/min\twrites\tattempts"+
		"\tcritical\tdefault\tsheddable")
	var best simulate.Oracle
	if oracle {
		best = simulate.Best(run.Scenario, run.Seed)
	}
	for i, p := range result.Score.Phases {
		of, limit := "", ""
		if oracle {
			of, limit = fmt.Sprintf("%.1f", 100*float64(p.Good)/float64(best.Good[i])), num(best.Limit[i])
		}
		fmt.Fprintf(out, "%s\t%.1f\t%s\t%s\t%v\t%v\t%v\t%.2f\t%d\t%.2f", p.Name,
			100*float64(p.Good)/float64(p.Offered), of, limit, result.Score.AboveSLO(p.From, p.To),
			p.Quantile(0.5).Round(time.Millisecond), p.Quantile(0.99).Round(time.Millisecond),
			result.Variation(p.From, p.To), result.WritesIn(p.From, p.To), float64(p.Admitted+p.Refused)/float64(p.Offered))
		for class := range 3 {
			fmt.Fprintf(out, "\t%.1f", 100*float64(p.GoodBy[class])/float64(p.OfferedBy[class]))
		}
		fmt.Fprintln(out)
	}
	_ = out.Flush()
}
