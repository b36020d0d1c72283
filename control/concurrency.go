package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// concurrency is the control law for the limit on requests in flight: PID in log form with a Little's-law predictor, or
// AIMD.
//
// It steers by the latency that the present limit will produce, not by the delayed measurement. With L requests in
// flight and X̂ completions per second the mean latency becomes L/X̂, so e = ln(X̂·τ/L) is the error of the limit
// itself and the dead time drops out of the loop. Time in guarded calls counts on neither side of a comparison of
// latencies, but does in flight: with w of it per request, e = ln(X̂·(τ + w)/L). Integral action with gain 1 on e cuts an oversized limit to X̂·τ
// in one step, however old the measurement is.
type concurrency struct {
	spec      ConcurrencySpec
	pid       PID
	aimd      AIMD
	floorTest little.FloorTest
	test      little.FloorTest // template for a restart
	tested    time.Time        // when the floor test was last asked
	trial     float64          // the limit that it imposed then, 0: none
	aborted   float64          // the limit before a floor test that a restart ended, 0: none
	raise     raiseTest
	bad       badTest

	easing       bool
	resumed      bool    // the step before this one was a hold, an order or none
	arrivals     float64 // per second in the previous window, 0: unknown
	smooth       float64 // ln of the limit published beside a reflex, NaN before the first
	settle, hold time.Duration
	runaway      time.Time // since when the reflex has been at its ceiling without success; zero: it is not
	contained    time.Time // when the ceiling was lowered; zero: it is not
	hangCut      time.Time // when a hang last cut the limit
}

func newConcurrency(s *Spec) *concurrency {
	t, period := s.Tuning, s.Timing.Period.Seconds()
	test := little.FloorTest{
		// increase() sees only samples inside its window, so a window is clean W + d after a change. Adding the scrape
		// interval would cost one more period each time, twice per test.
		Dwell: s.Timing.Window + s.Timing.PublishDelay, Window: s.Timing.Window, MinWait: s.Timing.PublishDelay,
		Hold: t.FloorTestHold,
	}
	return &concurrency{
		spec:      *s.Concurrency,
		pid:       PID{Kp: *t.ProportionalGain, Ki: t.Gain / period, Kd: *t.DerivativeGain * period},
		aimd:      AIMD{Add: 1, AddShare: t.AIMDIncrease, Cooldown: s.Timing.Settle()},
		floorTest: test, test: test, raise: raiseTest{wait: test.Dwell},
		smooth: math.NaN(), settle: s.Timing.Settle(), hold: t.FloorTestHold,
	}
}

func (c *concurrency) track(now time.Time, before, after float64) { c.aimd.Track(now, before, after) }

func (c *concurrency) lose() {
	c.pid.Lose()
	c.arrivals, c.easing = 0, false
}

func (c *concurrency) restart() {
	c.aborted = max(c.aborted, c.floorTest.Abort())
	if c.raise.running() {
		c.aborted, c.trial = c.raise.limit, c.raise.raised
	}
	c.floorTest = c.test
	c.raise.since, c.raise.queued = time.Time{}, time.Time{}
	c.bad.bad = 0
	c.smooth = math.NaN()
	c.lose()
	c.runaway, c.contained = time.Time{}, time.Time{}
}

// contain keeps the guards' reflex at the limit, which a person has lowered at now.
func (c *concurrency) contain(now time.Time) { c.contained = now }

func (c *concurrency) overrule() {
	c.floorTest.Abort()
	c.aborted, c.trial = 0, 0
	c.raise.since = time.Time{}
}

func (c *concurrency) rest(s step) outcome {
	o := s.rest(c.spec.Law)
	o.setpoint, o.measured = s.target.setpoint(s.v.serviceTime), s.v.mean
	o.gates.occupancy = s.v.occupancy(c.present(s))
	return o
}

