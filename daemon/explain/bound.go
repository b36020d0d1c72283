package explain

import (
	"fmt"

	"github.com/seed-de83e32b/governor/control"
)

// BoundBy names the gate, rule or constraint that made the decision what it is, from the first that has a say, a
// person's order, to the last, the configured bounds.
func (s Subject) BoundBy() string {
	d := s.Loop.Decision
	switch {
	case d.State == control.Frozen || d.State == control.Override:
		return s.boundByOrder()
	case d.State == control.Hold:
		return s.boundByHold()
	case s.Loop.Mode == control.Observe:
		return "the mode: observe reads the signals and decides nothing"
	case d.Gates.FloorTest == control.FloorTestHalved:
		return "the floor test: the limit is halved on purpose, to see whether throughput follows"
	}
	text := s.boundByEvent()
	if text == "" {
		text = s.boundByConstraint()
	}
	if text == "" {
		text = s.boundByGate()
	}
	if d.HoldReason != "" {
		text += fmt.Sprintf("; and the data gate (%s): it may tighten only", d.HoldReason)
	}
	return text
}

func (s Subject) boundByOrder() string {
	d := s.Loop.Decision
	by := "a person's order"
	switch o := s.Loop.Order; {
	case s.killed():
		by = "the kill switch, by " + o.Actor
	case o != nil:
		by = "the order of " + o.Actor
	}
	switch {
	case d.State == control.Frozen:
		return by + ": the value stays, whatever is measured"
	case d.Bound != "" && d.Raw.Known():
		return fmt.Sprintf("%s, and the configured %s: %s was ordered", by, d.Bound, s.value(d.Raw))
	}
	return by + ": the value is set, whatever is measured"
}

func (s Subject) boundByHold() string {
	d := s.Loop.Decision
	switch {
	case d.Terms.Event == control.EventHang:
		return "the rule for a hang: one cut a settling time, and none since the last took effect"
	case d.Bound == control.BoundTighten && d.HoldReason != "":
		return fmt.Sprintf("the data gate (%s): it may tighten only, and the law asked for more", d.HoldReason)
	case d.HoldReason == control.Starting:
		return "the start: a loop holds until it has measured for one period"
	case d.HoldReason == "":
		return "the data gate: nothing is decided"
	}
	return fmt.Sprintf("the data gate (%s): nothing is decided on such data, and the value stays", d.HoldReason)
}

// boundByEvent names the rule of the rate's law, or of a hang, that decided; "" where none did.
func (s Subject) boundByEvent() string {
	switch s.Loop.Decision.Terms.Event {
	case control.EventHang:
		return "the rule for a hang: requests come and hardly any is answered, so the limit is cut without a latency"
	case control.EventYields:
		return "the order of the knobs: the concurrency limit can still be cut and acts first"
	case control.EventDrains:
		return "the backlog: more is answered than let in, so the service catches up and the rate waits"
	case control.EventCooldown:
		return "the settling time: the last change does not show in a whole window yet"
	case control.EventRestore:
		return "the last cuts: they did not help, so they are taken back"
	}
	return ""
}

// boundByConstraint names the last constraint that the law's value met; "" where it passed them all.
func (s Subject) boundByConstraint() string {
	d, asked := s.Loop.Decision, ""
	if d.Raw.Known() {
		asked = fmt.Sprintf(": the law asked for %s", s.value(d.Raw))
	}
	switch d.Bound {
	case "":
		return ""
	case control.BoundDeadband:
		if d.Gates.FloorTest == control.FloorTestGuard {
			return "the deadband" + asked + "; beside a reflex of the guards the limit follows that slowly, and is written " +
				"once it is 20% off"
		}
		return "the deadband" + asked + ", too small a move to be worth making"
	case control.BoundSlew:
		return "the slew limit" + asked + ", further than one period may go"
	case control.BoundFloor:
		return fmt.Sprintf("the Little's-law floor %s%s; below it throughput would fall with the limit",
			num(d.Gates.Floor), asked)
	case control.BoundMin:
		return fmt.Sprintf("the configured min %s%s", s.value(control.Number(s.Loop.Min)), asked)
	case control.BoundMax:
		return fmt.Sprintf("the configured max %s%s", s.setTo(s.Loop.Max), asked)
	case control.BoundTighten:
		return "the data gate: something is unknown, and it may tighten only"
	}
	return fmt.Sprintf("%s%s", d.Bound, asked) // of a newer governor
}

// boundByGate is left where no constraint bound: either a gate kept the law from moving, or nothing did.
func (s Subject) boundByGate() string {
	d := s.Loop.Decision
	switch moved := d.From.Known() && d.Value.Known() && d.Value != d.From; {
	case s.Loop.Knob == control.KnobShed && !d.Measured.Known():
		return "the traffic gate: too few protected requests to judge"
	case moved:
		return "nothing: the law's value went through as it was asked for"
	case s.Loop.Knob == control.KnobConcurrency && !d.Gates.Binds:
		return fmt.Sprintf("the overload gate: the limit does not bind (in flight ÷ limit %s), so the law may not move it",
			percent(d.Gates.Occupancy))
	case d.State == control.Ineffective:
		return fmt.Sprintf("the service's own mean, %s: the setpoint stays above it while it stands",
			latency(d.Gates.ServiceTimeSeconds))
	}
	return "nothing: the law asks for no move"
}
