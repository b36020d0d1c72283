package guard

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// crowding is how full a guard has been in the last moments, and the Threshold that its answers tell: the level below which
// the shed plan refuses at that occupancy.
//
//	occupancy n/L ── every 10 ms ──► moving mean ── plan, inverted ──► Threshold
//
// A caller that knows the Threshold refuses in its own place what would be refused here. The occupancy of one instant is no
// use to it: it hears of it late, and n/L jumps by more than the levels are apart. The mean rises with a time constant of
// 200 ms and falls more slowly, the more is refused:
//
//	T = 200 ms ÷ (1 − u)    u: share of the way from φ to the limit, about the share of the arrivals that is refused
//
// so at ρ times the load that fits, u ≈ 1 − 1/ρ and T ≈ ρ·200 ms: while the Threshold is too low, ρ times what fits comes
// in. At or below φ nothing is refused, and the Threshold is 0. Otherwise a class that has been shut out would stay out.
//
// Answers ask for it; requests pay nothing.
type crowding struct {
	due  atomic.Int64  // when the next sample is
	fill atomic.Uint64 // moving mean of the occupancy, as math.Float64bits

	mu sync.Mutex    // held to change fill
	at time.Duration // of the last sample
}

const (
	crowdingSample = 10 * time.Millisecond
	crowdingSpan   = 200 * time.Millisecond
	crowdingSlow   = 0.1 // T is at most ten times crowdingSpan
)

// threshold returns the Threshold of this guard alone at the instant now, for the requests of an API. Those of it that are
// demoted are refused earlier. They keep their order, so that one level says it for all.
func (g *Guard) threshold(now time.Duration, entry uint64) Threshold {
	p := g.shed.plan.Load()
	if p == nil {
		return 0
	}
	c := &g.crowding
	if int64(now) >= c.due.Load() && c.mu.TryLock() {
		limit, n := unpack(g.gate.word.Load())
		c.sample(now, float64(n)/float64(limit), p)
		c.mu.Unlock()
	}
	fill := math.Float64frombits(c.fill.Load())
	if !g.cfg.SpareCritical && g.shares.entries.spares(entry, Default) {
		return min(p.refusing(fill), LevelOf(Sheddable, Rank{})) // none but the Background requests
	}
	return max(p.refusing(fill), min(p.refusingDemoted(fill), g.shares.entries.below(entry)))
}

// sample takes the occupancy x, at the instant now, into the mean. The caller holds c.mu.
func (c *crowding) sample(now time.Duration, x float64, p *plan) {
	constant, fill := crowdingSpan, math.Float64frombits(c.fill.Load())
	if x < fill {
		shed := max(0, fill-p.threshold) / (1 - p.threshold)
		constant = time.Duration(float64(crowdingSpan) / max(crowdingSlow, 1-shed))
	}
	fill += (1 - math.Exp(-max(0, now-c.at).Seconds()/constant.Seconds())) * (x - fill)
	c.at = now
	c.fill.Store(math.Float64bits(fill))
	c.due.Store(int64(now + crowdingSample))
}

// refusing is the inverse of fill: the level below which requests are refused at the occupancy x.
func (p *plan) refusing(x float64) Threshold {
	if x <= p.threshold {
		return 0
	}
	c := Critical
	for c < Background && x <= p.from[c] {
		c++
	}
	place := 1.0
	if p.width[c] > 0 {
		place = min((x-p.from[c])/p.width[c], 1)
	}
	return LevelOf(c, Rank{Place: uint32(place * math.MaxUint32)})
}

// refusingDemoted is the inverse of demoted: the level below which demoted requests are refused at the occupancy x.
func (p *plan) refusingDemoted(x float64) Threshold {
	return Threshold(max(0, min(1, (x/p.demotedTo-demotedFrom)/(1-demotedFrom))) * demotedLevels)
}
