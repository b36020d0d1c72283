package guard

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"
)

// roof stands over the compartments of a service, which share its processors, connections and memory. It is a limit on what
// all of them have in flight, with a reflex that watches the compartments with the tightest SLOs (within 1.5 times the
// smallest): their latency shows first that there is more in flight than the service can take. Governor does not steer it,
// and no number bounds it but the sum of what the compartments may have anyway.
//
// Compartments with hardly any requests show nothing, so the tightest that have enough speak.
//
//	tight    ▐████████        ▌ own limit, by its SLO      share: what it needs
//	slack    ▐██████████▌·······················│ own limit  share: the rest
//	roof     ▐████████████████████████│ by the latency of the tight
//
// While the roof binds, work is divided max-min between the compartments, in seconds of own latency per second: nobody gets
// more than it asks for, and those who ask for more get shares in proportion to their weights. What nobody needs is lent. By
// Little's law, a compartment that may do a units of work per second, m₀ each, has a/m₀·m requests in flight at the present
// latency m. Meanwhile no compartment's own limit falls below what it is given: what is slow then is what all share, and the
// innocent would be cut for it.
//
// docs/compartments.md has what was tried.
type roof struct {
	gate  gate
	parts []*Guard // the compartments, that of the service itself first

	strangers strangers

	mu       sync.Mutex // guards everything below
	due      time.Duration
	at       time.Duration // of the last step
	until    time.Duration // shares are in force until then
	tiers    []tier        // the tightest first
	speaking int           // whose reflex moves the limit
	demands  []demand      // by part
	calm     float64       // seconds in which shares were not in force
	began    time.Duration // of the first request; 0: there was none
	held     held
}

// tier is the compartments with SLOs within tightWithin times the smallest among them.
type tier struct {
	parts  []int // of the roof, the one with the smallest SLO first
	reflex reflex
	seen   time.Duration // when it last had enough requests to show something
}

const (
	tightWithin = 1.5             // times the smallest SLO of a tier
	tierHold    = 5 * time.Second // how long a tier goes on to speak with too few requests
	roofHold    = 5 * time.Second // how long shares stay after the roof has last bound
	// roofCare slows a raise: a step is at most exp(e²/roofCare) for the error e, the logarithm of setpoint by latency. That is
	// 3% where nothing queues, and next to nothing near the setpoint. The exponent grows with a window of more than two seconds.
	roofCare      = 40
	demandSpan    = time.Second // time constant of what is demanded
	demandSamples = 20.0        // that the sums should cover
	demandLongest = 10.0        // times demandSpan
	demandCalm    = time.Minute // time constant of the weights
	demandRoom    = 3.0         // kept free for a compartment beyond its mean, in standard deviations of what it has in flight
	weightLeast   = 0.01        // of all weights
)

// demand is what a compartment asks of the roof. Sums fade with demandSpan.
type demand struct {
	seen    counts // since the start
	refused uint64 // for want of room, since the start
	past    counts // faded

	span   float64 // seconds that past covers
	weight float64 // configured, relative to the others'; 0: it is learned
	calm   float64 // work per second while there are requests and shares are not in force
}

// counts are what a compartment has counted: requests that arrived, those of them that were refused above it, those that
// finished, and the sum of their latencies.
type counts struct{ arrivals, above, finished, seconds float64 }

// report is what a compartment tells the roof.
type report struct {
	work    float64 // m₀ without guarded calls, seconds
	target  float64 // of the mean latency, seconds
	limit   float64 // its own
	ceiling float64
}

