// Package loops finds what a person meant by the name of a loop that does not exist.
package loops

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/configs/suggest"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Names are the names of loops, SERVICE/KNOB.
func Names(all []api.Loop) []string {
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = l.Service + "/" + string(l.Knob)
	}
	return names
}

// mostNamed is how many loops an error lists.
const mostNamed = 6

// serviceOf returns what stands before the knob in the name of a loop, a service or a route, and whether a knob follows:
// checkout for checkout/calls/payments, checkout/export for checkout/export/concurrency.
func serviceOf(name string) (service string, isLoop bool) {
	i := strings.Index(name, "/calls/")
	if i < 0 {
		i = strings.LastIndex(name, "/")
	}
	if i < 0 {
		return name, false
	}
	return name[:i], true
}

// Unknown is the error for a name, of a loop (SERVICE/KNOB) or of a service, that is not among the names of the loops that
// there are. It says what was most likely meant.
func Unknown(name string, there []string) error {
	service, isLoop := serviceOf(name)
	what, candidates := "loop", there
	var services, own, its []string
	for _, loop := range there {
		s, _ := serviceOf(loop)
		services = append(services, s)
		if s == service {
			own = append(own, loop)
		}
		if s == name {
			its = append(its, loop)
		}
	}
	services = slices.Compact(slices.Sorted(slices.Values(services)))
	if !isLoop {
		what, candidates = "service", services
	}
	text := fmt.Sprintf("there is no %s %s", what, name)
	near := suggest.Nearest(name, candidates)
	switch {
	case len(its) > 0:
		kind := "service"
		if isLoop {
			kind = "route"
		}
		text = fmt.Sprintf("%s is a %s, and a loop is asked for: it has %s", name, kind,
			strings.Join(slices.Sorted(slices.Values(its)), ", "))
	case near != "":
		text += fmt.Sprintf("; did you mean %s?", near)
	case len(own) > 0:
		text += fmt.Sprintf("; %s has %s", service, strings.Join(slices.Sorted(slices.Values(own)), ", "))
	case len(candidates) > 0 && len(candidates) <= mostNamed:
		text += fmt.Sprintf("; there is %s", strings.Join(slices.Sorted(slices.Values(candidates)), ", "))
	case len(candidates) > 0:
		text += fmt.Sprintf("; none of the %d that there are is like it", len(candidates))
	}
	return errors.New(text)
}
