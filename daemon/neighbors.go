package daemon

import (
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// neighbors is what the workers know about the health of all governed services, so that each can look behind its own for a
// culprit. It is safe for concurrent use.
type neighbors struct {
	mu    sync.Mutex
	known map[string]neighbor
}

// neighbor is one service, as its worker saw it in its last tick.
type neighbor struct {
	health control.Health
	until  time.Time // then it is no longer known
}

// expected is how many periods may pass until the next tick of a worker.
const expected = 3

// govern adds a service of which nothing is known yet.
func (n *neighbors) govern(service string) { n.known[service] = neighbor{} }

// exchange takes in the health that a worker has seen at the instant now, and returns that of all governed services and
// routes, with the calls of a service divided between it and its routes. Nothing is known of those whose worker has not
// come round.
func (n *neighbors) exchange(now time.Time, period time.Duration, seen map[string]control.Health) map[string]control.Health {
	n.mu.Lock()
	defer n.mu.Unlock()
	for service, health := range seen {
		n.known[service] = neighbor{health, now.Add(expected * period)}
	}
	all := make(map[string]control.Health, len(n.known))
	for service, of := range n.known {
		if all[service] = of.health; now.After(of.until) {
			all[service] = control.Health{}
		}
	}
	control.DivideCalls(all)
	return all
}