func newRoof(parts []*Guard, weights []float64) *roof {
	r := &roof{parts: parts}
	r.strangers.wanted.Store(true)
	sum, order := 0.0, make([]int, len(parts))
	for i, part := range parts {
		r.demands = append(r.demands, demand{weight: weights[i]})
		sum += float64(part.cfg.Fallback)
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(parts[a].cfg.SLO, parts[b].cfg.SLO) })
	for _, i := range order {
		last := len(r.tiers) - 1
		if last >= 0 && float64(parts[i].cfg.SLO) <= tightWithin*float64(r.slo(last)) {
			r.tiers[last].parts = append(r.tiers[last].parts, i)
			continue
		}
		r.tiers = append(r.tiers, tier{parts: []int{i}, reflex: newReflex(parts[i].cfg.SLO, sum, parts[0].cfg.NoReflex)})
	}
	return r
}

// slo is the smallest of a tier.
func (r *roof) slo(tier int) time.Duration { return r.parts[r.tiers[tier].parts[0]].cfg.SLO }

// reflex is the one that moves the limit.
func (r *roof) reflex() *reflex { return &r.tiers[r.speaking].reflex }

// tellRoof brings the report of g up to now. The caller holds g.mu.
func (g *Guard) tellRoof(now time.Duration) {
	b := g.regime.bounds(now)
	g.told.Store(&report{
		work: g.reflex.alone.Seconds(), target: b.target, limit: g.reflex.limit, ceiling: max(b.ceiling, g.reflex.limit),
	})
}

// tick takes a step if one is due. One caller takes it; nobody waits for it.
func (r *roof) tick(now time.Duration) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	if now >= r.due {
		r.step(now)
	}
}

// follow brings the limit up to the sum of the compartments' own, which have changed by a Setting: until the roof knows better,
// it does not bind. The caller does not hold r.mu.
func (r *roof) follow(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reflex := r.reflex()
	if !reflex.blind && !reflex.off {
		return
	}
	reflex.limit = r.bounds().base
	r.enforce(now)
}

// enforce puts the limit in force and returns it. The caller holds r.mu.
func (r *roof) enforce(now time.Duration) float64 {
	limit := math.Floor(r.reflex().limit + 1e-9)
	r.gate.setLimit(now, uint64(limit))
	return limit
}

// bounds are those of the roof, but for its target.
func (r *roof) bounds() bounds {
	b := bounds{min: 1}
	for _, part := range r.parts {
		told := part.told.Load()
		b.base += told.limit
		b.ceiling += told.ceiling
	}
	b.fallback = b.base
	return b
}

// step moves the limit and the shares. The caller holds r.mu.
func (r *roof) step(now time.Duration) {
	r.due = now + reflexPeriod
	short := r.observe(now)
	r.seek(now)
	r.choose(now)
	b, reflex := r.bounds(), r.reflex()
	b.target = math.Inf(1)
	for _, i := range r.tiers[r.speaking].parts {
		b.target = min(b.target, r.parts[i].told.Load().target)
	}
	t, before := r.tally(now), reflex.limit
	seen := t.since(reflex.from)
	reflex.step(t, b)
	if reflex.limit < before { // it may have been far above what is in flight
		reflex.limit = min(reflex.limit, float64(t.inFlight))
	}
	long := t.since(reflex.oldest(t))
	if seen.span < long.span {
		seen = long
	}
	if e, _ := reflex.error(seen, b); e > 0 && now < r.until { // requests of the others may last, so it answers late
		steps := seen.span.Seconds() / long.span.Seconds() // where few finish, one step stands for several
		reflex.limit = min(reflex.limit, before*math.Exp(steps*e*e/roofCare))
	}
	reflex.limit = min(max(reflex.limit, b.min), b.ceiling)
	limit := r.enforce(now)
	r.watchSlots(now)
	if short || long.binding >= boundLong {
		r.until = now + roofHold
	}
	r.share(now, limit)
	r.at = now
}

// choose lets the tightest tier speak that has, or has lately had, requests enough to show something: fewer could neither raise
// nor lower the limit. Without any, the last one goes on.
func (r *roof) choose(now time.Duration) {
	next := slices.IndexFunc(r.tiers, func(t tier) bool { return now-t.seen < tierHold })
	if next < 0 || next == r.speaking {
		return
	}
	last := r.reflex()
	r.speaking = next
	r.reflex().takeOver(last)
}