// present is the limit that the plant obeys, as far as governor can tell. With a reflex it is the effective limit that
// the guards report, except right after an edit by hand, which the reports may not know yet. Without one it is the
// published limit, unless the instances still report a different one long after it was written (they cannot read the KV,
// or nothing was ever published): then it is theirs.
func (c *concurrency) present(s step) float64 {
	published := s.inForce.Value
	reported := s.v.limit.Or(0)
	switch {
	case reported <= 0, s.v.reflex && s.editedWithin(c.settle):
		return published
	case s.v.reflex, !s.inForce.published(), s.spec.Mode != Enforce,
		s.now.Sub(s.changed) > c.settle && math.Abs(reported-published) >= 1:
		return reported
	}
	return published
}

// decide runs the gates, the law and the constraints on a valid view.
func (c *concurrency) decide(s step) outcome {
	o := c.rest(s)
	o.from = c.present(s)
	if s.v.hang != "" {
		return c.decideHang(s, o)
	}
	c.observeArrivals(s.v.offered.value / s.v.window.Seconds())
	test := c.testFloor(s, o.from)
	o.setpoint = s.target.setpoint(test.ServiceTime)
	o.gates.binds = s.v.binds(o.from)
	o.gates.floor, o.gates.floorTest, o.gates.serviceTime = test.Floor, string(test.Phase), test.ServiceTime
	if !s.v.reflex {
		o.gates.serviceAt = c.floorTest.Since()
	}

	raw := c.ask(s, &o, test)
	o.raw = Read(raw)
	o.value, o.bound = c.constraint(s, test).Apply(o.from, raw)
	if s.v.reflex {
		c.follow(s, &o)
	}
	o.ceiling = c.ceiling(s, o)
	if o.publish = c.news(s, o); !o.publish && s.v.reflex {
		if o.value != o.from {
			o.bound = BoundDeadband // the difference is too small to write
		}
		o.value, o.ceiling = o.from, s.inForce.Ceiling
	}
	if o.value > o.from && s.noRaise() == BoundSLO && test.ServiceTime == 0 && test.Restore == 0 {
		o.gates.floorTest = RaiseTestRaised
	}
	o.state = c.state(s, o)
	return o
}

// ask returns the limit that the floor test imposes, or otherwise the one that the law asks for. It adds the law's
// terms to o.
func (c *concurrency) ask(s step, o *outcome, test little.Finding) float64 {
	switch {
	case test.Phase == little.Halved || test.Phase == RaiseTestRaised:
		return test.Limit
	case test.Ended && test.Restore > 0:
		o.event = EventFloorTestEnded
		return test.Restore
	case c.spec.Law == AIMDLaw:
		return c.askAIMD(s, o)
	}
	return c.askPID(s, o)
}

// follow replaces the law's next value with a smoothed one. The law starts from the reflex's limit, which wanders by 10
// to 25%; writing that noise would change the KV several times a minute. The smoothed value starts from what is
// published and has a time constant of two dead times. The reflex handles everything faster.
func (c *concurrency) follow(s step, o *outcome) {
	next := math.Log(o.value)
	o.bound = ""
	if s.inForce.published() {
		o.from = s.inForce.Value
		if math.IsNaN(c.smooth) {
			c.smooth = math.Log(o.from)
		}
	} else {
		o.event = EventFirstSetting
		if math.IsNaN(c.smooth) {
			c.smooth = next
		}
	}
	weight := min(1, 0.5*s.spec.Timing.Period.Seconds()/s.spec.Timing.DeadTime().Seconds())
	c.smooth += weight * (next - c.smooth)
	o.value = math.Round(math.Exp(c.smooth))
	if s.inForce.published() {
		tuning := s.spec.Tuning
		// A small limit moves by one request at least: a share of it is less than that.
		least := min(math.Ceil(o.from*math.Exp(-tuning.CutMax)), o.from-1)
		most := max(math.Floor(o.from*math.Exp(max(tuning.RaiseMax, needlessRaise))), o.from+1)
		if slewed := min(max(o.value, least), most); slewed != o.value {
			c.smooth, o.value, o.bound = math.Log(slewed), slewed, BoundSlew
		}
	}
	if bar := s.noRaise(); o.value > o.from && s.inForce.published() && bar != "" && !(bar == BoundSLO && o.gates.serviceTime > 0) {
		c.smooth, o.value, o.bound = math.Log(o.from), o.from, bar
	}
}

