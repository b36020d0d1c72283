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
	stage    Stage
	busy     int
	queue    queue
	inFlight int // admitted and not done
	// rejectDebt is server time owed for refusals. The next request that starts pays it: with all servers busy a
	// refusal takes time from one of them, and for the throughput it does not matter which.
	rejectDebt time.Duration
	counters   counters
}

// balancer is a Balancer at work.
type balancer struct {
	kind  Balancer
	turn  int // of the instance that is next
	draws *rand.Rand
}

// pick returns the index of a live instance, -1 where there is none.
func (b *balancer) pick(all []*instance) int32 {
	if b.kind == Random {
		live := 0
		for _, in := range all {
			if in.live {
				live++
			}
		}
		if live == 0 {
			return -1
		}
		n := b.draws.IntN(live)
		for i, in := range all {
			if in.live {
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
		if !all[i].live || found >= 0 && all[i].inFlight >= all[found].inFlight {
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

// populate builds the instances of a Config and the timers of their lives. start is asked for the Admitter of an instance
// when it comes up.
func (p *Plant) populate(start func(now time.Duration, instance int) Admitter) {
	described := p.cfg.Instances
	if len(described) == 0 {
		described = []Instance{{}}
	}
	for i, d := range described {
		in := &instance{counters: counters{buckets: make([]float64, len(p.cfg.LatencyEdges)+1)}}
		p.instances = append(p.instances, in)
		stages := d.Stages
		if len(stages) == 0 {
			stages = p.cfg.Stages
		}
		if len(stages) == 0 || stages[0].From != 0 {
			panic("models: the first Stage must start at 0")
		}
		for _, s := range stages {
			if s.Servers < 0 || s.Slowdown <= 0 {
				panic(fmt.Sprintf("models: Stage %+v: Servers must not be negative and Slowdown must be positive", s))
			}
			p.At(s.From, func(time.Duration) { p.enter(in, s) })
		}
		up := func(now time.Duration) { in.admitter, in.live = start(now, i), true }
		if d.From <= 0 {
			up(0)
		} else {
			p.At(d.From, up)
		}
		if d.To > 0 {
			p.At(d.To, func(time.Duration) { in.live = false })
		}
	}
}

// Live says whether the balancer deals to the instance of that index in Config.Instances.
func (p *Plant) Live(instance int) bool { return p.instances[instance].live }
