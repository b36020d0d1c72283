package control

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/control/format"
)

// explain writes a decision as one sentence. All knobs share one grammar:
//
//	keep VALUE: FINDING; CLAUSE; CLAUSE …
//	raise VALUE->VALUE: …        cut VALUE->VALUE: …
//	hold VALUE: REASON, DETAIL
//	frozen at VALUE until TIME: WHO, WHY        override VALUE until TIME: …
//
// The finding compares the measurement with the setpoint. Each clause names one more thing that shaped the decision or
// that an operator should know.
func explain(d Decision, slo SLO, order *Order) string {
	switch d.State {
	case Frozen, Override:
		return explainOrder(d, order.Expires)
	case Hold:
		return "hold " + d.value(d.Value) + ": " + whyHeld(d)
	}
	return explainMove(d) + ": " + strings.Join(explainClauses(d, slo), "; ")
}

// value writes a value of the decision's knob.
func (d *Decision) value(n Number) string { return d.Knob.Format(float64(n)) }

// Format writes a value of the knob: requests in flight, requests per second, or a ratio.
func (k Knob) Format(v float64) string {
	switch k {
	case KnobRate:
		return format.Rate(v)
	case KnobShed, KnobRetry:
		return format.Ratio(v)
	}
	if _, ok := k.Callee(); ok {
		return format.Latency(v)
	}
	return format.Number(v)
}

func explainMove(d Decision) string {
	switch {
	case d.Value < d.From:
		return "cut " + d.value(d.From) + "->" + d.value(d.Value)
	case d.Value > d.From:
		return "raise " + d.value(d.From) + "->" + d.value(d.Value)
	}
	return "keep " + d.value(d.Value)
}

func explainClauses(d Decision, slo SLO) []string {
	var clauses []string
	say := func(format string, args ...any) { clauses = append(clauses, fmt.Sprintf(format, args...)) }

	if _, ok := d.Knob.Callee(); ok {
		explainCall(d, slo, say)
		return clauses
	}
	switch d.Knob {
	case KnobRetry:
		say("%s", ConstantLaw)
		if d.HoldReason != "" {
			say("%s: the lease is not renewed", whyHeld(d))
		}
		return clauses
	case KnobShed:
		if d.Measured.Known() {
			say("%s of the protected requests refused, setpoint %s", percent(d.Measured), percent(d.Setpoint))
		} else {
			say("%s", d.Detail)
		}
	case KnobRate:
		say("mean %s", against(d.Measured, d.Setpoint))
		if d.Gates.Binds {
			say("the rate binds")
		} else {
			say("the rate does not bind")
		}
		if d.Gates.FloorTest == RaiseTestRaised {
			say("raise test: rate raised on purpose, because nothing queues, to see whether latency grows with it")
		}
	default:
		explainConcurrency(d, say)
		if d.Value != d.From && d.Gates.FloorTest == FloorTestGuard {
			say("the guards' own limit runs at %s", d.value(d.Inputs.EffectiveLimit))
		}
	}
	if c := d.Inputs.Culprit; c != "" && c != d.Service && (d.Knob == KnobConcurrency || d.Knob == KnobRate) {
		clauses = slices.Insert(clauses, 1, d.Blame())
	}
	switch {
	case d.Terms.Event != "" && d.Detail != "" && d.HoldReason == "":
		say("%s: %s", d.Terms.Event, d.Detail)
	case d.Terms.Event != "":
		say("%s", d.Terms.Event)
	}
	if d.Bound != "" {
		say("bound by %s", d.Bound)
	}
	if d.HoldReason != "" {
		say("%s: may tighten only", whyHeld(d))
	}
	if d.Inputs.Censored {
		say("%s is censored (>= %s, top bucket)", format.Quantile(slo.Objective), latency(d.Inputs.Quantile))
	}
	if long := d.Inputs.LongInFlight; long >= 1 {
		say("%s requests in flight are so long that they count apart from the others; declare them, or give them a service of "+
			"their own", format.Number(float64(long)))
	}
	if steps := d.Gates.BurnSteps; steps > 0 && d.Knob != KnobShed {
		say("setpoint lowered by %s: the error budget burns fast", format.Percent(1-math.Pow(burnTightens, float64(steps))))
	}
	if d.State == Ineffective {
		say("limiting cannot help: the service itself needs %s", latency(d.Gates.ServiceTimeSeconds))
	}
	if d.State == NotObeyed {
		say("nobody obeys the limit: %s requests in flight by Little's law",
			format.Number(float64(d.Inputs.Throughput*d.answer()+d.Inputs.LongInFlight)))
	}
	switch within := format.Latency(slo.Latency.Seconds()); d.Gates.InfeasibleBy {
	case ByOwnLatency:
		say("SLO infeasible: own latency %s leaves no room below %s", latency(d.Gates.OwnLatencySeconds), within)
	case BySpread:
		say("SLO infeasible: the %s lies %s above the mean though nothing queues, which leaves no room below %s",
			format.Quantile(slo.Objective), latency(d.Inputs.Quantile-d.Measured), within)
	case ByCalls:
		say("SLO infeasible: %s in calls to other services leave no room below %s", latency(d.Inputs.WaitedSeconds), within)
	}
	if len(d.Inputs.Outliers) > 0 {
		say("outliers: %s", strings.Join(d.Inputs.Outliers, ", "))
	}
	return clauses
}

