package guard

import "time"

// Refusal is the error of a request that was not admitted. Compare with errors.Is, and ask errors.As for the reason.
type Refusal struct {
	reason     string
	text       string
	retryAfter time.Duration
}

// The policies that refuse, in the order in which they are asked. Each admission that one of them refuses costs the
// others nothing: a token is only taken for a request that has a slot.
const (
	byConcurrency = iota
	byRate
	byShed
	policies
)

// The refusals, for errors.Is.
var (
	// ErrConcurrency refuses a request because as many as the limit allows are in flight.
	ErrConcurrency error = errConcurrency
	// ErrRate refuses a request because more arrive than the rate limit allows. Its RetryAfter is the time to the next
	// token in whole seconds, at least one and at most a minute: by then the rate may be another.
	ErrRate error = rateRefusals[0]
	// ErrShed refuses a request because the service is nearly full, and others are more important.
	ErrShed error = errShed
)

var (
	errConcurrency = &Refusal{
		reason:     "concurrency",
		text:       "guard: refused, the concurrency limit is reached; do not retry at once",
		retryAfter: time.Second,
	}
	errShed = &Refusal{
		reason: "shed",
		text: "guard: refused, the service is nearly full and keeps its room for more important requests; " +
			"do not retry at once",
		retryAfter: time.Second,
	}
	// rateRefusals has one for each wait, so that none has to be made when it is needed.
	rateRefusals = func() (all [60]*Refusal) {
		for i := range all {
			all[i] = &Refusal{
				reason:     "rate",
				text:       "guard: refused, the rate limit is reached; retry later, and more slowly",
				retryAfter: time.Duration(i+1) * time.Second,
			}
		}
		return all
	}()
	reasons = [policies]string{
		byConcurrency: errConcurrency.reason, byRate: rateRefusals[0].reason, byShed: errShed.reason,
	}
)

// rateRefusal returns the refusal of a request for which there will be a token after wait.
func rateRefusal(wait time.Duration) error {
	i := min(max(wait-1, 0)/time.Second, time.Duration(len(rateRefusals)-1))
	return rateRefusals[i]
}

// Error implements error.
func (r *Refusal) Error() string { return r.text }

// Is makes refusals by rate with different waits the same error.
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && r.reason == other.reason
}

// Reason is the word that metrics and the Guard-Refused header use: "concurrency", "rate" or "shed".
func (r *Refusal) Reason() string { return r.reason }

// RetryAfter is the shortest wait before another attempt makes sense. Spread callers beyond it, or they return
// together.
func (r *Refusal) RetryAfter() time.Duration { return r.retryAfter }

// Retryable is false: a refusal means that the service has no room, and an immediate retry takes room from others.
func (r *Refusal) Retryable() bool { return false }
