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

// overview is the table of loops: those that the filter selects, sorted. Its selection is a loop, not a line: it stays
// with the loop when others come and go, and returns with a loop that comes back.
type overview struct {
	order   int // index of orders
	reverse bool
	filter  Filter

	of       *fleet // the data that rows was made from
	again    bool   // rows must be rebuilt
	rows     []int  // indices into of.Loops, in screen order
	selected string // name of the loop that the user selected
	index    int    // the row under the cursor
	top      int    // first row on the screen
}

// settle sorts again if the loops or the view changed, and finds the selected loop.
func (o *overview) settle(f *fleet, lines int) {
	if o.of != f || o.again {
		o.of, o.again, o.rows = f, false, arrange(f, orders[o.order], o.reverse, o.filter)
	}
	i := slices.IndexFunc(o.rows, func(row int) bool { return f.names[row] == o.selected })
	if i < 0 {
		i = o.index // another loop has taken its place
	}
	o.scroll(i, lines)
	if o.selected == "" && len(o.rows) > 0 {
		o.selected = f.names[o.rows[o.index]]
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
		o.selected = o.of.names[o.rows[o.index]]
	}
}

// find selects the loop of that name, and says whether it is shown.
func (o *overview) find(name string) bool {
	if o.of == nil || !slices.ContainsFunc(o.rows, func(row int) bool { return o.of.names[row] == name }) {
		return false
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
	if o.index >= len(o.rows) {
		return l, false
	}
	return o.of.Loops[o.rows[o.index]], true
}

// title says how many loops are shown, and in which order. The caller describes the filter.
func (o *overview) title(filter string) string {
	by, arrow := orders[o.order], "v"
	if by.falling == o.reverse {
		arrow = "^"
	}
	return fmt.Sprintf("%s  sort:%s %s  filter:%s  %d/%d",
		bold.Render("Loops"), by.name, arrow, filter, len(o.rows), len(o.of.Loops))
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
}

var columns = []column{
	{title: "LOOP", means: "service/knob"},
	{
		title: "MODE", width: 7, drop: 4,
		means: "observe, shadow, or ENFORCE: only that one affects the service",
		text:  func(l api.Loop, _ time.Time) string { return modeText(l.Mode) },
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
		title: "SETPT", width: 6, right: true,
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
		tone:  func(l api.Loop) tone { return wordOf(l.Decision.State).tone },
	},
	{
		title: "5m", width: sparkCells, drop: 1, spark: true,
		means: "the measurement over 5 minutes: half height is the setpoint, a gap means no measurement",
	},
}

const (
	loopWidthWanted = 20 // columns are dropped rather than make names narrower,
	loopWidthLeast  = 16 // and the last of them rather than make them narrower than this
	lastDropped     = 5
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
		if rank == lastDropped {
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
	w := wordOf(l.Decision.State)
	return w.glyph + " " + w.word + " (" + string(l.Mode) + ")"
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

	short := o.of.shortNames(chosen[0].width)
	for i := o.top; i < len(o.rows) && i < o.top+lines; i++ {
		l, called := o.of.Loops[o.rows[i]], o.of.names[o.rows[i]]
		_, old := l.Overdue(now)
		gray := stale || old
		marker := " "
		if i == o.index {
			marker = ">"
		}
		row = row[:0]
		for _, c := range chosen {
			if c.spark {
				row = append(row, c.cell(sparks[called].draw(now)))
				continue
			}
			if c.text == nil {
				row = append(row, c.cell(short[o.rows[i]]))
				continue
			}
			cell := c.cell(c.text(l, now))
			if c.tone != nil && !gray {
				cell = paint(c.tone(l), cell)
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

func (c column) cell(text string) string {
	if c.right {
		return fit.Right(text, c.width)
	}
	return fit.Left(text, c.width)
}
