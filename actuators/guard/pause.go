package guard

import "time"

// Pause gives the slot back while the request waits for its own client: for more of its body, or until the client takes
// more of the answer. A slot is for the work of the service, and that time is not its latency. Resume ends the pause.
//
// Pause, Resume, Endless and Release of one request must not be called at the same time. Pause does nothing to a request
// that is paused, endless or over.
func (p Permit) Pause() {
	if p.ticket != nil {
		p.pause(p.ticket.guard.now())
	}
}

// PauseAt is Pause at the instant now.
func (p Permit) PauseAt(now time.Time) {
	if p.ticket != nil {
		p.pause(now.Sub(p.ticket.guard.base))
	}
}

func (p Permit) pause(now time.Duration) {
	t := p.ticket
	if t.gen.Load() != p.gen {
		return
	}
	count := t.counted(p)
	t.since = now
	t.gen.Store(p.gen | paused)
	g := t.guard
	if count.leave() {
		g.gate.leave(now)
	} else { // it was found to be endless
		g.endless.found.Add(-1)
	}
	g.tick(now)
}

// Resume takes a slot again at once, even above the limit: the request was admitted, and refusing it now would waste what
// it has cost. While more are in flight than the limit, nobody else is admitted.
func (p Permit) Resume() {
	if p.ticket != nil {
		p.resume(p.ticket.guard.now())
	}
}

// ResumeAt is Resume at the instant now.
func (p Permit) ResumeAt(now time.Time) {
	if p.ticket != nil {
		p.resume(now.Sub(p.ticket.guard.base))
	}
}

func (p Permit) resume(now time.Duration) {
	t := p.ticket
	if t.gen.Load() != p.gen|paused {
		return
	}
	g := t.guard
	t.idle += max(0, now-t.since)
	g.gate.enterAnyway(now)
	t.moved.Store(g.endless.join(t.shard))
	t.gen.Store(p.gen)
	g.tick(now)
}

// counted returns where the request of p is counted with those that started, or resumed, with it. It is right if the
// generation is still that of p afterwards.
func (t *ticket) counted(p Permit) *headcount {
	if moved := t.moved.Load(); moved != nil {
		return moved
	}
	return p.count
}
