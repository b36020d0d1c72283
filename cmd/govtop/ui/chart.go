package ui

import (
	"time"
)

// graph is what charts are drawn with.
type graph string

// The kinds of graph: dots of Braille patterns (2×4 a cell), blocks in eighths of a cell, or ASCII only.
const (
	graphBraille graph = "braille"
	graphBlock   graph = "block"
	graphASCII   graph = "ascii"
)

// sample is one value of a curve; NaN is a gap.
type sample struct {
	at time.Time
	y  float64
}

// level is a constant that a chart shows where its curve comes near: a bound.
type level struct {
	y    float64
	name string
}

// mark is a glyph on the time axis, from an instant on to the next mark.
type mark struct {
	at    time.Time
	glyph string // "": none
	tone  tone
}

// chart is a curve over time, with axes.
type chart struct {
	title    string // the line above; "": none
	from, to time.Time
	curve    []sample // oldest first
	stepped  bool     // the curve keeps its value until the next sample
	setpoint []sample // oldest first, a dashed line; always stepped
	levels   []level
	label    func(y float64) string // a y with its unit
	marks    []mark                 // oldest first
	axis     bool                   // with a time axis
	nothing  string                 // said where there is nothing to draw
	gutter   int                    // least width of the y labels, so that charts stand aligned
}

// render draws into exactly h lines of at most w cells.
func (c chart) render(w, h int, g graph) []string {
	if h <= 0 {
		return nil
	}
	out := []string{clip(c.title, w)}
	return fitted(out, h)
}
