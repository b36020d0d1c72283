// Package plain makes foreign text safe to show: text from Prometheus, from Consul, from a key in the KV or from
// another person. Such text must not move the cursor, color what follows, set a terminal's title, or make a line read
// as another one.
package plain

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/charmbracelet/x/ansi"
)

// Clean makes a string safe to print on one line. It removes escape sequences, control characters and invisible format
// characters: bidirectional overrides could make a line read as another one, and terminals disagree about the width of
// joiners. Line breaks and tabs become spaces.
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

// Lines cleans a text of several lines, line by line.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
	}
	return strings.Join(lines, "\n")
}

// NewWriter returns a writer to w that cleans every line, and hides credentials in URLs. Write whole lines to it, or parts that do not end inside
// foreign text.
func NewWriter(w io.Writer) io.Writer {
	return writer{w, func(s string) string { return WithoutCredentials(Lines(s)) }}
}

// NewLogWriter returns a writer to w, for a log. It escapes what Clean would drop, as \u009b: a log keeps the original
// text. In a JSON string that is the same character; slog's text form has already quoted all of these. It hides
// credentials in URLs.
func NewLogWriter(w io.Writer) io.Writer {
	return writer{w, func(s string) string { return WithoutCredentials(escape(s)) }}
}

// placeholder is what advice shows in place of credentials.
const placeholder = "user:password@"

// credentials are those in a URL. A password may contain anything that a person forgot to escape.
var credentials = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]*@`)

// WithoutCredentials hides user and password in all URLs of a text: http://***@host. Addresses with credentials are
// refused or split where they are read; this is for errors of libraries that repeat what they could not parse.
func WithoutCredentials(text string) string {
	if !strings.Contains(text, "://") || !strings.Contains(text, "@") {
		return text
	}
	return credentials.ReplaceAllStringFunc(text, func(url string) string {
		scheme, secret, _ := strings.Cut(url, "://")
		if secret == placeholder {
			return url
		}
		return scheme + "://***@"
	})
}

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

// hidden says whether a terminal acts on r or shows nothing for it.
func hidden(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// isASCII says whether s is printable ASCII only.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
