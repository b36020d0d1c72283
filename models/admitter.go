// Package models holds the plants: deterministic event-queue models of a service under load, with load shapes, faults
// and the telemetry that Prometheus would have scraped from it. It knows nothing of control or guard; the caller that
// closes a loop around a plant supplies an Admitter. A Plant is one service. A Graph is several that call each other;
// its caller also supplies the Callers, the ways out of each service.
//
//	        Load (Poisson, open loop), by Route
//	             │ arrival
//	        ┌────▼─────┐
//	        │ Balancer │  deals to the instances, each of which has what follows
//	        └────┬─────┘
//	        ┌────▼─────┐ refused   ┌───────┐
//	        │ Admitter ├──────────►│ Score │  what the clients saw, exact; one for all instances
//	        └────┬─────┘           └───▲───┘
//	             │ admitted            │
//	┌────────────▼───────────┐  done   │   ┌───────────┐
//	│ queue → K servers → dep├─────────┴──►│ Telemetry │  what a scrape every S sees, late and windowed
//	└────────────────────────┘             └───────────┘
//
// Time is simulated and starts at zero. Runs with the same Config have the same arrivals, service draws and dependency
// draws whatever the Admitter does, so that contenders differ only by their decisions. Everything here runs on one
// goroutine.
package models

import "time"

// Classes is the number of criticalities.
const Classes = 4

// Request is one attempt of a client at a simulated service.
type Request struct {
	ID          uint64 // 1, 2, 3… in order of arrival; the same for all attempts
	Criticality int    // 0 = critical, 1 = default, 2 = sheddable, 3 = background
	Route       int    // index in Config.Routes; 0 where there is one only
	Tenant      int    // who sends it: 1 to the tenants of all routes; 0: a route without tenants
	Endless     bool   // declared by its route as held open by design: a stream, a long poll
	Arrived     time.Duration
	Sent        time.Duration // time of this attempt; equals Arrived for the first
	Attempt     int           // 0, 1, 2…
	Standing    Standing
	// Slot is the request's place in the plant if it is admitted: small, dense and not reused until Done. An Admitter
	// may use it as an index for what it remembers about the request.
	Slot int
}

// Verdict is an Admitter's decision about a request.
type Verdict int

// The verdicts.
const (
	Admitted         Verdict = iota
	Refused                  // too many are in flight
	RefusedByShed            // the room is kept for more important requests
	RefusedByRate            // too many arrive
	RefusedForCallee         // a service that it needs would refuse it
	RefusedByShare           // its compartment has its share of what all compartments may have in flight
	RefusedByRoof            // all compartments together have as many in flight as they may
	// Aside is admitted without a place in the limit, for a request that its service declares endless. The Telemetry
	// counts it nowhere; it takes its server time all the same.
	Aside
	verdicts = iota
)

// Outcome is how an admitted request ended.
type Outcome int

// The outcomes.
const (
	OK       Outcome = iota // finished
	Failed                  // finished with an error
	TimedOut                // finished after the client had given up
)

// Admitter decides about each arrival: it is the final control element in front of a plant. Instants are simulated time
// since the start of the run. A plant calls its Admitter from one goroutine, in order of time.
type Admitter interface {
	Admit(now time.Duration, r Request) Verdict
	Done(now time.Duration, r Request, o Outcome)
	// Report is called at every scrape.
	Report(now time.Duration) Report
}

// Adviser is an Admitter whose answers advise the caller. A Graph asks right after a refusal, and right before the Done of an
// admitted request.
type Adviser interface {
	Advise(now time.Duration, r Request, refused bool) Advice
}

func advice(a Admitter, now time.Duration, r Request, refused bool) Advice {
	if a, ok := a.(Adviser); ok {
		return a.Advise(now, r, refused)
	}
	return Advice{}
}

// Excuser is an Admitter that excuses requests which do not seem to end, as a guard does: they lose their place in the limit,
// and count in no Telemetry. A plant asks right after Done about the request that is done.
type Excuser interface {
	Excused() bool
}

// excused says whether the request whose Done was called last counts in no Telemetry.
func excused(a Admitter) bool {
	e, ok := a.(Excuser)
	return ok && e.Excused()
}

// Report is what an Admitter exposes in addition to the plant's own counters.
type Report struct {
	// Compartments are the reports of the Config's Compartments, in that order; all else is then about the requests on none of
	// their routes.
	Compartments   []Report
	Limit          float64 // the effective limit of requests in flight; +Inf: none
	ServiceTime    float64 // ŝ of a floor test in seconds, 0: none stands; NaN: no floor test runs here
	Waited         float64 // cumulative seconds that finished requests spent in calls whose time is not the service's own
	Excused        float64 // requests in flight that have no place in the limit any more; see Excuser
	BindingSeconds float64 // cumulative time spent at ≥ 85% of the limit
	Revision       float64 // of the applied Setting
	Demoted        float64 // cumulative requests above the share of their API or tenant
	ShedThreshold  float64 // occupancy above which the least important are refused; 1: nothing is shed
	// Calls are those to other services, the same ones in the same order in every Report.
	Calls []Calls
}

// Calls are what an Admitter exposes of the calls to one other service: counts since the start of the run, in a Window
// their increases.
type Calls struct {
	To                                      string
	Requests, Attempts, Retries, Failures   float64
	CalleeRefused                           float64 // attempts that the callee refused
	PastDeadline, BreakerOpen, BulkheadFull float64 // calls refused on the way out, by what refused them
	Early                                   float64 // requests refused at the door in place of the callee
	Finished, LatencySum                    float64 // attempts whose latency counts, and their latencies together in seconds
	OwnLatency                              float64 // of the callee as learned, seconds, last sample; 0: not learned
}

// counts are the fields of c that only grow.
func (c *Calls) counts() [11]*float64 {
	return [...]*float64{
		&c.Requests, &c.Attempts, &c.Retries, &c.Failures, &c.CalleeRefused, &c.PastDeadline, &c.BreakerOpen, &c.BulkheadFull,
		&c.Early, &c.Finished, &c.LatencySum,
	}
}
