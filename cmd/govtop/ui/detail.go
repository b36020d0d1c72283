package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// detailLines is the full height of the detail below the table.
const detailLines = 9

// detail explains the selected loop below the table: first its reason, then the facts behind the reason. It draws at
// most lines lines.
func detail(l api.Loop, now time.Time, w, lines int, stale bool) []string {
	if lines < 2 {
		return nil
	}
	out := []string{titleOf(l, w, "")}
	out = append(out, indent(why(l, now, w-2, max(1, min(2, lines-1))))...)
	for _, f := range facts(l, now) {
		out = append(out, indent(f.lines(w-2, 1))...)
	}
	return grayed(out[:min(len(out), lines)], stale)
}

// why is the reason of a decision in at most n lines, plus one line for the order behind it, if any.
func why(l api.Loop, now time.Time, w, n int) []string {
	out := fit.WrapTo(strings.ReplaceAll(reason(l.Decision), " %", "%"), w, n)
	if order := orderText(l, now); order != "" {
		out = append(out, paint(manual, fit.Clip(order, w)))
	}
	return out
}

// grayed marks the lines as old.
func grayed(lines []string, stale bool) []string {
	if stale {
		for i := range lines {
			lines[i] = paint(dim, ansi.Strip(lines[i]))
		}
	}
	return lines
}

// rule is a horizontal line with a title in it.
func rule(title string, w int) string {
	title = "─ " + title + " "
	return fit.Clip(title+strings.Repeat("─", max(0, w-fit.Width(title))), w)
}

// titleOf is the title line above everything about a loop.
func titleOf(l api.Loop, w int, state string) string {
	items := []string{bold.Render(name(l)), modeText(l.Mode), state}
	if s := l.SLO; s.LatencySeconds > 0 {
		within := seconds(control.Number(s.LatencySeconds))
		items = append(items, fmt.Sprintf("SLO %s within %s", percent(s.Objective), within))
		if s.Errors > 0 {
			items = append(items, "errors "+percent(s.Errors))
		}
	}
	if l.Protect != "" {
		items = append(items, "protects "+l.Protect)
	}
	return rule(spread(w-4, "  ", items...), w)
}

// detailView is the content of one loop's detail.
type detailView struct {
	loop    api.Loop
	points  []api.Point   // oldest first; nil while they are loaded
	entries []logEntry    // of this loop, newest first; shown where there is room
	loaded  bool          // an answer has come
	err     error         // why the last answer did not
	now     time.Time     // the right end of the charts
	span    time.Duration // of the charts, at most: see shows
	graph   graph
	stale   bool
}

// zooms are the spans of the charts.
var zooms = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// youngSpans are those of charts whose history is shorter than the zoom. They grow in steps, lest the curve change its
// shape with every second, and by half at most, so that a third of a chart is the most that stays empty.
var youngSpans = []time.Duration{
	10 * time.Second, 15 * time.Second, 20 * time.Second, 25 * time.Second, 30 * time.Second, 40 * time.Second,
	50 * time.Second, time.Minute, 90 * time.Second, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute,
	7 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute, 45 * time.Minute, time.Hour,
}

// shows is the span of the charts. It is the one that is zoomed to, or a shorter one where the history does not go back
// as far: that of a governor that has just started is readable from its first decisions on.
func (v detailView) shows() time.Duration {
	if !v.loaded || len(v.points) == 0 || v.points[0].At.After(v.now) {
		return v.span
	}
	age := v.now.Sub(v.points[0].At)
	i, _ := slices.BinarySearch(youngSpans, age)
	if i == len(youngSpans) {
		return v.span
	}
	return min(youngSpans[i], v.span)
}

// Heights of the charts: below the least they say nothing, and lines go first to the account.
const (
	leastMeasured = 4 // title, three rows
	leastValue    = 4 // title, two rows, axis
	sideBySide    = 150
)

