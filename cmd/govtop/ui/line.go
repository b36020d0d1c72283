package ui

import (
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

// line is a line of text being edited. It holds nothing that Clean would remove. The length of pasted text is bounded.
type line struct{ before, after string } // the cursor

// lineBytes is the capacity of a line. It is above every limit on typed text, so that a field can show that its text is
// too long.
const lineBytes = 1000

func newLine(text string) line { return line{}.insert(text) }

func (l line) text() string { return l.before + l.after }

// insert puts as much of text as fits at the cursor.
func (l line) insert(text string) line {
	for text = Clean(text); text != ""; {
		cluster, _ := ansi.FirstGraphemeCluster(text, ansi.GraphemeWidth)
		if len(l.before)+len(l.after)+len(cluster) > lineBytes {
			break
		}
		l.before += cluster
		text = text[len(cluster):]
	}
	return l
}

// update edits the line, and says whether it handled the key.
func (l line) update(k tea.KeyPressMsg) (line, bool) {
	switch k.String() {
	case "left", "ctrl+b":
		rest, last := cutLast(l.before)
		return line{rest, last + l.after}, true
	case "right", "ctrl+f":
		first, _ := ansi.FirstGraphemeCluster(l.after, ansi.GraphemeWidth)
		return line{l.before + first, l.after[len(first):]}, true
	case "home", "ctrl+a":
		return line{"", l.text()}, true
	case "end", "ctrl+e":
		return line{l.text(), ""}, true
	case "backspace", "ctrl+h":
		rest, _ := cutLast(l.before)
		return line{rest, l.after}, true
	case "delete", "ctrl+d":
		first, _ := ansi.FirstGraphemeCluster(l.after, ansi.GraphemeWidth)
		return line{l.before, l.after[len(first):]}, true
	case "ctrl+u":
		return line{"", l.after}, true
	case "ctrl+k":
		return line{l.before, ""}, true
	}
	if k.Text == "" {
		return l, false
	}
	return l.insert(k.Text), true
}

// cutLast splits the last grapheme cluster off.
func cutLast(s string) (rest, last string) {
	for start := 0; start < len(s); {
		cluster, _ := ansi.FirstGraphemeCluster(s[start:], ansi.GraphemeWidth)
		if start+len(cluster) == len(s) {
			return s[:start], cluster
		}
		start += len(cluster)
	}
	return "", ""
}

var cursor = lipgloss.NewStyle().Reverse(true)

// render draws the line in exactly w cells, with as much text around the cursor as fits. If shown, the cursor takes one
// or two cells.
func (l line) render(w int, focused bool) string {
	if w <= 0 {
		return ""
	}
	if !focused {
		return fit.Left(l.text(), w)
	}
	under, _ := ansi.FirstGraphemeCluster(l.after, ansi.GraphemeWidth)
	after := l.after[len(under):]
	if under == "" {
		under = " "
	}
	if fit.Width(under) > w {
		return fit.Left(fit.Ellipsis, w)
	}
	before := l.before
	if room := w - fit.Width(under); fit.Width(before) > room {
		// A wide character may remove one cell more than needed; left fills it.
		for before != "" && fit.Width(before) > room-1 {
			cluster, _ := ansi.FirstGraphemeCluster(before, ansi.GraphemeWidth)
			before = before[len(cluster):]
		}
		if room > 0 {
			before = fit.Ellipsis + before
		}
	}
	rest := w - fit.Width(before) - fit.Width(under)
	return before + cursor.Render(under) + fit.Left(after, rest)
}
