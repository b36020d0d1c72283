package consul

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Watcher delivers the values of a key as they are written. It implements guard's Source. One Watcher serves any number
// of concurrent watches. A process that watches one service, with all its knobs, has one request in flight.
type Watcher struct {
	Client *api.Client
	Keys   actuators.Keys

	// OnError, if set, is called for every failed request, with advice on what to try. The watch continues by itself. The
	// pauses between failures grow to MaxPause, so OnError may log.
	OnError func(error)

	// Wait is how long Consul holds a query while nothing changes; 0 means 60 s. It bounds how long a silently dead
	// connection goes unnoticed.
	Wait time.Duration
	// MaxPause caps the backoff after failures; 0 means 30 s.
	MaxPause time.Duration
}

// firstConnect spreads the first requests of processes that start together.
const firstConnect = time.Second

// Watch calls apply with the bytes of the service's Setting: first the current value, then each value that differs from
// the previous one, never two calls at once. It passes nil for a key that does not exist (yet, or any more). The bytes
// are passed as stored, so that the receiver, which enforces them, also decodes, judges and counts them: see
// actuators.Accept. Each value is delivered once: after a reconnect the same value is not delivered again, and so does
// not look like a renewed lease.
//
// Watch blocks until ctx ends and returns its error. While Consul is down it retries and calls nothing. It returns at
// once with another error only if the service name is invalid.
//
// Reads may be stale, so any server may answer: the reader checks epoch and revision, and the fleet puts no load on
// Consul's leader.
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
			raw = append([]byte{}, pair.Value...) // never nil, even if the value is empty
		}
		// If somebody has locked or unlocked the key, the pair has changed but its value has not.
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
		err = fmt.Errorf("no answer in time; does a proxy on the way to Consul hold back or drop long polls? %w", err)
	}
	w.OnError(explain(err, fmt.Sprintf("watch %s (again in %s)", key, pause.Round(time.Millisecond)),
		fmt.Sprintf(ruleReadKey, key)))
}
