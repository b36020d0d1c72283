package control

import "time"

// Timing is the pace of a loop. All of its defaults derive from two numbers, the dead time and the settling time.
type Timing struct {
	Scrape       time.Duration // S: Prometheus's scrape interval
	Window       time.Duration // W: the span of rate() and increase(); at least 4·S
	Period       time.Duration // T: how often the loop decides; at least S
	PublishDelay time.Duration // d: from decision to enforcement
}

// DeadTime is θ = W/2 + S/2 + T/2 + d: how long, on average, it takes until a decision reflects a change of the plant.
func (t Timing) DeadTime() time.Duration {
	return (t.Window+t.Scrape+t.Period)/2 + t.PublishDelay
}

// Settle is W + S + d: how long until a window covers only the time after a change.
func (t Timing) Settle() time.Duration { return t.Window + t.Scrape + t.PublishDelay }

// StaleAfter is 2·S + 1 s: the age past which the oldest sample no longer counts as fresh.
func (t Timing) StaleAfter() time.Duration { return 2*t.Scrape + time.Second }
