package models

import (
	"math"
	"testing"
	"time"
)

func TestIncrease(t *testing.T) {
	s := func(at ...float64) (d []time.Duration) {
		for _, a := range at {
			d = append(d, time.Duration(a*float64(time.Second)))
		}
		return d
	}
	for name, c := range map[string]struct {
		times  []time.Duration
		values []float64
		want   float64
	}{
		"one sample says nothing":                 {s(15), []float64{5}, math.NaN()},
		"near both edges: scaled to the range":    {s(2, 7, 12, 17), []float64{100, 200, 300, 400}, 400},
		"far from the start: half a distance":     {s(12, 14, 16, 18), []float64{100, 200, 300, 400}, 450},
		"far from the end: half a distance":       {s(1, 3, 5), []float64{100, 200, 300}, 200 * (4 + 1 + 1) / 4.0},
		"no further left than to where it was 0":  {s(4, 8, 12, 16, 20), []float64{10, 110, 210, 310, 410}, 410},
		"a reset adds what was counted before it": {s(2, 7, 12, 17), []float64{100, 200, 50, 150}, 250 * 20 / 15.0},
		"flat": {s(2, 7, 12, 17), []float64{9, 9, 9, 9}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := Increase(c.times, c.values, 0, 20*time.Second)
			if math.Abs(got-c.want) > 1e-9 && !(math.IsNaN(got) && math.IsNaN(c.want)) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// A window sees nothing but the samples inside it: neither what was before nor what has not arrived.
func TestWindow(t *testing.T) {
	p := New(rig(560, 1), NewLimiter(64), onePhase(time.Minute))
	tel := Scrape(p, 0, 0, time.Second)
	p.Run(40 * time.Second)
	w := tel.Window(40*time.Second, 20*time.Second, 0, 300*ms)
	if math.Abs(w.Offered-560*20) > 400 || math.Abs(w.Completed-w.Admitted) > 64 || w.Refused != 0 {
		t.Errorf("offered %.0f, admitted %.0f, completed %.0f, refused %.0f", w.Offered, w.Admitted, w.Completed, w.Refused)
	}
	if math.Abs(w.Mean-0.0405) > 0.001 || w.Limit != 64 || w.Age != 1 {
		t.Errorf("mean %v, limit %v, age %v", w.Mean, w.Limit, w.Age)
	}
	// Little's law ties three separately measured quantities together.
	if little := w.Completed / 20 * w.Mean; math.Abs(little-w.InFlight) > 3 {
		t.Errorf("in flight %.1f, Little's law has %.1f", w.InFlight, little)
	}
	if late := tel.Window(40*time.Second, 20*time.Second, 5*time.Second, 300*ms); late.Age != 5 {
		t.Errorf("with a lag of 5 s the newest sample is %v s old", late.Age)
	}
	if gone := tel.Window(70*time.Second, 20*time.Second, 0, 300*ms); !math.IsNaN(gone.Offered) ||
		!math.IsNaN(gone.Age) || !math.IsNaN(gone.Mean) || !math.IsNaN(gone.InFlight) || !math.IsNaN(gone.Buckets[0]) {
		t.Errorf("a window without samples reads %+v", gone)
	}
}

func TestBucketQuantile(t *testing.T) {
	edges := []time.Duration{100 * ms, 200 * ms}
	for name, c := range map[string]struct {
		q          float64
		cumulative []float64
		want       float64
		censored   bool
	}{
		"interpolates from zero":  {0.5, []float64{10, 10, 10}, 0.05, false},
		"interpolates in between": {0.75, []float64{50, 100, 100}, 0.15, false},
		"top bucket is censored":  {0.99, []float64{50, 90, 100}, 0.2, true},
		"nothing completed":       {0.99, []float64{0, 0, 0}, math.NaN(), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, censored := bucketQuantile(c.q, edges, c.cumulative)
			if !(math.Abs(got-c.want) < 1e-12 || math.IsNaN(got) && math.IsNaN(c.want)) || censored != c.censored {
				t.Errorf("got %v, %v", got, censored)
			}
		})
	}
}

// reporting is an Admitter that makes a call for each request, which takes 10 ms, and refuses none.
type reporting struct {
	*Limiter
	calls float64
}

func (r *reporting) Done(now time.Duration, q Request, o Outcome) {
	r.calls++
	r.Limiter.Done(now, q, o)
}

func (r *reporting) Report(now time.Duration) Report {
	report := r.Limiter.Report(now)
	report.Calls = []Calls{
		{To: "a", OwnLatency: 0.01},
		{To: "b", Requests: r.calls, Finished: r.calls, LatencySum: 0.01 * r.calls, OwnLatency: 0.005},
	}
	return report
}

func TestWindowOfCalls(t *testing.T) {
	p := New(rig(560, 1), &reporting{Limiter: NewLimiter(64)}, onePhase(time.Minute))
	tel := Scrape(p, 0, 0, time.Second)
	p.Run(40 * time.Second)
	w := tel.Window(40*time.Second, 20*time.Second, 0, 300*ms)
	if len(w.Calls) != 2 || w.Calls[0] != (Calls{To: "a", OwnLatency: 0.01}) {
		t.Fatalf("%+v", w.Calls)
	}
	b := w.Calls[1]
	if b.Requests != w.Completed || b.Finished != w.Completed || math.Abs(b.LatencySum/b.Finished-0.01) > 1e-9 ||
		b.OwnLatency != 0.005 || b.Attempts != 0 {
		t.Errorf("%+v, and %v completed", b, w.Completed)
	}
}
