package simulate

import (
	"math/rand/v2"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
	"github.com/seed-de83e32b/governor/models"
)

// graph runs a scenario of several services that call each other.
func (r Run) graph() Result {
	cfg := r.Scenario.Graph(r.Seed)
	score := models.NewScore(r.Scenario.SLO.Latency, r.Scenario.SLO.Objective, r.Scenario.Phases)
	fleets := make([]*fleet, len(cfg.Services))
	offsets := rand.New(rand.NewPCG(r.Seed, 5))
	for i, s := range cfg.Services {
		tier := r.Scenario.Tiers[i]
		if r.Limit != 0 {
			tier.Start = r.Limit
		}
		fleets[i] = &fleet{
			run: r, tier: tier, instances: s.Instances, parts: partsOf(tier, cfg.LatencyEdges, nil), offsets: offsets,
		}
	}
	subjects := map[[2]int]subject{}
	come := func(now time.Duration, service, instance int) subject {
		at := [2]int{service, instance}
		if subjects[at] == nil {
			s := r.subject(now, fleets[service].tier)
			if g, ok := s.(*guarded); ok {
				g.calls = r.Contender.guardsCalls()
			}
			subjects[at] = s
		}
		return subjects[at]
	}
	tried := r.experiment(cfg, fleets)
	plant := models.NewGraph(cfg, models.Controls{
		Admitter: func(now time.Duration, service, instance int) models.Admitter {
			s := come(now, service, instance)
			if tried != nil {
				s = tried.door(service, s)
			}
			return fleets[service].start(now, instance, s)
		},
		Caller: func(now time.Duration, link, instance int) (way models.Caller) {
			l := cfg.Links[link]
			way = models.NaiveCaller{Retries: l.Retries, Wait: l.RetryWait}
			if l.From != models.Clients && r.Contender.guardsCalls() {
				if g, ok := come(now, l.From, instance).(*guarded); ok {
					way = newWay(g, cfg.Services[l.To], l.Direct)
				}
			}
			if tried != nil {
				way = tried.way(l, way)
			}
			return way
		},
	}, score)

	result := Result{Score: score}
	var loops []*loop
	for i, f := range fleets {
		f.begin(plant, func(instance int) bool { return plant.Live(i, instance) },
			func(instance int, first, interval time.Duration) *models.Telemetry {
				return plant.Scrape(i, instance, first, interval)
			})
		if r.Contender.governed() && !f.tier.Unguarded {
			loops = append(loops, newLoop(r, f, f.parts[0]))
		}
	}
	if tried != nil {
		phase := time.Duration(offsets.Float64() * float64(r.Timing.Period)) // no fault begins with a period
		plant.Every(phase, r.Timing.Period, tried.step)
	}
	plant.Every(r.Timing.Period, r.Timing.Period, func(now time.Duration) {
		p := Point{At: now, Limit: fleets[0].tier.Start, Effective: fleets[0].effective(now)}
		p.Decisions = ticks(now, loops)
		for _, l := range loops {
			if f, ok := publish.InForce(control.KnobConcurrency, l.last.Setting); ok && l.fleet == fleets[0] {
				p.Limit = f.Value
			}
		}
		if len(p.Decisions) > 0 {
			p.Decision = p.Decisions[0]
		}
		result.Points = append(result.Points, p)
	})
	plant.Run(r.Scenario.End())
	result.rate(r)
	for _, l := range loops {
		result.Writes = append(result.Writes, l.writes...)
	}
	return result
}
