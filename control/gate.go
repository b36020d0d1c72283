package control

import (
	"fmt"
	"math"
	"time"
)

// view is a Measurement that has passed the data gate, aggregated over the instances that a decision is about; or the
// reason why nothing can be decided. Per-instance quantities are means over those instances, because the limit's unit is
// requests in flight per instance.
type view struct {
	hold   Reason // != "": nothing can be judged
	detail string

	// unsure is set where something is known but not everything: such a view may tighten, never loosen.
	unsure       Reason
	unsureDetail string

	age, took, window time.Duration
	instances         int // that the decision is about
	total             int // that reported at all
	outliers          []string

	offered    float64 // arrivals in the window, all instances together
	completed  float64 // likewise
	throughput float64 // completions per second and instance, X̂
	mean       float64 // seconds
	refused    float64 // share of the offered that the concurrency limit refused, or shedding under it
	refusing   bool    // a share that counts
	threshold  float64 // φ in force, 1 where nothing is shed
	hang       bool    // requests arrive, the limit is full, hardly anything finishes

	rateRefused  float64 // share of the offered that the rate limit refused
	admittedRate float64 // admissions per second, all instances together
	classes      [Criticalities]struct{ offered, refused sum }
	inFlight     float64 // per instance; by Little's law where it is not reported
	sampled      float64 // per instance, as reported; NaN where it is not
	binding      float64 // share of the window, NaN where it is not reported
	limit        Reading // effective, per instance
	reflex       bool    // guards with a reflex of their own are in force
	service      float64 // ŝ as the guards report it, 0: none

	slow, failed  Reading // shares of completed and of admitted
	quantile      Reading
	censored      bool
	quantileNeeds float64 // completions that a percentile needs

	burn      [len(BurnRates)]Burn
	revisions []float64 // applied revisions as far as reported, one an instance
}

// gate is the data gate's configuration.
type gate struct {
	slo         SLO
	staleAfter  time.Duration
	minRequests float64
	refusingAt  float64
	refusedCut  float64
}

// percentileSamples is how many samples must lie beyond a quantile before it says anything: a percentile needs
// 10/(1 − q) requests.
const percentileSamples = 10

// pass aggregates m, with tau the setpoint that tells instances in trouble from healthy ones.
func (g gate) pass(m Measurement, tau float64) *view {
	v := &view{
		took: m.Took, window: m.Window, total: len(m.Instances), quantile: m.Quantile, censored: m.Censored,
		quantileNeeds: percentileSamples / (1 - g.slo.Objective), age: -1, threshold: 1, burn: m.Burn,
		offered: math.NaN(), completed: math.NaN(), throughput: math.NaN(), mean: math.NaN(), refused: math.NaN(), inFlight: math.NaN(), binding: math.NaN(),
	}
	if m.Partial != "" {
		v.unsure, v.unsureDetail = Partial, m.Partial
	}
	if m.Invalid != "" {
		return v.reject(m.Invalid, m.Detail)
	}
	if m.Window <= 0 || len(m.Instances) == 0 {
		return v.reject(NoData, m.Detail)
	}
	fresh := g.fresh(v, m.Instances)
	if fresh == nil {
		return v
	}
	v.gather(fresh, g.slo)
	if v.hold == "" && v.offered < g.minRequests {
		why := TooLittleTraffic
		if v.offered == 0 {
			why = Idle
		}
		return v.reject(why, fmt.Sprintf("%.0f requests in the window of %s, needs %.0f", v.offered, m.Window, g.minRequests))
	}
	if v.hold == "" {
		g.majority(v, fresh, tau)
		v.refusing = v.refused >= g.refusingAt
	}
	return v
}

func (v *view) reject(why Reason, detail string) *view {
	v.hold, v.detail = why, detail
	return v
}

// fresh returns the instances with recent samples; where there are none it rejects the view and returns nil.
func (g gate) fresh(v *view, all []Instance) []Instance {
	fresh := make([]Instance, 0, len(all))
	var why Reason
	var detail string
	var used time.Duration
	for _, in := range all {
		age, ok := in.Age.Value()
		switch limit := g.staleAfter.Seconds(); {
		case !ok:
			why, detail = in.Age.Why()
		case age > limit:
			v.age = max(v.age, time.Duration(age*float64(time.Second)))
			why, detail = Stale, fmt.Sprintf("stale %.0f s > %.0f s on instance %s", age, limit, in.Name)
		case age < -limit:
			why, detail = Clock, fmt.Sprintf("samples of instance %s lie %.0f s in the future", in.Name, -age)
		default:
			fresh = append(fresh, in)
			used = max(used, time.Duration(age*float64(time.Second)))
		}
	}
	if len(fresh) == 0 {
		v.reject(why, detail)
		return nil
	}
	v.age = used
	return fresh
}

