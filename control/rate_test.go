package control

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// gateway is a service of which only the rate is steered: S=5, settle 25 s, setpoint 100 ms until D̂ is known.
func gateway() Spec {
	spec := checkout()
	spec.Concurrency, spec.Rate = nil, &RateSpec{Min: 20, Max: 5000}
	return spec
}

// knobs steps a LoopSet of several knobs; what is published is put in force unless the store is down.
type knobs struct {
	t    *testing.T
	s    *LoopSet
	now  time.Time
	in   map[Knob]InForce
	down bool
}

func newKnobs(t *testing.T, spec Spec, in map[Knob]float64) *knobs {
	t.Helper()
	s, err := NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	k := &knobs{t: t, s: s, now: t0, in: map[Knob]InForce{}}
	for knob, v := range in {
		k.in[knob] = InForce{Value: v, Revision: 1}
		s.Restore(t0, knob, k.in[knob])
	}
	k.step(traffic(96).measurement()) // the period of holding
	return k
}

func (k *knobs) step(m Measurement) map[Knob]Decision {
	k.t.Helper()
	k.now = k.now.Add(5 * time.Second)
	ds := map[Knob]Decision{}
	for _, d := range k.s.Step(k.now, m) {
		ds[d.Knob] = d
		if d.Publish && !k.down {
			k.in[d.Knob] = InForce{
				Value: float64(d.Value), Ceiling: float64(d.Ceiling), LatencyTarget: float64(d.LatencyTarget),
				Revision: k.in[d.Knob].Revision + 1,
			}
		}
		k.s.Track(k.now, d.Knob, k.in[d.Knob])
	}
	return ds
}

func (k *knobs) value(knob Knob) float64 { return k.in[knob].Value }

// admissions is a window of a gateway: arrivals, admissions and completions per second.
type admissions struct{ offered, admitted, completed, mean, late float64 }

func (f admissions) measurement() Measurement {
	m := load{rate: f.offered, refused: f.offered - f.admitted, mean: f.mean, slow: f.late}.measurement()
	in := &m.Instances[0]
	in.Completed, in.Slow = Read(20*f.completed), Read(20*f.completed*f.late)
	in.RefusedByRate = in.Refused
	in.Limit, in.InFlight = Missing(NoData, ""), Missing(NoData, "")
	m.Quantile = Missing(NoData, "")
	return m
}

var calm = admissions{offered: 400, admitted: 400, completed: 400, mean: 0.04}

// behind is a service of 150/s that admits more: everything it completes is late.
func behind(admitted float64) admissions {
	return admissions{offered: 560, admitted: admitted, completed: 150, mean: 5, late: 1}
}

// TestCounterResetMovesNoRate: A8 (thanos-io/thanos#1326). 400/s read as 28 000 for four ticks: the rate goes the way it
// would have gone, stays inside its bounds, and the estimate of what is sustained is 400 afterwards.
func TestCounterResetMovesNoRate(t *testing.T) {
	reset := admissions{offered: 28000, admitted: 28000, completed: 28000, mean: 0.04}
	for _, from := range []float64{5000, 420} {
		struck := newKnobs(t, gateway(), map[Knob]float64{KnobRate: from})
		spared := newKnobs(t, gateway(), map[Knob]float64{KnobRate: from})
		for i := range 40 {
			m := calm
			if i >= 12 && i < 16 {
				m = reset
			}
			struck.step(m.measurement())
			spared.step(calm.measurement())
			if a, b := struck.value(KnobRate), spared.value(KnobRate); a != b {
				t.Fatalf("tick %d: rate %v, without the reset %v", i, a, b)
			}
		}
		law := struck.s.loop(KnobRate).law.(*rate)
		if x := law.sustained(struck.now); math.Abs(x/400-1) > 0.05 {
			t.Errorf("from %v: sustained goodput %v after the reset, want 400", from, x)
		}
	}
}

// TestCutIsSizedByWhatIsCompleted: a service that falls behind is cut to half of what it completes, at once and to that
// only, however often its late windows ask for it.
func TestCutIsSizedByWhatIsCompleted(t *testing.T) {
	k := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 5000})
	for range 10 {
		k.step(calm.measurement())
	}
	for range 8 {
		k.step(behind(400).measurement())
		if got := k.value(KnobRate); got != 75 {
			t.Fatalf("rate %v, want 75: half of the 150/s that are completed", got)
		}
	}
}

// TestBacklogIsNotCutFor: while more is completed than admitted, the cut is at work; another one would only waste.
func TestBacklogIsNotCutFor(t *testing.T) {
	k := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 75})
	for range 40 {
		d := k.step(behind(75).measurement())[KnobRate]
		if d.Value != 75 || d.Terms.Event != "drains" {
			t.Fatalf("rate %v, event %q: %s", d.Value, d.Terms.Event, d.Reason)
		}
	}
}

