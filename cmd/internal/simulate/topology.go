package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/models"
)

// Bounds of what a file of several services may ask for.
const (
	maxServices = 50
	maxCalls    = 100 // of one request, by one service
)

// checkAlone reports what only makes sense where several services call each other.
func (f file) checkAlone(fail func(path []any, format string, args ...any)) {
	s := f.Service
	if s.Name != "" || len(s.Calls) > 0 || s.Limit != nil || s.Unguarded || s.SLO != 0 {
		fail([]any{"service"}, "service: name, calls, limit, unguarded and slo are keys of services, where there are several")
	}
	if f.Calls != (clientsFile{}) {
		fail([]any{"calls"}, "calls: expected services that call each other")
	}
	for i, r := range f.Routes {
		if r.Service != "" || len(r.Calls) > 0 {
			fail([]any{"routes", i}, "service, calls: expected services that call each other")
		}
	}
}

// checkGraph reports what cannot be simulated of several services.
func (f file) checkGraph(fail func(path []any, format string, args ...any)) {
	if len(f.Services) > maxServices {
		fail([]any{"services"}, "services: %d; expected at most %d", len(f.Services), maxServices)
	}
	if s, usual := f.Service, rig().Service; s.Servers != usual.Servers || s.Time != usual.Time || s.Instances != usual.Instances {
		fail([]any{"service"}, "service: there are services, and each has its own keys")
	}
	if len(f.Routes) == 0 {
		fail([]any{"services"}, "routes are missing; expected where requests enter, each with a load and a service")
	}
	if r := f.Calls.Retries; r.Times < 0 || r.Times > 20 || r.Times > 0 && r.Wait == 0 {
		fail([]any{"calls", "retries"}, "retries: expected times, 0 to 20, and a wait")
	}
	names := map[string]bool{}
	for i := range f.Services {
		s := f.service(i)
		bad := func(key, format string, args ...any) { fail([]any{"services", i, key}, format, args...) }
		if err := actuators.ValidServiceName(s.Name); err != nil || names[s.Name] {
			bad("name", "name: %q; expected one that no other service has, of letters, digits and dashes", s.Name)
		}
		names[s.Name] = true
		f.checkService(s, bad)
		if s.Dependency != (dependencyFile{}) {
			bad("dependency", "dependency: expected a service that is called")
		}
		if l := s.Limit; l != nil && !(l.Min >= 1 && l.Start >= l.Min && l.Max >= l.Start && l.Max < unlimited) {
			bad("limit", "limit: start %g, min %g, max %g; expected 1 ≤ min ≤ start ≤ max", l.Start, l.Min, l.Max)
		}
		if s.SLO != 0 && (s.SLO < span(time.Millisecond) || s.SLO > f.SLO.Latency) {
			bad("slo", "slo: %v; expected 1ms up to the latency of the scenario", time.Duration(s.SLO))
		}
		f.checkCalls(s.Name, s.Calls, bad)
	}
	for i, r := range f.Routes {
		bad := func(key, format string, args ...any) { fail([]any{"routes", i, key}, format, args...) }
		if f.index(r.Service) < 0 {
			bad("service", "service: %q; expected one of the services", r.Service)
		}
		if r.Hold != 0 || r.Deadline != 0 || r.Endless || r.Tenants != 0 {
			bad("", "hold, deadline, endless, tenants: not where there are several services")
		}
		if r.Time != nil && *r.Time == 0 {
			bad("time", "time: 0s; expected more")
		}
		f.checkCalls(r.Service, r.Calls, bad)
	}
}

// checkCalls reports calls of a service that lead nowhere, or back to it.
func (f file) checkCalls(from string, steps []callStep, bad func(key, format string, args ...any)) {
	calls := 0
	for _, step := range steps {
		for _, to := range step {
			calls++
			switch {
			case f.index(to) < 0:
				bad("calls", "calls: no service is called %q", to)
			case f.reaches(to, from, 0):
				bad("calls", "calls: %s calls %s, which leads back to it", from, to)
			}
		}
	}
	if calls > maxCalls {
		bad("calls", "calls: %d; expected at most %d", calls, maxCalls)
	}
}

