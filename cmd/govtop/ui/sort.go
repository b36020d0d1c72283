package ui

import (
	"cmp"
	"math"
	"slices"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// rank is the sort key of a loop: greater ranks come first, and the first number decides before the next. Unknown
// numbers are NaN and come last.
type rank [3]float64

func (r rank) compare(other rank) (c int) {
	for i := range r {
		c = cmp.Or(c, cmp.Compare(r[i], other[i])) // NaN is less than every number
	}
	return c
}

// order is one way to sort the loops. Loops of equal rank are sorted by name, so that rows do not swap for invisible
// differences.
type order struct {
	name    string
	falling bool // as people think of it: the greatest first
	of      func(l *api.Loop) rank
	means   string
}

// orders are in the order of the key that switches between them, the default first.
var orders = []order{
	{
		"hurts", true, hurt,
		"who hurts: how fast refusals and bad requests together use up the error budget, a violated SLO, the state",
	},
	{"name", false, func(*api.Loop) rank { return rank{} }, "service and knob"},
	{"state", true, func(l *api.Loop) rank { return rank{severity(stateOf(l))} }, "states that need a person first"},
	{
		"ratio", true, func(l *api.Loop) rank { return rank{rough(l.Decision.Measured / l.Decision.Setpoint)} },
		"measurement against setpoint",
	},
	{"value", true, func(l *api.Loop) rank { return rank{float64(l.Decision.Value)} }, "what the knob is set to"},
}

// byName is the index of the order for a printed list.
const byName = 1

// hurt ranks a loop by how much the users of its service suffer: a refused request is as bad for them as a failed one, so
// the refused share counts as a burn rate, as a multiple of what the SLO allows. Within the budget nobody suffers, so
// burn rates below 1 are equal.
func hurt(l *api.Loop) rank {
	in := &l.Decision.Inputs
	burn := in.Burn5m
	if !burn.Known() {
		burn = in.Burn1h
	}
	violated := in.BadRatio.Known() && in.BadRatio > 1
	if !(burn > 1) && violated { // five minutes are too slow when something breaks
		burn = in.BadRatio
	}
	if !(burn > 1) { // also if it is unknown
		burn = 0
	}
	if budget := max(1-l.SLO.Objective, l.SLO.Errors); budget > 0 && in.RefusedShare > control.Number(budget) {
		burn += in.RefusedShare / control.Number(budget)
	}
	r := rank{rough(burn), 0, severity(stateOf(l))}
	if violated {
		r[1] = 1
	}
	return r
}

// severity is greater for states that need a person more, and greatest for unknown states.
func severity(s control.State) float64 {
	return float64(len(states) - slices.Index(states, s))
}

// rough rounds a number to two digits.
func rough(n control.Number) float64 {
	v := float64(n)
	if v == 0 || !n.Known() {
		return v
	}
	scale := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-1)
	return math.Round(v/scale) * scale
}

// seat is what decides where a loop stands among others.
type seat struct {
	rank   rank
	family rank // the greatest in its family
	first  int  // index of the first loop of its family
	depth  int  // 0: a head, 1: another loop of its service, 2: of a route
}

// arrange returns the indices of the loops that the filter selects, in the order or its reverse. Families stay together,
// where the greatest rank among them puts them; within one, the service comes before its routes in either direction.
func arrange(f *fleet, by order, reverse bool, filter Filter) []int {
	loops, seats := make([]int, 0, len(f.Loops)), make([]seat, len(f.Loops))
	for i := range f.Loops {
		if filter.match(f.names[i], &f.Loops[i]) {
			r := by.of(&f.Loops[i])
			loops, seats[i] = append(loops, i), seat{rank: r, family: r, first: i}
		}
	}
	if len(f.families) > 0 {
		settleFamilies(f, loops, seats)
	}
	slices.SortFunc(loops, func(a, b int) int {
		x, y := &seats[a], &seats[b]
		c := x.family.compare(y.family)
		if x.first == y.first {
			if c = cmp.Compare(x.depth, y.depth); c != 0 {
				return c
			}
			c = x.rank.compare(y.rank)
		}
		if by.falling {
			c = -c
		}
		c = cmp.Or(c, cmp.Compare(x.first, y.first), cmp.Compare(a, b)) // loops arrive sorted by name
		if reverse {
			c = -c
		}
		return c
	})
	return loops
}

// settleFamilies gives the loops of each family its rank and its place.
func settleFamilies(f *fleet, loops []int, seats []seat) {
	best := make([]rank, len(f.families))
	seen := make([]bool, len(f.families))
	for _, i := range loops {
		if k := f.familyOf[i]; k >= 0 && (!seen[k] || seats[i].rank.compare(best[k]) > 0) {
			best[k], seen[k] = seats[i].rank, true
		}
	}
	for _, i := range loops {
		k := f.familyOf[i]
		if k < 0 {
			continue
		}
		home, s := &f.families[k], &seats[i]
		s.family, s.first = best[k], home.loops[0]
		switch {
		case i == home.head:
		case f.Loops[i].Service == home.service:
			s.depth = 1
		default:
			s.depth = 2
		}
	}
}