// gather sums the instances up. A missing reading on one instance makes the sum missing: a part is not the whole.
func (v *view) gather(ins []Instance, slo SLO) {
	var offered, refused, byRate, admitted, completed, failed, slow, busy, inFlight, binding, limit sum
	v.sampled, v.service, v.reflex, v.hang, v.revisions = math.NaN(), 0, false, false, v.revisions[:0]
	clear(v.classes[:])
	for _, in := range ins {
		offered.add(in.Offered)
		refused.add(in.Refused)
		byRate.add(Read(in.RefusedByRate.Or(0)))
		admitted.add(in.Admitted)
		completed.add(in.Completed)
		failed.add(in.Failed)
		slow.add(in.Slow)
		inFlight.add(in.InFlight)
		binding.add(in.Binding)
		limit.add(in.Limit)
		if c, ok := in.Completed.Value(); !ok || c > 0 {
			busy.add(times(in.Mean, in.Completed))
		}
		if s, ok := in.ServiceTime.Value(); ok {
			v.reflex, v.service = true, max(v.service, s)
		}
		for i, c := range in.Classes {
			v.classes[i].offered.add(c.Offered)
			v.classes[i].refused.add(c.Refused)
		}
		if phi, ok := in.ShedThreshold.Value(); ok && phi > 0 && phi <= 1 {
			v.threshold = min(v.threshold, phi)
		}
		if r, ok := in.Revision.Value(); ok {
			v.revisions = append(v.revisions, r)
		}
	}
	n := float64(len(ins))
	v.instances = len(ins)
	v.offered, v.completed = offered.v, completed.v
	v.limit = limit.reading()
	v.limit.value /= n
	v.admittedRate = max(offered.v-refused.v, 0) / v.window.Seconds()

	if why, detail := offered.why(); why != "" {
		v.reject(why, "arrivals: "+detail)
		return
	}
	if offered.v == 0 {
		return // idle: ratios of nothing are not a fault of the data
	}
	if inFlight.reason == "" {
		v.inFlight = inFlight.v / n
		v.sampled = v.inFlight
	}
	if binding.reason == "" {
		v.binding = binding.v / n
	}
	if why, detail := refused.why(); why != "" {
		v.reject(why, "refusals: "+detail)
		return
	}
	v.rateRefused = min(byRate.v/offered.v, 1)
	v.refused = min(max(refused.v-byRate.v, 0)/offered.v, 1)
	if v.hangs(completed) {
		v.hang = true
		v.detail = fmt.Sprintf("hang: %.0f arrivals, %.0f completions, the limit is full", offered.v, completed.v)
		return
	}
	mean := ratio(busy, completed)
	if why, detail := mean.Why(); why != "" {
		v.reject(why, "mean latency: "+detail)
		return
	}
	v.mean = mean.value
	v.throughput = completed.v / v.window.Seconds() / n
	if occupied := v.throughput * v.mean; !(v.inFlight >= occupied) {
		v.inFlight = occupied // by Little's law
	}

	v.slow, v.failed = ratio(slow, completed), ratio(failed, admitted)
	if why, detail := v.slow.Why(); why != "" && v.unsure == "" {
		v.unsure, v.unsureDetail = why, "slow requests: "+detail
	}
	if why, detail := v.failed.Why(); why != "" && v.unsure == "" && slo.Errors > 0 {
		v.unsure, v.unsureDetail = why, "failed requests: "+detail
	}
}

// hangs says whether hardly anything finishes of what arrives at a full limit.
func (v *view) hangs(completed sum) bool {
	limit, ok := v.limit.Value()
	full := ok && v.inFlight >= 0.85*limit || v.binding >= 0.85
	return full && completed.reason == "" && completed.v < hangShare*v.offered
}

// hangShare of the arrivals finishes at least where a service does not hang, however deep the overload.
const hangShare = 0.005

// protectedRefused is the share of the arrivals of the classes up to least that were refused, for whatever reason but the
// rate. It needs a hundred of them.
func (v *view) protectedRefused(least Criticality) Reading {
	var offered, refused sum
	for _, c := range v.classes[:least+1] {
		offered.add(c.offered.reading())
		refused.add(c.refused.reading())
	}
	if offered.reason == "" && offered.v < protectedRequests {
		return Missing(TooLittleTraffic, fmt.Sprintf("%.0f protected requests in the window, needs %d", offered.v, protectedRequests))
	}
	return ratio(refused, offered)
}

