package simulate

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// header names the columns of the table.
const header = "scenario\tcontender\tfault %\tworst\tafter %\tworst\tcalm %\tworst\tlate %\trefused in calm %\t" +
	"critical %\twrites/min\troutes"

// Legend explains the columns of the table.
const Legend = `fault, after, calm   goodput of the phase, as a percentage of the best fixed limit's; the worst seed beside it
late                 of the admitted that finish in the fault, after four dead times: share above the SLO
refused in calm      of all attempts before the fault
critical             of the critical requests in the fault: share served within the SLO
writes/min           new values that governor publishes during the fault
routes               of each route in the fault: share served in time, where there are several
`

// graphHeader names the columns of the table of scenarios of several services.
const graphHeader = "scenario\tcontender\tfault % of offered\t% of bound\tworst\tafter % of bound\tworst\tcalm % of bound\t" +
	"routes % of offered (worst)\tattempts at\tmean\tworst second\tback after\tworst\twasted %\tworst"

// GraphLegend explains the columns of the table of GraphTable.
const GraphLegend = `% of bound      goodput of the phase, as a percentage of what a fluid plant could serve at best; the worst seed beside it
routes          of each route in the fault: share served in time, and that of the worst seed
attempts at     at the last service, per request that arrives, in the fault; the mean, and the worst second of any seed
back after      from the end of the fault until 95% of the requests of five seconds are served in time; the worst seed beside it
wasted          server time of all services that led to no answer in time; the worst seed beside it
`

