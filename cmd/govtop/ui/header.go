package ui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// header says who answers and whether what it depends on is well. It grows by a line for everything that is not.
func header(m *Model, w int) []string {
	link, linkTone := m.link.word(m)
	first := []string{bold.Render("govtop " + m.version), paint(linkTone, link), m.address}
	if m.data != nil {
		first = append(first, leadership(m.data.Status))
	}
	lines := []string{spread(w, "  ", first...)}
	if m.data == nil {
		return lines
	}

	s := m.data.Status
	if as := asOf(m.data.Loops); !as.IsZero() {
		clock := as.UTC().Format("15:04:05 UTC")
		if room := w - width(lines[0]) - width(clock); room >= 2 {
			lines[0] += strings.Repeat(" ", room) + paint(dim, clock)
		}
	}
	lines = append(lines,
		spread(w, "  ", dependency("prom", s.Prometheus), dependency("consul", s.Consul), configured(s), governor(s)),
		counts(m.data.Loops, w))
	for _, t := range troubles(s) {
		for _, line := range wrap(t, w, 2) { // the cause stands at the end of an error
			lines = append(lines, paint(alarm, line))
		}
	}
	if m.link.err != nil {
		err := m.link.err
		if u, ok := errors.AsType[*api.UnreachableError](err); ok {
			err = u.Err // the address stands above
		}
		lines = append(lines, paint(alarm, clip("! "+Clean(err.Error()), w)))
	}
	return lines
}

func leadership(s api.Status) string {
	switch {
	case s.Leader.Instance == "":
		return paint(alarm, "no leader")
	case s.Role == api.Leader:
		return fmt.Sprintf("leader %s (term %d)", s.Leader.Instance, s.Leader.Term)
	}
	return fmt.Sprintf("%s of leader %s (term %d)", s.Role, s.Leader.Instance, s.Leader.Term)
}

func dependency(name string, d api.Dependency) string {
	if !d.OK {
		return paint(alarm, name+" DOWN")
	}
	if !known(d.Latency) {
		return name + " ok"
	}
	return name + " ok " + seconds(d.Latency)
}

// troubles explains every dependency that does not answer, and what else a person should put right.
func troubles(s api.Status) []string {
	lines := []string{trouble("Prometheus", s.Prometheus, s.Now), trouble("Consul", s.Consul, s.Now)}
	if s.Config.Error != "" {
		lines = append(lines, "! configuration not reloaded, the one in force stays: "+s.Config.Error)
	}
	for _, w := range s.Warnings {
		lines = append(lines, "! "+w)
	}
	return filled(lines)
}

// trouble explains a dependency that does not answer.
func trouble(name string, d api.Dependency, now time.Time) string {
	if d.OK {
		return ""
	}
	last := "has never answered"
	if d.LastOK != nil {
		last = "is down, last answer " + age(now.Sub(*d.LastOK)) + " ago"
	}
	return join("; ", "! "+name+" "+last, d.Error, d.Address)
}

func configured(s api.Status) string {
	if s.Config.Hash == "" {
		return ""
	}
	return fmt.Sprintf("config %.6s (%s)", s.Config.Hash, age(s.Now.Sub(s.Config.LoadedAt)))
}

func governor(s api.Status) string {
	if s.Instance == "" {
		return ""
	}
	return fmt.Sprintf("governor %s %s", s.Instance, s.Version)
}

// counts says how many loops are in which state, what needs a person first.
func counts(loops []api.Loop, w int) string {
	by := map[control.State]int{}
	for _, l := range loops {
		by[l.Decision.State]++
	}
	order := slices.Clone(states)
	for _, l := range loops {
		if !slices.Contains(order, l.Decision.State) {
			order = append(order, l.Decision.State)
		}
	}
	segments := []string{fmt.Sprintf("%d %s", len(loops), plural(len(loops), "loop"))}
	for _, s := range order {
		if by[s] > 0 {
			word := wordOf(s)
			segments = append(segments, paint(word.tone, fmt.Sprintf("%d %s", by[s], strings.ToLower(word.word))))
		}
	}
	return spread(w, "  ", segments...)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// asOf is when the newest decision was made: it stands still when nothing is decided, and then says so.
func asOf(loops []api.Loop) time.Time {
	var newest time.Time
	for _, l := range loops {
		if l.Decision.At.After(newest) {
			newest = l.Decision.At
		}
	}
	return newest
}
