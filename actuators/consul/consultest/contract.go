// Package consultest is the contract between package consul and the store: everything that the Publisher, the Watcher
// and the Elector rely on, as tests that any Consul-compatible server must pass. The real Consul passes them, and so
// must every substitute.
//
//	func TestContract(t *testing.T) {
//		consultest.Run(t, client)
//	}
//
// The suite uses its own keys under contract/ and leaves them behind. On a real clock it takes about half a minute,
// nearly all of it waiting for a session to expire. The package also has a Fake: an in-memory store, from package
// memkv, with hooks for misbehavior.
package consultest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// Case is one clause of the contract.
type Case struct {
	Name string
	Test func(t *testing.T, client *consul.Client)
}

// Cases is the whole contract, for callers that must wrap each case, for example in a testing/synctest bubble.
var Cases = []Case{
	{"KeysHoldValuesAndFlags", keysHoldValuesAndFlags},
	{"MissingKeyIs404", missingKey},
	{"CheckAndSet", checkAndSet},
	{"RewritingTheSameIsNoWrite", rewrite},
	{"CheckAndDelete", checkAndDelete},
	{"ListIsRecursive", list},
	{"KeysAreListedUpToASeparator", listKeys},
	{"BlockingQueryReturnsOnChange", blockingChange},
	{"BlockingQueryReturnsOnDelete", blockingDelete},
	{"BlockingQueryOnMissingKeyReturnsOnCreate", blockingCreate},
	{"BlockingQueryEndsAfterWait", blockingWait},
	{"BlockingQueryOfAPrefix", blockingPrefix},
	{"SessionTTLBelowTenSecondsIsRefused", sessionTTL},
	{"SessionIsRenewedOrUnknown", sessionRenew},
	{"LockHasOneHolder", lockHolder},
	{"ReleaseLeavesNoLockDelay", lockRelease},
	{"DestroyedSessionReleasesAfterLockDelay", lockDelay},
	{"SessionExpiresWithinTwiceItsTTL", sessionExpiry},
	{"TransactionIsAllOrNothing", txnAtomic},
	{"TransactionNamesEveryFailedOperation", txnErrors},
	{"TransactionLocksAKeyThatIsUnchanged", txnLock},
	{"TransactionSeesItsOwnWrites", txnOwnWrites},
	{"TransactionOfTooManyOperationsIsRefused", txnLimit},
	{"PublishedSettingIsWatched", publishAndWatch},
	{"SettingsOfRoutesAndCallsAreWatched", watchParts},
	{"PublisherTellsConflictFromFence", publisherVerdicts},
	{"SettingsOfRoutesAndCallsHaveTheirOwnKeys", partSettings},
	{"OrdersOfManyAreAllRecorded", ordersBesideOneAnother},
	{"OrderIsRefusedOrRecordedWhole", ordersRefused},
	{"OneOfTwoElectorsLeadsAndHandsOver", electorHandOver},
	{"DeadLeaderIsReplacedAndFenced", electorTakeOver},
	{"DeletedLockEndsTheLeadership", electorDeletedLock},
}

// Run runs every case in parallel against the server behind client.
func Run(t *testing.T, client *consul.Client) {
	for _, c := range Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Test(t, client)
		})
	}
}

