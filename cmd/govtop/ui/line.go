package ui

import (
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

// line is a line of text under edit. It holds nothing that Clean would remove. Text that is pasted is bounded: a line
// says too long, it does not hold a book.
type line struct{ before, after string } // the cursor

// lineBytes is how much a line holds. Every limit on a text that is typed is lower, so that what is too long shows.
const lineBytes = 1000

func newLine(text string) line { return line{}.insert(text) }

func (l line) text() string { return l.before + l.after }

// insert puts text at the cursor, as much of it as fits.
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

// update edits the line, and says whether the key was one for that.
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

// render draws the line in exactly w cells, of which the cursor, where it is shown, is one or two; the text on both
// sides of it that fits.
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
		// One cell more than needed goes with a wide character; left fills it.
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
