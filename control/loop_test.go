package control

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// timing5 is S=5, W=20, T=5: θ = 15 s, settle = 25 s.
var timing5 = Timing{Scrape: 5 * time.Second, Window: 20 * time.Second, Period: 5 * time.Second}

func checkout() Spec {
	return Spec{
		Service: "checkout", Mode: Enforce, SLO: SLO{Latency: 250 * time.Millisecond, Objective: 0.99, Errors: 0.001},
		Timing: timing5, Concurrency: &ConcurrencySpec{Min: 20, Max: 400, Fallback: 60},
	}
}

// rig steps a LoopSet on the grid of its period, with a value in force that the test controls.
type rig struct {
	t    *testing.T
	s    *LoopSet
	now  time.Time
	spec Spec
	in   InForce
}

// newRig starts enforcing at limit, past the period of holding.
func newRig(t *testing.T, spec Spec, limit float64) *rig {
	t.Helper()
	r := newSmallRig(t, spec, limit)
	if d := r.step(traffic(limit).measurement()); d.State != Hold || d.HoldReason != Starting {
		t.Fatalf("first decision %s %s, want a hold of one period (starting)", d.State, d.HoldReason)
	}
	return r
}

// step takes one period; the decision is put in force where it is published.
func (r *rig) step(m Measurement) Decision {
	r.t.Helper()
	d := r.stepRefused(m)
	if d.Publish && r.spec.Mode == Enforce {
		r.in = InForce{Value: float64(d.Value), Ceiling: float64(d.Ceiling), LatencyTarget: float64(d.LatencyTarget), Revision: r.in.Revision + 1}
	}
	r.s.Track(r.now, KnobConcurrency, r.in)
	return d
}

// stepRefused takes one period in which no write succeeds.
func (r *rig) stepRefused(m Measurement) Decision {
	r.t.Helper()
	r.now = r.now.Add(r.spec.Timing.Period)
	m.At = r.now
	d := r.s.Step(r.now, m)[0]
	if math.IsNaN(float64(d.Value)) || float64(d.Value) < r.spec.Concurrency.Min || float64(d.Value) > r.spec.Concurrency.Max {
		r.t.Fatalf("value %v is outside the bounds: %+v", d.Value, d)
	}
	r.s.Track(r.now, KnobConcurrency, r.in)
	return d
}

// load describes one instance over one window, in the terms an operator would use.
type load struct {
	rate, refused, mean, p99, inFlight, binding, limit, failed, slow float64
}

// traffic is 400 requests/s at 80 ms behind a limit: busy, healthy.
func traffic(limit float64) load {
	return load{rate: 400, mean: 0.08, p99: 0.16, inFlight: 32, limit: limit}
}

func (l load) measurement() Measurement {
	const w = 20
	done := (l.rate - l.refused) * w
	if l.slow == 0 && l.mean > 0.3 { // a mean above the SLO without a slow request is no measurement
		l.slow = 1
	}
	return Measurement{
		Service: "checkout", Window: w * time.Second, Quantile: Read(l.p99),
		Instances: []Instance{{
			Name: "a", Age: Read(2), Offered: Read(l.rate * w), Admitted: Read(done), Refused: Read(l.refused * w),
			Completed: Read(done), Failed: Read(l.failed * done), Slow: Read(l.slow * done), Mean: Read(l.mean),
			InFlight: Read(l.inFlight), Limit: Read(l.limit), Binding: Read(l.binding),
		}},
	}
}

// overload is a service of 400/s capacity at three times its load: the limit is full and the mean is limit/capacity.
func overload(limit float64) load {
	return load{rate: 1200, refused: 800, mean: limit / 400, p99: limit/400 + 0.1, inFlight: limit, binding: 1, limit: limit}
}