// prefix returns a key prefix that no other case uses, with its closing slash.
func prefix(t *testing.T) string {
	name := t.Name()[strings.LastIndex(t.Name(), "/")+1:]
	return fmt.Sprintf("contract/%s-%08x/", name, rand.Uint32())
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func put(t *testing.T, client *consul.Client, key, value string) {
	t.Helper()
	if _, err := client.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, client *consul.Client, key string) (*api.KVPair, *api.QueryMeta) {
	t.Helper()
	pair, meta, err := client.KV().Get(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair, meta
}

func session(t *testing.T, client *consul.Client, ttl, lockDelay time.Duration) string {
	t.Helper()
	entry := &api.SessionEntry{Name: t.Name(), LockDelay: lockDelay, Behavior: api.SessionBehaviorRelease}
	if ttl > 0 {
		entry.TTL = ttl.String()
	}
	id, _, err := client.Session().CreateNoChecks(entry, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Session().Destroy(id, nil) })
	return id
}

func acquire(t *testing.T, client *consul.Client, key, session string) bool {
	t.Helper()
	ok, _, err := client.KV().Acquire(&api.KVPair{Key: key, Value: []byte("held"), Session: session}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func txn(t *testing.T, client *consul.Client, ops ...*api.KVTxnOp) (bool, *api.TxnResponse) {
	t.Helper()
	all := make(api.TxnOps, len(ops))
	for i, op := range ops {
		all[i] = &api.TxnOp{KV: op}
	}
	ok, answer, _, err := client.Txn().Txn(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ok, answer
}

func keysHoldValuesAndFlags(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	value := []byte{0, 0xff, '{', '}'}
	if _, err := client.KV().Put(&api.KVPair{Key: key, Value: value, Flags: 1<<64 - 1}, nil); err != nil {
		t.Fatal(err)
	}
	first, _ := get(t, client, key)
	if first == nil || !bytes.Equal(first.Value, value) || first.Flags != 1<<64-1 || first.Session != "" {
		t.Fatalf("read %+v", first)
	}
	if first.CreateIndex == 0 || first.CreateIndex != first.ModifyIndex {
		t.Errorf("created at %d, modified at %d", first.CreateIndex, first.ModifyIndex)
	}
	put(t, client, key, "again")
	second, _ := get(t, client, key)
	if second.CreateIndex != first.CreateIndex || second.ModifyIndex <= first.ModifyIndex {
		t.Errorf("indexes %d, %d after %d, %d", second.CreateIndex, second.ModifyIndex,
			first.CreateIndex, first.ModifyIndex)
	}
	stale, _, err := client.KV().Get(key, &api.QueryOptions{AllowStale: true})
	if err != nil || stale == nil || stale.Key != key {
		t.Errorf("stale read: %+v, %v", stale, err)
	}
}

func missingKey(t *testing.T, client *consul.Client) {
	pair, meta := get(t, client, prefix(t)+"none")
	if pair != nil || meta.LastIndex == 0 {
		t.Errorf("read %+v at index %d, want nothing at an index to wait on", pair, meta.LastIndex)
	}
}

func checkAndSet(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	cas := func(value string, index uint64) bool {
		ok, _, err := client.KV().CAS(&api.KVPair{Key: key, Value: []byte(value), ModifyIndex: index}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !cas("one", 0) || cas("other", 0) {
		t.Error("index 0 does not mean: only if the key does not exist")
	}
	pair, _ := get(t, client, key)
	if !cas("two", pair.ModifyIndex) || cas("three", pair.ModifyIndex) {
		t.Error("an index does not mean: only if the key has not been written since")
	}
	if pair, _ = get(t, client, key); string(pair.Value) != "two" {
		t.Errorf("holds %q, want two", pair.Value)
	}
}

// Consul ignores a write of the value that is already there, so an index that has not moved does not mean that a write
// was lost.
func rewrite(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	put(t, client, key, "one")
	first, _ := get(t, client, key)
	put(t, client, key, "one")
	if second, _ := get(t, client, key); second.ModifyIndex != first.ModifyIndex {
		t.Errorf("modified at %d, then at %d", first.ModifyIndex, second.ModifyIndex)
	}
	ok, answer := txn(t, client, &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: []byte("one")})
	if !ok || answer.Results[0].KV.ModifyIndex != first.ModifyIndex {
		t.Errorf("transaction: %v, %+v, want index %d", ok, answer, first.ModifyIndex)
	}
}

func checkAndDelete(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	put(t, client, key, "one")
	pair, _ := get(t, client, key)
	del := func(index uint64) bool {
		ok, _, err := client.KV().DeleteCAS(&api.KVPair{Key: key, ModifyIndex: index}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if del(pair.ModifyIndex - 1) {
		t.Error("deleted at an index that is not the key's")
	}
	if !del(pair.ModifyIndex) {
		t.Error("not deleted at the key's index")
	}
	if !del(pair.ModifyIndex) {
		t.Error("a key that is gone already was not there to delete")
	}
	if pair, _ := get(t, client, key); pair != nil {
		t.Errorf("the deleted key holds %+v", pair)
	}
}

func listKeys(t *testing.T, client *consul.Client) {
	p := prefix(t)
	for _, key := range []string{"b", "a/one", "a/two", "a"} {
		put(t, client, p+key, "")
	}
	for separator, want := range map[string]string{"": "a a/one a/two b", "/": "a a/ b"} {
		keys, _, err := client.KV().Keys(p, separator, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range keys {
			keys[i] = strings.TrimPrefix(keys[i], p)
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("keys up to %q: %s, want %s", separator, got, want)
		}
	}
	if keys, _, err := client.KV().Keys(p+"none/", "", nil); err != nil || len(keys) != 0 {
		t.Errorf("keys %q, %v under an empty prefix", keys, err)
	}
}

func list(t *testing.T, client *consul.Client) {
	p := prefix(t)
	for _, key := range []string{"b/setting", "a/setting", "a/operator"} {
		put(t, client, p+key, key)
	}
	pairs, meta, err := client.KV().List(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, pair := range pairs {
		keys = append(keys, strings.TrimPrefix(pair.Key, p))
	}
	if got, want := strings.Join(keys, " "), "a/operator a/setting b/setting"; got != want || meta.LastIndex == 0 {
		t.Errorf("listed %q at index %d, want %q", got, meta.LastIndex, want)
	}
	if pairs, _, err := client.KV().List(p+"none/", nil); err != nil || len(pairs) != 0 {
		t.Errorf("listed %v, %v under an empty prefix", pairs, err)
	}
}

// block waits on a key beyond index, and calls change after the query has surely started.
func block(t *testing.T, client *consul.Client, key string, index uint64, change func()) (*api.KVPair, *api.QueryMeta) {
	t.Helper()
	type result struct {
		pair *api.KVPair
		meta *api.QueryMeta
		err  error
	}
	answers := make(chan result, 1)
	go func() {
		pair, meta, err := client.KV().Get(key, &api.QueryOptions{WaitIndex: index, WaitTime: time.Minute})
		answers <- result{pair, meta, err}
	}()
	select {
	case r := <-answers:
		// A server may answer early although nothing has changed. That is allowed, and then there is nothing to wait for.
		if r.err != nil {
			t.Fatal(r.err)
		}
		index = r.meta.LastIndex
		return block(t, client, key, index, change)
	case <-time.After(200 * time.Millisecond):
	}
	change()
	select {
	case r := <-answers:
		if r.err != nil {
			t.Fatal(r.err)
		}
		if r.meta.LastIndex <= index {
			t.Errorf("index %d after %d", r.meta.LastIndex, index)
		}
		return r.pair, r.meta
	case <-time.After(10 * time.Second):
		t.Fatal("the blocking query did not see the change within 10 s")
		return nil, nil
	}
}

func blockingChange(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	put(t, client, key, "one")
	_, meta := get(t, client, key)
	pair, _ := block(t, client, key, meta.LastIndex, func() { put(t, client, key, "two") })
	if pair == nil || string(pair.Value) != "two" {
		t.Errorf("answer %+v, want two", pair)
	}
}

func blockingDelete(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	put(t, client, key, "one")
	_, meta := get(t, client, key)
	pair, _ := block(t, client, key, meta.LastIndex, func() { must[*api.WriteMeta](t)(client.KV().Delete(key, nil)) })
	if pair != nil {
		t.Errorf("answer %+v after the key was deleted", pair)
	}
}

func blockingCreate(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	// Writes to other keys may wake this query, as in some versions of Consul: readers must loop.
	_, meta := get(t, client, key)
	pair, meta := block(t, client, key, meta.LastIndex, func() { put(t, client, key, "one") })
	for start := time.Now(); pair == nil && time.Since(start) < 10*time.Second; {
		var err error
		pair, meta, err = client.KV().Get(key, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Second})
		if err != nil {
			t.Fatal(err)
		}
	}
	if pair == nil {
		t.Error("the key that was created is not seen")
	}
}

func blockingWait(t *testing.T, client *consul.Client) {
	key := prefix(t) + "key"
	put(t, client, key, "one")
	_, meta := get(t, client, key)
	start := time.Now()
	pair, after, err := client.KV().Get(key, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("a wait of 1 s took %s", took)
	}
	if pair == nil || string(pair.Value) != "one" || after.LastIndex < meta.LastIndex {
		t.Errorf("answer %+v at index %d, want what was there at %d", pair, after.LastIndex, meta.LastIndex)
	}
}

// A query of a prefix returns on a change, a creation and a deletion below it, and each time with everything there is.
func blockingPrefix(t *testing.T, client *consul.Client) {
	p := prefix(t)
	put(t, client, p+"a", "one")
	put(t, client, strings.TrimSuffix(p, "/")+"-other", "")
	pairs, meta, err := client.KV().List(p, nil)
	if err != nil || len(pairs) != 1 {
		t.Fatalf("listed %v, %v", pairs, err)
	}
	for _, step := range []struct {
		change func()
		want   string
	}{
		{func() { put(t, client, p+"a", "two") }, "a=two"},
		{func() { put(t, client, p+"b/c", "one") }, "a=two b/c=one"},
		{func() { must[*api.WriteMeta](t)(client.KV().Delete(p+"a", nil)) }, "b/c=one"},
		{func() { must[*api.WriteMeta](t)(client.KV().Delete(p+"b/c", nil)) }, ""},
		{func() { put(t, client, p+"a", "three") }, "a=three"},
	} {
		step.change()
		var got string
		waittest.Until(t, "the list is "+step.want, func() bool {
			if pairs, meta, err = client.KV().List(p, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 5 * time.Second}); err != nil {
				t.Fatal(err)
			}
			var listed []string
			for _, pair := range pairs {
				listed = append(listed, strings.TrimPrefix(pair.Key, p)+"="+string(pair.Value))
			}
			got = strings.Join(listed, " ")
			return got == step.want
		})
	}
}

func sessionTTL(t *testing.T, client *consul.Client) {
	for _, ttl := range []string{"5s", "9999ms", "24h1s"} {
		if id, _, err := client.Session().CreateNoChecks(&api.SessionEntry{TTL: ttl}, nil); err == nil {
			t.Errorf("session %s with a TTL of %s", id, ttl)
		}
	}
}

func sessionRenew(t *testing.T, client *consul.Client) {
	id := session(t, client, 10*time.Second, time.Second)
	entry, _, err := client.Session().Renew(id, nil)
	if err != nil || entry == nil || entry.ID != id || entry.TTL != "10s" {
		t.Errorf("renewed: %+v, %v", entry, err)
	}
	for range 2 { // destroying it again is no error
		must[*api.WriteMeta](t)(client.Session().Destroy(id, nil))
	}
	if entry, _, err := client.Session().Renew(id, nil); err != nil || entry != nil {
		t.Errorf("renewed a destroyed session: %+v, %v; want nil, no error", entry, err)
	}
}

func lockHolder(t *testing.T, client *consul.Client) {
	key := prefix(t) + "lock"
	a, b := session(t, client, 0, time.Second), session(t, client, 0, time.Second)
	if !acquire(t, client, key, a) || acquire(t, client, key, b) {
		t.Fatal("not exactly the first session got the lock")
	}
	if !acquire(t, client, key, a) {
		t.Error("the holder cannot acquire its own lock again")
	}
	pair, _ := get(t, client, key)
	if pair.Session != a || pair.LockIndex != 1 {
		t.Errorf("held by %q, lock index %d", pair.Session, pair.LockIndex)
	}
	// A lock is advisory: any writer may write the value, and the lock stays.
	put(t, client, key, "scribble")
	if pair, _ = get(t, client, key); pair.Session != a {
		t.Errorf("a plain write took the lock away: %+v", pair)
	}
	unknown := &api.KVPair{Key: key + "2", Session: "b3c1c7a2-5f1e-4a54-9d3e-0d6f5b1f8f00"}
	if _, _, err := client.KV().Acquire(unknown, nil); err == nil {
		t.Error("a session that does not exist acquired a lock without an error")
	}
}

func lockRelease(t *testing.T, client *consul.Client) {
	key := prefix(t) + "lock"
	a, b := session(t, client, 0, 10*time.Second), session(t, client, 0, time.Second)
	acquire(t, client, key, a)
	release := func(session string) bool {
		ok, _, err := client.KV().Release(&api.KVPair{Key: key, Value: []byte("left"), Session: session}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if release(b) {
		t.Error("a session released a lock that it does not hold")
	}
	if !release(a) {
		t.Fatal("the holder could not release")
	}
	if pair, _ := get(t, client, key); pair.Session != "" || string(pair.Value) != "left" {
		t.Errorf("after the release: %+v", pair)
	}
	if !acquire(t, client, key, b) {
		t.Error("a released lock cannot be had at once")
	}
}

func lockDelay(t *testing.T, client *consul.Client) {
	key := prefix(t) + "lock"
	a, b := session(t, client, 0, time.Second), session(t, client, 0, time.Second)
	acquire(t, client, key, a)
	held, meta := get(t, client, key)
	free, _ := block(t, client, key, meta.LastIndex, func() { must[*api.WriteMeta](t)(client.Session().Destroy(a, nil)) })
	if free == nil || free.Session != "" || free.ModifyIndex <= held.ModifyIndex {
		t.Fatalf("after its session was destroyed the lock is %+v", free)
	}
	if acquire(t, client, key, b) {
		t.Error("the lock could be had at once in spite of the lock delay")
	}
	waittest.Within(t, 5*time.Second, "the lock can be had after its delay", func() bool { return acquire(t, client, key, b) })
}

func sessionExpiry(t *testing.T, client *consul.Client) {
	key := prefix(t) + "lock"
	id := session(t, client, 10*time.Second, time.Second)
	acquire(t, client, key, id)
	took := waittest.Within(t, 25*time.Second, "the lock of a session that is not renewed is released", func() bool {
		pair, _ := get(t, client, key)
		return pair.Session == ""
	})
	if took < 9500*time.Millisecond {
		t.Errorf("the session expired after %s, before its TTL of 10 s", took)
	}
}

func txnAtomic(t *testing.T, client *consul.Client) {
	p := prefix(t)
	lock, key := p+"lock", p+"key"
	id := session(t, client, 0, time.Second)
	acquire(t, client, lock, id)
	guard := &api.KVTxnOp{Verb: api.KVCheckSession, Key: lock, Session: id}

	ok, answer := txn(t, client, guard, &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: []byte("one")})
	if !ok || len(answer.Results) != 2 || len(answer.Errors) != 0 {
		t.Fatalf("write under the lock: %v, %+v", ok, answer)
	}
	pair, _ := get(t, client, key)
	if got := answer.Results[1].KV.ModifyIndex; got != pair.ModifyIndex || got == 0 {
		t.Errorf("the transaction says index %d, the key %d", got, pair.ModifyIndex)
	}

	stale := &api.KVTxnOp{Verb: api.KVCAS, Key: key + "2", Value: []byte("x"), Index: 12345}
	ok, answer = txn(t, client, &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: []byte("two")}, stale)
	if ok || len(answer.Errors) != 1 || answer.Errors[0].OpIndex != 1 || answer.Errors[0].What == "" {
		t.Errorf("a stale write: %v, %+v", ok, answer)
	}
	if pair, _ := get(t, client, key); string(pair.Value) != "one" {
		t.Errorf("half a transaction was applied: %q", pair.Value)
	}
}

func txnErrors(t *testing.T, client *consul.Client) {
	p := prefix(t)
	lock, key := p+"lock", p+"key"
	holder, other := session(t, client, 0, time.Second), session(t, client, 0, time.Second)
	acquire(t, client, lock, holder)
	put(t, client, key, "one")
	failed := func(ops ...*api.KVTxnOp) string {
		ok, answer := txn(t, client, ops...)
		if ok {
			t.Fatalf("succeeded: %+v", answer)
		}
		var indexes []string
		for _, e := range answer.Errors {
			indexes = append(indexes, fmt.Sprint(e.OpIndex))
		}
		return strings.Join(indexes, " ")
	}
	fresh, _ := get(t, client, key)
	good := &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: []byte("two"), Index: fresh.ModifyIndex}
	stale := &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: []byte("two"), Index: fresh.ModifyIndex - 1}
	check := func(key, session string) *api.KVTxnOp {
		return &api.KVTxnOp{Verb: api.KVCheckSession, Key: key, Session: session}
	}
	for _, test := range []struct{ name, got, want string }{
		{"stale index", failed(check(lock, holder), stale), "1"},
		{"other holder", failed(check(lock, other), good), "0"},
		{"no such lock", failed(check(lock+"2", holder), good), "0"},
		{"both", failed(check(lock, other), stale), "0 1"},
	} {
		if test.got != test.want {
			t.Errorf("%s: operations %q failed, want %q", test.name, test.got, test.want)
		}
	}
	must[*api.WriteMeta](t)(client.Session().Destroy(holder, nil))
	if got := failed(check(lock, holder), good); got != "0" {
		t.Errorf("session destroyed: operations %q failed, want 0", got)
	}
}

func txnLock(t *testing.T, client *consul.Client) {
	key := prefix(t) + "lock"
	a, b := session(t, client, 0, time.Second), session(t, client, 0, time.Second)
	lock := func(session, value string) *api.KVTxnOp {
		return &api.KVTxnOp{Verb: api.KVLock, Key: key, Value: []byte(value), Session: session}
	}
	absent := &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}
	if ok, answer := txn(t, client, absent, lock(a, "a")); !ok {
		t.Fatalf("lock on a new key: %+v", answer.Errors)
	}
	if ok, _ := txn(t, client, absent, lock(a, "a")); ok {
		t.Error("the key exists and was called absent")
	}
	held, _ := get(t, client, key)
	if held.Session != a || string(held.Value) != "a" {
		t.Fatalf("locked: %+v", held)
	}
	at := func(index uint64) *api.KVTxnOp { return &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: index} }
	if ok, _ := txn(t, client, at(held.ModifyIndex), lock(b, "b")); ok {
		t.Error("a held lock was taken")
	}
	if _, _, err := client.KV().Release(&api.KVPair{Key: key, Value: held.Value, Session: a}, nil); err != nil {
		t.Fatal(err)
	}
	if ok, _ := txn(t, client, at(held.ModifyIndex), lock(b, "b")); ok {
		t.Error("a lock was taken at an index that has passed")
	}
	free, _ := get(t, client, key)
	if ok, answer := txn(t, client, at(free.ModifyIndex), lock(b, "b")); !ok {
		t.Errorf("a free lock was not to be had: %+v", answer.Errors)
	}
	must[*api.WriteMeta](t)(client.Session().Destroy(b, nil))
	free, _ = get(t, client, key)
	if ok, _ := txn(t, client, at(free.ModifyIndex), lock(a, "a")); ok {
		t.Error("a transaction took the lock in spite of the lock delay")
	}
}

func txnOwnWrites(t *testing.T, client *consul.Client) {
	p := prefix(t)
	set := func(key, value string) *api.KVTxnOp {
		return &api.KVTxnOp{Verb: api.KVSet, Key: p + key, Value: []byte(value)}
	}
	read := func(key string) *api.KVTxnOp { return &api.KVTxnOp{Verb: api.KVGet, Key: p + key} }
	ok, answer := txn(t, client, set("a", "one"), set("b", "two"), read("a"), set("a", "three"),
		&api.KVTxnOp{Verb: api.KVDelete, Key: p + "b"}, &api.KVTxnOp{Verb: api.KVGetTree, Key: p})
	if !ok || len(answer.Results) != 5 {
		t.Fatalf("%v, %+v; want a result each, and none of the deletion", ok, answer)
	}
	var values []string
	for _, r := range answer.Results {
		values = append(values, strings.TrimPrefix(r.KV.Key, p)+"="+string(r.KV.Value))
	}
	if got, want := strings.Join(values, " "), "a= b= a=one a= a=three"; got != want {
		t.Errorf("results %s, want %s", got, want)
	}
	ok, answer = txn(t, client, set("c", "x"), &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: p + "c"})
	if ok || len(answer.Errors) != 1 || answer.Errors[0].OpIndex != 1 {
		t.Errorf("a key that was just set is absent: %v, %+v", ok, answer)
	}
	if pair, _ := get(t, client, p+"c"); pair != nil {
		t.Errorf("the refused transaction left %+v", pair)
	}
}

func txnLimit(t *testing.T, client *consul.Client) {
	p := prefix(t)
	ops := make(api.TxnOps, 200)
	for i := range ops {
		ops[i] = &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: fmt.Sprintf("%s%d", p, i)}}
	}
	if ok, _, _, err := client.Txn().Txn(ops, nil); ok || err == nil {
		t.Errorf("a transaction of 200 operations: %v, %v; want an error", ok, err)
	}
	if pairs, _, err := client.KV().List(p, nil); err != nil || len(pairs) != 0 {
		t.Errorf("%d of its keys exist, %v", len(pairs), err)
	}
}

