package guardgrpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/loadreport"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/memo"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/patience"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// ServerOption changes how the interceptors of a server treat calls. The functions that options take get the context of the
// call, with its metadata and its peer, and its full method, as "/shop.Cart/Add". They must be safe for concurrent use.
type ServerOption func(*server)

// WithCriticality takes the criticality from a function of the call instead of the metadata.
func WithCriticality(of func(ctx context.Context, method string) guard.Criticality) ServerOption {
	return func(s *server) { s.criticality = of }
}

// WithKey takes the user or tenant from a function of the call instead of the metadata; "" means none. The function should
// not allocate: it also runs for calls that are refused.
func WithKey(of func(ctx context.Context, method string) string) ServerOption {
	return func(s *server) { s.key = of }
}

// WithRoute takes the name of what is asked for from a function of the call; it begins with a slash and is one of few. By
// default it is the full method. See guardhttp.WithRoute.
func WithRoute(of func(ctx context.Context, method string) string) ServerOption {
	return func(s *server) { s.route = of }
}

// WithTrust says whose guard-context is believed, where not all callers are guarded services of the same house. The others'
// is ignored and removed, and so is a key; their calls get a rank of their own here, may be less important than others but
// not more, and their answers say nothing of thresholds: guard-answer is removed from all metadata that the handler sets. (So
// grpc.SetSendCompressor, which wants gRPC's own stream, returns an error for them.) If a believed caller sends neither a rank nor
// a key, the rank comes from the trace id in its traceparent, see guardhttp.WithTrust.
func WithTrust(believed func(ctx context.Context, method string) bool) ServerOption {
	return func(s *server) { s.believed = believed }
}

// WithBypass lets matching calls through without a permit and without counting them: health checks and reflection, which
// must work even when the service is full.
func WithBypass(match func(ctx context.Context, method string) bool) ServerOption {
	return func(s *server) { s.bypass = match }
}

// WithEndless replaces the rule for which calls last, and give their slot back as soon as they are admitted. By default these
// are all streaming calls. While as many as guard.Config.MaxEndless are open, such a call is refused. A stream that is over as
// soon as its work is done, an export for instance, should hold its slot:
//
//	guardgrpc.WithEndless(func(_ context.Context, method string, streaming bool) bool {
//		return streaming && method != "/shop.Orders/Export"
//	})
func WithEndless(match func(ctx context.Context, method string, streaming bool) bool) ServerOption {
	return func(s *server) { s.endless = match }
}

// WithFailure replaces the rule for which codes count as failures of the service.
func WithFailure(failed func(codes.Code) bool) ServerOption {
	return func(s *server) { s.failed = failed }
}

// WithLoadReport makes the trailer of each answer, refusals included, tell the balancer how loaded this instance is (gRFC A51,
// ORCA): the report of guardhttp.WithLoadReport, which says what its figures are. Calls that last, and those that WithBypass
// matches, do not count. Pass one such option to both interceptors, so that they count together; it serves one guard. A
// handler should write no report of its own: there would be two. Leave the option out where strangers receive the answers.
func WithLoadReport() ServerOption {
	var once sync.Once
	var report *loadreport.Report
	return func(s *server) {
		once.Do(func() { report = loadreport.New(s.guard.Load) })
		s.report = report
	}
}

// UnaryServerInterceptor returns an interceptor that admits unary calls through g.
func UnaryServerInterceptor(g *guard.Guard, options ...ServerOption) grpc.UnaryServerInterceptor {
	s := newServer(g, options)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
		ctx, stranger := s.known(ctx, info.FullMethod)
		if s.bypass(ctx, info.FullMethod) {
			return handler(ctx, req)
		}
		err = s.serve(ctx, info.FullMethod, stranger, false, func(a admitted) error {
			reply, err = handler(a.ctx, req)
			s.answer(a, err, false)
			return err
		})
		return reply, err
	}
}

// StreamServerInterceptor returns an interceptor that admits streaming calls through g.
func StreamServerInterceptor(g *guard.Guard, options ...ServerOption) grpc.StreamServerInterceptor {
	s := newServer(g, options)
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, stranger := s.known(stream.Context(), info.FullMethod)
		if stranger {
			stream = hushedStream{stream}
		}
		if s.bypass(ctx, info.FullMethod) {
			return handler(srv, contextStream{stream, ctx})
		}
		return s.serve(ctx, info.FullMethod, stranger, true, func(a admitted) error {
			if a.endless {
				endless := &serverStream{ServerStream: stream, admitted: a}
				err := handler(srv, endless)
				s.answer(a, err, endless.begun)
				return err
			}
			bounded := &boundedStream{
				serverStream: serverStream{ServerStream: stream, admitted: a},
				client:       patience.New(a.permit, a.permit.SLO()),
			}
			defer bounded.client.End()
			err := handler(srv, bounded)
			s.answer(a, err, bounded.begun)
			return err
		})
	}
}

