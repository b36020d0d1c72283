package models

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// source draws the arrivals of all routes of a plant: when, on which route, of which criticality. Each kind of draw has
// a stream of its own, so that an arrival depends only on its number.
type source struct {
	routes   []Route
	load     Load             // of all routes
	mix      [Classes]float64 // of routes that have none
	next     time.Duration    // when the next request arrives
	lastID   uint64
	arrivals *rand.Rand
	classes  *rand.Rand
	kinds    *rand.Rand
	tenants  []tenants // by route
	senders  *rand.Rand
}

// tenants draws the senders of a route.
type tenants struct {
	first int       // number of the first of them
	upTo  []float64 // cumulative shares
}

func tenantsOf(routes []Route) (all []tenants) {
	first := 1
	for _, r := range routes {
		t := tenants{first: first}
		sum := 0.0
		for n := range r.Tenants {
			sum += math.Pow(float64(n+1), -r.Skew)
			t.upTo = append(t.upTo, sum)
		}
		first += r.Tenants
		all = append(all, t)
	}
	return all
}

// drawTenant says who sends an arrival of a route.
func (s *source) drawTenant(route int) int {
	t := s.tenants[route]
	if len(t.upTo) == 0 {
		return 0
	}
	n, _ := slices.BinarySearch(t.upTo, s.senders.Float64()*t.upTo[len(t.upTo)-1])
	return t.first + n
}

// newSource returns a source that has drawn its first arrival.
func newSource(routes []Route, mix [Classes]float64, stream func(n uint64) *rand.Rand) source {
	s := source{
		routes: routes, load: merged(routes), mix: mix, arrivals: stream(1), classes: stream(4), kinds: stream(7),
		tenants: tenantsOf(routes), senders: stream(9),
	}
	s.drawArrival()
	return s
}

// take returns the request that arrives now, without a Slot, and draws the next arrival.
func (s *source) take() Request {
	s.lastID++
	kind := s.drawRoute()
	route := &s.routes[kind]
	r := Request{
		ID: s.lastID, Criticality: s.drawClass(route), Route: kind, Tenant: s.drawTenant(kind), Endless: route.Endless, Arrived: s.next, Sent: s.next,
	}
	s.drawArrival()
	return r
}

func (s *source) drawArrival() {
	at := s.next
	for {
		at += time.Duration(s.arrivals.ExpFloat64() / s.load.Peak * float64(time.Second))
		if rate := s.load.Rate(at); rate >= s.load.Peak || s.arrivals.Float64()*s.load.Peak < rate {
			s.next = at
			return
		}
	}
}

// drawRoute says which route an arrival takes, in proportion to their rates at the instant.
func (s *source) drawRoute() int {
	if len(s.routes) == 1 {
		return 0
	}
	u := s.kinds.Float64() * s.load.Rate(s.next)
	for i, r := range s.routes {
		if u -= r.Load.Rate(s.next); u < 0 {
			return i
		}
	}
	return len(s.routes) - 1
}

func (s *source) drawClass(route *Route) int {
	u := s.classes.Float64()
	mix := route.mix(s.mix)
	if route.Load.Mix != nil {
		mix = route.Load.Mix(s.next)
	}
	for class, share := range mix {
		if u < share {
			return class
		}
		u -= share
	}
	return Classes - 1
}
