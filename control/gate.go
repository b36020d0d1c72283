package control

import (
	"fmt"
	"time"

	"github.com/seed-de83e32b/governor/control/format"
)

// gate is the data gate: it decides whether a Measurement is fit to be judged, and which instances the decision is
// about.
type gate struct {
	slo         SLO
	staleAfter  time.Duration
	minRequests float64
	refusingAt  float64
	refusedCut  float64
}

// pass returns the view of m, or a view that says why nothing can be decided. The latency target tau, in seconds,
// separates instances in trouble from healthy ones.
func (g gate) pass(m Measurement, tau float64) *view {
	v := &view{
		took: m.Took, window: m.Window, total: len(m.Instances), quantile: m.Quantile, censored: m.Censored,
		quantileNeeds: percentileSamples / (1 - g.slo.Objective), burn: m.Burn,
	}
	if m.Partial != "" {
		v.doubt(Partial, m.Partial)
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
	for _, in := range fresh {
		v.members = append(v.members, in.Name)
	}
	v.take(aggregate(fresh, m.Window))
	v.dependencies, v.answer = dependencies(fresh, v.completed), v.whole()
	if v.hold != "" {
		return v
	}
	cut := v.completed.Less(v.uncut).Or(0)
	if n := v.offered.Float() - cut; n < g.minRequests {
		why, which := TooLittleTraffic, ""
		switch {
		case v.idle():
			why = Idle
		case cut > 0:
			which = " that no failed call cut short"
		}
		return v.reject(why,
			fmt.Sprintf("%s requests%s in the window of %s, needs %.0f", format.Count(n), which, m.Window, g.minRequests))
	}
	if why, detail := v.slow.Why(); why != "" && v.hang == "" {
		v.doubt(why, "slow requests: "+detail)
	}
	if why, detail := v.failed.Why(); why != "" && v.hang == "" && g.slo.Errors > 0 {
		v.doubt(why, "failed requests: "+detail)
	}
	g.majority(v, fresh, tau)
	v.refusing = v.limitRefused.AtLeast(g.refusingAt)
	return v
}

// fresh returns the instances with recent samples. If there are none it rejects the view and returns nil.
func (g gate) fresh(v *view, all []Instance) []Instance {
	fresh := make([]Instance, 0, len(all))
	var why Reason
	var detail string
	var used, oldest Reading // ages, in seconds
	for _, in := range all {
		age, ok := in.Age.Value()
		switch limit := g.staleAfter.Seconds(); {
		case !ok:
			why, detail = in.Age.Why()
		case age > limit:
			oldest = Read(max(oldest.Or(age), age))
			why, detail = Stale, fmt.Sprintf("stale %s s > %.0f s on instance %s", format.Count(age), limit, in.Name)
		case age < -limit:
			why, detail = Clock, fmt.Sprintf("samples of instance %s lie %s s in the future", in.Name, format.Count(-age))
		default:
			fresh = append(fresh, in)
			used = Read(max(used.Or(0), age))
		}
	}
	if len(fresh) == 0 {
		v.age = oldest
		v.reject(why, detail)
		return nil
	}
	v.age = used
	return fresh
}

// majority narrows the view to the side, healthy or in trouble, that receives at least half of the arrivals. One sick
// instance out of eight is an outlier to report, not a reason to cut all eight.
func (g gate) majority(v *view, ins []Instance, tau float64) {
	if len(ins) < 2 {
		return
	}
	var troubled, healthy []Instance
	var arrivals, total float64
	for _, in := range ins {
		offered := in.Offered.Or(0)
		total += offered
		if in.own().Above(tau) || in.Refused.Above(g.refusedCut*offered) {
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
	whole := v.flow
	v.take(aggregate(side, v.window))
	// The SLO ratios, the traffic gate and the rate concern the whole service.
	v.offered, v.slow, v.failed, v.completed, v.uncut = whole.offered, whole.slow, whole.failed, whole.completed, whole.uncut
	v.admittedRate, v.rateRefused = whole.admittedRate, whole.rateRefused
	if arrivals < total/2 {
		for _, in := range other {
			v.outliers = append(v.outliers, in.Name)
		}
	}
}