// TestRateThatCannotHelpIsPutBack: a slow dependency. Less comes in and it is as slow as before; the rate returns, says
// ineffective, and does not try again at once.
func TestRateThatCannotHelpIsPutBack(t *testing.T) {
	k := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 5000})
	for range 10 {
		k.step(calm.measurement())
	}
	said := false
	least := math.Inf(1)
	for range 40 {
		admitted := min(400, k.value(KnobRate))
		slow := admissions{offered: 400, admitted: admitted, completed: admitted, mean: 0.2, late: 0.3}
		d := k.step(slow.measurement())[KnobRate]
		said = said || d.State == Ineffective
		least = min(least, k.value(KnobRate))
	}
	if !said {
		t.Error("nobody said that limiting is ineffective")
	}
	if now := k.value(KnobRate); now < 5000 || least >= 400 || least < 200 {
		t.Errorf("rate %v, lowest %v: want one cut, and off again", now, least)
	}
}

// TestRateYieldsToConcurrency: one signal never drives two knobs at once. The rate waits while the concurrency limit can
// still be cut, acts when that one is near its minimum, and says so.
func TestRateYieldsToConcurrency(t *testing.T) {
	spec := checkout()
	spec.Rate = &RateSpec{Min: 20, Max: 5000}
	slow := load{rate: 560, refused: 460, mean: 1, p99: 1.4, inFlight: 96, binding: 1, slow: 1}
	for limit, want := range map[float64]string{96: "acts first", 20: "may act"} {
		k := newKnobs(t, spec, map[Knob]float64{KnobConcurrency: limit, KnobRate: 5000})
		k.down = true // the limit stays where it is
		slow.limit = limit
		var d Decision
		for range 8 {
			d = k.step(slow.measurement())[KnobRate]
		}
		if !strings.Contains(d.Detail, want) {
			t.Errorf("limit %v: the decision says %q, want it to name who acts", limit, d.Detail)
		}
		if acts := d.State == Cutting; acts != (limit == 20) {
			t.Errorf("limit %v: rate %s", limit, d.Reason)
		}
	}
}

// TestFailedCutWindsNothingUp: half an hour in which no write succeeds; the first one that does is as large as the very
// first would have been.
func TestFailedCutWindsNothingUp(t *testing.T) {
	k := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 600})
	k.down = true
	for range 360 {
		k.step(behind(560).measurement())
	}
	k.down = false
	if k.step(behind(560).measurement()); k.value(KnobRate) != 75 {
		t.Errorf("rate %v, want 75", k.value(KnobRate))
	}

	k = newKnobs(t, gateway(), map[Knob]float64{KnobRate: 100})
	k.down = true
	for range 360 {
		k.step(admissions{offered: 400, admitted: 100, completed: 100, mean: 0.04}.measurement())
	}
	k.down = false
	raise := gateway().withDefaults().Tuning.RaiseMax
	k.step(admissions{offered: 400, admitted: 100, completed: 100, mean: 0.04}.measurement())
	if got := k.value(KnobRate); got <= 100 || got > 100*math.Exp(raise+rateStep)+1e-9 {
		t.Errorf("rate %v after half an hour of refused raises, want one move from 100", got)
	}
}

// TestRateProbesFasterAndFaster: after a loss the way back past the capacity last seen is slow at first, and does not
// lock: within ten minutes the rate is off.
func TestRateProbesFasterAndFaster(t *testing.T) {
	k := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 5000})
	for range 10 {
		k.step(calm.measurement())
	}
	k.step(behind(400).measurement())
	var near, off time.Time
	for range 120 {
		admitted := min(400, k.value(KnobRate))
		k.step(admissions{offered: 400, admitted: admitted, completed: admitted, mean: 0.04}.measurement())
		if v := k.value(KnobRate); near.IsZero() && v >= 0.9*150 {
			near = k.now
		} else if off.IsZero() && v >= 5000 {
			off = k.now
		}
	}
	if near.IsZero() || off.IsZero() || off.Sub(near) < 50*time.Second || near.Sub(t0) > 2*time.Minute {
		t.Errorf("near the last capacity at %v, off at %v", near.Sub(t0), off.Sub(t0))
	}
}

// TestHangHalvesTheRate: a gateway in front of a service that answers nobody. There is no capacity to size a cut by: the
// rate is halved once a settling time, and comes back.
func TestHangHalvesTheRate(t *testing.T) {
	k := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 800})
	hang := load{rate: 400, refused: 300, inFlight: 100, binding: 1, limit: 100}.measurement()
	hang.Instances[0].Completed, hang.Instances[0].Mean = Read(0), Missing(NoData, "")
	var cuts []time.Time
	for range 12 {
		if d := k.step(hang)[KnobRate]; d.State == Cutting {
			cuts = append(cuts, k.now)
		}
	}
	for i := 1; i < len(cuts); i++ {
		if gap := cuts[i].Sub(cuts[i-1]); gap < timing5.Settle() {
			t.Errorf("cuts %v apart, settling takes %v", gap, timing5.Settle())
		}
	}
	if len(cuts) < 2 {
		t.Errorf("%d cuts in a minute of hanging", len(cuts))
	}
	low := k.value(KnobRate)
	for range 6 {
		k.step(admissions{offered: 400, admitted: low, completed: low, mean: 0.04}.measurement())
	}
	if k.value(KnobRate) <= low {
		t.Errorf("rate %v after the hang, it was %v", k.value(KnobRate), low)
	}
}

