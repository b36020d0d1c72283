// Package explain says in plain words what a loop last did: what decided the value, which measurements the decision is
// based on, and what would change it. It derives everything from the HTTP interface's account of the loop, by
// arithmetic alone; the clock is an argument. It decides nothing and guesses nothing: if the interface does not say
// why, neither does the text.
//
// Names, reasons and errors are passed on unchanged. The caller cleans them before showing them (package plain).
package explain

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Subject is what to explain: a loop, and the status of its governor, at an instant.
type Subject struct {
	Loop   api.Loop
	Status api.Status // zero: unknown
	Now    time.Time
}

// Name is the name of the loop on the command line.
func (s Subject) Name() string { return s.Loop.Service + "/" + string(s.Loop.Knob) }

// State is the state's own word, the move if there was one, and since when.
func (s Subject) State() string {
	d := s.Loop.Decision
	_, text := StateWord(d.State)
	if (d.State == control.Cutting || d.State == control.Raising) && d.From.Known() && d.Value.Known() {
		text += fmt.Sprintf(" from %s to %s", s.value(d.From), s.value(d.Value))
	}
	if since := s.Loop.Since; !since.IsZero() {
		text += fmt.Sprintf(", since %s (%s)", format.Clock(since, s.Now), format.Span(s.Now.Sub(since)))
	}
	return text
}

// Reason is the decision's own reason.
func (s Subject) Reason() string {
	return cmp.Or(Reason(s.Loop.Decision), "governor gives no reason")
}

// Reason is a decision in one line of plain words: its own reason, with the reason to hold and the detail added if it
// leaves them out. "" if it gives none.
func Reason(d control.Decision) string {
	text := d.Reason
	if !strings.Contains(text, string(d.HoldReason)) {
		text = join(": ", string(d.HoldReason), text)
	}
	if !strings.Contains(text, d.Detail) {
		text = join("; ", text, d.Detail)
	}
	return text
}

// StateWord is how every screen shows a state, never by color alone: a glyph and a word. An unknown state of a newer
// governor gets the glyph "?".
func StateWord(s control.State) (glyph, word string) {
	return cmp.Or(glyphs[s], "?"), strings.ToUpper(strings.ReplaceAll(string(s), "_", " "))
}

// Means says in plain words what a state means, as govtop's help, explain and the alerts do; "" for one of a newer
// governor.
func Means(s control.State) string { return meanings[s] }

var meanings = map[control.State]string{
	control.Steady:      "inside the deadband",
	control.Raising:     "more is admitted than before",
	control.Cutting:     "less is admitted than before",
	control.AtMin:       "the configured minimum binds",
	control.AtMax:       "the configured maximum binds",
	control.Ineffective: "limiting cannot help: a slow dependency, a slower service",
	control.Infeasible:  "the SLO is tighter than the service's own latency",
	control.NotObeyed:   "the service keeps to no limit: is a guard or a sidecar there?",
	control.Hold:        "governor waits: no measurement it may act on",
	control.Frozen:      "a person stopped the loop",
	control.Override:    "a person set the value",
}

var glyphs = map[control.State]string{
	control.Steady: "=", control.Raising: "^", control.Cutting: "v", control.Hold: "~",
	control.AtMin: "!", control.AtMax: "!", control.Ineffective: "!", control.Infeasible: "!",
	control.NotObeyed: "!",
	control.Frozen:    "*", control.Override: "M",
}

// Order says what a person ordered of the loop, or that there is no order.
func (s Subject) Order() string {
	o := s.Loop.Order
	switch d := s.Loop.Decision; {
	case o == nil && (d.State == control.Frozen || d.State == control.Override):
		return "no order is in force any more"
	case o == nil:
		return "none: the loop is automatic"
	}
	what := "frozen"
	switch {
	case s.killed():
		what = "kill switch, every loop frozen,"
	case o.Kind == actuators.Override:
		what = "set to " + s.value(control.Number(o.Value))
	}
	text := fmt.Sprintf("%s by %s", what, o.Actor)
	if !o.At.IsZero() {
		text += fmt.Sprintf(" at %s (%s ago)", format.Clock(o.At, s.Now), format.Span(s.Now.Sub(o.At)))
	}
	switch {
	case o.ExpiresAt.IsZero():
		text += " until it is lifted"
	case o.Active(s.Now):
		text += fmt.Sprintf(" until %s (in %s)", format.Clock(o.ExpiresAt, s.Now), format.Span(o.ExpiresAt.Sub(s.Now)))
	default:
		text += " until " + format.Clock(o.ExpiresAt, s.Now) + ", which has passed"
	}
	return text + ": " + o.Reason
}

