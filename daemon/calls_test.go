package daemon

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// callerOf calls payments, and has a retry budget.
func callerOf(service string, mode control.Mode) control.Spec {
	spec := specOf(service, mode)
	spec.Retry = &control.RetrySpec{Budget: 0.1}
	spec.Calls = []control.CallSpec{{To: "payments", Max: 64}}
	return spec
}

// calling lets the instances of the service report an own latency of payments.
func (w *world) calling(service string, own time.Duration) {
	read := control.Read
	w.sensor.set(func(p *plants) {
		p.services[service].spoil = func(m *control.Measurement) {
			if m.Invalid != "" {
				return
			}
			m.Instances[0].Calls = []control.Call{{
				To: "payments", Requests: read(2000), Attempts: read(2100), Retries: read(100), Failures: read(0),
				CalleeRefused: read(0), BreakerOpen: read(0), BulkheadFull: read(0), PastDeadline: read(0),
				Finished: read(2100), Mean: read(1.2 * own.Seconds()), InFlight: read(3), Limit: read(24), OwnLatency: read(own.Seconds()),
				LatencyTarget: read(3 * own.Seconds()), Revision: read(float64(w.kv.call(service).Revision)),
			}}
		}
	})
}

// call is the Setting of the calls of a service to payments.
func (kv *memoryKV) call(service string) actuators.Setting {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return kv.settled[actuators.Keys{}.CallSetting(service, "payments")].Setting
}

// leadCaller is lead for a service that calls payments.
func leadCaller(t *testing.T, mode control.Mode) (*world, *governor) {
	t.Helper()
	w := newWorld("checkout")
	w.calling("checkout", 20*time.Millisecond)
	g := w.governorOf(t, w.group(callerOf("checkout", mode)))
	g.win(1)
	g.start(t)
	return w, g
}

const callKnob = control.Knob("calls/payments")

func TestCallsHaveASettingOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := leadCaller(t, control.Enforce)
		pass(time.Minute)
		call, own := w.kv.call("checkout"), w.kv.stored("checkout")
		want := actuators.Concurrency{Limit: 64, Ceiling: 64, Fallback: 64, Min: 1, Max: 64, LatencyTargetSeconds: 0.06}
		if call.Callee != "payments" || call.Concurrency == nil || *call.Concurrency != want || call.Epoch != 1 || call.Revision != 1 {
			t.Fatalf("the Setting of the calls is %+v with %+v", call, call.Concurrency)
		}
		if own.Callee != "" || own.Retry == nil || *own.Retry != (actuators.Retry{BudgetRatio: 0.1, Fallback: 0.1, Min: 0, Max: 1}) {
			t.Errorf("the Setting of the service is %+v with %+v", own, own.Retry)
		}
		// Nothing moves: the lease of three minutes is renewed after each third of it, and nothing else is written.
		w.kv.set(func(kv *memoryKV) { kv.written = nil })
		pass(10 * time.Minute)
		renewals := map[string]int{}
		for _, s := range w.kv.writes() {
			renewals[s.Callee]++
			if s.Callee == "payments" && !s.ChangedAt.Equal(call.ChangedAt) {
				t.Errorf("changed at %v: %s", s.ChangedAt, s.Reason)
			}
		}
		if renewals["payments"] < 9 || renewals["payments"] > 11 {
			t.Errorf("%d renewals in ten minutes, of a lease of three", renewals["payments"])
		}
		// A dependency that has become slower in calm moves it.
		w.calling("checkout", 30*time.Millisecond)
		pass(time.Minute)
		if c := w.kv.call("checkout"); c.Concurrency.LatencyTargetSeconds != 0.09 || !strings.Contains(c.Reason, "own latency 30 ms") {
			t.Errorf("target %v: %s", c.Concurrency.LatencyTargetSeconds, c.Reason)
		}
		l := g.loopOf(t, "checkout", callKnob)
		if l.Callee != "payments" || l.Unit != api.Seconds || l.Published == nil || l.Published.Value != 0.09 ||
			l.Published.Key != "governor/services/checkout/calls/payments/setting" || l.Min != 0.015 || l.Max != 0.24 || l.Fallback != 0.12 ||
			l.Decision.Inputs.Applied != 1 || len(l.Decision.Inputs.Dependencies) != 1 {
			t.Errorf("the loop shows %+v, published %+v", l, l.Published)
		}
		if d := g.loopOf(t, "checkout", control.KnobConcurrency).Decision.Inputs.Dependencies; len(d) != 1 || d[0].RetryRatio != 0.05 {
			t.Errorf("the service shows the dependencies %+v", d)
		}
	})
}

