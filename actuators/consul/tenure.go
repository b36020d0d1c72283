package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// tenure is the time during which one session holds the lock.
type tenure struct {
	session string
	epoch   uint64
	alive   time.Time // when the last successful creation or renewal of the session was sent
}

// hold keeps the lock until the leadership ends.
func (e *Elector) hold(ctx context.Context, t tenure, lead func(context.Context, Fence)) {
	fence := Fence{Key: e.options.Keys.Leader(), Session: t.session, Epoch: t.epoch}
	leading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	select {
	case <-e.resign: // meant for an earlier leadership
	default:
	}
	e.lastEpoch = t.epoch
	e.lead(fence, e.deadlineOf(t.alive))

	renewed := make(chan time.Time)
	lost := make(chan error, 2)
	returned := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { lost <- e.renew(leading, t.session, renewed) })
	helpers.Go(func() { lost <- e.guardLock(leading, t.session) })
	helpers.Go(func() {
		defer close(returned)
		if lead != nil {
			lead(leading, fence)
		} else {
			<-leading.Done()
		}
	})

	expiry := time.NewTimer(time.Until(e.deadlineOf(t.alive)))
	defer expiry.Stop()
	var why error
	for why == nil {
		select {
		case <-ctx.Done():
			why = ctx.Err()
		case t.alive = <-renewed:
			deadline := e.deadlineOf(t.alive)
			e.extend(deadline)
			expiry.Reset(time.Until(deadline))
		case why = <-lost:
		case <-expiry.C:
			why = fmt.Errorf("the session could not be renewed for %s of its TTL of %s",
				time.Since(t.alive).Round(time.Millisecond), e.options.TTL)
		case <-e.resign:
			why = errors.New("resigned")
		case <-returned:
			why = errors.New("resigned: the leader's work has ended")
		}
	}
	cancel(why)
	e.stepDown(ctx, why)
	helpers.Wait()
	e.giveUp(ctx, t)
}

// deadlineOf leaves a tenth of the TTL for the writes in flight to end before Consul may give the lock away.
func (e *Elector) deadlineOf(alive time.Time) time.Time {
	return alive.Add(e.options.TTL - e.options.TTL/10)
}

// renew keeps the session alive until ctx ends or Consul no longer knows the session. It retries failures as long as
// the leadership lasts: an outage of a few seconds costs nothing but a warning.
func (e *Elector) renew(ctx context.Context, session string, renewed chan<- time.Time) error {
	pause := e.options.TTL / 3
	for {
		if err := wait.For(ctx, pause); err != nil {
			return err
		}
		sent := time.Now()
		request, cancel := context.WithTimeout(ctx, e.timeout())
		entry, _, err := e.client.Session().Renew(session, (&api.WriteOptions{}).WithContext(request))
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			pause = e.options.TTL/20 + jitter(e.options.TTL/20)
			e.failed("Leader's session not renewed; still leading", explain(err, "renew the session", ruleSession), pause)
			continue
		case entry == nil:
			return errors.New("the session is unknown to Consul: it has expired or was destroyed")
		}
		e.worked()
		pause = e.options.TTL / 3
		select {
		case renewed <- sent:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// guardLock returns when the session no longer holds the lock although the session is alive: somebody has deleted the
// key or released the lock (patroni/patroni#301). Errors prove nothing; renew decides whether to continue without
// Consul.
func (e *Elector) guardLock(ctx context.Context, session string) error {
	f := follower{kv: e.client.KV(), key: e.options.Keys.Leader(), wait: 10 * time.Second}
	retry := backoff{first: 500 * time.Millisecond, most: 5 * time.Second}
	for {
		pair, _, err := f.next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if err := wait.For(ctx, retry.next()); err != nil {
				return err
			}
			continue
		case pair == nil:
			return fmt.Errorf("the key %s has been deleted", f.key)
		case pair.Session != session:
			return fmt.Errorf("somebody else has released or taken the lock on %s", f.key)
		}
		retry.reset()
	}
}

// giveUp releases the lock and destroys the session, best effort and even if ctx has ended. It releases the lock first,
// in its own request: if the session ends with the lock held, nobody can take the lock before the lock delay has
// passed.
func (e *Elector) giveUp(ctx context.Context, t tenure) {
	ctx = context.WithoutCancel(ctx)
	request, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	value, err := json.Marshal(Holder{Instance: e.options.Instance, API: e.options.API, Epoch: t.epoch})
	if err == nil {
		_, _, err = e.client.KV().Release(&api.KVPair{Key: e.options.Keys.Leader(), Value: value, Session: t.session},
			(&api.WriteOptions{}).WithContext(request))
	}
	if err != nil {
		e.failed("Lock not released; it ends with its session", err, 0)
	}
	_ = e.destroy(ctx, t.session)
}
