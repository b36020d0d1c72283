package models

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Config describes a run of a plant.
type Config struct {
	ServiceTime   time.Duration // mean of the exponential service time at Slowdown 1
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
	// Stages are the conditions of the service over time, in order; the first starts at 0.
	Stages []Stage
	Seed   uint64
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

// Plant is one instance of a service: a FIFO queue in front of a number of equal servers.
type Plant struct {
	cfg      Config
	admitter Admitter
	now      time.Duration

	stage    Stage
	busy     int
	queue    queue
	events   eventHeap
	requests []inFlight // by slot
	free     []int32    // slots
	inFlight int        // slots of admitted requests; other slots are free, or wait to retry
	attempts uint64
	patience patience
	// rejectDebt is server time owed for refusals. The next request that starts pays it: with all servers busy a
	// refusal takes time from one of them, and for the throughput it does not matter which.
	rejectDebt time.Duration

	nextArrival time.Duration
	lastID      uint64
	arrivals    *rand.Rand
	services    *rand.Rand
	depends     *rand.Rand
	classes     *rand.Rand
	waits       *rand.Rand

	timers   []timer
	counters counters
	score    *Score
}

type inFlight struct {
	request Request
	work    float64 // service time in units of its mean
	dep     float64 // uniform draw: a value below the share calls the dependency
	attempt uint64  // number among all attempts; 0: the request is not in the plant
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

// New returns a plant at time 0 behind admitter. It panics if the Config makes no sense: configs are written by hand,
// in Go.
func New(cfg Config, admitter Admitter, score *Score) *Plant {
	var sum float64
	for _, share := range cfg.Mix {
		sum += share
	}
	switch {
	case cfg.ServiceTime <= 0:
		panic("models: ServiceTime must be positive")
	case math.Abs(sum-1) > 1e-9:
		panic(fmt.Sprintf("models: Mix sums to %v, want 1", sum))
	case len(cfg.Stages) == 0 || cfg.Stages[0].From != 0:
		panic("models: the first Stage must start at 0")
	case cfg.Load.Rate == nil || cfg.Load.Peak <= 0:
		panic("models: Load needs a Rate and a positive Peak")
	}
	p := &Plant{cfg: cfg, admitter: admitter, score: score}
	// Each kind of draw has its own stream, and every arrival draws from all of them whether it is admitted or not, so
	// the cost of a request depends only on its number.
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(cfg.Seed, n)) }
	p.arrivals, p.services, p.depends, p.classes = stream(1), stream(2), stream(3), stream(4)
	p.waits = stream(6)
	p.counters.buckets = make([]float64, len(cfg.LatencyEdges)+1)
	for _, s := range cfg.Stages {
		if s.Servers < 0 || s.Slowdown <= 0 {
			panic(fmt.Sprintf("models: Stage %+v: Servers must not be negative and Slowdown must be positive", s))
		}
		p.At(s.From, func(time.Duration) { p.enter(s) })
	}
	p.drawArrival()
	return p
}

// Now is the simulated time.
func (p *Plant) Now() time.Duration { return p.now }

// InFlight is how many requests are in the plant: queued, served or waiting for a dependency.
func (p *Plant) InFlight() int { return p.inFlight }

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
func (p *Plant) enter(s Stage) {
	p.stage = s
	for p.busy < s.Servers && p.queue.len() > 0 {
		p.start(p.queue.pop())
	}
}

func (p *Plant) drawArrival() {
	at := p.nextArrival
	for {
		at += time.Duration(p.arrivals.ExpFloat64() / p.cfg.Load.Peak * float64(time.Second))
		if rate := p.cfg.Load.Rate(at); rate >= p.cfg.Load.Peak || p.arrivals.Float64()*p.cfg.Load.Peak < rate {
			p.nextArrival = at
			return
		}
	}
}

func (p *Plant) arrive() {
	slot := p.takeSlot()
	p.lastID++
	class := p.drawClass()
	p.requests[slot] = inFlight{
		request: Request{ID: p.lastID, Criticality: class, Arrived: p.now, Slot: int(slot)},
		work:    p.services.ExpFloat64(),
		dep:     p.depends.Float64(),
	}
	p.drawArrival()
	p.score.arrived(p.now, class)
	p.attempt(slot)
}

// attempt sends the request in slot to the service.
func (p *Plant) attempt(slot int32) {
	in := &p.requests[slot]
	in.request.Sent = p.now
	class := in.request.Criticality
	verdict := p.admitter.Admit(p.now, in.request)
	p.counters.offered[class]++
	p.score.attempted(in.request, verdict)
	switch verdict {
	case Admitted:
	case RefusedByRate:
		p.counters.refusedByRate++
		p.refuse(slot)
		return
	default:
		p.counters.refused[class]++
		p.refuse(slot)
		return
	}
	p.counters.admitted[class]++
	p.inFlight++
	p.attempts++
	in.attempt = p.attempts
	if p.cfg.Retries > 0 {
		p.patience.push(waiter{at: p.now + p.cfg.ClientTimeout + 1, attempt: in.attempt, slot: slot})
	}
	if p.busy < p.stage.Servers {
		p.start(slot)
	} else {
		p.queue.push(slot)
	}
}

func (p *Plant) refuse(slot int32) {
	if p.busy >= p.stage.Servers {
		p.rejectDebt += p.cfg.RejectCost
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

func (p *Plant) drawClass() int {
	u := p.classes.Float64()
	mix := p.cfg.Mix
	if p.cfg.Load.Mix != nil {
		mix = p.cfg.Load.Mix(p.now)
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

func (p *Plant) start(slot int32) {
	p.busy++
	if p.cfg.CancelPassedOn && p.cfg.ClientTimeout > 0 && p.now-p.requests[slot].request.Sent > p.cfg.ClientTimeout {
		p.events.push(event{at: p.now, slot: slot, kind: dropped})
		return
	}
	d := time.Duration(p.requests[slot].work*p.stage.Slowdown*float64(p.cfg.ServiceTime)) + p.rejectDebt
	p.rejectDebt = 0
	p.events.push(event{at: p.now + d, slot: slot, kind: served})
}

func (p *Plant) advance(e event) {
	switch e.kind {
	case again:
		p.attempt(e.slot)
		return
	case served, dropped:
		p.busy--
		if p.busy < p.stage.Servers && p.queue.len() > 0 {
			p.start(p.queue.pop())
		}
		if e.kind == served && p.requests[e.slot].dep < p.stage.DependencyShare {
			p.events.push(event{at: p.now + p.stage.DependencyDelay, slot: e.slot, kind: answered})
			return
		}
	}
	p.finish(e.slot)
}

func (p *Plant) finish(slot int32) {
	r := p.requests[slot].request
	p.requests[slot].attempt = 0
	p.free = append(p.free, slot)
	p.inFlight--
	latency := p.now - r.Sent
	outcome := OK
	if p.cfg.ClientTimeout > 0 && latency > p.cfg.ClientTimeout {
		outcome = TimedOut
	}
	p.counters.complete(latency, p.cfg.LatencyEdges)
	p.score.finished(p.now, r, outcome)
	p.admitter.Done(p.now, r, outcome)
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
