package ui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

// helpEntry is one line of the help, under a heading.
type helpEntry struct {
	heading string
	term    string
	tone    tone
	means   string
}

// helpEntries are all entries: the key map, then how to read the screen.
func (m *Model) helpEntries() []helpEntry {
	var all []helpEntry
	commands := m.commands()
	for _, g := range groups {
		for i, c := range commands {
			same := func(o command) bool { return o.group == g && o.Help() == c.Help() }
			if c.group != g || slices.IndexFunc(commands, same) < i {
				continue // already listed
			}
			on := c.on
			for _, o := range commands[i:] {
				if same(o) {
					on |= o.on
				}
			}
			all = append(all, helpEntry{heading: g, term: c.Help().Key, means: c.Help().Desc + where(on)})
		}
	}
	for _, s := range states {
		w := wordOf(s)
		all = append(all, helpEntry{"States", w.glyph + " " + w.word, w.tone, w.means})
	}
	for _, c := range columns {
		all = append(all, helpEntry{heading: "Columns", term: c.title, means: c.means})
	}
	for _, o := range orders {
		all = append(all, helpEntry{heading: "Sorting", term: o.name, means: o.means})
	}
	return all
}

// where names the screens where a key works, unless it works on all that show data.
func where(on place) string {
	if on&onData == onData || on&(inFilter|inSearch) != 0 {
		return ""
	}
	var names []string
	for _, s := range []struct {
		place
		name string
	}{{onLoops, "loops"}, {onLoop, "detail"}, {onDecisions, "decisions"}, {onHealth, "health"}, {onHelp, "help"}} {
		if on&s.place != 0 {
			names = append(names, s.name)
		}
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// help is the text of the help screen. A search keeps only the lines that contain its words.
func (m *Model) help(w int) []string {
	var lines []string
	heading := ""
	for _, e := range m.helpEntries() {
		text := strings.ToLower(e.heading + " " + e.term + " " + e.means)
		if !containsAll(text, strings.Fields(strings.ToLower(m.search))) {
			continue
		}
		if e.heading != heading {
			if heading = e.heading; len(lines) > 0 {
				lines = append(lines, "")
			}
			lines = append(lines, bold.Render(e.heading))
		}
		const termCells = 15
		for i, line := range fit.WrapTo(e.means, w-termCells-4, 3) {
			term := strings.Repeat(" ", termCells)
			if i == 0 {
				term = paint(e.tone, fit.Left(e.term, termCells))
			}
			lines = append(lines, fit.Clip("  "+term+" "+line, w))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, paint(dim, "no line of the help matches"))
	}
	return lines
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// helpRoom is the number of lines for the help on the screen.
func (m *Model) helpRoom() int { return max(m.height-2, 1) }

// helpScreen fills the whole screen. If the help does not fit, the title says which lines show.
func (m *Model) helpScreen(w, h int) []string {
	all, room := indent(m.help(w-2)), m.helpRoom()
	top := min(m.helpTop, max(len(all)-room, 0))
	title := bold.Render("Help") + "  Keys, states, columns, sorting"
	switch {
	case m.prompt.in == inSearch:
		title = bold.Render("Help") + "  /" + m.prompt.line.render(min(fit.Width(m.prompt.line.text())+1, w/3), true)
	case m.search != "":
		title = bold.Render("Help") + "  search:" + fit.Clip(m.search, w/3)
	}
	if len(all) > room {
		title += fmt.Sprintf("  lines %d-%d of %d", top+1, min(top+room, len(all)), len(all))
	}
	out := append([]string{rule(title, w)}, fitted(slices.Clone(all[top:]), room)...)
	return append(out, " "+m.footer(w-2))
}
