package control

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
	"github.com/seed-de83e32b/governor/control/format"
)

// view is a Measurement that has passed the data gate, aggregated over the instances that the decision is about, or the
// reason why nothing can be decided.
type view struct {
	hold   Reason // != "": nothing can be judged
	detail string

	// unsure is set if only part of the data is known. Such a view may tighten a knob but never loosen it.
	unsure       Reason
	unsureDetail string

	age          Reading // of the oldest sample used, in seconds
	took, window time.Duration
	total        int       // instances that reported at all
	arrivals     []float64 // requests per second at each of them; nil: not all are known
	members      []string  // instances with a current sample
	outliers     []string  // instances in trouble that the decision ignores

	flow
	refusing bool // the limit refuses a significant share
	mixed    bool // a few requests take so long that the mean says nothing about the others

	dependencies []Calls // of all instances with a current sample
	answer       Reading // their mean latency in seconds, guarded calls included

	quantile      Reading // of the objective, in seconds
	censored      bool
	quantileNeeds float64 // completions the quantile needs
	burn          [len(BurnRates)]Burn
}

// percentileSamples is how many samples must lie beyond a quantile before it means anything: the q-quantile needs 10/(1
// − q) requests.
const percentileSamples = 10

func (v *view) reject(why Reason, detail string) *view {
	v.hold, v.detail = why, detail
	return v
}

// doubt records the first reason to be unsure.
func (v *view) doubt(why Reason, detail string) {
	if v.unsure == "" {
		v.unsure, v.unsureDetail = why, detail
	}
}

// doubted is the reason to hold or, if there is none, to be unsure; "": nothing is in doubt.
func (v *view) doubted() (why Reason, detail string) {
	if v.hold != "" {
		return v.hold, v.detail
	}
	return v.unsure, v.unsureDetail
}

// take makes f the subject of the view.
func (v *view) take(f flow) {
	v.flow = f
	if f.unjudged != "" {
		v.reject(f.unjudged, f.unjudgedDetail)
	}
}

// flow is the combined traffic of some instances over the window. Per-instance quantities are means over the instances,
// because a limit counts requests in flight per instance. A reading that one instance lacks is missing altogether.
type flow struct {
	// unjudged says why these instances cannot be judged; "": they can.
	unjudged       Reason
	unjudgedDetail string
	// hang describes a hang: requests arrive, the limit is full and hardly anything finishes. "": no hang.
	hang string

	offered       Reading // arrivals in the window, all instances together
	completed     Reading // likewise
	admittedRate  Reading // admissions per second, all instances together
	uncut         Reading // the completed that were not cut short, see CutShort
	throughput    Reading // of those per second and instance, X̂
	mean          Reading // mean latency of those, in seconds, without the time in guarded calls
	waited        float64 // mean time of those in guarded calls, in seconds
	refused       Reading // share of the offered, by any policy
	limitRefused  Reading // by the concurrency limit, or shedding under it
	shedRefused   Reading // by shedding
	rateRefused   Reading // by the rate limit
	calleeRefused Reading // because a callee would refuse
	shareRefused  Reading // by the share of the roof
	roofRefused   Reading // by the roof over all routes
	endlessOver   Reading // because too many endless requests are open
	slow          Reading // share of the completed
	slowUncut     Reading // the slow as a share of those not cut short
	failed        Reading // share of the admitted

	inFlight Reading // per instance; from Little's law if it is not reported
	sampled  Reading // per instance, as reported
	binding  Reading // share of the window near the limit
	limit    Reading // effective, per instance

	attributed  bool    // the instances say which policy refused
	reflex      bool    // the guards run a reflex of their own
	serviceTime float64 // ŝ as the guards report it, in seconds; 0: none
	threshold   float64 // φ in force; 1: nothing is shed
	classes     [Criticalities]Class
	revisions   []float64 // applied revisions, one per instance that reports it
}

