package ui

import (
	"strings"

	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"
)

// command is one thing that a key does. The list of commands is the only way from a key to an action, and footer and
// help screen are printed from it: a key that works is a key that is explained.
type command struct {
	key.Binding
	short string // in the footer; "": not there
	do    func(m *Model) tea.Cmd
}

// commands is the key map.
func commands() []command {
	bind := func(keys, short, does string, do func(m *Model) tea.Cmd) command {
		names := strings.Fields(keys)
		return command{key.NewBinding(key.WithKeys(names...), key.WithHelp(strings.Join(names, ", "), does)), short, do}
	}
	move := func(delta func(m *Model) int) func(m *Model) tea.Cmd {
		return func(m *Model) tea.Cmd {
			if m.data != nil && !m.help {
				m.overview.move(m.data.Loops, delta(m), m.tableLines())
			}
			return nil
		}
	}
	return []command{
		bind("up k", "", "select the loop above", move(func(*Model) int { return -1 })),
		bind("down j", "select", "select the loop below", move(func(*Model) int { return 1 })),
		bind("pgup ctrl+b", "", "a page up", move(func(m *Model) int { return -m.tableLines() })),
		bind("pgdown ctrl+f", "", "a page down", move(func(m *Model) int { return m.tableLines() })),
		bind("home g", "", "the first loop", move(func(m *Model) int { return -len(m.data.Loops) })),
		bind("end G", "", "the last loop", move(func(m *Model) int { return len(m.data.Loops) })),
		bind("?", "help", "this help, and back", func(m *Model) tea.Cmd { m.help = !m.help; return nil }),
		bind("esc", "", "back to the loops", func(m *Model) tea.Cmd { m.help = false; return nil }),
		bind("ctrl+z", "", "suspend govtop; fg brings it back", func(*Model) tea.Cmd { return tea.Suspend }),
		bind("q ctrl+c", "quit", "quit", func(*Model) tea.Cmd { return tea.Quit }),
	}
}

// press does what the key map says about a key; other keys do nothing.
func (m *Model) press(k tea.KeyPressMsg) tea.Cmd {
	for _, c := range commands() {
		if key.Matches(k, c.Binding) {
			return c.do(m)
		}
	}
	return nil
}

func footer(m *Model, w int) string {
	segments := []string{}
	for _, c := range commands() {
		if c.short == "" {
			continue
		}
		segments = append(segments, bold.Render(c.Keys()[0])+" "+c.short)
	}
	return spread(w, "   ", segments...)
}

// help is the help screen: the key map, then how to read the states.
func help(w int) []string {
	lines := []string{bold.Render("Keys")}
	for _, c := range commands() {
		lines = append(lines, clip("  "+left(c.Help().Key, 16)+c.Help().Desc, w))
	}
	lines = append(lines, "", bold.Render("States"))
	for _, s := range states {
		word := wordOf(s)
		lines = append(lines, clip("  "+paint(word.tone, left(word.glyph+" "+word.word, 16))+word.means, w))
	}
	return lines
}