type server struct {
	guard       *guard.Guard
	criticality func(context.Context, string) guard.Criticality // nil: the metadata says it
	key         func(context.Context, string) string            // nil: the metadata says it
	route       func(context.Context, string) string
	believed    func(context.Context, string) bool // nil: everybody
	bypass      func(context.Context, string) bool
	endless     func(context.Context, string, bool) bool
	failed      func(codes.Code) bool
	refusals    memo.Map[refusalKind, refused]
	report      *loadreport.Report // nil: none
}

func newServer(g *guard.Guard, options []ServerOption) *server {
	s := &server{
		guard:   g,
		route:   func(_ context.Context, method string) string { return method },
		bypass:  func(context.Context, string) bool { return false },
		endless: func(_ context.Context, _ string, streaming bool) bool { return streaming },
		failed:  failed,
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// known says whether a stranger calls. If so, the context that it returns has no guard-context: nobody behind this guard may take
// it for ours.
func (s *server) known(ctx context.Context, method string) (_ context.Context, stranger bool) {
	if s.believed == nil || s.believed(ctx, method) {
		return ctx, false
	}
	ctx = withoutContext(ctx)
	if stream := grpc.ServerTransportStreamFromContext(ctx); stream != nil {
		ctx = grpc.NewContextWithServerTransportStream(ctx, hushedTransport{stream})
	}
	return ctx, true
}

// admitted is a call that has its permit.
type admitted struct {
	ctx      context.Context // of the handler
	permit   guard.Permit
	endless  bool
	stranger bool // calls
}

// serve admits a call and hands it to handle.
func (s *server) serve(
	outer context.Context, method string, stranger, streaming bool, handle func(admitted) error,
) (err error) {
	said := s.arrival(outer, method, stranger)
	endless, admit := s.endless(outer, method, streaming), s.guard.Admit
	if endless {
		admit = s.guard.AdmitEndless
	}
	permit, err := admit(outer, said.Arrival)
	if err != nil {
		return s.refuse(outer, said.Arrival, stranger, err)
	}
	outcome := guard.Failure // if anything panics
	counts := false
	defer func() {
		permit.Release(outcome)
		if counts {
			s.report.Over()
		}
	}()
	inner := outer
	if endless {
		permit.Endless()
		said.Left = 0
	} else {
		counts = true
		s.report.Admitted()
	}
	if _, ok := outer.Deadline(); !ok && said.Left > 0 {
		var cancel context.CancelFunc
		inner, cancel = context.WithTimeout(inner, said.Left)
		defer cancel()
	}
	inner = guard.NewContext(inner, permit)
	if said.Marked {
		guard.MarkAttempt(inner, said.Attempt)
	}
	returned := false
	defer func() {
		switch {
		case errors.Is(outer.Err(), context.Canceled):
			outcome = guard.Canceled
		case returned && !s.failed(codeOf(err)):
			outcome = guard.Success
		}
	}()
	err = handle(admitted{inner, permit, endless, stranger})
	returned = true
	s.reportTo(outer)
	return err
}

// reportTo adds the load report to the trailer of a call.
func (s *server) reportTo(ctx context.Context) {
	if s.report != nil {
		grpc.SetTrailer(ctx, metadata.MD{loadReportKey: {string(s.report.Binary())}})
	}
}

// arrival is what a call brings along; stranger: its metadata is not believed.
func (s *server) arrival(ctx context.Context, method string, stranger bool) (c wire.Context) {
	c = names.Arrival(func(key string) []string { return metadata.ValueFromIncomingContext(ctx, key) }, stranger)
	c.Route = s.route(ctx, method)
	if s.criticality != nil {
		c.Criticality = s.criticality(ctx, method)
	}
	if s.key != nil {
		c.Key = s.key(ctx, method)
	}
	if s.believed != nil && !stranger {
		c.FollowTrace(metadata.ValueFromIncomingContext(ctx, traceKey))
	}
	return c
}

// refuse answers a call that was not admitted.
func (s *server) refuse(ctx context.Context, arrival guard.Arrival, stranger bool, err error) error {
	refusal, ok := errors.AsType[*guard.Refusal](err)
	if !ok { // nobody waits any more
		return status.FromContextError(err).Err()
	}
	seconds := guardhttp.RetryAfterSeconds(refusal.RetryAfter(), rand.IntN)
	said := s.refusal(refusal, seconds)
	trailer := metadata.MD{refusedKey: said.reason, retryAfterKey: said.retryAfter, pushbackKey: said.pushback}
	advise(trailer, s.guard.RefusalAdvice(arrival), stranger)
	grpc.SetTrailer(ctx, trailer)
	s.reportTo(ctx)
	return said.err
}

// refused is what a refused caller is told. Its values of metadata go into many trailers and are never changed; each is full, so
// that what appends to one copies it.
type refused struct {
	reason, retryAfter, pushback []string
	err                          error
}

type refusalKind struct {
	reason  string
	seconds int
}

// refusal returns what asks a refused caller to wait. It keeps each, of which there are a few hundred at most, because making
// one costs more than everything else about a refusal.
func (s *server) refusal(refusal *guard.Refusal, seconds int) refused {
	of := refusalKind{refusal.Reason(), seconds}
	if known, ok := s.refusals.Load(of); ok {
		return known
	}
	said := status.New(codes.ResourceExhausted, refusal.Error())
	if detailed, err := said.WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(seconds) * time.Second)},
		&errdetails.ErrorInfo{Reason: strings.ToUpper(refusal.Reason()), Domain: ErrorDomain},
	); err == nil {
		said = detailed
	}
	r := refused{
		reason: []string{of.reason}, retryAfter: []string{strconv.Itoa(seconds)}, pushback: []string{strconv.Itoa(1000 * seconds)},
		err: said.Err(),
	}
	s.refusals.Store(of, r)
	return r
}

