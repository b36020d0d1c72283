package ui

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/daemon/api"
)

// The screen redraws for data at most four times a second. A tick of the daemon reports many loops within milliseconds;
// they are collected so that one frame shows them all.
const (
	frameGap = 250 * time.Millisecond
	collect  = 50 * time.Millisecond
)

// feed delivers the events of one connection to the screen. If the screen does not keep up, the feed fills, then the
// connection, and the daemon disconnects it: govtop never holds more than this.
type feed struct {
	events  chan api.Event
	drained chan struct{} // closed when the last event has been shown
}

const feedBuffer = 4096

type (
	// heardMsg is a batch of events of a feed.
	heardMsg struct {
		feed   *feed
		at     time.Time
		events []api.Event
	}
	// endedMsg says that the connection behind a feed has ended, and why.
	endedMsg struct {
		feed *feed
		at   time.Time
		err  error
	}
	// pastMsg is the initial history of the sparklines.
	pastMsg struct{ history api.History }
)

// connect opens a connection that continues after the event with the given sequence number.
func (m *Model) connect() tea.Cmd {
	f := &feed{events: make(chan api.Event, feedBuffer), drained: make(chan struct{})}
	m.connection.feed = f
	ctx, source, clock, after := m.ctx, m.source, m.clock, m.connection.seq
	run := func() tea.Msg {
		err := source.Stream(ctx, after, func(e api.Event) error {
			select {
			case f.events <- clean(e):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(f.events)
		select {
		case <-f.drained:
		case <-ctx.Done():
		}
		return endedMsg{feed: f, at: clock(), err: err}
	}
	return tea.Batch(run, f.next(m.ctx, m.clock, 0))
}

// next waits for events, then until the last frame is old enough and no more events follow at once.
func (f *feed) next(ctx context.Context, clock func() time.Time, gap time.Duration) tea.Cmd {
	return func() tea.Msg {
		enough := time.After(gap)
		batch := make([]api.Event, 0, 1)
		select {
		case e, ok := <-f.events:
			if !ok {
				close(f.drained)
				return nil
			}
			batch = append(batch, e)
		case <-ctx.Done():
			return nil
		}
		for _, wait := range []<-chan time.Time{time.After(collect), enough} {
			select {
			case <-wait:
			case <-ctx.Done():
				return nil
			}
		}
		for {
			select {
			case e, ok := <-f.events:
				if ok && len(batch) < feedBuffer {
					batch = append(batch, e)
					continue
				}
				if ok {
					batch = append(batch, e)
				}
			default:
			}
			return heardMsg{feed: f, at: clock(), events: batch}
		}
	}
}

// remember fetches the initial history of the sparklines, over their span. Without it they start empty. The governor
// reports one decision per step; the finer the step, the more likely the worst is among them.
func (m *Model) remember(span, step time.Duration) tea.Cmd {
	ctx, source := m.ctx, m.source
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		history, err := source.History(ctx, span, step)
		if err != nil {
			return nil
		}
		return pastMsg{clean(history)}
	}
}
