package guardhttp

import (
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// TransportOption changes how Transport treats requests.
type TransportOption func(*transport)

// WithInstances tells the transport which instances the dependency has, as host:port. It is asked for each request and
// must be safe for concurrent use; the slice is only read. The transport then sends each attempt to one of them: of two
// at random to the one with fewer calls in flight, and to none with an open breaker while there is another. The Host
// header stays that of the request. With https, the certificates must cover the names of the instances. While the list
// is empty, requests go to the host of their URL.
func WithInstances(instances func() []string) TransportOption {
	return func(t *transport) { t.instances = instances }
}

// WithIdempotent replaces the rule for which requests may be executed twice. By default these are GET, HEAD, OPTIONS,
// TRACE, PUT and DELETE (RFC 9110, section 9.2.2), and any request with an Idempotency-Key header.
func WithIdempotent(idempotent func(*http.Request) bool) TransportOption {
	return func(t *transport) { t.idempotent = idempotent }
}

// WithEndlessCalls declares requests whose answers may take long because there is nothing to say yet: long polls. Such a request
// needs a slot of the bulkhead to be sent and gives it back at once, and however long its answer takes, it is not slow. An event
// stream and a connection that switches protocols need no declaration, unless they may be silent for a while before they begin.
func WithEndlessCalls(match func(*http.Request) bool) TransportOption {
	return func(t *transport) { t.endless = match }
}

// WithoutContext is for a dependency outside the house: it is sent none of the guard's headers (the key of a user is in
// them), not even those that the request has already, and its Guard-Answer is ignored and removed, from the trailer, too.
func WithoutContext() TransportOption {
	return func(t *transport) { t.outside = true }
}

// WithBaggage sends what Guard-Context says in a member of the request's W3C baggage, too: for a dependency that copies
// baggage to its own calls and does not know Guard-Context. Without this option, a member that is there already is brought
// up to date.
func WithBaggage() TransportOption {
	return func(t *transport) { t.baggage = true }
}

// Transport returns a RoundTripper that calls d through base; nil: http.DefaultTransport.
//
//	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil)}
//
// Each request passes deadline, retry, breaker and bulkhead, in this order. What they refuse comes back as a
// *guard.CallRefusal, and nothing was sent. Everything else is the answer, or the error, of base: when retries end, the
// last one. Make the request with the context of the inbound request (guardhttp.New puts the admitted request into it),
// so that the time of the call counts as waiting, and marks, hints and the rank of the request pass through.
//
// A call holds its slot until the body of the answer is read to its end or closed, or its context ends. A connection
// that switches protocols and an event stream hold none, and neither does what WithEndlessCalls matches.
//
// Outcomes:
//
//	no connection                                    failure; not executed, so any method may be retried
//	any other error of base, status ≥ 500            failure; 502, 503, 504 and errors are retried if idempotent
//	deadline passed                                  failure
//	503 with Guard-Refused, 429                      refused by the callee: not a failure, and not executed; a reason
//	                                                 of a way out (breaker, …) is passed on: a failure
//	context canceled                                 canceled: says nothing about the callee unless it was slow
//	101, event stream                                ignored
//	gRPC: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
//	INTERNAL, UNAVAILABLE, DATA_LOSS, or no code     failure
//	gRPC: RESOURCE_EXHAUSTED                         ignored; with Guard-Refused like 503
//	the body of the request cannot be read           canceled
//	everything else                                  success
//
// A retry needs a body that can be sent again (http.Request.GetBody), and everything listed at guard.Call.Retry.
func Transport(d *guard.Dependency, base http.RoundTripper, options ...TransportOption) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	t := &transport{
		dependency: d,
		base:       base,
		instances:  func() []string { return nil },
		idempotent: idempotent,
		endless:    func(*http.Request) bool { return false },
	}
	for _, o := range options {
		o(t)
	}
	return t
}

func idempotent(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return len(r.Header["Idempotency-Key"]) > 0
}

