package ui

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// fleet is the data of one moment, with everything that frames derive from it. It is computed once, when the data
// changes, so that a frame costs what it shows, not the size of the fleet. It is never changed, only replaced; names are
// shortened once for each width.
type fleet struct {
	Snapshot
	names   []string              // of the loops, in their order
	counts  map[control.State]int // loops by state
	refuse  int                   // loops whose service refuses more than MaxRefused
	asOf    time.Time             // time of the newest decision: it stands still if nothing is decided
	longest int                   // width of the longest name
	protect bool                  // some loop protects a class of requests

	short   []string // the names in shortTo cells
	shortTo int
}

func newFleet(s Snapshot) *fleet {
	f := &fleet{Snapshot: s, names: make([]string, len(s.Loops)), counts: map[control.State]int{}}
	for i := range s.Loops {
		l := &s.Loops[i]
		f.names[i] = name(*l)
		f.longest = max(f.longest, fit.Width(f.names[i]))
		f.counts[l.Decision.State]++
		if Refuses(*l, MaxRefused) {
			f.refuse++
		}
		f.protect = f.protect || l.Protect != ""
		if l.Decision.At.After(f.asOf) {
			f.asOf = l.Decision.At
		}
	}
	return f
}

// shortNames returns the names in at most w cells; see the function of that name.
func (f *fleet) shortNames(w int) []string {
	if f.shortTo != w {
		f.short, f.shortTo = shortNames(f.names, w), w
	}
	return f.short
}

// strange returns the states that this program does not know, sorted by name.
func (f *fleet) strange() []control.State {
	known := func(s control.State) bool { return slices.Contains(states, s) }
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.counts)), known)
}

// find returns the index of the loop of a service's knob, and whether there is one.
func (s *Snapshot) find(service string, knob control.Knob) (int, bool) {
	return slices.BinarySearchFunc(s.Loops, api.Loop{Service: service, Knob: knob}, func(a, b api.Loop) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Knob, b.Knob))
	})
}

// decided replaces a loop by its state after a decision, and returns its previous state. A missing loop has been
// removed by a reload.
func (s *Snapshot) decided(l api.Loop) (before api.Loop, ok bool) {
	i, ok := s.find(l.Service, l.Knob)
	if !ok {
		return before, false
	}
	before, s.Loops[i] = s.Loops[i], l
	if at := l.Decision.At; at.After(s.Status.Now) {
		s.Status.Now = at // the daemon's clock, as far as known
	}
	return before, true
}
