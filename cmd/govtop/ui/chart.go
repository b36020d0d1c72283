package ui

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// chart is a curve over time between two axes.
//
//	200ms ┤                ⢀⣀⠤⠤⠒⠊⠉⠉⠉
//	      │⠤ ⠤ ⠤ ⠤ ⠤ ⠤ ⡠⠔⠊⠁ setpoint 112ms    a dashed line
//	  0ms ┤⠤⠤⠔⠒⠒⠒⠒⠒⠒⠉      ⣀⣀⣀               a gap: nothing was measured, which is not zero
//	  -5m └──┬─────────~~~~~──┬─────────      from ~ on the loop held
//	       14:00            14:02
type chart struct {
	title    string // the line above; "": none
	from, to time.Time
	curve    []sample // oldest first
	stepped  bool     // the curve keeps its value until the next sample
	setpoint []sample // oldest first; always stepped
	levels   []level  // shown if the curve comes near
	unit     api.Unit // of everything that is drawn
	marks    []mark   // oldest first, one a decision
	axis     int      // lines of the time axis, if there is room: 1 for the line with its marks, 2 with clock times
	nothing  string   // text if there is no curve
	gutter   int      // least width of the labels on the left, so that charts align
}

// sample is one value of a curve. NaN or infinite is a gap.
type sample struct {
	at time.Time
	y  float64
}

// level is a constant, such as a bound of the value.
type level struct {
	y    float64
	name string
}

// mark is what the time axis shows from an instant on.
type mark struct {
	at    time.Time
	glyph string // "": the plain axis
	tone  tone
}

const (
	huge       = 1e100 // a larger number is drawn at the edge, so that differences do not overflow
	narrowPlot = 10    // cells; with fewer, the labels on the left are dropped
	mostTicks  = 5
)

// render draws the chart into exactly h lines of at most w cells.
func (c chart) render(w, h int, g graph) []string {
	if w <= 0 || h <= 0 {
		return fitted(nil, h)
	}
	if !c.from.Before(c.to) {
		c.from = c.to.Add(-time.Second)
	}
	c.curve, c.setpoint = drawable(c.curve), drawable(c.setpoint)

	title, rows, axis := c.layout(h)
	var out []string
	if title > 0 {
		out = append(out, fit.Clip(c.title, w))
	}
	y := c.scale(rows, c.curve)
	gutter := max(c.gutter, c.labels(h))
	if w-gutter-1 < narrowPlot {
		gutter = -1 // and no line beside the plot
	}
	plot := newCanvas(w-gutter-1, rows, g)
	span := c.spanLabel()
	c = c.aligned(plot.w)
	c.draw(plot, y)
	if gutter < 0 {
		return append(append(out, plot.lines()...), c.timeAxis(plot, axis)...)
	}

	s := g.strokes()
	sides := make([]string, rows)
	for row := range sides {
		sides[row] = paint(dim, strings.Repeat(" ", gutter)+s.side)
	}
	if rows > 1 {
		for _, tick := range y.ticks() {
			row := rows - 1 - y.dot(tick, plot)/plot.up()
			sides[row] = paint(dim, fit.Right(y.text(tick)+" ", gutter)+s.sideTick)
		}
	}
	for row, line := range plot.lines() {
		out = append(out, sides[row]+line)
	}
	for i, line := range c.timeAxis(plot, axis) {
		side := strings.Repeat(" ", gutter+1)
		if i == 0 {
			side = paint(dim, fit.Right(span, gutter)+s.corner)
		}
		out = append(out, side+line)
	}
	return out
}

// aligned moves the span on by less than a column, so that columns start at the same instants in every frame: a curve
// moves by whole columns and keeps its shape.
func (c chart) aligned(columns int) chart {
	column := max(c.to.Sub(c.from)/time.Duration(columns), 1)
	if late := time.Duration(c.to.UnixNano()) % column; late > 0 {
		c.to = c.to.Add(column - late)
	}
	c.from = c.to.Add(-column * time.Duration(columns))
	return c
}

// layout divides h lines into title, plot and time axis.
func (c chart) layout(h int) (title, rows, axis int) {
	if c.title != "" && h >= 2 {
		title = 1
	}
	axis = max(min(c.axis, h-title-1), 0)
	return title, h - title - axis, axis
}

