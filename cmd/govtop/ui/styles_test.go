package ui

import (
	"image/color"
	"math"
	"regexp"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
)

// TestColorsAreReadable: the colors of a theme have the contrast on their background that WCAG requires for text.
func TestColorsAreReadable(t *testing.T) {
	for name, c := range map[string]struct {
		colors     colors
		background []color.Color
	}{
		"dark":  {onDark, []color.Color{color.Black, color.RGBA{0x28, 0x2c, 0x34, 0xff}}},
		"light": {onLight, []color.Color{color.White, color.RGBA{0xfd, 0xf6, 0xe3, 0xff}}},
	} {
		for tone, color := range c.colors {
			for _, background := range c.background {
				if got := contrast(color, background); got < 4.5 {
					t.Errorf("%s: tone %d has a contrast of %.1f to %v", name, tone, got, background)
				}
			}
		}
	}
}

func contrast(a, b color.Color) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c color.Color) float64 {
	linear := func(v uint32) float64 {
		s := float64(v) / 0xffff
		if s <= 0.03928 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	r, g, b, _ := c.RGBA()
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}

// setsColor matches the sequences that set a color.
var setsColor = regexp.MustCompile(`\x1b\[([0-9]+;)*(3[0-7]|38;[0-9;]+|9[0-7])m`)

// TestThemes: every theme shows the same text in other colors, the one without colors in none.
func TestThemes(t *testing.T) {
	words := func(m Model) string { return ansi.Strip(m.View().Content) }
	build := func(theme string, more ...tea.Msg) Model {
		m := New(t.Context(), nil, "http://127.0.0.1:9747", "0.3.0", Options{Theme: theme})
		return after(m, append([]tea.Msg{
			tea.WindowSizeMsg{Width: 120, Height: 30},
			tickMsg(began), mixed(),
			pastMsg{fixture.History()},
		}, more...)...)
	}
	black := tea.BackgroundColorMsg{Color: color.Black}
	white := tea.BackgroundColorMsg{Color: color.White}
	few, many := tea.ColorProfileMsg{Profile: colorprofile.ANSI}, tea.ColorProfileMsg{Profile: colorprofile.TrueColor}
	plain := build("auto")
	for _, c := range []struct {
		name string
		m    Model
		has  string // of the state INEFFECTIVE
	}{
		{"auto, not told", plain, "\x1b[1;31m"},
		{"auto, dark", build("auto", many, black), "\x1b[1;38;2;255;123;114m"},
		{"auto, light", build("auto", many, white), "\x1b[1;38;2;179;19;29m"},
		{"auto, dark, sixteen colors", build("auto", few, black), "\x1b[1;31m"},
		{"auto, light, sixteen colors", build("auto", few, white), "\x1b[1;31m"},
		{"dark, on light", build("dark", many, white), "\x1b[1;38;2;255;123;114m"},
		{"light, on dark", build("light", many, black), "\x1b[1;38;2;179;19;29m"},
		{"mono", build("mono", many, black), "\x1b[1m"},
	} {
		if words(c.m) != words(plain) {
			t.Errorf("%s says something else:\n%s", c.name, words(c.m))
		}
		content := c.m.View().Content
		if !strings.Contains(content, c.has+"! INEFFECTIVE") {
			t.Errorf("%s: INEFFECTIVE does not begin with %q", c.name, c.has)
		}
		if found := setsColor.FindString(content); (found == "") != (c.name == "mono") {
			t.Errorf("%s: the first color is %q", c.name, found)
		}
	}
	if light := build("auto", few, white).View().Content; strings.Contains(light, "\x1b[33m") {
		t.Error("yellow on a light background")
	}
}

// TestThemeAsksForTheBackground only if it depends on it.
func TestThemeAsksForTheBackground(t *testing.T) {
	for _, theme := range append([]string{""}, Themes...) {
		_, asks := New(t.Context(), nil, "", "", Options{Theme: theme}).Init()().(tea.BatchMsg)
		if want := theme == "" || theme == "auto"; asks != want {
			t.Errorf("theme %q: asks %v, want %v", theme, asks, want)
		}
	}
}
