package ui

import (
	"cmp"
	"maps"
	"slices"
	"strings"
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
	counts  map[control.State]int // loops by the state shown
	refuse  int                   // loops whose service refuses more than MaxRefused
	asOf    time.Time             // time of the newest decision: it stands still if nothing is decided
	protect bool                  // some loop protects a class of requests

	families []family // services with routes
	familyOf []int    // of each loop, index into families; -1: none; nil: there are none
	labels   []string // of the loops in the table: the name, or without its service if it stands below that
	longest  int      // width of the longest label
	short    []string // the labels in shortTo cells
	shortTo  int
}

func newFleet(s Snapshot) *fleet {
	f := &fleet{Snapshot: s, names: make([]string, len(s.Loops)), counts: map[control.State]int{}}
	for i := range s.Loops {
		l := &s.Loops[i]
		f.names[i] = name(*l)
		f.counts[stateOf(l)]++
		if Refuses(*l, MaxRefused) {
			f.refuse++
		}
		f.protect = f.protect || l.Protect != ""
		if l.Decision.At.After(f.asOf) {
			f.asOf = l.Decision.At
		}
	}
	f.families, f.familyOf = familiesOf(f.Loops)
	f.label()
	return f
}

// flatten makes the fleet a plain list, in which every loop has its whole name.
func (f *fleet) flatten() {
	f.families, f.familyOf = nil, nil
	f.label()
}

// label writes the labels.
func (f *fleet) label() {
	f.labels, f.longest, f.shortTo = f.names, 0, 0
	if len(f.families) > 0 {
		f.labels = slices.Clone(f.names)
	}
	for i := range f.labels {
		indent := 0
		if f.below(i) {
			f.labels[i], indent = strings.TrimPrefix(f.names[i], f.families[f.familyOf[i]].service+"/"), strokeCells
		}
		f.longest = max(f.longest, indent+fit.Width(f.labels[i]))
	}
	for i := range f.families {
		home := &f.families[i]
		f.longest = max(f.longest, fit.Width(home.service+home.routesText()))
	}
}

// family returns the index of a loop's family; -1: it has none.
func (f *fleet) family(i int) int {
	if f.familyOf == nil {
		return -1
	}
	return f.familyOf[i]
}

// below reports whether a loop stands below the head of its family.
func (f *fleet) below(i int) bool {
	k := f.family(i)
	return k >= 0 && f.families[k].head != i
}

// called is the name of a row: that of its loop, or of the service if it has none of its own.
func (f *fleet) called(r row) string {
	if r.loop < 0 {
		return f.families[r.family].service
	}
	return f.names[r.loop]
}

// shortNames returns the labels in at most w cells, or as many less as the tree takes; see the function of that name.
func (f *fleet) shortNames(w int) []string {
	if f.shortTo == w {
		return f.short
	}
	f.short, f.shortTo = slices.Clone(f.labels), w
	for _, below := range []bool{false, true} {
		room := w
		if below {
			room -= strokeCells
		}
		var at []int
		var labels []string
		for i := range f.labels {
			if f.below(i) == below {
				at, labels = append(at, i), append(labels, f.labels[i])
			}
		}
		for j, short := range shortNames(labels, room) {
			f.short[at[j]] = short
		}
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
