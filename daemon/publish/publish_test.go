package publish

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// now is the time of every tick in these tests.
var now = time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)

// specOf is a service without a knob.
func specOf(service string) control.Spec {
	return control.Spec{
		Service: service, Mode: control.Enforce,
		SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01},
		Timing: control.Timing{
			Scrape: 5 * time.Second, Window: 20 * time.Second, Period: 5 * time.Second, PublishDelay: 300 * time.Millisecond,
		},
	}
}

// written is what is known after s has reached the store.
func written(at time.Time, s actuators.Setting) (l Last) {
	l.Wrote(at, s)
	return l
}

// complete derives every default of a spec, as the loops do.
func complete(t interface{ Fatal(...any) }, spec control.Spec) control.Spec {
	loops, err := control.NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	return loops.Spec()
}

// TestComposedSettingIsValidAndMovesForward feeds Next with decisions that no sane loop would make. Every resulting
// write keeps the contract and the configured bounds, and follows the previous one.
func TestComposedSettingIsValidAndMovesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		odd := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0.001, 1000),
			rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64}))
		yes := func(what string) bool { return rapid.Bool().Draw(t, what) }
		lo := rapid.IntRange(1, 500).Draw(t, "min")
		hi := rapid.IntRange(lo, 1000).Draw(t, "max")
		spec := specOf("checkout")
		spec.Concurrency = &control.ConcurrencySpec{Min: float64(lo), Max: float64(hi)}
		if yes("shed") {
			spec.Shed = &control.ShedSpec{}
		}
		if yes("rate") {
			spec.Rate = &control.RateSpec{Min: 0.1 * float64(lo), Max: 10 * float64(hi)}
		}
		spec = complete(t, spec)
		last := Last{Highest: uint64(rapid.IntRange(0, 100).Draw(t, "highest"))}
		if yes("published") { // perhaps from another configuration
			last.Present = true
			last.Setting = &actuators.Setting{
				Schema: 1, Service: "checkout", Epoch: 5, Revision: last.Highest, LeaseSeconds: 60,
				Reason: "before", IssuedAt: now, ChangedAt: now,
			}
			if limit := rapid.IntRange(1, 2000).Draw(t, "limit"); yes("with concurrency") {
				last.Setting.Concurrency = &actuators.Concurrency{
					Limit: limit, Ceiling: limit, LatencyTargetSeconds: 0.1, Fallback: limit, Min: 1, Max: 2000,
				}
			}
			if yes("with shed") {
				last.Setting.Shed = &actuators.Shed{Threshold: 0.3, Fallback: 0.9, Max: 1}
			}
			if yes("with rate") {
				last.Setting.Rate = &actuators.Rate{PerSecond: 3, Burst: 1, Instances: 9, Fallback: 1e9, Max: 1e9}
			}
		}
		number := func(name string) control.Number { return control.Number(odd.Draw(t, name)) }
		var ds []control.Decision
		publish, renew := false, false
		for _, knob := range Knobs(spec) {
			d := control.Decision{
				Service: "checkout", Knob: knob, Reason: "because",
				Value: number("value"), Ceiling: number("ceiling"), LatencyTarget: number("target"), From: number("from"),
				Publish: yes("publish"), Renew: yes("renew"),
				Inputs: control.Inputs{Instances: rapid.IntRange(0, 20).Draw(t, "instances")},
			}
			publish, renew = publish || d.Publish, renew || d.Renew
			ds = append(ds, d)
		}
		next, kind, err := last.Next(now, Writer{Spec: spec, Epoch: 5, Lease: time.Minute}, ds)
		if kind == None {
			return
		}
		if err != nil {
			t.Fatalf("to be written in spite of %v", err)
		}
		resized := false
		for _, d := range ds {
			resized = resized || last.resized(d)
		}
		if !publish && !renew && !resized && !reconfigured(last.Setting, spec) {
			t.Fatal("a hold was written")
		}
		if next.Revision != last.Highest+1 || next.Epoch != 5 {
			t.Fatalf("epoch %d revision %d after %d", next.Epoch, next.Revision, last.Highest)
		}
		if err := next.Validate(); err != nil { // values inside min and max, too
			t.Fatalf("%+v: %v", next, err)
		}
		if (next.Shed != nil) != (spec.Shed != nil) || (next.Rate != nil) != (spec.Rate != nil) || next.Concurrency == nil {
			t.Fatalf("not the knobs that are configured: %+v", next)
		}
		if reconfigured(&next, spec) {
			t.Fatalf("other bounds than configured: %+v", next)
		}
		if kind == Renewal && (!sameValues(next, *last.Setting) || next.ChangedAt != last.Setting.ChangedAt) {
			t.Fatalf("a renewal that changes something: %+v", next)
		}
	})
}

