package guardgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// outcome is how an attempt ends in a test without a server.
type outcome struct {
	err     error
	trailer metadata.MD
	unsent  bool // no connection
}

// invoker ends its attempts with these outcomes, the last one repeated, and keeps what each was sent.
func invoker(sent *[]metadata.MD, outcomes ...outcome) grpc.UnaryInvoker {
	return func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, options ...grpc.CallOption) error {
		md, _ := metadata.FromOutgoingContext(ctx)
		*sent = append(*sent, md)
		o := outcomes[min(len(*sent), len(outcomes))-1]
		for _, option := range options {
			switch option := option.(type) {
			case grpc.TrailerCallOption:
				*option.TrailerAddr = o.trailer
			case grpc.PeerCallOption:
				if !o.unsent {
					option.PeerAddr.Addr = &net.TCPAddr{}
				}
			case grpc.OnFinishCallOption:
				option.OnFinish(o.err)
			}
		}
		return o.err
	}
}

// target returns a connection that is never used.
func target(t testing.TB, name string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+name, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func detailed(t *testing.T, code codes.Code, wait time.Duration) error {
	t.Helper()
	s, err := status.New(code, "x").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// Each row of the table of outcomes.
func TestOutcomesOfClient(t *testing.T) {
	live := t.Context()
	canceled, cancel := context.WithCancel(live)
	cancel()
	late, cancel := context.WithTimeout(live, 0)
	defer cancel()
	refusedFor := func(reason string) metadata.MD { return metadata.Pairs(refusedKey, reason) }
	atTheDoor := guard.Result{Outcome: guard.Ignored, Refused: true, Elsewhere: true}
	type row struct {
		name string
		ctx  context.Context
		outcome
		want guard.Result
	}
	rows := []row{
		{"success", live, outcome{}, guard.Result{}},
		{"no connection", live, outcome{err: status.Error(codes.Unavailable, "x"), unsent: true}, guard.Result{Outcome: guard.Failure, Unsent: true, Elsewhere: true}},
		{"deadline while there is none", late, outcome{err: status.Error(codes.DeadlineExceeded, "x"), unsent: true}, guard.Result{Outcome: guard.Failure, Final: true}},
		{"no connection, and the deadline has passed", late, outcome{err: status.Error(codes.Unavailable, "x"), unsent: true}, guard.Result{Outcome: guard.Failure, Unsent: true, Elsewhere: true}},
		{"credentials", live, outcome{err: status.Error(codes.Unauthenticated, "x"), unsent: true}, guard.Result{}},
		{"unavailable", live, outcome{err: status.Error(codes.Unavailable, "x")}, guard.Result{Outcome: guard.Failure}},
		{"an error without a code", live, outcome{err: io.ErrUnexpectedEOF}, guard.Result{Outcome: guard.Failure, Final: true}},
		{"deadline", late, outcome{err: status.Error(codes.DeadlineExceeded, "x")}, guard.Result{Outcome: guard.Failure, Final: true}},
		{"canceled", canceled, outcome{err: status.Error(codes.Unavailable, "x")}, guard.Result{Outcome: guard.Canceled}},
		{"concurrency", live, outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: refusedFor("concurrency")}, atTheDoor},
		{"shed", live, outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: refusedFor("shed")}, atTheDoor},
		{"rate", live, outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: refusedFor("rate")}, guard.Result{Outcome: guard.Ignored, Refused: true}},
		{"a way out", live, outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: refusedFor("breaker")}, guard.Result{Outcome: guard.Ignored}},
		{"exhausted", live, outcome{err: status.Error(codes.ResourceExhausted, "x")}, guard.Result{Outcome: guard.Ignored}},
		{"two reasons", live, outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: metadata.Pairs(refusedKey, "shed", refusedKey, "rate")}, guard.Result{Outcome: guard.Ignored}},
		{"a reason of another code", live, outcome{err: status.Error(codes.NotFound, "x"), trailer: refusedFor("shed")}, guard.Result{}},
		{"pushback", live, outcome{err: status.Error(codes.Unavailable, "x"), trailer: metadata.Pairs(pushbackKey, "1500")}, guard.Result{Outcome: guard.Failure, RetryAfter: 1500 * time.Millisecond}},
		{"no pushback", live, outcome{err: status.Error(codes.Unavailable, "x"), trailer: metadata.Pairs(pushbackKey, "-1")}, guard.Result{Outcome: guard.Failure, Advice: guard.Advice{NoRetry: true}}},
		{"pushback that is none", live, outcome{err: status.Error(codes.Unavailable, "x"), trailer: metadata.Pairs(pushbackKey, "soon")}, guard.Result{Outcome: guard.Failure, Advice: guard.Advice{NoRetry: true}}},
		{"RetryInfo", live, outcome{err: detailed(t, codes.Unavailable, 3*time.Second)}, guard.Result{Outcome: guard.Failure, RetryAfter: 3 * time.Second}},
		{"RetryInfo for ages", live, outcome{err: detailed(t, codes.Unavailable, math.MaxInt64)}, guard.Result{Outcome: guard.Failure, RetryAfter: time.Hour}},
		{"negative RetryInfo", live, outcome{err: detailed(t, codes.Unavailable, -time.Hour)}, guard.Result{Outcome: guard.Failure}},
		{"hint", live, outcome{err: status.Error(codes.Internal, "x"), trailer: metadata.Pairs(noRetryKey, "")}, guard.Result{Outcome: guard.Failure, Final: true, Advice: guard.Advice{NoRetry: true}}},
		{"advice", live, outcome{trailer: metadata.Pairs(answerKey, "background;threshold=200000001")}, guard.Result{Advice: guard.Advice{Background: true, Threshold: 2<<32 | 1}}},
		{"two advices", live, outcome{trailer: metadata.Pairs(answerKey, "background", answerKey, "background")}, guard.Result{}},
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if c == codes.Unavailable || c == codes.ResourceExhausted {
			continue
		}
		r := row{c.String(), live, outcome{err: status.Error(c, "x")}, guard.Result{}}
		switch c {
		case codes.Canceled:
			r.want.Outcome = guard.Canceled
		case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.DataLoss:
			r.want = guard.Result{Outcome: guard.Failure, Final: true}
		}
		rows = append(rows, r)
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			a := &answer{}
			var sent []metadata.MD
			err := invoker(&sent, r.outcome)(r.ctx, unaryCall, nil, nil, nil, a.collect(nil)...)
			if got := a.result(r.ctx, err); got != r.want {
				t.Errorf("%+v, expected %+v", got, r.want)
			}
		})
	}
}

