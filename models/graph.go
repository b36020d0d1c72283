package models

import (
	"math/rand/v2"
	"time"
)

// Graph is a plant of several services that call each other. Each has what a Plant has, instances behind a balancer with
// an Admitter, a queue and servers, and in each instance a Caller for every service that it calls:
//
//	Load, by Entry ──call──► service ──► Admitter ──► queue ──► servers ──► calls, step by step ──► answer
//	                            ▲                                              │
//	                            └────────────────── Caller ◄───────────────────┘
//
// A request that waits for its calls stays in flight and occupies no server. Every draw depends only on the seed, the
// number of the request and the place of the call below it: contenders meet the same arrivals, and all attempts of a call
// need the same service time.
type Graph struct {
	schedule
	source
	cfg   GraphConfig
	pools []pool     // by service
	links []patience // who waits, by link
	ways  [][]Caller // by link and instance; one for all clients

	calls      []call
	freeCalls  []int32
	visits     []visit
	freeVisits []int32
	serial     uint64 // of the last visit or attempt

	draws *rand.Rand
	pcg   *rand.PCG
	score *Score
}

// call is the state of a Call.
type call struct {
	root     Request // of the client: ID, class, entry and arrival
	spec     CallSpec
	path     uint64 // where in the tree of its root it belongs
	parent   int32  // visit that waits for it; -1: a client
	caller   Caller
	attempts int
	attempt  uint64 // number of the attempt under way; 0: none
	visit    int32  // that attempt's, -1: none
	instance int32  // last tried
	sent     time.Duration
	deadline time.Duration
	marked   bool // the parent's request is marked
	again    bool
	marks    bool
	avoid    bool // the next attempt goes elsewhere
	backoff  bool // an event will bring it back
	group    int
	ended    bool // while in backoff: nobody waits for it any more
	started  bool // its Caller knows it
	work     float64
}

// visit is one attempt inside a service.
type visit struct {
	request  Request
	serial   uint64 // 0: the slot is free
	call     int32  // -1: whoever asked has gone
	service  int32
	instance int32
	root     Request
	path     uint64
	work     float64 // service time in units of its mean
	used     float64 // server seconds that led to its answer, its calls' included
	step     int     // the next
	children []int32 // calls of the current step that are not over
	waiting  bool    // for calls
	deadline time.Duration
	marked   bool
	again    bool
}

// Controls supplies what stands at the doors of the services. Both functions are called when an instance comes up: for
// those that are there from the start, before NewGraph returns.
type Controls struct {
	Admitter func(now time.Duration, service, instance int) Admitter
	// Caller is the way out over a link of an instance; instance is 0 for the clients.
	Caller func(now time.Duration, link, instance int) Caller
}

// NewGraph returns a graph at time 0. It panics if the GraphConfig makes no sense.
func NewGraph(cfg GraphConfig, controls Controls, score *Score) *Graph {
	cfg.check()
	g := &Graph{cfg: cfg, score: score, links: make([]patience, len(cfg.Links)), ways: make([][]Caller, len(cfg.Links))}
	g.pcg = rand.NewPCG(0, 0)
	g.draws = rand.New(g.pcg)
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(cfg.Seed, n)) }
	for i, s := range cfg.Services {
		g.pools = append(g.pools, newPool(s.Instances, s.Stages, balancer{kind: s.Balancer, draws: stream(1000 + uint64(i))},
			partition{edges: [][]time.Duration{cfg.LatencyEdges}}))
	}
	for i, l := range cfg.Links {
		if l.From == Clients {
			g.ways[i] = []Caller{controls.Caller(0, i, 0)}
		} else {
			g.ways[i] = make([]Caller, len(g.pools[l.From].instances))
		}
	}
	for i := range g.pools {
		g.pools[i].begin(&g.schedule, func(now time.Duration, instance int) Admitter {
			for j, l := range cfg.Links {
				if l.From == i {
					g.ways[j][instance] = controls.Caller(now, j, instance)
				}
			}
			return controls.Admitter(now, i, instance)
		}, func(in *instance) { g.serve(i, in) })
	}
	routes := cfg.routes()
	score.judge(routes)
	score.watch(cfg.Services)
	g.source = newSource(routes, cfg.Mix, stream)
	return g
}

// Run advances the graph up to but not including the instant until.
func (g *Graph) Run(until time.Duration) { g.run(until, g, &g.source) }

// InFlight is how many requests are in a service: queued, served or waiting for calls.
func (g *Graph) InFlight(service int) int { return g.pools[service].InFlight() }

