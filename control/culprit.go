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
	own     excess // in its own part of the requests
	calls   []callHealth
}

// callHealth is what a service knows about the calls to one other service.
type callHealth struct {
	to   string
	lost Reading // share of the calls, as in Calls.Lost
	excess
}

// excess is by how much all requests of a window together took longer than in calm, in seconds: at least, and at most.
// They are the same where both the time and that in calm are known.
type excess struct{ least, most float64 }

// Suffers says whether the service is known to violate its SLO, or to refuse, to fail or to lose more than 2% of its
// requests or of its calls to another.
func (h Health) Suffers() bool { return h.known && h.suffers }

const (
	// lostFrom is the share of lost calls from which they tell more than latencies: what is refused waits nowhere.
	lostFrom = 0.02
	// untracked is the share of the time in calls below which the requests do not know that they wait for them.
	untracked = 0.5
)

// FindCulprit follows the calls from a service that suffers to the one that explains it, and returns the way: the entry
// first, the culprit last, which may be the entry itself. At each service, the way leads to the callee that loses most of
// the calls, if it loses more than 2%; else to the callee whose calls take most time beyond what they take in calm, all
// together; and it ends where the service's own part has grown more than that of any callee. A callee that is not among
// the services ends it, too.
//
// It returns nil if the entry does not suffer, if something on the way is not known well enough to tell, and if the calls
// lead in a circle. It is a pure function.
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
		case !ok:
			return nil
		case next == "":
			return way
		case slices.Contains(way, next):
			return nil
		}
		way = append(way, next)
	}
}

// worst is the callee that explains most of what the service suffers, "" for the service itself; ok: it is known.
func (h Health) worst() (callee string, ok bool) {
	if !h.known {
		return "", false
	}
	most := lostFrom
	for _, c := range h.calls {
		lost, known := c.lost.Value()
		if !known {
			return "", false
		}
		if lost > most {
			callee, most = c.to, lost
		}
	}
	if callee != "" {
		return callee, true
	}
	largest := h.own
	for _, c := range h.calls {
		if c.least > largest.least {
			callee, largest = c.to, c.excess
		}
	}
	if callee != "" && h.own.most > largest.least {
		return "", false
	}
	for _, c := range h.calls {
		if c.to != callee && c.most > largest.least {
			return "", false
		}
	}
	return callee, true
}

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
	if !f.offered.AtLeast(fewJudged) || f.unjudged != "" {
		return Health{}
	}
	v := view{flow: f}
	h := Health{known: true}
	h.suffers = f.hang != "" || v.violates(s.spec.SLO) || f.refused.Above(lostFrom) || f.failed.Above(lostFrom)
	for _, d := range dependencies(fresh, f.completed) {
		if d.Requests == 0 {
			continue
		}
		h.calls = append(h.calls, callHealth{to: d.Name, lost: Read(float64(d.Lost)), excess: d.excess})
		h.suffers = h.suffers || d.Lost > lostFrom
	}
	h.own = s.ownExcess(f, h.calls)
	return h
}

// ownExcess is that of the service's own part of the requests.
func (s *LoopSet) ownExcess(f flow, calls []callHealth) excess {
	mean, known := f.mean.Value()
	if !known || f.completed.Below(fewJudged) {
		return excess{0, math.Inf(1)}
	}
	n := f.completed.value
	own := beyond(n*mean, n, s.target.ownLatency())
	sum, largest := excess{}, 0.0
	for _, c := range calls {
		sum.least, sum.most = sum.least+c.least, sum.most+c.most
		largest = max(largest, c.least)
	}
	if n*f.waited >= untracked*largest {
		return own
	}
	// The calls are made without the context of the request, so that its own part includes their time. Calls that overlap
	// add less to it than their sum.
	return excess{max(0, own.least-sum.most), max(0, own.most-largest)}
}

// beyond is how much longer n requests took than calm seconds each. Without a known calm, all of the time may be beyond it.
func beyond(spent, n float64, calm Reading) excess {
	c, known := calm.Value()
	if !known {
		return excess{0, spent}
	}
	e := max(0, spent-n*c)
	return excess{e, e}
}

// ownLatency is m₀ in seconds, missing before there is evidence for it.
func (t *latencyTarget) ownLatency() Reading {
	if windows, _ := t.own.Evidence(); windows == 0 {
		return Missing(NoData, "not learned yet")
	}
	return Read(t.own.Seconds())
}

// Blame says in one sentence why the service is slow or fails, where another service explains it; "": none does, or it is not
// known.
func (d *Decision) Blame() string {
	in := d.Inputs
	if in.Culprit == "" || in.Culprit == d.Service {
		return ""
	}
	first, via := in.Culprit, ""
	if len(in.CulpritVia) > 0 {
		first, via = in.CulpritVia[0], ", by way of "+strings.Join(in.CulpritVia, ", ")
	}
	i := slices.IndexFunc(in.Dependencies, func(c Calls) bool { return c.Name == first })
	latencies := d.Knob == KnobConcurrency || d.Knob == KnobRate // the other knobs measure something else
	switch {
	case i >= 0 && in.Dependencies[i].Lost > lostFrom:
		return fmt.Sprintf("%s fails because %s does%s: %s of the calls to %s refused", d.Service, in.Culprit, via,
			percent(in.Dependencies[i].Lost), first)
	case i >= 0 && latencies && d.answer().Known():
		return fmt.Sprintf("%s is slow because %s is%s: %s of %s", d.Service, in.Culprit, via,
			latency(min(in.Dependencies[i].PerRequest, d.answer())), latency(d.answer()))
	}
	return fmt.Sprintf("%s suffers because of %s%s", d.Service, in.Culprit, via)
}
