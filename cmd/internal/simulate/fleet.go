package simulate

import (
	"math/rand/v2"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// Tier is a service of a scenario as its guards and loops know it.
type Tier struct {
	Name string
	SLO  control.SLO
	// Start is the limit in force at the start, in requests in flight on each instance; a controller may move it within
	// Min..Max.
	Start, Min, Max float64
	// Unguarded services have neither a guard nor a loop, whatever the contender.
	Unguarded bool
	// Routes are the compartments of a guard that has some.
	Routes map[string]guard.Route
}

// fleet is the instances of a service in a run, with what stands in front of each and what Prometheus knows of it.
type fleet struct {
	run       Run
	tier      Tier
	clock     clock
	scrape    func(instance int, first, interval time.Duration) *models.Telemetry
	there     func(instance int) bool
	instances []models.Instance
	edges     []time.Duration
	members   []*member // in the order in which they came up
	offsets   *rand.Rand
	inForce   *actuators.Setting // the last that was delivered; nil: none
}

// clock is the part of a plant that runs functions at instants.
type clock interface {
	At(at time.Duration, f func(now time.Duration))
	Every(first, period time.Duration, f func(now time.Duration))
}

// member is one instance that is or was there.
type member struct {
	index     int // in models.Config.Instances
	name      string
	since     time.Duration
	subject   subject
	telemetry *models.Telemetry
}

// newFleet returns the fleet of a plant of one service, and the plant.
func newFleet(r Run, limit float64, score *models.Score) (*fleet, *models.Plant) {
	cfg := r.Scenario.Plant(r.Seed)
	tier := Tier{Name: service, SLO: r.Scenario.SLO, Start: limit, Min: r.Scenario.Min, Max: r.Scenario.Max}
	if r.Contender == Routes {
		tier.Routes = compartments(cfg)
	}
	// Prometheus scrapes each target at its own offset within the interval; here the offset depends on the seed.
	f := &fleet{run: r, tier: tier, instances: cfg.Instances, edges: cfg.LatencyEdges, offsets: rand.New(rand.NewPCG(r.Seed, 5))}
	plant := models.NewFleet(cfg, func(now time.Duration, index int) models.Admitter {
		return f.start(now, index, r.subject(now, tier))
	}, score)
	f.begin(plant, plant.Live, func(instance int, first, interval time.Duration) *models.Telemetry {
		return models.Scrape(plant, instance, first, interval)
	})
	return f, plant
}

// compartments are the routes with a deadline of their own, which is their SLO.
func compartments(cfg models.Config) map[string]guard.Route {
	all := map[string]guard.Route{}
	for i, r := range cfg.Routes {
		if r.Deadline > 0 && !r.Endless {
			all[r.Name] = guard.Route{SLO: r.Deadline, Requests: []string{apiOf(models.Request{Route: i})}}
		}
	}
	return all
}

// begin connects the fleet with its plant, once that exists, and starts the scrapes of the instances that are there from
// the start.
func (f *fleet) begin(
	c clock, there func(instance int) bool, scrape func(instance int, first, interval time.Duration) *models.Telemetry,
) {
	f.clock, f.there, f.scrape = c, there, scrape
	for _, m := range f.members {
		f.watch(m)
	}
}

// start puts admission control in front of an instance that comes up. One that comes up during the run reads the Setting
// that is in force, as every guard does at its start.
func (f *fleet) start(now time.Duration, index int, s subject) models.Admitter {
	m := &member{index: index, name: f.instances[index].Name, since: now, subject: s}
	f.members = append(f.members, m)
	if f.scrape != nil {
		f.watch(m)
	}
	if f.inForce != nil {
		m.subject.Apply(now, *f.inForce)
	}
	return m.subject
}

func (f *fleet) watch(m *member) {
	offset := time.Duration(f.offsets.Float64() * float64(f.run.Timing.Scrape))
	m.telemetry = f.scrape(m.index, m.since+offset, f.run.Timing.Scrape)
}

// live calls do for every instance that is there, in order of their names.
func (f *fleet) live(do func(m *member)) {
	for _, m := range f.members {
		if f.there(m.index) {
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
	m := control.Measurement{Service: f.tier.Name, At: start.Add(now), Window: window}
	var windows []models.Window
	f.live(func(member *member) {
		if member.since > 0 && !member.telemetry.SampledBy(now-lag) {
			return
		}
		w := member.telemetry.Window(now, window, lag, f.tier.SLO.Latency)
		windows = append(windows, w)
		in := instance(member.name, w)
		if member.since > 0 && !member.telemetry.SampledBy(now-lag-window) {
			in.Unjudged(control.Starting, "its counts do not cover the window yet")
		}
		m.Instances = append(m.Instances, in)
	})
	q, censored := models.Quantile(f.tier.SLO.Objective, f.edges, windows...)
	m.Quantile, m.Censored = control.Read(q), censored
	return m
}
