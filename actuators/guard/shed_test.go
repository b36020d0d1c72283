package guard

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
)

// shedding is a good Setting with a shed threshold.
func shedding(revision int, threshold float64) []byte {
	return settingOf(func(s *actuators.Setting) {
		s.Revision = uint64(revision)
		s.Shed = &actuators.Shed{Threshold: threshold, Fallback: 0.6, Min: 0, Max: 1}
	})
}

// customary is the mix of a typical service.
var customary = classes{Critical: 0.1, Default: 0.4, Sheddable: 0.3, Background: 0.2}

// teach lets n requests arrive and finish at d, in the given mix.
func teach(t testing.TB, g *Guard, d time.Duration, n int, mix classes) {
	t.Helper()
	for c, share := range mix {
		for range int(math.Round(share * float64(n))) {
			p, err := g.AcquireAt(epoch.Add(d), Criticality(c))
			if err != nil {
				t.Fatal(err)
			}
			p.ReleaseAt(epoch.Add(d), Success)
		}
	}
}

// Five times what the service can carry: the critical requests are served, and the others in order of importance as far
// as there is room. Without shedding, critical requests fare no better than the rest.
func TestCriticalSurvivesOverload(t *testing.T) {
	run := func(t *testing.T, seed uint64, threshold, load float64) (p *plant, ratio classes) {
		p = trained(t, seed, Config{ShedThreshold: threshold})
		p.mix = customary
		p.run(20 * time.Second)
		if threshold < 1 && p.refused > 0 {
			t.Errorf("%d refused at half load", p.refused)
		}
		p.rate = 800 * load
		p.run(5 * time.Second)
		p.run(30 * time.Second)
		for c := range ratio {
			ratio[c] = p.served[c] / p.offered[c]
		}
		return p, ratio
	}
	eachSeed(t, func(t *testing.T, seed uint64) {
		p, ratio := run(t, seed, 0.6, 5)
		if ratio[Critical] < 0.97 {
			t.Errorf("×5: critical %.3f", ratio[Critical])
		}
		if got := p.perSecond(30 * time.Second); got < 0.95*800 {
			t.Errorf("×5: goodput %.0f/s of 800", got)
		}
		if ratio[Background] > 0.01 || ratio[Sheddable] > 0.01 {
			t.Errorf("×5: sheddable %.3f, background %.3f: there is no room for them", ratio[Sheddable], ratio[Background])
		}
		// The load has gone: nobody is refused any more.
		p.rate = 400
		p.run(time.Second)
		p.run(20 * time.Second)
		if p.refused > 0 {
			t.Errorf("after the load has gone, %d are still refused", p.refused)
		}

		_, ratio = run(t, seed, 0.6, 1.6)
		if ratio[Critical] < 0.99 || ratio[Default] < 0.9 || ratio[Background] > 0.2 {
			t.Errorf("×1.6: %.3f, expected the most important 63%% to be served", ratio)
		}
		_, ratio = run(t, seed, 1, 5)
		if ratio[Critical] > 0.3 {
			t.Errorf("×5 without shedding: critical %.3f: the test shows nothing", ratio[Critical])
		}
	})
}

// For any threshold, limit, occupancy, mix and request, the verdict is the definition's.
func TestShedIsTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		threshold := float64(rapid.IntRange(0, 100).Draw(t, "φ, %")) / 100
		limit := rapid.IntRange(1, 60).Draw(t, "limit")
		g, err := New(Config{
			Service: "checkout", SLO: 300 * time.Millisecond, Min: limit, Max: limit,
			Now: func() time.Time { return epoch },
		})
		if err != nil {
			t.Fatal(err)
		}
		var mix [criticalities]uint64
		total := uint64(0)
		for c := range mix {
			mix[c] = uint64(rapid.IntRange(0, 5).Draw(t, "arrivals"))
			total += mix[c]
		}
		if total == 0 {
			mix, total = [criticalities]uint64{1, 1, 1, 1}, 4 // as without any arrival
		}
		g.shed.observe(0, mix)
		g.shed.set(threshold, 100, epoch)

		inFlight := rapid.IntRange(0, limit).Draw(t, "in flight")
		g.gate.word.Store(pack(uint64(limit), uint64(inFlight)))
		c := Criticality(rapid.IntRange(0, 3).Draw(t, "criticality"))
		key := rapid.StringN(1, 20, -1).Draw(t, "key")

		place := 0.0
		if p := g.shed.plan.Load(); p != nil {
			place = float64(hashKey(key, p.salt)>>11) / (1 << 53)
		}
		u := place * float64(mix[c]) / float64(total)
		for less := c + 1; less < criticalities; less++ {
			u += float64(mix[less]) / float64(total)
		}
		occupancy := float64(inFlight) / float64(limit)
		want := error(nil)
		switch demand := (occupancy - threshold) / (1 - threshold); {
		case inFlight == limit:
			want = ErrConcurrency
		case threshold == 1 || occupancy <= threshold: // nothing is shed
		case math.Abs(u-demand) < 1e-6: // too close to tell by floats
			t.Skip()
		case u < demand:
			want = ErrShed
		}
		g.due.Store(math.MaxInt64) // no step, which would take the arrivals for gone
		if _, err := g.AcquireForAt(epoch, c, key); !errors.Is(err, want) {
			t.Fatalf("u %v at occupancy %v: %v, expected %v", u, occupancy, err, want)
		}
	})
}

