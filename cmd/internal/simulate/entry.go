package simulate

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/models"
)

// experiment is an outer loop that was tried and refuted. It is no part of governor or of guard: it exists to be compared
// with them. It sees what passes the doors of the services and their ways out, exactly and without delay, which is
// more than a sensor would.
type experiment interface {
	// door is what stands in front of an instance of a service.
	door(service int, s subject) subject
	// way is the way out of an instance over a link.
	way(link models.Link, c models.Caller) models.Caller
	// step is called once a period.
	step(now time.Duration)
}

// experiment returns that of the contender, nil where it has none.
func (r Run) experiment(cfg models.GraphConfig, fleets []*fleet) experiment {
	switch r.Contender {
	case Entry, EntryPatterns:
		return newEntryLoop(r, cfg, fleets)
	case RetryLaw:
		return newRetryLoop(r, fleets)
	}
	return nil
}

// The tuning of the entry loop: the best of a grid, see docs/compartments.md.
var (
	entryUse    = 1.0  // share of the capacity to fill
	entryFull   = 0.05 // share of the calls of a service that are refused, from which it counts as full
	entryGrowth = 0.05 // of the capacity in every period in which a service is not full
	entryBurst  = 0.05 // depth of the buckets, in seconds of the rate
	entryFollow = 1.0  // weight of the newest capacity
)

// entryLoop is the experiment of admission at the entry. Each entry API has a token bucket for the whole fleet. Every
// period, the loop sets the rates so that no service gets more calls than its capacity:
//
//	Σ callsₛₐ · rateₐ ≤ use · capacityₛ    for each service s
//
// max-min fair between the APIs. callsₛₐ is counted while nobody refuses. capacityₛ is the calls per second that a full
// service completes, and grows as long as the service is not full, so that it is found again.
type entryLoop struct {
	run      Run
	clock    func() clock
	entries  map[[2]int]int // entry by service and operation
	api      []int          // entry by Request.ID; -1: not known
	seen     []serviceCount // by service, in this period
	offered  []float64      // by entry, requests in this period
	admitted []float64
	learned  [][]float64 // calls by service and entry, while nobody refused
	requests []float64   // by entry, then
	capacity []float64   // by service, calls per second; +Inf: was never full
	buckets  []entryBucket
}

// serviceCount counts the calls of one service in a period. completed may have failed at a callee.
type serviceCount struct {
	offered, refused, completed float64
	by                          []float64 // offered, by entry
}

// entryBucket is a token bucket; a rate of +Inf admits everything.
type entryBucket struct {
	rate, tokens float64
	at           time.Duration
}

func newEntryLoop(r Run, cfg models.GraphConfig, fleets []*fleet) *entryLoop {
	e := &entryLoop{
		run: r, clock: func() clock { return fleets[0].clock }, entries: map[[2]int]int{},
		seen: make([]serviceCount, len(cfg.Services)), offered: make([]float64, len(cfg.Entries)),
		admitted: make([]float64, len(cfg.Entries)), requests: make([]float64, len(cfg.Entries)),
	}
	for a, entry := range cfg.Entries {
		e.entries[[2]int{cfg.Links[entry.Call.Link].To, entry.Call.Operation}] = a
		e.buckets = append(e.buckets, entryBucket{rate: math.Inf(1)})
	}
	for s := range cfg.Services {
		e.seen[s].by = make([]float64, len(cfg.Entries))
		e.learned = append(e.learned, make([]float64, len(cfg.Entries)))
		e.capacity = append(e.capacity, math.Inf(1))
	}
	return e
}

func (e *entryLoop) door(service int, s subject) subject {
	return &entryDoor{subject: s, loop: e, service: service}
}

func (e *entryLoop) way(link models.Link, c models.Caller) models.Caller {
	if link.From == models.Clients {
		return c
	}
	return entryWay{observed{c}, &e.seen[link.To]}
}

// admit asks the bucket of the API where a request enters, and then the guard.
func (e *entryLoop) admit(now time.Duration, service int, s subject, r models.Request) models.Verdict {
	entry, enters := e.entries[[2]int{service, r.Route}]
	if enters {
		for len(e.api) <= int(r.ID) {
			e.api = append(e.api, -1)
		}
		e.api[r.ID] = entry
		e.offered[entry]++
		if !e.buckets[entry].take(now) {
			return models.RefusedByRate
		}
		e.admitted[entry]++
	}
	count := &e.seen[service]
	count.offered++
	if a := e.api[r.ID]; a >= 0 {
		count.by[a]++
	}
	verdict := s.Admit(now, r)
	if verdict == models.Refused || verdict == models.RefusedByRate {
		count.refused++
	}
	return verdict
}

