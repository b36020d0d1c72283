package guard

import (
	"context"
	"time"
)

// Observer hears what a guard decides, with the context that it decides in, for example to put it into a trace: see package
// guardotel. Its methods run on the way of each request, so they have to be quick, and must be safe for concurrent use. They
// may not admit or release anything. What is told the time, by methods that end in At, is not observed.
type Observer interface {
	// Arrived is called when a request has been admitted or refused.
	Arrived(ctx context.Context, d Decision)
	// Finished is called when an admitted request ends whose latency counts and whose context is known to the guard (see
	// NewContext), with the context that it had before that, and the service or SERVICE/ROUTE that it counts for.
	Finished(ctx context.Context, service string, took time.Duration)
	// Called is called when an attempt of a call to a dependency has been admitted or refused.
	Called(ctx context.Context, d CallDecision)
}

// Decision is what a guard has decided about a request, and the state just after that.
type Decision struct {
	Service         string  // or SERVICE/ROUTE
	Arrival         Arrival // what the request brought along
	Err             error   // a *Refusal; nil: admitted
	InFlight, Limit int     // requests, as from Guard.Load: under the roof and its limit, if there are routes
	ShedThreshold   float64 // φ, 0..1
}

// CallDecision is what a guard has decided about an attempt of a call, and the state of the bulkhead just after that.
type CallDecision struct {
	Service, To     string // the caller, and the dependency
	Instance        string // "": not known
	Attempt         int    // that is sent, or would have been: 1 for the first
	Err             error  // a *CallRefusal; nil: admitted
	InFlight, Limit int    // calls to the dependency
}

// observe tells the observer, if there is one, that a request has been admitted, or refused with err.
func (g *Guard) observe(ctx context.Context, a *Arrival, err error) {
	if g.cfg.Observer == nil {
		return
	}
	d := Decision{Service: g.cfg.Service, Arrival: *a, Err: err, ShedThreshold: g.shed.threshold()}
	d.InFlight, d.Limit = g.Load()
	g.cfg.Observer.Arrived(ctx, d)
}

func (c *Call) decision(instance string, err error) CallDecision {
	d := CallDecision{Service: c.d.caller.cfg.Service, To: c.d.name, Instance: instance, Attempt: c.attempts, Err: err}
	if err != nil {
		d.Attempt++
	}
	d.InFlight, d.Limit = c.d.pool.Load()
	return d
}

// observed returns the context of the request of that use of the ticket, if somebody wants to know about its end.
func (t *ticket) observed(use uint64) context.Context {
	if t.guard.cfg.Observer == nil {
		return nil
	}
	if r := t.work.Load(); r != nil && r.use == use {
		return r.Context
	}
	return nil
}