// Live says whether the balancer deals to that instance of a service.
func (g *Graph) Live(service, instance int) bool { return g.pools[service].Live(instance) }

// Scrape samples an instance of a service, as the function Scrape does that of a Plant.
func (g *Graph) Scrape(service, instance int, first, interval time.Duration) *Telemetry {
	return g.pools[service].scrape(&g.schedule, instance, first, interval)
}

func (g *Graph) gone() time.Duration {
	first := Never
	for i := range g.links {
		first = min(first, g.links[i].next())
	}
	return first
}

// giveUp ends the wait of the caller whose patience ends first.
func (g *Graph) giveUp() {
	first := 0
	for i := range g.links {
		if g.links[i].next() < g.links[first].next() {
			first = i
		}
	}
	w := g.links[first].pop()
	c := &g.calls[w.slot]
	if c.attempt != w.attempt {
		return // answered in time
	}
	g.hangUp(c)
	g.reply(w.slot, Answer{Outcome: Expired}, 0)
}

// hangUp leaves the visit of the attempt that is under way without anybody who waits for it.
func (g *Graph) hangUp(c *call) {
	if c.visit >= 0 {
		g.abandon(c.visit)
	}
}

func (g *Graph) arrive() {
	r := g.take()
	g.score.arrived(g.now, r.Criticality, r.Route)
	slot := g.newCall()
	c := &g.calls[slot]
	c.root, c.spec, c.path, c.parent = r, g.cfg.Entries[r.Route].Call, uint64(r.Route)+1, -1
	c.deadline, c.group = Never, 1
	c.caller = g.ways[c.spec.Link][0]
	g.begin(slot)
}

func (g *Graph) newCall() int32 {
	if n := len(g.freeCalls); n > 0 {
		slot := g.freeCalls[n-1]
		g.freeCalls = g.freeCalls[:n-1]
		g.calls[slot] = call{visit: -1}
		return slot
	}
	g.calls = append(g.calls, call{visit: -1})
	return int32(len(g.calls) - 1)
}

func (g *Graph) newVisit() int32 {
	if n := len(g.freeVisits); n > 0 {
		slot := g.freeVisits[n-1]
		g.freeVisits = g.freeVisits[:n-1]
		g.visits[slot] = visit{children: g.visits[slot].children[:0]}
		return slot
	}
	g.visits = append(g.visits, visit{})
	return int32(len(g.visits) - 1)
}

// describe is the call in slot as its Caller sees it.
func (g *Graph) describe(slot int32) Call {
	c := &g.calls[slot]
	return Call{
		Slot: int(slot), Request: int(c.parent), Deadline: c.deadline, Marked: c.marked, Again: c.again,
		Attempts: c.attempts, Group: c.group,
	}
}

// begin starts the call in slot.
func (g *Graph) begin(slot int32) {
	g.calls[slot].started = true
	g.calls[slot].marks = g.calls[slot].caller.Start(g.now, g.describe(slot))
	g.attempt(slot)
}

// attempt sends the call in slot to an instance, if its Caller allows it.
func (g *Graph) attempt(slot int32) {
	c := &g.calls[slot]
	link := g.cfg.Links[c.spec.Link]
	i, clearance := g.choose(slot, &g.pools[link.To])
	if clearance != Clear {
		g.follow(slot, Answer{Outcome: Withheld})
		return
	}
	g.serial++
	c.attempt, c.sent, c.instance = g.serial, g.now, i
	c.attempts++
	g.score.called(link.To, g.now, c.root.Arrived)
	if i < 0 {
		g.reply(slot, Answer{Outcome: Unreachable}, 0)
		return
	}
	if link.Timeout > 0 {
		g.links[c.spec.Link].push(waiter{at: g.now + link.Timeout + 1, attempt: c.attempt, slot: slot})
	}
	switch in := g.pools[link.To].instances[i]; in.stage.Absence {
	case RefusesConnections:
		g.reply(slot, Answer{Outcome: Unreachable}, 0)
	case NeverAnswers:
	default:
		g.enter(slot, link, in)
	}
}

// choose asks the balancer for an instance that the Caller clears. The index is -1 where nobody is there; then the
// attempt cannot reach anybody, and is not withheld.
func (g *Graph) choose(slot int32, p *pool) (instance int32, clearance Clearance) {
	c := &g.calls[slot]
	if c.avoid && c.instance >= 0 {
		p.instances[c.instance].passed = true
	}
	clearance = Clear
	usual := int32(-1)
	if s, ok := c.caller.(Steerer); ok {
		usual = int32(s.Instance(g.describe(slot)))
	}
	for {
		if usual >= 0 && p.instances[usual].eligible() {
			instance = usual
		} else {
			instance = p.balancer.pick(p.instances)
		}
		if instance < 0 && c.avoid && clearance == Clear { // there is no other
			c.avoid = false
			p.unpass()
			continue
		}
		if instance < 0 {
			break
		}
		clearance = c.caller.Try(g.now, g.describe(slot), int(instance))
		if clearance != Elsewhere {
			break
		}
		p.instances[instance].passed = true
	}
	c.avoid = false
	p.unpass()
	return instance, clearance
}