func (e *entryLoop) step(now time.Duration) {
	period := e.run.Timing.Period.Seconds()
	calm := true
	for s := range e.seen {
		c := &e.seen[s]
		switch served := c.completed / period; {
		case c.refused <= entryFull*c.offered:
			e.capacity[s] *= 1 + entryGrowth
		case math.IsInf(e.capacity[s], 1):
			e.capacity[s] = served
		default:
			e.capacity[s] += entryFollow * (served - e.capacity[s])
		}
		calm = calm && c.refused == 0
	}
	for a := range e.offered {
		if calm {
			e.requests[a] += e.admitted[a]
		}
		e.offered[a] /= period
	}
	for s := range e.seen {
		for a, n := range e.seen[s].by {
			if calm {
				e.learned[s][a] += n
			}
		}
		clear(e.seen[s].by)
		e.seen[s] = serviceCount{by: e.seen[s].by}
	}
	rates := e.rates()
	clear(e.offered)
	clear(e.admitted)
	e.clock().At(now+e.run.Timing.PublishDelay, func(now time.Duration) {
		for a := range e.buckets {
			e.buckets[a].set(now, rates[a])
		}
	})
}

// rates is the max-min fair solution, by filling: the rates of all APIs rise together; one stops at what it offers, and
// at the first full service that it calls. An API that gets all that it offers has no rate limit.
func (e *entryLoop) rates() (rates []float64) {
	room := make([]float64, len(e.capacity))
	for s, c := range e.capacity {
		room[s] = max(entryUse*c, 1) // never 0, so that it is found again
	}
	rates = make([]float64, len(e.offered))
	rising := make([]bool, len(rates))
	for a := range rising {
		rising[a] = true
	}
	for level, left := 0.0, len(rates); left > 0; {
		next := math.Inf(1) // the level at which one stops
		full := -1          // because of this service
		for a := range rates {
			if rising[a] {
				next = min(next, e.offered[a])
			}
		}
		for s := range room {
			slope := 0.0
			for a := range rates {
				if rising[a] {
					slope += e.calls(s, a)
				}
			}
			if at := level + max(0, room[s])/slope; at < next { // a slope of 0 gives +Inf or NaN
				next, full = at, s
			}
		}
		for a := range rates {
			if !rising[a] {
				continue
			}
			for s := range room {
				room[s] -= (next - level) * e.calls(s, a)
			}
			switch {
			case full < 0 && e.offered[a] <= next:
				rates[a] = math.Inf(1)
			case full >= 0 && e.calls(full, a) > 0:
				rates[a] = next
			default:
				continue
			}
			rising[a] = false
			left--
		}
		level = next
	}
	return rates
}

// calls is how many calls a request of an API makes of a service.
func (e *entryLoop) calls(service, entry int) float64 {
	if e.requests[entry] == 0 {
		return 0
	}
	return e.learned[service][entry] / e.requests[entry]
}

func (b *entryBucket) set(now time.Duration, rate float64) {
	b.refill(now)
	if math.IsInf(b.rate, 1) {
		b.tokens = 1
	}
	b.rate = rate
}

func (b *entryBucket) refill(now time.Duration) {
	b.tokens = min(b.tokens+b.rate*(now-b.at).Seconds(), max(1, b.rate*entryBurst))
	b.at = now
}

func (b *entryBucket) take(now time.Duration) bool {
	if math.IsInf(b.rate, 1) {
		return true
	}
	b.refill(now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// entryDoor counts what passes the door of an instance.
type entryDoor struct {
	subject
	loop    *entryLoop
	service int
}

func (d *entryDoor) Admit(now time.Duration, r models.Request) models.Verdict {
	return d.loop.admit(now, d.service, d.subject, r)
}

func (d *entryDoor) Done(now time.Duration, r models.Request, o models.Outcome) {
	if o != models.TimedOut {
		d.loop.seen[d.service].completed++
	}
	d.subject.Done(now, r, o)
}

// NoRetry implements models.Hinter.
func (d *entryDoor) NoRetry(now time.Duration) bool {
	h, ok := d.subject.(models.Hinter)
	return ok && h.NoRetry(now)
}

// Excused implements models.Excuser.
func (d *entryDoor) Excused() bool {
	x, ok := d.subject.(models.Excuser)
	return ok && x.Excused()
}

// entryWay counts the calls that do not reach the door of the callee.
type entryWay struct {
	observed
	callee *serviceCount
}

// Try implements models.Caller.
func (w entryWay) Try(now time.Duration, c models.Call, instance int) models.Clearance {
	clearance := w.Caller.Try(now, c, instance)
	if clearance == models.Barred {
		w.callee.offered++
		w.callee.refused++
	}
	return clearance
}

// Done implements models.Caller.
func (w entryWay) Done(now time.Duration, c models.Call, instance int, a models.Answer) {
	switch a.Outcome {
	case models.Unreachable:
		w.callee.offered++
		w.callee.refused++
	case models.Expired:
		w.callee.refused++
	}
	w.Caller.Done(now, c, instance, a)
}

// observed is a Caller that an experiment watches. It steers as the Caller does.
type observed struct{ models.Caller }

// Instance implements models.Steerer.
func (o observed) Instance(c models.Call) int {
	if s, ok := o.Caller.(models.Steerer); ok {
		return s.Instance(c)
	}
	return -1
}

// Standing implements models.Steerer.
func (o observed) Standing(c models.Call) models.Standing {
	if s, ok := o.Caller.(models.Steerer); ok {
		return s.Standing(c)
	}
	return models.Standing{}
}
