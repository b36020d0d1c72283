package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	link    = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinksLeadSomewhere follows each relative link of the pages, to a file and to a heading in it.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := files(t, ".md")
	followed := 0
	for _, path := range pages {
		if path == "configs/internal/gendocs/preamble.md" { // a part of docs/config.md, whose links are followed
			continue
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, path), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			followed++
			if missing := broken(path, m[1]); missing != "" {
				t.Errorf("%s links to %s, but there is no %s", path, m[1], missing)
			}
		}
	}
	if followed < 100 {
		t.Errorf("only %d links found in %d pages", followed, len(pages))
	}
}

// TestBrokenLinksAreFound proves that each part of a link can fail.
func TestBrokenLinksAreFound(t *testing.T) {
	page := "docs/guard.md"
	for target, missing := range map[string]string{
		"limit.md": "", "#first-use": "", "limit.md#the-services-own-latency": "", "../README.md": "",
		"nowhere.md": "file", "#nowhere": "heading", "limit.md#nowhere": "heading",
	} {
		if got := broken(page, target); got != missing {
			t.Errorf("a link to %s lacks %q, expected %q", target, got, missing)
		}
	}
}

// broken returns what the target of a link lacks: a file, a heading, or nothing.
func broken(page, target string) (missing string) {
	file, anchor, _ := strings.Cut(target, "#")
	path := filepath.Join(root, page)
	if file != "" {
		path = filepath.Join(filepath.Dir(path), file)
	}
	if _, err := os.Stat(path); err != nil {
		return "file"
	}
	if anchor == "" || filepath.Ext(path) != ".md" {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "file"
	}
	if !anchors(string(text))[anchor] {
		return "heading"
	}
	return ""
}

// anchors are the names by which GitHub links to the headings of a page.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		text := link.ReplaceAllString(m[1], "")
		name := strings.ReplaceAll(strings.ToLower(dropped.ReplaceAllString(text, "")), " ", "-")
		for n, next := 1, name; names[name]; n++ { // a heading that is there twice gets a number
			name = next + "-" + strconv.Itoa(n)
		}
		names[name] = true
	}
	return names
}
