package memkv

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// Store is a key-value store with sessions. It is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	index    uint64                 // of the last write
	pairs    map[string]*api.KVPair // never changed once stored, only replaced
	graves   map[string]uint64      // by deleted key: index of the deletion
	sessions map[string]*session
	delays   map[string]time.Time // by key: when its lock delay ends
	changed  chan struct{}        // closed at every write
	stopped  bool                 // sessions do not expire
}

type session struct {
	entry   api.SessionEntry
	ttl     time.Duration // 0: lives until it is destroyed
	expires time.Time
	timer   *time.Timer
}

// maxGraves bounds how many deleted keys a store remembers. Beyond it a list may return an index below an earlier one,
// as Consul's may after it has reaped its tombstones.
const maxGraves = 10_000

// New returns an empty store.
func New() *Store {
	return &Store{
		index:    1, // 0 means "do not block" to a client
		pairs:    map[string]*api.KVPair{},
		graves:   map[string]uint64{},
		sessions: map[string]*session{},
		delays:   map[string]time.Time{},
		changed:  make(chan struct{}),
	}
}

// Suspend stops the clock of the sessions, as if Consul were down: nobody can renew, so no session may expire.
func (s *Store) Suspend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for _, session := range s.sessions {
		session.disarm()
	}
}

// Resume starts the clock again. Like a Consul server that becomes the leader, the store gives every session its whole
// TTL again and forgets the lock delays.
func (s *Store) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = false
	clear(s.delays)
	for id := range s.sessions {
		s.arm(id)
	}
}

// Pair returns a copy of the pair at key; nil if there is none.
func (s *Store) Pair(key string) *api.KVPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair, ok := s.pairs[key]
	if !ok {
		return nil
	}
	c := *pair
	return &c
}

// Sessions returns the ids of the live sessions, sorted.
func (s *Store) Sessions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.sessions))
}

// lookUp returns the pairs whose key is name, or starts with it, sorted by key, and the index of the last write to any
// of them.
func (s *Store) lookUp(name string, recurse bool) (pairs []*api.KVPair, index uint64) {
	for _, key := range slices.Sorted(maps.Keys(s.pairs)) {
		if key == name || recurse && strings.HasPrefix(key, name) {
			pairs = append(pairs, s.pairs[key])
			index = max(index, s.pairs[key].ModifyIndex)
		}
	}
	for key, at := range s.graves {
		if key == name || recurse && strings.HasPrefix(key, name) {
			index = max(index, at)
		}
	}
	if index == 0 {
		index = s.index
	}
	return pairs, index
}

// announce wakes every blocked query.
func (s *Store) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// createSession stores entry under a new id and returns the id.
func (s *Store) createSession(entry api.SessionEntry, ttl time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	entry.ID, entry.CreateIndex = newID(), s.index
	s.sessions[entry.ID] = &session{entry: entry, ttl: ttl}
	s.arm(entry.ID)
	s.announce()
	return entry.ID
}

// renewSession gives a session its whole TTL again.
func (s *Store) renewSession(id string) (entry api.SessionEntry, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == nil {
		return entry, false
	}
	s.arm(id)
	return s.sessions[id].entry, true
}

// arm lets a session expire after twice its TTL: Consul doubles it to allow for clock skew.
func (s *Store) arm(id string) {
	session := s.sessions[id]
	session.disarm()
	if session.ttl == 0 || s.stopped {
		return
	}
	session.expires = time.Now().Add(2 * session.ttl)
	session.timer = time.AfterFunc(2*session.ttl, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// It may have been renewed while this call waited for the lock.
		if s.sessions[id] == session && !s.stopped && !time.Now().Before(session.expires) {
			s.invalidate(id)
		}
	})
}

func (s *session) disarm() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

// invalidate ends a session and releases (or deletes) the keys it holds, which cannot be locked for its lock delay.
func (s *Store) invalidate(id string) {
	session := s.sessions[id]
	if session == nil {
		return
	}
	session.disarm()
	delete(s.sessions, id)
	s.index++
	tx := s.begin()
	for key, pair := range s.pairs {
		if pair.Session != id {
			continue
		}
		if session.entry.LockDelay > 0 {
			s.delays[key] = time.Now().Add(session.entry.LockDelay)
		}
		if session.entry.Behavior == api.SessionBehaviorDelete {
			tx.remove(key)
			continue
		}
		free := *pair
		free.Session = ""
		tx.put(&free)
	}
	tx.commit()
	s.announce()
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
