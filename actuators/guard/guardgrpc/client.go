package guardgrpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// ClientOption changes how the interceptors of a client treat calls.
type ClientOption func(*client)

// WithIdempotent says which methods, as "/shop.Cart/List", may be executed twice. By default none may: a call is retried only
// if it provably was not executed. The function must be safe for concurrent use.
func WithIdempotent(idempotent func(method string) bool) ClientOption {
	return func(c *client) { c.idempotent = idempotent }
}

// WithInstances gives the interceptor one connection for each instance of the dependency. The function is asked for each call
// and must be safe for concurrent use; the slice is only read. The connections are told apart by their targets and need no
// interceptors of this package. The interceptor then sends each attempt to one of them: to the one that took an earlier call
// of the same request, or else of two at random to the one with fewer calls in flight, and to none with an open breaker while
// there is another. What one refuses is tried once on another.
//
// Without it, or while the slice is empty, the call goes to the connection that it was made with. Which instance that
// connection chooses is the business of gRPC's balancer, which an interceptor cannot steer: the dependency has one breaker,
// and the calls of one request may come to several instances.
func WithInstances(connections func() []*grpc.ClientConn) ClientOption {
	return func(c *client) { c.connections = connections }
}

// WithoutContext is for a dependency outside the house: it is sent nothing of the guard's metadata (the key of a user is in it),
// not even what the call has already, and of what its answers advise, only the hint not to retry counts.
func WithoutContext() ClientOption { return func(c *client) { c.outside = true } }

// WithBaggage sends what guard-context says in a member of the call's W3C baggage, too, see guardhttp.WithBaggage.
func WithBaggage() ClientOption { return func(c *client) { c.baggage = true } }

// UnaryClientInterceptor returns an interceptor that makes unary calls through d.
//
// Each call passes deadline, retry, breaker and bulkhead, in this order. What they refuse comes back as an error that wraps a
// *guard.CallRefusal, and nothing was sent: to gRPC it is DEADLINE_EXCEEDED, or UNAVAILABLE. Everything else is the answer:
// when retries end, the last one. Make the call with the context of the inbound one (the interceptors of the server put the
// admitted call into it), so that the time of the call counts as waiting, and marks, hints and the rank pass through.
//
// Leave retries to this layer: with a retryPolicy in gRPC's service config, two layers retry.
//
// Outcomes:
//
//	no connection                                    failure; not executed, so any method may be retried
//	UNAVAILABLE                                      failure; retried if idempotent
//	UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
//	INTERNAL, DATA_LOSS                              failure; not retried
//	deadline passed                                  failure
//	RESOURCE_EXHAUSTED with guard-refused            refused by the callee: not a failure, and not executed; a reason of
//	                                                 a way out (breaker, …) is passed on: ignored
//	other RESOURCE_EXHAUSTED                         ignored
//	context canceled, or codes.Canceled              canceled: says nothing about the callee unless it was slow
//	everything else                                  success
//
// A retry needs everything listed at guard.Call.Retry, and waits at least as long as grpc-retry-pushback-ms or a
// google.rpc.RetryInfo says.
func UnaryClientInterceptor(d *guard.Dependency, options ...ClientOption) grpc.UnaryClientInterceptor {
	return newClient(d, options).unary
}

// StreamClientInterceptor returns an interceptor that makes streaming calls through d.
//
// A stream passes the same policies as a unary call and is never retried. It holds a slot of the bulkhead until its answer
// begins: with its first message, or with its header if the caller waits for that (grpc.ClientStream.Header). From then on
// its duration and its end count for nothing. So a service whose streams may say nothing for a while should send the header
// at once. A stream that ends before that is judged like a unary call.
//
// The call ends when gRPC says so (see grpc.ClientConn.NewStream): with an error of RecvMsg, with its context, or with its
// connection.
func StreamClientInterceptor(d *guard.Dependency, options ...ClientOption) grpc.StreamClientInterceptor {
	return newClient(d, options).stream
}

type client struct {
	dependency  *guard.Dependency
	idempotent  func(method string) bool
	connections func() []*grpc.ClientConn
	outside     bool
	baggage     bool
}

func newClient(d *guard.Dependency, options []ClientOption) *client {
	c := &client{
		dependency:  d,
		idempotent:  func(string) bool { return false },
		connections: func() []*grpc.ClientConn { return nil },
	}
	for _, o := range options {
		o(c)
	}
	return c
}

