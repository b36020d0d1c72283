package models

import (
	"math"
	"slices"
	"sort"
	"time"
)

// Telemetry is what Prometheus would know about an instance: its counters and gauges, sampled on the scrape grid, and
// functions over windows of those samples that give the same answers as PromQL. A simulated loop reads the plant only
// through Telemetry.
type Telemetry struct {
	edges   []time.Duration // of the histogram
	samples []snapshot      // ascending in time
	parts   []*Telemetry    // of the Compartments
}

// Compartment is the Telemetry of the Compartment of that index in Config.Compartments.
func (t *Telemetry) Compartment(i int) *Telemetry { return t.parts[i] }

// counters are cumulative since the start of the run.
type counters struct {
	offered, admitted, refused [Classes]float64 // refused: by the limit or by shedding
	refusedBy                  [verdicts][Classes]float64
	completed                  float64
	latencySum                 float64   // seconds
	buckets                    []float64 // by upper edge, not cumulative; the last is +Inf
}

type snapshot struct {
	counters
	at       time.Duration
	inFlight float64
	report   Report
}

func (c *counters) complete(latency time.Duration, edges []time.Duration) {
	c.completed++
	c.latencySum += latency.Seconds()
	i := 0
	for i < len(edges) && latency > edges[i] {
		i++
	}
	c.buckets[i]++
}

// Scrape samples an instance, by its index in Config.Instances, every interval from first on, 0 < interval, for as long
// as it is there.
func Scrape(p *Plant, instance int, first, interval time.Duration) *Telemetry {
	return p.scrape(&p.schedule, instance, first, interval)
}

func (p *pool) scrape(sched *schedule, instance int, first, interval time.Duration) *Telemetry {
	all := make([]*Telemetry, len(p.partition.edges))
	for i, edges := range p.partition.edges {
		all[i] = &Telemetry{edges: edges}
	}
	all[0].parts = all[1:]
	in := p.instances[instance]
	sched.Every(first, interval, func(now time.Duration) {
		if !in.live {
			return
		}
		report := in.admitter.Report(now)
		for i, report := range append([]Report{report}, report.Compartments...) {
			all[i].samples = append(all[i].samples, in.parts[i].sample(now, report))
		}
	})
	return all[0]
}

func (p *part) sample(now time.Duration, report Report) snapshot {
	s := snapshot{counters: p.counters, at: now, inFlight: float64(p.inFlight) - report.Excused, report: report}
	s.buckets = slices.Clone(p.buckets)
	for i := 1; i < len(s.buckets); i++ {
		s.buckets[i] += s.buckets[i-1]
	}
	return s
}

// Window is the result of one evaluation over the samples in (At−Span, At]. Quantities that the samples do not
// determine are NaN: increases with fewer than two samples, gauges with none, latencies without a completion.
type Window struct {
	At, Span time.Duration
	Age      float64 // of the newest sample, seconds

	// Increases over the window, extrapolated to its edges as PromQL's increase() does, hence not whole.
	Offered, Admitted, Refused float64
	RefusedByShed              float64                                     // of Refused
	RefusedByRate              float64                                     // of Refused
	RefusedForCallee           float64                                     // of Refused
	RefusedByShare             float64                                     // of Refused
	RefusedByRoof              float64                                     // of Refused
	ByClass                    [Classes]struct{ Offered, Refused float64 } // refused by the limit or by shedding
	Completed                  float64
	Slow                       float64   // completed slower than the SLO; NaN unless the SLO is an edge of the histogram
	Mean                       float64   // latency of the completed, seconds
	Buckets                    []float64 // completed by upper edge of the histogram, cumulative; the last is +Inf
	Waited                     float64   // in guarded calls, of the completed, seconds together
	Binding                    float64   // share of the window at ≥ 85% of the limit

	InFlight float64 // mean of the samples, like avg_over_time
	// Last samples.
	Limit, ServiceTime, Revision, ShedThreshold float64
	Calls                                       []Calls // increases over the window, of what the last sample has
}

// SampledBy says whether a sample was taken at the instant at or before it.
func (t *Telemetry) SampledBy(at time.Duration) bool {
	return len(t.samples) > 0 && t.samples[0].at <= at
}

