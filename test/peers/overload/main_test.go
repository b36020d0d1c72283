package main

import (
	"math"
	"strings"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

func TestScoreOf(t *testing.T) {
	const capacity, span = 100, 2 * time.Second // 200 requests are possible, 600 intended
	var results vegeta.Results
	add := func(n int, code uint16, latency time.Duration) {
		for range n {
			results.Add(&vegeta.Result{Code: code, Latency: latency})
		}
	}
	add(98, 200, slo)
	add(2, 200, 3*slo)
	add(150, 503, time.Millisecond)
	add(30, 429, time.Millisecond)
	add(20, 0, patient)
	got := scoreOf(results, capacity, span)
	want := score{
		good: 98.0 / 200, slowest: 3, answered: 100.0 / 300, refused: 180.0 / 300, failed: 20.0 / 300, sent: 300.0 / 600,
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := scoreOf(results[100:], capacity, span); got.good != 0 || !math.IsNaN(got.slowest) {
		t.Errorf("without an answer: %+v, want no goodput and no latency", got)
	}
}

// The figures of a round belong together: a round on a busy machine changes no ratio.
func TestWrite(t *testing.T) {
	all := map[string][]score{
		"no limit":    {{good: 0.1, slowest: 10}, {good: 0.05, slowest: 10}, {good: 0.2, slowest: 10}},
		"guardhttp":   {{good: 0.8, slowest: 1}, {good: 0.4, slowest: 2}, {good: 1.6, slowest: 1}},
		"failsafe-go": {{good: 0.8, slowest: 2}, {good: 0.4, slowest: 4}, {good: 1.6, slowest: 2}},
	}
	var out strings.Builder
	if err := write(&out, []float64{400, 500, 450}, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"450 (400–500) requests/s", "8.00 (8.00–8.00)", "1.00 (1.00–1.00)  0.50 (0.50–0.50)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestServeRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range []struct {
		variant string
		work    []string
		want    string
	}{
		{"none", []string{"1", "1"}, "no variant"},
		{"guardhttp", []string{"1"}, "expected the steps"},
		{"guardhttp", []string{"1", "x"}, "expected the steps"},
	} {
		if err := serve(c.variant, c.work); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: error %v, want one with %q", c.variant, c.work, err, c.want)
		}
	}
}
