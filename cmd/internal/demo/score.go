package demo

import (
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models/live/load"
)

// Result is the scorecard of a run.
type Result struct {
	Seed            uint64  `json:"seed"`
	DurationSeconds float64 `json:"duration_seconds"`
	// Complete is false if the story was cut short, or if somebody used the keys.
	Complete bool   `json:"complete"`
	hand     bool   // somebody used the keys
	again    string // the command that plays the whole story
	// Valid is false if the machine was too busy for the figures to count: the p99 delay with which the load generators
	// sent their requests is above 20 ms.
	Valid           bool    `json:"valid"`
	LatenessSeconds float64 `json:"lateness_p99_seconds"`

	Capacity    float64 `json:"capacity"`     // requests per second
	StaticLimit int     `json:"static_limit"` // requests in flight

	Static   Score `json:"static"`
	Governed Score `json:"governed"`
	// Optimum is the result of the best fixed limit for the whole run under the same load, in the simulator: it has the
	// same rates, mix, retries and service time distributions, but not the machine's own cost. OptimumLimit is that limit.
	Optimum      Score `json:"optimum"`
	OptimumLimit int   `json:"optimum_limit"`
}

// Score is what the clients of one service saw. Unknown quantities are null in JSON.
type Score struct {
	Offered int `json:"offered"` // requests, without their retries
	Good    int `json:"good"`    // answered within the SLO, counted from the first attempt
	// GoodputRatio is Good ÷ what a service of this capacity could have served: for each act the requests or the
	// capacity, whichever is less.
	GoodputRatio control.Number `json:"goodput_ratio"`
	// AfterRatio is the same for the act after a surge, from its start.
	AfterRatio control.Number `json:"after_ratio"`
	// CriticalRatio is the share of the critical requests in surges that were answered before their clients gave up.
	// CriticalGoodRatio is the share of them that were good.
	CriticalRatio     control.Number `json:"critical_ratio"`
	CriticalGoodRatio control.Number `json:"critical_good_ratio"`
	// SecondsAboveSLO counts the seconds in which more of the admitted attempts were late, failed or given up than the
	// objective allows, or in which none was answered.
	SecondsAboveSLO int `json:"seconds_above_slo"`
	// P99Seconds is the p99 latency of admitted attempts. A client that gives up counts with the time it waited.
	P99Seconds control.Number `json:"p99_seconds"`
}

// score judges the records of one service over the spans, which adjoin.
func score(records []load.Record, spans []Span) Score {
	type tally struct{ offered, good, critical, criticalGood, criticalServed int }
	tallies := make([]tally, len(spans))
	type second struct{ admitted, bad, answered int }
	began, ended := spans[0].From, spans[len(spans)-1].To
	seconds := make([]second, int(ended.Sub(began)/time.Second)+1)
	var latencies []time.Duration

	for _, r := range records {
		i := slices.IndexFunc(spans, func(s Span) bool { return !r.Due.Before(s.From) && r.Due.Before(s.To) })
		if i < 0 {
			continue
		}
		t, s := &tallies[i], &seconds[int(r.Due.Sub(began)/time.Second)]
		answered, good := r.Outcome == load.OK || r.Outcome == load.Slow, r.Outcome == load.OK
		t.offered++
		t.good += count(good)
		if r.Class == 0 {
			t.critical++
			t.criticalGood += count(good)
			t.criticalServed += count(answered)
		}
		s.admitted += int(r.GaveUp) + count(answered || r.Outcome == load.Failed)
		s.bad += int(r.GaveUp) + count(r.Outcome == load.Failed || answered && r.Last > SLO)
		s.answered += count(answered)
		latencies = admitted(latencies, r)
	}

	all := Score{P99Seconds: control.Number(math.NaN())}
	if len(latencies) > 0 {
		all.P99Seconds = control.Number(p99(latencies).Seconds())
	}
	servable := 0.0
	var surged, after tally
	couldAfter := 0.0
	for i, t := range tallies {
		could := min(float64(t.offered), Capacity*spans[i].To.Sub(spans[i].From).Seconds())
		servable += could
		all.Offered += t.offered
		all.Good += t.good
		switch {
		case spans[i].Load > 1:
			surged.critical += t.critical
			surged.criticalGood += t.criticalGood
			surged.criticalServed += t.criticalServed
		case spans[i].Name == healed:
			after.good += t.good
			couldAfter += could
		}
	}
	// NaN if there are none.
	all.CriticalRatio = control.Number(float64(surged.criticalServed) / float64(surged.critical))
	all.CriticalGoodRatio = control.Number(float64(surged.criticalGood) / float64(surged.critical))
	all.AfterRatio = control.Number(float64(after.good) / couldAfter)
	all.GoodputRatio = control.Number(float64(all.Good) / servable)
	for _, s := range seconds {
		if float64(s.bad) > (1-Objective)*float64(s.admitted) || s.admitted > 0 && s.answered == 0 {
			all.SecondsAboveSLO++
		}
	}
	return all
}

// admitted adds the latencies of the admitted attempts of a request.
func admitted(latencies []time.Duration, r load.Record) []time.Duration {
	for range r.GaveUp {
		latencies = append(latencies, ClientTimeout)
	}
	if r.Outcome == load.OK || r.Outcome == load.Slow {
		latencies = append(latencies, r.Last)
	}
	return latencies
}

// p99 sorts durations and returns their 99% quantile; 0 if there are none.
func p99(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[int(math.Ceil(0.99*float64(len(ds))))-1]
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Judge makes the scorecard of a finished run, from the requests that were due in the spans. They have all ended once
// the load has stopped.
func (w *World) Judge(spans []Span) Result {
	began, ended := spans[0].From, spans[len(spans)-1].To
	r := Result{
		Seed: w.options.Seed, DurationSeconds: ended.Sub(began).Seconds(), Capacity: Capacity, StaticLimit: StaticLimit,
		Static: score(w.Static.Load.Records(), spans), Governed: score(w.Governed.Load.Records(), spans),
	}
	var late time.Duration
	for _, t := range w.Twins() {
		late = max(late, t.Load.Between(began, ended).Lateness)
	}
	r.LatenessSeconds, r.Valid = late.Seconds(), late <= load.MaxLateness
	return r
}

// StopLoad stops sending and returns when every request has ended.
func (w *World) StopLoad() {
	for _, t := range w.Twins() {
		t.Load.Stop()
	}
}
