// Package simulate puts a contender in charge of a scenario. It connects the plant of package models and the telemetry
// that Prometheus would have of it with the real loops of package control and the real guard, all on simulated time. It
// re-implements nothing of the controllers: it wires what the daemon wires, in the order of the daemon's tick, and
// package publish composes the Settings, as in the daemon.
//
//	plant ──scrape S──► window W ──period T──► LoopSet.Step ──publish delay d──► limiter or guard ──► plant
//
// A service of several instances has a limiter or guard in each of them, and one loop: it sees the instances side by side,
// and its Setting goes to all of them. Where the guard has compartments for routes, each has a loop and a Setting of its own.
//
// A run of fifteen simulated minutes takes a fraction of a second, and the same seed gives the same run.
package simulate

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
	"github.com/seed-de83e32b/governor/models"
)

// Run describes one run.
type Run struct {
	Scenario  Scenario
	Contender Contender
	Timing    control.Timing
	Seed      uint64
	// Limit, if not 0, replaces the scenario's initial limit; +Inf: none.
	Limit float64
	// Lag is how old a sample is before a query can see it, on top of the scrape interval.
	Lag time.Duration
	// Tuning tunes the loops; the zero value is the default.
	Tuning control.Tuning
	// Spoil, if not nil, changes what the sensor reports: faults of the measurement, not of the service.
	Spoil func(now time.Duration, m *control.Measurement)
	// Stops is the instant at which governor is killed, in a scenario of one service; 0: it is not.
	Stops time.Duration
}

// The timings that the scenarios are judged at: fast, usual, and the slowest in common use.
var (
	Fast  = Pace(1*time.Second, 4*time.Second, 1*time.Second)
	Usual = Pace(5*time.Second, 20*time.Second, 5*time.Second)
	Slow  = Pace(15*time.Second, 60*time.Second, 15*time.Second)
)

// Pace is the Timing of a scrape interval, a window and a period, with the publish delay of a KV store.
func Pace(scrape, window, period time.Duration) control.Timing {
	return control.Timing{Scrape: scrape, Window: window, Period: period, PublishDelay: 300 * time.Millisecond}
}

// Result is the result of a run.
type Result struct {
	Score *models.Score
	// Points are the loop's view and the truth beside it, one per period. A contender without a loop has only the
	// truth.
	Points []Point
	// Limits is the effective limit once a second, the mean over the instances.
	Limits []float64
	// Writes are the instants at which a value was published, without lease renewals.
	Writes []time.Duration
	// Demoted counts the requests above the share of their API or tenant, at the instances that were there at the end. Of a
	// scenario of one service.
	Demoted float64
}

// Point is one period of a run.
type Point struct {
	At time.Duration
	// Limit is the published limit, Effective the limit that the plant obeys at the same instant (mean over the instances).
	Limit, Effective float64
	Goodput          float64          // share of the arrivals in the period before At that finished within the SLO
	Decision         control.Decision // for the first steered knob: the concurrency limit, if steered
	Decisions        []control.Decision
}

// Knob returns the decision for knob, or the zero Decision if it is not steered.
func (p Point) Knob(knob control.Knob) control.Decision {
	for _, d := range p.Decisions {
		if d.Knob == knob {
			return d
		}
	}
	return control.Decision{}
}

// start is the loops' wall-clock time at simulated time 0.
var start = time.Unix(1764025200, 0).UTC()

// Do runs r. It panics if the run makes no sense.
func (r Run) Do() Result {
	if r.Scenario.Graph != nil {
		return r.graph()
	}
	limit := r.Scenario.Start
	if r.Limit != 0 {
		limit = r.Limit
	}
	score := models.NewScore(r.Scenario.SLO.Latency, r.Scenario.SLO.Objective, r.Scenario.Phases)
	fleet, plant := newFleet(r, limit, score)
	result := Result{Score: score}
	plant.Every(0, time.Second, func(now time.Duration) {
		result.Limits = append(result.Limits, fleet.effective(now))
	})

	var loops []*loop
	if r.Contender.governed() {
		for _, p := range fleet.parts {
			loops = append(loops, newLoop(r, fleet, p))
		}
	}
	plant.Every(r.Timing.Period, r.Timing.Period, func(now time.Duration) {
		p := Point{At: now, Limit: limit, Effective: fleet.effective(now)}
		if len(loops) > 0 && (r.Stops == 0 || now < r.Stops) {
			p.Decisions = ticks(now, loops)
			p.Decision = p.Decisions[0]
			if f, ok := publish.InForce(control.KnobConcurrency, loops[0].last.Setting); ok {
				p.Limit = f.Value
			}
		}
		result.Points = append(result.Points, p)
	})

	plant.Run(r.Scenario.End())
	result.rate(r)
	fleet.live(func(m *member) { result.Demoted += m.subject.Report(r.Scenario.End()).Demoted })
	for _, l := range loops {
		result.Writes = append(result.Writes, l.writes...)
	}
	return result
}

// rate fills in the goodput of the periods.
func (r *Result) rate(run Run) {
	for i := range r.Points {
		p := &r.Points[i]
		good, offered := r.Score.Goodput(p.At-run.Timing.Period, p.At)
		p.Goodput = float64(good) / float64(offered)
	}
}

// Variation is the total variation of the effective limit in [from, to), in ln units per minute.
func (r Result) Variation(from, to time.Duration) float64 {
	var sum float64
	for i := int(from/time.Second) + 1; i < int(to/time.Second) && i < len(r.Limits); i++ {
		if a, b := r.Limits[i-1], r.Limits[i]; a > 0 && b > 0 && !math.IsInf(a, 1) {
			sum += math.Abs(math.Log(b / a))
		}
	}
	return sum / (to - from).Minutes()
}

// WritesIn counts the writes in [from, to).
func (r Result) WritesIn(from, to time.Duration) int {
	n := 0
	for _, at := range r.Writes {
		if at >= from && at < to {
			n++
		}
	}
	return n
}
