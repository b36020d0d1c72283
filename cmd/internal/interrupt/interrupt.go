// Package interrupt is what governor's commands do when a signal arrives. One way for all of them:
//
//	SIGINT, SIGTERM   the first begins an orderly end: a leader releases its lock, a sidecar finishes its requests.
//	                  Those of the next seconds belong to it: supervisors and impatient shells send several, and a
//	                  leader that is killed before it has released the lock leaves the fleet without one. Later ones
//	                  end the process at once. Where there is waiting to cut short, the second signal does only that.
//	SIGHUP            never ends a command. Those that run for long read again what can change; the others ignore it.
package interrupt

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/oklog/run"
)

// Patience is how long after the first signal further ones change nothing.
const Patience = 5 * time.Second

// IgnoreHangups makes the process ignore SIGHUP, except where OnHangup is used.
func IgnoreHangups() { signal.Ignore(syscall.SIGHUP) }

// sameSignal is how long after the first signal others are the same one: some supervisors send one to the process and one
// to its group.
const sameSignal = 20 * time.Millisecond

// Context returns a context that ends with the first SIGINT or SIGTERM; its cause is then a run.SignalError. The second one
// calls hurry; nil: it is absorbed like those of the next seconds. Call stop at the end of the work: until then, later
// signals are absorbed, or end the process.
func Context(parent context.Context, hurry func(os.Signal)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	over := make(chan struct{})
	go absorb(signals, over, func(s os.Signal) { cancel(run.SignalError{Signal: s}) }, hurry, exit)
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(over)
		cancel(nil)
	})
}

func absorb(signals <-chan os.Signal, over <-chan struct{}, first, hurry, late func(os.Signal)) {
	var since time.Time
	for {
		select {
		case <-over:
			return
		case s := <-signals:
			switch {
			case since.IsZero():
				since = time.Now()
				first(s)
			case hurry != nil && time.Since(since) >= sameSignal:
				since = time.Now()
				hurry(s)
				hurry = nil
			case hurry == nil && time.Since(since) >= Patience:
				late(s)
			}
		}
	}
}

func exit(s os.Signal) {
	fmt.Fprintf(os.Stderr, "governor: %s again: ended at once\n", s)
	os.Exit(1)
}

// Actor is the member of a run.Group that ends it with the first signal. ctx is from Context.
func Actor(ctx context.Context) (execute func() error, interrupt func(error)) {
	ctx, cancel := context.WithCancelCause(ctx)
	return func() error {
		<-ctx.Done()
		return context.Cause(ctx)
	}, func(error) { cancel(nil) }
}

// pause is the shortest time from one reload to the next.
const pause = time.Second

// OnHangup calls reload for SIGHUPs until ctx ends: at once for one, and for a burst at most once a second, the last time
// after the last of them.
func OnHangup(ctx context.Context, reload func(context.Context)) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer IgnoreHangups() // by default it would end the process, which may still be at work
	defer signal.Stop(hangups)
	coalesce(ctx, hangups, reload)
}

func coalesce(ctx context.Context, hangups <-chan os.Signal, reload func(context.Context)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			reload(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
