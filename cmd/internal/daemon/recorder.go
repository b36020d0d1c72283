package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// Recorder turns the decisions of every tick into what people and programs can see: the journal, the table of loops,
// the metrics and the log. All four are views of the same values. It is safe for concurrent use.
type Recorder struct {
	journal *Journal
	metrics *metrics
	log     *slog.Logger

	mu    sync.Mutex
	loops map[loopID]*loopRecord
}

type loopID struct {
	service string
	knob    control.Knob
}

// loopRecord is what is shown of one loop: the last decision and what became of it.
type loopRecord struct {
	loop     api.Loop
	decided  bool
	holding  control.Reason // why it holds, "" while it does not
	wanted   control.Number // the last value that was logged as wanted but may not be written
	writeErr string
}

func newRecorder(log *slog.Logger, journal *Journal, m *metrics) *Recorder {
	return &Recorder{journal: journal, metrics: m, log: log, loops: map[loopID]*loopRecord{}}
}

// register makes the loops of a service known before they have decided anything.
func (r *Recorder) register(spec control.Spec, startedAt time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, knob := range knobsOf(spec) {
		b := boundsOf(spec, knob)
		unknown := control.Number(math.NaN())
		first := control.Decision{
			Service: spec.Service, Knob: knob, Mode: spec.Mode, At: startedAt,
			State: control.Hold, HoldReason: control.Starting, Reason: "hold: waiting for the first tick",
			Setpoint: unknown, Measured: unknown, LatencyTarget: unknown,
			From: unknown, Raw: unknown, Value: unknown, Ceiling: unknown,
		}
		r.loops[loopID{spec.Service, knob}] = &loopRecord{loop: api.Loop{
			Service: spec.Service, Knob: knob, Mode: spec.Mode, Min: b.Min, Max: b.Max, Fallback: b.Fallback,
			SLO: api.SLO{
				LatencySeconds: spec.SLO.Latency.Seconds(), Objective: spec.SLO.Objective, Errors: spec.SLO.Errors,
			},
			Since: startedAt, Decision: first,
		}, wanted: unknown}
	}
}

// Measured records how long the slowest query of a tick took.
func (r *Recorder) Measured(took time.Duration) { r.metrics.measureDuration.Observe(took.Seconds()) }

// Woke records how late a worker woke up.
func (r *Recorder) Woke(late time.Duration) { r.metrics.tickLateness.Observe(max(0, late.Seconds())) }

// Skipped records the grid points that passed during a tick.
func (r *Recorder) Skipped(n int64) { r.metrics.ticksSkipped.Add(float64(max(0, n))) }

// Record records the decisions of one service in one tick and what was written of them.
func (r *Recorder) Record(now time.Time, s *service, ds []control.Decision, done Write) {
	r.metrics.wrote(s.spec.Service, done)
	if done.Drift != NoDrift {
		r.log.Warn("the Setting in the KV is not what this leader wrote: "+driftPolicy[done.Drift],
			"service", s.spec.Service, "drift", string(done.Drift), "index", s.index)
	}
	failure := ""
	if done.Err != nil {
		failure = done.Err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range ds {
		id := loopID{d.Service, d.Knob}
		rec := r.loops[id]
		if rec == nil {
			continue // a knob that is not steered has no business here
		}
		r.logDecision(rec, d, done, failure)
		if !rec.decided || d.State != rec.loop.Decision.State {
			rec.loop.Since = now
		}
		rec.loop.Decision, rec.decided = d, true
		rec.loop.Published = published(s, d.Knob, failure)
		r.metrics.decided(rec.loop)
		r.journal.Append(api.Record{Decision: d, Wrote: done.Kind != NoWrite, WriteError: failure})
	}
}

var driftPolicy = map[Drift]string{
	Edited:     "adopted, the loop goes on from there",
	Deleted:    "the value last in force is written again at the next valid measurement",
	Unreadable: "the value last in force is written again at the next valid measurement",
}

// ordinary are the reasons to hold that are nobody's fault.
var ordinary = map[control.Reason]bool{control.Idle: true, control.TooLittleTraffic: true, control.Starting: true}

// logDecision writes one line for a decision that changes something. A hold, a failing write and a value that may not
// be written are told when they begin and when they end, not every tick.
func (r *Recorder) logDecision(rec *loopRecord, d control.Decision, done Write, failure string) {
	log := r.log.With("service", d.Service, "knob", d.Knob)

	holding := control.Reason("")
	if d.State == control.Hold {
		holding = cmp.Or(d.HoldReason, control.NoData)
	}
	switch {
	case holding != rec.holding && holding != "":
		level := slog.LevelWarn
		if ordinary[holding] {
			level = slog.LevelInfo
		}
		log.Log(context.Background(), level, "hold",
			"reason", holding, "detail", cmp.Or(d.Detail, d.Reason), "value", float64(d.From))
	case holding != rec.holding:
		log.Info("hold is over", "was", rec.holding)
	}
	rec.holding = holding

	switch {
	case failure != rec.writeErr && failure != "":
		log.Error("the Setting was not written", "err", failure, "value", float64(d.From), "wanted", float64(d.Value))
	case failure != rec.writeErr && done.Kind != NoWrite:
		log.Info("the Setting is written again")
	}
	if failure != "" || done.Kind != NoWrite {
		rec.writeErr = failure
	}

	switch {
	case done.Kind == Change:
		log.Info("decision", "state", d.State, "from", float64(d.From), "value", float64(d.Value), "reason", d.Reason)
		rec.wanted = control.Number(math.NaN())
	case done.Kind == Renewal:
		log.Debug("lease renewed")
	case d.Publish && failure == "" && notable(float64(d.Value), float64(rec.wanted)):
		level := slog.LevelInfo
		if d.Mode == control.Enforce {
			level = slog.LevelDebug // a standby: the leader's log has it
		}
		log.Log(context.Background(), level, "decision, not written", "mode", d.Mode, "state", d.State,
			"from", float64(d.From), "value", float64(d.Value), "reason", d.Reason)
		rec.wanted = d.Value
	}
}

// notable says whether a value that is not written differs enough from the last one that was logged.
func notable(v, logged float64) bool { return math.IsNaN(logged) || math.Abs(math.Log(v/logged)) > 0.2 }

func published(s *service, knob control.Knob, failure string) *api.Published {
	f, ok := inForce(knob, s.setting)
	if !ok {
		if failure == "" {
			return nil
		}
		return &api.Published{Key: s.key, Error: failure}
	}
	return &api.Published{
		Key: s.key, Value: f.Value, Epoch: s.setting.Epoch, Revision: s.setting.Revision,
		ChangedAt: s.setting.ChangedAt, Error: failure,
	}
}

// Loops returns all loops, sorted by service and knob, and how many of them have decided at least once.
func (r *Recorder) Loops() (loops []api.Loop, decided int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	loops = make([]api.Loop, 0, len(r.loops))
	for _, rec := range r.loops {
		loops = append(loops, rec.loop)
		if rec.decided {
			decided++
		}
	}
	slices.SortFunc(loops, func(a, b api.Loop) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Knob, b.Knob))
	})
	return loops, decided
}