// Setting returns a valid Setting of a service, as the leader of epoch writes it after last.
func Setting(service string, limit int, epoch uint64, last actuators.Setting) actuators.Setting {
	now := time.Now().UTC()
	return actuators.Setting{
		Schema: actuators.Schema, Service: service, Epoch: epoch, Revision: last.Revision + 1,
		IssuedAt: now, ChangedAt: now, LeaseSeconds: actuators.DefaultLeaseSeconds, Reason: "test",
		Concurrency: &actuators.Concurrency{
			Limit: limit, Ceiling: 2 * limit, LatencyTargetSeconds: 0.12, Fallback: 60, Min: 1, Max: 1000,
		},
	}
}

// fenceOf takes the leader's lock for epoch by hand.
func fenceOf(t *testing.T, client *consul.Client, keys actuators.Keys, epoch uint64) consul.Fence {
	t.Helper()
	fence := consul.Fence{Key: keys.Leader(), Session: session(t, client, 0, time.Second), Epoch: epoch}
	if !acquire(t, client, fence.Key, fence.Session) {
		t.Fatal("the lock is not free")
	}
	return fence
}

func publishAndWatch(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	ctx, cancel := context.WithCancel(t.Context())
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	fence := fenceOf(t, client, keys, 1)

	values := make(chan []byte, 100)
	watcher := consul.Watcher{Client: client, Keys: keys, OnError: func(err error) {
		if ctx.Err() == nil {
			t.Error(err)
		}
	}}
	done := make(chan error, 1)
	go func() { done <- watcher.Watch(ctx, "checkout", func(raw []byte) { values <- raw }) }()
	receive := func() []byte {
		t.Helper()
		select {
		case raw := <-values:
			return raw
		case <-time.After(10 * time.Second):
			t.Fatal("the watcher did not say anything within 10 s")
			return nil
		}
	}

	if raw := receive(); raw != nil {
		t.Errorf("first value %q, want nil: the key does not exist", raw)
	}
	var last actuators.Setting
	var index uint64
	for _, limit := range []int{40, 50, 50} {
		next := Setting("checkout", limit, fence.Epoch, last)
		var err error
		if index, err = publisher.Publish(ctx, fence, next, index); err != nil {
			t.Fatal(err)
		}
		got, err := actuators.Accept(receive(), "checkout", last)
		if err != nil || got.Concurrency.Limit != limit || got.Revision != next.Revision {
			t.Fatalf("watched %+v, %v; want limit %d, revision %d", got, err, limit, next.Revision)
		}
		last = got
	}
	read, err := publisher.Read(ctx, "checkout")
	if err != nil || read.Err != nil || read.Index != index || read.Setting.Revision != last.Revision {
		t.Errorf("read %+v, %v; want revision %d at index %d", read, err, last.Revision, index)
	}
	put(t, client, keys.Operator("checkout"), "{}")
	put(t, client, keys.Operator("cart"), `{"orders":{"rate":{"kind":"freeze"}}}`)
	put(t, client, keys.Setting("cart"), "{}")
	all, err := publisher.ReadAll(ctx)
	if err != nil || len(all.Settings) != 2 || all.Settings["checkout"].Index != index || all.Settings["cart"].Err == nil ||
		len(all.Operators) != 2 || all.Operators["checkout"].Err != nil || all.Operators["cart"].Err == nil ||
		all.Freeze != nil {
		t.Errorf("read all: %+v, %v", all, err)
	}
	must[*api.WriteMeta](t)(client.KV().Delete(keys.Setting("checkout"), nil))
	if raw := receive(); raw != nil {
		t.Errorf("value %q, want nil: the key is deleted", raw)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch returned %v", err)
	}
}

