package explain

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

var (
	now  = time.Date(2026, time.November, 24, 14, 3, 27, 0, time.UTC)
	none = control.Number(math.NaN())
)

// subject is a loop of a knob in order, two seconds after its last decision.
func subject(knob control.Knob, fill ...func(*api.Loop, *control.Decision)) Subject {
	at := now.Add(-2 * time.Second)
	l := api.Loop{
		Service: "checkout", Knob: knob, Mode: control.Enforce, Unit: api.Requests, MeasuredUnit: api.Seconds,
		Min: 20, Max: 400, Fallback: 89, SLO: api.SLO{LatencySeconds: 0.3, Objective: 0.99, Errors: 0.001},
		Since:     at.Add(-time.Minute),
		Published: &api.Published{Key: "k", Value: 72, Epoch: 41, Revision: 881, ChangedAt: now.Add(-40 * time.Second)},
		Decision: control.Decision{
			Service: "checkout", Knob: knob, At: at, State: control.Steady, Setpoint: 0.14, Measured: 0.12,
			From: 72, Raw: 72, Value: 72, Ceiling: none, Reason: "keep 72: mean 120 ms <= setpoint 140 ms",
			Terms: control.Terms{Law: "pid"}, Gates: control.Gates{
				Binds: true, Occupancy: 0.9, BindingShare: 0.6, Floor: 26,
				FloorTest: "idle", OwnLatencySeconds: 0.04,
			},
			Inputs: control.Inputs{
				AgeSeconds: 1.2, WindowSeconds: 20, Requests: 41820, Throughput: 644, RefusedShare: 0.31, Quantile: 0.284,
				SlowRatio: 0.021, FailedRatio: 0.0001, BadRatio: 2.1, Burn5m: 6.1, Burn1h: 3.9, EffectiveLimit: 80,
				Instances: 9, Applied: 8,
			},
		},
	}
	switch knob {
	case control.KnobRate:
		l.Unit, l.Min, l.Max, l.Fallback, l.Published.Value = api.PerSecond, 100, 5000, 5000, 1800
		l.Decision.From, l.Decision.Raw, l.Decision.Value, l.Decision.Terms.Law = 1800, 1800, 1800, "aimd"
	case control.KnobRetry:
		l.Unit, l.MeasuredUnit, l.Min, l.Max, l.Fallback, l.Published.Value = api.Retries, api.Retries, 0, 1, 0.1, 0.1
		l.Decision.From, l.Decision.Raw, l.Decision.Value, l.Decision.Terms.Law = 0.1, 0.1, 0.1, control.ConstantLaw
		l.Decision.Setpoint, l.Decision.Measured = 0.1, 0.04
	case callKnob:
		l.Unit, l.Callee = api.Seconds, "payments"
		l.Min, l.Max, l.Fallback, l.Published.Value = 0.001, 0.24, 0.12, 0.06
		l.Decision.From, l.Decision.Raw, l.Decision.Value, l.Decision.Terms.Law = 0.06, 0.06, 0.06, control.CallLaw
		l.Decision.Setpoint, l.Decision.Measured = 0.06, 0.031
		l.Decision.Inputs.Dependencies = []control.Calls{payments()}
	case control.KnobShed:
		l.Unit, l.MeasuredUnit, l.Protect = api.Occupancy, api.Share, "critical"
		l.Min, l.Max, l.Fallback, l.Published.Value = 0.4, 0.6, 0.6, 0.5
		l.Decision.From, l.Decision.Raw, l.Decision.Value = 0.5, 0.5, 0.5
		l.Decision.Setpoint, l.Decision.Measured = 0.002, 0.001
	}
	ok := now.Add(-time.Second)
	s := Subject{Loop: l, Now: now, Status: api.Status{
		Instance: "gov-a", Role: api.Leader, Leader: api.LeaderInfo{Instance: "gov-a", API: "http://10.0.0.7:9747", Epoch: 41},
		Prometheus: api.Dependency{Address: "http://prom:9090", OK: true, LastOK: &ok},
	}}
	for _, f := range fill {
		f(&s.Loop, &s.Loop.Decision)
	}
	return s
}

func in(state control.State, more ...func(*control.Decision)) func(*api.Loop, *control.Decision) {
	return func(_ *api.Loop, d *control.Decision) {
		d.State = state
		for _, f := range more {
			f(d)
		}
	}
}

func bound(name string, raw control.Number) func(*control.Decision) {
	return func(d *control.Decision) { d.Bound, d.Raw = name, raw }
}

func moved(from, value control.Number) func(*control.Decision) {
	return func(d *control.Decision) { d.From, d.Raw, d.Value = from, value, value }
}

func measured(n control.Number) func(*control.Decision) {
	return func(d *control.Decision) { d.Measured = n }
}

func event(name string) func(*control.Decision) {
	return func(d *control.Decision) { d.Terms.Event = name }
}

func ordered(kind actuators.OrderKind, value float64, lasts time.Duration) func(*api.Loop, *control.Decision) {
	return func(l *api.Loop, _ *control.Decision) {
		l.Order = &actuators.Order{Kind: kind, Value: value, Actor: "ana", Reason: "INC-1412", At: now.Add(-2 * time.Minute)}
		if lasts != 0 {
			l.Order.ExpiresAt = now.Add(lasts)
		}
	}
}

const (
	concurrency = control.KnobConcurrency
	rateKnob    = control.KnobRate
	shed        = control.KnobShed
)

const callKnob = control.Knob("calls/payments")