// unary is a grpc.UnaryClientInterceptor.
func (c *client) unary(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	call := c.start(ctx, conn, guard.CallOptions{Idempotent: c.idempotent(method)})
	defer call.GiveUp() // if a callback panics
	var last error
	for except := ""; ; {
		attempt, err := call.try(except)
		if err != nil {
			if last != nil {
				return last
			}
			return err
		}
		a := &answer{outside: c.outside}
		result := c.exchange(attempt, func() guard.Result {
			err = invoke(call.outgoing(), method, req, reply, call.conn, a.collect(options)...)
			return a.result(ctx, err)
		})
		if result.Outcome == guard.Success && !result.Refused {
			return err
		}
		retry, ok := call.Retry(rand.Float64(), result)
		if !ok {
			return err
		}
		last = err
		if err := wait.For(ctx, retry.Wait); err != nil {
			return status.FromContextError(err).Err()
		}
		except = ""
		if retry.Elsewhere {
			except = call.conn.Target()
		}
	}
}

// exchange sends one attempt. If send panics, the attempt still ends.
func (c *client) exchange(attempt guard.Attempt, send func() guard.Result) guard.Result {
	result := guard.Result{Outcome: guard.Failure}
	defer func() { attempt.Done(result) }()
	result = send()
	return result
}

// call is one call, and the connection for its next attempt.
type call struct {
	guard.Call
	*client
	ctx       context.Context
	instances []*grpc.ClientConn // none: only conn
	targets   []string
	conn      *grpc.ClientConn
	md        metadata.MD // of the caller
}

func (c *client) start(ctx context.Context, conn *grpc.ClientConn, o guard.CallOptions) *call {
	made := &call{client: c, ctx: ctx, conn: conn, instances: c.connections()}
	for _, instance := range made.instances {
		made.targets = append(made.targets, instance.Target())
	}
	made.md, _ = metadata.FromOutgoingContext(ctx)
	o.Inner, o.Instances = len(made.md[attemptKey]) > 0 || toldIn(made.md).Marked, len(made.targets)
	made.Call = c.dependency.Start(ctx, o)
	return made
}

// try asks for an attempt, on another connection than that with the target except if there is one.
func (c *call) try(except string) (guard.Attempt, error) {
	if len(c.targets) > 0 {
		c.pick(except)
	}
	attempt, err := c.Try(c.conn.Target())
	if errors.Is(err, guard.ErrBreakerOpen) && len(c.targets) > 1 { // somebody else took the place of the probe
		c.pick(c.conn.Target())
		attempt, err = c.Try(c.conn.Target())
	}
	if refusal, ok := errors.AsType[*guard.CallRefusal](err); ok {
		return attempt, callRefusal{refusal}
	}
	return attempt, err
}

func (c *call) pick(except string) {
	target := c.Pick(c.targets, except, rand.Float64())
	for i := range c.targets {
		if c.targets[i] == target {
			c.conn = c.instances[i]
			return
		}
	}
}

// outgoing returns the context of an attempt, with what it tells the callee.
func (c *call) outgoing() context.Context {
	md := c.md.Copy()
	if c.outside {
		removeAll(md)
	} else {
		c.tell(md)
	}
	if len(md) == 0 {
		return c.ctx
	}
	return metadata.NewOutgoingContext(c.ctx, md)
}

// tell makes md say what the call brings along. For a call that is made for no request, that is what md says itself.
func (c *call) tell(md metadata.MD) {
	said, known := wire.Context{}, false
	if said.Arrival, known = c.Arrival(); !known {
		said = toldIn(md).Lasting() // not what was said of other calls
	}
	if len(md[attemptKey]) == 0 {
		if mark, marked := c.Mark(c.ctx); marked {
			if known {
				said.Attempt, said.Marked = mark, true
			}
			md[attemptKey] = []string{strconv.Itoa(mark)}
		}
	}
	names.Set(md, said, c.baggage)
}

// answer is what comes back of one attempt, beside its messages.
type answer struct {
	header, trailer metadata.MD
	peer            peer.Peer
	outside         bool // nobody of the house answers
	finished        bool // by gRPC, which has then filled in the others as far as there are any
}

// collect returns the options of a call whose answer this is.
func (a *answer) collect(options []grpc.CallOption) []grpc.CallOption {
	return append(slices.Clip(options), grpc.Header(&a.header), grpc.Trailer(&a.trailer), grpc.Peer(&a.peer),
		grpc.OnFinish(func(error) { a.finished = true }))
}