// A threshold of 1 sheds nothing at any occupancy, whatever the rank.
func TestThresholdOfOneShedsNothing(t *testing.T) {
	g := simGuard(t, Config{Min: 10, Max: 10, ShedThreshold: 0.5})
	apply(t, g, epoch, shedding(1, 1))
	for range 10 {
		if _, err := g.AcquireForAt(epoch, Background, "anybody"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.AcquireAt(epoch, Critical); !errors.Is(err, ErrConcurrency) {
		t.Errorf("%v, expected ErrConcurrency", err)
	}
}

// The same tenant gets the same verdict for an hour: again, at another guard, and under another service name. Then the
// tenants change places.
func TestTenantsFareTheSameEverywhere(t *testing.T) {
	occupied := func(at time.Duration, service string) *Guard {
		g := newGuard(t, Config{
			Service: service, Min: 100, Max: 100, ShedThreshold: 0.6,
			Now: func() time.Time { return epoch.Add(at) }, // two guards were not started at the same time
		})
		for range 1000 {
			p, _ := g.AcquireAt(epoch.Add(at), Default)
			p.ReleaseAt(epoch.Add(at), Success)
		}
		g.SnapshotAt(epoch.Add(at + time.Second))
		for range 80 {
			g.gate.enter(0, 1, 0)
		}
		return g
	}
	verdicts := func(g *Guard, at time.Duration) (admitted map[string]bool) {
		admitted = map[string]bool{}
		for i := range 1000 {
			key := fmt.Sprintf("tenant-%d", i)
			for try := range 3 {
				p, err := g.AcquireForAt(epoch.Add(at), Default, key)
				if err != nil && !errors.Is(err, ErrShed) {
					t.Fatal(err)
				}
				if try > 0 && admitted[key] != (err == nil) {
					t.Fatalf("%s: refused and admitted at the same occupancy", key)
				}
				admitted[key] = err == nil
				p.ReleaseAt(epoch.Add(at), Success)
			}
		}
		return admitted
	}
	differ := func(a, b map[string]bool) (n int) {
		for key := range a {
			if a[key] != b[key] {
				n++
			}
		}
		return n
	}
	first := verdicts(occupied(0, "checkout"), time.Second)
	served := 0
	for _, ok := range first {
		if ok {
			served++
		}
	}
	if served < 450 || served > 550 { // at 0.8 the lower half of the ranks is shed
		t.Errorf("%d of 1000 tenants served, expected half", served)
	}
	if n := differ(first, verdicts(occupied(50*time.Minute, "payments"), 50*time.Minute+time.Second)); n > 0 {
		t.Errorf("%d tenants fare differently at another guard within the hour", n)
	}
	if n := differ(first, verdicts(occupied(time.Hour, "checkout"), time.Hour+time.Second)); n < 400 || n > 600 {
		t.Errorf("%d of 1000 tenants fare differently an hour later, expected half", n)
	}
}

// Keys that look alike, and requests without a key, are spread evenly.
func TestPlacesAreEven(t *testing.T) {
	for name, place := range map[string]func(i int) uint64{
		"numbers": func(i int) uint64 { return hashKey(fmt.Sprint(i), 1) },
		"long":    func(i int) uint64 { return hashKey(fmt.Sprintf("customer/%08d@example.com", i), 1) },
		"no key":  func(i int) uint64 { return mix64(uint64(i)) },
	} {
		const n, cells = 20_000, 20
		var count [cells]float64
		for i := range n {
			count[place(i)>>11*cells>>53]++
		}
		chi := 0.0
		for _, c := range count {
			chi += (c - n/cells) * (c - n/cells) / (n / cells)
		}
		if chi > 43.8 { // 19 degrees of freedom, one in a thousand
			t.Errorf("%s: χ² %.1f of %v", name, chi, count)
		}
	}
}

// The shares are an average over ten seconds, whatever the interval of the steps, and outlast a silence.
func TestSharesFollowInTenSeconds(t *testing.T) {
	for _, every := range []time.Duration{250 * time.Millisecond, time.Second} {
		var s shedder
		if got := s.shares(); got != [criticalities]float64{0.25, 0.25, 0.25, 0.25} {
			t.Errorf("before any arrival: %v", got)
		}
		var offered [criticalities]uint64
		run := func(from, to time.Duration, c Criticality) {
			for d := from + every; d <= to; d += every {
				offered[c] += uint64(1000 * every.Seconds())
				s.observe(d, offered)
			}
		}
		run(0, time.Minute, Default)
		run(time.Minute, 70*time.Second, Critical)
		if got := s.shares(); math.Abs(got[Critical]-0.632) > 0.02 || got[Critical]+got[Default] < 0.999 {
			t.Errorf("every %v: ten seconds after the change %v, expected 1 − 1/e critical", every, got)
		}
		before := s.shares()
		for d := time.Minute; d < 24*time.Hour; d += time.Minute {
			s.observe(70*time.Second+d, offered)
		}
		if got := s.shares(); math.Abs(got[Critical]-before[Critical]) > 1e-9 {
			t.Errorf("every %v: a silent day has turned %v into %v", every, before, got)
		}
	}
}

// A class that has not been seen lately stands where it belongs: nothing is below background, nothing above critical.
func TestUnseenClasses(t *testing.T) {
	g := simGuard(t, Config{Min: 100, Max: 100, ShedThreshold: 0.6})
	teach(t, g, 0, 100, classes{Default: 1})
	at := epoch.Add(time.Second)
	g.SnapshotAt(at)
	for g.SnapshotAt(at).InFlight < 61 {
		if _, err := g.AcquireForAt(at, Critical, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.AcquireAt(at, Background); !errors.Is(err, ErrShed) {
		t.Errorf("background just above the threshold: %v", err)
	}
	for g.SnapshotAt(at).InFlight < 100 {
		if _, err := g.AcquireForAt(at, Critical, "one"); err != nil {
			t.Fatalf("critical with %d in flight: %v", g.SnapshotAt(at).InFlight, err)
		}
	}
}

// Where the shed threshold refuses, as where the limit does, a refusal hardly ever looks at the clock, and means the same.
func TestShedRefusalHardlyReadsTheClock(t *testing.T) {
	looks := 0
	g := newGuard(t, Config{Min: 100, Max: 100, ShedThreshold: 0.6, NoReflex: true, Now: func() time.Time {
		looks++
		return epoch
	}})
	for i := range 85 {
		if _, err := g.Acquire(t.Context(), Critical); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	const requests = 10 * refusalsPerLook
	refused := func(class Criticality) (n int) {
		for range requests {
			p, err := g.Acquire(t.Context(), class)
			switch {
			case errors.Is(err, ErrShed):
				n++
			case err != nil:
				t.Fatal(err)
			}
			p.Release(Ignored)
		}
		return n
	}
	if _, err := g.Acquire(t.Context(), Background); !errors.Is(err, ErrShed) {
		t.Fatal("the background fills what is left for the others:", err)
	}
	looks = 0
	if n := refused(Background); n != requests || looks > requests/refusalsPerLook+1 {
		t.Errorf("%d of %d refused, with %d looks at the clock", n, requests, looks)
	}
	if n := refused(Critical); n != 0 {
		t.Errorf("%d critical ones refused", n)
	}
	if s := g.Snapshot(); s.Refused["shed"][Background] != requests+1 || s.InFlight != 85 {
		t.Errorf("%v refused, %d in flight", s.Refused["shed"], s.InFlight)
	}
}
