package simulate

import (
	"fmt"
	"iter"
	"math"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
	"github.com/seed-de83e32b/governor/models/scenarios"
)

// loop is governor's side of a run: the daemon's tick, on simulated time.
type loop struct {
	loops     *control.LoopSet
	timing    control.Timing
	lag       time.Duration
	spoil     func(now time.Duration, m *control.Measurement)
	telemetry *models.Telemetry
	// publish delivers a Setting after the publish delay.
	publish func(actuators.Setting)

	setting   actuators.Setting // in force
	published bool
	renewedAt time.Duration
	writes    []time.Duration
}

// newLoop starts governor as on a service for which nothing was ever published.
func newLoop(r Run, limit float64, p *models.Plant, t *models.Telemetry, s subject) *loop {
	spec := control.Spec{
		Service: service, Mode: control.Enforce, Timing: r.Timing, Tuning: r.Tuning,
		SLO: control.SLO{Latency: scenarios.SLO, Objective: scenarios.Objective},
	}
	l := &loop{timing: r.Timing, lag: r.Lag, spoil: r.Spoil, telemetry: t}
	l.setting = actuators.Setting{
		Schema: actuators.Schema, Service: service, Epoch: 1, LeaseSeconds: actuators.DefaultLeaseSeconds,
	}
	if law := r.Contender.law(); law != "" {
		spec.Concurrency = &control.ConcurrencySpec{Min: r.Scenario.Min, Max: r.Scenario.Max, Fallback: limit, Law: law}
		l.setting.Concurrency = &actuators.Concurrency{
			Limit: int(limit), Fallback: int(limit), Min: int(r.Scenario.Min), Max: int(r.Scenario.Max),
		}
	}
	if r.Contender.shed() {
		spec.Shed = &control.ShedSpec{Protect: control.Critical}
		l.setting.Shed = &actuators.Shed{Threshold: fixedThreshold, Fallback: fixedThreshold, Min: 0.4, Max: 0.6}
	}
	if r.Contender.rate() {
		spec.Rate = &control.RateSpec{Min: rateMin, Max: rateMax}
		l.setting.Rate = &actuators.Rate{
			PerSecond: rateMax, Burst: control.Burst(rateMax), Instances: 1, Fallback: rateMax, Min: rateMin, Max: rateMax,
		}
	}
	loops, err := control.NewLoopSet(spec)
	if err != nil {
		panic(fmt.Sprintf("simulate %s: %v", r.Scenario.Name, err))
	}
	l.loops = loops
	l.publish = func(s2 actuators.Setting) {
		p.At(p.Now()+r.Timing.PublishDelay, func(now time.Duration) { s.Apply(now, s2) })
	}
	for knob, f := range l.inForce() {
		loops.Restore(start, knob, f)
	}
	return l
}

// The bounds of the rate in every run, around a service of 800 requests/s.
const (
	rateMin = 20.0
	rateMax = 5000.0
)

// inForce is what the Setting says of every knob.
func (l *loop) inForce() iter.Seq2[control.Knob, control.InForce] {
	return func(yield func(control.Knob, control.InForce) bool) {
		s := l.setting
		if c := s.Concurrency; c != nil && !yield(control.KnobConcurrency, control.InForce{
			Value: float64(c.Limit), Ceiling: float64(c.Ceiling), LatencyTarget: c.LatencyTargetSeconds, Revision: s.Revision,
		}) {
			return
		}
		if s.Shed != nil && !yield(control.KnobShed, control.InForce{Value: s.Shed.Threshold, Revision: s.Revision}) {
			return
		}
		if s.Rate != nil {
			yield(control.KnobRate, control.InForce{Value: s.Rate.PerSecond, Revision: s.Revision})
		}
	}
}

// tick is measure, step, apply, track.
func (l *loop) tick(now time.Duration) []control.Decision {
	at := start.Add(now)
	m := l.measure(now)
	if l.spoil != nil {
		l.spoil(now, &m)
	}
	ds := l.loops.Step(at, m)
	l.apply(now, ds)
	for knob, f := range l.inForce() {
		l.loops.Track(at, knob, f)
	}
	return ds
}

