package guard

import (
	"math"
	"math/bits"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// The native histogram's resolution: 2^3 buckets per doubling (schema 3), from 2^-20 s ≈ 1 µs to 2^12 s ≈ 68 min.
// The outermost buckets count what lies outside.
const (
	nativeSchema  = 3
	perDoubling   = 1 << nativeSchema
	nativeLowest  = -20 * perDoubling // index whose upper bound is the zero threshold
	nativeHighest = 12 * perDoubling
)

// classicShares are the edges of the classic histogram in percent of the SLO: dense around the SLO and around the means
// that the reflex aims at (30 to 60%).
var classicShares = []time.Duration{5, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 300, 500, 1000}

// octave holds the bounds of the native buckets within one doubling, as fractions in [0.5, 1).
var octave = func() (b [perDoubling]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/perDoubling - 1)
	}
	return b
}()

// latency counts the latencies of admitted requests that finished. A classic and a native histogram share one array of
// counters, split at the edges of both, so that an observation is one increment and the two always agree on the total.
type latency struct {
	edges   []float64               // upper bounds (inclusive) of all cells but the last, seconds, ascending
	ends    []int64                 // the same in whole nanoseconds
	from    [64 << startBits]uint16 // where to search for a latency, by its length in bits and the bits after the first
	classic []float64
	first   [nativeHighest - nativeLowest + 1]uint16 // first cell of each native bucket; 0 is the zero bucket
	waited  atomic.Uint64                            // the part of the sum spent in guarded calls, in sumUnit

	// What is counted in each cell: the latencies in the lower countBits, their sum above them. One word for both, so that
	// an observation is one addition. Each shard has cache lines of its own.
	shards [][]atomic.Uint64

	mu         sync.Mutex // guards what follows, and is held to read the shards
	folded     []uint64   // latencies by cell that are no longer in the shards
	count, sum uint64     // of those; the sum in sumUnit: wraps after 58 years with a thousand requests in flight
}

// A word that is half full is emptied, so that it never overflows: for that, 500 requests of the longest kind, or 8 million of
// any, would have to end between two instructions of one. A latency above longest, 107 s, is not added to a word.
const (
	countBits = 24
	halfFull  = 1<<63 | 1<<(countBits-1)
	longest   = 1 << 30 // sumUnit
)

// startBits is how many bits after the leading one choose the cell from which observe searches upwards. With three, the
// search rarely goes further than two cells.
const startBits = 3

const sumUnit = 100 * time.Nanosecond

func newLatency(slo time.Duration) *latency {
	l := &latency{}
	for _, share := range classicShares {
		l.classic = append(l.classic, (slo * share / 100).Seconds())
	}
	at := map[float64]bool{}
	for _, e := range l.classic {
		at[e] = true
	}
	for i := nativeLowest; i < nativeHighest; i++ {
		at[nativeBound(i)] = true
	}
	for e := range at {
		l.edges = append(l.edges, e)
	}
	sort.Float64s(l.edges)
	l.folded = make([]uint64, len(l.edges)+1)
	for range shardsInUse() {
		const apart = len(line{}) / 8
		l.shards = append(l.shards, make([]atomic.Uint64, apart+len(l.folded)+apart)[apart:][:len(l.folded)])
	}
	for _, e := range l.edges {
		end := int64(e*float64(time.Second)) + 1
		for time.Duration(end).Seconds() > e {
			end--
		}
		l.ends = append(l.ends, end)
	}
	for i := range l.from {
		lowest := int64(1<<startBits|i&(1<<startBits-1)) << max(0, i>>startBits-startBits-1)
		l.from[i] = uint16(sort.Search(len(l.ends), func(c int) bool { return l.ends[c] >= lowest }))
	}
	for i := range l.first {
		if i > 0 {
			l.first[i] = uint16(sort.SearchFloat64s(l.edges, nativeBound(nativeLowest+i-1)) + 1)
		}
	}
	return l
}

// nativeBound is the upper bound of the native bucket with the index i: 2^(i/8).
func nativeBound(i int) float64 {
	exp := i >> nativeSchema
	return math.Ldexp(octave[i-exp*perDoubling], exp+1)
}

// observe counts a latency, in the shard of that number.
func (l *latency) observe(shard uint32, d time.Duration) {
	d = max(d, 0)
	cell, units := l.cell(int64(d)), uint64(d+sumUnit/2)/uint64(sumUnit)
	if units > longest {
		l.observeLong(cell, units)
		return
	}
	word := &l.shards[shard&uint32(len(l.shards)-1)][cell]
	if word.Add(units<<countBits|1)&halfFull != 0 {
		l.empty(cell, word)
	}
}

func (l *latency) observeLong(cell int, units uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fold(cell, 1, units)
}

