package control

import (
	"testing"
	"time"
)

// TestInheritKeepsWhatWasLearned: with the same SLO, timing and tuning the new loops go on where the old ones stopped,
// inside their own bounds; otherwise they start from the values in force.
func TestInheritKeepsWhatWasLearned(t *testing.T) {
	all := checkout()
	all.Shed, all.Rate = &ShedSpec{}, &RateSpec{Min: 100, Max: 5000}
	old := newRig(t, all, 100)
	old.s.Restore(t0, KnobShed, InForce{Value: 0.5, Revision: 1})
	for range 20 {
		old.step(traffic(100).measurement())
	}
	m := traffic(100).measurement()
	m.At = old.now.Add(timing5.Period)

	bounded := all
	bounded.Concurrency = &ConcurrencySpec{Min: 20, Max: 50, Fallback: 30}
	bounded.Mode = Shadow
	slower := all
	slower.Timing.Window *= 2
	for _, tc := range []struct {
		name    string
		spec    Spec
		learned bool
		value   float64
	}{{"other bounds and mode", bounded, true, 50}, {"another window", slower, false, 100}} {
		s, err := NewLoopSet(tc.spec)
		if err != nil {
			t.Fatal(err)
		}
		s.Inherit(old.s)
		own := s.target.own.Seconds()
		ds := s.Step(m.At, m)
		for _, d := range ds {
			if held := d.State == Hold && d.HoldReason == Starting; held == tc.learned {
				t.Errorf("%s: %s %s", tc.name, d.Knob, d.Reason)
			}
		}
		if learned := own == old.s.target.own.Seconds(); learned != tc.learned {
			t.Errorf("%s: own latency %v, the old loops knew %v", tc.name, own, old.s.target.own.Seconds())
		}
		if got := float64(ds[0].Value); got != tc.value {
			t.Errorf("%s: the limit is %v, want %v", tc.name, got, tc.value)
		}
		if ds[1].From != 0.5 {
			t.Errorf("%s: the threshold starts from %v, in force is 0.5", tc.name, ds[1].From)
		}
	}
}

// A value that was never published comes from the configuration and follows its changes.
func TestInheritLeavesAnUnpublishedFallbackBehind(t *testing.T) {
	before, err := NewLoopSet(checkout())
	if err != nil {
		t.Fatal(err)
	}
	spec := checkout()
	spec.Concurrency = &ConcurrencySpec{Min: 20, Max: 400, Fallback: 200}
	after, err := NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	before.Step(t0, Measurement{})
	after.Inherit(before)
	if d := after.Step(t0.Add(5*time.Second), Measurement{})[0]; d.From != 200 {
		t.Errorf("starts from %v, want the new fallback of 200", d.From)
	}
}
