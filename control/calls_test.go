package control

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// caller is checkout, which calls payments and search through guard and has a target for payments.
func caller() Spec {
	spec := checkout()
	spec.Calls = []CallSpec{{To: "payments"}}
	return spec
}

// callTo is what an instance reports of 100 calls to a dependency in a window, each of them answered within mean.
func callTo(to string, own, mean float64) Call {
	return Call{
		To: to, Requests: Read(100), Attempts: Read(110), Retries: Read(10), Failures: Read(0), Finished: Read(110), Mean: Read(mean),
		PastDeadline: Read(0), BreakerOpen: Read(0), BulkheadFull: Read(0), CalleeRefused: Read(0),
		InFlight: Read(3), Limit: Read(24), LatencyTarget: Read(3 * own), OwnLatency: Read(own), Revision: Read(1),
		Closed: Read(3), Open: Read(0), HalfOpen: Read(0), OpenedByFailures: Read(0), OpenedAsSlow: Read(0),
	}
}

// learnedBy is a healthy measurement of one instance for each m₀ of payments in seconds; 0: not learned.
func learnedBy(own ...float64) Measurement {
	m := traffic(96).measurement()
	in := m.Instances[0]
	m.Instances = nil
	for i, seconds := range own {
		in.Name, in.Calls = fmt.Sprint("a", i), []Call{callTo("payments", seconds, 0.05)}
		m.Instances = append(m.Instances, in)
	}
	return m
}

// callRig steps the loop of the calls to payments.
type callRig struct {
	*rig
	in InForce
}

func newCallRig(t *testing.T, spec Spec, target float64) *callRig {
	t.Helper()
	r := &callRig{rig: newSmallRig(t, spec, 96)}
	if target > 0 {
		r.in = InForce{Value: target, Revision: 1}
		r.s.Restore(r.now, KnobCall("payments"), r.in)
	}
	r.step(learnedBy(0.03)) // the loop starts
	return r
}

func (r *callRig) step(m Measurement) Decision {
	r.t.Helper()
	r.now = r.now.Add(r.spec.Timing.Period)
	m.At = r.now
	ds := r.s.Step(r.now, m)
	d := ds[len(ds)-1]
	if b := r.s.Spec().Bounds(d.Knob); !(float64(d.Value) >= b.Min && float64(d.Value) <= b.Max) {
		r.t.Fatalf("a target of %v, outside %+v: %s", d.Value, b, d.Reason)
	}
	if _, err := json.Marshal(d); err != nil {
		r.t.Fatal(err)
	}
	if d.Publish {
		r.in = InForce{Value: float64(d.Value), Revision: r.in.Revision + 1}
		r.s.Track(r.now, d.Knob, r.in)
	}
	return d
}

