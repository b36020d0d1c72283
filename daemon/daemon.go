package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// Options wire a Daemon to its surroundings.
type Options struct {
	// Setup is the configuration at the start.
	Setup
	// Load reads the configuration again, for a reload. Its error is for a person to fix. nil: no reload.
	Load func() (Setup, error)

	Store      Store
	Leadership Leadership
	// Operators records the orders that people give through this governor; nil: they cannot give any.
	Operators Operators
	// Election returns the governor that holds the lock, if known, and why this one cannot compete for it.
	Election func() (leader api.LeaderInfo, trouble error)

	Instance string
	// ConsulAddress and KeyOf are for display: where the Store is, and the key in it of the Setting of a service or, with a
	// callee, of its calls to one.
	ConsulAddress string
	KeyOf         func(service, callee string) string
	// Closed says why a call that changes something must be refused; nil if it may proceed. A nil Closed allows all.
	Closed func() error

	Registry *prometheus.Registry
	Log      *slog.Logger
}

// Setup is the part of the Options that comes from the configuration. A reload replaces it as a whole.
type Setup struct {
	Groups []Group
	// Prometheus returns the outcome of the last request to Prometheus.
	Prometheus func() api.Dependency
	Lease      time.Duration // 0: actuators.DefaultLeaseSeconds
	Config     api.ConfigInfo
	// Close releases the sensors' resources, after a later Setup has replaced this one or Run has ended. May be nil.
	Close func()
}

// Group is a set of services that one sensor measures together, at one period.
type Group struct {
	Sensor Sensor
	Specs  []control.Spec // all with the same Timing
	// Learned says that the Timing follows the data by itself: a difference between them is no mistake of a person.
	Learned bool
}

// Daemon runs all loops and knows their state. Its methods are safe for concurrent use.
type Daemon struct {
	opts      Options
	startedAt time.Time
	kv        *kvClient
	recorder  *Recorder
	workers   []*worker // of the goroutine in Run

	setup     atomic.Pointer[Setup] // in force
	pace      atomic.Pointer[pace]
	woke      atomic.Pointer[time.Time] // when this process last ran again after it had been stopped
	reloads   chan reload
	reloading chan struct{}          // holds one element while a reload is running
	refused   atomic.Pointer[string] // why the last reload changed nothing; nil: it did not fail
	ended     chan struct{}          // closed when Run ends
	histories chan struct{}          // holds one element for each answer in the making

	waiting sync.Mutex // guards what follows
	next    *batch     // the callers that wait for a reload which has not begun; nil: none
	began   time.Time  // the last reload
}

// New builds the loops of every group. It runs nothing and contacts nobody; Run does.
func New(opts Options) (*Daemon, error) {
	d := &Daemon{
		opts: opts, startedAt: time.Now(), kv: &kvClient{store: opts.Store}, reloads: make(chan reload),
		reloading: make(chan struct{}, 1), ended: make(chan struct{}),
		histories: make(chan struct{}, historiesAtOnce),
	}
	d.recorder = newRecorder(opts.Log, d.startedAt, newMetrics(opts.Registry))
	workers, err := d.build(opts.Setup)
	if err != nil {
		return nil, err
	}
	d.install(opts.Setup, workers)
	opts.Registry.MustRegister(&statusCollector{d})
	return d, nil
}

// Run ticks every group on its grid until ctx ends, and returns when the last tick is over, or ten seconds later. It
// writes nothing on exit: the values in force stay. A reload replaces the workers between two ticks. Run may be called
// once.
func (d *Daemon) Run(ctx context.Context) {
	defer close(d.ended)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { d.watch(watching) })
	defer watch.Wait()
	defer stop()
	for {
		working, cancel := context.WithCancel(ctx)
		leave := make(chan struct{})
		for _, w := range d.workers {
			go w.run(working, leave)
		}
		select {
		case <-ctx.Done():
			cancel() // queries in flight; writes in flight finish
			if n := len(d.workers) - len(finished(ctx, d.workers, stopPatience)); n > 0 {
				d.opts.Log.Error("a tick has not ended in time; stopping without it", "groups", n)
			}
			d.setup.Load().close()
			return
		case next := <-d.reloads:
			close(leave)
			before := finished(ctx, d.workers, stoppedAfter*d.pace.Load().longest)
			if n := len(d.workers) - len(before); n > 0 {
				d.opts.Log.Error("a tick has not ended; its services start again from the values in force", "groups", n)
			}
			cancel()
			inherit(before, next.workers)
			d.install(next.setup, next.workers)
			close(next.done)
		}
	}
}

