package suggest

import "testing"

func TestSuggest(t *testing.T) {
	names := []string{"latency", "objective", "errors", "min", "max"}
	for s, want := range map[string]string{
		"latencey": "latency", "latnecy": "latency", "error": "errors", "objectvie": "objective", "mix": "min", "mn": "min",
		"targt": "", "": "", "l": "", "latency_seconds": "",
	} {
		if got := Nearest(s, names); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abcdef", "abdcef", 1}} {
		if got, back := distance(tt.a, tt.b), distance(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("distance(%q, %q) = %d and back %d, want %d", tt.a, tt.b, got, back, tt.want)
		}
	}
}
