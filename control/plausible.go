package control

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/control/format"
)

// A service cannot have more failures than requests, nor a mean of zero while most of its requests are slow. Telemetry
// can: a histogram in milliseconds that is read as seconds, a sum that never moves, two processes that write one
// series. Each number then looks healthy by itself, and only together they are impossible. This file holds every such
// rule, so that the daemon, the simulator and check-config --online judge by the same ones.
//
//	Little      completions per second x mean = requests in flight
//	Markov      mean >= slow share x SLO
//	quantile    a mean lies below it, but for a tail that few requests cannot carry
//	counting    no part is larger than the whole: failed, refused, the bucket at the SLO, the classes
//	resets      a counter falls when a process starts, not in every window
//
// What contradicts itself is not judged: such an instance is left out like one that has just started; if it is most of
// them, the loops hold. The tolerances are wide. Counts are extrapolated from a few scrapes, queries of a user's own need
// not cover the same window, and a service in trouble is odd but not impossible: in a hang much is in flight and nothing
// finishes, and after it, a window's completions have waited for longer than the window.

// Tolerances.
const (
	// partTolerance and partSlack: a part may exceed its whole by a quarter and ten requests. Two queries over different
	// windows differ that much while the load changes.
	partTolerance = 1.25
	partSlack     = 10
	// fewJudged is how many completions a mean or a share needs before it can contradict anything.
	fewJudged = 20
	// littleFactor: the few samples of the requests in flight may miss a burst, but not nine tenths of the work.
	littleFactor = 10
	// fewInFlight is a number in flight small enough for a handful of samples to miss entirely.
	fewInFlight = 5
	// thousandfold is the ratio from which a wrong unit is the likely cause.
	thousandfold = 300
	// unseenFactor: less than a hundredth of what is in flight finishes in time. Idle connections in the gauge can do
	// that, so it is only a doubt.
	unseenFactor = 100
	// quantileFactor: with a mean of five times the p99, the slowest 1% take more than 80% of all the time that is
	// spent. No distribution of one kind of request does that; a few streams among fast calls do. A mean below all latency
	// targets does no harm: a cache that misses once in a hundred times is such a mix.
	quantileFactor = 5
	// quantileFrom is the lowest objective whose quantile is compared with the mean: a median may lie far below it.
	quantileFrom = 0.9
	// manyResets is how many counter resets two windows hold before they are no restart.
	manyResets = 3
)

// findings are what is contradictory in a Measurement.
type findings struct {
	hold   string   // nothing can be judged, because
	doubt  string   // something may be wrong: tighten only
	left   []string // instances that were left out
	detail string   // why the first of them was
}

// plausible looks for contradictions in m. It returns m without the instances that cannot be judged, unless these are at
// least half: then the findings say so. The largest limit that governor would give an instance is most, 0 if it gives
// none.
func plausible(m Measurement, slo SLO, most float64) (Measurement, findings) {
	var f findings
	if m.Invalid != "" {
		return m, f
	}
	var wrong []int
	judged := 0
	first := ""
	for i, in := range m.Instances {
		if !in.Age.Known() {
			continue
		}
		judged++
		why := in.contradiction(m.Window, slo, most)
		if why == "" {
			if f.doubt == "" {
				f.doubt = in.doubtful(m.Window)
			}
			continue
		}
		wrong = append(wrong, i)
		if first == "" {
			first = why
			if in.Name != "" && len(m.Instances) > 1 {
				first = in.Name + ": " + why
			}
		}
	}
	switch {
	case len(wrong) > 0 && 2*len(wrong) >= judged:
		f.hold = first
		if n := len(wrong); n > 1 {
			f.hold += fmt.Sprintf(" (and %d more of %d instances)", n-1, judged)
		}
		return m, f
	case len(wrong) > 0:
		kept := make([]Instance, len(m.Instances))
		copy(kept, m.Instances)
		for _, i := range wrong {
			kept[i].Age = Missing(Implausible, first)
			f.left = append(f.left, kept[i].Name)
		}
		m.Instances, f.detail = kept, first
	}
	f.hold = m.contradiction(slo)
	return m, f
}

// contradiction says which readings of the instance cannot all be true; "": none is known to be wrong.
func (in Instance) contradiction(window time.Duration, slo SLO, most float64) string {
	for _, why := range []string{
		in.resetting(), in.counting(), in.little(window, most), in.markov(slo), in.waiting(),
	} {
		if why != "" {
			return why
		}
	}
	return ""
}

