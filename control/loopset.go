package control

import (
	"fmt"
	"math"
	"time"
)

// LoopSet holds the loops of one service, one per knob, and the estimates they share. It is not safe for concurrent
// use: one goroutine owns it.
type LoopSet struct {
	spec    Spec
	gate    gate
	target  *latencyTarget
	loops   []*Loop // in the order in which they act
	last    time.Time
	sampled time.Time // of the last good sample

	evidence evidence // of a service with few requests
	long     longRequests
	disobeys time.Time // since when the instances have had far more in flight than their limit; zero: they do not
}

// InForce is the value of a knob that is really in force: published and accepted, read from the KV at start or after a
// takeover, or (if governor publishes nothing) the fallback.
type InForce struct {
	Value         float64
	Ceiling       float64 // 0: none
	LatencyTarget float64 // τ* as published, in seconds; 0: none
	// Revision belongs to the Setting that carries the value; 0 if nothing is published. Comparing it with measured
	// revisions counts the instances that have applied the value.
	Revision uint64
}

// NewLoopSet returns the loops of the service that spec describes. The error names what is wrong with spec.
func NewLoopSet(spec Spec) (*LoopSet, error) {
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("loops of service %q: %w", spec.Service, err)
	}
	spec = spec.withDefaults()
	s := &LoopSet{
		spec: spec,
		gate: gate{
			slo: spec.SLO, staleAfter: spec.Tuning.StaleAfter,
			minRequests: spec.Tuning.MinRequests, refusingAt: spec.Tuning.RefusingAt, refusedCut: spec.Tuning.RefusedCut,
		},
		target: newLatencyTarget(spec.SLO, spec.Timing.Window, spec.Tuning.TargetWeight),
	}
	if c := spec.Concurrency; c != nil {
		s.loops = append(s.loops, newLoop(&s.spec, KnobConcurrency, c.Fallback, newConcurrency(&s.spec)))
	}
	if h := spec.Shed; h != nil {
		s.loops = append(s.loops, newLoop(&s.spec, KnobShed, h.Fallback, newShed(&s.spec)))
	}
	if r := spec.Rate; r != nil {
		s.loops = append(s.loops, newLoop(&s.spec, KnobRate, r.Fallback, newRate(&s.spec)))
	}
	if r := spec.Retry; r != nil {
		s.loops = append(s.loops, newLoop(&s.spec, KnobRetry, r.Budget, newRetry(&s.spec)))
	}
	for _, k := range spec.Calls {
		s.loops = append(s.loops, newLoop(&s.spec, KnobCall(k.To), spec.Bounds(KnobCall(k.To)).Fallback, newCall(k, spec.SLO)))
	}
	return s, nil
}

// Step decides every knob for the measurement m at the instant now, in the order in which the knobs act: concurrency,
// shed, rate, retry, calls. Instants must increase; one that does not changes nothing and gives a hold.
func (s *LoopSet) Step(now time.Time, m Measurement) []Decision {
	culprit := s.culprit(m)
	m.Services = nil // evidence keeps measurements for minutes
	v, _ := s.look(m)
	t := &tick{now: now, v: v, target: s.target, culprit: culprit}
	s.arrive(t)
	ds := make([]Decision, len(s.loops))
	for i, l := range s.loops {
		ds[i] = l.step(t)
		if l.knob == KnobConcurrency {
			t.concurrency = Read(float64(ds[i].Value))
		}
		ds[i].Capped = s.spec.Capped
		ds[i].cap(m.Capped)
	}
	return ds
}

// cap makes an automatic decision that would be enforced one of a shadow, for the reason why. What a person has ordered
// is theirs to decide.
func (d *Decision) cap(why string) {
	if why == "" || d.Mode != Enforce || d.State == Frozen || d.State == Override {
		return
	}
	d.Mode, d.Capped, d.Publish, d.Renew = Shadow, why, false, false
	d.Reason += "; " + why
}

// look is the view of m, and what contradicts itself in it: that is left out or refused, and the rest passes the data
// gate.
func (s *LoopSet) look(m Measurement) (*view, findings) {
	m, found := plausible(m, s.spec.SLO, s.largestLimit())
	v := s.widen(m, found)
	v.total, v.arrivals = present(m.Instances), arrivalRates(m)
	v.outliers = append(v.outliers, found.left...)
	switch {
	case v.hold != "":
	case found.hold != "":
		v.reject(Implausible, found.hold)
	case found.doubt != "" && v.hang == "":
		v.doubt(Implausible, found.doubt)
	}
	return v, found
}

// present counts the instances but for those that have gone.
func present(all []Instance) int {
	n := 0
	for _, in := range all {
		if !in.Gone {
			n++
		}
	}
	return n
}

// arrivalRates are the requests per second at each instance that is present; nil if one is not known.
func arrivalRates(m Measurement) (all []float64) {
	for _, in := range m.Instances {
		if in.Gone {
			continue
		}
		rate, ok := in.Offered.Over(Read(m.Window.Seconds()), "").Value()
		if !ok {
			return nil
		}
		all = append(all, rate)
	}
	return all
}

