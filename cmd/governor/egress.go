package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// largestReplay is the largest body of a request, in bytes, that a forward port reads before it calls, so that it can
// send it again. A larger one, or one of unknown length, streams and is sent once.
const largestReplay = 64 << 10

// forwardPort passes the requests of the service to a dependency, through guardhttp.Transport.
type forwardPort struct {
	dependency *guard.Dependency
	inbound    *inboundRequests
	timeout    time.Duration // 0: none
	proxy      *httputil.ReverseProxy
	log        *slog.Logger
	logged     seldom
}

// newForwardPort returns the handler of the forward port e. It changes requests as little as it can: they are for the
// dependency, and the forward port is only a stop on the way.
func newForwardPort(
	g *guard.Guard, e egress, base http.RoundTripper, inbound *inboundRequests, timeout time.Duration, log *slog.Logger,
) *forwardPort {
	p := &forwardPort{
		dependency: g.Dependency(e.dependency), inbound: inbound, timeout: timeout, log: log.With("to", e.dependency),
	}
	var options []guardhttp.TransportOption
	if len(e.instances) > 1 {
		options = append(options, guardhttp.WithInstances(func() []string { return e.instances }))
	}
	p.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = e.scheme, e.instances[0], ""
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.Out.Trailer = r.In.Trailer // filled in at the end of the body
			keepForwarded(r)
			if said, ok := r.In.Header["X-Forwarded-For"]; ok {
				r.Out.Header["X-Forwarded-For"] = said
			}
			delete(r.Out.Header, requestHeader)
			if r.In.GetBody != nil {
				delete(r.Out.Header, "Expect") // the body is here already
			}
		},
		Transport:      guardhttp.Transport(p.dependency, ownHost{base}, options...),
		ModifyResponse: answered,
		ErrorHandler:   p.fail,
		FlushInterval:  -1, // at once, whatever the type of the answer
		BufferPool:     &copyBuffers,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *forwardPort) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		http.Error(w, fmt.Sprintf("this is the forward port of %s, not a general proxy; use it as the base URL of %[1]s",
			p.dependency.Name()), http.StatusMethodNotAllowed)
		return
	}
	if r.ProtoMajor != 1 { // the preface of HTTP/2 without TLS, which the server hands over as a request
		http.Error(w, fmt.Sprintf("the forward port of %s accepts HTTP/1.1 only", p.dependency.Name()),
			http.StatusHTTPVersionNotSupported)
		return
	}
	body := newUpload(w, r)
	ctx, stop := newCallContext(r.Context(), p.inbound.of(r.Header), p.timeout, body)
	defer stop()
	r = r.WithContext(ctx)
	r.Body = body
	switch {
	case r.ContentLength > 0 && r.ContentLength <= largestReplay:
		if err := holdBody(r); err != nil {
			status, what := http.StatusBadRequest, fmt.Sprintf("whole: %v", err)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				status, what = http.StatusGatewayTimeout, fmt.Sprintf("within --egress-timeout=%v", p.timeout)
			}
			body.closeUnread(w.Header())
			http.Error(w, fmt.Sprintf("call to %s not sent: the body of the request did not come %s", p.dependency.Name(), what),
				status)
			return
		}
	case r.ContentLength != 0:
		// So that the dependency can answer before it has the whole body.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	p.proxy.ServeHTTP(w, r)
}

// holdBody reads the body of r so that it can be sent again.
func holdBody(r *http.Request) error {
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return err
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	return nil
}

// upload is the body of a request that may be answered before it has been read. The connection must then be closed:
// if the server reads the rest after the answer and reuses the connection, it panics (golang/go#68560).
type upload struct {
	io.ReadCloser
	control *http.ResponseController
	read    atomic.Bool // to its end
}

func newUpload(w http.ResponseWriter, r *http.Request) *upload {
	u := &upload{ReadCloser: r.Body, control: http.NewResponseController(w)}
	u.read.Store(r.ContentLength == 0)
	return u
}

// cut ends a read of a body that does not come: neither a cancellation nor Close does.
func (u *upload) cut() {
	if !u.read.Load() {
		_ = u.control.SetReadDeadline(time.Now())
	}
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err == io.EOF {
		u.read.Store(true)
	}
	return n, err
}

// closeUnread puts into the header of an answer that the connection will be closed, if that is necessary.
func (u *upload) closeUnread(h http.Header) {
	if !u.read.Load() {
		h.Set("Connection", "close")
	}
}