func wantHold(t *testing.T, d Decision, why Reason) {
	t.Helper()
	if d.State != Hold || d.HoldReason != why {
		t.Errorf("state %s, reason %q (%s), want hold %q", d.State, d.HoldReason, d.Detail, why)
	}
	if d.Publish || d.Renew {
		t.Errorf("a hold published (%v) or renewed the lease (%v)", d.Publish, d.Renew)
	}
	if d.Value != 96 {
		t.Errorf("the value moved to %v in a hold, want 96", d.Value)
	}
	if !strings.Contains(d.Reason, string(why)) {
		t.Errorf("the explanation %q does not name %q", d.Reason, why)
	}
}

// TestOverloadIsCutByLittlesLaw: the limit goes to X̂·τ in as many steps as the slew limit needs, and stays there.
func TestOverloadIsCutByLittlesLaw(t *testing.T) {
	r := newRig(t, checkout(), 400)
	var d Decision
	for range 4 {
		d = r.step(overload(r.in.Value).measurement())
	}
	tau := float64(d.Setpoint)
	want := 400 * tau
	if got := r.in.Value; math.Abs(got/want-1) > 0.06 {
		t.Errorf("limit %v after four periods, want X·τ = %.0f", got, want)
	}
	settled := r.in.Value
	for range 20 {
		r.step(overload(r.in.Value).measurement())
	}
	if math.Abs(r.in.Value/settled-1) > 0.1 {
		t.Errorf("limit drifted from %v to %v in steady overload", settled, r.in.Value)
	}
}

// TestNaNIsAHold: A1 (kedacore/keda#7475, prometheus-adapter#280): three ticks of 0/0 hold, the fourth acts as if they had
// not happened, and nothing in the JSON is NaN.
func TestNaNIsAHold(t *testing.T) {
	r := newRig(t, checkout(), 96)
	reference := newRig(t, checkout(), 96)
	bad := traffic(96).measurement()
	bad.Instances[0].Mean = Read(math.NaN())
	for range 3 {
		d := r.step(bad)
		wantHold(t, d, NaN)
		if b, err := json.Marshal(d); err != nil || strings.Contains(string(b), "NaN") {
			t.Errorf("JSON of the decision: %v %s", err, b)
		}
	}
	got, want := r.step(overload(96).measurement()), reference.step(overload(96).measurement())
	if got.Value != want.Value || got.Terms != want.Terms {
		t.Errorf("after three NaN ticks: value %v, terms %+v; without them: %v, %+v", got.Value, got.Terms, want.Value, want.Terms)
	}
	idle := load{limit: 96}.measurement()
	idle.Instances[0].Mean = Read(math.NaN())
	wantHold(t, r2(t).step(idle), Idle)
}

func r2(t *testing.T) *rig { return newRig(t, checkout(), 96) }

// TestTopBucketIsCensored: A2 (prometheus#13020, keda PR 3762). +Inf is missing; the top bucket is displayed as a lower bound
// and teaches the setpoint nothing; a mean that stays high cuts at the slew limit, not to the minimum.
func TestTopBucketIsCensored(t *testing.T) {
	r := r2(t)
	before := r.step(traffic(96).measurement())
	spike := traffic(96)
	spike.p99 = 10
	m := spike.measurement()
	m.Censored = true
	d := r.step(m)
	if d.LatencyTarget != before.LatencyTarget || d.Value != 96 {
		t.Errorf("setpoint %v → %v, value %v: a censored quantile must change nothing", before.LatencyTarget, d.LatencyTarget, d.Value)
	}
	if !strings.Contains(d.Reason, "censored (>= 10 s, top bucket)") {
		t.Errorf("explanation %q does not say that the quantile is censored", d.Reason)
	}
	inf := traffic(96).measurement()
	inf.Instances[0].Mean = Read(math.Inf(1))
	wantHold(t, r.step(inf), NotFinite)

	bad := load{rate: 400, refused: 391, mean: 10, inFlight: 96, binding: 1, limit: 96}
	if d := r.step(bad.measurement()); float64(d.Value) < 96*math.Exp(-0.7)-1 || d.State != Cutting {
		t.Errorf("a mean of 10 s moved 96 to %v in one period, state %s: want at most one clipped cut", d.Value, d.State)
	}
}

