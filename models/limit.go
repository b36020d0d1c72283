package models

import (
	"math"
	"time"
)

// BindingAt is the share of a limit in flight from which the limit counts as binding: little.BindingAt, which this
// package cannot import.
const BindingAt = 0.85

// Limiter is the plain concurrency limiter: it admits while fewer requests than its limit are in flight, and ignores
// latency and priority. After the limit is lowered below the number in flight, it refuses until enough have finished.
type Limiter struct {
	limit    float64
	revision float64
	inFlight int
	binding  bindingClock
}

// NewLimiter returns a Limiter; a limit of +Inf admits everything.
func NewLimiter(limit float64) *Limiter { return &Limiter{limit: limit} }

// Set puts a limit in force; Report returns revision as applied.
func (l *Limiter) Set(now time.Duration, limit, revision float64) {
	l.binding.advance(now, l.inFlight, l.limit)
	l.limit, l.revision = limit, revision
}

// Limit returns the limit in force.
func (l *Limiter) Limit() float64 { return l.limit }

// Admit implements Admitter.
func (l *Limiter) Admit(now time.Duration, _ Request) Verdict {
	if float64(l.inFlight+1) > l.limit {
		return Refused
	}
	l.binding.advance(now, l.inFlight, l.limit)
	l.inFlight++
	return Admitted
}

// Done implements Admitter.
func (l *Limiter) Done(now time.Duration, _ Request, _ Outcome) {
	l.binding.advance(now, l.inFlight, l.limit)
	l.inFlight--
}

// Report implements Admitter.
func (l *Limiter) Report(now time.Duration) Report {
	l.binding.advance(now, l.inFlight, l.limit)
	return Report{
		Limit: l.limit, ServiceTime: math.NaN(), BindingSeconds: l.binding.total.Seconds(), Revision: l.revision,
		ShedThreshold: 1,
	}
}

// bindingClock adds up the time during which a limit binds. Call advance before every change of the limit or of the
// number in flight.
type bindingClock struct {
	since, total time.Duration
}

func (b *bindingClock) advance(now time.Duration, inFlight int, limit float64) {
	if float64(inFlight) >= BindingAt*limit && !math.IsInf(limit, 1) {
		b.total += now - b.since
	}
	b.since = now
}