// apply publishes the decisions where they change a value, and renews the lease where a third of it has passed.
func (l *loop) apply(now time.Duration, ds []control.Decision) {
	next := l.setting
	renew, change := false, false
	for _, d := range ds {
		renew = renew || d.Renew
		change = change || d.Publish
		if d.Publish || !l.published {
			put(&next, d)
		}
	}
	due := renew && (!l.published || (now-l.renewedAt).Seconds() >= l.setting.LeaseSeconds/3)
	if !change && !due {
		return
	}
	if !l.published || !same(next, l.setting) {
		l.writes = append(l.writes, now)
	}
	next.Revision++
	next.Reason = ds[0].Reason
	next.IssuedAt, next.ChangedAt = start.Add(now), start.Add(now)
	l.setting, l.published, l.renewedAt = next, true, now
	l.publish(next)
}

// put writes the decision on one knob into s.
func put(s *actuators.Setting, d control.Decision) {
	switch d.Knob {
	case control.KnobConcurrency:
		c := *s.Concurrency
		c.Limit = clamp(wholeMove(float64(c.Limit), float64(d.Value)), c.Min, c.Max)
		c.Ceiling = clamp(math.Ceil(float64(d.Ceiling)), c.Limit, c.Max)
		c.LatencyTargetSeconds = float64(d.LatencyTarget)
		s.Concurrency = &c
	case control.KnobShed:
		h := *s.Shed
		h.Threshold = float64(d.Value)
		s.Shed = &h
	case control.KnobRate:
		r := *s.Rate
		r.PerSecond, r.Burst = float64(d.Value), control.Burst(float64(d.Value))
		s.Rate = &r
	}
}

// same says whether two Settings of a run ask the same of the service.
func same(a, b actuators.Setting) bool {
	return reflect.DeepEqual([]any{a.Concurrency, a.Shed, a.Rate}, []any{b.Concurrency, b.Shed, b.Rate})
}

// wholeMove rounds a move to whole requests, away from where it started, so that a move is at least one request.
func wholeMove(from, to float64) float64 {
	switch {
	case to > from:
		return math.Ceil(to)
	case to < from:
		return math.Floor(to)
	}
	return from
}

func clamp(v float64, low, high int) int { return int(min(max(v, float64(low)), float64(high))) }

// measure is what the sensor would report of the only instance.
func (l *loop) measure(now time.Duration) control.Measurement {
	w := l.telemetry.Window(now, l.timing.Window, l.lag, scenarios.SLO, scenarios.Objective)
	in := control.Instance{
		Name: service,
		Age:  control.Read(w.Age),

		Offered: control.Read(w.Offered), Admitted: control.Read(w.Admitted), Refused: control.Read(w.Refused),
		Completed: control.Read(w.Completed), Failed: control.Read(0), Slow: control.Read(w.Slow), Mean: control.Read(w.Mean),

		InFlight: control.Read(w.InFlight), Limit: control.Read(w.Limit), Binding: control.Read(w.Binding),
		Revision: control.Read(w.Revision), ShedThreshold: control.Read(w.ShedThreshold),
		RefusedByRate: control.Read(w.RefusedByRate),
	}
	for i, class := range w.ByClass {
		in.Classes[i] = control.Class{Offered: control.Read(class.Offered), Refused: control.Read(class.Refused)}
	}
	if math.IsNaN(w.ServiceTime) {
		in.ServiceTime = control.Missing(control.NoData, "no guard runs here")
	} else {
		in.ServiceTime = control.Read(w.ServiceTime)
	}
	return control.Measurement{
		Service: service, At: start.Add(now), Window: l.timing.Window,
		Instances: []control.Instance{in},
		Quantile:  control.Read(w.Quantile), Censored: w.Censored,
	}
}