// TestEmptyResultHolds: A3 (kedacore/keda#3065): ten minutes without data hold and never loosen.
func TestEmptyResultHolds(t *testing.T) {
	r := r2(t)
	for i := range 120 {
		d := r.step(Measurement{Window: 20 * time.Second, Invalid: NoData, Detail: `no series for {service="chekout"}`})
		wantHold(t, d, NoData)
		if want := Number(2 + 5*(i+1)); d.Inputs.AgeSeconds != want {
			t.Fatalf("the last good sample is %v s old, want %v s: it must grow", d.Inputs.AgeSeconds, want)
		}
	}
}

// TestManySeriesHold: A4 (hyperdx PR 3114).
func TestManySeriesHold(t *testing.T) {
	m := traffic(96).measurement()
	m.Instances[0].Mean = Missing(ManySeries, `2 series differ in pod`)
	d := r2(t).step(m)
	wantHold(t, d, ManySeries)
	if !strings.Contains(d.Reason, "pod") {
		t.Errorf("explanation %q does not name the label", d.Reason)
	}
}

// TestPartialMayOnlyTighten: A5 (thanos#622).
func TestPartialMayOnlyTighten(t *testing.T) {
	low := load{rate: 400, refused: 10, mean: 0.02, inFlight: 90, binding: 1, limit: 96}.measurement()
	if d := r2(t).step(low); d.State != Raising {
		t.Fatalf("state %s: the comparison case must raise", d.State)
	}
	low.Partial = "No StoreAPIs matched for this query"
	r := r2(t)
	carried := r.s.target.carried
	d := r.step(low)
	wantHold(t, d, Partial)
	if d.Bound != BoundTighten || !strings.Contains(d.Detail, "StoreAPIs") {
		t.Errorf("bound %q, detail %q", d.Bound, d.Detail)
	}
	if r.s.target.carried != carried {
		t.Error("a partial answer fed the capacity estimate")
	}
	bad := overload(96).measurement()
	bad.Partial = "No StoreAPIs matched for this query"
	if d := r.step(bad); d.State != Cutting || d.Renew {
		t.Errorf("state %s, renew %v: a partial answer may tighten, and renews no lease", d.State, d.Renew)
	}
}

// TestTooFewRequestsToJudge: A6 (envoyproxy/envoy#16392, #33739).
func TestTooFewRequestsToJudge(t *testing.T) {
	few := load{rate: 0.6, mean: 2, p99: 2, inFlight: 90, binding: 1, limit: 96, failed: 0.25}.measurement()
	d := r2(t).step(few)
	wantHold(t, d, TooLittleTraffic)
	if !strings.Contains(d.Detail, "12 requests") || !strings.Contains(d.Detail, "needs 100") {
		t.Errorf("detail %q", d.Detail)
	}
	enough := load{rate: 30, mean: 2, p99: 2, inFlight: 96, binding: 1, limit: 96, slow: 1}.measurement()
	r := r2(t)
	before := r.s.target.distance
	if d := r.step(enough); d.State != Cutting || !(d.Inputs.BadRatio > 1) {
		t.Errorf("state %s, bad ratio %v with 600 requests, want a cut on the mean", d.State, d.Inputs.BadRatio)
	}
	if r.s.target.distance != before {
		t.Error("a p99 of 600 requests (needs 1000) moved the setpoint")
	}
}

// TestStaleSampleHolds: A7 (prometheus#1557).
func TestStaleSampleHolds(t *testing.T) {
	m := traffic(96).measurement()
	m.Instances[0].Age = Read(240)
	d := r2(t).step(m)
	wantHold(t, d, Stale)
	if strings.Count(d.Reason, "stale") != 1 {
		t.Errorf("reason %q, want each thing said once", d.Reason)
	}
	if !strings.Contains(d.Detail, "stale 240 s > 11 s") {
		t.Errorf("detail %q, want the age and the bound", d.Detail)
	}
}

