package explain

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// policies are the policies that refuse requests on the way in, and what of a decision's share each refused.
func policies(by control.RefusedBy) []struct {
	name  string
	share control.Number
} {
	return []struct {
		name  string
		share control.Number
	}{
		{"the concurrency limit", by.Concurrency},
		{"shedding", by.Shed},
		{"the rate limit", by.Rate},
		{"the door before a callee without room", by.Callee},
		{"its share of the roof", by.Share},
		{"the roof over all routes", by.Roof},
		{"the bound on endless requests", by.Endless},
	}
}

// Refused says in a few words which share of the requests the loop's service refuses, and which policy refuses how much
// of them.
func Refused(l api.Loop) string {
	in := l.Decision.Inputs
	if !in.RefusedShare.Known() {
		return "refused requests unknown"
	}
	var by, names []string
	for _, p := range policies(in.RefusedBy) {
		if p.share > 0 {
			by, names = append(by, p.name+" "+percent(p.share)), append(names, p.name)
		}
	}
	text := percent(in.RefusedShare) + " of the requests refused"
	switch len(by) {
	case 0:
		return text
	case 1:
		return text + " by " + names[0]
	}
	return text + ": by " + strings.Join(by, ", by ")
}

// Lacks says what would have to be added to carry what is refused, in instances like those that are there; "" if nothing is, or if it cannot be known.
func Lacks(l api.Loop) string {
	m := l.Missing
	switch {
	case m == nil:
		return ""
	case l.Decision.State == control.Ineffective:
		return "more of these instances would not help while something else is slow"
	case l.Decision.State == control.AtMax:
		return "needs a higher max if an instance can take more, else about " + moreInstances(*m)
	}
	return "needs about " + moreInstances(*m)
}

func moreInstances(m api.Missing) string {
	noun := "instances"
	if m.Instances == 1 {
		noun = "instance"
	}
	return fmt.Sprintf("%d more %s (+%s capacity)", m.Instances, noun, format.Percent(math.Ceil(m.Capacity*100)/100))
}