// The SLO is 250 ms, so that calls may take 100 ms of it.
func TestTargetOfCallsIsThreeTimesTheirOwnLatency(t *testing.T) {
	for _, tc := range []struct {
		name   string
		m      Measurement
		from   float64
		value  float64
		state  State
		reason string // part of it
	}{
		{"the first", learnedBy(0.02), 0, 0.06, Cutting, "3 x own latency 20 ms = 60 ms, 5% to 40% of the SLO = 12.5 ms to 100 ms"},
		{"a share of the SLO is the most", learnedBy(0.05), 0.06, 0.1, Raising, "bound by max"},
		{"a dependency that takes most of the share", learnedBy(0.081), 0.06, 0.10125, Raising, "it is slower than that by itself"},
		{"a dependency that is slower than the SLO", learnedBy(0.24), 0.06, 0.2, Raising, "it is slower than that by itself"},
		{"one that learned nonsense", learnedBy(0.02, 0.02, 9), 0.06, 0.06, Steady, "3 x own latency 20 ms"},
		{"one that learned nothing", learnedBy(0.02, 0.02, 0), 0.06, 0.06, Steady, "3 x own latency 20 ms"},
		{"of two the lower", learnedBy(0.02, 0.03), 0.06, 0.06, Steady, "3 x own latency 20 ms"},
		{"a move of less than a tenth", learnedBy(0.0214), 0.06, 0.06, Steady, "bound by deadband"},
		{"a dependency became faster", learnedBy(0.011), 0.06, 0.033, Cutting, "3 x own latency 11 ms"},
		{"next to no latency", learnedBy(0.00001), 0.06, 0.0125, Cutting, "bound by min"},
		{"most have not learned", learnedBy(0.02, 0, 0), 0.06, 0.06, Hold, "1 of 3 instances know the own latency of payments"},
		{"nobody has learned", learnedBy(0, 0), 0.06, 0.06, Hold, "0 of 2 instances"},
		{"own latency far above the mean", learnedBy(0.5), 0.06, 0.06, Hold, "implausible, an own latency of 500 ms"},
		{"no calls", traffic(96).measurement(), 0.06, 0.06, Hold, "no instance reports calls to payments"},
		{"no measurement", Measurement{Invalid: Timeout}, 0.06, 0.06, Hold, "timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newCallRig(t, caller(), tc.from)
			if tc.from == 0 {
				r = newCallRigWithout(t)
			}
			d := r.step(tc.m)
			if math.Abs(float64(d.Value)-tc.value) > 1e-9 || d.State != tc.state || !strings.Contains(d.Reason, tc.reason) {
				t.Errorf("%s at %v: %q; want %s at %v, with %q", d.State, d.Value, d.Reason, tc.state, tc.value, tc.reason)
			}
			if d.Renew != (tc.state != Hold) {
				t.Errorf("renews the lease: %v", d.Renew)
			}
			if d.Publish != (tc.from == 0 || tc.value != tc.from) {
				t.Errorf("publishes: %v", d.Publish)
			}
		})
	}
}

// newCallRigWithout is a callRig of which nothing is published.
func newCallRigWithout(t *testing.T) *callRig {
	r := &callRig{rig: newSmallRig(t, caller(), 96)}
	r.now = r.now.Add(r.spec.Timing.Period)
	m := learnedBy(0.03)
	m.At = r.now
	r.s.Step(r.now, m)
	return r
}

// Doubt may lower a target, never raise it.
func TestTargetOfCallsIsNotLoosenedOnDoubt(t *testing.T) {
	r := newCallRig(t, caller(), 0.06)
	partial := func(own float64) Measurement {
		m := learnedBy(own)
		m.Partial = "some of the data is missing"
		return m
	}
	d := r.step(partial(0.03))
	if d.Value != 0.06 || d.Bound != BoundTighten || d.Publish || d.Renew || d.State != Hold {
		t.Errorf("a raise while partial: %s %v, bound %q: %s", d.State, d.Value, d.Bound, d.Reason)
	}
	if d = r.step(partial(0.01)); d.Value != 0.03 || !d.Publish || d.Renew {
		t.Errorf("a cut while partial: %v, publish %v, renew %v: %s", d.Value, d.Publish, d.Renew, d.Reason)
	}
	m := learnedBy(0.03)
	m.Instances[0].Calls[0].Failures = Read(500)
	if d = r.step(m); d.State != Hold || d.HoldReason != Implausible || d.Value != 0.03 {
		t.Errorf("more failures than attempts: %s %v: %s", d.State, d.Value, d.Reason)
	}
}

// The noise of what guards learn writes nothing.
func TestTargetOfCallsDoesNotChurn(t *testing.T) {
	r := newCallRig(t, caller(), 0.06)
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		jitter := func() float64 { return 0.02 * (1 + 0.09*(2*random.Float64()-1)) }
		if d := r.step(learnedBy(jitter(), jitter(), jitter())); d.Publish {
			t.Fatalf("published %v: %s", d.Value, d.Reason)
		}
	}
}