// An interceptor below this one that fails without calling gRPC proves nothing: the call may have been sent.
func TestUnavailableIsNotUnsent(t *testing.T) {
	a := &answer{}
	if r := a.result(t.Context(), status.Error(codes.Unavailable, "x")); r.Unsent {
		t.Errorf("%+v", r)
	}
}

// What the header and the trailer advise counts together.
func TestAdviceOfHeaderAndTrailer(t *testing.T) {
	a := &answer{header: metadata.Pairs(answerKey, "threshold=200000001"), trailer: metadata.Pairs(answerKey, "background;threshold=100000001")}
	if got, want := a.advice(), (guard.Advice{Background: true, Threshold: 2<<32 | 1}); got != want {
		t.Errorf("%+v, expected %+v", got, want)
	}
}

// Which calls are retried, how they are marked, and what comes back at the end.
func TestRetries(t *testing.T) {
	unavailable := outcome{err: status.Error(codes.Unavailable, "x")}
	unsent := outcome{err: status.Error(codes.Unavailable, "x"), unsent: true}
	internal := outcome{err: status.Error(codes.Internal, "x")}
	refused := outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: metadata.Pairs(refusedKey, "concurrency", pushbackKey, "2000")}
	hopeless := outcome{err: status.Error(codes.ResourceExhausted, "x"), trailer: metadata.Pairs(refusedKey, "concurrency", pushbackKey, "-1")}
	for name, tc := range map[string]struct {
		idempotent bool
		outcomes   []outcome
		deadline   time.Duration
		attempts   int
		code       codes.Code
		least      time.Duration
	}{
		"success":                           {true, []outcome{{}}, 0, 1, codes.OK, 0},
		"a failure, then success":           {true, []outcome{unavailable, {}}, 0, 2, codes.OK, 0},
		"three failures":                    {true, []outcome{unavailable}, 0, 3, codes.Unavailable, 0},
		"a failure that may have been done": {false, []outcome{unavailable, {}}, 0, 1, codes.Unavailable, 0},
		"a failure that is final":           {true, []outcome{internal, {}}, 0, 1, codes.Internal, 0},
		"not sent":                          {false, []outcome{unsent, {}}, 0, 2, codes.OK, 0},
		"refused":                           {false, []outcome{refused, {}}, 0, 2, codes.OK, 2 * time.Second},
		"refused, and no time for a retry":  {false, []outcome{refused, {}}, 1500 * time.Millisecond, 1, codes.ResourceExhausted, 0},
		"refused, and told not to retry":    {true, []outcome{hopeless, {}}, 0, 1, codes.ResourceExhausted, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, "front", 10)
				d := g.Dependency("back")
				conn := target(t, "back")
				defer conn.Close()
				ctx := t.Context()
				if tc.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.deadline)
					defer cancel()
				}
				var sent []metadata.MD
				started := time.Now()
				err := UnaryClientInterceptor(d, WithIdempotent(func(string) bool { return tc.idempotent }))(
					ctx, unaryCall, nil, nil, conn, invoker(&sent, tc.outcomes...))
				if status.Code(err) != tc.code || len(sent) != tc.attempts {
					t.Errorf("%v after %d attempts, expected %v after %d", err, len(sent), tc.code, tc.attempts)
				}
				if took := time.Since(started); took < tc.least {
					t.Errorf("after %v, expected at least %v", took, tc.least)
				}
				for i, md := range sent {
					want := ""
					if tc.idempotent {
						want = strconv.Itoa(i)
					}
					if got := wire.Only(md[attemptKey]); got != want {
						t.Errorf("attempt %d is marked %q", i, got)
					}
				}
				idle(t, g)
			})
		})
	}
}

