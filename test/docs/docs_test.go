package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/test/programs"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFirstUseOfGuardBuilds follows docs/guard.md: it writes the page's program into a folder next to governor, as a
// separate module, and runs the page's commands there.
func TestFirstUseOfGuardBuilds(t *testing.T) {
	sh := programs.Find(t, "sh")
	_, section, _ := strings.Cut(read(t, "docs/guard.md"), "\n## First use\n")
	section, _, _ = strings.Cut(section, "\n## ")
	program, commands := block(t, section, "go"), block(t, section, "sh")

	governor, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(governor, filepath.Join(dir, "governor")); err != nil {
		t.Fatal(err)
	}
	checkout := filepath.Join(dir, "checkout")
	if err := os.Mkdir(checkout, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"main.go": program,
		// The sums are known here, so nothing has to be downloaded.
		"go.sum": read(t, "actuators/go.sum"),
	} {
		if err := os.WriteFile(filepath.Join(checkout, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), sh, "-ec", commands)
	cmd.Dir = checkout
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestGoIsFromExamples looks for all Go code of the pages on the patterns and the bindings in examples, which are compiled and
// run.
func TestGoIsFromExamples(t *testing.T) {
	var examples strings.Builder
	for _, path := range []string{
		"actuators/guard/example_test.go", "actuators/guard/watch_example_test.go", "actuators/guard/guardgrpc/example_test.go",
		"actuators/guard/guardhttp/example_test.go", "actuators/guard/guardotel/guardotel_test.go",
		"actuators/source/example_test.go", "test/bindings/example_test.go",
	} {
		examples.WriteString(flat(read(t, path)))
	}
	for _, page := range []string{"backoff", "bindings", "breaker", "bulkhead", "rate-limit", "shedding"} {
		page = "docs/" + page + ".md"
		blocks := regexp.MustCompile("(?s)\n```go\n(.*?)```\n").FindAllStringSubmatch(read(t, page), -1)
		if len(blocks) == 0 {
			t.Errorf("%s shows no Go code", page)
		}
		for _, m := range blocks {
			if !strings.Contains(examples.String(), flat(m[1])) {
				t.Errorf("%s shows code that no example contains:\n%s", page, m[1])
			}
		}
	}
}

// flat is Go code without its indents.
func flat(code string) string { return regexp.MustCompile(`(?m)^\s+`).ReplaceAllString(code, "") }

// block returns the first code block of a language.
func block(t *testing.T, text, language string) string {
	t.Helper()
	m := regexp.MustCompile("(?s)\n```" + language + "\n(.*?)```\n").FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no block of %s", language)
	}
	return m[1]
}

// TestDocumentationNamesTheGoThatModulesNeed compares the Go version in the documentation with the one in go.mod.
func TestDocumentationNamesTheGoThatModulesNeed(t *testing.T) {
	for page, module := range map[string]string{
		"README.md":       "go.mod",
		"CONTRIBUTING.md": "go.mod",
		"docs/guard.md":   "actuators/go.mod",
	} {
		m := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, module))
		if m == nil {
			t.Fatalf("%s names no Go version", module)
		}
		for _, named := range regexp.MustCompile(`1\.\d+(\.\d+)? or newer`).FindAllString(read(t, page), -1) {
			if named != m[1]+" or newer" {
				t.Errorf("%s says Go %s, %s says %s", page, named, module, m[1])
			}
		}
		if !strings.Contains(read(t, page), m[1]+" or newer") {
			t.Errorf("%s does not say Go %s or newer", page, m[1])
		}
	}
}