// enter brings an attempt of the call in slot before the Admitter of an instance.
func (g *Graph) enter(slot int32, link Link, in *instance) {
	at := g.newVisit()
	c, v := &g.calls[slot], &g.visits[at]
	service := &g.cfg.Services[link.To]
	v.request = Request{
		ID: c.root.ID, Criticality: c.root.Criticality, Route: c.spec.Operation, Arrived: c.root.Arrived, Sent: g.now,
		Attempt: c.attempts - 1, Slot: int(at),
	}
	if s, ok := c.caller.(Steerer); ok {
		v.request.Standing = s.Standing(g.describe(slot))
	}
	verdict := in.admit(g.now, v.request)
	g.score.entered(link, c.root, verdict)
	if verdict != Admitted {
		in.charge(service.RejectCost)
		g.freeVisits = append(g.freeVisits, at)
		g.reply(slot, Answer{Outcome: Refusal, Advice: advice(in.admitter, g.now, v.request, true)}, 0)
		return
	}
	v.serial, v.call, v.service, v.instance = c.attempt, slot, int32(link.To), c.instance
	v.root, v.path = c.root, c.path
	v.marked, v.again = c.marked || c.marks, c.again || c.attempts > 1
	v.deadline = c.deadline
	if link.Timeout > 0 {
		v.deadline = min(v.deadline, g.now+link.Timeout)
	}
	g.pcg.Seed(scramble(g.cfg.Seed^scramble(c.root.ID)), scramble(c.path))
	v.work = service.Operations[c.spec.Operation].Law.unit(g.draws)
	c.visit = at
	if in.idle() {
		g.start(in, at)
	} else {
		in.queue.push(at)
	}
}

// serve lets free servers start on the queue of an instance of a service.
func (g *Graph) serve(service int, in *instance) {
	for in.idle() && in.queue.len() > 0 {
		slot := in.queue.pop()
		if g.visits[slot].call < 0 && g.cfg.Services[service].DropsAbandoned {
			g.leave(slot, Answer{Outcome: Abandoned})
			continue
		}
		g.start(in, slot)
	}
}

func (g *Graph) start(in *instance, slot int32) {
	v := &g.visits[slot]
	in.busy++
	d := in.serviceTime(v.work, g.operation(v).ServiceTime)
	v.used = d.Seconds()
	g.score.worked(v.root.Arrived, int(v.service), v.used)
	g.events.push(event{at: g.now + d, slot: slot, kind: served})
}

func (g *Graph) operation(v *visit) *Operation {
	return &g.cfg.Services[v.service].Operations[v.request.Route]
}

func (g *Graph) advance(e event) {
	if e.kind == again {
		c := &g.calls[e.slot]
		c.backoff = false
		if c.ended {
			g.freeCalls = append(g.freeCalls, e.slot)
			return
		}
		g.attempt(e.slot)
		return
	}
	v := &g.visits[e.slot]
	service, in := int(v.service), g.pools[v.service].instances[v.instance]
	in.busy--
	g.serve(service, in)
	if v := &g.visits[e.slot]; v.call < 0 && g.cfg.Services[service].DropsAbandoned {
		g.leave(e.slot, Answer{Outcome: Abandoned})
		return
	}
	g.proceed(e.slot)
}

// proceed makes the calls of the next step of the visit in slot, or answers if there is none.
func (g *Graph) proceed(slot int32) {
	v := &g.visits[slot]
	steps := g.operation(v).Steps
	if v.step == len(steps) {
		g.leave(slot, Answer{Outcome: Answered})
		return
	}
	step := steps[v.step]
	serial, number := v.serial, v.step
	v.step++
	v.waiting = true
	v.children = v.children[:0]
	for i, spec := range step {
		at := g.newCall()
		c, v := &g.calls[at], &g.visits[slot]
		c.root, c.spec, c.parent = v.root, spec, slot
		c.path = scramble(v.path ^ uint64(number)<<32 ^ uint64(i)<<48)
		c.caller = g.ways[spec.Link][v.instance]
		c.deadline, c.marked, c.again = v.deadline, v.marked, v.again
		for _, other := range step {
			if g.cfg.Links[other.Link].To == g.cfg.Links[spec.Link].To {
				c.group++
			}
		}
		v.children = append(v.children, at)
	}
	// A call may fail at once and end the visit, so the list is walked from a copy of what it was.
	var few [8]int32
	for _, at := range append(few[:0], g.visits[slot].children...) {
		if v := &g.visits[slot]; v.serial != serial {
			return
		}
		g.begin(at)
	}
}

