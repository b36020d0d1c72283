package models

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// open controls nothing: everything is admitted and sent, and tried again as often as the link allows.
func open(cfg GraphConfig) Controls {
	return Controls{
		Admitter: func(time.Duration, int, int) Admitter { return NewLimiter(math.Inf(1)) },
		Caller: func(_ time.Duration, link, _ int) Caller {
			l := cfg.Links[link]
			return NaiveCaller{Retries: l.Retries, Wait: l.RetryWait}
		},
	}
}

// steady is a service of one operation.
func steady(name string, servers int, mean time.Duration, law Law, steps ...[]CallSpec) Service {
	return Service{
		Name: name, Stages: []Stage{{Servers: servers, Slowdown: 1}},
		Operations: []Operation{{Name: "only", ServiceTime: mean, Law: law, Steps: steps}},
	}
}

// chain is clients → services in a row, each over the link of its index.
func chain(rps float64, seed uint64, services ...Service) GraphConfig {
	cfg := GraphConfig{
		Services: services, Mix: [Classes]float64{0.2, 0.5, 0.3, 0}, Seed: seed,
		Entries: []Entry{{Name: "all", Load: Constant(rps)}},
	}
	for i := range services {
		cfg.Links = append(cfg.Links, Link{From: i - 1, To: i})
		if i > 0 {
			services[i-1].Operations[0].Steps = [][]CallSpec{{{Link: i}}}
		}
	}
	return cfg
}

// stops is a load that pauses for hours, so that a run can be drained.
func stops(rps float64, at time.Duration) Load { return Pulse(rps, 0, at, at+2*time.Hour) }

// Calls of one step run at once, and steps one after another: 10 + max(20, 35) + 20 + 5 ms, where the last is the callee
// of the second call of the second step's callee.
func TestStepsTakeTheSumAndCallsOfAStepTheLongest(t *testing.T) {
	cfg := GraphConfig{
		Mix: [Classes]float64{1}, Seed: 1,
		Entries: []Entry{{Name: "all", Load: stops(0.5, 20*time.Second), Call: CallSpec{Link: 0}}},
		Links:   []Link{{From: Clients, To: 0}, {From: 0, To: 1}, {From: 0, To: 2}, {From: 1, To: 3}},
		Services: []Service{
			steady("a", 8, 10*ms, Deterministic(),
				[]CallSpec{{Link: 1, Operation: 1}, {Link: 2}}, []CallSpec{{Link: 1}}),
			steady("b", 8, 20*ms, Deterministic(), []CallSpec{{Link: 3}}),
			steady("c", 8, 35*ms, Deterministic()),
			steady("d", 8, 5*ms, Deterministic()),
		},
	}
	cfg.Services[1].Operations = append(cfg.Services[1].Operations,
		Operation{Name: "without d", ServiceTime: 20 * ms, Law: Deterministic()})
	score := onePhase(30 * time.Second)
	latencies := &sojourn{Limiter: NewLimiter(math.Inf(1))}
	controls := open(cfg)
	controls.Admitter = func(_ time.Duration, service, _ int) Admitter {
		if service == 0 {
			return latencies
		}
		return NewLimiter(math.Inf(1))
	}
	NewGraph(cfg, controls, score).Run(30 * time.Second)
	if latencies.n < 5 {
		t.Fatalf("%v requests", latencies.n)
	}
	if got, want := latencies.sum/latencies.n, 0.070; math.Abs(got-want) > 1e-9 {
		t.Errorf("%.6f s, want %.6f s", got, want)
	}
	p := score.Phases[0]
	if work, want := p.Useful, latencies.n*(0.010+0.020+0.035+0.020+0.005); math.Abs(work-want) > 1e-9 {
		t.Errorf("%.4f useful server seconds, want %.4f", work, want)
	}
	if p.Good != p.Offered || p.Services[1].Attempts != 2*p.Offered || p.Services[3].Attempts != p.Offered {
		t.Errorf("%+v", p)
	}
}

