package configs

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/configs/internal/strict"
	"github.com/seed-de83e32b/governor/signals"
)

// Names returns the names of all that governor steers, sorted: the services of the file, and their routes as
// SERVICE/ROUTE.
func (c *Config) Names() []string {
	var names []string
	for name, s := range c.Services {
		names = append(names, name)
		for route := range s.Routes {
			names = append(names, name+"/"+route)
		}
	}
	slices.Sort(names)
	return names
}

// Compartment returns a service of the file or, by the name SERVICE/ROUTE, a route with all that it inherits; nil if the
// file has no such name.
func (c *Config) Compartment(name string) *Service {
	if s := c.Services[name]; s != nil {
		return s
	}
	service, route := actuators.SplitCompartment(name)
	s := c.Services[service]
	if s == nil || s.Routes[route] == nil {
		return nil
	}
	return s.Routes[route].of(s)
}

// of completes a route of the service s.
func (r *Route) of(s *Service) *Service {
	return &Service{
		Mode: s.Mode,
		SLO: SLO{
			Latency: r.SLO.Latency, Objective: cmp.Or(r.SLO.Objective, s.SLO.Objective),
			Errors: cmp.Or(r.SLO.Errors, s.SLO.Errors),
		},
		Concurrency: cmp.Or(r.Concurrency, s.Concurrency), Shed: r.Shed, Rate: r.Rate,
		Timing: s.Timing, Metrics: s.Metrics, Tuning: s.Tuning,
	}
}

// reserved are names that a route may not have. In commands and in the API, the name of a route stands where the knob
// of a service stands, which may be calls/DEPENDENCY; in the keys it stands beside those of its service.
var reserved = append(actuators.Knobs[:len(actuators.Knobs):len(actuators.Knobs)], "calls", "routes", "setting", "operator")

// routes checks the routes of a service.
func (c *checker) routes(cfg *Config, name, at string) {
	s, all := cfg.Services[name], at+".routes"
	switch m := at + ".metrics"; {
	case len(s.Routes) == 0:
		return
	case c.doc.OK(m+".preset") && signals.Preset(s.Metrics.Preset) != signals.Guard:
		c.doc.Add(all, "set with preset %s, which cannot tell routes apart; expected preset guard, or no routes", s.Metrics.Preset)
		return
	case s.Metrics.Queries != (Queries{}):
		c.doc.Add(all, "set with metrics.queries, which read the service as a whole; expected no queries, or no routes")
		return
	}
	if n := len(s.Routes); n > actuators.MaxRoutes {
		c.doc.Add(all, "%d routes; expected at most %d, as many as a guard has", n, actuators.MaxRoutes)
	}
	for _, route := range slices.Sorted(maps.Keys(s.Routes)) {
		k, r := strict.Join(all, route), s.Routes[route]
		if err := actuators.ValidServiceName(route); err != nil {
			c.doc.Add(k, "%q; expected the name of a route, which is valid as %v", route, err)
			continue
		} else if slices.Contains(reserved, route) {
			c.doc.Add(k, "%q is reserved: %s/%s would be ambiguous; expected a name other than %s", route, name, route,
				strings.Join(reserved, ", "))
			continue
		}
		if r == nil {
			continue // not a section, which is reported already
		}
		whole := r.of(s)
		if whole.Concurrency == nil && r.Rate == nil && c.doc.OK(k) && c.doc.OK(at+".concurrency") && !c.doc.Misspelled(k) &&
			!c.doc.Misspelled(at) {
			c.doc.Add(k, "nothing to govern; expected a knob: concurrency, of the route or of its service, or rate, or both")
			continue
		}
		c.bounds(&Service{Concurrency: r.Concurrency, Shed: r.Shed, Rate: r.Rate}, k)
		if r.Shed != nil && whole.Concurrency == nil && c.doc.OK(k) && c.doc.OK(at+".concurrency") {
			c.doc.Add(k+".shed", noLimitToShed)
		}
		if c.doc.OK("timing") && c.doc.OK(at) {
			c.sensor(cfg, name+"/"+route, k)
		}
	}
}
