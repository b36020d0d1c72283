package control

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func anyReading(t *rapid.T, label string) Reading {
	if rapid.Bool().Draw(t, label+" known") {
		return Read(rapid.Float64().Draw(t, label))
	}
	return Missing(rapid.SampledFrom([]Reason{Stale, ManySeries, ""}).Draw(t, label+" reason"), label)
}

// Unknown in, unknown out, with the reason of the first unknown operand; a value that is not finite is never known.
func TestReadingArithmeticKeepsTheUnknown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyReading(t, "a"), anyReading(t, "b")
		for name, got := range map[string]Reading{
			"plus": a.Plus(b), "less": a.Less(b), "times": a.Times(b), "over": a.Over(b, "none"), "share": a.ShareOf(b),
		} {
			v, known := got.Value()
			why, _ := got.Why()
			switch {
			case known != (why == ""):
				t.Fatalf("%s: known %v, and the reason is %q", name, known, why)
			case known && (math.IsNaN(v) || math.IsInf(v, 0)):
				t.Fatalf("%s of %v and %v is %v", name, a, b, v)
			case known && !(a.Known() && b.Known()):
				t.Fatalf("%s of %v and %v is known", name, a, b)
			}
			of := a
			if a.Known() {
				of = b
			}
			if want, _ := of.Why(); want != "" && why != want {
				t.Fatalf("%s of %v and %v is missing because of %q, want %q", name, a, b, why, want)
			}
		}
		if v := a.Less(b).Or(0); v < 0 {
			t.Fatalf("less: %v", v)
		}
		if v := a.ShareOf(b).Or(0); v > 1 {
			t.Fatalf("share: %v", v)
		}
	})
}

func TestReadingOverNothing(t *testing.T) {
	why, detail := Read(3).Over(Read(0), "nothing completed").Why()
	if why != NoData || detail != "nothing completed" {
		t.Errorf("3/0: %s, %q", why, detail)
	}
	if got := Read(3).Over(Read(2), "").Float(); got != 1.5 {
		t.Errorf("3/2 = %v", got)
	}
}

// An unknown reading satisfies no comparison, so no condition written with one can loosen a knob.
func TestUnknownComparesAsNothing(t *testing.T) {
	for _, r := range []Reading{{}, Read(math.NaN()), Missing(Stale, "")} {
		if r.Above(-1) || r.AtLeast(-1) || r.Below(1) || r.AtMost(1) {
			t.Errorf("%v compares", r)
		}
		if !math.IsNaN(r.Float()) || r.Number().Known() {
			t.Errorf("%v has a value", r)
		}
	}
	if r := Read(1); !r.Above(0.5) || !r.AtLeast(1) || !r.Below(2) || !r.AtMost(1) || r.Above(1) || r.Below(1) {
		t.Error("1 compares wrongly")
	}
}