// TestWhatIsWritten checks Next against the rules of the package comment, one tick each. In force is a limit of 72,
// bounded by 20 and 400, and a threshold of 0.5; the lease lasts three minutes.
func TestWhatIsWritten(t *testing.T) {
	spec := specOf("checkout")
	spec.Concurrency, spec.Shed = &control.ConcurrencySpec{Min: 20, Max: 400}, &control.ShedSpec{}
	spec = complete(t, spec)
	writer := Writer{Spec: spec, Epoch: 5, Lease: 3 * time.Minute}
	wider := writer
	wider.Spec.Concurrency = &control.ConcurrencySpec{Min: 20, Max: 500, Fallback: 89}
	inForce := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 5, Revision: 8, LeaseSeconds: 180, Reason: "before",
		IssuedAt: now.Add(-time.Hour), ChangedAt: now.Add(-time.Hour),
		Concurrency: &actuators.Concurrency{
			Limit: 72, Ceiling: 144, LatencyTargetSeconds: 0.11, Fallback: 89, Min: 20, Max: 400,
		},
		Shed: &actuators.Shed{Threshold: 0.5, Fallback: 0.6, Min: 0.4, Max: 0.6},
	}
	renewed := func(ago time.Duration) Last { return written(now.Add(-ago), inForce) }
	lost := renewed(0)
	lost.Present = false

	hold := func(knob control.Knob, value float64) control.Decision {
		return control.Decision{
			Knob: knob, Reason: "held", Value: control.Number(value), Ceiling: 144, LatencyTarget: 0.11,
		}
	}
	steady := func(knob control.Knob, value float64) control.Decision {
		d := hold(knob, value)
		d.Renew, d.Reason = true, "steady"
		return d
	}
	move := func(value float64) control.Decision {
		d := steady(control.KnobConcurrency, value)
		d.Publish, d.Reason = true, "moved"
		return d
	}
	limit, shed := control.KnobConcurrency, control.KnobShed
	for _, tc := range []struct {
		name   string
		last   Last
		writer Writer
		ds     []control.Decision
		kind   Kind
		limit  int
		why    string
	}{
		{"a move", renewed(0), writer, []control.Decision{move(60), steady(shed, 0.5)}, Change, 60, "concurrency moved"},
		{"a move to the nearest request", renewed(0), writer, []control.Decision{move(60.5)}, Change, 61, "concurrency moved"},
		{"a move that rounds to nothing", renewed(0), writer, []control.Decision{move(72.4), steady(shed, 0.5)}, None, 0, ""},
		{
			"the same when the lease is due", renewed(time.Minute), writer,
			[]control.Decision{move(72.4), steady(shed, 0.5)},
			Renewal, 72, "before",
		},
		{"a move below the minimum", renewed(0), writer, []control.Decision{move(3)}, Change, 20, "concurrency moved"},
		{
			"nothing, before a third of the lease", renewed(59 * time.Second), writer,
			[]control.Decision{steady(limit, 72), steady(shed, 0.5)},
			None, 0, "",
		},
		{
			"nothing, after a third of the lease", renewed(time.Minute), writer,
			[]control.Decision{steady(limit, 72), steady(shed, 0.5)},
			Renewal, 72, "before",
		},
		{
			"all hold, long after the lease", renewed(time.Hour), writer,
			[]control.Decision{hold(limit, 72), hold(shed, 0.5)},
			None, 0, "",
		},
		{
			"one loop holds alone", renewed(time.Minute), writer,
			[]control.Decision{steady(limit, 72), hold(shed, 0.5)},
			Renewal, 72, "before",
		},
		{"the key is lost", lost, writer, []control.Decision{steady(limit, 60), steady(shed, 0.5)}, Change, 72, "before"},
		{"the key is lost, and all hold", lost, writer, []control.Decision{hold(limit, 72), hold(shed, 0.5)}, None, 0, ""},
		{
			"nothing was ever published",
			Last{},
			writer,
			[]control.Decision{steady(limit, 89), hold(shed, 0.6)},
			Change, 89, "steady",
		},
		{
			"nothing was ever published, and all hold",
			Last{},
			writer,
			[]control.Decision{hold(limit, 89), hold(shed, 0.6)},
			None, 0, "",
		},
		{
			"other bounds, and all hold", renewed(0), wider,
			[]control.Decision{hold(limit, 72), hold(shed, 0.5)},
			Change, 72, "the configuration changed the bounds",
		},
	} {
		next, kind, err := tc.last.Next(now, tc.writer, tc.ds)
		if err != nil || kind != tc.kind {
			t.Errorf("%s: %q, %v, want %q", tc.name, kind, err, tc.kind)
			continue
		}
		if kind != None && (next.Concurrency.Limit != tc.limit || next.Reason != tc.why) {
			t.Errorf("%s: limit %d because %q, want %d because %q",
				tc.name, next.Concurrency.Limit, next.Reason, tc.limit, tc.why)
		}
	}
}

