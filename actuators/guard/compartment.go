package guard

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Route describes a route compartment: requests that have an SLO of their own. A compartment is a guard in everything: it has
// a limit, a shed threshold, fair shares, a reflex and a Setting of its own, under the name SERVICE/ROUTE. All compartments
// of a service, that of the requests on no such route among them, stand under one roof: a limit on what all of them have in
// flight, with a reflex that follows the latency of those with the tightest SLOs (within 1.5 times the smallest). While these have
// fewer than about eight requests in ten seconds, it follows those with the next tightest. While the roof binds, work is divided
// max-min between the compartments, in seconds of own latency per second, and what one does not need is lent to the others.
// Of more than 32 routes, New makes an error. SLO is required; every other zero value has a sensible meaning.
type Route struct {
	// SLO is the latency within which the requests should be answered, 1 ms to 1 h.
	SLO time.Duration
	// Requests are the values of Arrival.Route that belong here, each to one route only; nil: the name of the route with a
	// slash before it.
	Requests []string
	// Weight says how much the route gets while there is not enough for all, relative to the other weights, as 3 beside 1: three
	// times the work. The compartments with weights divide between them what they all would get without. Each without one gets
	// its part of the work in calm, which the guard learns. So one weight alone means nothing, and is an error; that of the
	// requests on no such route is Config.Weight. 0.001 to 1000; 0: learned.
	Weight float64

	// Min, Max and Fallback are as in Config: requests of the route in flight.
	Min, Max, Fallback int
	// ShedThreshold is as in Config: in flight ÷ the route's limit, in (0, 1].
	ShedThreshold float64
}

// routeConfig is the Config of a route's compartment.
func (c Config) routeConfig(name string) Config {
	r := c.Routes[name]
	sub := c
	sub.Service = c.Service + "/" + name
	sub.SLO, sub.Min, sub.Max, sub.Fallback, sub.ShedThreshold = r.SLO, r.Min, r.Max, r.Fallback, r.ShedThreshold
	sub.Routes, sub.Weight, sub.Holders = nil, 0, nil
	if c.CacheFile != "" {
		sub.CacheFile = c.CacheFile + ".routes." + name
	}
	return sub
}

// requests are the values of Arrival.Route that belong to the route called name.
func (r Route) requests(name string) []string {
	if r.Requests == nil {
		return []string{"/" + name}
	}
	return r.Requests
}

// checkRoutes reports everything wrong with the Routes.
func (c Config) checkRoutes(bad func(format string, args ...any)) {
	if len(c.Routes) > actuators.MaxRoutes {
		bad("Routes: %d; expected at most %d", len(c.Routes), actuators.MaxRoutes)
	}
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		r := c.Routes[name]
		if err := actuators.ValidServiceName(name); err != nil {
			bad("Routes[%q]: expected %v", name, err)
			continue
		}
		if r.Requests != nil && len(r.Requests) == 0 {
			bad("Routes[%q]: Requests is empty, so that no request belongs to it; list some, or leave it nil for %q", name, "/"+name)
		}
		for _, request := range r.requests(name) {
			switch other, taken := owner[request]; {
			case request == "":
				bad(`Routes[%q]: Requests has ""; a request without a route belongs to the service itself`, name)
			case taken && other == name:
				bad("Routes[%q]: Requests has %q twice", name, request)
			case taken:
				bad("Routes[%q]: its requests %q are those of Routes[%q], too", name, request, other)
			}
			owner[request] = name
		}
		own := c.routeConfig(name)
		own.Service, own.MaxEndless = name, 0 // what is wrong with those of the service is said once
		_, errs := own.complete()
		for _, err := range errs {
			bad("Routes[%q]: %w", name, err)
		}
	}
}

const (
	weightMin = 0.001
	weightMax = 1000
)

// checkWeights reports everything wrong with the weights.
func (c Config) checkWeights(bad func(format string, args ...any)) {
	some, last := 0, ""
	check := func(where string, weight float64) {
		switch {
		case weight == 0:
			return
		case !(weight >= weightMin && weight <= weightMax):
			bad("%sWeight %v is outside %v..%v: give a number relative to the other weights, or 0 for one that is learned", where,
				weight, weightMin, weightMax)
		}
		some, last = some+1, where
	}
	check("", c.Weight)
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		check(fmt.Sprintf("Routes[%q]: ", name), c.Routes[name].Weight)
	}
	if some == 1 {
		bad("%sWeight is the only one, and weights are relative: give another compartment one, too (Config.Weight is that of the "+
			"requests on no route of their own)", last)
	}
}