// TestUnknownErrorsBlockRaisesOnly: A9 (kubernetes#99394 against #61007): one SLO unknown holds a raise, not a cut.
func TestUnknownErrorsBlockRaisesOnly(t *testing.T) {
	missing := Missing(NoData, "query returned nothing")
	good := load{rate: 400, refused: 4, mean: 0.03, inFlight: 90, binding: 1, limit: 96}.measurement()
	good.Instances[0].Failed = missing
	wantHold(t, r2(t).step(good), NoData)
	bad := overload(96).measurement()
	bad.Instances[0].Failed = missing
	if d := r2(t).step(bad); d.State != Cutting {
		t.Errorf("state %s, want a cut: a known breach is enough", d.State)
	}
}

// TestPoisonedInputsStayInBounds: A12 at the loop: fixed bounds are legal, an unfilled Setting cannot start a loop, a clock
// that stands still does nothing, a laptop that slept restarts.
func TestPoisonedInputsStayInBounds(t *testing.T) {
	spec := checkout()
	spec.Concurrency = &ConcurrencySpec{Min: 50, Max: 50}
	fixed := newRig(t, spec, 50)
	for range 10 {
		fixed.step(overload(50).measurement())
	}
	for _, bounds := range []ConcurrencySpec{{Min: 0, Max: 0}, {Min: 20, Max: 10}, {Min: 1, Max: math.Inf(1)}, {Min: math.NaN(), Max: 5}} {
		spec.Concurrency = &bounds
		if _, err := NewLoopSet(spec); err == nil {
			t.Errorf("bounds %+v were accepted", bounds)
		}
	}

	r := r2(t)
	r.s.Restore(r.now, KnobConcurrency, InForce{}) // a Setting in which the value is missing
	r.s.Restore(r.now, KnobConcurrency, InForce{Value: math.NaN()})
	if d := r.step(overload(96).measurement()); d.From != 96 {
		t.Errorf("the value in force became %v", d.From)
	}

	r = r2(t)
	d := r.s.Step(r.now, overload(96).measurement())[0]
	wantHold(t, d, Clock)

	r.now = r.now.Add(3 * time.Hour)
	wantHold(t, r.step(overload(96).measurement()), Starting)
	if d := r.step(overload(96).measurement()); d.State != Cutting || float64(d.Value) < 96*math.Exp(-0.7)-1 {
		t.Errorf("after a gap of 3 h: %s to %v, want one normal cut", d.State, d.Value)
	}
}

// TestLeavesTheMinimumAtOnce: A13 (JuliaControl/DiscretePIDs.jl#4): whatever held the value for half an hour, the first period
// that allows an increase makes one.
func TestLeavesTheMinimumAtOnce(t *testing.T) {
	recover := func(limit float64) Measurement {
		return load{rate: 400, refused: 40, mean: 0.04, inFlight: limit, binding: 1, limit: limit}.measurement()
	}
	const halfHour = 360
	for _, law := range []Law{PIDLaw, AIMDLaw} {
		spec := checkout()
		spec.Concurrency.Law = law
		for name, suffer := range map[string]func(*rig){
			"clamped at min": func(r *rig) {
				r.in.Value = 20
				r.s.Restore(r.now, KnobConcurrency, r.in)
				for range halfHour {
					m := overload(20)
					m.mean = 0.3
					r.step(m.measurement())
				}
				r.in.Value = 20
			},
			"write refused": func(r *rig) {
				for range halfHour {
					r.stepRefused(overload(96).measurement())
				}
			},
			"held by an operator at 40": func(r *rig) {
				r.in.Value = 40
				for range halfHour {
					r.stepRefused(overload(40).measurement())
				}
			},
			"shadow": func(r *rig) {
				r.spec.Mode, r.s.spec.Mode = Shadow, Shadow
				for range halfHour {
					r.step(overload(96).measurement())
				}
			},
		} {
			t.Run(string(law)+"/"+name, func(t *testing.T) {
				r := newRig(t, spec, 96)
				suffer(r)
				d := r.step(recover(r.in.Value))
				if !(d.Value > d.From) || float64(d.From) != r.in.Value && d.Publish && r.spec.Mode != Enforce {
					t.Errorf("from %v to %v (%s) on the first period that allows an increase", d.From, d.Value, d.Reason)
				}
			})
		}
	}
}

