package guard

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"
)

// What is usual in calm is still known after a night without requests.
func TestWhatIsUsualOutlastsANight(t *testing.T) {
	c := newCrowd(t, Config{FairKeys: true})
	c.run(time.Minute, &client{perSecond: 200, arrival: from("a", "r")})
	for range 4 * 60 * 4 {
		c.now += 15 * time.Second
		c.g.SnapshotAt(c.g.base.Add(c.now))
	}
	if f := &c.g.shares.tenants; math.IsNaN(f.part) || math.IsNaN(f.usual) {
		t.Errorf("usual %v, part %v", f.usual, f.part)
	}
}

// Requests that claim a group without saying whose it is are no group: one does not let the others in.
func TestAGroupOfNobody(t *testing.T) {
	g := newGuard(t, Config{Min: 100, Max: 100, ShedThreshold: 0.6})
	admitted := 0
	for range 200 {
		if _, err := g.AdmitAt(epoch, Arrival{Criticality: Background, Rank: Rank{Drawn: true, Group: 2}}); err == nil {
			admitted++
		}
	}
	if admitted > 61 {
		t.Errorf("%d of the least important requests fill 100 slots", admitted)
	}
}

// A full guard hears how many requests its callers have refused for it.
func TestAFullGuardHearsEarlyRefusals(t *testing.T) {
	g := newGuard(t, Config{Min: 1, Max: 1, Fallback: 1, ShedThreshold: 0.6})
	if _, err := g.Acquire(t.Context(), Critical); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := g.Admit(t.Context(), Arrival{Criticality: Sheddable, Early: 20}); err == nil {
			t.Fatal("admitted by a full guard")
		}
	}
	if n := g.count.early[Sheddable].Load(); n != 2000 {
		t.Errorf("heard of %d, expected 2000", n)
	}
}

// What an answer says does not depend on whether the request has made a call.
func TestAdviceIsThatOfTheEntry(t *testing.T) {
	g := newGuard(t, Config{Service: "shop", Min: 100, Max: 100, ShedThreshold: 0.6})
	p, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Route: "/buy"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := NewContext(context.Background(), p)
	g.shares.entries.judgment.Store(&judgment{keys: map[uint64]Threshold{idOf("/buy"): 1 << 33}, some: true})
	before := AdviceOf(ctx)
	c := g.Dependency("back").Start(ctx, CallOptions{})
	c.Arrival()
	if after := AdviceOf(ctx); !before.Background || before != after {
		t.Errorf("before a call %+v, after it %+v", before, after)
	}
}

// A request of one guard that calls by the dependency of another teaches neither: their clocks differ.
func TestADependencyOfAnotherGuard(t *testing.T) {
	later := epoch.Add(time.Hour)
	old := newGuard(t, Config{Service: "public", Min: 1000, Max: 1000, Now: func() time.Time { return epoch }})
	young := newGuard(t, Config{Service: "admin", Min: 1000, Max: 1000, Now: func() time.Time { return later }})
	d, now := old.Dependency("back"), later
	young.Dependency("log")
	for range 60 {
		now = now.Add(time.Millisecond)
		p, err := young.AdmitAt(now, at(high))
		if err != nil {
			t.Fatal(err)
		}
		call := d.StartAt(NewContext(context.Background(), p), now, CallOptions{})
		a, err := call.TryAt(now, "i")
		if err != nil {
			t.Fatal(err)
		}
		a.DoneAt(now, *telling(half))
		p.ReleaseAt(now, Success)
	}
	now = now.Add(30 * time.Minute)
	p, err := young.AdmitAt(now, at(high))
	if err != nil {
		t.Fatal(err)
	}
	if told := AdviceAt(NewContext(context.Background(), p), now).Threshold; told > 0 {
		t.Errorf("half an hour after the last answer, the threshold is %x", told)
	}
}

// Paths that lead nowhere take no room among the routes, and no path takes more than its name may.
func TestRoutesThatLeadNowhere(t *testing.T) {
	g := newGuard(t, Config{Service: "front", Min: 1000, Max: 1000})
	d := g.Dependency("back")
	request := func(route string, calls bool) {
		p, err := g.Admit(t.Context(), Arrival{Criticality: Default, Route: route})
		if err != nil {
			t.Fatal(err)
		}
		if ctx := NewContext(t.Context(), p); calls {
			c := d.Start(ctx, CallOptions{})
			a, err := c.Try("i")
			if err != nil {
				t.Fatal(err)
			}
			a.Done(Result{Outcome: Success})
		}
		p.Release(Success)
	}
	for i := range 2 * maxRoutes {
		request(fmt.Sprint("/junk", i), false)
	}
	request("/"+string(make([]byte, longestRoute)), true)
	request("/real", true)
	if routes := *g.routes.table.Load(); len(routes) != 1 || g.routeOf(&Arrival{Route: "/real"}) == nil {
		t.Errorf("%d routes are known", len(routes))
	}
	for i := range 2 * maxRoutes {
		request(fmt.Sprint("/buy", i), true)
	}
	if n := len(*g.routes.table.Load()); n > maxRoutes {
		t.Errorf("%d routes are known", n)
	}
}

// A client that is not believed may lower its criticality. One request in fifty does not make the guard shed the others.
func TestOneRequestIsNoOrder(t *testing.T) {
	g := simGuard(t, Config{})
	now := epoch
	for i := range 1000 {
		c := Default
		if i%50 == 0 {
			c = Background
		}
		now = now.Add(10 * time.Millisecond)
		if p, err := g.AdmitAt(now, Arrival{Criticality: c}); err == nil {
			p.ReleaseAt(now.Add(time.Millisecond), Success)
		}
	}
	if phi := g.SnapshotAt(now).ShedThreshold; phi != 1 {
		t.Errorf("φ %v", phi)
	}
}
