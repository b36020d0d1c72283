package ui

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

func TestLineEdits(t *testing.T) {
	const e = "e\u0301" // é as two code points, one character on the screen
	for _, c := range []struct {
		name string
		keys []string
		want string // | is the cursor
	}{
		{"types", []string{"abc"}, "abc|"},
		{"left and insert", []string{"ac", "left", "b"}, "ab|c"},
		{"over the ends", []string{"a", "left", "left", "right", "right", "b"}, "ab|"},
		{"home, end", []string{"b", "home", "a", "end", "c"}, "abc|"},
		{"ctrl+a, ctrl+e", []string{"b", "ctrl+a", "a", "ctrl+e", "c"}, "abc|"},
		{"backspace", []string{"abc", "left", "backspace", "backspace", "backspace"}, "|c"},
		{"delete", []string{"abc", "home", "delete", "end", "delete"}, "bc|"},
		{"ctrl+u", []string{"abc", "left", "ctrl+u"}, "|c"},
		{"ctrl+k", []string{"abc", "home", "right", "ctrl+k"}, "a|"},
		{"wide", []string{"日本", "left", "語", "backspace", "backspace"}, "|本"},
		{"combining", []string{"x" + e + "y", "left", "left", "z", "right", "backspace"}, "xz|y"},
		{"combining, typed apart", []string{"e", "\u0301", "backspace"}, "|"},
		{"space", []string{" "}, " |"},
	} {
		l := line{}
		for _, k := range c.keys {
			if m := formKey(k); m.Text == "" {
				l, _ = l.update(m)
				continue
			}
			for _, r := range k {
				l, _ = l.update(formKey(string(r)))
			}
		}
		if got := l.before + "|" + l.after; got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if _, ok := (line{}).update(formKey("f1")); ok {
		t.Error("a line takes F1 for itself")
	}
}

// TestLineDraws: the line takes exactly the given width, and the cursor is in it.
func TestLineDraws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := line{}.insert(rapid.StringOf(rapid.SampledFrom([]rune("ab 日本\u0301éü👍🏽\u200d"))).Draw(t, "text"))
		for range rapid.IntRange(0, 20).Draw(t, "moves") {
			l, _ = l.update(formKey("left"))
		}
		w := rapid.IntRange(1, 30).Draw(t, "width")
		for _, focused := range []bool{false, true} {
			drawn := l.render(w, focused)
			if fit.Width(drawn) != w {
				t.Errorf("%q drawn in %d cells: %q takes %d", l, w, drawn, fit.Width(drawn))
			}
			if w >= 2 && strings.Contains(drawn, "\x1b[7m") != focused {
				t.Errorf("%q drawn in %d cells: focused %v, and the cursor is not as that wants: %q", l, w, focused, drawn)
			}
		}
		whole, drawn := l.text(), ansi.Strip(l.render(w, true))
		if fit.Width(whole) < w && strings.TrimRight(drawn, " ") != strings.TrimRight(whole, " ") {
			t.Errorf("%q does not show whole in %d cells", whole, w)
		}
	})
}