type transport struct {
	dependency *guard.Dependency
	base       http.RoundTripper
	instances  func() []string
	idempotent func(*http.Request) bool
	endless    func(*http.Request) bool
	outside    bool
	baggage    bool
}

// CloseIdleConnections does what it does on base: http.Client.CloseIdleConnections looks for it here.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// leadsAway says whether req follows a redirect to another host or scheme, and so leaves the dependency.
func leadsAway(req *http.Request) bool {
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.URL == nil || first.URL.Host != req.URL.Host || first.URL.Scheme != req.URL.Scheme
}

// known returns the instances that req may go to, none if only its URL says: those of the dependency would not know the
// host of a redirect that leads away.
func (t *transport) known(req *http.Request) []string {
	if leadsAway(req) {
		return nil
	}
	return t.instances()
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.URL.Host == "" {
		return t.base.RoundTrip(req) // it says what is wrong; no dependency is to blame
	}
	ctx := req.Context()
	instances := t.known(req)
	marked := len(req.Header[AttemptHeader]) > 0
	call := t.dependency.Start(ctx, guard.CallOptions{
		Idempotent: t.idempotent(req),
		OneShot:    req.Body != nil && req.Body != http.NoBody && req.GetBody == nil,
		Inner:      marked || ContextOf(req.Header).Marked,
		Endless:    t.endless(req),
		Instances:  len(instances),
	})
	instance := req.URL.Host
	if len(instances) > 0 {
		instance = call.Pick(instances, "", rand.Float64())
	}
	defer call.GiveUp() // if a callback panics
	body := req.Body
	var last answer
	for {
		attempt, err := call.Try(instance)
		if errors.Is(err, guard.ErrBreakerOpen) && len(instances) > 1 { // somebody else took the place of the probe
			instance = call.Pick(instances, instance, rand.Float64())
			attempt, err = call.Try(instance)
		}
		if err != nil {
			if body != nil {
				body.Close()
			}
			if last != (answer{}) {
				return last.response, last.err
			}
			return nil, err
		}
		out := t.outgoing(req, body, &call, instance)
		var source *source
		if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
			out, source = fromSource(out)
		}
		now := t.exchange(attempt, out, t.stranger(req))
		result := now.result(ctx)
		if now.err != nil && source.broken() {
			result = guard.Result{Outcome: guard.Canceled}
		}
		if result.Outcome == guard.Success && !result.Refused {
			return now.deliver(attempt, result, req, source)
		}
		retry, ok := call.Retry(rand.Float64(), result)
		if !ok {
			return now.deliver(attempt, result, req, source)
		}
		last = now.keep(req, attempt, result)
		if err := wait.For(ctx, retry.Wait); err != nil {
			return nil, err
		}
		if body != nil && body != http.NoBody {
			if body, err = req.GetBody(); err != nil {
				return last.response, last.err
			}
		}
		if len(instances) > 0 {
			except := ""
			if retry.Elsewhere {
				except = instance
			}
			instance = call.Pick(instances, except, rand.Float64())
		}
	}
}

// stranger says whether req goes to somebody outside the house.
func (t *transport) stranger(req *http.Request) bool { return t.outside || leadsAway(req) }

// outgoing returns the request to send: a copy, because a RoundTripper must not change the request that it is given.
func (t *transport) outgoing(req *http.Request, body io.ReadCloser, call *guard.Call, instance string) *http.Request {
	out := req.WithContext(req.Context())
	out.Body = body
	out.Header = maps.Clone(req.Header)
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if t.stranger(req) {
		removeAll(out.Header)
	} else {
		t.tell(out, call)
	}
	if instance != req.URL.Host {
		url := *req.URL
		url.Host = instance
		out.URL = &url
		if out.Host == "" {
			out.Host = req.URL.Host
		}
	}
	return out
}