// GraphTable writes the rows of scenarios of several services as a table for people.
func GraphTable(to io.Writer, rows []Row) error {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, graphHeader)
	for _, r := range rows {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", r.Scenario, r.Contender, of(r.Good, Fault), of(r.OfBest, Fault),
			of(r.Worst, Fault), of(r.OfBest, After), of(r.Worst, After), of(r.OfBest, Calm))
		for i, route := range r.Routes {
			if i > 0 {
				fmt.Fprint(out, ", ")
			}
			fmt.Fprintf(out, "%s %s (%s)", route.Name, digits(route.Good, 1), digits(route.Worst, 1))
		}
		if g := r.Graph; g != nil {
			fmt.Fprintf(out, "\t%s\t%s\t%s\t%s\t%s\t%s\t%s", g.Last, digits(g.Attempts, 2), digits(g.Worst, 2),
				seconds(g.Back), seconds(g.LastBack), digits(g.Wasted, 1), digits(g.MostWasted, 1))
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// Bounds writes the linear programs of the scenarios of several services, with their optima, as one list; it leaves out
// the others.
func Bounds(to io.Writer, scenarios []Scenario) error {
	type program struct {
		Scenario string    `json:"scenario"`
		Phases   []Optimum `json:"phases"`
	}
	list := []program{}
	for _, s := range scenarios {
		if s.Graph != nil {
			list = append(list, program{s.Name, s.Optimum()})
		}
	}
	enc := json.NewEncoder(to)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

func seconds(v float64) string {
	if math.IsInf(v, 1) {
		return "never"
	}
	return digits(v, 1) + " s"
}

// Table writes rows as a table for people.
func Table(to io.Writer, rows []Row) error {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, header)
	for _, r := range rows {
		fmt.Fprintf(out, "%s\t%s", r.Scenario, r.Contender)
		for _, phase := range []string{Fault, After, Calm} {
			fmt.Fprintf(out, "\t%s\t%s", of(r.OfBest, phase), of(r.Worst, phase))
		}
		fmt.Fprintf(out, "\t%s\t%s\t%s\t%s\t", digits(r.Late, 2), digits(r.RefusedInCalm, 2), digits(r.Critical, 1),
			digits(r.WritesPerMinute, 1))
		for i, route := range r.Routes {
			if i > 0 {
				fmt.Fprint(out, ", ")
			}
			fmt.Fprintf(out, "%s %s", route.Name, digits(route.Good, 1))
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

func of(phases map[string]float64, phase string) string {
	v, ok := phases[phase]
	if !ok {
		return "-"
	}
	return digits(v, 1)
}

// digits is v with so many decimals, and a dash where there is no number.
func digits(v float64, decimals int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// JSON writes rows for machines, as one list. Numbers that do not exist are null.
func JSON(to io.Writer, rows []Row) error {
	type phase struct {
		Name   string         `json:"name"`
		OfBest control.Number `json:"of_best_percent"`
		Worst  control.Number `json:"worst_seed_percent"`
		Good   control.Number `json:"good_percent"`
	}
	type route struct {
		Name    string         `json:"name"`
		Good    control.Number `json:"good_percent"`
		Refused control.Number `json:"refused_percent"`
		Worst   control.Number `json:"worst_seed_percent"`
	}
	type graph struct {
		Last       string         `json:"last_service"`
		Attempts   control.Number `json:"attempts_per_request"`
		Worst      control.Number `json:"attempts_per_request_worst_second"`
		Wasted     control.Number `json:"wasted_percent"`
		MostWasted control.Number `json:"wasted_worst_seed_percent"`
		Back       control.Number `json:"back_after_seconds"`
		LastBack   control.Number `json:"back_after_worst_seed_seconds"`
	}
	type row struct {
		Scenario      string         `json:"scenario"`
		Contender     Contender      `json:"contender"`
		Scrape        float64        `json:"scrape_seconds"`
		Window        float64        `json:"window_seconds"`
		Period        float64        `json:"period_seconds"`
		Seeds         []uint64       `json:"seeds"`
		Phases        []phase        `json:"phases"`
		Late          control.Number `json:"late_percent"`
		RefusedInCalm control.Number `json:"refused_in_calm_percent"`
		Critical      control.Number `json:"critical_percent"`
		Writes        control.Number `json:"writes_per_minute"`
		Routes        []route        `json:"routes,omitempty"`
		Graph         *graph         `json:"graph,omitempty"`
	}
	list := make([]row, 0, len(rows))
	for _, r := range rows {
		out := row{
			Scenario: r.Scenario, Contender: r.Contender, Seeds: r.Seeds,
			Scrape: r.Timing.Scrape.Seconds(), Window: r.Timing.Window.Seconds(), Period: r.Timing.Period.Seconds(),
			Late: control.Number(r.Late), RefusedInCalm: control.Number(r.RefusedInCalm),
			Critical: control.Number(r.Critical), Writes: control.Number(r.WritesPerMinute),
		}
		for _, name := range r.Phases {
			out.Phases = append(out.Phases, phase{
				name, control.Number(r.OfBest[name]), control.Number(r.Worst[name]), control.Number(r.Good[name]),
			})
		}
		for _, x := range r.Routes {
			out.Routes = append(out.Routes, route{x.Name, control.Number(x.Good), control.Number(x.Refused), control.Number(x.Worst)})
		}
		if g := r.Graph; g != nil {
			out.Graph = &graph{
				g.Last, control.Number(g.Attempts), control.Number(g.Worst), control.Number(g.Wasted), control.Number(g.MostWasted),
				control.Number(g.Back), control.Number(g.LastBack),
			}
		}
		list = append(list, out)
	}
	enc := json.NewEncoder(to)
	enc.SetIndent("", "  ")
	return enc.Encode(list)
}

// CSV writes what the loop saw and did in a run, one line a period.
func CSV(to io.Writer, result Result) error {
	out := csv.NewWriter(to)
	_ = out.Write([]string{
		"t", "L", "L_eff", "mean_ms", "X", "refused", "tau_ms", "m0_ms", "s_ms",
		"floor", "raw", "ceiling", "floor_test", "state", "hold", "bound", "goodput", "phi", "rate", "reason",
	})
	for _, p := range result.Points {
		d := p.Decision
		if len(p.Decisions) == 0 { // nobody measures
			d = control.NewDecision(service, "")
			d.Gates.FloorTest = ""
		}
		reasons := []string{d.Reason}
		for _, other := range p.Decisions[min(1, len(p.Decisions)):] {
			whose := ""
			if other.Service != d.Service {
				whose = other.Service + "/"
			}
			reasons = append(reasons, whose+string(other.Knob)+" "+other.Reason)
		}
		knob := func(k control.Knob) string {
			if d := p.Knob(k); d.Knob == k {
				return number(float64(d.Value))
			}
			return ""
		}
		_ = out.Write([]string{
			number(p.At.Seconds()), number(p.Limit), number(p.Effective), number(1e3 * float64(d.Measured)),
			number(float64(d.Inputs.Throughput)), number(float64(d.Inputs.RefusedShare)), number(1e3 * float64(d.Setpoint)),
			number(1e3 * float64(d.Gates.OwnLatencySeconds)), number(1e3 * float64(d.Gates.ServiceTimeSeconds)),
			number(float64(d.Gates.Floor)), number(float64(d.Raw)), number(float64(d.Ceiling)),
			d.Gates.FloorTest, string(d.State), string(d.HoldReason), d.Bound, number(p.Goodput),
			knob(control.KnobShed), knob(control.KnobRate), strings.Join(reasons, " | "),
		})
	}
	out.Flush()
	return out.Error()
}

// number keeps four digits and leaves unknown numbers empty.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return ""
	case math.Abs(v) >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// Explain writes the decisions of the last period up to the instant at: every knob's reason, and the numbers behind it.
// An error says where the run has none.
func Explain(to io.Writer, r Run, result Result, at time.Duration) error {
	var point Point
	for _, p := range result.Points {
		if p.At <= at {
			point = p
		}
	}
	if len(point.Decisions) == 0 {
		if !r.Contender.governed() {
			return fmt.Errorf("%s has no loop that decides; take one of governor's, like %s", r.Contender, Cascade)
		}
		return fmt.Errorf("nothing is decided by %v; the first decision falls at %v", at, r.Timing.Period)
	}
	fmt.Fprintf(to, "%s, %s, S = %v, seed %d, at %v: limit %s published, %s in effect, goodput of the period %s%%\n",
		r.Scenario.Name, r.Contender, r.Timing.Scrape, r.Seed, point.At, number(point.Limit), number(point.Effective),
		digits(100*point.Goodput, 1))
	for _, d := range point.Decisions {
		whose := ""
		if r.Scenario.Graph != nil || r.Contender.divides() {
			whose = d.Service + "/"
		}
		fmt.Fprintf(to, "\n%s%s  %s\n", whose, d.Knob, d.Reason)
		if d.Detail != "" {
			fmt.Fprintf(to, "  %s\n", d.Detail)
		}
		out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
		line := func(name, value, meaning string) {
			if value != "" && value != "false" {
				fmt.Fprintf(out, "  %s\t%s\t%s\n", name, value, strings.TrimSpace(meaning))
			}
		}
		n := func(v control.Number) string { return number(float64(v)) }
		ms := func(v control.Number) string {
			if text := number(1e3 * float64(v)); text != "" {
				return text + " ms"
			}
			return ""
		}
		share := func(v control.Number) string {
			if text := number(100 * float64(v)); text != "" {
				return text + "%"
			}
			return ""
		}
		unit := ms
		if d.Knob == control.KnobShed {
			unit = share
		}
		line("state", string(d.State), string(d.HoldReason))
		line("value", n(d.From)+" → "+n(d.Value), "before, and wanted now")
		line("raw", n(d.Raw), "what the law asked for")
		line("bound", d.Bound, "the constraint that shaped it")
		if d.Ceiling > 0 {
			line("ceiling", n(d.Ceiling), "how far the reflex may go")
		}
		line("measured", unit(d.Measured), "mean of the admitted; for shed, refused of the protected")
		line("setpoint", unit(d.Setpoint), "what it should be")
		line("terms", strings.Join([]string{n(d.Terms.Error), n(d.Terms.P), n(d.Terms.I), n(d.Terms.D)}, " "),
			"error, P, I, D "+d.Terms.Event)
		line("throughput", n(d.Inputs.Throughput), "completions per second and instance")
		line("requests", n(d.Inputs.Requests), "offered in the window, all instances")
		line("refused", share(d.Inputs.RefusedShare), "of the offered")
		line("slow", share(d.Inputs.SlowRatio), "of the admitted, above the SLO")
		line("quantile", ms(d.Inputs.Quantile), "of the objective")
		line("occupancy", n(d.Gates.Occupancy), "in flight ÷ limit")
		line("binding", share(d.Gates.BindingShare), "of the window")
		line("floor", n(d.Gates.Floor), "X̂max·m₀; test: "+d.Gates.FloorTest)
		line("own latency", ms(d.Gates.OwnLatencySeconds), "m₀")
		line("service time", ms(d.Gates.ServiceTimeSeconds), "ŝ of a floor test")
		line("instances", strconv.Itoa(d.Inputs.Instances), fmt.Sprintf("%d of them left out as outliers %s",
			len(d.Inputs.Outliers), strings.Join(d.Inputs.Outliers, " ")))
		line("infeasible", strconv.FormatBool(d.Gates.Infeasible), "the SLO cannot be met")
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}