func explainConcurrency(d Decision, say func(format string, args ...any)) {
	if d.Terms.Event == EventHang {
		say("nothing to steer by")
		return
	}
	say("mean %s", against(d.Measured, d.Setpoint))
	switch {
	case d.Gates.FloorTest == FloorTestHalved:
		say("floor test: limit cut on purpose to see whether throughput follows")
	case d.Gates.FloorTest == RaiseTestRaised:
		say("raise test: limit raised on purpose to see whether latency grows with it")
	case !d.Gates.Binds:
		say("the limit does not bind (occupancy %s)", percent(d.Gates.Occupancy))
		if others := refusedElsewhere(d.Inputs.RefusedBy); len(others) > 0 {
			say("refused %s", strings.Join(others, ", and "))
		}
	default:
		within := latency(d.Setpoint)
		if d.Inputs.WaitedSeconds > 0 {
			within = fmt.Sprintf("(%s + %s in calls)", within, latency(d.Inputs.WaitedSeconds))
		}
		say("Little %s x %s = %s", format.Rate(float64(d.Inputs.Throughput)), within,
			format.Number(float64(d.Inputs.Throughput*(d.Setpoint+d.waited()))))
		refused := []string{percent(d.Inputs.RefusedBy.Concurrency + d.Inputs.RefusedBy.Shed)}
		if byRate := d.Inputs.RefusedBy.Rate; byRate > 0 {
			refused = append(refused, percent(byRate)+" by the rate")
		}
		refused = append(refused, refusedElsewhere(d.Inputs.RefusedBy)...)
		say("refused %s", strings.Join(refused, ", and "))
	}
}

// refusedElsewhere says how much was refused for reasons that no knob of the service or the route can change.
func refusedElsewhere(by RefusedBy) (words []string) {
	for _, other := range []struct {
		share Number
		words string
	}{
		{by.Callee, "for a callee"},
		{by.Share, "by its share of the roof"},
		{by.Roof, "by the roof over all routes"},
		{by.Endless, "as endless"},
	} {
		if other.share > 0 {
			words = append(words, percent(other.share)+" "+other.words)
		}
	}
	return words
}

// explainCall is the finding of the target of the calls to a dependency.
func explainCall(d Decision, slo SLO, say func(format string, args ...any)) {
	dep := d.Inputs.Dependencies[0] // else the loop holds
	b := callBounds(slo)
	say("%d x own latency %s = %s, %s to %s of the SLO = %s to %s", callTargetFactor, latency(dep.OwnLatency),
		latency(callTargetFactor*dep.OwnLatency), format.Percent(callTargetFloor), format.Percent(callTargetShare),
		format.Latency(b.Min), format.Latency(b.Fallback))
	if callTarget(float64(dep.OwnLatency), slo) > b.Fallback {
		say("it is slower than that by itself")
	}
	if d.Bound != "" {
		say("bound by %s", d.Bound)
	}
	if d.HoldReason != "" {
		say("%s: may tighten only", whyHeld(d))
	}
}

// waited is the time in guarded calls per request, 0 where it is not known.
func (d *Decision) waited() Number {
	if d.Inputs.WaitedSeconds.Known() {
		return d.Inputs.WaitedSeconds
	}
	return 0
}

// answer is the mean latency that the callers see.
func (d *Decision) answer() Number { return d.Measured + d.waited() }

// whyHeld joins the reason to hold and its detail. The detail may already begin with the reason.
func whyHeld(d Decision) string {
	why := string(d.HoldReason)
	switch {
	case d.Detail == "":
		return why
	case strings.HasPrefix(d.Detail, why+" "), strings.HasPrefix(d.Detail, why+":"):
		return d.Detail
	}
	return why + ", " + d.Detail
}

// explainOrder is the sentence of a loop under an operator's order.
func explainOrder(d Decision, expires time.Time) string {
	until := ""
	if !expires.IsZero() {
		until = " until " + format.Instant(expires)
	}
	switch {
	case d.State == Frozen:
		return fmt.Sprintf("frozen at %s%s: %s", d.value(d.Value), until, d.Detail)
	case d.Bound != "":
		return fmt.Sprintf("override %s, bound to %s by the configured %s%s: %s",
			d.value(d.Raw), d.value(d.Value), d.Bound, until, d.Detail)
	}
	return fmt.Sprintf("override %s%s: %s", d.value(d.Value), until, d.Detail)
}

// against compares a mean latency with its setpoint.
func against(measured, setpoint Number) string {
	relation := "<="
	if measured > setpoint {
		relation = ">"
	}
	return latency(measured) + " " + relation + " setpoint " + latency(setpoint)
}

func latency(seconds Number) string { return format.Latency(float64(seconds)) }

func percent(share Number) string { return format.Percent(float64(share)) }
