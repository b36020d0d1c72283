package explain

import (
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
