package memkv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Header is set to "kv" in every answer.
const Header = "X-Governor-Embedded"

// Limits of Consul's default configuration.
const (
	maxValue         = 512 << 10 // bytes of a value, and of a transaction's body
	maxOps           = 128       // of a transaction
	defaultWait      = 5 * time.Minute
	maxWait          = 10 * time.Minute
	minTTL, maxTTL   = 10 * time.Second, 24 * time.Hour
	defaultLockDelay = 15 * time.Second
	nodeName         = "embedded"
)

// ServeHTTP answers like Consul's HTTP API, as far as this package supports it.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(Header, "kv")
	below := func(prefix string) (string, bool) {
		rest, ok := strings.CutPrefix(r.URL.Path, prefix)
		return rest, ok
	}
	get, put := r.Method == http.MethodGet, r.Method == http.MethodPut
	if key, ok := below("/v1/kv/"); ok {
		switch {
		case get:
			s.serveGet(w, r, key)
		case put:
			s.servePut(w, r, key)
		case r.Method == http.MethodDelete:
			s.serveDelete(w, r, key)
		default:
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		}
		return
	}
	if id, ok := below("/v1/session/renew/"); ok && put {
		s.serveRenew(w, id)
	} else if id, ok := below("/v1/session/destroy/"); ok && put {
		s.mu.Lock()
		s.invalidate(id)
		s.mu.Unlock()
		reply(w, http.StatusOK, true)
	} else if id, ok := below("/v1/session/info/"); ok && get {
		s.serveSessions(w, r, func(e api.SessionEntry) bool { return e.ID == id })
	} else if node, ok := below("/v1/session/node/"); ok && get {
		s.serveSessions(w, r, func(e api.SessionEntry) bool { return e.Node == node })
	} else {
		switch r.Method + " " + r.URL.Path {
		case "PUT /v1/txn":
			s.serveTxn(w, r)
		case "PUT /v1/session/create":
			s.serveCreate(w, r)
		case "GET /v1/session/list":
			s.serveSessions(w, r, func(api.SessionEntry) bool { return true })
		case "GET /v1/status/leader":
			reply(w, http.StatusOK, "127.0.0.1:8300")
		case "GET /v1/agent/self":
			reply(w, http.StatusOK, map[string]any{"Config": map[string]any{
				"Datacenter": "dc1", "NodeName": nodeName, "Server": true,
			}})
		default:
			http.Error(w, "the embedded KV does not have "+r.Method+" "+r.URL.Path, http.StatusNotFound)
		}
	}
}

// block answers a read as soon as the index of the data exceeds the requested one, or the wait is over.
func (s *Store) block(w http.ResponseWriter, r *http.Request, read func() (index uint64, answer func())) {
	query := r.URL.Query()
	var after uint64
	var err error
	if text := query.Get("index"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			http.Error(w, "Invalid index", http.StatusBadRequest)
			return
		}
	}
	wait := defaultWait
	if text := query.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil {
			http.Error(w, "Invalid wait time", http.StatusBadRequest)
			return
		}
	}
	if wait <= 0 {
		wait = defaultWait
	}
	wait = min(wait, maxWait)
	consistency := "leader"
	switch stale, consistent := query.Has("stale"), query.Has("consistent"); {
	case stale && consistent:
		http.Error(w, "Cannot specify ?stale with ?consistent, conflicting semantics.", http.StatusBadRequest)
		return
	case stale:
		consistency = "stale"
	case consistent:
		consistency = "consistent"
	}
	// Consul adds up to a sixteenth, so that queries that began together do not end together.
	timeout := time.NewTimer(wait + rand.N(wait/16+1))
	defer timeout.Stop()
	for over := false; ; {
		s.mu.Lock()
		index, answer := read()
		changed := s.changed
		s.mu.Unlock()
		if after > 0 && index <= after && !over {
			select {
			case <-changed:
			case <-timeout.C:
				over = true
			case <-r.Context().Done():
				return
			}
			continue
		}
		h := w.Header()
		h.Set("X-Consul-Index", strconv.FormatUint(index, 10))
		h.Set("X-Consul-Knownleader", "true")
		h.Set("X-Consul-Lastcontact", "0")
		h.Set("X-Consul-Effective-Consistency", consistency)
		answer()
		return
	}
}

