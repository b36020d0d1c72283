package control

import (
	"fmt"
	"math"
	"time"
)

// LoopSet holds the loops of one service, one per knob, and the estimates they share. It is not safe for concurrent
// use: one goroutine owns it.
type LoopSet struct {
	spec     Spec
	gate     gate
	setpoint *Setpoint
	loop     *Loop
}

// InForce is the value of a knob that is really in force: published and accepted, tracked from the KV at start and
// after a takeover, or (where governor publishes nothing) the fallback.
type InForce struct {
	Value    float64
	Ceiling  float64 // 0: none
	Setpoint float64 // the published latency target in seconds, 0: none
	// Revision is that of the Setting which carries the value; 0 where nothing is published. Measured revisions are
	// compared with it to count the instances that have applied it.
	Revision uint64
}

// NewLoopSet returns the loops of the service that spec describes, or an error that names what is wrong with it.
func NewLoopSet(spec Spec) (*LoopSet, error) {
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("loops of service %q: %w", spec.Service, err)
	}
	spec = spec.withDefaults()
	return &LoopSet{
		spec: spec,
		gate: gate{
			slo: spec.SLO, staleAfter: spec.Tuning.StaleAfter,
			minRequests: spec.Tuning.MinRequests, refusingAt: spec.Tuning.RefusingAt, refusedCut: spec.Tuning.RefusedCut,
		},
		setpoint: newSetpoint(spec.SLO.Latency, spec.Timing.Window, spec.Tuning.TargetWeight),
		loop:     newLoop(spec),
	}, nil
}

// Step decides every knob for the measurement m at the instant now. Instants must grow; one that does not changes
// nothing and is reported as a hold.
func (s *LoopSet) Step(now time.Time, m Measurement) []Decision {
	v := s.gate.pass(m, s.setpoint.inForce)
	return []Decision{s.loop.step(now, v, s.setpoint)}
}

// Track tells the loop of knob which value is in force after the actuator ran, whether or not it was what the loop
// asked for. Call it after every Step that was acted on; a Step whose write failed is tracked with the value before.
func (s *LoopSet) Track(now time.Time, knob Knob, f InForce) {
	if s.has(knob) && finite(f) {
		s.loop.track(now, f)
	}
}

// Restore starts the loop of knob from a Setting read from the KV, at start or after a takeover: bumpless, holding one
// period with the reason Starting.
func (s *LoopSet) Restore(now time.Time, knob Knob, f InForce) {
	if s.has(knob) && finite(f) {
		s.setpoint.restore(f.Setpoint)
		s.loop.restart(now, f)
	}
}

func (s *LoopSet) has(knob Knob) bool { return knob == KnobConcurrency }

// finite says whether f can be tracked: a Setting in which a field is missing or odd must not poison a controller.
func finite(f InForce) bool { return f.Value > 0 && !math.IsInf(f.Value, 0) }
