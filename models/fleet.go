package models

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Instance is one copy of a service: a queue, servers, an Admitter and counters of its own, behind the balancer from
// From on. At To it takes no more requests, is no longer scraped, and finishes what it has.
type Instance struct {
	Name     string
	From, To time.Duration // To 0: to the end of the run
	Stages   []Stage       // nil: Config.Stages
}

// Balancer is how arrivals are dealt to the instances. It knows which instances are there, not which refuse or are slow.
type Balancer int

// The balancers.
const (
	RoundRobin    Balancer = iota
	LeastInFlight          // of several with as few, the next in turn
	Random
)

// instance is the state of one Instance.
type instance struct {
	admitter Admitter // nil before it is there
	live     bool     // the balancer deals to it
	passed   bool     // but not this attempt: its caller wants another instance
	stage    Stage
	busy     int
	queue    queue
	inFlight int    // admitted and not done
	parts    []part // of it, and counters
	// rejectDebt is server time owed for refusals. The next request that starts pays it: with all servers busy a
	// refusal takes time from one of them, and for the throughput it does not matter which.
	rejectDebt time.Duration
	partition  *partition
}

// part is what an instance counts of the requests of one part of the service.
type part struct {
	counters
	inFlight int
}

// part is that to which requests on a route belong.
func (in *instance) part(route int) *part { return &in.parts[in.partition.part(route)] }

func (in *instance) eligible() bool { return in.live && !in.passed }

// balancer is a Balancer at work.
type balancer struct {
	kind  Balancer
	turn  int // of the instance that is next
	draws *rand.Rand
}

// pick returns the index of an eligible instance, -1 where there is none.
func (b *balancer) pick(all []*instance) int32 {
	if b.kind == Random {
		live := 0
		for _, in := range all {
			if in.eligible() {
				live++
			}
		}
		if live == 0 {
			return -1
		}
		n := b.draws.IntN(live)
		for i, in := range all {
			if in.eligible() {
				if n == 0 {
					return int32(i)
				}
				n--
			}
		}
	}
	found := -1
	for i := range all {
		i = (b.turn + i) % len(all)
		if !all[i].eligible() || found >= 0 && all[i].inFlight >= all[found].inFlight {
			continue
		}
		found = i
		if b.kind == RoundRobin {
			break
		}
	}
	if found >= 0 {
		b.turn = (found + 1) % len(all)
	}
	return int32(found)
}

// pool is the instances of one service at work.
type pool struct {
	described []Instance
	instances []*instance
	balancer  balancer
	partition partition
}

// newPool builds the instances, of which none is there yet. It panics on Stages that make no sense; usual are those of an
// Instance that has none.
func newPool(described []Instance, usual []Stage, b balancer, parts partition) pool {
	p := pool{balancer: b, partition: parts}
	if len(described) == 0 {
		described = []Instance{{}}
	}
	for _, d := range described {
		if len(d.Stages) == 0 {
			d.Stages = usual
		}
		if len(d.Stages) == 0 || d.Stages[0].From != 0 {
			panic("models: the first Stage must start at 0")
		}
		for _, s := range d.Stages {
			if s.Servers < 0 || s.Slowdown <= 0 {
				panic(fmt.Sprintf("models: Stage %+v: Servers must not be negative and Slowdown must be positive", s))
			}
		}
		p.described = append(p.described, d)
		in := &instance{partition: &parts}
		for _, edges := range parts.edges {
			in.parts = append(in.parts, part{counters: counters{buckets: make([]float64, len(edges)+1)}})
		}
		p.instances = append(p.instances, in)
	}
	return p
}

// begin sets the timers of the lives of the instances. start is asked for the Admitter of an instance when it comes up;
// serve lets its free servers start on its queue when a new stage is in force.
func (p *pool) begin(s *schedule, start func(now time.Duration, instance int) Admitter, serve func(*instance)) {
	for i, d := range p.described {
		in := p.instances[i]
		for _, stage := range d.Stages {
			s.At(stage.From, func(time.Duration) {
				in.stage = stage
				serve(in)
			})
		}
		up := func(now time.Duration) { in.admitter, in.live = start(now, i), true }
		if d.From <= 0 {
			up(0)
		} else {
			s.At(d.From, up)
		}
		if d.To > 0 {
			s.At(d.To, func(time.Duration) { in.live = false })
		}
	}
}

// unpass makes all live instances eligible again.
func (p *pool) unpass() {
	for _, in := range p.instances {
		in.passed = false
	}
}

// Live says whether the balancer deals to the instance of that index in Config.Instances.
func (p *pool) Live(instance int) bool { return p.instances[instance].live }

// InFlight is how many requests are in the instances: queued, served or waiting for a dependency.
func (p *pool) InFlight() (n int) {
	for _, in := range p.instances {
		n += in.inFlight
	}
	return n
}

// admit asks the Admitter about an arrival and counts the answer.
func (in *instance) admit(now time.Duration, r Request) Verdict {
	verdict := in.admitter.Admit(now, r)
	if verdict == Aside {
		return verdict
	}
	part := in.part(r.Route)
	part.offered[r.Criticality]++
	if verdict == Admitted {
		part.admitted[r.Criticality]++
		part.inFlight++
		in.inFlight++
		return verdict
	}
	part.refusedBy[verdict][r.Criticality]++
	if verdict == Refused || verdict == RefusedByShed {
		part.refused[r.Criticality]++
	}
	return verdict
}

// idle says whether a server is free.
func (in *instance) idle() bool { return in.busy < in.stage.Servers }

// charge makes the instance owe the server time of a refusal, unless a server is free to do it.
func (in *instance) charge(cost time.Duration) {
	if !in.idle() {
		in.rejectDebt += cost
	}
}

// serviceTime is how long a server works for a request that starts now: work times the mean, and what is owed for
// refusals.
func (in *instance) serviceTime(work float64, mean time.Duration) time.Duration {
	d := time.Duration(work*in.stage.Slowdown*float64(mean)) + in.rejectDebt
	in.rejectDebt = 0
	return d
}

// leave counts a request on a route, which has been admitted, as done.
func (in *instance) leave(route int, latency time.Duration, excused bool) {
	part := in.part(route)
	in.inFlight--
	part.inFlight--
	if !excused {
		part.complete(latency, in.partition.edges[in.partition.part(route)])
	}
}
