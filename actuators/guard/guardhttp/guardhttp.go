// Package guardhttp puts a guard in front of an http.Handler:
//
//	http.ListenAndServe(":8080", guardhttp.New(g, mux))
//
// An admitted request holds one slot of the guard's limit until its handler returns, even by a panic (which reaches the
// server unchanged) or by http.ErrAbortHandler. Three kinds of requests give it back earlier:
//
//   - While a request waits for its client, it holds no slot, and that time is not its latency: until more of its body comes,
//     or until the client takes more of the answer. This begins when the request has waited for 0.1 SLO altogether.
//   - A connection that is hijacked or switched to another protocol, and an event stream, give the slot back for good, and so
//     does an answer that is still being written 10 SLOs after it has begun.
//   - A request that WithEndless matches gives it back as soon as it is admitted.
//
// A refused request is answered at once: with 503 if there is no slot, if the last slots are kept for more important
// requests, if a service that it needs would refuse it, or if it is going to last (a WebSocket, an EventSource, what WithEndless
// matches) and as many of those are open as guard.Config.MaxEndless allows, and with 429 if the rate limit is reached. The
// answer has a Retry-After in whole seconds, spread so that callers do not all return at once, and a Guard-Refused header
// that names the reason. To gRPC and gRPC-Web, the answer is 200 with grpc-status 8 (RESOURCE_EXHAUSTED), grpc-message,
// grpc-retry-pushback-ms, and the same headers; to Connect, it is resource_exhausted, with 429 for a unary call. The details
// of these errors are a google.rpc.RetryInfo and a google.rpc.ErrorInfo.
//
// The request's context carries the permit: guarded calls made with it do not count as the service's own latency, and
// guard.Optional answers for it. An admitted request costs three allocations, and more with a body. A refusal allocates nothing,
// unless WithLoadReport adds to it.
//
// Outcomes:
//
//	handler panicked, or status ≥ 500                failure
//	gRPC, gRPC-Web, Connect: UNKNOWN, UNIMPLEMENTED,
//	DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE,
//	DATA_LOSS, or no code                            failure, as in OpenTelemetry's conventions for servers
//	client went away before the handler returned     canceled: not a failure of the service
//	client broke the body of its request             ignored
//	hijacked or switched (WebSocket), or endless     ignored: its duration is not a latency
//	everything else                                  success
//
// A callback that panics (see the options) leaves no slot behind, and its panic reaches the server.
//
// The criticality comes from the request header Guard-Criticality (critical, default, sheddable, background), the user
// or tenant from Guard-Key. A guarded caller sends both in Guard-Context, with the rank of its request and more, see package wire. A
// client that can set these headers can claim to be critical, or try keys until one is admitted: strip them at the edge, or
// use WithCriticality and WithKey with a trusted source, and WithTrust.
//
// On the way out, Transport guards the calls to a dependency:
//
//	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil)}
//
// One layer retries. It marks its requests with Guard-Attempt; a service that receives the mark passes the failures of
// its own calls up and hands the mark on. An answer with Guard-No-Retry is not retried. A guard that has been refusing
// for a second sends it, and so does a service whose request failed after a call with that answer, so that the hint
// reaches the layer that retries.
package guardhttp

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/loadreport"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// statusClientClosedRequest is nginx's code for a client that left before it got an answer. Only access logs see it.
const statusClientClosedRequest = 499

// Option changes how New treats requests.
type Option func(*handler)

// WithCriticality takes the criticality from a function of the request instead of the header: by route, by tenant, by
// authenticated client.
func WithCriticality(of func(*http.Request) guard.Criticality) Option {
	return func(h *handler) { h.criticality = of }
}

// WithKey takes the user or tenant from a function of the request instead of the header; "" means none. The function
// should not allocate: it also runs for requests that are refused.
func WithKey(of func(*http.Request) string) Option {
	return func(h *handler) { h.key = of }
}