// reaches says whether the calls of a service lead to the service called to.
func (f file) reaches(from, to string, depth int) bool {
	if from == to || depth > len(f.Services) {
		return true
	}
	i := f.index(from)
	if i < 0 {
		return false
	}
	return slices.ContainsFunc(f.Services[i].Calls, func(step callStep) bool {
		return slices.ContainsFunc(step, func(next string) bool { return f.reaches(next, to, depth+1) })
	})
}

// checkWhose reports a step that does not say whose condition it changes, and returns how many instances that service
// has.
func (f file) checkWhose(s stepFile, bad func(key, format string, args ...any)) (instances int) {
	i := f.index(s.Service)
	condition := s.stage() || s.Add != 0 || s.Remove != 0 || s.Restart != 0
	switch {
	case condition && i < 0:
		bad("service", "service: %q; expected the service that this happens to", s.Service)
	case !condition && s.Service != "":
		bad("service", "service: expected what happens to it")
	}
	if s.Dependency != nil {
		bad("dependency", "dependency: expected a service that is called")
	}
	if i < 0 {
		return 0
	}
	return f.service(i).Instances
}

// index of the service of that name, -1: there is none.
func (f file) index(name string) int {
	return slices.IndexFunc(f.Services, func(s serviceFile) bool { return s.Name == name })
}

// service is one of several, with what the rig adds.
func (f file) service(i int) serviceFile {
	s, usual := f.Services[i], rig().Service
	s.Servers = cmp.Or(s.Servers, usual.Servers)
	s.Time = cmp.Or(s.Time, usual.Time)
	s.RejectCost = cmp.Or(s.RejectCost, usual.RejectCost)
	s.Instances = cmp.Or(s.Instances, usual.Instances)
	return s
}

// tiers are the services as their guards and loops know them.
func (f file) tiers() (tiers []Tier) {
	for _, s := range f.Services {
		limit := f.Limit
		if s.Limit != nil {
			limit = *s.Limit
		}
		slo := f.slo()
		slo.Latency = cmp.Or(time.Duration(s.SLO), slo.Latency)
		tiers = append(tiers, Tier{
			Name: s.Name, SLO: slo, Start: limit.Start, Min: limit.Min, Max: limit.Max, Unguarded: s.Unguarded,
		})
	}
	return tiers
}

// graph is the services and who calls whom.
func (f file) graph() func(seed uint64) models.GraphConfig {
	cfg := models.GraphConfig{Mix: f.mix(), LatencyEdges: edges(time.Duration(f.SLO.Latency))}
	link := func(from, to int) int {
		l := models.Link{From: from, To: to}
		c := f.Clients
		if from != models.Clients {
			c = f.Calls
			c.Timeout = cmp.Or(c.Timeout, f.Clients.Timeout)
		}
		l.Timeout, l.Direct = time.Duration(c.Timeout), c.Direct
		l.Retries, l.RetryWait = c.Retries.Times, time.Duration(c.Retries.Wait)
		if i := slices.Index(cfg.Links, l); i >= 0 {
			return i
		}
		cfg.Links = append(cfg.Links, l)
		return len(cfg.Links) - 1
	}
	steps := func(from int, calls []callStep) (steps [][]models.CallSpec) {
		for _, names := range calls {
			var step []models.CallSpec
			for _, name := range names {
				step = append(step, models.CallSpec{Link: link(from, f.index(name))})
			}
			steps = append(steps, step)
		}
		return steps
	}
	for i := range f.Services {
		s := f.service(i)
		one := f
		one.Service = s
		one.Script = slices.DeleteFunc(slices.Clone(f.Script), func(step stepFile) bool { return step.Service != s.Name })
		cfg.Services = append(cfg.Services, models.Service{
			Name: s.Name, Instances: one.instances(), Balancer: models.Balancer(s.Balancer),
			RejectCost: time.Duration(s.RejectCost), DropsAbandoned: s.DropsAbandoned,
			Operations: []models.Operation{{
				Name: s.Name, ServiceTime: time.Duration(s.Time), Law: s.Law.Law, Steps: steps(i, s.Calls),
			}},
		})
	}
	for i, r := range f.Routes {
		at := f.index(r.Service)
		s := &cfg.Services[at]
		op := s.Operations[0]
		op.Name = r.Name
		if r.Time != nil {
			op.ServiceTime = time.Duration(*r.Time)
		}
		if r.Law != nil {
			op.Law = r.Law.Law
		}
		if r.Calls != nil {
			op.Steps = steps(at, r.Calls)
		}
		s.Operations = append(s.Operations, op)
		cfg.Entries = append(cfg.Entries, models.Entry{
			Name: r.Name, Load: f.load(i), Mix: r.Mix.classes(),
			Call: models.CallSpec{Link: link(models.Clients, at), Operation: len(s.Operations) - 1},
		})
	}
	return func(seed uint64) models.GraphConfig {
		c := cfg
		c.Seed = seed
		return c
	}
}