// killed says whether the loop's order is the kill switch, the only order that does not expire.
func (s Subject) killed() bool { return s.Loop.Order != nil && s.Loop.Order.ExpiresAt.IsZero() }

// Pace says how often the service is scraped and the loop decides; "" if it is not known.
func (s Subject) Pace() string {
	t := s.Loop.Timing
	if t.Scrape <= 0 {
		return ""
	}
	whence := "as configured"
	if t.Learned {
		whence = "as found in the data"
	}
	span := func(seconds float64) string { return format.Span(secondsOf(control.Number(seconds))) }
	return fmt.Sprintf("scraped every %s, %s; decides every %s from a window of %s", span(t.Scrape), whence, span(t.Period),
		span(t.Window))
}

// InForce says which value governs the service now, if one is published, and which instances obey it.
func (s Subject) InForce() []string {
	l, d := s.Loop, s.Loop.Decision
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	switch p := l.Published; {
	case p != nil && p.Revision > 0:
		text := fmt.Sprintf("%s, published with revision %d of epoch %d",
			s.amount(control.Number(p.Value)), p.Revision, p.Epoch)
		if !p.ChangedAt.IsZero() {
			text += ", changed " + format.Span(s.Now.Sub(p.ChangedAt)) + " ago"
		}
		say("%s", text)
		say("%s", s.applied())
	case l.Mode == control.Enforce:
		say("nothing is published yet: guards use their own fallback")
	default:
		say("nothing is published in mode %s", l.Mode)
	}
	switch {
	case l.Mode != control.Enforce && d.Value.Known():
		say("governor would set %s", s.amount(d.Value))
	case l.Published != nil && d.Value.Known() && float64(d.Value) != l.Published.Value:
		say("governor wants %s", s.amount(d.Value))
	}
	if p := l.Published; p != nil && p.Error != "" {
		say("the last write failed: %s", p.Error)
	}
	if l.Knob == control.KnobConcurrency && d.Ceiling.Known() && d.Ceiling > d.Value {
		say("between decisions a guard's reflex may raise its limit up to %s", s.value(d.Ceiling))
	}
	if limit := float64(d.Inputs.EffectiveLimit); l.Knob == control.KnobShed && limit < control.SmallLimit && d.Value.Known() {
		say("at the limit of %s requests this keeps %d slots from the least important; protected requests are refused while "+
			"all %s are taken", format.Number(limit), control.Reserve(limit, float64(d.Value)), format.Number(limit))
	}
	say("bounds %s to %s, fallback %s", s.value(control.Number(l.Min)), s.setTo(l.Max), s.setTo(l.Fallback))
	return out
}

func (s Subject) applied() string {
	d := s.Loop.Decision
	switch in := d.Inputs; {
	case !s.Loop.Published.ChangedAt.Before(d.At):
		return "the next decision will show which instances obey it"
	case in.Applied < 0:
		return "no instance reports which revision it obeys"
	case in.Applied == 1 && in.Instances == 1:
		return "the only instance reports this revision or a later one"
	case in.Applied >= in.Instances:
		return fmt.Sprintf("all %d instances report this revision or a later one", in.Instances)
	default:
		return fmt.Sprintf("%d of %d instances report this revision or a later one", in.Applied, in.Instances)
	}
}

// Input is one measurement behind the decision.
type Input struct {
	Name  string
	Value string // "unknown" if there is none
	Over  string // the span that it covers; "" if it has none
	Age   string // the age of its oldest sample now; "" if unknown
}

