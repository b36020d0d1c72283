package guard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Short requests that are refused count as short: their API demands less than its share, the one of long requests more.
func TestRefusedRequestsCountAsTheirOwnKind(t *testing.T) {
	var f fair
	short, long := idOf("short"), idOf("long")
	for second := range 30 {
		for range 100 {
			f.complete(short, Default, 40*time.Millisecond, notCounted)
		}
		for range 12 {
			f.complete(long, Default, time.Second, notCounted)
		}
		f.refuse(short, Default, 25)
		f.refuse(long, Default, 21)
		f.judge(time.Duration(second)*time.Second, 20)
	}
	if !f.spares(short, Default) || f.below(long) == 0 {
		t.Errorf("short requests are demoted below %d, long ones below %d; want only long ones", f.below(short), f.below(long))
	}
	for key, want := range map[uint64]float64{short: 125 * 0.04, long: 33} {
		if got := f.demand.counters[f.demand.at[key]].least() / f.seconds; math.Abs(got/want-1) > 0.2 {
			t.Errorf("%.1f slots demanded, want %.1f", got, want)
		}
	}
}

// The share is max-min fair: nobody who demands less gets less than his demand, all others get the same, and the whole
// capacity is given away where somebody wants it.
func TestFairShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		demands := rapid.SliceOfN(rapid.Float64Range(0, 1000), 1, 65).Draw(t, "demands")
		capacity := rapid.Float64Range(0, 20000).Draw(t, "capacity")
		all := 0.0
		for _, d := range demands {
			all += d
		}
		share, given := fairShare(demands, capacity), 0.0
		for _, d := range demands {
			given += min(d, share)
		}
		if want := min(all, capacity); math.Abs(given-want) > 1e-6*(1+want) {
			t.Fatalf("%v of %v given with a share of %v", given, want, share)
		}
		if all < capacity && !math.IsInf(share, 1) {
			t.Fatalf("a share of %v where %v of %v is demanded", share, all, capacity)
		}
	})
}

// The level leaves a key its share of what it demands, the most important requests first.
func TestLevelOfAShare(t *testing.T) {
	c := counter{sure: [criticalities]float64{Critical: 20, Default: 50, Sheddable: 30, Background: 40}}
	for _, tc := range []struct {
		share, left float64
		want        Threshold
	}{
		{math.Inf(1), math.Inf(1), 0},
		{100, 40, 0},
		{100, 10, LevelOf(Background, Rank{Place: 3 << 30})},
		{1000, 0, LevelOf(Background, Rank{Place: math.MaxUint32})},
		{85, 40, LevelOf(Sheddable, Rank{Place: 1 << 31})},
		{45, 40, LevelOf(Default, Rank{Place: 1 << 31})},
		{5, 40, LevelOf(Critical, Rank{Place: 3 << 30})},
	} {
		got := c.levelOf(tc.share, tc.left)
		if diff := math.Abs(float64(got) - float64(tc.want)); diff > 4 {
			t.Errorf("share %v: level %d, want %d", tc.share, got, tc.want)
		}
	}
}

// crowd is a guard of a hundred slots whose requests take 100 ms: 1000 can be served a second. Its clients send at random.
type crowd struct {
	t      *testing.T
	g      *Guard
	now    time.Duration
	random *rand.Rand
	left   []departure // in order of time
}

type departure struct {
	at time.Duration
	p  Permit
}

type client struct {
	perSecond float64
	arrival   func() Arrival

	next            time.Duration
	offered, served int
}

func from(key, route string) func() Arrival {
	return func() Arrival { return Arrival{Criticality: Default, Key: key, Route: route} }
}

func newCrowd(t *testing.T, c Config) *crowd {
	c.Service, c.SLO, c.Max, c.Min, c.Fallback, c.NoReflex = "crowded", time.Second, 100, 1, 100, true
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.Now = func() time.Time { return base }
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &crowd{t: t, g: g, random: rand.New(rand.NewPCG(1, 1))}
}

