package guard

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// fair divides what the guard completes between the keys of its requests: APIs, or tenants. While the guard refuses, what a
// key demands above its max-min fair share is demoted: the least important of its requests have the criticality Background,
// and are admitted up to the shed threshold only.
//
//	demand   ▐██████████████████████▌ heavy      ▐███▌ modest   ▐██▌ modest
//	share    ▐██████▌                            ▐███▌          ▐██▌            together fairPart of what is completed
//	demoted          ▐██████████████▌
//
// Background requests have no share: what the others leave is divided between the keys of those. A request that says of itself
// that it can wait must not crowd out others as a fair share of its key.
//
// Demand is counted in slot-seconds, the time that requests are in flight. A refused request counts with the mean of the
// completed ones of its key, so that being refused does not make a key look modest. With the mean of all, an API of many short
// requests would look heavy beside one of few long ones. All sums fade with fairSpan.
//
// A request that has no key is not judged. The rest, keys that are not known apart, has one share together while it is as
// large as usual: thousands of small tenants are not to blame for an overload. It is demoted, too, once it grows to
// restGrowth times what it is in calm, in total and in proportion to the others. Whoever invents a new key for each request
// gains nothing by it then.
type fair struct {
	judgment atomic.Pointer[judgment] // nil: nobody is demoted; every request reads it
	_        line

	mu         sync.Mutex // guards what follows
	demand     heavy      // slot-seconds by key
	used, done float64    // slot-seconds and number of completed requests
	seconds    float64    // that the sums cover, faded as they are
	refused    bool       // a request, since the last look
	until      time.Duration
	at         time.Duration // of the last look
	since      time.Duration // when it last demoted nobody
	calm       time.Duration // spent without refusing
	usual      float64       // the rest in calm, slot-seconds
	part       float64       // of the rest in all demand, in calm
	mix        mix
	_          line
}

// judgment says below which level the requests of a key are demoted.
type judgment struct {
	keys map[uint64]Threshold // of keys that are known apart; 0: none
	rest Threshold
	some bool // requests of somebody are demoted
}

const (
	fairSpan = 10 * time.Second // time constant of the sums
	// onsetFade is what is left of the sums when the guard begins to refuse: what was demanded before says little then.
	onsetFade = 0.03
	// fairFor is how long after its last refusal the guard still counts as refusing: longer than a lull.
	fairFor = 2 * time.Second
	// fairPart of what is completed is divided. The rest of it is for whoever comes, so that those who demand less than
	// their share are hardly ever refused by chance.
	fairPart = 0.8
	// fairFrom is the demand, as a multiple of what is completed, from which it is divided.
	fairFrom = 1.05
	// fairFull is the share of the slots that all demand together must be able to fill, once somebody has been demoted for
	// fairSpan. With less there is room for all, and what is still refused is refused because it is demoted.
	fairFull   = 0.6
	fairOthers = 0.01 // of all demand: with fewer requests of others, there is nobody to divide with
	restExcess = 1.5  // how many times its share the rest may demand
	restGrowth = 1.5
	restSpan   = time.Minute // time constant of what is usual
	// keyPrior is as how many completed requests of a key the mean of all counts, for keys that have completed few.
	keyPrior = 5
)

// idOf returns what stands for a key; 0: no key. Nobody can choose keys for which the same stands.
func idOf(key string) uint64 {
	if key == "" {
		return 0
	}
	return max(1, maphash.String(idSeed, key))
}

var idSeed = maphash.MakeSeed()

// below returns the level below which requests of that key are demoted now; 0: none are.
func (f *fair) below(id uint64) Threshold {
	j := f.judgment.Load()
	if j == nil || id == 0 {
		return 0
	}
	if level, known := j.keys[id]; known {
		return level
	}
	return j.rest
}

// spares says whether all requests of that key are within its share, while others are demoted. They are not to blame for the
// overload, so they are admitted up to the limit, the less important ones, too, but those of class Background.
func (f *fair) spares(id uint64, class Criticality) bool {
	j := f.judgment.Load()
	if j == nil || !j.some || class == Background {
		return false
	}
	level, known := j.keys[id]
	return known && level == 0
}

// complete counts a request that held a slot for so long. own is the part of it outside of guarded calls, or notCounted. What
// cannot be counted at once, because others are counting, is left out: it is left out of every key alike.
func (f *fair) complete(id uint64, class Criticality, held, own time.Duration) {
	if id == 0 || !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	if c := f.count(id, class, held.Seconds()); c != nil {
		c.used += held.Seconds()
		c.done++
		f.mix.complete(&c.usual, own)
	}
	f.used += held.Seconds()
	f.done++
}

// refuse counts n refused requests, as complete does.
func (f *fair) refuse(id uint64, class Criticality, n uint32) {
	if id == 0 || !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	f.refused = true
	if f.done > 0 {
		mean := f.used / f.done
		if c := f.demand.of(id); c != nil {
			mean = (c.used + keyPrior*mean) / (c.done + keyPrior)
		}
		f.count(id, class, float64(n)*mean)
	}
}

// count adds to the demand of a key. While the rest is demoted, a key of it is not told apart: invented ones would drive out
// those that are known.
func (f *fair) count(id uint64, class Criticality, seconds float64) *counter {
	j := f.judgment.Load()
	return f.demand.add(id, class, seconds, j == nil || j.rest == 0)
}

