package control

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// steps is how many steps the property tests below take in all, over many short runs.
const steps = 1_000_000

// TestNothingLoosensOnDoubt takes a million steps over runs of any measurements: complete, missing, partial, late,
// contradictory. Whatever is measured,
//
//   - a knob is never loosened while something is unknown or contradictory,
//   - nothing is raised while the service violates its SLO, unless the decision names the test that does it, or the test
//     that has shown that the limit is not to blame,
//   - the published latency target is at most 0.6 of the SLO,
//   - a hold ends with the first measurements that are complete.
func TestNothingLoosensOnDoubt(t *testing.T) {
	const runLength = 100
	seeds := steps / runLength
	if testing.Short() {
		seeds /= 20
	}
	for seed := range seeds {
		run := newAnyRun(t, rand.New(rand.NewPCG(uint64(seed), 10)))
		for range runLength {
			run.step(run.anyMeasurement())
		}
		run.recovers()
	}
}

// FuzzNothingLoosensOnDoubt is the same for the seeds that the fuzzer finds.
func FuzzNothingLoosensOnDoubt(f *testing.F) {
	f.Add(uint64(1), uint16(100))
	f.Fuzz(func(t *testing.T, seed uint64, length uint16) {
		run := newAnyRun(t, rand.New(rand.NewPCG(seed, 11)))
		for range length % 500 {
			run.step(run.anyMeasurement())
		}
		run.recovers()
	})
}

// anyRun drives the loops of one service, all knobs steered, with measurements drawn at random.
type anyRun struct {
	t    testing.TB
	rand *rand.Rand
	spec Spec
	s    *LoopSet
	now  time.Time
	in   map[Knob]InForce
	load load
}

func newAnyRun(t testing.TB, r *rand.Rand) *anyRun {
	spec := checkout()
	spec.SLO.Errors = 0.01
	spec.Concurrency.Law = []Law{PIDLaw, AIMDLaw}[r.IntN(2)]
	spec.Shed = &ShedSpec{Protect: Critical}
	spec.Rate = &RateSpec{Min: 50, Max: 5000}
	s, err := NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	run := &anyRun{t: t, rand: r, spec: s.Spec(), s: s, now: t0, in: map[Knob]InForce{}, load: traffic(96)}
	for _, knob := range []Knob{KnobConcurrency, KnobShed, KnobRate} {
		b := run.spec.Bounds(knob)
		f := InForce{Value: b.Min + r.Float64()*(b.Max-b.Min), Revision: 1}
		if knob == KnobConcurrency {
			f.Value = math.Round(f.Value)
		}
		run.in[knob] = f
		s.Restore(run.now, knob, f)
	}
	return run
}

// anyMeasurement is a service that wanders through any load, with a fault of the measurement now and then.
func (r *anyRun) anyMeasurement() Measurement {
	wander := func(v *float64, least, most float64) {
		*v = min(max(*v*math.Exp(r.rand.NormFloat64()*0.5), least), most)
	}
	l := &r.load
	wander(&l.rate, 1, 1e5)
	wander(&l.mean, 0.001, 10)
	l.refused = l.rate * max(0, r.rand.Float64()*1.5-0.5)
	l.p99, l.limit = l.mean*(1+4*r.rand.Float64()), r.in[KnobConcurrency].Value
	l.inFlight, l.binding = l.limit*r.rand.Float64(), r.rand.Float64()
	l.slow, l.failed = r.rand.Float64()*r.rand.Float64()*0.1, r.rand.Float64()*r.rand.Float64()*0.03
	m := l.measurement()
	in := &m.Instances[0]
	if r.rand.IntN(3) == 0 {
		in.ServiceTime = Read(float64(r.rand.IntN(2)) * l.mean)
		in.Limit = Read(math.Round(l.limit * (0.5 + r.rand.Float64())))
	}
	for i := range in.Classes {
		offered := l.rate * 20 / 4
		in.Classes[i] = Class{Offered: Read(offered), Refused: Read(offered * r.rand.Float64() * 0.1)}
	}
	switch r.rand.IntN(12) {
	case 0:
		m.Invalid = []Reason{Timeout, QueryError, NoData}[r.rand.IntN(3)]
	case 1:
		m.Partial = "one store did not answer"
	case 2:
		in.Age = Read(40)
	case 3:
		in.Slow = Missing(NoData, "no edge")
	case 4:
		*[]*Reading{&in.Mean, &in.Completed, &in.Refused, &in.Offered}[r.rand.IntN(4)] = Missing(NaN, "")
	case 5:
		in.Completed = in.Completed.Times(Read(70)) // a counter reset seen through two replicas
	}
	return m
}

