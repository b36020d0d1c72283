package demo

import (
	"fmt"
	"math"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/explain"
	"github.com/seed-de83e32b/governor/models/live/load"
)

const (
	minWidth, minHeight = 60, 15 // below this there is no room for two twins

	// chartSpan is the time that a chart shows: the whole default story.
	chartSpan = DefaultDuration + 2*time.Second
	// noteLasts is how long a note stays on the screen after an order that changed nothing.
	noteLasts = 6 * time.Second
	// tooLate is the delay from which the screen says that the machine cannot keep up. The scorecard is stricter, over the
	// whole run.
	tooLate = 5 * load.MaxLateness
)

// The sixteen colors of the terminal's own theme, dark or light. A terminal without color still shows bold and faint.
// Color never carries information alone.
var (
	strong   = lipgloss.NewStyle().Bold(true)
	faint    = lipgloss.NewStyle().Faint(true)
	good     = lipgloss.NewStyle().Foreground(lipgloss.Green)
	doubtful = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad      = lipgloss.NewStyle().Foreground(lipgloss.Red)
	alarm    = bad.Bold(true)
	refusal  = lipgloss.NewStyle().Foreground(lipgloss.Magenta)
)

// states describes the loop's states for people who see them for the first time; govtop shows the states' own words.
var states = map[control.State]struct {
	says  string
	style lipgloss.Style
}{
	control.Steady:      {"The limit stays as it is.", good},
	control.Raising:     {"The service can carry more.", good},
	control.Cutting:     {"The service is overloaded: it admits less.", doubtful},
	control.AtMin:       {"Overloaded, at its lowest allowed limit.", doubtful},
	control.AtMax:       {"It could admit more, but is at its highest allowed limit.", doubtful},
	control.Ineffective: {"Slow, but not because of load: limiting cannot help.", alarm},
	control.Infeasible:  {"The service itself is slower than its SLO.", alarm},
	control.NotObeyed:   {"The service does not keep to its limit.", alarm},
	control.Hold:        {"No measurement to act on, so nothing moves.", doubtful},
	control.Frozen:      {"Somebody has frozen the loop.", refusal},
	control.Override:    {"Somebody has set the value.", refusal},
}

// view is everything that the screen shows.
type view struct {
	seed    uint64
	servers string // what this runs on, and the alternative
	help    bool
	helpTop int // first line of the help shown

	scene scene
	frame *Frame // nil: none yet
	past  []moment
	acts  []start
}

// moment is one point of the charts.
type moment struct {
	at               time.Time
	could            float64 // requests per second that each twin could have served
	static, governed float64 // good answers per second
}

// render draws the screen: never more than h lines, none wider than w.
func (v *view) render(w, h int) []string {
	switch {
	case w <= 0 || h <= 0:
		return nil
	case w < minWidth || h < minHeight:
		return fit.WrapTo(
			fmt.Sprintf("terminal too small: %d×%d, need %d×%d; q quits", w, h, minWidth, minHeight), w, h)
	case v.help:
		return v.helpScreen(w, h)
	case v.frame == nil:
		return fitted(append(v.head(w-2), "", "waiting for the first measurement …"), v.foot(w-2), h)
	}
	return v.twins(w, h)
}

// twins draws the two side by side. If the screen is low, the least important lines go first.
func (v *view) twins(w, h int) []string {
	col := (w - 5) / 2
	head, below := v.head(w-2), v.below(w-2)
	left, right := panel(&v.frame.Static, col), panel(&v.frame.Governed, col)

	// Five lines go to the chart, then the lines below get theirs, then the chart gets the rest.
	room := h - len(head) - len(left) - 3 // the rules and the footer
	shown := min(len(below), max(room-6, 1))
	rows := max(room-shown-1, 2)
	win := v.window(col - gutter)
	left = append(left, v.chart(win, rows, func(m moment) float64 { return m.static })...)
	right = append(right, v.chart(win, rows, func(m moment) float64 { return m.governed })...)
	if rows+shown < room {
		under := ruler(v.acts, win)
		left, right = append(left, under), append(right, under)
	}

	rule := func(left, cross, right string) string {
		line := func(s string, w int) string {
			return s + faint.Render(strings.Repeat("─", max(w-fit.Width(s), 0)))
		}
		return line(fit.Clip(left, col-1)+" ", col) + faint.Render("─"+cross+"─") +
			line(" "+fit.Clip(right, col-2)+" ", w-5-col)
	}
	static, governed := v.titles(col-1, col-2)
	lines := append(head, rule(static, "┬", governed))
	for i := range left {
		lines = append(lines, fit.Left(left[i], col)+faint.Render(" │ ")+right[i])
	}
	lines = append(lines, rule(faint.Render(fmt.Sprintf("good answers/s, %.0f s", win.lasts().Seconds())), "┴",
		faint.Render("┄ what could be served")))
	return fitted(append(lines, below[:shown]...), v.foot(w-2), h)
}

