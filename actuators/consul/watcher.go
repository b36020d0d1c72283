package consul

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Watcher hands on what is written to a key. It implements guard's Source. One Watcher serves any number of
// concurrent watches; a process that watches one service, with all its knobs, has one request in flight.
type Watcher struct {
	Client *api.Client
	Keys   actuators.Keys

	// OnError, if set, is told of every request that failed, with what to try. The watch goes on by itself; the pauses
	// between failures grow to MaxPause, so it may log.
	OnError func(error)

	// Wait is how long Consul holds a query while nothing changes; 0 means 60 s. It bounds how long a connection that
	// has silently died goes unnoticed.
	Wait time.Duration
	// MaxPause caps the backoff after failures; 0 means 30 s.
	MaxPause time.Duration
}

// firstConnect spreads the first requests of processes that were started together.
const firstConnect = time.Second

// Watch calls apply with the bytes of the service's Setting: first what is there, then each value that differs from the
// one before, never two calls at once. It passes nil for a key that does not exist (yet, or any more). Bytes come as
// they are stored, so that whoever enforces them also decodes, judges and counts them: see actuators.Accept. A value is
// handed on once: reconnecting to the same value is no news, and must not look like a renewed lease.
//
// Watch blocks until ctx ends and returns its error. While Consul is down it calls nothing, and retries. It returns at
// once with another error only for a service name that is no name.
//
// Reads may be stale, answered by any server: order is checked by epoch and revision, so the fleet need not load the
// leader.
func (w *Watcher) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	if err := actuators.ValidServiceName(service); err != nil {
		return fmt.Errorf("watch the setting of service %q: expected %w", service, err)
	}
	return w.WatchKey(ctx, w.Keys.Setting(service), apply)
}

// WatchKey is Watch for any key.
func (w *Watcher) WatchKey(ctx context.Context, key string, apply func(raw []byte)) error {
	f := follower{kv: w.Client.KV(), key: key, stale: true, wait: w.Wait}
	if f.wait == 0 {
		f.wait = time.Minute
	}
	retry := backoff{first: time.Second, most: w.MaxPause}
	if retry.most == 0 {
		retry.most = 30 * time.Second
	}
	var last []byte
	var seen bool
	if err := sleep(ctx, jitter(firstConnect)); err != nil {
		return err
	}
	for {
		pair, changed, err := f.next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			pause := retry.next()
			w.report(key, err, pause)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			continue
		}
		retry.reset()
		if !changed {
			continue
		}
		var raw []byte
		if pair != nil {
			raw = append([]byte{}, pair.Value...) // never nil, even where the value is empty
		}
		// Somebody may have locked or unlocked the key: that is a change of the pair, not of its value.
		if seen && (raw == nil) == (last == nil) && string(raw) == string(last) {
			continue
		}
		last, seen = raw, true
		apply(raw)
	}
}

func (w *Watcher) report(key string, err error, pause time.Duration) {
	if w.OnError == nil {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time; does something on the way to Consul hold or drop long polls? %w", err)
	}
	w.OnError(explain(err, fmt.Sprintf("watch %s (again in %s)", key, pause.Round(time.Millisecond)),
		fmt.Sprintf(ruleReadKey, key)))
}
