package control

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// When a service is slow, the fault is often behind it: checkout waits for cart, which waits for payments. Every service
// reports how its calls fare, so the way leads from each to the next, as far as governor knows the services:
//
//	checkout ──calls──► cart ──calls──► payments     its own time has grown most: the culprit
//	    └─────calls──► search

// Health is what is known about a service for the search for a culprit, over a window. The zero Health knows nothing.
type Health struct {
	known   bool
	suffers bool
	refused float64 // share of its requests
	own     excess  // in its own part of the requests
	waits   float64 // seconds that the requests of the window together spent in guarded calls
	calls   []callHealth
}

// callHealth is what a service knows about the calls to one other service.
type callHealth struct {
	to          string
	lost, tried Reading // attempts in the window: as in Calls.Lost, and all
	excess
}

// excess is how long the requests of a window together took, and by how much that is longer than in calm, at least and at
// most: the same where both are known. All are in seconds, but for the number of the requests.
type excess struct{ least, most, spent, requests float64 }

// unknownExcess is that of requests whose time is not known.
var unknownExcess = excess{0, math.Inf(1), math.Inf(1), 0}

// grown says whether the time is known to be longer than what varies in calm. The mean of n times that are exponential has
// a standard error of 1/√n of itself.
func (e excess) grown() bool {
	return e.least > max(grownBy, grownErrors/math.Sqrt(e.requests))*(e.spent-e.least)
}

// Suffers says whether the service is known to violate its SLO, or to refuse, to fail or to lose more than 2% of its
// requests or of its calls to others.
func (h Health) Suffers() bool { return h.known && h.suffers }

const (
	// lostFrom is the share of lost attempts from which they tell more than latencies: what is refused waits nowhere.
	lostFrom = 0.02
	// fewLost is a number of lost attempts that is chance.
	fewLost = 2
	// grownBy is the share of the time in calm by which means vary in calm. m₀ is one of the lower ones.
	grownBy = 0.25
	// grownErrors is by how many standard errors a mean of few requests must lie above that in calm.
	grownErrors = 3
	// untracked is the share of the time in calls below which the requests do not know that they wait for them.
	untracked = 0.5
)

// FindCulprit follows the calls from a service that suffers to the one that explains it, and returns the way: the entry
// first, the culprit last, which may be the entry itself. At each service, this is asked in turn:
//
//	1 Do the callees lose more than 2% of its calls, and more than it refuses itself? Then the way leads to the one that loses
//	  most.
//	2 Which part of its requests takes most time beyond what it takes in calm, all together: the calls to one of the callees,
//	  or its own? The way leads to that callee, or it ends. Parts that have not grown by more than varies in calm do not count.
//	3 Has nothing grown? Then the way ends, if it has led here or if the service refuses.
//
// A callee that is not among the services ends it, too. FindCulprit returns nil if the entry does not suffer, if something on
// the way is not known well enough to tell, and if the calls lead in a circle. It is a pure function.
func FindCulprit(services map[string]Health, entry string) []string {
	if !services[entry].Suffers() {
		return nil
	}
	for way := []string{entry}; ; {
		last := way[len(way)-1]
		h, governed := services[last]
		if !governed {
			return way
		}
		next, ok := h.worst()
		switch {
		case !h.known || !ok || next == nothing && last == entry && h.refused <= lostFrom:
			return nil
		case next == itself || next == nothing:
			return way
		case slices.Contains(way, next):
			return nil
		}
		way = append(way, next)
	}
}

// What Health.worst finds where it is no callee.
const (
	itself  = ""
	nothing = "-" // no name of a service begins like this
)

// worst is the callee that explains most of what the service suffers, itself, or nothing; ok: it is known which.
func (h Health) worst() (part string, ok bool) {
	if len(h.calls) == 0 && h.waits > 0 {
		return "", false // it waits for calls that governor does not read
	}
	lost, tried, most := Read(0), Read(0), 0.0
	for _, c := range h.calls {
		lost, tried = lost.Plus(c.lost), tried.Plus(c.tried)
		if n := c.lost.Or(0); n > most {
			part, most = c.to, n
		}
	}
	switch share := lost.Over(tried, ""); {
	case !lost.Known() || !tried.Known():
		return "", false
	case lost.Above(fewLost) && share.Above(max(lostFrom, h.refused)):
		return part, true
	}

	part, largest := nothing, 0.0
	own := h.ownExcess()
	if own.grown() {
		part, largest = itself, own.least
	}
	for _, c := range h.calls {
		if c.grown() && c.least > largest {
			part, largest = c.to, c.least
		}
	}
	unsure := part != itself && len(h.calls) > 0 && own.unsure(largest)
	for _, c := range h.calls {
		unsure = unsure || c.to != part && c.unsure(largest)
	}
	return part, !unsure
}

// unsure says whether the excess may be larger than that.
func (e excess) unsure(than float64) bool { return e.most > e.least && e.most > than }

// culprit is the way to the culprit of what the service suffers. One that makes no calls has nowhere to look.
func (s *LoopSet) culprit(m Measurement) []string {
	services := m.Services
	if _, ok := services[s.spec.Service]; !ok {
		services = map[string]Health{s.spec.Service: s.Health(m)}
	}
	if len(services[s.spec.Service].calls) == 0 {
		return nil
	}
	return FindCulprit(services, s.spec.Service)
}

