package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/explain"
)

// unknown stands in a column for a missing number.
var unknown = format.Column(format.Unknown)

// tone is the meaning of a piece of text. Color repeats what glyph and word already say.
type tone int

const (
	plain tone = iota
	calm       // as it should be
	moving
	warning
	alarm
	waiting // the machine waits
	manual  // a person did it
	dim
	loud // must not be missed: the screen does not show the present
)

// stateWord is how a state reads: a glyph, a word, and whether to show its age.
type stateWord struct {
	glyph, word string
	tone        tone
	aged        bool
	means       string
}

// notWritten is how a loop is shown whose value does not reach the service, whatever the loop itself does: the last write of
// its Setting failed.
const notWritten control.State = "not_written"

// stateOf is the state that the overview shows.
func stateOf(l *api.Loop) control.State {
	if l.Published != nil && l.Published.Error != "" {
		return notWritten
	}
	return l.Decision.State
}

// states are in the order of the header's count: those that need a person come first.
var states = []control.State{
	notWritten, control.NotObeyed, control.Infeasible, control.Ineffective, control.AtMin, control.AtMax, control.Hold,
	control.Override, control.Frozen, control.Cutting, control.Raising, control.Steady,
}

// stateTraits are the tone and the age flag of a state.
var stateTraits = map[control.State]stateWord{
	control.Steady:      {tone: calm},
	control.Raising:     {tone: moving},
	control.Cutting:     {tone: moving},
	control.AtMin:       {tone: warning, aged: true},
	control.AtMax:       {tone: warning, aged: true},
	control.Ineffective: {tone: alarm, aged: true},
	control.Infeasible:  {tone: alarm, aged: true},
	control.NotObeyed:   {tone: alarm, aged: true},
	notWritten:          {tone: alarm},
	control.Hold:        {tone: waiting, aged: true},
	control.Frozen:      {tone: manual, aged: true},
	control.Override:    {tone: manual, aged: true},
}

// wordOf also handles the states of a newer daemon.
func wordOf(s control.State) stateWord {
	w, ok := stateTraits[s]
	if !ok {
		w.tone = warning
	}
	w.glyph, w.word = explain.StateWord(s)
	w.means = explain.Means(s)
	if s == notWritten {
		w.glyph, w.means = "!", "the last write to the KV failed"
	}
	return w
}

// stateText is the STATE column: glyph and word, plus the value that a move started from, or the age of the state.
func stateText(l api.Loop, now time.Time) string {
	w := wordOf(stateOf(&l))
	text := w.glyph + " " + w.word
	if old, is := l.Overdue(now); is {
		return text + " " + format.Age(old) + " old"
	}
	switch s := stateOf(&l); {
	case (s == control.Cutting || s == control.Raising) && l.Decision.From.Known():
		text += " from " + strings.TrimSuffix(value(l.Knob, float64(l.Decision.From)), "/s")
	case w.aged && !l.Since.IsZero():
		text += " " + format.Age(now.Sub(l.Since))
	}
	return text
}

// modeText writes in capitals the one mode that affects a service.
func modeText(m control.Mode) string {
	if m == control.Enforce {
		return "ENFORCE"
	}
	return string(m)
}

// seconds formats a duration for a column: 0.4ms, 148ms, 1.23s, 123s.
func seconds(n control.Number) string { return format.Column(format.Latency(float64(n))) }

// percent formats a ratio for a column.
func percent(ratio float64) string { return format.Column(format.Percent(ratio)) }

// number formats a plain quantity for a column.
func number(n control.Number) string { return format.Column(format.Number(float64(n))) }

// signed formats a controller's term for a column.
func signed(n control.Number) string { return format.Column(format.Signed(float64(n))) }

// value formats a knob's value for a column.
func value(k control.Knob, v float64) string { return format.Column(k.Format(v)) }

