package control

import (
	"strings"
	"testing"
	"time"
)

// retryRig steps the loop of a retry budget of 0.1, with a value in force.
type retryRig struct {
	t   *testing.T
	s   *LoopSet
	now time.Time
	in  InForce
}

func newRetryRig(t *testing.T, mode Mode, in InForce) *retryRig {
	t.Helper()
	spec := checkout()
	spec.Mode, spec.Retry = mode, &RetrySpec{Budget: 0.1}
	s, err := NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	r := &retryRig{t: t, s: s, now: t0, in: in}
	if in.Revision > 0 {
		s.Restore(r.now, KnobRetry, in)
	}
	return r
}

func (r *retryRig) step(m Measurement) Decision {
	r.t.Helper()
	r.now = r.now.Add(5 * time.Second)
	m.At = r.now
	ds := r.s.Step(r.now, m)
	d := ds[len(ds)-1]
	if d.Knob != KnobRetry {
		r.t.Fatalf("the last knob is %s", d.Knob)
	}
	if d.Publish {
		r.in = InForce{Value: float64(d.Value), Revision: r.in.Revision + 1}
	}
	if r.in.Revision > 0 {
		r.s.Track(r.now, KnobRetry, r.in)
	}
	return d
}

var (
	down = Measurement{Invalid: Timeout, Detail: "no answer"}
	up   = traffic(96).measurement()
)

// An override reaches the callers with the next publish, whatever can be measured, and 0 is a value like any other. The
// end of the order brings the configured value back.
func TestRetryIsAConstantThatPeopleOverride(t *testing.T) {
	for name, m := range map[string]Measurement{"measured": up, "Prometheus is down": down} {
		r := newRetryRig(t, Enforce, InForce{Value: 0.1, Revision: 7})
		d := r.step(m)
		if d.State != Steady || d.Value != 0.1 || d.Publish || d.Renew != (m.Invalid == "") ||
			!strings.HasPrefix(d.Reason, "keep 0.10: constant") {
			t.Errorf("%s: %s %v, publish %v, renew %v: %s", name, d.State, d.Value, d.Publish, d.Renew, d.Reason)
		}
		r.s.Obey(KnobRetry, &Order{State: Override, Value: 0, Why: "ana: INC-1412", Expires: r.now.Add(12 * time.Second)})
		if d = r.step(m); d.State != Override || d.Value != 0 || !d.Publish || !d.Renew ||
			!strings.HasPrefix(d.Reason, "override 0.00 until ") {
			t.Errorf("%s: ordered 0: %s %v, publish %v: %s", name, d.State, d.Value, d.Publish, d.Reason)
		}
		if d = r.step(m); d.State != Override || d.Value != 0 || d.Publish || !d.Renew {
			t.Errorf("%s: 0 in force: %s %v, publish %v", name, d.State, d.Value, d.Publish)
		}
		if d = r.step(m); d.State != Raising || d.From != 0 || d.Value != 0.1 || !d.Publish ||
			!strings.HasPrefix(d.Reason, "raise 0.00->0.10: constant") {
			t.Errorf("%s: the order has ended: %s %v, publish %v: %s", name, d.State, d.Value, d.Publish, d.Reason)
		}
		r.s.Obey(KnobRetry, &Order{State: Override, Value: 7, Why: "ana: INC-1412"})
		if d = r.step(m); d.Value != 1 || d.Bound != BoundMax {
			t.Errorf("%s: ordered 7: %v, bound %q", name, d.Value, d.Bound)
		}
		r.s.Obey(KnobRetry, &Order{State: Frozen, Why: "ana: INC-1412"})
		if d = r.step(m); d.State != Frozen || d.Value != 1 || d.Publish {
			t.Errorf("%s: frozen: %s %v", name, d.State, d.Value)
		}
	}
}

// Before the first Setting nothing is published until the service is measured, unless a person says so.
func TestFirstRetryBudgetWaitsForAMeasurement(t *testing.T) {
	r := newRetryRig(t, Enforce, InForce{})
	if d := r.step(down); d.Publish || d.Renew || d.Value != 0.1 {
		t.Errorf("nothing measured: %v, publish %v, renew %v", d.Value, d.Publish, d.Renew)
	}
	r.s.Obey(KnobRetry, &Order{State: Override, Value: 0, Why: "ana: INC-1412"})
	if d := r.step(down); !d.Publish || d.Value != 0 {
		t.Errorf("ordered: %v, publish %v", d.Value, d.Publish)
	}
	r = newRetryRig(t, Enforce, InForce{})
	if d := r.step(up); !d.Publish || !d.Renew || d.Value != 0.1 {
		t.Errorf("measured: %v, publish %v, renew %v", d.Value, d.Publish, d.Renew)
	}
	r = newRetryRig(t, Observe, InForce{})
	r.step(up)
	if d := r.step(up); d.Publish || d.Value != 0.1 {
		t.Errorf("in observe: %v, publish %v", d.Value, d.Publish)
	}
}

// The retries that the callers make are shown beside the budget.
func TestRetriesAreMeasured(t *testing.T) {
	r := newRetryRig(t, Enforce, InForce{Value: 0.1, Revision: 7})
	m := traffic(96).measurement()
	a, b := callTo("payments", 0.02, 0.04), callTo("search", 0.02, 0.04)
	b.Retries = Read(30)
	m.Instances[0].Calls = []Call{a, b}
	if d := r.step(m); d.Measured != 0.2 || d.Setpoint != 0.1 {
		t.Errorf("measured %v, setpoint %v", d.Measured, d.Setpoint)
	}
	if d := r.step(up); d.Measured.Known() {
		t.Errorf("without calls measured %v", d.Measured)
	}
}