// payments are the calls to a dependency, one of whose three instances is away.
func payments() control.Calls {
	return control.Calls{
		Name: "payments", Instances: 9, Requests: 4000, RetryRatio: 0.04, FailedRatio: 0.01, RefusedRatio: 0.02, CalleeRefused: 0,
		Mean: 0.031, PerRequest: 0.031, InFlight: 3.1, Limit: 24, LatencyTarget: 0.06, OwnLatency: 0.02, LearnedBy: 9,
		Breakers: control.Breakers{Closed: 18, Open: 9}, BreakersOpened: control.BreakersOpened{Failures: 9},
	}
}

// How the calls to a dependency are told in one line.
func TestCallsInOneLine(t *testing.T) {
	const want = "9 of 27 breakers open (failures), 3.1 of 24 in flight, mean 31 ms, target 60 ms, own latency 20 ms, " +
		"0.04 retries per call, failed 1%, refused here 2%"
	if got := Calls(payments()); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	unknown := control.Calls{
		Name: "payments", Requests: none, RetryRatio: none, FailedRatio: none, RefusedRatio: none, CalleeRefused: none,
		Mean: none, InFlight: none, Limit: none, LatencyTarget: none, OwnLatency: none,
		Breakers: control.Breakers{Closed: none, Open: none, HalfOpen: none},
	}
	if got := Calls(unknown); got != "--" && got != "unknown" {
		t.Errorf("nothing known: %q", got)
	}
	for _, tc := range []struct {
		breakers control.Breakers
		opened   control.BreakersOpened
		want     string
	}{
		{control.Breakers{Closed: 3}, control.BreakersOpened{Slow: 1}, ""},
		{control.Breakers{Open: 1}, control.BreakersOpened{Slow: 1}, "breaker open (slow)"},
		{control.Breakers{HalfOpen: 1, Closed: 1}, control.BreakersOpened{Slow: 1, Failures: 2}, "1 of 2 breakers half open (failures, slow)"},
		{control.Breakers{Open: none, HalfOpen: none, Closed: none}, control.BreakersOpened{}, ""},
	} {
		if got := Breaker(control.Calls{Breakers: tc.breakers, BreakersOpened: tc.opened}); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.breakers, got, tc.want)
		}
	}
}

// The waiting and the dependencies are among what the loops measured.
func TestDependenciesAreAmongTheInputs(t *testing.T) {
	s := subject(concurrency, func(_ *api.Loop, d *control.Decision) {
		d.Inputs.WaitedSeconds, d.Inputs.Dependencies = 0.05, []control.Calls{payments()}
	})
	found := map[string]Input{}
	for _, in := range s.Inputs() {
		found[in.Name] = in
	}
	if in := found["besides, in guarded calls"]; in.Value != "50 ms" || in.Over == "" {
		t.Errorf("waiting: %+v", in)
	}
	if in := found["calls to payments"]; !strings.HasPrefix(in.Value, "9 of 27 breakers open") {
		t.Errorf("calls: %+v", in)
	}
	if in := subject(control.KnobRetry).Inputs()[0]; in.Name != "retries per call" || in.Value != "0.04, configured 0.10" {
		t.Errorf("retry: %+v", in)
	}
	if in := subject(callKnob).Inputs()[0]; in.Name != "mean latency of the calls" || in.Value != "31 ms, target 60 ms" {
		t.Errorf("calls: %+v", in)
	}
}

