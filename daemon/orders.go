package daemon

import (
	"fmt"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// orders are the orders that people gave for one service, as last read. They stay in force while the KV cannot be read
// or holds something that cannot be understood: the previous orders are the last ones known to be intended.
type orders struct {
	operator   actuators.Operator
	everywhere *actuators.Order // the kill switch
	err        error            // why the operator key cannot be understood
	worse      bool             // err is new in this tick
	news       bool             // the operator key has changed in this tick
}

// of returns the order in force for a knob; nil if the knob is automatic. The kill switch outranks the knob's own
// order: it keeps the value that the order brought into force.
func (o *orders) of(now time.Time, knob control.Knob) *actuators.Order {
	if o.everywhere != nil {
		return o.everywhere
	}
	return o.own(now, knob)
}

// own returns the knob's own order.
func (o *orders) own(now time.Time, knob control.Knob) *actuators.Order {
	if own, ok := o.operator.Orders[string(knob)]; ok && own.Active(now) {
		return &own
	}
	return nil
}

// warning says why the operator key cannot be understood; "" if it can.
func (o *orders) warning() string {
	if o.err == nil {
		return ""
	}
	return fmt.Sprintf("%v: the previous orders stay in force", o.err)
}

// obey takes in the current orders and tells the loops.
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
		s.loops.Obey(knob, publish.Order(s.orders.of(now, knob)))
	}
}