// step lets the loops decide for m and checks what they decide.
func (r *anyRun) step(m Measurement) {
	r.now = r.now.Add(r.spec.Timing.Period)
	m.At = r.now
	for _, d := range r.s.Step(r.now, m) {
		in := r.in[d.Knob]
		loosened := d.Publish && float64(d.Value) > in.Value*(1+1e-9) && float64(d.From) <= float64(d.Value)
		tested := d.Gates.FloorTest == FloorTestHalved || d.Gates.FloorTest == RaiseTestRaised ||
			d.Terms.Event == EventRestore || d.Gates.ServiceTimeSeconds > 0 || d.State == Ineffective
		switch target := float64(d.LatencyTarget); {
		case target > 0.6*r.spec.SLO.Latency.Seconds()*(1+1e-9):
			r.t.Fatalf("latency target %v: %s", target, d.Reason)
		case loosened && d.HoldReason != "":
			r.t.Fatalf("%s loosened from %v on doubt: %s", d.Knob, in.Value, d.Reason)
		case loosened && d.Inputs.BadRatio > 1 && !tested && !r.restores(d):
			r.t.Fatalf("%s raised from %v while the SLO is violated (%v): %s", d.Knob, in.Value, d.Inputs.BadRatio, d.Reason)
		}
		if d.Publish && r.rand.IntN(10) > 0 { // else the write failed
			in.Value, in.Revision = float64(d.Value), in.Revision+1
			in.Ceiling, in.LatencyTarget = float64(d.Ceiling), float64(d.LatencyTarget)
			r.in[d.Knob] = in
		}
		r.s.Track(r.now, d.Knob, in)
	}
}

// restores says whether a test has just ended and puts back the limit that it had changed.
func (r *anyRun) restores(d Decision) bool {
	return d.Terms.Event == EventFloorTestEnded
}

// recovers checks that a hold ends when its evidence does.
func (r *anyRun) recovers() {
	good := traffic(r.in[KnobConcurrency].Value).measurement()
	for i := range good.Instances[0].Classes {
		good.Instances[0].Classes[i] = Class{Offered: Read(2000), Refused: Read(0)}
	}
	var last []Decision
	for range 3 {
		r.now = r.now.Add(r.spec.Timing.Period)
		good.At = r.now
		last = r.s.Step(r.now, good)
		for _, d := range last {
			r.s.Track(r.now, d.Knob, r.in[d.Knob])
		}
	}
	for _, d := range last {
		if d.State == Hold || d.HoldReason != "" {
			r.t.Fatalf("%s still holds after three complete measurements: %s", d.Knob, d.Reason)
		}
	}
}

// TestEvidenceAddsUp is a service of 3 requests/s, of which no window holds a hundred.
func TestEvidenceAddsUp(t *testing.T) {
	spec := checkout()
	spec.Concurrency.Min, spec.Concurrency.Max = 1, 64
	r := newSmallRig(t, spec, 3)
	slow := load{rate: 3, refused: 1, mean: 0.04, p99: 0.05, inFlight: 2.9, binding: 0.9, limit: 3}
	raisedAt := 0
	for i := range 60 {
		m := slow.measurement()
		m.Instances[0].Limit = Read(r.in.Value)
		d := r.step(m)
		switch {
		case d.Value > 3 && raisedAt == 0:
			raisedAt = i
		case raisedAt == 0 && d.HoldReason != TooLittleTraffic && d.HoldReason != Starting:
			t.Fatalf("step %d: %s", i, d.Reason)
		}
	}
	if since := time.Duration(raisedAt) * spec.Timing.Period; raisedAt == 0 || since > 2*time.Minute {
		t.Errorf("a limit that refuses a third at half of the target was raised after %s, want two minutes at most", since)
	}
}

