package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators/internal/wait"
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
	// A proxy that ends long polls sooner than this is not waited for: the reader would only poll.
	leastWait = 2 * time.Second
)

// follower reads one key, or all keys with a prefix, by blocking queries, one at a time.
//
// The index rules are Consul's (its API pages, "Blocking Queries"). The index is opaque. If it goes backwards, the
// servers' state was replaced, so start over without it. Zero means nothing and is never sent. After an error the
// follower also starts over: a server that lost its state would otherwise wait out the whole query for an index it may
// never reach.
type follower struct {
	kv      *api.KV
	key     string
	recurse bool          // key is a prefix
	stale   bool          // any server may answer, not only the leader
	wait    time.Duration // of one blocking query; becomes shorter if a proxy ends one sooner
	expect  []string      // keys that are read alone if an answer lacks them, see hidden
	within  []string      // prefixes below key that should be readable
	most    int64         // size limit of an answer, in bytes; 0: the client's

	index     uint64
	last      api.KVPairs // as last returned
	answered  bool        // at least once
	filtered  bool        // Consul left out of the last answer what the token may not read
	told      time.Time   // when that was last reported
	notBefore time.Time   // the next request
}

// next returns the next answer about the key, see all; nil is a key that does not exist.
func (f *follower) next(ctx context.Context) (pair *api.KVPair, changed bool, err error) {
	pairs, changed, err := f.all(ctx)
	if len(pairs) > 0 {
		pair = pairs[0]
	}
	return pair, changed, err
}

// all returns the next answer, sorted by key, and whether it differs from the previous one (existence, value or lock
// holder of any key). It returns after at most the wait, changed or not.
func (f *follower) all(ctx context.Context) (pairs api.KVPairs, changed bool, err error) {
	if err := wait.For(ctx, time.Until(f.notBefore)); err != nil {
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
	if f.most > 0 {
		query = limited(query, f.most)
	}
	pairs, meta, err := f.read(options.WithContext(query))
	if err != nil {
		if f.index != 0 && endedByProxy(err) {
			err = f.shorten(time.Since(asked), err)
		}
		f.index = 0
		return nil, false, err
	}

	changed = !f.answered || !slices.EqualFunc(pairs, f.last, func(a, b *api.KVPair) bool {
		return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Session == b.Session
	})
	if changed {
		if err := f.hidden(query, pairs); err != nil {
			f.index = 0
			return nil, false, err
		}
	}
	f.answered, f.last, f.filtered = true, pairs, meta.ResultsFilteredByACLs

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
	return pairs, changed, nil
}

// endedByProxy recognizes the answer of a proxy whose time limit for an answer is shorter than a long poll. Consul itself
// never gives it.
func endedByProxy(err error) bool {
	status, _ := errors.AsType[api.StatusError](err)
	return status.Code == http.StatusGatewayTimeout || status.Code == http.StatusRequestTimeout
}

// shorten makes the next long polls end well before the proxy's time limit, which ended one after the time waited.
func (f *follower) shorten(waited time.Duration, err error) error {
	f.wait = max(leastWait, min(f.wait, waited*3/4)).Round(time.Millisecond)
	return fmt.Errorf("%w: a proxy on the way to Consul ended a long poll after %s; asking for %s at a time from now on",
		err, waited.Round(time.Millisecond), f.wait)
}

func (f *follower) read(options *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
	if f.recurse {
		return f.kv.List(f.key, options)
	}
	pair, meta, err := f.kv.Get(f.key, options)
	if pair == nil {
		return nil, meta, err
	}
	return api.KVPairs{pair}, meta, err
}

// hidden says why the answer lacks a key, if it is for another reason than that the key does not exist. From a list, Consul
// leaves out what the token may not read.
func (f *follower) hidden(ctx context.Context, pairs api.KVPairs) error {
	for _, key := range f.expect {
		if slices.ContainsFunc(pairs, func(p *api.KVPair) bool { return p.Key == key }) {
			continue
		}
		options := &api.QueryOptions{AllowStale: f.stale}
		if _, _, err := f.kv.Get(key, options.WithContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// lacking returns the prefixes that should be readable, but from which Consul leaves something out because the token may not read
// it. Consul says so in a header of the list, but not what.
func (f *follower) lacking(ctx context.Context) (prefixes []string) {
	for _, prefix := range f.within {
		options := &api.QueryOptions{AllowStale: f.stale}
		query := limited(ctx, max(f.most, mostAnswer))
		_, meta, err := f.kv.List(prefix, options.WithContext(query))
		if err != nil && lacksRule(err) || err == nil && meta.ResultsFilteredByACLs {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
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
