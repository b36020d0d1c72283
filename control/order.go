package control

import (
	"cmp"
	"fmt"
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
func (l *Loop) obey(t *tick, d *Decision) {
	l.law.lose()
	l.fresh = false
	o := l.order
	d.State, d.HoldReason, d.Detail = o.State, cmp.Or(t.v.hold, t.v.unsure), o.Why
	d.Renew = o.State == Override || l.published()
	if o.State != Override {
		return
	}
	b := l.spec.Bounds(l.knob)
	value := min(max(o.Value, b.Min), b.Max)
	switch {
	case value > o.Value:
		d.Bound = BoundMin
	case value < o.Value:
		d.Bound = BoundMax
	}
	if l.knob == KnobConcurrency {
		value = math.Round(value) // as it will be in force, or it would be asked for in every period
	}
	d.Raw, d.Value = Number(o.Value), Number(value)
	if l.knob == KnobConcurrency {
		d.Ceiling = Number(value) // whoever sets the limit by hand means the guards' own limit, too
	}
	d.Publish = value != l.inForce.Value || float64(d.Ceiling) != l.inForce.Ceiling
}

// explainOrder says the whole decision of an obedient loop in one line of plain words.
func explainOrder(d Decision, expires time.Time) string {
	until := ""
	if !expires.IsZero() {
		until = " until " + expires.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	switch {
	case d.State == Frozen:
		return fmt.Sprintf("frozen at %s%s: %s", num(float64(d.Value)), until, d.Detail)
	case d.Bound != "":
		return fmt.Sprintf("override %s, bound to %s by the configured %s%s: %s",
			num(float64(d.Raw)), num(float64(d.Value)), d.Bound, until, d.Detail)
	}
	return fmt.Sprintf("override %s%s: %s", num(float64(d.Value)), until, d.Detail)
}