// spanLabel is the label at the left end of the time axis.
func (c chart) spanLabel() string { return "-" + spanText(c.to.Sub(c.from)) + " " }

// labels is the width of the labels in a chart of h lines.
func (c chart) labels(h int) int {
	_, rows, axis := c.layout(h)
	c.curve, c.setpoint = drawable(c.curve), drawable(c.setpoint)
	w := c.scale(rows, c.curve).width()
	if axis > 0 {
		w = max(w, fit.Width(c.spanLabel()))
	}
	return w
}

// drawable returns the samples, with everything that cannot be drawn as a gap.
func drawable(samples []sample) []sample {
	out := slices.Clone(samples)
	for i := range out {
		if y := &out[i].y; math.IsInf(*y, 0) {
			*y = math.NaN()
		} else if !math.IsNaN(*y) {
			*y = min(max(*y, -huge), huge)
		}
	}
	return out
}

// draw draws everything between the axes.
func (c chart) draw(on *canvas, y scale) {
	n := on.w * on.across()
	setpoint := c.columns(c.setpoint, n, true)
	drawn := false
	last := 0
	for x, e := range c.columns(c.curve, n, c.stepped) {
		if !e.drawn {
			continue
		}
		low, high := y.dot(e.low, on), y.dot(e.high, on)
		if e.joined && drawn {
			switch { // the line continues from where it was
			case last < low-1:
				low = last + 1
			case last > high+1:
				high = last - 1
			}
		}
		t := moving
		if s := setpoint[x]; s.drawn && e.high > s.high {
			t = warning
		}
		on.curve(x, low, high, t)
		last, drawn = y.dot(e.last, on), true
	}
	for x, e := range setpoint {
		if e.drawn {
			on.dash(x, y.dot(e.last, on))
		}
	}
	c.write(on, y, setpoint, drawn)
}

// write labels the lines where there is room.
func (c chart) write(on *canvas, y scale, setpoint []extent, drawn bool) {
	if !drawn {
		text := fit.Clip(c.nothing, on.w)
		row := (on.h - 1) / 2
		on.text((on.w-fit.Width(text))/2, row, text, dim)
	}
	place := func(text string, row int, fromRight bool) {
		n := fit.Width(text) + 2
		for i := 0; i+n <= on.w; i++ {
			x := i
			if fromRight {
				x = on.w - n - i
			}
			if on.free(x, row, n) {
				on.text(x, row, " "+text+" ", plain)
				return
			}
		}
	}
	for _, l := range c.levels {
		if l.y < y.low || l.y > y.high {
			continue
		}
		row := on.h - 1 - y.dot(l.y, on)/on.up()
		for x := range on.w {
			if on.free(x, row, 1) && on.at(x, row).dots == 0 && on.at(x, row).glyph == "" {
				on.text(x, row, on.graph.strokes().level, dim)
			}
		}
		place(l.name, row, false)
	}
	for _, e := range slices.Backward(setpoint) {
		if e.drawn {
			place("setpoint "+y.text(e.last), on.h-1-y.dot(e.last, on)/on.up(), true)
			break
		}
	}
}

// extent is the range of a curve within one column, and the value where it leaves the column.
type extent struct {
	low, high, last float64
	drawn           bool
	joined          bool // with the column before
}

// columns divides the span into n columns. A column keeps the range of the curve, so that no peak is lost. If samples
// are further apart than columns, the line between them is straight, or stepped.
func (c chart) columns(samples []sample, n int, stepped bool) []extent {
	out := make([]extent, n)
	add := func(x int, y float64, joined bool) {
		if x < 0 || x >= n {
			return
		}
		e := &out[x]
		if !e.drawn {
			*e = extent{low: y, high: y, drawn: true, joined: joined && x > 0 && out[x-1].drawn}
		}
		e.low, e.high, e.last = min(e.low, y), max(e.high, y), y
	}
	gap := c.gap(samples)
	from := 0 // columns before are done with
	for i, s := range samples {
		if math.IsNaN(s.y) {
			continue
		}
		x := c.column(s.at, n)
		before := i > 0 && !math.IsNaN(samples[i-1].y) && s.at.Sub(samples[i-1].at) <= gap
		add(x, s.y, before)
		from = max(x+1, 0)

		next, end := math.NaN(), c.to
		if i+1 < len(samples) {
			next, end = samples[i+1].y, samples[i+1].at
		}
		lasts := end.Sub(s.at)
		if lasts > gap || lasts <= 0 || !stepped && math.IsNaN(next) {
			continue
		}
		until := c.column(end, n) // column of the next sample, which draws itself
		if i+1 == len(samples) {
			until = n
		}
		for ; from < min(until, n); from++ {
			y := s.y
			if !stepped {
				at := float64(c.from.Sub(s.at)) + (float64(from)+0.5)/float64(n)*float64(c.to.Sub(c.from))
				y += (next - s.y) * min(max(at/float64(lasts), 0), 1)
			}
			add(from, y, true)
		}
	}
	return out
}

