package guardgrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
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

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

var errPanic = status.Error(codes.Internal, "panic")

// Each row of the table of outcomes.
func TestOutcomesOfServer(t *testing.T) {
	type row struct {
		name    string
		err     error
		code    codes.Code
		failure bool
	}
	rows := []row{
		{"success", nil, codes.OK, false},
		{"an error without a code", errors.New("broken"), codes.Unknown, true},
		{"a wrapped error with a code", fmt.Errorf("no: %w", status.Error(codes.NotFound, "x")), codes.NotFound, false},
		{"an error of a context", fmt.Errorf("no: %w", context.DeadlineExceeded), codes.DeadlineExceeded, true},
		{"a cancellation of its own", context.Canceled, codes.Canceled, false},
		{"a code that is none", status.Error(99, "x"), 99, true},
	}
	failures := map[codes.Code]bool{
		codes.Unknown: true, codes.DeadlineExceeded: true, codes.Unimplemented: true, codes.Internal: true,
		codes.Unavailable: true, codes.DataLoss: true,
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		rows = append(rows, row{c.String(), status.Error(c, "x"), c, failures[c]})
	}
	for _, bounded := range []bool{false, true} {
		g := newGuard(t, "back", 10)
		s := &service{}
		reach, _ := serve(t, g, s, WithEndless(func(context.Context, string, bool) bool { return false }))
		conn := dial(t, reach, nil)
		for i, r := range rows {
			s.unary = func(context.Context) error { return r.err }
			s.duplex = func(testpb.TestService_FullDuplexCallServer) error { return r.err }
			before := g.Snapshot()
			var err error
			if bounded {
				err = stream(t.Context(), conn)
			} else {
				err = ask(t.Context(), conn)
			}
			if status.Code(err) != r.code {
				t.Errorf("%s: %v", r.name, err)
			}
			after := idle(t, g)
			if got := after.Failed - before.Failed; got != count(r.failure) {
				t.Errorf("stream %v, %s: failed %d", bounded, r.name, got)
			}
			if after.Latency.Count != uint64(i+1) {
				t.Errorf("stream %v, %s: %d latencies", bounded, r.name, after.Latency.Count)
			}
		}
	}
}

func count(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// stream makes a streaming call and returns how it ended; nil: well.
func stream(ctx context.Context, conn *grpc.ClientConn, options ...grpc.CallOption) error {
	s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx, options...)
	if err != nil {
		return err
	}
	s.CloseSend()
	for {
		if _, err = s.Recv(); err != nil {
			return statusOfEnd(err)
		}
	}
}

// A handler that panics has failed, and the panic reaches what is around the interceptors.
func TestPanicReleasesThePermit(t *testing.T) {
	g := newGuard(t, "back", 10)
	reach, _ := serve(t, g, &service{
		unary:  func(context.Context) error { panic("unary") },
		duplex: func(testpb.TestService_FullDuplexCallServer) error { panic("stream") },
	}, WithEndless(func(context.Context, string, bool) bool { return false }))
	conn := dial(t, reach, nil)
	for n, call := range []func() error{
		func() error { return ask(t.Context(), conn) }, func() error { return stream(t.Context(), conn) },
	} {
		if err := call(); status.Code(err) != codes.Internal {
			t.Errorf("%v", err)
		}
		if s := idle(t, g); s.Failed != uint64(n+1) {
			t.Errorf("%d failures", s.Failed)
		}
	}
}

// A callback that panics after the admission leaves no slot behind.
func TestPanicOfAnOptionReleasesThePermit(t *testing.T) {
	g := newGuard(t, "back", 10)
	reach, _ := serve(t, g, &service{}, WithEndless(func(context.Context, string, bool) bool { panic("endless") }))
	if err := ask(t.Context(), dial(t, reach, nil)); status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
	idle(t, g)
}

// A client that goes away has canceled: no failure, and no permit stays behind.
func TestClientGoesAway(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		g := newGuard(t, "back", 10)
		entered := make(chan struct{})
		wait := func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			return status.Error(codes.Internal, "given up")
		}
		reach, _ := serve(t, g, &service{
			unary:  wait,
			duplex: func(s testpb.TestService_FullDuplexCallServer) error { return wait(s.Context()) },
		}, WithEndless(func(context.Context, string, bool) bool { return false }))
		conn := dial(t, reach, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			if streaming {
				ended <- stream(ctx, conn)
			} else {
				ended <- ask(ctx, conn)
			}
		}()
		<-entered
		cancel()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Errorf("%v", err)
		}
		if s := idle(t, g); s.Failed != 0 || s.Admitted[guard.Default] != 1 {
			t.Errorf("stream %v: %d failed of %v", streaming, s.Failed, s.Admitted)
		}
	}
}

