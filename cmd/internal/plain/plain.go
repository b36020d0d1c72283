// Package plain makes text from elsewhere safe to show: what Prometheus, Consul, a key in the KV or another person
// said. Such text must not be able to move the cursor, to color what follows, to set a terminal's title, or to make a
// line read as another one.
package plain

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/charmbracelet/x/ansi"
)

// Clean makes a string safe to print on one line: escape sequences and control characters go, so do invisible format
// characters (bidirectional overrides could make a line read as another one, joiners are measured differently by
// different terminals); line breaks and tabs become spaces.
func Clean(s string) string {
	if isASCII(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, s)
	s = ansi.Strip(s)
	return strings.Map(func(r rune) rune {
		if hidden(r) || unicode.Is(unicode.Variation_Selector, r) {
			return -1
		}
		return r
	}, s)
}

// Lines cleans a text of several lines, each by itself.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
	}
	return strings.Join(lines, "\n")
}

// NewWriter returns a writer to w that cleans every line of what is written. Write it whole lines, or parts of them
// that end where no foreign text does.
func NewWriter(w io.Writer) io.Writer { return writer{w, Lines} }

// NewLogWriter returns a writer to w, for a log, that writes what Clean would drop as an escape, \u009b: a log keeps
// what was said. Inside a JSON string that is the same character; slog's text form has quoted all of these already.
func NewLogWriter(w io.Writer) io.Writer { return writer{w, escape} }

type writer struct {
	to   io.Writer
	safe func(string) string
}

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.to, w.safe(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func escape(s string) string {
	if !strings.ContainsFunc(s, escaped) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !escaped(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r) // as JSON's escapes want it
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func escaped(r rune) bool { return r != '\n' && hidden(r) }

// hidden says whether a terminal acts on r, or shows nothing of it.
func hidden(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// isASCII says whether s is printable ASCII and nothing else.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
