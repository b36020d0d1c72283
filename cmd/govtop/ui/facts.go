package ui

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/little"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/explain"
)

// fact is one line of the account of a decision: its subject and its items, the most important first.
type fact struct {
	label string
	items []item
}

// item is a piece of text that stays together.
type item struct {
	text string
	tone tone
}

// say adds items to the account; it leaves out empty ones.
func (f *fact) say(texts ...string) {
	for _, t := range filled(texts) {
		f.items = append(f.items, item{text: t})
	}
}

// warn adds an item that a person should see.
func (f *fact) warn(t tone, text string) { f.items = append(f.items, item{text, t}) }

const factLabel = 10 // cells of a label, with the blank after it

// lines flows the items into at most n lines of at most w cells; an ellipsis stands for what does not fit.
func (f fact) lines(w, n int) []string { return f.labeled(factLabel, w, n) }

// labeled puts the label into its own column.
func (f fact) labeled(column, w, n int) []string {
	items := f.items
	room := w - column
	if room < column { // too narrow for a column of labels
		room = w
		items = append([]item{{f.label, dim}}, items...)
	}
	out := flow(items, room, n)
	for i := range out {
		label := ""
		if i == 0 {
			label = f.label
		}
		if room < w {
			out[i] = paint(dim, fit.Left(label, column)) + out[i]
		}
	}
	return out
}

// flow sets items into at most n lines of at most w cells. An item wider than a line starts on its own line. An
// ellipsis stands for what does not fit; of an item that a person should see, at least the beginning shows.
func flow(items []item, w, n int) []string {
	const separator, least = "  ", 12
	var out []string
	for len(items) > 0 && len(out) < n {
		last := len(out) == n-1
		line, taken := "", 0
		for len(items) > 0 {
			i, gap := items[0], ""
			if taken > 0 {
				gap = separator
			}
			reserve := 0
			if last && len(items) > 1 {
				reserve = len(separator) + fit.Width(fit.Ellipsis)
			}
			if taken+len(gap)+fit.Width(i.text) > w-reserve {
				break
			}
			line, taken = line+gap+paint(i.tone, i.text), taken+len(gap)+fit.Width(i.text)
			items = items[1:]
		}
		switch {
		case len(items) == 0 || taken > 0 && !last:
			out = append(out, line)
		case taken == 0: // too wide for any line
			room := n - len(out)
			if len(items) > 1 && room > 1 {
				room--
			}
			for _, part := range fit.WrapTo(items[0].text, w, room) {
				out = append(out, paint(items[0].tone, part))
			}
			items = items[1:]
		case items[0].tone != plain && w-taken >= len(separator)+least:
			text := items[0].text
			if len(items) > 1 {
				text += separator + fit.Ellipsis
			}
			out = append(out, line+separator+paint(items[0].tone, fit.Clip(text, w-taken-len(separator))))
		default:
			out = append(out, fit.Clip(line+separator+fit.Ellipsis, w))
		}
	}
	return out
}

// reason is the decision in one line of plain words, with every detail that the decision has.
func reason(d control.Decision) string { return cmp.Or(explain.Reason(d), "no reason given") }

// orderText says what a person ordered, and until when.
func orderText(l api.Loop, now time.Time) string {
	o := l.Order
	if o == nil {
		return ""
	}
	w := wordOf(control.Frozen)
	if o.Kind == actuators.Override {
		w = wordOf(control.Override)
	}
	text := w.glyph + " " + w.word
	if o.Kind == actuators.Override {
		text += " " + value(l.Knob, o.Value)
	}
	text += " by " + who(o.Actor, o.Reason)
	switch {
	case o.ExpiresAt.IsZero():
		text += ", all loops, until someone lifts the kill switch"
	case !o.Active(now):
		text += ", expired"
	default:
		text += ", expires in " + remaining(o.ExpiresAt.Sub(now)) + " (" + format.Clock(o.ExpiresAt, now) + ")"
	}
	if s := l.Decision.State; s != control.Frozen && s != control.Override && o.Active(now) {
		text += "; not in force yet"
	}
	return text
}

func who(actor, reason string) string {
	if reason == "" {
		return actor
	}
	return actor + `: "` + reason + `"`
}