// decideHang handles requests arriving at a full limit while hardly any finish, which is not a lack of traffic. It cuts
// once per settling time. Without a latency to steer by, each cut is the largest allowed.
func (c *concurrency) decideHang(s step, o outcome) outcome {
	raw := o.from
	if s.now.Sub(c.hangCut) >= c.settle {
		raw *= math.Exp(-s.spec.Tuning.CutMax)
	}
	constraint := c.constraint(s, little.Finding{Floor: c.spec.Min})
	constraint.Deadband = 0
	o.raw = Read(raw)
	o.value, o.bound = constraint.Apply(o.from, raw)
	o.ceiling = min(max(s.inForce.Ceiling, o.value), c.spec.Max)
	o.gates.binds, o.event = true, EventHang
	if o.publish = o.value < o.from; !o.publish {
		return o.held(NoData, s.v.hang)
	}
	c.hangCut = s.now
	o.state, o.detail = Cutting, s.v.hang
	return o
}

// testFloor runs the floor test, or takes the guards' result if they run their own.
func (c *concurrency) testFloor(s step, from float64) little.Finding {
	v, floor := s.v, s.target.floor(s.now, s.v)
	if v.reflex {
		return little.Finding{Phase: FloorTestGuard, Floor: max(c.spec.Min, floor), ServiceTime: v.serviceTime}
	}
	if v.unsure != "" && c.trial > 0 && math.Abs(from-c.trial) < 1 { // what is in doubt answers nothing
		return little.Finding{Phase: little.Halved, Limit: c.trial, Floor: c.trial}
	}
	if restore := c.interrupted(s, from); restore > 0 {
		return little.Finding{Phase: little.Idle, Floor: max(c.spec.Min, floor), Ended: true, Restore: restore}
	}
	found := c.floorTest.Step(s.now, little.Sample{
		Throughput: v.throughput.value, Mean: v.mean.value, Refusing: v.refuses(from),
		Limit: max(from-s.long, 1), Floor: floor, Min: max(c.spec.Min-s.long, 1), Target: s.target.seconds(),
	})
	found.Floor += s.long
	if found.Limit > 0 {
		found.Limit += s.long
	}
	if c.trial = found.Limit; found.Restore > 0 {
		found.Restore += s.long
	}
	return c.raise.step(s, from, found, &c.floorTest, c.spec.Max)
}

// interrupted ends a floor test during which nothing could be measured for a settling time, or an order was in force: what
// is measured now is no answer to what it asked. It returns the limit to go back to, 0 if there is none. A limit that
// somebody has set meanwhile stays.
func (c *concurrency) interrupted(s step, from float64) (restore float64) {
	restore, c.aborted = c.aborted, 0
	if !c.tested.IsZero() && s.now.Sub(c.tested) > c.settle {
		restore = max(restore, c.floorTest.Abort())
	}
	c.tested = s.now
	if math.Abs(from-c.trial) >= 1 {
		return 0
	}
	return restore
}

// askPID is the default law. It moves ln L by the gain times the predicted error: down only if the mean is above the
// setpoint or a large share is refused, up only if the limit binds.
func (c *concurrency) askPID(s step, o *outcome) float64 {
	level, e := math.Log(max(o.from-s.long, 1)), c.predictedError(s, o)
	c.pid.Track(level)
	terms, ok := c.pid.Step(s.spec.Timing.Period, e)
	if !ok {
		return o.from
	}
	o.terms = pidTerms(e, terms, level)
	raw := math.Exp(terms.Output) + s.long
	mayCut := !c.easing && (s.v.mean.Above(o.setpoint.value) || s.v.limitRefused.Above(s.spec.Tuning.RefusedCut))
	if !o.gates.binds || raw < o.from && !mayCut {
		return o.from
	}
	return raw
}

// observeArrivals notes whether the load is falling. Throughput then falls with the arrivals, not because of the limit,
// and a cut sized by it would leave the service with a limit for a load that has already gone.
func (c *concurrency) observeArrivals(offered float64) {
	c.easing, c.resumed = offered < easingShare*c.arrivals, c.arrivals == 0
	c.arrivals = offered
}

