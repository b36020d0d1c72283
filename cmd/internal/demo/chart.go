package demo

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

// eighths fill a cell from below and from the left, by n/8.
var (
	below = []rune(" ▁▂▃▄▅▆▇█")
	along = []rune(" ▏▎▍▌▋▊▉█")
)

// gutter is the width of a chart's labels.
const gutter = 5

// point is one value of a chart. NaN is a gap.
type point struct {
	at    time.Time
	value float64
	could float64 // what was possible
}

// start is an instant at which something began, and its name.
type start struct {
	at   time.Time
	name string
}

// column is what a chart shows in one cell's width, as fractions of the full height.
type column struct{ value, could float64 }

// window is the time span of a chart: n steps of the wall clock, so that a column keeps its points when the chart
// moves. It fills from the left, and moves once it is full.
type window struct {
	first int64 // step
	step  time.Duration
	n     int
}

// windowOf returns the window of n columns that ends at now or later and shows at least the given span, and little more.
// No column is narrower than the time between two looks, lest some stay empty.
func windowOf(began, now time.Time, span time.Duration, n int) window {
	const round = 100 * time.Millisecond
	step := span / time.Duration(max(n, 1))
	w := window{n: n, step: max((step+round-1)/round*round, lookEvery)}
	w.first = max(w.number(began), w.number(now)-int64(n)+1)
	return w
}

func (w window) number(t time.Time) int64 { return t.UnixNano() / int64(w.step) }

// column returns the column of an instant, even beyond the ends of the chart.
func (w window) column(t time.Time) int { return int(w.number(t) - w.first) }

// lasts is the length of the window.
func (w window) lasts() time.Duration { return time.Duration(w.n) * w.step }

// columns averages the points in each column.
func (w window) columns(points []point, most float64) []column {
	out, counts := make([]column, w.n), make([]float64, w.n)
	for _, p := range points {
		i := w.column(p.at)
		if i < 0 || i >= w.n || math.IsNaN(p.value) {
			continue
		}
		out[i].value += p.value / most
		out[i].could += p.could / most
		counts[i]++
	}
	for i := range out {
		out[i].value /= counts[i] // NaN if there are none
		out[i].could /= counts[i]
	}
	return out
}

// chart draws points as columns from 0 to most, in h lines, and a line above them for what was possible. The color
// shows how close the two are; the height shows it too.
func chart(points []point, win window, most float64, h int) []string {
	drawn := win.columns(points, most)
	lines := make([]string, h)
	for row := range lines {
		label := ""
		switch {
		case row == 0:
			label = fmt.Sprintf("%.0f", most)
		case row == h-1:
			label = "0"
		case h >= 9 && row == h/2:
			label = fmt.Sprintf("%.0f", most/2)
		}
		var line strings.Builder
		line.WriteString(faint.Render(fmt.Sprintf("%*s┤", gutter-1, label)))
		for _, c := range drawn {
			line.WriteString(c.cell(h-1-row, h))
		}
		lines[row] = line.String()
	}
	return lines
}

// cell draws the part of a column in the given row from below.
func (c column) cell(row, rows int) string {
	if math.IsNaN(c.value) {
		return " "
	}
	fill := int(math.Round((c.value*float64(rows) - float64(row)) * 8))
	style := good
	switch {
	case c.value < c.could/2:
		style = bad
	case c.value < 0.75*c.could: // arrivals vary by more than a tenth from second to second
		style = doubtful
	}
	switch {
	case fill > 0:
		return style.Render(string(below[min(fill, 8)]))
	case row == 0 && c.could > 0:
		return style.Render("▁") // zero is a value too
	case int(math.Ceil(c.could*float64(rows)))-1 == row:
		return faint.Render("┄")
	}
	return " "
}

// event reports whether an act does something to the services, rather than to let them be.
func (s start) event() bool {
	return s.name == surge || s.name == dependency || s.name == prometheus || s.name == leader
}

// shortNames are for where the whole ones have no room.
var shortNames = map[string]string{healed: "heal", dependency: "dep", prometheus: "prom"}

// ruler marks under a chart when something began, and names it. Names are never cut nor put over one another: one that
// has no room until the next mark is written short, or not at all. What goes on now comes first, then what was done to
// the services, for whose name the mark of a quiet act may go:
//
//	╵calm  ╵surge ╵heal╵dep╵prom╵leader
func ruler(starts []start, win window) string {
	cells := []rune(strings.Repeat(" ", win.n))
	var first, last []start // to be named, the newest first
	for i, s := range slices.Backward(starts) {
		here := func(o start) bool { return win.column(o.at) == win.column(s.at) }
		switch at := win.column(s.at); {
		case at < 0 || at >= win.n || slices.ContainsFunc(first, here):
		case i == len(starts)-1 || s.event():
			first = append(first, s)
		default:
			last = append(last, s)
		}
	}
	write := func(s start, name string) { copy(cells[win.column(s.at):], []rune("╵"+name)) }
	// call names an act if that leaves the marks of others alone.
	call := func(s start, others []start) bool {
		from, until := win.column(s.at)+1, win.n
		for _, o := range others {
			if at := win.column(o.at); at >= from {
				until = min(until, at)
			}
		}
		for _, name := range []string{s.name, shortNames[s.name]} {
			if name != "" && len(name) <= until-from {
				write(s, name)
				return true
			}
		}
		return false
	}
	for _, s := range first {
		write(s, "")
	}
	for _, s := range first {
		_ = call(s, starts) || call(s, first)
	}
	for _, s := range last {
		if cells[win.column(s.at)] == ' ' {
			write(s, "")
			call(s, starts)
		}
	}
	return strings.Repeat(" ", gutter) + faint.Render(strings.TrimRight(string(cells), " "))
}

// bar draws value as a fraction of most, in w cells.
func bar(value, most float64, w int, style lipgloss.Style) string {
	fill := min(max(int(math.Round(value/most*float64(w)*8)), 0), 8*w)
	if fill == 0 && value > 0 {
		fill = 1
	}
	text := strings.Repeat(string(along[8]), fill/8)
	if rest := fill % 8; rest > 0 {
		text += string(along[rest])
	}
	return style.Render(text) + strings.Repeat(" ", w-fit.Width(text))
}
