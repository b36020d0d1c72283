package control

import "time"

// LoopSet holds the loops of one service, one per knob, and arbitrates between them. It is not safe for concurrent use:
// one goroutine owns it.
type LoopSet struct {
	spec Spec
}

// NewLoopSet returns the loops of the service that spec describes.
func NewLoopSet(spec Spec) (*LoopSet, error) { return &LoopSet{spec: spec}, nil }

// InForce is the value of a knob that is really in force: published and accepted, tracked from the KV at start and
// after a takeover, or (where governor publishes nothing) the fallback.
type InForce struct {
	Value   float64
	Ceiling float64 // 0: none
	// Setpoint is the published latency target in seconds, 0: none.
	Setpoint float64
	// Revision is that of the Setting which carries the value; 0 where nothing is published. Measured revisions are
	// compared with it to count the instances that have applied it.
	Revision uint64
}

// Step decides every knob for the measurement m at the instant now.
func (s *LoopSet) Step(now time.Time, m Measurement) []Decision { return nil }

// Track tells the loop of knob which value is in force after the actuator ran, whether or not it was what the loop
// asked for. Call it after every Step that was acted on; a Step whose write failed is tracked with the value before.
func (s *LoopSet) Track(now time.Time, knob Knob, f InForce) {}

// Restore starts the loop of knob from a Setting read from the KV, at start or after a takeover: bumpless, holding one
// period with the reason Starting.
func (s *LoopSet) Restore(now time.Time, knob Knob, f InForce) {}
