package wire

import (
	"fmt"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// The place comes from the trace id alone, as printf 4bf92f3577b34da6a3ce929d0e0e4736 | sha256sum | head -c 8 says.
func TestTraceRank(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	want := guard.Rank{Place: 0x398acaee, Drawn: true}
	for text, want := range map[string]guard.Rank{
		"00-" + id + "-00f067aa0ba902b7-01":                              want,
		"00-" + id + "-00f067aa0ba902b8-00":                              want,
		"cc-" + id + "-00f067aa0ba902b7-01-more":                         want,
		"cc-" + id + "-00f067aa0ba902b7-01":                              want,
		"":                                                               {},
		"00-" + id + "-00f067aa0ba902b7-0":                               {},
		"00-" + id + "-00f067aa0ba902b7-01-more":                         {},
		"cc-" + id + "-00f067aa0ba902b7-01more":                          {},
		"ff-" + id + "-00f067aa0ba902b7-01":                              {},
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":        {},
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":        {},
		"00-" + id + "-0000000000000000-01":                              {},
		"00_" + id + "-00f067aa0ba902b7-01":                              {},
		"00-" + id + "-00f067aa0ba902bx-01":                              {},
		"00-" + id + "-00f067aa0ba902b7-0x":                              {},
		"00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01-------": {},
	} {
		if got := TraceRank(text); got != want {
			t.Errorf("%q: %+v, expected %+v", text, got, want)
		}
	}
}

// Places are spread evenly, even if a system counts its traces.
func TestTraceRanksAreUniform(t *testing.T) {
	const tens, each = 10, 1000
	var seen [tens]int
	for n := range tens * each {
		seen[uint64(TraceRank(fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", n+1)).Place)*tens>>32]++
	}
	for i, n := range seen {
		if n < each-150 || n > each+150 { // five standard deviations
			t.Errorf("%d of %d places in tenth %d", n, tens*each, i)
		}
	}
}
