package guard

import (
	"math"
	"sync"
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

// Count and sum share a word that is emptied before it overflows, and the longest latencies bypass it. Whoever reads meanwhile
// finds that both only grow, and at rest both are exact.
func TestLatenciesAddUp(t *testing.T) {
	l := newLatency(time.Second)
	latencies := []time.Duration{0, time.Millisecond, time.Second, longest * sumUnit, longest*sumUnit + sumUnit, 2 * time.Hour}
	const workers, rounds = 4, 1000
	var wg sync.WaitGroup
	for shard := range uint32(workers) {
		wg.Go(func() {
			for range rounds {
				for _, d := range latencies {
					l.observe(shard, d)
				}
			}
		})
	}
	full := &l.shards[0][l.cell(int64(time.Millisecond))]
	full.Add(1<<(countBits-1) - 2) // counted, with a sum of 0
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	for count, sum := uint64(0), 0.0; ; {
		n, seconds, _ := l.total()
		s := l.snapshot()
		if n < count || seconds < sum || s.Count < n || s.Sum < seconds {
			t.Fatalf("%d with a sum of %v after %d with %v, then %d with %v", n, seconds, count, sum, s.Count, s.Sum)
		}
		count, sum = n, seconds
		select {
		case <-over:
		default:
			continue
		}
		break
	}
	var want time.Duration
	for _, d := range latencies {
		want += workers * rounds * d
	}
	n, seconds, _ := l.total()
	if n != workers*rounds*uint64(len(latencies))+1<<(countBits-1)-2 || math.Abs(seconds-want.Seconds()) > 1e-3 {
		t.Errorf("%d with a sum of %v s, expected %v", n, seconds, want)
	}
	if s := l.snapshot(); s.Count != n || s.Sum != seconds || s.Cumulative[len(s.Cumulative)-1] > n {
		t.Errorf("%d with %v in the histogram, expected %d with %v", s.Count, s.Sum, n, seconds)
	}
	if l.count == 0 || full.Load()&halfFull != 0 {
		t.Error("no word was emptied")
	}
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
