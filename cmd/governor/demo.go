package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"
	"github.com/charmbracelet/x/term"
	"github.com/oklog/run"

	"github.com/seed-de83e32b/governor/cmd/internal/demo"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
)

func demoCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("demo", "Show what governor does: two services under the same load, one with a limit set by hand, "+
		"one governed, through overload, a slow dependency, and the loss of Prometheus and of the leader. On a terminal it "+
		"shows a live screen and leaves a scorecard. All runs in this process, with an embedded Prometheus and Consul.")
	headless := cmd.Flag("headless", "Print only the scorecard. Without a terminal it prints nothing else either, "+
		"except one line per act on standard error.").Bool()
	until := cmd.Flag("until", "The last act to play.").Hidden().String() // for tests that need no more
	duration := cmd.Flag("duration", "Length of the story, at least 50s.").Default(demo.DefaultDuration.String()).
		PlaceHolder("65s").Duration()
	seed := cmd.Flag("seed", "Seed of the arrivals and of the service times.").Default("1").Uint64()
	output := cmd.Flag("output", "Form of the scorecard: text or json.").Default(string(demo.Text)).
		Enum(string(demo.Text), string(demo.JSON))
	o := demo.Options{Command: inProcess}
	cmd.Flag("prometheus.url", "Use this real Prometheus. It must scrape the sidecars every second.").
		PlaceHolder("URL").StringVar(&o.PrometheusURL)
	cmd.Flag("consul.address", "Use this real Consul, with the demo's own keys.").PlaceHolder("HOST:PORT").
		StringVar(&o.ConsulAddress)
	cmd.Flag("prometheus.targets-file", "File to write with the addresses that Prometheus must scrape, for its "+
		"file_sd_configs. Without it the demo prints them.").PlaceHolder("FILE").StringVar(&o.TargetsFile)
	return cmd.FullCommand(), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := interrupt.Context(ctx, nil)
		defer stop()
		o.Seed = *seed
		show := demo.Show{
			Duration: *duration, Until: *until, Format: demo.Format(*output), Out: stdout, Live: os.Stderr,
			Screen: !*headless && *output == string(demo.Text) && hasScreen(os.Stdin, os.Stdout, os.Getenv("TERM")),
			// Any value except the empty one, as no-color.org says.
			Color: os.Getenv("NO_COLOR") == "",
		}
		if *headless {
			show.Live = io.Discard
		}
		err := demo.Run(ctx, o, show)
		if ctx.Err() != nil {
			return nil // by a signal
		}
		return err
	}
}

// hasScreen reports whether there is a terminal for a live screen.
func hasScreen(stdin, stdout *os.File, terminal string) bool {
	return term.IsTerminal(stdin.Fd()) && term.IsTerminal(stdout.Fd()) && terminal != "" && terminal != "dumb"
}

// inProcess runs a governor command line in this process, until it ends or ctx does.
func inProcess(ctx context.Context, log *slog.Logger, args ...string) error {
	app, _, commands := commandLine()
	name, err := app.Parse(args)
	if err != nil {
		return err
	}
	if err = commands[name](ctx, log); errors.Is(err, run.ErrSignal) {
		return context.Canceled // the demo has received the signal, too
	}
	return err
}
