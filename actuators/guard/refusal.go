package guard

import "time"

// Refusal is the error of a request that was not admitted. Refusals are sentinels: compare with errors.Is, and ask
// errors.As for the reason.
type Refusal struct {
	reason     string
	text       string
	retryAfter time.Duration
}

// ErrConcurrency refuses a request because as many as the limit allows are in flight.
var ErrConcurrency error = errConcurrency

var errConcurrency = &Refusal{
	reason:     "concurrency",
	text:       "guard: refused, the concurrency limit is reached; do not retry at once",
	retryAfter: time.Second,
}

// Error implements error.
func (r *Refusal) Error() string { return r.text }

// Reason is the word that metrics and the Guard-Refused header use: "concurrency".
func (r *Refusal) Reason() string { return r.reason }

// RetryAfter is the shortest wait before another attempt makes sense. Spread callers beyond it, or they return
// together.
func (r *Refusal) RetryAfter() time.Duration { return r.retryAfter }

// Retryable is false: a refusal means that the service has no room, and an immediate retry takes room from others.
func (r *Refusal) Retryable() bool { return false }