// watchParts watches a service, its routes and its calls by one query.
func watchParts(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	ctx, cancel := context.WithCancel(t.Context())
	watcher := consul.Watcher{Client: client, Keys: keys, OnError: func(err error) {
		if ctx.Err() == nil {
			t.Error(err)
		}
	}}
	values := make(chan string, 100)
	done := make(chan error, 1)
	put(t, client, keys.CallSetting("checkout", "payments"), "p1")
	go func() {
		done <- watcher.WatchParts(ctx, "checkout", func(part actuators.Part, raw []byte) {
			text := "nil"
			if raw != nil {
				text = string(raw)
			}
			values <- part.Callee + part.Route + "=" + text
		})
	}()
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-values:
				if got != w {
					t.Errorf("watched %q, want %q", got, w)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("the watcher did not say %q within 10 s", w)
			}
		}
	}
	expect("=nil", "payments=p1")
	put(t, client, keys.Setting("checkout"), "own1")
	expect("=own1")
	put(t, client, keys.Operator("checkout"), "{}")
	put(t, client, keys.CallSetting("checkout2", "payments"), "of another service")
	put(t, client, keys.Setting("checkout2/export"), "of another service")
	put(t, client, keys.Operator("checkout/export"), "{}")
	put(t, client, keys.Setting("checkout/export"), "r1")
	expect("export=r1")
	put(t, client, keys.CallSetting("checkout", "cart"), "c1")
	expect("cart=c1")
	put(t, client, keys.CallSetting("checkout", "payments"), "p2")
	expect("payments=p2")
	must[*api.WriteMeta](t)(client.KV().Delete(keys.CallSetting("checkout", "payments"), nil))
	expect("payments=nil")
	must[*api.WriteMeta](t)(client.KV().Delete(keys.Setting("checkout/export"), nil))
	expect("export=nil")
	must[*api.WriteMeta](t)(client.KV().Delete(keys.Setting("checkout"), nil))
	expect("=nil")
	put(t, client, keys.CallSetting("checkout", "payments"), "p2") // the same as before it was deleted
	expect("payments=p2")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("WatchParts returned %v", err)
	}
	select {
	case got := <-values:
		t.Errorf("watched %q, too", got)
	default:
	}
}

