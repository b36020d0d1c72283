package control

import "time"

// longRequests keeps a few very long requests (long polls, streams, batch jobs) apart from the others, where no guard does
// that. One poll of 20 s among twenty calls of 40 ms makes a mean of a second, by which no limit can be chosen: the law
// would take the polls for a queue, cut, and leave a limit that polls alone fill.
//
// They show where a share p of at most a fifth is late, and the mean is so high that these take three times the SLO or more,
// even if all others took the whole SLO: mean ≥ SLO·(1 − p) + 3·SLO·p. What is then in flight beyond X̂·m₀, the others' part
// by Little's law, is theirs:
//
//	n = in flight − X̂·m₀        the mean of the others = (in flight − n)/X̂, and their limit is L − n
//
// While more requests are late, n is not learned: then there is a queue. The mean of the others is then at least the share of
// them that is late times the SLO (Markov's inequality), which corrects an n that was learned while the queue formed.
type longRequests struct {
	n     float64   // per instance; 0: none known
	share float64   // of the requests, when they last showed
	seen  time.Time // when they last showed
}

const (
	// longFew is the largest share of the requests that may be long. A queue delays everybody: with a mean above the
	// SLO, at least a fifth is late for any usual distribution of one kind of request (exponential 37%, lognormal with
	// σ = 1.5 23%, Pareto with α = 1.8 23%), and more with a queue in front.
	longFew = 0.2
	// longLeast is the multiple of the SLO that those that are late take at least, on average.
	longLeast = 3
	// longHold is how long n stands when it cannot be learned.
	longHold = 5 * time.Minute
)

// split takes the long requests out of v's mean and returns how many there are. Where a guard runs, it does so itself, and
// split only says whether there are any.
func (l *longRequests) split(now time.Time, v *view, slo SLO, ownSeconds float64) float64 {
	if v.hold != "" || v.hang != "" || !v.throughput.Above(0) {
		return l.n
	}
	limit := slo.Latency.Seconds()
	long := limit * (1 + (longLeast-1)*v.slowUncut.Or(1))
	v.mixed = v.mean.AtLeast(long) && v.slowUncut.AtMost(longFew) && v.completed.AtLeast(fewJudged)
	if v.reflex {
		l.n = 0
		return 0
	}
	most := func(least float64) float64 { return max(v.inFlight.value-v.throughput.value*(least+v.waited), 0) }
	switch {
	case v.mixed:
		l.n, l.share, l.seen = most(ownSeconds), v.slowUncut.value, now
	case now.Sub(l.seen) > longHold:
		l.n = 0
	default:
		l.n = min(l.n, most(max(ownSeconds, (v.slowUncut.Or(1)-l.share)*limit)))
	}
	if l.n > 0 {
		v.mean = Read(min(v.mean.value, (v.inFlight.value-l.n)/v.throughput.value-v.waited))
	}
	return l.n
}
