package explain

import (
	"fmt"
	"strings"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// WouldChange says what would change the decision: what the loop waits for or which measurement would make it act, and
// what a person can do about it. The most immediate comes first.
func (s Subject) WouldChange() []string {
	d := s.Loop.Decision
	var out []string
	if age, old := s.Loop.Overdue(s.Now); old {
		out = append(out, fmt.Sprintf("a new decision: the last is %s old, so governor is not ticking", format.Span(age)))
	}
	out = append(out, s.byOrder()...)
	switch ordered := d.State == control.Frozen || d.State == control.Override; {
	case ordered:
	case d.State == control.Hold:
		out = append(out, s.afterHold()...)
	case s.Loop.Mode == control.Observe:
	default:
		out = append(out, s.byMeasurement()...)
	}
	if lacks := Lacks(s.Loop); lacks != "" {
		out = append(out, Refused(s.Loop)+"; "+lacks)
	}
	return append(out, s.byWriting()...)
}

// byOrder covers orders that are in force, were just given, or just ended.
func (s Subject) byOrder() []string {
	d, o := s.Loop.Decision, s.Loop.Order
	ordered := d.State == control.Frozen || d.State == control.Override
	switch {
	case o == nil && ordered:
		return []string{"the next tick: no order is in force any more, so the loop resumes"}
	case o == nil:
		return nil
	case s.killed() && !ordered:
		return []string{"the next tick: the kill switch has been pulled"}
	case s.killed():
		return []string{"governor resume --all --reason=TEXT: the kill switch does not expire"}
	case !o.Active(s.Now):
		return []string{fmt.Sprintf("the next tick: the order ended at %s", format.Clock(o.ExpiresAt, s.Now))}
	case !ordered:
		return []string{"the next tick: the loop has not carried out a new order yet"}
	}
	return []string{
		"governor resume " + s.Name() + " --reason=TEXT",
		fmt.Sprintf("the end of the order at %s, in %s: the loop then continues from the value in force",
			format.Clock(o.ExpiresAt, s.Now), format.Span(o.ExpiresAt.Sub(s.Now))),
	}
}

// afterHold says what ends a hold, by its reason.
func (s Subject) afterHold() []string {
	d := s.Loop.Decision
	in := d.Inputs
	if d.Terms.Event == control.EventHang {
		return []string{"answers from the service; without any, the next cut, once a whole window shows the last one"}
	}
	window := "the window"
	if in.WindowSeconds.Known() && in.WindowSeconds > 0 {
		window = "a window of " + format.Span(secondsOf(in.WindowSeconds))
	}
	switch d.HoldReason {
	case control.Starting:
		return []string{"the next tick: after a start, a takeover or a gap a loop holds for one period"}
	case control.Stale:
		return []string{"a fresh sample: " + s.sample() + "; does Prometheus still scrape the service?"}
	case control.NoData:
		if s.Loop.Callee != "" && len(d.Inputs.Dependencies) == 0 {
			return []string{
				"calls to " + s.Loop.Callee + " through guard, by that name: no metric of the service knows it",
				"governor check-config --online FILE lists the names that the metrics know",
			}
		}
		return []string{
			"data: " + s.sample() + "; is the service up, and are its metrics and labels as configured?",
			"governor check-config --online FILE shows what Prometheus has for each signal",
		}
	case control.Idle:
		return []string{"traffic: no request arrived within " + window + "; an idle service needs no decision"}
	case control.TooLittleTraffic:
		if s.Loop.Callee != "" {
			return []string{"more calls to " + s.Loop.Callee + " while nothing queues there: from those the instances learn its own latency"}
		}
		return []string{
			fmt.Sprintf("more traffic: %s requests within %s are too few to judge", num(in.Requests), window),
			"a lower tuning.min_requests or a longer timing.window in the configuration",
		}
	case control.ManySeries:
		return []string{"one series per instance instead of several: narrow the labels or the query"}
	case control.Partial:
		return []string{"an answer without warnings: Prometheus itself says that this one is incomplete"}
	case control.NaN, control.NotFinite:
		return []string{"a finite reading: the query divides by zero or adds up missing values (" + d.Detail + ")"}
	case control.Implausible:
		return []string{"a plausible reading: after a counter reset or a double scrape, once " + window + " has passed; " +
			"else the query counts the wrong thing"}
	case control.Timeout:
		return []string{
			"an answer in time: " + s.answered(), "a lighter query (recording rules), or a longer timing.period",
		}
	case control.QueryError:
		return []string{"an answer without an error: " + s.answered()}
	case control.Clock:
		return []string{"clocks that agree: is NTP running on this host, on Prometheus's and on the service's?"}
	case "":
		return []string{"a measurement that governor may act on"}
	}
	return []string{fmt.Sprintf("the end of %q", string(d.HoldReason))} // of a newer governor
}

// sample gives the age of the newest usable data.
func (s Subject) sample() string {
	if !s.Loop.Decision.Inputs.AgeSeconds.Known() {
		return "there has been none yet"
	}
	return "the last one is " + format.Span(s.sampleAge()) + " old"
}

// answered says when Prometheus last answered.
func (s Subject) answered() string {
	p := s.Status.Prometheus
	switch {
	case p.LastOK != nil && !p.OK && p.Error != "" && !strings.Contains(s.Reason(), p.Error):
		return fmt.Sprintf("Prometheus last answered %s ago (%s)", format.Span(s.Now.Sub(*p.LastOK)), p.Error)
	case p.LastOK != nil:
		return fmt.Sprintf("Prometheus last answered %s ago", format.Span(s.Now.Sub(*p.LastOK)))
	case p.Address != "":
		return "Prometheus at " + p.Address + " has never answered this governor"
	}
	return s.sample()
}

// byMeasurement says which measurements would move the value, and what to do if a bound or the service itself prevents
// it.
func (s Subject) byMeasurement() (out []string) {
	d := s.Loop.Decision
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s.constant() {
		return []string{
			"governor override " + s.Name() + " VALUE --reason=TEXT: 0 stops all retries with the next publish",
			"another retry.budget in the configuration",
		}
	}
	switch d.State {
	case control.AtMin:
		say("%s", s.pastMin())
		say("less load or more capacity: the configured min keeps governor from cutting further")
	case control.AtMax:
		say("%s", s.pastMax())
	case control.Ineffective:
		which := "is one of its dependencies slow?"
		if c := d.Inputs.Culprit; c != "" && c != d.Service {
			which = d.Blame()
		}
		say("the service itself: its own mean is %s, and no limit makes it faster; %s", latency(d.Gates.ServiceTimeSeconds), which)
		say("a mean below 80%% of that, or some time without a mean: then governor tries again")
	case control.Infeasible:
		say("%s", s.infeasible("an SLO that leaves room"))
	case control.NotObeyed:
		say("a reader of the Setting in the service or before it: a guard, the sidecar, or a proxy that takes its limit from the KV")
	}
	if d.HoldReason != "" {
		say("a complete measurement (%s now): until then the %s may only tighten", d.HoldReason, s.noun())
	}
	if d.Gates.Infeasible && d.State != control.Infeasible {
		say("%s", s.infeasible("the SLO may be out of reach"))
	}
	switch by := d.Inputs.RefusedBy; {
	case s.Loop.Knob != control.KnobConcurrency:
	case by.Share > 0:
		say("less load on this route, more capacity, or a larger share for it in the service's guard: while the roof over all " +
			"routes is full, each keeps to its share of it")
	case by.Roof > 0:
		say("more capacity, or less load on the service: the roof over all its routes is full")
	}
	switch s.Loop.Knob {
	case control.KnobConcurrency:
		out = append(out, s.byLatency()...)
	case control.KnobRate:
		out = append(out, s.byBacklog()...)
	case control.KnobShed:
		out = append(out, s.byRefusals()...)
	}
	if s.Loop.Callee != "" {
		say("another own latency of %s, by more than a tenth: the instances learn it while nothing queues there", s.Loop.Callee)
	}
	if d.Gates.BurnSteps > 0 && s.Loop.Knob != control.KnobShed {
		say("a slower burn of the error budget: it now tightens the setpoint by 10%%, %d times", d.Gates.BurnSteps)
	}
	return out
}

// pastMin says which bound to change if the configured minimum binds.
func (s Subject) pastMin() string {
	least := s.value(control.Number(s.Loop.Min))
	switch s.Loop.Knob {
	case control.KnobShed:
		return "a lower shed.min in the configuration, if the others may be refused even before " + least + " of the limit"
	case control.KnobRate:
		return "a lower rate.min in the configuration, if " + least + " is more than the service can carry"
	}
	return fmt.Sprintf("a lower %s.min in the configuration, if an instance cannot carry %s at a time",
		s.Loop.Knob, least)
}

// pastMax says which bound to change if the configured maximum binds.
func (s Subject) pastMax() string {
	most := s.value(control.Number(s.Loop.Max))
	switch s.Loop.Knob {
	case control.KnobShed:
		return "a higher shed.max in the configuration, if the others may fill more than " + most + " of the limit"
	case control.KnobRate:
		return "a higher rate.max in the configuration: at " + most + " the rate is off, and the SLO is still met"
	}
	return fmt.Sprintf("a higher %s.max in the configuration, if an instance can carry more than %s at a time",
		s.Loop.Knob, most)
}

// byLatency is the concurrency limit's law: it moves only while the limit binds.
func (s Subject) byLatency() []string {
	d := s.Loop.Decision
	setpoint, now := latency(d.Setpoint), latency(d.Measured)
	switch {
	case d.Terms.Event == control.EventHang:
		return []string{"answers from the service: there is no mean latency to act on"}
	case d.Gates.FloorTest == control.FloorTestHalved:
		return []string{"the end of the floor test: if throughput fell with the limit, the limit comes back; else it stays"}
	case !d.Measured.Known() || !d.Setpoint.Known():
		return nil
	case d.State == control.Cutting:
		return []string{fmt.Sprintf("a mean latency down to %s (%s now) with few refusals ends the cuts", setpoint, now)}
	case d.State == control.Raising:
		return []string{fmt.Sprintf("a mean latency above %s (%s now), or a limit that no longer binds, ends the raises",
			setpoint, now)}
	case d.State == control.AtMin:
		return []string{fmt.Sprintf("a mean latency below %s (%s now) with the limit binding would raise", setpoint, now)}
	case d.State == control.AtMax:
		return []string{fmt.Sprintf("a mean latency above %s (%s now) with the limit binding would cut", setpoint, now)}
	case d.State == control.Ineffective:
		return nil
	case !d.Gates.Binds:
		return []string{fmt.Sprintf("load that fills the limit (in flight ÷ limit %s now): a mean latency above %s "+
			"(%s now) would then cut, one below would raise", percent(d.Gates.Occupancy), setpoint, now)}
	}
	if d.Measured > d.Setpoint {
		return []string{fmt.Sprintf("a mean latency that stays above %s (%s now) would cut, unless the load is falling",
			setpoint, now)}
	}
	return []string{fmt.Sprintf("a mean latency above %s (%s now) would cut, one well below would raise", setpoint, now)}
}

// byBacklog covers the rate's law, which follows the completions of the service.
func (s Subject) byBacklog() []string {
	d := s.Loop.Decision
	setpoint, now := latency(d.Setpoint), latency(d.Measured)
	off := d.Value.Known() && float64(d.Value) >= s.Loop.Max
	switch {
	case d.Terms.Event == control.EventYields:
		return []string{"a concurrency limit near its own min: it acts first, the rate only after it"}
	case d.Terms.Event == control.EventDrains:
		return []string{"the end of the backlog: while it drains, nothing is cut"}
	case !d.Measured.Known() || !d.Setpoint.Known() || d.State == control.Ineffective:
		return nil
	case d.State == control.Cutting || d.State == control.AtMin:
		return []string{fmt.Sprintf("a mean latency below %s (%s now): then the rate grows again", setpoint, now)}
	case off:
		return []string{fmt.Sprintf("a mean latency above %s (%s now) while less completes than arrives would set a rate",
			setpoint, now)}
	}
	return []string{fmt.Sprintf("a mean latency above %s (%s now) would cut; else the rate grows until it is off",
		setpoint, now)}
}

// byRefusals covers the shed threshold's law, which makes room for the protected classes.
func (s Subject) byRefusals() []string {
	d := s.Loop.Decision
	protected := "protected requests"
	if s.Loop.Protect != "" {
		protected = "requests of class " + s.Loop.Protect + " and above"
	}
	switch {
	case !d.Measured.Known():
		return []string{"more " + protected + ": there are too few to judge"}
	case d.State == control.AtMin:
		return []string{fmt.Sprintf("fewer refusals of %s: below %s (%s now) governor sheds less", protected,
			percent(d.Setpoint), percent(d.Measured))}
	case d.State == control.AtMax:
		return []string{fmt.Sprintf("refusals of %s: more than %s (%s now) would shed the others earlier", protected,
			percent(d.Setpoint), percent(d.Measured))}
	}
	return []string{fmt.Sprintf("more than %s of the %s refused (%s now) would shed the others earlier, fewer later",
		percent(d.Setpoint), protected, percent(d.Measured))}
}

// byWriting covers whether the decision reaches the service at all.
func (s Subject) byWriting() (out []string) {
	l := s.Loop
	switch capped := l.Decision.Capped; {
	case capped != "":
		out = append(out, "no reason any more to cap the mode at shadow (enforce is configured): "+capped)
	case l.Mode == control.Enforce:
	case l.Mode == control.Observe:
		out = append(out, "mode: shadow in the configuration, to see what governor would do, or enforce, to let it act")
	default:
		out = append(out, "mode: enforce in the configuration: only then are services told")
	}
	if l.Published != nil && l.Published.Error != "" {
		out = append(out, "a successful write: the service still has the previous value")
	}
	if s.Status.Role == api.Standby {
		leader := "another governor leads"
		if by := s.Status.Leader; by.Instance != "" {
			leader = fmt.Sprintf("%s at %s leads", by.Instance, by.API)
		}
		if s.Status.Leader.Instance == "" {
			leader = "no governor leads"
		}
		out = append(out, "this governor is a standby and writes nothing: "+leader)
	}
	return out
}

// infeasible says which quantity leaves no room below the SLO.
func (s Subject) infeasible(what string) string {
	d, within := s.Loop.Decision, latency(control.Number(s.Loop.SLO.LatencySeconds))
	if d.Gates.InfeasibleBy == control.ByCalls {
		return fmt.Sprintf("%s: requests wait %s for other services, the SLO allows %s in all", what,
			latency(d.Inputs.WaitedSeconds), within)
	}
	if d.Gates.InfeasibleBy == control.BySpread {
		return fmt.Sprintf("%s: with nothing queued the %s lies %s above the mean, the SLO allows %s in all", what,
			format.Quantile(s.Loop.SLO.Objective), latency(d.Inputs.Quantile-d.Measured), within)
	}
	return fmt.Sprintf("%s: requests take %s without any queue, the SLO allows %s", what,
		latency(d.Gates.OwnLatencySeconds), within)
}