// Inputs are the measurements behind the decision, and their age now.
func (s Subject) Inputs() []Input {
	l, d := s.Loop, s.Loop.Decision
	in, g := d.Inputs, d.Gates
	age, window := "", ""
	if in.AgeSeconds.Known() {
		age = format.Span(s.sampleAge())
	}
	if in.WindowSeconds.Known() && in.WindowSeconds > 0 {
		window = format.Span(secondsOf(in.WindowSeconds))
	}
	var out []Input
	// A missing measurement has no age, but is still shown with the number that it is compared with.
	add := func(name string, ok bool, value, over, age string) {
		if !ok {
			over, age = "", ""
		}
		out = append(out, Input{name, value, over, age})
	}
	measured := func(name string, n control.Number, value string) { add(name, n.Known(), value, window, age) }
	sampled := func(name string, n control.Number, value string) { add(name, n.Known(), value, "", age) }
	learned := func(name string, n control.Number, value string) { add(name, n.Known(), value, "", "") }

	switch {
	case l.MeasuredUnit == api.Retries:
		measured("retries per call", d.Measured, ratio(d.Measured)+", configured "+ratio(d.Setpoint))
	case l.Callee != "":
		measured("mean latency of the calls", d.Measured, latency(d.Measured)+", target "+latency(d.Setpoint))
	case l.MeasuredUnit == api.Share:
		measured("protected requests refused", d.Measured, percent(d.Measured)+", setpoint "+percent(d.Setpoint))
	default:
		measured("mean latency", d.Measured, latency(d.Measured)+", setpoint "+latency(d.Setpoint))
	}
	if in.WaitedSeconds > 0 && l.MeasuredUnit == api.Seconds && l.Callee == "" {
		measured("besides, in guarded calls", in.WaitedSeconds, latency(in.WaitedSeconds))
	}
	for _, dep := range in.Dependencies {
		measured("calls to "+dep.Name, dep.Requests, Calls(dep))
	}
	quantile := latency(in.Quantile)
	if in.Censored {
		quantile = "at least " + quantile + " (top bucket)"
	}
	if l.SLO.LatencySeconds > 0 {
		quantile += ", SLO " + latency(control.Number(l.SLO.LatencySeconds))
	}
	measured(format.Quantile(l.SLO.Objective)+" latency", in.Quantile, quantile)
	measured("slow requests", in.SlowRatio, percent(in.SlowRatio)+", allowed "+percent(control.Number(1-l.SLO.Objective)))
	if l.SLO.Errors > 0 || in.FailedRatio.Known() {
		measured("failed requests", in.FailedRatio, percent(in.FailedRatio)+", allowed "+percent(control.Number(l.SLO.Errors)))
	}
	add("error budget burn, 5 min", in.Burn5m.Known(), times(in.Burn5m), "", "")
	add("error budget burn, 1 h", in.Burn1h.Known(), times(in.Burn1h), "", "")
	measured("arrivals", in.Requests, num(in.Requests))
	measured("completed, per instance", in.Throughput, rate(in.Throughput))
	measured("refused", in.RefusedShare, percent(in.RefusedShare))
	for _, policy := range policies(in.RefusedBy) {
		if policy.share > 0 {
			measured("refused by "+policy.name, policy.share, percent(policy.share))
		}
	}
	sampled("limit of the instances", in.EffectiveLimit, num(in.EffectiveLimit))
	sampled("in flight ÷ limit", g.Occupancy, percent(g.Occupancy))
	measured("time with the limit full", g.BindingShare, percent(g.BindingShare))
	if l.Knob == control.KnobConcurrency {
		learned("Little's-law floor", g.Floor, num(g.Floor))
		learned("own latency (learned)", g.OwnLatencySeconds, latency(g.OwnLatencySeconds)+evidence(d.Learned.OwnLatency))
		if spread := d.Learned.Spread; spread.Samples > 0 {
			learned(format.Quantile(l.SLO.Objective)+" above mean (learned)", spread.Value, latency(spread.Value)+evidence(spread))
		}
	}
	if g.ServiceTimeSeconds.Known() && g.ServiceTimeSeconds > 0 {
		learned("the service's own mean", g.ServiceTimeSeconds, latency(g.ServiceTimeSeconds))
	}
	instances := fmt.Sprint(in.Instances)
	if in.Instances == 0 {
		instances = "none"
	}
	if len(in.Outliers) > 0 {
		instances += ", left out as outliers: " + strings.Join(in.Outliers, ", ")
	}
	add("instances", in.Instances > 0, instances, "", age)
	return out
}

// sampleAge is the age now of the oldest sample behind the decision.
func (s Subject) sampleAge() time.Duration {
	return secondsOf(s.Loop.Decision.Inputs.AgeSeconds) + max(0, s.Now.Sub(s.Loop.Decision.At))
}

// evidence says what a learned quantity rests on, "" for one that is a default.
func evidence(e control.Estimate) string {
	var age string
	if e.AgeSeconds.Known() {
		age = format.Span(secondsOf(e.AgeSeconds)) + " old"
	}
	switch {
	case e.Samples == 0:
		return ""
	case e.Samples == 1:
		return join(", ", ", from 1 window", age)
	}
	return join(", the newest ", fmt.Sprintf(", from %d windows", e.Samples), age)
}