// Nobody waits for the answer to a call whose context has ended: it counts for nothing.
func TestCallThatHasEnded(t *testing.T) {
	g := newGuard(t, "back", 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := UnaryServerInterceptor(g)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: unaryCall},
		func(context.Context, any) (any, error) { t.Error("served"); return nil, nil })
	if s := g.Snapshot(); status.Code(err) != codes.Canceled || s.Offered[guard.Default] != 0 {
		t.Errorf("%v, %v offered", err, s.Offered)
	}
}

// observer notes in which context the guard decides, and when the request ends.
type observer struct{ arrived, finished, called []any }

type callKey struct{}

func (o *observer) Arrived(ctx context.Context, _ guard.Decision) {
	o.arrived = append(o.arrived, ctx.Value(callKey{}))
}

func (o *observer) Finished(ctx context.Context, _ string, _ time.Duration) {
	o.finished = append(o.finished, ctx.Value(callKey{}))
}

func (o *observer) Called(ctx context.Context, _ guard.CallDecision) {
	o.called = append(o.called, ctx.Value(callKey{}))
}

// An observer hears of calls, in and out, with their context, which has the span of otelgrpc.
func TestObserverHasTheContextOfTheCall(t *testing.T) {
	o := new(observer)
	g, err := guard.New(guard.Config{Service: "back", SLO: time.Second, Observer: o})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), callKey{}, "span")
	_, err = UnaryServerInterceptor(g)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: unaryCall},
		func(context.Context, any) (any, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := UnaryClientInterceptor(g.Dependency("deep"))(ctx, unaryCall, nil, nil, conn,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := []any{"span"}
	if !slices.Equal(o.arrived, want) || !slices.Equal(o.finished, want) || !slices.Equal(o.called, want) {
		t.Errorf("%+v", o)
	}
}

// A refusal says why, how long to wait, and after a second of refusing, not to come back.
func TestRefusal(t *testing.T) {
	now := time.Now()
	elapsed := atomic.Int64{}
	clock := func() time.Time { return now.Add(time.Duration(elapsed.Load())) }
	g, err := guard.New(guard.Config{Service: "back", SLO: time.Second, Min: 4, Max: 4, ShedThreshold: 0.5, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{}
	reach, _ := serve(t, g, s)
	conn := dial(t, reach, nil)
	var permits []guard.Permit
	fill := func(n int) {
		for range n {
			p, err := g.Acquire(t.Context(), guard.Critical)
			if err != nil {
				t.Fatal(err)
			}
			permits = append(permits, p)
		}
	}
	refused := func(ctx context.Context, reason string, hopeless bool) {
		t.Helper()
		for _, call := range []func(context.Context, *grpc.ClientConn, ...grpc.CallOption) error{ask, stream} {
			var header, trailer metadata.MD
			err := call(ctx, conn, grpc.Header(&header), grpc.Trailer(&trailer))
			st := status.Convert(err)
			if st.Code() != codes.ResourceExhausted || len(st.Details()) != 2 {
				t.Fatalf("%v", err)
			}
			info, ok := st.Details()[1].(*errdetails.ErrorInfo)
			if !ok || info.GetDomain() != ErrorDomain || info.GetReason() != map[string]string{
				"concurrency": "CONCURRENCY", "rate": "RATE", "shed": "SHED",
			}[reason] {
				t.Errorf("%v", st.Details())
			}
			retry, _ := st.Details()[0].(*errdetails.RetryInfo)
			seconds := int(retry.GetRetryDelay().GetSeconds())
			if seconds < 1 || seconds > 3 || wire.Only(trailer[retryAfterKey]) != strconv.Itoa(seconds) {
				t.Errorf("%v, %v", retry, trailer)
			}
			pushback := strconv.Itoa(1000 * seconds)
			if hopeless {
				pushback = "-1"
			}
			if wire.Only(trailer[pushbackKey]) != pushback || wire.Only(trailer[refusedKey]) != reason || adviceIn(trailer).NoRetry != hopeless {
				t.Errorf("trailer %v, expected the reason %s and the pushback %s", trailer, reason, pushback)
			}
		}
	}
	fill(3)
	refused(metadata.AppendToOutgoingContext(t.Context(), contextKey, "rank=00000000;crit=background"), "shed", false)
	fill(1)
	refused(t.Context(), "concurrency", false)
	for range 5 {
		elapsed.Add(int64(300 * time.Millisecond))
		g.RefusalAdvice(guard.Arrival{})
	}
	refused(t.Context(), "concurrency", true)
	if len(s.heard) != 0 {
		t.Errorf("the handler has had %d calls", len(s.heard))
	}
	for _, p := range permits {
		p.Release(guard.Ignored)
	}
	elapsed.Add(int64(time.Minute))
	raw, err := actuators.Setting{
		Schema: 1, Service: "back", Epoch: 1, Revision: 1, LeaseSeconds: 180,
		Rate: &actuators.Rate{PerSecond: 1, Burst: 1, Instances: 1, Fallback: 1e6, Max: 1e6},
	}.Encode()
	if err := errors.Join(err, g.Apply(raw), ask(t.Context(), conn)); err != nil {
		t.Fatal(err)
	}
	refused(t.Context(), "rate", false)
}

// At its bound, a service takes no more streams, and serves unary calls.
func TestStreamsAreBounded(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "back", SLO: time.Second, Min: 10, Max: 10, MaxEndless: 1})
	if err != nil {
		t.Fatal(err)
	}
	finish := make(chan struct{})
	reach, _ := serve(t, g, &service{duplex: func(testpb.TestService_FullDuplexCallServer) error {
		<-finish
		return nil
	}})
	conn := dial(t, reach, nil)
	_, err = testpb.NewTestServiceClient(conn).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "a stream is open", func() bool { return g.Snapshot().EndlessDeclared == 1 })
	var trailer metadata.MD
	if err := stream(t.Context(), conn, grpc.Trailer(&trailer)); status.Code(err) != codes.ResourceExhausted ||
		!slices.Equal(trailer[refusedKey], []string{"endless"}) {
		t.Errorf("a second stream: %v, %v", err, trailer)
	}
	if err := ask(t.Context(), conn); err != nil {
		t.Errorf("a unary call: %v", err)
	}
	close(finish)
	waittest.Until(t, "it has ended", func() bool { return g.Snapshot().EndlessDeclared == 0 })
	if err := stream(t.Context(), conn); err != nil {
		t.Errorf("a stream after it: %v", err)
	}
}

