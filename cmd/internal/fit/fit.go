// Package fit makes text fit a terminal: it measures, cuts, pads and wraps in cells. A wide character takes two cells,
// an escape sequence none. The text must be clean; see package plain.
package fit

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Ellipsis marks where text was cut.
const Ellipsis = "…"

// Width is the width of s in cells.
func Width(s string) int { return ansi.StringWidth(s) }

// Clip cuts s to at most w cells, with an Ellipsis if it was cut.
func Clip(s string, w int) string {
	if w <= 0 {
		return ""
	}
	return ansi.Truncate(s, w, Ellipsis)
}

// Left returns s in exactly w cells, flush left.
func Left(s string, w int) string {
	s = Clip(s, w)
	return s + blanks(w-Width(s))
}

// Right returns s in exactly w cells, flush right.
func Right(s string, w int) string {
	s = Clip(s, w)
	return blanks(w-Width(s)) + s
}

func blanks(n int) string { return strings.Repeat(" ", max(n, 0)) }

// Wrap breaks s at spaces into lines of at most w cells. It breaks a word only if the word is longer than a line.
func Wrap(s string, w int) []string {
	if w <= 0 {
		return nil
	}
	// The library breaks at every hyphen, which splits flags and numbers, but not at a non-breaking one.
	const nonBreaking = "\u2011"
	s = ansi.Wrap(strings.ReplaceAll(s, "-", nonBreaking), w, "")
	lines := strings.Split(strings.ReplaceAll(s, nonBreaking, "-"), "\n")
	for i := range lines {
		lines[i] = Clip(lines[i], w) // the library lets a wide character stick out
	}
	return lines
}

// WrapTo is Wrap into at most n lines; if there are more, the last one is clipped.
func WrapTo(s string, w, n int) []string {
	if n <= 0 {
		return nil
	}
	lines := Wrap(s, w)
	if len(lines) > n {
		lines[n-1] = Clip(strings.Join(lines[n-1:], " "), w)
		lines = lines[:n]
	}
	return lines
}
