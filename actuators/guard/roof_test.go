package guard

import (
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func TestMaxMin(t *testing.T) {
	for _, tc := range []struct {
		name           string
		asked, weights []float64
		capacity       float64
		want           []float64
	}{
		{"enough for all", []float64{1, 2, 3}, []float64{1, 1, 1}, 10, []float64{1, 2, 3}},
		{"equal weights", []float64{9, 9, 9}, []float64{1, 1, 1}, 6, []float64{2, 2, 2}},
		{"by weight", []float64{9, 9}, []float64{1, 3}, 8, []float64{2, 6}},
		{"what one does not need is lent", []float64{1, 9, 9}, []float64{2, 1, 1}, 7, []float64{1, 3, 3}},
		{"lent by weight", []float64{9, 1, 9}, []float64{1, 1, 3}, 9, []float64{2, 1, 6}},
		{"one idle", []float64{0, 9}, []float64{9, 1}, 5, []float64{0, 5}},
		{"nothing there", []float64{1, 2}, []float64{1, 1}, 0, []float64{0, 0}},
	} {
		if got := maxMin(tc.asked, tc.weights, tc.capacity); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Nobody gets more than asked; all of the capacity is given if it is asked for; and whoever gets less than asked gets as
// much per weight as anybody, at least.
func TestMaxMinIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "compartments")
		asked := rapid.SliceOfN(rapid.Float64Range(0, 10), n, n).Draw(t, "asked")
		weights := rapid.SliceOfN(rapid.Float64Range(0.01, 1), n, n).Draw(t, "weights")
		capacity := rapid.Float64Range(0, 30).Draw(t, "capacity")
		given, sum, wanted := maxMin(asked, weights, capacity), 0.0, 0.0
		for i := range given {
			sum, wanted = sum+given[i], wanted+asked[i]
			if given[i] > asked[i] || given[i] < 0 {
				t.Errorf("%v of %v", given, asked)
			}
			for j := range given {
				if given[i] < asked[i] && given[i]/weights[i] < given[j]/weights[j]-1e-9 {
					t.Errorf("%d gets less per weight than %d: %v of %v by %v", i, j, given, asked, weights)
				}
			}
		}
		if math.Abs(sum-min(wanted, capacity)) > 1e-9 {
			t.Errorf("%v of %v given, %v wanted", sum, capacity, wanted)
		}
	})
}

// roofed is a guard with the routes a and b. The reports are such that a request takes 0.1 s of work. The weights are those of a,
// b and the service itself.
func roofed(t *testing.T, weights ...float64) *roof {
	t.Helper()
	weights = append(weights, 0, 0, 0)
	g := simGuard(t, Config{Weight: weights[2], Routes: map[string]Route{
		"a": {SLO: time.Second, Weight: weights[0]}, "b": {SLO: time.Second, Weight: weights[1]},
	}})
	for _, part := range g.roof.parts {
		part.told.Store(&report{work: 0.1, target: 0.4, limit: 100, ceiling: 100})
	}
	return g.roof
}

// asks has each compartment ask for and finish so many requests a second, which take so long, in seconds.
func (r *roof) asks(asked, finished, took [3]float64) {
	for i := range r.demands {
		d := &r.demands[i]
		d.past = counts{arrivals: asked[i], finished: finished[i], seconds: finished[i] * took[i]}
		d.span = 1
	}
}

// learns has each compartment do so much work per second in calm, and learn that from so many seconds.
func (r *roof) learns(work [3]float64, seconds float64) {
	for i := range r.demands {
		r.demands[i].calm = work[i]
	}
	r.calm = seconds
}