// result judges the answer to a call with the context ctx that ended with err.
func (a *answer) result(ctx context.Context, err error) guard.Result {
	r := guard.Result{Outcome: guard.Success, Advice: a.advice()}
	if err == nil {
		return r
	}
	s := statusOf(err)
	switch code := s.Code(); {
	case errors.Is(ctx.Err(), context.Canceled), code == codes.Canceled:
		return guard.Result{Outcome: guard.Canceled}
	case code == codes.Unavailable && a.finished && a.peer.Addr == nil: // there was no connection
		return guard.Result{Outcome: guard.Failure, Unsent: true, Elsewhere: true}
	case code == codes.ResourceExhausted:
		reason := wire.Only(a.trailer[refusedKey])
		r.Outcome = guard.Ignored
		r.Refused = guardhttp.RefusedAtTheDoor(reason)
		r.Elsewhere = r.Refused && reason != guardhttp.RateReason
	case failed(code):
		r.Outcome = guard.Failure
		r.Final = code != codes.Unavailable
	default:
		return r
	}
	r.RetryAfter = a.retryAfter(s)
	return r
}

// advice is what the answer advises, in its header or its trailer.
func (a *answer) advice() guard.Advice {
	advice, last := adviceIn(a.header), adviceIn(a.trailer)
	advice.NoRetry = advice.NoRetry || last.NoRetry
	if a.outside {
		return guard.Advice{NoRetry: advice.NoRetry}
	}
	advice.Background = advice.Background || last.Background
	advice.Threshold = max(advice.Threshold, last.Threshold)
	return advice
}

// longestRetryAfter caps what a callee asks to wait.
const longestRetryAfter = time.Hour

// retryAfter is what the callee asks to wait, in the trailer or in the details of the status.
func (a *answer) retryAfter(s *status.Status) (longest time.Duration) {
	for _, value := range a.trailer[pushbackKey] {
		if milliseconds, err := strconv.ParseInt(value, 10, 32); err == nil {
			longest = max(longest, time.Duration(milliseconds)*time.Millisecond)
		}
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			longest = max(longest, info.GetRetryDelay().AsDuration())
		}
	}
	return min(longest, longestRetryAfter)
}

// callRefusal is a refusal by a way out, as an error of gRPC. Its code says nothing about the service that makes the call:
// the caller has not been served, and a service that passes it on has failed.
type callRefusal struct{ *guard.CallRefusal }

// Unwrap shows the refusal to errors.Is and errors.As.
func (r callRefusal) Unwrap() error { return r.CallRefusal }

// GRPCStatus is what status.FromError looks for.
func (r callRefusal) GRPCStatus() *status.Status {
	if errors.Is(r.CallRefusal, guard.ErrCallDeadline) {
		return status.New(codes.DeadlineExceeded, r.Error())
	}
	return status.New(codes.Unavailable, r.Error())
}

// stream is a grpc.StreamClientInterceptor.
func (c *client) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	call := c.start(ctx, conn, guard.CallOptions{OneShot: true})
	attempt, err := call.try("")
	if err != nil {
		return nil, err
	}
	s := &clientStream{call: call, attempt: attempt, answer: answer{outside: c.outside}}
	returned := false
	defer func() {
		if !returned {
			s.done(guard.Result{Outcome: guard.Failure})
		}
	}()
	options = append(s.answer.collect(options), grpc.OnFinish(s.end))
	s.ClientStream, err = open(call.outgoing(), desc, call.conn, method, options...)
	returned = true
	if err != nil {
		s.end(err)
		return nil, err
	}
	return s, nil
}

// clientStream is the stream of an admitted call.
type clientStream struct {
	grpc.ClientStream
	call   *call
	answer answer

	mu      sync.Mutex
	attempt guard.Attempt
	begun   bool // the answer
	over    bool
}

// Header implements grpc.ClientStream.
func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err == nil && md != nil {
		s.begin()
	}
	return md, err
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.begin()
	}
	return err
}

// begin notes that the answer has begun well.
func (s *clientStream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun && !s.over {
		s.begun = true
		s.attempt.Endless()
	}
}

// end ends the call. gRPC calls it once the stream has finished.
func (s *clientStream) end(err error) {
	s.done(s.answer.result(s.call.ctx, err))
}

func (s *clientStream) done(result guard.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	if result.Outcome == guard.Success && !s.begun {
		s.begun = true
		s.attempt.Endless()
	}
	if s.begun {
		result = guard.Result{Outcome: guard.Ignored, Advice: result.Advice}
	}
	s.attempt.Done(result)
	s.call.Retry(0, result) // never allowed: it passes the hint on
}