// A tandem of M/M/c queues without limits is a Jackson network: each behaves as if it were alone with Poisson arrivals
// (Burke 1956), so the mean sojourn is the sum of Erlang's.
func TestTandemIsJackson(t *testing.T) {
	const rps, span = 100.0, 2000 * time.Second
	want := 0.0
	servers, means := []int{3, 1, 16}, []float64{0.020, 0.008, 0.150}
	for i, c := range servers {
		a := rps * means[i]
		want += means[i] + erlangC(c, a)*means[i]/(float64(c)-a)
	}
	agrees(t, want, 0.05, func(seed uint64) float64 {
		var services []Service
		for i, c := range servers {
			services = append(services, steady(fmt.Sprint(i), c, time.Duration(means[i]*float64(time.Second)), Exponential()))
		}
		cfg := chain(rps, seed, services...)
		m := &sojourn{Limiter: NewLimiter(math.Inf(1))}
		controls := open(cfg)
		inner := controls.Admitter
		controls.Admitter = func(now time.Duration, service, instance int) Admitter {
			if service == 0 {
				return m
			}
			return inner(now, service, instance)
		}
		NewGraph(cfg, controls, onePhase(span)).Run(span)
		return m.sum / m.n
	})
}

// A graph of one service is the plant, in distribution: M/M/32/60.
func TestOneServiceIsThePlant(t *testing.T) {
	const span = 200 * time.Second
	refused := func(p Phase) float64 { return float64(p.Refused) / float64(p.Offered) }
	plant := onePhase(span)
	New(rig(1120, 3), NewLimiter(60), plant).Run(span)
	cfg := chain(1120, 3, steady("a", 32, 40*ms, Exponential()))
	controls := open(cfg)
	controls.Admitter = func(time.Duration, int, int) Admitter { return NewLimiter(60) }
	graph := onePhase(span)
	NewGraph(cfg, controls, graph).Run(span)
	if a, b := plant.Phases[0], graph.Phases[0]; a.Offered != b.Offered || math.Abs(refused(a)-refused(b)) > 0.005 {
		t.Errorf("%d requests and %.4f refused, %d and %.4f in the graph", a.Offered, refused(a), b.Offered, refused(b))
	}
}

// seen is what an Admitter was asked about.
type seen struct {
	*Limiter
	requests *[]Request
}

func (s seen) Admit(now time.Duration, r Request) Verdict {
	*s.requests = append(*s.requests, r)
	return s.Limiter.Admit(now, r)
}

// Two runs of one config are the same; and whatever the limits, the same requests arrive.
func TestGraphIsDeterministic(t *testing.T) {
	run := func(limit float64, step time.Duration) (arrivals []Request, p Phase) {
		cfg := chain(300, 5, steady("a", 8, 10*ms, Exponential()), steady("b", 4, 20*ms, Lognormal(1)))
		cfg.Entries = append(cfg.Entries, Entry{Name: "b alone", Load: Constant(20), Call: CallSpec{Link: 2}})
		cfg.Links = append(cfg.Links, Link{From: Clients, To: 1, Timeout: 100 * ms})
		cfg.Links[1].Timeout, cfg.Links[1].Retries, cfg.Links[1].RetryWait = 50*ms, 3, 10*ms
		controls := open(cfg)
		controls.Admitter = func(_ time.Duration, service, _ int) Admitter {
			if service == 0 {
				return seen{NewLimiter(math.Inf(1)), &arrivals}
			}
			return NewLimiter(limit)
		}
		score := onePhase(20 * time.Second)
		g := NewGraph(cfg, controls, score)
		for at := step; at <= 20*time.Second; at += step {
			g.Run(at)
		}
		return arrivals, score.Phases[0]
	}
	a, once := run(6, 20*time.Second)
	b, again := run(6, 250*ms)
	c, other := run(2, 20*time.Second)
	if fmt.Sprint(once) != fmt.Sprint(again) || len(a) != len(b) {
		t.Errorf("two runs differ: %+v and %+v", once.Services, again.Services)
	}
	if once.Good == other.Good || len(a) != len(c) {
		t.Fatalf("%d good of %d with a limit of 6, %d of %d with 2", once.Good, len(a), other.Good, len(c))
	}
	for i := range a {
		a[i].Slot, c[i].Slot = 0, 0
		if a[i] != c[i] {
			t.Fatalf("arrival %d is %+v and %+v", i, a[i], c[i])
		}
	}
}

