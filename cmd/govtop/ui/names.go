package ui

import (
	"cmp"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
)

// shortKnobs are short for the knobs beside a service that has to be shortened itself.
var shortKnobs = map[control.Knob]string{control.KnobConcurrency: "conc"}

// cut is one loop's name while it is made to fit. Its parts are measured in cells.
type cut struct {
	service, knob string // the knob with its slash
	room          int    // for the service
	text          string
}

// knobLeast is the number of cells in which a shortened knob can still be recognized.
const knobLeast = 4

// shortNames fits the names of loops or services into w cells, so that different loops read differently wherever that is
// possible. The knob loses its middle first. If that is not enough, the service does; services that would read the same
// keep the part in which they differ; and those for which that part is too long have their words shortened to initials.
func shortNames(names []string, w int) []string {
	names = slices.Clone(names)
	var long []*cut
	places := map[*cut]int{}
	for i, full := range names {
		if fit.Width(full) <= w {
			continue
		}
		service, knob := splitName(full)
		switch room := w - fit.Width(service) - 1; {
		case knob == "":
		case room >= min(knobLeast, fit.Width(knob)):
			knob = "/" + shortKnob(knob, room)
		default:
			knob = middle("/"+cmp.Or(shortKnobs[control.Knob(knob)], knob), w/2)
		}
		c := &cut{service: service, knob: knob, room: w - fit.Width(knob)}
		c.text = middle(c.service, c.room)
		long, places[c] = append(long, c), i
	}
	for _, way := range []func(same []*cut){aroundDifference, initials} {
		for _, same := range alike(long) {
			way(same)
		}
	}
	for c, i := range places {
		names[i] = c.text + c.knob
	}
	return names
}

// splitName splits the name of a loop into that of its service or route and that of its knob, which may be one for calls:
// checkout/export and concurrency, checkout and calls/payments.
func splitName(full string) (service, knob string) {
	i := strings.Index(full, "/calls/")
	if i < 0 {
		i = strings.LastIndex(full, "/")
	}
	if i < 0 {
		return full, ""
	}
	return full[:i], full[i+1:]
}

// shortKnob fits a knob into w cells. Where few are left, its start says more than both ends.
func shortKnob(knob string, w int) string {
	if w < knobLeast+2 {
		return fit.Clip(knob, w)
	}
	return middle(knob, w)
}

// alike groups different services that read the same.
func alike(all []*cut) [][]*cut {
	by := map[string][]*cut{}
	for _, c := range all {
		by[c.text+c.knob] = append(by[c.text+c.knob], c)
	}
	var groups [][]*cut
	for _, same := range by {
		if slices.ContainsFunc(same, func(c *cut) bool { return c.service != same[0].service }) {
			groups = append(groups, same)
		}
	}
	return groups
}

// middle fits s into w cells without its middle.
func middle(s string, w int) string {
	width := fit.Width(s)
	if width <= w || w < 3 {
		return fit.Clip(s, w)
	}
	tail := (w - 1) / 2
	return fit.Clip(ansi.Truncate(s, w-1-tail, "")+fit.Ellipsis+ansi.TruncateLeft(s, width-tail, ""), w)
}

// aroundDifference shows the start of each service and the part from the first character in which not all are the same.
func aroundDifference(same []*cut) {
	common := same[0].service
	for _, c := range same[1:] {
		n := 0
		for a, b := []rune(common), []rune(c.service); n < min(len(a), len(b)) && a[n] == b[n]; n++ {
		}
		common = string([]rune(common)[:n])
	}
	for _, c := range same {
		from, width := fit.Width(common), fit.Width(c.service)
		head := min(2, from)
		if rest := width - from; rest < c.room-1-head {
			head = c.room - 1 - rest
		}
		c.text = fit.Clip(ansi.Truncate(c.service, head, "")+fit.Ellipsis+ansi.TruncateLeft(c.service, from, ""), c.room)
	}
}

// initials shortens the words of each service to their first letter, from the left, until it fits. A word with a digit
// stays: it tells services apart.
func initials(same []*cut) {
	for _, c := range same {
		text := c.service
		for rest, done := text, ""; fit.Width(text) > c.room && rest != ""; text = done + rest {
			word := rest
			if i := strings.IndexAny(rest, "-._"); i >= 0 {
				word = rest[:i+1]
			}
			rest = rest[len(word):]
			if stem := strings.TrimRight(word, "-._"); stem != "" && !strings.ContainsAny(stem, "0123456789") {
				first, _ := ansi.FirstGraphemeCluster(stem, ansi.GraphemeWidth)
				word = first + word[len(stem):]
			}
			done += word
		}
		c.text = middle(text, c.room)
	}
}
