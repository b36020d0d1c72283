package models

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Config describes a run of a plant.
type Config struct {
	ServiceTime   time.Duration // mean service time at Slowdown 1
	Law           Law           // of the service time
	ClientTimeout time.Duration // a client gives up after this; its request stays in the plant. 0: never
	// Retries is the maximum number of times a client tries again after a refusal or a timeout. Before the n-th retry
	// it waits for a time drawn from 0 to RetryWait·2ⁿ⁻¹ (full jitter). All attempts of a request have the same
	// service time and criticality.
	Retries   int
	RetryWait time.Duration
	// CancelPassedOn says that the service learns when clients give up: their requests leave the queue unserved.
	CancelPassedOn bool
	RejectCost     time.Duration // server time that one refusal costs
	Load           Load
	// Mix is the share of arrivals by criticality; it must sum to 1.
	Mix [Classes]float64
	// Routes are the kinds of request where there are several. They replace Load, ServiceTime and Law.
	Routes []Route
	// Stages are the conditions of the service over time, in order; the first starts at 0.
	Stages []Stage
	// Instances are the copies of the service over time; nil: one, from start to end.
	Instances []Instance
	Balancer  Balancer
	Seed      uint64
	// LatencyEdges are the upper bounds of the latency histogram that a scrape sees, in ascending order, without +Inf.
	LatencyEdges []time.Duration
	// Compartments have Telemetry of their own; that of the service is about the requests on none of their routes. The Admitter
	// reports each of them.
	Compartments []Compartment
}

// Stage is the condition of the service from an instant onward.
type Stage struct {
	From time.Duration
	// Servers is how many requests are served at once. Servers that are lost finish their current request.
	Servers int
	// Slowdown multiplies the service time of requests that start from now on: 1 is normal, 5 is five times slower.
	Slowdown float64
	// With probability DependencyShare a request waits DependencyDelay for a dependency after its service. It stays in
	// flight for that time, but occupies no server.
	DependencyDelay time.Duration
	DependencyShare float64
	// Absence is how the instance treats those who call it. What it has in flight it finishes. Only a Graph has it.
	Absence Absence
}

// Absence is how an instance that is away treats those who call it.
type Absence int

// The ways to be away.
const (
	Present Absence = iota
	RefusesConnections
	NeverAnswers
)

// Plant is a service: one or several instances behind a balancer, each a FIFO queue in front of a number of equal
// servers.
type Plant struct {
	schedule
	pool
	source
	cfg Config

	requests []inFlight // by slot
	free     []int32    // slots
	attempts uint64
	patience patience

	services *rand.Rand
	depends  *rand.Rand
	waits    *rand.Rand

	score *Score
}

type inFlight struct {
	request Request
	work    float64 // service time in units of its mean
	dep     float64 // uniform draw: a value below the share calls the dependency
	attempt uint64  // number among all attempts; 0: the request is not in the plant
	at      int32   // index of the instance that has it
	aside   bool    // admitted Aside
}

// New returns a plant at time 0 whose only instance is behind admitter. It panics if the Config makes no sense.
func New(cfg Config, admitter Admitter, score *Score) *Plant {
	if len(cfg.Instances) > 1 {
		panic("models: several instances need NewFleet, for each has an Admitter of its own")
	}
	return NewFleet(cfg, func(time.Duration, int) Admitter { return admitter }, score)
}

// NewFleet returns a plant of several instances at time 0. start is asked for the Admitter of an instance, by its index in
// cfg.Instances, when it comes up: for those that are there from the start, before NewFleet returns. It panics as New
// does.
func NewFleet(cfg Config, start func(now time.Duration, instance int) Admitter, score *Score) *Plant {
	p := &Plant{cfg: cfg, score: score}
	routes := routesOf(cfg)
	cfg.mustBePresent()
	score.judge(routes)
	// Each kind of draw has its own stream, and every arrival draws from all of them whether it is admitted or not, so
	// the cost of a request depends only on its number. Stream 5 belongs to the simulator, for the scrape offsets.
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(cfg.Seed, n)) }
	p.services, p.depends, p.waits = stream(2), stream(3), stream(6)
	p.pool = newPool(cfg.Instances, cfg.Stages, balancer{kind: cfg.Balancer, draws: stream(8)}, partitionOf(cfg, len(routes)))
	p.pool.begin(&p.schedule, start, p.serve)
	p.source = newSource(routes, cfg.Mix, stream)
	return p
}

// mustBePresent panics if a Stage has an Absence, for nobody would notice that it is ignored.
func (cfg Config) mustBePresent() {
	stages := cfg.Stages
	for _, in := range cfg.Instances {
		stages = append(slices.Clip(stages), in.Stages...)
	}
	for _, s := range stages {
		if s.Absence != Present {
			panic("models: a Stage with an Absence needs a Graph")
		}
	}
}

// Run advances the plant up to but not including the instant until.
func (p *Plant) Run(until time.Duration) { p.run(until, p, &p.source) }

