package models

import "time"

// event is a future event of a request in the plant. Values, not pointers: the heap is the hot path.
type event struct {
	at   time.Duration
	slot int32
	kind eventKind
}

type eventKind int32

const (
	served   eventKind = iota // a server has finished the request
	answered                  // the dependency has answered
	dropped                   // a server has found that nobody is waiting for the request
	again                     // a client tries again
)

// eventHeap is a 4-ary min-heap by time: shallower than a binary one, and its children share a cache line or two.
type eventHeap []event

func (h *eventHeap) push(e event) {
	s := append(*h, e)
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if s[parent].at <= e.at {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = e
	*h = s
}

func (h *eventHeap) pop() event {
	s := *h
	top := s[0]
	last := len(s) - 1
	e := s[last]
	s = s[:last]
	*h = s
	if last == 0 {
		return top
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= last {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, last); c++ {
			if s[c].at < s[least].at {
				least = c
			}
		}
		if e.at <= s[least].at {
			break
		}
		s[i] = s[least]
		i = least
	}
	s[i] = e
	return top
}
