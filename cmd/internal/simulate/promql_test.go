package simulate_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/models"
)

// The telemetry of the models must say what Prometheus would: the same samples through the increase() of the real
// engine.
func TestIncreaseIsPrometheuss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const now = 1_000_000 // ms
		window := rapid.Int64Range(1000, 60_000).Draw(t, "window")
		var at []int64
		for range rapid.IntRange(0, 12).Draw(t, "samples") {
			at = append(at, rapid.Int64Range(now-window+1, now).Draw(t, "at"))
		}
		slices.Sort(at)
		at = slices.Compact(at)

		var times []time.Duration
		var values []float64
		var points []promql.FPoint
		value := rapid.Float64Range(0, 1000).Draw(t, "value")
		for _, ms := range at {
			times = append(times, time.Duration(ms)*time.Millisecond)
			values = append(values, value)
			points = append(points, promql.FPoint{T: ms, F: value})
			value += rapid.Float64Range(0, 1000).Draw(t, "step")
			if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
				value = rapid.Float64Range(0, 50).Draw(t, "value after the reset")
			}
		}

		want := math.NaN()
		if len(points) > 0 { // the engine does not call a function for a series without samples
			want = engineIncrease(t, points, now, window)
		}
		got := models.Increase(times, values, (now-time.Duration(window))*time.Millisecond, now*time.Millisecond)
		if math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) || math.IsNaN(got) != math.IsNaN(want) {
			t.Fatalf("increase of %v at %v over (%d, %d] is %v, Prometheus says %v", values, at, now-window, now, got, want)
		}
	})
}

func engineIncrease(t *rapid.T, points []promql.FPoint, now, windowMS int64) float64 {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(fmt.Sprintf("increase(c[%dms])", windowMS))
	if err != nil {
		t.Fatal(err)
	}
	helper := &promql.EvalNodeHelper{Ts: now}
	out, _ := promql.FunctionCalls["increase"](nil, promql.Matrix{{Floats: points}}, expr.(*parser.Call).Args, helper)
	if len(out) == 0 {
		return math.NaN()
	}
	return out[0].F
}
