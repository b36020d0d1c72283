package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

// Format is the format of the scorecard.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Show says what to show, and where.
type Show struct {
	Duration time.Duration
	Until    string // the last act to play, by its name; "": all
	Format   Format
	Out      io.Writer // the scorecard
	Live     io.Writer // progress, one line per act; io.Discard: headless
	Screen   bool      // a live screen; standard input and output must be a terminal
	Color    bool      // on it
}

// Run starts a World, plays the story and writes the scorecard. If ctx ends or somebody quits, the scorecard covers
// what was played until then.
func Run(ctx context.Context, o Options, show Show) (err error) {
	acts, err := Story(show.Duration)
	if err == nil && show.Until != "" {
		acts, err = Until(acts, show.Until)
	}
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
	say := func(format string, args ...any) { fmt.Fprintf(show.Live, format+"\n", args...) }
	say("Starting Prometheus, Consul, two services with sidecars, and two governors.")
	w, err := Start(ctx, o)
	defer w.Stop()
	if err != nil {
		return err
	}
	var p *player
	if show.Screen {
		p, err = playOnScreen(ctx, w, acts, show.Color)
	} else {
		w.introduce(say)
		p = newPlayer(w, acts, func(s scene) { say("%d/%d %s", s.number, s.of, s.act.Title) })
		err = p.run(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if len(p.spans) == 0 {
		return nil
	}
	say("Waiting for the last answers.")
	w.StopLoad()
	result := w.Judge(p.spans)
	result.Complete, result.hand = p.whole, p.hand
	if !p.whole {
		acts = asPlayed(p.spans)
	}
	result.Optimum, result.OptimumLimit = Optimum(acts, o.Seed)
	result.again = o.again(show.Duration)
	if show.Format == JSON {
		e := json.NewEncoder(show.Out)
		e.SetIndent("", "  ")
		return e.Encode(result)
	}
	return result.write(show.Out)
}

// asPlayed returns acts with the length they were played.
func asPlayed(spans []Span) (acts []Act) {
	for _, s := range spans {
		s.Lasts = s.To.Sub(s.From)
		acts = append(acts, s.Act)
	}
	return acts
}

// again is the command that plays the whole story.
func (o Options) again(duration time.Duration) string {
	command := fmt.Sprintf("governor demo --seed=%d --duration=%s", o.Seed, duration)
	if o.PrometheusURL != "" {
		command += fmt.Sprintf(" \\\n  --prometheus.url=%s --consul.address=%s", o.PrometheusURL, o.ConsulAddress)
	}
	return command
}

// servers describes Prometheus and Consul in a line or two.
func (w *World) servers() string {
	if w.embedded != nil {
		return "Embedded: Prometheus (real PromQL engine), Consul (KV passes the real one's contract tests). " +
			"Real ones: make demo-real"
	}
	text := fmt.Sprintf("On a real Prometheus, %s, and a real Consul, %s.", w.options.PrometheusURL, w.consul)
	if w.options.TargetsFile == "" {
		text += " Prometheus must scrape every second: " + strings.Join(w.Targets(), " ")
	}
	return text
}

// introduce says what runs where.
func (w *World) introduce(say func(string, ...any)) {
	for _, line := range fit.Wrap(w.servers(), 80) {
		say("%s", line)
	}
	if w.embedded != nil {
		say("Prometheus is %s, Consul http://%s.", w.prometheus, w.consul)
	}
	for _, g := range w.governors {
		say("%s: govtop --connect %s", g.name, g.client.Address())
	}
}
