package models

import (
	"fmt"
	"math"
	"time"
)

// Route is one kind of request that a service answers, with a load of its own. All routes share the servers, the queue
// and the Admitter.
type Route struct {
	Name string
	Load Load
	Mix  [Classes]float64 // share of its arrivals by criticality; the zero value: Config.Mix
	// ServiceTime is the mean time on a server at Slowdown 1; 0: the route needs no server, and Hold must be positive.
	ServiceTime time.Duration
	Law         Law
	// Tenants is how many senders of the route are told apart, 0: none. The n-th of them sends in proportion to n^-Skew.
	Tenants int
	Skew    float64
	// Hold is how long a request stays in flight after its service, on no server: a long poll, a stream.
	Hold time.Duration
	// Endless says that the service declares the requests of this route as held open by design; Request.Endless tells
	// the Admitter.
	Endless bool
	// Deadline replaces the SLO in the judgment of this route, and its clients wait at least so long. Such a route is
	// scored by itself and left out of the totals: a stream of 20 s is not late, and no success of the SLO either.
	// 0: the SLO.
	Deadline time.Duration
}

// Compartment is some routes of a service that Prometheus can tell from the others.
type Compartment struct {
	Routes       []int           // indices in Config.Routes; a route is in one Compartment at most
	LatencyEdges []time.Duration // as in Config
}

// partition says to which part of a service a request belongs: 0 is what is in no Compartment, i the Compartment before i.
type partition struct {
	of    []int             // by route; those beyond are in no Compartment
	edges [][]time.Duration // of the latency histogram, by part
}

// part is that to which requests on a route belong.
func (p *partition) part(route int) int {
	if route >= len(p.of) {
		return 0
	}
	return p.of[route]
}

// partitionOf is that of a service with as many routes. It panics if a route is in two Compartments, or does not exist.
func partitionOf(cfg Config, routes int) partition {
	p := partition{of: make([]int, routes), edges: [][]time.Duration{cfg.LatencyEdges}}
	for i, c := range cfg.Compartments {
		p.edges = append(p.edges, c.LatencyEdges)
		for _, r := range c.Routes {
			if r < 0 || r >= routes || p.of[r] != 0 {
				panic(fmt.Sprintf("models: compartment %d has route %d, which does not exist or is in another one", i, r))
			}
			p.of[r] = i + 1
		}
	}
	return p
}

// routesOf returns the routes of a Config, one for a service that has a Load and a ServiceTime only. It panics on what
// makes no sense.
func routesOf(cfg Config) []Route {
	routes := cfg.Routes
	if len(routes) == 0 {
		if cfg.ServiceTime <= 0 {
			panic("models: ServiceTime must be positive")
		}
		routes = []Route{{Load: cfg.Load, ServiceTime: cfg.ServiceTime, Law: cfg.Law}}
	}
	for _, r := range routes {
		var sum float64
		for _, share := range r.mix(cfg.Mix) {
			sum += share
		}
		switch {
		case math.Abs(sum-1) > 1e-9:
			panic(fmt.Sprintf("models: Mix sums to %v, want 1", sum))
		case r.Load.Rate == nil || r.Load.Peak <= 0:
			panic("models: Load needs a Rate and a positive Peak")
		case r.ServiceTime < 0 || r.Hold < 0 || r.ServiceTime+r.Hold == 0:
			panic(fmt.Sprintf("models: route %s needs a ServiceTime or a Hold", r.Name))
		case r.Deadline > 0 && cfg.Retries > 0:
			panic(fmt.Sprintf("models: route %s has a Deadline, and clients that try again are all equally patient", r.Name))
		}
	}
	return routes
}

func (r Route) mix(usual [Classes]float64) [Classes]float64 {
	if r.Mix != ([Classes]float64{}) {
		return r.Mix
	}
	return usual
}

// merged is the load of all routes together.
func merged(routes []Route) Load {
	if len(routes) == 1 {
		return routes[0].Load
	}
	var peak float64
	for _, r := range routes {
		peak += r.Load.Peak
	}
	return Load{Peak: peak, Rate: func(at time.Duration) (sum float64) {
		for _, r := range routes {
			sum += r.Load.Rate(at)
		}
		return sum
	}}
}