// An attempt without an answer ends at the timeout, and the next one follows; an unreachable callee answers at once.
func TestTimeoutsAndRetries(t *testing.T) {
	for _, c := range []struct {
		absence  Absence
		attempts int
		latency  time.Duration
	}{{NeverAnswers, 4, 4 * (100*ms + 1)}, {RefusesConnections, 4, 0}} {
		cfg := chain(0.5, 1, steady("a", 4, 10*ms, Deterministic()), steady("b", 4, 10*ms, Deterministic()))
		cfg.Entries[0].Load = stops(0.5, 50*time.Second)
		cfg.Services[1].Stages[0].Absence = c.absence
		cfg.Links[1] = Link{From: 0, To: 1, Timeout: 100 * ms, Retries: 3, RetryWait: 0}
		m := &sojourn{Limiter: NewLimiter(math.Inf(1))}
		controls := open(cfg)
		controls.Admitter = func(time.Duration, int, int) Admitter { return m }
		score := onePhase(60 * time.Second)
		NewGraph(cfg, controls, score).Run(60 * time.Second)
		p := score.Phases[0]
		if p.Offered < 10 || p.Services[1].Attempts != c.attempts*p.Offered || p.Routes[0].Failed != p.Offered {
			t.Errorf("absence %v: %+v", c.absence, p)
		}
		if got := m.sum / m.n; math.Abs(got-(10*ms+c.latency).Seconds()) > 1e-9 {
			t.Errorf("absence %v: %.6f s, want %v more than 10 ms", c.absence, got, c.latency)
		}
	}
}

// Work whose caller has gone is dropped where the service learns of it: the queue empties without a server, and what waits
// for calls gives them up. Where it does not, all of it is done.
func TestDropsAbandoned(t *testing.T) {
	run := func(drops bool) (work float64, left int) {
		cfg := chain(100, 1, steady("a", 2, 10*ms, Deterministic()), steady("b", 1, 50*ms, Deterministic()))
		cfg.Entries[0].Load = stops(100, 10*time.Second)
		cfg.Links[0].Timeout = 200 * ms
		for i := range cfg.Services {
			cfg.Services[i].DropsAbandoned = drops
		}
		score := onePhase(20 * time.Second)
		g := NewGraph(cfg, open(cfg), score)
		g.Run(12 * time.Second)
		return score.Phases[0].Services[1].Work, g.InFlight(0) + g.InFlight(1)
	}
	dropped, none := run(true)
	// b has one server of 20 requests/s for 12 s.
	done, many := run(false)
	if math.Abs(done-12) > 0.5 || many < 1000 {
		t.Errorf("%.2f s of work done and %d left where nobody drops", done, many)
	}
	if dropped > 10.4 || none != 0 {
		t.Errorf("%.2f s of work done and %d left where abandoned work is dropped", dropped, none)
	}
}

// Every attempt of a call needs the same service time.
func TestAttemptsNeedTheSameWork(t *testing.T) {
	cfg := chain(50, 1, steady("a", 1000, 50*ms, Exponential()))
	cfg.Entries[0].Load = stops(50, 20*time.Second)
	cfg.Links[0] = Link{From: Clients, To: 0, Timeout: 50 * ms, Retries: 3}
	score := onePhase(40 * time.Second)
	NewGraph(cfg, open(cfg), score).Run(40 * time.Second)
	p := score.Phases[0]
	// A request longer than the timeout fails all four attempts, a shorter one needs one.
	if p.Services[0].Attempts != p.Good+4*p.Routes[0].Failed || p.Routes[0].Failed < p.Offered/4 {
		t.Errorf("%+v", p)
	}
}