// run lets the clients send for so long.
func (c *crowd) run(span time.Duration, clients ...*client) {
	end := c.now + span
	for _, x := range clients {
		x.next = c.now + time.Duration(c.random.ExpFloat64()/x.perSecond*float64(time.Second))
		x.offered, x.served = 0, 0
	}
	for {
		first := clients[0]
		for _, x := range clients {
			if x.next < first.next {
				first = x
			}
		}
		c.now = min(first.next, end)
		for len(c.left) > 0 && c.left[0].at <= c.now {
			c.left[0].p.ReleaseAt(c.g.base.Add(c.left[0].at), Success)
			c.left = c.left[1:]
		}
		if c.now == end {
			return
		}
		first.next += time.Duration(c.random.ExpFloat64() / first.perSecond * float64(time.Second))
		first.offered++
		if p, err := c.g.AdmitAt(c.g.base.Add(c.now), first.arrival()); err == nil {
			first.served++
			c.left = append(c.left, departure{c.now + 100*time.Millisecond, p})
		}
	}
}

func (x *client) share() float64 { return float64(x.served) / float64(x.offered) }

// One API, or one tenant, that demands five times what there is does not keep the others from their share, and they are
// judged as before when it stops.
func TestTheHeavyOneIsDemoted(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config Config
		of     func(i int) func() Arrival
	}{
		{"APIs", Config{}, func(i int) func() Arrival { return from("", strconv.Itoa(i)) }},
		{"tenants", Config{FairKeys: true}, func(i int) func() Arrival { return from(strconv.Itoa(i), "") }},
	} {
		c := newCrowd(t, tc.config)
		heavy := &client{perSecond: 100, arrival: tc.of(0)}
		all := []*client{heavy}
		for i := range 4 {
			all = append(all, &client{perSecond: 100, arrival: tc.of(i + 1)})
		}
		c.run(20*time.Second, all...)
		if n := c.g.SnapshotAt(c.g.base.Add(c.now)).Demoted; n > 0 {
			t.Errorf("%s: %d demoted in calm", tc.name, n)
		}
		heavy.perSecond = 5000
		c.run(5*time.Second, all...)
		c.run(20*time.Second, all...)
		for i, x := range all[1:] {
			if x.share() < 0.98 {
				t.Errorf("%s: %d: %.3f served", tc.name, i, x.share())
			}
		}
		if served := float64(heavy.served) / 20; served < 300 { // of 600: a part is kept free, so that nobody else is refused by chance
			t.Errorf("%s: %.0f/s of the heavy one served", tc.name, served)
		}
		heavy.perSecond = 100
		c.run(time.Minute, all...)
		before := c.g.SnapshotAt(c.g.base.Add(c.now)).Demoted
		c.run(10*time.Second, all...)
		if n := c.g.SnapshotAt(c.g.base.Add(c.now)).Demoted; n > before {
			t.Errorf("%s: %d demoted after it", tc.name, n-before)
		}
	}
}

// Without the option, tenants are alike, and a request without a key or an API is never demoted.
func TestWhoIsNotJudged(t *testing.T) {
	alone := map[bool]int{}
	for _, tc := range []struct {
		name    string
		config  Config
		arrival func() Arrival
	}{
		{"tenants without the option", Config{}, from("heavy", "")},
		{"no key", Config{FairKeys: true}, from("", "")},
		{"nobody else", Config{FairKeys: true}, from("only", "only")},
		{"nobody else, without the option", Config{}, from("only", "only")},
	} {
		c := newCrowd(t, tc.config)
		heavy := &client{perSecond: 3000, arrival: tc.arrival}
		quiet := &client{perSecond: 100, arrival: tc.arrival}
		c.run(20*time.Second, heavy, quiet)
		if strings.HasPrefix(tc.name, "nobody else") {
			alone[tc.config.FairKeys] = heavy.served + quiet.served
		}
		if n := c.g.SnapshotAt(c.g.base.Add(c.now)).Demoted; n > 0 {
			t.Errorf("%s: %d demoted", tc.name, n)
		}
	}
	if alone[true] < alone[false]*98/100 {
		t.Errorf("%d of nobody else served, %d without the option", alone[true], alone[false])
	}
}

