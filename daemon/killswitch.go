package daemon

import (
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Everywhere notes the kill switch as read by a tick that began at now; nil: it is not pulled. If a later tick has
// already reported, Everywhere changes nothing.
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

// ActedEverywhere records an action on the kill switch made through this governor. A lift leaves no trace in the KV.
func (r *Recorder) ActedEverywhere(a actuators.Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifted = a.Kind == actuators.Resume
	r.acted(a)
}

// KillSwitch returns the order that freezes every loop; nil if there is none.
func (r *Recorder) KillSwitch() *actuators.Order {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.everywhere
}