// easingShare: the load is easing if arrivals fall below this share of the previous period's. Windows overlap by three
// quarters, so a load that stops altogether falls by a quarter per period.
const easingShare = 0.9

// predictedError is e = ln(X̂·τ/L). With shedding the number in flight hovers between the threshold φ and the
// limit, so the limit counts as L·(φ + (1 − φ)·refused share). If the service is fast and still refuses,
// throughput shows only what the limit let through, so the latency margin drives the limit up instead: slowly, or at
// full gain while ŝ stands, because the limit was then cut for nothing.
func (c *concurrency) predictedError(s step, o *outcome) float64 {
	v, tau, mean := s.v, o.setpoint.value, s.v.mean.value
	idle := c.needless(s)
	if v.mixed { // the mean shows what is in flight, not what queues
		if idle > o.from {
			return math.Log((idle - s.long) / max(o.from-s.long, 1))
		}
		return 0
	}
	effective := max(o.from-s.long, 1) * (v.threshold + (1-v.threshold)*v.limitRefused.value)
	e := math.Log(v.throughput.value * (tau + v.waited) / effective)
	if mean > tau {
		return e
	}
	margin := math.Log(tau / mean)
	if v.refuses(o.from) {
		half := 0.5 * s.spec.Timing.Period.Seconds() / s.spec.Timing.DeadTime().Seconds()
		e = max(e, half*margin)
	}
	if o.gates.serviceTime > 0 {
		e = max(e, margin)
	}
	if c.servesInTime(s) {
		e = max(e, newsStep)
	}
	if idle > o.from {
		e = max(e, math.Log((idle-s.long)/max(o.from-s.long, 1)))
	}
	return e
}

// needless is the limit below which the service refuses for nothing, 0 if there is none: it refuses, and it answers as
// fast as if nothing queued, so it has room for what it has carried before, X̂max·m₀ in flight. On the way back there the
// limit may grow by half in a step. A loop that has just resumed judges by a window that knows another limit, and takes
// its usual steps.
func (c *concurrency) needless(s step) float64 {
	if c.resumed || !s.v.refuses(c.present(s)) || !s.asFastAsAlone() {
		return 0
	}
	return min(s.target.floor(s.now, s.v)+s.long, c.spec.Max)
}

// servesInTime says whether the service refuses although it is as fast as the service time ŝ that a test of this loop has found:
// then it refuses for nothing, however little room the setpoint leaves above ŝ.
func (c *concurrency) servesInTime(s step) bool {
	return !s.v.reflex && s.v.refuses(c.present(s)) && c.floorTest.Needless(s.v.mean.value)
}

var needlessRaise = math.Log(1.5)

// ownLatencyAgain is the multiple of m₀ up to which a mean latency shows no queue.
const ownLatencyAgain = 1.15

// askAIMD is the alternative law: additive increase while the limit binds and the service is healthy; one decrease per
// settling time, sized by Little's law.
func (c *concurrency) askAIMD(s step, o *outcome) float64 {
	tau, slow := o.setpoint.value, s.v.mean.Above(o.setpoint.value)
	o.terms.Error = Number(c.predictedError(s, o))
	raw, event := c.aimd.Step(s.now, o.from, o.gates.binds && slow, o.gates.binds && !slow, s.v.throughput.value*(tau+s.v.waited)+s.long)
	o.event = event
	return raw
}