func TestDivide(t *testing.T) {
	near := func(t *testing.T, given []float64, want ...float64) {
		t.Helper()
		for i := range want {
			if !(math.Abs(given[i]-want[i]) < 0.01*want[i]+1e-6) {
				t.Errorf("given %v, want %v", given, want)
				return
			}
		}
	}
	flood, done, took := [3]float64{0, 1000, 1000}, [3]float64{0, 50, 50}, [3]float64{0, 0.1, 0.1}
	t.Run("configured weights", func(t *testing.T) {
		r := roofed(t, 1, 3)
		r.asks(flood, done, took)
		given, short := r.divide(41)
		near(t, given, 1, 10, 30) // the service itself asks for nothing and keeps one slot
		if !slices.Equal(short, []bool{false, true, true}) {
			t.Errorf("short %v", short)
		}
	})
	all := [3]float64{1000, 1000, 1000}
	t.Run("those with weights divide what they would have without", func(t *testing.T) {
		r := roofed(t, 3, 1)
		r.learns([3]float64{6, 1, 3}, demandCalm.Seconds())
		r.asks(all, [3]float64{50, 50, 50}, [3]float64{0.1, 0.1, 0.1})
		given, _ := r.divide(100)
		near(t, given, 60, 30, 10)
	})
	t.Run("the service itself has a weight, too", func(t *testing.T) {
		r := roofed(t, 2, 0, 6)
		r.learns([3]float64{1, 3, 6}, demandCalm.Seconds())
		r.asks(all, [3]float64{50, 50, 50}, [3]float64{0.1, 0.1, 0.1})
		given, _ := r.divide(100)
		near(t, given, 30, 10, 60)
	})
	t.Run("weights for all need no calm", func(t *testing.T) {
		for _, scale := range []float64{0.01, 1, 100} {
			r := roofed(t, 3*scale, 1*scale, 6*scale)
			r.learns([3]float64{}, demandCalm.Seconds())
			r.asks(all, [3]float64{50, 50, 50}, [3]float64{0.1, 0.1, 0.1})
			given, _ := r.divide(100)
			near(t, given, 60, 30, 10)
		}
	})
	t.Run("what an idle one with a large weight leaves is first for the others with weights", func(t *testing.T) {
		r := roofed(t, 1, 0, 1000)
		r.learns([3]float64{0, 1, 1}, demandCalm.Seconds())
		r.asks(flood, done, took)
		given, _ := r.divide(101)
		near(t, given, 1, 50.5, 49.5) // the service itself counts as a hundredth
	})
	t.Run("weights learned in calm", func(t *testing.T) {
		r := roofed(t)
		r.learns([3]float64{0, 1, 3}, demandCalm.Seconds())
		r.asks(flood, done, took)
		given, _ := r.divide(41)
		near(t, given, 1, 10, 30)
	})
	t.Run("no calm yet", func(t *testing.T) {
		r := roofed(t)
		r.asks(flood, done, took)
		given, _ := r.divide(41)
		near(t, given, 1, 20, 20)
	})
	t.Run("half as calm as it takes", func(t *testing.T) {
		r := roofed(t)
		r.learns([3]float64{0, 0, 1}, demandCalm.Seconds()/2)
		r.asks(flood, done, took)
		given, _ := r.divide(41)
		near(t, given, 1, 8, 32) // 1/6 and 4/6
	})
	t.Run("a tiny weight is not nothing", func(t *testing.T) {
		r := roofed(t)
		r.learns([3]float64{0, 1, 0}, demandCalm.Seconds())
		r.asks(flood, done, took)
		given, _ := r.divide(102)
		near(t, given, 1, 100, 1)
	})
	t.Run("what one needs is left to it, with room for its bursts", func(t *testing.T) {
		r := roofed(t, 3, 1)
		r.asks([3]float64{0, 40, 1000}, [3]float64{0, 40, 60}, took)
		given, short := r.divide(51)
		near(t, given, 1, 10, 40) // 4 in flight + 3·√4
		if !slices.Equal(short, []bool{false, false, true}) {
			t.Errorf("short %v", short)
		}
	})
	t.Run("the same work in slower requests takes more slots", func(t *testing.T) {
		r := roofed(t, 1, 1)
		r.asks(flood, done, [3]float64{0, 0.1, 0.4})
		given, _ := r.divide(51)
		near(t, given, 1, 10, 40)
	})
	t.Run("before anything has finished, the weights decide", func(t *testing.T) {
		r := roofed(t, 1, 3)
		r.asks(flood, [3]float64{}, [3]float64{})
		given, _ := r.divide(41)
		near(t, given, 1, 10, 30)
	})
}

