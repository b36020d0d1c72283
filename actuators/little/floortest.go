package little

import (
	"math"
	"time"
)

// FloorTest answers a question that latency alone cannot: the limit is at its floor, and the service is still slower
// than its setpoint and refuses work; would refusing more help? It halves the limit for one settling time and watches
// the throughput.
//
//	idle ──at the floor, slow, refusing for Dwell──► halved ──one settle──► Δln X/Δln L > ½ ?
//	                                                                       yes: ineffective   no: smaller
//
// If throughput fell with the limit, there was no queue to cut: a dependency or the service itself is slow. The test
// restores the limit, and ŝ, the mean latency observed, becomes the service's current service time: while it stands,
// the setpoint stays above it (see Setpoint). If throughput stayed, capacity really has shrunk, and the halved limit is the
// new floor. (Comparing latency before and after looks natural but makes a real overload worse.)
type FloorTest struct {
	Dwell      time.Duration // how long at the floor before a test starts
	Window     time.Duration // span of the throughput and mean passed to Step
	MinWait    time.Duration // shortest time from a change of the limit to the start of a clean window
	WaitFactor float64       // and at least this many times the mean latency
	Hold       time.Duration // how long a finding stands

	phase    Phase
	since    time.Time // start of the phase; in Idle: when the test's condition became true (zero: it is false)
	limit    float64   // before the cut
	trial    float64   // during it: half the limit, or the configured minimum
	x        float64   // throughput before halving
	wait     time.Duration
	smaller  float64 // floor that a test found; 0: none
	smallerT time.Time
	s        float64 // ŝ in seconds; 0: none
	sT       time.Time
	assumed  bool // ŝ: the limit had no room for a test
}

// Phase is the phase of a FloorTest.
type Phase string

// The phases.
const (
	Idle   Phase = "idle"
	Dwell  Phase = "dwell"  // the condition holds, the test is about to start
	Halved Phase = "halved" // the limit is halved to watch the throughput
)

// Sample is the input of a FloorTest: the service at one instant, over the last Window.
type Sample struct {
	Throughput float64 // completions per second
	Mean       float64 // mean latency, seconds
	Refusing   bool
	Limit      float64 // in force
	Floor      float64 // X̂max·m₀
	Min        float64 // the configured minimum of the limit
	Target     float64 // the latency target τ*, seconds
}

// Finding is the output of a FloorTest.
type Finding struct {
	Phase       Phase
	Limit       float64 // the limit the test imposes now; 0: none
	Floor       float64 // the floor in force: Sample.Floor, or what a test found
	ServiceTime float64 // ŝ in seconds; 0: none stands
	Ended       bool    // a test ended in this step
	Restore     float64 // the limit to return to (Ended, ineffective); 0: the halved limit stays
}

// ServiceTimeMargin is how far above ŝ a setpoint must stay: closer to ŝ the limit would cut useful work.
const ServiceTimeMargin = 1.25

const (
	marginShare = 0.8  // of the SLO: above it the margin of the setpoint over ŝ shrinks,
	marginLeast = 1.05 // to this
)

// Setpoint returns the mean latency to aim at with the latency target τ* while the service time ŝ stands (0: none does)
// and the latency objective is slo, all in seconds:
//
//	max(τ*, min(1.25·ŝ, max(0.8·slo, 1.05·ŝ)))
//
// A margin of a quarter over ŝ keeps the limit from cutting useful work. Close to the SLO the margin shrinks, because a
// mean of 0.8·slo is already late for a large share of the requests, and a higher one only makes them wait.
func Setpoint(target, serviceTime, slo float64) float64 {
	return max(target, min(ServiceTimeMargin*serviceTime, max(marginShare*slo, marginLeast*serviceTime)))
}

// WithCalls returns the mean latency to aim at where requests wait for dependencies in calls that are guarded
// themselves, all in seconds:
//
//	wait + min(τ*, max(τ*·(1 − w₀/slo), 1.25·m₀))
//
// wait is the mean time in such calls now, w₀ what it is in calm, and m₀ the mean of the rest in calm. The service must
// not be cut because a dependency is slow, so the target τ* is for the rest alone. But calls use up the patience of the
// users even in calm, so the rest gets of τ* what they leave of the SLO, though never less than its own work needs.
//
// The result is compared with the whole mean, because that is what moves in proportion to the limit (by Little's law: a
// request holds its slot while it waits). The rest alone would move several times as much.
func WithCalls(target, wait, calmWait, own, slo float64) float64 {
	return wait + min(target, max(target*(1-calmWait/slo), ServiceTimeMargin*own))
}

