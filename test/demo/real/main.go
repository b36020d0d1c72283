// Real plays the demo on a real Prometheus and a real Consul: it starts both, then runs the command in its arguments
// (`bin/governor demo`) with the flags that point to them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/seed-de83e32b/governor/test/demo"
	"github.com/seed-de83e32b/governor/test/servers"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: real COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1], os.Args[2:])
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "real:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, args []string) error {
	dir, err := os.MkdirTemp("", "governor-demo-real-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	say("starting a real Consul and a real Prometheus")
	consul, err := servers.StartConsul(ctx, dir, say)
	if err != nil {
		return err
	}
	defer consul.Stop()
	targets := filepath.Join(dir, "demo-targets.json")
	if err := os.WriteFile(targets, []byte("[]"), 0o644); err != nil {
		return err
	}
	prometheus, err := servers.StartPrometheus(ctx, dir, say, servers.Config(demo.Discovery(targets)))
	if err != nil {
		return err
	}
	defer prometheus.Stop()

	cmd := exec.Command(name, append(args, "--prometheus.url="+prometheus.URL(), "--consul.address="+consul.Address(),
		"--prometheus.targets-file="+targets)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// The command receives a signal from the terminal too; it ends by itself and prints its result.
	return cmd.Run()
}
