package models

// queue is a FIFO of slots on a ring that grows.
type queue struct {
	ring  []int32
	head  int
	count int
}

func (q *queue) len() int { return q.count }

func (q *queue) push(slot int32) {
	if q.count == len(q.ring) {
		grown := make([]int32, max(64, 2*len(q.ring)))
		n := copy(grown, q.ring[q.head:])
		copy(grown[n:], q.ring[:q.head])
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.count)&(len(q.ring)-1)] = slot
	q.count++
}

func (q *queue) pop() int32 {
	slot := q.ring[q.head]
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.count--
	return slot
}
