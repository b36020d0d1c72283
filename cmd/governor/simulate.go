package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
)

// simulation is what the command line of `governor simulate` asks for.
type simulation struct {
	names                  []string
	all, list, bounds      bool
	contenders             []string
	seeds                  int
	seed                   uint64
	scrape, window, period time.Duration
	lag, explain           time.Duration
	limit                  int
	output                 string
}

// usualContenders are those of the table; of a single run, the last.
var usualContenders = []string{
	string(simulate.Static), string(simulate.Reflex), string(simulate.Outer), string(simulate.Cascade),
}

// The forms of the output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputCSV   = "csv"
)

func simulateCommand(app *kingpin.Application) (string, command) {
	var s simulation
	return s.register(app), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := interrupt.Context(ctx, nil)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the run at once
		err := s.run(ctx, stdout, plain.NewWriter(os.Stderr))
		if errors.Is(err, context.Canceled) {
			return errors.New("interrupted")
		}
		return err
	}
}

// register adds the command to app, with its flags in s, and returns its name.
func (s *simulation) register(app *kingpin.Application) string {
	cmd := app.Command("simulate", "Put governor, guard and what they are compared with through scenarios: the real loops "+
		"and the real guard, on a simulated service with a simulated Prometheus. Names are those of --list, or files of "+
		"yours that end in .yml; a run of a quarter of an hour takes a second. The table shows the goodput of each phase "+
		"as a percentage of the best fixed limit's, which is found by trying many and takes most of the time.")
	cmd.Arg("scenario", "Scenario, by name or file.").StringsVar(&s.names)
	cmd.Flag("all", "Run all scenarios that come with governor, which takes several minutes.").BoolVar(&s.all)
	cmd.Flag("list", "Say which scenarios and contenders there are, and what each scenario is for.").BoolVar(&s.list)
	cmd.Flag("bounds", "Print the bounds of scenarios of several services as JSON, without a run: the linear program of "+
		"each phase and its optimum.").BoolVar(&s.bounds)
	cmd.Flag("contender", "The controller in charge; repeat the flag for several. static is the scenario's own limit, "+
		"reflex is guard alone, outer governor's loop alone, cascade both. --list shows the others.").
		Default(usualContenders...).StringsVar(&s.contenders)
	cmd.Flag("seeds", "How many seeds to run: 1, 2, 3 and so on. The table shows the mean and the worst.").
		Default("3").IntVar(&s.seeds)
	cmd.Flag("seed", "One seed instead, by its number.").PlaceHolder("N").Uint64Var(&s.seed)
	cmd.Flag("scrape", "Scrape interval S.").Default("5s").DurationVar(&s.scrape)
	cmd.Flag("window", "Query window W (default 4·S).").PlaceHolder("20s").DurationVar(&s.window)
	cmd.Flag("period", "Period of the loop T (default S).").PlaceHolder("5s").DurationVar(&s.period)
	cmd.Flag("lag", "Extra age of every sample.").Default("0s").DurationVar(&s.lag)
	cmd.Flag("limit", "Initial limit, instead of the scenario's.").PlaceHolder("N").IntVar(&s.limit)
	cmd.Flag("output", "table or json; csv prints one run, period by period.").Default(outputTable).
		EnumVar(&s.output, outputTable, outputJSON, outputCSV)
	cmd.Flag("explain", "Print the decisions at this instant of one run, every knob's reason and numbers.").
		PlaceHolder("310s").DurationVar(&s.explain)
	cmd.Validate(func(*kingpin.CmdClause) error { return s.validate() })
	return cmd.FullCommand()
}

// validate finds what is wrong with the command line.
func (s *simulation) validate() error {
	if s.window == 0 {
		s.window = 4 * s.scrape
	}
	if s.period == 0 {
		s.period = s.scrape
	}
	switch {
	case s.list:
		return nil
	case s.all && len(s.names) > 0:
		return errors.New("either --all or names of scenarios")
	case !s.all && len(s.names) == 0:
		return errors.New("which scenario? Name some, or --all; --list shows them")
	case s.scrape < 100*time.Millisecond:
		return fmt.Errorf("--scrape=%v: expected at least 100ms", s.scrape)
	case s.window < 4*s.scrape:
		return fmt.Errorf("--window=%v: expected at least four times --scrape=%v", s.window, s.scrape)
	case s.period < s.scrape:
		return fmt.Errorf("--period=%v: expected at least --scrape=%v", s.period, s.scrape)
	case s.seeds < 1 || s.seeds > 1000:
		return fmt.Errorf("--seeds=%d: expected 1 to 1000", s.seeds)
	case s.limit < 0:
		return fmt.Errorf("--limit=%d: expected at least 1", s.limit)
	case s.lag < 0 || s.explain < 0:
		return errors.New("--lag and --explain: expected a duration above zero")
	}
	for _, c := range s.contenders {
		if err := simulate.Contender(c).Check(); err != nil {
			return fmt.Errorf("--contender=%s: %w", c, err)
		}
	}
	return nil
}

