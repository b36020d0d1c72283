package actuators

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// OperatorSchema is the version of the Operator document that this package writes and the highest that it reads.
const OperatorSchema = 1

// Bounds of an order.
const (
	MaxOrder = 7 * 24 * time.Hour // longest duration of an order
	MaxAudit = 50                 // actions kept in an Operator document
	MaxWords = 200                // bytes of an actor or a reason
)

// Operator is the value of governor/services/<service>/operator, or of
// governor/services/<service>/routes/<route>/operator: the orders that people gave for the loops of a service or a
// route, and their last actions. Anyone with permission writes it, by compare-and-set, whether or not a governor runs.
// The leader obeys it, and the orders survive every restart.
type Operator struct {
	Schema  int              `json:"schema"`
	Service string           `json:"service"`
	Orders  map[string]Order `json:"orders"`          // in force until they expire, by knob
	Audit   []Action         `json:"audit,omitempty"` // oldest first, at most MaxAudit
}

// OrderKind is the kind of an order.
type OrderKind string

// The kinds of order: Freeze keeps the value in force, Override sets one. Resume ends both; it is an Action only, never
// an Order.
const (
	Freeze   OrderKind = "freeze"
	Override OrderKind = "override"
	Resume   OrderKind = "resume"
)

// Order takes a loop out of automatic control.
type Order struct {
	Kind   OrderKind `json:"kind"`            // Freeze or Override
	Value  float64   `json:"value,omitempty"` // of an Override, in the knob's unit
	Actor  string    `json:"actor"`           // who
	Reason string    `json:"reason"`          // why, for the next person on call
	At     time.Time `json:"at,omitzero"`     // when it was given; for people
	// ExpiresAt is when the order ends and the loop resumes. Only the kill switch has none.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// MarshalJSON writes the value of an override, also one of 0, and of nothing else.
func (o Order) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind      OrderKind `json:"kind"`
		Value     *float64  `json:"value,omitempty"`
		Actor     string    `json:"actor"`
		Reason    string    `json:"reason"`
		At        time.Time `json:"at,omitzero"`
		ExpiresAt time.Time `json:"expires_at,omitzero"`
	}{o.Kind, valueOf(o.Kind, o.Value), o.Actor, o.Reason, o.At, o.ExpiresAt})
}

// MarshalJSON is that of Order.
func (a Action) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Service   string    `json:"service,omitempty"`
		Knob      string    `json:"knob,omitempty"`
		Kind      OrderKind `json:"kind"`
		Value     *float64  `json:"value,omitempty"`
		Actor     string    `json:"actor"`
		Reason    string    `json:"reason"`
		At        time.Time `json:"at"`
		ExpiresAt time.Time `json:"expires_at,omitzero"`
	}{a.Service, a.Knob, a.Kind, valueOf(a.Kind, a.Value), a.Actor, a.Reason, a.At, a.ExpiresAt})
}

// valueOf is the value of an override; nil for other kinds, which have none.
func valueOf(kind OrderKind, value float64) *float64 {
	if kind != Override {
		return nil
	}
	return &value
}

// Active says whether the order is in force at now.
func (o Order) Active(now time.Time) bool { return o.ExpiresAt.IsZero() || now.Before(o.ExpiresAt) }

// SameOrder reports whether a and b are one order; nil is none.
func SameOrder(a, b *Order) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Kind == b.Kind && a.Value == b.Value && a.Actor == b.Actor && a.Reason == b.Reason &&
		a.At.Equal(b.At) && a.ExpiresAt.Equal(b.ExpiresAt)
}