// constraint returns the constraints on the output. A floor test needs exact moves: no deadband, and its own floor.
func (c *concurrency) constraint(s step, test little.Finding) Constraint {
	tuning := s.spec.Tuning
	k := Constraint{
		Deadband: max(tuning.Deadband, 4/math.Sqrt(max(s.v.uncut.Or(1), 1))),
		RaiseMax: tuning.RaiseMax, CutMax: tuning.CutMax,
		Floor: test.Floor, Min: c.spec.Min, Max: c.spec.Max, Whole: true, NoRaise: s.noRaise(),
	}
	present := c.present(s)
	refuses := s.v.refuses(present)
	if test.Phase == little.Halved || test.Phase == RaiseTestRaised || test.Ended && test.Restore > 0 {
		k.Deadband, k.RaiseMax = 0, math.Ln2
	}
	if idle := c.needless(s); idle > present {
		k.RaiseMax = max(k.RaiseMax, min(math.Log(idle/present), needlessRaise))
	}
	if k.NoRaise == BoundSLO && c.tests(s, test, refuses) {
		k.NoRaise = ""
	}
	if c.servesInTime(s) {
		k.Deadband = 0
	}
	if refuses && math.Log(s.target.setpoint(test.ServiceTime).value/s.v.mean.Float()) >= k.Deadband {
		k.Deadband = 0 // the service refuses and its latency leaves room beyond any noise: a raise needs no more evidence
	}
	if c.spec.Law == AIMDLaw {
		k.Deadband = 0
	}
	k.Deadband *= max(present-s.long, 0) / present // the long requests' part of the limit does not vary
	return k
}

// tests says whether a test has shown that the limit is not what makes the service bad, or asks now.
func (c *concurrency) tests(s step, test little.Finding, refuses bool) bool {
	if test.Restore > 0 || test.ServiceTime > 0 || test.Phase == RaiseTestRaised {
		return true
	}
	atMost := s.target.setpoint(0).value
	if s.v.reflex {
		atMost = s.aloneAtMost() // the guards raise their own limit above that
	}
	return c.bad.allows(s, refuses, atMost)
}

func (c *concurrency) state(s step, o outcome) State {
	switch raw := o.raw.value; {
	case s.notObeyed:
		return NotObeyed
	case o.gates.serviceTime > 0:
		return Ineffective
	case o.value < o.from:
		return Cutting
	case o.value > o.from:
		return Raising
	case s.infeasible != "":
		return Infeasible
	case o.gates.binds && o.value <= c.spec.Min && raw <= o.from:
		return AtMin
	case o.gates.binds && o.value >= c.spec.Max && raw >= o.from:
		return AtMax
	}
	return Steady
}

// ceiling contains a reflex that misbehaves and does not hinder one that works: it is twice the limit, and at least
// three times what the service has carried. A reflex that sits at its ceiling while the service stays slow is not doing
// its job: the ceiling then drops to the limit and stays there for the hold time, unless it refuses for nothing before.
func (c *concurrency) ceiling(s step, o outcome) float64 {
	v, limit, present := s.v, o.value, s.inForce.Ceiling
	if !v.reflex {
		return limit
	}
	if !c.contained.IsZero() {
		if s.now.Sub(c.contained) < c.hold && !(v.refuses(c.present(s)) && s.asFastAsAlone()) {
			return min(limit, present)
		}
		c.contained = time.Time{}
	}
	slow := v.mean.Above(o.setpoint.value)
	if present > 0 && o.gates.binds && slow && v.limit.AtLeast(little.BindingAt*present) {
		if c.runaway.IsZero() {
			c.runaway = s.now
		} else if s.now.Sub(c.runaway) >= c.settle {
			c.runaway, c.contained = time.Time{}, s.now
			return limit
		}
	} else {
		c.runaway = time.Time{}
	}
	ceiling := math.Round(min(c.spec.Max, max(2*limit, 3*s.target.floor(s.now, s.v))))
	if present > 0 && ceiling > present && (slow || v.unsure != "") {
		return max(present, limit)
	}
	return ceiling
}

// news decides whether anything moved enough to be written. With a reflex the effective limit moves all the time, so
// only a large difference from what is published counts.
func (c *concurrency) news(s step, o outcome) bool {
	switch f := s.inForce; {
	case s.v.unsure != "":
		return o.value < o.from
	case !f.published():
		return true
	case !s.v.reflex:
		return moved(o.value, f.Value, 0) || f.LatencyTarget > s.target.high*s.target.slo.Seconds() // of an SLO before
	default:
		return moved(o.value, f.Value, newsStep) || moved(o.ceiling, f.Ceiling, newsStep) ||
			moved(s.target.seconds(), f.LatencyTarget, targetStep)
	}
}

// newsStep is the smallest difference, in ln units, worth writing for a limit that a reflex moves anyway.
var newsStep = math.Log(1.2)
