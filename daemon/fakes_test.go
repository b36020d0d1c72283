package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// period is T of every service in these tests.
const period = 5 * time.Second

func specOf(service string, mode control.Mode) control.Spec {
	return control.Spec{
		Service: service, Mode: mode,
		SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01},
		Timing: control.Timing{
			Scrape: 5 * time.Second, Window: 20 * time.Second, Period: period, PublishDelay: 300 * time.Millisecond,
		},
		Concurrency: &control.ConcurrencySpec{Min: 20, Max: 400},
	}
}

// plants is a sensor over simple plants: each serves capacity requests per second at its own latency, holds as many as
// its limit admits, and refuses the rest. The limit is the one in the KV, as with guards that follow it at once.
type plants struct {
	kv *memoryKV

	mu       sync.Mutex
	services map[string]*plant
	delay    time.Duration // how long an answer takes; the context may end before
	fail     control.Reason
	calls    int
	atOnce   int
	most     int
}

type plant struct {
	offered, capacity float64       // per second
	latency           time.Duration // of an unloaded request
	critical          float64       // share of the critical requests that are refused
	spoil             func(*control.Measurement)
}

func (p *plants) Measure(ctx context.Context, now time.Time) []control.Measurement {
	p.mu.Lock()
	p.calls++
	p.atOnce++
	p.most = max(p.most, p.atOnce)
	delay, fail := p.delay, p.fail
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.atOnce--; p.mu.Unlock() }()

	select {
	case <-time.After(delay):
	case <-ctx.Done():
		fail = control.Timeout
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var ms []control.Measurement
	for _, name := range slices.Sorted(maps.Keys(p.services)) {
		m := control.Measurement{Service: name, At: now, Window: 20 * time.Second, Took: delay}
		if fail != "" {
			m.Invalid, m.Detail = fail, "the fake server says so"
		} else {
			m.Instances = []control.Instance{p.services[name].measure(p.kv.stored(name))}
		}
		if spoil := p.services[name].spoil; spoil != nil {
			spoil(&m)
		}
		ms = append(ms, m)
	}
	return ms
}

// measure is the plant in steady state with a guard that enforces the setting. A third of the requests is critical; the
// test says how many of those are refused.
func (p *plant) measure(setting actuators.Setting) control.Instance {
	const window = 20
	limit, threshold := 89.0, 1.0 // the guard's fallback
	if c := setting.Concurrency; c != nil {
		limit = float64(c.Limit)
	}
	if h := setting.Shed; h != nil {
		threshold = h.Threshold
	}
	byRate := 0.0
	if r := setting.Rate; r != nil && r.PerSecond < r.Max {
		byRate = max(0, p.offered-r.PerSecond)
	}
	arriving := p.offered - byRate
	served := min(arriving, p.capacity)
	inFlight := served * p.latency.Seconds()
	if arriving > p.capacity {
		inFlight = limit // the queue grows until the limit stops it
	}
	served = min(served, limit/p.latency.Seconds())
	slow := 0.0
	if inFlight/served > 0.3 { // the SLO: all alike
		slow = served * window
	}
	read := control.Read
	in := control.Instance{
		Name: "a:80", Age: read(1),
		Offered: read(p.offered * window), Admitted: read(served * window),
		Refused: read((p.offered - served) * window), RefusedByRate: read(byRate * window),
		Completed: read(served * window), Failed: read(0), Slow: read(slow), Mean: read(inFlight / served),
		InFlight: read(inFlight), Limit: read(limit), Revision: read(float64(setting.Revision)),
		ShedThreshold: read(threshold),
	}
	for i := range in.Classes {
		in.Classes[i] = control.Class{Offered: read(0), Refused: read(0)}
	}
	third := p.offered * window / 3
	in.Classes[control.Critical] = control.Class{Offered: read(third), Refused: read(p.critical * third)}
	in.Classes[control.Default] = control.Class{
		Offered: read(2 * third), Refused: read(max(0, (arriving-served)*window-p.critical*third)),
	}
	return in
}