// A call that carries a mark is retried by a layer further out, and the mark of the request goes on.
func TestMarkGoesOn(t *testing.T) {
	unavailable := outcome{err: status.Error(codes.Unavailable, "x")}
	g := newGuard(t, "front", 10)
	d := g.Dependency("back")
	intercept := UnaryClientInterceptor(d, WithIdempotent(func(string) bool { return true }))
	for name, mark := range map[string]func(ctx context.Context) context.Context{
		"by the caller": func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, attemptKey, "7")
		},
		"of the request": func(ctx context.Context) context.Context {
			p, err := g.Acquire(ctx, guard.Default)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Release(guard.Ignored)
			ctx = guard.NewContext(ctx, p)
			guard.MarkAttempt(ctx, 7)
			return ctx
		},
	} {
		var sent []metadata.MD
		err := intercept(mark(t.Context()), unaryCall, nil, nil, target(t, "back"), invoker(&sent, unavailable))
		if status.Code(err) != codes.Unavailable || len(sent) != 1 || wire.Only(sent[0][attemptKey]) != "7" {
			t.Errorf("%s: %v, sent %v", name, err, sent)
		}
	}
}

// A context that the caller has set gives way to that of the request.
func TestOneContextIsSent(t *testing.T) {
	g := newGuard(t, "front", 10)
	p, err := g.Admit(t.Context(), guard.Arrival{Criticality: guard.Sheddable, Key: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(guard.Ignored)
	ctx := metadata.AppendToOutgoingContext(guard.NewContext(t.Context(), p), contextKey, "crit=critical", "x-own", "1")
	var sent []metadata.MD
	if err := UnaryClientInterceptor(g.Dependency("back"))(ctx, unaryCall, nil, nil, target(t, "back"), invoker(&sent, outcome{})); err != nil {
		t.Fatal(err)
	}
	if c := contextOf(sent[0]); c.Criticality != guard.Sheddable || c.Key != "ann" || !c.Rank.Drawn || wire.Only(sent[0]["x-own"]) != "1" {
		t.Errorf("sent %v", sent)
	}
}

// What a call says of the request for which it is made, beside and in place of what its metadata says already.
func TestWhatACallTells(t *testing.T) {
	g := newGuard(t, "front", 10)
	p, err := g.Admit(t.Context(), guard.Arrival{Criticality: guard.Sheddable, Key: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(guard.Ignored)
	request := guard.NewContext(t.Context(), p)
	copied := []string{contextKey, "crit=critical;key=bob;attempt=3", alikeKey, "crit=critical", baggageKey, "x=1,guard-context=crit%3Dcritical", "x-own", "1"}
	for name, tc := range map[string]struct {
		ctx     context.Context
		md      []string
		options []ClientOption
		key     string
		crit    guard.Criticality
		baggage string // of a member x, and whether there is one of ours
		ours    bool
	}{
		"nothing":                 {t.Context(), nil, nil, "", guard.Default, "", false},
		"a request":               {request, nil, nil, "ann", guard.Sheddable, "", false},
		"baggage by option":       {request, nil, []ClientOption{WithBaggage()}, "ann", guard.Sheddable, "", true},
		"in place of what is old": {request, copied, nil, "ann", guard.Sheddable, "x=1", true},
		"copied for no request":   {t.Context(), copied, nil, "bob", guard.Critical, "x=1", true},
		"outside":                 {request, copied, []ClientOption{WithoutContext(), WithBaggage()}, "", guard.Default, "x=1", false},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []metadata.MD
			ctx := metadata.AppendToOutgoingContext(tc.ctx, tc.md...)
			unavailable := outcome{err: status.Error(codes.Unavailable, "x")}
			idempotent := WithIdempotent(func(string) bool { return name == "copied for no request" })
			UnaryClientInterceptor(g.Dependency("back"), append(tc.options, idempotent)...)(
				ctx, unaryCall, nil, nil, target(t, "back"), invoker(&sent, unavailable))
			if len(sent) != 1 { // the mark in guard-context says that a layer further out retries
				t.Fatalf("%d attempts", len(sent))
			}
			md := sent[0]
			if c := contextOf(md); c.Key != tc.key || c.Criticality != tc.crit || len(md[contextKey]) > 1 || len(md[alikeKey]) > 0 {
				t.Errorf("sent %v", md)
			}
			baggage := wire.Only(md[baggageKey])
			if c := wire.ParseContext(wire.FromBaggage(md[baggageKey])); tc.ours && c.Key != tc.key || wire.InBaggage(md[baggageKey]) != tc.ours ||
				!strings.HasPrefix(baggage, tc.baggage) {
				t.Errorf("sent %v", md)
			}
			if own := wire.Only(md["x-own"]); own != "" && own != "1" || (own == "") != (tc.md == nil) {
				t.Errorf("sent %v", md)
			}
			if name == "outside" {
				for key := range md {
					if strings.HasPrefix(key, "guard") {
						t.Errorf("a stranger is sent %s", key)
					}
				}
			}
		})
	}
}

// What is refused before it is sent is an error of guard, and has a code for gRPC.
func TestRefusalsOfTheWayOut(t *testing.T) {
	g := newGuard(t, "front", 10)
	conn := target(t, "back")
	full := g.Dependency("full", guard.MaxCalls(1))
	held := full.Start(t.Context(), guard.CallOptions{})
	if _, err := held.Try("x"); err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	var sent []metadata.MD
	open := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		t.Error("opened")
		return nil, nil
	}
	for _, tc := range []struct {
		ctx  context.Context
		d    *guard.Dependency
		want error
		code codes.Code
	}{
		{t.Context(), full, guard.ErrBulkhead, codes.Unavailable},
		{late, g.Dependency("late"), guard.ErrCallDeadline, codes.DeadlineExceeded},
	} {
		unary := UnaryClientInterceptor(tc.d)(tc.ctx, unaryCall, nil, nil, conn, invoker(&sent, outcome{}))
		_, streaming := StreamClientInterceptor(tc.d)(tc.ctx, &grpc.StreamDesc{}, conn, duplexCall, open)
		for _, err := range []error{unary, streaming} {
			refusal, ok := errors.AsType[*guard.CallRefusal](err)
			if !errors.Is(err, tc.want) || !ok || refusal.Dependency() != tc.d.Name() || status.Code(err) != tc.code {
				t.Errorf("%v, expected %v and %v", err, tc.want, tc.code)
			}
			if code := codeOf(fmt.Errorf("cart: %w", err)); code != tc.code {
				t.Errorf("passed on as %v", code)
			}
		}
	}
	if len(sent) > 0 {
		t.Errorf("%d sent", len(sent))
	}
}

// An open breaker refuses at once, and the hint not to retry goes up with what the handler makes of it.
func TestOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, "front", 10)
		conn := target(t, "back")
		defer conn.Close()
		call := UnaryClientInterceptor(g.Dependency("back"))
		var sent []metadata.MD
		failing := invoker(&sent, outcome{err: status.Error(codes.Internal, "x")})
		var err error
		for range 100 {
			if err = call(t.Context(), unaryCall, nil, nil, conn, failing); errors.Is(err, guard.ErrBreakerOpen) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if status.Code(err) != codes.Unavailable || len(sent) == 100 {
			t.Fatalf("%v after %d calls", err, len(sent))
		}
		p, _ := g.Acquire(t.Context(), guard.Default)
		defer p.Release(guard.Ignored)
		ctx := guard.NewContext(t.Context(), p)
		if err := call(ctx, unaryCall, nil, nil, conn, failing); !errors.Is(err, guard.ErrBreakerOpen) || !guard.AdviceOf(ctx).NoRetry {
			t.Errorf("%v, advice %+v", err, guard.AdviceOf(ctx))
		}
	})
}

