package guard

import "time"

// Pause gives the slot back while the request waits for its own client: for more of its body, or until the client takes
// more of the answer. A slot is for the work of the service, and that time is not its latency. Resume ends the pause.
//
// Pause, Resume, Endless and Release of one request must not be called at the same time. Pause does nothing to a request
// that is paused, endless (declared, or found to be) or over.
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
	w := t.word.Load()
	if !p.current(w) || w&(declared|paused|excused) != 0 {
		return
	}
	t.since = now
	if !t.word.CompareAndSwap(w, w|paused|interrupted) { // it has just been found to be endless
		return
	}
	t.guard.gate.leave(now)
	t.guard.tick(now)
}

// Resume takes a slot again at once, even above the limit: the request was admitted, and refusing it now would waste what
// it has cost. While more are in flight than the limit, nobody else is admitted. It does nothing to a request that is not paused.
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
	g, w := t.guard, t.word.Load()
	if !p.current(w) || w&paused == 0 {
		return
	}
	t.idle += max(0, now-t.since)
	g.gate.enterAnyway(now)
	if !t.word.CompareAndSwap(w, w&^(paused|cohortMask)|g.endless.current.Load()) {
		g.gate.leave(now)
		return
	}
	g.endless.resumed.Add(1)
	g.tick(now)
}