// aggregate combines instances.
func aggregate(ins []Instance, window time.Duration) flow {
	f := flow{threshold: 1, attributed: true}
	zero := Read(0)
	offered, refused, byRate, byShed, elsewhere := zero, zero, zero, zero, zero
	forCallee, byShare, byRoof, endless := 0.0, 0.0, 0.0, 0.0
	admitted, completed, uncut := zero, zero, zero
	failed, slow, busy, inFlight, binding, limit := zero, zero, zero, zero, zero, zero
	waited := 0.0
	for i := range f.classes {
		f.classes[i] = Class{zero, zero}
	}
	for _, in := range ins {
		offered = offered.Plus(in.Offered)
		refused = refused.Plus(in.Refused)
		byRate = byRate.Plus(Read(in.RefusedByRate.Or(0)))
		f.attributed = f.attributed && in.RefusedByRate.Known()
		byShed = byShed.Plus(Read(in.RefusedByShed.Or(0)))
		elsewhere = elsewhere.Plus(Read(in.elsewhere()))
		forCallee += in.RefusedForCallee.Or(0)
		byShare += in.RefusedByShare.Or(0)
		byRoof += in.RefusedByRoof.Or(0)
		endless += in.RefusedEndless.Or(0)
		admitted = admitted.Plus(in.Admitted)
		completed = completed.Plus(in.Completed)
		failed = failed.Plus(in.Failed)
		slow = slow.Plus(in.Slow)
		inFlight = inFlight.Plus(in.InFlight)
		binding = binding.Plus(in.Binding)
		limit = limit.Plus(in.Limit)
		n, took, inCalls := in.evidence()
		uncut, busy = uncut.Plus(n), busy.Plus(took)
		waited += inCalls
		if s, ok := in.ServiceTime.Value(); ok {
			f.reflex, f.serviceTime = true, max(f.serviceTime, s)
		}
		for i, c := range in.Classes {
			f.classes[i].Offered = f.classes[i].Offered.Plus(c.Offered)
			f.classes[i].Refused = f.classes[i].Refused.Plus(c.Refused)
		}
		if phi, ok := in.ShedThreshold.Value(); ok && phi > 0 && phi <= 1 {
			f.threshold = min(f.threshold, phi)
		}
		if r, ok := in.Revision.Value(); ok {
			f.revisions = append(f.revisions, r)
		}
	}
	n, seconds := Read(float64(len(ins))), Read(window.Seconds())
	f.offered, f.completed, f.uncut = offered, completed, uncut
	f.limit = limit.Over(n, "")
	f.admittedRate = offered.Less(refused).Over(seconds, "")

	if why, detail := offered.Why(); why != "" {
		return f.without("arrivals", why, detail)
	}
	if f.idle() {
		return f // ratios of nothing are not a fault of the data
	}
	f.sampled, f.binding = inFlight.Over(n, ""), binding.Over(n, "")
	f.inFlight = f.sampled
	if why, detail := refused.Why(); why != "" {
		return f.without("refusals", why, detail)
	}
	f.refused, f.rateRefused, f.shedRefused = refused.ShareOf(offered), byRate.ShareOf(offered), byShed.ShareOf(offered)
	f.calleeRefused, f.shareRefused = Read(forCallee).ShareOf(offered), Read(byShare).ShareOf(offered)
	f.roofRefused, f.endlessOver = Read(byRoof).ShareOf(offered), Read(endless).ShareOf(offered)
	f.limitRefused = refused.Less(byRate).Less(elsewhere).ShareOf(offered)
	if f.hangs() {
		f.hang = fmt.Sprintf("hang: %s arrivals, %s completions, the limit is full", format.Count(offered.value),
			format.Count(completed.value))
		return f
	}
	none := "nothing completed in the window"
	if completed.Above(0) {
		none = cutShort
	}
	f.mean = busy.Over(uncut, none)
	if why, detail := f.mean.Why(); why != "" {
		return f.without("mean latency", why, detail)
	}
	f.throughput = uncut.Over(seconds, "").Over(n, "")
	if waited > 0 {
		f.waited = min(waited/uncut.value, f.mean.value)
		f.mean = ownPart(f.mean, Read(f.waited))
	}
	if !f.inFlight.Known() {
		f.inFlight = f.throughput.Times(f.whole()) // by Little's law
	}
	f.slow, f.failed = slow.Over(completed, none), failed.Over(admitted, none)
	f.slowUncut = slow.ShareOf(uncut) // few that were cut short are slow
	return f
}

// without returns f marked as impossible to judge because a quantity is missing.
func (f flow) without(quantity string, why Reason, detail string) flow {
	f.unjudged, f.unjudgedDetail = why, quantity
	if detail != "" {
		f.unjudgedDetail += ": " + detail
	}
	return f
}

