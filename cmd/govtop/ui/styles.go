package ui

import (
	"image/color"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
)

// palette holds the styles of frames. It uses the sixteen colors of the terminal's own theme, which its owner has made
// readable on a dark or light background; a theme translates them. A terminal without color still shows bold, faint and
// reverse.
var palette = map[tone]lipgloss.Style{
	plain:   lipgloss.NewStyle(),
	calm:    lipgloss.NewStyle().Foreground(lipgloss.Green),
	moving:  lipgloss.NewStyle().Foreground(lipgloss.Cyan),
	warning: lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	alarm:   lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true),
	waiting: lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	manual:  lipgloss.NewStyle().Foreground(lipgloss.Magenta),
	dim:     lipgloss.NewStyle().Faint(true),
	loud:    lipgloss.NewStyle().Foreground(lipgloss.Yellow).Bold(true).Reverse(true),
}

// bold marks titles, selected the loop under the cursor, next to a marker that says the same.
var (
	bold     = lipgloss.NewStyle().Bold(true)
	selected = bold.Reverse(true)
)

func paint(t tone, s string) string {
	if t == plain || s == "" {
		return s
	}
	return palette[t].Render(s)
}

// colors maps tones to the colors of one theme; a missing tone has no color. Waiting has the color of a warning.
type colors map[tone]color.Color

// The colors for a dark and a light background each have a contrast of at least 4.5.
var (
	onDark = colors{
		calm: lipgloss.Color("#7ec98f"), moving: lipgloss.Color("#62c8e8"), warning: lipgloss.Color("#e8c15a"),
		alarm: lipgloss.Color("#ff7b72"), manual: lipgloss.Color("#d2a8ff"), loud: lipgloss.Color("#ffd75f"),
	}
	onLight = colors{
		calm: lipgloss.Color("#116329"), moving: lipgloss.Color("#0550ae"), warning: lipgloss.Color("#8a5300"),
		alarm: lipgloss.Color("#b3131d"), manual: lipgloss.Color("#7c2fc4"), loud: lipgloss.Color("#8a5300"),
	}
	// Of the sixteen colors, yellow, cyan and often green are too light for a light background.
	onLight16 = colors{
		calm: lipgloss.Blue, moving: lipgloss.Blue, warning: lipgloss.Red, alarm: lipgloss.Red, manual: lipgloss.Magenta,
		loud: lipgloss.Red,
	}
)

// background is what govtop knows about the terminal's background.
type background int

const (
	unasked background = iota
	dark
	light
)

// theme translates a frame from the palette to other colors. nil leaves it unchanged.
type theme struct{ *strings.Replacer }

// newTheme returns the named theme for a terminal with that background and number of colors. The automatic one keeps
// the terminal's colors until the terminal has reported its background.
func newTheme(name string, b background, profile colorprofile.Profile) theme {
	switch name {
	case "mono":
		return translation(colors{})
	case "dark":
		b = dark
	case "light":
		b = light
	}
	few := profile != colorprofile.Unknown && profile < colorprofile.ANSI256
	switch {
	case b == light && few:
		return translation(onLight16)
	case b == light:
		return translation(onLight)
	case b == dark && !few:
		return translation(onDark)
	}
	return theme{}
}

func translation(to colors) theme {
	var pairs []string
	for _, t := range []tone{calm, moving, warning, alarm, manual, loud} {
		style := palette[t].UnsetForeground()
		if c, ok := to[t]; ok {
			style = style.Foreground(c)
		}
		pairs = append(pairs, opening(palette[t]), opening(style))
	}
	return theme{strings.NewReplacer(pairs...)}
}

// opening is the escape sequence that starts a style.
func opening(s lipgloss.Style) string {
	start, _, _ := strings.Cut(s.Render("x"), "x")
	return start
}

func (t theme) apply(frame string) string {
	if t.Replacer == nil {
		return frame
	}
	return t.Replace(frame)
}
