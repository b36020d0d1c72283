// Package waittest is for tests that wait for another goroutine or process: it polls a condition until a deadline, and
// collects what is written meanwhile. It serves the tests of both modules and so cannot be internal: the daemon's
// module can import this module, but not the other way round. Services do not need it.
//
// If everything runs in one process, prefer testing/synctest, which needs no polling and no patience.
package waittest

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"
)

const (
	// Patience is how long Until waits: longer than anything takes on a busy machine, and shorter than a test's time
	// limit.
	Patience = 30 * time.Second

	// pollEvery is short compared with what tests wait for, and long enough not to load a busy machine.
	pollEvery = 10 * time.Millisecond
)

// Until polls condition until it holds. If correctness depends on how long that takes, use Within.
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

// Pass lets d of real time pass, for tests that watch processes for a while. Do not use it to wait for a condition.
func Pass(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
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

// Buffer is a bytes.Buffer that one goroutine may read while others write, for example the log of what a test watches.
// The zero Buffer is empty and ready to use.
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

// String returns everything written since the last Reset.
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
