package guard

import (
	"math"
	"time"
)

// mix tells how much of the mean latency is due to what is asked for. A service whose slow APIs are asked for more than usual
// takes longer on average, though nothing queues, and a lower limit would not make it faster. Each API has a mean m₀ₖ of
// its own in calm, and M₀ is that of all known ones together, in the proportions of the calm. A request of API k that has
// finished shifts the mean by
//
//	m₀ₖ − M₀
//
// What delays all APIs alike, a queue that was taken for calm, cancels out. A request counts with M₀ if it has no API, or if
// its API has not finished usualLeast requests in calm. Time in guarded calls is no part of any of these means: the reflex
// knows it anyway. Requests whose latency counts for nothing are left out, and so is one that lasts so long that it may have
// been excused as endless.
//
// An overload teaches only that an API has become faster: one that fails at once, or answers from a cache, while all others
// queue. By what it took in calm, the reflex would take that queue for its requests.
//
// Example: 280/s of 40 ms and 8/s of 1 s have a mean of 67 ms. With 32/s of the slow ones it is 139 ms: a shift of 72 ms.
type mix struct {
	longest time.Duration // of a request that is not left out; 0: all are
	calm    mean          // M₀, of the known APIs
	shifted float64       // the sum of all shifts, in seconds
}

// usual is what the requests of one API take.
type usual struct {
	calm  mean // m₀ₖ, faded with usualSpan
	fresh mean // of this learning window

	busy mean          // of learning windows in a row that were not calm,
	over time.Duration // which took so long
}

func (u *usual) known() bool { return u.calm.count >= usualLeast }

// mean is a mean in the making.
type mean struct{ sum, count float64 }

func (m *mean) add(other mean) { m.sum, m.count = m.sum+other.sum, m.count+other.count }

func (m *mean) fade(factor float64) { m.sum, m.count = m.sum*factor, m.count*factor }

func (m *mean) value() float64 { return m.sum / m.count }

const (
	usualSpan  = 300 * time.Second // time constant, of time spent in calm
	usualLeast = 100               // requests: their mean is sure to a tenth
	// usualFaster is the part of m₀ₖ below which the mean of usualLeast requests, over usualTimes m₀ₖ at least, shows that it has
	// changed. Chance takes a tenth off, and a burst another: those of its requests that are fast finish first.
	usualFaster = 0.7
	usualTimes  = 10
	// notCounted is the own time of a request whose latency counts for nothing.
	notCounted = time.Duration(-1)
)

// complete counts a request of the API u that took so long outside of guarded calls.
func (m *mix) complete(u *usual, own time.Duration) {
	if own < 0 || own >= m.longest {
		return
	}
	u.fresh.add(mean{own.Seconds(), 1})
	if u.known() {
		m.shifted += u.calm.value() - m.calm.value()
	}
}

// shifted is the sum of the shifts of all requests so far, in seconds.
func (f *fair) shifted() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mix.shifted
}

// learnMix ends a learning window.
func (f *fair) learnMix(w lesson) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mix.calm = mean{}
	for i := range f.demand.counters {
		u := &f.demand.counters[i].usual
		if w.calm {
			u.calm.fade(math.Exp(-w.span.Seconds() / usualSpan.Seconds()))
			u.calm.add(u.fresh)
			u.busy, u.over = mean{}, 0
		} else {
			u.hurry(w.span)
		}
		u.fresh = mean{}
		if u.known() {
			f.mix.calm.add(u.calm)
		}
	}
}

// hurry notes what the requests of a learning window took that was not calm, if they have become faster.
func (u *usual) hurry(span time.Duration) {
	u.busy.add(u.fresh)
	u.over += span
	if u.busy.count < usualLeast || u.over.Seconds() < usualTimes*u.calm.value() {
		return
	}
	if took := u.busy.value(); took < usualFaster*u.calm.value() {
		u.calm.sum = took * u.calm.count
	}
	u.busy, u.over = mean{}, 0
}
