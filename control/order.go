package control

import (
	"cmp"
	"math"
	"time"
)

// Order takes a loop out of automatic control until it expires: a person has decided. The law goes on following what is
// in force, as in a hold, so that the loop continues from there without a bump.
type Order struct {
	State State // Frozen: the value in force stays; Override: Value comes into force
	Value float64
	// Why says in words who ordered it and for what.
	Why string
	// Expires is when the loop goes on by itself; zero: when it is told to.
	Expires time.Time
}

func (o *Order) active(now time.Time) bool {
	return o != nil && (o.Expires.IsZero() || now.Before(o.Expires))
}

// Obey gives the loop of knob an order in place of the one before; nil: it is automatic.
func (s *LoopSet) Obey(knob Knob, o *Order) {
	if l := s.loop(knob); l != nil {
		l.order = o
	}
}

// obey carries out an order: no law, no measurement and no doubt has a say. The lease is renewed even where nothing can
// be measured, since a guard that drifted to its fallback would break the order. A freeze of what was never published
// publishes nothing: guards stand at a value of their own. What is wrong with the measurement is told all the same.
func (l *Loop) obey(s step) outcome {
	l.law.lose()
	l.fresh = false
	o, order := l.law.rest(s), l.order
	o.state, o.hold, o.detail = order.State, cmp.Or(s.v.hold, s.v.unsure), order.Why
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
		o.value = math.Round(o.value) // as it will be in force, or it would be asked for in every period
		o.ceiling = o.value           // whoever sets the limit by hand means the guards' own limit, too
	}
	o.publish = o.value != s.inForce.Value || o.ceiling != s.inForce.Ceiling
	return o
}