// TestKnobThatDoesNotPublishKeepsItsValues: the knobs share a document but are independent.
func TestKnobThatDoesNotPublishKeepsItsValues(t *testing.T) {
	spec := specOf("checkout")
	spec.Concurrency = &control.ConcurrencySpec{Min: 20, Max: 400}
	spec.Shed, spec.Rate = &control.ShedSpec{}, &control.RateSpec{Min: 100, Max: 5000}
	spec = complete(t, spec)
	last := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 5, Revision: 8, LeaseSeconds: 180, Reason: "before",
		IssuedAt: now, ChangedAt: now,
		Concurrency: &actuators.Concurrency{
			Limit: 72, Ceiling: 144, LatencyTargetSeconds: 0.11, Fallback: 89, Min: 20, Max: 400,
		},
		Shed: &actuators.Shed{Threshold: 0.5, Fallback: 0.6, Min: 0.4, Max: 0.6},
	}
	decisions := []control.Decision{
		{Knob: control.KnobConcurrency, Value: 60, Ceiling: 120, LatencyTarget: 0.1, Renew: true},
		{Knob: control.KnobShed, Value: 0.44, Reason: "cut", Publish: true, Renew: true},
		// New in the configuration, and still without its own decision: it starts at its current value.
		{Knob: control.KnobRate, Value: 5000, Inputs: control.Inputs{Instances: 4}, Renew: true},
	}
	next, kind, err := written(now, last).Next(now, Writer{Spec: spec, Epoch: 5, Lease: 3 * time.Minute}, decisions)
	if err != nil || kind != Change {
		t.Fatalf("%s, %v", kind, err)
	}
	if *next.Concurrency != *last.Concurrency {
		t.Errorf("concurrency went from %+v to %+v", *last.Concurrency, *next.Concurrency)
	}
	if next.Shed.Threshold != 0.44 || next.Reason != "shed cut" {
		t.Errorf("shed %+v because %q", *next.Shed, next.Reason)
	}
	want := actuators.Rate{PerSecond: 5000, Burst: 1250, Instances: 4, Fallback: 5000, Min: 100, Max: 5000}
	if *next.Rate != want {
		t.Errorf("rate %+v, want %+v", *next.Rate, want)
	}
}