func (p *plants) set(f func(*plants)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// memoryKV is a Store with compare-and-set and a fence.
type memoryKV struct {
	mu      sync.Mutex
	settled map[string]consul.Stored // by key, as Keys.SettingOf has it
	index   uint64
	holder  consul.Fence // zero: nobody holds the lock

	operators map[string]actuators.Operator // as Operators would write them
	unclear   error                         // of every operator key
	freeze    *actuators.Order

	down    error            // of every call
	refuse  map[string]error // of writes, by service
	hang    map[string]time.Duration
	reads   int
	tries   int
	written []actuators.Setting
}

func newKV() *memoryKV {
	return &memoryKV{
		operators: map[string]actuators.Operator{}, settled: map[string]consul.Stored{}, refuse: map[string]error{},
		hang: map[string]time.Duration{},
	}
}

func (kv *memoryKV) ReadAll(context.Context) (consul.Snapshot, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	kv.reads++
	if kv.down != nil {
		return consul.Snapshot{}, kv.down
	}
	all := consul.Snapshot{
		Settings: map[string]consul.Stored{}, Calls: map[string]map[string]consul.Stored{},
		Operators: map[string]consul.Ordered{}, Freeze: kv.freeze,
	}
	for key, s := range kv.settled {
		if service, callee, ok := (actuators.Keys{}).CallOf(key); ok {
			if all.Calls[service] == nil {
				all.Calls[service] = map[string]consul.Stored{}
			}
			all.Calls[service][callee] = s
		} else if service, ok := (actuators.Keys{}).ServiceOf(key); ok {
			all.Settings[service] = s
		}
	}
	for service, o := range kv.operators {
		all.Operators[service] = consul.Ordered{Operator: o, Err: kv.unclear}
	}
	return all, nil
}

// Do records an action like consul.Operators.
func (kv *memoryKV) Do(_ context.Context, a actuators.Action) (consul.Done, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	done := consul.Done{Action: a}
	if kv.holder != (consul.Fence{}) {
		done.Leader = &consul.Holder{Instance: "test:9747"}
	}
	if a.Service != "" {
		done.KillSwitch = kv.freeze
	}
	err := kv.down
	switch {
	case err != nil:
	case a.Service != "":
		if err = a.Validate(); err == nil {
			kv.operators[a.Service] = kv.operators[a.Service].Apply(a)
		}
	default:
		if err = a.ValidateEverywhere(); err == nil {
			kv.freeze = nil
			if a.Kind == actuators.Freeze {
				order := a.Order()
				kv.freeze = &order
			}
		}
	}
	if err != nil && !errors.Is(err, kv.down) {
		err = fmt.Errorf("%w: %w", consul.ErrRefused, err)
	}
	return done, err
}

func (kv *memoryKV) Publish(_ context.Context, fence consul.Fence, s actuators.Setting, index uint64) (uint64, error) {
	time.Sleep(kv.hang[s.Service])
	kv.mu.Lock()
	defer kv.mu.Unlock()
	kv.tries++
	fail := func(kind error) (uint64, error) { return 0, &consul.WriteError{Service: s.Service, Kind: kind} }
	switch {
	case kv.down != nil:
		return fail(consul.ErrUnknown)
	case kv.refuse[s.Service] != nil && s.Callee == "":
		return fail(kv.refuse[s.Service])
	case kv.refuse[keyOf(s)] != nil:
		return fail(kv.refuse[keyOf(s)])
	case fence == (consul.Fence{}) || fence != kv.holder:
		return fail(consul.ErrFenced)
	case kv.settled[keyOf(s)].Index != index:
		return fail(consul.ErrConflict)
	case s.Validate() != nil || s.Epoch != fence.Epoch:
		return fail(consul.ErrInvalid)
	}
	kv.written = append(kv.written, s)
	return kv.put(s), nil
}

func (kv *memoryKV) put(s actuators.Setting) uint64 {
	kv.index++
	kv.settled[keyOf(s)] = consul.Stored{Setting: s, Index: kv.index}
	return kv.index
}

// checkoutKey is the key of the Setting of the service checkout.
var checkoutKey = actuators.Keys{}.Setting("checkout")

func keyOf(s actuators.Setting) string { return actuators.Keys{}.SettingOf(s.Service, s.Callee) }

func (kv *memoryKV) set(f func(*memoryKV)) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	f(kv)
}

func (kv *memoryKV) writes() []actuators.Setting {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return slices.Clone(kv.written)
}

func (kv *memoryKV) stored(service string) actuators.Setting {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return kv.settled[actuators.Keys{}.Setting(service)].Setting
}

// election gives the lock of a memoryKV to one governor at a time.
type election struct {
	kv   *memoryKV
	mu   sync.Mutex
	mine consul.Fence
	gone int // resignations
}

func (e *election) Fence() (consul.Fence, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mine, e.mine != consul.Fence{}
}

func (e *election) Resign() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mine = consul.Fence{}
	e.gone++
}

// win takes the lock from whoever holds it, as after the death of a leader.
func (e *election) win(epoch uint64) {
	fence := consul.Fence{Key: "governor/leader", Session: fmt.Sprintf("session-%d", epoch), Epoch: epoch}
	e.kv.set(func(kv *memoryKV) { kv.holder = fence })
	e.mu.Lock()
	e.mine = fence
	e.mu.Unlock()
}