// protocol fails the test where a plant calls a Caller out of order, and balks at random.
type protocol struct {
	NaiveCaller
	t     *rapid.T
	state map[int]string
	n     *int // of what was asked
}

func (p protocol) expect(c Call, next string, from ...string) {
	for _, s := range from {
		if p.state[c.Slot] == s {
			p.state[c.Slot] = next
			return
		}
	}
	p.t.Fatalf("call %d: %s follows %q", c.Slot, next, p.state[c.Slot])
}

func (p protocol) Start(_ time.Duration, c Call) bool {
	p.expect(c, "start", "")
	return false
}

func (p protocol) Try(_ time.Duration, c Call, _ int) Clearance {
	switch *p.n++; {
	case *p.n%7 == 0:
		p.expect(c, "barred", "start", "again", "elsewhere")
		return Barred
	case *p.n%5 == 0:
		p.expect(c, "elsewhere", "start", "again", "elsewhere")
		return Elsewhere
	}
	p.expect(c, "sent", "start", "again", "elsewhere")
	return Clear
}

func (p protocol) Done(_ time.Duration, c Call, _ int, a Answer) {
	if a.Outcome == Answered || a.Outcome == Abandoned {
		p.expect(c, "over", "sent")
		return
	}
	p.expect(c, "failed", "sent")
}

func (p protocol) Retry(now time.Duration, c Call, u float64) Next {
	next := p.NaiveCaller.Retry(now, c, u)
	next.Elsewhere = true
	if !(u >= 0 && u < 1) {
		p.t.Fatalf("u is %v", u)
	}
	state := "over"
	if next.Again {
		state = "again"
	}
	p.expect(c, state, "failed", "barred", "elsewhere")
	return next
}

func (p protocol) End(_ time.Duration, c Call, a Answer) {
	from := []string{"over"}
	if a.Outcome == Abandoned {
		from = []string{"over", "again", "start"}
	}
	p.expect(c, "", from...)
}

// whole is a Limiter that fails the test where a request ends twice, or more end than began.
type whole struct {
	*Limiter
	t    *rapid.T
	open map[int]bool
}

func (w whole) Admit(now time.Duration, r Request) Verdict {
	v := w.Limiter.Admit(now, r)
	if v == Admitted {
		if w.open[r.Slot] {
			w.t.Fatalf("slot %d is taken", r.Slot)
		}
		w.open[r.Slot] = true
	}
	return v
}

func (w whole) Done(now time.Duration, r Request, o Outcome) {
	if !w.open[r.Slot] {
		w.t.Fatalf("slot %d ends and has not begun", r.Slot)
	}
	delete(w.open, r.Slot)
	w.Limiter.Done(now, r, o)
}

