package guard

import (
	"sync"
	"sync/atomic"
	"time"
)

// ticket stands for one request in flight. Tickets are used again, and everything that can happen to a request at the same
// time as something else is decided by a compare-and-swap of one word:
//
//	63            24 23        9 8           7 6     0
//	┌───────────────┬───────────┬─────────────┬───────┐
//	│ uses          │ cohort    │ criticality │ state │   a state of 0: nobody uses it
//	└───────────────┴───────────┴─────────────┴───────┘
//
// The uses tell a Permit of an earlier use from that of the present one, and count the requests that were admitted. The cohort
// says which requests started at the same time, see endless.
type ticket struct {
	_     line
	word  atomic.Uint64
	work  atomic.Pointer[request] // the request in its context, if it has one
	guard *Guard
	pool  *tickets
	place int    // in pool
	shard uint32 // of the counters and the latencies

	arrival Arrival
	bare    bool   // arrival is nothing but its criticality
	tenant  uint64 // of the request's parties

	since time.Duration // of the pause
	idle  time.Duration // of earlier pauses
	of    *cohort       // with which it was excused
	_     line
}

// The state of a ticket.
const (
	inUse       = 1 << iota
	declared    // endless, by Permit.Endless
	paused      // by Permit.Pause
	interrupted // has been paused
	excused     // endless, as the guard has found
	ended       // its release has begun; it stays so if the ticket is not used again
	marked      // has a tenant, or belongs to a Rank.Group
	stateBits   = iota

	classBits   = 2 // as many as criticalities need
	cohortShift = stateBits + classBits
	cohortBits  = 15
	cohortMask  = (1<<cohortBits - 1) << cohortShift
	usesShift   = cohortShift + cohortBits
	oneUse      = 1 << usesShift

	_ = uint(1<<classBits - criticalities) // else the build fails
)

// Permit is the right to have one request in flight. It is a small value: copy it freely, release it once. Releasing it
// (or a copy) again only increments a counter. The zero Permit that accompanies an error may be released too.
type Permit struct {
	ticket *ticket
	word   uint64        // of the ticket when the request was admitted
	start  time.Duration // of the request
	entry  uint64        // of its parties
}

// class is the criticality that the request brought along.
func (p Permit) class() Criticality { return Criticality(p.word >> stateBits & (1<<classBits - 1)) }

// use identifies the use of the ticket among all of its uses.
func (p Permit) use() uint64 { return p.word >> usesShift }

// current says whether the request is in flight, if w is the word of its ticket.
func (p Permit) current(w uint64) bool { return w>>usesShift == p.use() && w&(inUse|ended) == inUse }

// claim makes the caller the one that ends the request, and returns the word until then; not ok: another has been faster.
func (p Permit) claim() (w uint64, ok bool) {
	for {
		if w = p.ticket.word.Load(); !p.current(w) {
			return w, false
		}
		if p.ticket.word.CompareAndSwap(w, w|ended) {
			return w, true
		}
	}
}

// use takes the ticket, if it is free, for a request that starts with that state and cohort.
func (t *ticket) use(start uint64) (w uint64, ok bool) {
	w = t.word.Load()
	if w&(oneUse-1) != 0 {
		return 0, false
	}
	next := w + oneUse + start
	return next, t.word.CompareAndSwap(w, next)
}

// keep notes how the request of the ticket arrives. Most requests say nothing but their criticality, one after another: a
// copy of so little costs less.
func (t *ticket) keep(a *Arrival) {
	bare := len(a.Key)|len(a.Route)|len(a.Entry)|int(a.Early) == 0 && a.Rank == Rank{}
	if bare && t.bare {
		t.arrival.Criticality = a.Criticality
		return
	}
	t.arrival, t.bare = *a, bare
}

// free ends a use of the ticket that its caller has claimed when its word was w.
func (t *ticket) free(w uint64) {
	if t.arrival.Rank.Group > 1 {
		t.guard.groups.leave(t.arrival.Rank.ID)
	}
	t.idle = 0
	if w&(declared|excused) == 0 { // those have left the pool
		t.word.Store(w &^ (oneUse - 1))
	}
}

// tickets are those of the requests of one criticality. A goroutine looks for one at a place of its own first, so that those
// that run at the same time rarely write to the same cache lines:
//
//	places   │ in use │   │ free │ in use │   │ free │ …
//	                         ▲
//	                         a hash of where the goroutine's stack is
//
// There are at most four times as many as there were requests in flight at a time, and when fewer than one in sixteen have been in
// use for long, half as many.
type tickets struct {
	_      line
	places atomic.Pointer[[]atomic.Pointer[ticket]] // as many as a power of two; nil: no ticket yet
	guard  *Guard
	_      line
	next   atomic.Uint64 // counts the searches
	_      line

	mu     sync.Mutex // held to add and to remove tickets, and to look at all of them
	made   uint32
	folded uint64 // uses of those that have been removed
	quiet  int    // looks at all of them in a row that found few in use
}

const (
	placesAtFirst = 16
	// looks is how many tickets a search meets in use before it looks at the pool as a whole. While half of them are free, so many
	// are in use by chance once in 65,536 times.
	looks = 16
	// Places are halved after quietLooks with less than one in fewInUse of them in use: at four looks per second and more, after at
	// most 16 s. What is left is in use by less than an eighth.
	fewInUse   = 16
	quietLooks = 64
	// mostUses of a ticket are so few that they cannot overflow before somebody looks.
	mostUses = 1 << (63 - usesShift)
)

