package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"strings"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

var driftPolicy = map[Drift]string{
	Edited:     "edited by hand: adopted; the loops continue from it",
	RolledBack: "the key has been set back: no edit; the value in force is written again",
	Deleted:    "the last value in force is written again at the next valid measurement",
	Unreadable: "the last value in force is written again at the next valid measurement",
}

// ordinary are the reasons to hold that do not indicate a fault.
var ordinary = map[control.Reason]bool{control.Idle: true, control.TooLittleTraffic: true, control.Starting: true}

// logDecision writes one line for a decision that changes something. For a hold, a failing write and a value that may
// not be written it logs the beginning and the end, not every tick.
func (r *Recorder) logDecision(rec *loopRecord, d control.Decision, done Write, failure string) {
	log := r.log.With("service", d.Service, "knob", d.Knob, "unit", rec.loop.Unit)

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
		args := []any{"value", float64(d.From), "reason", holding}
		if detail := strings.TrimPrefix(d.Detail, string(holding)+" "); detail != "" {
			args = append(args, "detail", detail)
		}
		log.Log(context.Background(), level, "hold", args...)
	case holding != rec.holding:
		log.Info("hold is over", "was", rec.holding)
	}
	rec.holding = holding

	switch {
	case failure != rec.writeErr && failure != "":
		log.Error("the Setting was not written", "err", failure, "value", float64(d.From), "wanted", float64(d.Value))
	case failure != rec.writeErr && done.Kind != publish.None:
		log.Info("the Setting is written again")
	}
	if failure != "" || done.Kind != publish.None {
		rec.writeErr = failure
	}

	switch {
	case done.Kind == publish.Change && !d.Publish:
		// The write was for another knob, or for changed bounds.
	case done.Kind == publish.Change:
		log.Info("decision", "state", d.State, "from", float64(d.From), "value", float64(d.Value), "reason", d.Reason)
		rec.wanted = control.Number(math.NaN())
	case done.Kind == publish.Renewal:
		log.Debug("lease renewed")
	case d.Publish && failure == "" && notable(float64(d.Value), float64(rec.wanted)):
		level := slog.LevelInfo
		if d.Mode == control.Enforce {
			level = slog.LevelDebug // a standby: the leader logs it too
		}
		log.Log(context.Background(), level, "decision, not written", "mode", d.Mode, "state", d.State,
			"from", float64(d.From), "value", float64(d.Value), "reason", d.Reason)
		rec.wanted = d.Value
	}
}

// notable says whether a value that is not written differs enough from the last one that was logged.
func notable(v, logged float64) bool { return math.IsNaN(logged) || math.Abs(math.Log(v/logged)) > 0.2 }