// A compartment is never without a slot, even under a roof of one.
func TestShareIsAtLeastOneSlot(t *testing.T) {
	r := roofed(t)
	r.asks([3]float64{1000, 1000, 1000}, [3]float64{0, 0, 50}, [3]float64{0, 0, 0.1})
	r.until = time.Hour
	r.gate.setLimit(0, 1)
	for range 100 {
		r.share(0, 1)
	}
	for i, part := range r.parts {
		if limit, _ := unpack(part.gate.word.Load()); limit < 1 {
			t.Errorf("compartment %d: a limit of %d", i, limit)
		}
		if given := part.given.Load(); given > 3 {
			t.Errorf("compartment %d: given %d", i, given)
		}
	}
}

// Under a flood of a slack route the tight requests keep what they need. The shares end some seconds after the flood.
func TestRoofKeepsTheTight(t *testing.T) {
	g := simGuard(t, Config{Routes: map[string]Route{"export": {SLO: 10 * time.Second}}})
	p := newPlant(g, 1) // 800 a second
	p.rate, p.exports = 500, 0.2
	p.run(90 * time.Second)
	calm := p.snapshot()
	if n := calm.Roof.Limit; n < calm.Limit || calm.Share+calm.Routes[0].Share > 0 {
		t.Errorf("in calm: roof %d, limit %d, shares %d and %d", n, calm.Limit, calm.Share, calm.Routes[0].Share)
	}
	p.rate, p.exports = 2000, 0.8
	p.run(30 * time.Second)
	from := p.snapshot()
	p.run(60 * time.Second)
	to := p.snapshot()
	share := func(a, b Snapshot) float64 {
		offered := b.Offered[Default] - a.Offered[Default]
		return float64(offered-(b.Admitted[Default]-a.Admitted[Default])) / float64(offered)
	}
	tight, slack := share(from, to), share(from.Routes[0], to.Routes[0])
	mean := (to.Latency.Sum - from.Latency.Sum) / float64(to.Latency.Count-from.Latency.Count)
	t.Logf("refused: %.3f of the tight, whose mean is %.3f s, %.3f of the slack; roof %d, share %d", tight, mean, slack, to.Roof.Limit,
		to.Routes[0].Share)
	if tight > 0.1 || slack < 0.6 || mean > 0.15 || to.Routes[0].Share == 0 {
		t.Error("expected at most 0.1, at least 0.6, at most 0.15 s, and a share")
	}
	p.rate, p.exports = 500, 0.2
	p.run(20 * time.Second)
	if s := p.snapshot(); s.Share+s.Routes[0].Share > 0 {
		t.Errorf("after the flood: shares %d and %d", s.Share, s.Routes[0].Share)
	}
}

// While the tight have no requests, the slack may use the whole service, however low the tight had brought the roof. When they come
// back, the slack make room for their part of the work.
func TestRoofWithoutTheTight(t *testing.T) {
	g := simGuard(t, Config{Routes: map[string]Route{"export": {SLO: 10 * time.Second}}})
	p := newPlant(g, 1)
	whole := p.servers
	p.rate, p.exports = 500, 0.2
	p.run(90 * time.Second)
	p.rate, p.exports, p.servers = 2000, 0.8, whole/8
	p.run(60 * time.Second)
	low := p.snapshot()
	p.rate, p.exports, p.servers = 1600, 1, whole
	p.run(120 * time.Second)
	from := p.snapshot()
	p.run(60 * time.Second)
	to := p.snapshot()
	done := float64(to.Routes[0].Latency.Count-from.Routes[0].Latency.Count) / 60
	t.Logf("roof %d, then %d; %.0f exports a second of 800", low.Roof.Limit, to.Roof.Limit, done)
	if done < 720 {
		t.Errorf("%.0f exports a second are done, want 720", done)
	}
	p.rate, p.exports = 2000, 0.8
	p.run(15 * time.Second)
	from = p.snapshot()
	p.run(60 * time.Second)
	to = p.snapshot()
	offered, admitted := to.Offered[Default]-from.Offered[Default], to.Admitted[Default]-from.Admitted[Default]
	mean := (to.Latency.Sum - from.Latency.Sum) / float64(to.Latency.Count-from.Latency.Count)
	t.Logf("%d of %d admitted, mean %.3f s", admitted, offered, mean)
	// The tight did 400 a second in calm, and the slack 800, so a third of 800 a second is theirs.
	if float64(admitted) < 0.6*float64(offered) || mean > 0.15 {
		t.Errorf("%d of %d of the tight admitted, mean %.3f s; want 0.6 of them, and 0.15 s", admitted, offered, mean)
	}
}

