package waittest_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// failing is a test that records its Fatalf.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestUntilPollsUntilItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		took := waittest.Within(t, time.Minute, "a second passes", func() bool { return time.Since(start) >= time.Second })
		if took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("it took %s, want a second", took)
		}
	})
}

func TestUntilNilFailsWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{TB: t}
		start, asked := time.Now(), 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			waittest.Succeeds(f, time.Second, "the server answers", func() error {
				asked++
				return errors.New("connection refused")
			})
		}()
		<-done
		if want := "the server answers: not within 1s: connection refused"; f.said != want {
			t.Errorf("it says %q, want %q", f.said, want)
		}
		if took := time.Since(start); took > 1100*time.Millisecond || asked < 50 {
			t.Errorf("asked %d times in %s", asked, took)
		}
	})
}

func TestBufferTakesConcurrentWrites(t *testing.T) {
	var b waittest.Buffer
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() { fmt.Fprint(&b, "line\n"); _ = b.String() })
	}
	writers.Wait()
	if n := strings.Count(b.String(), "line\n"); n != 4 || b.Len() != 20 {
		t.Errorf("%d lines, %d bytes, want 4 and 20", n, b.Len())
	}
	if b.Reset(); b.Len() != 0 {
		t.Errorf("%d bytes after a reset", b.Len())
	}
}
