package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	guardwire "github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// largestReplay is the largest body of a request, in bytes, that a forward port reads before it calls, so that it can
// send it again. A larger one, or one of unknown length, streams and is sent once.
const largestReplay = 64 << 10

// ForwardConfig says where the requests to a forward port go.
type ForwardConfig struct {
	Guard      *guard.Guard
	Dependency string   // its service name
	Scheme     string   // of all instances: http, https, h2c
	Instances  []string // host:port
	Transport  *Transport
	Requests   *Requests     // finds the inbound request that a call is made for
	Timeout    time.Duration // of a whole call; 0: none
	Outside    bool          // the dependency is not of the same house, see guardhttp.WithoutContext
	Baggage    bool          // the dependency copies W3C baggage to its calls, see guardhttp.WithBaggage
	Log        *slog.Logger
}

// ForwardPort passes the requests of the service to a dependency, through guardhttp.Transport. It changes requests as
// little as it can: they are for the dependency, and the forward port is only a stop on the way.
type ForwardPort struct {
	dependency *guard.Dependency
	requests   *Requests
	timeout    time.Duration
	proxy      httputil.ReverseProxy
	log        *slog.Logger
	logged     seldom
}

// NewForwardPort returns the handler of a forward port. It works only below a handler of Server.
func NewForwardPort(c ForwardConfig) *ForwardPort {
	p := &ForwardPort{
		dependency: c.Guard.Dependency(c.Dependency), requests: c.Requests, timeout: c.Timeout,
		log: c.Log.With("to", c.Dependency),
	}
	var options []guardhttp.TransportOption
	if len(c.Instances) > 1 {
		options = append(options, guardhttp.WithInstances(func() []string { return c.Instances }))
	}
	if c.Outside {
		options = append(options, guardhttp.WithoutContext())
	}
	if c.Baggage {
		options = append(options, guardhttp.WithBaggage())
	}
	p.proxy = httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			rewrite(r)
			*r.Out.URL, r.Out.Host = url.URL{Scheme: c.Scheme, Host: c.Instances[0]}, ""
			setTarget(r.Out.URL, r.In, "")
			guardhttp.SetContext(r.Out.Header, copied(r.In.Header), false)
		},
		Transport:      guardhttp.Transport(p.dependency, ownHost{c.Transport}, options...),
		ModifyResponse: p.answered,
		ErrorHandler:   p.fail,
		BufferPool:     &copyBuffers,
		ErrorLog:       slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *ForwardPort) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, says := exchangeOf(r.Context()), guardhttp.ContextOf(r.Header)
	ctx, stop := newCallContext(x, p.requests.of(says.Request), p.timeout)
	defer stop()
	r = r.WithContext(guard.WithGroup(ctx, int(says.Rank.Group)))
	if r.ContentLength > 0 && r.ContentLength <= largestReplay && !x.upload.waits() {
		if err := holdBody(r); err != nil {
			p.failHeld(w, r, err)
			return
		}
	}
	p.proxy.ServeHTTP(w, r)
}

// copied returns what a call says by itself. It counts if the inbound request is not in progress: of a Guard-Context that the
// sidecar gave to the service, what does not grow old.
func copied(h http.Header) guardwire.Context {
	says := guardhttp.ContextOf(h)
	if says.Request != "" {
		says = says.Lasting()
		says.Request = ""
	}
	return says
}

