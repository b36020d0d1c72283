package models

import (
	"math"
	"testing"
	"time"
)

// mixed is a service with a fast route, slow jobs and long polls.
func mixed(seed uint64) Config {
	cfg := rig(1, seed)
	cfg.ClientTimeout = time.Second
	cfg.Routes = []Route{
		{Name: "fast", Load: Constant(280), ServiceTime: 40 * ms},
		{
			Name: "batch", Load: Pulse(0, 2, 0, 200*time.Second), ServiceTime: 4 * time.Second, Deadline: 60 * time.Second,
			Mix: [Classes]float64{0, 0, 0, 1},
		},
		{Name: "poll", Load: Constant(10), Hold: 20 * time.Second, Deadline: 25 * time.Second, Endless: true},
	}
	return cfg
}

// Each route has its own rate, mix and time; those with a deadline stand beside the totals.
func TestRoutes(t *testing.T) {
	score := onePhase(400 * time.Second)
	var endless, others int
	p := New(mixed(1), spy{NewLimiter(math.Inf(1)), func(r Request) {
		if r.Endless != (r.Route == 2) || r.Route == 1 && r.Criticality != 3 {
			t.Errorf("a request of route %d: %+v", r.Route, r)
		}
		if r.Endless {
			endless++
		} else {
			others++
		}
	}}, score)
	p.Run(400 * time.Second)
	ph := score.Phases[0]
	for i, want := range []float64{280 * 400, 2 * 200, 10 * 400} {
		if got := float64(ph.Routes[i].Offered); math.Abs(got-want) > 4*math.Sqrt(want) {
			t.Errorf("route %s: %v requests, want %v", ph.Routes[i].Name, got, want)
		}
	}
	if ph.Offered != ph.Routes[0].Offered || ph.Good != ph.Routes[0].Good || ph.Admitted != ph.Routes[0].Admitted {
		t.Errorf("the totals %+v are not those of the fast route", ph)
	}
	// Of the polls all that have finished by the end are good: all but those of the last 20 s.
	if poll := ph.Routes[2]; math.Abs(float64(poll.Offered-poll.Good)-200) > 60 || endless != poll.Offered {
		t.Errorf("%d of %d polls are good", poll.Good, poll.Offered)
	}
	if late, finished := score.Late(0, 400*time.Second); finished > ph.Offered || late > finished {
		t.Errorf("%d of %d late: jobs and polls must not count", late, finished)
	}
	if others == 0 || ph.OfferedBy[3] != 0 {
		t.Error("the jobs are in the totals by criticality")
	}
}

// A hold is in flight and on no server: ten polls a second of 20 s are 200 more in flight, and the others as fast as
// without them.
func TestHoldIsOffTheServers(t *testing.T) {
	run := func(polls float64) (inFlight float64, mean time.Duration) {
		cfg := mixed(2)
		cfg.Routes = []Route{cfg.Routes[0], cfg.Routes[2]}
		cfg.Routes[1].Load = Constant(polls)
		score := onePhase(200 * time.Second)
		p := New(cfg, NewLimiter(math.Inf(1)), score)
		tel := Scrape(p, 0, 0, time.Second)
		p.Run(200 * time.Second)
		return tel.Window(199*time.Second, 100*time.Second, 0, 300*ms).InFlight, score.Phases[0].Quantile(0.5)
	}
	few, without := run(0.001)
	many, with := run(10)
	if math.Abs(many-few-200) > 4*math.Sqrt(200) {
		t.Errorf("%.0f more in flight, want 200", many-few)
	}
	if math.Abs(with.Seconds()-without.Seconds()) > 0.002 {
		t.Errorf("median %v with polls, %v without", with, without)
	}
}

// aside lets declared endless requests in without a place.
type aside struct{ *Limiter }

func (a aside) Admit(now time.Duration, r Request) Verdict {
	if r.Endless {
		return Aside
	}
	return a.Limiter.Admit(now, r)
}

func (a aside) Done(now time.Duration, r Request, o Outcome) {
	if !r.Endless {
		a.Limiter.Done(now, r, o)
	}
}