// TestRateAndShedAnyMeasurements: for any sequence of measurements and lost writes, rate and threshold are finite, inside
// their bounds and explained; unknown never loosens; a hold changes nothing.
func TestRateAndShedAnyMeasurements(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := checkout()
		spec.Rate = &RateSpec{Min: 20, Max: 5000}
		if rapid.Bool().Draw(rt, "gateway") {
			spec.Concurrency = nil
		} else {
			spec.Shed = &ShedSpec{Protect: Critical}
		}
		s, err := NewLoopSet(spec)
		if err != nil {
			rt.Fatal(err)
		}
		bounds := map[Knob][2]float64{KnobConcurrency: {20, 400}, KnobShed: {0.4, 0.6}, KnobRate: {20, 5000}}
		in := map[Knob]InForce{
			KnobConcurrency: {Value: 96, Revision: 1}, KnobShed: {Value: 0.5, Revision: 1}, KnobRate: {Value: 600, Revision: 1},
		}
		for knob, f := range in {
			s.Restore(t0, knob, f)
		}
		now := t0
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			steps := []time.Duration{0, 5 * time.Second, 5 * time.Second, time.Hour, -time.Second}
			now = now.Add(rapid.SampledFrom(steps).Draw(rt, "dt"))
			m := anyMeasurement(rt)
			for i := range m.Instances {
				anyClasses(rt, &m.Instances[i])
			}
			for _, d := range s.Step(now, m) {
				v, from, b := float64(d.Value), in[d.Knob].Value, bounds[d.Knob]
				switch {
				case !(v >= b[0] && v <= b[1]):
					rt.Fatalf("%s %v is outside %v: %s", d.Knob, v, b, d.Reason)
				case d.Knob != KnobConcurrency && d.HoldReason != "" && v > from:
					rt.Fatalf("%s loosened from %v to %v on doubt: %s", d.Knob, from, v, d.Reason)
				case d.Knob != KnobConcurrency && d.State == Hold && (d.Publish || v != from):
					rt.Fatalf("a hold of %s changed %v to %v: %s", d.Knob, from, v, d.Reason)
				case d.Reason == "" || strings.Contains(d.Reason, "NaN"):
					rt.Fatalf("explanation %q", d.Reason)
				}
				if _, err := json.Marshal(d); err != nil {
					rt.Fatal(err)
				}
				if d.Publish && rapid.Bool().Draw(rt, "written") {
					in[d.Knob] = InForce{
						Value: v, Ceiling: float64(d.Ceiling), LatencyTarget: float64(d.LatencyTarget),
						Revision: in[d.Knob].Revision + 1,
					}
				}
				s.Track(now, d.Knob, in[d.Knob])
			}
		}
	})
}

func anyClasses(t *rapid.T, in *Instance) {
	if rapid.IntRange(0, 3).Draw(t, "by rate") > 0 {
		in.RefusedByRate = Read(rapid.Float64Range(0, 1e5).Draw(t, "refused by rate"))
	}
	in.ShedThreshold = Read(rapid.SampledFrom([]float64{0, 0.5, 1, 2, math.NaN()}).Draw(t, "threshold"))
	for c := range in.Classes {
		if rapid.IntRange(0, 9).Draw(t, "class") == 0 {
			continue
		}
		in.Classes[c] = Class{
			Offered: Read(rapid.Float64Range(0, 1e4).Draw(t, "class offered")),
			Refused: Read(rapid.Float64Range(-1, 2e4).Draw(t, "class refused")),
		}
	}
}

// The publisher gets the arrivals of each instance that is there, or of none if one is not known.
func TestArrivalsOfEachInstance(t *testing.T) {
	m := traffic(96).measurement()
	m.Instances = append(m.Instances, m.Instances[0])
	m.Instances[1].Name, m.Instances[1].Offered = "other", Read(0)
	m.Instances = append(m.Instances, Instance{Name: "gone", Gone: true})
	want := m.Instances[0].Offered.Float() / m.Window.Seconds()
	if all := arrivalRates(m); len(all) != 2 || all[0] != want || all[1] != 0 {
		t.Errorf("got %v", all)
	}
	if d := newKnobs(t, gateway(), map[Knob]float64{KnobRate: 900}).step(m)[KnobRate]; len(d.Inputs.Arrivals) != 2 {
		t.Errorf("the decision has %v", d.Inputs.Arrivals)
	}
	m.Instances[1].Offered = Missing(NoData, "")
	if all := arrivalRates(m); all != nil {
		t.Errorf("got %v, though one is not known", all)
	}
}
