package ui

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// header says which governor answers and whether its dependencies are well. It grows by a line for each that is not,
// but leaves most of the terminal to the loops.
func header(m *Model, w int) []string {
	connected, connectionTone := m.connection.word(m)
	first := []string{bold.Render("govtop " + m.version), paint(connectionTone, connected)}
	if m.options.ReadOnly {
		first = append(first, paint(manual, "read-only"))
	}
	first = append(first, m.address)
	f := m.fleet()
	var s api.Status
	if f != nil {
		if s = f.Status; m.when() == inPast {
			s = m.live.Status // for the past only the loops are known
		}
		first = append(first, leadership(s))
	}
	lines := []string{spread(w, "  ", first...)}
	if f == nil {
		return lines
	}

	if !f.asOf.IsZero() {
		clock := format.TimeOfDay(f.asOf) + " UTC"
		if room := w - fit.Width(lines[0]) - fit.Width(clock); room >= 2 {
			lines[0] += strings.Repeat(" ", room) + paint(dim, clock)
		}
	}
	lines = append(lines,
		spread(w, "  ", dependency("prom", s.Prometheus), dependency("consul", s.Consul), configured(s), governor(s)),
		counts(f, w))
	if s.Freeze != nil {
		lines = append(lines, paint(manual, fit.Clip(frozenText(*s.Freeze), w)))
	}
	var bad []string
	if m.connection.err != nil {
		err := m.connection.err
		if u, ok := errors.AsType[*api.UnreachableError](err); ok {
			err = u.Err // the address is shown above
		}
		bad = append(bad, fit.Clip("! "+Clean(err.Error()), w))
	}
	for _, t := range append(troubles(s), misfit(m.version, s.Version)) {
		bad = append(bad, fit.WrapTo(t, w, 2)...) // the cause is at the end of an error
	}
	bad = filled(bad)
	if room := max(m.height/4, 2); len(bad) > room {
		more := len(bad) - room + 1
		bad = append(bad[:room-1], fmt.Sprintf("! %d more problems: h for health", more))
	}
	for _, line := range bad {
		lines = append(lines, paint(alarm, line))
	}
	return lines
}

// frozenText says who pulled the kill switch, and why.
func frozenText(o actuators.Order) string {
	return join(": ", "* FROZEN everywhere by "+o.Actor, o.Reason)
}

// misfit warns if govtop was not built for this governor: if their major or minor versions differ. Builds without a
// number fit all.
func misfit(ours, theirs string) string {
	a, b := release(ours), release(theirs)
	if a == "" || b == "" || a == b {
		return ""
	}
	return fmt.Sprintf("! govtop %s does not match governor %s and may leave things out: use the one that came with it",
		ours, theirs)
}

// release returns the major.minor of a version; "" if it has none.
func release(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return ""
	}
	for _, p := range parts[:2] {
		if _, err := strconv.Atoi(p); err != nil {
			return ""
		}
	}
	return parts[0] + "." + parts[1]
}

func leadership(s api.Status) string {
	switch {
	case s.Leader.Instance == "":
		return paint(alarm, "no leader")
	case s.Role == api.Leader:
		return fmt.Sprintf("leader %s (epoch %d)", s.Leader.Instance, s.Leader.Epoch)
	}
	return fmt.Sprintf("%s of leader %s (epoch %d)", s.Role, s.Leader.Instance, s.Leader.Epoch)
}

func dependency(name string, d api.Dependency) string {
	if !d.OK {
		return paint(alarm, name+" DOWN")
	}
	if !d.Latency.Known() {
		return name + " ok"
	}
	return name + " ok " + seconds(d.Latency)
}

// troubles explains every dependency that does not answer, and everything else that a person should fix.
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
		last = "is down, last answer " + format.Age(now.Sub(*d.LastOK)) + " ago"
	}
	return join("; ", "! "+name+" "+last, d.Error, d.Address)
}

func configured(s api.Status) string {
	if s.Config.Hash == "" {
		return ""
	}
	return fmt.Sprintf("config %.6s (%s)", s.Config.Hash, format.Age(s.Now.Sub(s.Config.LoadedAt)))
}

func governor(s api.Status) string {
	if s.Instance == "" {
		return ""
	}
	return fmt.Sprintf("governor %s %s", s.Instance, s.Version)
}

// counts says how many loops refuse much, and how many are in which state; states that need a person come first.
func counts(f *fleet, w int) string {
	segments := []string{fmt.Sprintf("%d %s", len(f.Loops), plural(len(f.Loops), "loop"))}
	if f.refuse > 0 {
		segments = append(segments, paint(alarm, fmt.Sprintf("%d refusing >%s", f.refuse, percent(MaxRefused))))
	}
	for _, s := range append(f.strange(), states...) {
		if n := f.counts[s]; n > 0 {
			word := wordOf(s)
			segments = append(segments, paint(word.tone, fmt.Sprintf("%d %s", n, strings.ToLower(word.word))))
		}
	}
	if line := strings.Join(segments, "  "); fit.Width(line) <= w {
		return line
	}
	return spread(w, " ", segments...)
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