// The kill switch freezes the targets, too, and shadow publishes none.
func TestTargetOfCallsObeysTheKillSwitchAndTheMode(t *testing.T) {
	r := newCallRig(t, caller(), 0.06)
	r.s.Obey(KnobCall("payments"), &Order{State: Frozen, Why: "kill switch, ana: INC-1412"})
	if d := r.step(learnedBy(0.03)); d.State != Frozen || d.Value != 0.06 || d.Publish || !d.Renew {
		t.Errorf("under the kill switch: %+v", d)
	}
	r.s.Obey(KnobCall("payments"), nil)
	m := learnedBy(0.03)
	m.Capped = "nothing tells its instances apart"
	if d := r.step(m); d.Mode != Shadow || d.Publish || d.Renew {
		t.Errorf("where nothing may be enforced: mode %s, publish %v, renew %v", d.Mode, d.Publish, d.Renew)
	}
}

// A dependency takes nearly all of the time and fills the limit. Without the waiting the loop would cut, down to its
// floor, a service that is well.
func TestWaitingInCallsIsNotCutFor(t *testing.T) {
	run := func(waited float64) (*rig, Decision) {
		r := newRig(t, checkout(), 96)
		var d Decision
		for range 12 {
			l := load{
				rate: 400, refused: 208, mean: 0.5, p99: 0.9, inFlight: 96, binding: 1, limit: r.in.Value, slow: 0.9,
			}
			l.inFlight = r.in.Value
			l.refused = max(0, l.rate-r.in.Value/l.mean)
			m := l.measurement()
			if waited > 0 {
				m.Instances[0].Waited = Read(waited * m.Instances[0].Completed.value)
			}
			d = r.step(m)
		}
		return r, d
	}
	if r, d := run(0); r.in.Value > 60 {
		t.Errorf("without the waiting it cuts to %v only: %s", r.in.Value, d.Reason)
	}
	r, d := run(0.45)
	if r.in.Value < 96 || math.Abs(float64(d.Measured)-0.05) > 1e-9 || math.Abs(float64(d.Inputs.WaitedSeconds)-0.45) > 1e-9 {
		t.Errorf("with the waiting it cuts to %v, measured %v, waited %v: %s", r.in.Value, d.Measured, d.Inputs.WaitedSeconds, d.Reason)
	}
	if !(d.Inputs.BadRatio > 1) {
		t.Errorf("the SLO is the users': bad ratio %v", d.Inputs.BadRatio)
	}
}

// A dependency refuses the calls of most requests, which then fail within 2 ms. The others take 250 ms, far above the target.
// The failures do not make the service look fast, so the limit does not rise.
func TestFailuresCutShortDoNotRaise(t *testing.T) {
	const short = 0.9
	run := func(told bool) (*rig, Decision) {
		r := newRig(t, checkout(), 96)
		var d Decision
		for range 12 {
			l := load{
				rate: 8000, refused: 4000, mean: 0.1*0.25 + short*0.002, p99: 0.28, inFlight: r.in.Value, binding: 1,
				limit: r.in.Value, failed: short, slow: 0.06,
			}
			m := l.measurement()
			if in := &m.Instances[0]; told {
				n := short * in.Completed.value
				in.CutShort = CutShort{Count: Read(n), Own: Read(n * 0.001), Waited: Read(n * 0.001)}
				in.Waited = Read(n * 0.001)
			}
			d = r.step(m)
		}
		return r, d
	}
	if r, d := run(false); r.in.Value <= 96 {
		t.Errorf("a guard that does not tell them apart: %v: %s", r.in.Value, d.Reason)
	}
	r, d := run(true)
	if r.in.Value > 96 || math.Abs(float64(d.Measured)-0.25) > 1e-9 || d.Inputs.WaitedSeconds != 0 {
		t.Errorf("it goes to %v, measured %v, waited %v: %s", r.in.Value, d.Measured, d.Inputs.WaitedSeconds, d.Reason)
	}
	if !(d.Inputs.FailedRatio > 0.8) {
		t.Errorf("the failures are the users': %v", d.Inputs.FailedRatio)
	}
	few := load{rate: 400, mean: 0.002, p99: 0.01, inFlight: 8, limit: 96, failed: 0.999}.measurement()
	n := few.Instances[0].Completed.value - 5
	few.Instances[0].CutShort = CutShort{Count: Read(n), Own: Read(n * 0.001), Waited: Read(n * 0.001)}
	if d := newRig(t, checkout(), 96).step(few); d.State != Hold || d.HoldReason != TooLittleTraffic {
		t.Errorf("five that were not cut short: %s, %s: %s", d.State, d.HoldReason, d.Detail)
	}
	in := Instance{Completed: Read(10), Mean: Read(0.002), CutShort: CutShort{Count: Read(10), Own: Read(0.02), Waited: Read(0)}}
	if why, detail := in.own().Why(); why != NoData || detail != cutShort {
		t.Errorf("where all are cut short: %s, %s", why, detail)
	}
}