// Health is what the measurement m says about the service. It learns nothing from m.
func (s *LoopSet) Health(m Measurement) Health {
	m, found := plausible(m, s.spec.SLO, s.largestLimit())
	if m.Invalid != "" || m.Partial != "" || m.Window <= 0 || found.hold != "" {
		return Health{}
	}
	fresh := s.gate.fresh(&view{}, m.Instances)
	f := aggregate(fresh, m.Window)
	if f.unjudged != "" || len(fresh) == 0 {
		return Health{}
	}
	v := view{flow: f}
	h := Health{known: true}
	h.refused = f.refused.Or(0) // nothing arrives
	h.suffers = h.refused > lostFrom || f.hang != "" || v.violates(s.spec.SLO) || f.failed.Above(lostFrom)
	for _, d := range dependencies(fresh, f.completed) {
		if d.tried.AtMost(0) {
			continue
		}
		h.calls = append(h.calls, callHealth{to: d.Name, lost: d.lost, tried: d.tried, excess: d.excess})
		h.suffers = h.suffers || d.lost.Above(fewLost) && d.Lost > lostFrom
	}
	h.own = unknownExcess
	if mean, known := f.mean.Value(); known { // else it hangs, or nobody asks
		n := f.uncut.value
		h.own, h.waits = beyond(n*mean, n, s.target.ownLatency()), n*f.waited
	}
	return h
}

// ownExcess is that of the service's own part of the requests.
func (h Health) ownExcess() excess {
	sum, largest := excess{}, 0.0
	for _, c := range h.calls {
		sum.least, sum.most = sum.least+c.least, sum.most+c.most
		largest = max(largest, c.least)
	}
	if h.waits >= untracked*largest || math.IsInf(h.own.spent, 1) {
		return h.own
	}
	// The calls are made without the context of the request, so that its own part includes their time. Calls that overlap
	// add less to it than their sum.
	return excess{max(0, h.own.least-sum.most), max(0, h.own.most-largest), h.own.spent, h.own.requests}
}

// DivideCalls divides the calls of a service between the service and its routes, named SERVICE/ROUTE, in the services
// of a search: the callees of a route are those of its service. Guard counts calls by service, but the time in them by
// route. So each gets that part of every call's time which its requests have of the waiting, and one whose requests
// wait for nothing has no calls.
func DivideCalls(services map[string]Health) {
	routes := map[string][]string{}
	for name := range services {
		if service, _, ok := strings.Cut(name, "/"); ok {
			routes[service] = append(routes[service], name)
		}
	}
	for service, names := range routes {
		calls, all := services[service].calls, services[service].waits
		for _, name := range names {
			all += services[name].waits
		}
		if !(all > 0) {
			continue // nothing tells whose calls they are
		}
		for _, name := range append(names, service) {
			h := services[name]
			h.calls = nil
			if part := h.waits / all; part > 0 {
				for _, c := range calls {
					c.excess = excess{part * c.least, part * c.most, part * c.spent, c.requests}
					h.calls = append(h.calls, c)
				}
			}
			services[name] = h
		}
	}
}

// beyond is how much longer n requests took than calm seconds each. Without a known calm, all of the time may be beyond it.
func beyond(spent, n float64, calm Reading) excess {
	c, known := calm.Value()
	if !known {
		return excess{0, spent, spent, n}
	}
	e := max(0, spent-n*c)
	return excess{e, e, spent, n}
}

// ownLatency is m₀ in seconds, missing before there is evidence for it.
func (t *latencyTarget) ownLatency() Reading {
	if windows, _ := t.own.Evidence(); windows == 0 {
		return Missing(NoData, "not learned yet")
	}
	return Read(t.own.Seconds())
}

// Blame says in one sentence why the service is slow or fails; "": nothing is wrong, or the culprit is not known.
func (d *Decision) Blame() string {
	in := d.Inputs
	if in.Culprit == "" {
		return ""
	}
	if in.Culprit == d.Service {
		return d.Service + " suffers because of its own part"
	}
	first, via := in.Culprit, ""
	if len(in.CulpritVia) > 0 {
		first, via = in.CulpritVia[0], ", by way of "+strings.Join(in.CulpritVia, ", ")
	}
	i := slices.IndexFunc(in.Dependencies, func(c Calls) bool { return c.Name == first })
	latencies := d.Knob == KnobConcurrency || d.Knob == KnobRate // the other knobs measure something else
	switch {
	case i >= 0 && in.Dependencies[i].Lost > lostFrom:
		return fmt.Sprintf("%s fails because %s does%s: %s of the calls to %s lost", d.Service, in.Culprit, via,
			percent(in.Dependencies[i].Lost), first)
	case i >= 0 && latencies && d.answer().Known() && in.Dependencies[i].PerRequest.Known():
		return fmt.Sprintf("%s is slow because %s is%s: %s of %s", d.Service, in.Culprit, via,
			latency(min(in.Dependencies[i].PerRequest, d.answer())), latency(d.answer()))
	}
	return fmt.Sprintf("%s suffers because of %s%s", d.Service, in.Culprit, via)
}
