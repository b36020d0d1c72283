package models

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// fleet is a plant of instances with so many servers each, and what was admitted to each of them.
func fleet(cfg Config, servers int, score *Score) (p *Plant, seen []*meets) {
	seen = make([]*meets, len(cfg.Instances))
	cfg.Stages = []Stage{{Servers: servers, Slowdown: 1}}
	p = NewFleet(cfg, func(_ time.Duration, i int) Admitter {
		seen[i] = &meets{Limiter: NewLimiter(math.Inf(1)), many: servers}
		return seen[i]
	}, score)
	return p, seen
}

// The balancers, by what they promise: turns are exact, a choice at random is binomial, and the least in flight differ by
// no more than chance allows.
func TestBalancers(t *testing.T) {
	const span = 100 * time.Second
	deal := func(b Balancer) (shares []float64) {
		cfg := rig(560, 1)
		cfg.Instances, cfg.Balancer = make([]Instance, 8), b
		p, seen := fleet(cfg, 4, onePhase(span))
		p.Run(span)
		for _, s := range seen {
			shares = append(shares, s.all)
		}
		return shares
	}
	turns := deal(RoundRobin)
	for _, n := range turns {
		if math.Abs(n-turns[0]) > 1 {
			t.Errorf("in turn: %v requests", turns)
		}
	}
	var sum, squares float64
	for _, n := range deal(Random) {
		sum += n
		squares += (n - 7000) * (n - 7000)
	}
	if math.Abs(sum-56000) > 4*math.Sqrt(56000) {
		t.Errorf("%v requests in all", sum)
	}
	// Chi-square with 8 degrees of freedom: above 26 once in a thousand times.
	if chi := squares / 7000; chi > 26 || chi < 0.7 {
		t.Errorf("at random: chi-square %.1f of 8", chi)
	}
	for _, n := range deal(LeastInFlight) {
		if math.Abs(n-7000) > 350 {
			t.Errorf("least in flight: %v requests of 7000", n)
		}
	}
}

// A Poisson process that is dealt at random is Poisson at each instance: eight times M/M/4.
func TestRandomSplitIsErlangs(t *testing.T) {
	const span = 600 * time.Second
	a := 0.8 * 4
	agrees(t, erlangC(4, a), 0.05, func(seed uint64) float64 {
		cfg := rig(0.8*800, seed)
		cfg.Instances, cfg.Balancer = make([]Instance, 8), Random
		p, seen := fleet(cfg, 4, onePhase(span))
		p.Run(span)
		var all, found float64
		for _, s := range seen {
			all += s.all
			found += s.found
		}
		return found / all
	})
}

// A balancer that takes turns beats one that draws, and the least in flight beats both: the order of the theory.
func TestBetterBalancersWaitLess(t *testing.T) {
	wait := func(b Balancer) float64 {
		cfg := rig(640, 2)
		cfg.Instances, cfg.Balancer = make([]Instance, 8), b
		p, _ := fleet(cfg, 4, onePhase(300*time.Second))
		p.Run(300 * time.Second)
		var sum, n float64
		for _, in := range p.instances {
			sum += in.parts[0].latencySum
			n += in.parts[0].completed
		}
		return sum/n - 0.040
	}
	random, turns, least := wait(Random), wait(RoundRobin), wait(LeastInFlight)
	if !(least < turns && turns < random) {
		t.Errorf("waits: least in flight %.2f ms, in turn %.2f ms, at random %.2f ms", 1e3*least, 1e3*turns, 1e3*random)
	}
}

// An instance five times slower gets its eighth by turns, and a fifth of that where the least in flight are chosen; the
// others never notice the second.
func TestSlowInstance(t *testing.T) {
	share := func(b Balancer) float64 {
		cfg := rig(400, 3)
		cfg.Instances, cfg.Balancer = make([]Instance, 8), b
		cfg.Instances[7].Stages = []Stage{{Servers: 4, Slowdown: 5}}
		p, seen := fleet(cfg, 4, onePhase(200*time.Second))
		p.Run(200 * time.Second)
		var all float64
		for _, s := range seen {
			all += s.all
		}
		return seen[7].all / all
	}
	if turns := share(RoundRobin); math.Abs(turns-0.125) > 0.001 {
		t.Errorf("in turn it gets %.3f, want an eighth", turns)
	}
	if least := share(LeastInFlight); least > 0.08 || least < 0.02 {
		t.Errorf("of the least in flight it gets %.3f", least)
	}
}

