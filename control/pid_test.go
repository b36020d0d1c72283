package control

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPIDFromTheFirstSample: every subset of the terms works from the first sample. A PID whose derivative term divides by
// a gain of zero gives NaN for ever (fluxninja/aperture's gradient controller at Kd = 0).
func TestPIDFromTheFirstSample(t *testing.T) {
	for _, tc := range []struct {
		name       string
		c          PID
		wantFirst  float64 // e = 2
		wantSecond float64 // e = 3
	}{
		{"none", PID{Bias: 7}, 7, 7},
		{"P", PID{Kp: 0.5}, 1, 1.5},
		{"P with bias", PID{Kp: 0.5, Bias: 10}, 11, 11.5},
		{"I", PID{Ki: 1}, 2, 5},
		{"PI", PID{Kp: 0.5, Ki: 1}, 3, 6.5},
		{"D", PID{Kd: 1}, 0, 1},
		{"PD", PID{Kp: 0.5, Kd: 1}, 1, 2.5},
		{"PID", PID{Kp: 0.5, Ki: 1, Kd: 1}, 3, 7.5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first, ok := tc.c.Step(time.Second, 2)
			if !ok || first.Output != tc.wantFirst {
				t.Errorf("first output %v (%v), want %v", first.Output, ok, tc.wantFirst)
			}
			if second, _ := tc.c.Step(time.Second, 3); math.Abs(second.Output-tc.wantSecond) > 1e-12 {
				t.Errorf("second output %v, want %v", second.Output, tc.wantSecond)
			}
		})
	}
}

// TestPIDSigns: all three terms push the same way when the error grows.
func TestPIDSigns(t *testing.T) {
	c := PID{Kp: 1, Ki: 1, Kd: 1}
	c.Step(time.Second, 1)
	got, _ := c.Step(time.Second, 2)
	if got.P <= 0 || got.I <= 0 || got.D <= 0 {
		t.Errorf("terms %+v: a growing positive error must push every term up", got)
	}
}

// TestPIDBumpless: after Track the output continues from the value in force, with the error's own integral on top.
func TestPIDBumpless(t *testing.T) {
	for _, c := range []PID{{Ki: 0.1}, {Kp: 2, Ki: 0.1}, {Kp: 2, Ki: 0.1, Kd: 3}} {
		t.Run(fmt.Sprintf("Kp=%g Kd=%g", c.Kp, c.Kd), func(t *testing.T) {
			c.Track(40)
			if got, _ := c.Step(time.Second, 1); math.Abs(got.Output-40.1) > 1e-9 {
				t.Errorf("first output %v after a transfer at 40, want 40.1", got.Output)
			}
			for range 5 {
				c.Track(25) // somebody else decides
				c.Step(time.Second, 1)
			}
			c.Track(25)
			if got, _ := c.Step(time.Second, 1); math.Abs(got.Output-25.1) > 1e-9 {
				t.Errorf("output %v after being held at 25, want 25.1", got.Output)
			}
		})
	}
}

// TestWindUpAgainstTheClamp: the output leaves the clamp on the first sample that allows it, however long it was held
// there (A13; felixge/pidctrl PR 5, PowerBroker2/ArduPID#1, fluxninja/aperture#949).
func TestWindUpAgainstTheClamp(t *testing.T) {
	for _, c := range []PID{{Ki: 1}, {Kp: 0.3, Ki: 1}, {Kp: 0.3, Ki: 1, Kd: 0.1}} {
		for range 1800 { // half an hour at the lower clamp, 20
			got, _ := c.Step(time.Second, -5)
			c.Track(max(got.Output, 20))
		}
		first, _ := c.Step(time.Second, 0.5)
		c.Track(max(first.Output, 20))
		if first.Output <= 20 {
			t.Errorf("Kp=%g Kd=%g: output %g on the first sample above the setpoint, want above the clamp 20", c.Kp, c.Kd, first.Output)
		}
	}
}

// TestPIDSurvivesPoison: NaN, infinities, enormous errors and a clock that stands still leave the controller usable
// (A12; einride/pid-go#104, m-lundberg/simple-pid#92).
func TestPIDSurvivesPoison(t *testing.T) {
	c := PID{Kp: 1, Ki: 1, Kd: 1}
	c.Track(10)
	if _, ok := c.Step(time.Second, math.NaN()); ok {
		t.Error("a NaN error was accepted")
	}
	if _, ok := c.Step(0, 1); ok {
		t.Error("dt = 0 was accepted")
	}
	if _, ok := c.Step(-time.Second, 1); ok {
		t.Error("dt < 0 was accepted")
	}
	for range 10 {
		got, _ := c.Step(time.Second, 1e300)
		if math.IsNaN(got.Output) || math.IsInf(got.Output, 0) {
			t.Fatalf("output %v", got.Output)
		}
		c.Track(20)
	}
	c.Step(time.Second, math.Inf(-1))
	c.Track(10)
	c.Track(math.NaN())
	c.Lose()
	if got, _ := c.Step(time.Second, 0); got.Output != 10 {
		t.Errorf("output %v after recovery at 10 with error 0, want 10", got.Output)
	}
}

// TestNoKickAfterAGap: the first sample after lost ones has no derivative.
func TestNoKickAfterAGap(t *testing.T) {
	c := PID{Kd: 1, Ki: 0.1}
	c.Step(time.Second, 1)
	c.Lose()
	if got, _ := c.Step(time.Second, 5); got.D != 0 {
		t.Errorf("D = %v on the first sample after a gap, want 0", got.D)
	}
}

func TestPIDProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gain := rapid.Float64Range(0, 1e3)
		c := PID{
			Kp: gain.Draw(t, "Kp"), Ki: gain.Draw(t, "Ki"), Kd: gain.Draw(t, "Kd"),
			DerivativeFilter: time.Duration(rapid.Int64Range(0, 1e10).Draw(t, "filter")),
		}
		for range 50 {
			dt := time.Duration(rapid.Int64Range(-1e9, 1e13).Draw(t, "dt"))
			e := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300, 0})).Draw(t, "e")
			got, ok := c.Step(dt, e)
			if ok && (math.IsNaN(got.Output) || math.IsInf(got.Output, 0)) {
				t.Fatalf("output %v for dt %v, e %v", got.Output, dt, e)
			}
			if ok && rapid.Bool().Draw(t, "track") {
				c.Track(min(max(got.Output, -100), 100))
			}
		}
	})
}
