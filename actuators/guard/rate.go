package guard

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// rater is the rate limit: a token bucket, or none.
//
// It implements the generic cell rate algorithm (ITU-T I.371, annex A), a token bucket expressed as time: one word, the
// theoretical arrival time TAT, says when the bucket will be full again. A request conforms if TAT is at most burst−1
// tokens ahead, and moves it on by one token. An admission is therefore one compare-and-swap, and refills are exact
// however rarely the bucket is used. A clock that goes back only finds TAT further ahead, so it never mints a token.
//
// The semantics are those of golang.org/x/time/rate, except that a rate of 0 admits nothing: a limiter that is told to
// stop must not empty its bucket first. The tokens in it are kept for the next rate.
type rater struct {
	bucket atomic.Pointer[bucket] // nil: no rate limit
}

// bucket is a token bucket with a fixed rate and burst. Changing either makes a new bucket.
type bucket struct {
	_         line
	perSecond float64
	burst     float64
	interval  int64        // nanoseconds per token; 0 for rates above one per nanosecond
	slack     int64        // burst−1 tokens in nanoseconds
	kept      float64      // tokens of a bucket at 0 per second
	tat       atomic.Int64 // nanoseconds since the guard's base, or retired; every request writes it
	_         line
}

const (
	retired = math.MaxInt64
	forever = int64(1) << 61 // 73 years: the longest time a token or a burst may take
)

// newBucket returns a bucket that holds tokens at now; tokens may be negative.
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

// set changes the rate (admissions per second on this instance; +Inf: no limit) and the burst (tokens, ≥ 1). The
// bucket keeps its tokens, up to the new burst; a new limit starts with a full burst. Calls must not overlap.
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

// retire ends the bucket's use and returns its tokens. Nobody can then take a token that its successor counts again.
func (b *bucket) retire(now time.Duration) float64 {
	tat := b.tat.Swap(retired)
	if b.interval == 0 {
		return b.kept
	}
	return b.burst - float64(max(0, tat-int64(now)))/float64(b.interval)
}

// wait returns the time until a token is available; ≤ 0: one is available now.
func (b *bucket) wait(now time.Duration, tat int64) time.Duration {
	if b.perSecond <= 0 {
		return math.MaxInt64
	}
	return time.Duration(tat - b.slack - int64(now))
}

// look returns the bucket in force (nil: there is no limit), its state, and how long to wait until take would succeed; ≤ 0: it
// would now. It takes nothing.
func (r *rater) look(now time.Duration) (b *bucket, tat int64, wait time.Duration) {
	if b = r.bucket.Load(); b == nil {
		return nil, 0, 0
	}
	if tat = b.tat.Load(); tat == retired { // being replaced: take will see the successor
		return b, tat, 0
	}
	return b, tat, b.wait(now, tat)
}

// ready says whether a token is there.
func (r *rater) ready(now time.Duration) bool {
	_, _, wait := r.look(now)
	return wait <= 0
}

// take takes a token of what look has just returned without a wait, or the time until one is available.
func (r *rater) take(now time.Duration, b *bucket, tat int64) (wait time.Duration, ok bool) {
	if b == nil || tat != retired && b.takeAt(now, tat) {
		return 0, true
	}
	return r.takeToken(now)
}

// takeAt takes a token, if the state is still tat.
func (b *bucket) takeAt(now time.Duration, tat int64) bool {
	return b.tat.CompareAndSwap(tat, max(tat, int64(now))+b.interval)
}

// takeToken is take where another has been faster, or the bucket is being replaced.
func (r *rater) takeToken(now time.Duration) (wait time.Duration, ok bool) {
	for {
		b, tat, wait := r.look(now)
		switch {
		case b == nil:
			return 0, true
		case tat == retired: // its successor arrives within nanoseconds
			runtime.Gosched()
		case wait > 0:
			return wait, false
		case b.takeAt(now, tat):
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