// tell makes out say what the call brings along. For a call that is made for no request, that is what the request says
// itself.
func (t *transport) tell(out *http.Request, call *guard.Call) {
	said, known := wire.Context{}, false
	if said.Arrival, known = call.Arrival(); !known {
		copied := ContextOf(out.Header)
		said = copied.Lasting() // not what was said of other calls
		said.Left = copied.Left
	}
	if _, already := out.Header[AttemptHeader]; !already {
		if mark, marked := call.Mark(out.Context()); marked {
			if known {
				said.Attempt, said.Marked = mark, true
			}
			out.Header[AttemptHeader] = markValue(mark)
		}
	}
	if deadline, ok := out.Context().Deadline(); ok {
		left := max(time.Until(deadline), 1)
		if said.Left == 0 || left < said.Left {
			said.Left = left
		}
	}
	SetContext(out.Header, said, t.baggage)
}

// removeAll removes the guard's headers.
func removeAll(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Guard-") || strings.HasPrefix(name, "Guard_") {
			delete(h, name)
		}
	}
	RemoveContext(h)
}

// source is the body of a request that the caller is still reading from somewhere. It tells a fault there from one of the
// dependency.
type source struct {
	io.ReadCloser
	fault, closed atomic.Bool
}

// fromSource returns a copy of a request whose body is a source.
func fromSource(req *http.Request) (*http.Request, *source) {
	s := &source{ReadCloser: req.Body}
	out := req.WithContext(req.Context())
	out.Body = s
	return out, s
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !s.closed.Load() {
		s.fault.Store(true)
	}
	return n, err
}

// Close implements io.Closer. What a Read returns afterwards is no fault.
func (s *source) Close() error {
	s.closed.Store(true)
	return s.ReadCloser.Close()
}

// broken says whether the body could not be read. A nil source never is.
func (s *source) broken() bool { return s != nil && s.fault.Load() }

// firstMark is the value of nearly every mark, never changed.
var firstMark = []string{"0"}

func markValue(attempt int) []string {
	if attempt == 0 {
		return firstMark[:1:1]
	}
	return []string{strconv.Itoa(attempt)}
}

// exchange sends one attempt. If base panics, the attempt still ends. What a stranger advises counts for nothing, except not
// to retry.
func (t *transport) exchange(attempt guard.Attempt, out *http.Request, stranger bool) (a answer) {
	returned := false
	defer func() {
		if !returned {
			attempt.Done(guard.Result{Outcome: guard.Failure})
		}
	}()
	a.response, a.err = t.base.RoundTrip(out)
	returned = true
	if a.response != nil && stranger {
		hush(a.response.Header)
		hush(a.response.Trailer)
		if body := a.response.Body; body != nil && body != http.NoBody && a.response.StatusCode != http.StatusSwitchingProtocols {
			a.response.Body = &hushed{body, a.response}
		}
	}
	return a
}

// hushed is the body of a stranger's answer. Its trailer is there when the body has come to its end.
type hushed struct {
	io.ReadCloser
	answer *http.Response
}

// Read implements io.Reader.
func (b *hushed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		hush(b.answer.Trailer)
	}
	return n, err
}

// answer is what base returned for one attempt.
type answer struct {
	response *http.Response
	err      error
}

