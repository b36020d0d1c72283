package simulate_test

import (
	"math"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
)

// Below three times the base load priorities need no controller: a fixed threshold of 0.6 serves critical requests just
// as well. The law is for deep overload.
func TestFixedThresholdIsAsGoodBelowThreeTimes(t *testing.T) {
	critical := func(scenario string, c simulate.Contender) (share float64) {
		s, err := simulate.Get(scenario)
		if err != nil {
			t.Fatal(err)
		}
		for _, seed := range seeds {
			r := run(simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual, Seed: seed})
			p := r.Score.Phases[s.Phase(simulate.Fault)]
			share += 100 * float64(p.GoodBy[0]) / float64(p.OfferedBy[0]) / float64(len(seeds))
		}
		return share
	}
	for _, scenario := range []string{"x2", "burst12"} {
		if fixed, law := critical(scenario, simulate.ShedFixed), critical(scenario, simulate.Shed); math.Abs(law-fixed) > 0.1 {
			t.Errorf("%s: %.2f %% of the critical served with 0.6, %.2f %% with the law", scenario, fixed, law)
		}
	}
	if fixed, law := critical("x5", simulate.ShedFixed), critical("x5", simulate.Shed); law < fixed+1 {
		t.Errorf("x5: %.2f %% of the critical served with 0.6, %.2f %% with the law", fixed, law)
	}
}

// Nothing is shed without need: twenty periods after the load has gone, no request is refused.
func TestNothingIsShedAfterTheLoadHasGone(t *testing.T) {
	for _, name := range []string{"x5", "burst12"} {
		eachSeed(t, name, simulate.Shed, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
			heal := s.Phases[s.Phase(simulate.After)].From
			quiet := heal + 20*simulate.Usual.Period + simulate.Usual.Window
			for _, p := range during(r, quiet, s.End()) {
				if refused := float64(p.Decision.Inputs.RefusedShare); refused > 0 {
					t.Fatalf("at %v, %v after the load has gone, %.2f %% are refused", p.At, p.At-heal, 100*refused)
				}
			}
		})
	}
}

// A ten-second trigger in front of clients that retry four times: without a limit the service never recovers (Bronson
// et al., "Metastable Failures in Distributed Systems", HotOS 2021). With one it recovers within two seconds, and the
// clients need hardly more attempts than requests.
func TestRetriesDoNotKeepTheServiceDown(t *testing.T) {
	back := func(s simulate.Scenario, r simulate.Result) float64 {
		heal := s.Phases[s.Phase(simulate.After)].From
		good, offered := r.Score.Goodput(heal+2*time.Second, heal+7*time.Second)
		return float64(good) / float64(offered)
	}
	for _, name := range []string{"meta70", "meta90"} {
		eachSeed(t, name, simulate.None, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
			if after := r.Score.Phases[s.Phase(simulate.After)]; float64(after.Good) > 0.1*float64(after.Offered) {
				t.Errorf("without a limit %d of %d requests succeed afterwards: not metastable", after.Good, after.Offered)
			}
		})
		for _, c := range []simulate.Contender{simulate.Reflex, simulate.Cascade} {
			eachSeed(t, name, c, simulate.Usual, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
				if share := back(s, r); share < 0.95 {
					t.Errorf("%.1f %% of the requests succeed 2 s to 7 s after the trigger", 100*share)
				}
				after := r.Score.Phases[s.Phase(simulate.After)]
				if attempts := float64(after.Admitted+after.Refused) / float64(after.Offered); attempts > 1.15 {
					t.Errorf("%.2f attempts a request afterwards", attempts)
				}
			})
		}
	}
}

// thanos-io/thanos#1326 (A8): a counter that is reset in one of two replicas reads seventyfold for four ticks. No knob
// moves because of it, and the floor, which the capacity estimate makes, is where it was.
func TestCounterResetMovesNoKnob(t *testing.T) {
	s, err := simulate.Get("half")
	if err != nil {
		t.Fatal(err)
	}
	const struck = 200 * time.Second
	reset := func(now time.Duration, m *control.Measurement) {
		if now < struck || now >= struck+4*simulate.Usual.Period {
			return
		}
		times70 := func(r control.Reading) control.Reading { return control.Read(70 * r.Or(math.NaN())) }
		for i := range m.Instances {
			in := &m.Instances[i]
			for _, r := range []*control.Reading{&in.Offered, &in.Admitted, &in.Completed, &in.Slow} {
				*r = times70(*r)
			}
		}
	}
	for _, c := range []simulate.Contender{
		simulate.Outer, simulate.Cascade, simulate.CascadeRate, simulate.Shed, simulate.Rate,
	} {
		t.Run(string(c), func(t *testing.T) {
			t.Parallel()
			r := simulate.Run{Scenario: s, Contender: c, Timing: simulate.Usual, Seed: 1}
			spared := run(r) // a gateway steers by neither limit nor floor
			r.Spoil = reset
			hit := r.Do()
			for i, p := range hit.Points {
				if p.At > 290*time.Second {
					break
				}
				for j, d := range p.Decisions {
					want := spared.Points[i].Decisions[j]
					if move := math.Abs(math.Log(float64(d.Value / want.Value))); move > 0.05 {
						t.Fatalf("at %v %s is %v, without the reset %v: %s", p.At, d.Knob, d.Value, want.Value, d.Reason)
					}
					floor, wanted := float64(d.Gates.Floor), float64(want.Gates.Floor)
					if c != simulate.Rate && p.At >= struck+4*simulate.Usual.Period && math.Abs(floor/wanted-1) > 0.05 {
						t.Fatalf("at %v the capacity estimate makes a floor of %v, without the reset %v", p.At, floor, wanted)
					}
				}
			}
		})
	}
}

// The rate knob costs nothing beside a concurrency limit that can do the work, because it yields. Beside one that is at
// a minimum that is too high, it keeps the service alive.
func TestRateHelpsWhereTheLimitCannot(t *testing.T) {
	for _, timing := range []control.Timing{simulate.Fast, simulate.Usual} {
		eachSeed(t, "dip256", simulate.CascadeRate, timing, func(t *testing.T, s simulate.Scenario, r simulate.Result) {
			alone := run(simulate.Run{Scenario: s, Contender: simulate.Cascade, Timing: timing, Seed: 1})
			fault := s.Phase(simulate.Fault)
			without, with := alone.Score.Phases[fault], r.Score.Phases[fault]
			if without.Good*20 > without.Offered || with.Good*6 < with.Offered {
				t.Errorf("%d of %d requests in time with the rate, %d of %d without",
					with.Good, with.Offered, without.Good, without.Offered)
			}
			for _, p := range r.Points {
				if d := p.Knob(control.KnobRate); d.State != control.Hold && d.Detail == "" {
					t.Fatalf("at %v the decision does not say who acts: %s", p.At, d.Reason)
				}
			}
		})
	}
}
