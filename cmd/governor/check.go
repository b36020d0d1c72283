package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/checkconfig"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
)

func checkCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("check-config", "Say everything that is wrong with configuration files, or what governor makes of them.")
	files := cmd.Arg("file", "Configuration file.").Required().Strings()
	online := cmd.Flag("online", "Look into Prometheus and Consul too, and say what is found there, service by service. "+
		"It only reads; the exit code is 1 where something is missing that governor needs.").Bool()

	return cmd.FullCommand(), func(ctx context.Context, _ *slog.Logger) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		stdout, stderr := plain.NewWriter(os.Stdout), plain.NewWriter(os.Stderr)
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
