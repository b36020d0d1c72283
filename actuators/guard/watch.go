package guard

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Watch keeps anything that has setters supplied with the Settings of a service, without a guard: a limiter of
// golang.org/x/time/rate, a pool of connections. It blocks until ctx ends, and then returns nil; the caller chooses the
// goroutine. It returns at once with an error only if the name of the service is invalid.
//
// apply gets the Setting in force whenever that changes, never two calls at once:
//
//   - each Setting that a guard would accept: the others are logged with slog.Default, at most once a minute for each
//     reason, and change nothing;
//   - the steps, at most 16 for each knob, by which the knobs drift to their fallbacks in the course of one more lease after
//     their lease has run out. Ceiling and Borrow end with the lease.
//
// A knob that the newest Setting lacks keeps its value and its lease. Before the first Setting, and when the key is deleted,
// nothing is called, and what is in force stays. Unlike a guard, Watch knows nothing of the service's latency, so it also
// drifts while the service is in trouble. If src fails, Watch calls it again after a pause of about 30 s at most.
func Watch(ctx context.Context, src Source, service string, apply func(actuators.Setting)) error {
	if err := actuators.ValidServiceName(service); err != nil {
		return fmt.Errorf("guard: watch the settings of service %q: expected %w", service, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	arrived := make(chan []byte)
	over := make(chan struct{})
	defer func() {
		cancel()
		<-over
	}()
	go func() {
		defer close(over)
		attend(ctx, slog.Default(), service, func(heard func()) error {
			return watchService(ctx, src, service, func(raw []byte) {
				heard()
				select {
				case arrived <- raw:
				case <-ctx.Done():
				}
			})
		})
	}()

	start := time.Now()
	followed := regime{cfg: Config{Service: service}}
	refusals := logged{}
	var last actuators.Setting
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var raw []byte
		select {
		case <-ctx.Done():
			return nil
		case raw = <-arrived:
		case <-timer.C:
		}
		now := time.Since(start)
		followed.advance(now, true)
		if raw != nil {
			if _, err := followed.accept(now, raw); err != nil {
				refusals.refusal(now, slog.Default(), service, err)
			}
		}
		if s := followed.inForce(now); !reflect.DeepEqual(s, last) {
			last = s
			apply(s)
		}
		if at, ok := followed.nextChange(now); ok {
			timer.Reset(at - now)
		}
	}
}

// watchService is src.Watch. A PartSource is watched as Run does it, so that both share a connection and need the same rights.
func watchService(ctx context.Context, src Source, service string, apply func(raw []byte)) error {
	parts, ok := src.(PartSource)
	if !ok {
		return src.Watch(ctx, service, apply)
	}
	return parts.WatchParts(ctx, service, func(part actuators.Part, raw []byte) {
		if part == (actuators.Part{}) {
			apply(raw)
		}
	})
}