// The critical requests of the heavy one go first within its share, and are left out of it where the host wants that.
func TestCriticalRequestsOfTheHeavyOne(t *testing.T) {
	for _, spare := range []bool{false, true} {
		c := newCrowd(t, Config{SpareCritical: spare})
		critical := &client{perSecond: 150, arrival: func() Arrival { return Arrival{Criticality: Critical, Route: "heavy"} }}
		rest := &client{perSecond: 3000, arrival: from("", "heavy")}
		modest := &client{perSecond: 300, arrival: from("", "modest")}
		c.run(10*time.Second, critical, rest, modest)
		c.run(20*time.Second, critical, rest, modest)
		if critical.share() < 0.98 || modest.share() < 0.95 {
			t.Errorf("spared %v: %.3f of the critical, %.3f of the modest, %.3f of the rest", spare, critical.share(), modest.share(), rest.share())
		}
		critical.perSecond = 3000
		c.run(10*time.Second, critical, rest, modest)
		c.run(20*time.Second, critical, rest, modest)
		if served := modest.share(); (served < 0.5) != spare {
			t.Errorf("spared %v: %.3f of the modest beside too many critical ones", spare, served)
		}
	}
}

// A client that invents a key for every request takes no more memory than one key does, and no more of the service than
// its share. Those who were there before are served.
func TestInventedKeys(t *testing.T) {
	c := newCrowd(t, Config{FairKeys: true})
	var honest []*client
	for i := range 10 {
		honest = append(honest, &client{perSecond: 50, arrival: from(fmt.Sprint("tenant-", i), "")})
	}
	c.run(30*time.Second, honest...)
	invented := 0
	hostile := &client{perSecond: 50_000, arrival: func() Arrival {
		invented++
		return Arrival{Criticality: Default, Key: "invented-" + strconv.Itoa(invented)}
	}}
	c.run(2*time.Second, append(honest, hostile)...)
	before := heapBytes()
	c.run(20*time.Second, append(honest, hostile)...)
	if invented < 1_000_000 {
		t.Fatalf("%d keys", invented)
	}
	if grown := heapBytes() - before; grown > 256<<10 {
		t.Errorf("%d bytes more for %d keys", grown, invented)
	}
	for i, x := range honest {
		if x.share() < 0.95 {
			t.Errorf("honest %d: %.3f served", i, x.share())
		}
	}
	if least := honest[0].share(); hostile.share() > least {
		t.Errorf("%.3f of the invented served, and %.3f of an honest one", hostile.share(), least)
	}
}

func heapBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Demand that differs much from tenant to tenant demotes nobody while it fits.
func TestZipfWithoutOverload(t *testing.T) {
	c := newCrowd(t, Config{FairKeys: true})
	zipf := rand.NewZipf(c.random, 1.1, 1, 9999)
	all := &client{perSecond: 560, arrival: func() Arrival {
		return Arrival{Criticality: Default, Key: strconv.FormatUint(zipf.Uint64(), 10)}
	}}
	c.run(60*time.Second, all)
	if s := c.g.SnapshotAt(c.g.base.Add(c.now)); s.Demoted > 0 || all.share() == 1 {
		t.Errorf("%d demoted, %.4f served; expected no demotion, and a refusal now and then", s.Demoted, all.share())
	}
}