func (s *tickets) start(g *Guard) {
	s.guard = g
	places := make([]atomic.Pointer[ticket], placesAtFirst)
	s.places.Store(&places)
}

// take returns a ticket, and its word, for a request that starts with that state and cohort.
func (s *tickets) take(start uint64) (t *ticket, w uint64) {
	places := *s.places.Load()
	at := uint64(home()) & uint64(len(places)-1)
	if t = places[at].Load(); t == nil {
		return s.add(at, start)
	}
	if w, ok := t.use(start); ok {
		return t, w
	}
	return s.search(places, start)
}

// search is take where the ticket of the goroutine's own place is in use. It looks at places in an order that has nothing to do
// with that in which tickets were taken before, so that those that are held for long are never met in a row but by chance.
func (s *tickets) search(places []atomic.Pointer[ticket], start uint64) (t *ticket, w uint64) {
	at := s.next.Add(1)
	for range looks {
		at = mix64(at)
		if t = places[at&uint64(len(places)-1)].Load(); t == nil {
			break
		}
		if w, ok := t.use(start); ok {
			return t, w
		}
	}
	return s.add(at, start)
}

// add makes a ticket, at the place at if there is none yet. Where too many are in use, it makes more places.
func (s *tickets) add(at, start uint64) (t *ticket, w uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	places := *s.places.Load()
	at &= uint64(len(places) - 1)
	if places[at].Load() != nil {
		busy := 0
		for _, w := range s.all {
			if w&inUse != 0 {
				busy++
			}
		}
		if 2*busy <= len(places) {
			for i := range places {
				if t = places[i].Load(); t == nil {
					return s.put(places, i, start)
				}
				if w, ok := t.use(start); ok {
					return t, w
				}
			}
		}
		at = uint64(len(places))
		places = resized(places, 2*len(places))
		s.places.Store(&places)
	}
	return s.put(places, int(at), start)
}

// resized returns n places with the tickets of the given ones, as far as there are so many.
func resized(places []atomic.Pointer[ticket], n int) []atomic.Pointer[ticket] {
	others := make([]atomic.Pointer[ticket], n)
	for i := range min(n, len(places)) {
		others[i].Store(places[i].Load())
	}
	return others
}

// put makes a ticket at a place where there is none. The caller holds s.mu.
func (s *tickets) put(places []atomic.Pointer[ticket], at int, start uint64) (t *ticket, w uint64) {
	t = &ticket{guard: s.guard, pool: s, place: at, shard: s.made % maxShards, bare: true}
	s.made++
	w, _ = t.use(start)
	places[at].Store(t)
	return t, w
}

// remove removes the ticket of a request that does not end. The caller holds s.mu.
func (s *tickets) remove(t *ticket, w uint64) {
	(*s.places.Load())[t.place].Store(nil)
	s.folded += w >> usesShift
}

// leave is remove for a caller that does not hold s.mu.
func (s *tickets) leave(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(t, t.word.Load())
}

// retire removes a ticket that is free, and says whether it was. The caller holds s.mu.
func (s *tickets) retire(t *ticket) bool {
	w := t.word.Load()
	if w&(oneUse-1) != 0 || !t.word.CompareAndSwap(w, w|inUse|ended) {
		return false
	}
	s.remove(t, w)
	return true
}

// taken counts the requests that have taken a ticket.
func (s *tickets) taken() (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := 0
	for t, w := range s.all {
		if w>>usesShift >= mostUses && s.retire(t) {
			continue
		}
		if w&inUse != 0 {
			busy++
		}
		n += w >> usesShift
	}
	n += s.folded
	s.fit(busy)
	return n
}

// fit halves the places when few have been in use for long, so that a burst does not cost memory, and a look at every ticket
// time, from then on. The caller holds s.mu.
func (s *tickets) fit(busy int) {
	places := len(*s.places.Load())
	if places == placesAtFirst || fewInUse*busy >= places {
		s.quiet = 0
		return
	}
	if s.quiet++; s.quiet == quietLooks {
		s.quiet = 0
		s.halve()
	}
}

// halve halves the places. It retires tickets that are free, and moves those that are not. The caller holds s.mu.
func (s *tickets) halve() {
	places := *s.places.Load()
	fewer := resized(places, len(places)/2)
	at := 0
	for i := len(fewer); i < len(places); i++ {
		moves := places[i].Load()
		if moves == nil || s.retire(moves) {
			continue
		}
		for at < len(fewer) {
			if t := fewer[at].Load(); t == nil || s.retire(t) {
				break
			}
			at++
		}
		if at == len(fewer) { // many requests have begun meanwhile
			return
		}
		fewer[at].Store(moves)
		at++
	}
	for i := range fewer {
		if t := fewer[i].Load(); t != nil {
			t.place = i
		}
	}
	s.places.Store(&fewer)
}

// all calls yield with each ticket and its word. The caller holds s.mu.
func (s *tickets) all(yield func(t *ticket, w uint64) bool) {
	places := *s.places.Load()
	for i := range places {
		if t := places[i].Load(); t != nil && !yield(t, t.word.Load()) {
			return
		}
	}
}