// Requests in flight wait in calls, too: the limit for the same own latency is larger.
func TestLimitHoldsRoomForTheWaiting(t *testing.T) {
	run := func(waited float64) float64 {
		r := newRig(t, checkout(), 400)
		for range 40 {
			l := overload(r.in.Value) // the mean is limit/400, of which some is waiting
			m := l.measurement()
			m.Instances[0].Waited = Read(waited * m.Instances[0].Completed.value)
			r.step(m)
		}
		return r.in.Value
	}
	without, with := run(0), run(0.1)
	if math.Abs(with-without-0.1*400) > 8 {
		t.Errorf("limits of %v and %v; 100 ms of waiting at 400/s are 40 requests in flight", without, with)
	}
}

// Where requests wait in calm, too, the rest of their time gets less of the target, as in guard. A dependency that becomes
// slow changes neither that nor D̂.
func TestCalmWaitingTakesItsShareOfTheTarget(t *testing.T) {
	calm := func(waited float64) Measurement {
		m := load{rate: 400, mean: 0.03 + waited, p99: 0.08 + waited, inFlight: 400 * (0.03 + waited), limit: 96}.measurement()
		m.Instances[0].Waited = Read(waited * m.Instances[0].Completed.value)
		return m
	}
	settled := func(waited float64) (*rig, Decision) {
		r := newRig(t, checkout(), 96)
		var d Decision
		for range 60 {
			d = r.step(calm(waited))
		}
		return r, d
	}
	_, without := settled(0)
	r, with := settled(0.05) // of the SLO of 250 ms
	if math.Abs(float64(with.Setpoint/without.Setpoint)-0.8) > 0.01 || with.LatencyTarget != without.LatencyTarget {
		t.Errorf("setpoints %v and %v, targets %v and %v", without.Setpoint, with.Setpoint, without.LatencyTarget, with.LatencyTarget)
	}
	if math.Abs(float64(with.Learned.OwnLatency.Value)-0.03) > 1e-3 {
		t.Errorf("own latency %v", with.Learned.OwnLatency.Value)
	}
	for range 60 { // the dependency needs 350 ms, which spreads the latencies
		m := calm(0.35)
		m.Quantile = Read(2)
		slow := r.step(m)
		if slow.LatencyTarget != with.LatencyTarget || math.Abs(float64(slow.Setpoint/with.Setpoint)-1) > 0.01 ||
			math.Abs(float64(slow.Learned.Spread.Value-with.Learned.Spread.Value)) > 1e-9 {
			t.Fatalf("setpoint %v, target %v, D %v; were %v, %v, %v", slow.Setpoint, slow.LatencyTarget, slow.Learned.Spread.Value,
				with.Setpoint, with.LatencyTarget, with.Learned.Spread.Value)
		}
	}
}

func TestMoreWaitingThanLatencyIsImplausible(t *testing.T) {
	r := newRig(t, checkout(), 96)
	m := traffic(96).measurement()
	m.Instances[0].Waited = Read(2 * 0.08 * m.Instances[0].Completed.value)
	wantHold(t, r.step(m), Implausible)
}

