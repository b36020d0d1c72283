package control

import "time"

// retry is the law of the retry budget: there is none. The value is the configured constant unless a person orders
// another one, and 0 stops the retries of a whole fleet with the next publish.
//
// A law in this loop was tried and refuted. A retry storm doubles the load within seconds, and this loop answers a
// measurement window and a period later. It also steers the wrong tier: of three tiers that retry, the healthy one in
// the middle keeps its budget while the last one drowns. The bucket in the caller, which is charged when a retry is
// scheduled, and the hint of a callee not to retry act within milliseconds, so they do this work. What is left for a
// person is to override all of it.
type retry struct{ spec RetrySpec }

func newRetry(s *Spec) *retry { return &retry{spec: *s.Retry} }

func (c *retry) rest(s step) outcome {
	o := s.rest(ConstantLaw)
	o.setpoint, o.measured = Read(c.spec.Budget), s.v.retried()
	return o
}

// decide returns to the configured value, also while nothing can be measured: a constant needs no measurement. Only the
// lease and the first Setting wait for one, as those of every knob do.
func (c *retry) decide(s step) outcome {
	o := c.rest(s)
	o.hold, o.detail = s.v.doubted()
	o.renew = o.hold == ""
	o.raw, o.value = Read(c.spec.Budget), c.spec.Budget
	if s.inForce.published() {
		o.publish = o.value != o.from
	} else {
		o.publish = s.v.hold == ""
	}
	o.state = moveState(o)
	return o
}

// moveState is the state of a step that only the value itself describes.
func moveState(o outcome) State {
	switch {
	case o.value < o.from:
		return Cutting
	case o.value > o.from:
		return Raising
	}
	return Steady
}

func (c *retry) track(time.Time, float64, float64) {}
func (c *retry) lose()                             {}
func (c *retry) restart()                          {}
