package demo

import (
	"math"
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
	if w := windowOf(at(0), at(0), 90*time.Second, 32); w.step != 3*time.Second {
		t.Errorf("steps of %s: not the next half second up", w.step)
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

func TestRulerNamesTheNewest(t *testing.T) {
	w := window{n: 12, step: time.Second, first: at(0).Unix()}
	got := ansi.Strip(ruler([]start{{at(-3), "before"}, {at(0), "calm"}, {at(3), "surge"}, {at(9), "healed"}}, w))
	if want := "     ╵ca╵surge╵he"; got != want {
		t.Errorf("got %q, want %q", got, want)
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
