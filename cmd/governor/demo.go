package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/charmbracelet/x/term"
	"github.com/oklog/run"

	"github.com/seed-de83e32b/governor/cmd/internal/demo"
)

func demoCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("demo", "Show what governor does: two services under the same load, one with a limit set by hand, "+
		"one governed, through overload, a slow dependency, and the loss of Prometheus and of the leader. On a terminal it "+
		"is a live screen; the scorecard stays. Everything runs in this process, with an embedded Prometheus and Consul.")
	headless := cmd.Flag("headless", "Print the scorecard only. Without a terminal there is no more in any case, but "+
		"for a line an act on standard error.").Bool()
	until := cmd.Flag("until", "The last act to play.").Hidden().String() // for tests, which have seen the others
	duration := cmd.Flag("duration", "How long the story takes, at least 50s.").Default(demo.DefaultDuration.String()).
		PlaceHolder("65s").Duration()
	seed := cmd.Flag("seed", "Seed of the arrivals and of the service times.").Default("1").Uint64()
	output := cmd.Flag("output", "Form of the scorecard: text or json.").Default(string(demo.Text)).
		Enum(string(demo.Text), string(demo.JSON))
	o := demo.Options{Command: inProcess}
	cmd.Flag("prometheus.url", "A real Prometheus to use. It has to scrape the sidecars every second.").
		PlaceHolder("URL").StringVar(&o.PrometheusURL)
	cmd.Flag("consul.address", "A real Consul to use, in the demo's own keys.").PlaceHolder("HOST:PORT").
		StringVar(&o.ConsulAddress)
	cmd.Flag("prometheus.targets-file", "File for the addresses that Prometheus has to scrape, as its file_sd_configs "+
		"reads it. Without it they are printed.").PlaceHolder("FILE").StringVar(&o.TargetsFile)
	return cmd.FullCommand(), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the demo at once
		o.Seed = *seed
		show := demo.Show{
			Duration: *duration, Until: *until, Format: demo.Format(*output), Out: os.Stdout, Live: os.Stderr,
			Screen: !*headless && *output == string(demo.Text) && hasScreen(os.Stdin, os.Stdout, os.Getenv("TERM")),
			// Any value but the empty one, as no-color.org has it.
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

// hasScreen reports whether a live screen can be shown.
func hasScreen(stdin, stdout *os.File, terminal string) bool {
	return term.IsTerminal(stdin.Fd()) && term.IsTerminal(stdout.Fd()) && terminal != "" && terminal != "dumb"
}

// inProcess runs a command line of governor in this process, until it ends or ctx does.
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
