package control

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// polled is a service of 400/s at 80 ms, beside which 20/s take 20 s: 400 in flight, and a mean of a second.
func polled(limit float64) load {
	return load{rate: 420, mean: (400*0.08 + 20*20) / 420, p99: 3, inFlight: 432, limit: limit, slow: 20.0 / 420}
}

// TestLongRequestsAreNoQueue: where no guard finds them, a few requests that take very long must not be answered like a
// queue, however the limit stands to them.
func TestLongRequestsAreNoQueue(t *testing.T) {
	spec := checkout()
	spec.Concurrency.Max = 2000
	t.Run("a full limit is not cut", func(t *testing.T) {
		r := newRig(t, spec, 432)
		for range 120 {
			l := polled(432)
			l.rate, l.refused, l.binding = 840, 420, 1
			d := r.step(l.measurement())
			if d.Value < 432 {
				t.Fatalf("cut to %v: %s", d.Value, d.Reason)
			}
			if n := float64(d.Inputs.LongInFlight); d.HoldReason == "" && (n < 380 || n > 432 || !strings.Contains(d.Reason, "so long")) {
				t.Fatalf("%v long requests in %q, want about 400", n, d.Reason)
			}
		}
	})
	t.Run("a queue beside them is", func(t *testing.T) {
		r := newRig(t, spec, 600)
		for range 12 {
			r.step(polled(600).measurement())
		}
		for range 12 { // 400 polls, and the others fill the rest: all of them are late
			others := r.in.Value - 400
			l := load{rate: 1220, refused: 800, mean: (others + 400) / 420, p99: 3, inFlight: r.in.Value, limit: r.in.Value, binding: 1}
			l.slow = 1
			if others/400 < 0.2 {
				l.slow = 20.0 / 420
			}
			r.step(l.measurement())
		}
		if r.in.Value < 401 || r.in.Value > 500 {
			t.Errorf("limit %v, want room for 400 polls and a queue of at most 0.2 s, 480", r.in.Value)
		}
	})
	t.Run("they are forgotten", func(t *testing.T) {
		var l longRequests
		v := view{flow: flow{inFlight: Read(432), throughput: Read(420), mean: Read(1.03), slowUncut: Read(0.05), completed: Read(8400)}}
		if n := l.split(t0, &v, spec.SLO, 0.08); math.Abs(n-398.4) > 0.1 || !v.mixed {
			t.Fatalf("%v long requests, want 432 - 420*0.08 = 398.4", n)
		}
		late := view{flow: flow{inFlight: Read(432), throughput: Read(420), mean: Read(1.03), slowUncut: Read(0.9), completed: Read(8400)}}
		if n := l.split(t0.Add(time.Minute), &late, spec.SLO, 0.08); n == 0 || late.mean.value < (0.9-0.05)*spec.SLO.Latency.Seconds()-1e-9 {
			t.Errorf("%v long requests, a mean of %v s for the others, of whom 85%% take longer than the SLO", n, late.mean.value)
		}
		if n := l.split(t0.Add(time.Hour), &late, spec.SLO, 0.08); n != 0 {
			t.Errorf("%v long requests after an hour in which none showed", n)
		}
	})
	t.Run("what guards report needs no such correction", func(t *testing.T) {
		var l longRequests
		v := view{flow: flow{reflex: true, inFlight: Read(432), throughput: Read(420), mean: Read(1.03), slowUncut: Read(0.05), completed: Read(8400)}}
		if n := l.split(t0, &v, spec.SLO, 0.08); n != 0 || v.mean.value != 1.03 {
			t.Errorf("%v long requests beside a reflex, mean %v", n, v.mean.value)
		}
	})
}

