package guard

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// instances holds the breaker of each instance of a dependency. Looking one up takes no lock. The names may come from
// URLs, so their number is bounded: the instance that was called least recently makes room for a new one, a closed
// breaker before one that is not.
type instances struct {
	table atomic.Pointer[map[string]*breaker] // never changed in place
	mu    sync.Mutex                          // held to replace it
	make  func(instance string) *breaker
	past  [badKinds]uint64 // times that breakers which are gone have opened
}

const maxInstances = 1000

// of returns the breaker of an instance.
func (s *instances) of(now time.Duration, instance string) *breaker {
	if t := s.table.Load(); t != nil {
		if b := (*t)[instance]; b != nil {
			return b
		}
	}
	return s.add(now, instance)
}

func (s *instances) add(now time.Duration, instance string) *breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*breaker{}
	if t := s.table.Load(); t != nil {
		if b := (*t)[instance]; b != nil {
			return b
		}
		next = maps.Clone(*t)
	}
	if len(next) >= maxInstances {
		s.evict(next)
	}
	b := s.make(instance)
	b.used.Store(int64(now))
	next[instance] = b
	s.table.Store(&next)
	return b
}

// evict removes the breaker that is missed least.
func (s *instances) evict(table map[string]*breaker) {
	var least *breaker
	for _, b := range table {
		if least == nil || b.missedLessThan(least) {
			least = b
		}
	}
	delete(table, least.instance)
	least.mu.Lock()
	defer least.mu.Unlock()
	for kind, n := range least.opened {
		s.past[kind] += n
	}
}

func (b *breaker) missedLessThan(other *breaker) bool {
	closed := b.word.Load()&stateMask == breakerClosed
	if closed != (other.word.Load()&stateMask == breakerClosed) {
		return closed
	}
	return b.used.Load() < other.used.Load()
}

// snapshot returns the number of known instances by the state of their breaker, and how often breakers have opened.
func (s *instances) snapshot() (states map[string]int, opened map[string]uint64) {
	states, opened = map[string]int{}, map[string]uint64{}
	for _, name := range breakerNames {
		states[name] = 0
	}
	s.mu.Lock() // so that an instance that makes room is counted once
	defer s.mu.Unlock()
	for kind, name := range badNames {
		opened[name] = s.past[kind]
	}
	if t := s.table.Load(); t != nil {
		for _, b := range *t {
			b.mu.Lock()
			states[breakerNames[b.word.Load()&stateMask]]++
			for kind, name := range badNames {
				opened[name] += b.opened[kind]
			}
			b.mu.Unlock()
		}
	}
	return states, opened
}