// A streaming call holds no slot unless WithEndless says so, and then none while it waits for its client.
func TestStreamsAndSlots(t *testing.T) {
	for _, endless := range []bool{true, false} {
		g, err := guard.New(guard.Config{Service: "back", SLO: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		work := make(chan struct{})
		s := &service{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			if _, err := s.Recv(); err != nil { // it waits for its client
				return err
			}
			<-work // of its own
			return s.Send(&testpb.StreamingOutputCallResponse{})
		}}
		var options []ServerOption
		if !endless {
			options = append(options, WithEndless(func(_ context.Context, method string, streaming bool) bool {
				return streaming && method != duplexCall
			}))
		}
		reach, _ := serve(t, g, s, options...)
		call, err := testpb.NewTestServiceClient(dial(t, reach, nil)).FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, "the call is admitted and holds no slot", func() bool {
			s := g.Snapshot()
			return s.Admitted[guard.Default] == 1 && s.InFlight == 0
		})
		if err := call.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if !endless {
			waittest.Until(t, "it holds a slot while it works", func() bool { return g.Snapshot().InFlight == 1 })
		}
		close(work)
		if _, err := call.Recv(); err != nil {
			t.Fatal(err)
		}
		if got := idle(t, g); got.EndlessDeclaredTotal != count(endless) || got.Latency.Count != count(!endless) {
			t.Errorf("endless %v: %d declared, %d latencies", endless, got.EndlessDeclaredTotal, got.Latency.Count)
		}
	}
}

