package simulate

import (
	"cmp"
	"math/rand/v2"
	"slices"
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
	Routes []Compartment
}

// Compartment is a route of a service with an SLO of its own.
type Compartment struct {
	Name string
	SLO  control.SLO
	kind int // index in models.Config.Routes
}

// fleet is the instances of a service in a run, with what stands in front of each and what Prometheus knows of it.
type fleet struct {
	run       Run
	tier      Tier
	clock     clock
	scrape    func(instance int, first, interval time.Duration) *models.Telemetry
	there     func(instance int) bool
	instances []models.Instance
	parts     []*part   // the service itself first, then the tier's Routes
	members   []*member // in the order in which they came up
	offsets   *rand.Rand
}

// part is what a loop sees and steers of a fleet: the service itself, or a route with an SLO of its own.
type part struct {
	name      string // SERVICE or SERVICE/ROUTE
	slo       control.SLO
	edges     []time.Duration // of the latency histogram
	telemetry func(m *member) *models.Telemetry
	inForce   *actuators.Setting // the last that was delivered; nil: none
}

// partsOf are those of a fleet whose histograms have these edges.
func partsOf(t Tier, own []time.Duration, of []models.Compartment) []*part {
	parts := []*part{{
		name: t.Name, slo: t.SLO, edges: own, telemetry: func(m *member) *models.Telemetry { return m.telemetry },
	}}
	for i, c := range t.Routes {
		parts = append(parts, &part{
			name: t.Name + "/" + c.Name, slo: c.SLO, edges: of[i].LatencyEdges,
			telemetry: func(m *member) *models.Telemetry { return m.telemetry.Compartment(i) },
		})
	}
	return parts
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
	if r.Contender.divides() {
		tier.Routes = routesOf(cfg, r.Scenario.SLO)
	}
	cfg.Compartments = tier.compartments()
	// Prometheus scrapes each target at its own offset within the interval; here the offset depends on the seed.
	f := &fleet{
		run: r, tier: tier, instances: cfg.Instances, parts: partsOf(tier, cfg.LatencyEdges, cfg.Compartments),
		offsets: rand.New(rand.NewPCG(r.Seed, 5)),
	}
	plant := models.NewFleet(cfg, func(now time.Duration, index int) models.Admitter {
		return f.start(now, index, r.subject(now, tier))
	}, score)
	f.begin(plant, plant.Live, func(instance int, first, interval time.Duration) *models.Telemetry {
		return models.Scrape(plant, instance, first, interval)
	})
	return f, plant
}

// routesOf are the routes with a deadline of their own, which is the latency of their SLO, by name.
func routesOf(cfg models.Config, slo control.SLO) (all []Compartment) {
	for i, r := range cfg.Routes {
		if r.Deadline > 0 && !r.Endless {
			slo.Latency = r.Deadline
			all = append(all, Compartment{Name: r.Name, SLO: slo, kind: i})
		}
	}
	slices.SortFunc(all, func(a, b Compartment) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// compartments are the Routes as a plant has them.
func (t Tier) compartments() (all []models.Compartment) {
	for _, c := range t.Routes {
		all = append(all, models.Compartment{Routes: []int{c.kind}, LatencyEdges: edges(c.SLO.Latency)})
	}
	return all
}

// guarded are the Routes as a guard has them.
func (t Tier) guarded() map[string]guard.Route {
	all := map[string]guard.Route{}
	for _, c := range t.Routes {
		all[c.Name] = guard.Route{SLO: c.SLO.Latency, Requests: []string{apiOf(models.Request{Route: c.kind})}}
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

// start puts admission control in front of an instance that comes up. One that comes up during the run reads the Settings
// that are in force, as every guard does at its start.
func (f *fleet) start(now time.Duration, index int, s subject) models.Admitter {
	m := &member{index: index, name: f.instances[index].Name, since: now, subject: s}
	f.members = append(f.members, m)
	if f.scrape != nil {
		f.watch(m)
	}
	for _, p := range f.parts {
		if p.inForce != nil {
			m.subject.Apply(now, *p.inForce)
		}
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

// apply puts a Setting of a part in force everywhere.
func (f *fleet) apply(now time.Duration, p *part, s actuators.Setting) {
	p.inForce = &s
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

// measure is what the sensor would report of a part: the instances that are there, and of those that were not when the window
// before this one ended no counts, because they cover a part of the window only.
func (f *fleet) measure(p *part, now, window, lag time.Duration) control.Measurement {
	m := control.Measurement{Service: p.name, At: start.Add(now), Window: window}
	var windows []models.Window
	f.live(func(member *member) {
		telemetry := p.telemetry(member)
		if member.since > 0 && !telemetry.SampledBy(now-lag) {
			return
		}
		w := telemetry.Window(now, window, lag, p.slo.Latency)
		windows = append(windows, w)
		in := instance(member.name, w)
		if member.since > 0 && !telemetry.SampledBy(now-lag-window) {
			in.Unjudged(control.Starting, "its counts do not cover the window yet")
		}
		m.Instances = append(m.Instances, in)
	})
	q, censored := models.Quantile(p.slo.Objective, p.edges, windows...)
	m.Quantile, m.Censored = control.Read(q), censored
	return m
}
