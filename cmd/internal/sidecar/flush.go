package sidecar

import (
	"net/http"
	"sync"
	"time"
)

// flushAfter is how long a part of an answer of known length waits for the rest, one to two times: short answers then take
// one system call. All other answers are flushed at once.
const flushAfter = time.Millisecond

// flushes are the answers of which a part is in a buffer. Nearly all are complete before they are due, and
// starting and stopping a timer for each costs much of what this package may cost. So one goroutine flushes them all; it
// runs while there are any.
type flushes struct {
	mu      sync.Mutex
	running bool
	fresh   *answer // a list; flushed at the next look but one
	ripe    *answer // flushed at the next look
}

var dueFlushes flushes

// add makes a due to be flushed, unless it is already.
func (f *flushes) add(a *answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.list != nil {
		return
	}
	a.link(&f.fresh)
	if !f.running {
		f.running = true
		go f.run()
	}
}

// remove makes a no longer due.
func (f *flushes) remove(a *answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.unlink()
}

func (f *flushes) run() {
	ticker := time.NewTicker(flushAfter)
	defer ticker.Stop()
	for range ticker.C {
		f.mu.Lock()
		for f.ripe != nil {
			a := f.ripe
			a.unlink()
			go a.flush() // it may wait for the client
		}
		for f.fresh != nil {
			a := f.fresh
			a.unlink()
			a.link(&f.ripe)
		}
		if f.ripe == nil {
			f.running = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
	}
}

// link puts a at the front of a list, which flushes.mu guards.
func (a *answer) link(list **answer) {
	a.list, a.next, a.before = list, *list, nil
	if a.next != nil {
		a.next.before = a
	}
	*list = a
}

// unlink takes a from its list, if it is in one.
func (a *answer) unlink() {
	if a.list == nil {
		return
	}
	if a.next != nil {
		a.next.before = a.before
	}
	if a.before != nil {
		a.before.next = a.next
	} else {
		*a.list = a.next
	}
	a.list, a.next, a.before = nil, nil, nil
}

// flush sends what is in the buffer, unless the answer has ended.
func (a *answer) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left > 0 {
		_ = http.NewResponseController(a.ResponseWriter).Flush() // the next write has the same error
	}
}
