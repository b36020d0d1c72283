package control

import (
	"math"
	"slices"
	"time"
)

// rate is the control law for the admission rate of a whole service: AIMD on what the service completes. At its maximum
// the rate limit is off.
//
// A service that falls behind completes less than it admits, X < A. X is then its capacity, even though the mean
// latency shows the trouble much later. A decrease is therefore sized by X rather than by the rate, so that reacting
// twice to one loss gives the same decrease. It leaves room to drain the backlog, whose requests are all late and
// useless; while it drains, X > A, nothing is cut. The increase is exponential: slow near the capacity last seen, and
// faster the longer it goes well. Probing at a fixed slow pace would lock a service up for an hour after a short loss.
//
//	X < A  backlog grows   cut to clip(0.9·G, 0.5, 0.8 of min(X, A, x̂)), at once
//	X ≈ A  and still slow  the same, once per settling time; if it did not help, limiting cannot: say so and restore
//	X > A  backlog drains  wait
//	fast                   grow
//
// Both the rate and the concurrency limit respond to a mean above the setpoint. The rate therefore yields to a
// concurrency limit that can still be cut, which is faster and needs no probing. It acts if that limit is near its
// minimum or does not exist.
type rate struct {
	spec   RateSpec
	period time.Duration
	settle time.Duration
	hold   time.Duration
	aimd   AIMD

	want   float64 // the law's own value; publishing follows in steps of rateStep. NaN: start from what is in force
	good   []float64
	best   float64 // x̂: largest goodput sustained for one settling time; it fades
	bestAt time.Time

	cut     rateCut   // the last cut made; zero: none since the rate was off
	asked   rateCut   // proposed in this period
	crossed time.Time // when the rate came back near the last cut
	busy    time.Time // when last fast, cut or draining; windows up to one settling time later still show it

	bad badTest

	serviceTime float64 // ŝ: the service's own mean latency after limiting did not help; 0: none
	serviceAt   time.Time
}

// rateCut is the situation in which a cut was made.
type rateCut struct {
	from    float64 // the rate in force before the cut
	to      float64 // and after it
	carried float64 // what the service completed
	top     float64 // from, of the first of a run of cuts
	most    float64 // carried, of that
	good    float64
	mean    float64
}

const (
	rateMemory   = 300 * time.Second // time constant of x̂
	rateBalance  = 0.05              // X and A this close are equal
	rateNear     = 0.9               // of what was carried at the last cut: from here on growth probes
	rateProbe    = 0.03              // of normal growth at first; doubles every settling time
	rateOff      = 3.0               // × x̂: a rate above this limits nothing
	rateAim      = 0.9               // of the goodput
	rateDeepest  = 0.5               // of what is carried
	rateShallow  = 0.8
	rateLast     = 1.3  // × its minimum: a concurrency limit above this can still be cut
	rateHelped   = 0.8  // of the mean before a cut: if it stays above, the cut did not help
	rateStep     = 0.05 // smallest raise worth a write, in ln
	rateBurst    = 0.25 // seconds of tokens
	borrowSlack  = 0.05 // of the rate
	borrowFar    = 1.5  // × what is needed: more is not left lent
	serviceFades = 0.8  // a mean below this share of ŝ ends it
)

func newRate(s *Spec) *rate {
	return &rate{
		spec: *s.Rate, period: s.Timing.Period, settle: s.Timing.Settle(), hold: s.Tuning.FloorTestHold, want: math.NaN(),
	}
}

// track keeps the law within one step of the value in force, so that a failed write winds nothing up, and records a cut
// once it has taken effect.
func (c *rate) track(now time.Time, before, after float64) {
	c.want = min(max(c.want, after*math.Exp(-rateStep)), after*math.Exp(rateStep))
	if c.asked.from > 0 && after < before {
		c.cut, c.crossed, c.busy = c.asked, time.Time{}, now
	}
	c.asked = rateCut{}
	if after >= c.spec.Max {
		c.cut, c.crossed = rateCut{}, time.Time{}
	}
}

func (c *rate) lose() {}

func (c *rate) restart() {
	*c = rate{
		spec: c.spec, period: c.period, settle: c.settle, hold: c.hold, want: math.NaN(), best: c.best, bestAt: c.bestAt,
	}
}

func (c *rate) overrule() { c.restart() }

func (c *rate) rest(s step) outcome {
	o := s.rest(AIMDLaw)
	o.setpoint, o.measured = s.target.setpoint(c.serviceTime), s.v.mean
	o.gates.serviceTime, o.gates.serviceAt = c.serviceTime, c.serviceAt
	return o
}

