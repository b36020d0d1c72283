package guard

import (
	"testing"
	"time"
)

// However many requests are in flight, each has a ticket of its own, all are counted, and the tickets are used again.
func TestTicketsAreUsedAgain(t *testing.T) {
	const most = 1000
	g := simGuard(t, Config{Min: most, Max: most, NoReflex: true})
	for round := range 5 {
		var permits []Permit
		seen := map[*ticket]bool{}
		for range most {
			p, err := g.AcquireAt(epoch, Sheddable)
			if err != nil {
				t.Fatal(err)
			}
			if seen[p.ticket] {
				t.Fatal("two requests have one ticket")
			}
			seen[p.ticket] = true
			permits = append(permits, p)
		}
		want := [criticalities]uint64{Sheddable: uint64(round+1) * most}
		if got := g.SnapshotAt(epoch).Admitted; got != want {
			t.Errorf("admitted %v, want %v", got, want)
		}
		for _, p := range permits {
			p.ReleaseAt(epoch, Success)
		}
		if n := len(*g.tickets[Sheddable].places.Load()); n > 4*most {
			t.Errorf("%d places after %d requests in flight", n, most)
		}
	}
	if n := g.tickets[Sheddable].made; n > 4*most {
		t.Errorf("%d tickets made for %d requests in flight", n, most)
	}
}

// Where requests that last have taken their tickets one after another, as those of an event loop do, a ticket for the next one is
// found as fast as anywhere: by a few looks, not by a look at all of them, which always finds the first that is free.
func TestTicketsThatAreHeldStandInNobodysWay(t *testing.T) {
	const held, tries = 1000, 10000
	g := simGuard(t, Config{Min: 2 * held, Max: 2 * held, NoReflex: true})
	var permits []Permit
	for range 2 * held {
		p, err := g.AcquireAt(epoch, Default)
		if err != nil {
			t.Fatal(err)
		}
		permits = append(permits, p)
	}
	for _, p := range permits[held:] {
		p.ReleaseAt(epoch, Success)
	}
	s, found := &g.tickets[Default], map[*ticket]int{}
	for range tries {
		ticket, w := s.search(*s.places.Load(), inUse)
		found[ticket]++
		ticket.free(w)
	}
	for _, n := range found {
		if n > tries/100 {
			t.Errorf("%d of %d requests found the same ticket of %d", n, tries, len(found))
		}
	}
}

// A ticket is given up before its uses overflow, and still counts.
func TestTicketIsGivenUpBeforeItsUsesOverflow(t *testing.T) {
	g := simGuard(t, Config{Min: 10, Max: 10})
	count := func() uint64 { return g.SnapshotAt(epoch).Admitted[Default] }
	old, err := g.AcquireAt(epoch, Default)
	if err != nil {
		t.Fatal(err)
	}
	old.ReleaseAt(epoch, Success)
	old.ticket.word.Store(mostUses << usesShift)
	for range 3 {
		if n := count(); n != mostUses {
			t.Errorf("admitted %d, want %d", n, uint64(mostUses))
		}
	}
	next, err := g.AcquireAt(epoch, Default)
	if err != nil || next.ticket == old.ticket {
		t.Errorf("the ticket is in use again; %v", err)
	}
	if n := count(); n != mostUses+1 {
		t.Errorf("admitted %d, want one more than %d", n, uint64(mostUses))
	}
	next.ReleaseAt(epoch.Add(time.Millisecond), Success)
	if s := g.SnapshotAt(epoch.Add(time.Millisecond)); s.InFlight != 0 || s.DoubleReleases != 0 {
		t.Errorf("%d in flight, %d released twice", s.InFlight, s.DoubleReleases)
	}
}

// After a burst the tickets become few again. Requests that are still in flight keep theirs, and everything is counted.
func TestTicketsOfABurstAreGivenUp(t *testing.T) {
	const most, last = 1000, 10
	g := simGuard(t, Config{SLO: time.Hour, Min: most, Max: most, NoReflex: true}) // nobody is found to be endless
	var permits []Permit
	for range most {
		p, err := g.AcquireAt(epoch, Default)
		if err != nil {
			t.Fatal(err)
		}
		permits = append(permits, p)
	}
	over, open := permits[:most-last], permits[most-last:]
	for _, p := range over {
		p.ReleaseAt(epoch, Success)
	}
	at := epoch
	quiet := func(most int) {
		for range 8 * quietLooks {
			at = at.Add(reflexPeriod)
			g.SnapshotAt(at)
		}
		if n := len(*g.tickets[Default].places.Load()); n > most {
			t.Errorf("%d places after a long quiet time, want at most %d", n, most)
		}
	}
	quiet(fewInUse * last)
	for i, p := range open {
		if i%2 == 0 {
			p.EndlessAt(at)
		}
		p.ReleaseAt(at, Success)
		over[i].ReleaseAt(at, Success) // once more
	}
	quiet(placesAtFirst)
	s := g.SnapshotAt(at)
	if s.Admitted[Default] != most || s.InFlight != 0 || s.EndlessDeclared != 0 || s.DoubleReleases != last {
		t.Errorf("admitted %d, %d in flight, %d endless, %d released twice; want %d, 0, 0, %d",
			s.Admitted[Default], s.InFlight, s.EndlessDeclared, s.DoubleReleases, most, last)
	}
}

// A request that does not end takes its ticket along, so that a million of them cost a look at the others nothing.
func TestEndlessRequestsLeaveThePool(t *testing.T) {
	g := simGuard(t, Config{Min: 10, Max: 10})
	var open []Permit
	for range 100 {
		p, err := g.AcquireAt(epoch, Default)
		if err != nil {
			t.Fatal(err)
		}
		p.EndlessAt(epoch)
		open = append(open, p)
	}
	if n := len(*g.tickets[Default].places.Load()); n != placesAtFirst {
		t.Errorf("%d places for no request in flight, want %d", n, placesAtFirst)
	}
	for range 2 {
		for _, p := range open {
			p.ReleaseAt(epoch, Success)
		}
	}
	s := g.SnapshotAt(epoch)
	if s.Admitted[Default] != 100 || s.DoubleReleases != 100 || s.EndlessDeclared != 0 {
		t.Errorf("admitted %v, %d released twice, %d declared", s.Admitted, s.DoubleReleases, s.EndlessDeclared)
	}
}
