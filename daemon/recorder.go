package daemon

import (
	"cmp"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// Recorder turns the decisions of every tick into what people and programs can see: the journal, the table of loops,
// the metrics and the log. All four are views of the same values. It is safe for concurrent use.
type Recorder struct {
	journal *Journal
	metrics *metrics
	log     *slog.Logger

	mu          sync.Mutex
	loops       map[loopID]*loopRecord
	subscribers map[*subscriber]bool
	warnings    map[string]string
	everywhere  *actuators.Order   // the kill switch
	looked      time.Time          // when the last tick that read the kill switch began
	lifted      bool               // it was lifted through this governor; no tick has seen that yet
	audit       []actuators.Action // oldest first
	startedAt   time.Time
}

type loopID struct {
	service string
	knob    control.Knob
}

// loopRecord is what the interfaces show of one loop: the last decision and what became of it.
type loopRecord struct {
	loop     api.Loop
	decided  bool
	holding  control.Reason // why it holds, "" while it does not
	wanted   control.Number // the last value that was logged as wanted, but not written
	writeErr string
	own      *actuators.Order // in force; excludes the kill switch
}

func newRecorder(log *slog.Logger, startedAt time.Time, m *metrics) *Recorder {
	return &Recorder{
		startedAt: startedAt, journal: NewJournal(startedAt, 0), metrics: m, log: log,
		loops: map[loopID]*loopRecord{}, subscribers: map[*subscriber]bool{}, warnings: map[string]string{},
	}
}

// configure registers the loops of these services before their first decision, and forgets all others. A loop that is
// already registered keeps its record. The scrape intervals of the services in learned were found in the data.
func (r *Recorder) configure(specs []control.Spec, learned map[string]bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.warnings)
	before := r.loops
	r.loops = map[loopID]*loopRecord{}
	for _, spec := range specs {
		for _, knob := range publish.Knobs(spec) {
			id := loopID{spec.Service, knob}
			rec := before[id]
			if rec == nil {
				rec = &loopRecord{wanted: control.Number(math.NaN())}
				rec.loop.Since, rec.loop.Decision = now, waiting(spec, knob, now)
			}
			describe(&rec.loop, spec, knob)
			rec.loop.Timing.Learned = learned[spec.Service]
			r.loops[id] = rec
			delete(before, id)
		}
	}
	for id := range before {
		r.metrics.forget(id)
	}
	r.tell(newFrame(api.EventSnapshot, r.journal.Last(), r.sorted()))
}

// describe fills in what the configuration says about a loop.
func describe(l *api.Loop, spec control.Spec, knob control.Knob) {
	b := spec.Bounds(knob)
	l.Service, l.Knob, l.Mode = spec.Service, knob, spec.Mode
	l.Unit, l.MeasuredUnit = unitsOf(knob)
	l.Callee, _ = knob.Callee()
	l.Min, l.Max, l.Fallback = b.Min, b.Max, b.Fallback
	l.SLO = api.SLO{
		LatencySeconds: spec.SLO.Latency.Seconds(), Objective: spec.SLO.Objective, Errors: spec.SLO.Errors,
	}
	l.Timing = api.Timing{
		Scrape: spec.Timing.Scrape.Seconds(), Window: spec.Timing.Window.Seconds(), Period: spec.Timing.Period.Seconds(),
	}
	if l.Protect = ""; knob == control.KnobShed {
		l.Protect = spec.Shed.Protect.String()
	}
}

// unitsOf returns the unit of a knob's value, and the unit of its measurement and setpoint.
func unitsOf(knob control.Knob) (value, measured api.Unit) {
	switch knob {
	case control.KnobShed:
		return api.Occupancy, api.Share
	case control.KnobRate:
		return api.PerSecond, api.Seconds
	case control.KnobRetry:
		return api.Retries, api.Retries
	}
	if _, ok := knob.Callee(); ok {
		return api.Seconds, api.Seconds
	}
	return api.Requests, api.Seconds
}

// waiting is the decision shown for a loop before its first one.
func waiting(spec control.Spec, knob control.Knob, now time.Time) control.Decision {
	d := control.NewDecision(spec.Service, knob)
	d.Mode, d.At = spec.Mode, now
	d.State, d.HoldReason, d.Reason = control.Hold, control.Starting, "starting, waiting for the first tick"
	return d
}

