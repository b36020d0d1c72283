package control

import (
	"fmt"
	"time"

	"github.com/seed-de83e32b/governor/control/format"
)

// evidence lets governor judge a service with few requests. One window of such a service holds too few of them to say
// anything, so evidence adds up windows that do not overlap, until they hold enough or reach back five minutes:
//
//	now-3W       now-2W        now-W          now
//	  ├──────────────┼─────────────┼────────────┤
//	      38              41            36          115 requests: enough
//
// It never reaches back beyond the last change of a value in force: windows of another limit say nothing about this one.
// So a loop that moves by evidence moves more slowly, and no less surely.
type evidence struct {
	past  []Measurement // one a step that passed the data gate but for its traffic, oldest first
	since time.Time     // what was measured before says nothing about the values in force
}

// evidenceSpan is how far back evidence reaches.
const evidenceSpan = 5 * time.Minute

// restart forgets everything that was measured before now.
func (e *evidence) restart(now time.Time) { e.past, e.since = e.past[:0], now }

// add takes in a measurement and returns the one that covers it and as many of those before as it takes to hold enough
// requests. The requests it holds are returned too: fewer than enough if there are no more windows. A measurement that is
// in doubt is judged like any other, but later ones are not judged by it.
func (e *evidence) add(m Measurement, enough float64, doubted bool) (wide Measurement, requests float64) {
	i := 0
	for i < len(e.past) && m.At.Sub(e.past[i].At) > evidenceSpan {
		i++
	}
	e.past = append(append(e.past[:0], e.past[i:]...), m)

	wide, requests = m, arrivals(m)
	from := m.At.Add(-m.Window)
	for i := len(e.past) - 2; i >= 0 && requests < enough; i-- {
		if p := e.past[i]; !p.At.After(from) && !p.At.Add(-p.Window).Before(e.since) {
			wide, from, requests = wide.join(p), p.At.Add(-p.Window), requests+arrivals(p)
		}
	}
	if doubted {
		e.past = e.past[:len(e.past)-1]
	}
	return wide, requests
}

func arrivals(m Measurement) float64 {
	n := 0.0
	for _, in := range m.Instances {
		n += in.Offered.Or(0)
	}
	return n
}

// join returns the measurement of m's window and of the window before it together. The instances are those of m. An
// instance that was not there before has counted nothing then.
func (m Measurement) join(before Measurement) Measurement {
	old := make(map[string]Instance, len(before.Instances))
	for _, in := range before.Instances {
		if in.Age.Known() { // it could be judged then
			old[in.Name] = in
		}
	}
	joined := make([]Instance, len(m.Instances))
	share := float64(before.Window) / float64(m.Window+before.Window)
	for i, in := range m.Instances {
		if was, ok := old[in.Name]; ok {
			in = in.join(was, share)
		}
		joined[i] = in
	}
	m.Instances = joined
	m.Window += before.Window
	m.Quantile, m.Censored = Missing(TooLittleTraffic, "quantiles of several windows cannot be added up"), false
	return m
}

// join adds up what an instance counted in two windows, the earlier one with a share of the time. Values of now stay.
func (in Instance) join(was Instance, share float64) Instance {
	average := func(now, before Reading) Reading {
		return now.Times(Read(1 - share)).Plus(before.Times(Read(share)))
	}
	busy, completed := in.busy().Plus(was.busy()), in.Completed.Plus(was.Completed)
	in.Mean = busy.Over(completed, "nothing completed in these windows")
	in.Completed = completed
	for _, count := range []struct {
		now    *Reading
		before Reading
	}{
		{&in.Offered, was.Offered},
		{&in.Admitted, was.Admitted},
		{&in.Refused, was.Refused},
		{&in.RefusedByShed, was.RefusedByShed},
		{&in.RefusedByRate, was.RefusedByRate},
		{&in.RefusedForCallee, was.RefusedForCallee},
		{&in.RefusedByShare, was.RefusedByShare},
		{&in.RefusedByRoof, was.RefusedByRoof},
		{&in.RefusedEndless, was.RefusedEndless},
		{&in.Failed, was.Failed},
		{&in.Slow, was.Slow},
		{&in.Waited, was.Waited},
		{&in.CutShort.Count, was.CutShort.Count},
		{&in.CutShort.Own, was.CutShort.Own},
		{&in.CutShort.Waited, was.CutShort.Waited},
	} {
		*count.now = count.now.Plus(count.before)
	}
	for i := range in.Classes {
		in.Classes[i].Offered = in.Classes[i].Offered.Plus(was.Classes[i].Offered)
		in.Classes[i].Refused = in.Classes[i].Refused.Plus(was.Classes[i].Refused)
	}
	in.InFlight, in.Binding = average(in.InFlight, was.InFlight), average(in.Binding, was.Binding)
	return in
}

// widen returns the view of m, in which plausible has found f, widened by evidence of earlier windows where m alone holds
// too few requests.
func (s *LoopSet) widen(m Measurement, f findings) *view {
	v := s.gate.pass(m, s.target.seconds())
	switch v.hold {
	case "":
		s.evidence.past = nil
		return v
	case TooLittleTraffic, Idle:
	default:
		return v
	}
	wide, requests := s.evidence.add(m, s.gate.minRequests, f.hold != "" || f.doubt != "" || v.unsure != "")
	switch {
	case v.hold == Idle:
		return v
	case requests < s.gate.minRequests:
		v.detail = fmt.Sprintf("%s requests in %s, needs %.0f", format.Count(requests), wide.Window, s.gate.minRequests)
		return v
	}
	return s.gate.pass(wide, s.target.seconds())
}
