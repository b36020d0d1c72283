package models

import (
	"math"
	"math/rand/v2"
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
}

// Plant is a service: one or several instances behind a balancer, each a FIFO queue in front of a number of equal
// servers.
type Plant struct {
	cfg    Config
	routes []Route
	load   Load // of all routes
	now    time.Duration

	instances []*instance
	balancer  balancer
	events    eventHeap
	requests  []inFlight // by slot
	free      []int32    // slots
	attempts  uint64
	patience  patience

	nextArrival time.Duration
	lastID      uint64
	arrivals    *rand.Rand
	services    *rand.Rand
	depends     *rand.Rand
	classes     *rand.Rand
	waits       *rand.Rand
	kinds       *rand.Rand

	timers []timer
	score  *Score
}

type inFlight struct {
	request Request
	work    float64 // service time in units of its mean
	dep     float64 // uniform draw: a value below the share calls the dependency
	attempt uint64  // number among all attempts; 0: the request is not in the plant
	at      int32   // index of the instance that has it
	aside   bool    // admitted Aside
}

// patience holds the instants at which clients give up. All clients are equally patient, so it is a queue.
type patience struct {
	waiting []waiter
	head    int
}

type waiter struct {
	at      time.Duration
	attempt uint64
	slot    int32
}

// next is when the next client gives up, if its request is still there.
func (p *patience) next() time.Duration {
	if p.head == len(p.waiting) {
		return math.MaxInt64
	}
	return p.waiting[p.head].at
}

func (p *patience) push(w waiter) {
	if p.head == len(p.waiting) {
		p.waiting, p.head = p.waiting[:0], 0
	}
	p.waiting = append(p.waiting, w)
}

func (p *patience) pop() waiter {
	w := p.waiting[p.head]
	if p.head++; p.head > 4096 && 2*p.head > len(p.waiting) {
		p.waiting = append(p.waiting[:0], p.waiting[p.head:]...)
		p.head = 0
	}
	return w
}

type timer struct {
	at     time.Duration
	period time.Duration // 0: once
	run    func(now time.Duration)
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
	p := &Plant{cfg: cfg, routes: routesOf(cfg), score: score}
	p.load = merged(p.routes)
	score.judge(p.routes)
	// Each kind of draw has its own stream, and every arrival draws from all of them whether it is admitted or not, so
	// the cost of a request depends only on its number. Stream 5 belongs to the simulator, for the scrape offsets.
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(cfg.Seed, n)) }
	p.arrivals, p.services, p.depends, p.classes = stream(1), stream(2), stream(3), stream(4)
	p.waits, p.kinds = stream(6), stream(7)
	p.balancer = balancer{kind: cfg.Balancer, draws: stream(8)}
	p.populate(start)
	p.drawArrival()
	return p
}

// InFlight is how many requests are in the plant: queued, served or waiting for a dependency.
func (p *Plant) InFlight() (n int) {
	for _, in := range p.instances {
		n += in.inFlight
	}
	return n
}

// At runs f once at the instant at. Timers due at the same instant run in the order in which they were added, before
// anything happens to requests.
func (p *Plant) At(at time.Duration, f func(now time.Duration)) {
	p.timers = append(p.timers, timer{at: at, run: f})
}

// Every runs f first at first and then once per period.
func (p *Plant) Every(first, period time.Duration, f func(now time.Duration)) {
	if period <= 0 {
		panic("models: a period must be positive")
	}
	p.timers = append(p.timers, timer{at: first, period: period, run: f})
}

// Run advances the plant up to but not including the instant until.
func (p *Plant) Run(until time.Duration) {
	due := p.nextTimer()
	for {
		// The next of: timer, completion, client that gives up, arrival; ties in this order.
		next := min(p.nextArrival, p.patience.next(), until)
		if len(p.events) > 0 {
			next = min(next, p.events[0].at)
		}
		switch {
		case due >= 0 && p.timers[due].at <= next && p.timers[due].at < until:
			p.fire(due)
			due = p.nextTimer()
		case next >= until:
			p.now = until
			return
		case len(p.events) > 0 && p.events[0].at == next:
			e := p.events.pop()
			p.now = e.at
			p.advance(e)
		case p.patience.next() == next:
			p.now = next
			p.giveUp(p.patience.pop())
		default:
			p.now = next
			p.arrive()
		}
	}
}

