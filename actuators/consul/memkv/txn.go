package memkv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// txn is a set of writes that happen together or not at all. Its operations see each other's effects.
type txn struct {
	store  *Store
	index  uint64
	writes map[string]*api.KVPair // nil: deleted
}

// begin starts a transaction. The caller holds the lock of the store until it has committed or dropped it.
func (s *Store) begin() *txn {
	return &txn{store: s, index: s.index + 1, writes: map[string]*api.KVPair{}}
}

func (t *txn) commit() {
	if len(t.writes) == 0 {
		return
	}
	s := t.store
	s.index = t.index
	for key, pair := range t.writes {
		if pair == nil {
			delete(s.pairs, key)
			s.graves[key] = t.index
			continue
		}
		s.pairs[key] = pair
		delete(s.graves, key)
	}
	if len(s.graves) > maxGraves {
		clear(s.graves)
	}
	s.announce()
}

func (t *txn) get(key string) *api.KVPair {
	if pair, ok := t.writes[key]; ok {
		return pair
	}
	return t.store.pairs[key]
}

// tree returns the pairs below prefix, sorted by key.
func (t *txn) tree(prefix string) (pairs []*api.KVPair) {
	all := maps.Clone(t.store.pairs)
	maps.Copy(all, t.writes)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(key, prefix) && all[key] != nil {
			pairs = append(pairs, all[key])
		}
	}
	return pairs
}

// put stores pair, sets its indexes, and returns the resulting content of the key. Like Consul, it does not count a
// write that changes nothing.
func (t *txn) put(pair *api.KVPair) *api.KVPair {
	old := t.get(pair.Key)
	pair.CreateIndex, pair.ModifyIndex = t.index, t.index
	if old != nil {
		if old.Session == pair.Session && old.LockIndex == pair.LockIndex && old.Flags == pair.Flags &&
			bytes.Equal(old.Value, pair.Value) {
			return old
		}
		pair.CreateIndex = old.CreateIndex
	}
	t.writes[pair.Key] = pair
	return pair
}

func (t *txn) remove(key string) {
	if t.get(key) != nil {
		t.writes[key] = nil
	}
}

// do runs one operation and returns the affected pairs, or why it failed. The words are Consul's.
func (t *txn) do(op *api.KVTxnOp) ([]*api.KVPair, error) {
	old := t.get(op.Key)
	next := &api.KVPair{Key: op.Key, Value: op.Value, Flags: op.Flags}
	if old != nil {
		next.LockIndex, next.Session = old.LockIndex, old.Session
	}
	switch op.Verb {
	case api.KVSet:
		return one(t.put(next)), nil

	case api.KVCAS:
		if op.Index == 0 && old != nil || op.Index != 0 && (old == nil || old.ModifyIndex != op.Index) {
			return nil, fmt.Errorf("failed to set key %q, index is stale", op.Key)
		}
		return one(t.put(next)), nil

	case api.KVLock:
		switch {
		case op.Session == "":
			return nil, errors.New("missing session")
		case t.store.sessions[op.Session] == nil:
			return nil, fmt.Errorf("invalid session %q", op.Session)
		case next.Session != "" && next.Session != op.Session:
			return nil, fmt.Errorf("failed to lock key %q, lock is already held", op.Key)
		case time.Now().Before(t.store.delays[op.Key]):
			return nil, fmt.Errorf("failed to lock key %q due to lock delay", op.Key)
		}
		delete(t.store.delays, op.Key)
		if next.Session == "" {
			next.LockIndex++
		}
		next.Session = op.Session
		return one(t.put(next)), nil

	case api.KVUnlock:
		switch {
		case op.Session == "":
			return nil, errors.New("missing session")
		case next.Session != op.Session:
			return nil, fmt.Errorf("failed to unlock key %q, lock isn't held, or is held by another session", op.Key)
		}
		next.Session = ""
		return one(t.put(next)), nil

	case api.KVDelete:
		t.remove(op.Key)
		return nil, nil

	case api.KVDeleteCAS:
		if old != nil && old.ModifyIndex != op.Index {
			return nil, fmt.Errorf("failed to delete key %q, index is stale", op.Key)
		}
		t.remove(op.Key)
		return nil, nil

	case api.KVDeleteTree:
		for _, pair := range t.tree(op.Key) {
			t.remove(pair.Key)
		}
		return nil, nil

	case api.KVGet:
		if old == nil {
			return nil, fmt.Errorf("key %q doesn't exist", op.Key)
		}
		return one(old), nil

	case api.KVGetOrEmpty:
		if old == nil {
			old = &api.KVPair{Key: op.Key}
		}
		return one(old), nil

	case api.KVGetTree:
		return t.tree(op.Key), nil

	case api.KVCheckSession:
		switch {
		case old == nil:
			return nil, fmt.Errorf("failed to check session, key %q doesn't exist", op.Key)
		case old.Session != op.Session:
			return nil, fmt.Errorf("failed session check for key %q, current session %q != %q",
				op.Key, old.Session, op.Session)
		}
		return one(old), nil

	case api.KVCheckIndex:
		switch {
		case old == nil:
			return nil, fmt.Errorf("failed to check index, key %q doesn't exist", op.Key)
		case old.ModifyIndex != op.Index:
			return nil, fmt.Errorf("failed index check for key %q, current modify index %d != %d",
				op.Key, old.ModifyIndex, op.Index)
		}
		return one(old), nil

	case api.KVCheckNotExists:
		if old != nil {
			return nil, fmt.Errorf("key %q exists", op.Key)
		}
		return nil, nil
	}
	return nil, fmt.Errorf("unknown KV verb %q", op.Verb)
}

func one(pair *api.KVPair) []*api.KVPair { return []*api.KVPair{pair} }

// keepsValue says whether the answer to an operation includes the values.
func keepsValue(verb api.KVOp) bool {
	return verb == api.KVGet || verb == api.KVGetOrEmpty || verb == api.KVGetTree
}
