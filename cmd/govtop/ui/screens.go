package ui

import (
	"fmt"
	"slices"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// place is a screen: the area below the header, and the context of a key.
type place int

const (
	onLoops place = 1 << iota
	onLoop
	onDecisions
	onHealth
	onHelp
	inFilter // a line is being typed
	inSearch
	inForm

	onData     = onLoops | onLoop | onDecisions | onHealth
	everywhere = onData | onHelp | inFilter | inSearch | inForm
)

// screen is the current screen.
func (m *Model) screen() place {
	if n := len(m.above); n > 0 {
		return m.above[n-1]
	}
	return onLoops
}

// context is the place that receives a key pressed now.
func (m *Model) context() place {
	switch {
	case m.form != nil:
		return inForm
	case m.prompt.in != 0:
		return m.prompt.in
	}
	return m.screen()
}

// open goes to a screen; back returns from it.
func (m *Model) open(s place) {
	if m.screen() != s {
		m.above = append(slices.Clip(m.above), s)
	}
}

func (m *Model) back() {
	m.search = ""
	if n := len(m.above); n > 0 {
		m.above = m.above[:n-1]
	}
}

// showsLoop reports whether the screen needs the past of the loop under the cursor.
func (m *Model) showsLoop() bool {
	switch m.screen() {
	case onLoops:
		return m.divide().panel > 0
	case onLoop:
		return true
	case onDecisions:
		return m.decisions.loop != ""
	}
	return false
}

// showsLog reports whether the screen needs the decisions of all loops.
func (m *Model) showsLog() bool { return m.screen() == onDecisions && m.decisions.loop == "" }

// lines draws the screen: never more than height lines, none wider than width.
func (m *Model) lines() []string {
	w, h := m.width, m.height
	switch {
	case w <= 0 || h <= 0:
		return nil
	case w < minWidth || h < minHeight:
		lines := fit.WrapTo(fmt.Sprintf("terminal too small: %d×%d, need %d×%d", w, h, minWidth, minHeight), w, h)
		return lines
	}
	if m.screen() == onHelp {
		return m.helpScreen(w, h)
	}
	bottom := append(m.noticeLines(), " "+m.footer(w-2))
	body := m.body()
	f := m.fleet()
	var out []string
	switch {
	case f == nil:
		out = append([]string{""}, indent(m.disconnected(w-2))...)
	case m.form != nil:
		out = m.form.follow(f.Loops).render(w, body)
	case m.screen() == onDecisions:
		out = decisionsScreen(m.decisions, w, body)
	case m.screen() == onHealth:
		out = healthScreen(m.healthView(), w, body)
	case m.screen() == onLoop:
		out = m.loopScreen(w, body)
	case len(f.Loops) == 0:
		out = append([]string{""}, indent(m.empty(w-2))...)
	default:
		out = m.loopsScreen(w)
	}
	return slices.Concat(m.top, fitted(out, body), bottom)
}

// aboveBody is the header, plus the banner if the screen does not show the present.
func (m *Model) aboveBody(w int) []string {
	return append(indent(header(m, w-2)), m.banner(w)...)
}

// noticeLines are the messages above the line of keys.
func (m *Model) noticeLines() (lines []string) {
	if m.notice.text == "" {
		return nil
	}
	for _, line := range fit.WrapTo(m.notice.text, m.width-2, 3) {
		lines = append(lines, " "+paint(m.notice.tone, line))
	}
	return lines
}

// body is the number of lines between the header and the messages above the line of keys.
func (m *Model) body() int { return m.height - len(m.top) - len(m.noticeLines()) - 1 }

// division is how the overview divides the lines between the table and the account of the loop under the cursor.
type division struct {
	rows  int // loops in the table
	about int // lines of the short detail
	panel int // lines of charts and decisions side by side, if the terminal is large enough
}

const (
	tableFrame = 2 // title and head
	panelLeast = 11
	panelMost  = 40
	panelWidth = 100
	rowsLeast  = 4
)

func (m *Model) divide() division {
	body := m.body() - tableFrame
	loops := 0
	if f := m.fleet(); f != nil {
		loops = m.overview.lines(f) // all, not the filtered ones: nothing should move while a filter is typed
	}
	if room := body - panelLeast; m.width >= panelWidth && room >= rowsLeast {
		rows := min(max(loops, rowsLeast), room)
		return division{rows: rows, panel: min(body-rows, panelMost)}
	}
	about := min(detailLines, max(body-rowsLeast, 0))
	return division{rows: max(body-about, 1), about: about}
}

// loopsScreen draws the overview: the table above the account of the loop under the cursor.
func (m *Model) loopsScreen(w int) []string {
	d, f := m.divide(), m.fleet()
	_, stale := m.stale()
	sparks := m.sparks
	if m.when() == inPause {
		sparks = m.stillSparks
	}
	out := []string{m.loopsTitle(w)}
	out = append(out, m.overview.render(sparks, f.Status.Now, w, d.rows, stale)...)
	out = fitted(out, tableFrame+d.rows)
	l, ok := m.overview.current()
	switch {
	case !ok:
		return append(out, m.noLoop(w)...)
	case d.panel > 0:
		return append(out, m.panels(l, w, d.panel)...)
	}
	return append(out, detail(l, f.Status.Now, w, d.about, stale)...)
}

// loopsTitle shows the filter while it is typed, and what is wrong with it.
func (m *Model) loopsTitle(w int) string {
	filter := "none"
	if text := m.overview.filter.String(); text != "" {
		filter = fit.Clip(text, w/2)
	}
	if m.prompt.in != inFilter {
		return rule(m.overview.title(filter), w)
	}
	filter = m.prompt.line.render(min(fit.Width(m.prompt.line.text())+1, w/3), true)
	title := m.overview.title(filter)
	if m.prompt.err != nil {
		title += "  " + paint(alarm, "! "+Clean(m.prompt.err.Error()))
	}
	return rule(title, w)
}

// panels draws charts and decisions of a loop side by side.
func (m *Model) panels(l api.Loop, w, h int) []string {
	v := m.detailView(l)
	wide := w * 11 / 20
	out, log := chartPanel(v, wide, h), decisionsPanel(v.entries, w-wide-1, h, v.now)
	for i := range out {
		edge := "│"
		if i == 0 {
			edge = "┬"
		}
		out[i] = fit.Left(out[i], wide) + edge + log[i]
	}
	return out
}

// loopScreen draws everything about the loop under the cursor.
func (m *Model) loopScreen(w, h int) []string {
	l, ok := m.overview.current()
	switch {
	case ok:
		return detailScreen(m.detailView(l), w, h)
	case m.overview.bare() != nil:
		return m.noLoop(w)
	}
	text := "no loop to show"
	if m.when() == inPast {
		text += ": " + m.forgotten()
	}
	return []string{"", " " + paint(dim, fit.Clip(text, w-1))}
}

// noLoop says why there is nothing to tell about the service under the cursor; nil if it is none.
func (m *Model) noLoop(w int) []string {
	home := m.overview.bare()
	if home == nil {
		return nil
	}
	return append([]string{rule(bold.Render(home.service), w)}, indent(fit.WrapTo(home.lacksLoop(), w-2, 2))...)
}

func (m *Model) detailView(l api.Loop) detailView {
	_, stale := m.stale()
	v := detailView{loop: l, now: m.fleet().Status.Now, span: zooms[m.zoom], graph: m.graph, stale: stale}
	if d := m.file; d.of == name(l) {
		v.points, v.loaded, v.err = d.points, d.loaded, d.err
		v.entries = until(d.entries, v.now)
	}
	return v
}

// decisionsView fills the view with its data.
func (m *Model) decisionsView() decisionsView {
	v, d := m.decisions, &m.log
	if v.loop != "" {
		d = &m.file
	}
	v.now = m.fleet().Status.Now
	_, v.stale = m.stale()
	if d.of == v.loop {
		v.entries, v.loaded, v.err = until(d.entries, v.now), d.loaded, d.err
	}
	return v
}

func (m *Model) healthView() healthView {
	word, tone := m.connection.word(m)
	_, stale := m.stale()
	f := m.fleet()
	if m.when() == inPast {
		f = m.live // for the past only the loops are known
	}
	return healthView{
		status: f.Status, loops: f.Loops, top: m.healthTop, stale: stale,
		connection: connectionView{address: m.address, version: m.version, word: word, tone: tone, err: m.connection.err},
	}
}

func (m *Model) disconnected(w int) []string {
	if m.connection.err == nil {
		return []string{"Asking governor at " + m.address + " …"}
	}
	out := []string{bold.Render("No data from governor at " + m.address), ""}
	out = append(out, fit.WrapTo(Clean(m.connection.err.Error()), w, 4)...)
	return append(out, "", fmt.Sprintf("Attempt %d failed; %s.", m.connection.failures, m.connection.retry(m.now)),
		"", "Another address?   govtop --connect http://HOST:9747")
}

func (m *Model) empty(w int) []string {
	if m.when() == inPast {
		return []string{bold.Render("No loops"), "", "From that time there is nothing: " + m.forgotten() + "."}
	}
	where, s := "its configuration", m.fleet().Status
	if s.Config.File != "" {
		where = s.Config.File
	}
	return append([]string{bold.Render("No loops"), ""},
		fit.WrapTo("This governor steers nothing: "+where+" names no service with a knob.", w, 4)...)
}

// indent moves lines one cell to the right.
func indent(lines []string) []string {
	for i, l := range lines {
		if l != "" {
			lines[i] = " " + l
		}
	}
	return lines
}

// fitted cuts or fills lines to exactly n.
func fitted(lines []string, n int) []string {
	for len(lines) < n {
		lines = append(lines, "")
	}
	return lines[:max(n, 0)]
}

// prompt is a line of text being typed on a screen.
type prompt struct {
	in   place // inFilter or inSearch; 0: there is none
	line line
	err  error // what is wrong with it
}
