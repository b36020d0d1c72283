package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// Options wire a Daemon to its surroundings.
type Options struct {
	Groups     []Group
	Store      Store
	Leadership Leadership
	// Election returns the governor that holds the lock, as far as is known, and why this one cannot compete for it.
	Election func() (leader api.LeaderInfo, trouble error)
	// Prometheus returns how Prometheus answered last.
	Prometheus func() api.Dependency

	Lease    time.Duration // 0: actuators.DefaultLeaseSeconds
	Instance string
	Config   api.ConfigInfo
	// ConsulAddress and KeyOf are for people: where the Store is, and the key of a service's Setting in it.
	ConsulAddress string
	KeyOf         func(service string) string

	Registry *prometheus.Registry
	Log      *slog.Logger
}

// Group is a set of services that one sensor measures together, at one pace.
type Group struct {
	Sensor Sensor
	Specs  []control.Spec // all with the same Timing
}

// Daemon runs all loops and knows their state. Its methods are safe for concurrent use.
type Daemon struct {
	opts      Options
	startedAt time.Time
	kv        *kvLink
	recorder  *Recorder
	workers   []*worker
}

// New builds the loops of every group. Nothing runs and nobody is asked before Run.
func New(opts Options) (*Daemon, error) {
	if opts.Lease == 0 {
		opts.Lease = actuators.DefaultLeaseSeconds * time.Second
	}
	d := &Daemon{opts: opts, startedAt: time.Now(), kv: &kvLink{store: opts.Store}}
	perHour := 0.0
	for _, g := range opts.Groups {
		for _, spec := range g.Specs {
			perHour += journalSpan.Seconds() / spec.Timing.Period.Seconds() * float64(len(knobsOf(spec)))
		}
	}
	journal := NewJournal(d.startedAt, int(math.Ceil(perHour)))
	d.recorder = newRecorder(opts.Log, journal, newMetrics(opts.Registry))
	for _, g := range opts.Groups {
		w, err := d.worker(g)
		if err != nil {
			return nil, err
		}
		d.workers = append(d.workers, w)
	}
	opts.Registry.MustRegister(&statusCollector{d})
	return d, nil
}

func (d *Daemon) worker(g Group) (*worker, error) {
	if len(g.Specs) == 0 {
		return nil, fmt.Errorf("a group without services")
	}
	w := &worker{
		period: g.Specs[0].Timing.Period, sensor: g.Sensor, kv: d.kv,
		leadership: d.opts.Leadership, recorder: d.recorder,
	}
	for _, spec := range g.Specs {
		loops, err := control.NewLoopSet(spec)
		if err != nil {
			return nil, err
		}
		w.services = append(w.services, &service{
			spec: spec, loops: loops, kv: d.kv, key: d.opts.KeyOf(spec.Service), lease: d.opts.Lease,
			resign: d.opts.Leadership.Resign,
		})
		d.recorder.register(spec, d.startedAt)
	}
	return w, nil
}

// Run ticks every group on its grid until ctx ends, and returns when the last tick is over. It writes nothing on the
// way out: the values in force stay.
func (d *Daemon) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for _, w := range d.workers {
		workers.Go(func() { w.run(ctx) })
	}
	workers.Wait()
}

// Status describes the daemon and what it depends on.
func (d *Daemon) Status() api.Status {
	s := api.Status{
		Version: versionString(), Instance: d.opts.Instance, Now: time.Now(), StartedAt: d.startedAt,
		Role: api.Standby, Prometheus: d.opts.Prometheus(),
		Consul: d.kv.health.dependency(d.opts.ConsulAddress),
		Config: d.opts.Config, Loops: map[control.State]int{},
	}
	if _, leads := d.opts.Leadership.Fence(); leads {
		s.Role = api.Leader
	}
	leader, trouble := d.opts.Election()
	if trouble != nil && s.Consul.OK {
		s.Consul.OK, s.Consul.Error = false, trouble.Error()
	}
	if s.Consul.OK || s.Role == api.Leader {
		s.Leader = leader
	}
	loops, _ := d.recorder.Loops()
	for _, l := range loops {
		s.Loops[l.Decision.State]++
	}
	return s
}
