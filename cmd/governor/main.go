// Command governor closes a control loop around services: it measures them through Prometheus, decides their limits
// from their SLO, and publishes them through Consul.
//
// The daemon is `governor run`. `governor sidecar` is the other end of the loop for services that cannot import the
// guard library, and `governor check-config` reads a configuration as the daemon would.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/run"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

const overview = `Keeps the limits of your services right.

Governor measures services through Prometheus, decides their limits from their
SLO, and publishes them through Consul KV, where the guard library inside each
service, or the sidecar in front of it, obeys.

  governor check-config governor.yml
  governor run --config.file=governor.yml
  governor sidecar --service=checkout --slo.latency=300ms --upstream=http://127.0.0.1:8080

A new service starts in shadow: governor shows what it would do, and does
nothing. govtop shows all loops.`

func main() { os.Exit(governor(os.Args[1:])) }

func governor(args []string) int {
	app := kingpin.New("governor", overview)
	app.HelpFlag.Short('h')
	app.Version(version.Print("governor"))
	app.UsageWriter(os.Stdout)
	logging := &promslog.Config{}
	promslogflag.AddFlags(app, logging)

	commands := map[string]func(*slog.Logger) error{}
	for _, register := range []func(*kingpin.Application) (string, func(*slog.Logger) error){
		runCommand, checkCommand, sidecarCommand,
	} {
		name, command := register(app)
		commands[name] = command
	}

	name, err := app.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "governor: %v; try governor --help\n", err)
		return exitUsage
	}
	log := promslog.New(logging)
	switch err := commands[name](log); {
	case err == nil, errors.Is(err, run.ErrSignal):
		return exitOK
	case errors.Is(err, errReported):
		return exitError
	default:
		fmt.Fprintf(os.Stderr, "governor %s: %v\n", name, err)
		return exitError
	}
}

// errReported ends a command that has already said what is wrong.
var errReported = errors.New("reported")
