package guard

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// routes are what a guard knows about its requests by where they entered the fleet and what they ask for. A request that a
// service behind this one will refuse has cost this one its work by then, so the guard refuses it at the door:
//
//	request ──► guard ──► handler ──► call ──► callee      its answer tells its Threshold, and so does the
//	              ▲                    │                   bulkhead on the way to it
//	              └──── threshold ◄────┘
//
// It does so for a callee that the requests of the route need: at least 90% of the good ones had an answer of it, and of
// those without one, at most 10% were good (an optional dependency fails, and the request does not). A level is valid for a
// second after the answer that told it. Of the last 16 answers, nine in ten must tell so much, so that an instance that
// is fuller than the others, or has an interest in saying so, closes no door. One in 20 of the requests below the level is
// admitted all the same, up to 50 a second, and shows whether the callee still refuses. A request that continues an
// earlier one (Rank.Again) is not asked.
//
// The answers of this service tell the level of the route, too, if it is higher than the guard's own: then its callers refuse
// the request at their doors.
//
// The callee sees fewer requests of the lesser classes than there are, and would take them for few (see shedder). So the next
// call says how many were refused in its place, see Arrival.Early.
type routes struct {
	until atomic.Int64 // some level above 0 is valid until then
	table atomic.Pointer[map[routeKey]*route]
	mu    sync.Mutex // held to replace the table
}

// routeKey tells routes apart.
type routeKey struct{ entry, route string }

const (
	maxRoutes = 256
	maxNeeds  = 16 // dependencies of a route
	// longestRoute is in bytes, of both names.
	longestRoute = 256

	adviceAge    = time.Second // how long an answer counts
	adviceCount  = 16          // answers of a dependency that count
	adviceLess   = 0.1         // share of them that may tell less than the level
	adviceLeast  = 4           // of fewer valid answers, one could decide
	adviceSample = 10 * time.Millisecond

	needLeast = 20   // good requests from which a route is known
	needShare = 0.9  // of them, with an answer of a dependency that is needed
	needSpan  = 1000 // good requests after which earlier ones count half

	probeEvery = 20 // of so many requests below the level, one is admitted,
	probeGap   = 20 * time.Millisecond
	maxEarly   = 1000 // of one Arrival
)

// route is what is known about the requests of one routeKey. A nil route is not known.
type route struct {
	onward uint64 // its API at the services that it calls, see parties

	level  atomic.Uint64        // the highest Threshold of the dependencies that it needs
	until  atomic.Int64         // valid until then
	callee atomic.Pointer[need] // that it is of
	below  atomic.Uint64        // requests below it
	probed atomic.Int64         // when one was admitted last

	good atomic.Int64 // requests that succeeded

	mu    sync.Mutex    // guards everything below
	due   time.Duration // when the level is calculated again
	needs []*need
}

// need is what is known about the calls of a route to one dependency.
type need struct {
	dependency *Dependency
	early      [criticalities]atomic.Uint32 // requests refused in its place, of which no call has told it

	// Guarded by route.mu:
	answered   int // good requests with an answer of it
	unanswered int // requests without one that they asked for
	spared     int // those of them that were good
	told       [adviceCount]told
	next       int // in told
}

// told is the Threshold that an answer told.
type told struct {
	level Threshold
	until time.Duration // valid until then
}

// routeOf returns the route of the requests that arrive like a; nil: nothing is known about it.
func (g *Guard) routeOf(a *Arrival) *route {
	t := g.routes.table.Load()
	if t == nil {
		return nil
	}
	return (*t)[routeKey{a.Entry, a.Route}]
}

