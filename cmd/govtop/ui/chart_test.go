package ui

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

var graphs = []graph{graphBraille, graphBlock, graphASCII}

// sampled is five minutes of a curve in steps of five seconds, up to fixture.Now. The argument of f is the share of the
// time that has passed.
func sampled(f func(x float64) float64) []sample {
	var out []sample
	for i := range 61 {
		at := fixture.Now.Add(time.Duration(i-60) * 5 * time.Second)
		out = append(out, sample{at, f(float64(i) / 60)})
	}
	return out
}

func constant(y float64) []sample { return sampled(func(float64) float64 { return y }) }

// marked says that the loop held while x was between from and to.
func marked(from, to float64) []mark {
	var out []mark
	for _, s := range constant(0) {
		x := 1 - float64(fixture.Now.Sub(s.at))/float64(5*time.Minute)
		m := mark{at: s.at}
		if x >= from && x <= to {
			m.glyph, m.tone = "~", waiting
		}
		out = append(out, m)
	}
	return out
}

// curves are typical curves.
func curves() map[string]chart {
	five := chart{
		from: fixture.Now.Add(-5 * time.Minute), to: fixture.Now, unit: api.Seconds, axis: 2,
		nothing: "no measurement in the last 5m", title: "mean latency",
	}
	of := func(change func(c *chart)) chart {
		c := five
		change(&c)
		return c
	}
	wave := func(x float64) float64 { return 0.09 + 0.05*math.Sin(9*x) }
	return map[string]chart{
		"overload": of(func(c *chart) {
			c.curve = sampled(func(x float64) float64 { return 0.06 + 0.25*math.Exp(-math.Pow((x-0.5)/0.08, 2)) })
			c.setpoint = constant(0.112)
		}),
		"gap": of(func(c *chart) {
			c.curve = sampled(func(x float64) float64 {
				if x > 0.4 && x < 0.6 {
					return math.NaN()
				}
				return wave(x)
			})
			c.setpoint, c.marks = constant(0.112), marked(0.4, 0.6)
		}),
		"absent": of(func(c *chart) { // the daemon was away
			c.curve = sampled(wave)
			c.marks = marked(2, 2)
			c.curve = append(c.curve[:20:20], c.curve[35:]...)
			c.marks = append(c.marks[:20:20], c.marks[35:]...)
		}),
		"steps": of(func(c *chart) {
			c.title, c.unit, c.stepped, c.nothing = "limit", api.Requests, true, "no value in the last 5m"
			c.curve = sampled(func(x float64) float64 { return math.Round(math.Exp(4 - math.Mod(3*x, 1))) })
			c.levels = []level{{20, "min 20"}, {400, "max 400"}}
		}),
		"moving setpoint": of(func(c *chart) {
			c.curve = sampled(wave)
			c.setpoint = sampled(func(x float64) float64 { return 0.14 - 0.04*math.Floor(2*x) })
		}),
		"share": of(func(c *chart) {
			c.title, c.unit = "critical requests refused", api.Share
			c.curve = sampled(func(x float64) float64 { return max(0, 0.03*(x-0.5)) })
			c.setpoint = constant(0.002)
		}),
		"zero":    of(func(c *chart) { c.curve = constant(0) }),
		"equal":   of(func(c *chart) { c.curve = constant(0.0503) }),
		"rate":    of(func(c *chart) { c.unit, c.curve = api.PerSecond, constant(123456) }),
		"one":     of(func(c *chart) { c.curve = constant(0.05)[30:31] }),
		"nothing": of(func(c *chart) { c.setpoint = constant(0.08) }),
		"unknown": of(func(c *chart) { c.curve = constant(math.NaN()) }),
		"extreme": of(func(c *chart) {
			c.curve = sampled(func(x float64) float64 { return math.Exp(x*1400 - 700) })
			c.curve[7].y, c.curve[8].y = math.Inf(1), math.Inf(-1)
		}),
	}
}

func TestCharts(t *testing.T) {
	for name, c := range curves() {
		for _, g := range graphs {
			t.Run(name+"/"+string(g), func(t *testing.T) {
				var text strings.Builder
				for _, size := range [][2]int{{72, 9}, {40, 6}, {20, 4}, {12, 1}} {
					fmt.Fprintf(&text, "%d×%d\n", size[0], size[1])
					for _, line := range c.render(size[0], size[1], g) {
						text.WriteString(strings.TrimRight(ansi.Strip(line), " ") + "\n")
					}
				}
				golden.File(t, "testdata/"+"chart-"+strings.ReplaceAll(name, " ", "-")+"-"+string(g)+".txt", text.String())
			})
		}
	}
}

