package consul

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/consul/api"
)

// Parameters for following a key.
const (
	// An answer with nothing new may come at once and repeatedly: if the index grows with every write anywhere, if the
	// agent sends index 0, if a proxy does not hold long polls.
	pauseUnchanged = time.Second
	// A key that changes all the time is read at most this often; a reader needs the newest value, not every value.
	pauseChanged = 100 * time.Millisecond
	// Consul adds up to wait/16 of jitter to a blocking query. Beyond that, plus this much for the network, the answer is
	// lost.
	answerGrace = 2 * time.Second
)

// follower reads one key by blocking queries, one at a time.
//
// The index rules are Consul's (its API pages, "Blocking Queries"). The index is opaque. If it goes backwards, the
// servers' state was replaced, so start over without it. Zero means nothing and is never sent. After an error the
// follower also starts over: a server that lost its state would otherwise wait out the whole query for an index it may
// never reach.
type follower struct {
	kv    *api.KV
	key   string
	stale bool          // any server may answer, not only the leader
	wait  time.Duration // of one blocking query

	index     uint64
	value     []byte // as last returned
	exists    bool
	session   string
	answered  bool      // at least once
	notBefore time.Time // the next request
}

// next returns the next answer, and whether it differs from the previous one (existence, value or lock holder); nil is
// a key that does not exist. It returns after at most the wait, changed or not.
func (f *follower) next(ctx context.Context) (pair *api.KVPair, changed bool, err error) {
	if err := sleep(ctx, time.Until(f.notBefore)); err != nil {
		return nil, false, err
	}
	asked := time.Now()
	options := &api.QueryOptions{AllowStale: f.stale, WaitIndex: f.index}
	deadline := answerGrace
	if f.index != 0 {
		options.WaitTime = f.wait
		deadline += f.wait + f.wait/16
	}
	query, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	pair, meta, err := f.kv.Get(f.key, options.WithContext(query))
	if err != nil {
		f.index = 0
		return nil, false, err
	}
	if pair == nil && meta.LastIndex == 0 && !meta.KnownLeader {
		return nil, false, errNotConsul // any web server answers 404, which would look like a key that does not exist
	}

	changed = !f.answered || f.exists != (pair != nil)
	if pair != nil {
		changed = changed || string(pair.Value) != string(f.value) || pair.Session != f.session
		f.value, f.session = pair.Value, pair.Session
	}
	f.answered, f.exists = true, pair != nil

	pause := pauseUnchanged
	if changed && meta.LastIndex != 0 {
		pause = pauseChanged
	}
	f.notBefore = asked.Add(pause)
	if meta.LastIndex < f.index {
		f.index = 0
	} else {
		f.index = meta.LastIndex
	}
	return pair, changed, nil
}

// backoff returns growing pauses with full jitter: uniform between zero and a bound that doubles up to most. A thousand
// processes that lost the same server come back spread over the whole bound.
type backoff struct {
	first, most time.Duration
	failures    int
}

func (b *backoff) next() time.Duration {
	bound := b.most
	if b.failures < 30 { // beyond that the shift would overflow long after most has been reached
		bound = min(b.most, b.first<<b.failures)
	}
	b.failures++
	return jitter(bound)
}

func (b *backoff) reset() { b.failures = 0 }

// jitter returns a duration uniform in [0, bound].
func jitter(bound time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(bound) + 1))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