func TestTargetsOfCallsHoldWithTheMeasurement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := leadCaller(t, control.Enforce)
		pass(time.Minute)
		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		before := len(w.kv.writes())
		pass(5 * time.Minute)
		if n := len(w.kv.writes()); n != before {
			t.Errorf("%d writes while nothing was measured", n-before)
		}
		if l := g.loopOf(t, "checkout", callKnob); l.Decision.State != control.Hold || l.Decision.Value != 0.06 {
			t.Errorf("it shows %+v", l.Decision)
		}
	})
}

func TestShadowPublishesNoTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := leadCaller(t, control.Shadow)
		pass(2 * time.Minute)
		if n := len(w.kv.writes()); n != 0 {
			t.Errorf("%d writes", n)
		}
		if d := g.loopOf(t, "checkout", callKnob).Decision; d.Value != 0.06 {
			t.Errorf("it would set %v: %s", d.Value, d.Reason)
		}
	})
}

// A new leader continues from the target in force under its own epoch, a key that somebody deletes is written again, and
// a write that fails for one Setting leaves the other alone.
func TestTargetsOfCallsSurviveTakeoverDriftAndFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := leadCaller(t, control.Enforce)
		pass(time.Minute)
		g.lose()
		next := w.governorOf(t, w.group(callerOf("checkout", control.Enforce)))
		next.win(2)
		next.start(t)
		pass(2 * time.Minute)
		if c := w.kv.call("checkout"); c.Epoch != 2 || c.Revision < 2 || c.Concurrency.LatencyTargetSeconds != 0.06 {
			t.Errorf("after a takeover: %+v with %+v", c, c.Concurrency)
		}
		key := actuators.Keys{}.CallSetting("checkout", "payments")
		revision := w.kv.call("checkout").Revision
		w.kv.set(func(kv *memoryKV) { kv.index++; delete(kv.settled, key) })
		pass(time.Minute)
		if c := w.kv.call("checkout"); c.Revision <= revision || c.Concurrency.LatencyTargetSeconds != 0.06 {
			t.Errorf("after a deletion: %+v", c)
		}
		if log := w.log.String(); !strings.Contains(log, "drift=deleted") || !strings.Contains(log, "callee=payments") {
			t.Errorf("the log does not tell of it:\n%s", log)
		}
		w.kv.set(func(kv *memoryKV) { kv.refuse[key] = consul.ErrConflict })
		w.calling("checkout", 10*time.Millisecond)
		w.overload()
		pass(2 * time.Minute)
		if own := next.loopOf(t, "checkout", control.KnobConcurrency); own.Published.Error != "" || own.Published.Value > 60 {
			t.Errorf("the limit suffers from it: %+v", own.Published)
		}
		if l := next.loopOf(t, "checkout", callKnob); l.Published.Error == "" || l.Published.Value != 0.06 {
			t.Errorf("published %+v, while no write succeeds", l.Published)
		}
	})
}

func TestReloadAddsAndRemovesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		w.calling("checkout", 20*time.Millisecond)
		setup := w.setup(w.group(specOf("checkout", control.Enforce)))
		g := w.governorOf(t, setup.Groups...)
		g.opts.Load = func() (Setup, error) { return setup, nil }
		g.win(1)
		g.start(t)
		pass(time.Minute)
		limit := w.kv.stored("checkout")
		setup = w.setup(w.group(callerOf("checkout", control.Enforce)))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(30 * time.Second) // no lease is due for a renewal yet
		if c := w.kv.call("checkout"); c.Concurrency == nil || c.Concurrency.LatencyTargetSeconds != 0.06 {
			t.Fatalf("after the reload: %+v", c)
		}
		if own := w.kv.stored("checkout"); own.Concurrency.Limit != limit.Concurrency.Limit || own.Retry == nil {
			t.Errorf("the service's own Setting: %+v", own)
		}
		writes := len(w.kv.writes())
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(2 * period)
		if n := len(w.kv.writes()); n != writes {
			t.Errorf("%d writes after a reload that changed nothing", n-writes)
		}
		// A person has decided on new bounds, whether or not anything can be measured.
		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		spec := callerOf("checkout", control.Enforce)
		spec.Calls[0].Max = 32
		setup = w.setup(w.group(spec))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(2 * period)
		if c := w.kv.call("checkout"); c.Concurrency.Max != 32 || c.Concurrency.LatencyTargetSeconds != 0.06 {
			t.Errorf("after another bound: %+v", c.Concurrency)
		}
		spec.Calls = nil
		setup = w.setup(w.group(spec))
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		revision := w.kv.call("checkout").Revision
		pass(5 * time.Minute)
		if c := w.kv.call("checkout"); c.Revision != revision {
			t.Errorf("it still writes the Setting of the calls: %+v", c)
		}
		loops, _ := g.recorder.Loops()
		for _, l := range loops {
			if l.Callee != "" {
				t.Errorf("it still shows %s/%s", l.Service, l.Knob)
			}
		}
	})
}

