package ui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// graph is the set of characters that draw charts.
type graph string

// The kinds of graph: dots of Braille patterns, bars in eighths of a cell, or ASCII only.
const (
	graphBraille graph = "braille"
	graphBlock   graph = "block"
	graphASCII   graph = "ascii"
)

// grain is the number of dots in a cell, across and up.
func (g graph) grain() (x, y int) {
	switch g {
	case graphBlock:
		return 1, 8
	case graphASCII:
		return 1, len(heights)
	}
	return 2, 4
}

// strokes are the glyphs of axes and lines, and of the tree of loops.
type strokes struct{ side, sideTick, base, baseTick, corner, setpoint, level, twig, lastTwig string }

func (g graph) strokes() strokes {
	if g == graphASCII {
		return strokes{"|", "+", "-", "+", "+", "=", ":", "|", "`"}
	}
	return strokes{"│", "┤", "─", "┬", "└", "╌", "┈", "├", "└"}
}

// canvas is a grid of cells to draw on. Rows count from the top; dots, several per cell, count from the bottom left.
// Anything outside is not drawn.
type canvas struct {
	w, h  int
	graph graph
	cells []cell
}

type cell struct {
	glyph string // "": nothing, or the second half of a wide glyph
	wide  bool   // the second half of a wide glyph
	dots  byte   // of a Braille pattern
	curve bool   // the curve runs through here
	tone  tone
}

func newCanvas(w, h int, g graph) *canvas {
	return &canvas{w: w, h: h, graph: g, cells: make([]cell, max(w, 0)*max(h, 0))}
}

// across and up are the numbers of dots in a cell.
func (c *canvas) across() int { across, _ := c.graph.grain(); return across }
func (c *canvas) up() int     { _, up := c.graph.grain(); return up }

func (c *canvas) at(x, row int) *cell {
	if x < 0 || x >= c.w || row < 0 || row >= c.h {
		return &cell{}
	}
	return &c.cells[row*c.w+x]
}

// brailleDots are the bits of a Braille pattern (U+2800 on), by column and by row from the bottom.
var brailleDots = [2][4]byte{{0x40, 0x04, 0x02, 0x01}, {0x80, 0x20, 0x10, 0x08}}

// heights are ASCII characters by their height in the cell.
var heights = [...]string{"_", ".", "-", "'"}

var eighths = [...]string{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}

// curve draws one column of a curve, from dot low to dot high. A block also fills everything below.
func (c *canvas) curve(x, low, high int, t tone) {
	across, up := c.graph.grain()
	switch c.graph {
	case graphBlock:
		for dot := 0; dot <= high; dot += up {
			*c.at(x, c.h-1-dot/up) = cell{glyph: eighths[min(high-dot, up-1)], curve: true, tone: t}
		}
	case graphASCII:
		for row := low / up; row <= high/up; row++ {
			bottom, top := max(low, row*up), min(high, row*up+up-1)
			glyph := "|"
			if top-bottom < up-2 {
				glyph = heights[top%up]
			}
			*c.at(x, c.h-1-row) = cell{glyph: glyph, curve: true, tone: t}
		}
	default:
		for dot := low; dot <= high; dot++ {
			on := c.at(x/across, c.h-1-dot/up)
			on.dots |= brailleDots[x%across][dot%up]
			on.curve, on.tone = true, max(on.tone, t)
		}
	}
}

// dash draws one column of a dashed line. Where both do not fit, the curve wins.
func (c *canvas) dash(x, dot int) {
	across, up := c.graph.grain()
	column, row := x/across, c.h-1-dot/up
	if column%2 == 1 {
		return
	}
	on := c.at(column, row)
	switch {
	case c.graph == graphBraille:
		on.dots |= brailleDots[x%across][dot%up]
	case !on.curve:
		on.glyph = c.graph.strokes().setpoint
	case on.glyph == eighths[len(eighths)-1]: // a dent in the bar
		*on = cell{glyph: c.graph.strokes().setpoint, curve: true}
	}
}

// free reports whether n cells of text at x would cover neither curve nor text.
func (c *canvas) free(x, row, n int) bool {
	for i := x; i < x+n; i++ {
		if on := c.at(i, row); i < 0 || i >= c.w || row < 0 || row >= c.h || on.curve || on.wide ||
			len(on.glyph) == 1 && !strings.Contains("=: ", on.glyph) { // dashes and dots may be covered, text may not
			return false
		}
	}
	return true
}

// text writes s from x on.
func (c *canvas) text(x, row int, s string, t tone) {
	for s != "" {
		glyph, cells := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		s = s[len(glyph):]
		if x < 0 || x+cells > c.w {
			return
		}
		for i := range cells {
			*c.at(x+i, row) = cell{wide: i > 0, tone: t}
		}
		if cells > 0 {
			c.at(x, row).glyph = glyph
		} else if x > 0 {
			c.at(x-1, row).glyph += glyph
		}
		x += cells
	}
}

// line returns a row as text, without trailing blanks.
func (c *canvas) line(row int) string {
	var out, run strings.Builder
	last := plain
	end := c.w
	for end > 0 && c.at(end-1, row).blank() {
		end--
	}
	for x := range end {
		on := c.at(x, row)
		if t := on.tone; t != last && !on.wide && !on.blank() {
			out.WriteString(paint(last, run.String()))
			run.Reset()
			last = t
		}
		switch {
		case on.wide:
		case on.glyph != "":
			run.WriteString(on.glyph)
		case on.dots != 0:
			run.WriteRune(0x2800 + rune(on.dots))
		default:
			run.WriteByte(' ')
		}
	}
	out.WriteString(paint(last, run.String()))
	return out.String()
}

func (c *canvas) lines() []string {
	out := make([]string, c.h)
	for row := range out {
		out[row] = c.line(row)
	}
	return out
}

func (c *cell) blank() bool { return c.glyph == "" && c.dots == 0 && !c.wide || c.glyph == " " }
