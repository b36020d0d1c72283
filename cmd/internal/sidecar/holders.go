package sidecar

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Holders knows the requests that hold a slot, so that the log can say who they are. Its zero value is ready, and Oldest is
// a guard.Config.Holders. Requests are spread over lists, so that they hardly ever wait for each other.
type Holders [16]struct {
	mu          sync.Mutex
	first, last *exchange // the oldest and the youngest
	_           [40]byte
}

// enter notes that x has been admitted.
func (h *Holders) enter(x *exchange) {
	x.admitted, x.list = time.Now(), rand.IntN(len(h))
	l := &h[x.list]
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.older = l.last; x.older != nil {
		x.older.younger = x
	} else {
		l.first = x
	}
	l.last = x
	x.holds = true
}

// leave notes that x holds no slot any more. Again, it does nothing.
func (h *Holders) leave(x *exchange) {
	l := &h[x.list]
	l.mu.Lock()
	defer l.mu.Unlock()
	if !x.holds {
		return
	}
	x.holds = false
	if x.older != nil {
		x.older.younger = x.younger
	} else {
		l.first = x.younger
	}
	if x.younger != nil {
		x.younger.older = x.older
	} else {
		l.last = x.older
	}
	x.older, x.younger = nil, nil
}

// oldest returns up to most of the requests, oldest first.
func (h *Holders) oldest(most int) (oldest []*exchange) {
	for i := range h {
		h[i].mu.Lock()
		n := 0
		for x := h[i].first; x != nil && n < most; x = x.younger {
			oldest = append(oldest, x)
			n++
		}
		h[i].mu.Unlock()
	}
	slices.SortFunc(oldest, func(a, b *exchange) int { return a.admitted.Compare(b.admitted) })
	return oldest[:min(most, len(oldest))]
}

// longestPath is how much of a path is shown, in bytes. Queries are not: they may contain secrets.
const longestPath = 80

// Oldest names up to most of the oldest requests, with what they wait for as far as the proxy can tell.
func (h *Holders) Oldest(most int) (names []string) {
	for _, x := range h.oldest(most) {
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