// remaining formats a duration to the minute: 42s, 14m, 1h56m, 2d3h.
func remaining(d time.Duration) string {
	d = max(d, 0)
	minutes := int(d.Minutes())
	switch {
	case d < time.Minute:
		return format.Age(d)
	case d < time.Hour:
		return fmt.Sprintf("%dm", minutes)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", minutes/60, minutes%60)
	}
	return fmt.Sprintf("%dd%dh", minutes/60/24, minutes/60%24)
}

// facts explain the loop's decision, from the law's output to what readers of the KV see.
func facts(l api.Loop, now time.Time) []fact {
	return slices.Concat(
		[]fact{terms(l)}, refusals(l), []fact{predictor(l), gates(l.Decision)}, dependencies(l),
		[]fact{constraints(l), inputs(l), published(l, now)})
}

// mostDependencies is how many dependencies a detail shows: those in trouble come first.
const mostDependencies = 3

// dependencies are the calls of the service to others; nil if none are known.
func dependencies(l api.Loop) []fact {
	all := slices.Clone(l.Decision.Inputs.Dependencies)
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b control.Calls) int { return cmp.Compare(urgency(b), urgency(a)) })
	f := fact{label: "calls"}
	if d := l.Decision; d.Inputs.Culprit != "" && !strings.Contains(d.Reason, "because "+d.Inputs.Culprit) {
		f.warn(warning, "! culprit "+strings.Join(append(slices.Clone(d.Inputs.CulpritVia), d.Inputs.Culprit), " > "))
	}
	for _, d := range all[:min(len(all), mostDependencies)] {
		f.say(d.Name + " " + number(d.InFlight) + "/" + number(d.Limit) + " in flight")
		if b := explain.Breaker(d); b != "" {
			f.warn(alarm, "! "+b)
		}
		f.say("mean " + seconds(d.Mean) + " target " + seconds(d.LatencyTarget))
		if d.RefusedRatio > 0 {
			f.warn(warning, "refused "+percent(float64(d.RefusedRatio)))
		}
		f.say("retries " + value(control.KnobRetry, float64(d.RetryRatio)))
	}
	if more := len(all) - mostDependencies; more > 0 {
		f.say(fmt.Sprintf("and %d more", more))
	}
	return []fact{f}
}

// urgency orders dependencies: open breakers first, then refusals on the way out, then the share of the latency.
func urgency(d control.Calls) float64 {
	known := func(n control.Number) float64 {
		if !n.Known() {
			return 0
		}
		return float64(n)
	}
	return 1e6*min(known(d.Breakers.Open), 1) + 1e3*known(d.RefusedRatio) + known(d.PerRequest)
}

var events = map[string]string{
	control.EventIncrease: "increase: healthy, one step up",
	control.EventDecrease: "decrease: it falls behind, one share down",
	control.EventCooldown: "cooldown: the last move does not show yet",
	control.EventYields:   "yields: the concurrency limit acts first",
	control.EventDrains:   "drains: more completes than is admitted",
	control.EventEdited:   "edited by hand: it goes on from there",
	control.EventRestore:  "restore: the cut did not help",
	control.EventHang:     "hang: nothing completes",
}

// terms are the controller's terms, in ln units of the knob.
func terms(l api.Loop) fact {
	d := l.Decision
	t := d.Terms
	f := fact{label: strings.ToUpper(string(t.Law))}
	if f.label == "" {
		f.label = "law"
	}
	if t.Error.Known() {
		f.say("error " + signed(t.Error))
	}
	if t.P.Known() || t.I.Known() || t.D.Known() {
		f.say("P "+signed(t.P), "I "+signed(t.I), "D "+signed(t.D))
	}
	if e, ok := events[t.Event]; ok {
		f.say(e)
	} else {
		f.say(t.Event)
	}
	asks := "not asked"
	if d.Raw.Known() {
		asks = "asks for " + value(d.Knob, float64(d.Raw))
	}
	sets := "keeps " + value(d.Knob, float64(d.Value))
	if d.From.Known() && d.From != d.Value {
		sets = "sets " + value(d.Knob, float64(d.Value)) + ", was " + value(d.Knob, float64(d.From))
	}
	f.say(asks, sets)
	return f
}

