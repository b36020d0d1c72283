package models

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

func rig(rps float64, seed uint64) Config {
	return Config{
		ServiceTime:  40 * ms,
		Load:         Constant(rps),
		Mix:          [Classes]float64{0.2, 0.5, 0.3, 0},
		Stages:       []Stage{{Servers: 32, Slowdown: 1}},
		Seed:         seed,
		LatencyEdges: []time.Duration{50 * ms, 100 * ms, 200 * ms, 300 * ms, 500 * ms, time.Second},
	}
}

func onePhase(to time.Duration) *Score {
	return NewScore(300*ms, 0.99, []Phase{{Name: "all", To: to}})
}

// erlangC is the probability of waiting in M/M/c at load a = λ/μ (Erlang's formula, by the recursion of his B formula).
func erlangC(servers int, a float64) float64 {
	b := 1.0
	for k := 1; k <= servers; k++ {
		b = a * b / (float64(k) + a*b)
	}
	return b / (1 - a/float64(servers)*(1-b))
}

// The plant without a limit is M/M/32, whose mean wait is known: C(32, a)·E[S]/(32 − a).
func TestMeanWaitIsErlangs(t *testing.T) {
	for _, rho := range []float64{0.7, 0.9, 0.95} {
		t.Run(fmt.Sprint(rho), func(t *testing.T) {
			rps := rho * 800
			const span = 3000 * time.Second
			p := New(rig(rps, 7), NewLimiter(math.Inf(1)), onePhase(span))
			p.Run(span)
			a := rho * 32
			want := 0.040 + erlangC(32, a)*0.040/(32-a)
			got := p.instances[0].parts[0].latencySum / p.instances[0].parts[0].completed
			// Waits are correlated over many busy periods: 3% of the sojourn is about four standard errors at 0.95.
			if math.Abs(got-want) > 0.03*want {
				t.Errorf("mean latency %.2f ms, M/M/32 has %.2f ms", got*1e3, want*1e3)
			}
		})
	}
}

// With a limit L the plant is M/M/32/L: the shares refused and the mean follow from its stationary distribution.
func TestLimitedPlantIsLossSystem(t *testing.T) {
	for _, limit := range []int{32, 40, 128} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			const rps, span = 1120.0, 600 * time.Second
			weight, sum, inSystem := 1.0, 1.0, 0.0
			for k := 1; k <= limit; k++ {
				weight *= rps * 0.040 / float64(min(k, 32))
				sum += weight
				inSystem += float64(k) * weight
			}
			blocked := weight / sum
			wantMean := inSystem / sum / (rps * (1 - blocked))

			p := New(rig(rps, 3), NewLimiter(float64(limit)), onePhase(span))
			p.Run(span)
			ph := p.score.Phases[0]
			if got := float64(ph.Refused) / float64(ph.Offered); math.Abs(got-blocked) > 0.005 {
				t.Errorf("refused %.4f of the offered, M/M/32/%d refuses %.4f", got, limit, blocked)
			}
			if got := p.instances[0].parts[0].latencySum / p.instances[0].parts[0].completed; math.Abs(got-wantMean) > 0.01*wantMean {
				t.Errorf("mean latency %.2f ms, M/M/32/%d has %.2f ms", got*1e3, limit, wantMean*1e3)
			}
		})
	}
}

// A single server's latency is exponential with mean 1/(μ−λ), which checks the whole distribution of the score.
func TestSingleServerLatencyIsExponential(t *testing.T) {
	cfg := rig(12.5, 5)
	cfg.Stages[0].Servers = 1
	const span = 40000 * time.Second
	p := New(cfg, NewLimiter(math.Inf(1)), onePhase(span))
	p.Run(span)
	for _, q := range []float64{0.5, 0.9, 0.99} {
		want := -math.Log(1-q) / (25 - 12.5)
		if got := p.score.Phases[0].Quantile(q).Seconds(); math.Abs(got-want) > 0.04*want {
			t.Errorf("quantile %v: %.1f ms, M/M/1 has %.1f ms", q, got*1e3, want*1e3)
		}
	}
}

// What arrives, and what it will cost, must not depend on what is admitted: contenders are compared request by request.
func TestArrivalsDoNotDependOnAdmissions(t *testing.T) {
	run := func(limit float64) []Request {
		var seen []Request
		p := New(rig(1500, 11), spy{NewLimiter(limit), func(r Request) {
			r.Slot = 0 // which place is free does depend on admissions
			seen = append(seen, r)
		}}, onePhase(10*time.Second))
		p.Run(10 * time.Second)
		return seen
	}
	tight, open := run(8), run(math.Inf(1))
	if !slices.Equal(tight, open) {
		t.Fatal("arrivals differ between a tight and an open limit")
	}
	if len(tight) < 14000 {
		t.Fatalf("%d arrivals in 10 s at 1500/s", len(tight))
	}
}

