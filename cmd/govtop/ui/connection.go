package ui

import (
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

const (
	backoffMost = 15 * time.Second
	staleAfter  = 2*api.Heartbeat + time.Second // no event although the connection is up: a hanging daemon
)

// connection is the connection to the governor.
type connection struct {
	feed     *feed     // of the connection that is up or being made; nil: none
	heard    time.Time // when the last event arrived
	seq      uint64    // of the last decision received: where to continue
	err      error     // why the last connection ended; nil once the next one delivers
	failures int       // in a row
	retryAt  time.Time
}

// hear takes over a batch of events, and waits for the next.
func (m *Model) hear(h heardMsg) tea.Cmd {
	if h.feed != m.connection.feed {
		return nil
	}
	m.now = h.at
	m.connection.heard, m.connection.err, m.connection.failures = h.at, nil, 0
	var past tea.Cmd
	told, news := Snapshot{}, slices.ContainsFunc(h.events, func(e api.Event) bool {
		return e.Snapshot != nil || e.Status != nil || e.Loop != nil // else it is a heartbeat
	})
	if m.live != nil && news {
		told = Snapshot{Status: m.live.Status, Loops: slices.Clone(m.live.Loops)}
	}
	for _, e := range h.events {
		m.connection.seq = max(m.connection.seq, e.Seq)
		switch {
		case e.Snapshot != nil:
			told = Snapshot{Status: e.Snapshot.Status, Loops: slices.Clone(e.Snapshot.Loops)}
			if told.Loops == nil {
				told.Loops = []api.Loop{}
			}
			if !e.Snapshot.Complete {
				m.connection.seq = e.Seq // perhaps of another daemon, whose numbers start elsewhere
				m.file.old, m.log.old = true, true
				m.deep = false
				past = m.remember(sparkSpan, sparkStep/3)
			}
			m.sparks.keep(told.Loops)
			for _, l := range told.Loops {
				m.sparks.decided(l)
			}
		case e.Status != nil:
			told.Status = *e.Status
		case e.Loop != nil:
			before, ok := told.decided(*e.Loop)
			if !ok {
				continue
			}
			m.sparks.decided(*e.Loop)
			m.file.decided(before, *e.Loop, e.Seq)
			if m.showsLog() {
				m.log.decided(before, *e.Loop, e.Seq)
			} else {
				m.log.old = true // it is fetched again when shown
			}
		}
	}
	if told.Loops != nil {
		m.live = newFleet(told)
	}
	return tea.Batch(h.feed.next(m.ctx, m.clock, m.gap), past)
}

// end notes that a connection has ended. Its data stays and grows old.
func (m *Model) end(e endedMsg) {
	if e.feed != m.connection.feed {
		return
	}
	m.now = e.at
	m.connection.feed = nil
	m.connection.failures++
	m.connection.err = e.err
	m.connection.retryAt = e.at.Add(backoff(m.connection.failures))
}

// backoff doubles from one second.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 10), backoffMost)
}

// stale reports whether the data is older than it should be, and how old it is.
func (m *Model) stale() (time.Duration, bool) {
	if m.live == nil {
		return 0, false
	}
	old := m.now.Sub(m.connection.heard)
	return old, m.connection.err != nil || old > staleAfter
}

// word is the header's word for the state of the connection.
func (c *connection) word(m *Model) (string, tone) {
	old, stale := m.stale()
	switch {
	case m.live == nil && c.err == nil:
		return "CONNECTING", waiting
	case c.err != nil && m.live == nil:
		return "NOT CONNECTED, " + c.retry(m.now), alarm
	case c.err != nil:
		return "STALE " + format.Age(old) + ", " + c.retry(m.now), alarm
	case stale:
		return "STALE " + format.Age(old) + ", waiting for events", alarm
	}
	return "LIVE", calm
}

func (c *connection) retry(now time.Time) string {
	if c.feed != nil {
		return "trying again"
	}
	// Rounded up: else "in 0s" would show while nothing happens.
	return "retry in " + format.Age(max(c.retryAt.Sub(now), 0)+time.Second-1)
}
