package guard

import "time"

// held watches for a time in which no slot comes free: requests hold all of them, nobody is admitted, and nothing ends
// that could move the limit. Health checks are refused as well. Somebody must then know who holds the slots.
type held struct {
	since    time.Duration // when a slot last was free, or somebody was admitted
	admitted uint64        // until then
	logged   time.Duration // 0: not since
}

const (
	heldAge      = 10 // SLOs after which it is logged
	heldLogEvery = time.Minute
	heldNames    = 5
)

// watchSlots notes at the instant now whether a slot has come free. The caller holds g.mu.
func (g *Guard) watchSlots(now time.Duration) {
	h, admitted := &g.held, uint64(0)
	for class := range criticalities {
		admitted += g.count.admittedOf(class)
	}
	limit, n := unpack(g.gate.word.Load())
	if n < limit || admitted != h.admitted {
		*h = held{since: now, admitted: admitted}
		return
	}
	stuck := now - h.since
	if stuck < heldAge*g.cfg.SLO || h.logged > 0 && now-h.logged < heldLogEvery {
		return
	}
	h.logged = now
	attrs := []any{"service", g.cfg.Service, "for_seconds", stuck.Seconds(), "in_flight", n, "limit", limit}
	if g.cfg.Holders != nil {
		attrs = append(attrs, "oldest", g.cfg.Holders(heldNames))
	}
	g.cfg.Logger.Warn("no slot has come free: the requests in flight hold all of them and do not end, so every request is "+
		"refused; declare routes that last (Permit.Endless, guardhttp.WithEndless), or give the service and its calls "+
		"timeouts", attrs...)
}
