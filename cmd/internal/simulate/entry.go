package simulate

import (
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/models"
)

// The tuning of the entry loop, which docs/compartments.md describes.
const (
	entryUse        = 1.05 // share of the capacity to fill; the guards refuse what is too much
	entryFull       = 0.02 // share of the calls of a service that are refused, above which it counts as full
	entryGrowth     = 0.05 // of a capacity in the first period after the service was full; doubles with each that follows
	entryGrowthMost = 0.5
	entryBurst      = 0.05 // depth of the buckets, in seconds of the rate
)

// entryLoop is the experiment of admission at the entry. Each entry API has a token bucket for the whole fleet. Every
// period, the loop sets the rates so that no service gets more calls than its capacity:
//
//	Σ callsₛₐ · rateₐ ≤ use · capacityₛ    for each service s
//
// max-min fair between the APIs. callsₛₐ is counted while no service is full. capacityₛ is the calls per second that a
// service completes while it is full. It grows while the service is not, so that it is found again.
type entryLoop struct {
	run      Run
	clock    func() clock   // of the plant, once it exists
	entries  map[[2]int]int // API by service and operation
	api      []int          // by Request.ID
	apis     []entryAPI
	services []entryService
}

// entryAPI is one kind of request that enters.
type entryAPI struct {
	offered, admitted float64 // requests in this period
	requests          float64 // admitted while no service was full, ever
	rate              float64 // per second, in force; +Inf: no limit
	tokens            float64
	at                time.Duration // of the last request
}

// entryService is what the loop knows of a service.
type entryService struct {
	offered, refused, completed float64   // calls in this period; what is completed may have failed at a callee
	calls                       []float64 // by API, in this period
	learned                     []float64 // by API, while no service was full, ever
	capacity                    float64   // calls per second; +Inf: not known
	growth                      float64   // of capacity in the next period in which the service is not full
}

func newEntryLoop(r Run, cfg models.GraphConfig, clock func() clock) *entryLoop {
	e := &entryLoop{run: r, clock: clock, entries: map[[2]int]int{}}
	for a, entry := range cfg.Entries {
		e.entries[[2]int{cfg.Links[entry.Call.Link].To, entry.Call.Operation}] = a
		e.apis = append(e.apis, entryAPI{rate: math.Inf(1)})
	}
	for range cfg.Services {
		n := len(e.apis)
		e.services = append(e.services, entryService{
			calls: make([]float64, n), learned: make([]float64, n), capacity: math.Inf(1),
		})
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
	return entryWay{observed{c}, &e.services[link.To]}
}

// admit asks the bucket of the API where a request enters, and then the guard.
func (e *entryLoop) admit(now time.Duration, service int, s subject, r models.Request) models.Verdict {
	if a, enters := e.entries[[2]int{service, r.Route}]; enters {
		for len(e.api) <= int(r.ID) {
			e.api = append(e.api, 0)
		}
		e.api[r.ID] = a
		e.apis[a].offered++
		if !e.apis[a].take(now) {
			return models.RefusedByRate
		}
		e.apis[a].admitted++
	}
	to := &e.services[service]
	to.offered++
	to.calls[e.api[r.ID]]++
	verdict := s.Admit(now, r)
	if verdict == models.Refused || verdict == models.RefusedByShed {
		to.refused++
	}
	return verdict
}

func (e *entryLoop) step(now time.Duration) {
	period := e.run.Timing.Period.Seconds()
	calm := true
	for i := range e.services {
		s := &e.services[i]
		served := s.completed / period
		if s.refused > entryFull*s.offered {
			s.capacity, s.growth = served, entryGrowth
			calm = false
		} else {
			s.capacity = max(s.capacity, served) * (1 + s.growth)
			s.growth = min(2*s.growth, entryGrowthMost)
		}
		s.offered, s.refused, s.completed = 0, 0, 0
	}
	for a := range e.apis {
		x := &e.apis[a]
		for i := range e.services {
			s := &e.services[i]
			if calm {
				s.learned[a] += s.calls[a]
			}
			s.calls[a] = 0
		}
		if calm {
			x.requests += x.admitted
		}
	}
	rates := e.rates(period)
	for a := range e.apis {
		e.apis[a].offered, e.apis[a].admitted = 0, 0
	}
	e.clock().At(now+e.run.Timing.PublishDelay, func(time.Duration) {
		for a := range e.apis {
			e.apis[a].rate = rates[a]
		}
	})
}

// rates is the max-min fair solution, by filling: the rates of all APIs rise together; one stops at what it offers, and
// at the first full service that it calls. An API that gets all that it offers has no limit.
func (e *entryLoop) rates(period float64) []float64 {
	room := make([]float64, len(e.services))
	for s := range room {
		room[s] = max(entryUse*e.services[s].capacity, 1) // at least a call per second, which shows that it is back
	}
	rates := make([]float64, len(e.apis))
	rising := make([]int, len(rates))
	for a := range rising {
		rising[a] = a
	}
	for level := 0.0; len(rising) > 0; {
		next, full := math.Inf(1), -1 // the level at which one stops, and the service because of which it does
		for _, a := range rising {
			next = min(next, e.apis[a].offered/period)
		}
		slope := make([]float64, len(room))
		for s := range room {
			for _, a := range rising {
				slope[s] += e.calls(s, a)
			}
			if at := level + max(0, room[s])/slope[s]; at < next { // without slope, +Inf or no number
				next, full = at, s
			}
		}
		for s := range room {
			room[s] -= (next - level) * slope[s]
		}
		level = next
		rising = slices.DeleteFunc(rising, func(a int) bool {
			switch {
			case full < 0 && e.apis[a].offered/period <= level:
				rates[a] = math.Inf(1)
			case full >= 0 && e.calls(full, a) > 0:
				rates[a] = level
			default:
				return false
			}
			return true
		})
	}
	return rates
}

// calls is how many calls a request of an API makes of a service; 0 until it is known.
func (e *entryLoop) calls(service, api int) float64 {
	return e.services[service].learned[api] / max(1, e.apis[api].requests)
}

// take takes a token of the bucket, if there is one.
func (x *entryAPI) take(now time.Duration) bool {
	since := now - x.at
	x.at = now
	if math.IsInf(x.rate, 1) {
		return true
	}
	x.tokens = min(max(1, x.rate*entryBurst), x.tokens+x.rate*since.Seconds())
	if x.tokens < 1 {
		return false
	}
	x.tokens--
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
		d.loop.services[d.service].completed++
	}
	d.subject.Done(now, r, o)
}

// Advise implements models.Adviser.
func (d *entryDoor) Advise(now time.Duration, r models.Request, refused bool) models.Advice {
	if a, ok := d.subject.(models.Adviser); ok {
		return a.Advise(now, r, refused)
	}
	return models.Advice{}
}

// Excused implements models.Excuser.
func (d *entryDoor) Excused() bool {
	x, ok := d.subject.(models.Excuser)
	return ok && x.Excused()
}

// entryWay counts the calls that do not reach the door of the callee.
type entryWay struct {
	observed
	callee *entryService
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
