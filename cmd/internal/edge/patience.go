package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// Patience cuts clients that send their bodies or read their answers too slowly. The guard gives the slot of a request
// back as soon as it waits for its client; Patience is about the connections, which would stay forever.
//
// A client has an allowance of Time. Each second in which the server waits for it costs a second, each MinRate bytes give
// one back. The body of a client that has used it up ends with os.ErrDeadlineExceeded, and so do writes to it. The time in
// which the service is slow costs nothing, so a stream lives for as long as its client reads what the service sends, and
// an upload for as long as it makes progress. An exchange in which both talk at the same time (a body after the answer
// has begun, gRPC, a switched connection) is not cut for the client's silence: it may just have nothing to say.
type Patience struct {
	Time    time.Duration // 0: no limit
	MinRate int           // bytes per second; 0: only silence costs

	cutSending, cutReading atomic.Uint64
}

// Cut returns how many clients were cut because they sent or read too slowly.
func (p *Patience) Cut() (sending, reading uint64) { return p.cutSending.Load(), p.cutReading.Load() }

// Handler puts the limits in front of next, which must be called by the server itself.
func (p *Patience) Handler(next http.Handler) http.Handler {
	if p.Time <= 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{
			ResponseWriter: w, patience: p, control: http.NewResponseController(w), talks: guardhttp.IsGRPCType(r.Header),
		}
		e.sending.allowance, e.reading.allowance = p.Time, p.Time
		if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
			r.Body = &slowBody{r.Body, e}
		}
		defer e.end(r.ProtoMajor == 1)
		next.ServeHTTP(e, r)
	})
}

// exchange is one request and its answer. It is the http.ResponseWriter that the handlers see.
type exchange struct {
	http.ResponseWriter
	patience *Patience
	control  *http.ResponseController

	mu      sync.Mutex
	talks   bool // the client may be silent: both sides talk
	sending turn // of the body
	reading turn // of the answer
	over    bool
}

// turn is one direction, in which the server waits for the client again and again.
type turn struct {
	allowance time.Duration
	since     time.Time // zero: not waiting
	timer     *time.Timer
}

// begin begins to wait for the client.
func (e *exchange) begin(t *turn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	t.since = time.Now()
	switch {
	case t == &e.sending && e.talks:
	case t.timer == nil:
		t.timer = time.AfterFunc(t.allowance, func() { e.cut(t) })
	default:
		t.timer.Reset(t.allowance)
	}
}

// pass ends a wait in which n bytes went over.
func (e *exchange) pass(t *turn, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over || t.since.IsZero() {
		return
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.allowance -= time.Since(t.since)
	t.since = time.Time{}
	if e.patience.MinRate > 0 {
		t.allowance += time.Duration(float64(n) / float64(e.patience.MinRate) * float64(time.Second))
	} else if n > 0 {
		t.allowance = e.patience.Time
	}
	t.allowance = min(t.allowance, e.patience.Time)
}

// cut runs when the client has used up its allowance.
func (e *exchange) cut(t *turn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over || t.since.IsZero() || t == &e.sending && e.talks {
		return
	}
	past := time.Unix(1, 0)
	if t == &e.sending {
		e.patience.cutSending.Add(1)
		_ = e.control.SetReadDeadline(past)
	} else {
		e.patience.cutReading.Add(1)
		_ = e.control.SetWriteDeadline(past)
	}
}

// end ends the exchange, when the handlers have returned or panicked. Over HTTP/1, the server sends the rest of the answer
// afterwards, and then removes the deadline.
func (e *exchange) end(http1 bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over { // hijacked
		return
	}
	e.over = true
	for _, t := range []*turn{&e.sending, &e.reading} {
		if t.timer != nil {
			t.timer.Stop()
		}
	}
	if http1 {
		_ = e.control.SetWriteDeadline(time.Now().Add(e.patience.Time))
	}
}

// answers notes that the answer begins, unless it is only an interim one.
func (e *exchange) answers(status int) {
	if status >= http.StatusOK {
		e.mu.Lock()
		e.talks = true
		e.mu.Unlock()
	}
}

// WriteHeader implements http.ResponseWriter.
func (e *exchange) WriteHeader(status int) {
	e.answers(status)
	e.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (e *exchange) Write(b []byte) (int, error) {
	e.answers(http.StatusOK)
	e.begin(&e.reading)
	n, err := e.ResponseWriter.Write(b)
	e.pass(&e.reading, n)
	return n, err
}

// Flush implements http.Flusher: handlers look for it.
func (e *exchange) Flush() { _ = e.FlushError() }

// FlushError implements what http.ResponseController calls.
func (e *exchange) FlushError() error {
	e.answers(http.StatusOK)
	e.begin(&e.reading)
	err := e.control.Flush()
	e.pass(&e.reading, 0)
	return err
}

// Hijack implements http.Hijacker. It gives the connection away with all limits removed.
func (e *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := e.control.Hijack()
	if err == nil {
		e.end(false)
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController find what the server's writer can do.
func (e *exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }

// slowBody is the body of a request, which its client sends.
type slowBody struct {
	io.ReadCloser
	exchange *exchange
}

// Read implements io.Reader.
func (b *slowBody) Read(p []byte) (int, error) {
	b.exchange.begin(&b.exchange.sending)
	n, err := b.ReadCloser.Read(p)
	b.exchange.pass(&b.exchange.sending, n)
	return n, err
}
