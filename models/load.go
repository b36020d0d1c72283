package models

import "time"

// Load is the arrival rate of an open-loop Poisson process over time: clients do not wait for each other, so a slow
// service does not receive less load.
type Load struct {
	// Rate is in requests per second, at any instant between 0 and Peak.
	Rate func(at time.Duration) float64
	// Peak bounds Rate. Arrivals are drawn at Peak and thinned (Lewis and Shedler 1979), so a Peak far above the usual
	// rate is slow but correct.
	Peak float64
	// Mix is the share of arrivals by criticality at an instant; nil: Config.Mix, always.
	Mix func(at time.Duration) [Classes]float64
}

// Constant is a load of rps requests per second.
func Constant(rps float64) Load {
	return Load{Rate: func(time.Duration) float64 { return rps }, Peak: rps}
}

// Pulse is a load of base requests per second, and of high between from and to.
func Pulse(base, high float64, from, to time.Duration) Load {
	return Load{
		Rate: func(at time.Duration) float64 {
			if at >= from && at < to {
				return high
			}
			return base
		},
		Peak: max(base, high),
	}
}