func (p *Plant) gone() time.Duration { return p.patience.next() }

// serve lets free servers start on the queue.
func (p *Plant) serve(in *instance) {
	for in.idle() && in.queue.len() > 0 {
		p.start(in, in.queue.pop())
	}
}

func (p *Plant) arrive() {
	slot := p.takeSlot()
	r := p.take()
	r.Slot = int(slot)
	p.requests[slot] = inFlight{
		request: r,
		work:    p.routes[r.Route].Law.unit(p.services),
		dep:     p.depends.Float64(),
	}
	p.score.arrived(p.now, r.Criticality, r.Route)
	p.attempt(slot)
}

// attempt sends the request in slot to an instance.
func (p *Plant) attempt(slot int32) {
	r := &p.requests[slot]
	r.request.Sent = p.now
	if r.at = p.balancer.pick(p.instances); r.at < 0 { // nobody is there
		p.score.attempted(r.request, Refused)
		p.retry(slot)
		return
	}
	in := p.instances[r.at]
	verdict := in.admit(p.now, r.request)
	r.aside = verdict == Aside
	p.score.attempted(r.request, verdict)
	if verdict != Admitted && verdict != Aside {
		in.charge(p.cfg.RejectCost)
		p.retry(slot)
		return
	}
	p.attempts++
	r.attempt = p.attempts
	if p.cfg.Retries > 0 {
		p.patience.push(waiter{at: p.now + p.cfg.ClientTimeout + 1, attempt: r.attempt, slot: slot})
	}
	route := &p.routes[r.request.Route]
	switch {
	case route.ServiceTime == 0:
		p.events.push(event{at: p.now + route.Hold, slot: slot, kind: answered})
	case in.idle():
		p.start(in, slot)
	default:
		in.queue.push(slot)
	}
}

// giveUp ends a client's wait. Its request stays in the plant, and the client may send it again.
func (p *Plant) giveUp() {
	w := p.patience.pop()
	if p.requests[w.slot].attempt != w.attempt {
		return // answered in time
	}
	slot := p.takeSlot()
	p.requests[slot] = p.requests[w.slot]
	p.requests[slot].request.Slot = int(slot)
	p.retry(slot)
}

// retry lets the client of the request in slot wait and try again, or frees the slot if no attempts are left.
func (p *Plant) retry(slot int32) {
	in := &p.requests[slot]
	in.attempt = 0
	if in.request.Attempt >= p.cfg.Retries {
		p.free = append(p.free, slot)
		return
	}
	wait := time.Duration(p.waits.Float64() * float64(p.cfg.RetryWait<<in.request.Attempt))
	in.request.Attempt++
	p.events.push(event{at: p.now + wait, slot: slot, kind: again})
}

func (p *Plant) takeSlot() int32 {
	if n := len(p.free); n > 0 {
		slot := p.free[n-1]
		p.free = p.free[:n-1]
		return slot
	}
	p.requests = append(p.requests, inFlight{})
	return int32(len(p.requests) - 1)
}

// timeout is how long the clients of a route wait, 0: forever.
func (p *Plant) timeout(route *Route) time.Duration {
	if p.cfg.ClientTimeout == 0 {
		return 0
	}
	return max(p.cfg.ClientTimeout, route.Deadline)
}

func (p *Plant) start(in *instance, slot int32) {
	in.busy++
	r := &p.requests[slot]
	route := &p.routes[r.request.Route]
	if timeout := p.timeout(route); p.cfg.CancelPassedOn && timeout > 0 && p.now-r.request.Sent > timeout {
		p.events.push(event{at: p.now, slot: slot, kind: dropped})
		return
	}
	p.events.push(event{at: p.now + in.serviceTime(r.work, route.ServiceTime), slot: slot, kind: served})
}

func (p *Plant) advance(e event) {
	switch e.kind {
	case again:
		p.attempt(e.slot)
		return
	case served, dropped:
		r := &p.requests[e.slot]
		in := p.instances[r.at]
		in.busy--
		p.serve(in)
		if e.kind == dropped {
			break
		}
		away := p.routes[r.request.Route].Hold
		if r.dep < in.stage.DependencyShare {
			away += in.stage.DependencyDelay
		}
		if away > 0 {
			p.events.push(event{at: p.now + away, slot: e.slot, kind: answered})
			return
		}
	}
	p.finish(e.slot)
}

func (p *Plant) finish(slot int32) {
	done := &p.requests[slot]
	r, aside, in := done.request, done.aside, p.instances[done.at]
	done.attempt = 0
	p.free = append(p.free, slot)
	latency := p.now - r.Sent
	outcome := OK
	if timeout := p.timeout(&p.routes[r.Route]); timeout > 0 && latency > timeout {
		outcome = TimedOut
	}
	p.score.finished(p.now, r, outcome)
	in.admitter.Done(p.now, r, outcome)
	if !aside {
		in.leave(r.Route, latency, excused(in.admitter))
	}
}