// A panic below the interceptors ends the attempt and goes on.
func TestPanicEndsTheAttempt(t *testing.T) {
	g := newGuard(t, "front", 10)
	d := g.Dependency("back")
	conn := target(t, "back")
	for n, call := range []func(){
		func() {
			UnaryClientInterceptor(d)(t.Context(), unaryCall, nil, nil, conn,
				func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { panic("broken") })
		},
		func() {
			StreamClientInterceptor(d)(t.Context(), &grpc.StreamDesc{}, conn, duplexCall,
				func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
					panic("broken")
				})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		}()
		if s := idle(t, g).Calls[0]; s.Failures != uint64(n+1) {
			t.Errorf("%d failures", s.Failures)
		}
	}
}

// A refusal by a real server counts as such, unary or stream; so does a server that is not there.
func TestCallsToServers(t *testing.T) { synctest.Test(t, testCallsToServers) }

func testCallsToServers(t *testing.T) {
	full := newGuard(t, "back", 1)
	if _, err := full.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	fullReach, _ := serve(t, full, &service{})
	nobody := grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") })
	for name, tc := range map[string]struct {
		reach             grpc.DialOption
		code              codes.Code
		refused, failures uint64 // of each attempt
		stream            bool
	}{
		"full":           {fullReach, codes.ResourceExhausted, 1, 0, false},
		"full, stream":   {fullReach, codes.ResourceExhausted, 1, 0, true},
		"nobody":         {nobody, codes.Unavailable, 0, 1, false},
		"nobody, stream": {nobody, codes.Unavailable, 0, 1, true},
	} {
		g := newGuard(t, "front", 10)
		conn := dial(t, tc.reach, g.Dependency("back"))
		// So short that a refusal, with a wait of a second, is not retried. Nobody there is known at once.
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		call := ask
		if tc.stream {
			call = stream
		}
		if err := call(ctx, conn); status.Code(err) != tc.code {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		s := idle(t, g).Calls[0]
		if s.Attempts == 0 || s.CalleeRefusals != s.Attempts*tc.refused || s.Failures != s.Attempts*tc.failures || s.Requests != 1 {
			t.Errorf("%s: %+v", name, s)
		}
		if !tc.stream && tc.failures > 0 && s.Retries == 0 { // not executed
			t.Errorf("%s: no retry", name)
		}
	}
}

// With instances, a refusal by one is tried on another at once, and the calls of one request stay together.
func TestInstances(t *testing.T) {
	full, free := newGuard(t, "back", 1), newGuard(t, "back", 100)
	if _, err := full.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	var conns []*grpc.ClientConn
	served := make([]*service, 3)
	for i, g := range []*guard.Guard{full, free, newGuard(t, "back", 100)} {
		served[i] = &service{}
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer(grpc.ChainUnaryInterceptor(UnaryServerInterceptor(g)))
		testpb.RegisterTestServiceServer(server, served[i])
		go server.Serve(l)
		t.Cleanup(server.Stop)
		conn, err := grpc.NewClient("passthrough:///instance-"+strconv.Itoa(i), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	g := newGuard(t, "front", 100)
	conn := dial(t, grpc.EmptyDialOption{}, g.Dependency("back"), WithInstances(func() []*grpc.ClientConn { return conns }))
	const requests, calls = 40, 4
	for range requests {
		p, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		ctx := guard.NewContext(t.Context(), p)
		before := []int{len(served[1].heard), len(served[2].heard)}
		for range calls {
			if err := ask(ctx, conn); err != nil {
				t.Fatal(err)
			}
		}
		if got := []int{len(served[1].heard) - before[0], len(served[2].heard) - before[1]}; !slices.Contains(got, calls) {
			t.Errorf("the calls of one request went to %v", got)
		}
		p.Release(guard.Success)
	}
	s := idle(t, g).Calls[0]
	if len(served[0].heard) > 0 || s.CalleeRefusals == 0 || s.Retries != s.CalleeRefusals || s.Breakers["closed"] != 3 {
		t.Errorf("%+v", s)
	}
}

// A stream holds a slot until its answer begins.
func TestSlotOfAStream(t *testing.T) {
	for _, tc := range []struct {
		name   string
		header bool // begins the answer
		server error
		begun  bool
		failed bool
	}{
		{"a message, and a failure later", false, status.Error(codes.Internal, "x"), true, false},
		{"a header", true, nil, true, false},
		{"a failure at once", false, status.Error(codes.Internal, "x"), false, true},
		{"nothing", false, nil, false, false},
	} {
		proceed, end := make(chan struct{}), make(chan struct{})
		reach, _ := serve(t, nil, &service{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			<-proceed
			switch {
			case tc.header:
				s.SendHeader(nil)
			case tc.begun:
				s.Send(&testpb.StreamingOutputCallResponse{})
			}
			<-end
			return tc.server
		}})
		g := newGuard(t, "front", 10)
		d := g.Dependency("back")
		s, err := testpb.NewTestServiceClient(dial(t, reach, d)).FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := g.Snapshot().Calls[0].InFlight; n != 1 {
			t.Errorf("%s: %d in flight before the answer", tc.name, n)
		}
		close(proceed)
		if tc.begun {
			if tc.header {
				_, err = s.Header()
			} else {
				_, err = s.Recv()
			}
			if n := g.Snapshot().Calls[0].InFlight; err != nil || n != 0 {
				t.Errorf("%s: %v, %d in flight", tc.name, err, n)
			}
		}
		close(end)
		for err == nil {
			_, err = s.Recv()
		}
		if got := idle(t, g).Calls[0]; got.Failures != count(tc.failed) || got.Latency.Count != 0 {
			t.Errorf("%s: %d failures, %d latencies", tc.name, got.Failures, got.Latency.Count)
		}
	}
}

// The hint in the failure of a stream goes up to the request for which it was opened.
func TestHintOfAStream(t *testing.T) {
	for _, hinted := range []bool{false, true} {
		reach, _ := serve(t, nil, &service{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			if hinted {
				s.SetTrailer(metadata.Pairs(noRetryKey, "1"))
			}
			return status.Error(codes.Internal, "x")
		}})
		g := newGuard(t, "front", 10)
		p, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		ctx := guard.NewContext(t.Context(), p)
		if err := stream(ctx, dial(t, reach, g.Dependency("back"))); status.Code(err) != codes.Internal {
			t.Errorf("%v", err)
		}
		if guard.AdviceOf(ctx).NoRetry != hinted {
			t.Errorf("hinted %v: advice %+v", hinted, guard.AdviceOf(ctx))
		}
		p.Release(guard.Ignored)
		idle(t, g)
	}
}

// An upload ends with its one answer.
func TestUpload(t *testing.T) {
	reach, _ := serve(t, newGuard(t, "back", 10), &service{})
	g := newGuard(t, "front", 10)
	s, err := testpb.NewTestServiceClient(dial(t, reach, g.Dependency("back"))).StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if got := idle(t, g).Calls[0]; got.Failures != 0 || got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}

// No call is left behind, whoever goes away: the context of a stream that nobody reads, its connection, or the server.
func TestNothingIsLeftBehind(t *testing.T) {
	for name, leave := range map[string]func(cancel context.CancelFunc, conn *grpc.ClientConn, server *grpc.Server, s grpc.ClientStream){
		"canceled": func(cancel context.CancelFunc, _ *grpc.ClientConn, _ *grpc.Server, _ grpc.ClientStream) { cancel() },
		"closed":   func(_ context.CancelFunc, conn *grpc.ClientConn, _ *grpc.Server, _ grpc.ClientStream) { conn.Close() },
		"server gone": func(_ context.CancelFunc, _ *grpc.ClientConn, server *grpc.Server, s grpc.ClientStream) {
			go server.Stop()
			s.RecvMsg(&testpb.StreamingOutputCallResponse{})
		},
	} {
		for _, begun := range []bool{false, true} {
			back, front := newGuard(t, "back", 10), newGuard(t, "front", 10)
			reach, server := serve(t, back, &service{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
				if begun {
					s.Send(&testpb.StreamingOutputCallResponse{})
				}
				<-s.Context().Done()
				return s.Context().Err()
			}})
			conn := dial(t, reach, front.Dependency("back"))
			ctx, cancel := context.WithCancel(t.Context())
			s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if begun {
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			waittest.Until(t, "the call is there", func() bool { return back.Snapshot().EndlessDeclared == 1 })
			leave(cancel, conn, server, s)
			if n := idle(t, front).Calls[0].Failures; n != count(name == "server gone" && !begun) {
				t.Errorf("%s, begun %v: %d failures", name, begun, n)
			}
			idle(t, back)
			cancel()
		}
	}
}