// window is the time span that the charts show in n columns.
func (v *view) window(n int) window {
	began := v.frame.At
	if len(v.acts) > 0 {
		began = v.acts[0].at
	}
	return windowOf(began, v.frame.At, chartSpan, n)
}

// chart draws the good answers of one twin.
func (v *view) chart(win window, rows int, of func(moment) float64) []string {
	points := make([]point, len(v.past))
	for i, m := range v.past {
		points[i] = point{m.at, of(m), m.could}
	}
	return chart(points, win, Capacity, rows)
}

// head says which act is playing.
func (v *view) head(w int) []string {
	s := v.scene
	how, number := "BY HAND (a: auto)", "by hand: "
	switch {
	case s.act.Name == "":
		how, number = "", ""
	case !s.end.IsZero():
		how = "AUTO, " + v.left(s.end) + " left"
	case s.number > 0:
		how = "WAITING (a: auto)"
	}
	if s.number > 0 {
		number = fmt.Sprintf("%d/%d ", s.number, s.of)
	}
	lines := []string{
		spread(w, strong.Render("governor demo")+faint.Render(fmt.Sprintf("  one load, two services, seed %d", v.seed)), how),
		fit.Clip(strong.Render(number+s.act.Title), w),
		fit.Clip(faint.Render("    "+s.act.Watch), w),
	}
	if v.frame != nil {
		lines = append(lines, v.loadLine(w))
	}
	return lines
}

// left is the time until an instant, as of the last frame.
func (v *view) left(until time.Time) string {
	now := v.scene.from
	if v.frame != nil && v.frame.At.After(now) {
		now = v.frame.At
	}
	return max(until.Sub(now), 0).Round(time.Second).String()
}

// loadLine draws the load of each twin against its capacity.
func (v *view) loadLine(w int) string {
	const most = Surge * BaseLoad
	text := fmt.Sprintf("load %3.0f/s ", v.frame.Load)
	capacity := fmt.Sprintf(" capacity %.0f/s", Capacity)
	room := w - len(text) - len(capacity)
	mark := int(Capacity / most * float64(room))
	style := good
	if v.frame.Load > Capacity {
		style = bad
	}
	within := bar(min(v.frame.Load, Capacity), Capacity, mark, style)
	beyond := bar(max(v.frame.Load-Capacity, 0), most-Capacity, room-mark-1, style)
	return text + within + strong.Render("┃") + beyond + capacity
}

// titles are the titles of the twins: the static one's limit, and the governed one's limit and state. The state always
// has room.
func (v *view) titles(left, right int) (string, string) {
	d := v.frame.Loop.Decision
	limit := "-"
	value := inForce(v.frame.Loop)
	if !math.IsNaN(value) {
		limit = fmt.Sprintf("%.0f", value)
	}
	glyph, word := explain.StateWord(d.State)
	mark := states[d.State].style.Render(glyph + " " + word)
	switch _, is := states[d.State]; {
	case v.frame.Err != nil:
		mark = alarm.Render("! NO ANSWER")
	case v.frame.Leader == "":
		mark = alarm.Render("! NO LEADER") // a standby's decisions have no effect
	case d.State == "":
		mark = ""
	case !is:
		mark = plain.Clean(mark)
	}
	name := strong.Render("governed")
	governed := []string{name + "  limit " + limit + "  " + mark, name + " " + limit + " " + mark}
	if e := d.Inputs.EffectiveLimit; e.Known() && math.Round(float64(e)) != math.Round(value) {
		governed = append([]string{fmt.Sprintf("%s  guard at %.0f", governed[0], float64(e))}, governed...)
	}
	static := fmt.Sprintf("%s  limit %d", strong.Render("static"), StaticLimit)
	return longest(left, static+", fixed", static), longest(right, governed...)
}

// longest returns the first of the texts that fits into w cells, else the last one, clipped.
func longest(w int, texts ...string) string {
	for _, t := range texts {
		if fit.Width(t) <= w {
			return t
		}
	}
	return fit.Clip(texts[len(texts)-1], w)
}

// inForce is the value of a knob in the KV, else the last decided value. NaN: neither.
func inForce(l api.Loop) float64 {
	switch {
	case l.Knob == "":
		return math.NaN()
	case l.Published != nil && l.Published.Revision > 0:
		return l.Published.Value
	}
	return float64(l.Decision.Value)
}