// TestGrowsOnlyWhereTheLimitBinds: A14 (Netflix/concurrency-limits#147, #155; envoy PR 10647).
func TestGrowsOnlyWhereTheLimitBinds(t *testing.T) {
	for _, law := range []Law{PIDLaw, AIMDLaw} {
		spec := checkout()
		spec.Concurrency.Law = law
		t.Run(string(law)+"/idle limit stays", func(t *testing.T) {
			r := newRig(t, spec, 96)
			for range 720 {
				d := r.step(load{rate: 5, mean: 0.02, p99: 0.03, inFlight: 1, limit: 96}.measurement())
				if d.Value != 96 || d.State != Steady {
					t.Fatalf("%s to %v", d.State, d.Value)
				}
			}
		})
		t.Run(string(law)+"/at max", func(t *testing.T) {
			r := newRig(t, spec, 400)
			for range 50 {
				d := r.step(load{rate: 4000, refused: 10, mean: 0.08, inFlight: 390, binding: 1, limit: 400}.measurement())
				if d.Value != 400 || d.State != AtMax {
					t.Fatalf("%s at %v, want at_max at 400", d.State, d.Value)
				}
			}
		})
		t.Run(string(law)+"/from the floor", func(t *testing.T) {
			r := newRig(t, spec, 20)
			n := 0
			for ; r.in.Value < 96 && n < 200; n++ {
				l := r.in.Value
				r.step(load{rate: l/0.05 + 50, refused: 50, mean: 0.05, inFlight: l, binding: 1, limit: l}.measurement())
			}
			if want := map[Law]int{PIDLaw: 20, AIMDLaw: 76}[law]; n > want {
				t.Errorf("%d periods from 20 to 96, documented at most %d", n, want)
			}
		})
	}
}

// TestRefusalsDoNotLookFast: A15 (envoy#8274): replies to refused requests are not latency; many refusals with a slow service
// never grow the limit.
func TestRefusalsDoNotLookFast(t *testing.T) {
	spec := checkout()
	spec.Concurrency.Min = 10
	r := newRig(t, spec, 20)
	for range 5 {
		d := r.step(load{rate: 400, refused: 320, mean: 0.9, p99: 1.4, inFlight: 20, binding: 1, limit: r.in.Value}.measurement())
		if d.Value > 20 {
			t.Fatalf("grew to %v: %s", d.Value, d.Reason)
		}
		if d.Inputs.RefusedShare != 0.8 {
			t.Errorf("refused share %v, want 0.8, counted apart", d.Inputs.RefusedShare)
		}
	}
}

// TestImplausibleThroughputHolds: a counter reset seen through two replicas (A8; thanos#1326) cannot move the limit or the floor.
func TestImplausibleThroughputHolds(t *testing.T) {
	r := r2(t)
	r.step(traffic(96).measurement())
	spike := traffic(96)
	spike.rate, spike.mean = 28000, 0.2
	for range 4 {
		wantHold(t, r.step(spike.measurement()), Implausible)
	}
	if x := r.s.target.carried.PerSecond(r.now); x > 1.05*400 {
		t.Errorf("the capacity estimate reads %v after the outlier, want 400", x)
	}
}

// TestOneSickInstanceIsAnOutlier: the limit is per instance and shared; the majority of arrivals decides.
func TestOneSickInstanceIsAnOutlier(t *testing.T) {
	healthy, sick := traffic(96).measurement().Instances[0], overload(96).measurement().Instances[0]
	sick.Offered, sick.Refused, sick.Name = healthy.Offered, Read(2000), "h"
	m := traffic(96).measurement()
	m.Instances = nil
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		in := healthy
		in.Name = name
		m.Instances = append(m.Instances, in)
	}
	m.Instances = append(m.Instances, sick)
	d := r2(t).step(m)
	if d.Value != 96 || len(d.Inputs.Outliers) != 1 || d.Inputs.Outliers[0] != "h" {
		t.Errorf("value %v, outliers %v: want the limit kept and h named", d.Value, d.Inputs.Outliers)
	}
	for i := range 5 {
		in := sick
		in.Name = m.Instances[i].Name
		m.Instances[i] = in
	}
	if d := r2(t).step(m); d.State != Cutting {
		t.Errorf("state %s with six of eight in trouble, want a cut", d.State)
	}
}

