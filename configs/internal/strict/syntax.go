package strict

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse reads the single YAML document in data. It returns nil and a Problem if there is none.
func parse(data []byte) (*yaml.Node, *Problem) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, &Problem{Line: 1, Column: 1, Text: "the file is empty"}
	case err != nil:
		return nil, locate(data, err)
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, locate(data, err)
	default:
		return nil, &Problem{
			Line: second.Line, Column: second.Column,
			Text: "a second YAML document starts here; expected one document in the file",
		}
	}
	return doc.Content[0], nil
}

var yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// complaint returns the YAML parser's complaint about data, without its line number: the parser counts some kinds of
// error from zero and reports others at the start of the enclosing block.
func complaint(data []byte) string {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		switch err := dec.Decode(&n); {
		case errors.Is(err, io.EOF):
			return ""
		case err != nil:
			return yamlPrefix.ReplaceAllString(err.Error(), "")
		}
	}
}

// locate turns a YAML parser's error into a Problem. A parser stops at the first offense, so the offending line is the
// last line of the shortest beginning of the file that causes the same complaint.
func locate(data []byte, err error) *Problem {
	text := yamlPrefix.ReplaceAllString(err.Error(), "")
	lines := bytes.SplitAfter(data, []byte("\n"))
	n := 1 + sort.Search(len(lines)-1, func(i int) bool {
		return complaint(bytes.Join(lines[:i+1], nil)) == text
	})
	line := string(lines[n-1])
	indent := len(line) - len(strings.TrimLeft(line, " "))
	p := &Problem{Line: n, Column: indent + 1, Text: "not YAML: " + text}
	switch {
	case strings.HasPrefix(line[indent:], "\t"):
		p.Text = "a tab in the indentation; expected spaces"
	case strings.HasPrefix(text, "unknown anchor"):
		// YAML names the anchor, which may be a password that starts with a star.
		p.Text = "an alias of an anchor that does not exist; put text that starts with * in quotes"
	}
	return p
}