func newSmallRig(t *testing.T, spec Spec, limit float64) *rig {
	t.Helper()
	s, err := NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, s: s, now: t0, spec: spec, in: InForce{Value: limit, Revision: 1}}
	s.Restore(t0, KnobConcurrency, r.in)
	return r
}

// C13 (vector#3998): a quota refuses 5% of the requests, the limit is 3% full. It is not what refuses.
func TestRefusalsOfOthersDoNotBind(t *testing.T) {
	r := newRig(t, checkout(), 96)
	for range 60 {
		m := load{rate: 400, refused: 20, mean: 0.0075, p99: 0.02, inFlight: 3, limit: 96}.measurement()
		m.Instances[0].Binding = Missing(NoData, "no guard")
		if d := r.step(m); d.Value != 96 || d.Gates.Binds {
			t.Fatalf("a limit that is 3%% full was moved: %s", d.Reason)
		}
	}
}

// What the roof over all routes of an instance, a route's share of it, or the bound on endless requests refuses says
// nothing about the limit: it moves nothing, and it is counted and named.
func TestRefusalsElsewhereDoNotBind(t *testing.T) {
	for name, field := range map[string]func(*Instance) *Reading{
		"share":   func(in *Instance) *Reading { return &in.RefusedByShare },
		"roof":    func(in *Instance) *Reading { return &in.RefusedByRoof },
		"endless": func(in *Instance) *Reading { return &in.RefusedEndless },
		"callee":  func(in *Instance) *Reading { return &in.RefusedForCallee },
	} {
		r := newRig(t, checkout(), 96)
		for range 10 {
			m := load{rate: 400, refused: 120, mean: 0.09, p99: 0.15, inFlight: 40, limit: 96}.measurement()
			in := &m.Instances[0]
			in.RefusedByRate, *field(in) = Read(0), in.Refused
			d := r.step(m)
			by := d.Inputs.RefusedBy
			got := map[string]Number{"share": by.Share, "roof": by.Roof, "endless": by.Endless, "callee": by.Callee}
			if d.Value != 96 || d.Gates.Binds || by.Concurrency != 0 || d.Inputs.RefusedShare != 0.3 || got[name] != 0.3 {
				t.Fatalf("%s: %s; refused %v, by %+v", name, d.Reason, d.Inputs.RefusedShare, by)
			}
			words := map[string]string{
				"share": "by its share of the roof", "roof": "by the roof over all routes", "endless": "as endless", "callee": "for a callee",
			}
			if !strings.Contains(d.Reason, "the limit does not bind (occupancy 41.7%); refused 30% "+words[name]) {
				t.Fatalf("%s: %s", name, d.Reason)
			}
		}
	}
	// Where the limit refuses as well, the sentence tells them apart.
	r := newRig(t, checkout(), 96)
	m := load{rate: 1200, refused: 600, mean: 0.28, p99: 0.9, inFlight: 96, binding: 1, limit: 96, slow: 0.4}.measurement()
	m.Instances[0].RefusedByRate, m.Instances[0].RefusedByShare = Read(0), m.Instances[0].Refused.Times(Read(0.24))
	if d := r.step(m); !strings.Contains(d.Reason, "refused 38%, and 12% by its share of the roof") {
		t.Errorf("%s", d.Reason)
	}
}

