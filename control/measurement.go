package control

import "time"

// Measurement is everything known about one service in one tick: one snapshot, evaluated at one instant. If the whole
// snapshot failed (the query timed out, nothing was found, no instance can be judged), Invalid says why; Instances then
// lists the instances known to exist, with the ages and reasons that are known, or is empty. A Measurement is read-only
// once a loop has it.
type Measurement struct {
	Service   string
	At        time.Time     // evaluation time of the queries
	Window    time.Duration // W: the span that rates, means and ratios cover
	Took      time.Duration // duration of the slowest query
	Instances []Instance    // sorted by name

	// Quantile is the objective's latency quantile in seconds over all instances (SLO 99% within 300 ms: the p99). It
	// feeds the latency target and the display, never the law. A value at the top finite bucket edge is Censored.
	Quantile Reading
	Censored bool

	// Burn is how fast the error budget burns over each pair of windows in BurnRates.
	Burn [len(BurnRates)]Burn

	// Services is what is known about all governed services, this one included, by name: where to look for a culprit. Nil: this
	// service alone is known.
	Services map[string]Health

	// Capped says why the service must not be enforced, though its configuration would allow it ("": it may be): nothing
	// tells its instances apart.
	Capped string
	// Invalid says why the whole snapshot is missing ("": it is not).
	Invalid Reason
	// Partial carries the server's warnings. A partial snapshot may tighten a knob but never loosen it.
	Partial string
	// Detail explains Invalid or Partial in words: which query, which labels, what the server said.
	Detail string
}

// Instance is the snapshot of one instance of a service. Counts are over the window: Prometheus extrapolates
// increase(), so they are not whole numbers.
type Instance struct {
	Name string
	// Age is the age in seconds of the newest raw sample at the evaluation time. It is a Reading because freshness is
	// itself a signal.
	Age Reading

	// Gone says that nothing is known of the instance but old samples: no target bears its name any longer.
	Gone bool

	Offered  Reading // arrivals
	Admitted Reading
	Refused  Reading // by any policy
	// RefusedByShed and RefusedByRate are the parts of Refused that shedding and the rate limit refused. The next four
	// say nothing about the limit: a service behind this one would have refused the request; the route was over its
	// share of the roof, the limit over all routes of an instance; the roof was full; too many requests that never end
	// were in flight. A missing one counts as zero, which attributes those refusals to the concurrency limit.
	RefusedByShed    Reading
	RefusedByRate    Reading
	RefusedForCallee Reading
	RefusedByShare   Reading
	RefusedByRoof    Reading
	RefusedEndless   Reading
	Completed        Reading // admitted requests that finished (count of the latency histogram)
	Failed           Reading // admitted requests that failed
	Slow             Reading // completed requests slower than the SLO; needs a bucket edge at the SLO
	Fast             Reading // completed requests within the SLO: the bucket at its edge, as it was read
	Mean             Reading // mean latency of completed requests, seconds
	// Waited is how long the completed requests together spent in guarded calls to other services, in seconds: the part of
	// Mean·Completed that is not the service's own. A missing one counts as zero.
	Waited Reading
	// CutShort are those of the completed that failed because a guarded call of theirs was refused or failed. They are part of
	// Completed, Mean and Waited. A missing one counts as none.
	CutShort CutShort

	InFlight    Reading // requests in flight, mean over the window
	Limit       Reading // the effective concurrency limit, last sample
	Binding     Reading // share of the window at ≥ 85% of the limit, 0..1
	ServiceTime Reading // ŝ of guard's floor test in seconds; 0: none stands
	Revision    Reading // revision of the Setting that the instance has applied

	// Resets is how often the counters have fallen in the last two windows. A process that starts makes it 1; several that
	// write the same series make it half of the samples.
	Resets Reading

	// Calls are the calls to other services that the instance reports, sorted by their names.
	Calls []Call

	// ShedThreshold is φ in force; missing or 1 if nothing is shed.
	ShedThreshold Reading
	// Classes are arrivals and refusals by criticality, without the refusals that are not by the limit or by shedding.
	Classes [Criticalities]Class
}

