package demo

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

func TestWindowFillsFromTheLeftAndThenMoves(t *testing.T) {
	for _, tc := range []struct{ now, first, last float64 }{
		{5, 0, 5},
		{89, 0, 89},
		{95, 8, 95}, // full: the column of second 6 has gone, and 7 with it
	} {
		w := windowOf(at(0), at(tc.now), 90*time.Second, 30)
		if w.step != 3*time.Second || w.lasts() != 90*time.Second {
			t.Fatalf("30 columns for 90 s: %s each", w.step)
		}
		if i := w.column(at(tc.last)); i < 0 || i >= 30 || tc.now >= 90 && i != 29 {
			t.Errorf("after %.0f s, now is in column %d", tc.now, i)
		}
		if i := w.column(at(tc.first)); i != 0 {
			t.Errorf("after %.0f s, second %.0f is in column %d", tc.now, tc.first, i)
		}
	}
	if w := windowOf(at(0), at(0), 90*time.Second, 32); w.step != 2900*time.Millisecond {
		t.Errorf("steps of %s: not the next tenth of a second up", w.step)
	}
}

func TestChartOfColumns(t *testing.T) {
	points := []point{
		{at(0), 100, 100},
		{at(0.5), 100, 100},
		{at(1), 0, 100},
		{at(2), math.NaN(), 100},
		{at(3), 200, 200},
		{at(3.5), 100, 200},
		{at(-5), 200, 200},
		{at(9), 200, 200}, // outside
	}
	var got []string
	for _, line := range chart(points, window{n: 5, step: time.Second, first: at(0).Unix()}, 200, 4) {
		got = append(got, ansi.Strip(line))
	}
	want := []string{
		" 200┤   ┄ ",
		"    ┤   █ ",
		"    ┤█┄ █ ",
		"   0┤█▁ █ ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRuler(t *testing.T) {
	w := window{n: 16, step: time.Second, first: at(0).Unix()}
	for _, tc := range []struct {
		title  string
		starts []start
		want   string
	}{
		{"all have room", []start{{at(-3), leader}, {at(0), calm}, {at(5), surge}}, "╵calm╵surge"},
		{"a name that has no room is left out", []start{{at(0), calm}, {at(3), surge}}, "╵  ╵surge"},
		{"or is written short", []start{{at(0), dependency}, {at(5), healed}}, "╵dep ╵healed"},
		{
			"a quiet act gives way to an event",
			[]start{{at(0), surge}, {at(5), healed}, {at(7), dependency}},
			"╵surge ╵dep",
		},
		{"an event keeps its mark", []start{{at(0), surge}, {at(5), dependency}, {at(9), back}}, "╵    ╵dep╵back"},
		{"what goes on now is named", []start{{at(0), surge}, {at(4), back}}, "╵   ╵back"},
		{"in one column the newest counts", []start{{at(4), surge}, {at(4), calm}, {at(4.5), leader}}, "    ╵leader"},
		{"no name is cut at the end", []start{{at(0), calm}, {at(12), surge}}, "╵calm       ╵"},
	} {
		got := ansi.Strip(ruler(tc.starts, w))
		if want := strings.Repeat(" ", gutter) + tc.want; strings.TrimRight(got, " ") != want {
			t.Errorf("%s: got %q, want %q", tc.title, got, want)
		}
	}
}

// TestRulerOfTheStory: what stands under the charts at the end of the story, on terminals of several widths.
func TestRulerOfTheStory(t *testing.T) {
	for _, tc := range []struct {
		width int
		want  string
	}{
		{80, "╵   ╵surge   ╵dep╵ ╵╵leader"},
		{100, "╵calm ╵surge ╵heal╵dep ╵ ╵ ╵leader"},
		{120, "╵calm   ╵surge ╵healed╵dep  ╵prom╵leader"},
		{160, "╵calm     ╵surge    ╵healed ╵dep    ╵prom  ╵leader"},
	} {
		s := after(sized(tc.width, 30), told(t, DefaultDuration.Seconds(), nil)...)
		got := ""
		for line := range strings.SplitSeq(s.text(), "\n") {
			if left, _, _ := strings.Cut(line, "│"); strings.Contains(line, "╵") {
				got = strings.TrimSpace(left)
			}
		}
		if got != tc.want {
			t.Errorf("%d columns:\ngot  %s\nwant %s", tc.width, got, tc.want)
		}
	}
}

// TestRulerNamesEachActWhereItBegan: at every width, in every second and beyond the end of the story, with acts by hand
// after it, each word under the chart is the name of the act that began there.
func TestRulerNamesEachActWhereItBegan(t *testing.T) {
	acts, err := Story(DefaultDuration)
	if err != nil {
		t.Fatal(err)
	}
	var starts []start
	begins := 0.0
	for i := range 3 * len(acts) {
		a := acts[i%len(acts)]
		starts = append(starts, start{at(begins), a.Name})
		begins += a.Lasts.Seconds() / float64(1+i/len(acts))
	}
	for n := 1; n <= 150; n++ {
		for i := range starts {
			for _, since := range []float64{0, 0.7, 3, 11} {
				now := starts[i].at.Add(time.Duration(since * float64(time.Second)))
				began := starts[:i+1]
				win := windowOf(starts[0].at, now, chartSpan, n)
				line := []rune(strings.TrimPrefix(ansi.Strip(ruler(began, win)), strings.Repeat(" ", gutter)))
				if len(line) > n {
					t.Fatalf("%d cells of %d: %s", len(line), n, string(line))
				}
				for column, text := 0, string(line); text != ""; {
					blanks := strings.IndexFunc(text, func(r rune) bool { return r != ' ' })
					column, text = column+blanks, text[blanks:]
					mark, rest, _ := strings.Cut(text, "╵")
					end := strings.IndexAny(rest+" ", " ╵")
					name := rest[:end]
					if mark != "" || !slices.ContainsFunc(began, func(s start) bool {
						return win.column(s.at) == column && (name == "" || name == s.name || name == shortNames[s.name])
					}) {
						t.Fatalf("%d columns, %.1f s: %q at %d in %q", n, now.Sub(epoch).Seconds(), name, column, string(line))
					}
					column, text = column+1+end, strings.TrimRight(rest[end:], " ")
				}
			}
		}
	}
}

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		value float64
		want  string
	}{{0, "    "}, {0.001, "▏   "}, {100, "█▍  "}, {300, "████"}, {1e9, "████"}, {-1, "    "}} {
		if got := bar(tc.value, 300, 4, lipgloss.NewStyle()); got != tc.want {
			t.Errorf("%v of 300: %q, want %q", tc.value, got, tc.want)
		}
	}
}
