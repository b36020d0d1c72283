package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// raiseTest asks, before a first cut in doubt, whether the limit is what makes the service slow. The doubt: the mean is
// above the setpoint, but hardly anything is refused, and the mean would still keep the SLO if it grew by a quarter. Then
// the limit gets half as much again, or what keeps the SLO, until a window has seen nothing else.
//
//	idle ──slow, few refused──► raised ──a clean window──► the mean grew with the limit?
//	                                                        and fills it?  yes: a queue. The limit goes back, and is cut as ever
//	                                                        no: a delay that is no queue. The mean is ŝ, the limit stays
//
// A guard's reflex asks the same at its own pace, so governor asks only where none runs. It never asks where more is
// refused: that is an overload, and waiting for a window would cost what the raise lets in.
type raiseTest struct {
	wait time.Duration // until a window has seen only the raised limit

	since  time.Time // when the limit was raised; zero: it is not
	limit  float64   // before
	raised float64   // while it runs
	mean   float64   // before, in seconds
	queued time.Time // when a queue was found, zero: never
	found  time.Time // when a delay was found whose ŝ stands; zero: none
}

const (
	raiseBy    = 1.5
	raiseLeast = 1.25 // a smaller raise is within the noise
	raiseSlow  = 0.15 // in ln: how far the mean must be above the setpoint
)

func (x *raiseTest) running() bool { return !x.since.IsZero() }

// step returns the finding f of the floor test, or what this test imposes in its place.
func (x *raiseTest) step(s step, from float64, f little.Finding, test *little.FloorTest, most float64) little.Finding {
	mean, slo := s.v.mean.value, s.spec.SLO.Latency.Seconds()
	hopeless := mean > slo || s.v.limitRefused.Above(s.spec.Tuning.RefusedCut)
	switch {
	case x.wrong(s, f):
		test.Found(s.now, 0)
		f.ServiceTime, x.queued = 0, s.now
		return f
	case !x.running():
		if x.doubts(s, from, f, hopeless, most) {
			x.since, x.limit, x.mean = s.now, from, mean
			x.raised = math.Round(min(from*min(raiseBy, slo/mean), most))
			f.Phase, f.Limit = RaiseTestRaised, x.raised
		}
		return f
	case hopeless:
		return x.blame(s, f)
	case s.now.Sub(x.since) < x.wait:
		f.Phase, f.Limit = RaiseTestRaised, from
		return f
	case mean > x.mean*math.Sqrt(from/x.limit) && s.v.binds(from): // a queue fills what it is given
		return x.blame(s, f)
	}
	x.since = time.Time{}
	if mean > s.target.seconds() {
		test.Found(s.now, mean)
		f.ServiceTime, x.found = mean, s.now
	}
	return f
}

// wrong says whether the delay that this test found was a queue after all: the limit has had time to rise, and much is
// refused all the same. A higher limit lets in what was refused only where nothing queues.
func (x *raiseTest) wrong(s step, f little.Finding) bool {
	if f.ServiceTime == 0 {
		x.found = time.Time{}
	}
	wrong := !x.found.IsZero() && s.now.Sub(x.found) >= 2*x.wait && s.v.limitRefused.Above(s.spec.Tuning.RefusedCut)
	if wrong {
		x.found = time.Time{}
	}
	return wrong
}

// doubts says whether there is a doubt to settle before a cut.
func (x *raiseTest) doubts(s step, from float64, f little.Finding, hopeless bool, most float64) bool {
	mean := s.v.mean.value
	slow := mean > s.target.setpoint(f.ServiceTime).value*math.Exp(raiseSlow)
	return slow && !hopeless && s.v.binds(from) && s.noRaise() != BoundTighten && s.noRaise() != BoundObey &&
		f.ServiceTime == 0 && f.Phase != little.Halved && raiseLeast*mean <= s.spec.SLO.Latency.Seconds() &&
		most >= raiseLeast*from && (x.queued.IsZero() || s.now.Sub(x.queued) >= s.spec.Tuning.FloorTestHold)
}

// blame ends the test with the answer that there is a queue.
func (x *raiseTest) blame(s step, f little.Finding) little.Finding {
	f.Ended, f.Restore = true, x.limit
	x.since, x.queued = time.Time{}, s.now
	return f
}
