package edge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// Patience tells the client's time from the service's: while a client sends its body or reads its answer slowly, the
// service has nothing to do, so the request holds no slot of the guard's limit.
//
//	body    ▒▒▒▒▒▒▒·················▒▒▒ complete
//	slot    ███████▏ given back         ▕████████ taken again: the service works
//	        ◄ 100 ms ►
//
// A client has an allowance of Time. Each second in which the sidecar waits for it costs a second, each MinRate bytes
// give one back. A client that has used it up is cut: 408 if the body was still to come, else a broken connection. The
// time in which the service is slow costs nothing, so a stream lives for as long as its client reads what the service
// sends, and an upload for as long as it makes progress. An exchange in which both talk at the same time (a body after
// the answer has begun, gRPC) is not cut for the client's silence: it may just have nothing to say.
type Patience struct {
	Time    time.Duration // 0: no limit
	MinRate int           // bytes per second; 0: only silence costs

	waiting                atomic.Int64
	cutSending, cutReading atomic.Uint64
}

const (
	// holdsSlot is how long, in all, a request waits for its client with its slot. Over one packet's way around the world
	// the slot stays; a client that sends or reads a byte a second loses it at once.
	holdsSlot = 100 * time.Millisecond
	// mostWaiting bounds the requests that wait without a slot: about 80 kB of memory each.
	mostWaiting = 1024
)

// Waiting returns how many requests wait for their clients, or did and are not over, without a slot.
func (p *Patience) Waiting() int64 { return p.waiting.Load() }

// Cut returns how many clients were cut because they sent or read too slowly.
func (p *Patience) Cut() (sending, reading uint64) { return p.cutSending.Load(), p.cutReading.Load() }

// Handler puts p between the guard and next. The guard's permit is in the context of the requests.
func (p *Patience) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{
			ResponseWriter: w, patience: p, ctx: r.Context(), control: http.NewResponseController(w),
			talks: isGRPC(r.Header),
		}
		e.sending.allowance, e.reading.allowance = p.Time, p.Time
		if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
			r.Body = &slowBody{r.Body, e}
		}
		returned := false
		defer func() { e.end(r, returned) }()
		next.ServeHTTP(e, r)
		returned = true
	})
}

