package fit

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestClipAndPad(t *testing.T) {
	for _, tc := range []struct {
		s                 string
		w                 int
		clip, left, right string
	}{
		{"checkout", 10, "checkout", "checkout  ", "  checkout"},
		{"checkout", 8, "checkout", "checkout", "checkout"},
		{"checkout", 5, "chec…", "chec…", "chec…"},
		{"checkout", 1, "…", "…", "…"},
		{"checkout", 0, "", "", ""},
		{"checkout", -3, "", "", ""},
		{"", 2, "", "  ", "  "},
		{"東京", 5, "東京", "東京 ", " 東京"},
		{"東京", 3, "東…", "東…", "東…"},
		{"東京", 2, "…", "… ", " …"},
		{"\x1b[1mbold\x1b[m", 5, "\x1b[1mbold\x1b[m", "\x1b[1mbold\x1b[m ", " \x1b[1mbold\x1b[m"},
	} {
		if got := Clip(tc.s, tc.w); got != tc.clip {
			t.Errorf("Clip(%q, %d): got %q, want %q", tc.s, tc.w, got, tc.clip)
		}
		if got := Left(tc.s, tc.w); got != tc.left {
			t.Errorf("Left(%q, %d): got %q, want %q", tc.s, tc.w, got, tc.left)
		}
		if got := Right(tc.s, tc.w); got != tc.right {
			t.Errorf("Right(%q, %d): got %q, want %q", tc.s, tc.w, got, tc.right)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		s    string
		w, n int
		want []string
	}{
		{"the limit stays", 20, 9, []string{"the limit stays"}},
		{"the limit stays", 9, 9, []string{"the limit", "stays"}},
		{"the limit stays", 9, 1, []string{"the limi…"}},
		{"try --web.listen-address=:1", 24, 9, []string{"try", "--web.listen-address=:1"}},
		{"a lengthy-word-of-18 b", 8, 9, []string{"a", "lengthy-", "word-of-", "18 b"}},
		{"a lengthy-word-of-18 b", 8, 2, []string{"a", "lengthy…"}},
		{"", 8, 9, []string{""}},
		{"word", 0, 9, nil},
		{"word", 8, 0, nil},
	} {
		if got := WrapTo(tc.s, tc.w, tc.n); !slices.Equal(got, tc.want) {
			t.Errorf("WrapTo(%q, %d, %d): got %q, want %q", tc.s, tc.w, tc.n, got, tc.want)
		}
	}
}

// TestWrapLosesNothing: every line fits, and together they are the whole text.
func TestWrapLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-z0-9.=/-]{1,12}|[東京]{1,3}`)).Draw(t, "words")
		w := rapid.IntRange(2, 30).Draw(t, "w")
		lines := Wrap(strings.Join(words, " "), w)
		for _, line := range lines {
			if Width(line) > w {
				t.Errorf("%q is wider than %d", line, w)
			}
		}
		if got, want := strings.ReplaceAll(strings.Join(lines, ""), " ", ""), strings.Join(words, ""); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