// TestLoadThatGoesLeavesTheLimit: while the load falls, the window still contains refusals and latencies of the
// overload, and throughput falls with the arrivals. Neither is a reason to cut.
func TestLoadThatGoesLeavesTheLimit(t *testing.T) {
	r := newRig(t, checkout(), 60)
	for range 30 {
		r.step(overload(r.in.Value).measurement())
	}
	settled := r.in.Value
	for _, left := range []float64{0.75, 0.5, 0.25} { // of the window, in overload
		l := overload(r.in.Value)
		quiet := 50.0
		l.rate, l.refused = left*1200+(1-left)*quiet, left*800
		r.step(l.measurement())
	}
	if r.in.Value < settled {
		t.Errorf("the limit was cut from %v to %v while the load went away", settled, r.in.Value)
	}
}

// TestTakeoverIsBumpless: a new leader starts from the Setting in the KV and moves nothing in its first period.
func TestTakeoverIsBumpless(t *testing.T) {
	old := newRig(t, checkout(), 400)
	for range 100 {
		old.step(overload(old.in.Value).measurement())
	}
	heir := newRig(t, checkout(), old.in.Value)
	heir.in = old.in
	heir.s.Restore(heir.now, KnobConcurrency, heir.in)
	for range 10 {
		d := heir.step(overload(heir.in.Value).measurement())
		if math.Abs(float64(d.Value)/old.in.Value-1) > 0.02 {
			t.Fatalf("the heir moved %v to %v", old.in.Value, d.Value)
		}
	}
}

// TestTakeoverBesideAReflexIsBumpless: a reflex's limit wanders by a fifth around the published one. A new leader must
// not publish what it happens to see in one window.
func TestTakeoverBesideAReflexIsBumpless(t *testing.T) {
	r := newRig(t, checkout(), 96)
	noise := rand.New(rand.NewPCG(1, 1))
	step := func() Decision {
		m := overload(math.Round(48 * math.Exp(0.2*noise.NormFloat64()))).measurement()
		m.Instances[0].ServiceTime, m.Instances[0].Revision = Read(0), Read(float64(r.in.Revision))
		return r.step(m)
	}
	for range 100 {
		step()
	}
	for range 200 {
		for range 5 {
			step()
		}
		before := r.in.Value
		r.s.Restore(r.now, KnobConcurrency, r.in)
		step() // holds
		if d := step(); math.Abs(float64(d.Value)/before-1) > 0.02 {
			t.Fatalf("the heir moved %v to %v: %s", before, d.Value, d.Reason)
		}
	}
}

// TestReflexIsCascaded: where a guard's own reflex lives, governor follows its effective limit, contains it with a ceiling,
// and publishes only what is news.
func TestReflexIsCascaded(t *testing.T) {
	r := newRig(t, checkout(), 96)
	guarded := func(l load) Measurement {
		m := l.measurement()
		m.Instances[0].ServiceTime = Read(0)
		m.Instances[0].Revision = Read(float64(r.in.Revision))
		return m
	}
	r.step(guarded(overload(45)))
	writes := 0
	for i := range 60 {
		wobble := 45 * (1 + 0.1*math.Sin(float64(i)))
		d := r.step(guarded(overload(wobble)))
		if d.Publish {
			writes++
		}
		if moved := d.Value != d.From; moved && (d.Bound == BoundDeadband || !strings.Contains(d.Reason, "the guards' own limit runs at")) {
			t.Errorf("the explanation of a move beside a reflex: %s", d.Reason)
		}
	}
	if writes > 3 {
		t.Errorf("%d writes in five minutes of a reflex wobbling by 10%%", writes)
	}
	if r.in.Ceiling < r.in.Value || r.in.Ceiling > 400 {
		t.Errorf("ceiling %v for a limit of %v", r.in.Ceiling, r.in.Value)
	}
	// A reflex that runs away: it sits at its ceiling and the service stays slow.
	for range 20 {
		r.step(guarded(overload(r.in.Ceiling)))
	}
	if r.in.Ceiling > 60 {
		t.Errorf("ceiling %v, limit %v: a runaway reflex was not contained", r.in.Ceiling, r.in.Value)
	}
}