func (c *rate) decide(s step) outcome {
	if math.IsNaN(c.want) {
		c.want = s.inForce.Value
	}
	c.learn(s)
	o := c.rest(s)
	o.gates.binds = s.v.rateRefused.AtLeast(s.spec.Tuning.RefusingAt)
	yields := false
	yields, o.detail = c.arbitrate(s)

	slow := s.v.hang != "" || s.v.mean.Above(o.setpoint.value)
	cut := false
	if slow && !yields {
		cut, o.event = c.mayCut(s)
	}
	switch {
	case !slow && c.cut.from == 0:
		c.busy = s.now // it may be slow for a while before that counts as overload
	case yields:
		o.event = EventYields
	}
	if cut && o.from <= c.cut.to && c.useless(s.v) {
		c.serviceTime, c.serviceAt = s.v.mean.value, s.now
		c.want, c.cut = c.cut.top, rateCut{}
		o.gates.serviceTime, o.event = c.serviceTime, EventRestore
	} else {
		c.aimd.AddShare = math.Expm1(c.growth(s))
		next, event := c.aimd.Step(s.now, c.want, cut, !slow && c.want < c.spec.Max, c.decreaseTo(s.v, o.from))
		if event != "" {
			c.want, o.event = next, event
		}
	}
	o.raw = Read(c.want)
	if most := rateOff * c.sustained(s.now); most > 0 && c.want > most && !slow {
		if c.want = most; !o.gates.binds {
			c.want = c.spec.Max
		}
	}
	if o.value, o.bound = c.constrain(s); o.value > o.from && s.noRaise() == BoundSLO && c.serviceTime == 0 {
		o.gates.floorTest = RaiseTestRaised
	}
	o.publish = o.value != o.from || !s.inForce.published()
	if o.event == EventDecrease && o.publish {
		c.asked = rateCut{
			from: o.from, to: o.value, carried: c.carried(s.v), good: s.v.goodput(), mean: s.v.mean.Float(),
		}
		if c.asked.top, c.asked.most = o.from, c.asked.carried; o.from <= c.cut.to {
			c.asked.top, c.asked.most = c.cut.top, c.cut.most
		}
	}
	o.state = c.state(o, slow)
	return o
}

// learn updates x̂ and drops ŝ when it has expired. x̂ takes only sustained goodput: a counter reset in one of two
// replicas can read as 70 times the rate for a window, but not for a settling time.
func (c *rate) learn(s step) {
	if c.serviceTime > 0 && (s.now.Sub(c.serviceAt) >= c.hold || s.v.mean.Below(serviceFades*c.serviceTime)) {
		c.serviceTime = 0
	}
	if s.v.unsure != "" || s.v.hang != "" {
		return
	}
	n := max(1, int(c.settle/c.period))
	if c.good = append(c.good, s.v.goodput()); len(c.good) <= n {
		return
	}
	c.good = c.good[len(c.good)-n-1:]
	if least := slices.Min(c.good); least >= c.sustained(s.now) {
		c.best, c.bestAt = least, s.now
	}
}

// sustained is x̂ as of now, 0 while unknown.
func (c *rate) sustained(now time.Time) float64 {
	return c.best * math.Exp(-max(now.Sub(c.bestAt), 0).Seconds()/rateMemory.Seconds())
}

// arbitrate says whether the rate yields to the concurrency limit, and describes which of them acts.
func (c *rate) arbitrate(s step) (yields bool, detail string) {
	switch limit, steered := s.concurrency.Value(); {
	case !steered:
		return false, ""
	case limit >= rateLast*s.spec.Concurrency.Min:
		return true, "the concurrency limit acts first"
	}
	return false, "the concurrency limit is near its minimum, the rate may act"
}

// mayCut says whether a slow service may be cut now and, if not, what it is waiting for.
func (c *rate) mayCut(s step) (may bool, event string) {
	switch completed, admitted := s.v.completedRate(), s.v.admittedRate.value; {
	case s.v.hang != "":
	case completed < (1-rateBalance)*admitted:
		return true, "" // falling behind
	case completed > (1+rateBalance)*admitted:
		c.busy = s.now
		return false, EventDrains
	}
	if s.now.Sub(c.busy) < c.settle {
		return false, EventCooldown
	}
	return true, ""
}

// carried is the capacity of the service, as far as a slow window shows it.
func (c *rate) carried(v *view) float64 {
	if v.hang != "" {
		return v.admittedRate.value
	}
	return min(v.completedRate(), v.admittedRate.value)
}

// decreaseTo sizes a cut. A hang shows nothing about capacity, so it halves the rate.
func (c *rate) decreaseTo(v *view, from float64) float64 {
	base, good := c.carried(v), v.goodput()
	if v.hang != "" {
		base, good = min(from, base), 0
	}
	return max(min(max(rateAim*good, rateDeepest*base), rateShallow*base), c.spec.Min)
}