// nextTimer returns the index of the timer that is due first, -1 if there is none. A run has only a few timers and
// calls this only when one has fired.
func (p *Plant) nextTimer() int {
	due := -1
	for i, t := range p.timers {
		if due < 0 || t.at < p.timers[due].at {
			due = i
		}
	}
	return due
}

func (p *Plant) fire(i int) {
	t := p.timers[i]
	p.now = t.at
	if t.period > 0 {
		p.timers[i].at += t.period
	} else {
		p.timers = append(p.timers[:i], p.timers[i+1:]...)
	}
	t.run(p.now)
}

// enter puts a stage in force. Free servers start on the queue at once.
func (p *Plant) enter(in *instance, s Stage) {
	in.stage = s
	p.serve(in)
}

// serve lets free servers start on the queue.
func (p *Plant) serve(in *instance) {
	for in.busy < in.stage.Servers && in.queue.len() > 0 {
		p.start(in, in.queue.pop())
	}
}

func (p *Plant) drawArrival() {
	at := p.nextArrival
	for {
		at += time.Duration(p.arrivals.ExpFloat64() / p.load.Peak * float64(time.Second))
		if rate := p.load.Rate(at); rate >= p.load.Peak || p.arrivals.Float64()*p.load.Peak < rate {
			p.nextArrival = at
			return
		}
	}
}

func (p *Plant) arrive() {
	slot := p.takeSlot()
	p.lastID++
	kind := p.drawRoute()
	route := &p.routes[kind]
	class := p.drawClass(route)
	p.requests[slot] = inFlight{
		request: Request{
			ID: p.lastID, Criticality: class, Route: kind, Endless: route.Endless, Arrived: p.now, Slot: int(slot),
		},
		work: route.Law.unit(p.services),
		dep:  p.depends.Float64(),
	}
	p.drawArrival()
	p.score.arrived(p.now, class, kind)
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
	class := r.request.Criticality
	verdict := in.admitter.Admit(p.now, r.request)
	r.aside = verdict == Aside
	if !r.aside {
		in.counters.offered[class]++
	}
	p.score.attempted(r.request, verdict)
	switch verdict {
	case Aside:
	case Admitted:
		in.counters.admitted[class]++
		in.inFlight++
	case RefusedByRate:
		in.counters.refusedByRate++
		p.refuse(in, slot)
		return
	default:
		in.counters.refused[class]++
		p.refuse(in, slot)
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
	case in.busy < in.stage.Servers:
		p.start(in, slot)
	default:
		in.queue.push(slot)
	}
}

func (p *Plant) refuse(in *instance, slot int32) {
	if in.busy >= in.stage.Servers {
		in.rejectDebt += p.cfg.RejectCost
	}
	p.retry(slot)
}

// giveUp ends a client's wait. Its request stays in the plant, and the client may send it again.
func (p *Plant) giveUp(w waiter) {
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

// drawRoute says which route an arrival takes, in proportion to their rates at the instant.
func (p *Plant) drawRoute() int {
	if len(p.routes) == 1 {
		return 0
	}
	u := p.kinds.Float64() * p.load.Rate(p.now)
	for i, r := range p.routes {
		if u -= r.Load.Rate(p.now); u < 0 {
			return i
		}
	}
	return len(p.routes) - 1
}

func (p *Plant) drawClass(route *Route) int {
	u := p.classes.Float64()
	mix := route.mix(p.cfg.Mix)
	if route.Load.Mix != nil {
		mix = route.Load.Mix(p.now)
	}
	for class, share := range mix {
		if u < share {
			return class
		}
		u -= share
	}
	return Classes - 1
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
	d := time.Duration(r.work*in.stage.Slowdown*float64(route.ServiceTime)) + in.rejectDebt
	in.rejectDebt = 0
	p.events.push(event{at: p.now + d, slot: slot, kind: served})
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
	if !aside {
		in.inFlight--
		in.counters.complete(latency, p.cfg.LatencyEdges)
	}
	p.score.finished(p.now, r, outcome)
	in.admitter.Done(p.now, r, outcome)
}

// queue is a FIFO of slots on a ring that grows.
type queue struct {
	ring  []int32
	head  int
	count int
}

func (q *queue) len() int { return q.count }

func (q *queue) push(slot int32) {
	if q.count == len(q.ring) {
		grown := make([]int32, max(64, 2*len(q.ring)))
		n := copy(grown, q.ring[q.head:])
		copy(grown[n:], q.ring[:q.head])
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.count)&(len(q.ring)-1)] = slot
	q.count++
}

func (q *queue) pop() int32 {
	slot := q.ring[q.head]
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.count--
	return slot
}