// add begins a route, with its first good request that has made a call: paths that lead nowhere take no room. It returns nil
// if there are too many, or the name is too long to be one of few.
func (s *routes) add(key routeKey, service string) *route {
	if len(key.entry)+len(key.route) > longestRoute {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[routeKey]*route{}
	if t := s.table.Load(); t != nil {
		if r := (*t)[key]; r != nil || len(*t) >= maxRoutes {
			return r
		}
		next = maps.Clone(*t)
	}
	r := &route{onward: idOf(entryOf(key.entry, service, key.route))}
	next[key] = r
	s.table.Store(&next)
	return r
}

// need returns what is known about the calls to d; nil: there are too many others. The caller holds r.mu.
func (r *route) need(d *Dependency) *need {
	for _, n := range r.needs {
		if n.dependency == d {
			return n
		}
	}
	if len(r.needs) >= maxNeeds {
		return nil
	}
	r.needs = append(r.needs, &need{dependency: d})
	return r.needs[len(r.needs)-1]
}

// learn notes how a request has ended, and which dependencies it has called.
func (r *route) learn(calls []called, o Outcome) {
	if r == nil || o == Ignored || o == Canceled {
		return
	}
	good := int64(0)
	if o == Success {
		good = r.good.Add(1)
	}
	if len(calls) == 0 && good < needSpan {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range calls {
		n := r.need(c.dependency)
		switch {
		case n == nil:
		case !c.answered:
			n.unanswered++
			if o == Success {
				n.spared++
			}
		case o == Success:
			n.answered++
		}
	}
	if r.good.Load() < needSpan {
		return
	}
	r.good.Add(-needSpan / 2)
	for _, n := range r.needs {
		n.answered, n.unanswered, n.spared = n.answered/2, n.unanswered/2, n.spared/2
	}
}

// needed says whether the requests of r need that dependency. The caller holds r.mu.
func (r *route) needed(n *need) bool {
	good := r.good.Load()
	return good >= needLeast && float64(n.answered) >= needShare*float64(good) &&
		float64(n.spared) <= (1-needShare)*float64(n.unanswered)
}

// hear notes what an answer of d to a request of r has told: the Threshold of d and of those behind it. That of the bulkhead
// counts as well.
func (d *Dependency) hear(now time.Duration, r *route, level Threshold) {
	if r == nil {
		return
	}
	level = max(level, d.pool.threshold(now, r.onward))
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.need(d)
	if n == nil {
		return
	}
	n.told[n.next] = told{level, now + adviceAge}
	n.next = (n.next + 1) % adviceCount
	if now >= r.due {
		r.due = now + adviceSample
		r.weigh(now, d.caller.routes)
	}
}

// weigh brings the level up to now. The caller holds r.mu.
func (r *route) weigh(now time.Duration, all *routes) {
	highest, callee := told{}, r.callee.Load()
	for _, n := range r.needs {
		if !r.needed(n) {
			continue
		}
		if t := n.level(now); t.level > highest.level {
			highest, callee = t, n
		}
	}
	r.callee.Store(callee)
	r.level.Store(uint64(highest.level))
	r.until.Store(int64(highest.until))
	if until := int64(highest.until); until > all.until.Load() {
		all.until.Store(until)
	}
}

// level is the highest Threshold that nearly all of the valid answers reach. The caller holds route.mu.
func (n *need) level(now time.Duration) (t told) {
	var levels [adviceCount]Threshold
	count := 0
	for _, said := range n.told {
		if now < said.until {
			levels[count] = said.level
			count++
			t.until = max(t.until, said.until)
		}
	}
	if count >= adviceLeast {
		slices.Sort(levels[:count])
		t.level = levels[int(adviceLess*float64(count))]
	}
	return t
}

// levelAt is the level of r at the instant now; 0: nobody is refused.
func (r *route) levelAt(now time.Duration) Threshold {
	if r == nil || int64(now) >= r.until.Load() {
		return 0
	}
	return Threshold(r.level.Load())
}

// hopeless says whether a callee that the request a needs would refuse it. It draws the rank of a, and counts the call that is
// not made.
func (g *Guard) hopeless(now time.Duration, a *Arrival) bool {
	r := g.routeOf(a)
	level := r.levelAt(now)
	if level == 0 || a.Rank.Again {
		return false
	}
	a.Rank = g.drawn(a.Rank, a.Key, saltAt(g.base.Add(now)))
	if LevelOf(a.Criticality, a.Rank) >= level || r.probes(now) {
		return false
	}
	n := r.callee.Load()
	n.withheld(r, a.Criticality, 1)
	n.dependency.out.requests.Add(1)
	n.dependency.out.refused[byEarly].Add(1)
	n.dependency.shortAt(now)
	return true
}

// probes says whether a request below the level is admitted.
func (r *route) probes(now time.Duration) bool {
	if r.below.Add(1)%probeEvery != 0 {
		return false
	}
	last := r.probed.Load()
	return (last == 0 || int64(now)-last >= int64(probeGap)) && r.probed.CompareAndSwap(last, int64(now))
}

// withheld notes that so many requests of r were refused in place of the dependency.
func (n *need) withheld(r *route, c Criticality, requests uint32) {
	n.early[c].Add(requests)
	n.dependency.pool.shares.entries.refuse(r.onward, c, requests)
	n.dependency.pool.count.early[c].Add(uint64(requests))
}

// hearEarly notes how many requests like a the caller has refused in place of this guard, or of the one behind it that it
// would have asked.
func (g *Guard) hearEarly(now time.Duration, a *Arrival, entry uint64) {
	early := min(a.Early, maxEarly)
	g.count.early[a.Criticality].Add(uint64(early))
	if g.threshold(now, entry) > 0 {
		g.spared.Add(uint64(early))
		g.shares.entries.refuse(entry, a.Criticality, early)
	}
	if r := g.routeOf(a); r.levelAt(now) > 0 {
		r.callee.Load().withheld(r, a.Criticality, early)
	}
}

// takeEarly returns how many requests of class c were refused in place of d since it was last asked.
func (r *route) takeEarly(d *Dependency, c Criticality) uint32 {
	if r == nil {
		return 0
	}
	n := r.callee.Load()
	if n == nil || n.dependency != d {
		return 0
	}
	return n.early[c].Swap(0)
}

// thresholdFor is the Threshold that an answer to a request of r and of an API tells.
func (g *Guard) thresholdFor(now time.Duration, entry uint64, r *route) Threshold {
	return max(g.threshold(now, entry), r.levelAt(now))
}