// useless says whether the last cut did not help: less arrives than the service just carried, no backlog is left, the
// service is as slow as before, and no larger share of its work is in time. The mean is then the service's own. If
// hardly anything is in time, this takes a run of cuts down to a fifth: the queue may simply be so long that clients
// give up.
func (c *rate) useless(v *view) bool {
	admitted, slower := v.admittedRate.value, v.mean.Float()/c.cut.mean
	switch {
	case v.hang != "", v.completedRate() < (1-rateBalance)*admitted, admitted >= (1-rateBalance)*c.cut.carried,
		slower < rateHelped, slower > 1/rateHelped:
		return false
	case admitted < c.cut.most/5:
		return true
	}
	inTime := v.goodput() / v.completedRate()
	return inTime > 0.1 && inTime < c.cut.good/c.cut.carried/rateHelped
}

// growth is the raise per period in ln units.
func (c *rate) growth(s step) float64 {
	u := s.spec.Tuning.RaiseMax
	if c.cut.from == 0 || c.want < rateNear*c.cut.carried {
		return u
	}
	if c.crossed.IsZero() {
		c.crossed = s.now
	}
	return u * min(1, rateProbe*math.Exp2(s.now.Sub(c.crossed).Seconds()/c.settle.Seconds()))
}

// constrain turns what the law wants into what is published, and names the constraint that shaped it.
func (c *rate) constrain(s step) (value float64, bound string) {
	from, next, noRaise := s.inForce.Value, c.want, s.noRaise()
	if noRaise == BoundSLO && (c.serviceTime > 0 || c.bad.allows(s, s.v.rateRefused.AtLeast(s.spec.Tuning.RefusingAt), s.aloneAtMost())) {
		noRaise = "" // cutting did not help, or nothing queues: the rate is not what makes the service bad
	}
	switch {
	case next > from && noRaise != "":
		next, c.want, bound = from, from, noRaise
	case next <= c.spec.Min:
		next, bound = c.spec.Min, BoundMin
	case next >= c.spec.Max:
		next, bound = c.spec.Max, BoundMax
	case next > from && !moved(next, from, rateStep):
		next, bound = from, BoundDeadband
	}
	c.want = min(max(c.want, c.spec.Min), c.spec.Max)
	return next, bound
}

func (c *rate) state(o outcome, slow bool) State {
	switch {
	case c.serviceTime > 0:
		return Ineffective
	case o.value < o.from:
		return Cutting
	case o.value > o.from:
		return Raising
	case o.value <= c.spec.Min && (slow || o.gates.binds):
		return AtMin
	case o.gates.binds && o.value >= c.spec.Max:
		return AtMax
	}
	return Steady
}

// Burst is the size of the token bucket for a rate: a quarter of a second's worth of tokens, at least one.
func Burst(perSecond float64) float64 { return max(1, math.Round(rateBurst*perSecond)) }

// MaxBorrow is the most that an instance may admit as a multiple of its even share, as in the contract of the Setting.
const MaxBorrow = 8

// Borrow is how much more of a rate than an even share one of n instances may admit, so that shares follow demand and the
// instances together still admit no more than the rate: 1..MaxBorrow. arrivals are the requests per second at each
// instance; those that were not seen count with an even share. Where more arrives than the rate, an instance gets its
// max-min fair share: the level at which
//
//	Σ min(arrivalsᵢ, level) = perSecond,    borrow = level ÷ (perSecond/n)
//
// Where less arrives, the level is what the busiest instance gets if the spare rate is divided in proportion to demand. So
// nothing is borrowed while demand is even. before is what is in force. It stays while it admits within borrowSlack of that
// and is not far above it, because arrivals fluctuate. So the instances together admit at most 1 + borrowSlack times the
// rate once a change of demand has been measured, and until then at most borrow times.
func Borrow(perSecond float64, n int, arrivals []float64, before float64) float64 {
	even := perSecond / float64(n)
	if len(arrivals) == 0 || !(even > 0) {
		return 1
	}
	demands := slices.Clone(arrivals)
	for len(demands) < n {
		demands = append(demands, even)
	}
	slices.Sort(demands)
	admitted := func(level float64) (sum float64) {
		for _, d := range demands {
			sum += min(d, level)
		}
		return sum
	}
	all := admitted(math.Inf(1))
	level := even
	if all > perSecond {
		left := perSecond
		for i, d := range demands {
			if level = left / float64(len(demands)-i); d > level {
				break
			}
			left -= d
		}
	} else if all > 0 {
		level = demands[len(demands)-1] * perSecond / all
	}
	borrow := min(max(1, level/even), MaxBorrow)
	if now := admitted(before * even); before <= borrowFar*borrow && now <= (1+borrowSlack)*perSecond &&
		now >= (1-borrowSlack)*admitted(borrow*even) {
		return before
	}
	return borrow
}