// steersBy says what a knob without a predictor follows.
func steersBy(k control.Knob) string {
	switch k {
	case control.KnobRate:
		return "steps up while healthy, cuts to what completes"
	case control.KnobShed:
		return "follows the refusals"
	case control.KnobRetry:
		return "a constant, people alone move it"
	}
	if _, ok := k.Callee(); ok {
		return "a multiple of the own latency of the dependency"
	}
	return "not steered"
}

// predictor is the prediction by Little's law: the limit for this throughput, below which the limit itself would do the
// damage.
func predictor(l api.Loop) fact {
	d, g := l.Decision, l.Decision.Gates
	f := fact{label: "predictor"}
	service := "service " + unknown // found by a floor test that did not help; it lasts for a while
	if g.ServiceTimeSeconds.Known() && g.ServiceTimeSeconds > 0 {
		service = "service " + seconds(g.ServiceTimeSeconds)
	}
	own := "own latency " + seconds(g.OwnLatencySeconds)
	if l.Knob != control.KnobConcurrency {
		f.say("none: "+steersBy(l.Knob), own, service)
		return f
	}
	// The product is for readers who check the arithmetic; Raw holds what governor made of it.
	inFlight, within := d.Inputs.Throughput*d.Setpoint, seconds(d.Setpoint)
	if waited := d.Inputs.WaitedSeconds; waited > 0 {
		inFlight, within = d.Inputs.Throughput*(d.Setpoint+waited), "("+within+" + "+seconds(waited)+" in calls)"
	}
	f.say("Little "+number(d.Inputs.Throughput)+"/s x "+within+" = "+number(inFlight),
		"floor "+number(g.Floor), own, service)
	if g.FloorTest != "" && g.FloorTest != string(little.Idle) {
		f.say("floor test " + strings.ReplaceAll(g.FloorTest, "_", " "))
	}
	return f
}

var holds = map[control.Reason]string{
	control.NaN:              "not a number",
	control.NotFinite:        "an infinite number",
	control.NoData:           "nothing found",
	control.Idle:             "no requests",
	control.ManySeries:       "more than one series",
	control.Partial:          "some instances missing",
	control.TooLittleTraffic: "too few requests",
	control.Stale:            "too old",
	control.Implausible:      "impossible numbers",
	control.Timeout:          "Prometheus too slow",
	control.QueryError:       "the query failed",
	control.Clock:            "clocks differ",
	control.Starting:         "just started",
}

// gates are the findings made before the controller ran.
func gates(d control.Decision) fact {
	g, f := d.Gates, fact{label: "gates"}
	if d.HoldReason == "" {
		f.say("data ok")
	} else {
		means := strings.ReplaceAll(string(d.HoldReason), "_", " ")
		if m := holds[d.HoldReason]; m != "" && m != means {
			means += " (" + m + ")"
		}
		f.warn(waiting, "data ~ "+means)
	}
	binds := "binds no"
	if g.Binds {
		binds = "binds yes"
	}
	f.say(binds, "occupancy "+percent(float64(g.Occupancy)), "binding for "+percent(float64(g.BindingShare)))
	if g.Infeasible {
		f.warn(alarm, "! SLO infeasible")
	} else {
		f.say("SLO feasible")
	}
	if g.BurnSteps > 0 {
		f.warn(warning, fmt.Sprintf("setpoint tightened %d x 10%% by fast burn", g.BurnSteps))
	}
	return f
}

var constraintWords = map[string]string{
	control.BoundDeadband: "deadband: too small a move to write",
	control.BoundSlew:     "slew: the step is limited",
	control.BoundFloor:    "floor: a lower limit would do harm",
	control.BoundMin:      "min: the configured minimum",
	control.BoundMax:      "max: the configured maximum",
	control.BoundTighten:  "tighten only: the data is in doubt",
	control.BoundSLO:      "SLO violated: no raise while it is",
	control.BoundObey:     "not obeyed: no raise while nobody does",
}

// constraints are the constraints on an output, and which of them shaped this one.
func constraints(l api.Loop) fact {
	d := l.Decision
	bound := "nothing bound"
	if d.Bound != "" {
		words, ok := constraintWords[d.Bound]
		if !ok {
			words = strings.ReplaceAll(d.Bound, "_", " ")
		}
		bound = "bound by " + words
	}
	ceiling := ""
	if d.Ceiling > 0 {
		ceiling = "ceiling " + number(d.Ceiling)
	}
	f := fact{label: "bounds"}
	f.say(bound, ceiling, "fallback "+value(l.Knob, l.Fallback), "min..max "+bounds(l))
	return f
}