// column is the column of n that contains an instant; for instants outside of the span it is outside of 0..n-1.
func (c chart) column(at time.Time, n int) int {
	x := math.Floor(float64(at.Sub(c.from)) / float64(c.to.Sub(c.from)) * float64(n))
	if at.Equal(c.to) {
		return n - 1
	}
	return int(min(max(x, -1), float64(n)))
}

// gap is the longest time between connected samples. Samples come once a period of the loop, or once a step of the
// history; the chart knows neither. A distance of twice the usual one means that something is missing.
func (c chart) gap(samples []sample) time.Duration {
	apart := make([]time.Duration, 0, len(samples))
	for i := 1; i < len(samples); i++ {
		apart = append(apart, samples[i].at.Sub(samples[i-1].at))
	}
	// Gaps shorter than this part of the span are bridged: old samples may be further apart than new ones.
	least := c.to.Sub(c.from) / 40
	if len(apart) == 0 {
		return least
	}
	slices.Sort(apart)
	return max(least, apart[len(apart)/2]*5/2)
}

// scale is the y axis: from low to high, both multiples of step.
type scale struct {
	low, high, step float64
	unit            unit
	blank           bool // there is nothing to measure
}

// scale fits an axis of rows lines to what it has to show. It starts at zero unless the curve stays far away from zero,
// and is wide enough that noise looks like noise.
func (c chart) scale(rows int, curve []sample) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range [][]sample{curve, c.setpoint} {
		for _, p := range s {
			if !math.IsNaN(p.y) && !p.at.Before(c.from) && !p.at.After(c.to) {
				low, high = min(low, p.y), max(high, p.y)
			}
		}
	}
	if low > high {
		return scale{high: 1, step: 1, blank: true}
	}
	if low == 0 && high == 0 {
		high = 1
	}
	most := max(math.Abs(low), math.Abs(high))
	near := max(high-low, most/4) / 4
	for _, l := range c.levels {
		if l.y >= low-near && l.y <= high+near {
			low, high = min(low, l.y), max(high, l.y)
		}
	}
	switch {
	case low >= 0 && low < high/2:
		low = 0
	case high-low < most/4:
		middle := (low + high) / 2
		low, high = middle-most/8, middle+most/8
	}
	s := scale{step: nice((high - low) / float64(min(max((rows-1)/2, 1), mostTicks)))}
	s.low, s.high = math.Floor(low/s.step)*s.step, math.Ceil(high/s.step)*s.step
	s.unit = unitOf(c.unit, s.high)
	return s
}

