package control

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestResumeIsBumpless is A13 for a knob in manual at 40 for half an hour, overload all the while: the first automatic
// decision starts from 40, as far as one period may go.
func TestResumeIsBumpless(t *testing.T) {
	for _, law := range []Law{PIDLaw, AIMDLaw} {
		spec := checkout()
		spec.Concurrency.Law = law
		r := newRig(t, spec, 96)
		slow := load{rate: 1200, refused: 1100, mean: 0.4, p99: 0.5, inFlight: 40, binding: 1, limit: 40} // 100/s
		r.s.Obey(KnobConcurrency, &Order{
			State: Override, Value: 40, Why: "ana: INC-1412", Expires: r.now.Add(30 * time.Minute),
		})
		for range 359 {
			if d := r.step(slow.measurement()); d.State != Override || d.Value != 40 || !d.Renew ||
				!strings.Contains(d.Reason, "ana: INC-1412") {
				t.Fatalf("%s: %+v", law, d)
			}
		}
		r.step(slow.measurement()) // the order's time is up
		raised := false
		for range 6 {
			d := r.step(overload(r.in.Value).measurement()) // 400/s, which is worth a limit of 58
			raised = raised || d.Value > d.From
			if d.Value > 1.5*d.From || d.Value < 0.7*d.From {
				t.Errorf("%s: a bump: %s", law, d.Reason)
			}
		}
		if !raised {
			t.Errorf("%s: wound up in manual: no raise within six periods", law)
		}
	}
}

// TestFreezeHeedsNothing: a missing or a poisoned measurement neither moves nor ends a freeze.
func TestFreezeHeedsNothing(t *testing.T) {
	r := newRig(t, checkout(), 96)
	r.s.Obey(KnobConcurrency, &Order{State: Frozen, Why: "kill switch, ana: all"})
	poisoned := traffic(96)
	poisoned.mean = math.NaN()
	partial := traffic(96).measurement()
	partial.Partial = "one of two servers answered"
	for _, tc := range []struct {
		Measurement
		trouble Reason
	}{
		{traffic(96).measurement(), ""},
		{partial, Partial},
		{poisoned.measurement(), NaN},
		{Measurement{Service: "checkout", Invalid: NoData}, NoData},
	} {
		if d := r.step(tc.Measurement); d.HoldReason != tc.trouble || d.State != Frozen || d.Value != 96 || d.Publish || !d.Renew || d.Bound != "" ||
			!strings.HasPrefix(d.Reason, "frozen at 96: kill switch, ana") {
			t.Errorf("%+v", d)
		}
	}
	r.s.Obey(KnobConcurrency, nil)
	if d := r.step(traffic(96).measurement()); d.State == Frozen || d.From != 96 {
		t.Errorf("after the thaw: %+v", d)
	}
}

// TestFreezePublishesNothingNew: before the first Setting the guards stand at a value that governor does not know.
func TestFreezePublishesNothingNew(t *testing.T) {
	s, err := NewLoopSet(checkout())
	if err != nil {
		t.Fatal(err)
	}
	s.Obey(KnobConcurrency, &Order{State: Frozen, Why: "kill switch, ana: all"})
	for i := range 3 {
		d := s.Step(t0.Add(time.Duration(i)*checkout().Timing.Period), traffic(96).measurement())[0]
		if d.State != Frozen || d.Publish || d.Renew {
			t.Errorf("%+v", d)
		}
	}
}

func TestOverrideStaysInTheBounds(t *testing.T) {
	for value, want := range map[float64]struct {
		value float64
		bound string
	}{5: {20, BoundMin}, 20: {20, ""}, 90.5: {91, ""}, 200: {200, ""}, 1e9: {400, BoundMax}} {
		r := newRig(t, checkout(), 96)
		r.s.Obey(KnobConcurrency, &Order{State: Override, Value: value, Expires: r.now.Add(time.Hour)})
		d := r.step(traffic(96).measurement())
		if float64(d.Value) != want.value || d.Bound != want.bound || !d.Publish || float64(d.Ceiling) != want.value {
			t.Errorf("override %v: %+v", value, d)
		}
		if d := r.step(traffic(96).measurement()); d.Publish {
			t.Errorf("override %v is written again in the next period", value)
		}
	}
}