// tally is what the reflex sees: the latency of the tier that speaks, and all refusals for want of room. Whoever refuses, the
// load does not fit. Were the refusals of the shares left out, the roof would find nobody refused at a limit that does not
// bind. The refusals are as of the last observe.
func (r *roof) tally(now time.Duration) tally {
	t := tally{at: r.parts[0].base.Add(now), binding: r.gate.watch(now)}
	for _, i := range r.tiers[r.speaking].parts {
		r.parts[i].addFinished(&t)
	}
	for i := range r.demands {
		t.refused += r.demands[i].refused
	}
	_, n := unpack(r.gate.word.Load())
	t.inFlight = int(n)
	return t
}

// refusals counts the requests that were refused for want of room: in g, or by callers in its place, and above it.
func (g *Guard) refusals() (below, above uint64) {
	below = g.spared.Load()
	for class := range criticalities {
		below += g.count.refusedOf(class, byConcurrency) + g.count.refusedOf(class, byShed)
		above += g.count.refusedOf(class, byShare) + g.count.refusedOf(class, byRoof)
	}
	return below, above
}

// observe brings the demands up to now, notes which tiers have requests, and says whether requests are refused above their
// compartments.
func (r *roof) observe(now time.Duration) (short bool) {
	passed := max(0, now-r.at).Seconds()
	for i, part := range r.parts {
		d := &r.demands[i]
		fade := math.Exp(-passed / d.constant())
		below, above := part.refusals()
		finished, seconds, _ := part.latency.total()
		next := counts{
			arrivals: float64(below + above + sum(part.admitted())), above: float64(above),
			finished: float64(finished), seconds: seconds,
		}
		d.past = counts{
			arrivals: d.past.arrivals*fade + next.arrivals - d.seen.arrivals,
			above:    d.past.above*fade + next.above - d.seen.above,
			finished: d.past.finished*fade + next.finished - d.seen.finished,
			seconds:  d.past.seconds*fade + next.seconds - d.seen.seconds,
		}
		d.span = d.span*fade + passed
		d.seen, d.refused = next, below+above
		short = short || d.past.above >= max(1, refusing*d.past.arrivals)
	}
	for i := range r.tiers {
		tier, arrivals := &r.tiers[i], 0.0
		for _, part := range tier.parts {
			arrivals += r.demands[part].past.arrivals
		}
		if arrivals >= gatherLeast {
			tier.seen = now
		}
	}
	if short || now < r.until {
		return short
	}
	r.calm += passed
	weight := passed / max(passed, min(r.calm, demandCalm.Seconds()))
	for i, part := range r.parts {
		d := &r.demands[i]
		if d.past.finished < 1 { // a route keeps overnight what it has by day
			continue
		}
		d.calm += weight * (d.past.finished/d.span*part.told.Load().work - d.calm)
	}
	return false
}

// constant is the time constant of the sums, in seconds: long enough for the noise of few requests to average out.
func (d *demand) constant() float64 {
	least := demandSpan.Seconds()
	if d.past.finished < 1e-9 {
		return least
	}
	return min(max(least, demandSamples*d.span/d.past.finished), demandLongest*least)
}

// share puts the shares of a limit in force, or lifts them.
func (r *roof) share(now time.Duration, limit float64) {
	if now >= r.until || r.reflex().off { // a limit that is exactly as published has no share
		for _, part := range r.parts {
			part.gate.setShare(now, 0)
			part.given.Store(0)
		}
		return
	}
	given, short := r.divide(limit)
	sum := 0.0
	for _, slots := range given {
		sum += slots
	}
	for i, part := range r.parts {
		share := limit // who needs no more than it is given may fill the roof for a moment
		if short[i] {
			share = max(given[i], limit-(sum-given[i])) // and what nobody needs is lent
		}
		part.gate.setShare(now, uint64(max(1, math.Floor(share))))
		part.given.Store(uint64(given[i]))
	}
}