// WithFailure replaces the rule for which status codes count as failures of the service (≥ 500).
func WithFailure(failed func(status int) bool) Option {
	return func(h *handler) { h.failed = failed }
}

// WithBypass lets matching requests through without a permit and without counting them: health checks and scrapes,
// which must work even when the service is full.
func WithBypass(match func(*http.Request) bool) Option {
	return func(h *handler) { h.bypass = match }
}

// WithEndless declares requests that last: event streams and long polls, by route. Such a request needs a slot to be
// admitted and gives it back at once; its latency and its end count for nothing. See guard.Permit.Endless. While as many as
// guard.Config.MaxEndless are open, it is refused. The function should not allocate: it also runs for requests that are refused.
func WithEndless(match func(*http.Request) bool) Option {
	return func(h *handler) { h.endless = match }
}

// WithTrust says whose Guard-Context is believed, where not all callers are guarded services of the same house. The others'
// is ignored, and their requests get a rank of their own here; their Guard-Criticality can only make a request less
// important, and their Guard-Key counts for nothing. All three are removed, for whoever is asked next; with WithCriticality
// or WithKey, what these headers mean is the host's business, and they stay. No answer to them carries a Guard-Answer, in its
// header or its trailer. Where a believed caller sends neither a rank nor a key, the rank comes from
// the trace id in its traceparent. Without this option everybody is believed, except in that: an edge that strips headers
// hardly ever strips traceparent.
func WithTrust(believed func(*http.Request) bool) Option {
	return func(h *handler) { h.believed = believed }
}

// WithRoute takes the name of what is asked for from a function of the request; it begins with a slash and is one of few.
// By default it is RouteOf: the first segment of the path, or the method of gRPC. With a router, its pattern is better:
// PatternOf where the guard is behind the router, PatternIn where a http.ServeMux is behind the guard, and PatternBy where
// another router is. "" means that it is not known. Requests that enter the fleet here carry it, after the name of the service, to all services that are called for them. The function should not
// allocate: it also runs for requests that are refused.
func WithRoute(of func(*http.Request) string) Option {
	return func(h *handler) { h.route = of }
}

// WithRefusalStatus sets the status of all refusals to 429 or 503, for balancers that take an instance that answers 503 for a
// broken one, or for clients that understand only one of the two. Without it, what the rate limit refuses is answered with
// 429, and all else with 503. Guard-Refused names the reason in any case, and by it Transport knows a refusal. Answers of
// gRPC stay as they are, and without this option unary calls of Connect are refused with 429, which stands for
// resource_exhausted there. It panics if the status is another one.
func WithRefusalStatus(status int) Option {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		panic("guardhttp: the status of a refusal is " + strconv.Itoa(status) + "; expected 429 or 503")
	}
	return func(h *handler) { h.refusal = status }
}

// New returns a handler that admits requests to next through g. A router is such a handler, whatever it is made of.
func New(g *guard.Guard, next http.Handler, options ...Option) http.Handler {
	return Middleware(g, options...)(next)
}

// Middleware is New for routers that take a middleware, for example chi's Use. All handlers that it makes share g.
func Middleware(g *guard.Guard, options ...Option) func(next http.Handler) http.Handler {
	h := handler{
		guard:   g,
		failed:  func(status int) bool { return status >= http.StatusInternalServerError },
		bypass:  func(*http.Request) bool { return false },
		endless: func(*http.Request) bool { return false },
		route:   RouteOf,
	}
	for _, o := range options {
		o(&h)
	}
	h.unbelieved = contextHeaders
	if h.criticality == nil {
		h.unbelieved = slices.Concat(h.unbelieved, criticalityHeaders)
	}
	if h.key == nil {
		h.unbelieved = slices.Concat(h.unbelieved, keyHeaders)
	}
	return func(next http.Handler) http.Handler {
		of := h
		of.next = next
		return &of
	}
}