// detailScreen explains one loop in exactly h lines of at most w cells. If there is little room the charts shrink, then
// the account loses its end; if there is much, the account moves next to the charts, with the loop's latest decisions
// below.
func detailScreen(v detailView, w, h int) []string {
	if w <= 0 || h <= 0 {
		return fitted(nil, h)
	}
	l := v.loop
	out := []string{titleOf(l, w, paint(wordOf(stateOf(&l)).tone, stateText(l, v.now)))}
	out = append(out, indent(why(l, v.now, w-2, min(3, max(h/8, 1))))...)
	out = out[:min(len(out), h)]
	room := h - len(out)
	account := facts(l, v.now)

	if w >= sideBySide && room >= 2*len(account) {
		side := min(max(w*2/5, 60), 90)
		charts := charts(v, w-side-3, room)
		var right []string
		for _, f := range account {
			right = append(right, f.lines(side, room)...)
			if room >= 4*len(account) {
				right = append(right, "")
			}
		}
		if more := room - len(right); more >= 4 && len(v.entries) > 0 {
			right = append(right, decisionsPanel(v.entries, side, more, v.now)...)
		}
		for i, line := range fitted(charts, room) {
			beside := ""
			if i < len(right) {
				beside = right[i]
			}
			out = append(out, " "+fit.Left(line, w-side-3)+"  "+beside)
		}
		return grayed(fitted(out, h), v.stale)
	}

	least := leastMeasured + leastValue
	if room < least+3 {
		least = leastMeasured
	}
	if room < least+2 {
		least = 0
	}
	told := tell(account, w-2, room-least)
	out = append(out, indent(charts(v, w-2, room-len(told)))...)
	out = append(out, indent(told)...)
	return grayed(fitted(out, h), v.stale)
}

// tell gives every fact one line, and shares what is left of n lines among those that need more.
func tell(account []fact, w, n int) []string {
	lines := make([]int, len(account))
	spare := n
	for i := range account {
		if spare > 0 {
			lines[i], spare = 1, spare-1
		}
	}
	var out []string
	for i, f := range account {
		told := f.lines(w, lines[i])
		if lines[i] == 1 && spare > 0 {
			told = f.lines(w, 1+spare)
			spare -= len(told) - 1
		}
		out = append(out, told...)
	}
	return out
}

// chartPanel draws the charts of a loop, and its controller's terms, in exactly h lines of at most w cells.
func chartPanel(v detailView, w, h int) []string {
	if w <= 0 || h <= 0 {
		return fitted(nil, h)
	}
	l := v.loop
	out := []string{titleOf(l, w, "")}
	out = append(out, indent(why(l, v.now, w-2, min(2, max(h/6, 1))))...)
	out = out[:min(len(out), h)]
	room := h - len(out)
	account := slices.Concat(
		[]fact{terms(l), published(l, v.now), gates(l.Decision)}, refusals(l), dependencies(l),
		[]fact{inputs(l), predictor(l), constraints(l)})
	const least = 2 // lines of the account
	n := room
	if room >= leastMeasured+least {
		n = least + max(room-leastMeasured-leastValue-least, 0)/3
	}
	told := tell(account, w-2, n)
	out = append(out, indent(charts(v, w-2, room-len(told)))...)
	out = append(out, indent(told)...)
	return grayed(fitted(out, h), v.stale)
}

// charts draws measurement and value, one below the other over the same time, in exactly h lines.
func charts(v detailView, w, h int) []string {
	if h <= 0 {
		return nil
	}
	past := v.past()
	measured, value := v.measuredChart(past), v.valueChart(past)
	if h < leastMeasured+leastValue {
		measured.axis = min(max(h-3, 0), 2)
		return measured.render(w, h, v.graph)
	}
	below := max(h*2/5, leastValue)
	value.axis = 1
	if below > leastValue {
		value.axis = 2
	}
	if h >= 24 {
		measured.axis = 2
	}
	gutter := max(measured.labels(h-below), value.labels(below))
	measured.gutter, value.gutter = gutter, gutter
	return append(measured.render(w, h-below, v.graph), value.render(w, below, v.graph)...)
}