// divide returns what each compartment is given of a limit, in requests in flight, and which of them ask for more.
func (r *roof) divide(limit float64) (given []float64, short []bool) {
	n := len(r.parts)
	asked, slots := make([]float64, n), make([]float64, n) // work per second; in flight per unit of it
	capacity := 1e-9                                       // above 0: until something has finished, the weights decide
	for i, part := range r.parts {
		d, work := &r.demands[i], part.told.Load().work
		slots[i] = 1
		if d.past.arrivals < 1e-9 {
			continue
		}
		if d.past.finished > 1e-9 {
			slots[i] = max(1, d.past.seconds/d.past.finished/work)
		}
		asked[i] = d.past.arrivals / d.span * work
		capacity += d.past.finished / d.span * work
	}
	given, short = r.work(asked, capacity), make([]bool, n)
	left, scarce := limit, 0.0 // for those who are short, and what they would have in flight
	for i := range given {
		if short[i] = asked[i] > given[i]; short[i] {
			scarce += given[i] * slots[i]
			continue
		}
		mean := asked[i] * slots[i]
		given[i] = max(1, mean+demandRoom*math.Sqrt(mean))
		left -= given[i]
	}
	for i := range given {
		if short[i] {
			given[i] = max(1, left*given[i]*slots[i]/scarce)
		}
	}
	return given, short
}

// work divides a capacity between what is asked for. The compartments with configured weights are one party, with all that they
// would get by learned ones, and divide it between them: what one of them does not need is theirs first.
func (r *roof) work(asked []float64, capacity float64) (given []float64) {
	const configured, learned = 0, 1
	var of [2][]int
	var asks, weights [2][]float64
	together, weight := 0.0, 0.0
	for i, w := range r.weights() {
		kind := learned
		if d := r.demands[i]; d.weight > 0 {
			together, weight = together+asked[i], weight+w
			kind, w = configured, d.weight
		}
		of[kind], asks[kind], weights[kind] = append(of[kind], i), append(asks[kind], asked[i]), append(weights[kind], w)
	}
	given = make([]float64, len(asked))
	put := func(kind int, parts []float64) {
		for k, i := range of[kind] {
			given[i] = parts[k]
		}
	}
	if weight > 0 {
		asks[learned], weights[learned] = append(asks[learned], together), append(weights[learned], weight)
	}
	parts := maxMin(asks[learned], weights[learned], capacity)
	put(learned, parts)
	if weight > 0 {
		put(configured, maxMin(asks[configured], weights[configured], parts[len(parts)-1]))
	}
	return given
}

// weights returns the learned weights: each compartment's part of the work in calm, as far as that is known; until then all are
// alike.
func (r *roof) weights() []float64 {
	weights, calm := make([]float64, len(r.demands)), 0.0
	for _, d := range r.demands {
		calm += d.calm
	}
	known := min(1, r.calm/demandCalm.Seconds())
	for i, d := range r.demands {
		weights[i] = max(weightLeast, known*d.calm/max(calm, 1e-9)+(1-known)/float64(len(weights)))
	}
	return weights
}

// maxMin divides a capacity between demands: nobody gets more than asked, and those who get less get the same per weight.
func maxMin(asked, weights []float64, capacity float64) (given []float64) {
	given = make([]float64, len(asked))
	order := make([]int, len(asked))
	weight := 0.0
	for i := range order {
		order[i] = i
		weight += weights[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(asked[a]*weights[b], asked[b]*weights[a]) })
	for _, i := range order {
		given[i] = min(asked[i], capacity*weights[i]/max(weight, weights[i])) // rounding may have left less
		capacity -= given[i]
		weight -= weights[i]
	}
	return given
}