// report is the outcome of one tick for one Setting of a service. It is a value: the service may start its next tick while somebody
// reads the report.
type report struct {
	at        time.Time
	spec      control.Spec
	callee    string // of the calls that the Setting is for; "": it is for the service itself
	decisions []control.Decision
	write     Write
	setting   *actuators.Setting // in force after the tick; nil: none
	key       string             // of the Setting
	index     uint64             // of the key
	orders    orders
}

// Record records the decisions about one Setting in one tick, and the write they led to.
func (r *Recorder) Record(t report) {
	service, done := t.spec.Service, t.write
	log := r.log.With("service", service)
	if t.callee != "" {
		log = log.With("callee", t.callee)
	}
	r.metrics.wrote(service, done)
	if done.Drift != NoDrift {
		log.Warn("the Setting in the KV is not what this leader wrote: "+driftPolicy[done.Drift],
			"drift", string(done.Drift), "index", t.index, "found", done.Found)
	}
	failure := ""
	if done.Err != nil {
		failure = done.Err.Error()
	}
	asked := slices.ContainsFunc(t.decisions, func(d control.Decision) bool { return d.Publish })
	if done.Kind == publish.Change && !asked {
		log.Info("Setting written", "reason", t.setting.Reason)
	}
	r.Warn("the orders of "+service, t.orders.warning(), t.orders.worse)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.obeyed(t.at, t.spec, t.orders)
	for _, d := range t.decisions {
		id := loopID{d.Service, d.Knob}
		rec := r.loops[id]
		if rec == nil {
			continue // not a loop that governor steers
		}
		r.logDecision(rec, d, done, failure)
		state := !rec.decided || d.State != rec.loop.Decision.State
		if state {
			rec.loop.Since = t.at
		}
		notable := state || d.Value != d.From && (d.Publish || done.Kind == publish.Change)
		rec.loop.Decision, rec.decided = d, true
		rec.loop.Published = t.published(d.Knob, failure)
		rec.loop.Missing = api.MissingOf(d.Inputs)
		r.metrics.decided(rec.loop)
		seq := r.journal.Append(entry{
			loop: rec.loop, wrote: done.Kind != publish.None, writeError: failure, notable: notable,
		})
		r.tell(newFrame(api.EventLoop, seq, rec.loop))
	}
}

// published describes a knob's value in the KV; nil if there is none yet.
func (t report) published(knob control.Knob, failure string) *api.Published {
	f, ok := publish.InForce(knob, t.setting)
	if !ok {
		if failure == "" {
			return nil
		}
		return &api.Published{Key: t.key, Error: failure}
	}
	return &api.Published{
		Key: t.key, Value: f.Value, Epoch: t.setting.Epoch, Revision: t.setting.Revision,
		ChangedAt: t.setting.ChangedAt, Error: failure,
	}
}

// Loops returns all loops, sorted by service and knob, and how many of them have decided at least once.
func (r *Recorder) Loops() (loops []api.Loop, decided int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.loops {
		if rec.decided {
			decided++
		}
	}
	return r.sorted(), decided
}

func (r *Recorder) sorted() []api.Loop {
	loops := make([]api.Loop, 0, len(r.loops))
	for _, rec := range r.loops {
		loops = append(loops, rec.loop)
	}
	sortLoops(loops)
	return loops
}

func sortLoops(loops []api.Loop) {
	slices.SortFunc(loops, func(a, b api.Loop) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Knob, b.Knob))
	})
}

// States counts the loops by state.
func (r *Recorder) States() map[control.State]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	states := map[control.State]int{}
	for _, rec := range r.loops {
		states[rec.loop.Decision.State]++
	}
	return states
}

// Warn replaces the warning about a subject. "" removes it.
func (r *Recorder) Warn(about, warning string, news bool) {
	if news {
		r.log.Warn(warning)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if warning == "" {
		delete(r.warnings, about)
	} else {
		r.warnings[about] = warning
	}
}

// Warnings returns the current warnings.
func (r *Recorder) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Values(r.warnings))
}

// Measured records how long the slowest query of a tick took.
func (r *Recorder) Measured(took time.Duration) { r.metrics.measureDuration.Observe(took.Seconds()) }

// Woke records how late a worker woke up.
func (r *Recorder) Woke(late time.Duration) { r.metrics.tickLateness.Observe(late.Seconds()) }

// Skipped records how many grid points passed without a tick.
func (r *Recorder) Skipped(n int64) { r.metrics.ticksSkipped.Add(float64(n)) }