// finished waits for the workers to end and returns those that have ended in time. Once ctx has ended, there are ten
// seconds at most.
func finished(ctx context.Context, workers []*worker, patience time.Duration) []*worker {
	late := time.NewTimer(patience)
	defer late.Stop()
	stopping := ctx.Done()
	for _, w := range workers {
		for waiting := true; waiting; {
			select {
			case <-w.ended:
				waiting = false
			case <-stopping:
				stopping = nil
				late.Reset(min(patience, stopPatience))
			case <-late.C:
				return slices.DeleteFunc(slices.Clone(workers), func(w *worker) bool { return !w.over() })
			}
		}
	}
	return workers
}

// install puts a setup into force.
func (d *Daemon) install(setup Setup, workers []*worker) {
	var specs []control.Spec
	learned := map[string]bool{}
	perHour := 0.0
	now := &pace{}
	for _, w := range workers {
		now.workers, now.longest = append(now.workers, &w.progress), max(now.longest, w.period)
		for _, s := range w.services {
			specs = append(specs, s.spec)
			learned[s.spec.Service] = w.scrape.learned
			perHour += journalSpan.Seconds() / w.period.Seconds() * float64(len(publish.Knobs(s.spec)))
		}
	}
	d.workers = workers
	d.pace.Store(now)
	d.recorder.journal.Resize(int(math.Ceil(perHour)))
	d.recorder.configure(specs, learned, time.Now())
	d.setup.Store(&setup) // last: a reader that sees the setup sees all of it
	d.recorder.metrics.reloaded.Set(1)
	d.recorder.metrics.reloadedAt.Set(float64(setup.Config.LoadedAt.UnixMilli()) / 1000)
}

// Status describes the daemon and its dependencies.
func (d *Daemon) Status() api.Status {
	setup := d.setup.Load()
	s := api.Status{
		Version: api.Version(), Instance: d.opts.Instance, Now: time.Now(), StartedAt: d.startedAt,
		Role: api.Standby, Prometheus: setup.Prometheus(),
		Consul: d.kv.health.dependency(d.opts.ConsulAddress),
		Config: setup.Config, Loops: d.recorder.States(), Warnings: d.recorder.Warnings(),
		Freeze: d.recorder.KillSwitch(),
	}
	if why := d.refused.Load(); why != nil {
		s.Config.Error = *why
	}
	if stopped := d.Stopped(); stopped != nil {
		s.Warnings = append(s.Warnings, stopped.Error())
	}
	if _, leads := d.opts.Leadership.Fence(); leads {
		s.Role = api.Leader
	}
	leader, trouble := d.opts.Election()
	if lock, ok := errors.AsType[*consul.ForeignLock](trouble); ok {
		s.ForeignLock = &api.ForeignLock{Session: lock.Session, Name: lock.Name, Node: lock.Node}
		s.Warnings = append(s.Warnings, lock.Error())
	} else if trouble != nil && s.Consul.OK {
		s.Consul.OK, s.Consul.Error = false, trouble.Error()
	}
	if s.Consul.OK || s.Role == api.Leader {
		s.Leader = leader
	}
	return s
}

// lease is the lease of every Setting.
func (s Setup) lease() time.Duration {
	if s.Lease == 0 {
		return actuators.DefaultLeaseSeconds * time.Second
	}
	return s.Lease
}
