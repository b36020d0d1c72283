package ui

import (
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	safe "github.com/seed-de83e32b/governor/cmd/internal/plain"
)

// Clean makes foreign text safe to print on one line; see plain.Clean.
func Clean(s string) string { return safe.Clean(s) }

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
			line += separator + fit.Ellipsis
		}
		if n == 1 || fit.Width(line) <= w {
			return fit.Clip(line, w)
		}
	}
	return ""
}