// Action is one action of a person, as kept in the audit.
type Action struct {
	Service string    `json:"service,omitempty"` // "" for the kill switch
	Knob    string    `json:"knob,omitempty"`
	Kind    OrderKind `json:"kind"`
	Value   float64   `json:"value,omitempty"`
	Actor   string    `json:"actor"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	// ExpiresAt is the order's; zero for a resume.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Validate returns what is wrong with a as an instruction given at a.At. A knob, an actor and a reason are required, an
// order needs an expiry at most MaxOrder away, and an override needs a value above 0, or of 0 for retry: that stops the
// retries of a whole fleet. Only the Setting knows whether the value is within the knob's bounds.
func (a Action) Validate() error {
	var v validator
	v.check(slices.Contains(Knobs[:], a.Knob), "knob", quote(a.Knob), "one of "+strings.Join(Knobs[:], ", "))
	v.words("actor", a.Actor)
	v.words("reason", a.Reason)
	switch a.Kind {
	case Override, Freeze:
		lasts := a.ExpiresAt.Sub(a.At)
		v.check(lasts > 0 && lasts <= MaxOrder, "expiry", lasts.String(), "more than 0 and at most "+MaxOrder.String())
		if a.Kind == Override {
			least, want := math.SmallestNonzeroFloat64, "a number above 0"
			if a.Knob == "retry" {
				least, want = 0, "a number of at least 0"
			}
			ok := a.Value >= least && !math.IsInf(a.Value, 0)
			if a.Knob == "concurrency" {
				ok, want = ok && a.Value == math.Trunc(a.Value), "a whole number of requests above 0"
			}
			v.check(ok, "value", fmt.Sprint(a.Value), want)
		}
	case Resume:
	default:
		v.check(false, "kind", quote(string(a.Kind)), "freeze, override or resume")
	}
	return v.err()
}

// ValidateEverywhere returns what is wrong with a as an instruction about the kill switch. It needs an actor and a
// reason. It has no expiry: the kill switch stands until somebody lifts it.
func (a Action) ValidateEverywhere() error {
	var v validator
	v.check(a.Kind == Freeze || a.Kind == Resume, "kind", quote(string(a.Kind)), "freeze or resume")
	v.words("actor", a.Actor)
	v.words("reason", a.Reason)
	v.check(a.ExpiresAt.IsZero(), "expiry", a.ExpiresAt.String(), "none: the kill switch stands until it is lifted")
	return v.err()
}

func (v *validator) words(field, text string) {
	v.check(strings.TrimSpace(text) != "" && len(text) <= MaxWords, field, quote(text),
		fmt.Sprintf("1 to %d bytes of text", MaxWords))
}

// Apply returns the document after a, which must be valid: the order of a's knob is replaced or removed, expired orders
// are dropped, and a is added to the audit. o is not changed.
func (o Operator) Apply(a Action) Operator {
	next := Operator{Schema: OperatorSchema, Service: a.Service, Orders: maps.Clone(o.Orders)}
	if next.Orders == nil {
		next.Orders = map[string]Order{}
	}
	maps.DeleteFunc(next.Orders, func(_ string, order Order) bool { return !order.Active(a.At) })
	if a.Kind == Resume {
		delete(next.Orders, a.Knob)
	} else {
		next.Orders[a.Knob] = a.Order()
	}
	next.Audit = append(slices.Clone(o.Audit), a)
	next.Audit = next.Audit[max(0, len(next.Audit)-MaxAudit):]
	return next
}

// Order returns the order that a gives.
func (a Action) Order() Order {
	return Order{Kind: a.Kind, Value: a.Value, Actor: a.Actor, Reason: a.Reason, At: a.At, ExpiresAt: a.ExpiresAt}
}

// DecodeOperator reads the operator key of service. Unknown fields are ignored. If one order is incomplete, the whole
// document is an error, because obeying only part of it could be wrong.
func DecodeOperator(raw []byte, service string) (Operator, error) {
	fail := func(err error) (Operator, error) {
		return Operator{}, fmt.Errorf("read the operator key of service %s: %w", quote(service), err)
	}
	if len(raw) > MaxBytes {
		return fail(fmt.Errorf("%d bytes, expected at most %d", len(raw), MaxBytes))
	}
	if twice := duplicate(raw); twice != "" {
		return fail(fmt.Errorf("the field %s is there twice, if case does not matter; expected each once", twice))
	}
	var o Operator
	if err := json.Unmarshal(raw, &o); err != nil {
		return fail(fmt.Errorf("%s: %w, expected one JSON object with orders", quote(strings.TrimSpace(string(raw))), err))
	}
	// An override without a value must not count as one of 0, which stops all retries.
	var values struct {
		Orders map[string]struct {
			Value *float64 `json:"value"`
		} `json:"orders"`
	}
	_ = json.Unmarshal(raw, &values) // as above
	if o.Schema > OperatorSchema {
		return fail(fmt.Errorf("schema %d, expected at most %d: update this governor", o.Schema, OperatorSchema))
	}
	if o.Service != "" && o.Service != service {
		return fail(fmt.Errorf("it is for service %s", quote(o.Service)))
	}
	for _, knob := range slices.Sorted(maps.Keys(o.Orders)) {
		if o.Orders[knob].Kind == Override && values.Orders[knob].Value == nil {
			return fail(fmt.Errorf("orders.%s.value: missing, expected a number", knob))
		}
		if err := o.Orders[knob].validate(knob); err != nil {
			return fail(fmt.Errorf("orders.%s: %w", knob, err))
		}
	}
	o.Schema, o.Service = OperatorSchema, service
	for i := range o.Audit {
		o.Audit[i].Service = service
	}
	return o, nil
}

// validate judges an order by itself: the time it was given may be unknown, its expiry may not.
func (o Order) validate(knob string) error {
	a := Action{
		Knob: knob, Kind: o.Kind, Value: o.Value, Actor: o.Actor, Reason: o.Reason, At: o.At, ExpiresAt: o.ExpiresAt,
	}
	if o.Kind == Resume {
		return fmt.Errorf("kind: %s, expected freeze or override", quote(string(o.Kind)))
	}
	if o.At.IsZero() {
		a.At = o.ExpiresAt.Add(-time.Second)
	}
	if o.ExpiresAt.IsZero() {
		return fmt.Errorf("expires_at: missing, expected an RFC 3339 time")
	}
	return a.Validate()
}

// Encode returns the JSON of o. If that is too large, it leaves out the oldest actions: a long past must not keep
// anybody from ending an order.
func (o Operator) Encode() ([]byte, error) {
	raw, err := json.Marshal(o)
	for err == nil && len(raw) > MaxBytes && len(o.Audit) > 0 {
		o.Audit = o.Audit[1:]
		raw, err = json.Marshal(o)
	}
	if err == nil && len(raw) > MaxBytes {
		err = fmt.Errorf("%d bytes, expected at most %d", len(raw), MaxBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the operator key of service %s: %w", quote(o.Service), err)
	}
	return raw, nil
}

// DecodeFreeze reads the kill switch. It cannot fail: while the key exists every loop is frozen, whatever the value
// says. `consul kv put governor/freeze INC-1412` freezes the fleet with that reason.
func DecodeFreeze(raw []byte) Order {
	var o Order
	if json.Unmarshal(raw, &o) != nil || o.Reason == "" {
		o = Order{Reason: strings.TrimSpace(string(raw))}
	}
	o.Kind, o.Value, o.ExpiresAt = Freeze, 0, time.Time{}
	if o.Actor == "" {
		o.Actor = "unknown"
	}
	o.Actor, o.Reason = clip(o.Actor), clip(o.Reason) // every decision of every loop repeats them
	return o
}

// clip returns the start of text, at most MaxWords bytes, cut between characters.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), MaxWords)], "")
}
