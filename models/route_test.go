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
