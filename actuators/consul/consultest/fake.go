package consultest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// Fake is the part of Consul's HTTP interface that package consul uses, in memory: keys with check-and-set and locks,
// sessions with TTL and lock delay, transactions, blocking queries. It passes the contract suite as the real one does.
// Its clock is package time's, so in a testing/synctest bubble an hour of sessions takes no time.
//
// SetHook makes it misbehave. A Fake is safe for concurrent use.
type Fake struct {
	mu       sync.Mutex
	hook     func(http.ResponseWriter, *http.Request) bool
	index    uint64
	pairs    map[string]*api.KVPair
	deleted  map[string]uint64 // index of the deletion
	sessions map[string]*fakeSession
	delays   map[string]time.Time // by key: until when it cannot be locked
	changed  chan struct{}        // closed at every write
}

type fakeSession struct {
	entry  api.SessionEntry
	ttl    time.Duration
	expiry *time.Timer
}

// NewFake returns an empty store.
func NewFake() *Fake {
	return &Fake{
		index:    1,
		pairs:    map[string]*api.KVPair{},
		deleted:  map[string]uint64{},
		sessions: map[string]*fakeSession{},
		delays:   map[string]time.Time{},
		changed:  make(chan struct{}),
	}
}

// SetHook sets what is called before every request; where it returns true it has answered, or chosen not to. nil
// removes it.
func (f *Fake) SetHook(hook func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Client returns a client without a network: requests are handled in this process, and end when their context does.
func (f *Fake) Client() *api.Client { return ClientOf(f) }

// ClientOf is Client for any handler, such as one that stands between a client and a Fake.
func ClientOf(handler http.Handler) *api.Client {
	config := api.DefaultConfig()
	config.HttpClient = &http.Client{Transport: roundTripper{handler}}
	client, err := api.NewClient(config)
	if err != nil {
		panic(err) // only for an address that cannot be parsed
	}
	return client
}

type roundTripper struct{ handler http.Handler }

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := make(chan *http.Response, 1)
	go func() {
		recorder := httptest.NewRecorder()
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				answer <- nil
			default:
				panic(p)
			}
		}()
		rt.handler.ServeHTTP(recorder, r)
		answer <- recorder.Result()
	}()
	select {
	case response := <-answer:
		if response == nil {
			return nil, io.ErrUnexpectedEOF // what a cut connection looks like
		}
		return response, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// Sessions returns the ids of the sessions that live.
func (f *Fake) Sessions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id := range f.sessions {
		ids = append(ids, id)
	}
	return ids
}

// Pair returns a copy of what a key holds, nil where it does not exist.
func (f *Fake) Pair(key string) *api.KVPair {
	f.mu.Lock()
	defer f.mu.Unlock()
	pair, ok := f.pairs[key]
	if !ok {
		return nil
	}
	c := *pair
	return &c
}

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	path := r.URL.Path
	switch {
	case r.Method == http.MethodGet && strings.HasPrefix(path, "/v1/kv/"):
		f.get(w, r, strings.TrimPrefix(path, "/v1/kv/"))
	case r.Method == http.MethodPut && strings.HasPrefix(path, "/v1/kv/"):
		f.put(w, r, strings.TrimPrefix(path, "/v1/kv/"))
	case r.Method == http.MethodDelete && strings.HasPrefix(path, "/v1/kv/"):
		f.delete(w, r, strings.TrimPrefix(path, "/v1/kv/"))
	case r.Method == http.MethodPut && path == "/v1/txn":
		f.txn(w, r)
	case r.Method == http.MethodPut && path == "/v1/session/create":
		f.createSession(w, r)
	case r.Method == http.MethodPut && strings.HasPrefix(path, "/v1/session/renew/"):
		f.renewSession(w, strings.TrimPrefix(path, "/v1/session/renew/"))
	case r.Method == http.MethodPut && strings.HasPrefix(path, "/v1/session/destroy/"):
		f.mu.Lock()
		f.invalidate(strings.TrimPrefix(path, "/v1/session/destroy/"), true)
		f.mu.Unlock()
		reply(w, http.StatusOK, true)
	default:
		http.Error(w, "the fake does not have "+r.Method+" "+path, http.StatusNotFound)
	}
}