// panel draws the outcomes of one twin's requests.
func panel(t *Traffic, w int) []string {
	line := func(name string, n int, style lipgloss.Style) string {
		text := fmt.Sprintf("%-8s%4d/s ", name, n)
		return text + bar(float64(n), Surge*BaseLoad, w-len(text), style)
	}
	critical, latency := format.Column(format.Percent(t.Critical)), format.Column(format.Latency(t.P99))
	word := "critical"
	if w >= 50 {
		word = "critical served"
	}
	facts := fmt.Sprintf("queue %-4d  %s %-4s", t.Queue, word, critical)
	return []string{
		line("good", t.Good, good),
		line("late", t.Late, doubtful),
		line("lost", t.Lost, bad),
		line("refused", t.Refused, refusal),
		longest(w, facts+"  p99 "+latency, facts),
	}
}

// below is what governor says and what this runs on, the most important first.
func (v *view) below(w int) []string {
	f := v.frame
	words := fit.Wrap(v.governorSays(), w)
	if note := v.note(); note != "" {
		words = append([]string{alarm.Render(fit.Clip("! "+note, w))}, words...)
	}
	if len(words) > 2 {
		words = append(words[:1], fit.Clip(strings.Join(words[1:], " "), w))
	}
	for len(words) < 2 {
		words = append(words, "") // keeps the next lines in place
	}
	lines := append([]string{v.parts(w)}, words...)
	connect := "For details: govtop --connect ADDRESS"
	if len(f.Governors) > 0 {
		connect = "For details: govtop --connect " + f.Governors[0]
	}
	for _, l := range append(fit.Wrap(v.servers, w), connect) {
		lines = append(lines, faint.Render(fit.Clip(l, w)))
	}
	return lines
}

// note is a notice about an order that changed nothing, for a while, or about the machine.
func (v *view) note() string {
	switch late := v.frame.Lateness; {
	case v.scene.note != "" && v.frame.At.Sub(v.scene.noted) <= noteLasts:
		return v.scene.note
	case late > tooLate:
		return fmt.Sprintf("This machine is too busy: requests are sent %d ms late, on both sides.", late.Milliseconds())
	}
	return ""
}

// parts says how each part that governor needs is doing.
func (v *view) parts(w int) string {
	f := v.frame
	who := f.Leader + " leads"
	switch {
	case f.Err != nil:
		who = alarm.Render("! no governor answers")
	case f.Leader == "":
		who = alarm.Render("! no leader")
	}
	switch others := len(f.Governors) - count(f.Leader != ""); {
	case f.Err != nil:
	case others == 1:
		who += ", 1 standby"
	case others > 1:
		who += fmt.Sprintf(", %d standbys", others)
	}
	is := func(name string, wrong bool, word string) string {
		if wrong {
			return alarm.Render("! " + name + " " + word)
		}
		return name + " ok"
	}
	parts := []string{who, is("Prometheus", f.Lost, "LOST"), is("dependency", f.Slow, "SLOW")}
	if shed := inForce(f.Shed); !math.IsNaN(shed) {
		parts = append(parts, "shed "+control.KnobShed.Format(shed))
	}
	for len(parts) > 1 && fit.Width(strings.Join(parts, "  ")) > w {
		parts = parts[:len(parts)-1]
	}
	return fit.Clip(strings.Join(parts, "  "), w)
}

// governorSays describes what governor does, in plain words and then in its own.
func (v *view) governorSays() string {
	f := v.frame
	d := f.Loop.Decision
	says := states[d.State].says
	switch {
	case f.Err != nil:
		return "The guard keeps the last values. " + plain.Clean(f.Err.Error())
	case f.Leader == "":
		return "The last values stay in force until a governor leads. The guard continues from them by itself. The standby " +
			"measures and waits for the lock."
	case d.State == control.Hold && d.HoldReason == control.Starting:
		says = "It is too early to act, so nothing moves."
	case d.State == control.Steady && d.Measured > d.Setpoint && !d.Gates.Binds:
		says = "Slow, but not full: limiting cannot help, so the limit stays."
	case f.Governed.Refused > 0 && d.State == control.Steady:
		says = "The limit stays; requests beyond it are refused, the least important first."
	}
	return says + " " + plain.Clean(d.Reason)
}

// fitted puts the footer under lines, at the bottom of h lines, and indents everything by one cell.
func fitted(lines []string, foot string, h int) []string {
	lines = lines[:min(len(lines), h-1)]
	for len(lines) < h-1 {
		lines = append(lines, "")
	}
	lines = append(lines, foot)
	for i, l := range lines {
		if l != "" {
			lines[i] = " " + l
		}
	}
	return lines
}

// spread puts one text at the left and one at the right of w cells. If both do not fit, the left one is cut.
func spread(w int, left, right string) string {
	left = fit.Clip(left, w-fit.Width(right)-2)
	return fit.Left(left, w-fit.Width(right)) + right
}