// C26: the SLO was out of reach in an overload. It is not called so when nothing is late any more, whatever was learned.
func TestInfeasibleNeedsPresentEvidence(t *testing.T) {
	r := newRig(t, checkout(), 96)
	bad := load{rate: 1200, refused: 600, mean: 0.28, p99: 0.9, inFlight: 96, binding: 1, limit: 96, slow: 0.4}
	for range 30 {
		r.step(bad.measurement())
	}
	for i := range 10 {
		m := load{rate: 40, mean: 0.05, p99: 0.23, inFlight: 2, limit: r.in.Value}.measurement()
		if d := r.step(m); d.Gates.Infeasible {
			t.Fatalf("step %d: %s", i, d.Reason)
		}
	}
	// A service that is slow without any queue and late for it is called infeasible, and the words name the quantity.
	wide := load{rate: 400, mean: 0.08, p99: 0.34, inFlight: 32, limit: r.in.Value, slow: 0.03}
	if d := r.step(wide.measurement()); d.Gates.InfeasibleBy != BySpread {
		t.Errorf("p99 340 ms at a mean of 80 ms, SLO 300 ms: %q, %s", d.Gates.InfeasibleBy, d.Reason)
	}
}

// C28 (aperture#2865): the service reads no Setting. 240 requests/s that take a second are 240 in flight, far more than a
// limit of 35 allows: nobody obeys, and nothing is raised.
func TestNobodyObeys(t *testing.T) {
	spec := checkout()
	r := newRig(t, spec, 35)
	m := load{rate: 240, mean: 1, p99: 1, inFlight: 240, slow: 1}.measurement()
	m.Instances[0].Limit, m.Instances[0].Binding = Missing(NoData, ""), Missing(NoData, "")
	var last Decision
	for range 24 {
		last = r.step(m)
		if last.Value > 35 {
			t.Fatalf("raised: %s", last.Reason)
		}
	}
	if last.State != NotObeyed {
		t.Errorf("after two minutes: %s, %s", last.State, last.Reason)
	}
}

// A service whose mean is above its setpoint while hardly anything is refused: is that a queue? The limit is raised by
// half to see. A delay that is no queue stays what it is.
func TestRaiseTestTellsADelayFromAQueue(t *testing.T) {
	for name, queue := range map[string]bool{"delay": false, "queue": true} {
		spec := checkout()
		spec.SLO.Latency = 300 * time.Millisecond
		r := newRig(t, spec, 96)
		for range 40 { // teaches D̂: the p99 lies 160 ms above the mean, so that the latency target is 110 ms
			r.step(load{rate: 400, mean: 0.08, p99: 0.24, inFlight: 32, limit: 96}.measurement())
		}
		raised, most := false, 0.0
		for range 40 {
			mean := 0.16
			if queue {
				mean = 0.16 * r.in.Value / 96
			}
			l := load{rate: 400, refused: 8, mean: mean, p99: mean + 0.13, inFlight: 0.97 * r.in.Value, binding: 1, limit: r.in.Value}
			if r.in.Value > 100 && !queue {
				l.refused, l.binding, l.inFlight = 0, 0, 76
			}
			d := r.step(l.measurement())
			raised, most = raised || d.Gates.FloorTest == RaiseTestRaised, max(most, float64(d.Value))
		}
		switch {
		case !raised || most != 144:
			t.Errorf("%s: the limit was raised to %v, want a test with 144", name, most)
		case queue && r.in.Value >= 96:
			t.Errorf("a queue: the limit stays at %v", r.in.Value)
		case !queue && r.in.Value < 144:
			t.Errorf("a delay: the limit went back to %v", r.in.Value)
		}
	}
}

