package control

import "time"

// Measurement is what one tick knows of one service: one snapshot, evaluated at one instant. Where the whole snapshot
// failed (the query timed out, nothing was found, nobody can be judged), Invalid says why; Instances then lists who is
// known to be there, with the ages and reasons that are known, or is empty. A Measurement is read-only once it is handed
// to a loop.
type Measurement struct {
	Service   string
	At        time.Time     // evaluation time of the queries
	Window    time.Duration // W: the span that rates, means and ratios cover
	Took      time.Duration // how long the slowest query ran
	Instances []Instance    // sorted by name

	// Quantile is the objective's latency quantile in seconds over all instances (SLO 99% within 300 ms: the p99).
	// It feeds the target and the display, never the law. A value at the top finite bucket is Censored.
	Quantile Reading
	Censored bool

	// Burn is how fast the error budget burns, for each pair of windows in BurnRates.
	Burn [len(BurnRates)]Burn

	// Invalid says why the whole snapshot is missing ("" where it is not).
	Invalid Reason
	// Partial carries the server's warnings: such a snapshot may tighten, never loosen.
	Partial string
	// Detail is prose beside Invalid or Partial: which query, which labels, what the server said.
	Detail string
}

// Instance is the snapshot of one instance of a service. Counts are over the window: increase(), extrapolated by
// Prometheus, hence not whole.
type Instance struct {
	Name string
	// Age is how old the newest raw sample was at the evaluation time; a Reading, because freshness is itself a signal
	// (in seconds).
	Age Reading

	Offered  Reading // arrivals
	Admitted Reading
	Refused  Reading // by any policy
	// RefusedByShed and RefusedByRate are those of Refused that were shed and that the rate limit refused; missing counts
	// as none, so that they are the concurrency limit's.
	RefusedByShed Reading
	RefusedByRate Reading
	Completed     Reading // admitted requests that finished (count of the latency histogram)
	Failed        Reading // admitted requests that failed
	Slow          Reading // completed requests slower than the SLO; needs a bucket edge at the SLO
	Mean          Reading // mean latency of completed requests, seconds

	InFlight    Reading // requests in flight, mean over the window
	Limit       Reading // the effective concurrency limit, last sample
	Binding     Reading // share of the window spent at ≥ 85% of the limit, 0..1
	ServiceTime Reading // ŝ of guard's floor test in seconds, 0 when none stands
	Revision    Reading // the Setting's revision that the instance has applied

	// ShedThreshold is φ in force; missing or 1 where nothing is shed.
	ShedThreshold Reading
	// Classes are arrivals and refusals (the rate limit's left out) by criticality.
	Classes [Criticalities]Class
}

// Class is what one criticality of an instance saw, over the window.
type Class struct{ Offered, Refused Reading }

// Criticality ranks requests, the most important first.
type Criticality int

// The criticalities.
const (
	Critical Criticality = iota
	Default
	Sheddable
	Background
	Criticalities = 4
)

// String returns the name in metrics, headers and configuration.
func (c Criticality) String() string {
	return [Criticalities]string{"critical", "default", "sheddable", "background"}[c]
}

// Burn is the bad-request ratio as a multiple of its budget, over a long and a short window: the long one says that it
// matters, the short one that it is still going on.
type Burn struct{ Long, Short Reading }

// BurnRates are the pairs of windows that tighten the setpoint, and the multiples at which they do (The Site Reliability
// Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts").
var BurnRates = [...]struct {
	Long, Short time.Duration
	Multiple    float64
}{
	{time.Hour, 5 * time.Minute, 14.4},
	{6 * time.Hour, 30 * time.Minute, 6},
}
