package guard

import (
	"sync"
	"sync/atomic"
	"time"
)

// retryBudget bounds the retries on a dependency to a share of the calls: a token bucket that each logical call fills by
// ratio tokens, and each retry charges one token when it is scheduled. Charging it when it is sent would let a whole
// backoff's worth of retries pass before the first one counts.
//
//	tokens ≤ depth = max(10, 0.5 s · calls per second)
//
// The depth makes a short blip survivable and keeps an hour without failures from buying a storm of retries. The
// reserve of 10 lets a service with little traffic retry at all.
//
// With a ratio of 0 no retry passes, saved tokens or not, and nothing is saved. Tokens come from calls, so a clock that
// goes back mints none.
type retryBudget struct {
	calls atomic.Uint64 // ever
	due   atomic.Int64  // when the window ends

	mu       sync.Mutex // guards what follows; a call takes it only when the window ends
	started  bool
	counted  uint64  // calls that have filled the bucket
	tokens   float64 // ≤ depth
	ratio    float64 // tokens per call
	depth    float64
	since    time.Duration // start of the window
	atWindow uint64        // calls then
}

const (
	budgetSpan    = 500 * time.Millisecond // of traffic: the depth
	budgetReserve = 10.0                   // tokens: the least depth
	budgetWindow  = time.Second            // over which the traffic is counted
)

// call counts one logical call.
func (b *retryBudget) call(now time.Duration, ratio float64) {
	b.calls.Add(1)
	if int64(now) >= b.due.Load() && b.mu.TryLock() { // whoever is late leaves it to whoever is at it
		b.settle(now, ratio)
		b.mu.Unlock()
	}
}

// take charges the budget for one retry. It returns false if the budget does not allow it.
func (b *retryBudget) take(now time.Duration, ratio, cost float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(now, ratio)
	if b.tokens < cost {
		return false
	}
	b.tokens -= cost
	return true
}

// settle brings the bucket up to now: what was called since the last time fills it at the ratio that was in force, and
// then ratio is. The caller holds b.mu.
func (b *retryBudget) settle(now time.Duration, ratio float64) {
	calls := b.calls.Load()
	if !b.started {
		b.started, b.since = true, now
		b.tokens, b.depth = budgetReserve, budgetReserve
		b.due.Store(int64(now + budgetWindow))
	}
	if span := now - b.since; span >= budgetWindow {
		perSecond := float64(calls-b.atWindow) / span.Seconds()
		b.depth = max(budgetReserve, perSecond*budgetSpan.Seconds())
		b.since, b.atWindow = now, calls
		b.due.Store(int64(now + budgetWindow))
	}
	b.tokens = min(b.tokens+float64(calls-b.counted)*b.ratio, b.depth)
	b.counted = calls
	if b.ratio = min(ratio, 1); !(b.ratio > 0) { // also if it is no number
		b.ratio, b.tokens = 0, 0
	}
}
