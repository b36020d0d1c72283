package guard

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A26 (cenkalti/backoff PR 191): delays stay in range for any attempt, any draw and any Retry-After.
func TestBackoffStaysInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := backoff{
			first: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "first")),
			most:  time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "most")),
		}
		n := rapid.IntRange(-1, 1000).Draw(t, "n")
		u := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.Just(math.NaN())).Draw(t, "u")
		asked := time.Duration(rapid.Int64().Draw(t, "Retry-After"))
		least := min(max(asked, 0), time.Hour)
		if got := b.wait(n, u, asked); got < least || got > least+b.most {
			t.Fatalf("wait %v, expected %v to %v", got, least, least+b.most)
		}
	})
}

// A26: base 100 ms, at most 1 s: the bound doubles and stops there, at attempt 40 and 64 too. A thousand callers that
// fail at the same instant spread out.
func TestBackoffDoublesWithFullJitter(t *testing.T) {
	b := backoff{first: 100 * time.Millisecond, most: time.Second}
	for n, bound := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 3: 800 * time.Millisecond,
		4: time.Second, 40: time.Second, 64: time.Second,
	} {
		var buckets [10]int
		for i := range 1000 {
			wait := b.wait(n, (float64(i)+0.5)/1000, 0)
			buckets[10*wait/bound]++
		}
		for i, count := range buckets {
			if count != 100 {
				t.Errorf("retry %d: %d of 1000 uniform draws in tenth %d of %v, expected 100", n, count, i, bound)
			}
		}
	}
}

// Callers that were all told "2 s" come back spread over the jitter, none of them earlier.
func TestBackoffAddsJitterToRetryAfter(t *testing.T) {
	b := backoff{first: 100 * time.Millisecond, most: time.Second}
	if lo, hi := b.wait(0, 0, 2*time.Second), b.wait(0, 1, 2*time.Second); lo != 2*time.Second || hi != 2100*time.Millisecond {
		t.Errorf("waits from %v to %v, expected 2s to 2.1s", lo, hi)
	}
}
