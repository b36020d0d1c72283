// Package scenarios holds the situations that governor is judged by: what the service is, what happens to it and when,
// and how the run is divided into phases. A scenario does not say who controls the service, so that every contender
// faces exactly the same situation.
//
// Unless a scenario says otherwise it uses the rig: 32 servers with exponential service times of 40 ms (capacity C =
// 800 requests/s), open-loop Poisson arrivals at 0.7 C, clients that give up after 1 s and leave their request behind,
// refusals that cost 0.2 ms of server time, an SLO of 99% within 300 ms, and five minutes each of calm, fault and
// aftermath.
package scenarios

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/models"
)

// The rig.
const (
	Servers     = 32
	ServiceTime = 40 * time.Millisecond
	Capacity    = 800.0 // requests/s: Servers ÷ ServiceTime
	BaseLoad    = 0.7 * Capacity
	SLO         = 300 * time.Millisecond
	Objective   = 0.99
)

// Phase names.
const (
	Calm  = "calm"
	Fault = "fault"
	After = "after"
)

// Scenario is one situation.
type Scenario struct {
	Name   string // on the command line
	Title  string // what happens
	Intent string // how a controller should respond
	// Limit is the concurrency limit in force at the start; a controller may move it within Min..Max.
	Limit, Min, Max float64
	Phases          []models.Phase
	// Plant describes the service and its load, for a seed.
	Plant func(seed uint64) models.Config
}

// End is when the run is over.
func (s Scenario) End() time.Duration { return s.Phases[len(s.Phases)-1].To }

// Phase returns the index of the phase called name, -1 if there is none.
func (s Scenario) Phase(name string) int {
	for i, p := range s.Phases {
		if p.Name == name {
			return i
		}
	}
	return -1
}

const (
	faultAt = 300 * time.Second
	healAt  = 600 * time.Second
	endAt   = 900 * time.Second
)

// Get returns the scenario called name.
func Get(name string) (Scenario, error) {
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
	}
	var names []string
	for _, s := range All() {
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("no scenario is called %q; choose one of %s", name, strings.Join(names, " "))
}

// All returns every scenario, in the order of the manual.
func All() []Scenario {
	var all []Scenario
	for _, times := range []float64{2, 5, 10} {
		all = append(all, rig(fmt.Sprintf("x%g", times), fmt.Sprintf("offered ×%g of the base for 300 s", times),
			"refuse what exceeds capacity, serve the rest in time, and release the limit as soon as the load is gone",
			func(cfg *models.Config) { cfg.Load = models.Pulse(BaseLoad, times*BaseLoad, faultAt, healAt) }))
	}
	all = append(all,
		rig("half", "half of the servers lost for 300 s",
			"the limit follows the capacity down, and up again",
			during(models.Stage{Servers: Servers / 2, Slowdown: 1})),
		rig("fifth", "four fifths of the servers lost for 300 s, at a load of 0.95 C",
			"a deep loss near saturation: the backlog of one dead time must not last",
			func(cfg *models.Config) {
				during(models.Stage{Servers: Servers / 5, Slowdown: 1})(cfg)
				cfg.Load = models.Constant(0.95 * Capacity)
			}),
		rig("slow2", "service 2× slower for 300 s",
			"a slower service has less capacity and needs the same concurrency",
			during(models.Stage{Servers: Servers, Slowdown: 2})),
		rig("slow5", "service 5× slower for 300 s",
			"the latency target lies near the service's own time: cutting to reach it would cost most of the goodput",
			during(models.Stage{Servers: Servers, Slowdown: 5})),
	)
	all = append(all,
		rig("burst12", "12 times the usual sheddable requests for 300 s",
			"sheddable requests must not displace the important ones",
			func(cfg *models.Config) { sheddable(cfg, 12) }),
		rig("dip", "four fifths of the servers lost for 300 s",
			"what the loop learned during the loss must not outlast it",
			during(models.Stage{Servers: Servers / 5, Slowdown: 1})),
		rig("dipcancel", "the same, and the service drops requests whose clients gave up",
			"a backlog that nobody is waiting for need not be served",
			func(cfg *models.Config) {
				during(models.Stage{Servers: Servers / 5, Slowdown: 1})(cfg)
				cfg.CancelPassedOn = true
			}),
		highMinimum(),
		metastable("meta70", 0.7), metastable("meta90", 0.9),
	)
	for _, limit := range []float64{60, 128, 200} {
		s := rig(fmt.Sprintf("dep%g", limit), fmt.Sprintf("a dependency adds 250 ms to half of the calls; limit %g", limit),
			"limiting cannot help: leave a limit that does not bind alone, restore one that does, and report ineffective",
			during(models.Stage{Servers: Servers, Slowdown: 1, DependencyDelay: 250 * time.Millisecond, DependencyShare: 0.5}))
		s.Limit = limit
		all = append(all, s)
	}
	all = append(all, healed())
	return append(all, idle(), atMax(), lowStart(), halved(), degrading(), longCrisis())
}

