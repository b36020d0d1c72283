package models

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// agrees runs a measurement with ten seeds and fails where their mean is further than four standard errors from what the
// theory says. The standard error itself must be small, or the test would say nothing.
func agrees(t *testing.T, want, precision float64, measure func(seed uint64) float64) {
	t.Helper()
	const n = 10
	var sum, squares float64
	for seed := range uint64(n) {
		x := measure(seed + 1)
		sum += x
		squares += x * x
	}
	mean := sum / n
	se := math.Sqrt((squares/n - mean*mean) / (n - 1))
	if math.Abs(mean-want) > 4*se || 4*se > precision*want {
		t.Errorf("got %.5g, theory has %.5g; standard error %.2g, may be %.2g", mean, want, se, precision*want/4)
	}
}

// meets counts the arrivals that meet at least so many requests in the plant.
type meets struct {
	*Limiter
	many       int
	all, found float64
}

func (m *meets) Admit(now time.Duration, r Request) Verdict {
	m.all++
	if m.inFlight >= m.many {
		m.found++
	}
	return m.Limiter.Admit(now, r)
}

// queueing is a service whose clients never give up and whose load is rho of its capacity.
func queueing(servers int, rho float64, law Law, seed uint64) Config {
	cfg := rig(rho*float64(servers)/0.040, seed)
	cfg.Stages[0].Servers = servers
	cfg.Law = law
	return cfg
}

// M/M/c: an arrival waits with the probability C(c, a), and its mean wait is C(c, a)·E[S]/(c − a).
func TestErlangC(t *testing.T) {
	for _, c := range []struct {
		servers int
		rho     float64
		span    time.Duration
	}{
		{1, 0.7, 4000 * time.Second}, {8, 0.8, 1000 * time.Second}, {32, 0.9, 600 * time.Second}, {200, 0.95, 200 * time.Second},
	} {
		t.Run(fmt.Sprint(c.servers, " servers at ", c.rho), func(t *testing.T) {
			a := c.rho * float64(c.servers)
			waits := erlangC(c.servers, a)
			wait := map[uint64]float64{}
			agrees(t, waits, 0.1, func(seed uint64) float64 {
				m := &meets{Limiter: NewLimiter(math.Inf(1)), many: c.servers}
				p := New(queueing(c.servers, c.rho, Exponential(), seed), m, onePhase(c.span))
				p.Run(c.span)
				counters := p.instances[0].parts[0]
				wait[seed] = counters.latencySum/counters.completed - 0.040
				return m.found / m.all
			})
			agrees(t, waits*0.040/(float64(c.servers)-a), 0.25, func(seed uint64) float64 { return wait[seed] })
		})
	}
}

// M/G/c/c: where the limit is the number of servers nobody queues, and the share refused is B(c, a) whatever the law of
// the service times.
func TestErlangB(t *testing.T) {
	for name, law := range map[string]Law{
		"exponential": Exponential(), "deterministic": Deterministic(), "bimodal": Bimodal(0.1, 5.5),
		"lognormal": Lognormal(1.5),
	} {
		t.Run(name, func(t *testing.T) {
			const servers, rho = 32, 1.1
			b := 1.0
			for k := 1.0; k <= servers; k++ {
				b = rho * servers * b / (k + rho*servers*b)
			}
			agrees(t, b, 0.05, func(seed uint64) float64 {
				score := onePhase(300 * time.Second)
				New(queueing(servers, rho, law, seed), NewLimiter(servers), score).Run(300 * time.Second)
				return float64(score.Phases[0].Refused) / float64(score.Phases[0].Offered)
			})
		})
	}
}

// M/G/1, Pollaczek and Khinchine: the mean wait is ρ/(1−ρ)·E[S]·(1+c²)/2, where c² is the squared coefficient of variation.
func TestPollaczekKhinchine(t *testing.T) {
	for _, c := range []struct {
		name       string
		law        Law
		dispersion float64
		precision  float64
	}{
		{"deterministic", Deterministic(), 0, 0.05},
		{"exponential", Exponential(), 1, 0.05},
		{"bimodal", Bimodal(0.1, 5.5), 2*(0.9*0.25+0.1*5.5*5.5) - 1, 0.08},
		{"lognormal", Lognormal(1.5), math.Exp(1.5*1.5) - 1, 0.4},
	} {
		t.Run(c.name, func(t *testing.T) {
			const rho, span = 0.6, 8000 * time.Second
			agrees(t, rho/(1-rho)*0.040*(1+c.dispersion)/2, c.precision, func(seed uint64) float64 {
				m := &sojourn{Limiter: NewLimiter(math.Inf(1))}
				p := New(queueing(1, rho, c.law, seed), m, onePhase(span))
				p.Run(span)
				return m.sum/m.n - 0.040
			})
		})
	}
}

// sojourn adds up how long requests are in the plant.
type sojourn struct {
	*Limiter
	sum, n float64
}

func (s *sojourn) Done(now time.Duration, r Request, o Outcome) {
	s.sum += (now - r.Arrived).Seconds()
	s.n++
	s.Limiter.Done(now, r, o)
}

// Every law has mean 1, and the tail that its name says.
func TestLaws(t *testing.T) {
	for _, c := range []struct {
		name      string
		law       Law
		precision float64
	}{
		{"deterministic", Deterministic(), 1e-9},
		{"exponential", Exponential(), 0.02},
		{"the zero value", Law{}, 0.02},
		{"lognormal", Lognormal(1.5), 0.05},
		{"bimodal", Bimodal(0.1, 5.5), 0.02},
		{"pareto 3", Pareto(3), 0.02},
	} {
		t.Run(c.name, func(t *testing.T) {
			agrees(t, 1, c.precision+1e-6, func(seed uint64) float64 {
				r := rand.New(rand.NewPCG(seed, 2))
				var sum float64
				const n = 100_000
				for range n {
					sum += c.law.unit(r)
				}
				return sum / n
			})
		})
	}
	// Pareto 1.8 has no variance, hence no standard error: its tail is checked instead, P(X > x) = (x_m/x)^1.8, and its
	// mean to 3% over five million draws.
	r := rand.New(rand.NewPCG(1, 2))
	const n, least = 5_000_000, 0.8 / 1.8
	var sum, above float64
	for range n {
		x := Pareto(1.8).unit(r)
		sum += x
		if x > 10*least {
			above++
		}
	}
	want := math.Pow(10, -1.8)
	if se := math.Sqrt(want / n); math.Abs(above/n-want) > 4*se {
		t.Errorf("pareto: %.5f of the draws are above ten times the least, want %.5f", above/n, want)
	}
	if math.Abs(sum/n-1) > 0.03 {
		t.Errorf("pareto: mean %.4f, want 1", sum/n)
	}
}

func TestLawsThatMakeNoSensePanic(t *testing.T) {
	for name, law := range map[string]func(){
		"pareto without a mean": func() { Pareto(1) }, "negative sigma": func() { Lognormal(-1) },
		"nothing left": func() { Bimodal(0.5, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			law()
		})
	}
}
