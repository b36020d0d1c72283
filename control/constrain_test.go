package control

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestConstraint(t *testing.T) {
	base := Constraint{Deadband: 0.05, RaiseMax: 0.2, CutMax: 0.7, Min: 20, Max: 400, Whole: true}
	with := func(f func(*Constraint)) Constraint { c := base; f(&c); return c }
	for _, tc := range []struct {
		name      string
		c         Constraint
		from, raw float64
		want      float64
		bound     string
	}{
		{"free move", base, 100, 90, 90, ""},
		{"deadband", base, 100, 103, 100, BoundDeadband},
		{"slew down", base, 100, 1, 50, BoundSlew},
		{"slew up", base, 100, 1000, 122, BoundSlew},
		{"min", base, 30, 1, 20, BoundMin},
		{"max", base, 390, 600, 400, BoundMax},
		{"floor stops a cut", with(func(c *Constraint) { c.Floor = 80 }), 100, 60, 80, BoundFloor},
		{"floor never raises", with(func(c *Constraint) { c.Floor = 150 }), 100, 60, 100, BoundFloor},
		{"tighten only", with(func(c *Constraint) { c.NoRaise = BoundTighten }), 100, 200, 100, BoundTighten},
		{"tighten only cuts", with(func(c *Constraint) { c.NoRaise = BoundTighten }), 100, 90, 90, ""},
		{"changed bound", with(func(c *Constraint) { c.Max = 60 }), 100, 200, 60, BoundMax},
		{"not a number", base, 100, math.NaN(), 100, ""},
		{"infinite", base, 100, math.Inf(1), 122, BoundSlew},
		{"negative", base, 100, -5, 50, BoundSlew},
		{"fixed value", with(func(c *Constraint) { c.Min, c.Max = 50, 50 }), 50, 400, 50, BoundMax},
		{"small values move by one", with(func(c *Constraint) { c.Min = 1 }), 3, 3.3, 4, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, bound := tc.c.Apply(tc.from, tc.raw)
			if got != tc.want || bound != tc.bound {
				t.Errorf("Apply(%v, %v) = %v %q, want %v %q", tc.from, tc.raw, got, bound, tc.want, tc.bound)
			}
		})
	}
}

// TestConstraintProperties: whatever the law asks for, the result is finite, inside the bounds, and within the slew limit
// or one whole unit.
func TestConstraintProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := float64(rapid.IntRange(1, 1000).Draw(t, "min"))
		c := Constraint{
			Deadband: rapid.Float64Range(0, 0.4).Draw(t, "deadband"), RaiseMax: rapid.Float64Range(0.01, 1).Draw(t, "raise"),
			CutMax: rapid.Float64Range(0.01, 1).Draw(t, "cut"), Floor: rapid.Float64Range(0, 3000).Draw(t, "floor"),
			Min: lo, Max: lo + float64(rapid.IntRange(0, 2000).Draw(t, "span")),
			Whole: true, NoRaise: rapid.SampledFrom([]string{"", BoundTighten}).Draw(t, "never rise"),
		}
		from := float64(rapid.IntRange(int(c.Min), int(c.Max)).Draw(t, "from"))
		raw := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 4000),
			rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)})).Draw(t, "raw")
		got, _ := c.Apply(from, raw)
		switch {
		case math.IsNaN(got) || got < c.Min || got > c.Max:
			t.Fatalf("%v is outside %v..%v", got, c.Min, c.Max)
		case got != math.Trunc(got):
			t.Fatalf("%v is not whole", got)
		case got > from && c.NoRaise != "":
			t.Fatalf("raised %v to %v though it may only tighten", from, got)
		case got > from && got > max(from*math.Exp(c.RaiseMax)+1e-9, from+1), got < from && got < min(from*math.Exp(-c.CutMax)-1e-9, from-1):
			t.Fatalf("%v to %v is beyond the slew limit", from, got)
		}
	})
}
