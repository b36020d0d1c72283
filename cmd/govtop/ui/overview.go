package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// overview is the table of loops. Its selection is a loop, not a line: it stays with the loop when others come and go.
type overview struct {
	selected string // name of the selected loop
	index    int    // where it was last seen
	top      int    // first line shown
}

// settle finds the selected loop again after loops or the height of the table have changed.
func (o *overview) settle(loops []api.Loop, lines int) {
	i := slices.IndexFunc(loops, func(l api.Loop) bool { return name(l) == o.selected })
	if i < 0 {
		i = min(o.index, len(loops)-1)
	}
	o.choose(loops, max(i, 0), lines)
}

// move selects the loop delta lines away.
func (o *overview) move(loops []api.Loop, delta, lines int) {
	o.choose(loops, min(max(o.index+delta, 0), max(len(loops)-1, 0)), lines)
}

func (o *overview) choose(loops []api.Loop, i, lines int) {
	if len(loops) == 0 {
		*o = overview{selected: o.selected}
		return
	}
	o.index, o.selected = i, name(loops[i])
	lines = max(lines, 1)
	o.top = min(o.top, max(len(loops)-lines, 0))
	o.top = min(o.top, i)
	o.top = max(o.top, i-lines+1)
}

// column is one column of the table. Columns with a drop rank leave, lowest rank first, where the screen is narrow.
type column struct {
	title string
	width int
	right bool
	drop  int // 0: never
	text  func(l api.Loop, now time.Time) string
	tone  func(l api.Loop) tone
	spark bool // the column shows the loop's sparkline
}

var columns = []column{
	{title: "LOOP"},
	{title: "MODE", width: 7, drop: 3,
		text: func(l api.Loop, _ time.Time) string { return modeText(l.Mode) }},
	{title: "MEASURED", width: 8, right: true,
		text: func(l api.Loop, _ time.Time) string { return measured(l) },
		tone: func(l api.Loop) tone {
			if known(l.Decision.Measured) && l.Decision.Measured > l.Decision.Setpoint {
				return warning
			}
			return plain
		}},
	{title: "SETPT", width: 6, right: true,
		text: func(l api.Loop, _ time.Time) string { return measure(l, l.Decision.Setpoint) }},
	{title: "BAD/SLO", width: 11, right: true, drop: 4,
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
		}},
	{title: "VALUE", width: 8, right: true,
		text: func(l api.Loop, _ time.Time) string { return setTo(l, float64(l.Decision.Value)) }},
	{title: "MIN..MAX", width: 12, drop: 2,
		text: func(l api.Loop, _ time.Time) string { return bounds(l) }},
	{title: "STATE", width: 17,
		text: stateText,
		tone: func(l api.Loop) tone { return wordOf(l.Decision.State).tone }},
	{title: "5m", width: sparkCells, drop: 1, spark: true},
}

const (
	loopWidthWanted = 20 // a column leaves rather than let names get narrower
	loopWidthLeast  = 16
	loopWidthMost   = 40
)

// layout chooses the columns for a screen of w cells, the width of the first, and the gap between columns.
func layout(w int, loops []api.Loop, sparks sparks) (chosen []column, gap int) {
	chosen = slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return c.spark && sparks == nil })
	if slices.ContainsFunc(loops, func(l api.Loop) bool { return l.Protect != "" }) {
		titled(chosen, "MEASURED").width += 2 // "crit 0.04%"
	}
	taken := func(gap int) (cells int) {
		for _, c := range chosen[1:] {
			cells += gap + c.width
		}
		return cells + 1 // the marker
	}
	for rank := 1; rank <= 4 && w-taken(1) < loopWidthWanted; rank++ {
		chosen = slices.DeleteFunc(chosen, func(c column) bool { return c.drop == rank })
	}
	longest := loopWidthLeast
	for _, l := range loops {
		longest = min(max(longest, width(name(l))), loopWidthMost)
	}
	gap = 1
	if w-taken(2) >= longest {
		gap = 2
	}
	chosen[0].width = min(max(w-taken(gap), 1), longest)
	state := titled(chosen, "STATE")
	if titled(chosen, "MODE") == nil {
		state.text = stateAndMode
	}
	state.width = max(state.width, w-taken(gap)-chosen[0].width+state.width)
	return chosen, gap
}

func titled(columns []column, title string) *column {
	if i := slices.IndexFunc(columns, func(c column) bool { return c.title == title }); i >= 0 {
		return &columns[i]
	}
	return nil
}

// stateAndMode is the STATE column where there is none for the mode: a move of a loop that publishes nothing must not
// read like one that is felt.
func stateAndMode(l api.Loop, now time.Time) string {
	if _, old := oldLoop(l, now); old || l.Mode == control.Enforce {
		return stateText(l, now)
	}
	w := wordOf(l.Decision.State)
	return w.glyph + " " + w.word + " (" + string(l.Mode) + ")"
}

// render draws the head of the table and at most lines loops. Without sparks (nil) there is no column for them.
func (o *overview) render(loops []api.Loop, sparks sparks, now time.Time, w, lines int, stale bool) []string {
	chosen, gap := layout(w, loops, sparks)
	space := strings.Repeat(" ", gap)

	row := []string{}
	for _, c := range chosen {
		row = append(row, c.cell(c.title))
	}
	if len(loops) > lines {
		row[0] = chosen[0].cell(fmt.Sprintf("LOOP %d-%d/%d", o.top+1, min(o.top+lines, len(loops)), len(loops)))
	}
	out := []string{clip(bold.Render(" "+strings.Join(row, space)), w)}

	for i := o.top; i < len(loops) && i < o.top+lines; i++ {
		l := loops[i]
		_, old := oldLoop(l, now)
		grey := stale || old
		marker := " "
		if name(l) == o.selected {
			marker = ">"
		}
		row = row[:0]
		for _, c := range chosen {
			if c.spark {
				row = append(row, c.cell(sparks[name(l)].draw(now)))
				continue
			}
			if c.text == nil {
				row = append(row, c.cell(shortName(l, c.width)))
				continue
			}
			cell := c.cell(c.text(l, now))
			if c.tone != nil && !grey {
				cell = paint(c.tone(l), cell)
			}
			row = append(row, cell)
		}
		line := clip(marker+strings.Join(row, space), w)
		switch {
		case grey:
			line = paint(dim, line)
		case marker == ">":
			line = bold.Render(marker+row[0]) + ansi.Cut(line, 1+width(row[0]), w)
		}
		out = append(out, line)
	}
	return out
}

func (c column) cell(text string) string {
	if c.right {
		return right(text, c.width)
	}
	return left(text, c.width)
}

// shortName fits a loop's name into w cells. The service gives way before the knob, which would tell nothing alone and
// without which the service's loops could not be told apart.
func shortName(l api.Loop, w int) string {
	full, knob := name(l), "/"+string(l.Knob)
	if room := w - width(knob); width(full) > w && room >= 4 {
		return clip(l.Service, room) + knob
	}
	return clip(full, w)
}

// oldLoop is how long a loop may go without a decision before its line says so. A loop decides every period, a few
// seconds to a minute; the window is always longer than that.
func oldLoop(l api.Loop, now time.Time) (time.Duration, bool) {
	allowed := 15 * time.Second
	if w := l.Decision.Inputs.WindowSeconds; known(w) {
		allowed = max(allowed, 2*time.Duration(float64(w)*float64(time.Second)))
	}
	old := now.Sub(l.Decision.At)
	return old, !l.Decision.At.IsZero() && old > allowed
}