func publisherVerdicts(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	fence := fenceOf(t, client, keys, 1)
	first := Setting("checkout", 40, 1, actuators.Setting{})
	index, err := publisher.Publish(t.Context(), fence, first, 0)
	if err != nil {
		t.Fatal(err)
	}
	next := Setting("checkout", 50, 1, first)

	edited := Setting("checkout", 7, 1, first)
	raw, err := edited.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, keys.Setting("checkout"), string(raw))
	_, err = publisher.Publish(t.Context(), fence, next, index)
	werr, ok := errors.AsType[*consul.WriteError](err)
	if !ok || !errors.Is(err, consul.ErrConflict) || werr.Current == nil || werr.Current.Setting.Concurrency.Limit != 7 {
		t.Fatalf("over a hand-edited key: %v, want a conflict that shows the limit of 7", err)
	}

	must[*api.WriteMeta](t)(client.Session().Destroy(fence.Session, nil))
	next = Setting("checkout", 50, 1, werr.Current.Setting)
	if _, err = publisher.Publish(t.Context(), fence, next, werr.Current.Index); !errors.Is(err, consul.ErrFenced) {
		t.Errorf("without the lock: %v, want ErrFenced", err)
	}
	if pair, _ := get(t, client, keys.Setting("checkout")); !bytes.Equal(pair.Value, raw) {
		t.Errorf("the refused writes left %s", pair.Value)
	}
}