type handler struct {
	guard       *guard.Guard
	next        http.Handler
	criticality func(*http.Request) guard.Criticality // nil: the headers say it
	key         func(*http.Request) string            // nil: the headers say it
	failed      func(int) bool
	bypass      func(*http.Request) bool
	endless     func(*http.Request) bool
	believed    func(*http.Request) bool // nil: everybody
	unbelieved  []string                 // headers of strangers that nobody else may believe
	route       func(*http.Request) string
	refusal     int                // the status of all refusals; 0: it depends on the reason
	report      *loadreport.Report // nil: none
}

// arrival is what r brings along; stranger: its headers are not believed.
func (h *handler) arrival(r *http.Request, stranger bool) (c wire.Context) {
	c = names.Arrival(func(name string) []string { return r.Header[name] }, stranger)
	c.Route = h.route(r)
	if h.criticality != nil {
		c.Criticality = h.criticality(r)
	}
	if h.key != nil {
		c.Key = h.key(r)
	}
	if h.believed != nil && !stranger {
		c.FollowTrace(r.Header[traceHeader])
	}
	return c
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	stranger := h.believed != nil && !h.believed(r)
	header := r.Header
	if stranger && claims(header, h.unbelieved) { // nobody behind this guard may take them for ours
		header = header.Clone()
		RemoveContext(header)
		for _, name := range h.unbelieved {
			delete(header, name)
		}
	}
	if h.bypass(r) {
		if stranger {
			h.pass(w, r, header)
		} else {
			h.next.ServeHTTP(w, r)
		}
		return
	}
	said := h.arrival(r, stranger)
	endless, admit := h.endless(r), h.guard.Admit
	if endless || announcesEndless(r) {
		admit = h.guard.AdmitEndless
	}
	permit, err := admit(asking(r), said.Arrival)
	if err != nil {
		h.refuse(w, r, said.Arrival, stranger, err)
		return
	}
	outcome := guard.Failure // if anything panics
	counts := false
	defer func() {
		permit.Release(outcome)
		if counts {
			h.report.Over()
		}
	}()
	if endless {
		permit.Endless()
		said.Left = 0
	} else {
		counts = true
		h.report.Admitted()
	}
	outer, cancel := withDeadline(r.Context(), r, said.Left)
	defer cancel()
	ctx := guard.NewContext(outer, permit)
	if said.Marked {
		guard.MarkAttempt(ctx, said.Attempt)
	}
	rec := &recorder{
		ResponseWriter: w, ctx: ctx, stranger: stranger, permit: permit, slo: permit.SLO(), windowed: r.ProtoMajor == 2,
		report: h.report, grpc: h.report != nil && IsGRPC(r),
	}
	returned := false
	inner := r.WithContext(ctx)
	inner.Header = header
	if r.Body != nil && r.Body != http.NoBody {
		rec.body = &requestBody{ReadCloser: r.Body, client: rec.waiter()}
		inner.Body = rec.body
	}
	defer func() {
		rec.client.End()
		if stranger {
			hush(rec.Header()) // what is left there becomes the trailer
		}
		// What the server (the files of a form) and outer handlers (the route) look for in the request they passed.
		r.Pattern, r.MultipartForm = inner.Pattern, inner.MultipartForm
		outcome = h.outcome(r, rec, returned)
	}()
	h.next.ServeHTTP(rec.as(), inner)
	returned = true
	if rec.status == 0 && !rec.hijacked { // the server answers for it
		rec.note(http.StatusOK)
	}
	rec.endReport()
}

// pass hands a stranger's request to the handler without a permit.
func (h *handler) pass(w http.ResponseWriter, r *http.Request, header http.Header) {
	inner := r.WithContext(r.Context())
	inner.Header = header
	rec := &recorder{
		ResponseWriter: w, ctx: context.Background(), stranger: true, slo: h.guard.SLO(), windowed: r.ProtoMajor == 2,
	}
	defer func() {
		rec.client.End()
		r.Pattern, r.MultipartForm = inner.Pattern, inner.MultipartForm
		hush(w.Header())
	}()
	h.next.ServeHTTP(rec.as(), inner)
}

