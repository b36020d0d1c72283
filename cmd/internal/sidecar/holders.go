package sidecar

import (
	"fmt"
	"sync"
	"time"
)

// Holders knows the requests that hold a slot, oldest first, so that the log can say who they are. Its zero value is ready,
// and Oldest is a guard.Config.Holders.
type Holders struct {
	mu          sync.Mutex
	first, last *exchange
}

// enter notes that x has been admitted.
func (h *Holders) enter(x *exchange) {
	x.admitted = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.older = h.last; x.older != nil {
		x.older.younger = x
	} else {
		h.first = x
	}
	h.last = x
	x.holds = true
}

// leave notes that x holds no slot any more. Again, it does nothing.
func (h *Holders) leave(x *exchange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !x.holds {
		return
	}
	x.holds = false
	if x.older != nil {
		x.older.younger = x.younger
	} else {
		h.first = x.younger
	}
	if x.younger != nil {
		x.younger.older = x.older
	} else {
		h.last = x.older
	}
	x.older, x.younger = nil, nil
}

// longestPath is how much of a path is shown, in bytes. Queries are not: they may contain secrets.
const longestPath = 80

// Oldest names up to most of the oldest requests, with what they wait for as far as the proxy can tell.
func (h *Holders) Oldest(most int) (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for x := h.first; x != nil && len(names) < most; x = x.younger {
		path := x.received.URL.EscapedPath()
		if len(path) > longestPath {
			path = path[:longestPath] + "…"
		}
		waits := "for the service"
		if x.upload != nil && !x.upload.read.Load() {
			waits = "for the rest of its body or the service"
		}
		names = append(names, fmt.Sprintf("%s %s from %s waits %s, %.1fs old", x.received.Method, path, x.received.RemoteAddr,
			waits, time.Since(x.admitted).Seconds()))
	}
	return names
}
