package guard

import "math"

// heavyKeys is how many keys a guard keeps apart.
const heavyKeys = 64

// heavy finds the keys that weigh most in a stream, in memory that does not depend on how many keys there are. It is the
// algorithm Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data
// Streams, ICDT 2005) with weights that fade. A key without a counter takes over the smallest one, and what that one held
// becomes the new key's excess. With k counters and a total weight N,
//
//	counter.least ≤ weight ≤ counter.least + counter.excess,    excess ≤ N/k
//
// and every key that weighs more than N/k has a counter. All weights fade by the same factor at the same time, so that this
// holds for the faded weights. Its zero value is empty.
type heavy struct {
	counters []counter      // at most heavyKeys
	at       map[uint64]int // index of a key's counter
	total    float64        // N
}

// counter is what is known of one key.
type counter struct {
	key    uint64
	excess float64
	sure   [criticalities]float64 // what the key weighs at least, by criticality

	used, done float64 // slot-seconds and number of its completed requests
	usual      usual
}

// least is the least that the key weighs.
func (c *counter) least() (sum float64) {
	for _, w := range c.sure {
		sum += w
	}
	return sum
}

// weight is the most that the key weighs.
func (c *counter) weight() float64 { return c.excess + c.least() }

// add counts a weight, at least 0, of a criticality for a key. A key without a counter gets one if open is true. It returns
// the counter, nil if there is none.
func (h *heavy) add(key uint64, class Criticality, weight float64, open bool) *counter {
	h.total += weight
	if c := h.of(key); c != nil {
		c.sure[class] += weight
		return c
	}
	if !open {
		return nil
	}
	if h.at == nil {
		h.at = make(map[uint64]int, heavyKeys)
	}
	if len(h.counters) < heavyKeys {
		h.at[key] = len(h.counters)
		h.counters = append(h.counters, counter{key: key})
		c := &h.counters[len(h.counters)-1]
		c.sure[class] = weight
		return c
	}
	least, smallest := 0, math.Inf(1)
	for i := range h.counters {
		if w := h.counters[i].weight(); w < smallest {
			least, smallest = i, w
		}
	}
	c := &h.counters[least]
	delete(h.at, c.key)
	h.at[key] = least
	*c = counter{key: key, excess: smallest}
	c.sure[class] = weight
	return c
}

// of returns the counter of a key; nil: it has none.
func (h *heavy) of(key uint64) *counter {
	if i, ok := h.at[key]; ok {
		return &h.counters[i]
	}
	return nil
}

// fade multiplies every weight by factor, 0..1.
func (h *heavy) fade(factor float64) {
	h.total *= factor
	for i := range h.counters {
		h.counters[i].excess *= factor
		for class := range h.counters[i].sure {
			h.counters[i].sure[class] *= factor
		}
		h.counters[i].used *= factor
		h.counters[i].done *= factor
	}
}

// rest is the most that the keys without a counter can weigh together, with what is not sure of the others.
func (h *heavy) rest() float64 {
	rest := h.total
	for i := range h.counters {
		rest -= h.counters[i].least()
	}
	return max(0, rest)
}