// TestAnInterruptedFloorTestGoesBack: a floor test halves the limit on purpose. If it never gets its answer, the limit must
// not stay halved.
func TestAnInterruptedFloorTestGoesBack(t *testing.T) {
	slowed := func(limit float64) Measurement { // a dependency became slow: 12/s per slot less, no queue
		return load{rate: 400, refused: 400 - limit/0.25, mean: 0.25, p99: 0.5, inFlight: limit, binding: 1, limit: limit, slow: 0.005}.measurement()
	}
	halved := func(t *testing.T) (*rig, float64) {
		r := newRig(t, checkout(), 40)
		for range 24 {
			r.step(traffic(r.in.Value).measurement())
		}
		for range 60 {
			before := r.in.Value
			if d := r.step(slowed(r.in.Value)); d.Gates.FloorTest == string(little.Halved) {
				return r, before
			}
		}
		t.Fatal("no floor test in five minutes")
		return nil, 0
	}
	for name, pause := range map[string]func(r *rig){
		"an outage": func(r *rig) {
			for range 60 {
				r.step(Measurement{Service: "checkout", Window: 20 * time.Second, Invalid: Timeout})
			}
		},
		"a freeze": func(r *rig) {
			r.s.Obey(KnobConcurrency, &Order{State: Frozen, Why: "looking"})
			for range 60 {
				r.step(slowed(r.in.Value))
			}
			r.s.Obey(KnobConcurrency, nil)
		},
		"a gap":                func(r *rig) { r.now = r.now.Add(time.Hour) },
		"a Setting read again": func(r *rig) { r.s.Restore(r.now, KnobConcurrency, r.in) },
	} {
		t.Run(name, func(t *testing.T) {
			r, before := halved(t)
			pause(r)
			most := 0.0
			for range 3 {
				most = max(most, float64(r.step(slowed(r.in.Value)).Value))
			}
			if most != before {
				t.Errorf("limit up to %v, was %v before the test", most, before)
			}
		})
	}
	for _, set := range []float64{20, 25} { // 20 is the limit of the test itself
		t.Run(fmt.Sprint("not beyond what a person set, ", set), func(t *testing.T) {
			r, before := halved(t)
			r.s.Obey(KnobConcurrency, &Order{State: Override, Value: set, Why: "less"})
			for range 60 {
				r.step(slowed(r.in.Value))
			}
			r.s.Obey(KnobConcurrency, nil)
			if d := r.step(slowed(r.in.Value)); float64(d.Value) >= before {
				t.Errorf("from a limit of %v, set by hand, to %v", set, d.Value)
			}
		})
	}
}

// TestWhatIsAsFastAsItsOwnTimeRefusesForNothing: a dependency became slow for everybody, close to the SLO. Once the floor test
// has found that limiting cannot help, the setpoint is hardly above what the service needs, and the limit comes back all the
// same.
func TestWhatIsAsFastAsItsOwnTimeRefusesForNothing(t *testing.T) {
	r := newRig(t, checkout(), 40)
	for range 24 {
		r.step(traffic(r.in.Value).measurement())
	}
	var d Decision
	for range 60 {
		limit := r.in.Value
		carried := min(400, limit/0.24)
		l := load{rate: 400, refused: 400 - carried, mean: 0.24, p99: 0.5, inFlight: carried * 0.24, limit: limit, slow: 0.02}
		if l.refused > 0 {
			l.binding = 1
		}
		d = r.step(l.measurement())
	}
	if r.in.Value < 96 {
		t.Errorf("limit %v after five minutes, where 400/s at 240 ms need 96: %s", r.in.Value, d.Reason)
	}
}

// TestExcusedRequestsAreNoDisobedience: what a guard has excused is in flight and holds no slot.
func TestExcusedRequestsAreNoDisobedience(t *testing.T) {
	for name, inFlight := range map[string]float64{"excused": 32, "in the limit": 420} {
		r := newRig(t, checkout(), 40)
		var d Decision
		for range 24 {
			l := load{rate: 400, mean: 1.05, p99: 3, inFlight: inFlight, limit: 40, slow: 0.05}
			m := l.measurement()
			m.Instances[0].ServiceTime = Read(0)
			d = r.step(m)
		}
		if disobeyed := d.State == NotObeyed; disobeyed != (name == "in the limit") {
			t.Errorf("%s: %s, %s", name, d.State, d.Reason)
		}
	}
}