// nice is the smallest round number that is not smaller than x.
func nice(x float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
		if m*power >= x*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// dot is how many dots above the bottom y lies.
func (s scale) dot(y float64, on *canvas) int {
	dots := on.h*on.up() - 1
	return int(min(max(math.Round((y-s.low)/(s.high-s.low)*float64(dots)), 0), float64(max(dots, 0))))
}

func (s scale) ticks() []float64 {
	if s.blank {
		return nil
	}
	var out []float64
	for i := 0.0; i <= 2*mostTicks && s.low+i*s.step <= s.high+s.step/2; i++ {
		out = append(out, s.low+i*s.step)
	}
	return out
}

func (s scale) text(y float64) string { return s.unit.text(y) }

// width is the width of the widest label, with a blank after it.
func (s scale) width() int {
	w := 0
	for _, t := range s.ticks() {
		w = max(w, fit.Width(s.text(t))+1)
	}
	return w
}

// unit is how to format the numbers of one axis.
type unit struct {
	factor float64
	suffix string
}

// unitOf chooses a unit for numbers up to most.
func unitOf(u api.Unit, most float64) unit {
	switch u {
	case api.Seconds:
		if math.Abs(most) < 1 {
			return unit{1000, "ms"}
		}
		return unit{1, "s"}
	case api.Share:
		return unit{100, "%"}
	case api.PerSecond:
		return unit{1, "/s"}
	}
	return unit{1, ""}
}

// text formats a number with three significant digits; from 100,000 on with a prefix.
func (u unit) text(y float64) string {
	y *= u.factor
	prefix := ""
	for _, p := range []string{"k", "M", "G", "T", "P", "E"} {
		if math.Abs(y) < 99999.5 && prefix == "" || math.Abs(y) < 999.5 {
			break
		}
		y, prefix = y/1000, p
	}
	if math.Abs(y) >= 1e6 {
		return "huge"
	}
	return format.Number(y) + prefix + u.suffix
}

// steps are the possible distances between clock times on a time axis.
var steps = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute,
	2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
	6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// timeAxis draws n lines: the axis with its marks, blank where nothing was decided, then clock times.
func (c chart) timeAxis(plot *canvas, n int) []string {
	if n <= 0 {
		return nil
	}
	on := newCanvas(plot.w, n, plot.graph)
	s := on.graph.strokes()
	if len(c.marks) == 0 {
		on.text(0, 0, strings.Repeat(s.base, on.w), dim)
	}
	gap := c.gap(c.curve)
	for i, m := range c.marks {
		until := m.at.Add(gap)
		next := c.to
		if i+1 < len(c.marks) {
			next = c.marks[i+1].at
		}
		if next.Before(until) || i+1 == len(c.marks) && !next.After(until) {
			until = next
		}
		first, end := c.column(m.at, on.w), c.column(until, on.w)
		if !until.Before(c.to) {
			end = on.w
		}
		for x := max(first, 0); x < min(max(end, first+1), on.w); x++ {
			switch here := on.at(x, 0); {
			case m.glyph != "":
				on.text(x, 0, m.glyph, m.tone)
			case here.glyph == "":
				on.text(x, 0, s.base, dim)
			}
		}
	}

	layout := "15:04"
	i := slices.IndexFunc(steps, func(step time.Duration) bool {
		cells := 3 + len("15:04")
		if step < time.Minute {
			cells = 3 + len(time.TimeOnly)
		}
		return float64(step)/float64(c.to.Sub(c.from))*float64(on.w) >= float64(cells)
	})
	if i < 0 {
		return on.lines()
	}
	if steps[i] < time.Minute {
		layout = time.TimeOnly
	}
	for t := c.from.Truncate(steps[i]); !t.After(c.to); t = t.Add(steps[i]) {
		x := c.column(t, on.w)
		if x < 0 || x >= on.w {
			continue
		}
		if on.at(x, 0).glyph == s.base {
			on.text(x, 0, s.baseTick, dim)
		}
		label := t.UTC().Format(layout)
		row := min(n, 2) - 1 // with only one line, the label goes into the axis
		if left := x - len(label)/2; left >= 0 && left+len(label) <= on.w && (row > 0 || on.plain(left, len(label), s)) {
			on.text(left, row, label, dim)
		}
	}
	return on.lines()
}

// plain reports whether the axis shows nothing but itself.
func (c *canvas) plain(x, n int, s strokes) bool {
	for i := x; i < x+n; i++ {
		if glyph := c.at(i, 0).glyph; glyph != s.base && glyph != s.baseTick {
			return false
		}
	}
	return true
}

// spanText writes the span of a chart: 20s, 90s, 5m, 1h.
func spanText(d time.Duration) string {
	switch {
	case d < 2*time.Minute && d%time.Minute != 0:
		return format.Number(d.Truncate(time.Second).Seconds()) + "s"
	case d%time.Minute != 0 && d < time.Hour:
		return format.Age(d)
	case d < time.Hour || d%time.Hour != 0:
		return format.Number(d.Minutes()) + "m"
	}
	return format.Number(d.Hours()) + "h"
}