// measure formats a number in the unit of the loop's measurement and setpoint.
func measure(l api.Loop, n control.Number) string {
	switch l.MeasuredUnit {
	case api.Share:
		return percent(float64(n))
	case api.Retries:
		return value(l.Knob, float64(n))
	}
	return seconds(n)
}

// measured formats the measurement. A share names its class: "crit 3.2%" means that this share of the critical and more
// important requests is refused.
func measured(l api.Loop) string {
	text := measure(l, l.Decision.Measured)
	if l.MeasuredUnit == api.Share && l.Protect != "" && text != unknown {
		text = fmt.Sprintf("%.4s %s", l.Protect, text)
	}
	return text
}

// burnText formats how fast the error budget burned over five minutes and over an hour. At 1 the budget is used up
// exactly at the end of its period.
func burnText(l api.Loop) string {
	multiple := func(n control.Number) string {
		switch {
		case !n.Known():
			return unknown
		case n >= 9999.5:
			return ">9999"
		case n >= 99.95:
			return number(n)
		}
		return strconv.FormatFloat(float64(n), 'f', 1, 64)
	}
	in := l.Decision.Inputs
	if !in.Burn5m.Known() && !in.Burn1h.Known() {
		return unknown
	}
	return multiple(in.Burn5m) + "/" + multiple(in.Burn1h)
}

// off is what a rate at its maximum is: it refuses nothing.
const off = "off"

// setTo writes a value as what it means at the end of its range.
func setTo(l api.Loop, v float64) string {
	switch {
	case l.Knob == control.KnobRate && v >= l.Max:
		return off
	case l.Knob == control.KnobShed && v >= 1:
		return "never"
	}
	return value(l.Knob, v)
}

// bounds formats min and max with one unit.
func bounds(l api.Loop) string {
	low := strings.TrimSuffix(value(l.Knob, l.Min), "/s")
	return low + ".." + value(l.Knob, l.Max)
}

// badRatio returns the worse of the two shares that the SLO judges, slow and failed requests, and the share that the
// SLO allows. The worse one is the larger relative to its budget.
func badRatio(l api.Loop) (bad, budget float64, what string) {
	in := l.Decision.Inputs
	bad, budget, what = float64(in.SlowRatio), 1-l.SLO.Objective, "slow"
	if !in.FailedRatio.Known() {
		return bad, budget, what
	}
	failed := float64(in.FailedRatio)
	if !in.SlowRatio.Known() || failed*budget > bad*l.SLO.Errors {
		return failed, l.SLO.Errors, "failed"
	}
	return bad, budget, what
}

// Violates reports whether the measurements show that the loop's service misses its SLO. Unknown is not a violation.
func Violates(l api.Loop) bool {
	return l.Decision.Inputs.BadRatio.Known() && l.Decision.Inputs.BadRatio > 1
}

// MaxRefused is the share of the requests above which a refusal is more than noise, where nobody says otherwise.
const MaxRefused = 0.05

// Refuses reports whether more than a share of the requests to the loop's service is refused, by any policy. Unknown is
// not.
func Refuses(l api.Loop, share float64) bool {
	refused := l.Decision.Inputs.RefusedShare
	return refused.Known() && float64(refused) > share
}

// Refusal says in one line how much the loop's service refuses, by which policy, and what it would take to carry it.
func Refusal(l api.Loop, share float64) string {
	return Clean(fmt.Sprintf("%s: %s, at most %s accepted", name(l),
		join("; ", explain.Refused(l), explain.Lacks(l)), percent(share)))
}

// Violation says in one line by how much the loop's service misses its SLO.
func Violation(l api.Loop) string {
	bad, budget, what := badRatio(l)
	return Clean(fmt.Sprintf("%s: %s of the admitted requests %s, %s allowed",
		name(l), percent(bad), what, percent(budget)))
}

// name is the name of a loop everywhere: service/knob.
func name(l api.Loop) string { return l.Service + "/" + string(l.Knob) }
