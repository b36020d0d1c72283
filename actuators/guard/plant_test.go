package guard

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"time"
)

// plant is a service behind a guard in simulated time: servers that work in parallel on an unbounded first-in
// first-out queue, with exponential service times, open-loop Poisson arrivals, and a dependency that delays without
// occupying a server.
type plant struct {
	g       *Guard
	rng     *rand.Rand
	now     time.Duration
	events  events
	servers int
	busy    int
	queue   []*job

	rate    float64       // arrivals per second
	service time.Duration // mean service time
	slo     time.Duration // a request is good within it
	delay   time.Duration // of the dependency, on half the requests
	polls   float64       // share of the requests that wait for pollFor and use no server
	pollFor time.Duration
	mix     classes       // shares of the arrivals by criticality; zero: all are Default
	exports float64       // share of the arrivals that ask for the route export
	export  time.Duration // their mean service time; 0: as all others, which then have no route

	calls *callee // nil: none

	good, slow, refused int
	latency             time.Duration // sum over the finished
	limits              []int         // one a second
	offered, served     classes       // arrivals, and those of them that were good
}

// classes is a number for each criticality.
type classes [criticalities]float64

type job struct {
	class   Criticality
	calls   bool
	service time.Duration // mean
	arrived time.Duration
	permit  Permit
}

type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

var epoch = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)

func newPlant(g *Guard, seed uint64) *plant {
	p := &plant{
		g: g, rng: rand.New(rand.NewPCG(seed, 1)), servers: 32, rate: 400,
		service: 40 * time.Millisecond, slo: g.cfg.SLO,
	}
	p.arrive()
	return p
}

func (p *plant) after(d time.Duration, do func()) { heap.Push(&p.events, event{p.now + d, do}) }

func (p *plant) exponential(mean time.Duration) time.Duration {
	return time.Duration(p.rng.ExpFloat64() * float64(mean))
}

func (p *plant) arrive() {
	p.after(p.exponential(time.Duration(float64(time.Second)/p.rate)), func() {
		p.arrive()
		class := p.class()
		p.offered[class]++
		calls := p.calls != nil && p.rng.Float64() < p.calls.share
		if calls {
			p.calls.offered++
		}
		a, service := Arrival{Criticality: class}, p.service
		if p.export > 0 {
			a.Route = "/search"
		}
		if p.exports > 0 && p.rng.Float64() < p.exports {
			a.Route, service = "/export", cmp.Or(p.export, service)
		}
		permit, err := p.g.AdmitAt(epoch.Add(p.now), a)
		if err != nil {
			p.refused++
			return
		}
		if p.polls > 0 && p.rng.Float64() < p.polls {
			p.after(p.pollFor, func() { permit.ReleaseAt(epoch.Add(p.now), Success) })
			return
		}
		j := &job{class: class, calls: calls, service: service, arrived: p.now, permit: permit}
		if calls && p.calls.first {
			p.call(j)
		} else {
			p.work(j)
		}
	})
}

func (p *plant) work(j *job) {
	p.queue = append(p.queue, j)
	p.serve()
}

// class draws the criticality of an arrival.
func (p *plant) class() Criticality {
	if p.mix == (classes{}) {
		return Default
	}
	x := p.rng.Float64()
	for c, share := range p.mix {
		if x -= share; x < 0 {
			return Criticality(c)
		}
	}
	return Background
}

func (p *plant) serve() {
	for p.busy < p.servers && len(p.queue) > 0 {
		j := p.queue[0]
		p.queue = p.queue[1:]
		p.busy++
		p.after(p.exponential(j.service), func() {
			p.busy--
			p.serve()
			if j.calls {
				p.call(j)
				return
			}
			if p.delay > 0 && p.rng.IntN(2) == 0 {
				p.after(p.delay, func() { p.finish(j) })
				return
			}
			p.finish(j)
		})
	}
}

func (p *plant) finish(j *job) {
	took := p.now - j.arrived
	j.permit.ReleaseAt(epoch.Add(p.now), Success)
	p.latency += took
	if took <= p.slo {
		p.good++
		p.served[j.class]++
	} else {
		p.slow++
	}
}

// run advances the plant by d and resets the score first.
func (p *plant) run(d time.Duration) {
	p.good, p.slow, p.refused, p.latency, p.limits = 0, 0, 0, 0, nil
	p.offered, p.served = classes{}, classes{}
	end := p.now + d
	second := p.now
	for len(p.events) > 0 && p.events[0].at <= end {
		e := heap.Pop(&p.events).(event)
		p.now = e.at
		e.do()
		if p.now >= second {
			p.limits = append(p.limits, p.g.SnapshotAt(epoch.Add(p.now)).Limit)
			second += time.Second
		}
	}
	p.now = end
}