// TestChartFits: whatever it has to draw, a chart has exactly its lines, and none is too wide.
func TestChartFits(t *testing.T) {
	number := rapid.OneOf(
		rapid.Float64(), rapid.Float64Range(0, 1), rapid.Just(math.NaN()), rapid.Just(math.Inf(1)), rapid.Just(math.Inf(-1)),
		rapid.Just(math.MaxFloat64), rapid.Just(-math.MaxFloat64), rapid.Just(math.SmallestNonzeroFloat64), rapid.Just(0.0),
	)
	rapid.Check(t, func(t *rapid.T) {
		samples := func(label string) []sample {
			var out []sample
			for range rapid.IntRange(0, 30).Draw(t, label) {
				ago := rapid.Int64Range(-1e12, 1e13).Draw(t, "ago") // out of order, and outside of the span
				out = append(out, sample{fixture.Now.Add(-time.Duration(ago)), number.Draw(t, "y")})
			}
			return out
		}
		c := chart{
			title: rapid.SampledFrom([]string{"", "latency", "遅延"}).Draw(t, "title"),
			from:  fixture.Now.Add(-time.Duration(rapid.Int64Range(-1e9, 4e12).Draw(t, "span"))), to: fixture.Now,
			curve: samples("curve"), setpoint: samples("setpoint"),
			stepped: rapid.Bool().Draw(t, "stepped"),
			unit:    rapid.SampledFrom([]api.Unit{"", api.Seconds, api.Share, api.PerSecond, api.Requests}).Draw(t, "unit"),
			axis:    rapid.IntRange(-1, 4).Draw(t, "axis"),
			nothing: "何も測定されていない: e\u0301",
			gutter:  rapid.IntRange(0, 20).Draw(t, "gutter"),
		}
		for _, s := range samples("marks") {
			c.marks = append(c.marks, mark{s.at, rapid.SampledFrom([]string{"", "~", "*"}).Draw(t, "mark"), waiting})
		}
		for range rapid.IntRange(0, 3).Draw(t, "levels") {
			c.levels = append(c.levels, level{number.Draw(t, "level"), "上限"})
		}
		w, h := rapid.IntRange(0, 120).Draw(t, "width"), rapid.IntRange(0, 40).Draw(t, "height")
		exactly(t, c.render(w, h, rapid.SampledFrom(graphs).Draw(t, "graph")), w, h)
	})
}

// exactly fails unless there are exactly h lines of at most w cells.
func exactly(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, lines []string, w, h int,
) {
	t.Helper()
	if len(lines) != h {
		t.Fatalf("%d lines, want %d", len(lines), h)
	}
	for _, l := range lines {
		if got := fit.Width(l); got > w || strings.ContainsAny(l, "\n\t") {
			t.Fatalf("a line of %d cells where %d are given: %q", got, w, l)
		}
	}
}

// dots returns the columns of a Braille plot: for each the rows of its dots, counted from the bottom.
func dots(lines []string) [][]int {
	columns := [][]int{}
	for i, line := range lines {
		for x, r := range []rune(ansi.Strip(line)) {
			for len(columns) < 2*x+2 {
				columns = append(columns, nil)
			}
			if r < 0x2800 || r > 0x28ff {
				continue
			}
			// Dots 1, 2, 3 and 7 are on the left, 4, 5, 6 and 8 on the right, from the top.
			for row, bits := range [4][2]rune{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}} {
				for side, bit := range bits {
					if (r-0x2800)&bit != 0 {
						columns[2*x+side] = append(columns[2*x+side], (len(lines)-i-1)*4+3-row)
					}
				}
			}
		}
	}
	return columns
}

// plotted draws samples of the last five minutes without axes, at a scale from 0 to 1.
func plotted(samples []sample, w, h int) [][]int {
	c := chart{
		from: fixture.Now.Add(-5 * time.Minute), to: fixture.Now, curve: samples,
		levels: []level{{0, ""}, {1, ""}},
	}
	on := newCanvas(w, h, graphBraille)
	c.draw(on, scale{low: 0, high: 1, step: 1})
	return dots(on.lines())
}

// TestBraille: a straight line from 0 to 1 puts one dot after the other, from the bottom left to the top right.
func TestBraille(t *testing.T) {
	columns := plotted(sampled(func(x float64) float64 { return x }), 10, 5)
	if len(columns) != 20 {
		t.Fatalf("%d columns of dots, want 20", len(columns))
	}
	for x, rows := range columns {
		if len(rows) == 0 || len(rows) > 2 {
			t.Errorf("column %d has dots %v", x, rows)
		}
		for _, row := range rows {
			if row < x-1 || row > x+1 {
				t.Errorf("column %d of a diagonal has a dot in row %d", x, row)
			}
		}
	}
}