// partSettings: the Settings of a service, of a route and of its calls are written under one fence, and none is
// another's conflict.
func partSettings(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	fence := fenceOf(t, client, keys, 1)
	own := Setting("checkout", 40, 1, actuators.Setting{})
	call := Setting("checkout", 50, 1, actuators.Setting{})
	call.Callee = "payments"
	route := Setting("checkout/export", 45, 1, actuators.Setting{})
	for _, s := range []actuators.Setting{own, call, route} {
		if _, err := publisher.Publish(t.Context(), fence, s, 0); err != nil {
			t.Fatal(err)
		}
	}
	put(t, client, keys.CallSetting("checkout", "ledger"), "{}")
	all, err := publisher.ReadAll(t.Context())
	calls := all.Calls["checkout"]
	if err != nil || len(all.Settings) != 2 || all.Settings["checkout/export"].Setting.Concurrency.Limit != 45 ||
		all.Settings["checkout"].Setting.Concurrency.Limit != 40 || len(calls) != 2 ||
		calls["payments"].Setting.Concurrency.Limit != 50 || calls["payments"].Err != nil || calls["ledger"].Err == nil {
		t.Fatalf("read %+v, %v", all, err)
	}
	next := Setting("checkout", 60, 1, call)
	next.Callee = "payments"
	_, err = publisher.Publish(t.Context(), fence, next, 0)
	werr, ok := errors.AsType[*consul.WriteError](err)
	if !ok || !errors.Is(err, consul.ErrConflict) || werr.Current == nil || werr.Current.Setting.Callee != "payments" ||
		!strings.Contains(err.Error(), `calls of service "checkout" to "payments"`) {
		t.Fatalf("at the wrong index: %v, want a conflict that shows the Setting of the calls", err)
	}
	if _, err := publisher.Publish(t.Context(), fence, next, calls["payments"].Index); err != nil {
		t.Error(err)
	}
}

