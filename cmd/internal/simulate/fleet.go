package simulate

import (
	"math/rand/v2"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// fleet is the instances of the service in a run, with what stands in front of each and what Prometheus knows of it.
type fleet struct {
	run     Run
	limit   float64 // in force before any Setting
	plant   *models.Plant
	cfg     models.Config
	members []*member // in the order in which they came up
	offsets *rand.Rand
	inForce *actuators.Setting // the last that was delivered; nil: none
}

// member is one instance that is or was there.
type member struct {
	index     int // in models.Config.Instances
	name      string
	since     time.Duration
	subject   subject
	telemetry *models.Telemetry
}

func newFleet(r Run, limit float64, score *models.Score) *fleet {
	f := &fleet{
		run: r, limit: limit, cfg: r.Scenario.Plant(r.Seed),
		// Prometheus scrapes each target at its own offset within the interval; here the offset depends on the seed.
		offsets: rand.New(rand.NewPCG(r.Seed, 5)),
	}
	f.plant = models.NewFleet(f.cfg, f.start, score)
	for _, m := range f.members {
		f.scrape(m)
	}
	return f
}

// start puts admission control in front of an instance that comes up. One that comes up during the run reads the Setting
// that is in force, as every guard does at its start.
func (f *fleet) start(now time.Duration, index int) models.Admitter {
	m := &member{
		index: index, name: f.cfg.Instances[index].Name, since: now, subject: f.run.subject(now, f.limit),
	}
	f.members = append(f.members, m)
	if f.plant != nil {
		f.scrape(m)
	}
	if f.inForce != nil {
		m.subject.Apply(now, *f.inForce)
	}
	return m.subject
}

func (f *fleet) scrape(m *member) {
	offset := time.Duration(f.offsets.Float64() * float64(f.run.Timing.Scrape))
	m.telemetry = models.Scrape(f.plant, m.index, m.since+offset, f.run.Timing.Scrape)
}

// live calls do for every instance that is there, in order of their names.
func (f *fleet) live(do func(m *member)) {
	for _, m := range f.members {
		if f.plant.Live(m.index) {
			do(m)
		}
	}
}

// apply puts a Setting in force everywhere.
func (f *fleet) apply(now time.Duration, s actuators.Setting) {
	f.inForce = &s
	f.live(func(m *member) { m.subject.Apply(now, s) })
}

// effective is the mean of the limits in force.
func (f *fleet) effective(now time.Duration) float64 {
	var sum, n float64
	f.live(func(m *member) {
		sum += m.subject.Report(now).Limit
		n++
	})
	return sum / n
}

// measure is what the sensor would report: the instances that are there, and of those that were not when the window
// before this one ended no counts, because they cover a part of the window only.
func (f *fleet) measure(now, window, lag time.Duration) control.Measurement {
	m := control.Measurement{Service: service, At: start.Add(now), Window: window}
	slo := f.run.Scenario.SLO
	var windows []models.Window
	f.live(func(member *member) {
		if member.since > 0 && !member.telemetry.SampledBy(now-lag) {
			return
		}
		w := member.telemetry.Window(now, window, lag, slo.Latency)
		windows = append(windows, w)
		in := instance(member.name, w)
		if member.since > 0 && !member.telemetry.SampledBy(now-lag-window) {
			in.Unjudged(control.Starting, "its counts do not cover the window yet")
		}
		m.Instances = append(m.Instances, in)
	})
	q, censored := models.Quantile(slo.Objective, f.cfg.LatencyEdges, windows...)
	m.Quantile, m.Censored = control.Read(q), censored
	return m
}
