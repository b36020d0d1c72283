package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/control"
)

func checkCommand(app *kingpin.Application) (string, func(*slog.Logger) error) {
	cmd := app.Command("check-config", "Check configuration files, and say everything that is wrong with them.")
	files := cmd.Arg("file", "Configuration file.").Required().Strings()

	return cmd.FullCommand(), func(*slog.Logger) error {
		failed := false
		for _, file := range *files {
			config, warnings, err := configs.Load(file)
			for _, w := range warnings {
				fmt.Fprintln(os.Stderr, w.String()+" (warning)")
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				failed = true
				continue
			}
			fmt.Printf("%s: ok\n", file)
			for _, s := range config.Specs() {
				fmt.Printf("  %s: %s; %g%% within %s, errors at most %g%%; %s\n", s.Service, s.Mode,
					100*s.SLO.Objective, s.SLO.Latency, 100*s.SLO.Errors, knobsText(s))
				fmt.Printf("    measured every %s over %s; a change shows after %s on average, fully after %s\n",
					model.Duration(s.Timing.Period), model.Duration(s.Timing.Window),
					s.Timing.DeadTime().Round(100*time.Millisecond), s.Timing.Settle().Round(100*time.Millisecond))
			}
		}
		if failed {
			return errReported
		}
		return nil
	}
}

func knobsText(s control.Spec) string {
	c := s.Concurrency
	if c == nil {
		return "no knob"
	}
	return fmt.Sprintf("concurrency %g..%g, fallback %g", c.Min, c.Max, c.Fallback)
}