// The property that a join of windows must have: counts add up, and the mean lies between those of the windows.
func TestJoinedWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) load {
			return load{
				rate: rapid.Float64Range(1, 100).Draw(t, name+" rate"), mean: rapid.Float64Range(0.01, 2).Draw(t, name+" mean"),
				inFlight: rapid.Float64Range(0, 50).Draw(t, name+" in flight"), limit: 64,
			}
		}
		a, b := draw("now"), draw("before")
		j := a.measurement().join(b.measurement())
		in := j.Instances[0]
		switch mean := in.Mean.Float(); {
		case j.Window != 40*time.Second:
			t.Fatalf("window %s", j.Window)
		case math.Abs(in.Offered.Float()-20*(a.rate+b.rate)) > 1e-6:
			t.Fatalf("offered %v", in.Offered)
		case mean < min(a.mean, b.mean)-1e-9 || mean > max(a.mean, b.mean)+1e-9:
			t.Fatalf("mean %v of %v and %v", mean, a.mean, b.mean)
		case math.Abs(in.InFlight.Float()-(a.inFlight+b.inFlight)/2) > 1e-6:
			t.Fatalf("in flight %v", in.InFlight)
		}
	})
}

// What is learned comes with what it rests on: a default has no samples, and each new window makes the evidence young.
func TestLearnedQuantitiesCarryTheirEvidence(t *testing.T) {
	r := newRig(t, checkout(), 96)
	for range 24 {
		r.step(traffic(96).measurement())
	}
	d := r.step(traffic(96).measurement())
	own, spread := d.Learned.OwnLatency, d.Learned.Spread
	if own.Samples < 5 || own.AgeSeconds > 20 || math.Abs(float64(own.Value)-0.08) > 0.001 {
		t.Errorf("own latency %+v, want 80 ms from windows of the last two minutes", own)
	}
	if spread.Samples < 5 || spread.AgeSeconds != 0 || math.Abs(float64(spread.Value)-0.08) > 0.001 {
		t.Errorf("spread %+v, want 80 ms from this window and those before", spread)
	}
	if s := d.Learned.ServiceTime; s.Samples != 0 || s.Value.Known() {
		t.Errorf("service time %+v, want none", s)
	}
	idle := r.step(Measurement{Window: 20 * time.Second, Invalid: Timeout})
	if idle.Learned.OwnLatency.AgeSeconds <= own.AgeSeconds {
		t.Errorf("the evidence does not age: %+v after %+v", idle.Learned.OwnLatency, own)
	}
}

// C31: at small limits a threshold keeps few slots, and the words say how few.
func TestReserveAtSmallLimits(t *testing.T) {
	for _, c := range []struct {
		limit, threshold float64
		want             int
	}{{7, 0.4, 4}, {4, 0.4, 2}, {4, 0.6, 1}, {2, 0.6, 0}, {1, 0.4, 0}, {100, 0.6, 39}, {100, 1, 0}} {
		if got := Reserve(c.limit, c.threshold); got != c.want {
			t.Errorf("limit %v, threshold %v: %d slots, want %d", c.limit, c.threshold, got, c.want)
		}
	}
}

// While all routes together have no room, the latencies of this one swing with what the others have in flight. That spread
// is not its own, and lowers no target.
func TestSpreadIsNotLearnedFromOtherRoutes(t *testing.T) {
	swinging := load{rate: 400, mean: 0.08, p99: 0.25, inFlight: 32, limit: 96}
	for name, field := range map[string]func(*Instance) *Reading{
		"share": func(in *Instance) *Reading { return &in.RefusedByShare },
		"roof":  func(in *Instance) *Reading { return &in.RefusedByRoof },
		"":      nil, // the spread is its own
	} {
		r := newRig(t, checkout(), 96)
		var before, after Decision
		for range 24 {
			before = r.step(traffic(96).measurement())
		}
		for range 60 {
			l := swinging
			if field != nil {
				l.refused = 4
			}
			m := l.measurement()
			if in := &m.Instances[0]; field != nil {
				in.RefusedByRate, *field(in) = Read(0), in.Refused
			}
			after = r.step(m)
		}
		if lowered := after.LatencyTarget < before.LatencyTarget; lowered != (field == nil) {
			t.Errorf("refused by %q: the target is %v, was %v; the spread %v, was %v", name, after.LatencyTarget, before.LatencyTarget,
				after.Learned.Spread.Value, before.Learned.Spread.Value)
		}
	}
}