// An override of the retry budget is in the KV after one tick, also while Prometheus is down, and its end is, too.
func TestRetriesAreStoppedWithOnePublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := leadCaller(t, control.Enforce)
		pass(time.Minute)
		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		pass(time.Minute)
		a := ordered(actuators.Override, 0, 10*time.Minute)
		a.Knob = "retry"
		w.do(t, a)
		pass(period)
		s := w.kv.stored("checkout")
		if s.Retry.BudgetRatio != 0 || s.Concurrency == nil || !strings.Contains(s.Reason, "override 0.00 until") {
			t.Fatalf("after one period: %+v with %+v", s, s.Retry)
		}
		l := g.loopOf(t, "checkout", control.KnobRetry)
		if l.Decision.State != control.Override || l.Published.Value != 0 || l.Order == nil || l.Unit != api.Retries {
			t.Errorf("it shows %+v, published %+v", l, l.Published)
		}
		pass(10 * time.Minute)
		if s := w.kv.stored("checkout"); s.Retry.BudgetRatio != 0.1 {
			t.Errorf("after the order: %+v", s.Retry)
		}
		var heard []string
		for _, a := range g.recorder.Audit("checkout", control.KnobRetry) {
			heard = append(heard, string(a.Kind)+" "+a.Actor)
		}
		if got := strings.Join(heard, ", "); got != "override ana, resume governor" {
			t.Errorf("audit: %s", got)
		}
	})
}

// The API knows the loops of calls by their names, takes 0 for a retry budget, and refuses orders about a target.
func TestLoopsOfCallsOverHTTP(t *testing.T) {
	w := newWorld("checkout")
	g := w.governorOf(t, w.group(callerOf("checkout", control.Enforce)))
	client := g.client(t)
	l, err := client.Loop(t.Context(), "checkout", callKnob)
	if err != nil || l.Callee != "payments" || l.Fallback != 0.12 {
		t.Fatalf("got %+v, %v", l, err)
	}
	if _, err := client.LoopHistory(t.Context(), "checkout", callKnob, time.Hour, 0); err != nil {
		t.Error(err)
	}
	zero := 0.0
	command := api.Command{Actor: "ana", Reason: "INC-1412", ExpiresInSeconds: 900, Value: &zero}
	if r, err := client.Order(t.Context(), "checkout", control.KnobRetry, actuators.Override, command); err != nil || r.Action.Value != 0 {
		t.Errorf("retry 0: %+v, %v", r, err)
	}
	command.Value = nil
	if _, err := client.Order(t.Context(), "checkout", control.KnobRetry, actuators.Override, command); err == nil ||
		!strings.Contains(err.Error(), "the value is missing") {
		t.Errorf("retry without a value: %v", err)
	}
	if _, err := client.Order(t.Context(), "checkout", callKnob, actuators.Freeze, command); err == nil ||
		!strings.Contains(err.Error(), "expected one of concurrency, rate, shed, retry") {
		t.Errorf("an order about the target of calls: %v", err)
	}
}

// Every Setting of calls is one that a reader accepts, whatever the spec.
func TestSettingOfCallsIsValid(t *testing.T) {
	for _, c := range []control.CallSpec{{To: "a"}, {To: "a", Min: 3, Max: 3}, {To: "a", Max: 1e6}} {
		spec := specOf("checkout", control.Enforce)
		spec.Calls = []control.CallSpec{c}
		set, err := control.NewLoopSet(spec)
		if err != nil {
			t.Fatal(err)
		}
		d := control.NewDecision("checkout", control.KnobCall("a"))
		d.Value, d.Publish, d.Renew = 5, true, true // above its share of the SLO
		writer := publish.Writer{Spec: set.Spec(), Callee: "a", Epoch: 1, Lease: time.Minute}
		s, kind, err := publish.Last{}.Next(time.Now(), writer, []control.Decision{d})
		if err != nil || kind != publish.Change || s.Concurrency.LatencyTargetSeconds != 0.24 || s.Validate() != nil {
			t.Errorf("%+v: %+v with %+v, %s, %v", c, s, s.Concurrency, kind, err)
		}
	}
}
