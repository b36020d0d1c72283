package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// Format is how the scorecard is written.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Show says what to tell, and to whom.
type Show struct {
	Duration time.Duration
	Format   Format
	Out      io.Writer // the scorecard
	Live     io.Writer // what happens, line by line; io.Discard: headless
}

// Run starts a World, tells the story and writes the scorecard.
func Run(ctx context.Context, o Options, show Show) (err error) {
	acts, err := Story(show.Duration)
	if err != nil {
		return err
	}
	if o.Dir, err = os.MkdirTemp("", "governor-demo-"); err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w (the log is kept in %s)", err, o.Dir)
			return
		}
		os.RemoveAll(o.Dir)
	}()
	// Before anything runs: the search takes a processor for itself for a moment.
	optimum, limit := Optimum(acts, o.Seed)

	w, err := Start(ctx, o)
	defer w.Stop()
	if err != nil {
		return err
	}
	l := &lines{out: show.Live}
	l.introduce(w, show.Duration)
	spans, err := Play(ctx, w, acts, l.act, l.frame)
	if err != nil {
		return err
	}
	w.StopLoad()
	result := w.Judge(spans)
	result.Optimum, result.OptimumLimit, result.asked = optimum, limit, show.Duration
	if show.Format == JSON {
		e := json.NewEncoder(show.Out)
		e.SetIndent("", "  ")
		return e.Encode(result)
	}
	return result.write(show.Out)
}

// lines tells a story line by line, in 80 columns.
type lines struct {
	out  io.Writer
	said string // the state that was last explained
}

func (l *lines) introduce(w *World, duration time.Duration) {
	say := func(format string, args ...any) { fmt.Fprintf(l.out, format+"\n", args...) }
	if w.embedded != nil {
		say("Prometheus (%s) and Consul (http://%s) are", w.prometheus, w.consul)
		say("embedded: stand-ins inside this process, reached over HTTP as real ones are.")
		say("On real servers: make demo-real, or --prometheus.url and --consul.address.")
	} else {
		say("On a real Prometheus, %s, and Consul, %s.", w.options.PrometheusURL, w.consul)
		if w.options.TargetsFile == "" {
			say("It has to scrape every second: %s", strings.Join(w.Targets(), " "))
		}
	}
	say("Sidecars and governors are the commands of production. The services sleep")
	say("instead of working: %d servers of %d ms. The objective is %.0f %% within %d ms.",
		Servers, Mean.Milliseconds(), 100*Objective, SLO.Milliseconds())
	say("  static    limit %d, set when the service could carry seventeen times as much", StaticLimit)
	say("  governed  limit and shed threshold by governor, %d to %d", minLimit, maxLimit)
	for _, g := range w.governors {
		say("  %s: govtop --connect %s", g.name, g.client.Address())
	}
	say("Seed %d, %s. Per second: good answers, bad ones (late, given up, failed),", w.options.Seed, duration)
	say("refused ones; and how many requests queue inside the service.")
}

func (l *lines) act(a Act) {
	fmt.Fprintf(l.out, "\n── %s\n      static                     governed\n"+
		"   s  good   bad  refd  queue    good   bad  refd  queue  limit\n", a.Title)
}

func (l *lines) frame(f Frame) {
	traffic := func(t Traffic) string {
		return fmt.Sprintf("%6d%6d%6d%7d", t.Good, t.Late+t.Lost, t.Refused, t.Queue)
	}
	d := f.Loop.Decision
	limit := "-"
	if effective := float64(d.Inputs.EffectiveLimit); !math.IsNaN(effective) {
		limit = fmt.Sprintf("%.0f", effective)
	}
	state := string(d.State)
	if f.Err != nil {
		state = "no answer"
	}
	fmt.Fprintf(l.out, "%4.0f%s  %s%7s  %s\n", f.At.Seconds(), traffic(f.Static), traffic(f.Governed), limit, state)
	if said := state + string(d.HoldReason) + f.Leader; said != l.said {
		l.said = said
		l.explain(f)
	}
}

// explain says in governor's own words why it does what it does now.
func (l *lines) explain(f Frame) {
	who := f.Leader
	if who == "" {
		who = "no leader"
	}
	for _, loop := range []api.Loop{f.Loop, f.Shed} {
		d := loop.Decision
		if f.Err != nil || d.Reason == "" || d.Knob == control.KnobShed && d.State == control.Steady {
			continue
		}
		for i, line := range wrap(fmt.Sprintf("%s: %s %s", who, d.Knob, d.Reason), 72) {
			indent := "      ▸ "
			if i > 0 {
				indent = "        "
			}
			fmt.Fprintln(l.out, indent+line)
		}
	}
}

// wrap breaks a text into lines of at most width characters, at spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// write prints the scorecard for people.
func (r Result) write(out io.Writer) error {
	var b strings.Builder
	row := func(name string, of func(Score) string) {
		fmt.Fprintf(&b, "%-47s%11s%11s%11s\n", name, of(r.Static), of(r.Governed), of(r.Optimum))
	}
	percent := func(n control.Number) string {
		if math.IsNaN(float64(n)) {
			return "-"
		}
		return fmt.Sprintf("%.1f %%", 100*float64(n))
	}
	fmt.Fprintf(&b, "\n%-47s%11s%11s%11s\n", "", "static", "governed", "optimum")
	fmt.Fprintf(&b, "%-47s%11d%11s%11d\n", "concurrency limit", r.StaticLimit, "governor's", r.OptimumLimit)
	row("requests offered", func(s Score) string { return fmt.Sprint(s.Offered) })
	row(fmt.Sprintf("good: answered within %d ms", SLO.Milliseconds()), func(s Score) string { return fmt.Sprint(s.Good) })
	row("good, of what could have been served", func(s Score) string { return percent(s.GoodputRatio) })
	row("the same after the load was back", func(s Score) string { return percent(s.AfterRatio) })
	row("critical ones answered, of three times the load", func(s Score) string { return percent(s.CriticalRatio) })
	row(fmt.Sprintf("  within %d ms", SLO.Milliseconds()), func(s Score) string { return percent(s.CriticalGoodRatio) })
	row("seconds above the SLO", func(s Score) string { return fmt.Sprint(s.SecondsAboveSLO) })
	row("99 % of the admitted within", func(s Score) string {
		return fmt.Sprintf("%.0f ms", 1000*float64(s.P99Seconds))
	})
	fmt.Fprintf(&b, "The optimum is the best limit that never changes, found in the simulator.\n")
	if !r.Valid {
		fmt.Fprintf(&b, "This machine was too busy for the figures to count: requests were sent\n"+
			"up to %.0f ms late.\n", 1000*r.LatenessSeconds)
	}
	fmt.Fprintf(&b, "Again: governor demo --seed=%d --duration=%s\n", r.Seed, r.asked)
	_, err := io.WriteString(out, b.String())
	return err
}
