package consul

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

// Session TTLs that Consul accepts.
const (
	DefaultTTL = 10 * time.Second
	MinTTL     = 10 * time.Second
	MaxTTL     = 24 * time.Hour
)

// ValidTTL returns nil for a session TTL that Consul accepts: 10 s to 24 h. It takes up to twice the TTL to replace a
// dead leader, because Consul doubles it.
func ValidTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("session TTL %s: expected %s to %s, the range that Consul accepts", ttl, MinTTL, MaxTTL)
	}
	return nil
}

func (e *Elector) createSession(ctx context.Context) (id string, sent time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	sent = time.Now()
	// No health checks: the TTL alone shows that a leader is dead. With Consul's default, the node's serfHealth, a few
	// seconds of gossip trouble take the lock from a healthy leader (patroni/patroni#522), and an agent that has just
	// started does not have that check yet (hashicorp/consul#14515).
	id, _, err = e.client.Session().CreateNoChecks(&api.SessionEntry{
		Name:      "governor " + e.options.Instance,
		TTL:       e.options.TTL.String(),
		LockDelay: time.Second, // the fence makes it redundant; consul/api cannot send zero
		Behavior:  api.SessionBehaviorRelease,
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return "", sent, explain(err, "create the session of the leader's lock", ruleSession)
	}
	e.probed = true
	return id, sent, nil
}

// destroy ends a session. It remembers a session that cannot be destroyed now, in case it turns out to hold the lock.
func (e *Elector) destroy(ctx context.Context, session string) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	if _, err := e.client.Session().Destroy(session, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		e.orphans[session] = true
		err = explain(err, "destroy a session of this governor", ruleSession)
		e.failed("Session not destroyed; it expires by itself", err, 0)
		return err
	}
	delete(e.orphans, session)
	return nil
}

// timeout of one request: short compared with the TTL, so that several fit in before a leadership ends.
func (e *Elector) timeout() time.Duration { return min(e.options.TTL/5, 5*time.Second) }
