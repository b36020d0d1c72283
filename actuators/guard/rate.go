package guard

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// rater is the rate limit: a token bucket, or none.
//
// It is written as the generic cell rate algorithm (ITU-T I.371, annex A), a token bucket turned into time: one word,
// the theoretical arrival time TAT, says when the bucket will be full again. A request conforms while TAT is no more
// than burst−1 tokens ahead, and moves it on by one token. So admission is one compare-and-swap, refills are exact
// however rarely the bucket is looked at, and a clock that goes back finds TAT further ahead: it never mints a token.
//
// The semantics are those of golang.org/x/time/rate, but for 0 per second, which admits nothing: a limiter that is told
// to stop must not first empty its bucket. What was in it is kept for the next rate.
type rater struct {
	bucket atomic.Pointer[bucket] // nil: no rate limit
}

// bucket is a token bucket of one rate and one burst. A change of either makes a new one.
type bucket struct {
	perSecond float64
	burst     float64
	interval  int64        // nanoseconds a token takes; 0 for a rate above one a nanosecond
	slack     int64        // nanoseconds of burst−1 tokens
	kept      float64      // tokens of a bucket at 0 per second
	tat       atomic.Int64 // nanoseconds since the guard's base, or retired
}

const (
	retired = math.MaxInt64
	forever = int64(1) << 61 // 73 years: the longest time that a token or a burst may take
)

// newBucket returns a bucket that holds tokens, which may be negative, at now.
func newBucket(now time.Duration, perSecond, burst, tokens float64) *bucket {
	b := &bucket{perSecond: perSecond, burst: burst, kept: tokens}
	if perSecond <= 0 {
		return b
	}
	token := math.Round(min(float64(time.Second)/perSecond, float64(forever)))
	b.interval = int64(token)
	b.slack = int64(min((burst-1)*token, float64(forever)))
	b.tat.Store(int64(now) + int64(math.Ceil(min((burst-tokens)*token, float64(forever)))))
	return b
}

// set changes the rate (admissions per second of this instance; +Inf: no limit) and the burst (tokens, ≥ 1). What the
// bucket holds stays, up to the new burst; a new limit starts with its burst. Calls must not overlap.
func (r *rater) set(now time.Duration, perSecond, burst float64) {
	old := r.bucket.Load()
	if math.IsInf(perSecond, 1) {
		r.bucket.Store(nil)
		return
	}
	tokens := burst
	if old != nil {
		if old.perSecond == perSecond && old.burst == burst {
			return
		}
		tokens = min(burst, old.retire(now))
	}
	r.bucket.Store(newBucket(now, perSecond, burst, tokens))
}

// retire ends the bucket's use and returns what it holds: nobody can take a token that its successor counts again.
func (b *bucket) retire(now time.Duration) float64 {
	tat := b.tat.Swap(retired)
	if b.interval == 0 {
		return b.kept
	}
	return b.burst - float64(max(0, tat-int64(now)))/float64(b.interval)
}

// wait returns how long it is until a token is there; ≤ 0: there is one.
func (b *bucket) wait(now time.Duration, tat int64) time.Duration {
	if b.perSecond <= 0 {
		return math.MaxInt64
	}
	return time.Duration(tat - b.slack - int64(now))
}

// ready says whether take would succeed, and else when it is worth trying again. It takes nothing.
func (r *rater) ready(now time.Duration) (wait time.Duration, ok bool) {
	b := r.bucket.Load()
	if b == nil {
		return 0, true
	}
	tat := b.tat.Load()
	if tat == retired { // being replaced: take will see the successor
		return 0, true
	}
	wait = b.wait(now, tat)
	return wait, wait <= 0
}

// take takes a token, or says how long it is until there is one.
func (r *rater) take(now time.Duration) (wait time.Duration, ok bool) {
	for {
		b := r.bucket.Load()
		if b == nil {
			return 0, true
		}
		tat := b.tat.Load()
		if tat == retired { // its successor is some nanoseconds away
			runtime.Gosched()
			continue
		}
		if wait := b.wait(now, tat); wait > 0 {
			return wait, false
		}
		if b.tat.CompareAndSwap(tat, max(tat, int64(now))+b.interval) {
			return 0, true
		}
	}
}

// perSecond is the rate in force; +Inf: none.
func (r *rater) perSecond() float64 {
	if b := r.bucket.Load(); b != nil {
		return b.perSecond
	}
	return math.Inf(1)
}
