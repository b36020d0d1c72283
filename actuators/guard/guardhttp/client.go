package guardhttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// client pauses a request while it waits for its client: for the body that trickles in, until the answer begins, and until
// the client takes more of the answer. After the answer has begun, a body that does not come holds nothing up: both flow at
// the same time.
//
// The first moments count as the service's, so that a request that hardly waits is not paused at all.
type client struct {
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

// patienceShare of the SLO is how long a request may wait for its client altogether before it is paused.
const patienceShare = 0.1

// beginRead and endRead enclose a read of the body.
func (c *client) beginRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.answered && !c.over {
		c.reading = true
		c.wait(time.Now())
	}
}

func (c *client) endRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading {
		c.reading = false
		c.resume()
	}
}

// begin notes that the answer begins.
func (c *client) begin() {
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

// beginWrite and endWrite enclose a write of the answer.
func (c *client) beginWrite(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.writing = true
		c.wait(now)
	}
}

func (c *client) endWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing {
		c.writing = false
		c.resume()
	}
}

// end ends the request. Nobody may touch the permit afterwards but its owner.
func (c *client) end() {
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

func (c *client) wait(now time.Time) {
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

func (c *client) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading || c.writing {
		c.permit.Pause()
	}
}

func (c *client) resume() {
	c.patience -= time.Since(c.since)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.permit.Resume()
}

// requestBody is the body of a request.
type requestBody struct {
	io.ReadCloser
	client *client
	read   atomic.Bool // to its end
	broken atomic.Bool // by the client
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.read.Load() {
		return b.ReadCloser.Read(p)
	}
	b.client.beginRead()
	defer b.client.endRead()
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil, errors.Is(err, http.ErrBodyReadAfterClose):
	case errors.Is(err, io.EOF):
		b.read.Store(true)
	default:
		b.broken.Store(true)
	}
	return n, err
}