const (
	sFades     = 0.8  // a mean below this share of ŝ ends it
	atFloor    = 1.05 // a limit within 5% of the floor counts as at the floor
	elasticity = 0.5  // Δln X/Δln L above which throughput followed the limit
	roomToTest = 1.3  // × the minimum: a lower limit cannot be cut enough to learn from, so ŝ is set at once
)

// Step advances the test to now. Call it once per period with a valid sample; skip the call if the measurement is
// missing.
func (t *FloorTest) Step(now time.Time, s Sample) Finding {
	if t.s > 0 && (now.Sub(t.sT) >= t.Hold || s.Mean < sFades*t.s) {
		t.s = 0
	}
	if t.smaller > 0 && now.Sub(t.smallerT) >= t.Hold {
		t.smaller = 0
	}
	f := Finding{Phase: Idle, Floor: t.floor(s)}
	if t.phase == Halved {
		f = t.judge(now, s, f)
	} else {
		f = t.watch(now, s, f)
	}
	f.ServiceTime = t.s
	return f
}

// floor is the lowest limit the law may choose.
func (t *FloorTest) floor(s Sample) float64 {
	if t.smaller > 0 {
		return max(s.Min, min(t.smaller, s.Floor))
	}
	return max(s.Min, s.Floor)
}

// watch waits until the condition has held for Dwell and then halves the limit.
func (t *FloorTest) watch(now time.Time, s Sample, f Finding) Finding {
	t.phase = Idle
	stuck := t.s == 0 && s.Refusing && s.Mean > s.Target && s.Limit <= atFloor*f.Floor
	if !stuck {
		t.since = time.Time{}
		return f
	}
	if t.since.IsZero() {
		t.since = now
	}
	f.Phase = Dwell
	if now.Sub(t.since) < t.Dwell {
		return f
	}
	t.since = time.Time{}
	if s.Limit < roomToTest*s.Min {
		t.s, t.sT, t.assumed = s.Mean, now, true
		return f
	}
	t.phase, t.since = Halved, now
	t.limit, t.trial, t.x = s.Limit, max(s.Min, s.Limit/2), s.Throughput
	t.wait = max(t.MinWait, time.Duration(t.WaitFactor*s.Mean*float64(time.Second))) + t.Window
	f.Phase, f.Limit, f.Floor = Halved, t.trial, t.trial
	return f
}

// judge waits for a window that covers only the halved limit, and then compares the throughput.
func (t *FloorTest) judge(now time.Time, s Sample, f Finding) Finding {
	f.Phase, f.Limit, f.Floor = Halved, t.trial, t.trial
	if now.Sub(t.since) < t.wait {
		return f
	}
	t.phase, t.since = Idle, time.Time{}
	f.Phase, f.Limit, f.Ended = Idle, 0, true
	if math.Log(t.x/max(s.Throughput, 1e-9))/math.Log(t.limit/t.trial) > elasticity {
		t.Found(now, s.Mean)
		f.Floor, f.Restore = t.floor(s), t.limit
		return f
	}
	t.smaller, t.smallerT = t.trial, now
	f.Floor = t.floor(s)
	return f
}

// Found gives the test a service time ŝ, in seconds, that another test found. The finding stands as if this test had
// made it. A service time of 0 withdraws a finding that proved wrong.
func (t *FloorTest) Found(now time.Time, serviceTime float64) {
	t.s, t.sT, t.assumed = serviceTime, now, false
}

// Needless says whether a service that refuses at a mean latency, in seconds, does so for nothing: it is as fast as the service
// time ŝ that a test has found, so nothing queues. The setpoint does not tell: close to the SLO it is hardly above ŝ.
func (t *FloorTest) Needless(mean float64) bool { return !t.assumed && mean <= marginLeast*t.s }

// Since returns when the service time ŝ that stands was found; the zero time if none stands.
func (t *FloorTest) Since() time.Time {
	if t.s == 0 {
		return time.Time{}
	}
	return t.sT
}

// Abort ends a running test without a finding and returns the limit to restore (0: no test was running). Use it when
// the loop is frozen or restarted, or when the measurement is missing for longer than a settling time during a test.
func (t *FloorTest) Abort() (restore float64) {
	if t.phase == Halved {
		restore = t.limit
	}
	t.phase, t.since = Idle, time.Time{}
	return restore
}
