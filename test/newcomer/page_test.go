package newcomer

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const root = "../.."

// page is a page of the manual.
type page struct{ name, text string }

func read(name string) (page, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	return page{name, string(text)}, err
}

// block returns the code block that the page introduces by the given words: a language, and a name if there are several.
func (p page) block(words string) (string, error) {
	_, rest, found := strings.Cut(p.text, "\n```"+words+"\n")
	block, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		return "", fmt.Errorf("docs/%s shows no block %q", p.name, words)
	}
	return block + "\n", nil
}

// command returns the only line of a block that starts with the given words.
func (p page) command(words, start string) (string, error) {
	block, err := p.block(words)
	if err != nil {
		return "", err
	}
	var found []string
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, start) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("block %q of docs/%s has %d lines that start with %q, want 1", words, p.name, len(found), start)
	}
	return found[0], nil
}

// address matches the addresses that the page uses for whatever runs.
var address = regexp.MustCompile(`localhost:\d+`)