type spy struct {
	*Limiter
	saw func(r Request)
}

func (s spy) Admit(now time.Duration, r Request) Verdict {
	s.saw(r)
	return s.Limiter.Admit(now, r)
}

// The service draw of a request depends on its number alone: with 32 servers and no queue, each admitted request has
// the same latency whatever was admitted before it.
func TestServiceDrawsBelongToTheRequest(t *testing.T) {
	run := func(limit float64) map[uint64]time.Duration {
		cfg := rig(560, 2)
		cfg.Stages[0].Servers = 1000 // nobody waits
		took := map[uint64]time.Duration{}
		p := New(cfg, watcher{NewLimiter(limit), took}, onePhase(20*time.Second))
		p.Run(20 * time.Second)
		return took
	}
	few, all := run(10), run(math.Inf(1))
	if len(few) == len(all) {
		t.Fatal("the tight limit refused nothing")
	}
	for id, d := range few {
		if all[id] != d {
			t.Fatalf("request %d took %v behind a tight limit and %v behind none", id, d, all[id])
		}
	}
}

type watcher struct {
	*Limiter
	took map[uint64]time.Duration
}

func (w watcher) Done(now time.Duration, r Request, o Outcome) {
	w.took[r.ID] = now - r.Arrived
	w.Limiter.Done(now, r, o)
}

// A dependency holds its requests in flight and nothing else: +250 ms on half of the calls adds 125 ms to the mean and
// leaves the waits as they were.
func TestDependencyIsOffTheServers(t *testing.T) {
	mean := func(share float64) float64 {
		cfg := rig(560, 4)
		cfg.Stages[0].DependencyShare, cfg.Stages[0].DependencyDelay = share, 250*ms
		p := New(cfg, NewLimiter(math.Inf(1)), onePhase(200*time.Second))
		p.Run(200 * time.Second)
		return p.instances[0].parts[0].latencySum / p.instances[0].parts[0].completed
	}
	if d := mean(0.5) - mean(0); math.Abs(d-0.125) > 0.002 {
		t.Errorf("the dependency added %.1f ms to the mean, want 125", d*1e3)
	}
}

// Refusals take server time: at ×10 of 32 servers, 4.8 thousand of them a second at 0.2 ms cost about one server.
func TestRefusalsCostServerTime(t *testing.T) {
	completed := func(cost time.Duration) float64 {
		cfg := rig(5600, 6)
		cfg.RejectCost = cost
		p := New(cfg, NewLimiter(100), onePhase(100*time.Second))
		p.Run(100 * time.Second)
		return p.instances[0].parts[0].completed / 100
	}
	free, dear := completed(0), completed(200*time.Microsecond)
	if math.Abs(free-800) > 8 {
		t.Errorf("without a cost of refusals %.0f/s, capacity is 800/s", free)
	}
	// x of 5600 are served: x·40 ms + (5600 − x)·0.2 ms = 32 s a second.
	if want := (32 - 5600*0.0002) / (0.040 - 0.0002); math.Abs(dear-want) > 8 {
		t.Errorf("with it %.0f/s, want %.0f/s", dear, want)
	}
}

// Half of the servers lost, half of the throughput; a service five times slower, a fifth. Given back, all of it.
func TestStages(t *testing.T) {
	cfg := rig(2000, 8)
	cfg.Stages = []Stage{
		{From: 0, Servers: 32, Slowdown: 1},
		{From: 100 * time.Second, Servers: 16, Slowdown: 1},
		{From: 200 * time.Second, Servers: 32, Slowdown: 5},
		{From: 300 * time.Second, Servers: 32, Slowdown: 1},
	}
	p := New(cfg, NewLimiter(100), onePhase(400*time.Second))
	last := 0.0
	for i, want := range []float64{800, 400, 160, 800} {
		p.Run(time.Duration(i+1) * 100 * time.Second)
		if got := (p.instances[0].parts[0].completed - last) / 100; math.Abs(got-want) > 0.03*want+2 {
			t.Errorf("stage %d: %.0f/s, want %.0f/s", i, got, want)
		}
		last = p.instances[0].parts[0].completed
	}
}

