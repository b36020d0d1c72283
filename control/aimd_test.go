package control

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAIMDOneDecreasePerCooldown(t *testing.T) {
	a := AIMD{Add: 1, AddShare: 0.02, Cooldown: 75 * time.Second}
	value, cuts := 400.0, 0
	for i := range 30 { // congested for 450 s, one sample every 15 s
		now := t0.Add(time.Duration(i) * 15 * time.Second)
		next, event := a.Step(now, value, true, false, value/2)
		if event == EventDecrease {
			cuts++
		}
		a.Track(now, value, next)
		value = next
	}
	if cuts != 6 {
		t.Errorf("%d cuts in 450 s with a cooldown of 75 s, want 6", cuts)
	}
}

// TestAIMDLostDecreaseCostsNoCooldown: a decrease whose write failed is tried again at once.
func TestAIMDLostDecreaseCostsNoCooldown(t *testing.T) {
	a := AIMD{Cooldown: time.Minute}
	for i := range 3 {
		now := t0.Add(time.Duration(i) * time.Second)
		if _, event := a.Step(now, 100, true, false, 50); event != EventDecrease {
			t.Fatalf("step %d: event %q, want %q: the one before was never in force", i, event, EventDecrease)
		}
		a.Track(now, 100, 100)
	}
	a.Step(t0.Add(4*time.Second), 100, true, false, 50)
	a.Track(t0.Add(4*time.Second), 100, 50)
	if _, event := a.Step(t0.Add(5*time.Second), 50, true, false, 25); event != EventCooldown {
		t.Errorf("event %q after a decrease in force, want %q", event, EventCooldown)
	}
}

// TestAIMDGrowsFromTheFloor: the step is max(1, share): 20 reaches 96 in at most 64 periods without rounding (A14;
// Netflix/concurrency-limits#147, vectordotdev/vector#3255).
func TestAIMDGrowsFromTheFloor(t *testing.T) {
	a := AIMD{Add: 1, AddShare: 0.02}
	value, n := 20.0, 0
	for ; value < 96; n++ {
		value, _ = a.Step(t0.Add(time.Duration(n)*time.Second), value, false, true, 0)
	}
	if n > 64 {
		t.Errorf("%d periods from 20 to 96, want at most 64", n)
	}
	if next, event := a.Step(t0, value, false, false, 0); next != value || event != "" {
		t.Errorf("moved to %v (%q) though neither congested nor binding", next, event)
	}
}

func TestAIMDProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := AIMD{Add: 1, AddShare: rapid.Float64Range(0, 1).Draw(t, "share"), Cooldown: 10 * time.Second}
		value := rapid.Float64Range(1, 1e6).Draw(t, "value")
		to := rapid.OneOf(rapid.Float64Range(-10, 1e7), rapid.Just(math.NaN())).Draw(t, "to")
		next, event := a.Step(t0, value, rapid.Bool().Draw(t, "congested"), rapid.Bool().Draw(t, "grow"), to)
		switch {
		case math.IsNaN(next):
			t.Fatal("NaN")
		case event == EventDecrease && next >= value, event == EventIncrease && next <= value, event == "" && next != value:
			t.Fatalf("%q moved %v to %v", event, value, next)
		}
	})
}
