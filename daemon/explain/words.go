package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// unknown stands in for a missing number.
const unknown = format.Unknown

func num(n control.Number) string { return format.Number(float64(n)) }

func latency(seconds control.Number) string { return format.Latency(float64(seconds)) }

func percent(share control.Number) string { return format.Percent(float64(share)) }

func rate(n control.Number) string { return format.Rate(float64(n)) }

// times formats a burn rate.
func times(n control.Number) string {
	if !n.Known() {
		return unknown
	}
	return num(n) + " × its budget"
}

// value formats a value of the loop's knob.
func (s Subject) value(n control.Number) string { return s.Loop.Knob.Format(float64(n)) }

// setTo is value, plus its meaning at the end of its range.
func (s Subject) setTo(v float64) string {
	text := s.value(control.Number(v))
	switch {
	case s.Loop.Knob == control.KnobRate && v >= s.Loop.Max:
		text += " (off)"
	case s.Loop.Knob == control.KnobShed && v >= 1:
		text += " (never)"
	}
	return text
}

// amount is a value with its unit.
func (s Subject) amount(n control.Number) string {
	text := s.setTo(float64(n))
	switch s.Loop.Unit {
	case api.Requests:
		text += " requests in flight per instance"
	case api.PerSecond:
		text += " for the whole service"
	case api.Occupancy:
		text += " of the limit, above which the least important are refused"
	case api.Retries:
		text += " retries per call"
	case api.Seconds:
		text += " mean latency of the calls to " + s.Loop.Callee
	}
	return text
}

// constant says whether no law moves the value.
func (s Subject) constant() bool { return s.Loop.Knob == control.KnobRetry }

func ratio(n control.Number) string { return format.Ratio(float64(n)) }

// Calls says how the calls to a dependency are doing, the most important first.
func Calls(d control.Calls) string {
	var parts []string
	say := func(known bool, text string, args ...any) {
		if known {
			parts = append(parts, fmt.Sprintf(text, args...))
		}
	}
	breaker := Breaker(d)
	say(breaker != "", "%s", breaker)
	say(d.InFlight.Known() && d.Limit.Known(), "%s of %s in flight", num(d.InFlight), num(d.Limit))
	say(d.Mean.Known(), "mean %s", latency(d.Mean))
	say(d.LatencyTarget.Known(), "target %s", latency(d.LatencyTarget))
	say(d.OwnLatency.Known(), "own latency %s", latency(d.OwnLatency))
	say(d.RetryRatio.Known(), "%s retries per call", ratio(d.RetryRatio))
	say(d.FailedRatio > 0, "failed %s", percent(d.FailedRatio))
	say(d.RefusedRatio > 0, "refused here %s", percent(d.RefusedRatio))
	say(d.CalleeRefused > 0, "refused there %s", percent(d.CalleeRefused))
	if len(parts) == 0 {
		return unknown
	}
	return strings.Join(parts, ", ")
}

// Breaker says how many breakers to a dependency are open, and why they opened; "" if all are closed or there are none.
// An instance of the service has one for each instance of the dependency.
func Breaker(d control.Calls) string {
	b := d.Breakers
	open := b.Open
	state := "open"
	if !(open > 0) {
		if open, state = b.HalfOpen, "half open"; !(open > 0) {
			return ""
		}
	}
	text := fmt.Sprintf("breaker %s", state)
	if all := b.Open + b.HalfOpen + b.Closed; all.Known() && all > 1 {
		text = fmt.Sprintf("%s of %s breakers %s", num(open), num(all), state)
	}
	switch failures, slow := d.BreakersOpened.Failures > 0, d.BreakersOpened.Slow > 0; {
	case failures && slow:
		text += " (failures, slow)"
	case failures:
		text += " (failures)"
	case slow:
		text += " (slow)"
	}
	return text
}

// noun names the value of the loop's knob.
func (s Subject) noun() string {
	switch s.Loop.Knob {
	case control.KnobRate:
		return "rate"
	case control.KnobShed:
		return "threshold"
	case control.KnobRetry:
		return "budget"
	}
	if s.Loop.Callee != "" {
		return "target"
	}
	return "limit"
}

func secondsOf(n control.Number) time.Duration {
	return time.Duration(float64(n) * float64(time.Second))
}

// join joins the texts that are not empty.
func join(separator, a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + separator + b
}
