package guard

import "time"

// backoff is how long a caller waits before a retry: exponential, with full jitter (M. Brooker, "Exponential Backoff And
// Jitter", AWS Architecture Blog, 2015). The wait before retry n = 0, 1, 2, … is uniform between zero and
//
//	min(most, first·2ⁿ)
//
// so a thousand callers that failed at the same instant come back spread over the whole range.
type backoff struct {
	first, most time.Duration
}

// defaultBackoff waits 50 ms on average before the first retry.
var defaultBackoff = backoff{first: 100 * time.Millisecond, most: time.Second}

// wait returns the wait before retry n for a uniform u in [0, 1). The callee's Retry-After is the least, and the jitter
// comes on top of it: callers that were told the same number of seconds must not come back together. A negative
// Retry-After counts as none. A u that is no number counts as 1.
func (b backoff) wait(n int, u float64, retryAfter time.Duration) time.Duration {
	bound := b.first
	for range n {
		if bound >= b.most/2 {
			bound = b.most
			break
		}
		bound *= 2
	}
	if !(u >= 0 && u <= 1) {
		u = 1
	}
	jitter := time.Duration(u * float64(min(bound, b.most)))
	return min(max(retryAfter, 0), longestRetryAfter) + jitter
}

// longestRetryAfter caps what a callee may ask for. Nobody waits that long inside a call (see patience); the cap keeps
// sums in range.
const longestRetryAfter = time.Hour