// whole is the mean latency as the callers see it, in seconds: a request holds its place in the limit while it waits in
// a guarded call.
func (f *flow) whole() Reading { return f.mean.Plus(Read(f.waited)) }

// idle says whether nothing arrived.
func (f *flow) idle() bool { return f.offered.AtMost(0) }

// hangs says whether the limit is full and hardly any of the arrivals finish.
func (f *flow) hangs() bool {
	full := f.inFlight.AtLeast(little.BindingAt*f.limit.Float()) || f.binding.AtLeast(little.BindingAt)
	return full && f.completed.known && f.completed.value < hangShare*f.offered.value
}

// hangShare is the share of the arrivals that finishes at least, however deep the overload, unless the service hangs.
const hangShare = 0.005

// protectedRefused is the share of the arrivals of the classes up to least that the limit or shedding refused. It needs
// a hundred arrivals.
func (f *flow) protectedRefused(least Criticality) Reading {
	offered, refused := Read(0), Read(0)
	for _, c := range f.classes[:least+1] {
		offered, refused = offered.Plus(c.Offered), refused.Plus(c.Refused)
	}
	if offered.known && offered.value < protectedRequests {
		return Missing(TooLittleTraffic,
			fmt.Sprintf("%s protected requests in the window, needs %d", format.Count(offered.value), protectedRequests))
	}
	return refused.Over(offered, "")
}

const protectedRequests = 100

// completedRate is how many requests the service finishes per second, all instances.
func (v *view) completedRate() float64 { return v.completed.Float() / v.window.Seconds() }

// goodput is the requests per second, over all instances, that finish within the SLO without failing.
func (v *view) goodput() float64 {
	bad := min(v.slow.Or(0)+v.failed.Or(0), 1)
	return v.completed.Float() * (1 - bad) / v.window.Seconds()
}

// occupancy is in flight ÷ limit, for the limit in force now.
func (v *view) occupancy(limit float64) Reading { return v.inFlight.Over(Read(limit), "") }

// binds says whether the limit matters at all: it refuses, or it is nearly full. Only then may a law move it.
func (v *view) binds(limit float64) bool {
	switch {
	case v.refuses(limit):
		return true
	case v.binding.Known():
		return v.binding.AtLeast(bindsFor)
	}
	return v.occupancy(limit).AtLeast(little.BindingAt)
}

// refuses says whether the limit refuses a share that counts. A guard says which of its policies refused. Where nobody
// says, refusals count only if the limit is full enough to be their cause: a quota elsewhere refuses, too.
func (v *view) refuses(limit float64) bool {
	return v.refusing && (v.attributed || !v.occupancy(limit).Below(refusesFrom))
}

// refusesFrom is the mean occupancy below which a limit is not what refuses, however the load comes and goes.
const refusesFrom = 0.2

// bindsFor is the share of the window for which a limit must have bound.
const bindsFor = 0.5

// healthy says whether nothing was refused for want of room, of the routes beside this one either, and the limit had
// room. Only such windows show the service's own latency. If no limit is known, the service must have kept up with its
// arrivals.
func (v *view) healthy() bool {
	if v.limitRefused.Above(0) || v.rateRefused.Above(0) || v.crowded() ||
		v.binding.AtLeast(bindsFor) {
		return false
	}
	if limit, ok := v.limit.Value(); ok {
		return v.occupancy(limit).Below(little.BindingAt)
	}
	admitted := v.admittedRate.Float()
	return math.Abs(v.completedRate()-admitted) <= rateBalance*admitted
}

// crowded says whether requests were refused because all routes together have no room. The latencies of this one then follow
// what the others have in flight.
func (v *view) crowded() bool { return v.shareRefused.Above(0) || v.roofRefused.Above(0) }

// violates says whether more is late or failed than the SLO allows. What is unknown is not a violation.
func (v *view) violates(slo SLO) bool { return v.badRatio(slo).Above(1) }

// badRatio is the worse of the two SLO ratios, each as a multiple of its budget: above 1 the SLO is violated. It is
// unknown if neither is known.
func (v *view) badRatio(slo SLO) Reading {
	bad := v.slow.Over(Read(1-slo.Objective), "")
	if slo.Errors > 0 {
		if failed := v.failed.Over(Read(slo.Errors), ""); !bad.AtLeast(failed.Or(math.Inf(-1))) {
			bad = failed
		}
	}
	return bad
}
