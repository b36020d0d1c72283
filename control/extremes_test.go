package control

import "testing"

// TestSlewLimitWindsNothingUp: A13 (fluxninja/aperture#949) where it is the slew limit that holds the value back: half
// an hour of errors far beyond it, and the first period that allows an increase makes one.
func TestSlewLimitWindsNothingUp(t *testing.T) {
	spec := checkout()
	spec.Tuning.CutMax = 0.001 // less than a request a period, so that each cut is one request
	spec.Concurrency.Max = 1000
	r := newRig(t, spec, 1000)
	for range 360 {
		if d := r.step(overload(r.in.Value).measurement()); d.Bound != BoundSlew || float64(d.From-d.Value) != 1 {
			t.Fatalf("from %v to %v, bound by %q: want a cut of one request, bound by slew", d.From, d.Value, d.Bound)
		}
	}
	l := r.in.Value
	fast := load{rate: 400, refused: 40, mean: 0.04, inFlight: l, binding: 1, limit: l}
	if d := r.step(fast.measurement()); d.State != Raising {
		t.Errorf("%s from %v to %v on the first period that allows an increase: %s", d.State, d.From, d.Value, d.Reason)
	}
}

// TestTopBucketEveryTime: A2 (c) (prometheus/prometheus#13020): a mean of 10 s on every tick is cut for within the slew
// limit, and only down to what the service is known to have carried, far from the minimum.
func TestTopBucketEveryTime(t *testing.T) {
	spec := checkout()
	spec.Concurrency.Min = 2
	r := newRig(t, spec, 96)
	for range 20 {
		r.step(traffic(r.in.Value).measurement())
	}
	floor := r.s.target.floor(r.now, &view{})
	previous := r.in.Value
	for i := range 4 { // before the floor test, which halves on purpose
		bad := load{rate: 400, refused: 391, mean: 10, inFlight: r.in.Value, binding: 1, limit: r.in.Value}
		d := r.step(bad.measurement())
		if v := float64(d.Value); v < previous/2-1 || v < floor-1 {
			t.Fatalf("period %d: %v to %v (%s), want at most half a period and nothing below the floor of %.0f",
				i, previous, v, d.Reason, floor)
		}
		previous = r.in.Value
	}
}
