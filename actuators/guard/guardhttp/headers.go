package guardhttp

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// The headers of the contract between clients and guarded services. They come from other processes, so whatever they
// contain may only make a service do less: retry less, or wait longer.
const (
	RefusedHeader     = "Guard-Refused"     // of a refusal: its reason, for example "concurrency"
	CriticalityHeader = "Guard-Criticality" // of a request
	KeyHeader         = "Guard-Key"         // of a request: its user or tenant
	// AttemptHeader is the mark of the layer that retries a request: 0 at the first attempt, 1 at its first retry. A layer
	// that receives it does not retry its own calls for the request, and hands it on.
	AttemptHeader = "Guard-Attempt"
	// NoRetryHeader, whatever its value, is the hint in an answer that a retry is useless for now.
	NoRetryHeader = "Guard-No-Retry"
)

// CriticalityOf reads the criticality from the request's header Guard-Criticality: the least important of several; Default if
// it is missing or unknown.
func CriticalityOf(r *http.Request) guard.Criticality {
	return wire.Criticality(r.Header[CriticalityHeader])
}

// KeyOf reads the user or tenant from the request's header Guard-Key; "" if it is missing, or if there are several.
func KeyOf(r *http.Request) string { return only(r.Header, KeyHeader) }

// noRetryIn says whether an answer carries the hint.
func noRetryIn(h http.Header) bool { return len(h[NoRetryHeader]) > 0 }

// longestRetryAfter caps Retry-After: nobody who waits for an answer waits longer.
const longestRetryAfter = time.Hour

// retryAfterIn reads Retry-After (RFC 9110, section 10.2.3), in seconds or as a date, between 0 and an hour. A date is
// relative to the answer's own Date, so that the clocks need not agree, else to now. A date in the past and everything
// that is neither form count as none. Of several values the longest counts.
func retryAfterIn(h http.Header, now time.Time) (longest time.Duration) {
	for _, value := range h["Retry-After"] {
		longest = max(longest, retryAfterValue(strings.Trim(value, " \t"), h, now))
	}
	return longest
}

func retryAfterValue(value string, h http.Header, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return longestRetryAfter // too many digits
		}
		return min(time.Duration(seconds)*time.Second, longestRetryAfter)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	return min(max(date.Sub(now), 0), longestRetryAfter)
}

// RetryAfterSeconds returns how many seconds, at least one, a refused caller is asked to wait: spread over three times the
// shortest wait, so that callers do not all return at once. random(n) is uniform in [0, n).
func RetryAfterSeconds(shortest time.Duration, random func(n int) int) int {
	least := max(1, int((shortest+time.Second-1)/time.Second))
	return least + random(2*least+1)
}
