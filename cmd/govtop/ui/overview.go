package ui

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// overview is the table of loops: those that the filter selects, sorted, with routes below their services. Its selection
// is a loop, not a line: it stays with the loop when others come and go, and returns with a loop that comes back or is
// unfolded.
type overview struct {
	order   int // index of orders
	reverse bool
	filter  Filter
	folded  map[string]bool // services whose routes are folded away; never changed, only replaced
	strokes strokes         // that draw the tree

	of       *fleet // the data that rows was made from
	again    bool   // rows must be rebuilt
	rows     []row  // in screen order
	matched  int    // loops that the filter selects, folded or not
	selected string // name of the loop that the user selected
	index    int    // the row under the cursor
	top      int    // first row on the screen
}

// settle sorts again if the loops or the view changed, and finds the selected loop.
func (o *overview) settle(f *fleet, lines int) {
	if o.of != f || o.again {
		loops := arrange(f, orders[o.order], o.reverse, o.filter)
		o.of, o.again, o.matched, o.rows = f, false, len(loops), grow(f, loops, o.isFolded)
	}
	i := slices.IndexFunc(o.rows, func(r row) bool { return f.called(r) == o.selected })
	if service, _, _ := strings.Cut(o.selected, "/"); i < 0 && o.isFolded(service) {
		i = slices.IndexFunc(o.rows, func(r row) bool { return r.place == folded && f.families[r.family].service == service })
	}
	if i < 0 {
		i = o.index // another loop has taken its place
	}
	o.scroll(i, lines)
	if o.selected == "" && len(o.rows) > 0 {
		o.selected = f.called(o.rows[o.index])
	}
}

// show changes the view; settle then applies it.
func (o *overview) show(order int, reverse bool, filter Filter) {
	o.order, o.reverse, o.filter, o.again = order, reverse, filter, true
}

// move selects the loop delta rows away.
func (o *overview) move(delta, lines int) {
	o.scroll(o.index+delta, lines)
	if len(o.rows) > 0 {
		o.selected = o.of.called(o.rows[o.index])
	}
}

// find selects the loop of that name, unfolds its family, and says whether the filter shows it.
func (o *overview) find(name string) bool {
	if o.of == nil {
		return false
	}
	i := slices.Index(o.of.names, name)
	if i < 0 || !o.filter.match(name, &o.of.Loops[i]) {
		return false
	}
	if k := o.of.family(i); k >= 0 {
		o.fold(o.of.families[k:k+1], false)
	}
	o.selected = name
	return true
}

// scroll puts the cursor on row i, or the nearest one, and the row on the screen.
func (o *overview) scroll(i, lines int) {
	o.index = max(min(i, len(o.rows)-1), 0)
	lines = max(lines, 1)
	o.top = min(o.top, max(len(o.rows)-lines, 0))
	o.top = min(o.top, o.index)
	o.top = max(o.top, o.index-lines+1)
}

// current returns the loop under the cursor.
func (o *overview) current() (l api.Loop, ok bool) {
	if o.index >= len(o.rows) || o.rows[o.index].loop < 0 {
		return l, false
	}
	return o.of.Loops[o.rows[o.index].loop], true
}

// bare returns the service under the cursor if it has routes but no loop of its own; nil: it is a loop.
func (o *overview) bare() *family {
	if o.index >= len(o.rows) || o.rows[o.index].loop >= 0 {
		return nil
	}
	return &o.of.families[o.rows[o.index].family]
}

// title says how many loops are shown, and in which order. The caller describes the filter.
func (o *overview) title(filter string) string {
	by, arrow := orders[o.order], "v"
	if by.falling == o.reverse {
		arrow = "^"
	}
	return fmt.Sprintf("%s  sort:%s %s  filter:%s  %d/%d",
		bold.Render("Loops"), by.name, arrow, filter, o.matched, len(o.of.Loops))
}

// column is one column of the table. On a narrow screen, columns with a drop rank are dropped, lowest rank first.
type column struct {
	title string
	width int
	right bool
	drop  int    // 0: never
	means string // for the help
	text  func(l api.Loop, now time.Time) string
	tone  func(l api.Loop) tone
	spark bool // the column shows the loop's sparkline
	// worst says how bad a loop is in this column, NaN if that is not known: a folded service shows the worst of its
	// family. nil: it shows its own.
	worst func(l *api.Loop, now time.Time) float64
	whose bool // the column says which part of the family is the worst
}

