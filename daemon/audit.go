package daemon

import (
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// auditSpan limits how far back the recorder remembers the actions of people.
const auditSpan = 1000

// governorItself is the actor when an order ends because it expired.
const governorItself = "governor"

// obeyed processes the orders of a service. Everything that people did since the last tick goes to the audit, the log
// and the metrics, however they wrote it to the KV. The caller holds r.mu.
func (r *Recorder) obeyed(now time.Time, spec control.Spec, o orders) {
	service := spec.Service
	if o.news {
		for _, a := range o.operator.Audit {
			r.acted(a)
		}
	}
	for _, knob := range publish.Knobs(spec) {
		rec := r.loops[loopID{service, knob}]
		if rec == nil {
			continue
		}
		rec.loop.Order = o.of(now, knob)
		before, own := rec.own, o.own(now, knob)
		if actuators.SameOrder(before, own) {
			continue
		}
		rec.own = own
		r.metrics.ordered(service, knob, own)
		switch {
		case own != nil:
			r.acted(actuators.Action{
				Service: service, Knob: string(knob), Kind: own.Kind, Value: own.Value, Actor: own.Actor, Reason: own.Reason,
				At: stampOr(own.At, now), ExpiresAt: own.ExpiresAt,
			})
		case !before.Active(now):
			r.acted(actuators.Action{
				Service: service, Knob: string(knob), Kind: actuators.Resume, Actor: governorItself,
				Reason: "expired: " + before.Reason, At: before.ExpiresAt,
			})
		case !r.resumed(service, knob, before.At):
			r.acted(actuators.Action{
				Service: service, Knob: string(knob), Kind: actuators.Resume, Actor: "unknown",
				Reason: "the order was removed from the KV", At: now,
			})
		}
	}
}

// acted adds an action to the audit unless it is already there. Actions from before this governor's start were counted
// and logged by the governors that ran then.
func (r *Recorder) acted(a actuators.Action) {
	if slices.ContainsFunc(r.audit, func(b actuators.Action) bool { return sameAction(a, b) }) {
		return
	}
	i, _ := slices.BinarySearchFunc(r.audit, a, func(b, a actuators.Action) int { return b.At.Compare(a.At) })
	for i < len(r.audit) && r.audit[i].At.Equal(a.At) {
		i++
	}
	if i == 0 && len(r.audit) == auditSpan {
		return // older than the audit reaches, and reported when it was new
	}
	r.audit = slices.Insert(r.audit, i, a)
	r.audit = r.audit[max(0, len(r.audit)-auditSpan):]
	if a.At.Before(r.startedAt) {
		return
	}
	r.metrics.actions.WithLabelValues(a.Service, a.Knob, string(a.Kind)).Inc()
	args := []any{"action", string(a.Kind), "actor", a.Actor, "reason", a.Reason}
	if a.Service != "" {
		args = append([]any{"service", a.Service, "knob", a.Knob}, args...)
	}
	if a.Kind == actuators.Override {
		args = append(args, "value", a.Value)
	}
	if !a.ExpiresAt.IsZero() {
		args = append(args, "expires", a.ExpiresAt.UTC().Format(time.RFC3339))
	}
	r.log.Info("operator", args...)
}

// resumed says whether the audit holds a resume of the loop since the order was given.
func (r *Recorder) resumed(service string, knob control.Knob, since time.Time) bool {
	return slices.ContainsFunc(r.audit, func(a actuators.Action) bool {
		return a.Service == service && a.Knob == string(knob) && a.Kind == actuators.Resume && !a.At.Before(since)
	})
}

func sameAction(a, b actuators.Action) bool {
	return a.Service == b.Service && a.Knob == b.Knob && a.Kind == b.Kind && a.Actor == b.Actor && a.Reason == b.Reason &&
		a.At.Equal(b.At)
}

func stampOr(at, now time.Time) time.Time {
	if at.IsZero() {
		return now
	}
	return at
}

// Audit returns the actions of people, oldest first, on the loops of one service and knob ("": all).
func (r *Recorder) Audit(service string, knob control.Knob) []actuators.Action {
	r.mu.Lock()
	defer r.mu.Unlock()
	actions := []actuators.Action{}
	for _, a := range r.audit {
		ofService := service == "" || a.Service == service || a.Service == ""
		if ofService && (knob == "" || a.Knob == string(knob) || a.Knob == "") {
			actions = append(actions, a)
		}
	}
	return actions
}
