package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// campaign waits until the lock is free and acquires it.
func (e *Elector) campaign(ctx context.Context) (tenure, error) {
	f := follower{kv: e.client.KV(), key: e.options.Keys.Leader(), wait: 10 * time.Second}
	for {
		pair, _, err := f.next(ctx)
		if err != nil {
			return tenure{}, explain(err, "read "+f.key, fmt.Sprintf(ruleReadPrefix, e.options.Keys.Root()))
		}
		if pair == nil || pair.Session == "" {
			e.see(Holder{})
			return e.acquire(ctx)
		}
		looking, cancel := context.WithTimeout(ctx, e.timeout())
		holder, foreign := holderOf(looking, e.client, pair)
		cancel()
		e.see(holder)
		if e.orphans[pair.Session] {
			if err := e.destroy(ctx, pair.Session); err != nil {
				return tenure{}, err
			}
			continue
		}
		if !e.probed {
			// A token without the right to lead should be noticed now, not at the first failover.
			session, _, err := e.createSession(ctx)
			if err != nil {
				return tenure{}, err
			}
			if err := e.destroy(ctx, session); err != nil {
				return tenure{}, err
			}
		}
		e.standBy(foreign)
	}
}

// acquire creates a session and takes the free lock with it. It tries for as long as the lock delay may last, since
// nothing says when the delay is over. If somebody else is faster, it destroys the session.
func (e *Elector) acquire(ctx context.Context) (tenure, error) {
	session, alive, err := e.createSession(ctx)
	if err != nil {
		return tenure{}, err
	}
	epoch, err := e.tryLock(ctx, session)
	for errors.Is(err, errNotYet) && time.Since(alive) < e.options.TTL/3 {
		if wait.For(ctx, 100*time.Millisecond+jitter(200*time.Millisecond)) != nil {
			break
		}
		epoch, err = e.tryLock(ctx, session)
	}
	if err != nil {
		_ = e.destroy(context.WithoutCancel(ctx), session)
		return tenure{}, err
	}
	return tenure{session: session, epoch: epoch, alive: alive}, nil
}

var (
	errNotYet = errors.New("the lock is free but cannot be acquired yet")
	errTaken  = errors.New("another governor has taken the lock")
)

// tryLock takes the lock and writes the new epoch in one transaction, which succeeds only if the key has not changed
// since it was read. Every leader writes its epoch there before it writes a Setting, so no higher epoch can appear
// between the read of the epochs and the lock.
func (e *Elector) tryLock(ctx context.Context, session string) (epoch uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	key := e.options.Keys.Leader()
	pair, _, err := e.client.KV().Get(key, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return 0, explain(err, "read "+key, fmt.Sprintf(ruleReadPrefix, e.options.Keys.Root()))
	}
	if pair != nil && pair.Session != "" {
		return 0, errTaken
	}
	epoch, err = e.nextEpoch(ctx, pair)
	if err != nil {
		return 0, err
	}
	value, err := json.Marshal(Holder{Instance: e.options.Instance, API: e.options.API, Epoch: epoch})
	if err != nil {
		return 0, fmt.Errorf("encode the leader's key: %w", err)
	}
	unchanged := &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}
	if pair != nil {
		unchanged = &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: pair.ModifyIndex}
	}
	ok, answer, _, err := e.client.Txn().Txn(api.TxnOps{
		{KV: unchanged},
		{KV: &api.KVTxnOp{Verb: api.KVLock, Key: key, Value: value, Session: session}},
	}, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return 0, explain(err, "acquire "+key, fmt.Sprintf(ruleWriteKey, key))
	case !ok:
		for _, failed := range answer.Errors {
			if deniedText(failed.What) {
				return 0, explain(errors.New(failed.What), "acquire "+key, fmt.Sprintf(ruleWriteKey, key))
			}
		}
		return 0, errNotYet
	}
	return epoch, nil
}

// nextEpoch returns an epoch above the last leader's, above every epoch in the store, whoever wrote it, and above every
// epoch that this process has seen, in case the store was wiped or restored from an old snapshot. An epoch that leaves no
// room above it was put there by hand, and does not count.
func (e *Elector) nextEpoch(ctx context.Context, leader *api.KVPair) (uint64, error) {
	highest := e.lastEpoch
	if leader != nil {
		if holder, err := parseHolder(leader); err == nil {
			highest = max(highest, holder.Epoch)
		}
	}
	services := e.options.Keys.Services()
	pairs, _, err := e.client.KV().List(services, (&api.QueryOptions{}).WithContext(limited(ctx, mostServices)))
	if err != nil {
		return 0, explain(err, "read the settings under "+services, fmt.Sprintf(ruleReadPrefix, services))
	}
	for _, pair := range pairs {
		// Only the epoch matters here, even if the Setting is otherwise broken.
		var setting struct {
			Epoch uint64 `json:"epoch"`
		}
		_, _, ok := e.options.Keys.PartOf(pair.Key)
		if ok && json.Unmarshal(pair.Value, &setting) == nil && setting.Epoch <= actuators.MaxByHand {
			highest = max(highest, setting.Epoch)
		}
	}
	e.lastEpoch = highest
	return highest + 1, nil
}
