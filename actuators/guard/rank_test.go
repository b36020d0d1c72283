package guard

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// ranked is a guard at φ = 0.5 whose arrivals were all of one class, so that the place alone decides.
func ranked(t *testing.T, c Criticality) *Guard {
	t.Helper()
	g := simGuard(t, Config{Min: 100, Max: 100, ShedThreshold: 0.5})
	var mix [criticalities]uint64
	mix[c] = 100
	g.shed.observe(0, mix)
	g.shed.set(0.5, 100, epoch)
	g.due.Store(1 << 62) // no step
	return g
}

func fillUp(g *Guard, n uint64) { g.gate.word.Store(pack(100, n)) }

// A request is admitted up to the occupancy that its rank stands for.
func TestRankDecidesUpToWhichOccupancy(t *testing.T) {
	for _, x := range []struct {
		rank  Rank
		until uint64 // the last occupancy at which it is admitted, in requests in flight
	}{
		{Rank{Drawn: true}, 50},
		{Rank{Drawn: true, Place: 1 << 31}, 75},
		{Rank{Drawn: true, Place: 1<<32 - 1}, 99},
		{Rank{Drawn: true, Again: true}, 99},
		{Rank{Drawn: true, Place: 1 << 31, Group: 4, ID: 7}, 72}, // room for three more
		{Rank{Drawn: true, Place: 1 << 31, Group: 255, ID: 7}, 0},
	} {
		g := ranked(t, Default)
		for n := range uint64(101) {
			fillUp(g, n)
			p, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Rank: x.rank})
			if got, want := err == nil, n <= x.until; got != want {
				t.Fatalf("%+v with %d of 100 in flight: %v, expected it to be admitted up to %d", x.rank, n, err, x.until)
			}
			p.ReleaseAt(epoch, Success)
		}
	}
}

// Once a call of a group is inside, the others may fill the limit, and no longer when it has left.
func TestGroupFollowsItsFirst(t *testing.T) {
	g := ranked(t, Default)
	r := Rank{Drawn: true, Group: 3, ID: 42}
	fillUp(g, 40)
	first, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Rank: r})
	if err != nil {
		t.Fatal(err)
	}
	fillUp(g, 99)
	second, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Rank: r})
	if err != nil {
		t.Fatalf("the second of a group: %v", err)
	}
	other := r
	other.ID++
	fillUp(g, 99)
	if _, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Rank: other}); !errors.Is(err, ErrShed) {
		t.Errorf("another group: %v, expected %v", err, ErrShed)
	}
	first.ReleaseAt(epoch, Success)
	second.ReleaseAt(epoch, Success)
	fillUp(g, 99)
	if _, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Rank: r}); !errors.Is(err, ErrShed) {
		t.Errorf("after the group has left: %v, expected %v", err, ErrShed)
	}
	if len(g.groups.inside) != 0 {
		t.Errorf("groups remember %v", g.groups.inside)
	}
}

// The calls of a request have its rank: the one that it came with, or one of its key, or one drawn once.
func TestCallsHaveTheRankOfTheirRequest(t *testing.T) {
	g := simGuard(t, Config{})
	d := g.Dependency("payments")
	rankOf := func(key string, r Rank, group int) (Rank, Rank) {
		p, err := g.AdmitAt(epoch, Arrival{Criticality: Critical, Key: key, Rank: r})
		if err != nil {
			t.Fatal(err)
		}
		defer p.ReleaseAt(epoch, Success)
		ctx := NewContext(context.Background(), p)
		if o, ok := OriginOf(ctx); o.Criticality != Critical || o.Key != key || !ok {
			t.Errorf("origin %+v %v", o, ok)
		}
		first := d.StartAt(WithGroup(ctx, group), epoch, CallOptions{})
		before := rankOfCall(&first)
		a, err := first.TryAt(epoch, "one")
		if err != nil {
			t.Fatal(err)
		}
		a.DoneAt(epoch.Add(time.Millisecond), Result{Outcome: Success})
		next := d.StartAt(ctx, epoch, CallOptions{})
		if next.Usual() != "one" || next.Pick([]string{"two", "one"}, "", 0) != "one" {
			t.Error("the next call of the request goes to another instance")
		}
		if next.Pick([]string{"two", "one"}, "one", 0.9) != "two" {
			t.Error("the instance that refused is tried again")
		}
		return before, rankOfCall(&next)
	}
	before, after := rankOf("", Rank{Drawn: true, Place: 77}, 0)
	if before != (Rank{Drawn: true, Place: 77}) || after != (Rank{Drawn: true, Place: 77, Again: true}) {
		t.Errorf("a rank that came along: %+v, then %+v", before, after)
	}
	one, _ := rankOf("alice", Rank{}, 4)
	two, _ := rankOf("alice", Rank{}, 4)
	if one.Place != two.Place || one.Group != 4 || one.ID == two.ID {
		t.Errorf("two requests of one key: %+v, %+v; expected one place, two IDs", one, two)
	}
	places := map[uint32]bool{}
	for range 100 {
		before, after := rankOf("", Rank{}, 0)
		if before.Place != after.Place || !before.Drawn {
			t.Fatalf("one request: %+v, then %+v", before, after)
		}
		places[before.Place] = true
	}
	if len(places) < 99 {
		t.Errorf("100 requests drew %d places", len(places))
	}
	alone := d.StartAt(context.Background(), epoch, CallOptions{})
	if r := rankOfCall(&alone); r != (Rank{}) {
		t.Errorf("a call of no request: %+v", r)
	}
}

