package simulate_test

import (
	"math"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
)

// eachSeed runs a scenario with every seed and hands over what came of it.
func eachSeed(t *testing.T, name string, c simulate.Contender, timing control.Timing,
	check func(t *testing.T, s simulate.Scenario, r simulate.Result),
) {
	t.Helper()
	s, err := simulate.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range seeds {
		t.Run(string(c)+" S="+timing.Scrape.String()+" seed="+string('0'+rune(seed)), func(t *testing.T) {
			t.Parallel()
			check(t, s, run(simulate.Run{Scenario: s, Contender: c, Timing: timing, Seed: seed}))
		})
	}
}

// during returns the points of a span.
func during(r simulate.Result, from, to time.Duration) (points []simulate.Point) {
	for _, p := range r.Points {
		if p.At >= from && p.At < to {
			points = append(points, p)
		}
	}
	return points
}

// A dependency becomes slow and no servers are missing: governor leaves a limit that does not bind alone.
func TestLimitThatDoesNotBindIsLeftAlone(t *testing.T) {
	for _, name := range []string{"dep128", "dep200"} {
		t.Run(name, func(t *testing.T) {
			for _, timing := range []control.Timing{simulate.Fast, simulate.Usual} {
				eachSeed(t, name, simulate.Outer, timing, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
					for _, p := range r.Points {
						if p.Limit != s.Start {
							t.Fatalf("at %v: %s", p.At, p.Decision.Reason)
						}
					}
				})
			}
		})
	}
}

// The same dependency with a limit that binds: the floor test finds that limiting cannot help, reports it, and restores
// the limit to where it refuses nothing.
func TestLimitThatCannotHelpIsPutBack(t *testing.T) {
	for _, timing := range []control.Timing{simulate.Fast, simulate.Usual} {
		eachSeed(t, "dep60", simulate.Outer, timing, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
			fault := s.Phases[s.Phase(simulate.Fault)]
			said := false
			for _, p := range during(r, fault.From, fault.To) {
				said = said || p.Decision.State == control.Ineffective
			}
			if !said {
				t.Error("nobody said that limiting is ineffective")
			}
			// 92 requests are in flight on average where all are admitted.
			if last := r.Limits[int(fault.To/time.Second)-1]; last < 92 {
				t.Errorf("at the end of the fault the limit is %v, which still refuses", last)
			}
		})
	}
}

// Netflix/concurrency-limits#147 (A14): no need, no growth. Five requests a second say nothing about a limit of 96.
func TestIdleServiceKeepsItsLimit(t *testing.T) {
	for _, c := range []simulate.Contender{simulate.Outer, simulate.Cascade} {
		eachSeed(t, "idle", c, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
			for _, p := range r.Points {
				if p.Limit != 96 || p.Effective != 96 {
					t.Fatalf("at %v the limit is %v, in effect %v: %s", p.At, p.Limit, p.Effective, p.Decision.Reason)
				}
			}
		})
	}
}

// Netflix/concurrency-limits#155 (A14): healthy and binding at the maximum is a state to report, not a reason to cut.
func TestMaximumIsReportedAndKept(t *testing.T) {
	eachSeed(t, "atmax", simulate.Outer, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
		for _, p := range during(r, time.Minute, s.End()) {
			if p.Limit != 400 || p.Decision.State != control.AtMax {
				t.Fatalf("at %v the limit is %v and the state %s: %s", p.At, p.Limit, p.Decision.State, p.Decision.Reason)
			}
		}
	})
}

// vectordotdev/vector#3255 (A14): the way up from the floor takes a documented number of periods. A raise is at most
// 0.6·T/θ in ln units (0.2 at S=5), so from 20 to 96 it takes eight, after one without data and one of holding.
func TestWayUpFromTheFloor(t *testing.T) {
	for _, c := range []simulate.Contender{simulate.Outer, simulate.Cascade} {
		eachSeed(t, "low", c, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
			for i, p := range r.Points {
				if p.Effective >= 96 {
					if i > 12 {
						t.Errorf("96 is reached after %d periods, want 12 at most", i)
					}
					return
				}
			}
			t.Error("96 is never reached")
		})
	}
}

// kubernetes/enhancements PR 883 (A16), the flap budget: where nothing happens, a knob is written at most once a
// minute.
func TestCalmIsNotWrittenAbout(t *testing.T) {
	for _, c := range []simulate.Contender{simulate.Outer, simulate.Cascade} {
		for _, timing := range []control.Timing{simulate.Fast, simulate.Usual, simulate.Slow} {
			eachSeed(t, "half", c, timing, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
				calm := s.Phases[s.Phase(simulate.Calm)]
				if n := r.WritesIn(calm.To-4*time.Minute, calm.To); n > 4 {
					t.Errorf("%d writes in four minutes of calm", n)
				}
			})
		}
	}
}

