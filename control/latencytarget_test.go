package control

import (
	"math"
	"testing"
	"time"
)

// The latency target, by the distance between the quantile and the mean, for an SLO of 300 ms and m₀ = 40 ms.
func TestLatencyTarget(t *testing.T) {
	for name, c := range map[string]struct{ objective, distance, want float64 }{
		"unknown":                               {0.99, math.NaN(), 0.120},
		"so short that the clip decides":        {0.99, 0.050, 0.180},
		"the same with a lax objective":         {0.95, 0.050, 0.120},
		"the formula":                           {0.99, 0.150, 0.120},
		"so long that hardly any room is left":  {0.99, 0.250, 0.090},
		"longer than the SLO, whatever is done": {0.99, 1.100, 0.120},
	} {
		target := newLatencyTarget(SLO{Latency: 300 * time.Millisecond, Objective: c.objective}, 20*time.Second, 0.1)
		target.own.Observe(time.Unix(0, 0), 0.040, true)
		if !math.IsNaN(c.distance) {
			target.observeDistance(c.distance, 1)
		}
		if got := target.ideal(); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v s, want %v s", name, got, c.want)
		}
	}
}