// fail answers a call that has no answer.
func (p *forwardPort) fail(w http.ResponseWriter, r *http.Request, err error) {
	name, ended := p.dependency.Name(), r.Context().Err()
	callOf(r).upload.closeUnread(w.Header())
	if refusal, ok := errors.AsType[*guard.CallRefusal](err); ok {
		h := w.Header()
		h.Set(guardhttp.RefusedHeader, refusal.Reason())
		h.Set("Retry-After", strconv.Itoa(1+rand.IntN(3))) // as a guard does: spread, so that callers do not return together
		if errors.Is(err, guard.ErrBreakerOpen) || errors.Is(err, guard.ErrBulkhead) && p.dependency.NoRetry() {
			h.Set(guardhttp.NoRetryHeader, "1")
		}
		http.Error(w, refusal.Error(), http.StatusServiceUnavailable)
		return
	}
	switch {
	case errors.Is(ended, context.Canceled):
		return // the service has gone
	case errors.Is(ended, context.DeadlineExceeded):
		http.Error(w, fmt.Sprintf("call to %s: no answer within --egress-timeout=%v; answer without it", name, p.timeout),
			http.StatusGatewayTimeout)
	default:
		http.Error(w, fmt.Sprintf("call to %s failed: %v; answer without it, and check that %[1]s runs and can be reached from "+
			"here", name, err), http.StatusBadGateway)
	}
	if p.logged.now() { // guard_client_failures_total counts them all
		p.log.Warn("A call failed", "err", err)
	}
}

// answered prepares an answer for the service. One that lasts may outlive the timeout: it has begun in time.
func answered(answer *http.Response) error {
	c := callOf(answer.Request)
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	switched := answer.StatusCode == http.StatusSwitchingProtocols
	if switched || kind == "text/event-stream" {
		c.stopTimer()
	}
	if !switched {
		c.upload.closeUnread(answer.Header)
	}
	return nil
}

// callContext is the context of a call through a forward port. It ends when the service gives up or the timeout is over.
// It knows the inbound request that the call is made for, but does not end with it: a service may go on after it has
// answered. Unlike with context.WithTimeout, the timeout can be stopped.
type callContext struct {
	context.Context
	inbound   context.Context // nil: not known
	deadline  time.Time       // zero: none
	stopTimer func() bool
	upload    *upload
}

type callContextKey struct{}

// callOf returns the context of a request that a forward port received.
func callOf(r *http.Request) *callContext { return r.Context().Value(callContextKey{}).(*callContext) }

// newCallContext returns a context and what must be called when the call is over. A timeout of 0 is none.
func newCallContext(
	parent, inbound context.Context, timeout time.Duration, body *upload,
) (c *callContext, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	c = &callContext{Context: ctx, inbound: inbound, upload: body, stopTimer: func() bool { return false }}
	if timeout > 0 {
		c.deadline = time.Now().Add(timeout)
		c.stopTimer = time.AfterFunc(timeout, func() {
			cancel(context.DeadlineExceeded)
			body.cut()
		}).Stop
	}
	return c, func() { c.stopTimer(); cancel(nil) }
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Err implements context.Context.
func (c *callContext) Err() error {
	err := c.Context.Err()
	if err != nil && errors.Is(context.Cause(c.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if key == (callContextKey{}) {
		return c
	}
	if v := c.Context.Value(key); v != nil || c.inbound == nil {
		return v
	}
	return c.inbound.Value(key)
}

// ownHost gives each attempt the Host header of the instance that it goes to: the service's own, the address of the
// forward port, would mean nothing there.
type ownHost struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t ownHost) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Host != "" && r.Host != r.URL.Host {
		r = r.WithContext(r.Context())
		r.Host = ""
	}
	return t.RoundTripper.RoundTrip(r)
}

// buffers is a pool for httputil.ReverseProxy.
type buffers struct{ pool sync.Pool }

var copyBuffers buffers

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return buffer[:]
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buffer []byte) { b.pool.Put((*[32 << 10]byte)(buffer)) }

// listen opens the forward port. A socket that a sidecar left when it was killed makes room for the new one.
func (e egress) listen() (net.Listener, error) {
	if e.network == "unix" {
		removeStale(e.address)
	}
	l, err := net.Listen(e.network, e.address)
	if err != nil {
		return nil, listenError("egress", e.String(), err)
	}
	return l, nil
}

// removeStale removes a socket at which nobody listens.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // if it fails, listening says why
	}
}

// String returns what an error calls the forward port.
func (e egress) String() string { return e.dependency + "=" + e.address }

// urls returns the instances as in the flag.
func (e egress) urls() []string {
	urls := slices.Clone(e.instances)
	for i := range urls {
		urls[i] = e.scheme + "://" + urls[i]
	}
	return urls
}