// answer puts what the answer to the call in ctx advises into the header of a good one, unless it has been sent, and into the
// trailer of a failed one. Where nothing has been sent, HTTP takes that trailer for the header.
func (s *server) answer(a admitted, err error, begun bool) {
	advice := guard.AdviceOf(a.ctx)
	code := codeOf(err)
	advice.NoRetry = advice.NoRetry && (s.failed(code) || code == codes.ResourceExhausted)
	if advice == (guard.Advice{}) {
		return
	}
	md := metadata.MD{}
	advise(md, advice, a.stranger)
	if err != nil || begun || grpc.SetHeader(a.ctx, md) != nil {
		grpc.SetTrailer(a.ctx, md)
	}
}

// contextStream is a stream with another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s contextStream) Context() context.Context { return s.ctx }

// hushedTransport is the transport of a call of a stranger: grpc.SetHeader, grpc.SendHeader and grpc.SetTrailer write to it.
type hushedTransport struct{ grpc.ServerTransportStream }

// SetHeader implements grpc.ServerTransportStream.
func (t hushedTransport) SetHeader(md metadata.MD) error {
	return t.ServerTransportStream.SetHeader(hush(md))
}

// SendHeader implements grpc.ServerTransportStream.
func (t hushedTransport) SendHeader(md metadata.MD) error {
	return t.ServerTransportStream.SendHeader(hush(md))
}

// SetTrailer implements grpc.ServerTransportStream.
func (t hushedTransport) SetTrailer(md metadata.MD) error {
	return t.ServerTransportStream.SetTrailer(hush(md))
}

// hushedStream is the stream of a call of a stranger.
type hushedStream struct{ grpc.ServerStream }

// SetHeader implements grpc.ServerStream.
func (s hushedStream) SetHeader(md metadata.MD) error { return s.ServerStream.SetHeader(hush(md)) }

// SendHeader implements grpc.ServerStream.
func (s hushedStream) SendHeader(md metadata.MD) error { return s.ServerStream.SendHeader(hush(md)) }

// SetTrailer implements grpc.ServerStream.
func (s hushedStream) SetTrailer(md metadata.MD) { s.ServerStream.SetTrailer(hush(md)) }

// serverStream is the stream of an admitted call. Its methods are as safe for concurrent use as those of grpc.ServerStream.
type serverStream struct {
	grpc.ServerStream
	admitted
	begun bool // the answer
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// begin adds to the header what the answer advises so far.
func (s *serverStream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	advice := guard.AdviceOf(s.ctx)
	advice.NoRetry = false // nothing has failed yet
	if advice != (guard.Advice{}) {
		md := metadata.MD{}
		advise(md, advice, s.stranger)
		s.SetHeader(md)
	}
}

// SendHeader implements grpc.ServerStream.
func (s *serverStream) SendHeader(md metadata.MD) error {
	s.begin()
	return s.ServerStream.SendHeader(md)
}

// SendMsg implements grpc.ServerStream.
func (s *serverStream) SendMsg(m any) error {
	s.begin()
	return s.ServerStream.SendMsg(m)
}

// boundedStream is the stream of a call that holds its slot until it ends, except while it waits for its client.
type boundedStream struct {
	serverStream
	client *patience.Client
}

// SendMsg implements grpc.ServerStream.
func (s *boundedStream) SendMsg(m any) error {
	s.client.Begin()
	s.client.BeginWrite(time.Now())
	defer s.client.EndWrite()
	return s.serverStream.SendMsg(m)
}

// RecvMsg implements grpc.ServerStream.
func (s *boundedStream) RecvMsg(m any) error {
	s.client.BeginRead()
	defer s.client.EndRead()
	return s.serverStream.RecvMsg(m)
}