func isGRPC(h http.Header) bool {
	rest, ok := strings.CutPrefix(h.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// exchange is one request and its answer. It is the http.ResponseWriter that the proxy sees.
type exchange struct {
	http.ResponseWriter
	patience *Patience
	ctx      context.Context
	control  *http.ResponseController
	talks    bool // the client may be silent

	mu        sync.Mutex
	sending   turn // of the body
	reading   turn // of the answer
	suspended bool // holds no slot
	resumed   guard.Permit
	status    int // of the answer; 0: it has not begun
	late      bool
	hijacked  bool
	over      bool
}

// turn is one direction, in which the sidecar waits for the client again and again.
type turn struct {
	allowance time.Duration
	waited    time.Duration // with the slot
	since     time.Time     // zero: not waiting
	timer     *time.Timer
	cut       bool
}

// begin begins to wait for the client.
func (e *exchange) begin(t *turn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	t.since = time.Now()
	wait, ok := e.next(t)
	switch {
	case !ok:
	case t.timer == nil:
		t.timer = time.AfterFunc(wait, func() { e.fire(t) })
	default:
		t.timer.Reset(wait)
	}
}

// next returns how long the client may go on, until the slot is given back or the client is cut; false: for ever. The
// caller holds e.mu.
func (e *exchange) next(t *turn) (time.Duration, bool) {
	left, limited := t.allowance, e.limited(t)
	if e.suspended {
		return left, limited
	}
	slot := max(0, holdsSlot-t.waited)
	if limited {
		slot = min(slot, left)
	}
	return slot, true
}

// limited says whether the client can be cut in this turn. The caller holds e.mu.
func (e *exchange) limited(t *turn) bool {
	return e.patience.Time > 0 && (t == &e.reading || e.status == 0 && !e.talks)
}

// fire runs when the client has kept the sidecar waiting for too long.
func (e *exchange) fire(t *turn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.since.IsZero() || e.over {
		return
	}
	limited := e.limited(t)
	left := t.allowance - time.Since(t.since)
	switch waits := e.suspend(); {
	case limited && (left <= 0 || !waits): // without room for one more that waits, the slowest must go
		e.cut(t)
	case limited:
		t.timer.Reset(left)
	}
}

// cut ends the exchange. The caller holds e.mu.
func (e *exchange) cut(t *turn) {
	t.cut = true
	past := time.Unix(1, 0)
	if t == &e.sending {
		e.patience.cutSending.Add(1)
		_ = e.control.SetReadDeadline(past)
	} else {
		e.patience.cutReading.Add(1)
		_ = e.control.SetWriteDeadline(past)
	}
}

// suspend gives the slot back, unless too many wait without one. It says whether the exchange has none. The caller holds
// e.mu.
func (e *exchange) suspend() bool {
	if e.suspended {
		return true
	}
	if e.patience.waiting.Add(1) > mostWaiting {
		e.patience.waiting.Add(-1)
		return false
	}
	e.suspended = true
	if e.resumed == (guard.Permit{}) {
		guard.Suspend(e.ctx)
	} else {
		e.resumed.Endless()
	}
	return true
}

// pass ends a wait in which n bytes went over.
func (e *exchange) pass(t *turn, n int, complete bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	waited := time.Since(t.since)
	t.since = time.Time{}
	if t.timer != nil {
		t.timer.Stop()
	}
	if !e.suspended {
		t.waited += waited
	}
	t.allowance -= waited
	if e.patience.MinRate > 0 {
		t.allowance += time.Duration(float64(n) / float64(e.patience.MinRate) * float64(time.Second))
	} else if n > 0 {
		t.allowance = e.patience.Time
	}
	t.allowance = min(t.allowance, e.patience.Time)
	if complete && e.suspended && e.status == 0 && !e.over && !t.cut {
		e.resume()
	}
}

// resume takes a slot again. The caller holds e.mu.
func (e *exchange) resume() {
	e.suspended = false
	e.patience.waiting.Add(-1)
	e.sending.waited = 0
	if e.resumed == (guard.Permit{}) {
		e.resumed = guard.Resume(e.ctx)
	}
}

// end ends the exchange, after the proxy has returned or panicked.
func (e *exchange) end(r *http.Request, returned bool) {
	e.mu.Lock()
	if e.sending.cut && e.status == 0 && returned {
		e.tooLate()
	}
	e.over = true
	for _, t := range []*turn{&e.sending, &e.reading} {
		if t.timer != nil {
			t.timer.Stop()
		}
	}
	if e.suspended {
		e.patience.waiting.Add(-1)
	}
	permit, status, hijacked := e.resumed, e.status, e.hijacked
	e.mu.Unlock()
	if r.ProtoMajor == 1 && !hijacked && e.patience.Time > 0 {
		// The server sends the rest after the handlers have returned, and then removes the deadline.
		_ = e.control.SetWriteDeadline(time.Now().Add(e.patience.Time))
	}
	switch {
	case permit == (guard.Permit{}):
	case hijacked || status == http.StatusSwitchingProtocols:
		permit.Release(guard.Ignored)
	case errors.Is(e.ctx.Err(), context.Canceled):
		permit.Release(guard.Canceled)
	case !returned || status >= http.StatusInternalServerError:
		permit.Release(guard.Failure)
	default:
		permit.Release(guard.Success)
	}
}

// tooLate answers a client whose body did not come. The caller holds e.mu.
func (e *exchange) tooLate() {
	const text = "the body of the request came too slowly; send it faster, or in smaller parts\n"
	h := e.Header()
	clear(h)
	h["Connection"] = []string{"close"}
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	e.status, e.late = http.StatusRequestTimeout, true
	e.ResponseWriter.WriteHeader(http.StatusRequestTimeout)
	_, _ = io.WriteString(e.ResponseWriter, text)
}

// Hijack implements http.Hijacker. Nothing limits what the client then does: both sides talk.
func (e *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := e.control.Hijack()
	if err == nil {
		e.mu.Lock()
		e.hijacked = true
		e.mu.Unlock()
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController find what the server's writer can do.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// note notes that the answer begins. It says whether it goes out: what is said about a request whose client was cut is
// said by tooLate.
func (e *exchange) note(status int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		if e.sending.cut {
			e.tooLate()
		} else {
			e.status = status
		}
	}
	return !e.late
}

// WriteHeader implements http.ResponseWriter.
func (e *exchange) WriteHeader(status int) {
	if e.note(status) {
		e.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (e *exchange) Write(b []byte) (int, error) {
	if !e.note(http.StatusOK) {
		return len(b), nil
	}
	e.begin(&e.reading)
	n, err := e.ResponseWriter.Write(b)
	e.pass(&e.reading, n, false)
	return n, err
}

// FlushError implements what http.ResponseController calls.
func (e *exchange) FlushError() error {
	if !e.note(http.StatusOK) {
		return nil
	}
	e.begin(&e.reading)
	err := e.control.Flush()
	e.pass(&e.reading, 0, false)
	return err
}

// slowBody is the body of a request, which its client sends.
type slowBody struct {
	io.ReadCloser
	exchange *exchange
}

// Read implements io.Reader.
func (b *slowBody) Read(p []byte) (int, error) {
	e := b.exchange
	e.begin(&e.sending)
	n, err := b.ReadCloser.Read(p)
	e.pass(&e.sending, n, err == io.EOF)
	return n, err
}