// What is admitted aside is served, and no telemetry knows of it.
func TestAsideIsInNoTelemetry(t *testing.T) {
	score := onePhase(200 * time.Second)
	p := New(mixed(3), aside{NewLimiter(64)}, score)
	tel := Scrape(p, 0, 0, time.Second)
	p.Run(200 * time.Second)
	w := tel.Window(199*time.Second, 100*time.Second, 0, 300*ms)
	if math.Abs(w.Offered-282*100) > 800 || w.InFlight > 60 || w.Mean > 0.2 {
		t.Errorf("offered %.0f, in flight %.0f, mean %.3f s", w.Offered, w.InFlight, w.Mean)
	}
	if poll := score.Phases[0].Routes[2]; poll.Refused > 0 || poll.Good < 1500 {
		t.Errorf("polls: %+v", poll)
	}
}

func TestRoutesThatMakeNoSensePanic(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"neither service nor hold": func(c *Config) { c.Routes[2].Hold = 0 },
		"no load":                  func(c *Config) { c.Routes[1].Load = Load{} },
		"a mix of 90%":             func(c *Config) { c.Routes[1].Mix = [Classes]float64{0.9} },
		"a deadline and retries":   func(c *Config) { c.Retries = 1 },
		"two compartments of one":  func(c *Config) { c.Compartments = []Compartment{{Routes: []int{1}}, {Routes: []int{1}}} },
		"compartment of no route":  func(c *Config) { c.Compartments = []Compartment{{Routes: []int{3}}} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mixed(1)
			change(&cfg)
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			New(cfg, NewLimiter(1), onePhase(time.Second))
		})
	}
}

// divided refuses every second request of the second route, as its share, and reports on it apart.
type divided struct {
	own, other *Limiter
	seen       int
}

func (d *divided) of(r Request) *Limiter {
	if r.Route == 1 {
		return d.other
	}
	return d.own
}

func (d *divided) Admit(now time.Duration, r Request) Verdict {
	if r.Route == 1 {
		if d.seen++; d.seen%2 == 0 {
			return RefusedByShare
		}
	}
	return d.of(r).Admit(now, r)
}

func (d *divided) Done(now time.Duration, r Request, o Outcome) { d.of(r).Done(now, r, o) }

func (d *divided) Report(now time.Duration) Report {
	r := d.own.Report(now)
	r.Compartments = []Report{d.other.Report(now)}
	return r
}

// What a Compartment counts is missing in the telemetry of the service, and the other way round.
func TestCompartmentHasTelemetryOfItsOwn(t *testing.T) {
	cfg := mixed(4)
	cfg.Routes = cfg.Routes[:2]
	cfg.Routes[1].Load = Constant(2)
	cfg.Compartments = []Compartment{{Routes: []int{1}, LatencyEdges: []time.Duration{4 * time.Second, 8 * time.Second}}}
	score := onePhase(300 * time.Second)
	p := New(cfg, &divided{own: NewLimiter(64), other: NewLimiter(20)}, score)
	own := Scrape(p, 0, 0, time.Second)
	p.Run(300 * time.Second)
	at, span := 299*time.Second, 250*time.Second
	w, of := own.Window(at, span, 0, 300*ms), own.Compartment(0).Window(at, span, 0, 8*time.Second)
	rate := [2]float64{cfg.Routes[0].Load.Rate(0), cfg.Routes[1].Load.Rate(0)}
	for i, x := range []Window{w, of} {
		if want := rate[i] * span.Seconds(); math.Abs(x.Offered-want) > 5*math.Sqrt(want) {
			t.Errorf("part %d: %.0f offered, want %.0f", i, x.Offered, want)
		}
		if x.Limit != [2]float64{64, 20}[i] || math.Abs(x.InFlight-x.Completed/span.Seconds()*x.Mean) > 0.1*x.InFlight {
			t.Errorf("part %d: limit %v, in flight %.2f, by Little's law %.2f", i, x.Limit, x.InFlight, x.Completed/span.Seconds()*x.Mean)
		}
	}
	if w.Refused != 0 || math.Abs(of.RefusedByShare/of.Offered-0.5) > 0.02 || of.Refused != of.RefusedByShare || of.ByClass[1].Refused != 0 {
		t.Errorf("refused %v, of the compartment %v, by its share %v, of %v", w.Refused, of.Refused, of.RefusedByShare, of.Offered)
	}
	if len(w.Buckets) != len(cfg.LatencyEdges)+1 || len(of.Buckets) != 3 || !(of.Slow > 0 && of.Slow < of.Completed) {
		t.Errorf("%d and %d buckets, %v of %v slow", len(w.Buckets), len(of.Buckets), of.Slow, of.Completed)
	}
}
