package wire

import (
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

var inHeaders = Names{
	Context: "Context", Alike: "context_", Baggage: "Baggage", Criticality: "Criticality", Key: "Key", Attempt: "Attempt",
}

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// What a request says under a key of its own wins, and of a stranger counts only what makes a service do less for him.
func TestArrival(t *testing.T) {
	of := func(c guard.Criticality, key string) Context {
		return Context{Arrival: guard.Arrival{Criticality: c, Key: key}}
	}
	marked := func(c Context, attempt int) Context {
		c.Marked, c.Attempt = true, attempt
		return c
	}
	nothing := of(guard.Default, "")
	for name, x := range map[string]struct {
		says               map[string][]string
		believed, stranger Context
	}{
		"nothing":           {nil, nothing, nothing},
		"a context":         {map[string][]string{"Context": {"crit=critical;key=ann;attempt=2"}}, marked(of(guard.Critical, "ann"), 2), nothing},
		"baggage":           {map[string][]string{"Baggage": {"guard-context=key%3Dann"}}, of(guard.Default, "ann"), nothing},
		"keys of their own": {map[string][]string{"Context": {"crit=critical;key=ann"}, "Criticality": {"sheddable"}, "Key": {"bob"}}, of(guard.Sheddable, "bob"), of(guard.Sheddable, "")},
		"to matter more":    {map[string][]string{"Criticality": {"critical"}}, of(guard.Critical, ""), nothing},
		"both":              {map[string][]string{"Criticality": {"critical", "background"}, "Key": {"ann", "bob"}}, of(guard.Background, ""), of(guard.Background, "")},
		"a mark":            {map[string][]string{"Context": {"attempt=2"}, "Attempt": {"1"}}, marked(nothing, 1), marked(nothing, 1)},
		"something":         {map[string][]string{"Criticality": {"urgent"}, "Attempt": {"x"}}, marked(nothing, 0), marked(nothing, 0)},
	} {
		for stranger, want := range map[bool]Context{false: x.believed, true: x.stranger} {
			if got := inHeaders.Arrival(func(key string) []string { return x.says[key] }, stranger); got != want {
				t.Errorf("%s, stranger %v: %+v, expected %+v", name, stranger, got, want)
			}
		}
	}
}

// A trace gives a place to a request that nothing else gives one.
func TestFollowTrace(t *testing.T) {
	place := TraceRank(traceparent)
	for _, x := range []struct {
		says  Context
		trace []string
		want  guard.Rank
	}{
		{Context{}, []string{traceparent}, place},
		{Context{}, []string{traceparent, traceparent}, guard.Rank{}},
		{Context{Arrival: guard.Arrival{Key: "ann"}}, []string{traceparent}, guard.Rank{}},
		{Context{Arrival: guard.Arrival{Rank: guard.Rank{Place: 7, Drawn: true}}}, []string{traceparent}, guard.Rank{Place: 7, Drawn: true}},
	} {
		got := x.says
		if got.FollowTrace(x.trace); got.Rank != x.want {
			t.Errorf("%+v of %v: %+v, expected %+v", x.says, x.trace, got.Rank, x.want)
		}
	}
}

func TestParseAttempt(t *testing.T) {
	for value, want := range map[string]int{
		"0": 0, "1": 1, "99": 99, "100": 0, "256": 0, "-1": 0, "": 0, "x": 0, "1e1": 0, "18446744073709551616": 0,
	} {
		if n := ParseAttempt(value); n != want {
			t.Errorf("%q: attempt %d, expected %d", value, n, want)
		}
	}
}

// Whatever the mark contains, its attempt is in range.
func FuzzAttempt(f *testing.F) {
	for _, seed := range []string{"", "0", "7", "100", "-1", "0x1", " 1", "٣", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if n := ParseAttempt(value); n < 0 || n > 99 {
			t.Errorf("%q: attempt %d", value, n)
		}
	})
}
