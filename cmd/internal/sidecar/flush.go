package sidecar

import (
	"net/http"
	"sync/atomic"
	"time"
)

// flushAfter is how long a part of an answer of known length waits for the rest, one to two times: short answers then take
// one system call. All other answers are flushed at once.
const flushAfter = time.Millisecond

// flushes are the answers of which a part is in a buffer. Nearly all are complete before they are due, and starting and
// stopping a timer for each costs much of what this package may cost. So one goroutine looks at all of them; it runs while
// there are any. Adding one takes no lock, and an answer that is complete stays for the next look.
type flushes struct {
	added   atomic.Pointer[answer] // a list
	running atomic.Bool
}

var dueFlushes flushes

// add makes a due to be flushed.
func (f *flushes) add(a *answer) {
	a.due.Store(true)
	if a.linked.Swap(true) {
		return
	}
	for {
		a.next = f.added.Load()
		if f.added.CompareAndSwap(a.next, a) {
			break
		}
	}
	if !f.running.Load() && f.running.CompareAndSwap(false, true) {
		go f.run()
	}
}

func (f *flushes) run() {
	ticker := time.NewTicker(flushAfter)
	defer ticker.Stop()
	var ripe *answer // those added before the last look
	for range ticker.C {
		for a := ripe; a != nil; {
			next := a.next
			a.linked.Store(false) // it may be added again at once
			if a.due.Load() {
				go a.flush() // it may wait for the client
			}
			a = next
		}
		ripe = f.added.Swap(nil)
		if ripe != nil {
			continue
		}
		f.running.Store(false)
		if f.added.Load() == nil || !f.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// flush sends what is in the buffer, unless the answer has ended.
func (a *answer) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.due.Swap(false) {
		_ = http.NewResponseController(a.ResponseWriter).Flush() // the next write has the same error
	}
}