// A callee that refused, failed, or could not be reached has not answered, and its instance is not preferred.
func TestRefusalIsNoAnswer(t *testing.T) {
	for _, r := range []Result{{Refused: true}, {Unsent: true}, {Outcome: Canceled}, {Outcome: Failure}} {
		t.Run(fmt.Sprintf("%+v", r), func(t *testing.T) {
			g := simGuard(t, Config{})
			d := g.Dependency("payments")
			p, err := g.AcquireAt(epoch, Default)
			if err != nil {
				t.Fatal(err)
			}
			c := d.StartAt(NewContext(context.Background(), p), epoch, CallOptions{})
			a, err := c.TryAt(epoch, "one")
			if err != nil {
				t.Fatal(err)
			}
			a.DoneAt(epoch, r)
			if rankOfCall(&c).Again {
				t.Error("the callee counts as having answered")
			}
			if c.Usual() != "" && r.Outcome != Canceled {
				t.Errorf("%q is preferred", c.Usual())
			}
		})
	}
}

// Without a wish, φ is 0.6 while requests bring a rank, a key or a criticality along, and nothing is shed otherwise; a wish of
// the host stands.
func TestThresholdWhileRequestsHaveAnOrder(t *testing.T) {
	var g *Guard
	at := func(after time.Duration, a Arrival) float64 {
		p, err := g.AdmitAt(epoch.Add(after), a)
		if err != nil {
			t.Fatal(err)
		}
		p.ReleaseAt(epoch.Add(after+reflexPeriod), Success)
		return g.SnapshotAt(epoch.Add(after + reflexPeriod)).ShedThreshold
	}
	none := Arrival{Criticality: Default, Route: "/", Entry: "front/"}
	for _, a := range []Arrival{
		{Criticality: Default, Rank: Rank{Drawn: true}}, {Criticality: Default, Key: "alice"}, {Criticality: Sheddable},
	} {
		g = simGuard(t, Config{})
		if phi := at(0, none); phi != 1 {
			t.Errorf("φ %v of requests that are alike", phi)
		}
		if phi := at(time.Second, a); phi != rankedThreshold {
			t.Errorf("φ %v with %+v", phi, a)
		}
		if phi := at(rankedFor/2, none); phi != rankedThreshold {
			t.Errorf("φ %v soon after", phi)
		}
		if phi := at(10*rankedFor, none); phi != 1 {
			t.Errorf("φ %v long after", phi)
		}
	}
	asked := simGuard(t, Config{ShedThreshold: 1})
	p, _ := asked.AdmitAt(epoch, Arrival{Criticality: Default, Rank: Rank{Drawn: true}})
	p.ReleaseAt(epoch.Add(time.Second), Success)
	if phi := asked.SnapshotAt(epoch.Add(time.Second)).ShedThreshold; phi != 1 {
		t.Errorf("φ %v where the host asks for 1", phi)
	}
}

func rankOfCall(c *Call) Rank {
	a, _ := c.Arrival()
	return a.Rank
}

// The entry of a request is that of the first service, and its calls hand it on.
func TestEntryTravels(t *testing.T) {
	g := newGuard(t, Config{Service: "shop"})
	for _, x := range []struct{ route, entry, want string }{
		{"/cart", "", "shop/cart"}, {"/cart", "app/buy", "app/buy"}, {"", "", ""},
	} {
		p, err := g.AdmitAt(epoch, Arrival{Criticality: Default, Route: x.route, Entry: x.entry})
		if err != nil {
			t.Fatal(err)
		}
		ctx := NewContext(context.Background(), p)
		c := g.Dependency("back").StartAt(ctx, epoch, CallOptions{})
		a, _ := c.Arrival()
		if o, _ := OriginOf(ctx); a.Entry != x.want || o.Entry != x.want || a.Route != "" {
			t.Errorf("%+v: calls bring %+v along, origin %+v", x, a, o)
		}
		p.ReleaseAt(epoch, Success)
	}
}
