package simulate_test

import (
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// gateway is ten real guards that share a rate of 1000/s, and what governor publishes for them every five seconds.
type gateway struct {
	t      *testing.T
	now    time.Time
	guards []*guard.Guard
	writer publish.Writer
	last   publish.Last
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	spec := control.Spec{
		Service: "gateway", SLO: control.SLO{Latency: 100 * time.Millisecond, Objective: 0.99},
		Mode: control.Enforce, Timing: simulate.Usual, Rate: &control.RateSpec{Min: 10, Max: 5000},
	}
	loops, err := control.NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	g.writer = publish.Writer{Spec: loops.Spec(), Epoch: 1, Lease: time.Minute}
	for range 10 {
		one, err := guard.New(guard.Config{
			Service: "gateway", SLO: 100 * time.Millisecond, Now: func() time.Time { return g.now },
		})
		if err != nil {
			t.Fatal(err)
		}
		g.guards = append(g.guards, one)
	}
	return g
}

// publish lets governor decide by what arrived at each instance, and the guards read it.
func (g *gateway) publish(arrivals []float64) {
	d := control.Decision{
		Service: "gateway", Knob: control.KnobRate, Value: 1000, Renew: true, Publish: g.last.Setting == nil,
		Inputs: control.Inputs{Instances: len(g.guards), Arrivals: arrivals},
	}
	next, kind, err := g.last.Next(g.now, g.writer, []control.Decision{d})
	if err != nil {
		g.t.Fatal(err)
	}
	if kind == publish.None {
		return
	}
	g.last.Wrote(g.now, next)
	raw, err := next.Encode()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, one := range g.guards {
		if err := one.ApplyAt(g.now, raw); err != nil {
			g.t.Fatal(err)
		}
	}
}

// period sends requests for five seconds, evenly spaced, and returns how many were admitted a second.
func (g *gateway) period(arrivals []float64) float64 {
	const span = 5 * time.Second
	admitted, from := 0, g.now
	for i, one := range g.guards {
		for n := range int(arrivals[i] * span.Seconds()) {
			at := from.Add(time.Duration(float64(n) / arrivals[i] * float64(time.Second)))
			if p, err := one.AcquireAt(at, guard.Default); err == nil {
				p.ReleaseAt(at, guard.Success)
				admitted++
			}
		}
	}
	g.now = from.Add(span)
	return float64(admitted) / span.Seconds()
}

func demand(first, others float64) []float64 {
	all := []float64{first}
	for range 9 {
		all = append(all, others)
	}
	return all
}

// A rate is shared by demand: what fits is admitted though half of it comes to one of ten instances, and no more than the
// rate wherever it comes. What was lent lapses with the lease.
func TestRateIsSharedByDemand(t *testing.T) {
	g := newGateway(t)
	uneven, even := demand(500, 52), demand(97, 97)
	g.publish(even)
	if before := g.period(uneven); before > 600 {
		t.Errorf("%.0f/s of 968 admitted before demand is known, expected about 570", before)
	}
	g.publish(uneven)
	if after := g.period(uneven); after < 950 {
		t.Errorf("%.0f/s of 968 admitted", after)
	}
	flood := demand(500, 500)
	if until := g.period(flood); until > actuators.MaxBorrow*1000 {
		t.Errorf("%.0f/s admitted until the flood is measured", until)
	}
	g.publish(flood)
	if after := g.period(flood); after > 1060 {
		t.Errorf("%.0f/s admitted of a rate of 1000/s", after)
	}
	g.publish(uneven)
	g.now = g.now.Add(g.writer.Lease)
	if each := g.guards[0].SnapshotAt(g.now).RateLimit; each != 100 {
		t.Errorf("%.0f/s for an instance without a lease, expected its even share", each)
	}
}

// A guard that knows nothing of shares by demand ignores the field and enforces an even share; one that reads a Setting
// without it does so too.
func TestRateWithoutBorrow(t *testing.T) {
	g := newGateway(t)
	g.publish(nil)
	if s := g.last.Setting.Rate; s.Borrow != 0 || g.guards[0].SnapshotAt(g.now).RateLimit != 100 {
		t.Errorf("got %+v", s)
	}
	raw, err := g.last.Setting.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := actuators.Decode(raw); err != nil {
		t.Error(err)
	}
}
