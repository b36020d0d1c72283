package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/checkconfig"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
)

func checkCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("check-config", "Report everything that is wrong with configuration files, "+
		"or what governor derives from valid ones.")
	files := cmd.Arg("file", "Configuration file.").Required().Strings()
	online := cmd.Flag("online", "Query Prometheus and Consul too, and report what they hold for each service. "+
		"It only reads. The exit code is 1 if something that governor needs is missing.").Bool()

	return cmd.FullCommand(), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := interrupt.Context(ctx, nil)
		defer stop()
		stdout, stderr := plain.NewWriter(stdout), plain.NewWriter(os.Stderr)
		failed := false
		for _, file := range *files {
			code := 0
			if *online {
				code = checkconfig.Online(ctx, stdout, stderr, file)
			} else {
				code = checkconfig.Run(stdout, stderr, file)
			}
			failed = code != 0 || failed
		}
		if failed {
			return errReported
		}
		return nil
	}
}
