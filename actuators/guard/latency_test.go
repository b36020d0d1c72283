package guard

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Both histograms against their definitions: every observation in exactly one bucket of each, edges inclusive.
func TestHistogramsAgreeWithTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slo := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "slo"))
		l := newLatency(slo)
		var edges []int64
		for _, share := range classicShares {
			edges = append(edges, int64(slo*share/100))
		}
		d := time.Duration(rapid.OneOf(
			rapid.Int64Range(0, int64(2*time.Hour)), rapid.Int64Range(0, 20_000), rapid.SampledFrom(edges),
		).Draw(t, "latency"))
		l.observe(0, d)
		s := l.snapshot()
		if s.Count != 1 || math.Abs(s.Sum-d.Seconds()) > 1e-7 {
			t.Fatalf("count %d, sum %v of one observation of %v", s.Count, s.Sum, d)
		}
		for i, edge := range s.Edges {
			if want := d.Seconds() <= edge; (s.Cumulative[i] == 1) != want {
				t.Fatalf("%v: %d at or below the edge %v", d, s.Cumulative[i], edge)
			}
		}
		if s.ZeroCount == 1 {
			if d.Seconds() > s.ZeroThreshold || len(s.Buckets) > 0 {
				t.Fatalf("%v in the zero bucket (≤ %v), others %v", d, s.ZeroThreshold, s.Buckets)
			}
			return
		}
		for i, n := range s.Buckets {
			lower, upper := math.Exp2(float64(i-1)/8), math.Exp2(float64(i)/8)
			last := i == nativeHighest
			const ulps = 1e-12
			if n != 1 || d.Seconds() <= lower*(1-ulps) || (d.Seconds() > upper*(1+ulps) && !last) {
				t.Fatalf("%v: %d in native bucket %d, (%v, %v]", d, n, i, lower, upper)
			}
		}
		if len(s.Buckets) != 1 {
			t.Fatalf("%v: native buckets %v", d, s.Buckets)
		}
	})
}

func TestSLOIsAnInclusiveEdge(t *testing.T) {
	l := newLatency(300 * time.Millisecond)
	l.observe(0, 300*time.Millisecond)
	l.observe(0, 300*time.Millisecond+1)
	s := l.snapshot()
	for i, edge := range s.Edges {
		if edge == 0.3 {
			if s.Cumulative[i] != 1 {
				t.Errorf("%d of 2 within the SLO, expected 1", s.Cumulative[i])
			}
			return
		}
	}
	t.Errorf("no edge at 0.3 among %v", s.Edges)
}
