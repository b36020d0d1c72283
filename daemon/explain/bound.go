package explain

import (
	"fmt"

	"github.com/seed-de83e32b/governor/control"
)

// BoundBy names the gate, rule or constraint that decided the outcome. It checks them in order of precedence, from a
// person's order to the configured bounds.
func (s Subject) BoundBy() string {
	d := s.Loop.Decision
	switch {
	case d.State == control.Frozen || d.State == control.Override:
		return s.boundByOrder()
	case d.State == control.Hold:
		return s.boundByHold()
	case s.Loop.Mode == control.Observe:
		return "the mode: in observe, governor reads the signals and decides nothing"
	case d.Gates.FloorTest == control.FloorTestHalved:
		return "the floor test: the limit is halved on purpose, to see whether throughput falls with it"
	}
	if s.constant() {
		text := "the configuration: no law moves the retry budget"
		if d.HoldReason != "" {
			text += fmt.Sprintf("; the data gate (%s) keeps the lease from being renewed", d.HoldReason)
		}
		return text
	}
	text := s.boundByEvent()
	if text == "" {
		text = s.boundByConstraint()
	}
	if text == "" {
		text = s.boundByGate()
	}
	if d.HoldReason != "" {
		text += fmt.Sprintf("; and the data gate (%s): the law may only tighten", d.HoldReason)
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
		return by + ": the value stays, whatever the measurements"
	case d.Bound != "" && d.Raw.Known():
		return fmt.Sprintf("%s, and the configured %s: %s was ordered", by, d.Bound, s.value(d.Raw))
	}
	return by + ": the value is set, whatever the measurements"
}

func (s Subject) boundByHold() string {
	d := s.Loop.Decision
	switch {
	case d.Terms.Event == control.EventHang:
		return "the rule for a hang: one cut per settling time, and the last one has not taken effect yet"
	case d.Bound == control.BoundTighten && d.HoldReason != "":
		return fmt.Sprintf("the data gate (%s): the law may only tighten, and it asked for more", d.HoldReason)
	case d.HoldReason == control.Starting:
		return "the start: the loop holds until it has measured for one period"
	case d.HoldReason == "":
		return "the data gate: nothing is decided"
	}
	return fmt.Sprintf("the data gate (%s): the data does not allow a decision, and the value stays", d.HoldReason)
}

// boundByEvent names the deciding rule of the rate's law, or of a hang; "" if none decided.
func (s Subject) boundByEvent() string {
	switch s.Loop.Decision.Terms.Event {
	case control.EventHang:
		return "the rule for a hang: requests arrive but hardly any complete, so the limit is cut without a latency"
	case control.EventYields:
		return "the order of the knobs: the concurrency limit can still be cut and acts first"
	case control.EventDrains:
		return "the backlog: more completes than is admitted, so the service is catching up and the rate waits"
	case control.EventCooldown:
		return "the settling time: no whole window shows the last change yet"
	case control.EventRestore:
		return "the last cuts: they did not help, so governor takes them back"
	}
	return ""
}

// boundByConstraint names the last constraint that changed the law's value; "" if none did.
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
			return "the deadband" + asked + "; where guards have a reflex the limit follows it slowly, and is written " +
				"once the two differ by 20%"
		}
		return "the deadband" + asked + ", too small a move to make"
	case control.BoundSlew:
		return "the slew limit" + asked + ", more than one period may change"
	case control.BoundFloor:
		return fmt.Sprintf("the Little's-law floor %s%s; below it throughput would fall with the limit",
			num(d.Gates.Floor), asked)
	case control.BoundMin:
		return fmt.Sprintf("the configured min %s%s", s.value(control.Number(s.Loop.Min)), asked)
	case control.BoundMax:
		if s.Loop.Callee != "" {
			return fmt.Sprintf("the SLO%s, and calls may take %s of it", asked, percent(control.Number(s.Loop.Max/s.Loop.SLO.LatencySeconds)))
		}
		return fmt.Sprintf("the configured max %s%s", s.setTo(s.Loop.Max), asked)
	case control.BoundTighten:
		return "the data gate: something is unknown, so the law may only tighten"
	}
	return fmt.Sprintf("%s%s", d.Bound, asked) // of a newer governor
}

// boundByGate applies if no constraint did: either a gate kept the law from moving, or nothing did.
func (s Subject) boundByGate() string {
	d := s.Loop.Decision
	switch moved := d.From.Known() && d.Value.Known() && d.Value != d.From; {
	case s.Loop.Knob == control.KnobShed && !d.Measured.Known():
		return "the traffic gate: too few protected requests to judge"
	case moved:
		return "nothing: the law's value went through unchanged"
	case s.Loop.Knob == control.KnobConcurrency && !d.Gates.Binds:
		return fmt.Sprintf("the overload gate: the limit does not bind (in flight ÷ limit %s), so the law may not move it",
			percent(d.Gates.Occupancy))
	case d.State == control.Ineffective:
		return fmt.Sprintf("the service's own mean, %s: the setpoint stays above it while it lasts",
			latency(d.Gates.ServiceTimeSeconds))
	}
	return "nothing: the law asked for no move"
}
