package main

import (
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/checkconfig"
)

func checkCommand(app *kingpin.Application) (string, func(*slog.Logger) error) {
	cmd := app.Command("check-config", "Say everything that is wrong with configuration files, or what governor makes of them.")
	files := cmd.Arg("file", "Configuration file.").Required().Strings()

	return cmd.FullCommand(), func(*slog.Logger) error {
		failed := false
		for _, file := range *files {
			failed = checkconfig.Run(os.Stdout, os.Stderr, file) != 0 || failed
		}
		if failed {
			return errReported
		}
		return nil
	}
}
