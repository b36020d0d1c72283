package control

import "time"

// badTest raises step by step what refuses while more is late or fails than the SLO allows, although the mean latency leaves
// room. Where a few requests always fail, or wait for something else, a lower limit does not cure that, and would keep
// refusing for as long as it lasts. Where they fail because of the load, fast, no latency tells; so the test ends, and is
// not repeated for a while, when the bad share has grown by half.
type badTest struct {
	bad   float64   // the bad ratio when the test began, 0: none runs
	ended time.Time // when the bad share had grown, zero: never
}

const badGrows = 1.5

// allows says whether a raise may be tried although the SLO is violated. Above atMost, in seconds, the mean latency itself
// tells the law what the load does.
func (b *badTest) allows(s step, refuses bool, atMost float64) bool {
	bad := s.v.badRatio(s.spec.SLO).Or(0)
	switch {
	case bad <= 1 || !s.v.mean.AtMost(atMost):
		b.bad = 0
		return false
	case b.bad > 0 && bad > badGrows*b.bad:
		b.bad, b.ended = 0, s.now
		return false
	case !refuses || !b.ended.IsZero() && s.now.Sub(b.ended) < s.spec.Tuning.FloorTestHold:
		return false
	case b.bad == 0:
		b.bad = bad
	}
	return true
}

// asFastAsAlone says whether the service answers as fast as if nothing queued.
func (s step) asFastAsAlone() bool { return s.v.mean.AtMost(s.aloneAtMost()) }

// aloneAtMost is the mean latency, in seconds, up to which nothing queues.
func (s step) aloneAtMost() float64 { return ownLatencyAgain * s.target.own.Seconds() }
