// Package memo keeps what is expensive to make, of which there is little, and which is never changed once it is made.
package memo

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Map is a map whose Load takes no lock and allocates nothing, unlike that of a sync.Map whose keys are structs. Each Store
// copies it. The zero Map is empty and ready to use, by any number of goroutines.
type Map[K comparable, V any] struct {
	mu      sync.Mutex // of those who store
	current atomic.Pointer[map[K]V]
}

// Load returns the value of a key, and whether there is one.
func (m *Map[K, V]) Load(key K) (v V, ok bool) {
	if all := m.current.Load(); all != nil {
		v, ok = (*all)[key]
	}
	return v, ok
}

// Store sets the value of a key.
func (m *Map[K, V]) Store(key K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[K]V{}
	if all := m.current.Load(); all != nil {
		next = maps.Clone(*all)
	}
	next[key] = v
	m.current.Store(&next)
}
