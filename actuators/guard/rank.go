package guard

import (
	"context"
	"math/rand/v2"
	"sync"
)

// Rank is the place of a request among those of its criticality. It is drawn once, by the first guard that the request
// meets, and travels with the request's calls: from its key if it has one, else at random. A request that needs four
// admissions, each with a rank of its own, is refused by one of them nearly always; with one rank, the guards refuse the
// same requests, and those that they admit are admitted everywhere. The zero value is a rank that has yet to be drawn.
type Rank struct {
	// Place is uniform over its range; higher ones are refused later. It counts if Drawn.
	Place uint32
	Drawn bool // Place counts
	// Again: the same service has answered a call of the same request well. Refusing would waste that work, so
	// it is admitted up to the limit, whatever its criticality.
	Again bool
	// Group is how many calls of one request, this one among them, come to the service at the same time; 0 counts as 1.
	// The first of them needs room for all, and the others may then fill the limit.
	Group uint8
	// ID tells the requests with a Group apart.
	ID uint32
}

// drawn returns r with a place. A key always has the same one, until the salt changes.
func (g *Guard) drawn(r Rank, key string, salt uint64) Rank {
	if r.Drawn {
		return r
	}
	if key != "" {
		r.Place = uint32(hashKey(key, salt) >> 32)
	} else {
		r.Place = g.draw()
	}
	r.Drawn = true
	return r
}

// noteRank notes that requests have an order: one has brought a rank or a key along or has handed on a rank, or they
// differ in their criticality.
func (g *Guard) noteRank() {
	if !g.ranked.Load() {
		g.ranked.Store(true)
	}
}

// draw returns random bits. With a clock that is not the real one they are the same in every run.
func (g *Guard) draw() uint32 {
	if g.cfg.Now == nil {
		return rand.Uint32()
	}
	return uint32(mix64(g.draws.Add(1)) >> 32)
}

// groups counts the requests in flight that belong to a group, by ID. It is used for such requests only.
type groups struct {
	mu     sync.Mutex
	inside map[uint32]int
}

func (g *groups) has(id uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside[id] > 0
}

func (g *groups) join(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside == nil {
		g.inside = map[uint32]int{}
	}
	g.inside[id]++
}

func (g *groups) leave(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[id]--; g.inside[id] <= 0 {
		delete(g.inside, id)
	}
}

// groupKey is the key of the size of a group in a context.
type groupKey struct{}

// WithGroup says that guarded calls with the context that it returns come n at a time to the same dependency: a fan-out. The
// callee then admits all of them or none, as far as it can. From 2 to 255; other numbers mean nothing.
func WithGroup(ctx context.Context, n int) context.Context {
	if n < 2 || n > 255 {
		return ctx
	}
	return context.WithValue(ctx, groupKey{}, uint8(n))
}

func groupOf(ctx context.Context) uint8 {
	n, _ := ctx.Value(groupKey{}).(uint8)
	return n
}

// called is what a request remembers of a dependency.
type called struct {
	dependency *Dependency
	instance   string // that took its latest call
	answered   bool
}

// calledAt returns what r remembers of d; the caller holds r.mu. A new entry is added if add is true.
func (r *request) calledAt(d *Dependency, add bool) *called {
	for i := range r.called {
		if r.called[i].dependency == d {
			return &r.called[i]
		}
	}
	if !add {
		return nil
	}
	r.called = append(r.called, called{dependency: d})
	return &r.called[len(r.called)-1]
}

// sent notes that an instance of d takes a call of r. A nil request ignores it.
func (r *request) sent(d *Dependency, instance string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calledAt(d, true).instance = instance
}

// missed notes that a call of r to d was refused here. A nil request ignores it.
func (r *request) missed(d *Dependency) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calledAt(d, true)
	r.unmet = true
}

// failed notes that a call of r to that instance of d has failed: the next one may go anywhere. A nil request ignores it.
func (r *request) failed(d *Dependency, instance string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unmet = true
	if c := r.calledAt(d, false); c != nil && c.instance == instance {
		c.instance = ""
	}
}

// answered notes that d has answered a call of r. A nil request ignores it.
func (r *request) answered(d *Dependency) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calledAt(d, true).answered = true
}

// Usual returns the instance that took the latest call of the same request to the dependency; "": none has.
func (c *Call) Usual() string {
	r := c.request
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if called := r.calledAt(c.d, false); called != nil {
		return called.instance
	}
	return ""
}

// arrivalAt returns what calls of r bring along to d.
func (r *request) arrivalAt(d *Dependency, group uint8) Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, own := r.origin(), &r.arrival.Rank
	if group > 1 {
		for own.ID == 0 {
			own.ID = r.guard.draw()
		}
		a.Rank.Group, a.Rank.ID = group, own.ID
	}
	if c := r.calledAt(d, false); c != nil {
		a.Rank.Again = c.answered
	}
	return a
}
