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

// TestComposedSettingIsValidAndMovesForward feeds compose with decisions no sane loop would make. Whatever it wants
// written keeps the contract and the configured bounds, and follows what was there.
func TestComposedSettingIsValidAndMovesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		odd := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0.001, 1000),
			rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64}))
		lo := rapid.IntRange(1, 500).Draw(t, "min")
		hi := rapid.IntRange(lo, 1000).Draw(t, "max")
		spec := specOf("checkout", control.Enforce)
		spec.Concurrency = &control.ConcurrencySpec{Min: float64(lo), Max: float64(hi)}
		now := time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)
		s := &service{
			spec: spec, lease: time.Minute, fence: consul.Fence{Session: "s", Epoch: 5},
			highest: uint64(rapid.IntRange(0, 100).Draw(t, "highest")),
		}
		if rapid.Bool().Draw(t, "published") {
			limit := rapid.IntRange(1, 2000).Draw(t, "limit") // perhaps from another configuration
			s.present, s.index = true, 9
			s.setting = &actuators.Setting{
				Schema: 1, Service: "checkout", Epoch: 5, Revision: s.highest, LeaseSeconds: 60,
				Reason: "before", IssuedAt: now, ChangedAt: now,
				Concurrency: &actuators.Concurrency{
					Limit: limit, Ceiling: limit, LatencyTargetSeconds: 0.1, Fallback: limit, Min: 1, Max: 2000,
				},
			}
		}
		number := func(name string) control.Number { return control.Number(odd.Draw(t, name)) }
		d := control.Decision{
			Service: "checkout", Knob: control.KnobConcurrency, Reason: "because",
			Value: number("value"), Ceiling: number("ceiling"), LatencyTarget: number("target"), From: number("from"),
			Publish: rapid.Bool().Draw(t, "publish"), Renew: rapid.Bool().Draw(t, "renew"),
		}
		next, kind, err := s.compose(now, []control.Decision{d})
		if kind == NoWrite {
			return
		}
		if err != nil {
			t.Fatalf("to be written in spite of %v", err)
		}
		if !d.Publish && !d.Renew {
			t.Fatal("a hold was written")
		}
		if next.Revision != s.highest+1 || next.Epoch != 5 {
			t.Fatalf("epoch %d revision %d after %d", next.Epoch, next.Revision, s.highest)
		}
		c := next.Concurrency
		if c.Min != lo || c.Max != hi || c.Limit < lo || c.Limit > hi ||
			c.Ceiling < c.Limit || c.Ceiling > hi || c.Fallback < lo || c.Fallback > hi {
			t.Fatalf("%+v outside %d..%d", c, lo, hi)
		}
		if err := next.Validate(); err != nil {
			t.Fatalf("%+v: %v", next, err)
		}
		if kind == Renewal && (!sameValues(next, *s.setting) || next.ChangedAt != s.setting.ChangedAt) {
			t.Fatalf("a renewal that changes something: %+v", next)
		}
	})
}
