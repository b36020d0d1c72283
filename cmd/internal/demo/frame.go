package demo

import (
	"context"
	"math"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/models/live/load"
)

// Frame is the visible state of a World at an instant.
type Frame struct {
	At         time.Time
	Load       float64 // requests a second, to each twin
	Slow       bool    // the dependency is slow
	Lost       bool    // Prometheus is lost
	Static     Traffic
	Governed   Traffic
	Lateness   time.Duration // p99 delay in sending the requests of the last few seconds: the machine's fault
	Governors  []string      // address of each live governor
	Leader     string        // the governor that holds the lock; "" if none is known
	Loop, Shed api.Loop      // as reported by a live governor
	Err        error         // why none reports
}

// Traffic counts the outcomes of the requests to a twin that ended within the last second, and those still queued.
type Traffic struct {
	Good    int // answered within the SLO, first attempt included
	Late    int // answered, but later
	Lost    int // given up or failed
	Refused int // at every attempt
	Queue   int // requests waiting inside the service, including those whose client has given up

	// Both cover the last few seconds, because one second has few critical requests: the share of critical requests that
	// were answered before the client gave up, and the p99 latency of admitted attempts, in seconds. A client that gives
	// up counts with the time it waited. NaN if there were none.
	Critical, P99 float64
}

// lately is how far back these two go.
const lately = 3 * time.Second

// Look returns the current Frame.
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

// trafficOf counts the outcomes up to now, and how late the requests were sent.
func trafficOf(records []load.Record, now time.Time) (tr Traffic, lateness time.Duration) {
	critical, served := 0, 0
	var latencies, lates []time.Duration
	// They are in the order in which they ended, give or take microseconds.
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
