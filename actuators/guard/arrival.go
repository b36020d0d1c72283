package guard

import (
	"context"
	"time"
)

// Arrival is what a request brings along from its caller. Whoever chooses it can choose to be refused last, so it must come
// from a caller that is trusted.
type Arrival struct {
	Criticality Criticality // its zero value is Critical; a request that says nothing is Default
	Key         string      // user or tenant; "": none
	// Route is what is asked for, of this service; "": not known. It should be one of few, so not a path with an account in it.
	Route string
	// Entry is the API through which the request for which this one is made entered the fleet; "": this is the entry, and
	// its name from here on is that of the service and the Route.
	Entry string
	Rank  Rank // the zero value: it is drawn here
	// Early is how many calls of the same Entry the caller has refused in place of this service since the last that it sent.
	Early uint32
}

// Admit is Acquire for a request that brings more along than its criticality. It may also refuse it with ErrCallee.
func (g *Guard) Admit(ctx context.Context, a Arrival) (Permit, error) {
	return g.admitOrEnd(ctx, &a)
}

// admitOrEnd admits a, unless ctx has ended.
func (g *Guard) admitOrEnd(ctx context.Context, a *Arrival) (Permit, error) {
	if err := ctx.Err(); err != nil {
		return Permit{}, err
	}
	g = g.compartmentOf(a.Route)
	a.Criticality = a.Criticality.valid()
	p, err := g.arrive(a)
	g.observe(ctx, a, err)
	return p, err
}

// read notes whether a says where the request stands among others, and corrects what cannot be.
func (g *Guard) read(a *Arrival) {
	if a.Rank.Drawn || a.Key != "" {
		g.noteRank()
	}
	if a.Rank.ID == 0 {
		a.Rank.Group = 0 // whose it is
	}
}

func (g *Guard) arrive(a *Arrival) (Permit, error) {
	if g.crowded.Load() && a.Early == 0 && !g.shares.active() { // a refusal hardly ever reads the clock
		g.read(a)
		if v := g.glance(a); v != entered {
			if parties := g.cfg.partiesOf(a); parties.some() {
				g.shares.refuse(parties, a.Criticality)
			}
			policy, err := v.refusal()
			if g.count.refuse(a.Criticality, policy)%refusalsPerLook == 0 {
				g.tick(g.now())
			}
			return Permit{}, err
		}
		now := g.now()
		g.tick(now)
		return g.decide(now, a)
	}
	return g.acquire(g.now(), a)
}

// glance says whether the gate would refuse a request now, while no API or tenant is demoted. It draws the rank where that
// decides.
func (g *Guard) glance(a *Arrival) verdict {
	if v := g.gate.look(); v != entered {
		return v
	}
	plan := g.shed.plan.Load()
	if plan == nil || a.Rank.Group > 1 || g.gate.lookUpTo(plan.threshold) == entered {
		return entered
	}
	a.Rank = g.drawn(a.Rank, a.Key, plan.salt)
	return g.gate.lookUpTo(plan.fill(a.Criticality, a.Rank))
}

// AdmitAt is Admit at the instant now.
func (g *Guard) AdmitAt(now time.Time, a Arrival) (Permit, error) {
	a.Criticality = a.Criticality.valid()
	return g.compartmentOf(a.Route).acquire(now.Sub(g.base), &a)
}

// OriginOf returns what all calls of the request in ctx hand on: its criticality, key, entry and place. It draws the place if
// no guard has. ok is false if ctx carries no request (see NewContext).
func OriginOf(ctx context.Context) (a Arrival, ok bool) {
	r := requestOf(ctx)
	if r == nil {
		return Arrival{Criticality: Default}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.origin(), true
}

// origin is what all calls hand on of r. The caller holds r.mu.
func (r *request) origin() Arrival {
	own := &r.arrival
	own.Entry = entryOf(own.Entry, r.guard.service.cfg.Service, own.Route)
	if !own.Rank.Drawn { // the guard had no need of it
		own.Rank = r.guard.drawn(own.Rank, own.Key, saltAt(r.guard.base.Add(r.guard.now())))
	}
	return Arrival{
		Criticality: own.Criticality, Key: own.Key, Entry: own.Entry, Rank: Rank{Place: own.Rank.Place, Drawn: true},
	}
}

// entryOf is the API of a request from this service on.
func entryOf(entry, service, route string) string {
	if entry == "" && route != "" {
		return service + route
	}
	return entry
}

// Arrival returns what the next attempt tells the callee of the request for which the call is made. ok is false if it is
// made for none, and there is nothing to tell.
func (c *Call) Arrival() (a Arrival, ok bool) {
	if c.request == nil {
		return Arrival{Criticality: Default}, false
	}
	c.request.guard.noteRank()
	a = c.request.arrivalAt(c.d, c.group)
	a.Early = c.request.route.takeEarly(c.d, a.Criticality)
	return a, true
}

// Threshold is a level in the order in which a guard admits requests: the criticality first, the place within it second. A
// guard refuses the requests whose level is below its threshold. 0 refuses nobody.
type Threshold uint64

// LevelOf returns the level of a request: at least 1, so that no request is below the threshold 0.
func LevelOf(c Criticality, r Rank) Threshold {
	return Threshold(criticalities-1-c.valid())<<32 | Threshold(max(r.Place, 1))
}

// Advice is what an answer says to its caller beside its content. The zero value says nothing.
type Advice struct {
	NoRetry    bool      // a retry is useless for now
	Background bool      // requests of the same Entry have the criticality Background here for now
	Threshold  Threshold // what is below it would be refused
}

// AdviceOf returns what the answer to the request in ctx should say. A binding leaves out NoRetry if the request succeeds.
func AdviceOf(ctx context.Context) Advice {
	r := requestOf(ctx)
	if r == nil {
		return Advice{}
	}
	return r.advice(r.guard.now())
}

// AdviceAt is AdviceOf at the instant now.
func AdviceAt(ctx context.Context, now time.Time) Advice {
	r := requestOf(ctx)
	if r == nil {
		return Advice{}
	}
	return r.advice(now.Sub(r.guard.base))
}

func (r *request) advice(now time.Duration) Advice {
	return r.guard.advice(now, r.noRetry.Load(), r.entry, r.route)
}

func (g *Guard) advice(now time.Duration, noRetry bool, entry uint64, r *route) Advice {
	return Advice{NoRetry: noRetry, Background: g.shares.entries.below(entry) > 0, Threshold: g.thresholdFor(now, entry, r)}
}

// RefusalAdvice notes that the refusal of a request is about to be answered, and returns what the answer should say: not to
// retry at all, after a second of unbroken refusing. A binding calls it once for each refusal that it answers.
func (g *Guard) RefusalAdvice(a Arrival) Advice { return g.refusalAdvice(g.now(), a) }

// RefusalAdviceAt is RefusalAdvice at the instant now.
func (g *Guard) RefusalAdviceAt(now time.Time, a Arrival) Advice {
	return g.refusalAdvice(now.Sub(g.base), a)
}

func (g *Guard) refusalAdvice(now time.Duration, a Arrival) Advice {
	g = g.compartmentOf(a.Route)
	return g.advice(now, g.hint.refused(now), g.cfg.partiesOf(&a).entry, g.routeOf(&a))
}