// serveGet answers with the pair of a key; with ?recurse the pairs of all keys with that prefix, with ?keys only their
// names, with ?raw the bare value.
func (s *Store) serveGet(w http.ResponseWriter, r *http.Request, key string) {
	query := r.URL.Query()
	recurse, names, raw := query.Has("recurse"), query.Has("keys"), query.Has("raw")
	if key == "" && !recurse && !names {
		http.Error(w, "Missing key name", http.StatusBadRequest)
		return
	}
	s.block(w, r, func() (uint64, func()) {
		pairs, index := s.lookUp(key, recurse || names)
		return index, func() {
			switch {
			case names && (len(pairs) > 0 || key == ""):
				reply(w, http.StatusOK, namesOf(pairs, key, query.Get("separator")))
			case len(pairs) == 0:
				w.WriteHeader(http.StatusNotFound)
			case raw && !recurse:
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("X-Content-Type-Options", "nosniff")
				_, _ = w.Write(pairs[0].Value)
			default:
				reply(w, http.StatusOK, pairs)
			}
		}
	})
}

// namesOf returns the keys, each cut after the first separator behind prefix.
func namesOf(pairs []*api.KVPair, prefix, separator string) []string {
	names := []string{}
	for _, pair := range pairs {
		name := pair.Key
		if rest := name[len(prefix):]; separator != "" {
			if at := strings.Index(rest, separator); at >= 0 {
				name = prefix + rest[:at+len(separator)]
			}
		}
		names = append(names, name)
	}
	return slices.Compact(names)
}

