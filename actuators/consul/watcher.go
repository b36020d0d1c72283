package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// Watcher delivers the values of keys as they are written. It implements guard's Source and PartSource. One Watcher
// serves any number of concurrent watches. A process that watches one service, with all its knobs, routes and calls,
// has one request in flight; so has one with several services, if all its guards use the same Watcher. Do not copy a
// Watcher.
type Watcher struct {
	Client *Client
	Keys   actuators.Keys

	// OnError, if set, is called for every failed request, with advice on what to try. The watch continues by itself. The
	// pauses between failures grow to MaxPause, so OnError may log. It is also called, at most every ten minutes, while
	// Consul leaves keys out of its answers because a rule of the token denies them.
	OnError func(error)

	// Wait is how long Consul holds a query while nothing changes; 0 means 50 s, which ends within the usual 60 s of a
	// proxy. It bounds how long a silently dead connection goes unnoticed. If a proxy ends a query sooner, with 504 or 408,
	// later ones wait for three quarters of the time that it allowed.
	Wait time.Duration
	// MaxPause caps the backoff after failures; 0 means 30 s.
	MaxPause time.Duration

	shared sharedWatch
}

// firstConnect spreads the first requests of processes that start together.
const firstConnect = time.Second

// Watch calls apply with the bytes of the Setting of a service or a route: first the current value, then each value
// that differs from the previous one, never two calls at once. It passes nil for a key that does not exist (yet, or any
// more). The bytes are passed as stored, so that the receiver, which enforces them, also decodes, judges and counts
// them: see actuators.Accept. Each value is delivered once: after a reconnect the same value is not delivered again,
// and so does not look like a renewed lease.
//
// Watch blocks until ctx ends and returns its error. While Consul is down it retries and calls nothing. It returns at
// once with another error only if the name is invalid.
//
// Reads may be stale, so any server may answer: the reader checks epoch and revision, and the fleet puts no load on
// Consul's leader.
func (w *Watcher) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	if err := actuators.ValidCompartment(service); err != nil {
		return fmt.Errorf("watch the setting of service %q: expected %w", service, err)
	}
	return w.WatchKey(ctx, w.Keys.Setting(service), apply)
}

// WatchKey is Watch for any key.
func (w *Watcher) WatchKey(ctx context.Context, key string, apply func(raw []byte)) error {
	values := news{}
	if err := wait.For(ctx, jitter(firstConnect)); err != nil {
		return err
	}
	return w.follow(ctx, w.follower(key, false), never, func(pairs api.KVPairs) {
		var raw []byte
		if len(pairs) > 0 {
			raw = pairs[0].Value
		}
		values.deliver(actuators.Part{}, len(pairs) > 0, raw, func(_ actuators.Part, raw []byte) { apply(raw) })
	})
}

// WatchParts is Watch for all Settings of a service: its own (the zero Part), those of its routes and those of its
// calls. Settings of routes and of calls are passed as long as they exist, and once as nil when they have been deleted.
//
// It reads the prefix of the service's keys or, while several services are watched, the prefix of all services. If the
// token may not, or if the keys of services that nobody here watches are too many, WatchParts reports that to OnError,
// reads less at a time (each service, or the service's own key alone), and tries the prefix again every ten minutes.
func (w *Watcher) WatchParts(ctx context.Context, service string, apply func(part actuators.Part, raw []byte)) error {
	if err := actuators.ValidServiceName(service); err != nil {
		return fmt.Errorf("watch all settings of service %q: expected %w", service, err)
	}
	return w.shared.watch(ctx, w, service, apply)
}

// news remembers what has been delivered, so that each value is delivered once. nil: the key does not exist.
type news map[actuators.Part][]byte

// deliver calls apply unless the value is the last one. If somebody has locked or unlocked the key, the pair has changed
// but its value has not.
func (n news) deliver(part actuators.Part, exists bool, value []byte, apply func(actuators.Part, []byte)) {
	var raw []byte
	if exists {
		raw = append([]byte{}, value...) // never nil, even if the value is empty
	}
	last, seen := n[part]
	if seen && (raw == nil) == (last == nil) && string(raw) == string(last) {
		return
	}
	n[part] = slices.Clone(raw) // the bytes are apply's to keep, and to change
	apply(part, raw)
}

// apply delivers what is new in the keys of a service. Its own Setting comes first.
func (n news) apply(keys actuators.Keys, service string, read keysRead, apply func(actuators.Part, []byte)) {
	found := map[actuators.Part][]byte{}
	for _, pair := range read.pairs {
		if of, part, ok := keys.PartOf(pair.Key); ok && of == service {
			found[part] = pair.Value
		}
	}
	if _, ok := found[actuators.Part{}]; !ok {
		n.deliver(actuators.Part{}, false, nil, apply)
	}
	for _, part := range slices.SortedFunc(maps.Keys(found), actuators.Part.Compare) {
		n.deliver(part, true, found[part], apply)
	}
	if read.complete {
		n.prune(found, apply)
	}
}

// prune delivers nil for the routes and the calls that are no longer found.
func (n news) prune(found map[actuators.Part][]byte, apply func(actuators.Part, []byte)) {
	for _, part := range slices.SortedFunc(maps.Keys(n), actuators.Part.Compare) {
		if _, ok := found[part]; !ok && part != (actuators.Part{}) {
			delete(n, part)
			apply(part, nil)
		}
	}
}

func (w *Watcher) follower(key string, recurse bool) *follower {
	f := &follower{kv: w.Client.KV(), key: key, recurse: recurse, stale: true, wait: w.Wait, most: mostAnswer}
	if f.wait == 0 {
		f.wait = 50 * time.Second
	}
	return f
}

// never is for a follower without an alternative: it is tried again, whatever is wrong.
func never(error) bool { return false }

// follow calls see with each answer of f that differs from the one before. It blocks until ctx ends and returns its error,
// or until an error for which hopeless returns true.
func (w *Watcher) follow(ctx context.Context, f *follower, hopeless func(error) bool, see func(api.KVPairs)) error {
	retry := backoff{first: time.Second, most: w.MaxPause}
	if retry.most == 0 {
		retry.most = 30 * time.Second
	}
	for {
		pairs, changed, err := f.all(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && hopeless(err):
			return err
		case err != nil:
			pause := retry.next()
			w.report(f, err, pause)
			if err := wait.For(ctx, pause); err != nil {
				return err
			}
			continue
		}
		retry.reset()
		if f.filtered && time.Since(f.told) >= narrowFor {
			f.told = time.Now()
			w.reportFiltered(ctx, f)
		}
		if changed {
			see(pairs)
		}
	}
}

// reportFiltered says that the token hides keys. A Setting among them would never come, and nothing else would say why.
func (w *Watcher) reportFiltered(ctx context.Context, f *follower) {
	if w.OnError == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerGrace)
	defer cancel()
	for _, prefix := range f.lacking(ctx) {
		w.OnError(fmt.Errorf("watch %s: %w for some of its keys, which Consul leaves out of its answers, so that these settings "+
			"never come; look for a rule of the token's policies that overrides "+ruleListPrefix, prefix, ErrDenied, f.key))
	}
}

func (w *Watcher) report(f *follower, err error, pause time.Duration) {
	if w.OnError == nil {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time; does a proxy on the way to Consul hold back or drop long polls? %w", err)
	}
	rule := ruleReadKey
	if f.recurse {
		rule = ruleListPrefix
	}
	w.OnError(explain(err, fmt.Sprintf("watch %s (again in %s)", f.key, pause.Round(time.Millisecond)),
		fmt.Sprintf(rule, f.key)))
}