const protectedRequests = 100

// completedRate is how many requests the service finishes per second, all instances.
func (v *view) completedRate() float64 { return v.completed / v.window.Seconds() }

// good is the goodput of the service in requests per second: completed within the SLO and not failed, all instances.
func (v *view) good() float64 {
	bad := min(v.slow.Or(0)+v.failed.Or(0), 1)
	return v.completed * (1 - bad) / v.window.Seconds()
}

// majority narrows the view to the instances on the side that carries at least half of the arrivals: one sick instance
// of eight is an outlier to report, not a reason to cut eight.
func (g gate) majority(v *view, ins []Instance, tau float64) {
	if len(ins) < 2 {
		return
	}
	var troubled, healthy []Instance
	var arrivals, total float64
	for _, in := range ins {
		offered := in.Offered.Or(0)
		total += offered
		mean, _ := in.Mean.Value() // NaN where unknown: not a violation
		if mean > tau || in.Refused.Or(0) > g.refusedCut*offered {
			troubled = append(troubled, in)
			arrivals += offered
		} else {
			healthy = append(healthy, in)
		}
	}
	side, other := healthy, troubled
	if arrivals >= total/2 {
		side, other = troubled, healthy
	}
	if len(side) == 0 || len(other) == 0 {
		return
	}
	whole := *v
	v.gather(side, g.slo)
	// The judge, the traffic gate and the rate speak of the whole service.
	v.offered, v.slow, v.failed, v.completed = whole.offered, whole.slow, whole.failed, whole.completed
	v.admittedRate, v.rateRefused = whole.admittedRate, whole.rateRefused
	if len(troubled) < len(ins) && arrivals < total/2 {
		for _, in := range other {
			v.outliers = append(v.outliers, in.Name)
		}
	}
}

// occupancy is in flight ÷ limit, for the limit in force now.
func (v *view) occupancy(limit float64) float64 { return v.inFlight / limit }

// overloaded says whether the limit matters at all: it refuses, or it is nearly full. Only then may a law move it.
func (v *view) overloaded(limit, at float64) bool {
	return v.refusing || v.occupancy(limit) >= at || v.binding >= 0.5
}

// healthy says whether nothing was refused and the limit had room: only such windows tell the service's own latency.
// Where no limit is known, the service must have kept up with what came in.
func (v *view) healthy() bool {
	if v.refused > 0 || v.rateRefused > 0 || v.binding >= 0.5 {
		return false
	}
	if limit, ok := v.limit.Value(); ok {
		return v.occupancy(limit) < 0.85
	}
	return math.Abs(v.completedRate()-v.admittedRate) <= rateBalance*v.admittedRate
}

// badRatio is the worse of the two SLO ratios, each as a multiple of its budget: above 1 the SLO is violated. NaN where
// neither is known.
func (v *view) badRatio(slo SLO) float64 {
	bad := math.NaN()
	if r, ok := v.slow.Value(); ok {
		bad = r / (1 - slo.Objective)
	}
	if r, ok := v.failed.Value(); ok && slo.Errors > 0 {
		if r /= slo.Errors; !(bad >= r) {
			bad = r
		}
	}
	return bad
}

// sum adds readings up; one missing reading makes the sum missing.
type sum struct {
	v      float64
	reason Reason
	detail string
}

func (s *sum) add(r Reading) {
	if why, detail := r.Why(); why != "" {
		if s.reason == "" {
			s.reason, s.detail = why, detail
		}
		return
	}
	s.v += r.value
}

func (s *sum) why() (Reason, string) { return s.reason, s.detail }

func (s *sum) reading() Reading {
	if s.reason != "" {
		return Missing(s.reason, s.detail)
	}
	return Read(s.v)
}

// times is a·b, missing where either is.
func times(a, b Reading) Reading {
	if !a.known {
		return a
	}
	if !b.known {
		return b
	}
	return Read(a.value * b.value)
}

// ratio is a/b; nothing out of nothing is missing data, not zero.
func ratio(a, b sum) Reading {
	for _, s := range []sum{a, b} {
		if s.reason != "" {
			return s.reading()
		}
	}
	if b.v == 0 {
		return Missing(NoData, "nothing completed in the window")
	}
	return Read(a.v / b.v)
}
