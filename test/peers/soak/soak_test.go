package soak_test

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// growth is what the second half may have more than the first, in bytes: a leak of one byte per key is as much.
const growth = 1 << 20

func TestMemoryIsFlat(t *testing.T) {
	long, distinct := duration(t)
	run := soak(t, long, distinct, func(string) {})
	t.Log(run)
	if run.grown() > growth {
		t.Errorf("the second half has %d bytes more than the first, want at most %d", run.grown(), growth)
	}
	s := run.snapshot
	if s.InFlight != 0 || s.DoubleReleases != 0 || s.EndlessFound != 0 {
		t.Errorf("when all has ended: %d in flight, %d released twice, %d endless; want none", s.InFlight, s.DoubleReleases,
			s.EndlessFound)
	}
	if run.refused.Load() == 0 || s.Demoted == 0 {
		t.Errorf("%d refused, %d demoted: the overload was none", run.refused.Load(), s.Demoted)
	}
}

// The run has to see what it looks for.
func TestALeakIsSeen(t *testing.T) {
	var mu sync.Mutex
	leak := map[string]bool{}
	run := soak(t, 0, keys/50, func(key string) {
		mu.Lock()
		defer mu.Unlock()
		leak[key+strconv.Itoa(len(leak))] = true
	})
	if run.grown() <= growth {
		t.Errorf("a leak of every key is not seen: %v", run)
	}
	runtime.KeepAlive(leak)
}

// duration is how long the soak runs at least, and how many keys each half of it has: DURATION and all of them, or, without
// DURATION, so many as take seconds.
func duration(t *testing.T) (long time.Duration, distinct int64) {
	t.Helper()
	said := os.Getenv("DURATION")
	if said == "" {
		return 0, keys / 10
	}
	long, err := time.ParseDuration(said)
	if err != nil {
		t.Fatalf("DURATION=%s: %v; say it as 5m", said, err)
	}
	return long, keys
}