// order is ana's order for the service checkout, or for all services.
func order(knob string, kind actuators.OrderKind, value float64) actuators.Action {
	a := actuators.Action{
		Knob: knob, Kind: kind, Value: value, Actor: "ana", Reason: "INC-1412", At: time.Now().UTC().Round(time.Microsecond),
	}
	if knob != "" {
		a.Service = "checkout"
		if kind != actuators.Resume {
			a.ExpiresAt = a.At.Add(time.Hour)
		}
	}
	return a
}

func ordersBesideOneAnother(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	operators := consul.NewOperators(client, keys)
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	var g sync.WaitGroup
	for _, knob := range []string{"concurrency", "rate", "shed"} {
		g.Go(func() {
			if done, err := operators.Do(t.Context(), order(knob, actuators.Freeze, 0)); err != nil || done.Leader != nil ||
				done.Setting != nil {
				t.Errorf("freeze %s: %+v, %v; want it recorded, with no leader and no Setting", knob, done, err)
			}
		})
	}
	g.Wait()
	raw, _ := json.Marshal(consul.Holder{Instance: "governor-a", Epoch: 3})
	fence := fenceOf(t, client, keys, 3)
	if held, _, err := client.KV().Acquire(
		&api.KVPair{Key: fence.Key, Value: raw, Session: fence.Session}, nil); err != nil || !held {
		t.Fatal(held, err)
	}
	for _, a := range []actuators.Action{
		order("rate", actuators.Resume, 0), order("shed", actuators.Override, 0.5),
		order("retry", actuators.Override, 0), order("", actuators.Freeze, 0),
	} {
		done, err := operators.Do(t.Context(), a)
		if err != nil || done.Leader == nil || done.Leader.Instance != "governor-a" || done.Action != a ||
			done.KillSwitch != nil {
			t.Errorf("%s %s: %+v, %v", a.Kind, a.Knob, done, err)
		}
	}
	all, err := publisher.ReadAll(t.Context())
	got := all.Operators["checkout"]
	if err != nil || got.Err != nil || len(got.Orders) != 3 || got.Orders["concurrency"].Kind != actuators.Freeze ||
		got.Orders["shed"].Value != 0.5 || got.Orders["retry"].Kind != actuators.Override || len(got.Audit) != 6 || all.Freeze == nil || all.Freeze.Actor != "ana" {
		t.Errorf("read %+v, kill switch %+v, %v", got, all.Freeze, err)
	}
	done, err := operators.Do(t.Context(), order("rate", actuators.Resume, 0))
	if err != nil || done.KillSwitch == nil || done.KillSwitch.Actor != "ana" {
		t.Errorf("a resume under the kill switch: %+v, %v", done, err)
	}
	if _, err := operators.Do(t.Context(), order("", actuators.Resume, 0)); err != nil {
		t.Error(err)
	}
	if all, err = publisher.ReadAll(t.Context()); err != nil || all.Freeze != nil {
		t.Errorf("the kill switch is still %+v, %v", all.Freeze, err)
	}
}