// What bound a decision and what would change it, for every state of every knob, every constraint and every event.
func TestWhatBoundItAndWhatWouldChangeIt(t *testing.T) {
	for _, tc := range []struct {
		name    string
		subject Subject
		bound   string
		change  []string // all of it
	}{
		{
			"steady", subject(concurrency),
			"nothing: the law asked for no move",
			[]string{"a mean latency above 140 ms (120 ms now) would cut, one well below would raise"},
		},
		{
			"steady, the limit does not bind", subject(concurrency, in(control.Steady, func(d *control.Decision) {
				d.Gates.Binds, d.Gates.Occupancy = false, 0.42
			})),
			"the overload gate: the limit does not bind (in flight ÷ limit 42%), so the law may not move it",
			[]string{"load that fills the limit (in flight ÷ limit 42% now): a mean latency above 140 ms (120 ms now) " +
				"would then cut, one below would raise"},
		},
		{
			"steady within the deadband", subject(concurrency, in(control.Steady, bound("deadband", 74))),
			"the deadband: the law asked for 74, too small a move to make",
			[]string{"a mean latency above 140 ms (120 ms now) would cut, one well below would raise"},
		},
		{
			"steady beside a reflex", subject(concurrency, in(control.Steady, bound("deadband", 60), func(d *control.Decision) {
				d.Gates.FloorTest = "guard"
			})),
			"the deadband: the law asked for 60; where guards have a reflex the limit follows it slowly, and is " +
				"written once the two differ by 20%",
			[]string{"a mean latency above 140 ms (120 ms now) would cut, one well below would raise"},
		},
		{
			"steady though slow", subject(concurrency, in(control.Steady, measured(0.15))),
			"nothing: the law asked for no move",
			[]string{"a mean latency that stays above 140 ms (150 ms now) would cut, unless the load is falling"},
		},
		{
			"steady shed", subject(shed),
			"nothing: the law asked for no move",
			[]string{"more than 0.2% of the requests of class critical and above refused (0.1% now) would shed the others " +
				"earlier, fewer later"},
		},
		{
			"shed without protected traffic", subject(shed, in(control.Steady, func(d *control.Decision) { d.Measured = none })),
			"the traffic gate: too few protected requests to judge",
			[]string{"more requests of class critical and above: there are too few to judge"},
		},
		{
			"steady rate", subject(rateKnob),
			"nothing: the law asked for no move",
			[]string{"a mean latency above 140 ms (120 ms now) would cut; else the rate grows until it is off"},
		},
		{
			"rate off", subject(rateKnob, in(control.Steady, func(d *control.Decision) {
				d.From, d.Value, d.Raw, d.Bound = 5000, 5000, 5000, "max"
			})),
			"the configured max 5000/s (off): the law asked for 5000/s",
			[]string{"a mean latency above 140 ms (120 ms now) while less completes than arrives would set a rate"},
		},
		{
			"a constant", subject(control.KnobRetry),
			"the configuration: no law moves the retry budget",
			[]string{
				"governor override checkout/retry VALUE --reason=TEXT: 0 stops all retries with the next publish",
				"another retry.budget in the configuration",
			},
		},
		{
			"a constant without a measurement", subject(control.KnobRetry, in(control.Steady, func(d *control.Decision) {
				d.HoldReason = control.Timeout
			})),
			"the configuration: no law moves the retry budget; the data gate (timeout) keeps the lease from being renewed",
			[]string{
				"governor override checkout/retry VALUE --reason=TEXT: 0 stops all retries with the next publish",
				"another retry.budget in the configuration",
			},
		},
		{
			"a target of calls", subject(callKnob),
			"nothing: the law asked for no move",
			[]string{"another own latency of payments, by more than a tenth: the instances learn it while nothing queues there"},
		},
		{
			"a target of calls that the SLO bounds", subject(callKnob, in(control.Raising, moved(0.06, 0.12), bound("max", 0.15))),
			"the SLO: the law asked for 150 ms, and calls may take 40% of it",
			[]string{"another own latency of payments, by more than a tenth: the instances learn it while nothing queues there"},
		},
		{
			"a target of calls that nobody makes", subject(callKnob, in(control.Hold, func(d *control.Decision) {
				d.HoldReason, d.Inputs.Dependencies = control.NoData, nil
			})),
			"the data gate (no_data): the data does not allow a decision, and the value stays",
			[]string{
				"calls to payments through guard, by that name: no metric of the service knows it",
				"governor check-config --online FILE lists the names that the metrics know",
			},
		},
		{
			"a target of calls of which little is known", subject(callKnob, in(control.Hold, func(d *control.Decision) {
				d.HoldReason = control.TooLittleTraffic
			})),
			"the data gate (too_little_traffic): the data does not allow a decision, and the value stays",
			[]string{"more calls to payments while nothing queues there: from those the instances learn its own latency"},
		},
		{
			"rate yields", subject(rateKnob, in(control.Steady, event("yields"))),
			"the order of the knobs: the concurrency limit can still be cut and acts first",
			[]string{"a concurrency limit near its own min: it acts first, the rate only after it"},
		},
		{
			"rate waits for the backlog", subject(rateKnob, in(control.Steady, event("drains"))),
			"the backlog: more completes than is admitted, so the service is catching up and the rate waits",
			[]string{"the end of the backlog: while it drains, nothing is cut"},
		},
		{
			"rate waits for its last change", subject(rateKnob, in(control.Steady, event("cooldown"))),
			"the settling time: no whole window shows the last change yet",
			[]string{"a mean latency above 140 ms (120 ms now) would cut; else the rate grows until it is off"},
		},
		{
			"cutting", subject(concurrency, in(control.Cutting, moved(95, 72), measured(0.148))),
			"nothing: the law's value went through unchanged",
			[]string{"a mean latency down to 140 ms (148 ms now) with few refusals ends the cuts"},
		},
		{
			"cutting by the slew limit", subject(concurrency, in(control.Cutting, moved(95, 72), bound("slew", 30))),
			"the slew limit: the law asked for 30, more than one period may change",
			[]string{"a mean latency down to 140 ms (120 ms now) with few refusals ends the cuts"},
		},
		{
			"cutting to the floor", subject(concurrency, in(control.Cutting, moved(95, 26), bound("floor", 14.2))),
			"the Little's-law floor 26: the law asked for 14.2; below it throughput would fall with the limit",
			[]string{"a mean latency down to 140 ms (120 ms now) with few refusals ends the cuts"},
		},
		{
			"cutting in a hang", subject(concurrency, in(control.Cutting, moved(95, 48), event("hang"), measured(none))),
			"the rule for a hang: requests arrive but hardly any complete, so the limit is cut without a latency",
			[]string{"answers from the service: there is no mean latency to act on"},
		},
		{
			"cutting for the floor test", subject(concurrency, in(control.Cutting, moved(26, 20), func(d *control.Decision) {
				d.Gates.FloorTest = "halved"
			})),
			"the floor test: the limit is halved on purpose, to see whether throughput falls with it",
			[]string{"the end of the floor test: if throughput fell with the limit, the limit comes back; else it stays"},
		},
		{
			"cutting on partial data", subject(concurrency, in(control.Cutting, moved(95, 72), func(d *control.Decision) {
				d.HoldReason, d.Detail = control.Partial, "a shard is missing"
			})),
			"nothing: the law's value went through unchanged; and the data gate (partial): the law may only tighten",
			[]string{
				"a complete measurement (partial now): until then the limit may only tighten",
				"a mean latency down to 140 ms (120 ms now) with few refusals ends the cuts",
			},
		},
		{
			"cutting while the budget burns", subject(concurrency, in(control.Cutting, moved(95, 72), func(d *control.Decision) {
				d.Gates.BurnSteps = 2
			})),
			"nothing: the law's value went through unchanged",
			[]string{
				"a mean latency down to 140 ms (120 ms now) with few refusals ends the cuts",
				"a slower burn of the error budget: it now tightens the setpoint by 10%, 2 times",
			},
		},
		{
			"cutting rate", subject(rateKnob, in(control.Cutting, moved(1800, 1400), event("decrease"))),
			"nothing: the law's value went through unchanged",
			[]string{"a mean latency below 140 ms (120 ms now): then the rate grows again"},
		},
		{
			"cutting shed", subject(shed, in(control.Cutting, moved(0.5, 0.47))),
			"nothing: the law's value went through unchanged",
			[]string{"more than 0.2% of the requests of class critical and above refused (0.1% now) would shed the others " +
				"earlier, fewer later"},
		},
		{
			"raising", subject(concurrency, in(control.Raising, moved(72, 80), bound("slew", 303))),
			"the slew limit: the law asked for 303, more than one period may change",
			[]string{"a mean latency above 140 ms (120 ms now), or a limit that no longer binds, ends the raises"},
		},
		{
			"raising rate", subject(rateKnob, in(control.Raising, moved(1400, 1500), event("increase"))),
			"nothing: the law's value went through unchanged",
			[]string{"a mean latency above 140 ms (120 ms now) would cut; else the rate grows until it is off"},
		},
		{
			"raising shed", subject(shed, in(control.Raising, moved(0.5, 0.53))),
			"nothing: the law's value went through unchanged",
			[]string{"more than 0.2% of the requests of class critical and above refused (0.1% now) would shed the others " +
				"earlier, fewer later"},
		},
		{
			"at min", subject(concurrency, in(control.AtMin, moved(20, 20), bound("min", 14), func(d *control.Decision) {
				d.Measured = 0.2
			})),
			"the configured min 20: the law asked for 14",
			[]string{
				"a lower concurrency.min in the configuration, if an instance cannot carry 20 at a time",
				"less load or more capacity: the configured min keeps governor from cutting further",
				"a mean latency below 140 ms (200 ms now) with the limit binding would raise",
			},
		},
		{
			"at min rate", subject(rateKnob, in(control.AtMin, moved(100, 100), bound("min", 80))),
			"the configured min 100/s: the law asked for 80/s",
			[]string{
				"a lower rate.min in the configuration, if 100/s is more than the service can carry",
				"less load or more capacity: the configured min keeps governor from cutting further",
				"a mean latency below 140 ms (120 ms now): then the rate grows again",
			},
		},
		{
			"at min shed", subject(shed, in(control.AtMin, moved(0.4, 0.4), bound("min", 0.36), func(d *control.Decision) {
				d.Measured = 0.032
			})),
			"the configured min 0.40: the law asked for 0.36",
			[]string{
				"a lower shed.min in the configuration, if the others may be refused even before 0.40 of the limit",
				"less load or more capacity: the configured min keeps governor from cutting further",
				"fewer refusals of requests of class critical and above: below 0.2% (3.2% now) governor sheds less",
			},
		},
		{
			"at max", subject(concurrency, in(control.AtMax, moved(400, 400), bound("max", 480))),
			"the configured max 400: the law asked for 480",
			[]string{
				"a higher concurrency.max in the configuration, if an instance can carry more than 400 at a time",
				"a mean latency above 140 ms (120 ms now) with the limit binding would cut",
			},
		},
		{
			"at max rate", subject(rateKnob, in(control.AtMax, moved(5000, 5000), bound("max", 5000))),
			"the configured max 5000/s (off): the law asked for 5000/s",
			[]string{
				"a higher rate.max in the configuration: at 5000/s the rate is off, and the SLO is still met",
				"a mean latency above 140 ms (120 ms now) while less completes than arrives would set a rate",
			},
		},
		{
			"at max shed", subject(shed, in(control.AtMax, moved(0.6, 0.6), bound("max", 0.62))),
			"the configured max 0.60: the law asked for 0.62",
			[]string{
				"a higher shed.max in the configuration, if the others may fill more than 0.60 of the limit",
				"refusals of requests of class critical and above: more than 0.2% (0.1% now) would shed the others earlier",
			},
		},
		{
			"ineffective", subject(concurrency, in(control.Ineffective, func(d *control.Decision) {
				d.Gates.ServiceTimeSeconds = 0.31
			})),
			"the service's own mean, 310 ms: the setpoint stays above it while it lasts",
			[]string{"the service itself: its own mean is 310 ms, and no limit makes it faster; is one of its dependencies " +
				"slow?", "a mean below 80% of that, or some time without a mean: then governor tries again"},
		},
		{
			"ineffective rate", subject(rateKnob, in(control.Ineffective, event("restore"), func(d *control.Decision) {
				d.Gates.ServiceTimeSeconds = 0.31
			})),
			"the last cuts: they did not help, so governor takes them back",
			[]string{"the service itself: its own mean is 310 ms, and no limit makes it faster; is one of its dependencies " +
				"slow?", "a mean below 80% of that, or some time without a mean: then governor tries again"},
		},
		{
			"infeasible", subject(concurrency, in(control.Infeasible, func(d *control.Decision) {
				d.Gates.Infeasible, d.Gates.OwnLatencySeconds = true, 0.24
			})),
			"nothing: the law asked for no move",
			[]string{
				"an SLO that leaves room: requests take 240 ms without any queue, the SLO allows 300 ms",
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
			},
		},
		{
			"infeasible while cutting", subject(concurrency, in(control.Cutting, moved(95, 72), func(d *control.Decision) {
				d.Gates.Infeasible, d.Gates.OwnLatencySeconds = true, 0.24
			})),
			"nothing: the law's value went through unchanged",
			[]string{
				"the SLO may be out of reach: requests take 240 ms without any queue, the SLO allows 300 ms",
				"a mean latency down to 140 ms (120 ms now) with few refusals ends the cuts",
			},
		},
		{
			"tighten only", subject(concurrency, in(control.Hold, bound("tighten_only", 90), func(d *control.Decision) {
				d.HoldReason = control.Partial
			})),
			"the data gate (partial): the law may only tighten, and it asked for more",
			[]string{"an answer without warnings: Prometheus itself says that this one is incomplete"},
		},
		{
			"hold in a hang", subject(concurrency, in(control.Hold, event("hang"), func(d *control.Decision) {
				d.HoldReason = control.NoData
			})),
			"the rule for a hang: one cut per settling time, and the last one has not taken effect yet",
			[]string{"answers from the service; without any, the next cut, once a whole window shows the last one"},
		},
		{
			"a bound of a newer governor", subject(concurrency, in(control.Steady, bound("budget", 90))),
			"budget: the law asked for 90",
			[]string{"a mean latency above 140 ms (120 ms now) would cut, one well below would raise"},
		},
		{
			"tighten only, of a shed", subject(shed, in(control.Steady, bound("tighten_only", 0.55))),
			"the data gate: something is unknown, so the law may only tighten",
			[]string{"more than 0.2% of the requests of class critical and above refused (0.1% now) would shed the others " +
				"earlier, fewer later"},
		},
		{
			"frozen", subject(concurrency, ordered(actuators.Freeze, 0, 15*time.Minute), in(control.Frozen)),
			"the order of ana: the value stays, whatever the measurements",
			[]string{
				"governor resume checkout/concurrency --reason=TEXT",
				"the end of the order at 14:18:27 UTC, in 15 min: the loop then continues from the value in force",
			},
		},
		{
			"override", subject(rateKnob, ordered(actuators.Override, 900, time.Hour), in(control.Override, moved(1800, 900))),
			"the order of ana: the value is set, whatever the measurements",
			[]string{
				"governor resume checkout/rate --reason=TEXT",
				"the end of the order at 15:03:27 UTC, in 60 min: the loop then continues from the value in force",
			},
		},
		{
			"override beyond bounds that have changed", subject(shed, ordered(actuators.Override, 0.8, time.Hour),
				in(control.Override, moved(0.5, 0.6), bound("max", 0.8))),
			"the order of ana, and the configured max: 0.80 was ordered",
			[]string{
				"governor resume checkout/shed --reason=TEXT",
				"the end of the order at 15:03:27 UTC, in 60 min: the loop then continues from the value in force",
			},
		},
		{
			"kill switch", subject(concurrency, ordered(actuators.Freeze, 0, 0), in(control.Frozen)),
			"the kill switch, by ana: the value stays, whatever the measurements",
			[]string{"governor resume --all --reason=TEXT: the kill switch does not expire"},
		},
		{
			"kill switch, just pulled", subject(concurrency, ordered(actuators.Freeze, 0, 0)),
			"nothing: the law asked for no move",
			[]string{
				"the next tick: the kill switch has been pulled",
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
			},
		},
		{
			"an order just given", subject(concurrency, ordered(actuators.Freeze, 0, time.Hour)),
			"nothing: the law asked for no move",
			[]string{
				"the next tick: the loop has not carried out a new order yet",
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
			},
		},
		{
			"an order just ended", subject(concurrency, ordered(actuators.Freeze, 0, -time.Second), in(control.Frozen)),
			"the order of ana: the value stays, whatever the measurements",
			[]string{"the next tick: the order ended at 14:03:26 UTC"},
		},
		{
			"an order just lifted", subject(concurrency, in(control.Frozen)),
			"a person's order: the value stays, whatever the measurements",
			[]string{"the next tick: no order is in force any more, so the loop resumes"},
		},
		{
			"observe", subject(concurrency, func(l *api.Loop, _ *control.Decision) { l.Mode = control.Observe }),
			"the mode: in observe, governor reads the signals and decides nothing",
			[]string{"mode: shadow in the configuration, to see what governor would do, or enforce, to let it act"},
		},
		{
			"shadow", subject(concurrency, func(l *api.Loop, _ *control.Decision) { l.Mode = control.Shadow }),
			"nothing: the law asked for no move",
			[]string{
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
				"mode: enforce in the configuration: only then are services told",
			},
		},
		{
			"capped at shadow", subject(concurrency, func(l *api.Loop, d *control.Decision) {
				l.Mode, d.Capped = control.Shadow, "its metrics do not show it; use guard"
			}),
			"nothing: the law asked for no move",
			[]string{
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
				"no reason any more to cap the mode at shadow (enforce is configured): its metrics do not show it; use guard",
			},
		},
		{
			"a write that fails", subject(concurrency, func(l *api.Loop, _ *control.Decision) {
				l.Published.Error = "conflict"
			}),
			"nothing: the law asked for no move",
			[]string{
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
				"a successful write: the service still has the previous value",
			},
		},
		{
			"a loop that stands still", subject(concurrency, func(_ *api.Loop, d *control.Decision) {
				d.At = now.Add(-5 * time.Minute)
			}),
			"nothing: the law asked for no move",
			[]string{
				"a new decision: the last is 5 min old, so governor is not ticking",
				"a mean latency above 140 ms (120 ms now) would cut, one well below would raise",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.subject.BoundBy(); got != tc.bound {
				t.Errorf("bound by\n%s\nwant\n%s", got, tc.bound)
			}
			got, want := strings.Join(tc.subject.WouldChange(), "\n"), strings.Join(tc.change, "\n")
			if got != want {
				t.Errorf("would change\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestStandbyNamesWhoLeads(t *testing.T) {
	for _, tc := range []struct {
		leader api.LeaderInfo
		want   string
	}{
		{
			api.LeaderInfo{Instance: "gov-b", API: "http://10.0.0.8:9747", Epoch: 41},
			"this governor is a standby and writes nothing: gov-b at http://10.0.0.8:9747 leads",
		},
		{api.LeaderInfo{}, "this governor is a standby and writes nothing: no governor leads"},
	} {
		s := subject(concurrency)
		s.Status.Role, s.Status.Leader = api.Standby, tc.leader
		if got := s.WouldChange(); got[len(got)-1] != tc.want {
			t.Errorf("got %q, want %q at the end", got, tc.want)
		}
	}
}

// Every reason to hold says what it waits for, for every knob, with the known ages and errors.
func TestWhatEndsAHold(t *testing.T) {
	long := now.Add(-31 * time.Second)
	down := api.Dependency{Address: "http://prom:9090", Error: "connection refused", LastOK: &long}
	for _, tc := range []struct {
		reason control.Reason
		change []string
	}{
		{control.Starting, []string{"the next tick: after a start, a takeover or a gap a loop holds for one period"}},
		{control.Stale, []string{"a fresh sample: the last one is 33 s old; does Prometheus still scrape the service?"}},
		{control.NoData, []string{
			"data: the last one is 33 s old; is the service up, and are its metrics and labels as configured?",
			"governor check-config --online FILE shows what Prometheus has for each signal",
		}},
		{control.Idle, []string{"traffic: no request arrived within a window of 20 s; an idle service needs no decision"}},
		{control.TooLittleTraffic, []string{
			"more traffic: 12 requests within a window of 20 s are too few to judge",
			"a lower tuning.min_requests or a longer timing.window in the configuration",
		}},
		{control.ManySeries, []string{"one series per instance instead of several: narrow the labels or the query"}},
		{control.Partial, []string{"an answer without warnings: Prometheus itself says that this one is incomplete"}},
		{control.NaN, []string{"a finite reading: the query divides by zero or adds up missing values (the detail)"}},
		{control.NotFinite, []string{"a finite reading: the query divides by zero or adds up missing values (the detail)"}},
		{control.Implausible, []string{"a plausible reading: after a counter reset or a double scrape, once a window of " +
			"20 s has passed; else the query counts the wrong thing"}},
		{control.Timeout, []string{
			"an answer in time: Prometheus last answered 31 s ago (connection refused)",
			"a lighter query (recording rules), or a longer timing.period",
		}},
		{control.QueryError, []string{"an answer without an error: Prometheus last answered 31 s ago (connection refused)"}},
		{control.Clock, []string{"clocks that agree: is NTP running on this host, on Prometheus's and on the service's?"}},
		{"", []string{"a measurement that governor may act on"}},
		{"solar_flare", []string{`the end of "solar_flare"`}},
	} {
		for _, knob := range []control.Knob{concurrency, rateKnob, shed} {
			s := subject(knob, in(control.Hold, func(d *control.Decision) {
				d.HoldReason, d.Detail = tc.reason, "the detail"
				d.Measured, d.Inputs.AgeSeconds, d.Inputs.Requests = none, 31, 12
			}))
			s.Status.Prometheus = down
			if got := s.WouldChange(); strings.Join(got, "\n") != strings.Join(tc.change, "\n") {
				t.Errorf("%s, %s: got %q, want %q", knob, tc.reason, got, tc.change)
			}
			want := "the data gate (" + string(tc.reason) + ")"
			switch tc.reason {
			case control.Starting:
				want = "the start"
			case "":
				want = "the data gate:"
			}
			if got := s.BoundBy(); !strings.HasPrefix(got, want) {
				t.Errorf("%s, %s: bound by %q", knob, tc.reason, got)
			}
		}
	}

	// The text does not repeat what the reason already says.
	again := subject(concurrency, in(control.Hold, func(d *control.Decision) {
		d.HoldReason, d.Reason = control.QueryError, "hold 72: query_error, connection refused"
	}))
	again.Status.Prometheus = down
	if got, want := again.WouldChange()[0], "an answer without an error: Prometheus last answered 31 s ago"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// Without a status, or with a Prometheus that never answered, the text says less and makes nothing up.
	s := subject(concurrency, in(control.Hold, func(d *control.Decision) {
		d.HoldReason, d.Inputs.AgeSeconds = control.QueryError, none
	}))
	s.Status = api.Status{}
	if got, want := s.WouldChange()[0], "an answer without an error: there has been none yet"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Status.Prometheus = api.Dependency{Address: "http://prom:9090"}
	if got, want := s.WouldChange()[0], "an answer without an error: Prometheus at http://prom:9090 has never answered "+
		"this governor"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// No combination, whether or not governor makes it, reads like a mistake.
func TestNothingReadsLikeAMistake(t *testing.T) {
	states := []control.State{
		control.Steady, control.Raising, control.Cutting, control.AtMin, control.AtMax, control.Ineffective,
		control.Infeasible, control.Hold, control.Frozen, control.Override, "of_a_newer_governor",
	}
	reasons := []control.Reason{"", control.Stale, control.NoData, control.Partial, control.Starting, control.Timeout}
	bounds := []string{"", "deadband", "slew", "floor", "min", "max", "tighten_only"}
	n := 0
	for _, knob := range []control.Knob{concurrency, rateKnob, shed, control.KnobRetry, callKnob} {
		for _, state := range states {
			for _, reason := range reasons {
				for _, bound := range bounds {
					for _, unknownToo := range []bool{false, true} {
						s := subject(knob, in(state, func(d *control.Decision) { d.HoldReason, d.Bound = reason, bound }))
						if unknownToo {
							d := &s.Loop.Decision
							d.Measured, d.Setpoint, d.From, d.Raw, d.Value = none, none, none, none, none
							d.Gates = control.Gates{
								Occupancy: none, BindingShare: none, Floor: none, OwnLatencySeconds: none,
								ServiceTimeSeconds: none,
							}
							d.Inputs = control.Inputs{
								AgeSeconds: none, WindowSeconds: none, Requests: none, Throughput: none,
								RefusedShare: none, Quantile: none, SlowRatio: none, FailedRatio: none, Burn5m: none, Burn1h: none,
								EffectiveLimit: none, Applied: -1,
							}
							s.Loop.Published, s.Status, s.Loop.Since = nil, api.Status{}, time.Time{}
						}
						texts := append([]string{s.State(), s.Reason(), s.BoundBy(), s.Order()}, s.InForce()...)
						texts = append(texts, s.WouldChange()...)
						for _, input := range s.Inputs() {
							texts = append(texts, input.Name+" "+input.Value)
						}
						for _, text := range texts {
							n++
							for _, mistake := range []string{"NaN", "Inf", "%!", "  ", "()", "<nil>", ": :", "0001-01-01"} {
								if strings.Contains(text, mistake) || text == "" {
									t.Fatalf("%s %s %s %s: %q", knob, state, reason, bound, text)
								}
							}
						}
					}
				}
			}
		}
	}
	if n < 10000 {
		t.Errorf("only %d sentences were looked at", n)
	}
}

func TestStateOrderAndInForce(t *testing.T) {
	s := subject(concurrency, ordered(actuators.Override, 90, 15*time.Minute), in(control.Cutting, moved(95, 72),
		func(d *control.Decision) { d.Ceiling = 144 }))
	for _, tc := range []struct{ got, want string }{
		{s.State(), "CUTTING from 95 to 72, since 14:02:25 UTC (62 s)"},
		{s.Order(), "set to 90 by ana at 14:01:27 UTC (2 min ago) until 14:18:27 UTC (in 15 min): INC-1412"},
		{strings.Join(s.InForce(), "\n"), "72 requests in flight per instance, published with revision 881 of epoch 41, " +
			"changed 40 s ago\n8 of 9 instances report this revision or a later one\n" +
			"between decisions a guard's reflex may raise its limit up to 144\nbounds 20 to 400, fallback 89"},
		{
			subject(concurrency, ordered(actuators.Freeze, 0, 26*time.Hour)).Order(),
			"frozen by ana at 14:01:27 UTC (2 min ago) until 2026-11-25 16:03:27 UTC (in 26 h): INC-1412",
		},
		{
			subject(concurrency, ordered(actuators.Freeze, 0, 0)).Order(),
			"kill switch, every loop frozen, by ana at 14:01:27 UTC (2 min ago) until it is lifted: INC-1412",
		},
		{
			subject(concurrency, func(l *api.Loop, d *control.Decision) { l.Published.ChangedAt = d.At }).InForce()[1],
			"the next decision will show which instances obey it",
		},
		{subject(concurrency, func(_ *api.Loop, d *control.Decision) {
			d.Inputs.Instances, d.Inputs.Applied = 1, 1
		}).InForce()[1], "the only instance reports this revision or a later one"},
		{subject(concurrency).Order(), "none: the loop is automatic"},
		{strings.Join(subject(rateKnob, func(l *api.Loop, d *control.Decision) {
			l.Published.Error, d.Value = "conflict: somebody else has written the key", 1500
		}).InForce(), "\n"), "1800/s for the whole service, published with revision 881 of epoch 41, changed 40 s ago\n" +
			"8 of 9 instances report this revision or a later one\ngovernor wants 1500/s for the whole service\n" +
			"the last write failed: conflict: somebody else has written the key\n" +
			"bounds 100/s to 5000/s (off), fallback 5000/s (off)"},
		{
			subject(shed, func(l *api.Loop, _ *control.Decision) { l.Mode, l.Published = control.Shadow, nil }).InForce()[1],
			"governor would set 0.50 of the limit, above which the least important are refused",
		},
	} {
		if tc.got != tc.want {
			t.Errorf("got\n%s\nwant\n%s", tc.got, tc.want)
		}
	}
}

// C31: at small limits few slots are kept for the protected, and explain says so.
func TestReserveAtSmallLimitsIsTold(t *testing.T) {
	d := control.NewDecision("checkout", control.KnobShed)
	d.Value, d.Inputs.EffectiveLimit = 0.4, 7
	told := func() string {
		return strings.Join(Subject{Loop: api.Loop{Service: "checkout", Knob: control.KnobShed, Decision: d}}.InForce(), "\n")
	}
	const want = "at the limit of 7 requests this keeps 4 slots from the least important; protected requests are refused while all 7 are taken"
	if got := told(); !strings.Contains(got, want) {
		t.Errorf("it does not say what a threshold of 0.4 keeps of 7 slots:\n%s", got)
	}
	d.Inputs.EffectiveLimit = 200
	if got := told(); strings.Contains(got, "slots") {
		t.Errorf("a large limit needs no such words:\n%s", got)
	}
}

func TestInputsHaveTheirAge(t *testing.T) {
	s := subject(concurrency, in(control.Steady, func(d *control.Decision) {
		d.Inputs.Censored, d.Inputs.FailedRatio, d.Inputs.Outliers = true, none, []string{"10.0.0.9:8080"}
	}))
	var lines []string
	for _, i := range s.Inputs() {
		lines = append(lines, fmt.Sprintf("%s | %s | %s | %s", i.Name, i.Value, i.Over, i.Age))
	}
	const want = `mean latency | 120 ms, setpoint 140 ms | 20 s | 3.2 s
p99 latency | at least 284 ms (top bucket), SLO 300 ms | 20 s | 3.2 s
slow requests | 2.1%, allowed 1% | 20 s | 3.2 s
failed requests | unknown, allowed 0.1% |  | 
error budget burn, 5 min | 6.1 × its budget |  | 
error budget burn, 1 h | 3.9 × its budget |  | 
arrivals | 41820 | 20 s | 3.2 s
completed, per instance | 644/s | 20 s | 3.2 s
refused | 31% | 20 s | 3.2 s
limit of the instances | 80 |  | 3.2 s
in flight ÷ limit | 90% |  | 3.2 s
time with the limit full | 60% | 20 s | 3.2 s
Little's-law floor | 26 |  | 
own latency (learned) | 40 ms |  | 
instances | 9, left out as outliers: 10.0.0.9:8080 |  | 3.2 s`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPaceSaysWhereTheScrapeIntervalComesFrom.
func TestPaceSaysWhereTheScrapeIntervalComesFrom(t *testing.T) {
	var s Subject
	if got := s.Pace(); got != "" {
		t.Errorf("an unknown pace reads %q", got)
	}
	s.Loop.Timing = api.Timing{Scrape: 15, Window: 60, Period: 15, Learned: true}
	if got, want := s.Pace(), "scraped every 15 s, as found in the data; decides every 15 s from a window of 60 s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.Loop.Timing.Learned = false
	if got := s.Pace(); !strings.Contains(got, "scraped every 15 s, as configured") {
		t.Errorf("got %s", got)
	}
}

// TestRefusalsSayWhatIsMissing: by which policy, and how many more instances would have carried the rest.
func TestRefusalsSayWhatIsMissing(t *testing.T) {
	l := api.Loop{Service: "checkout", Knob: control.KnobConcurrency, Decision: control.NewDecision("checkout", control.KnobConcurrency)}
	in := &l.Decision.Inputs
	in.Instances = 9
	missing := func() string { l.Missing = api.MissingOf(*in); return Lacks(l) }
	if got := Refused(l) + missing(); got != "refused requests unknown" {
		t.Errorf("nothing is known, and it says %q", got)
	}
	in.RefusedShare, in.RefusedBy = 0, control.RefusedBy{}
	if got := Refused(l) + missing(); got != "0% of the requests refused" {
		t.Errorf("nothing is refused, and it says %q", got)
	}
	in.RefusedShare, in.RefusedBy.Rate = 0.5, 0.5
	if got, want := Refused(l)+"; "+missing(), "50% of the requests refused by the rate limit; needs about 9 more instances "+
		"(+100% capacity)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	in.RefusedBy = control.RefusedBy{Concurrency: 0.3, Shed: 0.2}
	if got, want := Refused(l), "50% of the requests refused: by the concurrency limit 30%, by shedding 20%"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	in.RefusedBy = control.RefusedBy{Concurrency: 0.3, Share: 0.12, Roof: 0.08}
	if got, want := Refused(l), "50% of the requests refused: by the concurrency limit 30%, by its share of the roof 12%, by the "+
		"roof over all routes 8%"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if all := (Subject{Loop: l}).Inputs(); !slices.ContainsFunc(all, func(i Input) bool {
		return i.Name == "refused by its share of the roof" && i.Value == "12%"
	}) {
		t.Errorf("the inputs do not say what its share refuses: %+v", all)
	}
	for by, want := range map[control.RefusedBy]string{
		{Share: 0.1, Roof: 0.1}: "each keeps to its share of it", {Roof: 0.1}: "the roof over all its routes is full",
	} {
		in.RefusedBy = by
		if got := (Subject{Loop: l}).WouldChange(); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("refused by %+v, and it says %q", by, got)
		}
	}
	if got := (Subject{Loop: l}).WouldChange(); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "9 more instances") }) {
		t.Errorf("what would change it does not mention capacity: %q", got)
	}
	for state, want := range map[control.State]string{
		control.AtMax: "needs a higher max if an instance can take more, else about 9", control.Ineffective: "would not help",
	} {
		if l.Decision.State = state; !strings.Contains(missing(), want) {
			t.Errorf("%s: it says %q", state, missing())
		}
	}
	if in.RefusedShare = 1; missing() != "" {
		t.Errorf("everything is refused, and it says %q", missing())
	}
}