// rig returns the standard scenario, modified by fault.
func rig(name, title, intent string, fault func(*models.Config)) Scenario {
	return Scenario{
		Name: name, Title: title, Intent: intent,
		Limit: 128, Min: 8, Max: 1024,
		Phases: []models.Phase{
			{Name: Calm, From: 0, To: faultAt}, {Name: Fault, From: faultAt, To: healAt}, {Name: After, From: healAt, To: endAt},
		},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			fault(&cfg)
			return cfg
		},
	}
}

func service(seed uint64) models.Config {
	return models.Config{
		ServiceTime:   ServiceTime,
		ClientTimeout: time.Second,
		RejectCost:    200 * time.Microsecond,
		Load:          models.Constant(BaseLoad),
		Mix:           [models.Classes]float64{0.2, 0.5, 0.3, 0},
		Stages:        []models.Stage{{Servers: Servers, Slowdown: 1}},
		Seed:          seed,
		LatencyEdges:  edges(),
	}
}

// edges are those of guard's classic histogram, in percent of the SLO.
func edges() (e []time.Duration) {
	for _, share := range []time.Duration{5, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 300, 500, 1000} {
		e = append(e, SLO*share/100)
	}
	return e
}

func during(fault models.Stage) func(*models.Config) {
	return func(cfg *models.Config) {
		healthy := cfg.Stages[0]
		fault.From, healthy.From = faultAt, healAt
		cfg.Stages = append(cfg.Stages, fault, healthy)
	}
}

// sheddable multiplies the arrivals of the sheddable class during the fault.
func sheddable(cfg *models.Config, times float64) {
	const class = 2
	usual := cfg.Mix
	more := (times - 1) * usual[class]
	burst := usual
	burst[class] += more
	for i := range burst {
		burst[i] /= 1 + more
	}
	cfg.Load = models.Pulse(BaseLoad, (1+more)*BaseLoad, faultAt, healAt)
	cfg.Load.Mix = func(at time.Duration) [models.Classes]float64 {
		if at >= faultAt && at < healAt {
			return burst
		}
		return usual
	}
}

// highMinimum loses most servers while the limit may not go as low as it should.
func highMinimum() Scenario {
	s := rig("dip256", "four fifths of the servers lost for 300 s, minimum of the limit 256",
		"the concurrency limit is at a minimum that is too high: another knob must act",
		during(models.Stage{Servers: Servers / 5, Slowdown: 1}))
	s.Limit, s.Min = 256, 256
	return s
}

// metastable is a service that loses most of its servers for ten seconds while its clients retry: what they send while
// it is down can keep it down.
func metastable(name string, load float64) Scenario {
	const trigger = 10 * time.Second
	s := rig(name, fmt.Sprintf("four fifths of the servers lost for 10 s, clients retry 4 times, load %g C", load),
		"a trigger of ten seconds must not become an outage that feeds itself",
		func(cfg *models.Config) {
			cfg.Load = models.Constant(load * Capacity)
			cfg.Retries, cfg.RetryWait = 4, 100*time.Millisecond
			cfg.Stages = append(cfg.Stages, models.Stage{From: faultAt, Servers: Servers / 5, Slowdown: 1},
				models.Stage{From: faultAt + trigger, Servers: Servers, Slowdown: 1})
		})
	s.Phases = []models.Phase{
		{Name: Calm, From: 0, To: faultAt},
		{Name: Fault, From: faultAt, To: faultAt + trigger},
		{Name: After, From: faultAt + trigger, To: faultAt + trigger + 2*time.Minute},
	}
	return s
}

// healed is a small service whose dependency becomes slow after it has recovered from an overload. The overload has
// left a limit near what the capacity allows, while the delay needs 16.5 requests in flight on average and at times
// twice as many.
func healed() Scenario {
	const (
		servers       = Servers / 4
		base          = 0.5 * Capacity * servers / Servers
		surge, calmed = 60 * time.Second, 120 * time.Second
		begin, heal   = 240 * time.Second, 270 * time.Second
	)
	return Scenario{
		Name: "healed", Title: "8 servers, offered ×3 for 60 s, then calm, then a dependency adds 250 ms to half of the calls",
		Intent: "few are refused and the service is slow: this is not overload, and cutting cannot help",
		Limit:  32, Min: 4, Max: 1024,
		Phases: []models.Phase{
			{Name: Calm, From: 0, To: begin},
			{Name: Fault, From: begin, To: heal},
			{Name: After, From: heal, To: heal + 2*time.Minute},
		},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			cfg.Load = models.Pulse(base, 3*base, surge, calmed)
			cfg.Stages = []models.Stage{
				{Servers: servers, Slowdown: 1},
				{From: begin, Servers: servers, Slowdown: 1, DependencyDelay: 250 * time.Millisecond, DependencyShare: 0.5},
				{From: heal, Servers: servers, Slowdown: 1},
			}
			return cfg
		},
	}
}

