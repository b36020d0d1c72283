package demo

import (
	"context"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models/live/load"
)

// Frame is what there is to see of a World at an instant.
type Frame struct {
	At         time.Duration // since the load began
	Load       float64       // requests a second, to each twin
	Slow       bool          // the dependency is slow
	Lost       bool          // Prometheus is lost
	Static     Traffic
	Governed   Traffic
	Leader     string   // the governor that holds the lock, "" where none is known to
	Loop, Shed api.Loop // as a living governor tells them
	Err        error    // why none does
}

// Traffic is what became of the requests to a twin that ended within the last second, and what is still queued.
type Traffic struct {
	Good    int // answered within the SLO, first attempt included
	Late    int // answered, but later
	Lost    int // given up or failed
	Refused int // at every attempt
	Queue   int // requests that wait inside the service, wanted by somebody or not
}

// Look returns the Frame of now.
func (w *World) Look(ctx context.Context) Frame {
	now := time.Now()
	w.mu.Lock()
	f := Frame{At: now.Sub(w.began), Load: w.times * BaseLoad, Slow: w.slow, Lost: w.lost}
	governors := w.governors
	w.mu.Unlock()
	f.Static, f.Governed = w.Static.traffic1s(now), w.Governed.traffic1s(now)

	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	for _, g := range governors {
		loop, err := g.client.Loop(ctx, w.Governed.Name, control.KnobConcurrency)
		if err != nil {
			f.Err = err
			continue
		}
		f.Loop, f.Err = loop, nil
		f.Shed, _ = g.client.Loop(ctx, w.Governed.Name, control.KnobShed)
		status, err := g.client.Status(ctx)
		if err == nil && status.Role == api.Leader {
			f.Leader = g.name
			break // the leader's word counts
		}
	}
	return f
}

func (t *Twin) traffic1s(now time.Time) Traffic {
	state := t.Plant.State()
	tr := Traffic{Queue: state.Waiting}
	from := now.Add(-time.Second)
	records := t.Load.Records()
	// They are in the order in which they ended, but for microseconds.
	for i := len(records) - 1; i >= 0; i-- {
		r := records[i]
		if r.Ended().Before(from.Add(-time.Second)) {
			break
		}
		if r.Ended().Before(from) || !r.Ended().Before(now) {
			continue
		}
		switch r.Outcome {
		case load.OK:
			tr.Good++
		case load.Slow:
			tr.Late++
		case load.Refused:
			tr.Refused++
		default:
			tr.Lost++
		}
	}
	return tr
}