// get answers GET of a key, or with ?recurse of all keys under a prefix, after the index asked for has passed.
func (f *Fake) get(w http.ResponseWriter, r *http.Request, key string) {
	query := r.URL.Query()
	_, recurse := query["recurse"]
	after, _ := strconv.ParseUint(query.Get("index"), 10, 64)
	wait := 5 * time.Minute
	if text := query.Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil {
			http.Error(w, "Invalid wait time", http.StatusBadRequest)
			return
		}
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		pairs, index := f.lookUp(key, recurse)
		changed := f.changed
		f.mu.Unlock()
		waiting := after > 0 && index <= after
		if waiting {
			select {
			case <-changed:
				continue
			case <-timeout.C:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
		w.Header().Set("X-Consul-Knownleader", "true")
		w.Header().Set("X-Consul-Lastcontact", "0")
		if len(pairs) == 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		reply(w, http.StatusOK, pairs)
		return
	}
}

func (f *Fake) lookUp(key string, recurse bool) (pairs []*api.KVPair, index uint64) {
	index = 1
	for _, name := range slices.Sorted(maps.Keys(f.pairs)) {
		if name == key || recurse && strings.HasPrefix(name, key) {
			c := *f.pairs[name]
			pairs = append(pairs, &c)
			index = max(index, c.ModifyIndex)
		}
	}
	for name, at := range f.deleted {
		if name == key || recurse && strings.HasPrefix(name, key) {
			index = max(index, at)
		}
	}
	if len(pairs) == 0 && index == 1 {
		index = f.index
	}
	return pairs, index
}

func (f *Fake) put(w http.ResponseWriter, r *http.Request, key string) {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if len(value) > 512<<10 {
		http.Error(w, "Request body too large, max size: 524288 bytes.", http.StatusRequestEntityTooLarge)
		return
	}
	query := r.URL.Query()
	op := api.KVTxnOp{Verb: api.KVSet, Key: key, Value: value}
	op.Flags, _ = strconv.ParseUint(query.Get("flags"), 10, 64)
	switch {
	case query.Has("acquire"):
		op.Verb, op.Session = api.KVLock, query.Get("acquire")
	case query.Has("release"):
		op.Verb, op.Session = api.KVUnlock, query.Get("release")
	case query.Has("cas"):
		op.Verb = api.KVCAS
		op.Index, _ = strconv.ParseUint(query.Get("cas"), 10, 64)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if op.Verb == api.KVLock && f.sessions[op.Session] == nil {
		http.Error(w, fmt.Sprintf("rpc error making call: invalid session %q", op.Session), http.StatusInternalServerError)
		return
	}
	problem := f.check(op)
	if problem == "" {
		f.index++
		f.apply(op)
		f.announce()
	}
	reply(w, http.StatusOK, problem == "")
}

func (f *Fake) delete(w http.ResponseWriter, r *http.Request, key string) {
	query := r.URL.Query()
	f.mu.Lock()
	defer f.mu.Unlock()
	if query.Has("cas") {
		index, _ := strconv.ParseUint(query.Get("cas"), 10, 64)
		if pair := f.pairs[key]; pair != nil && pair.ModifyIndex != index {
			reply(w, http.StatusOK, false)
			return
		}
	}
	f.index++
	for name := range f.pairs {
		if name == key || query.Has("recurse") && strings.HasPrefix(name, key) {
			delete(f.pairs, name)
			f.deleted[name] = f.index
		}
	}
	f.announce()
	reply(w, http.StatusOK, true)
}

// txn applies its operations only if all of them succeed. Each is checked against the store as it was before, so two
// that touch the same key do not see one another; nobody here sends such a pair.
func (f *Fake) txn(w http.ResponseWriter, r *http.Request) {
	var ops []struct{ KV api.KVTxnOp }
	if err := json.NewDecoder(r.Body).Decode(&ops); err != nil {
		http.Error(w, "Failed to parse body: "+err.Error(), http.StatusBadRequest)
		return
	}
	if len(ops) > 128 {
		http.Error(w, fmt.Sprintf("Transaction contains too many operations (%d > 128)", len(ops)),
			http.StatusRequestEntityTooLarge)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var answer api.TxnResponse
	for i, op := range ops {
		if problem := f.check(op.KV); problem != "" {
			answer.Errors = append(answer.Errors, &api.TxnError{OpIndex: i, What: problem})
		}
	}
	if len(answer.Errors) > 0 {
		reply(w, http.StatusConflict, answer)
		return
	}
	f.index++
	for _, op := range ops {
		f.apply(op.KV)
		result := &api.KVPair{Key: op.KV.Key}
		if pair := f.pairs[op.KV.Key]; pair != nil {
			*result = *pair
			if op.KV.Verb != api.KVGet {
				result.Value = nil
			}
		}
		answer.Results = append(answer.Results, &api.TxnResult{KV: result})
	}
	f.announce()
	reply(w, http.StatusOK, answer)
}

// check returns why op cannot be done, "" where it can.
func (f *Fake) check(op api.KVTxnOp) string {
	pair := f.pairs[op.Key]
	switch op.Verb {
	case api.KVSet:
	case api.KVCAS:
		if op.Index == 0 && pair != nil || op.Index != 0 && (pair == nil || pair.ModifyIndex != op.Index) {
			return fmt.Sprintf("failed to set key %q, index is stale", op.Key)
		}
	case api.KVLock:
		switch {
		case f.sessions[op.Session] == nil:
			return fmt.Sprintf("failed to lock key %q, invalid session %q", op.Key, op.Session)
		case pair != nil && pair.Session != "" && pair.Session != op.Session:
			return fmt.Sprintf("failed to lock key %q, lock is already held", op.Key)
		case time.Now().Before(f.delays[op.Key]):
			return fmt.Sprintf("failed to lock key %q due to lock delay", op.Key)
		}
	case api.KVUnlock:
		if pair == nil || pair.Session == "" || pair.Session != op.Session {
			return fmt.Sprintf("failed to unlock key %q, lock isn't held, or is held by another session", op.Key)
		}
	case api.KVGet:
		if pair == nil {
			return fmt.Sprintf("key %q doesn't exist", op.Key)
		}
	case api.KVCheckSession:
		if pair == nil {
			return fmt.Sprintf("failed to check session, key %q doesn't exist", op.Key)
		}
		if pair.Session != op.Session {
			return fmt.Sprintf("failed session check for key %q, current session %q != %q", op.Key, pair.Session, op.Session)
		}
	case api.KVCheckIndex:
		if pair == nil || pair.ModifyIndex != op.Index {
			return fmt.Sprintf("failed index check for key %q", op.Key)
		}
	case api.KVCheckNotExists:
		if pair != nil {
			return fmt.Sprintf("key %q exists", op.Key)
		}
	default:
		return fmt.Sprintf("unknown KV verb %q", op.Verb)
	}
	return ""
}

// apply does a checked op at the current index.
func (f *Fake) apply(op api.KVTxnOp) {
	switch op.Verb {
	case api.KVSet, api.KVCAS, api.KVLock, api.KVUnlock:
	default:
		return
	}
	next := &api.KVPair{Key: op.Key, Value: op.Value, Flags: op.Flags, CreateIndex: f.index, ModifyIndex: f.index}
	if old := f.pairs[op.Key]; old != nil {
		next.CreateIndex, next.LockIndex, next.Session = old.CreateIndex, old.LockIndex, old.Session
	}
	switch op.Verb {
	case api.KVLock:
		if next.Session == "" {
			next.LockIndex++
		}
		next.Session = op.Session
	case api.KVUnlock:
		next.Session = ""
	}
	f.pairs[op.Key] = next
	delete(f.deleted, op.Key)
}

func (f *Fake) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fake) createSession(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Name, TTL, LockDelay, Behavior string }
	body, err := io.ReadAll(r.Body)
	if err == nil && len(bytes.TrimSpace(body)) > 0 {
		err = json.Unmarshal(body, &asked)
	}
	if err != nil {
		http.Error(w, "Request decode failed: "+err.Error(), http.StatusBadRequest)
		return
	}
	s := &fakeSession{entry: api.SessionEntry{
		Name: asked.Name, TTL: asked.TTL, Node: "fake", Behavior: asked.Behavior, LockDelay: 15 * time.Second,
	}}
	if asked.LockDelay != "" {
		if s.entry.LockDelay, err = time.ParseDuration(asked.LockDelay); err != nil {
			http.Error(w, "Request decode failed: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	if asked.TTL != "" {
		s.ttl, err = time.ParseDuration(asked.TTL)
		if err != nil || s.ttl < 10*time.Second || s.ttl > 24*time.Hour {
			http.Error(w, fmt.Sprintf("rpc error making call: Invalid Session TTL '%d', must be between [10s=24h0m0s]",
				s.ttl), http.StatusInternalServerError)
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	s.entry.CreateIndex = f.index
	s.entry.ID = fmt.Sprintf("%08x-0000-4000-8000-%012x", f.index, len(f.sessions))
	if s.ttl > 0 {
		s.expiry = time.AfterFunc(2*s.ttl, func() { // as Consul does, "to be safe against clock skew"
			f.mu.Lock()
			defer f.mu.Unlock()
			f.invalidate(s.entry.ID, false)
		})
	}
	f.sessions[s.entry.ID] = s
	reply(w, http.StatusOK, map[string]string{"ID": s.entry.ID})
}

func (f *Fake) renewSession(w http.ResponseWriter, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions[id]
	if s == nil {
		http.Error(w, fmt.Sprintf("Session id '%s' not found", id), http.StatusNotFound)
		return
	}
	if s.expiry != nil {
		s.expiry.Reset(2 * s.ttl)
	}
	reply(w, http.StatusOK, []api.SessionEntry{s.entry})
}

// invalidate ends a session and releases (or deletes) the keys it holds, which cannot be locked for its lock delay.
func (f *Fake) invalidate(id string, stopTimer bool) {
	s := f.sessions[id]
	if s == nil {
		return
	}
	if stopTimer && s.expiry != nil {
		s.expiry.Stop()
	}
	delete(f.sessions, id)
	f.index++
	for name, pair := range f.pairs {
		if pair.Session != id {
			continue
		}
		f.delays[name] = time.Now().Add(s.entry.LockDelay)
		if s.entry.Behavior == api.SessionBehaviorDelete {
			delete(f.pairs, name)
			f.deleted[name] = f.index
			continue
		}
		free := *pair
		free.Session, free.ModifyIndex = "", f.index
		f.pairs[name] = &free
	}
	f.announce()
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