var columns = []column{
	{title: "LOOP", means: "service/knob; the routes of a service stand below it"},
	{
		title: "MODE", width: 7, drop: 4,
		means: "observe, shadow, or ENFORCE: only that one affects the service",
		text:  func(l api.Loop, _ time.Time) string { return modeText(l.Mode) },
		worst: func(l *api.Loop, _ time.Time) float64 {
			return float64(slices.Index([]control.Mode{control.Observe, control.Shadow, control.Enforce}, l.Mode))
		},
	},
	{
		title: "MEASURED", width: 8, right: true,
		means: "mean latency of admitted requests; for shed, the share of protected requests that are refused",
		text:  func(l api.Loop, _ time.Time) string { return measured(l) },
		tone: func(l api.Loop) tone {
			if l.Decision.Measured.Known() && l.Decision.Measured > l.Decision.Setpoint {
				return warning
			}
			return plain
		},
	},
	{
		title: "SETPT", width: 6, right: true, drop: 6,
		means: "the setpoint of the measurement",
		text:  func(l api.Loop, _ time.Time) string { return measure(l, l.Decision.Setpoint) },
	},
	{
		title: "BAD/SLO", width: 10, right: true, drop: 5,
		means: "share of slow or failed requests, whichever is worse for its budget, and what the SLO allows",
		text: func(l api.Loop, _ time.Time) string {
			bad, budget, _ := badRatio(l)
			if text := percent(bad); text != unknown {
				return text + "/" + percent(budget)
			}
			return unknown
		},
		tone: func(l api.Loop) tone {
			if Violates(l) {
				return alarm
			}
			return plain
		},
		worst: func(l *api.Loop, _ time.Time) float64 { return float64(l.Decision.Inputs.BadRatio) },
	},
	{
		title: "REFUSED", width: 7, right: true,
		means: "share of the requests that is refused, by any policy: the price of the limit",
		text:  func(l api.Loop, _ time.Time) string { return percent(float64(l.Decision.Inputs.RefusedShare)) },
		tone: func(l api.Loop) tone {
			if Refuses(l, MaxRefused) {
				return alarm
			}
			return plain
		},
		worst: func(l *api.Loop, _ time.Time) float64 { return float64(l.Decision.Inputs.RefusedShare) },
	},
	{
		title: "BURN5m/1h", width: 9, right: true, drop: 3,
		means: "burn rate of the error budget over 5 minutes and an hour: at 1 it lasts exactly its period",
		text:  func(l api.Loop, _ time.Time) string { return burnText(l) },
		tone: func(l api.Loop) tone {
			if l.Decision.Inputs.Burn5m > 1 {
				return warning
			}
			return plain
		},
		worst: func(l *api.Loop, _ time.Time) float64 { return float64(l.Decision.Inputs.Burn5m) },
	},
	{
		title: "VALUE", width: 7, right: true,
		means: "the value that governor wants: requests in flight per instance, requests/s, or a share of the limit",
		text:  func(l api.Loop, _ time.Time) string { return setTo(l, float64(l.Decision.Value)) },
	},
	{
		title: "MIN..MAX", width: 11, drop: 2,
		means: "the configured bounds of the value",
		text:  func(l api.Loop, _ time.Time) string { return bounds(l) },
	},
	{
		title: "STATE", width: 17,
		means: "what the loop does, and since when or from which value",
		text:  stateText,
		tone:  func(l api.Loop) tone { return wordOf(stateOf(&l)).tone },
		worst: worstState, whose: true,
	},
	{
		title: "5m", width: sparkCells, drop: 1, spark: true,
		means: "the measurement over 5 minutes: half height is the setpoint, a gap means no measurement",
	},
}

const (
	loopWidthWanted = 20 // columns are dropped rather than make names narrower,
	loopWidthLeast  = 16 // and the last of them, from lastWanted on, rather than make them narrower than this
	lastWanted      = 5
	lastDropped     = 6
	loopWidthMost   = 40
	stateWidthMost  = 28
)

// layout chooses the columns for a screen of w cells, the width of the first, and the gap between columns.
func layout(w int, f *fleet, sparks sparks) (chosen []column, gap int) {
	chosen = slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return c.spark && sparks == nil })
	if f.protect {
		titled(chosen, "MEASURED").width += 2 // "crit 0.04%"
	}
	taken := func(gap int) (cells int) {
		for _, c := range chosen[1:] {
			cells += gap + c.width
		}
		return cells + 1 // the marker
	}
	for rank := 1; rank <= lastDropped; rank++ {
		wanted := loopWidthWanted
		if rank >= lastWanted {
			wanted = loopWidthLeast
		}
		if w-taken(1) >= wanted {
			break
		}
		chosen = slices.DeleteFunc(chosen, func(c column) bool { return c.drop == rank })
	}
	longest := min(max(f.longest, loopWidthLeast), loopWidthMost)
	gap = 1
	if w-taken(2) >= longest {
		gap = 2
	}
	chosen[0].width = min(max(w-taken(gap), 1), longest)
	state := titled(chosen, "STATE")
	if titled(chosen, "MODE") == nil {
		state.text = stateAndMode
	}
	state.width = max(state.width, min(w-taken(gap)-chosen[0].width+state.width, stateWidthMost))
	return chosen, gap
}

