package daemon

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
)

// complete derives every default of a spec, as the loops do.
func complete(t interface{ Fatal(...any) }, spec control.Spec) control.Spec {
	loops, err := control.NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	return loops.Spec()
}

// TestComposedSettingIsValidAndMovesForward feeds compose with decisions no sane loop would make. Whatever it wants
// written keeps the contract and the configured bounds, and follows what was there.
func TestComposedSettingIsValidAndMovesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		odd := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0.001, 1000),
			rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64}))
		yes := func(what string) bool { return rapid.Bool().Draw(t, what) }
		lo := rapid.IntRange(1, 500).Draw(t, "min")
		hi := rapid.IntRange(lo, 1000).Draw(t, "max")
		spec := specOf("checkout", control.Enforce)
		spec.Concurrency = &control.ConcurrencySpec{Min: float64(lo), Max: float64(hi)}
		if yes("shed") {
			spec.Shed = &control.ShedSpec{}
		}
		if yes("rate") {
			spec.Rate = &control.RateSpec{Min: 0.1 * float64(lo), Max: 10 * float64(hi)}
		}
		spec = complete(t, spec)
		now := time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)
		s := &service{
			spec: spec, lease: time.Minute, fence: consul.Fence{Session: "s", Epoch: 5},
			highest: uint64(rapid.IntRange(0, 100).Draw(t, "highest")),
		}
		if yes("published") { // perhaps from another configuration
			s.present, s.index = true, 9
			s.setting = &actuators.Setting{
				Schema: 1, Service: "checkout", Epoch: 5, Revision: s.highest, LeaseSeconds: 60,
				Reason: "before", IssuedAt: now, ChangedAt: now,
			}
			if limit := rapid.IntRange(1, 2000).Draw(t, "limit"); yes("with concurrency") {
				s.setting.Concurrency = &actuators.Concurrency{
					Limit: limit, Ceiling: limit, LatencyTargetSeconds: 0.1, Fallback: limit, Min: 1, Max: 2000,
				}
			}
			if yes("with shed") {
				s.setting.Shed = &actuators.Shed{Threshold: 0.3, Fallback: 0.9, Max: 1}
			}
			if yes("with rate") {
				s.setting.Rate = &actuators.Rate{PerSecond: 3, Burst: 1, Instances: 9, Fallback: 1e9, Max: 1e9}
			}
		}
		number := func(name string) control.Number { return control.Number(odd.Draw(t, name)) }
		var ds []control.Decision
		publish, renew := false, false
		for _, knob := range knobsOf(spec) {
			d := control.Decision{
				Service: "checkout", Knob: knob, Reason: "because",
				Value: number("value"), Ceiling: number("ceiling"), LatencyTarget: number("target"), From: number("from"),
				Publish: yes("publish"), Renew: yes("renew"),
				Inputs: control.Inputs{Instances: rapid.IntRange(0, 20).Draw(t, "instances")},
			}
			publish, renew = publish || d.Publish, renew || d.Renew
			ds = append(ds, d)
		}
		next, kind, err := s.compose(now, ds)
		if kind == NoWrite {
			return
		}
		if err != nil {
			t.Fatalf("to be written in spite of %v", err)
		}
		if !publish && !renew && !reconfigured(s.setting, spec) {
			t.Fatal("a hold was written")
		}
		if next.Revision != s.highest+1 || next.Epoch != 5 {
			t.Fatalf("epoch %d revision %d after %d", next.Epoch, next.Revision, s.highest)
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
		if kind == Renewal && (!sameValues(next, *s.setting) || next.ChangedAt != s.setting.ChangedAt) {
			t.Fatalf("a renewal that changes something: %+v", next)
		}
	})
}

// TestKnobThatDoesNotPublishKeepsItsValues: the knobs share a document, not a fate.
func TestKnobThatDoesNotPublishKeepsItsValues(t *testing.T) {
	spec := specOf("checkout", control.Enforce)
	spec.Shed, spec.Rate = &control.ShedSpec{}, &control.RateSpec{Min: 100, Max: 5000}
	spec = complete(t, spec)
	now := time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)
	last := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 5, Revision: 8, LeaseSeconds: 180, Reason: "before",
		IssuedAt: now, ChangedAt: now,
		Concurrency: &actuators.Concurrency{
			Limit: 72, Ceiling: 144, LatencyTargetSeconds: 0.11, Fallback: 89, Min: 20, Max: 400,
		},
		Shed: &actuators.Shed{Threshold: 0.5, Fallback: 0.6, Min: 0.4, Max: 0.6},
	}
	s := &service{
		spec: spec, lease: 3 * time.Minute, fence: consul.Fence{Session: "s", Epoch: 5}, highest: 8,
		present: true, index: 9, setting: &last, renewedAt: now,
	}
	decisions := []control.Decision{
		{Knob: control.KnobConcurrency, Value: 60, Ceiling: 120, LatencyTarget: 0.1, Renew: true},
		{Knob: control.KnobShed, Value: 0.44, Reason: "cut", Publish: true, Renew: true},
		// New in the configuration, and still without a decision of its own: it starts where it stands.
		{Knob: control.KnobRate, Value: 5000, Inputs: control.Inputs{Instances: 4}, Renew: true},
	}
	next, kind, err := s.compose(now, decisions)
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

// TestRateFollowsItsInstances: per_second is shared, so that another number of instances is worth a write, but only
// where the rate is on and the count is certain.
func TestRateFollowsItsInstances(t *testing.T) {
	spec := specOf("gateway", control.Enforce)
	spec.Concurrency, spec.Rate = nil, &control.RateSpec{Min: 100, Max: 5000}
	spec = complete(t, spec)
	now := time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)
	for _, tc := range []struct {
		name      string
		perSecond float64
		seen      int
		sure      bool
		want      WriteKind
	}{
		{"two more", 900, 6, true, Change},
		{"as many", 900, 4, true, NoWrite},
		{"some not heard of", 900, 2, false, NoWrite},
		{"nothing seen", 900, 0, true, NoWrite},
		{"the rate is off", 5000, 6, true, NoWrite},
	} {
		last := actuators.Setting{
			Schema: 1, Service: "gateway", Epoch: 5, Revision: 8, LeaseSeconds: 180, Reason: "before",
			IssuedAt: now, ChangedAt: now,
			Rate: &actuators.Rate{
				PerSecond: tc.perSecond, Burst: control.Burst(tc.perSecond), Instances: 4, Fallback: 5000, Min: 100, Max: 5000,
			},
		}
		s := &service{
			spec: spec, lease: 3 * time.Minute, fence: consul.Fence{Session: "s", Epoch: 5}, highest: 8,
			present: true, index: 9, setting: &last, renewedAt: now,
		}
		d := control.Decision{
			Knob: control.KnobRate, Value: control.Number(tc.perSecond), Renew: tc.sure,
			Inputs: control.Inputs{Instances: tc.seen},
		}
		next, kind, err := s.compose(now, []control.Decision{d})
		if err != nil || kind != tc.want {
			t.Errorf("%s: %q, %v, want %q", tc.name, kind, err, tc.want)
		}
		if kind == Change && (next.Rate.Instances != tc.seen || next.Rate.PerSecond != tc.perSecond) {
			t.Errorf("%s: %+v", tc.name, *next.Rate)
		}
	}
}