// fold counts latencies outside the shards. The caller holds l.mu.
func (l *latency) fold(cell int, count, sum uint64) {
	l.folded[cell] += count
	l.count += count
	l.sum += sum
}

// empty folds what is in the word of a cell.
func (l *latency) empty(cell int, word *atomic.Uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := word.Swap(0)
	l.fold(cell, w&(1<<countBits-1), w>>countBits)
}

// of returns how many latencies are in a cell, and adds their sum, without what is folded, to sum. The caller holds l.mu.
func (l *latency) of(cell int, sum *uint64) (count uint64) {
	count = l.folded[cell]
	for _, shard := range l.shards {
		w := shard[cell].Load()
		count += w & (1<<countBits - 1)
		*sum += w >> countBits
	}
	return count
}

// cell returns the cell that counts a latency of d nanoseconds, d ≥ 0: the first whose upper bound is not below d.
func (l *latency) cell(d int64) int {
	cell := 0
	if n := bits.Len64(uint64(d)); n > startBits+1 {
		cell = int(l.from[n<<startBits|int(d>>(n-1-startBits)&(1<<startBits-1))])
	}
	for cell < len(l.ends) && l.ends[cell] < d {
		cell++
	}
	return cell
}

// wait notes that d of the latency observed last was spent in guarded calls.
func (l *latency) wait(d time.Duration) { l.waited.Add(uint64((d + sumUnit/2) / sumUnit)) }

// cutShort counts those latencies of requests that failed because a call of theirs did. They are part of what a request takes,
// or all of it: nobody knows how much work was left. Counted as latencies of the service, they would make it look fast, and
// its limit would grow for want of evidence.
type cutShort struct {
	count, own, waited atomic.Uint64 // the latter two in the unit of latency.sum
}

func (c *cutShort) add(took, waited time.Duration) {
	c.count.Add(1)
	c.own.Add(uint64((took - waited + sumUnit/2) / sumUnit))
	c.waited.Add(uint64((waited + sumUnit/2) / sumUnit))
}

func (c *cutShort) total() CutShort {
	return CutShort{
		Count: c.count.Load(), Own: float64(c.own.Load()) * sumUnit.Seconds(), Waited: float64(c.waited.Load()) * sumUnit.Seconds(),
	}
}

// total returns the count of the latencies, their sum, and the part of it that was spent in guarded calls (seconds).
func (l *latency) total() (count uint64, sum, waited float64) {
	waited = float64(l.waited.Load()) * sumUnit.Seconds() // before the sum, which is added to first
	l.mu.Lock()
	defer l.mu.Unlock()
	count, units := l.count, l.sum
	for _, shard := range l.shards {
		for i := range shard {
			w := shard[i].Load()
			count += w & (1<<countBits - 1)
			units += w >> countBits
		}
	}
	return count, float64(units) * sumUnit.Seconds(), waited
}

// Latency is a copy of the latency histogram of admitted requests that finished, including failed ones.
type Latency struct {
	Count uint64  // requests
	Sum   float64 // seconds

	// Waited is the part of Sum that the requests spent in guarded calls, in seconds. Sum−Waited is the service's own.
	Waited float64

	// Edges are upper bounds in seconds (inclusive), one of them exactly the SLO. Cumulative counts the requests at or
	// below each edge.
	Edges      []float64
	Cumulative []uint64 // one for each edge

	// The same observations as a Prometheus native histogram. The keys of Buckets are bucket indexes: bucket i ends at
	// 2^(i/2^Schema) seconds.
	Schema        int32
	ZeroThreshold float64       // seconds, up to which requests are in ZeroCount
	ZeroCount     uint64        // requests
	Buckets       map[int]int64 // requests in each
}

func (l *latency) snapshot() Latency {
	s := Latency{
		Edges:         l.classic,
		Cumulative:    make([]uint64, len(l.classic)),
		Schema:        nativeSchema,
		ZeroThreshold: nativeBound(nativeLowest),
		Buckets:       map[int]int64{},
	}
	s.Waited = float64(l.waited.Load()) * sumUnit.Seconds() // before Sum, which is added to first
	l.mu.Lock()
	defer l.mu.Unlock()
	native, next, units := nativeLowest, 0, l.sum
	for i := range l.folded {
		for native < nativeHighest && i >= int(l.first[native+1-nativeLowest]) {
			native++
		}
		n := l.of(i, &units)
		s.Count += n
		if next < len(l.classic) && i < len(l.edges) && l.edges[i] == l.classic[next] {
			s.Cumulative[next] = s.Count
			next++
		}
		switch {
		case n == 0:
		case native == nativeLowest:
			s.ZeroCount += n
		default:
			s.Buckets[native] += int64(n)
		}
	}
	s.Sum = float64(units) * sumUnit.Seconds()
	return s
}
