package daemon

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// reload hands a complete setup, workers included, to the goroutine in Run.
type reload struct {
	setup   Setup
	workers []*worker
	done    chan struct{}
}

// batch is all callers that one reload serves.
type batch struct {
	done chan struct{} // closed when err is known
	err  error
}

// reloadsApart is the shortest time between two reloads. The callers in between share the next one.
const reloadsApart = time.Second

// errStopped: the daemon does not run.
var errStopped = errors.New("governor is stopping")

// errNoReload: nobody told the daemon where its configuration comes from.
var errNoReload = errors.New("this governor cannot reload its configuration: restart it")

// Reload reads the configuration again and applies all of it, or changes nothing and says why. Loops whose
// configuration is the same continue undisturbed. Loops whose bounds or mode alone changed keep everything they have
// learned. The keys of removed services stay in the KV. Reload returns once the new configuration is in force.
//
// Calls that come in quick succession share one reload, which begins after all of them. If ctx ends first, the reload
// may still take place.
func (d *Daemon) Reload(ctx context.Context) error {
	d.waiting.Lock()
	b := d.next
	if b == nil {
		b = &batch{done: make(chan struct{})}
		d.next = b
		go d.serve(b, max(0, reloadsApart-time.Since(d.began)))
	}
	d.waiting.Unlock()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve reloads after a while for all callers that have come until then.
func (d *Daemon) serve(b *batch, wait time.Duration) {
	defer close(b.done)
	d.reloading <- struct{}{}
	defer func() { <-d.reloading }()
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-d.ended:
	}
	d.waiting.Lock()
	d.next, d.began = nil, time.Now()
	d.waiting.Unlock()
	b.err = d.reloadNow()
}

func (d *Daemon) reloadNow() error {
	err := d.reload()
	if err != nil {
		why := err.Error()
		d.refused.Store(&why)
		d.recorder.metrics.reloaded.Set(0)
		d.opts.Log.Error("configuration not reloaded: the one in force stays", "err", err)
		return err
	}
	d.refused.Store(nil)
	c := d.setup.Load().Config
	d.opts.Log.Info("configuration reloaded", "config", c.File, "hash", c.Hash)
	return nil
}

// Replace puts another setup of the same configuration into force, as a reload does: when the data have shown another
// scrape interval, for example.
func (d *Daemon) Replace(ctx context.Context, load func() (Setup, error)) error {
	select {
	case d.reloading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.reloading }()
	return d.replace(ctx, load)
}

func (d *Daemon) reload() error {
	if d.opts.Load == nil {
		return errNoReload
	}
	return d.replace(context.Background(), d.opts.Load)
}

func (d *Daemon) replace(ctx context.Context, load func() (Setup, error)) error {
	setup, err := load()
	if err != nil {
		return err
	}
	workers, err := d.build(setup)
	if err == nil {
		r := reload{setup: setup, workers: workers, done: make(chan struct{})}
		before := d.setup.Load()
		select {
		case d.reloads <- r:
			<-r.done
			before.close()
			return nil
		case <-d.ended:
			err = errStopped
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	setup.close()
	return err
}

func (s *Setup) close() {
	if s.Close != nil {
		s.Close()
	}
}

// build makes the workers of a setup without touching the running ones.
func (d *Daemon) build(setup Setup) ([]*worker, error) {
	var workers []*worker
	all := &neighbors{known: map[string]neighbor{}}
	for _, g := range setup.Groups {
		if len(g.Specs) == 0 {
			return nil, errors.New("a group has no services")
		}
		w := &worker{
			period: g.Specs[0].Timing.Period, sensor: g.Sensor, kv: d.kv,
			leadership: d.opts.Leadership, recorder: d.recorder, neighbors: all, scrape: newScrapeWatch(g), ended: make(chan struct{}),
		}
		w.progress.period, w.progress.round = w.period, time.Now()
		for _, spec := range g.Specs {
			loops, err := control.NewLoopSet(spec)
			if err != nil {
				return nil, err
			}
			s := &service{
				spec: loops.Spec(), loops: loops, kv: d.kv, lease: setup.lease(), resign: d.opts.Leadership.Resign,
				documents: documentsOf(loops.Spec(), d.opts.KeyOf),
			}
			w.services = append(w.services, s)
			all.govern(spec.Service)
		}
		workers = append(workers, w)
	}
	return workers, nil
}

// inherit moves the state of every service that is still configured from the old workers to the new ones.
func inherit(old, next []*worker) {
	before, workers := map[string]*service{}, map[string]*worker{}
	for _, w := range old {
		for _, s := range w.services {
			before[s.spec.Service], workers[s.spec.Service] = s, w
		}
	}
	for _, w := range next {
		for _, s := range w.services {
			if was := before[s.spec.Service]; was != nil {
				s.inherit(was)
				w.inherit(workers[s.spec.Service])
			}
		}
	}
}

// inherit continues at the next grid point of was, if it is the same grid.
func (w *worker) inherit(was *worker) {
	if w.period == was.period && !was.due.IsZero() && (w.due.IsZero() || was.due.Before(w.due)) {
		w.due = was.due
	}
	w.progress.inherit(&was.progress)
}

// inherit takes over the loops of was, and what it knew and did about its Settings.
func (s *service) inherit(was *service) {
	spec, lease, loops, documents := s.spec, s.lease, s.loops, s.documents
	*s = *was
	s.spec, s.lease, s.documents = spec, lease, documents
	for i, d := range documents {
		for _, before := range was.documents {
			if before.callee == d.callee {
				documents[i] = before
			}
		}
	}
	if reflect.DeepEqual(spec, was.spec) {
		return // with the old loops
	}
	s.loops = loops
	s.loops.Inherit(was.loops)
}
