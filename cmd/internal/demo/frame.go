package demo

import (
	"context"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/models/live/load"
)

// Frame is what there is to see of a World at an instant.
type Frame struct {
	At         time.Time
	Load       float64 // requests a second, to each twin
	Slow       bool    // the dependency is slow
	Lost       bool    // Prometheus is lost
	Static     Traffic
	Governed   Traffic
	Lateness   time.Duration // with which requests of the last few seconds were sent, 99% quantile: the machine's fault
	Governors  []string      // that live, the address of each
	Leader     string        // the governor that holds the lock, "" where none is known to
	Loop, Shed api.Loop      // as a living governor tells them
	Err        error         // why none does
}

// Traffic is what became of the requests to a twin that ended within the last second, and what is still queued.
type Traffic struct {
	Good    int // answered within the SLO, first attempt included
	Late    int // answered, but later
	Lost    int // given up or failed
	Refused int // at every attempt
	Queue   int // requests that wait inside the service, wanted by somebody or not

	// Of the last few seconds, because one of them has few critical requests: the share of these that were answered
	// before the client gave up, and the latency of admitted attempts, in seconds, where a client that gives up counts
	// with the time after which it does. NaN where there were none.
	Critical, P99 float64
}

// lately is how far back these go.
const lately = 3 * time.Second

// Look returns the Frame of now.
func (w *World) Look(ctx context.Context) Frame {
	now := time.Now()
	w.mu.Lock()
	f := Frame{At: now, Load: w.times * BaseLoad, Slow: w.slow, Lost: w.lost}
	governors := w.governors
	w.mu.Unlock()
	var late [2]time.Duration
	f.Static, late[0] = w.Static.seen(now)
	f.Governed, late[1] = w.Governed.seen(now)
	f.Lateness = max(late[0], late[1])
	for _, g := range governors {
		f.Governors = append(f.Governors, g.client.Address())
	}

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

func (t *Twin) seen(now time.Time) (tr Traffic, lateness time.Duration) {
	tr, lateness = trafficOf(t.Load.Records(), now)
	tr.Queue = t.Plant.State().Waiting
	return tr, lateness
}

// trafficOf sums up what has ended until now, and how late it was sent.
func trafficOf(records []load.Record, now time.Time) (tr Traffic, lateness time.Duration) {
	critical, served := 0, 0
	var latencies, lates []time.Duration
	// They are in the order in which they ended, but for microseconds.
	for i := len(records) - 1; i >= 0 && !records[i].Ended().Before(now.Add(-lately-time.Second)); i-- {
		r := records[i]
		age := now.Sub(r.Ended())
		if age <= 0 || age > lately {
			continue
		}
		answered := r.Outcome == load.OK || r.Outcome == load.Slow
		critical += count(r.Class == 0)
		served += count(r.Class == 0 && answered)
		latencies, lates = admitted(latencies, r), append(lates, r.Lateness)
		if age > time.Second {
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
	tr.Critical = float64(served) / float64(critical) // of none: NaN
	tr.P99 = math.NaN()
	if len(latencies) > 0 {
		tr.P99 = p99(latencies).Seconds()
	}
	return tr, p99(lates)
}
