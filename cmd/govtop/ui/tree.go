package ui

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// family is a service with routes: its own loops, and those of its routes. A route is to governor a service of its own,
// named "checkout/export"; no other name has a slash. The table shows a family as a tree that folds into its head:
//
//	checkout/concurrency       the head, a loop of the service
//	├ shed                     the service's other loops
//	├ export/concurrency       the loops of its routes
//	└ search/concurrency
type family struct {
	service string
	loops   []int // indices into the fleet's loops, ascending
	head    int   // one of them; -1: the service has no loop of its own, and its name alone is the head
	routes  int
}

// familiesOf finds the families among loops that are sorted by service and knob, and the family of each loop; -1: none.
// Without any family it returns nil.
func familiesOf(loops []api.Loop) (all []family, of []int) {
	index := map[string]int{}
	for i := range loops {
		service, _, ok := strings.Cut(loops[i].Service, "/")
		if _, known := index[service]; ok && !known {
			index[service] = len(all)
			all = append(all, family{service: service, head: -1})
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	of = make([]int, len(loops))
	for i := range loops {
		l := &loops[i]
		service, route, _ := strings.Cut(l.Service, "/")
		k, ok := index[service]
		if !ok {
			of[i] = -1
			continue
		}
		of[i] = k
		f := &all[k]
		switch {
		case route != "":
			if n := len(f.loops); n == 0 || loops[f.loops[n-1]].Service != l.Service {
				f.routes++
			}
		case f.head < 0 || loops[f.head].Callee != "" && l.Callee == "": // the service is more than its calls
			f.head = i
		}
		f.loops = append(f.loops, i)
	}
	return all, of
}

// part is the name of a loop within its family: the route, or the knob of a loop of the service itself.
func part(l *api.Loop) string {
	_, route, _ := strings.Cut(l.Service, "/")
	return cmp.Or(route, string(l.Knob))
}

// routesText says how many routes a folded family has.
func (f *family) routesText() string {
	return fmt.Sprintf(" +%d %s", f.routes, plural(f.routes, "route"))
}

// lacksLoop says what stands for a service without a loop of its own.
func (f *family) lacksLoop() string {
	return fmt.Sprintf("%s has no loop of its own: governor steers its %d %s", f.service, f.routes, plural(f.routes, "route"))
}

// summary is the name of a folded family in w cells. Where that is too little for words, the number stands alone.
func (f *family) summary(w int) string {
	routes := f.routesText()
	if w < loopWidthWanted {
		routes = fmt.Sprintf(" +%d", f.routes)
	}
	return middle(f.service, max(w-fit.Width(routes), 1)) + routes
}

// row is one line of the table.
type row struct {
	loop   int // index into the fleet's loops; -1: the head of a family whose service has no loop of its own
	family int // index into the fleet's families; -1: none
	place  branch
}

// branch is the place of a row in the tree.
type branch int

const (
	alone  branch = iota // of a service without routes
	head                 // of an unfolded family
	folded               // head and only line of a folded one
	twig                 // below a head
	lastTwig
)

// strokeCells is the width of the tree's line before a name.
const strokeCells = 2

// grow returns the rows for loops in the order of arrange. A family is there if one of its loops is, and its head always
// is its first line.
func grow(f *fleet, loops []int, isFolded func(service string) bool) []row {
	rows := make([]row, 0, len(loops)+len(f.families))
	current := -1
	for _, i := range loops {
		k := f.family(i)
		if k < 0 {
			rows, current = append(rows, row{i, k, alone}), -1
			continue
		}
		home := &f.families[k]
		shut := isFolded(home.service)
		if k != current {
			current = k
			place := head
			if shut {
				place = folded
			}
			rows = append(rows, row{home.head, k, place})
		}
		if shut || i == home.head {
			continue
		}
		if last := &rows[len(rows)-1]; last.place == lastTwig {
			last.place = twig
		}
		rows = append(rows, row{i, k, lastTwig})
	}
	return rows
}

// isFolded says whether a family shows only its head. While a filter is in force none does: a filter shows what it finds.
func (o *overview) isFolded(service string) bool { return o.folded[service] && o.filter.String() == "" }

// fold folds or unfolds families; settle then applies it. A selected loop stays selected, and its head stands for it.
func (o *overview) fold(services []family, fold bool) {
	o.folded = maps.Clone(o.folded) // earlier models share it
	if o.folded == nil {
		o.folded = map[string]bool{}
	}
	for i := range services {
		o.folded[services[i].service] = fold
	}
	o.again = true
}

// lines is the number of rows that there would be without a filter.
func (o *overview) lines(f *fleet) int {
	n := len(f.Loops)
	for i := range f.families {
		home := &f.families[i]
		if home.head < 0 {
			n++
		}
		if o.folded[home.service] {
			n -= len(home.loops)
			if home.head >= 0 {
				n++
			}
		}
	}
	return n
}

// worst returns the loop of a folded family whose number is the greatest, its head if there is none greater.
func (f *fleet) worst(home *family, now time.Time, of func(*api.Loop, time.Time) float64) *api.Loop {
	first := home.head
	if first < 0 {
		first = home.loops[0]
	}
	worst := &f.Loops[first]
	for _, i := range home.loops {
		if cmp.Compare(of(&f.Loops[i], now), of(worst, now)) > 0 { // an unknown number is the least
			worst = &f.Loops[i]
		}
	}
	return worst
}

const filterUnfolds = "The filter shows all that it finds: nothing is folded until esc clears it"

// fold folds or unfolds the family under the cursor.
func (m *Model) fold(fold bool) {
	o := &m.overview
	if o.index >= len(o.rows) {
		return
	}
	switch r := o.rows[o.index]; {
	case r.family < 0:
		m.say(plain, o.of.Loops[r.loop].Service+" has no routes to fold")
	case o.filter.String() != "":
		m.say(plain, filterUnfolds)
	default:
		o.fold(o.of.families[r.family:r.family+1], fold)
	}
}

// foldable is head if the cursor is on a family that could be folded, folded if on one that is, and else alone.
func (m *Model) foldable() branch {
	o := &m.overview
	if o.index >= len(o.rows) || o.rows[o.index].family < 0 || o.filter.String() != "" {
		return alone
	}
	if o.rows[o.index].place == folded {
		return folded
	}
	return head
}

// foldAll folds all families, or unfolds them if none is left to fold.
func (m *Model) foldAll() {
	f := m.fleet()
	switch {
	case f == nil:
	case len(f.families) == 0:
		m.say(plain, "No service has routes to fold")
	case m.overview.filter.String() != "":
		m.say(plain, filterUnfolds)
	default:
		m.overview.fold(f.families, m.overview.anyOpen(f))
	}
}

// anyOpen says whether a family is not folded.
func (o *overview) anyOpen(f *fleet) bool {
	return slices.ContainsFunc(f.families, func(home family) bool { return !o.folded[home.service] })
}
