package plain

import (
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"github.com/prometheus/common/promslog"
)

// hostile are texts that a terminal would act on.
var hostile = []struct{ name, text, clean string }{
	{"color", "\x1b[31mred\x1b[0m alert", "red alert"},
	{"title", "\x1b]0;owned\aafter", "after"},
	{"cursor and erase", "a\x1b[2J\x1b[1;1Hb", "ab"},
	{"C1 control sequence", "a\u009b31mb", "a31mb"},
	{"C1 as a byte", "a\x9b31mb", "a\uFFFD31mb"},
	{"C1 operating system command", "a\u009d0;x\u009cb", "a0;xb"},
	{"device control string", "a\x1bPq...\x1b\\b", "ab"},
	{"bell, backspace, delete", "a\ab\b\x7fc", "abc"},
	{"a forged line", "ok\r\nlevel=info msg=forged", "ok  level=info msg=forged"},
	{"line separator", "a\u2028b\u2029c\u0085d", "abcd"},
	{"bidirectional override", "a\u202eb\u2066c", "abc"},
	{"tags beyond the first plane", "a\U000E0041b", "ab"},
	{"not UTF-8", "a\xff\xfeb", "a\uFFFDb"},
	{"plain", "mean 148 ms > setpoint 112 ms", "mean 148 ms > setpoint 112 ms"},
	{"other scripts", "größer 日本語 é", "größer 日本語 é"},
}

func TestClean(t *testing.T) {
	for _, h := range hostile {
		if got := Clean(h.text); got != h.clean {
			t.Errorf("%s: got %q, want %q", h.name, got, h.clean)
		}
	}
}

func FuzzCleanLeavesNothingToActOn(f *testing.F) {
	for _, h := range hostile {
		f.Add(h.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsFunc(Clean(s), func(r rune) bool {
			return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
		}) {
			t.Errorf("%q: %q keeps a character that is not for the eye", s, Clean(s))
		}
		if again := Clean(Clean(s)); again != Clean(s) {
			t.Errorf("%q: %q is cleaned again to %q", s, Clean(s), again)
		}
	})
}

func TestWriterKeepsLines(t *testing.T) {
	var b strings.Builder
	const text = "one \x1b[31mred\x1b[0m\n\ttwo\n"
	if n, err := NewWriter(&b).Write([]byte(text)); n != len(text) || err != nil || b.String() != "one red\n two\n" {
		t.Errorf("wrote %d, %v: %q", n, err, &b)
	}
}

// A log line is one line, shows no control character, and in JSON keeps the original text.
func TestLogs(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		for _, h := range hostile {
			var b strings.Builder
			config := &promslog.Config{Format: promslog.NewFormat(), Writer: NewLogWriter(&b)}
			if err := config.Format.Set(format); err != nil {
				t.Fatal(err)
			}
			promslog.New(config).Warn("hold", "reason", h.text, slog.Group("from", h.text, h.text))
			line, more := b.String(), ""
			if line, more, _ = strings.Cut(line, "\n"); more != "" || strings.ContainsFunc(line, hidden) {
				t.Errorf("%s, %s: %q", format, h.name, &b)
			}
			if format == "logfmt" {
				continue
			}
			var said struct{ Reason string }
			if err := json.Unmarshal([]byte(line), &said); err != nil || said.Reason != strings.ToValidUTF8(h.text, "\uFFFD") &&
				!strings.Contains(h.name, "UTF-8") {
				t.Errorf("%s: reads as %q, %v", h.name, said.Reason, err)
			}
		}
	}
}

// A library repeats what it could not parse, with the password. Neither a log nor an error may show it.
func TestCredentialsInURLsAreHidden(t *testing.T) {
	for text, want := range map[string]string{
		`parse "http://u:hunter2@host:8500": bad`:       `parse "http://***@host:8500": bad`,
		"--upstream=http://u:p/w@ss@host and a@b":       "--upstream=http://***@host and a@b",
		"https://token@host, unix://u:p@x":              "https://***@host, unix://***@x",
		"put them in https://user:password@host:port":   "put them in https://user:password@host:port",
		"http://host:8500/v1 answers 404, ask ana@host": "http://host:8500/v1 answers 404, ask ana@host",
	} {
		if got := WithoutCredentials(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		var log, out strings.Builder
		io.WriteString(NewLogWriter(&log), text)
		io.WriteString(NewWriter(&out), text)
		if log.String() != want || out.String() != want {
			t.Errorf("%s: the log has %s, the output %s; want %s", text, log.String(), out.String(), want)
		}
	}
}