// Instances come and go: one that has gone gets nothing more and finishes what it has, one that comes has its Admitter
// asked for at that instant, and is scraped from then on.
func TestInstancesComeAndGo(t *testing.T) {
	cfg := rig(300, 4)
	cfg.Stages = []Stage{{Servers: 32, Slowdown: 1}}
	cfg.Instances = []Instance{{To: 50 * time.Second}, {}, {From: 20 * time.Second}}
	started := map[int]time.Duration{}
	last := make([]time.Duration, 3)
	score := onePhase(100 * time.Second)
	p := NewFleet(cfg, func(now time.Duration, i int) Admitter {
		started[i] = now
		return spyAt{NewLimiter(math.Inf(1)), func(now time.Duration) { last[i] = now }}
	}, score)
	tel := Scrape(p, 2, 20*time.Second, time.Second)
	left := Scrape(p, 0, 0, time.Second)
	p.Run(99 * time.Second)
	if len(started) != 3 || started[0] != 0 || started[2] != 20*time.Second {
		t.Errorf("started at %v", started)
	}
	if last[0] >= 50*time.Second || last[0] < 49*time.Second || last[2] < 98*time.Second || p.Live(0) || !p.Live(2) {
		t.Errorf("last requests at %v", last)
	}
	if n := p.instances[0].inFlight; n != 0 {
		t.Errorf("the instance that left still has %d requests", n)
	}
	if !tel.SampledBy(20*time.Second) || tel.SampledBy(19*time.Second) {
		t.Error("the new instance is not scraped from its start on")
	}
	if at := left.samples[len(left.samples)-1].at; at != 49*time.Second {
		t.Errorf("the last sample of the instance that left is from %v", at)
	}
	if ph := score.Phases[0]; ph.Refused > 0 || ph.Offered-ph.Good > 60 {
		t.Errorf("%d refused, %d of %d good", ph.Refused, ph.Good, ph.Offered)
	}
}

type spyAt struct {
	*Limiter
	saw func(now time.Duration)
}

func (s spyAt) Admit(now time.Duration, r Request) Verdict {
	s.saw(now)
	return s.Limiter.Admit(now, r)
}

// Where nobody is there, requests are refused by nobody.
func TestNobodyThere(t *testing.T) {
	for _, b := range []Balancer{RoundRobin, LeastInFlight, Random} {
		cfg := rig(100, 1)
		cfg.Instances, cfg.Balancer = []Instance{{To: 10 * time.Second}, {To: 10 * time.Second}}, b
		score := onePhase(20 * time.Second)
		p, _ := fleet(cfg, 4, score)
		p.Run(20 * time.Second)
		if ph := score.Phases[0]; ph.Refused < 900 || ph.Refused > 1100 || ph.Admitted+ph.Refused != ph.Offered {
			t.Errorf("%v: %d of %d refused", b, ph.Refused, ph.Offered)
		}
	}
}

// Arrivals and what they cost are the same behind every balancer and any number of instances.
func TestArrivalsDoNotDependOnTheFleet(t *testing.T) {
	run := func(n int, b Balancer) (sum string) {
		cfg := rig(300, 5)
		cfg.Routes = []Route{
			{Name: "a", Load: Constant(200), ServiceTime: 40 * ms}, {Name: "b", Load: Constant(100), ServiceTime: 80 * ms},
		}
		cfg.Instances, cfg.Balancer = make([]Instance, n), b
		cfg.Stages = []Stage{{Servers: 1000, Slowdown: 1}}
		score := onePhase(50 * time.Second)
		p := NewFleet(cfg, func(time.Duration, int) Admitter { return NewLimiter(math.Inf(1)) }, score)
		p.Run(50 * time.Second)
		return fmt.Sprint(p.lastID, score.Phases[0].Routes, score.Phases[0].Good, score.Phases[0].OfferedBy)
	}
	for _, n := range []int{2, 20} {
		for _, b := range []Balancer{RoundRobin, LeastInFlight, Random} {
			if got, want := run(n, b), run(1, RoundRobin); got != want {
				t.Errorf("%d instances, balancer %v: %s, want %s", n, b, got, want)
			}
		}
	}
}
