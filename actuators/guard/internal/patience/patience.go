// Package patience takes a request out of the count while it waits for its own client, for all bindings of guard.
package patience

import (
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// Client pauses a request while it waits for its client: for the body that trickles in, until the answer begins, and until
// the client takes more of the answer. After the answer has begun, a body that does not come holds nothing up: both flow at
// the same time.
//
// The first moments count as the service's, so that a request that hardly waits is not paused at all.
type Client struct {
	permit guard.Permit

	mu       sync.Mutex
	patience time.Duration // how much longer the request may wait before it is paused
	since    time.Time     // it waits
	reading  bool
	writing  bool
	answered bool
	over     bool
	timer    *time.Timer
}

// New returns the Client of an admitted request of a service with that SLO.
func New(permit guard.Permit, slo time.Duration) *Client {
	return &Client{permit: permit, patience: time.Duration(patienceShare * float64(slo))}
}

// patienceShare of the SLO is how long a request may wait for its client altogether before it is paused.
const patienceShare = 0.1

// BeginRead begins a wait for more of what the client sends. EndRead must follow.
func (c *Client) BeginRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.answered && !c.over {
		c.reading = true
		c.wait(time.Now())
	}
}

// EndRead ends the wait of BeginRead.
func (c *Client) EndRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading {
		c.reading = false
		c.resume()
	}
}

// Begin notes that the answer begins.
func (c *Client) Begin() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	if c.reading {
		c.reading = false
		c.resume()
	}
}

// BeginWrite begins a wait, at the instant now, until the client takes more of the answer. EndWrite must follow.
func (c *Client) BeginWrite(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.writing = true
		c.wait(now)
	}
}

// EndWrite ends the wait of BeginWrite.
func (c *Client) EndWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing {
		c.writing = false
		c.resume()
	}
}

// End ends the request. Nobody may touch the permit afterwards but its owner.
func (c *Client) End() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.reading, c.writing = true, false, false
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *Client) wait(now time.Time) {
	c.since = now
	switch {
	case c.patience <= 0:
		c.permit.Pause()
	case c.timer == nil:
		c.timer = time.AfterFunc(c.patience, c.pause)
	default:
		c.timer.Reset(c.patience)
	}
}

func (c *Client) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading || c.writing {
		c.permit.Pause()
	}
}

func (c *Client) resume() {
	c.patience -= time.Since(c.since)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.permit.Resume()
}