// failHeld answers a call whose body did not come.
func (p *ForwardPort) failHeld(w http.ResponseWriter, r *http.Request, err error) {
	status, what := http.StatusBadRequest, fmt.Sprintf("whole: %v", err)
	if errors.Is(r.Context().Err(), context.DeadlineExceeded) {
		status, what = http.StatusGatewayTimeout, "within "+callOf(r).limit
	}
	exchangeOf(r.Context()).fail(w, status, fmt.Sprintf("call to %s not sent: the body of the request did not come %s",
		p.dependency.Name(), what))
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

// fail answers a call that has no answer.
func (p *ForwardPort) fail(w http.ResponseWriter, r *http.Request, err error) {
	x, name, ended := exchangeOf(r.Context()), p.dependency.Name(), r.Context().Err()
	if refusal, ok := errors.AsType[*guard.CallRefusal](err); ok {
		p.refuse(w, x, refusal)
		return
	}
	switch {
	case errors.Is(ended, context.DeadlineExceeded):
		x.fail(w, http.StatusGatewayTimeout, fmt.Sprintf("call to %s: no answer within %s; answer without it", name,
			callOf(r).limit))
	case x.failBroken(w):
		return
	case ended != nil: // nearly always for nobody; a caller that reads still gets no empty success
		x.fail(w, http.StatusBadGateway, fmt.Sprintf("call to %s canceled: you have closed your side of the connection", name))
		return
	default:
		x.fail(w, http.StatusBadGateway, fmt.Sprintf("call to %s failed: %v; answer without it, and check that %[1]s runs and "+
			"can be reached from here", name, err))
	}
	if p.logged.now() { // guard_client_failures_total counts them all
		p.log.Warn("A call failed", "err", err)
	}
}

// refuse answers a call that was not sent.
func (p *ForwardPort) refuse(w http.ResponseWriter, x *exchange, refusal *guard.CallRefusal) {
	h := w.Header()
	h.Set(guardhttp.RefusedHeader, refusal.Reason())
	h.Set("Retry-After", strconv.Itoa(1+rand.IntN(3))) // as a guard does: spread, so that callers do not return together
	if errors.Is(refusal, guard.ErrBreakerOpen) || errors.Is(refusal, guard.ErrBulkhead) && p.dependency.NoRetry() {
		h.Set(guardhttp.NoRetryHeader, "1")
	}
	code := guardhttp.GRPCResourceExhausted
	if errors.Is(refusal, guard.ErrCallDeadline) {
		code = guardhttp.GRPCDeadlineExceeded
	}
	x.failWith(w, http.StatusServiceUnavailable, code, refusal.Error())
}

// answered prepares an answer for the service. One that lasts may outlive the timeout: it has begun in time.
func (p *ForwardPort) answered(a *http.Response) error {
	if a.StatusCode == http.StatusSwitchingProtocols || guardhttp.IsEventStream(a.Header) {
		callOf(a.Request).stopTimer()
	}
	return answered(a)
}

// callContext is the context of a call through a forward port. It ends when the service gives up, when the timeout is over, or
// when the caller of the inbound request stops waiting, as far as it has said so. It does not end with the inbound request: a
// service may go on after it has answered. Unlike with context.WithTimeout, the timeout can be stopped.
type callContext struct {
	context.Context
	inbound   context.Context // nil: not known
	deadline  time.Time       // zero: none
	limit     string          // what an error calls the time until the deadline
	stopTimer func() bool
}

type callContextKey struct{}

// callOf returns the context of a request that a forward port received.
func callOf(r *http.Request) *callContext { return r.Context().Value(callContextKey{}).(*callContext) }

// newCallContext returns a context and what must be called when the call is over. A timeout of 0 is none.
func newCallContext(
	x *exchange, inbound context.Context, timeout time.Duration,
) (c *callContext, stop func()) {
	ctx, cancel := context.WithCancelCause(x)
	c = &callContext{
		Context: ctx, inbound: inbound, limit: fmt.Sprintf("--egress-timeout=%v", timeout), stopTimer: func() bool { return false },
	}
	if inbound != nil {
		if deadline, ok := inbound.Deadline(); ok && (timeout == 0 || time.Until(deadline) < timeout) {
			timeout, c.limit = max(time.Until(deadline), 1), "the time for which the caller of the service waits"
		}
	}
	if timeout > 0 {
		c.deadline = time.Now().Add(timeout)
		c.stopTimer = time.AfterFunc(timeout, func() {
			cancel(context.DeadlineExceeded)
			x.upload.cut()
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