// arrive checks that time advanced and learns from the tick. After a long gap the loops restart.
func (s *LoopSet) arrive(t *tick) {
	gap := t.now.Sub(s.last)
	first := s.last.IsZero()
	if !first && gap <= 0 {
		t.v.reject(Clock, "the clock did not advance since the last decision")
	} else {
		if !first && gap > max(5*s.spec.Timing.Period, s.spec.Timing.Settle()) {
			for _, l := range s.loops {
				l.restart(t.now, l.inForce)
			}
			s.evidence.restart(t.now)
		}
		s.last = t.now
		t.long = s.long.split(t.now, t.v, s.spec.SLO, s.target.own.Seconds())
		s.learn(t)
		t.notObeyed = s.disobeyed(t)
		t.infeasible = s.target.infeasible(t.v, s.spec.SLO)
	}
	switch age, found := t.v.age.Value(); {
	case t.v.hold == "":
		s.sampled = t.now.Add(-time.Duration(age * float64(time.Second)))
	case !found && !s.sampled.IsZero(): // how long there has been nothing
		t.v.age = Read(t.now.Sub(s.sampled).Seconds())
	}
}

// learn updates the estimates from a snapshot that is plausible and complete.
func (s *LoopSet) learn(t *tick) {
	if t.v.hold == "" && t.v.unsure == "" && t.v.hang == "" {
		s.target.observe(t.now, t.v)
	}
}

// disobeyed says whether the instances have had far more requests in flight than the published limit allows, for a
// settling time after it last changed. Then nobody obeys it, and raising it would mean nothing.
func (s *LoopSet) disobeyed(t *tick) bool {
	l := s.loop(KnobConcurrency)
	if l == nil || !l.inForce.published() || s.spec.Mode != Enforce || t.v.hold != "" {
		s.disobeys = time.Time{}
		return false
	}
	inFlight := t.v.throughput.Times(t.v.whole()).Plus(Read(t.long))
	if sampled, ok := t.v.sampled.Value(); ok && t.v.reflex { // without the endless requests, which hold no slot
		inFlight = Read(min(inFlight.value, sampled))
	}
	if !inFlight.Above(disobeyedBy*max(l.inForce.Value, l.inForce.Ceiling) + fewInFlight) {
		s.disobeys = time.Time{}
		return false
	}
	if s.disobeys.IsZero() {
		s.disobeys = t.now
	}
	settle := s.spec.Timing.Settle()
	return t.now.Sub(s.disobeys) >= settle && t.now.Sub(l.changed) >= settle
}

// disobeyedBy is the multiple of a limit that a service cannot have in flight while it obeys. Windows remember the limit
// before, and requests that were admitted under it may finish.
const disobeyedBy = 2

// largestLimit is the highest limit that governor would ever give an instance.
func (s *LoopSet) largestLimit() float64 {
	if s.spec.Concurrency == nil {
		return 0
	}
	return s.spec.Concurrency.Max
}

// Track tells the loop of knob which value is in force after the actuator ran, whether or not the loop asked for it.
// Call it after every Step that was acted on. After a failed write, track the previous value.
func (s *LoopSet) Track(now time.Time, knob Knob, f InForce) {
	if l := s.loop(knob); l != nil && f.valid(knob) {
		if f.Value != l.inForce.Value {
			s.evidence.restart(now.Add(s.spec.Timing.PublishDelay))
		}
		l.track(now, f.withoutNaN())
	}
}

// Restore starts the loop of knob from a Setting read from the KV, at start or after a takeover. The start is bumpless:
// the loop holds for one period with the reason Starting.
func (s *LoopSet) Restore(now time.Time, knob Knob, f InForce) {
	if l := s.loop(knob); l != nil && f.valid(knob) {
		s.target.restore(f.LatencyTarget)
		l.restart(now, f.withoutNaN())
	}
}

// Adopt takes over a value that a person has put into force by editing the Setting. The loop holds it for one period,
// with the event EventEdited, and then goes on from there. Beside a reflex, it does not use the limits that the guards
// report before a settling time has passed; a limit that was lowered also contains the reflex for the hold time of a
// floor test.
func (s *LoopSet) Adopt(now time.Time, knob Knob, f InForce) {
	if l := s.loop(knob); l != nil && f.valid(knob) {
		s.evidence.restart(now.Add(s.spec.Timing.PublishDelay))
		s.target.restore(f.LatencyTarget)
		l.adopt(now, f.withoutNaN())
	}
}

// loop returns the loop of knob, nil if it is not steered.
func (s *LoopSet) loop(knob Knob) *Loop {
	for _, l := range s.loops {
		if l.knob == knob {
			return l
		}
	}
	return nil
}

// valid says whether f can be tracked: a Setting with a missing or strange field must not poison a controller. A retry
// budget alone may be 0.
func (f InForce) valid(knob Knob) bool {
	return (f.Value > 0 || f.Value == 0 && knob == KnobRetry) && !math.IsInf(f.Value, 0)
}

// withoutNaN lets a caller pass on the ceiling of a Decision on a knob that has none.
func (f InForce) withoutNaN() InForce {
	if math.IsNaN(f.Ceiling) {
		f.Ceiling = 0
	}
	return f
}
