package daemon

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// Operators record what people order, where the leader will find it: a *consul.Operators.
type Operators interface {
	Do(ctx context.Context, a actuators.Action) (consul.Done, error)
}

// orders is what people have ordered of one service, as last read. What is ordered stays in force while the KV cannot
// be read, or holds something that cannot be understood: the order before is what a person meant for certain.
type orders struct {
	operator   actuators.Operator
	everywhere *actuators.Order // the kill switch
	err        error            // why the operator key cannot be understood
	worse      bool             // err is new in this tick
	news       bool             // the operator key has changed in this tick
}

// of returns the order that is in force for a knob, nil where it is automatic. The kill switch outranks a knob's own
// order: it keeps the value that this one has brought into force.
func (o *orders) of(now time.Time, knob control.Knob) *actuators.Order {
	if o.everywhere != nil {
		return o.everywhere
	}
	return o.own(now, knob)
}

// own returns the order of the knob itself.
func (o *orders) own(now time.Time, knob control.Knob) *actuators.Order {
	if own, ok := o.operator.Orders[string(knob)]; ok && own.Active(now) {
		return &own
	}
	return nil
}

// warning says that the operator key cannot be understood, "" if it can.
func (o *orders) warning() string {
	if o.err == nil {
		return ""
	}
	return fmt.Sprintf("%v: the orders before it stay in force", o.err)
}

// obey takes in what people have ordered, and tells the loops.
func (s *service) obey(now time.Time, kv kvState) {
	s.orders.news, s.orders.worse = false, false
	if kv.err == nil {
		found := kv.Operators[s.spec.Service]
		s.orders.worse = found.Err != nil && (s.orders.err == nil || found.Err.Error() != s.orders.err.Error())
		if s.orders.err = found.Err; found.Err == nil {
			s.orders.news = !reflect.DeepEqual(s.orders.operator, found.Operator)
			s.orders.operator = found.Operator
		}
		s.orders.everywhere = kv.Freeze
	}
	for _, knob := range publish.Knobs(s.spec) {
		s.loops.Obey(knob, toControl(s.orders.of(now, knob)))
	}
}

func toControl(o *actuators.Order) *control.Order {
	if o == nil {
		return nil
	}
	why := o.Actor + ": " + o.Reason
	if o.ExpiresAt.IsZero() {
		why = "kill switch, " + why
	}
	state := control.Frozen
	if o.Kind == actuators.Override {
		state = control.Override
	}
	return &control.Order{State: state, Value: o.Value, Why: why, Expires: o.ExpiresAt}
}

// auditSpan bounds what the recorder remembers of what people did.
const auditSpan = 1000

// governorItself is the actor where an order ends because its time is up.
const governorItself = "governor"

// obeyed takes note of the orders of a service: whatever people did since the last tick goes to the audit, the log and
// the metrics, in whichever way it was written to the KV. The caller holds r.mu.
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

// resumed says whether the audit has a resume of the loop since the order was given.
func (r *Recorder) resumed(service string, knob control.Knob, since time.Time) bool {
	return slices.ContainsFunc(r.audit, func(a actuators.Action) bool {
		return a.Service == service && a.Knob == string(knob) && a.Kind == actuators.Resume && !a.At.Before(since)
	})
}

// Everywhere takes note of the kill switch as a tick that began at now has read it, nil: it is not pulled. What a later
// tick has read already counts for more.
func (r *Recorder) Everywhere(now time.Time, order *actuators.Order) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.looked) {
		return
	}
	r.looked = now
	if actuators.SameOrder(r.everywhere, order) {
		return
	}
	a := actuators.Action{Kind: actuators.Resume, Actor: "unknown", Reason: "the kill switch was lifted", At: now}
	if order != nil {
		a = actuators.Action{
			Kind: actuators.Freeze, Actor: order.Actor, Reason: order.Reason, At: stampOr(order.At, now),
		}
	}
	r.everywhere = order
	r.metrics.frozen.Set(oneIf(order != nil))
	if named := order == nil && r.lifted; !named {
		r.acted(a)
	}
	r.lifted = false
}

// KillSwitch returns the order that freezes every loop, nil where there is none.
func (r *Recorder) KillSwitch() *actuators.Order {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.everywhere
}

// ActedEverywhere adds what was done to the kill switch through this governor: a lift leaves no trace in the KV.
func (r *Recorder) ActedEverywhere(a actuators.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifted = a.Kind == actuators.Resume
	r.acted(a)
}

// acted adds an action to the audit, unless it is there. What happened before this governor started is for those who
// ran then to count and log.
func (r *Recorder) acted(a actuators.Action) {
	if slices.ContainsFunc(r.audit, func(b actuators.Action) bool { return sameAction(a, b) }) {
		return
	}
	i, _ := slices.BinarySearchFunc(r.audit, a, func(b, a actuators.Action) int { return b.At.Compare(a.At) })
	for i < len(r.audit) && r.audit[i].At.Equal(a.At) {
		i++
	}
	if i == 0 && len(r.audit) == auditSpan {
		return // older than all that is remembered, and told when it was not
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

// Audit returns what people did, oldest first, to the loops of one service and knob ("": all).
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

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