// judge brings f up to now and says whether it demotes anybody. slots is the limit.
func (f *fair) judge(now time.Duration, slots float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	passed := max(0, now-f.at)
	f.at = max(f.at, now)
	if f.demand.total == 0 {
		return false
	}
	fade := math.Exp(-passed.Seconds() / fairSpan.Seconds())
	if f.refused && f.demand.total > fairFrom*f.used { // not by chance
		if now >= f.until {
			fade *= onsetFade
		}
		f.until = now + fairFor
	}
	f.refused = false
	f.demand.fade(fade)
	f.used, f.done, f.seconds = f.used*fade, f.done*fade, f.seconds*fade+passed.Seconds()
	if now >= f.until {
		f.learn(passed)
		f.since = now
		f.judgment.Store(nil)
		return false
	}
	j := f.divide()
	switch {
	case j == nil:
		f.since = now
	case now-f.since >= fairSpan && f.demand.total < fairFull*slots*f.seconds:
		j, f.since, f.until = nil, now, now
	}
	f.judgment.Store(j)
	return j != nil
}

// learn notes what is usual in calm.
func (f *fair) learn(passed time.Duration) {
	if passed == 0 || !(f.demand.total > 0) { // it has faded away
		return
	}
	f.calm += passed
	rest := f.demand.rest()
	weight := passed.Seconds() / max(passed, min(f.calm, restSpan)).Seconds()
	f.usual += (rest - f.usual) * weight
	f.part += (rest/f.demand.total - f.part) * weight
}

// divide returns the judgment that follows from the sums; nil: nobody is demoted.
func (f *fair) divide() *judgment {
	if f.demand.total < fairFrom*f.used {
		return nil
	}
	demands, background, largest := make([]float64, 0, heavyKeys+1), make([]float64, 0, heavyKeys), 0.0
	for i := range f.demand.counters {
		c := &f.demand.counters[i]
		demands = append(demands, c.least()-c.sure[Background])
		background = append(background, c.sure[Background])
		largest = max(largest, c.least())
	}
	if f.demand.total-largest < fairOthers*f.demand.total {
		return nil
	}
	rest, capacity := f.demand.rest(), fairPart*f.used
	demands = append(demands, rest)
	share := fairShare(demands, capacity)
	for _, d := range demands {
		capacity -= min(d, share)
	}
	left := fairShare(background, max(0, capacity))
	j := judgment{keys: map[uint64]Threshold{}}
	for i := range f.demand.counters {
		c := &f.demand.counters[i]
		if level := c.levelOf(share, left); level > 0 || c.least() > c.excess {
			j.keys[c.key] = level
		}
	}
	grown := f.calm >= fairSpan && rest > restGrowth*f.usual &&
		rest*(1-f.part) > restGrowth*f.part*(f.demand.total-rest)
	if grown && rest > restExcess*share {
		j.rest = math.MaxUint64
	}
	j.some = j.rest > 0
	for _, level := range j.keys {
		j.some = j.some || level > 0
	}
	return &j
}

// levelOf returns the level above which the key demands its share, of what is left for its Background requests; 0: it demands
// no more.
func (c *counter) levelOf(share, left float64) Threshold {
	for class, demand := range c.sure {
		if class == int(Background) {
			share = left
		}
		if demand > share {
			return LevelOf(Criticality(class), Rank{Place: uint32((1 - share/demand) * math.MaxUint32)})
		}
		share -= demand
	}
	return 0
}

// fairShare is the max-min fair share of a capacity: what those may have at most who demand more, so that
//
//	Σ min(demandᵢ, share) = capacity
//
// It is +Inf if the capacity is enough for all. It changes the order of demands.
func fairShare(demands []float64, capacity float64) float64 {
	slices.SortFunc(demands, cmp.Compare[float64])
	for i, d := range demands {
		if share := capacity / float64(len(demands)-i); d > share {
			return share
		}
		capacity -= d
	}
	return math.Inf(1)
}

// shares are fair shares for APIs, and for tenants where that is asked for.
type shares struct {
	entries, tenants fair
	demoted          atomic.Uint64 // requests
}

// parties are those on whose account a request goes: its API and its tenant. 0: not known, or not judged.
type parties struct{ entry, tenant uint64 }

func (p parties) some() bool { return p.entry|p.tenant != 0 }

func (c *Config) partiesOf(a *Arrival) parties {
	if len(a.Entry)|len(a.Route) == 0 && !c.FairKeys { // nearly free for a request that says nothing
		return parties{}
	}
	return c.identify(a)
}

func (c *Config) identify(a *Arrival) (p parties) {
	if a.Entry != "" {
		p.entry = idOf(a.Entry)
	} else if a.Route != "" {
		p.entry = idOf(a.Route)
	}
	if c.FairKeys {
		p.tenant = idOf(a.Key)
	}
	return p
}

// active says whether anybody is demoted.
func (s *shares) active() bool {
	return s.entries.judgment.Load() != nil || s.tenants.judgment.Load() != nil
}

// demotes says whether a request is demoted, while somebody is. All requests of a tenant have the same place, so another draw
// decides which of them are.
func (g *Guard) demotes(p parties, a *Arrival) bool {
	s := &g.shares
	if a.Criticality == Critical && g.cfg.SpareCritical {
		return false
	}
	tenants := s.tenants.below(p.tenant)
	return LevelOf(a.Criticality, a.Rank) < s.entries.below(p.entry) ||
		tenants > 0 && LevelOf(a.Criticality, Rank{Place: g.draw()}) < tenants
}

func (s *shares) refuse(p parties, class Criticality) {
	s.entries.refuse(p.entry, class, 1)
	s.tenants.refuse(p.tenant, class, 1)
}

func (s *shares) judge(now time.Duration, slots float64) bool {
	entries, tenants := s.entries.judge(now, slots), s.tenants.judge(now, slots)
	return entries || tenants
}
