package control

import (
	"math"
	"testing"
	"time"
)

// burning is a healthy window of a service whose error budget burns at these multiples, for each pair of windows.
func burning(multiples ...float64) Measurement {
	m := traffic(96).measurement()
	for i, x := range multiples {
		m.Burn[i] = Burn{Long: Read(x), Short: Read(x)}
	}
	return m
}

// Each pair of windows that burns too fast tightens the setpoint by a tenth, two steps at most, and lets go one long
// window after it was last seen to. What is unknown neither tightens nor releases.
func TestBurnRatesTightenTheSetpoint(t *testing.T) {
	r := newRig(t, checkout(), 96)
	// One decision, the setpoint of it in multiples of what it would be without burning.
	relative := func(m Measurement) float64 {
		d := r.step(m)
		if d.Gates.BurnSteps > len(BurnRates) {
			t.Fatalf("%d steps", d.Gates.BurnSteps)
		}
		return float64(d.LatencyTarget) / r.s.target.inForce
	}
	for _, c := range []struct {
		name string
		m    Measurement
		want float64
	}{
		{"calm", burning(1, 1), 1},
		{"unknown", traffic(96).measurement(), 1},
		{"fast", burning(15, 1), 0.9},
		{"fast and slow", burning(15, 7), 0.81},
		{"unknown again", traffic(96).measurement(), 0.81},
		{"over", burning(1, 1), 0.81},
	} {
		if got := relative(c.m); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: setpoint × %v, want × %v", c.name, got, c.want)
		}
	}
	short := burning(1, 1)
	short.Burn[0] = Burn{Long: Read(20), Short: Read(1)} // it has been bad, and is over
	from := r.now
	for r.now.Sub(from) < 59*time.Minute {
		if got := relative(short); math.Abs(got-0.81) > 1e-9 {
			t.Fatalf("after %v: setpoint × %v, want × 0.81", r.now.Sub(from), got)
		}
	}
	for r.now.Sub(from) < 61*time.Minute {
		relative(burning(1, 1))
	}
	if got := relative(burning(1, 1)); math.Abs(got-0.9) > 1e-9 {
		t.Errorf("after an hour: setpoint × %v, want × 0.9", got)
	}
	for r.now.Sub(from) < 6*time.Hour+time.Minute {
		relative(burning(1, 1))
	}
	if got := relative(burning(1, 1)); got != 1 {
		t.Errorf("after six hours: setpoint × %v, want × 1", got)
	}
}

// The setpoint that burning has tightened is the one the law and the guards use.
func TestTightenedSetpointIsPublished(t *testing.T) {
	r := newRig(t, checkout(), 96)
	guarded := func(m Measurement) Measurement {
		m.Instances[0].ServiceTime = Read(0)
		return m
	}
	before := float64(r.step(guarded(burning(1, 1))).LatencyTarget)
	if d := r.step(guarded(burning(20, 20))); !d.Publish || math.Abs(float64(d.LatencyTarget)/before-0.81) > 0.01 {
		t.Errorf("setpoint %v after %v, published %v", d.LatencyTarget, before, d.Publish)
	}
}
