package control

import (
	"math"
	"time"
)

// Order takes a loop out of automatic control until it expires, because an operator decided so. The law keeps tracking
// the value in force, as in a hold, so the loop later continues from there without a bump.
type Order struct {
	State State // Frozen: the value in force stays; Override: Value comes into force
	Value float64
	// Why says who gave the order and for what reason.
	Why string
	// Expires is when automatic control resumes; zero: only when it is told to.
	Expires time.Time
}

func (o *Order) active(now time.Time) bool {
	return o != nil && (o.Expires.IsZero() || now.Before(o.Expires))
}

// Obey replaces the order of the loop of knob with o; nil returns it to automatic control.
func (s *LoopSet) Obey(knob Knob, o *Order) {
	if l := s.loop(knob); l != nil {
		l.order = o
	}
}

// obey carries out an order: law, measurement and doubts have no influence. It renews the lease even if nothing can be
// measured, because a guard that drifted to its fallback would break the order. Freezing a value that was never
// published publishes nothing: the guards then use values of their own. Problems with the measurement are still
// reported.
func (l *Loop) obey(s step) outcome {
	l.law.lose()
	l.fresh = false
	o, order := l.law.rest(s), l.order
	o.hold, _ = s.v.doubted()
	o.state, o.detail = order.State, order.Why
	o.renew = order.State == Override || s.inForce.published()
	if order.State != Override {
		return o
	}
	b := l.spec.Bounds(l.knob)
	o.raw, o.value = Read(order.Value), min(max(order.Value, b.Min), b.Max)
	switch {
	case o.value > order.Value:
		o.bound = BoundMin
	case o.value < order.Value:
		o.bound = BoundMax
	}
	if l.knob == KnobConcurrency {
		o.value = math.Round(o.value) // limits are whole; otherwise every period would ask for it again
		o.ceiling = o.value           // a limit set by hand also binds the guards' reflex
	}
	o.publish = o.value != s.inForce.Value || o.ceiling != s.inForce.Ceiling
	return o
}