// inputs are the measurements behind the decision: n arrivals in the window, and the age of the oldest sample.
func inputs(l api.Loop) fact {
	in := l.Decision.Inputs
	quantile := format.Quantile(l.SLO.Objective) + " "
	if in.Censored {
		quantile += "> " // above the highest bucket
	}
	f := fact{label: "inputs"}
	f.say(quantile+seconds(in.Quantile),
		"slow "+percent(float64(in.SlowRatio)),
		"failed "+percent(float64(in.FailedRatio)),
		"refused "+percent(float64(in.RefusedShare)),
		"age "+seconds(in.AgeSeconds),
		"n "+number(in.Requests)+" in "+seconds(in.WindowSeconds),
		fmt.Sprintf("%d %s", in.Instances, plural(in.Instances, "instance")))
	if len(in.Outliers) > 0 {
		f.warn(warning, "! outliers "+strings.Join(in.Outliers, ", "))
	}
	if in.Burn5m.Known() || in.Burn1h.Known() {
		f.say("burn 5m " + times(in.Burn5m) + " 1h " + times(in.Burn1h))
	}
	if in.EffectiveLimit.Known() && l.Knob == control.KnobConcurrency {
		f.say("limit in use " + number(in.EffectiveLimit))
	}
	if t := l.Timing; t.Scrape > 0 {
		scraped := "scraped every " + seconds(control.Number(t.Scrape))
		if t.Learned {
			scraped += " (learned)"
		}
		f.say(scraped)
	}
	if in.TookSeconds.Known() {
		f.say("query " + seconds(in.TookSeconds))
	}
	return f
}

// refusers are the policies that refuse, in the order of the fields of control.RefusedBy and under their names in the
// API. So a policy that governor adds is one that govtop shows.
var refusers = func() (names []string) {
	for field := range reflect.TypeFor[control.RefusedBy]().Fields() {
		policy, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, policy)
	}
	return names
}()

// refusals say which policy refuses how much, and what it would take to carry it; nil if nothing is refused, or if
// capacity is not what is missing.
func refusals(l api.Loop) []fact {
	if l.Missing == nil || l.Decision.State == control.Ineffective {
		return nil
	}
	f := fact{label: "refused"}
	t := plain
	if Refuses(l, MaxRefused) {
		t = alarm
	}
	by := reflect.ValueOf(l.Decision.Inputs.RefusedBy)
	for i, policy := range refusers {
		if share := by.Field(i).Float(); share > 0 {
			f.warn(t, percent(share)+" by "+policy)
		}
	}
	f.say(explain.Lacks(l))
	return []fact{f}
}

// times formats a multiple.
func times(n control.Number) string {
	if !n.Known() {
		return unknown
	}
	return number(n) + "x"
}

// published says what readers of the KV see, and how many instances obey it.
func published(l api.Loop, now time.Time) fact {
	f, p := fact{label: "kv"}, l.Published
	switch {
	case p == nil && l.Mode == control.Enforce:
		f.say("nothing published yet")
		return f
	case p == nil:
		f.say("nothing published in mode " + string(l.Mode))
		return f
	}
	f.say(setTo(l, p.Value), fmt.Sprintf("rev %d", p.Revision))
	switch in := l.Decision.Inputs; {
	case in.Applied < 0 || in.Instances == 0:
		f.say("written")
	case in.Applied < in.Instances:
		f.warn(warning, fmt.Sprintf("applied %d/%d", in.Applied, in.Instances))
	default:
		f.say(fmt.Sprintf("applied %d/%d", in.Applied, in.Instances))
	}
	if p.Error != "" {
		f.warn(alarm, "! not written: "+p.Error)
	}
	if !p.ChangedAt.IsZero() {
		f.say("changed " + format.Age(now.Sub(p.ChangedAt)) + " ago")
	}
	if l.Mode != control.Enforce {
		f.say("no longer renewed: the mode is " + string(l.Mode))
	}
	f.say(p.Key)
	return f
}
