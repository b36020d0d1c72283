package daemon

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
)

// Sensor measures the services of one group.
type Sensor interface {
	// Measure returns one snapshot per service, taken at now. If something went wrong, the Measurement carries it as its
	// reason.
	Measure(ctx context.Context, now time.Time) []control.Measurement
}

// Store is the KV that holds the Settings: a *consul.Publisher.
type Store interface {
	// ReadAll returns the contents of the store: Settings, orders and the kill switch.
	ReadAll(ctx context.Context) (consul.Snapshot, error)
	// Publish replaces the Setting that was read at index (0: there was none) if the lock behind fence is still held. It
	// returns the index of the write.
	Publish(ctx context.Context, fence consul.Fence, s actuators.Setting, index uint64) (uint64, error)
}

// Leadership says whether this governor may write: a *consul.Elector.
type Leadership interface {
	// Fence returns the proof that this governor holds the lock; false if it does not.
	Fence() (consul.Fence, bool)
	// Resign gives up the lock, to compete for it again with an epoch above any in the store.
	Resign()
}

// worker runs the loops of one group of services: one goroutine, one tick at a time.
type worker struct {
	period     time.Duration
	sensor     Sensor
	kv         *kvClient
	leadership Leadership
	recorder   *Recorder
	services   []*service
	neighbors  *neighbors
	scrape     scrapeWatch

	due      time.Time // the grid point of the next tick; zero: the first after now
	progress progress
	ended    chan struct{} // closed when run returns
}

// Budgets of a tick. Prometheus and the KV are queried in parallel and get most of the period. The rest is for the
// writes; each has its own timeout.
const (
	observeShare = 0.85 // of T; a sensor has its own, slightly earlier deadline
	writeTimeout = 2 * time.Second
	writesAtOnce = 8
)

// tick is the loop: measure, step, apply, track, record.
func (w *worker) tick(ctx context.Context, now time.Time) {
	fence, _ := w.leadership.Fence() // before the KV read: an adopted value must not be older than the right to write
	ms, kv := w.observe(ctx, now)
	if ctx.Err() != nil {
		return // stopping: an unanswered query is no measurement here
	}

	around := w.around(now, ms)

	w.each(func(s *service) {
		s.adopt(now, kv, fence)
		m := ms[s.spec.Service]
		m.Services = around
		ds := s.loops.Step(now, m)
		done := s.apply(ctx, now, ds)
		s.track(now)
		for _, r := range s.reports(now, ds, done) {
			w.recorder.Record(r)
		}
	})
}

// observe asks Prometheus for the measurements and the KV for the Settings in force. It asks both in parallel, so that
// a slow one does not take the other's time.
func (w *worker) observe(ctx context.Context, now time.Time) (map[string]control.Measurement, kvState) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(observeShare*float64(w.period)))
	defer cancel()

	var kv kvState
	var reading sync.WaitGroup
	reading.Go(func() { kv = w.kv.read(ctx, now) })
	measured := w.sensor.Measure(ctx, now)
	reading.Wait()
	if kv.err == nil {
		w.recorder.Everywhere(now, kv.Freeze)
	}

	ms := make(map[string]control.Measurement, len(w.services))
	for _, s := range w.services {
		ms[s.spec.Service] = control.Measurement{
			Service: s.spec.Service, At: now, Window: s.spec.Timing.Window, Invalid: control.NoData,
		}
	}
	var took time.Duration
	for _, m := range measured {
		ms[m.Service] = m
		took = max(took, m.Took)
	}
	w.recorder.Measured(took)
	if o, ok := w.sensor.(scrapeObserver); ok {
		warning, news := w.scrape.check(now, o.ObservedScrape())
		w.recorder.Warn(w.services[0].spec.Service, warning, news)
	}
	return ms, kv
}

// around is the health of all governed services, those of the other groups as of their last tick.
func (w *worker) around(now time.Time, ms map[string]control.Measurement) map[string]control.Health {
	seen := make(map[string]control.Health, len(w.services))
	for _, s := range w.services {
		seen[s.spec.Service] = s.loops.Health(ms[s.spec.Service])
	}
	return w.neighbors.exchange(now, w.period, seen)
}

// each runs f for every service of the group, several at a time, so that a write that hangs does not delay the others.
func (w *worker) each(f func(*service)) {
	var g errgroup.Group
	g.SetLimit(writesAtOnce)
	for _, s := range w.services {
		g.Go(func() error { f(s); return nil })
	}
	_ = g.Wait()
}

// run ticks on the wall-clock grid of the period until ctx ends, or between two ticks when leave is closed.
func (w *worker) run(ctx context.Context, leave <-chan struct{}) {
	defer close(w.ended)
	for {
		// A grid point that passed between two workers still gets its tick.
		if wait := time.Until(w.due); wait.Abs() > w.period {
			w.due = nextOnGrid(time.Now(), w.period)
		}
		timer := time.NewTimer(time.Until(w.due))
		select {
		case <-leave:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		// The timer's time is when the tick was due. The tick needs the time now.
		now := time.Now()
		late := max(0, now.Sub(w.due))
		w.due = time.Time{}
		w.recorder.Woke(late)
		w.recorder.Skipped(w.progress.begin(now.Add(-late)))
		w.tick(ctx, now)
		w.progress.end(time.Now())
	}
}

// over says whether run has returned.
func (w *worker) over() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// nextOnGrid returns the first multiple of period on the wall clock after now.
func nextOnGrid(now time.Time, period time.Duration) time.Time {
	// Round drops the monotonic reading. Truncate alone keeps it, out of step after a clock adjustment.
	return now.Round(0).Truncate(period).Add(period)
}