// Options that say who calls win over metadata, which wins over guard-context.
func TestWhatACallBringsAlong(t *testing.T) {
	md := func(pairs ...string) metadata.MD { return metadata.Pairs(pairs...) }
	const context1 = "rank=80000000;crit=sheddable;key=bob;api=front%2Fbuy;attempt=2"
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, tc := range map[string]struct {
		md      metadata.MD
		options []ServerOption
		want    guard.Arrival
		placed  bool // where guard-context says
		marked  bool
		attempt int
	}{
		"nothing":  {want: guard.Arrival{Criticality: guard.Default, Entry: "back" + unaryCall}},
		"context":  {md: md(contextKey, context1), want: guard.Arrival{Criticality: guard.Sheddable, Key: "bob", Entry: "front/buy"}, placed: true, marked: true, attempt: 2},
		"two":      {md: md(contextKey, context1, contextKey, context1), want: guard.Arrival{Criticality: guard.Default, Entry: "back" + unaryCall}},
		"metadata": {md: md(contextKey, context1, criticalityKey, "critical", keyKey, "ann", attemptKey, "1"), want: guard.Arrival{Criticality: guard.Critical, Key: "ann", Entry: "front/buy"}, placed: true, marked: true, attempt: 1},
		"a strange mark": {
			md: md(attemptKey, "-5"), want: guard.Arrival{Criticality: guard.Default, Entry: "back" + unaryCall}, marked: true,
		},
		"options": {
			md: md(contextKey, context1, criticalityKey, "critical", keyKey, "ann"),
			options: []ServerOption{
				WithCriticality(func(context.Context, string) guard.Criticality { return guard.Background }),
				WithKey(func(ctx context.Context, method string) string { return method }),
				WithRoute(func(context.Context, string) string { return "/x" }),
			},
			want: guard.Arrival{Criticality: guard.Background, Key: unaryCall, Entry: "front/buy"}, placed: true, marked: true, attempt: 2,
		},
		"baggage": {
			md:   md(baggageKey, "x=1,guard-context="+url.QueryEscape(context1)),
			want: guard.Arrival{Criticality: guard.Sheddable, Key: "bob", Entry: "front/buy"}, placed: true, marked: true, attempt: 2,
		},
		"baggage beside a context": {
			md:   md(contextKey, "crit=critical", baggageKey, "guard-context="+url.QueryEscape(context1)),
			want: guard.Arrival{Criticality: guard.Critical, Entry: "back" + unaryCall},
		},
		"a trace of somebody believed": {
			md:      md(traceKey, trace),
			options: []ServerOption{WithTrust(func(context.Context, string) bool { return true })},
			want:    guard.Arrival{Criticality: guard.Default, Entry: "back" + unaryCall},
		},
		"a stranger who matters less": {
			md:      md(criticalityKey, "background"),
			options: []ServerOption{WithTrust(func(context.Context, string) bool { return false })},
			want:    guard.Arrival{Criticality: guard.Background, Entry: "back" + unaryCall},
		},
		"a stranger": {
			md: md(contextKey, context1, criticalityKey, "critical", keyKey, "ann", traceKey, trace), options: []ServerOption{
				WithTrust(func(context.Context, string) bool { return false }),
				WithRoute(func(context.Context, string) string { return "/x" }),
			},
			want: guard.Arrival{Criticality: guard.Default, Entry: "back/x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, "back", 10)
			s := &service{unary: func(ctx context.Context) error {
				a, ok := guard.OriginOf(ctx)
				place := a.Rank.Place
				if a.Rank = (guard.Rank{}); !ok || a != tc.want || (place == 0x80000000) != tc.placed {
					t.Errorf("%+v at %08x, expected %+v", a, place, tc.want)
				}
				if attempt, marked := guard.AttemptOf(ctx); marked != tc.marked || attempt != tc.attempt {
					t.Errorf("attempt %d, %v", attempt, marked)
				}
				return nil
			}}
			reach, _ := serve(t, g, s, tc.options...)
			if err := ask(metadata.NewOutgoingContext(t.Context(), tc.md), dial(t, reach, nil)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A bypassed call is served by a full service and counts for nothing.
func TestBypass(t *testing.T) {
	g := newGuard(t, "back", 1)
	if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	reach, _ := serve(t, g, &service{}, WithBypass(func(context.Context, string) bool { return true }))
	conn := dial(t, reach, nil)
	if err := errors.Join(ask(t.Context(), conn), stream(t.Context(), conn)); err != nil {
		t.Error(err)
	}
	if s := g.Snapshot(); s.Offered[guard.Default] != 1 {
		t.Errorf("%v offered", s.Offered)
	}
}

// WithFailure decides which codes are failures.
func TestWithFailure(t *testing.T) {
	g := newGuard(t, "back", 10)
	s := &service{}
	reach, _ := serve(t, g, s, WithFailure(func(c codes.Code) bool { return c == codes.NotFound }))
	conn := dial(t, reach, nil)
	for _, c := range []codes.Code{codes.NotFound, codes.Internal} {
		s.unary = func(context.Context) error { return status.Error(c, "x") }
		if err := ask(t.Context(), conn); status.Code(err) != c {
			t.Fatal(err)
		}
	}
	if s := idle(t, g); s.Failed != 1 {
		t.Errorf("%d failures", s.Failed)
	}
}

// Each answer reports the load, of unary calls and bounded streams together, and not of endless ones.
func TestLoadReport(t *testing.T) { synctest.Test(t, testLoadReport) } // all of it in the first second

func testLoadReport(t *testing.T) {
	g := newGuard(t, "back", 4)
	for range 2 {
		if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
			t.Fatal(err)
		}
	}
	s := &service{}
	endless := false
	reach, _ := serve(t, g, s, WithLoadReport(), WithEndless(func(context.Context, string, bool) bool { return endless }))
	conn := dial(t, reach, nil)
	for name, call := range map[string]func(context.Context, *grpc.ClientConn, ...grpc.CallOption) error{
		"unary": ask, "stream": stream,
	} {
		for _, tc := range []struct {
			endless bool
			full    int // more requests
			err     error
			want    float64
		}{
			{false, 0, nil, 0.75},
			{false, 0, status.Error(codes.NotFound, "x"), 0.75},
			{true, 0, nil, 0.5},
			{false, 2, status.Error(codes.ResourceExhausted, ""), 1},
		} {
			endless = tc.endless
			s.unary = func(context.Context) error { return tc.err }
			s.duplex = func(testpb.TestService_FullDuplexCallServer) error { return tc.err }
			var permits []guard.Permit
			for range tc.full {
				p, err := g.Acquire(t.Context(), guard.Default)
				if err != nil {
					t.Fatal(err)
				}
				permits = append(permits, p)
			}
			var trailer metadata.MD
			if err := call(t.Context(), conn, grpc.Trailer(&trailer)); status.Code(err) != status.Code(tc.err) {
				t.Fatal(err)
			}
			// The message has one field, application_utilization = 9, a double: the rate is known after a second only.
			report := wire.Only(trailer[loadReportKey])
			if len(report) != 9 || report[0] != 9<<3|1 ||
				math.Float64frombits(binary.LittleEndian.Uint64([]byte(report[1:]))) != tc.want {
				t.Errorf("%s, %+v: trailer %v", name, tc, trailer)
			}
			for _, p := range permits {
				p.Release(guard.Ignored)
			}
			waittest.Until(t, "the call is over", func() bool { return g.Snapshot().InFlight == 2 })
		}
	}
	endless, s.unary, s.duplex = false, nil, nil
	time.Sleep(2 * time.Second)
	for range 6 {
		if err := errors.Join(ask(t.Context(), conn), stream(t.Context(), conn)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second)
	var trailer metadata.MD
	if err := ask(t.Context(), conn, grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	// Now rps_fractional = 6 comes first: the first of the twelve calls has begun the window, this one has ended it.
	report := wire.Only(trailer[loadReportKey])
	if len(report) != 18 || report[0] != 6<<3|1 {
		t.Fatalf("trailer %v", trailer)
	}
	if rate := math.Float64frombits(binary.LittleEndian.Uint64([]byte(report[1:]))); math.Abs(rate-12.0/2) > 0.1 {
		t.Errorf("%v requests per second", rate)
	}
}

// The deadline is gRPC's own. Without one, the time left in guard-context counts, but not for what lasts.
func TestDeadline(t *testing.T) {
	const left = 10 * time.Second
	for name, tc := range map[string]struct {
		timeout time.Duration // of gRPC; 0: none
		says    string
		most    time.Duration // 0: no deadline
	}{
		"none":                    {},
		"left":                    {says: "left=10000", most: left},
		"gRPC's":                  {timeout: left, most: left},
		"gRPC's beside a later":   {timeout: left, says: "left=1000000", most: left},
		"gRPC's beside a sooner":  {timeout: left, says: "left=1", most: left},
		"a left that is nonsense": {says: "left=-1"},
	} {
		check := func(ctx context.Context, most time.Duration) error {
			deadline, ok := ctx.Deadline()
			if remains := time.Until(deadline); ok != (most > 0) || ok && (remains > most || remains < most/2) {
				return status.Errorf(codes.Internal, "%s: %v remains, has a deadline %v", name, remains, ok)
			}
			return nil
		}
		g := newGuard(t, "back", 10)
		reach, _ := serve(t, g, &service{
			unary: func(ctx context.Context) error { return check(ctx, tc.most) },
			duplex: func(s testpb.TestService_FullDuplexCallServer) error {
				if tc.timeout == 0 {
					return check(s.Context(), 0)
				}
				return check(s.Context(), tc.most)
			},
		})
		conn := dial(t, reach, nil)
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if tc.timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, tc.timeout)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, contextKey, tc.says)
		if err := errors.Join(ask(ctx, conn), stream(ctx, conn)); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// The hint not to retry goes up with a failure, and with nothing else.
func TestHintOfAnAnswer(t *testing.T) {
	down := errors.New("the backend is down")
	for _, tc := range []struct {
		err  error
		want bool
	}{{nil, false}, {status.Error(codes.NotFound, "x"), false}, {down, true}, {status.Error(codes.ResourceExhausted, "x"), true}} {
		g := newGuard(t, "front", 10)
		d := g.Dependency("back")
		hinted := func(ctx context.Context) error {
			call := d.Start(ctx, guard.CallOptions{})
			call.Retry(0, guard.Result{Outcome: guard.Failure, Advice: guard.Advice{NoRetry: true}})
			return tc.err
		}
		reach, _ := serve(t, g, &service{
			unary:  hinted,
			duplex: func(s testpb.TestService_FullDuplexCallServer) error { return hinted(s.Context()) },
		})
		conn := dial(t, reach, nil)
		for name, call := range map[string]func(context.Context, *grpc.ClientConn, ...grpc.CallOption) error{
			"unary": ask, "stream": stream,
		} {
			var header, trailer metadata.MD
			if err := call(t.Context(), conn, grpc.Header(&header), grpc.Trailer(&trailer)); (err == nil) != (tc.err == nil) {
				t.Fatal(err)
			}
			if got := adviceIn(trailer).NoRetry; got != tc.want || adviceIn(header).NoRetry {
				t.Errorf("%s, %v: header %v, trailer %v", name, tc.err, header, trailer)
			}
			if tc.want && wire.Only(trailer[pushbackKey]) != noPushback {
				t.Errorf("%s: no pushback in %v", name, trailer)
			}
		}
	}
}

// Calls belong to a route by their full method.
func TestCallsOfARoute(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "back", SLO: 10 * time.Millisecond, Routes: map[string]guard.Route{
		"reports": {SLO: 10 * time.Second, Requests: []string{testpb.TestService_UnaryCall_FullMethodName}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := &service{duplex: func(testpb.TestService_FullDuplexCallServer) error { return nil }}
	reach, _ := serve(t, g, s, WithEndless(func(context.Context, string, bool) bool { return false }))
	conn := dial(t, reach, nil)
	for range 2 {
		if err := ask(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	last := idle(t, g)
	if rest, of := last.Admitted[guard.Default], last.Routes[0].Admitted[guard.Default]; rest != 1 || of != 2 {
		t.Errorf("%d and %d admitted", rest, of)
	}
}

// transportStream takes the trailer of a call and drops it.
type transportStream struct{ grpc.ServerTransportStream }

func (transportStream) SetTrailer(metadata.MD) error { return nil }

// A refusal allocates its trailer, and else nothing of its own.
func TestAllocationsOfARefusal(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "back", SLO: time.Second, Min: 1, Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Acquire(t.Context(), guard.Critical); err != nil {
		t.Fatal(err)
	}
	ctx := grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(t.Context(), metadata.MD{}), transportStream{})
	intercept, info := UnaryServerInterceptor(g), &grpc.UnaryServerInfo{FullMethod: unaryCall}
	n := testing.AllocsPerRun(1000, func() {
		if _, err := intercept(ctx, nil, info, nil); status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	})
	if t.Logf("%v allocations", n); n > 2 {
		t.Errorf("%v allocations", n)
	}
}
