package guard

import (
	"sync/atomic"
	"time"
)

// hint says when a refusal should tell its caller not to retry: after a second of unbroken refusing. A short burst is
// over by the time a retry arrives; an overload that has lasted for a second will still be there.
//
// Refusing is unbroken while no two refusals are more than half a second apart. Admissions do not break it: a service
// with twice its load serves as many requests as it refuses, and every retry makes it refuse more.
//
// It is a lock-free approximation: refusals that race at the edge of a gap may each start the second anew.
type hint struct {
	since atomic.Int64 // start of the unbroken refusing
	last  atomic.Int64 // latest refusal + 1; 0: none yet
}

const (
	hintAfter = time.Second
	hintGap   = 500 * time.Millisecond
)

// refused notes a refusal and says whether it should carry the hint.
func (h *hint) refused(now time.Duration) bool {
	last := h.last.Load()
	if last == 0 || int64(now)-(last-1) > int64(hintGap) {
		h.since.Store(int64(now))
	}
	h.last.Store(int64(now) + 1)
	return int64(now)-h.since.Load() >= int64(hintAfter)
}

// stands says whether a refusal at the instant now would carry the hint. It notes nothing.
func (h *hint) stands(now time.Duration) bool {
	last := h.last.Load()
	return last != 0 && int64(now)-(last-1) <= int64(hintGap) && last-1-h.since.Load() >= int64(hintAfter)
}

// NoRetry says whether the bulkhead has been refusing for a second without a break. An answer that passes its refusal on
// to a caller, or to another process, should then carry the hint not to retry. A request in the context of the call
// learns that by itself (see AdviceOf).
func (d *Dependency) NoRetry() bool { return d.out.hint.stands(d.caller.now()) }