// result judges the answer.
func (a answer) result(ctx context.Context) guard.Result {
	if a.err != nil {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return guard.Result{Outcome: guard.Canceled}
		case ctx.Err() == nil && unsent(a.err):
			return guard.Result{Outcome: guard.Failure, Unsent: true, Elsewhere: true}
		}
		return guard.Result{Outcome: guard.Failure}
	}
	if a.response == nil { // a bug in base: http.Client reports it
		return guard.Result{Outcome: guard.Failure, Final: true}
	}
	header := a.response.Header
	reason := header.Get(RefusedHeader)
	r := guard.Result{Outcome: guard.Success, Advice: adviceIn(header)}
	inHeader := "" // of an answer without a body
	if a.response.ProtoMajor == 2 && IsGRPCType(header) || hasType(header, grpcWebType) {
		inHeader = header.Get("Grpc-Status")
	}
	switch status := a.response.StatusCode; {
	case status == http.StatusOK && hasType(header, connectStreamType) && RefusedAtTheDoor(reason):
		r.Outcome, r.Refused, r.Elsewhere = guard.Ignored, true, reason != RateReason
	case status == http.StatusOK && inHeader != "":
		if r.Outcome = grpcOutcome(inHeader); r.Outcome == guard.Success {
			return r
		}
		r.Refused = r.Outcome == guard.Ignored && RefusedAtTheDoor(reason)
		r.Elsewhere = r.Refused && reason != RateReason
		r.Final = inHeader != strconv.Itoa(GRPCUnavailable) && !r.Refused
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && RefusedAtTheDoor(reason):
		r.Outcome, r.Refused = guard.Ignored, true
		r.Elsewhere = reason != "" && reason != RateReason // the rate is one for all instances
	case status >= http.StatusInternalServerError:
		r.Outcome = guard.Failure
		r.Final = status != http.StatusBadGateway && status != http.StatusServiceUnavailable &&
			status != http.StatusGatewayTimeout
	default:
		return r
	}
	r.RetryAfter = retryAfterIn(header, time.Now())
	return r
}

// RefusedAtTheDoor says whether the reason of a refusal proves that the callee has not executed the request. Those of a way
// out do not: a service that passes them on refused a call of its own, in the middle of its work.
func RefusedAtTheDoor(reason string) bool {
	switch reason {
	case "", "deadline", "breaker", "bulkhead":
		return false
	}
	return true
}

// RateReason is the reason of a refusal by the rate limit, which is one for all instances.
const RateReason = "rate"

// unsent says whether err proves that the request has not been sent: there was no connection.
func unsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "dial" || op.Op == "proxyconnect")
}

// deliver hands the answer to the caller. The attempt ends with the body.
func (a answer) deliver(
	attempt guard.Attempt, result guard.Result, req *http.Request, source *source,
) (*http.Response, error) {
	if a.err != nil || a.response == nil {
		attempt.Done(result)
		return nil, a.err
	}
	a.response.Request = req // not the copy, whose URL names an instance: redirects are relative to it
	switch {
	case a.response.StatusCode == http.StatusSwitchingProtocols:
		attempt.Endless()
		attempt.Done(guard.Result{Outcome: guard.Ignored})
	case a.response.Body == http.NoBody, a.response.Body == nil:
		attempt.Done(result)
	default:
		switch {
		case result.Outcome != guard.Success:
		case IsEventStream(a.response.Header):
			attempt.Endless()
			result = guard.Result{Outcome: guard.Ignored}
		default:
			attempt.Answered()
		}
		a.response.Body = newBody(a.response, source, attempt, result)
	}
	return a.response, nil
}

const (
	keptBytes = 64 << 10               // of the body of an answer that is retried
	keptTime  = 200 * time.Millisecond // for reading it
)

// keep reads what there is of an answer that is going to be retried, within bounds, so that its connection is free for
// the retry. If the retry cannot be made after all, this is the answer. A body that is too long or too slow ends with
// io.ErrUnexpectedEOF. The attempt ends.
func (a answer) keep(req *http.Request, attempt guard.Attempt, result guard.Result) answer {
	defer attempt.Done(result)
	if a.err != nil {
		return a
	}
	a.response.Request = req
	body := a.response.Body
	if body == nil {
		return a
	}
	timer := time.AfterFunc(keptTime, func() { body.Close() })
	read, err := io.ReadAll(io.LimitReader(body, keptBytes+1))
	timer.Stop()
	body.Close()
	a.response.Body = &kept{rest: read, whole: err == nil && len(read) <= keptBytes}
	return a
}

// kept is a body that has been read.
type kept struct {
	rest  []byte
	whole bool
}

func (k *kept) Read(p []byte) (int, error) {
	n := copy(p, k.rest)
	k.rest = k.rest[n:]
	switch {
	case len(k.rest) > 0:
		return n, nil
	case k.whole:
		return n, io.EOF
	}
	return n, io.ErrUnexpectedEOF
}

func (k *kept) Close() error { return nil }