// TestAnyMeasurementsAnyOrder: for any sequence of measurements, outputs are finite, inside the bounds and within slew;
// unknown never loosens; a hold changes nothing.
func TestAnyMeasurementsAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := checkout()
		spec.Concurrency.Law = rapid.SampledFrom([]Law{PIDLaw, AIMDLaw}).Draw(rt, "law")
		s, err := NewLoopSet(spec)
		if err != nil {
			rt.Fatal(err)
		}
		in := InForce{Value: 96, Revision: 1}
		s.Restore(t0, KnobConcurrency, in)
		now := t0
		raiseMax, cutMax := spec.withDefaults().Tuning.RaiseMax, 0.7
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 5 * time.Second, time.Hour, -time.Second}).Draw(rt, "dt"))
			m := anyMeasurement(rt)
			d := s.Step(now, m)[0]
			v, from := float64(d.Value), float64(d.From)
			if l := float64(d.Inputs.EffectiveLimit); d.Gates.FloorTest == FloorTestGuard && !math.IsNaN(l) {
				from = max(from, l) // a reflex has moved the limit itself: governor's step starts there
			}
			switch {
			case math.IsNaN(v) || v < 20 || v > 400:
				rt.Fatalf("value %v outside 20..400: %s", v, d.Reason)
			case v > from && v > max(from*math.Exp(max(raiseMax, math.Ln2))+1e-9, from+1, 20):
				rt.Fatalf("raised %v to %v, beyond the slew limit: %s", from, v, d.Reason)
			case v < from && v < min(from*math.Exp(-cutMax)-1e-9, from-1) && d.Gates.FloorTest != FloorTestGuard && from <= 400:
				rt.Fatalf("cut %v to %v, beyond the slew limit: %s", from, v, d.Reason)
			case d.HoldReason != "" && d.Publish && v > max(from, 20):
				rt.Fatalf("loosened %v to %v on doubt: %s", from, v, d.Reason)
			case d.State == Hold && d.HoldReason != "" && d.Bound != BoundTighten && d.Publish:
				rt.Fatalf("a hold published: %s", d.Reason)
			case d.Reason == "" || strings.Contains(d.Reason, "NaN"):
				rt.Fatalf("explanation %q", d.Reason)
			}
			if _, err := json.Marshal(d); err != nil {
				rt.Fatal(err)
			}
			if d.Publish && rapid.Bool().Draw(rt, "written") {
				in = InForce{Value: v, Ceiling: float64(d.Ceiling), LatencyTarget: float64(d.LatencyTarget), Revision: in.Revision + 1}
			}
			s.Track(now, KnobConcurrency, in)
		}
	})
}