func titled(columns []column, title string) *column {
	if i := slices.IndexFunc(columns, func(c column) bool { return c.title == title }); i >= 0 {
		return &columns[i]
	}
	return nil
}

// stateAndMode is the STATE column if there is none for the mode: a move of a loop that publishes nothing must not look
// like a real one.
func stateAndMode(l api.Loop, now time.Time) string {
	if _, old := l.Overdue(now); old || l.Mode == control.Enforce {
		return stateText(l, now)
	}
	w := wordOf(stateOf(&l))
	return w.glyph + " " + w.word + " " + string(l.Mode)
}

// render draws the head of the table and at most lines loops. Without sparks (nil) there is no column for them.
func (o *overview) render(sparks sparks, now time.Time, w, lines int, stale bool) []string {
	chosen, gap := layout(w, o.of, sparks)
	space := strings.Repeat(" ", gap)

	row := []string{}
	for _, c := range chosen {
		row = append(row, c.cell(c.title))
	}
	if shown := len(o.rows); shown > lines {
		row[0] = chosen[0].cell(fmt.Sprintf("LOOP %d-%d/%d", o.top+1, min(o.top+lines, shown), shown))
	}
	out := []string{fit.Clip(bold.Render(" "+strings.Join(row, space)), w)}
	if len(o.rows) == 0 && len(o.of.Loops) > 0 {
		out = append(out, paint(dim, fit.Clip("  no loop matches the filter", w)))
	}

	for i := o.top; i < len(o.rows) && i < o.top+lines; i++ {
		r := o.rows[i]
		gray := stale || o.old(r, now)
		marker := " "
		if i == o.index {
			marker = ">"
		}
		row = append(row[:0], chosen[0].cell(o.label(r, chosen[0].width)))
		for _, c := range chosen[1:] {
			if c.spark {
				row = append(row, c.cell(sparks[o.of.called(r)].draw(now)))
				continue
			}
			text, tone := o.cell(r, c, now)
			cell := c.cell(text)
			if !gray {
				cell = paint(tone, cell)
			}
			row = append(row, cell)
		}
		line := fit.Clip(marker+strings.Join(row, space), w)
		switch {
		case gray:
			line = paint(dim, line)
		case marker == ">":
			line = selected.Render(marker+row[0]) + ansi.Cut(line, 1+fit.Width(row[0]), w)
		}
		out = append(out, line)
	}
	return out
}

// label is the name of a row in at most w cells, with its place in the tree.
func (o *overview) label(r row, w int) string {
	stroke := ""
	switch {
	case r.place == folded:
		return o.of.families[r.family].summary(w)
	case r.loop < 0:
		return middle(o.of.families[r.family].service, w)
	case r.place == twig:
		stroke = o.strokes.twig + " "
	case r.place == lastTwig:
		stroke = o.strokes.lastTwig + " "
	}
	return stroke + o.of.shortNames(w)[r.loop]
}

// cell is what a row has in a column.
func (o *overview) cell(r row, c column, now time.Time) (string, tone) {
	if r.place == folded && c.worst != nil {
		return o.worstCell(&o.of.families[r.family], c, now)
	}
	if r.loop < 0 {
		return "", plain
	}
	l := o.of.Loops[r.loop]
	text := c.text(l, now)
	if from := strings.Index(text, " from "); c.whose && from >= 0 && fit.Width(text) > c.width {
		text = text[:from] // half a number would be wrong
	}
	if c.tone == nil {
		return text, plain
	}
	return text, c.tone(l)
}

// worstCell is what a folded family has in a column.
func (o *overview) worstCell(home *family, c column, now time.Time) (string, tone) {
	l := *o.of.worst(home, now, c.worst)
	t := plain
	if _, old := l.Overdue(now); c.tone != nil && !old {
		t = c.tone(l)
	}
	if i := home.head; !c.whose || i >= 0 && o.of.names[i] == name(l) {
		return c.text(l, now), t
	}
	l.Since, l.Decision.From = time.Time{}, control.Number(math.NaN()) // the name matters more than age and move
	return c.text(l, now) + " " + part(&l), t
}

// old reports whether a newer decision is overdue, in a folded family of every loop.
func (o *overview) old(r row, now time.Time) bool {
	loops := []int{r.loop}
	switch {
	case r.place == folded:
		loops = o.of.families[r.family].loops
	case r.loop < 0:
		return false
	}
	return !slices.ContainsFunc(loops, func(i int) bool { _, old := o.of.Loops[i].Overdue(now); return !old })
}

// worstState is the severity of a loop's state. A loop that should have decided stands where one that holds does.
func worstState(l *api.Loop, now time.Time) float64 {
	if _, old := l.Overdue(now); old {
		return severity(control.Hold) + 0.5
	}
	return severity(stateOf(l))
}

func (c column) cell(text string) string {
	if c.right {
		return fit.Right(text, c.width)
	}
	return fit.Left(text, c.width)
}
