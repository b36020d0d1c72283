// Package golden compares the output of programs with files: expected texts, which one flag rewrites so that git shows
// the changes, and published JSON schemas.
//
//	go test ./cmd/govtop/ui -update
package golden

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/jsonschema-go/jsonschema"
)

// Update says whether to rewrite the files instead of comparing.
var Update = flag.Bool("update", false, "rewrite the files that tests compare with")

// File compares got with the file at path, or writes it there.
func File(t testing.TB, path, got string) {
	t.Helper()
	if *Update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; go test -update rewrites it\n%s", path, differences(got, string(want)))
	}
}

// Section compares got with the part of the file at path between the markers <!-- name --> and <!-- /name -->, or
// writes it there: the generated part of a page.
func Section(t testing.TB, path, name, got string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, found := strings.Cut(string(raw), begin)
	part, after, closed := strings.Cut(rest, end)
	switch {
	case !found || !closed:
		t.Fatalf("%s has no part %s: it begins with %q and ends with %q", path, name, begin, end)
	case part == got:
	case *Update:
		if err := os.WriteFile(path, []byte(before+begin+got+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the part %s of %s has changed; go test -update rewrites it\n%s", name, path, differences(got, part))
	}
}

// differences lists the first lines that differ, with their numbers.
func differences(got, want string) string {
	const most = 10
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	line := func(lines []string, i int) string {
		if i < len(lines) {
			return lines[i]
		}
		return "(nothing)"
	}
	var text strings.Builder
	found := 0
	for i := range max(len(a), len(b)) {
		if line(a, i) == line(b, i) {
			continue
		}
		if found++; found <= most {
			fmt.Fprintf(&text, "line %d\n  got  %s\n  want %s\n", i+1, line(a, i), line(b, i))
		}
	}
	if found > most {
		fmt.Fprintf(&text, "and %d more lines\n", found-most)
	}
	return text.String()
}

// Frame returns the text of a screen, without colors and trailing blanks.
func Frame(screen string) string {
	var text strings.Builder
	for line := range strings.SplitSeq(ansi.Strip(screen), "\n") {
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return text.String()
}

// Schema returns the JSON schema at path.
func Schema(t testing.TB, path string) *jsonschema.Resolved {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// Fits says how a document violates the JSON schema at path.
func Fits(t testing.TB, path string, document []byte) error {
	t.Helper()
	var value any
	if err := json.Unmarshal(document, &value); err != nil {
		t.Fatal(err)
	}
	return Schema(t, path).Validate(value)
}