func anyMeasurement(t *rapid.T) Measurement {
	reading := rapid.Custom(func(t *rapid.T) Reading {
		if rapid.IntRange(0, 15).Draw(t, "missing") == 0 {
			return Missing(rapid.SampledFrom([]Reason{NaN, NoData, Stale, ManySeries, Timeout}).Draw(t, "why"), "")
		}
		return Read(rapid.OneOf(rapid.Float64Range(0, 10), rapid.Float64Range(0, 1e5),
			rapid.SampledFrom([]float64{0, math.NaN(), math.Inf(1), 1e300, -1})).Draw(t, "value"))
	})
	m := Measurement{Window: 20 * time.Second, Quantile: reading.Draw(t, "quantile"), Censored: rapid.Bool().Draw(t, "censored")}
	if rapid.IntRange(0, 9).Draw(t, "invalid") == 0 {
		m.Invalid = QueryError
	}
	if rapid.IntRange(0, 9).Draw(t, "partial") == 0 {
		m.Partial = "warning"
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "instances") {
		in := Instance{
			Name: string(rune('a' + i)), Age: Read(rapid.SampledFrom([]float64{0, 2, 100}).Draw(t, "age")),
			Offered: Read(rapid.Float64Range(0, 1e5).Draw(t, "offered")), Admitted: reading.Draw(t, "admitted"),
			Refused: reading.Draw(t, "refused"), Completed: reading.Draw(t, "completed"), Failed: reading.Draw(t, "failed"),
			Slow: reading.Draw(t, "slow"), Mean: reading.Draw(t, "mean"), InFlight: reading.Draw(t, "in flight"),
			Limit: reading.Draw(t, "limit"), Binding: reading.Draw(t, "binding"),
		}
		if rapid.Bool().Draw(t, "reflex") {
			in.ServiceTime = reading.Draw(t, "service time")
		}
		m.Instances = append(m.Instances, in)
	}
	return m
}

// A target that was published for another SLO is replaced at once, even if the limit stays.
func TestATargetOfAnotherSLOIsReplaced(t *testing.T) {
	r := newRig(t, checkout(), 96)
	r.in.LatencyTarget = 0.9
	r.s.Restore(r.now, KnobConcurrency, r.in)
	for range 4 {
		r.step(traffic(96).measurement())
	}
	if most := 0.6 * checkout().SLO.Latency.Seconds(); r.in.LatencyTarget > most || r.in.Value != 96 {
		t.Errorf("target %v s in force with limit %v, want at most %v s and 96", r.in.LatencyTarget, r.in.Value, most)
	}
}

// A person who edits the limit in an emergency is obeyed: whatever the guards' reflex reports for some ticks more, the
// loop goes on from the edited value, within its slew.
func TestEditByHandBesideAReflexIsGoneOnFrom(t *testing.T) {
	for _, tc := range []struct{ before, edited, reported float64 }{{96, 25, 96}, {77, 390, 77}, {96, 25, 25}} {
		spec := checkout()
		spec.Concurrency.Max = 400
		r := newRig(t, spec, tc.before)
		measured := func(limit float64) Measurement {
			m := overload(limit).measurement()
			m.Instances[0].ServiceTime, m.Instances[0].Revision = Read(0), Read(float64(r.in.Revision))
			return m
		}
		for range 40 {
			r.step(measured(tc.before))
		}
		before := r.in.Value
		r.in.Value, r.in.Revision = tc.edited, r.in.Revision+1
		if tc.edited < before {
			r.in.Ceiling = tc.edited
		} else {
			r.in.Ceiling = max(r.in.Ceiling, tc.edited)
		}
		r.s.Adopt(r.now, KnobConcurrency, r.in)

		d := r.step(measured(tc.reported))
		if d.Terms.Event != EventEdited || float64(d.Value) != tc.edited {
			t.Errorf("%v edited to %v: first %s, event %q", before, tc.edited, d.Reason, d.Terms.Event)
		}
		if want := fmt.Sprintf("edited by hand from %v to %v", before, tc.edited); !strings.Contains(d.Reason, want) {
			t.Errorf("the reason is %q, want %q in it", d.Reason, want)
		}
		last := tc.edited
		for i := range 40 {
			d := r.step(measured(tc.reported))
			if d.Terms.Event == EventEdited {
				t.Errorf("reported again: %s", d.Reason)
			}
			move := math.Log(r.in.Value / last)
			if move > math.Log(1.5)+0.001 || move < -math.Ln2-0.001 {
				t.Fatalf("%v edited to %v, %d periods later: %v after %v: %s", before, tc.edited, i, r.in.Value, last, d.Reason)
			}
			if i == 0 && math.Abs(move) > 0.3 {
				t.Errorf("the first step after the edit to %v: %v", tc.edited, r.in.Value)
			}
			last = r.in.Value
		}
	}
}