// A few tight requests beside a flood of slack ones bring the roof down by chance, and then show that it may rise. They are as
// fast under a higher one, and the slack ones do what the service can, 800 a second.
func TestFewTightDoNotHoldTheRoofDown(t *testing.T) {
	const few, span, plants = 1.3, 2 * time.Minute, 8
	done := 0.0
	for seed := range uint64(plants) {
		g := simGuard(t, Config{Routes: map[string]Route{"export": {SLO: time.Second}}})
		p := newPlant(g, seed+1)
		offer := func(exports float64) { p.rate, p.exports = exports+few, exports/(exports+few) }
		offer(400)
		p.run(90 * time.Second)
		offer(1600)
		p.run(10 * time.Second)
		from := p.snapshot()
		p.run(span)
		to := p.snapshot()
		done += float64(to.Routes[0].Latency.Count-from.Routes[0].Latency.Count) / span.Seconds() / plants
		if mean := (to.Latency.Sum - from.Latency.Sum) / float64(to.Latency.Count-from.Latency.Count); mean > g.cfg.SLO.Seconds()/2 {
			t.Errorf("seed %d: the tight take %.3f s on average", seed+1, mean)
		}
	}
	if t.Logf("%.0f exports a second of 800", done); done < 720 {
		t.Errorf("%.0f exports a second are done, want 720", done)
	}
}

// The roof looks at the latency of the tight alone: however long the slack take, they have the time.
func TestRoofSeesTheTight(t *testing.T) {
	g := simGuard(t, Config{SLO: 400 * time.Millisecond, Routes: map[string]Route{
		"buy": {SLO: 300 * time.Millisecond}, "export": {SLO: 10 * time.Second},
	}})
	for route, took := range map[string]time.Duration{"": 100 * ms, "/buy": 200 * ms, "/export": 9 * time.Second} {
		p, err := g.AdmitAt(epoch, Arrival{Route: route})
		if err != nil {
			t.Fatal(err)
		}
		p.ReleaseAt(epoch.Add(took), Success)
	}
	if sum := g.roof.tally(10 * time.Second); sum.finished != 2 || math.Abs(sum.seconds-0.3) > 1e-9 {
		t.Errorf("%d finished in %v s", sum.finished, sum.seconds)
	}
}

// A Setting that raises the limits raises the roof at once, as long as the roof has learned nothing of its own.
func TestRoofFollowsSettings(t *testing.T) {
	for _, off := range []bool{false, true} {
		g := simGuard(t, Config{NoReflex: off, Routes: map[string]Route{"export": {SLO: 10 * time.Second}}})
		limits := func(revision uint64, rest, export int) {
			t.Helper()
			for service, limit := range map[string]int{"checkout": rest, "checkout/export": export} {
				raw := settingOf(func(s *actuators.Setting) {
					s.Service, s.Revision, s.Concurrency.Limit, s.Concurrency.Ceiling = service, revision, limit, limit
				})
				apply := func() error { return g.ApplyRouteAt(epoch, "export", raw) }
				if service == "checkout" {
					apply = func() error { return g.ApplyAt(epoch, raw) }
				}
				if err := apply(); err != nil {
					t.Fatal(err)
				}
			}
		}
		limits(1, 200, 100)
		if s := g.SnapshotAt(epoch); s.Roof.Limit != 300 {
			t.Errorf("reflex off %v: a roof of %d over %d and %d", off, s.Roof.Limit, s.Limit, s.Routes[0].Limit)
		}
		limits(2, 20, 10)
		if s := g.SnapshotAt(epoch); s.Roof.Limit != 30 {
			t.Errorf("reflex off %v: a roof of %d over %d and %d", off, s.Roof.Limit, s.Limit, s.Routes[0].Limit)
		}
	}
}