func (s *Store) servePut(w http.ResponseWriter, r *http.Request, key string) {
	query := r.URL.Query()
	op := &api.KVTxnOp{Verb: api.KVSet, Key: key}
	if key == "" {
		http.Error(w, "Missing key name", http.StatusBadRequest)
		return
	}
	if conflicting(w, r, "cas", "acquire", "release") {
		return
	}
	var err error
	if query.Has("flags") {
		if op.Flags, err = strconv.ParseUint(query.Get("flags"), 10, 64); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	switch {
	case query.Has("acquire"):
		op.Verb, op.Session = api.KVLock, query.Get("acquire")
	case query.Has("release"):
		op.Verb, op.Session = api.KVUnlock, query.Get("release")
	case query.Has("cas"):
		op.Verb = api.KVCAS
		if op.Index, err = strconv.ParseUint(query.Get("cas"), 10, 64); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	if op.Value, err = readBody(w, r); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// For a lock, a session that does not exist is an error, not a lost race.
	if op.Verb == api.KVLock && s.sessions[op.Session] == nil {
		http.Error(w, fmt.Sprintf("invalid session %q", op.Session), http.StatusInternalServerError)
		return
	}
	reply(w, http.StatusOK, s.apply(op))
}

func (s *Store) serveDelete(w http.ResponseWriter, r *http.Request, key string) {
	query := r.URL.Query()
	op := &api.KVTxnOp{Verb: api.KVDelete, Key: key}
	if conflicting(w, r, "recurse", "cas") {
		return
	}
	switch {
	case query.Has("recurse"):
		op.Verb = api.KVDeleteTree
	case key == "":
		http.Error(w, "Missing key name", http.StatusBadRequest)
		return
	case query.Has("cas"):
		var err error
		op.Verb = api.KVDeleteCAS
		if op.Index, err = strconv.ParseUint(query.Get("cas"), 10, 64); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reply(w, http.StatusOK, s.apply(op))
}

// apply runs a transaction of one operation and says whether it succeeded.
func (s *Store) apply(op *api.KVTxnOp) bool {
	tx := s.begin()
	if _, err := tx.do(op); err != nil {
		return false
	}
	tx.commit()
	return true
}

func (s *Store) serveTxn(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		return
	}
	var ops api.TxnOps
	if err := json.Unmarshal(body, &ops); err != nil {
		http.Error(w, fmt.Sprintf("Failed to parse body: %v", err), http.StatusBadRequest)
		return
	}
	if len(ops) > maxOps {
		http.Error(w, fmt.Sprintf("Transaction contains too many operations (%d > %d)", len(ops), maxOps),
			http.StatusRequestEntityTooLarge)
		return
	}
	for i, op := range ops {
		if op == nil || op.KV == nil {
			http.Error(w, fmt.Sprintf("operation %d: the embedded KV has transactions on keys only", i),
				http.StatusBadRequest)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var answer api.TxnResponse
	tx := s.begin()
	for i, op := range ops {
		pairs, err := tx.do(op.KV)
		if err != nil {
			answer.Errors = append(answer.Errors, &api.TxnError{OpIndex: i, What: err.Error()})
			continue
		}
		for _, pair := range pairs {
			c := *pair
			if !keepsValue(op.KV.Verb) {
				c.Value = nil
			}
			answer.Results = append(answer.Results, &api.TxnResult{KV: &c})
		}
	}
	if len(answer.Errors) > 0 {
		answer.Results = nil
		reply(w, http.StatusConflict, answer)
		return
	}
	tx.commit()
	reply(w, http.StatusOK, answer)
}

func (s *Store) serveCreate(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		return
	}
	var asked struct {
		Name, TTL, Behavior string
		LockDelay           any
	}
	lockDelay := defaultLockDelay
	if len(bytes.TrimSpace(body)) > 0 {
		if err = json.Unmarshal(body, &asked); err == nil && asked.LockDelay != nil {
			lockDelay, err = lockDelayOf(asked.LockDelay)
		}
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("Request decode failed: %v", err), http.StatusBadRequest)
		return
	}
	var ttl time.Duration
	refuse := func(format string, args ...any) {
		http.Error(w, fmt.Sprintf(format, args...), http.StatusInternalServerError)
	}
	if asked.TTL != "" {
		if ttl, err = time.ParseDuration(asked.TTL); err != nil {
			refuse("Session TTL '%s' invalid: %v", asked.TTL, err)
			return
		}
		if ttl != 0 && (ttl < minTTL || ttl > maxTTL) {
			refuse("Invalid Session TTL '%d', must be between [%v=%v]", ttl, minTTL, maxTTL)
			return
		}
	}
	switch asked.Behavior {
	case "":
		asked.Behavior = api.SessionBehaviorRelease
	case api.SessionBehaviorRelease, api.SessionBehaviorDelete:
	default:
		refuse("Invalid Behavior setting '%s'", asked.Behavior)
		return
	}
	id := s.createSession(api.SessionEntry{
		Name: asked.Name, Node: nodeName, TTL: asked.TTL, Behavior: asked.Behavior, LockDelay: lockDelay,
	}, ttl)
	reply(w, http.StatusOK, map[string]string{"ID": id})
}

// lockDelayOf reads a lock delay as Consul does: a duration in words or in nanoseconds, or a small number of seconds; a
// minute at most.
func lockDelayOf(v any) (d time.Duration, err error) {
	switch v := v.(type) {
	case string:
		if d, err = time.ParseDuration(v); err != nil {
			return 0, err
		}
	case float64:
		d = time.Duration(v)
	}
	if d < 1000 {
		d *= time.Second
	}
	return min(d, time.Minute), nil
}

func (s *Store) serveRenew(w http.ResponseWriter, id string) {
	entry, ok := s.renewSession(id)
	if !ok {
		http.Error(w, fmt.Sprintf("Session id '%s' not found", id), http.StatusNotFound)
		return
	}
	reply(w, http.StatusOK, []api.SessionEntry{entry})
}

func (s *Store) serveSessions(w http.ResponseWriter, r *http.Request, wanted func(api.SessionEntry) bool) {
	s.block(w, r, func() (uint64, func()) {
		entries := []api.SessionEntry{}
		for _, session := range s.sessions {
			if wanted(session.entry) {
				entries = append(entries, session.entry)
			}
		}
		slices.SortFunc(entries, func(a, b api.SessionEntry) int { return strings.Compare(a.ID, b.ID) })
		return s.index, func() { reply(w, http.StatusOK, entries) }
	})
}

// conflicting refuses a request with more than one of the parameters.
func conflicting(w http.ResponseWriter, r *http.Request, parameters ...string) bool {
	query, found := r.URL.Query(), 0
	for _, p := range parameters {
		if query.Has(p) {
			found++
		}
	}
	if found > 1 {
		http.Error(w, "Conflicting flags: "+query.Encode(), http.StatusBadRequest)
	}
	return found > 1
}

// readBody returns the body, or answers with an error.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValue))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		http.Error(w, fmt.Sprintf("Request body too large, max size: %d bytes.", maxValue),
			http.StatusRequestEntityTooLarge)
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return body, err
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
