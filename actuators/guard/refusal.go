package guard

import "time"

// Refusal is the error returned for a request that was not admitted. Compare it with errors.Is; use errors.As to read
// its reason. It is never changed, so goroutines may share it.
type Refusal struct {
	reason     string
	text       string
	retryAfter time.Duration
}

// The policies. They are asked in this order, but byCallee before byShed. A request that one of them refuses takes nothing from
// the others: only a request that has a slot takes a token.
const (
	byConcurrency = iota
	byRate
	byShed
	byCallee
	byShare
	byRoof
	byEndless // asked first, see AdmitEndless
	policies
)

// The refusals of requests, for errors.Is.
var (
	// ErrConcurrency refuses a request because the limit on requests in flight is reached.
	ErrConcurrency error = errConcurrency
	// ErrRate refuses a request because more arrive than the rate limit allows. Its RetryAfter is the time to the next
	// token in whole seconds, between one second and a minute: after that the rate may have changed.
	ErrRate error = rateRefusals[0]
	// ErrShed refuses a request because the service is nearly full and keeps its room for more important requests.
	ErrShed error = errShed
	// ErrCallee refuses a request because a service that it needs would refuse it.
	ErrCallee error = errCallee
	// ErrShare refuses a request because its route has its share of the roof in flight, and the other routes need theirs.
	ErrShare error = errShare
	// ErrRoof refuses a request because all routes together have as many in flight as the service can take.
	ErrRoof error = errRoof
	// ErrEndless refuses a request that does not end because as many of them are open as Config.MaxEndless allows.
	ErrEndless error = errEndless
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
	errCallee = &Refusal{
		reason: "callee",
		text: "guard: refused, a service that the request needs is nearly full and would refuse it; " +
			"do not retry at once",
		retryAfter: time.Second,
	}
	errShare = &Refusal{
		reason: "share",
		text: "guard: refused, the route has its share of the service's room in flight, and the rest is for other routes; " +
			"do not retry at once",
		retryAfter: time.Second,
	}
	errRoof = &Refusal{
		reason:     "roof",
		text:       "guard: refused, all routes together have reached the limit; do not retry at once",
		retryAfter: time.Second,
	}
	errEndless = &Refusal{
		reason: "endless",
		text: "guard: refused, as many requests that do not end are open as the service allows; " +
			"do not retry at once",
		retryAfter: time.Second,
	}
	// rateRefusals has one refusal per wait in seconds, so that refusing allocates nothing.
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
		byCallee: errCallee.reason, byShare: errShare.reason, byRoof: errRoof.reason, byEndless: errEndless.reason,
	}
)

// refusal returns the policy by which the gate refuses, and the refusal.
func (v verdict) refusal() (policy int, err error) {
	switch v {
	case overfull:
		return byShed, ErrShed
	case overShare:
		return byShare, ErrShare
	case overRoof:
		return byRoof, ErrRoof
	}
	return byConcurrency, ErrConcurrency
}

// rateRefusal returns the refusal for a request that finds a token after wait.
func rateRefusal(wait time.Duration) error {
	i := min(max(wait-1, 0)/time.Second, time.Duration(len(rateRefusals)-1))
	return rateRefusals[i]
}

// Error implements error.
func (r *Refusal) Error() string { return r.text }

// Is makes rate refusals with different waits compare as the same error.
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && r.reason == other.reason
}

// Reason is the policy's name in metrics and in the Guard-Refused header: "concurrency", "rate", "shed", "callee", "share",
// "roof" or "endless".
func (r *Refusal) Reason() string { return r.reason }

// RetryAfter is the shortest wait before another attempt makes sense: 1 s, or of ErrRate 1 s to 1 min. Add jitter, or all callers return at the same
// time.
func (r *Refusal) RetryAfter() time.Duration { return r.retryAfter }

// Retryable is always false: a refusal means that the service has no room, and an immediate retry takes room from
// others.
func (r *Refusal) Retryable() bool { return false }
