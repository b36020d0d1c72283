package daemon

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
)

// Reads back off to this interval while the KV does not answer. It bounds how late a takeover or a recovery is noticed.
const (
	backoffMin = time.Second
	backoffMax = 15 * time.Second
)

// kvClient is the shared access of all workers to the KV. It asks less often while the KV does not answer, and
// remembers the outcome of the last call. It is safe for concurrent use.
type kvClient struct {
	store  Store
	health health

	mu       sync.Mutex
	failures int
	retryAt  time.Time
	lastErr  error
}

// kvState is the result of one read of the KV, or why it failed.
type kvState struct {
	consul.Snapshot
	err error
}

// of returns the Setting of a service or, with a callee, of its calls to one; false if there is none.
func (s kvState) of(service, callee string) (consul.Stored, bool) {
	if callee == "" {
		found, ok := s.Settings[service]
		return found, ok
	}
	found, ok := s.Calls[service][callee]
	return found, ok
}

func (l *kvClient) read(ctx context.Context, now time.Time) kvState {
	l.mu.Lock()
	if now.Before(l.retryAt) {
		defer l.mu.Unlock()
		return kvState{err: l.lastErr}
	}
	l.mu.Unlock()

	started := time.Now()
	found, err := l.store.ReadAll(ctx)
	l.health.answered(time.Now(), time.Since(started), err)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = err
	if err == nil {
		l.failures, l.retryAt = 0, time.Time{}
		return kvState{Snapshot: found}
	}
	wait := min(backoffMin<<min(l.failures, 10), backoffMax)
	l.failures++
	// Half of the pause is random, so that the governors of a fleet do not come back together.
	l.retryAt = now.Add(wait/2 + rand.N(wait/2))
	return kvState{err: err}
}

func (l *kvClient) write(ctx context.Context, fence consul.Fence, s actuators.Setting, index uint64) (uint64, error) {
	// A stopping daemon finishes a write that it has begun, rather than leave the outcome unknown.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	return l.store.Publish(ctx, fence, s, index)
}