// idle is a service with hardly any traffic.
func idle() Scenario {
	return Scenario{
		Name: "idle", Title: "5 requests/s for an hour, limit 96",
		Intent: "a limit that does not bind stays where it is",
		Limit:  96, Min: 20, Max: 400,
		Phases: []models.Phase{{Name: Calm, From: 0, To: time.Hour}},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			cfg.Load = models.Constant(5)
			return cfg
		},
	}
}

// atMax is a healthy service whose limit binds at the configured maximum.
func atMax() Scenario {
	return Scenario{
		Name: "atmax", Title: "healthy and binding at the maximum, limit 400 of 400",
		Intent: "report that the bound is reached, and do not halve anything because of it",
		Limit:  400, Min: 20, Max: 400,
		Phases: []models.Phase{{Name: Calm, From: 0, To: 5 * time.Minute}},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			cfg.Stages[0].Servers = 1000
			cfg.Load = models.Constant(9500) // 380 in flight
			return cfg
		},
	}
}

// lowStart is a healthy service whose limit is far below what it needs.
func lowStart() Scenario {
	return Scenario{
		Name: "low", Title: "a healthy service that needs 96 in flight starts at limit 20",
		Intent: "the limit must climb from the floor, and not take an hour",
		Limit:  20, Min: 20, Max: 400,
		Phases: []models.Phase{{Name: Calm, From: 0, To: 10 * time.Minute}},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			cfg.Stages[0].Servers = 200
			cfg.Load = models.Constant(2400) // 96 in flight
			return cfg
		},
	}
}

// halved is a service that permanently loses half of its servers.
func halved() Scenario {
	const begin = 10 * time.Minute
	return Scenario{
		Name: "halved", Title: "half of the servers lost permanently",
		Intent: "act once for one change, however late it becomes visible, and then rest",
		Limit:  128, Min: 8, Max: 1024,
		Phases: []models.Phase{{Name: Calm, From: 0, To: begin}, {Name: Fault, From: begin, To: begin + 40*time.Minute}},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			cfg.Stages = append(cfg.Stages, models.Stage{From: begin, Servers: Servers / 2, Slowdown: 1})
			return cfg
		},
	}
}

// degrading is a service that gets 1% slower every minute for two hours: overloaded after 36 minutes, 3.3 times slower
// at the end.
func degrading() Scenario {
	const begin, minutes = 10 * time.Minute, 120
	return Scenario{
		Name: "degrade", Title: "service 1% slower every minute for two hours",
		Intent: "the setpoint is anchored in the SLO: it must not follow the measurement",
		Limit:  128, Min: 8, Max: 1024,
		Phases: []models.Phase{
			{Name: Calm, From: 0, To: begin}, {Name: Fault, From: begin, To: begin + minutes*time.Minute},
		},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			for m := 1; m <= minutes; m++ {
				cfg.Stages = append(cfg.Stages, models.Stage{
					From: begin + time.Duration(m)*time.Minute, Servers: Servers, Slowdown: math.Pow(1.01, float64(m)),
				})
			}
			return cfg
		},
	}
}

// longCrisis keeps the limit at its minimum for half an hour and then releases it.
func longCrisis() Scenario {
	const begin, heal = 5 * time.Minute, 35 * time.Minute
	return Scenario{
		Name: "crisis", Title: "a tenth of the servers left for 30 minutes, minimum 20",
		Intent: "half an hour at the clamp must not wind anything up: the limit leaves it in the first period that allows it",
		Limit:  96, Min: 20, Max: 400,
		Phases: []models.Phase{
			{Name: Calm, From: 0, To: begin},
			{Name: Fault, From: begin, To: heal},
			{Name: After, From: heal, To: heal + 5*time.Minute},
		},
		Plant: func(seed uint64) models.Config {
			cfg := service(seed)
			cfg.Stages = append(cfg.Stages,
				models.Stage{From: begin, Servers: 3, Slowdown: 1}, models.Stage{From: heal, Servers: Servers, Slowdown: 1})
			return cfg
		},
	}
}