func ordersRefused(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	operators := consul.NewOperators(client, keys)
	setting := Setting("checkout", 40, 1, actuators.Setting{})
	raw, err := setting.Encode()
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, keys.Setting("checkout"), string(raw))
	nowhere := order("concurrency", actuators.Freeze, 0)
	nowhere.Service = "../x"
	endless := order("", actuators.Freeze, 0)
	endless.ExpiresAt = endless.At.Add(time.Hour)
	for name, a := range map[string]actuators.Action{
		"a value above max":       order("concurrency", actuators.Override, float64(setting.Concurrency.Max)+1),
		"half a request":          order("concurrency", actuators.Override, float64(setting.Concurrency.Min)+0.5),
		"a knob not steered":      order("retry", actuators.Override, 0.5),
		"no such knob":            order("speed", actuators.Freeze, 0),
		"a path":                  nowhere,
		"an override of all":      order("", actuators.Override, 1),
		"a kill switch that ends": endless,
	} {
		if _, err := operators.Do(t.Context(), a); !errors.Is(err, consul.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	if pair, _ := get(t, client, keys.Operator("checkout")); pair != nil {
		t.Errorf("refused orders left %s", pair.Value)
	}

	hostile := order("concurrency", actuators.Freeze, 0)
	hostile.Reason = "red \x1b[31m\nlevel=error \xff"
	done, err := operators.Do(t.Context(), hostile)
	if err != nil || done.Setting == nil || done.Setting.Concurrency.Limit != 40 {
		t.Errorf("%+v, %v", done, err)
	}
	pair, _ := get(t, client, keys.Operator("checkout"))
	o, err := actuators.DecodeOperator(pair.Value, "checkout")
	want := "red  [31m level=error \uFFFD"
	if err != nil || o.Orders["concurrency"].Reason != want || done.Action.Reason != want {
		t.Errorf("reason %q, %v; want %q", o.Orders["concurrency"].Reason, err, want)
	}

	const broken = "{not JSON"
	put(t, client, keys.Operator("checkout"), broken)
	if _, err := operators.Do(t.Context(), order("concurrency", actuators.Resume, 0)); err == nil ||
		!strings.Contains(err.Error(), keys.Operator("checkout")) {
		t.Errorf("over an unreadable key: %v, want an error that names it", err)
	}
	if pair, _ := get(t, client, keys.Operator("checkout")); string(pair.Value) != broken {
		t.Errorf("the unreadable key was overwritten by %s", pair.Value)
	}
}

// elector is an elector that runs until stop is called.
type elector struct {
	*consul.Elector
	stop func()
}

func runElector(t *testing.T, client *consul.Client, keys actuators.Keys, instance string) elector {
	t.Helper()
	e, err := consul.NewElector(client, consul.ElectorOptions{Keys: keys, Instance: instance, API: "http://" + instance})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx, nil) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return elector{e, stop}
}

func electorHandOver(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	a := runElector(t, client, keys, "a")
	waittest.Within(t, 10*time.Second, "a alone leads", func() bool { return a.State().Leading })
	b := runElector(t, client, keys, "b")
	waittest.Within(t, 10*time.Second, "b knows who leads", func() bool { return b.State().Holder.Instance == "a" })
	for range 50 {
		if !a.State().Leading || b.State().Leading {
			t.Fatalf("a: %+v, b: %+v; want a to lead alone", a.State(), b.State())
		}
		time.Sleep(20 * time.Millisecond)
	}
	first := a.State().Fence

	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	setting := Setting("checkout", 40, first.Epoch, actuators.Setting{})
	index, err := publisher.Publish(t.Context(), first, setting, 0)
	if err != nil {
		t.Fatal(err)
	}

	a.stop()
	if took := waittest.Within(t, 5*time.Second, "b leads", func() bool { return b.State().Leading }); took > 3*time.Second {
		t.Errorf("a clean stop took %s to hand over", took)
	}
	second := b.State().Fence
	if second.Epoch <= first.Epoch || second.Session == first.Session {
		t.Errorf("fence %+v after %+v", second, first)
	}
	late := Setting("checkout", 50, first.Epoch, setting)
	if _, err := publisher.Publish(t.Context(), first, late, index); !errors.Is(err, consul.ErrFenced) {
		t.Errorf("the old leader's write: %v, want ErrFenced", err)
	}
	next := Setting("checkout", 40, second.Epoch, setting)
	if _, err := publisher.Publish(t.Context(), second, next, index); err != nil {
		t.Errorf("the new leader's write: %v", err)
	}
	b.stop()
	if pair, _ := get(t, client, keys.Leader()); pair.Session != "" || !strings.Contains(string(pair.Value), `"epoch":`) {
		t.Errorf("after both have stopped the lock is %+v", pair)
	}
}

// The dead leader is a session that nobody renews. Consul expires it after 10 to 20 s, and the lock delay takes one
// more.
func electorTakeOver(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	dead := consul.Fence{Key: keys.Leader(), Session: session(t, client, 10*time.Second, time.Second), Epoch: 41}
	value := []byte(`{"instance":"dead","api":"","epoch":41}`)
	lock := &api.KVPair{Key: dead.Key, Value: value, Session: dead.Session}
	if ok, _, err := client.KV().Acquire(lock, nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	setting := Setting("checkout", 40, 41, actuators.Setting{})
	index, err := publisher.Publish(t.Context(), dead, setting, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, c := runElector(t, client, keys, "b"), runElector(t, client, keys, "c")
	took := waittest.Within(t, 25*time.Second, "a standby leads", func() bool { return b.State().Leading || c.State().Leading })
	t.Logf("the dead leader was replaced after %s", took)
	if b.State().Leading && c.State().Leading {
		t.Error("both standbys lead")
	}
	fence, ok := b.Fence()
	if !ok {
		fence, _ = c.Fence()
	}
	if fence.Epoch != 42 {
		t.Errorf("epoch %d after 41", fence.Epoch)
	}
	late := Setting("checkout", 40, 41, setting)
	if _, err := publisher.Publish(t.Context(), dead, late, index); !errors.Is(err, consul.ErrFenced) {
		t.Errorf("the dead leader's write: %v, want ErrFenced", err)
	}
}

func electorDeletedLock(t *testing.T, client *consul.Client) {
	keys := actuators.Keys{Prefix: prefix(t)}
	e := runElector(t, client, keys, "a")
	waittest.Within(t, 10*time.Second, "a leads", func() bool { return e.State().Leading })
	first := e.State().Fence
	must[*api.WriteMeta](t)(client.KV().Delete(keys.Leader(), nil))
	waittest.Within(t, 10*time.Second, "a leads again by a new session and a newer epoch", func() bool {
		second, ok := e.Fence()
		return ok && second.Session != first.Session && second.Epoch > first.Epoch
	})
}