// CutShort counts requests that end before their work is done. Their latency is none of the service's: where a dependency
// refuses, they would make it look fast.
type CutShort struct {
	Count Reading
	// The parts of Mean·Completed that were the service's own, and that they spent in guarded calls, in seconds.
	Own, Waited Reading
}

// elsewhere counts the refusals that are neither by the limit, nor by shedding, nor by the rate: they say nothing about
// the values of the knobs.
func (in *Instance) elsewhere() float64 {
	return in.RefusedForCallee.Or(0) + in.RefusedByShare.Or(0) + in.RefusedByRoof.Or(0) + in.RefusedEndless.Or(0)
}

// Windowed lists the readings that cover the window. They are wrong until the instance has existed for all of it.
func (in *Instance) Windowed() []*Reading {
	all := []*Reading{
		&in.Offered, &in.Admitted, &in.Refused, &in.RefusedByShed, &in.RefusedByRate, &in.RefusedForCallee,
		&in.RefusedByShare, &in.RefusedByRoof, &in.RefusedEndless, &in.Completed, &in.Failed, &in.Slow, &in.Fast,
		&in.Mean, &in.Waited, &in.Binding, &in.Resets,
		&in.CutShort.Count, &in.CutShort.Own, &in.CutShort.Waited,
	}
	for i := range in.Classes {
		all = append(all, &in.Classes[i].Offered, &in.Classes[i].Refused)
	}
	return all
}

// Unjudged takes the age and what covers the window from an instance: it is there, and its gap must not make the sum over
// the others missing.
func (in *Instance) Unjudged(why Reason, detail string) {
	for _, r := range append(in.Windowed(), &in.Age) {
		*r = Missing(why, detail)
	}
}

// busy is the time that the completed requests took together, in seconds: 0 if none completed, whatever their mean.
func (in Instance) busy() Reading {
	if in.Completed.AtMost(0) {
		return Read(0)
	}
	return in.Mean.Times(in.Completed)
}

// own is the mean latency without the time in guarded calls, in seconds: what a limit of the service can change.
func (in Instance) own() Reading {
	completed, busy, waited := in.evidence()
	mean := in.Mean
	if in.CutShort.Count.Above(0) {
		mean = busy.Over(completed, cutShort)
	}
	if waited == 0 {
		return mean
	}
	return ownPart(mean, Read(waited).Over(completed, ""))
}

// evidence are the completed requests that were not cut short, the time that they took together, and the part of it that they
// spent in guarded calls, in seconds: what guard's reflex judges by.
func (in Instance) evidence() (completed, busy Reading, waited float64) {
	n, own, inCalls := in.CutShort.Count.Or(0), in.CutShort.Own.Or(0), in.CutShort.Waited.Or(0)
	return in.Completed.Less(Read(n)), in.busy().Less(Read(own + inCalls)), max(0, in.Waited.Or(0)-inCalls)
}

const cutShort = "all completed requests were cut short by a call that was refused or failed"

// ownPart is a mean latency less the waiting in it. What little a service does besides waiting takes some time.
func ownPart(mean, waited Reading) Reading {
	own := mean.Less(waited)
	if own.Below(leastOwn) {
		return Read(leastOwn)
	}
	return own
}

// leastOwn is in seconds.
const leastOwn = 10e-6

// occupied is how many requests were in flight by Little's law, the mean over a window.
func (in Instance) occupied(window time.Duration) Reading {
	return in.throughput(window).Times(in.Mean)
}

// throughput is the completions per second.
func (in Instance) throughput(window time.Duration) Reading {
	return in.Completed.Over(Read(window.Seconds()), "")
}

// Class counts the requests of one criticality at one instance over the window.
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

// Burn is the bad-request ratio as a multiple of its budget over a long and a short window. The long window shows that
// the burn matters, the short one that it is still going on.
type Burn struct{ Long, Short Reading }

// BurnRates are the pairs of windows, and the multiples above which they tighten the setpoint (The Site Reliability
// Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts").
var BurnRates = [...]struct {
	Long, Short time.Duration
	Multiple    float64
}{
	{time.Hour, 5 * time.Minute, 14.4},
	{6 * time.Hour, 30 * time.Minute, 6},
}
