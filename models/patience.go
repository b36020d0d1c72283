package models

import "time"

// patience holds the instants at which clients give up. All clients are equally patient, so it is a queue.
type patience struct {
	waiting []waiter
	head    int
}

type waiter struct {
	at      time.Duration
	attempt uint64
	slot    int32
}

// next is when the next client gives up, if its request is still there.
func (p *patience) next() time.Duration {
	if p.head == len(p.waiting) {
		return Never
	}
	return p.waiting[p.head].at
}

func (p *patience) push(w waiter) {
	if p.head == len(p.waiting) {
		p.waiting, p.head = p.waiting[:0], 0
	}
	p.waiting = append(p.waiting, w)
}

func (p *patience) pop() waiter {
	w := p.waiting[p.head]
	if p.head++; p.head > 4096 && 2*p.head > len(p.waiting) {
		p.waiting = append(p.waiting[:0], p.waiting[p.head:]...)
		p.head = 0
	}
	return w
}