// Optimum is the most goodput that a fluid plant could give in a phase, in requests per second by route and in total,
// with no route above its offer; see Scenario.Optimum.
type Optimum struct {
	Phase    string      `json:"phase"`
	Routes   []string    `json:"routes"`
	Services []string    `json:"services"`
	Offered  []float64   `json:"offered_per_second"`       // by route
	Work     [][]float64 `json:"work_seconds_per_request"` // by service and route
	Capacity []float64   `json:"capacity_servers"`         // by service
	Good     float64     `json:"optimum_per_second"`       // of all routes together
}

// Optimum returns the optimum of each phase of a scenario of several services: the maximum of Σ xᵣ subject to
//
//	0 ≤ xᵣ ≤ offeredᵣ            for each route r
//	Σ workₛᵣ · xᵣ ≤ capacityₛ    for each service s
//
// with the means over the phase of the offers and of the servers, whose number is divided by the slowdown. Refusals and
// waiting cost nothing. It takes the least over the services of what is best for each alone: cheapest requests first.
// That is the solution of the linear program where one service decides, which a test proves for every scenario that
// comes with governor, and never less than it otherwise.
func (s Scenario) Optimum() (all []Optimum) {
	cfg := s.Graph(1)
	for _, p := range s.Phases {
		o := Optimum{Phase: p.Name}
		for _, e := range cfg.Entries {
			o.Routes = append(o.Routes, e.Name)
			o.Offered = append(o.Offered, meanOver(p, e.Load.Rate))
		}
		for i, service := range cfg.Services {
			o.Services = append(o.Services, service.Name)
			o.Capacity = append(o.Capacity, capacity(p, service))
			work := make([]float64, len(cfg.Entries))
			for j, e := range cfg.Entries {
				work[j] = workOf(cfg, e.Call, i)
			}
			o.Work = append(o.Work, work)
		}
		o.Good = math.Inf(1)
		for i := range cfg.Services {
			o.Good = min(o.Good, o.best(i))
		}
		all = append(all, o)
	}
	return all
}

// meanOver is the mean of a rate over a phase, at a resolution of 10 ms.
func meanOver(p models.Phase, rate func(at time.Duration) float64) (mean float64) {
	const step = 10 * time.Millisecond
	n := 0
	for at := p.From; at < p.To; at += step {
		mean += rate(at)
		n++
	}
	return mean / float64(n)
}

// capacity is the mean number of servers of a service over a phase, in servers at Slowdown 1.
func capacity(p models.Phase, s models.Service) (sum float64) {
	for _, in := range s.Instances {
		until := p.To
		if in.To > 0 {
			until = min(until, in.To)
		}
		for i, stage := range in.Stages {
			to := until
			if i+1 < len(in.Stages) {
				to = min(to, in.Stages[i+1].From)
			}
			span := to - max(stage.From, in.From, p.From)
			if span > 0 && stage.Absence == models.Present {
				sum += float64(stage.Servers) / stage.Slowdown * span.Seconds()
			}
		}
	}
	return sum / (p.To - p.From).Seconds()
}

// workOf is the mean server time that a call takes of a service, in seconds.
func workOf(cfg models.GraphConfig, c models.CallSpec, service int) (seconds float64) {
	to := cfg.Links[c.Link].To
	op := cfg.Services[to].Operations[c.Operation]
	if to == service {
		seconds += op.ServiceTime.Seconds()
	}
	for _, step := range op.Steps {
		for _, next := range step {
			seconds += workOf(cfg, next, service)
		}
	}
	return seconds
}

// best is the most goodput if only the capacity of one service counted.
func (o Optimum) best(service int) (good float64) {
	work := o.Work[service]
	order := make([]int, len(work))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(work[a], work[b]) })
	left := o.Capacity[service]
	for _, r := range order {
		x := o.Offered[r]
		if work[r] > 0 {
			x = min(x, left/work[r])
		}
		good += x
		left -= x * work[r]
	}
	return good
}
