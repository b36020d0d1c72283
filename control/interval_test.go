package control

import (
	"math"
	"testing"
	"time"
)

// C29: what is found between samples becomes an interval that somebody would write and the configuration can read.
func TestRoundInterval(t *testing.T) {
	for seconds, want := range map[float64]time.Duration{
		0.98: time.Second, 1.02: time.Second, 5.2: 5 * time.Second, 13.3: 13 * time.Second, 14.4: 15 * time.Second,
		15: 15 * time.Second, 29: 30 * time.Second, 58: time.Minute, 61: time.Minute, 0.5: 500 * time.Millisecond,
		1.6: 2 * time.Second, 290: 5 * time.Minute, 90: 90 * time.Second, 0.01: 100 * time.Millisecond,
		0: 0, -1: 0, math.Inf(1): 0, math.NaN(): 0, 1e300: 0,
	} {
		if got := RoundInterval(seconds); got != want {
			t.Errorf("%v s: %s, want %s", seconds, got, want)
		}
	}
}