// TestRateFollowsItsInstances: per_second is shared, so a changed number of instances is worth a write, but only if the
// rate is on and the count is certain.
func TestRateFollowsItsInstances(t *testing.T) {
	spec := specOf("gateway")
	spec.Rate = &control.RateSpec{Min: 100, Max: 5000}
	spec = complete(t, spec)
	for _, tc := range []struct {
		name      string
		perSecond float64
		seen      int
		sure      bool
		want      Kind
	}{
		{"two more", 900, 6, true, Change},
		{"two more, while nothing can be judged", 900, 6, false, Change},
		{"two fewer, just now", 900, 2, true, None},
		{"as many", 900, 4, true, None},
		{"some not heard of", 900, 2, false, None},
		{"nothing seen", 900, 0, true, None},
		{"the rate is off", 5000, 6, true, None},
	} {
		last := actuators.Setting{
			Schema: 1, Service: "gateway", Epoch: 5, Revision: 8, LeaseSeconds: 180, Reason: "before",
			IssuedAt: now, ChangedAt: now,
			Rate: &actuators.Rate{
				PerSecond: tc.perSecond, Burst: control.Burst(tc.perSecond), Instances: 4, Fallback: 5000, Min: 100, Max: 5000,
			},
		}
		writer := Writer{Spec: spec, Epoch: 5, Lease: 3 * time.Minute}
		d := control.Decision{
			Knob: control.KnobRate, Value: control.Number(tc.perSecond), Renew: tc.sure,
			Inputs: control.Inputs{Instances: tc.seen},
		}
		next, kind, err := written(now, last).Next(now, writer, []control.Decision{d})
		if err != nil || kind != tc.want {
			t.Errorf("%s: %q, %v, want %q", tc.name, kind, err, tc.want)
		}
		if kind == Change && (next.Rate.Instances != tc.seen || next.Rate.PerSecond != tc.perSecond) {
			t.Errorf("%s: %+v", tc.name, *next.Rate)
		}
	}
}

// TestOrderOverAPartialMeasurementKeepsTheShares: instances that were not seen still take their share.
func TestOrderOverAPartialMeasurementKeepsTheShares(t *testing.T) {
	last := Last{
		Setting: &actuators.Setting{Rate: &actuators.Rate{PerSecond: 400, Instances: 4, Max: 5000}},
		Sharers: Sharers{since: now.Add(-time.Minute), most: 2, gone: true},
	}
	d := control.Decision{Knob: control.KnobRate, State: control.Frozen, Renew: true, Inputs: control.Inputs{Instances: 2}}
	if n := last.instances(d); n != 2 {
		t.Errorf("%d instances after a complete measurement of 2", n)
	}
	d.HoldReason = control.Partial
	if n := last.instances(d); n != 4 || last.resized(d) {
		t.Errorf("%d instances after a partial measurement of 2 of 4", n)
	}
}

// TestShareOfTheRate: C17 (open-telemetry/opentelemetry-collector-contrib#27893). Instances come and go, and the sum of
// their shares exceeds the rate for no longer than it takes to see them.
func TestShareOfTheRate(t *testing.T) {
	spec := specOf("gateway")
	spec.Rate = &control.RateSpec{Min: 100, Max: 5000}
	spec = complete(t, spec)
	writer := Writer{Spec: spec, Epoch: 5, Lease: 3 * time.Minute}
	last := written(now, actuators.Setting{
		Schema: 1, Service: "gateway", Epoch: 5, Revision: 8, LeaseSeconds: 180, Reason: "before", IssuedAt: now, ChangedAt: now,
		Rate: &actuators.Rate{PerSecond: 900, Burst: control.Burst(900), Instances: 3, Fallback: 5000, Min: 100, Max: 5000},
	})
	at := now
	tick := func(seen int, hold control.Reason) int {
		at = at.Add(5 * time.Second)
		d := control.Decision{
			Knob: control.KnobRate, Value: 900, Renew: hold == "", HoldReason: hold, Inputs: control.Inputs{Instances: seen},
		}
		last.Count(at, spec, []control.Decision{d})
		next, kind, err := last.Next(at, writer, []control.Decision{d})
		if err != nil {
			t.Fatal(err)
		}
		if kind != None {
			last.Wrote(at, next)
		}
		return last.Setting.Rate.Instances
	}
	settle := int(spec.Timing.Settle()/(5*time.Second)) + 1 // ticks
	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: shared by %d, want %d", what, got, want)
		}
	}
	want("a fourth starts", tick(4, control.Starting), 4)
	want("it is there", tick(4, ""), 4)
	for range settle {
		want("one is not heard of", tick(3, ""), 4)
	}
	want("it has been gone for a settling time", tick(3, ""), 3)
	for range settle - 1 {
		want("another is not heard of", tick(2, ""), 3)
	}
	want("it comes back", tick(3, ""), 3)
	for range settle {
		want("and goes", tick(2, ""), 3)
	}
	want("for a settling time", tick(2, ""), 2)
	for range 4 * settle {
		want("nothing complete is known", tick(1, control.Partial), 2)
		want("nor anything at all", tick(0, control.Timeout), 2)
	}
	for range settle {
		tick(1, "")
	}
	want("one of two, in the end", tick(1, ""), 1)
}
