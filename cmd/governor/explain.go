package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/loops"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/explain"
)

func explainCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("explain", "Explain what a loop last decided and why, in plain words: what bound it, the "+
		"measurements behind it and their age, the order in force, and what would change the decision.")
	loop := loopName{whole: true} // of a service or a route, the answer says which loops there are
	cmd.Arg("loop", "The loop, as SERVICE/KNOB: checkout/concurrency; that of a route, as SERVICE/ROUTE/KNOB.").Required().SetValue(&loop)
	address := cmd.Flag("connect", "Address of a governor.").PlaceHolder("URL").Default("http://" + api.DefaultAddress).
		String()
	var client *api.Client
	cmd.Validate(func(*kingpin.CmdClause) (err error) {
		if client, err = api.NewClient(*address); err != nil {
			return fmt.Errorf("--connect: %w", err)
		}
		return nil
	})
	return cmd.FullCommand(), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := interrupt.Context(ctx, nil)
		defer stop()
		defer client.Close()
		return explainLoop(ctx, client, loop, stdout)
	}
}

// explainLoop fetches one loop and prints its explanation. Ages are by the daemon's clock.
func explainLoop(ctx context.Context, client *api.Client, loop loopName, out io.Writer) error {
	if loop.knob == "" {
		all, err := client.Loops(ctx)
		if err != nil {
			return err
		}
		return loops.Unknown(loop.String(), loops.Names(all))
	}
	l, err := client.Loop(ctx, loop.service, control.Knob(loop.knob))
	if answer, ok := errors.AsType[*api.AnswerError](err); ok && answer.Code == http.StatusNotFound {
		if all, listErr := client.Loops(ctx); listErr == nil {
			return loops.Unknown(loop.String(), loops.Names(all))
		}
	}
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	now := status.Now
	if now.IsZero() {
		now = time.Now()
	}
	_, err = io.WriteString(out, explanation(explain.Subject{Loop: l, Status: status, Now: now}))
	return err
}

// The layout of an explanation, in cells.
const (
	explainWidth  = 80
	explainIndent = 10
	inputWidth    = 28
)

// explanation is the whole text, in lines that fit a terminal of 80 columns.
func explanation(s explain.Subject) string {
	var b strings.Builder
	row := func(key string, texts ...string) {
		for _, text := range texts {
			if text != "" {
				hang(&b, fmt.Sprintf("%-*s", explainIndent, key), text)
				key = ""
			}
		}
	}
	hang(&b, "", fmt.Sprintf("%s, mode %s, %s", s.Name(), s.Loop.Mode, leaderText(s.Status)))
	b.WriteString("\n")
	row("state", s.State(), explain.Means(s.Loop.Decision.State))
	row("why", s.Reason())
	row("culprit", s.Loop.Decision.Blame())
	row("bound by", s.BoundBy())
	row("ordered", s.Order())
	row("in force", s.InForce()...)
	row("pace", s.Pace())
	b.WriteString("\n")
	hang(&b, "", "what it measured, with the age of each now")
	for _, in := range s.Inputs() {
		value := in.Value
		switch {
		case in.Over != "" && in.Age != "":
			value += fmt.Sprintf(" (over %s, %s old)", in.Over, in.Age)
		case in.Over != "":
			value += " (over " + in.Over + ")"
		case in.Age != "":
			value += " (" + in.Age + " old)"
		}
		name := plain.Clean(in.Name)
		if fit.Width(name) >= inputWidth {
			hang(&b, "  ", name)
			name = ""
		}
		hang(&b, fmt.Sprintf("  %-*s", inputWidth, name), value)
	}
	b.WriteString("\n")
	hang(&b, "", "what would change it")
	for _, text := range s.WouldChange() {
		hang(&b, "  - ", text)
	}
	return b.String()
}

func leaderText(s api.Status) string {
	switch by := s.Leader; {
	case s.Role == api.Leader:
		return fmt.Sprintf("steered by %s, the leader of epoch %d", s.Instance, by.Epoch)
	case by.Instance != "":
		return fmt.Sprintf("as seen by the standby %s; %s leads in epoch %d", s.Instance, by.Instance, by.Epoch)
	}
	return fmt.Sprintf("as seen by the standby %s; no governor leads", s.Instance)
}

// hang writes text after head and indents further lines to the same column. It cleans the text first, so that its width
// is what a terminal shows.
func hang(b *strings.Builder, head, text string) {
	text = strings.Join(strings.Fields(plain.Clean(text)), " ")
	for _, line := range fit.Wrap(text, max(explainWidth-len(head), 1)) {
		b.WriteString(strings.TrimRight(head+line, " ") + "\n")
		head = strings.Repeat(" ", len(head))
	}
}
