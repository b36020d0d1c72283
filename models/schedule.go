package models

import "time"

// schedule is what will happen in a plant: its clock, the timers of whoever runs it, and the events of its requests.
type schedule struct {
	now    time.Duration
	timers []timer
	events eventHeap
}

type timer struct {
	at     time.Duration
	period time.Duration // 0: once
	run    func(now time.Duration)
}

// At runs f once at the instant at. Timers due at the same instant run in the order in which they were added, before
// anything happens to requests.
func (s *schedule) At(at time.Duration, f func(now time.Duration)) {
	s.timers = append(s.timers, timer{at: at, run: f})
}

// Every runs f first at first and then once per period.
func (s *schedule) Every(first, period time.Duration, f func(now time.Duration)) {
	if period <= 0 {
		panic("models: a period must be positive")
	}
	s.timers = append(s.timers, timer{at: first, period: period, run: f})
}

// nextTimer returns the index of the timer that is due first, -1 if there is none. A run has only a few timers and
// calls this only when one has fired.
func (s *schedule) nextTimer() int {
	due := -1
	for i, t := range s.timers {
		if due < 0 || t.at < s.timers[due].at {
			due = i
		}
	}
	return due
}

func (s *schedule) fire(i int) {
	t := s.timers[i]
	s.now = t.at
	if t.period > 0 {
		s.timers[i].at += t.period
	} else {
		s.timers = append(s.timers[:i], s.timers[i+1:]...)
	}
	t.run(s.now)
}

// world is what happens to the requests of a plant, for the schedule that says when.
type world interface {
	advance(e event)
	// gone is when the next client gives up, Never: none does; giveUp makes it happen.
	gone() time.Duration
	giveUp()
	// arrive lets the request arrive that source announces.
	arrive()
}

// run advances w up to but not including the instant until. The next of timer, event, client that gives up and arrival
// happens; ties in this order.
func (s *schedule) run(until time.Duration, w world, arrivals *source) {
	due := s.nextTimer()
	for {
		gone := w.gone()
		next := min(arrivals.next, gone, until)
		if len(s.events) > 0 {
			next = min(next, s.events[0].at)
		}
		switch {
		case due >= 0 && s.timers[due].at <= next && s.timers[due].at < until:
			s.fire(due)
			due = s.nextTimer()
		case next >= until:
			s.now = until
			return
		case len(s.events) > 0 && s.events[0].at == next:
			e := s.events.pop()
			s.now = e.at
			w.advance(e)
		case gone == next:
			s.now = next
			w.giveUp()
		default:
			s.now = next
			w.arrive()
		}
	}
}
