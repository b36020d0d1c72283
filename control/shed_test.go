package control

import (
	"math"
	"testing"
	"time"
)

func shedding() Spec {
	spec := checkout()
	spec.Shed = &ShedSpec{Protect: Critical}
	return spec
}

// protected is a busy window of a service whose critical requests, a fifth of all, are refused by the share r.
func protected(r float64) Measurement {
	m := load{rate: 1200, refused: 800, mean: 0.08, inFlight: 96, binding: 1, limit: 96}.measurement()
	m.Quantile = Missing(NoData, "")
	in := &m.Instances[0]
	in.Classes[Critical] = Class{Read(240 * 20), Read(240 * 20 * r)}
	in.Classes[Default] = Class{Read(600 * 20), Read(400 * 20)}
	in.Classes[Sheddable] = Class{Read(360 * 20), Read(360 * 20)}
	in.Classes[Background] = Class{Read(0), Read(0)}
	in.ShedThreshold = Read(0.6)
	return m
}

// TestThresholdFollowsTheProtected: it goes down while protected requests are refused, to its minimum within a few dead
// times and no further, up when none is, and rests at the setpoint.
func TestThresholdFollowsTheProtected(t *testing.T) {
	k := newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.6})
	for range 15 {
		k.step(protected(0.05))
	}
	if phi := k.value(KnobShed); phi != 0.4 {
		t.Errorf("φ = %v after five dead times of 5%% refused, want the minimum", phi)
	}
	d := k.step(protected(0.05))[KnobShed]
	if d.State != AtMin || d.Publish {
		t.Errorf("state %s, published %v", d.State, d.Publish)
	}
	for range 40 {
		k.step(protected(0))
	}
	if phi := k.value(KnobShed); phi != 0.6 {
		t.Errorf("φ = %v after a calm, want the maximum", phi)
	}

	k = newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.5})
	for range 100 {
		if d := k.step(protected(shedSetpoint))[KnobShed]; d.Publish && d.Value != 0.5 {
			t.Fatalf("moved at the setpoint: %s", d.Reason)
		}
	}
}

// TestThresholdSettles closes the loop over a plant in which the protected are refused the more, the higher φ is: r goes
// to the setpoint, without a cycle.
func TestThresholdSettles(t *testing.T) {
	k := newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.6})
	refused := func() float64 { return shedSetpoint * math.Exp((k.value(KnobShed)-0.5)/0.15) }
	late := []float64{refused(), refused(), refused()} // a dead time
	writes := 0
	for i := range 240 {
		d := k.step(protected(late[0]))[KnobShed]
		late = append(late[1:], refused())
		if i >= 120 && d.Publish {
			writes++
		}
	}
	if phi := k.value(KnobShed); math.Abs(phi-0.5) > 0.03 {
		t.Errorf("φ = %v, want 0.5 ± 0.03", phi)
	}
	if writes > 5 {
		t.Errorf("%d writes in the last ten minutes", writes)
	}
}

// TestThresholdNeedsProtectedTraffic: without the classes this knob holds and no other; with hardly any request of theirs it
// stays while the service is overloaded, and lets the lease of the whole Setting be renewed.
func TestThresholdNeedsProtectedTraffic(t *testing.T) {
	blind := protected(0)
	blind.Instances[0].Classes = [Criticalities]Class{}
	few := protected(0)
	few.Instances[0].Classes[Critical] = Class{Read(12), Read(3)}
	for _, tc := range []struct {
		m     Measurement
		state State
		why   Reason
	}{{blind, Hold, NoData}, {few, Steady, ""}} {
		k := newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.5})
		ds := k.step(tc.m)
		if d := ds[KnobShed]; d.State != tc.state || d.HoldReason != tc.why || d.Value != 0.5 || d.Publish || d.Renew != (tc.state == Steady) {
			t.Errorf("state %s, reason %q, φ %v, renewed %v, want %s %q", d.State, d.HoldReason, d.Value, d.Renew, tc.state, tc.why)
		}
		if d := ds[KnobConcurrency]; d.State == Hold || !d.Renew {
			t.Errorf("the concurrency limit holds, too: %s", d.Reason)
		}
	}
}

// TestThresholdGoesBackWhereNobodyNeedsIt: too few protected requests to judge by, and the limit does not bind. What an
// overload has left goes, rather than stay until enough of them come.
func TestThresholdGoesBackWhereNobodyNeedsIt(t *testing.T) {
	quiet := load{rate: 10, mean: 0.04, inFlight: 1, limit: 96}.measurement()
	quiet.Quantile = Missing(NoData, "")
	quiet.Instances[0].Classes = [Criticalities]Class{
		Critical: {Read(40), Read(0)}, Default: {Read(100), Read(0)}, Sheddable: {Read(60), Read(0)}, Background: {Read(0), Read(0)},
	}
	quiet.Instances[0].ShedThreshold = Read(0.4)
	k := newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.4})
	for range 20 {
		k.step(quiet)
	}
	if phi := k.value(KnobShed); phi != 0.6 {
		t.Errorf("φ = %v, want the maximum", phi)
	}
}

// TestThresholdLoosensOnlyOnKnowledge: a partial answer may bring φ down, not up.
func TestThresholdLoosensOnlyOnKnowledge(t *testing.T) {
	partial := func(r float64) Measurement {
		m := protected(r)
		m.Partial = "No StoreAPIs matched for this query"
		return m
	}
	k := newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.5})
	for range 20 {
		if d := k.step(partial(0))[KnobShed]; d.Value > 0.5 || d.Renew {
			t.Fatalf("φ %v, renewed %v: %s", d.Value, d.Renew, d.Reason)
		}
	}
	for range 20 {
		k.step(partial(0.05))
	}
	if phi := k.value(KnobShed); phi != 0.4 {
		t.Errorf("φ = %v after a known breach, want 0.4", phi)
	}
}

// TestFailedWritesWindNoThresholdUp: half an hour of refused writes, then the protected are well: φ turns at once.
func TestFailedWritesWindNoThresholdUp(t *testing.T) {
	k := newKnobs(t, shedding(), map[Knob]float64{KnobConcurrency: 96, KnobShed: 0.5})
	k.down = true
	for range 360 {
		k.step(protected(0.05))
	}
	k.down = false
	for range 6 {
		k.step(protected(0))
		if phi := k.value(KnobShed); phi < 0.5-shedStep {
			t.Fatalf("φ fell to %v after the crisis", phi)
		}
	}
	if phi := k.value(KnobShed); phi <= 0.5 {
		t.Errorf("φ = %v half a minute later, want it on its way up", phi)
	}
}

// Refusals that are not for want of room count in no decision about the limit or the threshold.
func TestOtherRefusalsAreNotTheLimits(t *testing.T) {
	in := overload(100).measurement().Instances[0]
	in.Refused = Read(1000)
	in.RefusedByRate, in.RefusedForCallee, in.RefusedEndless = Read(100), Read(200), Read(300)
	f := aggregate([]Instance{in}, 20*time.Second)
	for what, got := range map[string][2]float64{
		"the limit":        {f.limitRefused.Float(), 400},
		"the rate":         {f.rateRefused.Float(), 100},
		"for a callee":     {f.calleeRefused.Float(), 200},
		"endless requests": {f.endlessOver.Float(), 300},
	} {
		if share := got[1] / in.Offered.Float(); math.Abs(got[0]-share) > 1e-9 {
			t.Errorf("refused, %s: %v, want %v", what, got[0], share)
		}
	}
}
