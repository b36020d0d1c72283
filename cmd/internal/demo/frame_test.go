package demo

import (
	"math"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/models/live/load"
)

func TestTrafficOfTheLastSeconds(t *testing.T) {
	// A record that ended so many seconds before now.
	ended := func(ago float64, class uint8, o load.Outcome, gaveUp uint8) load.Record {
		const latency, late = 50 * time.Millisecond, 7 * time.Millisecond
		return load.Record{
			Due: at(-ago).Add(-latency - late), Lateness: late, Latency: latency, Last: latency,
			Class: class, Outcome: o, GaveUp: gaveUp,
		}
	}
	got, lateness := trafficOf([]load.Record{
		ended(3.5, 0, load.Failed, 0), // too long ago
		ended(2.5, 0, load.TimedOut, 1),
		ended(2, 0, load.OK, 0),
		ended(0.9, 1, load.OK, 0),
		ended(0.8, 0, load.Slow, 0),
		ended(0.7, 1, load.TimedOut, 3),
		ended(0.6, 1, load.Failed, 0),
		ended(0.5, 0, load.Refused, 0),
		ended(-0.1, 1, load.OK, 0), // after now
	}, at(0))
	want := Traffic{Good: 1, Late: 1, Lost: 2, Refused: 1, Critical: 0.5, P99: 1}
	if got != want || lateness != 7*time.Millisecond {
		t.Errorf("got %+v, sent %s late; want %+v", got, lateness, want)
	}
	if none, late := trafficOf(nil, at(0)); !math.IsNaN(none.Critical) || !math.IsNaN(none.P99) || late != 0 {
		t.Errorf("nothing has ended: %+v, %s", none, late)
	}
}
