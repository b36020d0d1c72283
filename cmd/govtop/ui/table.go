package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// WriteTable writes the snapshot as plain text: every column, every loop, its reason below it.
func WriteTable(w io.Writer, s Snapshot) error {
	s = clean(s)
	const wide = 1 << 15
	now := s.Status.Now
	var text strings.Builder
	line := func(l string) { fmt.Fprintln(&text, strings.TrimRight(ansi.Strip(l), " ")) }

	line(spread(wide, "   ", leadership(s.Status), dependency("prom", s.Status.Prometheus),
		dependency("consul", s.Status.Consul), configured(s.Status), governor(s.Status)))
	for _, t := range troubles(s.Status) {
		line(t)
	}
	f := newFleet(s)
	f.flatten()
	line(counts(f, wide))
	if len(s.Loops) > 0 {
		line("")
	}
	table := overview{}
	table.show(byName, false, Filter{})
	table.settle(f, len(s.Loops))
	table.index = -1 // a printed table has no cursor
	for i, row := range table.render(nil, now, wide, len(s.Loops), false) {
		if len(s.Loops) == 0 {
			break
		}
		line(row)
		if i > 0 && s.Loops[i-1].Decision.Reason != "" {
			line("     " + s.Loops[i-1].Decision.Reason)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