// TestPeaksAreKept: one bad decision of five seconds is visible, although a column covers much more time.
func TestPeaksAreKept(t *testing.T) {
	samples := constant(0.1)
	samples[41].y = 1
	for w := 1; w < 60; w++ {
		highest := 0
		for _, rows := range plotted(samples, w, 4) {
			for _, row := range rows {
				highest = max(highest, row)
			}
		}
		if highest != 15 {
			t.Errorf("%d cells wide: the highest dot is in row %d, want 15", w, highest)
		}
	}
}

// TestGapsStayGaps: between two measurements with none in between there is nothing, in every style, not even at zero.
func TestGapsStayGaps(t *testing.T) {
	missing := sampled(func(x float64) float64 {
		if x > 0.3 && x < 0.7 {
			return math.NaN()
		}
		return 0.5
	})
	absent := append(constant(0.5)[:19:19], constant(0.5)[42:]...)
	for what, samples := range map[string][]sample{"unknown": missing, "not there": absent} {
		for _, g := range graphs {
			for _, stepped := range []bool{true, false} {
				c := chart{from: fixture.Now.Add(-5 * time.Minute), to: fixture.Now, curve: samples, stepped: stepped}
				on := newCanvas(100, 4, g)
				c.draw(on, scale{low: 0, high: 1, step: 1})
				for _, line := range on.lines() {
					cells := []rune(ansi.Strip(line) + strings.Repeat(" ", 100))
					if text := string(cells[34:66]); strings.TrimSpace(text) != "" {
						t.Errorf("%s, %s, stepped %v: %q where nothing was measured", what, g, stepped, text)
					}
				}
				if on.line(2)+on.line(1) == "" {
					t.Errorf("%s, %s: nothing is drawn at all", what, g)
				}
			}
		}
	}
}

// TestCurveIsJoined: a line has no holes between its samples, however far apart or steep they are.
func TestCurveIsJoined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := sampled(func(float64) float64 { return rapid.Float64Range(0, 1).Draw(t, "y") })
		w, h := rapid.IntRange(1, 80).Draw(t, "width"), rapid.IntRange(1, 12).Draw(t, "height")
		last := []int{}
		for x, rows := range plotted(samples, w, h) {
			if len(rows) == 0 {
				t.Fatalf("column %d of %d is empty", x, 2*w)
			}
			low, high := rows[0], rows[0]
			for _, r := range rows {
				low, high = min(low, r), max(high, r)
			}
			if len(rows) != high-low+1 {
				t.Fatalf("column %d has a hole: %v", x, rows)
			}
			if len(last) == 2 && (low > last[1]+1 || high < last[0]-1) {
				t.Fatalf("columns %d and %d do not touch: %v and %d..%d", x-1, x, last, low, high)
			}
			last = []int{low, high}
		}
	})
}

func TestAxisLabels(t *testing.T) {
	for _, c := range []struct {
		unit api.Unit
		most float64
		y    float64
		want string
	}{
		{api.Seconds, 0.2, 0.05, "50ms"},
		{api.Seconds, 0.004, 0.0025, "2.5ms"},
		{api.Seconds, 2, 0.5, "0.5s"},
		{api.Share, 1, 0.25, "25%"},
		{api.Share, 0.01, 0.0025, "0.25%"},
		{api.PerSecond, 5000, 1790, "1790/s"},
		{api.Requests, 400, 71.62, "71.6"},
		{api.Requests, 2e6, 1500000, "1.5M"},
		{api.Requests, 2e5, 123456, "123k"},
		{api.Occupancy, 1, 0.45, "0.45"},
		{api.Requests, 1, 0, "0"},
		{api.Requests, 1e100, 1e100, "huge"},
	} {
		if got := unitOf(c.unit, c.most).text(c.y); got != c.want {
			t.Errorf("%v %s on an axis up to %v reads %q, want %q", c.y, c.unit, c.most, got, c.want)
		}
	}
}

