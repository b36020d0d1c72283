package daemon

import (
	"math"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// health remembers the last answer of a dependency. It is safe for concurrent use.
type health struct {
	mu     sync.Mutex
	err    error
	asked  bool
	took   time.Duration
	lastOK time.Time
}

func (h *health) answered(now time.Time, took time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked, h.err, h.took = true, err, took
	if err == nil {
		h.lastOK = now
	}
}

func (h *health) dependency(address string) api.Dependency {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := api.Dependency{Address: address, OK: h.asked && h.err == nil, Latency: control.Number(math.NaN())}
	switch {
	case !h.asked:
		d.Error = "not asked yet"
	case h.err != nil:
		d.Error = h.err.Error()
	default:
		d.Latency = control.Number(h.took.Seconds())
	}
	if !h.lastOK.IsZero() {
		at := h.lastOK
		d.LastOK = &at
	}
	return d
}