func (s *simulation) run(ctx context.Context, out, progress io.Writer) error {
	if s.list {
		return list(out)
	}
	var chosen []simulate.Scenario
	if s.all {
		chosen = simulate.All()
	}
	for _, name := range s.names {
		scenario, err := simulate.Get(name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(chosen, func(c simulate.Scenario) bool { return c.Name == scenario.Name }) {
			return fmt.Errorf("two scenarios are called %s", scenario.Name)
		}
		chosen = append(chosen, scenario)
	}
	if s.bounds {
		return simulate.Bounds(out, chosen)
	}
	if s.explain > 0 || s.output == outputCSV {
		return s.one(out, chosen)
	}
	return s.table(ctx, out, progress, chosen)
}

// one shows a run from the inside.
func (s *simulation) one(out io.Writer, chosen []simulate.Scenario) error {
	if len(chosen) != 1 || len(s.contenders) > 1 && !slices.Equal(s.contenders, usualContenders) {
		return errors.New("--explain and --output=csv show one run: expected one scenario and one --contender")
	}
	contenders, err := s.contendersOf(chosen[0])
	if err != nil {
		return err
	}
	r := s.runOf(chosen[0], contenders[len(contenders)-1], max(s.seed, 1))
	result := r.Do()
	if s.explain > 0 {
		return simulate.Explain(out, r, result, s.explain)
	}
	return simulate.CSV(out, result)
}

func (s *simulation) runOf(scenario simulate.Scenario, contender simulate.Contender, seed uint64) simulate.Run {
	return simulate.Run{
		Scenario: scenario, Contender: contender, Seed: seed, Limit: float64(s.limit), Lag: s.lag,
		Timing: simulate.Pace(s.scrape, s.window, s.period),
	}
}

// table runs everything and shows what came of it.
func (s *simulation) table(ctx context.Context, out, progress io.Writer, chosen []simulate.Scenario) error {
	seeds := []uint64{s.seed}
	if s.seed == 0 {
		seeds = seeds[:0]
		for n := range s.seeds {
			seeds = append(seeds, uint64(n+1))
		}
	}
	var runs []simulate.Run
	for _, scenario := range chosen {
		contenders, err := s.contendersOf(scenario)
		if err != nil {
			return err
		}
		for _, c := range contenders {
			runs = append(runs, s.runOf(scenario, c, 0))
		}
	}
	const often = 5 * time.Second
	begun := time.Now()
	said := begun
	rows, err := simulate.Rows(ctx, runs, seeds, func(done, all int) {
		if now := time.Now(); now.Sub(said) > often {
			said = now
			fmt.Fprintf(progress, "%d of %d runs after %v\n", done, all, now.Sub(begun).Round(time.Second))
		}
	})
	if err != nil {
		return err
	}
	if s.output == outputJSON {
		return simulate.JSON(out, rows)
	}
	plural := "s"
	if len(seeds) == 1 {
		plural = ""
	}
	fmt.Fprintf(out, "S = %v, W = %v, T = %v, %d seed%s\n", s.scrape, s.window, s.period, len(seeds), plural)
	alone, graphs := rows[:0:0], rows[:0:0]
	for _, r := range rows {
		if r.Graph != nil {
			graphs = append(graphs, r)
		} else {
			alone = append(alone, r)
		}
	}
	for _, part := range []struct {
		rows   []simulate.Row
		table  func(io.Writer, []simulate.Row) error
		legend string
	}{{alone, simulate.Table, simulate.Legend}, {graphs, simulate.GraphTable, simulate.GraphLegend}} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintln(out)
		if err := part.table(out, part.rows); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "\n%s", part.legend); err != nil {
			return err
		}
	}
	return nil
}

// contendersOf returns the contenders that the command line asks for and the scenario can have: those of scenarios of one
// service or those of call graphs. Without a choice, the usual ones.
func (s *simulation) contendersOf(scenario simulate.Scenario) (suited []simulate.Contender, err error) {
	if scenario.Graph != nil && slices.Equal(s.contenders, usualContenders) {
		return simulate.GraphContenders(), nil
	}
	for _, c := range s.contenders {
		if c := simulate.Contender(c); c.Suits(scenario) {
			suited = append(suited, c)
		} else if !s.all {
			return nil, fmt.Errorf("%s is no contender for %s: %s; --list shows which are for call graphs", c, scenario.Name,
				c.Describe())
		}
	}
	return suited, nil
}

// list shows the manual's table of contents.
func list(to io.Writer) error {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, chapter := range simulate.Chapters() {
		fmt.Fprintf(out, "%s\n", chapter.Title)
		for _, s := range chapter.Scenarios {
			fmt.Fprintf(out, "  %s\t%s\n  \t  %s\n", s.Name, s.Title, s.Intent)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, "contenders")
	for _, c := range simulate.AllContenders() {
		fmt.Fprintf(out, "  %s\t%s\n", c, c.Describe())
	}
	return out.Flush()
}