// Window evaluates the last span at the instant at. Samples younger than lag have not arrived yet.
func (t *Telemetry) Window(at, span, lag, slo time.Duration) Window {
	nan := math.NaN()
	w := Window{At: at, Span: span, Age: nan, InFlight: nan}
	w.Limit, w.ServiceTime, w.Revision, w.ShedThreshold = nan, nan, nan, nan
	from := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].at > at-span })
	to := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].at > at-lag })
	var in []snapshot
	if from < to {
		in = t.samples[from:to]
	}

	times := make([]time.Duration, len(in))
	for i, s := range in {
		times[i] = s.at
	}
	increase := func(of func(s *snapshot) float64) float64 {
		values := make([]float64, len(in))
		for i := range in {
			values[i] = of(&in[i])
		}
		return Increase(times, values, at-span, at)
	}

	for class := range Classes {
		w.ByClass[class].Offered = increase(func(s *snapshot) float64 { return s.offered[class] })
		w.ByClass[class].Refused = increase(func(s *snapshot) float64 { return s.refused[class] })
		w.Offered += w.ByClass[class].Offered
		w.Refused += w.ByClass[class].Refused
		w.Admitted += increase(func(s *snapshot) float64 { return s.admitted[class] })
	}
	for verdict, count := range map[Verdict]*float64{
		RefusedByShed: &w.RefusedByShed, RefusedByRate: &w.RefusedByRate, RefusedForCallee: &w.RefusedForCallee,
		RefusedByShare: &w.RefusedByShare, RefusedByRoof: &w.RefusedByRoof,
	} {
		for class := range Classes { // each has a series of its own
			*count += increase(func(s *snapshot) float64 { return s.refusedBy[verdict][class] })
		}
	}
	w.Refused += w.RefusedByRate + w.RefusedForCallee + w.RefusedByShare + w.RefusedByRoof
	w.Completed = increase(func(s *snapshot) float64 { return s.completed })
	w.Mean = increase(func(s *snapshot) float64 { return s.latencySum }) / w.Completed
	w.Waited = increase(func(s *snapshot) float64 { return s.report.Waited })
	w.Binding = increase(func(s *snapshot) float64 { return s.report.BindingSeconds }) / span.Seconds()

	w.Buckets = make([]float64, len(t.edges)+1)
	for i := range w.Buckets {
		w.Buckets[i] = increase(func(s *snapshot) float64 { return s.buckets[i] })
	}
	w.Slow = nan
	if i := slices.Index(t.edges, slo); i >= 0 {
		w.Slow = w.Completed - w.Buckets[i]
	}

	if n := len(in); n > 0 {
		last := &in[n-1]
		w.Age = (at - last.at).Seconds()
		w.Limit, w.ServiceTime, w.Revision = last.report.Limit, last.report.ServiceTime, last.report.Revision
		w.ShedThreshold = last.report.ShedThreshold
		for i, c := range last.report.Calls {
			for j, count := range c.counts() {
				*count = increase(func(s *snapshot) float64 { return *s.report.Calls[i].counts()[j] })
			}
			w.Calls = append(w.Calls, c)
		}
		w.InFlight = 0
		for i := range in {
			w.InFlight += in[i].inFlight / float64(n)
		}
	}
	return w
}

// Increase computes PromQL's increase() over the range (from, to] of a counter sampled at times, which must be
// ascending and inside the range. It is NaN for fewer than two samples.
//
// The rule is Prometheus's extrapolatedRate (promql/functions.go). The difference between the last and the first
// sample, plus the value before every reset, is scaled up to the edges of the range if the nearest sample is within 1.1
// × the mean distance between samples, and otherwise by half of that distance. On the left it never extends beyond the
// point where the counter would have been zero.
func Increase(times []time.Duration, values []float64, from, to time.Duration) float64 {
	n := len(values)
	if n < 2 {
		return math.NaN()
	}
	total := values[n-1] - values[0]
	for i := 1; i < n; i++ {
		if values[i] < values[i-1] {
			total += values[i-1]
		}
	}

	toStart := (times[0] - from).Seconds()
	toEnd := (to - times[n-1]).Seconds()
	sampled := (times[n-1] - times[0]).Seconds()
	distance := sampled / float64(n-1)
	near := 1.1 * distance

	if toStart >= near {
		toStart = distance / 2
	}
	if total > 0 && values[0] >= 0 {
		toStart = min(toStart, sampled*values[0]/total)
	}
	if toEnd >= near {
		toEnd = distance / 2
	}
	if sampled == 0 {
		return total
	}
	return total * (sampled + toStart + toEnd) / sampled
}

// Quantile is the q-quantile of latency over the windows of several instances, in seconds, with its place in the bucket
// interpolated. Where it lies above the highest finite edge it is censored and reads as that edge. Windows without
// increases count for nothing, as series without samples do in a sum; NaN where there are no others, or none completed.
func Quantile(q float64, edges []time.Duration, windows ...Window) (value float64, censored bool) {
	cumulative := make([]float64, len(edges)+1)
	known := false
	for _, w := range windows {
		if math.IsNaN(w.Completed) {
			continue
		}
		known = true
		for i, n := range w.Buckets {
			cumulative[i] += n
		}
	}
	if !known {
		return math.NaN(), false
	}
	return bucketQuantile(q, edges, cumulative)
}

// bucketQuantile computes histogram_quantile() on a classic histogram: linear interpolation inside the bucket, 0 as the
// lower bound of the first bucket, and the highest finite edge (censored) if the quantile lies above it. cumulative has
// one element more than edges, for +Inf.
func bucketQuantile(q float64, edges []time.Duration, cumulative []float64) (value float64, censored bool) {
	total := cumulative[len(cumulative)-1]
	if len(edges) == 0 || !(total > 0) {
		return math.NaN(), false
	}
	rank := q * total
	i := sort.Search(len(edges), func(i int) bool { return cumulative[i] >= rank })
	if i == len(edges) {
		return edges[i-1].Seconds(), true
	}
	var low, below float64
	if i > 0 {
		low, below = edges[i-1].Seconds(), cumulative[i-1]
	}
	return low + (edges[i].Seconds()-low)*(rank-below)/(cumulative[i]-below), false
}
