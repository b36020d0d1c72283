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

// TestManual holds the parts of the manual that the program knows better to the program: the screen, the keys, and the
// tables of states, columns and orders. go test -update rewrites them.
func TestManual(t *testing.T) {
	raw, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	was := string(raw)
	text := was
	m := screen(120, 30, scenes()["mixed"]...)
	for name, part := range map[string]string{
		"screen": "```\n" + frame(m) + "```\n",
		"keys":   keysTable(&m),
		"states": table(&m, "state", "States"),
		"orders": table(&m, "sort", "Sorting"),
	} {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
		before, rest, found := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no part %s", manualPath, name)
		}
		text = before + begin + part + end + after
	}
	switch {
	case text == was:
	case *golden.Update:
		if err := os.WriteFile(manualPath, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not say what the program does; go test -update rewrites it", manualPath)
	}
	f := newFleet(Snapshot{Loops: fixture.Loops()})
	var widths []string
	for w := 120; w > 60; w-- {
		if now, before := columnsAt(w, f), columnsAt(w+1, f); now < before {
			widths = append(widths, strconv.Itoa(w+1))
		}
	}
	leave := "below " + strings.Join(widths[:4], ", ") + " and " + widths[4] + " columns"
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

// keysTable is the key map as it stands in the help.
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
