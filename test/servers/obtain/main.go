// Obtain makes sure that the servers for the tests exist, and prints their paths. It finds or builds each, which takes
// some minutes the first time, so that no test's time limit has to cover a build. Arguments name the servers; without
// arguments, all.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-de83e32b/governor/test/servers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kinds := servers.Kinds
	if len(os.Args) > 1 {
		kinds = nil
		for _, name := range os.Args[1:] {
			kinds = append(kinds, servers.Kind(name))
		}
	}
	for _, kind := range kinds {
		path, err := servers.Binary(ctx, kind, func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, format+"\n", args...)
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "obtain:", err)
			os.Exit(1)
		}
		fmt.Printf("%s: %s\n", kind, path)
	}
}