// resetting finds counters that fall again and again.
func (in Instance) resetting() string {
	if !in.Resets.AtLeast(manyResets) {
		return ""
	}
	return fmt.Sprintf("its counters fall %s times in two windows: several processes write the same series, so that none "+
		"can be told from another (give each a label of its own: instance, pod), or the process restarts all the time",
		format.Number(in.Resets.value))
}

// counting finds parts that are larger than their whole.
func (in Instance) counting() string {
	offered, refused := Read(0), Read(0)
	for _, c := range in.Classes {
		offered, refused = offered.Plus(Read(c.Offered.Or(0))), refused.Plus(Read(c.Refused.Or(0)))
	}
	for _, p := range []struct {
		part, whole   Reading
		parts, wholes string
		advice        string
	}{
		{in.Failed, in.finished(), "failed", "finished", "do failed and completed count the same requests?"},
		{in.Fast, in.Completed, "finished within the SLO", "finished", "do all buckets of the histogram belong together?"},
		{in.Slow, in.Completed, "slow", "finished", "do slow and completed count the same requests?"},
		{in.Refused, in.Offered, "refused", "offered", "do refused and offered count the same requests?"},
		{in.Admitted, in.Offered, "admitted", "offered", "do admitted and offered count the same requests?"},
		{in.Admitted.Plus(in.Refused), in.Offered, "admitted and refused", "offered", "is a request counted as both?"},
		{in.RefusedByRate, in.Refused, "refused by the rate", "refused by anything", "is a series counted twice?"},
		{
			Read(in.RefusedByShed.Or(0) + in.RefusedByRate.Or(0) + in.elsewhere()), in.Refused,
			"refused by policies other than the limit", "refused by anything", "is a series counted twice?",
		},
		{offered, in.Offered, "offered by class", "offered in all", "is a class counted twice?"},
		{refused, in.Refused, "refused by class", "refused in all", "is a class counted twice?"},
	} {
		if larger(p.part, p.whole) {
			return fmt.Sprintf("%s requests %s of %s %s in the window: %s",
				format.Number(p.part.value), p.parts, format.Number(p.whole.value), p.wholes, p.advice)
		}
	}
	return ""
}

// finished is how many requests can have failed: those that completed or, where a hang ends otherwise, were admitted.
func (in Instance) finished() Reading {
	if in.Admitted.AtLeast(in.Completed.Or(math.Inf(1))) {
		return in.Admitted
	}
	return in.Completed
}

// larger says whether a part is known to be larger than its whole, beyond the tolerance.
func larger(part, whole Reading) bool {
	return whole.known && part.Above(partTolerance*whole.value+partSlack)
}

// little compares the work done in the window with the requests in flight that were seen: X·mean is their mean number,
// by Little's law. A request that was in flight before the window brings the time it has waited there, so that a window
// right after a hang may show more work than fits into it.
func (in Instance) little(window time.Duration, most float64) string {
	occupied := in.occupied(window)
	before := in.Mean.Or(0) / window.Seconds() // how many windows the mean request has waited
	bound, seen := math.Inf(1), ""
	if limit, ok := in.Limit.Value(); ok {
		bound = 3 * max(most, limit) * (1 + before)
		seen = "the limit is " + format.Number(limit)
	}
	if n, ok := in.InFlight.Value(); ok {
		b := max(n, fewInFlight) * (littleFactor + 3*before)
		if in.ServiceTime.known { // a guard: its units agree, and bursts between the samples fill at most its limit
			b = max(b, 3*in.Limit.Or(0)*(1+before))
		}
		if (n > 0 || !in.Limit.known) && b < bound {
			bound = b
		}
		if seen != "" {
			seen = " and " + seen
		}
		seen = format.Number(n) + " were seen" + seen
	}
	if !occupied.Above(bound) {
		return ""
	}
	advice := "is every instance scraped once, by one job and one replica?"
	if occupied.value > thousandfold*max(in.InFlight.Or(0), fewInFlight) {
		advice = "is the latency in milliseconds and read as seconds (unit: milliseconds)? " + advice
	}
	return fmt.Sprintf("completions x mean latency = %s x %s = %s requests in flight, where %s: %s",
		format.Rate(in.throughput(window).value), format.Latency(in.Mean.value), format.Number(occupied.value), seen, advice)
}

// doubtful is Little's law the other way: far more in flight than what finishes accounts for. In a hang that is the
// truth, and idle connections in the gauge are, too.
func (in Instance) doubtful(window time.Duration) string {
	occupied := in.occupied(window)
	n, ok := in.InFlight.Value()
	if !ok || !occupied.known || !in.Completed.AtLeast(partSlack*partSlack) ||
		!(n > unseenFactor*max(occupied.value, fewInFlight/float64(unseenFactor))) {
		return ""
	}
	return fmt.Sprintf("%s requests are in flight, where completions x mean latency = %s: they hang, they are streams, or "+
		"the unit of the latency is wrong", format.Number(n), format.Number(occupied.value))
}

