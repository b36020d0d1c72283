package ui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	safe "github.com/seed-de83e32b/governor/cmd/internal/plain"
)

const ellipsis = "…"

// Clean makes a string from elsewhere safe to print on one line; see plain.Clean.
func Clean(s string) string { return safe.Clean(s) }

// width is how many cells s takes on a terminal; escape sequences take none.
func width(s string) int { return ansi.StringWidth(s) }

// clip cuts s to at most w cells, with an ellipsis where something was lost.
func clip(s string, w int) string {
	if w <= 0 {
		return ""
	}
	return ansi.Truncate(s, w, ellipsis)
}

// left returns s in exactly w cells, flush left.
func left(s string, w int) string {
	s = clip(s, w)
	return s + strings.Repeat(" ", max(0, w-width(s)))
}

// right returns s in exactly w cells, flush right.
func right(s string, w int) string {
	s = clip(s, w)
	return strings.Repeat(" ", max(0, w-width(s))) + s
}

// wrap breaks s into at most n lines of at most w cells.
func wrap(s string, w, n int) []string {
	if w <= 0 || n <= 0 {
		return nil
	}
	// The library breaks at every hyphen, which tears flags and numbers apart; at a non-breaking one it does not.
	const nonBreaking = "\u2011"
	s = ansi.Wrap(strings.ReplaceAll(s, "-", nonBreaking), w, "")
	lines := strings.Split(strings.ReplaceAll(s, nonBreaking, "-"), "\n")
	if len(lines) > n {
		lines[n-1] = clip(lines[n-1]+" "+strings.Join(lines[n:], " "), w)
		lines = lines[:n]
	}
	for i := range lines {
		lines[i] = clip(lines[i], w) // the library lets a wide character stand out
	}
	return lines
}

// join joins the segments that are not empty.
func join(separator string, segments ...string) string {
	return strings.Join(filled(segments), separator)
}

func filled(segments []string) []string {
	return slices.DeleteFunc(slices.Clone(segments), func(s string) bool { return s == "" })
}

// spread joins as many of the segments as fit into w cells; an ellipsis stands for the rest. Empty segments are left
// out.
func spread(w int, separator string, segments ...string) string {
	segments = filled(segments)
	for n := len(segments); n > 0; n-- {
		line := strings.Join(segments[:n], separator)
		if n < len(segments) {
			line += separator + ellipsis
		}
		if n == 1 || width(line) <= w {
			return clip(line, w)
		}
	}
	return ""
}
