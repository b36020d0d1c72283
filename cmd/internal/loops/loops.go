// Package loops finds what a person meant by the name of a loop that does not exist.
package loops

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/configs/suggest"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Names are the names of loops: SERVICE/KNOB, and SERVICE/ROUTE/KNOB of the routes with loops of their own.
func Names(all []api.Loop) []string {
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = l.Service + "/" + string(l.Knob)
	}
	return names
}

// mostNamed is how many loops an error lists.
const mostNamed = 6

// nearest returns the candidate that was most likely meant; "": none is near. If the owner is right, only the rest is in
// doubt: checkout/export/rate is no typo of checkout/export/shed.
func nearest(name, owner string, candidates []string) string {
	var rests []string
	for _, c := range candidates {
		if strings.HasSuffix(c, "/"+name) {
			return c // without its service
		}
		if rest, ok := strings.CutPrefix(c, owner+"/"); ok && owner != name {
			rests = append(rests, rest)
		}
	}
	if len(rests) == 0 {
		return suggest.Nearest(name, candidates)
	}
	if rest := suggest.Nearest(strings.TrimPrefix(name, owner+"/"), rests); rest != "" {
		return owner + "/" + rest
	}
	return ""
}

// ownerOf returns the service or the route that a loop belongs to.
func ownerOf(loop string) string {
	if service, _, calls := strings.Cut(loop, "/calls/"); calls {
		return service
	}
	return loop[:max(0, strings.LastIndex(loop, "/"))]
}

// Unknown is the error for a name, of a loop, a service or a route (SERVICE/ROUTE), that is not among the names of the
// loops that there are. It says what was most likely meant.
func Unknown(name string, there []string) error {
	parts, owner := strings.Count(name, "/")+1, name
	if parts > 1 {
		owner = ownerOf(name)
	}
	of := map[string][]string{} // loops, by owner
	for _, loop := range there {
		of[ownerOf(loop)] = append(of[ownerOf(loop)], loop)
	}
	owners := slices.Sorted(maps.Keys(of))
	routes := slices.DeleteFunc(slices.Clone(owners), func(o string) bool { return !strings.Contains(o, "/") })

	what, candidates := "loop", slices.Sorted(slices.Values(there))
	switch {
	case parts == 1:
		what, candidates = "service", owners
	case parts == 2 && len(routes) > 0 && !slices.Contains(actuators.Knobs[:], name[strings.LastIndex(name, "/")+1:]):
		what, candidates = "loop or route", append(candidates, routes...)
	}
	list := func(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), ", ") }
	text := fmt.Sprintf("there is no %s %s", what, name)
	switch near := nearest(name, owner, candidates); {
	case of[name] != nil && parts == 1:
		text = fmt.Sprintf("%s is a service, and a loop is asked for: it has %s", name, list(of[name]))
	case of[name] != nil:
		text = fmt.Sprintf("%s is a route, and a loop is asked for: it has %s", name, list(of[name]))
	case near != "":
		text += fmt.Sprintf("; did you mean %s?", near)
	case of[owner] != nil:
		text += fmt.Sprintf("; %s has %s", owner, list(of[owner]))
	case slices.ContainsFunc(routes, func(r string) bool { return strings.HasPrefix(r, owner+"/") }):
		text += fmt.Sprintf("; %s has no loop of its own, only its routes have: %s", owner,
			list(slices.DeleteFunc(slices.Clone(there), func(l string) bool { return !strings.HasPrefix(l, owner+"/") })))
	case len(candidates) > 0 && len(candidates) <= mostNamed:
		text += fmt.Sprintf("; there is %s", list(candidates))
	case len(candidates) > 0:
		text += fmt.Sprintf("; none of the %d that there are is like it", len(candidates))
	}
	return errors.New(text)
}
