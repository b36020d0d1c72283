package control

import (
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// latencyTarget turns the SLO, a promise about a high quantile, into the latency target τ* for the mean. The laws aim
// at it, and governor publishes it for the guards' reflex. The distance D̂ = quantile − mean hardly depends on the
// queue in front of a service, so it can be learned at any time. Then
//
//	τ* = min(max(0.9·SLO − D̂, 1.3·m₀, 0.3·SLO), 0.6·SLO), or 0.4·SLO where the objective is below 99%
//
// Example: SLO 300 ms, p99 150 ms above the mean, m₀ = 40 ms: τ* = 270 − 150 = 120 ms. Nothing here integrates, so
// nothing can wind up. The SLO, not the measurement, anchors the target: a service that slowly degrades cannot move it
// beyond the clip. latencyTarget also keeps the estimates behind the floor.
type latencyTarget struct {
	slo    time.Duration
	high   float64 // τ* is at most this share of the SLO
	weight float64 // of a new sample of D̂

	spreadAt time.Time                 // of the newest sample of D̂
	spreads  int                       // samples of D̂ so far
	distance Reading                   // D̂ in seconds, missing before the first sample
	inForce  float64                   // τ* in seconds; moves only by more than 5%
	burning  [len(BurnRates)]time.Time // when each pair of windows last burned too fast; zero: never, or released
	members  []string                  // the instances of the last snapshot
	changed  time.Time                 // when they last changed
	own      *little.OwnLatency        // of the mean without the time in guarded calls
	whole    *little.OwnLatency        // of the mean with it
	carried  little.Carried
}

const (
	targetUnknown   = 0.4 // of the SLO, before D̂ is known
	targetHeadroom  = 0.9
	targetLow       = 0.3
	targetHigh      = 0.6
	targetHighLax   = 0.4 // the same for objectives below 99%: nobody needs to queue because one in twenty may be late
	targetMost      = 0.8 // of the SLO: a mean above that leaves no room whatever the reason
	targetOwnMargin = 1.3 // × m₀: a target closer to the service's own latency would cut useful work
	targetStep      = 0.05
	burnTightens    = 0.9
	quantileSure    = 8 // × the least a quantile needs: with fewer requests it counts for less
)

func newLatencyTarget(slo SLO, window time.Duration, weight float64) *latencyTarget {
	t := &latencyTarget{
		slo: slo.Latency, weight: weight, high: targetHigh,
		inForce: targetUnknown * slo.Latency.Seconds(), own: little.NewOwnLatency(slo.Latency, window),
		whole: little.NewOwnLatency(slo.Latency, window),
	}
	if slo.Objective < 0.99 {
		t.high = targetHighLax
	}
	return t
}

// settled says whether the same instances have been there for a while and none is in trouble. A cold instance is slow
// for its first half minute or so, and its slowest requests would teach D̂ to all the others.
func (t *latencyTarget) settled(now time.Time, v *view) bool {
	if !slices.Equal(t.members, v.members) {
		first := t.members == nil
		if t.members = v.members; !first {
			t.changed = now
		}
	}
	return len(v.outliers) == 0 && now.Sub(t.changed) >= warmUp
}

// warmUp is how long a new instance may be cold.
const warmUp = time.Minute

// observe learns from a snapshot that passed the data gate and is not partial.
func (t *latencyTarget) observe(now time.Time, v *view) {
	if !v.mixed {
		t.own.Observe(now, v.mean.Float(), v.healthy())
		t.whole.Observe(now, v.whole().Float(), v.healthy())
	}
	t.carried.Observe(now, v.throughput.Float())
	t.observeBurn(now, v.burn)
	settled := t.settled(now, v)
	if q, ok := v.quantile.Value(); ok && settled && t.calmCalls(v) && !v.censored && !v.mixed && v.completed.AtLeast(v.quantileNeeds) {
		t.observeDistance(q-v.whole().Float(), v.completed.Float()/(quantileSure*v.quantileNeeds))
		t.spreadAt, t.spreads = now, t.spreads+1
	}
	if tau := t.ideal(); math.Abs(math.Log(tau/t.inForce)) > targetStep {
		t.inForce = tau
	}
}

// calmWait is w₀ in seconds: how long a request spends in guarded calls when nothing queues anywhere.
func (t *latencyTarget) calmWait() float64 { return max(0, t.whole.Seconds()-t.own.Seconds()) }

// calmCalls says whether the dependencies take about as long as in calm. A slow one spreads the latencies of the requests
// that need it, which says nothing about this service.
func (t *latencyTarget) calmCalls(v *view) bool {
	return v.waited <= callsAreCalm*t.calmWait() || v.waited <= callsAreShort*t.slo.Seconds()
}

const (
	callsAreCalm  = 1.5  // × w₀
	callsAreShort = 0.05 // of the SLO
)

// observeDistance updates D̂ with a sample, weighted by how sure it is (1: fully).
func (t *latencyTarget) observeDistance(seconds, sure float64) {
	before := t.distance.Or(seconds)
	t.distance = Read(before + t.weight*min(1, sure)*(seconds-before))
}

// observeBurn notes which pairs of windows burn too fast. Each pair keeps the target lowered until it has not burned
// too fast for one long window. An unknown burn rate neither tightens nor releases.
func (t *latencyTarget) observeBurn(now time.Time, burn [len(BurnRates)]Burn) {
	for i, b := range burn {
		switch rate := BurnRates[i]; {
		case b.Long.Above(rate.Multiple) && b.Short.Above(rate.Multiple):
			t.burning[i] = now
		case now.Sub(t.burning[i]) >= rate.Long:
			t.burning[i] = time.Time{}
		}
	}
}

// burnSteps is how many pairs of windows currently lower the target.
func (t *latencyTarget) burnSteps() int {
	n := 0
	for _, since := range t.burning {
		if !since.IsZero() {
			n++
		}
	}
	return n
}

// seconds is τ* in force, lowered by a tenth for each burn rate that is too high.
func (t *latencyTarget) seconds() float64 {
	return t.inForce * math.Pow(burnTightens, float64(t.burnSteps()))
}

// setpoint is what a law aims at, in seconds of mean latency: τ*, or more while a service time ŝ stands (0: none does).
// The clip of τ* to 0.6·SLO may put it below 1.3·m₀, at which a service that queues for nothing would be cut. So what is
// used then is 1.3·m₀ as long as that is at most 0.8·SLO. It is not published.
// Where requests wait for others in calm, the rest of their time gets less of τ*: see little.WithCalls.
func (t *latencyTarget) setpoint(serviceTime float64) Reading {
	slo, own := t.slo.Seconds(), t.own.Seconds()
	target := max(t.seconds(), min(targetOwnMargin*own, targetMost*slo))
	return Read(little.Setpoint(little.WithCalls(target, 0, t.calmWait(), own, slo), serviceTime, slo))
}

// restore starts from a published τ*, so that a new leader does not have to learn D̂ from scratch.
func (t *latencyTarget) restore(tau float64) {
	if slo := t.slo.Seconds(); tau > targetLow*slo && tau < targetHigh*slo {
		t.inForce, t.distance = tau, Read(targetHeadroom*slo-tau)
	}
}

// ideal is τ* by the formula.
func (t *latencyTarget) ideal() float64 {
	slo := t.slo.Seconds()
	low := max(targetOwnMargin*t.own.Seconds(), targetLow*slo)
	tau := targetUnknown * slo
	if d, ok := t.distance.Value(); ok {
		tau = targetHeadroom*slo - d
	}
	return min(max(tau, low), t.high*slo)
}

// infeasible names the quantity that leaves no room below the SLO, "" if there is room. It takes present evidence: the
// service is late now. Then either its own latency m₀ alone is too long, or nothing queues in this window and the
// quantile lies too far above the mean all the same. It is a status, never a reason to hold.
func (t *latencyTarget) infeasible(v *view, slo SLO) string {
	if v.hold != "" || !v.slow.Above(1-slo.Objective) {
		return ""
	}
	limit, own := t.slo.Seconds(), targetOwnMargin*t.own.Seconds()
	if own > targetHigh*limit {
		return ByOwnLatency
	}
	spread := v.quantile.Less(v.mean)
	if v.healthy() && !v.censored && v.completed.AtLeast(v.quantileNeeds) && spread.Above(targetHeadroom*limit-own) {
		if v.waited > spread.value/2 {
			return ByCalls
		}
		return BySpread
	}
	return ""
}

// floor is X̂max·m₀: the requests in flight, per instance, that the service needs to carry what it has carried
// before.
// A request is in flight while it waits in guarded calls, too.
func (t *latencyTarget) floor(now time.Time, v *view) float64 {
	return t.carried.PerSecond(now) * (t.own.Seconds() + v.waited)
}

// learned returns the estimates with their evidence.
func (t *latencyTarget) learned(now time.Time) Learned {
	l := NewDecision("", "").Learned
	windows, newest := t.own.Evidence()
	l.OwnLatency = estimate(now, t.own.Seconds(), newest, windows)
	if t.distance.Known() {
		l.Spread = estimate(now, t.distance.value, t.spreadAt, t.spreads)
	}
	if at := t.carried.Since(); !at.IsZero() {
		l.Carried = estimate(now, t.carried.PerSecond(now), at, 1)
	}
	return l
}

func estimate(now time.Time, value float64, at time.Time, samples int) Estimate {
	e := Estimate{Value: Number(value), AgeSeconds: Number(math.NaN()), Samples: samples}
	if !at.IsZero() {
		e.AgeSeconds = Number(now.Sub(at).Seconds())
	}
	return e
}