func (e *election) lose() {
	e.mu.Lock()
	e.mine = consul.Fence{}
	e.mu.Unlock()
}

// world is one KV, one sensor and any number of daemons.
type world struct {
	kv     *memoryKV
	sensor *plants
	log    waittest.Buffer // of all its daemons
}

func newWorld(services ...string) *world {
	kv := newKV()
	w := &world{kv: kv, sensor: &plants{kv: kv, services: map[string]*plant{}}}
	for _, s := range services {
		w.sensor.services[s] = &plant{offered: 100, capacity: 400, latency: 40 * time.Millisecond}
	}
	return w
}

// overload sends three times what the plants can carry: the right limit is 400/s × 120 ms = 48.
func (w *world) overload() {
	w.sensor.set(func(p *plants) {
		for _, s := range p.services {
			s.offered = 1200
		}
	})
}

// lead is how most tests begin: one governor, which leads and steers the concurrency of the services.
func lead(t *testing.T, services ...string) (*world, *governor) {
	t.Helper()
	w := newWorld(services...)
	g := w.governor(t, control.Enforce)
	g.win(1)
	g.start(t)
	return w, g
}

type governor struct {
	*Daemon
	*election
	registry *prometheus.Registry
}

// governor builds a daemon of one group over all services.
func (w *world) governor(t *testing.T, mode control.Mode) *governor {
	t.Helper()
	var specs []control.Spec
	for _, s := range slices.Sorted(maps.Keys(w.sensor.services)) {
		specs = append(specs, specOf(s, mode))
	}
	return w.governorOf(t, w.group(specs...))
}

// group lets the sensor of the world measure the services of specs.
func (w *world) group(specs ...control.Spec) Group { return Group{Sensor: w.sensor, Specs: specs} }

func (w *world) governorOf(t *testing.T, groups ...Group) *governor {
	t.Helper()
	g := &governor{election: &election{kv: w.kv}, registry: prometheus.NewRegistry()}
	d, err := New(Options{
		Setup: w.setup(groups...), Store: w.kv, Leadership: g.election, Operators: w.kv,
		Election: func() (api.LeaderInfo, error) {
			fence, _ := g.Fence()
			return api.LeaderInfo{Instance: "test:9747", Epoch: fence.Epoch}, nil
		},
		Instance: "test:9747", ConsulAddress: "consul:8500", KeyOf: actuators.Keys{}.SettingOf,
		Registry: g.registry, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Daemon = d
	return g
}

// setup is the Setup of a configuration with these groups.
func (w *world) setup(groups ...Group) Setup {
	return Setup{
		Groups:     groups,
		Prometheus: func() api.Dependency { return api.Dependency{Address: "http://prometheus", OK: true} },
		Config:     api.ConfigInfo{File: "governor.yml", Hash: "3f9ac1d20b77", LoadedAt: time.Now()},
	}
}

// start runs the daemon until the test ends or stop is called.
func (g *governor) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// client talks to the governor like a program, until the test ends.
func (g *governor) client(t *testing.T) *api.Client {
	t.Helper()
	server := httptest.NewServer(g.Handler())
	t.Cleanup(server.Close)
	client, err := api.NewClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (g *governor) loop(t *testing.T, service string) api.Loop {
	t.Helper()
	loops, _ := g.recorder.Loops()
	for _, l := range loops {
		if l.Service == service {
			return l
		}
	}
	t.Fatalf("no loop of %s", service)
	return api.Loop{}
}

func (g *governor) records(service string) []api.Record {
	return g.recorder.journal.Since(0, selection{service: service}, math.MaxInt).Decisions
}

var errDown = errors.New("connection refused")

// stubborn is a sensor that ignores its deadline once, after some good ticks.
type stubborn struct {
	*plants
	good int
	nap  time.Duration
}

func (s *stubborn) Measure(ctx context.Context, now time.Time) []control.Measurement {
	if s.good--; s.good == -1 {
		time.Sleep(s.nap)
	}
	return s.plants.Measure(ctx, now)
}

// lossyKV applies a write and loses the answer.
type lossyKV struct {
	*memoryKV
	lose int
}

func (kv *lossyKV) Publish(ctx context.Context, f consul.Fence, s actuators.Setting, index uint64) (uint64, error) {
	index, err := kv.memoryKV.Publish(ctx, f, s, index)
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if err == nil && kv.lose > 0 {
		kv.lose--
		return 0, &consul.WriteError{Service: s.Service, Kind: consul.ErrUnknown}
	}
	return index, err
}