// The finding names the dependency, only where its part of the latency has grown most and only while the service is slow.
func TestCulpritIsNamed(t *testing.T) {
	measured := func(calls ...Call) Measurement {
		m := load{rate: 400, mean: 0.35, p99: 0.5, inFlight: 140, limit: 400, slow: 0.8}.measurement()
		m.Instances[0].Calls = calls
		return m
	}
	many := func(to string, share, mean float64) Call { // of the 8000 requests of the window
		c := callTo(to, 0.03, mean)
		c.Requests, c.Attempts, c.Finished = Read(8000*share), Read(8000*share), Read(8000*share)
		c.Retries = Read(0)
		return c
	}
	for _, tc := range []struct {
		name string
		m    Measurement
		want string
	}{
		{"most of it", measured(many("payments", 1, 0.31), many("search", 1, 0.01)), "checkout is slow because payments is: 310 ms of 350 ms"},
		{"calls side by side", measured(many("payments", 3, 0.2)), "checkout is slow because payments is: 350 ms of 350 ms"},
		{"rare calls", measured(many("payments", 0.1, 0.9)), ""},
		{"nothing known", measured(), ""},
	} {
		r := newRig(t, checkout(), 400)
		d := r.step(tc.m)
		if named := strings.Contains(d.Reason, "is slow because"); named != (tc.want != "") || !strings.Contains(d.Reason, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, d.Reason, tc.want)
		}
	}
	fast := traffic(96).measurement()
	fast.Instances[0].Calls = []Call{many("payments", 1, 0.07)}
	if d := newRig(t, checkout(), 96).step(fast); strings.Contains(d.Reason, "is slow because") || d.Inputs.Culprit != "" {
		t.Errorf("a service that is fast: %q, culprit %q", d.Reason, d.Inputs.Culprit)
	}
}

// What the instances report is added up, and a part that some lack does not make the rest unknown.
func TestCallsOfSeveralInstancesAddUp(t *testing.T) {
	a, b := callTo("payments", 0.02, 0.04), callTo("payments", 0.03, 0.06)
	a.BulkheadFull, a.Open, a.Closed, a.OpenedByFailures = Read(20), Read(1), Read(2), Read(1)
	b.Limit, b.Failures = Missing(NoData, ""), Read(11)
	all := dependencies([]Instance{{Calls: []Call{callTo("search", 0, 0.01), a}}, {Calls: []Call{b}}}, Read(1000))
	if len(all) != 2 || all[0].Name != "payments" || all[1].Name != "search" {
		t.Fatalf("got %+v", all)
	}
	d := all[0]
	for what, got := range map[string][2]float64{
		"instances": {float64(d.Instances), 2}, "requests": {float64(d.Requests), 200}, "retries": {float64(d.RetryRatio), 0.1},
		"failed": {float64(d.FailedRatio), 0.05}, "refused": {float64(d.RefusedRatio), 0.1},
		"refused by the bulkhead": {float64(d.RefusedBy.Bulkhead), 0.1}, "mean": {float64(d.Mean), 0.05},
		"per request": {float64(d.PerRequest), 0.011}, "limit": {float64(d.Limit), 24}, "in flight": {float64(d.InFlight), 3},
		"own latency": {float64(d.OwnLatency), 0.02}, "learned by": {float64(d.LearnedBy), 2},
		"open": {float64(d.Breakers.Open), 1}, "closed": {float64(d.Breakers.Closed), 5},
		"opened": {float64(d.BreakersOpened.Failures), 1},
	} {
		if math.Abs(got[0]-got[1]) > 1e-9 {
			t.Errorf("%s: %v, want %v", what, got[0], got[1])
		}
	}
	if own := all[1].OwnLatency; own.Known() || all[1].LearnedBy != 0 {
		t.Errorf("an own latency of %v that nobody has learned", own)
	}
}

func TestSpecsOfCallsThatNoLoopCouldWorkWith(t *testing.T) {
	for name, c := range map[string]CallSpec{
		"nobody": {}, "min above max": {To: "a", Min: 9, Max: 3}, "closed": {To: "a", Min: 0.5}, "no end": {To: "a", Max: math.Inf(1)},
	} {
		spec := checkout()
		spec.Calls = []CallSpec{c}
		if _, err := NewLoopSet(spec); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	spec := Spec{Service: "front", Mode: Enforce, SLO: SLO{Latency: time.Second, Objective: 0.99}, Timing: timing5}
	spec.Calls = []CallSpec{{To: "payments"}}
	if _, err := NewLoopSet(spec); err != nil {
		t.Errorf("calls alone: %v", err)
	}
}