// Calls that a caller has refused early count as demand of their API where the guard has told it to refuse, and only there: who
// claims to have refused those of another API does it no harm.
func TestEarlyRefusalsCount(t *testing.T) {
	idle := newCrowd(t, Config{ShedThreshold: 0.6})
	victim := &client{perSecond: 300, arrival: from("", "victim")}
	claims := &client{perSecond: 1, arrival: func() Arrival {
		return Arrival{Criticality: Default, Route: "victim", Early: maxEarly}
	}}
	idle.run(20*time.Second, victim, claims, &client{perSecond: 100, arrival: from("", "other")})
	if n := idle.g.SnapshotAt(idle.g.base.Add(idle.now)).Demoted; n > 0 {
		t.Errorf("%d demoted where nobody is refused", n)
	}

	c := newCrowd(t, Config{ShedThreshold: 0.6})
	early := &client{perSecond: 700, arrival: func() Arrival {
		return Arrival{Criticality: Default, Entry: "heavy", Early: 9}
	}}
	modest := &client{perSecond: 150, arrival: from("", "modest")}
	c.run(20*time.Second, early, modest)
	if a := c.g.RefusalAdviceAt(c.g.base.Add(c.now), Arrival{Entry: "heavy"}); !a.Background {
		t.Error("the heavy API is not demoted")
	}
	if a := c.g.RefusalAdviceAt(c.g.base.Add(c.now), Arrival{Entry: "modest"}); a.Background {
		t.Error("the modest API is demoted")
	}
}

// Judging allocates nothing while nobody is demoted.
func TestJudgingAllocatesNothing(t *testing.T) {
	c := newCrowd(t, Config{FairKeys: true})
	at := c.g.base
	a := Arrival{Criticality: Default, Key: "tenant", Route: "GET /", Rank: Rank{Drawn: true}}
	if n := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Millisecond)
		p, _ := c.g.AdmitAt(at, a)
		p.ReleaseAt(at, Success)
	}); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// Requests that say of themselves that they can wait have no share: a key that has no others crowds nobody out, however many
// they are.
func TestBackgroundRequestsHaveNoShare(t *testing.T) {
	const short, jobs = 1, 2
	f := fair{used: 100}
	f.demand.add(short, Default, 80, true)
	f.demand.add(jobs, Background, 60, true)
	j := f.divide()
	if j == nil || j.keys[short] != 0 || j.keys[jobs] < LevelOf(Background, Rank{Place: math.MaxUint32}) {
		t.Fatalf("got %+v, want the jobs demoted and nobody else", j)
	}
	f.judgment.Store(j)
	if !f.spares(short, Sheddable) || f.spares(short, Background) || f.spares(jobs, Background) {
		t.Errorf("spared: %v, %v, %v", f.spares(short, Sheddable), f.spares(short, Background), f.spares(jobs, Background))
	}
	f = fair{used: 100} // among themselves, they are divided
	f.demand.add(short, Background, 30, true)
	f.demand.add(jobs, Background, 120, true)
	if j := f.divide(); j == nil || j.keys[short] != 0 || j.keys[jobs] == 0 {
		t.Fatalf("got %+v, want the larger part demoted", j)
	}
}

// A request that was found to be endless, and ends after all, has taken what it has taken: without it, the others of an API of
// long jobs would look modest.
func TestExcusedRequestsCountForTheirKey(t *testing.T) {
	at := time.Unix(1e9, 0)
	g, err := New(Config{Service: "checkout", SLO: 100 * time.Millisecond, Fallback: 100, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	admit := func(route string) Permit {
		p, err := g.AdmitAt(at, Arrival{Criticality: Default, Route: route})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var jobs []Permit
	for range 25 {
		jobs = append(jobs, admit("/jobs"))
	}
	at = at.Add(10 * time.Millisecond)
	for _, p := range jobs[3:] {
		p.ReleaseAt(at, Success)
	}
	for range 60 {
		at = at.Add(50 * time.Millisecond)
		admit("/short").ReleaseAt(at.Add(time.Millisecond), Success)
	}
	if found := g.SnapshotAt(at).EndlessFound; found != 3 {
		t.Fatalf("%d of 3 requests found to be endless", found)
	}
	for _, p := range jobs[:3] {
		p.ReleaseAt(at, Success)
	}
	if c := g.shares.entries.demand.of(idOf("/jobs")); c == nil || c.least() < 3*3 {
		t.Errorf("the jobs count %+v, want at least 9 slot-seconds", c)
	}
}
