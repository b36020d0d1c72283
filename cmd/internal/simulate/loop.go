package simulate

import (
	"fmt"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
	"github.com/seed-de83e32b/governor/models"
)

// loop is governor's side of a run: the daemon's tick, on simulated time.
type loop struct {
	loops *control.LoopSet
	run   Run
	fleet *fleet
	part  *part

	writer publish.Writer
	last   publish.Last
	writes []time.Duration
}

// The bounds of the rate in every run, around a service of 800 requests/s.
const (
	rateMin = 20.0
	rateMax = 5000.0
)

// newLoop starts governor on a part of a service for which nothing was ever published. A route inherits the bounds of its
// service, as in the configuration.
func newLoop(r Run, f *fleet, p *part) *loop {
	spec := control.Spec{Service: p.name, Mode: control.Enforce, Timing: r.Timing, Tuning: r.Tuning, SLO: p.slo}
	if law := r.Contender.law(); law != "" {
		spec.Concurrency = &control.ConcurrencySpec{Min: f.tier.Min, Max: f.tier.Max, Fallback: f.tier.Start, Law: law}
	}
	if r.Contender.shed() {
		spec.Shed = &control.ShedSpec{Protect: control.Critical}
	}
	if r.Contender.rate() {
		spec.Rate = &control.RateSpec{Min: rateMin, Max: rateMax}
	}
	loops, err := control.NewLoopSet(spec)
	if err != nil {
		panic(fmt.Sprintf("simulate %s: %v", r.Scenario.Name, err))
	}
	return &loop{
		loops: loops, run: r, fleet: f, part: p,
		writer: publish.Writer{Spec: loops.Spec(), Epoch: 1, Lease: actuators.DefaultLeaseSeconds * time.Second},
	}
}

// ticks lets the loops of services that call each other, or of the parts of a service, decide, each with what all have
// measured.
func ticks(now time.Duration, loops []*loop) (ds []control.Decision) {
	measured := make([]control.Measurement, len(loops))
	services := map[string]control.Health{}
	for i, l := range loops {
		measured[i] = l.measure(now)
		services[l.part.name] = l.loops.Health(measured[i])
	}
	control.DivideCalls(services)
	for i, l := range loops {
		measured[i].Services = services
		ds = append(ds, l.decide(now, measured[i])...)
	}
	return ds
}

// decide steps, applies and tracks.
func (l *loop) decide(now time.Duration, m control.Measurement) []control.Decision {
	at := start.Add(now)
	ds := l.loops.Step(at, m)
	l.apply(now, ds)
	for _, knob := range publish.Knobs(l.writer.Spec) {
		if f, ok := publish.InForce(knob, l.last.Setting); ok {
			l.loops.Track(at, knob, f)
		}
	}
	return ds
}

// apply publishes what the decisions ask for. Writes never fail here.
func (l *loop) apply(now time.Duration, ds []control.Decision) {
	at := start.Add(now)
	l.last.Count(at, l.writer.Spec, ds)
	next, kind, err := l.last.Next(at, l.writer, ds)
	if err != nil {
		panic(fmt.Sprintf("simulate: governor has no Setting to publish: %v", err))
	}
	if kind == publish.None {
		return
	}
	if kind == publish.Change {
		l.writes = append(l.writes, now)
	}
	l.last.Wrote(at, next)
	l.fleet.clock.At(now+l.run.Timing.PublishDelay, func(now time.Duration) { l.fleet.apply(now, l.part, next) })
}

// measure is what the sensor would report, or that Prometheus does not answer, and spoiled where the run spoils it.
func (l *loop) measure(now time.Duration) control.Measurement {
	m := l.sense(now)
	if l.run.Spoil != nil {
		l.run.Spoil(now, &m)
	}
	return m
}

func (l *loop) sense(now time.Duration) control.Measurement {
	for _, outage := range l.run.Scenario.Outages {
		if outage.Contains(now) {
			return control.Measurement{
				Service: l.part.name, At: start.Add(now), Window: l.run.Timing.Window,
				Invalid: control.Timeout, Detail: "Prometheus does not answer",
			}
		}
	}
	return l.fleet.measure(l.part, now, l.run.Timing.Window, l.run.Lag)
}

// instance is what the sensor makes of a window of an instance.
func instance(name string, w models.Window) control.Instance {
	in := control.Instance{
		Name: name,
		Age:  control.Read(w.Age),

		Offered: control.Read(w.Offered), Admitted: control.Read(w.Admitted), Refused: control.Read(w.Refused),
		Waited:    control.Read(w.Waited),
		Completed: control.Read(w.Completed), Failed: control.Read(0), Slow: control.Read(w.Slow), Mean: control.Read(w.Mean),

		InFlight: control.Read(w.InFlight), Limit: control.Read(w.Limit), Binding: control.Read(w.Binding),
		Revision: control.Read(w.Revision), ShedThreshold: control.Read(w.ShedThreshold),
		RefusedByRate: control.Read(w.RefusedByRate), RefusedForCallee: control.Read(w.RefusedForCallee),
		RefusedByShed:  control.Read(w.RefusedByShed),
		RefusedByShare: control.Read(w.RefusedByShare), RefusedByRoof: control.Read(w.RefusedByRoof),
	}
	for i, class := range w.ByClass {
		in.Classes[i] = control.Class{Offered: control.Read(class.Offered), Refused: control.Read(class.Refused)}
	}
	for _, c := range w.Calls {
		in.Calls = append(in.Calls, control.Call{
			To: c.To, Requests: control.Read(c.Requests), Attempts: control.Read(c.Attempts), Retries: control.Read(c.Retries),
			Failures: control.Read(c.Failures), CalleeRefused: control.Read(c.CalleeRefused),
			PastDeadline: control.Read(c.PastDeadline), BreakerOpen: control.Read(c.BreakerOpen),
			BulkheadFull: control.Read(c.BulkheadFull), Early: control.Read(c.Early), Finished: control.Read(c.Finished),
			Mean: control.Read(c.LatencySum / c.Finished), OwnLatency: control.Read(c.OwnLatency),
		})
	}
	if math.IsNaN(w.ServiceTime) {
		in.ServiceTime = control.Missing(control.NoData, "no guard runs here")
	} else {
		in.ServiceTime = control.Read(w.ServiceTime)
	}
	return in
}
