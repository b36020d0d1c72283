// Command governor closes a control loop around services: it measures them through Prometheus, decides their limits
// from their SLO, and publishes them through Consul.
//
// The daemon is `governor run`. `governor sidecar` is the other end of the loop for services that cannot import the
// guard library. `governor check-config` reads a configuration as the daemon would. `governor demo` shows the whole
// loop at work in one process. `governor simulate` runs scenarios. `governor explain` says why a loop does what it does.
// `governor freeze`, `resume` and `override` let a person step in, straight through Consul.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/run"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"

	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/logqueue"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

const overview = `Adapts the limits of your services to their load.

Governor measures services through Prometheus, decides their limits from their
SLO, and publishes them through Consul KV, where the guard library inside each
service, or the sidecar in front of it, obeys.

  governor demo
  governor check-config governor.yml
  governor run --config.file=governor.yml
  governor sidecar --service=checkout --slo.latency=300ms --upstream=http://127.0.0.1:8080
  governor simulate half x5

  governor explain checkout/concurrency
  governor freeze checkout/concurrency --reason=INC-1412

A new service starts in shadow: governor shows what it would do, and does
nothing. govtop shows all loops.`

func main() {
	version.Version = api.Version() // one name everywhere for a build without a version stamp
	os.Exit(governor(os.Args[1:]))
}

// command runs a sub-command until it is done, its context ends or a signal arrives.
type command func(context.Context, *slog.Logger) error

// commandLine returns the parser of the command line, the logging flags that it fills, and the commands by name.
func commandLine() (*kingpin.Application, *promslog.Config, map[string]command) {
	app := kingpin.New("governor", overview)
	app.HelpFlag.Short('h')
	app.Version(version.Print("governor"))
	app.UsageWriter(stdout.Unfailing())
	app.Terminate(func(code int) { os.Exit(printed(code)) })
	logging := &promslog.Config{Writer: plain.NewLogWriter(logs)}
	promslogflag.AddFlags(app, logging)

	commands := map[string]command{}
	for _, register := range []func(*kingpin.Application) (string, command){
		runCommand, checkCommand, sidecarCommand, demoCommand, simulateCommand,
		freezeCommand, resumeCommand, overrideCommand, explainCommand,
	} {
		name, command := register(app)
		commands[name] = command
	}
	nameFlags(app)
	groupFlags(app, sidecarGroups)
	return app, logging, commands
}

// stdout is where all commands print.
var stdout = plain.NewOutput(os.Stdout)

// printed returns the exit code of a program that would end with code, if what it printed has arrived.
func printed(code int) int {
	if err := stdout.Err(); err != nil && code == exitOK {
		fmt.Fprintf(os.Stderr, "governor: the output is incomplete: %v\n", err)
		return exitError
	}
	return code
}

// lacksCommand says whether a command line names no command, and does not ask for help either.
func lacksCommand(app *kingpin.Application, args []string) bool {
	parsed, err := app.ParseContext(args)
	if err != nil || parsed.SelectedCommand != nil {
		return false
	}
	return !slices.ContainsFunc(parsed.Elements, func(e *kingpin.ParseElement) bool {
		flag, ok := e.Clause.(*kingpin.FlagClause)
		return ok && !strings.HasPrefix(flag.Model().Name, "log.")
	})
}

// logs takes the log, and what a command says at its end: neither may wait for a reader.
var logs = logqueue.New(os.Stderr)

// flushPatience is how long the program waits at its end for the log to be read.
const flushPatience = time.Second

func governor(args []string) int {
	interrupt.IgnoreHangups()
	defer logs.Flush(flushPatience)
	stderr := plain.NewWriter(logs)
	app, logging, commands := commandLine()
	if lacksCommand(app, args) {
		app.UsageWriter(stderr).Usage(nil)
		fmt.Fprintln(stderr, "governor: which command?")
		return exitUsage
	}
	name, err := app.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "governor: %v; try governor --help\n", err)
		return exitUsage
	}
	if name == "run" || name == "sidecar" {
		signal.Ignore(syscall.SIGPIPE) // a log whose reader has gone must not end a server
	}
	log := promslog.New(logging)
	logs.OnLoss(func(lines uint64) {
		log.Warn("lines of the log were dropped: nobody read it, or it could not be written", "lines", lines)
	})
	switch err := commands[name](context.Background(), log); {
	case err == nil, errors.Is(err, run.ErrSignal):
		return printed(exitOK)
	case errors.Is(err, errReported):
		return exitError
	default:
		fmt.Fprintf(stderr, "governor %s: %v\n", name, err)
		return exitError
	}
}

// errReported ends a command that has already reported its problem.
var errReported = errors.New("reported")