// TestTicksAreRound: an axis begins and ends at multiples of its step, holds everything, and labels differ.
func TestTicksAreRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Float64Range(0, 1).Draw(t, "low") * math.Pow(10, float64(rapid.IntRange(-4, 6).Draw(t, "power")))
		high := low + rapid.Float64Range(0, 2).Draw(t, "more")*low
		rows := rapid.IntRange(1, 30).Draw(t, "rows")
		c := chart{from: fixture.Now.Add(-5 * time.Minute), to: fixture.Now, unit: api.Seconds}
		s := c.scale(rows, []sample{{fixture.Now, low}, {fixture.Now, high}})
		if s.low > low*(1+1e-9) || s.high < high*(1-1e-9) {
			t.Fatalf("%v..%v is not within the axis %v..%v", low, high, s.low, s.high)
		}
		ticks := s.ticks()
		if len(ticks) < 2 || len(ticks) > mostTicks+3 || math.Abs(ticks[len(ticks)-1]-s.high) > s.step/1e6 {
			t.Fatalf("ticks %v of the axis %v..%v", ticks, s.low, s.high)
		}
		for i := 1; i < len(ticks); i++ {
			if s.text(ticks[i-1]) == s.text(ticks[i]) && low > 1e-3 {
				t.Fatalf("two ticks read %s", s.text(ticks[i]))
			}
		}
	})
}

// TestZoomsKeepClockTimes: every span has at least two clock times below it on a screen of 80 columns.
func TestZoomsKeepClockTimes(t *testing.T) {
	for _, span := range zooms {
		for _, axis := range []int{1, 2} {
			c := chart{from: fixture.Now.Add(-span), to: fixture.Now, axis: axis}
			lines := c.render(78, 8, graphBraille)
			last := ansi.Strip(lines[7])
			if strings.Count(last, ":") < 2 || !strings.Contains(strings.Join(lines, ""), "-"+spanText(span)+" ") {
				t.Errorf("%v, %d lines: the time axis reads %q", span, axis, last)
			}
		}
	}
}

// TestHoldsAreMarked: holds show on the time axis, below the times at which they happened.
func TestHoldsAreMarked(t *testing.T) {
	v := detailView{loop: fixture.Loops()[4], now: fixture.Now, span: 5 * time.Minute, loaded: true, graph: graphASCII}
	states := []control.State{control.Steady, control.Hold, control.Frozen, control.Override, control.Cutting}
	for i, s := range constant(0.1) {
		v.points = append(v.points, api.Point{At: s.at, Measured: 0.1, Setpoint: 0.2, Value: 10, State: states[min(i/12, 4)]})
	}
	c := v.measuredChart(v.past())
	c.title, c.axis = "", 1
	axis := ansi.Strip(c.render(106, 4, graphASCII)[3])
	at := func(x float64) byte { return axis[len(axis)-100+int(x*100)] }
	for x, want := range map[float64]byte{0.3: '~', 0.5: '*', 0.7: 'M'} {
		if got := at(x); got != want {
			t.Errorf("at %v of the span the axis shows %q, want %q: %s", x, got, want, axis)
		}
	}
	if n := strings.Count(axis, "~"); n < 19 || n > 21 {
		t.Errorf("a minute of five is not a fifth of the axis: %s", axis)
	}
}

func BenchmarkDetail(b *testing.B) {
	v := detailView{loop: fixture.Loops()[4], now: fixture.Now, span: time.Hour, loaded: true, graph: graphBraille}
	for i := range 3600 {
		v.points = append(v.points, api.Point{
			At: fixture.Now.Add(time.Duration(i-3600) * time.Second), Setpoint: 0.112, Value: control.Number(50 + i%50),
			Measured: control.Number(0.1 + 0.05*math.Sin(float64(i)/99)),
		})
	}
	for b.Loop() {
		detailScreen(v, 120, 30)
	}
}

// TestCurveKeepsItsShape: two seconds later the same past has the same shape, perhaps a column further left.
func TestCurveKeepsItsShape(t *testing.T) {
	samples := sampled(func(x float64) float64 { return 0.1 + 0.05*math.Sin(200*x) })[:50]
	c := chart{from: fixture.Now.Add(-5 * time.Minute), to: fixture.Now, curve: samples}
	plot := func() []rune {
		_, line, _ := strings.Cut(ansi.Strip(c.render(67, 1, graphBraille)[0]), "│")
		return []rune(line)
	}
	before, moved := plot(), 0
	for range 30 {
		c.from, c.to = c.from.Add(2*time.Second), c.to.Add(2*time.Second)
		after := plot()
		left := len(before) - len(after)
		if left < 0 || left > 1 || string(before[left+1:]) != string(after[1:]) {
			t.Fatalf("the curve\n%s\nhas become\n%s", string(before), string(after))
		}
		before, moved = after, moved+left
	}
	if moved < 10 || moved > 16 {
		t.Errorf("within a minute a curve of five minutes has moved by %d columns of 61", moved)
	}
}