// markov compares the mean with the share of slow requests, each of which takes longer than the SLO.
func (in Instance) markov(slo SLO) string {
	completed, ok := in.Completed.Value()
	mean, known := in.Mean.Value()
	if !ok || !known || completed < fewJudged {
		return ""
	}
	latency := slo.Latency.Seconds()
	share := in.Slow.ShareOf(in.Completed)
	switch {
	case mean == 0:
		return fmt.Sprintf("a mean latency of 0 ms over %s requests: does the sum of the latencies move at all? "+
			"Whole milliseconds are too coarse for a service that answers within one",
			format.Number(completed))
	case in.Slow.Above(partSlack) && mean < 0.5*share.value*latency:
		return fmt.Sprintf("a mean latency of %s, where %s of the requests take more than %s: does the sum of the latencies "+
			"count the same requests, in the same unit, as the buckets?",
			format.Latency(mean), format.Percent(share.value), format.Latency(latency))
	case in.Slow.AtMost(0) && mean > 1.5*latency:
		return fmt.Sprintf("a mean latency of %s, where no request takes more than %s: does the sum of the latencies "+
			"count the same requests, in the same unit, as the buckets?", format.Latency(mean), format.Latency(latency))
	}
	return ""
}

// waiting finds requests that waited in calls for longer than they took.
func (in Instance) waiting() string {
	if busy := in.busy(); busy.Known() && in.Waited.Above(partTolerance*busy.value+1) {
		return fmt.Sprintf("%s of waiting in calls, where the requests took %s together: do both count the same requests?",
			format.Latency(in.Waited.value), format.Latency(busy.value))
	}
	return ""
}

// contradiction compares the quantile of the service with the mean and with the slow share over all its instances. It
// needs all of them, because the quantile covers all.
func (m Measurement) contradiction(slo SLO) string {
	q, ok := m.Quantile.Value()
	completed, busy, slow := Read(0), Read(0), Read(0)
	for _, in := range m.Instances {
		completed, slow = completed.Plus(in.Completed), slow.Plus(in.Slow)
		busy = busy.Plus(in.busy())
	}
	beyond := completed.value * (1 - slo.Objective) // requests above the quantile
	if !ok || q <= 0 || m.Censored || !completed.known || beyond < 1 {
		return ""
	}
	name, latency := format.Quantile(slo.Objective), slo.Latency.Seconds()
	mean, share := busy.Over(completed, ""), slow.ShareOf(completed)
	switch {
	case slo.Objective >= quantileFrom && mean.Above(max(quantileFactor*q, targetLow*latency)):
		return fmt.Sprintf("a mean latency of %s, %.3g times the %s of %s: a few requests last far longer than all others. "+
			"Leave out streams and long polls (the route or the handler), which no latency describes",
			format.Latency(mean.value), mean.value/max(q, 1e-9), name, format.Latency(q))
	case beyond >= fewJudged && q < latency/2 && share.AtLeast(max(5*(1-slo.Objective), 0.1)),
		beyond >= fewJudged && q > 2*latency && share.AtMost((1-slo.Objective)/5):
		return fmt.Sprintf("a %s of %s, where %s of the requests take more than %s: do the quantile and the slow requests "+
			"come from the same histogram, in the same unit?",
			name, format.Latency(q), format.Percent(share.value), format.Latency(latency))
	}
	return ""
}

// Verdict is what a loop makes of a Measurement before its law runs. It is empty where the law would run freely.
type Verdict struct {
	Hold   Reason // nothing can be decided
	Doubt  Reason // the loop may tighten only
	Detail string // why, in words
	// LeftOut says why an instance was left out, and which; "": all that can be judged are.
	LeftOut string
}

// Judge says whether the loops of spec would act on m. It is the very code that they run, for whoever wants to know
// beforehand whether a service can be governed.
func Judge(spec Spec, m Measurement) (Verdict, error) {
	s, err := NewLoopSet(spec)
	if err != nil {
		return Verdict{}, err
	}
	v, found := s.look(m)
	verdict := Verdict{LeftOut: found.detail}
	switch {
	case v.hold != "":
		verdict.Hold, verdict.Detail = v.hold, v.detail
	case v.unsure != "":
		verdict.Doubt, verdict.Detail = v.unsure, v.unsureDetail
	}
	return verdict, nil
}
