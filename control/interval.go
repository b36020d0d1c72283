package control

import (
	"math"
	"time"
)

// RoundInterval is the scrape interval that somebody most likely wrote, where so many seconds are found between samples:
// a number of seconds that divides a minute, or whole minutes; above all, one that the configuration can spell.
func RoundInterval(seconds float64) time.Duration {
	if !(seconds > 0) || seconds > math.MaxInt64/1e9 {
		return 0
	}
	for _, usual := range []float64{0.1, 0.2, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 120, 300} {
		if math.Abs(seconds/usual-1) < 0.08 {
			return time.Duration(usual * float64(time.Second))
		}
	}
	step := time.Second
	if seconds < 1 {
		step = 100 * time.Millisecond
	}
	return max(step, time.Duration(seconds*float64(time.Second)).Round(step))
}
