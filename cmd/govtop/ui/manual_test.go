package ui

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/test/golden"
)

const manualPath = "../../../docs/govtop.md"

// TestManual compares the parts of the manual that the program can generate: the screen, the keys, and the tables of
// states and orders. go test -update rewrites them.
func TestManual(t *testing.T) {
	m := screen(120, 30, scenes()["mixed"]...)
	golden.Section(t, manualPath, "screen", "```\n"+frame(m)+"```\n")
	families := screen(80, 24, scenes()["routes"]...)
	golden.Section(t, manualPath, "routes", "```\n"+bare(families.overview.render(nil, fixture.Now, 80, 9, false))+"```\n")
	golden.Section(t, manualPath, "keys", keysTable(&m))
	golden.Section(t, manualPath, "states", table(&m, "state", "States"))
	golden.Section(t, manualPath, "orders", table(&m, "sort", "Sorting"))
	raw, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	f := newFleet(Snapshot{Loops: fixture.Loops()})
	var widths []string
	for w := 140; w > 60; w-- {
		if now, before := columnsAt(w, f), columnsAt(w+1, f); now < before {
			widths = append(widths, strconv.Itoa(w+1))
		}
	}
	leave := "below " + strings.Join(widths[:lastDropped-1], ", ") + " and " + widths[lastDropped-1] + " columns"
	if !strings.Contains(text, leave) {
		t.Errorf("%s does not say that columns leave %s", manualPath, leave)
	}
	for _, c := range columns {
		if !strings.Contains(text, "`"+c.title+"`") {
			t.Errorf("%s does not explain the column %s", manualPath, c.title)
		}
	}
}

func columnsAt(w int, f *fleet) int {
	chosen, _ := layout(w, f, sparks{})
	return len(chosen)
}

// keysTable is the key map as shown in the help.
func keysTable(m *Model) string {
	var b strings.Builder
	heading := ""
	for _, e := range m.helpEntries() {
		if !slices.Contains(groups, e.heading) {
			continue
		}
		if e.heading != heading {
			fmt.Fprintf(&b, "| **%s** | |\n", e.heading)
			if heading == "" {
				b.WriteString("|---|---|\n")
			}
			heading = e.heading
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(e.term, ", ", "` `"), e.means)
	}
	return b.String()
}

func table(m *Model, title, heading string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | meaning |\n|---|---|\n", title)
	for _, e := range m.helpEntries() {
		if e.heading == heading {
			fmt.Fprintf(&b, "| `%s` | %s |\n", e.term, e.means)
		}
	}
	return b.String()
}
