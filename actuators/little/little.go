// Package little holds the estimates that guard's reflex and governor's loops derive from Little's law, L = X·m: the
// mean number of requests in a service is its throughput times their mean latency, for any distributions (J. D. C.
// Little, "A Proof for the Queuing Formula L = λW", Operations Research 9(3), 1961).
//
// Both layers use the same code to answer three questions:
//
//   - OwnLatency: how fast is the service when nothing queues (m₀)?
//   - Carried: what throughput has it shown it can carry (X̂max)? X̂max·m₀ is the floor: with fewer requests in flight
//     the service cannot do what it has done before.
//   - FloorTest: at the floor and still too slow, does limiting help at all?
//
// Example: a service that carried 800 requests/s at 40 ms had 32 of them in flight. A limit of 20 would cap it at
// 500/s, however healthy it is.
//
// Time is an argument. Nothing here is safe for concurrent use.
package little

import (
	"math"
	"slices"
	"time"
)

// BindingAt is the share of a limit in flight from which the limit counts as binding. Guards measure how long their
// limit binds, and governor judges by it, so both use this constant: if a setting could change only one of the two,
// they would disagree about what an overload is. The constant is compiled into the services.
const BindingAt = 0.85

// OwnLatency estimates m₀, the mean latency of a service in which nothing queues: the 20% quantile of the means of
// its recent healthy windows. Overload cannot raise it, however long it lasts, because windows with refusals or a
// nearly full limit are left out. (A sliding minimum would forget: after an hour of overload it would have learned the
// overload.)
type OwnLatency struct {
	prior  float64 // used until a healthy window is seen, seconds
	window time.Duration
	keep   int
	means  []float64 // ring, newest at next-1
	next   int
	last   time.Time
	lowest float64 // smallest mean ever observed, healthy or not
}

const (
	ownLatencyQuantile = 0.2
	ownLatencySpan     = 300 * time.Second
	ownLatencyPrior    = 0.23 // of the SLO: assumed for an unknown service
)

// NewOwnLatency returns an estimator for a service with the latency objective slo, fed with means over window. It
// remembers max(10, 300 s/window) windows.
func NewOwnLatency(slo, window time.Duration) *OwnLatency {
	keep := 10
	if window > 0 {
		keep = max(keep, int(ownLatencySpan/window))
	}
	return &OwnLatency{prior: ownLatencyPrior * slo.Seconds(), window: window, keep: keep, lowest: math.Inf(1)}
}

// Observe takes the mean latency (seconds) of the window that ended at now. It thins out overlapping windows: one per
// window length counts. Means that are not positive and finite are ignored.
func (o *OwnLatency) Observe(now time.Time, mean float64, healthy bool) {
	if !(mean > 0) || math.IsInf(mean, 0) {
		return
	}
	o.lowest = min(o.lowest, mean)
	if !healthy || (!o.last.IsZero() && now.Sub(o.last) < o.window) {
		return
	}
	o.last = now
	if len(o.means) < o.keep {
		o.means = append(o.means, mean)
		return
	}
	o.means[o.next] = mean
	o.next = (o.next + 1) % o.keep
}

// Seconds returns m₀.
func (o *OwnLatency) Seconds() float64 {
	if len(o.means) == 0 {
		return min(o.lowest, o.prior)
	}
	sorted := slices.Sorted(slices.Values(o.means))
	return sorted[int(ownLatencyQuantile*float64(len(sorted)-1))]
}

// Evidence returns how many healthy windows m₀ rests on, and when the newest of them ended; 0 while there was none, and m₀
// is a guess.
func (o *OwnLatency) Evidence() (windows int, newest time.Time) { return len(o.means), o.last }

// Lowest returns the smallest mean observed, in calm or not; +Inf before the first.
func (o *OwnLatency) Lowest() float64 { return o.lowest }

// Carried remembers X̂max, the largest throughput a service has carried, in requests per second. X̂max fades with a
// time constant of an hour, so that a service that has really become smaller is eventually believed.
type Carried struct {
	x  float64
	at time.Time
}

const carriedMemory = time.Hour

// Observe takes the throughput of the window that ended at now.
func (c *Carried) Observe(now time.Time, perSecond float64) {
	if !(perSecond >= 0) || math.IsInf(perSecond, 0) {
		return
	}
	if faded := c.PerSecond(now); perSecond < faded {
		return
	}
	c.x, c.at = perSecond, now
}

// PerSecond returns X̂max as of now, 0 before the first observation.
func (c *Carried) PerSecond(now time.Time) float64 {
	if dt := now.Sub(c.at); dt > 0 && c.x > 0 {
		return c.x * math.Exp(-dt.Seconds()/carriedMemory.Seconds())
	}
	return c.x
}

// Since returns when X̂max was carried; the zero time before the first observation.
func (c *Carried) Since() time.Time { return c.at }
