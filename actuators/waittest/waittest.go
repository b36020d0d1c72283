// Package waittest is for tests that wait for another goroutine or process: it polls a condition until a deadline, and
// collects what is written meanwhile. It serves the tests of both modules, which is why it is not internal: the
// daemon's module can import this one, and not the other way round. Services have no use for it.
//
// Where everything runs in one process, prefer testing/synctest, which needs no polling and no patience.
package waittest

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"
)

const (
	// Patience is what Until allows: more than anything takes on a busy machine, and less than a test's time limit.
	Patience = 30 * time.Second

	// pollEvery is short beside what tests wait for, and long enough to leave a busy machine its cores.
	pollEvery = 10 * time.Millisecond
)

// Until polls condition until it holds. Where it is a matter of correctness how long that takes, use Within.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	Within(t, Patience, what, condition)
}

// Within polls condition until it holds, and fails the test if it does not within d. It returns how long that took.
func Within(t testing.TB, d time.Duration, what string, condition func() bool) time.Duration {
	t.Helper()
	return Succeeds(t, d, what, func() error {
		if !condition() {
			return errors.New("the condition does not hold")
		}
		return nil
	})
}

// Succeeds polls check until it returns nil, and fails the test with the last error if it does not within d. It returns
// how long that took.
func Succeeds(t testing.TB, d time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	for start := time.Now(); ; {
		err := check()
		took := time.Since(start)
		switch {
		case err == nil:
			return took
		case took > d:
			t.Fatalf("%s: not within %s: %v", what, d.Round(time.Millisecond), err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: the test ended after %s: %v", what, took.Round(time.Millisecond), err)
		case <-time.After(pollEvery):
		}
	}
}

// Buffer is a bytes.Buffer that one goroutine may read while others write: the log of what a test watches. The zero
// Buffer is empty and ready to use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns all that was written since the last Reset.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Len returns how many bytes String would return.
func (b *Buffer) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Len()
}

// Reset empties the buffer.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}