// Whatever the topology and its faults: each request from outside ends exactly once, nothing stays in flight, no count of
// requests in flight is negative, and Callers and Admitters are asked in order.
func TestGraphConserves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "services")
		cfg := GraphConfig{Mix: [Classes]float64{0.2, 0.5, 0.3, 0}, Seed: rapid.Uint64().Draw(t, "seed")}
		timeout := rapid.SampledFrom([]time.Duration{20 * ms, 100 * ms, time.Second})
		link := func(from, to int) int {
			cfg.Links = append(cfg.Links, Link{
				From: from, To: to, Timeout: timeout.Draw(t, "timeout"),
				Retries: rapid.IntRange(0, 3).Draw(t, "retries"), RetryWait: 20 * ms,
			})
			return len(cfg.Links) - 1
		}
		for i := range n {
			s := steady(fmt.Sprint(i), 0, 20*ms, Exponential())
			s.DropsAbandoned = rapid.Bool().Draw(t, "drops")
			s.RejectCost = ms
			s.Balancer = rapid.SampledFrom([]Balancer{RoundRobin, LeastInFlight, Random}).Draw(t, "balancer")
			s.Instances = make([]Instance, rapid.IntRange(1, 3).Draw(t, "instances"))
			s.Stages = []Stage{
				{Servers: rapid.IntRange(1, 4).Draw(t, "servers"), Slowdown: 1},
				{From: time.Second, Servers: rapid.IntRange(0, 4).Draw(t, "servers"), Slowdown: 3,
					Absence: rapid.SampledFrom([]Absence{Present, RefusesConnections, NeverAnswers}).Draw(t, "absence")},
				{From: 2 * time.Second, Servers: 2, Slowdown: 1},
			}
			for range rapid.IntRange(0, 2).Draw(t, "steps") {
				if i == n-1 {
					break
				}
				var step []CallSpec
				for range rapid.IntRange(1, 3).Draw(t, "calls") {
					step = append(step, CallSpec{Link: link(i, rapid.IntRange(i+1, n-1).Draw(t, "callee"))})
				}
				s.Operations[0].Steps = append(s.Operations[0].Steps, step)
			}
			cfg.Services = append(cfg.Services, s)
		}
		for i := range rapid.IntRange(1, 2).Draw(t, "entries") {
			cfg.Entries = append(cfg.Entries, Entry{
				Name: fmt.Sprint(i), Load: stops(rapid.Float64Range(1, 150).Draw(t, "rps"), 3*time.Second),
				Call: CallSpec{Link: link(Clients, rapid.IntRange(0, n-1).Draw(t, "at"))},
			})
		}
		state, asked := map[int]string{}, 0
		limit := rapid.SampledFrom([]float64{1, 5, 1000}).Draw(t, "limit")
		score := onePhase(time.Hour)
		g := NewGraph(cfg, Controls{
			Admitter: func(time.Duration, int, int) Admitter { return whole{NewLimiter(limit), t, map[int]bool{}} },
			Caller: func(_ time.Duration, link, _ int) Caller {
				l := cfg.Links[link]
				return protocol{NaiveCaller{l.Retries, l.RetryWait}, t, state, &asked}
			},
		}, score)
		for at := 50 * ms; at < 5*time.Second; at += 50 * ms {
			g.Run(at)
			for i := range cfg.Services {
				for _, in := range g.pools[i].instances {
					if in.inFlight < 0 || in.busy < 0 || in.queue.len() > in.inFlight {
						t.Fatalf("%d in flight, %d busy, %d queued", in.inFlight, in.busy, in.queue.len())
					}
				}
			}
		}
		g.Run(time.Hour)
		for i := range cfg.Services {
			if left := g.InFlight(i); left != 0 {
				t.Errorf("%d are left in service %d", left, i)
			}
		}
		for _, r := range score.Phases[0].Routes {
			if r.Offered != r.Good+r.Late+r.Failed {
				t.Errorf("of %d requests %d were good, %d late, %d failed", r.Offered, r.Good, r.Late, r.Failed)
			}
		}
		for slot, s := range state {
			if s != "" {
				t.Errorf("call %d is left as %q", slot, s)
			}
		}
		if len(g.freeCalls) != len(g.calls) || len(g.freeVisits) != len(g.visits) {
			t.Errorf("%d of %d calls and %d of %d visits are free", len(g.freeCalls), len(g.calls), len(g.freeVisits), len(g.visits))
		}
		p := score.Phases[0]
		worked := 0.0
		for _, s := range p.Services {
			worked += s.Work
		}
		if p.Useful > worked+1e-6 {
			t.Errorf("%v useful of %v server seconds", p.Useful, worked)
		}
	})
}
