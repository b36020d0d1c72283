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
	footer string // how the footer tells of it; "": not at all
	do     func(m *Model) tea.Cmd
}

// commands is the key map.
func commands() []command {
	bind := func(keys, footer, does string, do func(m *Model) tea.Cmd) command {
		names := strings.Fields(keys)
		return command{key.NewBinding(key.WithKeys(names...), key.WithHelp(strings.Join(names, ", "), does)), footer, do}
	}
	move := func(delta func(m *Model) int) func(m *Model) tea.Cmd {
		return func(m *Model) tea.Cmd {
			switch {
			case m.help:
				m.helpTop = min(max(m.helpTop+delta(m), 0), max(len(help(m.width))-(m.height-1), 0))
			case m.data != nil:
				m.overview.move(m.data.Loops, delta(m), m.tableLines())
			}
			return nil
		}
	}
	return []command{
		bind("up k", "", "the loop above", move(func(*Model) int { return -1 })),
		bind("down j", "up/down", "the loop below", move(func(*Model) int { return 1 })),
		bind("pgup ctrl+b", "", "a page up", move(func(m *Model) int { return -m.page() })),
		bind("pgdown ctrl+f", "", "a page down", move(func(m *Model) int { return m.page() })),
		bind("home g", "", "the first loop", move(func(*Model) int { return -most })),
		bind("end G", "", "the last loop", move(func(*Model) int { return most })),
		bind("?", "? help", "this help, and back", func(m *Model) tea.Cmd { m.show(!m.help); return nil }),
		bind("esc", "", "back to the loops", func(m *Model) tea.Cmd { m.show(false); return nil }),
		bind("ctrl+z", "", "suspend govtop; fg brings it back", func(*Model) tea.Cmd { return tea.Suspend }),
		bind("q ctrl+c", "q quit", "quit", func(*Model) tea.Cmd { return tea.Quit }),
	}
}

// most is further than any list goes.
const most = 1 << 30

// page is how far a page key moves: in the help a screen of it.
func (m *Model) page() int {
	if m.help {
		return m.height - 1
	}
	return m.tableLines()
}

// show opens the help at its top, or closes it.
func (m *Model) show(help bool) { m.help, m.helpTop = help, 0 }

// press does what the key map says about a key; other keys do nothing.
func (m *Model) press(k tea.KeyPressMsg) tea.Cmd {
	for _, c := range commands() {
		if key.Matches(k, c.Binding) {
			return c.do(m)
		}
	}
	return nil
}

func footer(w int) string {
	segments := []string{}
	for _, c := range commands() {
		if c.footer != "" {
			segments = append(segments, c.footer)
		}
	}
	return paint(dim, spread(w, "   ", segments...))
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