// reply ends the attempt that is under way. used is the work behind the answer, in server seconds.
func (g *Graph) reply(slot int32, a Answer, used float64) {
	c := &g.calls[slot]
	c.attempt, c.visit = 0, -1
	c.caller.Done(g.now, g.describe(slot), int(c.instance), a)
	if a.Outcome == Answered {
		c.work = used
		g.end(slot, a)
		return
	}
	g.follow(slot, a)
}

// follow does what the Caller wants after a failed attempt.
func (g *Graph) follow(slot int32, a Answer) {
	c := &g.calls[slot]
	u := float64(scramble(g.cfg.Seed^scramble(c.root.ID)^scramble(c.path+uint64(c.attempts)<<56))>>11) / (1 << 53)
	next := c.caller.Retry(g.now, g.describe(slot), u)
	if next.Again {
		c.avoid, c.backoff = next.Elsewhere, true
		g.events.push(event{at: g.now + max(0, next.Wait), slot: slot, kind: again})
		return
	}
	g.end(slot, a)
}

// end ends the call in slot and lets whoever waits for it go on.
func (g *Graph) end(slot int32, a Answer) {
	c := &g.calls[slot]
	c.caller.End(g.now, g.describe(slot), a)
	parent, work, root := c.parent, c.work, c.root
	root.Sent = c.sent
	g.freeCalls = append(g.freeCalls, slot)
	if parent < 0 {
		g.score.ended(g.now, root, a, work)
		return
	}
	v := &g.visits[parent]
	for i, at := range v.children {
		if at == slot {
			v.children = append(v.children[:i], v.children[i+1:]...)
			break
		}
	}
	if a.Outcome != Answered {
		g.dismiss(parent)
		failed := Answer{Outcome: Failure}
		if a.Outcome == Refusal || a.Outcome == Withheld {
			failed.Outcome = Refusal
		}
		g.leave(parent, failed)
		return
	}
	v.used += work
	if len(v.children) == 0 {
		v.waiting = false
		g.proceed(parent)
	}
}

// dismiss gives up the calls that the visit in slot waits for.
func (g *Graph) dismiss(slot int32) {
	for n := len(g.visits[slot].children); n > 0; n = len(g.visits[slot].children) {
		v := &g.visits[slot]
		at := v.children[n-1]
		v.children = v.children[:n-1]
		c := &g.calls[at]
		if c.attempt != 0 {
			g.hangUp(c)
			c = &g.calls[at]
			c.attempt, c.visit = 0, -1
			c.caller.Done(g.now, g.describe(at), int(c.instance), Answer{Outcome: Abandoned})
		}
		if c.started {
			c.caller.End(g.now, g.describe(at), Answer{Outcome: Abandoned})
		}
		c.ended = true
		if !c.backoff {
			g.freeCalls = append(g.freeCalls, at)
		}
	}
}

// abandon leaves the visit in slot without anybody who waits for it.
func (g *Graph) abandon(slot int32) {
	v := &g.visits[slot]
	v.call = -1
	if v.waiting && g.cfg.Services[v.service].DropsAbandoned {
		g.dismiss(slot)
		g.leave(slot, Answer{Outcome: Abandoned})
	}
}

// leave ends the visit in slot.
func (g *Graph) leave(slot int32, a Answer) {
	v := &g.visits[slot]
	in := g.pools[v.service].instances[v.instance]
	r, caller, used := v.request, v.call, v.used
	outcome := OK
	switch {
	case caller < 0:
		outcome = TimedOut
	case a.Outcome != Answered:
		outcome = Failed
	}
	v.serial, v.waiting = 0, false
	g.freeVisits = append(g.freeVisits, slot)
	a.Advice = advice(in.admitter, g.now, r, false)
	a.Advice.NoRetry = a.Advice.NoRetry && outcome != OK
	in.admitter.Done(g.now, r, outcome)
	in.leave(r.Route, g.now-r.Sent, excused(in.admitter))
	if caller >= 0 {
		g.reply(caller, a, used)
	}
}

// scramble spreads the bits of x (the finalizer of SplitMix64; Steele, Lea and Flood 2014), so that neighbors have
// unrelated draws.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
