package guard

import (
	"math"
	"time"
)

// mix tells how much of the mean latency is due to what is asked for. A service whose slow APIs are asked for more than usual
// takes longer on average, though nothing queues, and a lower limit would not make it faster. Each API has a mean m₀ₖ of
// its own in calm, and M₀ is that of all of them together, in the proportions of the calm. A request of API k that has finished
// shifts the mean by
//
//	m₀ₖ − M₀
//
// What delays all APIs alike, a queue that was taken for calm, cancels out. A request counts with M₀ if its API has not
// finished usualLeast requests in calm. One that lasts so long that it may have been excused as endless, and whose latency then
// counts for nothing, is left out.
//
// Example: 280/s of 40 ms and 8/s of 1 s have a mean of 67 ms. With 32/s of the slow ones it is 139 ms: a shift of 72 ms.
type mix struct {
	longest time.Duration // of a request that shifts the mean; 0: none does
	calm    mean          // M₀
	fresh   mean          // shifts of the requests that have finished since the last look
	shifted float64       // seconds, the sum over all finished requests
	seen    uint64        // finished requests at the last look
}

// usual is what the requests of one API take.
type usual struct {
	calm  mean // m₀ₖ, faded with usualSpan
	fresh mean // of this learning window
}

// mean is a mean in the making.
type mean struct{ sum, count float64 }

func (m mean) value() float64 { return m.sum / m.count }

const (
	usualSpan  = 300 * time.Second // time constant, of time spent in calm
	usualLeast = 20                // requests
)

// complete counts a request of the API u.
func (m *mix) complete(u *usual, took time.Duration) {
	if took >= m.longest {
		return
	}
	m.fresh.count++
	u.fresh.sum += took.Seconds()
	u.fresh.count++
	if u.calm.count >= usualLeast {
		m.fresh.sum += u.calm.value() - m.calm.value()
	}
}

// shiftedBy returns the sum of all shifts so far, in seconds, of which finished have finished. Requests that were not counted,
// because others were being counted, shift the mean as those do.
func (f *fair) shiftedBy(finished uint64) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &f.mix
	if m.fresh.count > 0 && finished > m.seen {
		m.shifted += float64(finished-m.seen) * m.fresh.value()
	}
	m.fresh, m.seen = mean{}, finished
	return m.shifted
}

// learnMix ends a learning window.
func (f *fair) learnMix(w lesson) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fade := math.Exp(-w.span.Seconds() / usualSpan.Seconds())
	m := &f.mix
	m.calm = mean{}
	for i := range f.demand.counters {
		u := &f.demand.counters[i].usual
		if w.calm {
			u.calm.sum = u.calm.sum*fade + u.fresh.sum
			u.calm.count = u.calm.count*fade + u.fresh.count
		}
		u.fresh = mean{}
		m.calm.sum += u.calm.sum
		m.calm.count += u.calm.count
	}
}