// Two runs of one Config are the same run, also where one is advanced in pieces.
func TestSameSeedSameRun(t *testing.T) {
	run := func(step time.Duration) counters {
		p := New(rig(1120, 9), NewLimiter(60), onePhase(20*time.Second))
		for at := step; at <= 20*time.Second; at += step {
			p.Run(at)
		}
		return p.instances[0].parts[0].counters
	}
	a, b := run(20*time.Second), run(250*ms)
	if a.latencySum != b.latencySum || a.offered != b.offered || a.refused != b.refused {
		t.Errorf("runs differ: %+v and %+v", a, b)
	}
}

func TestHeapSorts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h eventHeap
	var want []time.Duration
	for range 1000 {
		e := event{at: time.Duration(r.IntN(500))}
		h.push(e)
		want = append(want, e.at)
	}
	slices.Sort(want)
	for i, at := range want {
		if got := h.pop().at; got != at {
			t.Fatalf("element %d is %d, want %d", i, got, at)
		}
	}
}

// BenchmarkPlant reports events (arrivals, ends of service) per second of one core.
func BenchmarkPlant(b *testing.B) {
	for _, load := range []float64{560, 1120, 5600} {
		b.Run(fmt.Sprintf("%.0frps", load), func(b *testing.B) {
			const span = 10 * time.Second
			events := 0.0
			for b.Loop() {
				p := New(rig(load, 1), NewLimiter(128), onePhase(span))
				p.Run(span)
				events += float64(p.lastID) + p.instances[0].parts[0].completed
			}
			b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// A client that is refused tries again as often as it may, and it is one request all the same; what it costs does not
// depend on the attempt.
func TestClientsRetry(t *testing.T) {
	cfg := rig(100, 3)
	cfg.Retries, cfg.RetryWait = 4, 10*time.Millisecond
	score := onePhase(20 * time.Second)
	attempts := map[uint64]int{}
	p := New(cfg, spy{NewLimiter(0), func(r Request) { attempts[r.ID]++ }}, score)
	p.Run(20 * time.Second)
	phase := score.Phases[0]
	if phase.Offered != len(attempts) || phase.Refused < 49*phase.Offered/10 || p.InFlight() != 0 {
		t.Fatalf("%d requests, %d seen, %d refusals, %d in flight", phase.Offered, len(attempts), phase.Refused, p.InFlight())
	}
	for id, n := range attempts {
		if n > 5 {
			t.Fatalf("request %d was sent %d times", id, n)
		}
	}
}

// A client that gives up leaves its request behind, in the queue and on a server, unless the service learns of it. An
// attempt that is answered in time is the last one.
func TestClientsGiveUp(t *testing.T) {
	run := func(retries int, cancel bool, servers int) (Phase, *Plant) {
		cfg := rig(560, 3)
		cfg.Stages[0].Servers = servers
		cfg.ClientTimeout, cfg.Retries, cfg.RetryWait, cfg.CancelPassedOn = time.Second, retries, time.Millisecond, cancel
		score := onePhase(30 * time.Second)
		p := New(cfg, NewLimiter(math.Inf(1)), score)
		p.Run(30 * time.Second)
		return score.Phases[0], p
	}
	if well, _ := run(4, false, 32); well.Admitted != well.Offered {
		t.Errorf("%d attempts for %d requests where all are answered", well.Admitted, well.Offered)
	}
	once, left := run(0, false, 6)
	again, _ := run(4, false, 6)
	if once.Admitted != once.Offered || again.Admitted < 3*again.Offered {
		t.Errorf("%d and %d attempts for %d requests", once.Admitted, again.Admitted, once.Offered)
	}
	if _, dropped := run(0, true, 6); left.InFlight() < 10000 || dropped.InFlight() > 700 {
		t.Errorf("%d left in the queue; %d where the service learns of cancellations", left.InFlight(), dropped.InFlight())
	}
}

// The mix of criticalities may change over time.
func TestMixOverTime(t *testing.T) {
	cfg := rig(1000, 5)
	cfg.Load.Mix = func(at time.Duration) [Classes]float64 {
		if at < 10*time.Second {
			return [Classes]float64{1}
		}
		return [Classes]float64{0, 0, 1}
	}
	score := NewScore(300*ms, 0.99, []Phase{
		{Name: "a", To: 10 * time.Second}, {Name: "b", From: 10 * time.Second, To: 20 * time.Second},
	})
	New(cfg, NewLimiter(64), score).Run(20 * time.Second)
	for i, class := range []int{0, 2} {
		if p := score.Phases[i]; p.OfferedBy[class] != p.Offered || p.Offered < 9000 {
			t.Errorf("phase %s: %d of %d requests of class %d", p.Name, p.OfferedBy[class], p.Offered, class)
		}
	}
}