// divide makes the compartments of the guard, and the roof over them.
func (g *Guard) divide() {
	g.compartments = map[string]*Guard{}
	parts, weights := []*Guard{g}, []float64{g.cfg.Weight}
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Routes)) {
		cfg, err := g.cfg.routeConfig(name).ready()
		if err != nil {
			panic(fmt.Sprintf("guard: a config that was found right: %v", err))
		}
		part := start(cfg, g.base, newRegime(cfg), newReflex(cfg.SLO, float64(cfg.Fallback), cfg.NoReflex))
		part.service, part.routes = g, g.routes
		part.reflex.learnMost = callLearn // a route may have few requests
		for _, request := range g.cfg.Routes[name].requests(name) {
			g.compartments[request] = part
		}
		parts, weights = append(parts, part), append(weights, g.cfg.Routes[name].Weight)
	}
	r := newRoof(parts, weights)
	for _, part := range parts {
		part.roof, part.gate.roof = r, &r.gate
		part.mu.Lock()
		part.tellRoof(0)
		part.mu.Unlock()
	}
	r.mu.Lock()
	r.step(0)
	r.mu.Unlock()
	for _, part := range parts[1:] {
		part.loadCache()
	}
}

// compartmentOf returns the compartment of requests with that Arrival.Route.
func (g *Guard) compartmentOf(route string) *Guard {
	if g.roof == nil { // costs nothing
		return g
	}
	if c := g.compartments[route]; c != nil {
		return c
	}
	g.roof.strangers.note(route)
	return g
}

const (
	strangersFor  = 5 * time.Minute // from the first request on
	strangersMost = 8
)

// strangers are routes that requests have and that no compartment is for, until each compartment has had a request. If one has
// had none for minutes, its name may be misspelled, and the right one is probably among them.
type strangers struct {
	wanted atomic.Bool
	mu     sync.Mutex
	names  []string
}

// note notes a route. It keeps nobody waiting.
func (s *strangers) note(route string) {
	if route == "" || !s.wanted.Load() || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if len(s.names) < strangersMost && !slices.Contains(s.names, route) {
		s.names = append(s.names, strings.Clone(route))
	}
}

// seek logs, once, which routes have had no request, and which there were instead. The caller holds r.mu.
func (r *roof) seek(now time.Duration) {
	if !r.strangers.wanted.Load() {
		return
	}
	some, all := false, true
	for i := range r.demands {
		had := r.demands[i].seen.arrivals > 0
		some, all = some || had, all && (had || i == 0) // the service itself may have no other requests
	}
	if some && r.began == 0 {
		r.began = max(now, 1)
	}
	if all {
		r.strangers.wanted.Store(false)
	}
	if all || !some || now-r.began < strangersFor {
		return
	}
	r.strangers.wanted.Store(false)
	r.strangers.mu.Lock()
	defer r.strangers.mu.Unlock()
	cfg := r.parts[0].cfg
	for i, part := range r.parts {
		if i > 0 && r.demands[i].seen.arrivals == 0 {
			_, name := actuators.SplitCompartment(part.cfg.Service)
			cfg.Logger.Warn("no request has belonged to this route yet; is it spelled like the route of its requests?", "route", name,
				"requests", cfg.Routes[name].requests(name), "for", (now - r.began).Round(time.Second), "others", r.strangers.names)
		}
	}
}

// compartment returns the compartment of the route called name; nil: there is none.
func (g *Guard) compartment(name string) *Guard {
	if g.roof == nil {
		return nil
	}
	for _, part := range g.roof.parts[1:] {
		if part.cfg.Service == g.cfg.Service+"/"+name {
			return part
		}
	}
	return nil
}

// ApplyRoute is Apply for the Setting of the route called name. The error is that of Apply, or says that Config.Routes has no
// route of that name.
func (g *Guard) ApplyRoute(name string, raw []byte) error {
	return g.ApplyRouteAt(g.base.Add(g.now()), name, raw)
}

// ApplyRouteAt is ApplyRoute at the instant now.
func (g *Guard) ApplyRouteAt(now time.Time, name string, raw []byte) error {
	part := g.compartment(name)
	if part == nil {
		return fmt.Errorf("guard: a setting for route %q of service %q: no route is called so; expected one of Config.Routes", name,
			g.cfg.Service)
	}
	return part.ApplyAt(now, raw)
}