// kubernetes/enhancements PR 883, gardener/gardener PR 389 (A16): with a dead time of 45 s, acting again before the
// first action shows would cut twice for one loss.
func TestHalvedCapacityIsCutForOnce(t *testing.T) {
	eachSeed(t, "halved", simulate.Outer, simulate.Slow, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
		fault := s.Phases[s.Phase(simulate.Fault)]
		settle := simulate.Slow.Settle()
		var first *simulate.Point
		var least, lowestX float64
		for _, p := range during(r, fault.From, fault.To) {
			if first == nil && p.Decision.State == control.Cutting {
				first, least, lowestX = &p, p.Limit, math.Inf(1)
			}
			if first != nil && p.At < first.At+settle {
				least = min(least, p.Limit)
				lowestX = min(lowestX, float64(p.Decision.Inputs.Throughput))
			}
		}
		if first == nil {
			t.Fatal("half of the servers are gone and nothing was cut")
		}
		// The error at the lowest throughput seen: completions that go on falling are a reason to cut further.
		from := float64(first.Decision.From)
		most := math.Log(from / (lowestX * float64(first.Decision.Setpoint)))
		if cuts := math.Log(from / least); cuts > 1.1*most {
			t.Errorf("cuts of one settling time sum to %.2f, the error was %.2f (from %v to %v)", cuts, most, from, least)
		}

		rest := during(r, fault.To-20*time.Minute, fault.To)
		low, high := math.Inf(1), 0.0
		for _, p := range rest {
			low, high = min(low, p.Limit), max(high, p.Limit)
		}
		if amplitude := (high - low) / (high + low); amplitude > 0.1 {
			t.Errorf("twenty minutes later the limit still moves between %v and %v", low, high)
		}
		if n := r.WritesIn(fault.To-20*time.Minute, fault.To); n > 20 {
			t.Errorf("%d writes in twenty minutes of rest", n)
		}
	})
}

// The same loss under AIMD: a multiplicative decrease must be seen before the next one.
func TestAIMDCutsOncePerSettlingTime(t *testing.T) {
	eachSeed(t, "halved", simulate.OuterAIMD, simulate.Slow, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
		last := time.Duration(-1)
		cuts := 0
		for i := 1; i < len(r.Points); i++ {
			p := r.Points[i]
			if p.Limit >= r.Points[i-1].Limit || p.Decision.Gates.FloorTest == "halved" {
				continue
			}
			if cuts++; last >= 0 && p.At-last < simulate.Slow.Settle() {
				t.Errorf("cuts at %v and %v, the settling time is %v", last, p.At, simulate.Slow.Settle())
			}
			last = p.At
		}
		if cuts == 0 {
			t.Error("half of the servers are gone and nothing was cut")
		}
	})
}

// envoyproxy/envoy#38338, Netflix/concurrency-limits PR 134 (A16): a target that follows slow degradation lets it pass.
// One percent per minute for two hours, and the latency target is where the SLO puts it.
func TestSetpointDoesNotFollowDegradation(t *testing.T) {
	eachSeed(t, "degrade", simulate.Outer, simulate.Slow, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
		fault := s.Phases[s.Phase(simulate.Fault)]
		calm := 0.0
		for _, p := range during(r, fault.From-5*time.Minute, fault.From) {
			calm = max(calm, float64(p.Decision.LatencyTarget))
		}
		for _, p := range during(r, fault.From, fault.To) {
			if target := float64(p.Decision.LatencyTarget); target > 1.06*calm {
				t.Fatalf("at %v the latency target is %.0f ms, it was %.0f ms in the calm: %s",
					p.At, target*1e3, calm*1e3, p.Decision.Reason)
			}
		}
		p := r.Score.Phases[s.Phase(simulate.Fault)]
		t.Logf("goodput of the two hours %.3f, p99 of the admitted %v", float64(p.Good)/float64(p.Offered), p.Quantile(0.99))
	})
}

// fluxninja/aperture#949, felixge/pidctrl PR 5 (A13): half an hour against the minimum must not have wound anything up.
// The limit leaves it on the first decision that sees a fast service behind a binding limit.
func TestHalfAnHourAtTheMinimumWindsNothingUp(t *testing.T) {
	eachSeed(t, "crisis", simulate.Outer, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
		after := s.Phases[s.Phase(simulate.After)]
		previous := math.NaN()
		for _, p := range during(r, after.From, after.To) {
			d := p.Decision
			// While more is late than the SLO allows, nothing is raised: the window still holds the crisis.
			if d.State != control.Hold && d.Gates.Binds && d.Measured <= 0.6*d.Setpoint && d.Inputs.BadRatio <= 1 {
				if p.Limit <= float64(d.From) {
					t.Fatalf("at %v, %v after the end of the crisis, the limit stays at %v: %s",
						p.At, p.At-after.From, p.Limit, d.Reason)
				}
				return
			}
			previous = p.Limit
		}
		t.Errorf("the limit never bound a fast service; it was %v", previous)
	})
}