// Without a reflex each compartment has the limit that was published for it: no share takes from it, however full all are.
func TestNoShareWithoutReflex(t *testing.T) {
	g := simGuard(t, Config{NoReflex: true, Max: 10, Fallback: 10, Routes: map[string]Route{
		"export": {SLO: 10 * time.Second, Max: 20, Fallback: 20},
	}})
	p := newPlant(g, 1)
	p.servers, p.exports = 8, 0.5
	p.run(30 * time.Second)
	s := p.snapshot()
	if s.Share+s.Routes[0].Share > 0 || s.Limit != 10 || s.Routes[0].Limit != 20 || s.Roof.Limit != 30 || p.refused == 0 {
		t.Errorf("limits %d and %d under %d, shares %d and %d, %d refused", s.Limit, s.Routes[0].Limit, s.Roof.Limit, s.Share,
			s.Routes[0].Share, p.refused)
	}
}

// What callers refuse in place of a route counts as its demand. Otherwise a route would lose its room to those whose callers
// refuse nothing.
func TestEarlyRefusalsAreDemand(t *testing.T) {
	g := simGuard(t, Config{ShedThreshold: 0.6, Routes: map[string]Route{"export": {SLO: time.Second, ShedThreshold: 0.6}}})
	part := g.roof.parts[1]
	part.crowding.fill.Store(math.Float64bits(0.99)) // it tells its callers to refuse
	for i := range 10 {
		p, err := g.AdmitAt(epoch.Add(time.Duration(i)*time.Millisecond), Arrival{
			Criticality: Default, Route: "/export", Entry: "shop/export", Early: 50,
		})
		if err != nil {
			t.Fatal(err)
		}
		p.ReleaseAt(epoch.Add(time.Duration(i)*time.Millisecond), Success)
	}
	g.roof.mu.Lock()
	defer g.roof.mu.Unlock()
	g.roof.observe(time.Second)
	if n := g.roof.demands[1].past.arrivals; n < 300 {
		t.Errorf("a demand of %v; 10 came and 500 were refused early", n)
	}
}

// Requests of several routes that hold all slots of the service are reported, though no compartment is full.
func TestSlotsOfTheRoofThatDoNotComeFreeAreReported(t *testing.T) {
	logged := &waittest.Buffer{}
	g := simGuard(t, Config{
		Logger: slog.New(slog.NewTextHandler(logged, nil)), Holders: func(int) []string { return []string{"GET /hang"} },
		Routes: map[string]Route{"export": {SLO: time.Second}},
	})
	g.SnapshotAt(epoch)
	g.roof.gate.setLimit(0, 2)
	g.roof.due = math.MaxInt64 // its limit stays
	admit := func(at time.Duration, route string) (Permit, error) {
		return g.AdmitAt(epoch.Add(at), Arrival{Route: route})
	}
	first, _ := admit(0, "")
	if _, err := admit(0, "/export"); err != nil {
		t.Fatal(err)
	}
	watch := func(now time.Duration) Snapshot {
		g.roof.mu.Lock()
		g.roof.watchSlots(now)
		g.roof.mu.Unlock()
		return g.SnapshotAt(epoch.Add(now))
	}
	watch(time.Second)
	if s := watch(9 * time.Second); s.Held < 7*time.Second || s.Routes[0].Held != s.Held || logged.Len() > 0 {
		t.Errorf("held for %v and %v, log %q", s.Held, s.Routes[0].Held, logged)
	}
	watch(20 * time.Second)
	if n := strings.Count(logged.String(), "no slot has come free"); n != 1 || !strings.Contains(logged.String(), "GET /hang") {
		t.Errorf("%d lines:\n%s", n, logged)
	}
	first.ReleaseAt(epoch.Add(20*time.Second), Success)
	if _, err := admit(20*time.Second, "/export"); err != nil {
		t.Fatal(err)
	}
	if s := watch(21 * time.Second); s.Held > 0 || s.Routes[0].Held > 0 {
		t.Errorf("held for %v and %v after one came free", s.Held, s.Routes[0].Held)
	}
}
