package ui

import (
	"context"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

const (
	memory    = time.Hour        // the reach of charts and rewinding; the daemon keeps no more
	logLength = 200              // decisions in a log
	askAgain  = 15 * time.Second // after a failure
)

// dossier is the past of one loop, or the log of all loops. It is fetched once, when the screen needs it; later
// decisions come from the stream.
type dossier struct {
	of      string      // service/knob; "": all loops
	points  []api.Point // oldest first; none for all loops
	records []api.Record
	actions []actuators.Action
	entries []logEntry // records and actions, newest first
	changed bool       // records or actions have changed since entries was built

	loaded  bool // an answer has come
	old     bool // the daemon knows more than was fetched
	busy    bool // a request is in flight
	err     error
	retryAt time.Time
}

// toldMsg is the answer to a request for a dossier.
type toldMsg struct {
	of      string
	at      time.Time
	points  []api.Point
	records []api.Record
	actions []actuators.Action
	err     error
}

// want says whether to fetch the dossier. A dossier has at most one request in flight.
func (d *dossier) want(now time.Time) bool {
	return !d.busy && (!d.loaded || d.old) && !now.Before(d.retryAt)
}

// ask fetches the dossier of a loop, or of all loops if the service is "".
func (m *Model) ask(d *dossier, service string, knob control.Knob) tea.Cmd {
	d.busy, d.old = true, false
	of := d.of
	ctx, source, clock := m.ctx, m.source, m.clock
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		told := toldMsg{of: of}
		var decided api.Decisions
		var audit api.Audit
		if service != "" {
			var past api.LoopHistory
			past, told.err = source.LoopHistory(ctx, service, knob, memory, 0)
			told.points = past.Points
		}
		if told.err == nil {
			decided, told.err = source.Decisions(ctx, api.Query{Last: logLength, Service: service, Knob: knob, Notable: true})
			told.records = decided.Decisions
		}
		if told.err == nil {
			audit, told.err = source.Audit(ctx)
			told.actions = audit.Actions
		}
		if service != "" {
			told.actions = slices.DeleteFunc(told.actions, func(a actuators.Action) bool {
				return a.Service != "" && (a.Service != service || a.Knob != string(knob))
			})
		}
		told.at = clock()
		told.points, told.records, told.actions = clean(told.points), clean(told.records), clean(told.actions)
		return told
	}
}

// told takes over an answer, and keeps what the stream has delivered since the request. It also keeps what is older than
// the answer: a governor that has just been restarted knows less than this screen has shown.
func (d *dossier) told(t toldMsg) {
	d.busy = false
	if t.of != d.of {
		return // the screen shows another loop by now
	}
	if d.err = t.err; t.err != nil {
		d.retryAt, d.old = t.at.Add(askAgain), true
		return
	}
	d.retryAt = time.Time{}
	d.points = around(d.points, t.points, func(p api.Point) time.Time { return p.At })
	d.records = around(d.records, t.records, func(r api.Record) time.Time { return r.Decision.At })
	d.actions, d.loaded, d.changed = t.actions, true, true
	d.bound()
}

// around returns the answer between those of the known that are older and younger than all of it. Both are sorted,
// oldest first.
func around[T any](known, answer []T, at func(T) time.Time) []T {
	if len(answer) == 0 {
		return known
	}
	oldest, newest := at(answer[0]), at(answer[len(answer)-1])
	var earlier, later []T
	for _, k := range known {
		switch {
		case at(k).Before(oldest):
			earlier = append(earlier, k)
		case at(k).After(newest):
			later = append(later, k)
		}
	}
	return slices.Concat(earlier, answer, later)
}

// decided adds a decision from the stream.
func (d *dossier) decided(before, l api.Loop, seq uint64) {
	if d.of != "" && d.of != name(l) {
		return
	}
	if !actuators.SameOrder(before.Order, l.Order) {
		d.old = true // only the audit names the actor
	}
	if d.of != "" {
		d.points = append(d.points, api.Point{
			At: l.Decision.At, Value: l.Decision.Value, Setpoint: l.Decision.Setpoint, Measured: l.Decision.Measured,
			State: l.Decision.State, BadRatio: l.Decision.Inputs.BadRatio,
		})
	}
	was, is := before.Decision, l.Decision
	if was.State != is.State || (is.Value.Known() && was.Value != is.Value) {
		d.records, d.changed = append(d.records, api.Record{Seq: seq, Decision: is}), true
	}
	d.bound()
}

// bound drops old entries, so that the dossier does not grow.
func (d *dossier) bound() {
	if n := len(d.points); n > 0 {
		since := d.points[n-1].At.Add(-memory)
		d.points = d.points[slices.IndexFunc(d.points, func(p api.Point) bool { return !p.At.Before(since) }):]
	}
	d.records = d.records[max(len(d.records)-logLength, 0):]
}

// write rebuilds the entries if records or actions changed.
func (d *dossier) write() {
	if d.changed {
		d.entries, d.changed = entriesOf(d.records, d.actions), false
	}
}

// until returns the entries up to an instant, from entries sorted newest first.
func until(entries []logEntry, now time.Time) []logEntry {
	i := slices.IndexFunc(entries, func(e logEntry) bool { return !e.at.After(now) })
	if i < 0 {
		return nil
	}
	return entries[i:]
}

// errands starts the requests that the screen needs.
func (m *Model) errands() tea.Cmd {
	if m.live == nil || m.connection.err != nil {
		return nil
	}
	var cmds []tea.Cmd
	if l, ok := m.overview.current(); ok && m.showsLoop() {
		if m.file.of != name(l) {
			m.file = dossier{of: name(l), busy: m.file.busy}
		}
		if m.file.want(m.now) {
			cmds = append(cmds, m.ask(&m.file, l.Service, l.Knob))
		}
	}
	if m.showsLog() && m.log.want(m.now) {
		cmds = append(cmds, m.ask(&m.log, "", ""))
	}
	return tea.Batch(append(cmds, m.travel())...)
}