// measuredChart is the measurement against its setpoint over time.
func (v detailView) measuredChart(past []api.Point) chart {
	l := v.loop
	d := l.Decision
	what := "mean latency"
	switch {
	case l.Callee != "":
		what = "mean latency of the calls"
	case l.MeasuredUnit == api.Retries:
		what = "retries per call"
	case l.MeasuredUnit == api.Share && l.Protect != "":
		what = l.Protect + " requests refused"
	case l.MeasuredUnit == api.Share:
		what = "protected requests refused"
	}
	relation := " "
	tone := plain
	switch {
	case !d.Measured.Known() || !d.Setpoint.Known():
	case d.Measured > d.Setpoint:
		relation, tone = " > ", warning
	default:
		relation = " <= "
	}
	against := paint(tone, measure(l, d.Measured)+relation+"setpoint "+measure(l, d.Setpoint))
	c := v.chart(bold.Render(what)+" "+against, past)
	c.unit, c.nothing = l.MeasuredUnit, v.nothing("no measurement")
	if v.err != nil {
		c.title += "  " + paint(alarm, "! no history: "+v.err.Error())
	}
	c.curve, c.setpoint = make([]sample, 0, len(past)), make([]sample, 0, len(past))
	for _, p := range past {
		c.curve = append(c.curve, sample{p.At, float64(p.Measured)})
		c.setpoint = append(c.setpoint, sample{p.At, float64(p.Setpoint)})
	}
	return c
}

// valueChart is the value of the knob between its bounds.
func (v detailView) valueChart(past []api.Point) chart {
	l := v.loop
	d := l.Decision
	what, of := "value", ""
	switch l.Knob {
	case control.KnobConcurrency:
		what, of = "limit", " in flight per instance"
	case control.KnobRate:
		what, of = "rate", " of the whole service"
	case control.KnobShed:
		what, of = "shed from occupancy", ""
	case control.KnobRetry:
		what, of = "retry ratio", ""
	}
	if l.Callee != "" {
		what, of = "latency target", " of the calls to "+l.Callee
	}
	set := setTo(l, float64(d.Value))
	if set == off {
		of = ""
	}
	ceiling := ""
	if d.Ceiling > 0 {
		ceiling = ", ceiling " + number(d.Ceiling)
	}
	c := v.chart(bold.Render(what)+" "+set+of+", min..max "+bounds(l)+ceiling, past)
	c.unit, c.nothing, c.stepped = l.Unit, v.nothing("no value"), true
	c.levels = []level{
		{l.Min, "min " + value(l.Knob, l.Min)}, {l.Max, "max " + value(l.Knob, l.Max)},
	}
	if d.Ceiling > 0 { // 0 or unknown: this knob has no ceiling
		c.levels = append(c.levels, level{float64(d.Ceiling), "ceiling " + number(d.Ceiling) + " now"})
	}
	c.curve = make([]sample, 0, len(past))
	for _, p := range past {
		c.curve = append(c.curve, sample{p.At, float64(p.Value)})
	}
	return c
}

// chart is the common part of the charts of a loop.
func (v detailView) chart(title string, past []api.Point) chart {
	c := chart{title: title, from: v.now.Add(-v.shows()), to: v.now, marks: make([]mark, 0, len(past))}
	for _, p := range past {
		m := mark{at: p.At}
		switch p.State {
		case control.Hold, control.Frozen, control.Override:
			m.glyph, m.tone = wordOf(p.State).glyph, wordOf(p.State).tone
		}
		c.marks = append(c.marks, m)
	}
	return c
}

// past is the data of the charts: the history as far as it reaches, and the newer decision.
func (v detailView) past() []api.Point {
	if !v.loaded && len(v.points) == 0 {
		return nil // one decision alone would look like a past without measurements
	}
	from := v.now.Add(-v.shows())
	first := slices.IndexFunc(v.points, func(p api.Point) bool { return !p.At.Before(from) })
	if first < 0 {
		first = len(v.points)
	}
	points := v.points[max(first-1, 0):] // the point before leads into the span
	end := len(points)
	for end > 0 && points[end-1].At.After(v.now) {
		end--
	}
	points = points[:end:end]
	d := v.loop.Decision
	if d.At.IsZero() || d.At.After(v.now) || end > 0 && !d.At.After(points[end-1].At) {
		return points
	}
	return append(points, api.Point{
		At: d.At, Value: d.Value, Setpoint: d.Setpoint, Measured: d.Measured, State: d.State,
	})
}

// nothing says why a chart is empty.
func (v detailView) nothing(what string) string {
	switch {
	case v.err != nil:
		return "no history"
	case !v.loaded:
		return "loading ..."
	}
	return what + " in the last " + spanText(v.shows())
}
