package daemon

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// scraped is a sensor that sees this scrape interval in the data; 0: it cannot tell.
type scraped struct {
	*plants
	every atomic.Int64 // nanoseconds
}

func (s *scraped) ObservedScrape() control.Reading {
	if n := s.every.Load(); n > 0 {
		return control.Read(time.Duration(n).Seconds())
	}
	return control.Missing(control.NoData, "")
}

func TestScrapeIntervalThatIsNotAsConfiguredIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b", "c", "d", "e")
		sensor := &scraped{plants: w.sensor}
		group := w.governor(t, control.Shadow).opts.Groups[0]
		group.Sensor = sensor
		g := w.governorOf(t, group)
		g.start(t)
		every := func(d time.Duration) { sensor.every.Store(int64(d)) }
		warned := func() int { return strings.Count(w.log.String(), "scrape_interval") }

		pass(5 * time.Minute) // unknown
		every(7 * time.Second)
		pass(5 * time.Minute) // a lost scrape now and then
		every(15 * time.Second)
		pass(30 * time.Second)
		every(5 * time.Second) // a service that has just started looks like that
		pass(time.Minute)
		if n, shown := warned(), g.Status().Warnings; n != 0 || len(shown) != 0 {
			t.Fatalf("%d warnings without a lasting difference: %q", n, shown)
		}

		every(14900 * time.Millisecond)
		pass(10 * time.Minute)
		every(0)
		pass(time.Minute)
		shown := g.Status().Warnings
		if len(shown) != 1 || warned() != 1 {
			t.Fatalf("logged %d times, shown as %q, want once each", warned(), shown)
		}
		for _, part := range []string{"a, b, c and 2 more", "every 15s", "says 5s"} {
			if !strings.Contains(shown[0], part) {
				t.Errorf("%q does not say %q", shown[0], part)
			}
		}
		every(5 * time.Second)
		pass(period)
		if shown := g.Status().Warnings; len(shown) != 0 {
			t.Errorf("put right, and still shown: %q", shown)
		}
	})
}

// C29: a scrape interval that was learned rebuilds the loops without a bump, and its difference to the data is nobody's
// mistake.
func TestLearnedIntervalIsBumpless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		sensor := &scraped{plants: w.sensor}
		group := w.group(specOf("checkout", control.Enforce))
		group.Sensor, group.Learned = sensor, true
		g := w.governorOf(t, group)
		g.win(1)
		g.start(t)
		w.overload()
		pass(3 * time.Minute)
		limit := w.kv.stored("checkout").Concurrency.Limit
		sensor.every.Store(int64(15 * time.Second))
		pass(3 * time.Minute)
		if shown := g.Status().Warnings; len(shown) != 0 {
			t.Errorf("warned of what is learned: %q", shown)
		}

		spec := specOf("checkout", control.Enforce)
		spec.Timing.Scrape, spec.Timing.Window, spec.Timing.Period = 15*time.Second, time.Minute, 15*time.Second
		next := w.group(spec)
		next.Sensor, next.Learned = sensor, true
		setup := w.setup(next)
		if err := g.Replace(t.Context(), func() (Setup, error) { return setup, nil }); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		if now := w.kv.stored("checkout").Concurrency.Limit; now < limit*8/10 || now > limit*12/10 {
			t.Errorf("the limit went from %d to %d", limit, now)
		}
		records := g.records("checkout")
		last := records[len(records)-1].Decision
		if last.State == control.Hold {
			t.Errorf("still %s: %s", last.State, last.Reason)
		}
		if gap := last.At.Sub(records[len(records)-2].Decision.At); gap != 15*time.Second {
			t.Errorf("a decision every %s, want 15s", gap)
		}
	})
}
