package daemon

import (
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

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

// ActedEverywhere adds what was done to the kill switch through this governor: a lift leaves no trace in the KV.
func (r *Recorder) ActedEverywhere(a actuators.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifted = a.Kind == actuators.Resume
	r.acted(a)
}

// KillSwitch returns the order that freezes every loop, nil where there is none.
func (r *Recorder) KillSwitch() *actuators.Order {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.everywhere
}
