package simulate

import (
	"fmt"
	"math"
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
	telemetry *models.Telemetry
	// publish delivers a Setting after the publish delay.
	publish func(actuators.Setting)

	setting   actuators.Setting // in force
	published bool
	renewedAt time.Duration
	writes    []time.Duration
}

// newLoop starts governor as on a service for which nothing was ever published.
func newLoop(r Run, law control.Law, limit float64, p *models.Plant, t *models.Telemetry, s subject) *loop {
	loops, err := control.NewLoopSet(control.Spec{
		Service: service, Mode: control.Enforce, Timing: r.Timing, Tuning: r.Tuning,
		SLO:         control.SLO{Latency: scenarios.SLO, Objective: scenarios.Objective},
		Concurrency: &control.ConcurrencySpec{Min: r.Scenario.Min, Max: r.Scenario.Max, Fallback: limit, Law: law},
	})
	if err != nil {
		panic(fmt.Sprintf("simulate %s: %v", r.Scenario.Name, err))
	}
	l := &loop{loops: loops, timing: r.Timing, lag: r.Lag, telemetry: t}
	l.publish = func(s2 actuators.Setting) {
		p.At(p.Now()+r.Timing.PublishDelay, func(now time.Duration) { s.Apply(now, s2) })
	}
	l.setting = actuators.Setting{
		Schema: actuators.Schema, Service: service, Epoch: 1, LeaseSeconds: actuators.DefaultLeaseSeconds,
		Concurrency: &actuators.Concurrency{
			Limit: int(limit), Fallback: int(limit), Min: int(r.Scenario.Min), Max: int(r.Scenario.Max),
		},
	}
	loops.Restore(start, control.KnobConcurrency, control.InForce{Value: limit})
	return l
}

// tick is measure, step, apply, track.
func (l *loop) tick(now time.Duration) control.Decision {
	at := start.Add(now)
	d := l.loops.Step(at, l.measure(now))[0]
	l.apply(now, d)
	c := l.setting.Concurrency
	l.loops.Track(at, control.KnobConcurrency, control.InForce{
		Value: float64(c.Limit), Ceiling: float64(c.Ceiling), Setpoint: c.LatencyTargetSeconds, Revision: l.setting.Revision,
	})
	return d
}

// apply publishes the decision where it changes a value, and renews the lease where a third of it has passed.
func (l *loop) apply(now time.Duration, d control.Decision) {
	due := d.Renew && (!l.published || (now-l.renewedAt).Seconds() >= l.setting.LeaseSeconds/3)
	if !d.Publish && !due {
		return
	}
	next := l.setting
	c := *l.setting.Concurrency
	if d.Publish || !l.published {
		c.Limit = clamp(wholeMove(float64(c.Limit), float64(d.Value)), c.Min, c.Max)
		c.Ceiling = clamp(math.Ceil(float64(d.Ceiling)), c.Limit, c.Max)
		c.LatencyTargetSeconds = float64(d.LatencyTarget)
	}
	if !l.published || c != *l.setting.Concurrency {
		l.writes = append(l.writes, now)
	}
	next.Concurrency = &c
	next.Revision++
	next.Reason = d.Reason
	next.IssuedAt, next.ChangedAt = start.Add(now), start.Add(now)
	l.setting, l.published, l.renewedAt = next, true, now
	l.publish(next)
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
		Revision: control.Read(w.Revision),
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
