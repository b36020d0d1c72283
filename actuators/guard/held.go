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

// note says at the instant now for how long no slot has come free. admitted counts the requests that had one since the start.
func (h *held) note(now time.Duration, full bool, admitted uint64) time.Duration {
	if !full || admitted != h.admitted {
		*h = held{since: now, admitted: admitted}
	}
	return now - h.since
}

// watchSlots notes whether a slot has come free. The caller holds g.mu.
func (g *Guard) watchSlots(now time.Duration, admitted uint64) {
	limit, n := unpack(g.gate.word.Load())
	stuck := g.held.note(now, n >= limit, admitted)
	g.held.log(g, now, stuck, heldAge*g.cfg.SLO, n, limit)
}

// watchSlots is that of all compartments together. The caller holds r.mu.
func (r *roof) watchSlots(now time.Duration) {
	admitted, slo := uint64(0), time.Duration(0)
	for _, part := range r.parts {
		admitted += sum(part.admitted())
		slo = max(slo, part.cfg.SLO)
	}
	limit, n := unpack(r.gate.word.Load())
	stuck := r.held.note(now, n >= limit, admitted)
	r.held.log(r.parts[0], now, stuck, heldAge*slo, n, limit)
}

// admitted counts the requests that had a slot since the start.
func (g *Guard) admitted() (n [criticalities]uint64) {
	for class := range n {
		n[class] = g.tickets[class].taken()
	}
	return n
}

// log says that no slot has come free, if that has lasted for long.
func (h *held) log(g *Guard, now, stuck, long time.Duration, n, limit uint64) {
	if stuck < long || h.logged > 0 && now-h.logged < heldLogEvery {
		return
	}
	h.logged = now
	attrs := []any{"service", g.cfg.Service, "for_seconds", stuck.Seconds(), "in_flight", n, "limit", limit}
	if holders := g.service.cfg.Holders; holders != nil {
		attrs = append(attrs, "oldest", holders(heldNames))
	}
	g.cfg.Logger.Warn("no slot has come free: the requests in flight hold all of them and do not end, so every request is "+
		"refused; declare routes that last (Permit.Endless, guardhttp.WithEndless), or give the service and its calls "+
		"timeouts", attrs...)
}
