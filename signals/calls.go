package signals

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
)

// The signals of the calls that the instances make to other services through guard. They are read for services that ask
// for them (Service.Calls): a service without calls costs no selector more.
const (
	sigCallRequests      = "call_requests"
	sigCallAttempts      = "call_attempts"
	sigCallRetries       = "call_retries"
	sigCallFailures      = "call_failures"
	sigCallCalleeRefused = "call_callee_refused"
	sigCallRefused       = "call_refused" // by reason
	sigCallOpened        = "call_opened"  // by reason, within memory
	sigCallLatencyCount  = "call_latency_count"
	sigCallLatencySum    = "call_latency_sum"
	// The gauges are read by one selector; each is a signal of its own in the reply.
	sigCallInFlight   = "call_in_flight"
	sigCallLimit      = "call_limit"
	sigCallTarget     = "call_latency_target_seconds"
	sigCallOwnLatency = "call_own_latency_seconds"
	sigCallRevision   = "call_setting_revision"
	sigCallBreakers   = "call_breaker_instances" // by state
)

// Labels of guard's metrics of calls.
const (
	toLabel     = "to"
	reasonLabel = "reason"
	stateLabel  = "state"
)

// callPrefix begins the metrics of calls.
const callPrefix = "guard_client_"

// callHistogram is the latency histogram of the attempts.
const callHistogram = callPrefix + "latency_seconds"

// callSources are the metrics of the calls.
var callSources = map[string]source{
	sigCallRequests:      {metric: callPrefix + "requests_total"},
	sigCallAttempts:      {metric: callPrefix + "attempts_total"},
	sigCallRetries:       {metric: callPrefix + "retries_total"},
	sigCallFailures:      {metric: callPrefix + "failures_total"},
	sigCallCalleeRefused: {metric: callPrefix + "callee_refusals_total"},
	sigCallRefused:       {metric: callPrefix + "refused_total"},
	sigCallOpened:        {metric: callPrefix + "breaker_opened_total"},
	sigCallLatencyCount:  {metric: callHistogram + "_count"},
	sigCallLatencySum:    {metric: callHistogram + "_sum"},
	sigCallLimit:         {metric: callPrefix + "limit"},
}

// callGauges matches the names of the gauges.
var callGauges = fmt.Sprintf("__name__=~%q", callPrefix+"("+strings.Join([]string{
	"in_flight", "limit", "latency_target_seconds", "own_latency_seconds", "setting_revision", "breaker_instances",
}, "|")+")")

// withCalls are the sources of a service that asks for its calls, too.
func withCalls(from map[string]source) map[string]source {
	all := maps.Clone(from)
	maps.Copy(all, callSources)
	return all
}

// calls adds the branches that read the calls.
func (b *builder) calls() {
	inst, w := b.key.instance, b.key.window
	add := func(signal, expr string, by ...string) {
		b.add(signal, b.by("sum", expr, append([]string{inst, toLabel}, by...)...))
	}
	for _, signal := range []string{
		sigCallRequests, sigCallAttempts, sigCallRetries, sigCallFailures, sigCallCalleeRefused,
	} {
		add(signal, b.over("increase", w, signal))
	}
	add(sigCallRefused, b.over("increase", w, sigCallRefused), reasonLabel)
	add(sigCallOpened, b.over("increase", memory, sigCallOpened), reasonLabel)
	if b.native == "" {
		add(sigCallLatencyCount, b.over("increase", w, sigCallLatencyCount))
		add(sigCallLatencySum, b.over("increase", w, sigCallLatencySum))
	} else {
		var parts []string
		for _, sel := range b.selectors {
			parts = append(parts, "increase("+seriesOf(callHistogram, sel)+"["+promDuration(w)+"])")
		}
		attempts := b.by("sum", strings.Join(parts, " or "), inst, toLabel)
		b.add(sigCallLatencyCount, "histogram_count("+attempts+")")
		b.add(sigCallLatencySum, "histogram_sum("+attempts+")")
	}
	for _, sel := range b.selectors {
		b.branches = append(b.branches, fmt.Sprintf(`label_replace({%s}, %q, "call_$1", "__name__", %q)`,
			joined(callGauges, sel), signalLabel, callPrefix+"(.+)"))
	}
}

// calls reads what the instance, whose series have the labels me, reports of its calls, sorted by their names.
func (r *reply) calls(s subject, k seriesKey, me model.Metric) []control.Call {
	if !s.Calls {
		return nil
	}
	mine := func(signal string) []sample {
		var all []sample
		for _, g := range r.at(signal, k) {
			labels := g.labels.Clone()
			delete(labels, toLabel)
			delete(labels, stateLabel)
			if labels.Equal(me) {
				all = append(all, g)
			}
		}
		return all
	}
	limits := groupByLabel(mine(sigCallLimit), toLabel)
	calls := make([]control.Call, 0, len(limits))
	for _, to := range slices.Sorted(maps.Keys(limits)) {
		// of picks the samples about this dependency and, unless value is "", with that value of the label.
		of := func(signal string, found []sample, label model.LabelName, value string) control.Reading {
			found = groupByLabel(found, toLabel)[to]
			if value != "" {
				found = groupByLabel(found, label)[value]
			}
			return s.read(signal, found)
		}
		counter := func(signal string) control.Reading { return of(signal, r.at(signal, k), "", "") }
		reason := func(signal, value string) control.Reading { return of(signal, r.at(signal, k), reasonLabel, value) }
		gauge := func(signal string) control.Reading { return of(signal, mine(signal), "", "") }
		breaker := func(state string) control.Reading {
			return of(sigCallBreakers, mine(sigCallBreakers), stateLabel, state)
		}
		calls = append(calls, control.Call{
			To: to, Requests: counter(sigCallRequests), Attempts: counter(sigCallAttempts),
			Retries: counter(sigCallRetries), Failures: counter(sigCallFailures),
			PastDeadline: reason(sigCallRefused, "deadline"), BreakerOpen: reason(sigCallRefused, "breaker"),
			BulkheadFull: reason(sigCallRefused, "bulkhead"), Early: reason(sigCallRefused, "early"),
			CalleeRefused: counter(sigCallCalleeRefused), Finished: counter(sigCallLatencyCount),
			Mean: counter(sigCallLatencySum).Over(counter(sigCallLatencyCount),
				fmt.Sprintf("no call ended in %s", s.Timing.Window)),
			InFlight: gauge(sigCallInFlight), Limit: gauge(sigCallLimit), LatencyTarget: gauge(sigCallTarget),
			OwnLatency: gauge(sigCallOwnLatency), Revision: gauge(sigCallRevision),
			Closed: breaker("closed"), Open: breaker("open"), HalfOpen: breaker("half_open"),
			OpenedByFailures: reason(sigCallOpened, "failures"), OpenedAsSlow: reason(sigCallOpened, "slow"),
		})
	}
	return calls
}