// outcome judges a request whose handler has returned or panicked.
func (h *handler) outcome(r *http.Request, rec *recorder, returned bool) guard.Outcome {
	switch {
	case rec.hijacked || rec.status == http.StatusSwitchingProtocols || rec.body != nil && rec.body.broken.Load():
		return guard.Ignored
	case errors.Is(r.Context().Err(), context.Canceled):
		return guard.Canceled
	case !returned || h.failed(rec.code()):
		return guard.Failure
	case rec.code() == http.StatusOK && IsGRPC(r) && grpcFailed(grpcStatus(rec.Header())):
		return guard.Failure
	case rec.code() == http.StatusOK && rec.envelopes != nil && rec.envelopesFailed():
		return guard.Failure
	}
	return guard.Success
}

// asking returns the context that shows whether somebody waits for the answer. The server ends that of an HTTP/1 request
// when the client closes its sending side, and such a client may still be reading.
func asking(r *http.Request) context.Context {
	ctx := r.Context()
	if r.ProtoMajor == 1 && errors.Is(ctx.Err(), context.Canceled) {
		return context.Background()
	}
	return ctx
}

// refuse answers a request that was not admitted.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, said guard.Arrival, stranger bool, err error) {
	refusal, ok := errors.AsType[*guard.Refusal](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "the deadline of the request passed before the service had it", http.StatusServiceUnavailable)
		return
	default:
		w.WriteHeader(statusClientClosedRequest)
		return
	}
	// Nothing is allocated here, and the keys are canonical: refusing must stay far cheaper than serving.
	seconds := RetryAfterSeconds(refusal.RetryAfter(), rand.IntN)
	answer, header := refusedFor(refusal, seconds), w.Header()
	header["Retry-After"] = answer.retryAfter
	header[RefusedHeader] = answer.reason
	advice := h.guard.RefusalAdvice(said)
	advise(header, advice, true, stranger)
	if understandsGRPC(r) {
		h.refuseGRPC(w, r, answer, advice.NoRetry)
		return
	}
	header["X-Content-Type-Options"] = nosniff
	beginReport(h.report, header, false)
	if kind := connectOf(r); kind != notConnect {
		refuseConnect(w, r, kind, cmp.Or(h.refusal, http.StatusTooManyRequests), answer)
		return
	}
	status := http.StatusServiceUnavailable
	if answer.tooFast {
		status = http.StatusTooManyRequests
	}
	header["Content-Type"] = plainType
	w.WriteHeader(cmp.Or(h.refusal, status))
	w.Write(answer.text)
}

// refuseGRPC answers a request of gRPC. grpc-retry-pushback-ms is what gRPC's own retries obey (gRFC A6): negative, not to
// retry.
func (h *handler) refuseGRPC(w http.ResponseWriter, r *http.Request, answer *refused, hopeless bool) {
	header := w.Header()
	header["Grpc-Retry-Pushback-Ms"] = answer.pushback
	if hopeless {
		header["Grpc-Retry-Pushback-Ms"] = noPushback
	}
	header["Grpc-Status-Details-Bin"] = answer.details
	beginReport(h.report, header, IsGRPC(r))
	header["Content-Type"] = r.Header["Content-Type"]
	header["Grpc-Status"] = exhausted
	header["Grpc-Message"] = answer.message
	w.WriteHeader(http.StatusOK)
}

const (
	tooFull = "refused: the service is at its limit, try again later\n"
	tooFast = "refused: too many requests for now, try again later and more slowly\n"
)

// Values of headers in many answers, like those of refused.
var (
	plainType  = []string{"text/plain; charset=utf-8"}
	jsonType   = []string{"application/json"}
	nosniff    = []string{"nosniff"}
	exhausted  = []string{strconv.Itoa(GRPCResourceExhausted)}
	noPushback = []string{"-1"}
	noRetry    = []string{"1"}
)
