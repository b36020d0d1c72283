package ui

import "charm.land/lipgloss/v2"

// palette holds the styles of the screen. It uses the sixteen colours of the terminal's own theme, which its owner has
// made readable on their background, dark or light; a terminal without colour still shows bold and faint.
var palette = map[tone]lipgloss.Style{
	plain:   lipgloss.NewStyle(),
	calm:    lipgloss.NewStyle().Foreground(lipgloss.Green),
	moving:  lipgloss.NewStyle().Foreground(lipgloss.Cyan),
	warning: lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	alarm:   lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true),
	waiting: lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	manual:  lipgloss.NewStyle().Foreground(lipgloss.Magenta),
	dim:     lipgloss.NewStyle().Faint(true),
}

// bold marks titles and the selected loop, beside the marker that says the same without it.
var bold = lipgloss.NewStyle().Bold(true)

func paint(t tone, s string) string {
	if t == plain || s == "" {
		return s
	}
	return palette[t].Render(s)
}
