package guardgrpc

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// The keys of metadata are what guardhttp calls its headers, as HTTP/2 writes them.
func TestKeysAreTheHeadersOfHTTP(t *testing.T) {
	for _, key := range []string{contextKey, answerKey, refusedKey, criticalityKey, keyKey, attemptKey, noRetryKey, retryAfterKey, pushbackKey} {
		if key != strings.ToLower(key) || http.CanonicalHeaderKey(key) == key {
			t.Errorf("%q is no key of metadata", key)
		}
	}
}

// caller calls a service twice for each of its own requests.
func caller(conn *grpc.ClientConn) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := ask(ctx, conn); err != nil {
			return err
		}
		return ask(ctx, conn)
	}
}

// travels checks what the services behind have been told of one request of front.
func travels(t *testing.T, entry string, all ...[]wire.Context) {
	t.Helper()
	first := all[0][0]
	if !first.Rank.Drawn || first.Criticality != guard.Critical || first.Key != "alice" || first.Entry != entry {
		t.Fatalf("told %+v", first)
	}
	for _, told := range all {
		for i, c := range told {
			want := first
			want.Rank.Again = i%2 == 1
			want.Marked = c.Marked // by an HTTP client that may retry
			if c != want {
				t.Errorf("call %d: told %+v, expected %+v", i, c, want)
			}
		}
	}
}

// A request has one rank, criticality, key and entry in all services, and its later calls say that they continue.
func TestRankTravels(t *testing.T) {
	back := &service{}
	reach, _ := serve(t, newGuard(t, "back", 10), back)
	middleGuard := newGuard(t, "middle", 10)
	middle := &service{unary: caller(dial(t, reach, middleGuard.Dependency("back")))}
	reach, _ = serve(t, middleGuard, middle)
	frontGuard := newGuard(t, "front", 10)
	front := &service{unary: caller(dial(t, reach, frontGuard.Dependency("middle")))}
	reach, _ = serve(t, frontGuard, front)

	ctx := metadata.AppendToOutgoingContext(t.Context(), criticalityKey, "critical", keyKey, "alice")
	if err := ask(ctx, dial(t, reach, nil)); err != nil {
		t.Fatal(err)
	}
	if len(middle.heard) != 2 || len(back.heard) != 4 {
		t.Fatalf("middle has had %d calls, back %d", len(middle.heard), len(back.heard))
	}
	travels(t, "front"+unaryCall, middle.contexts(t), back.contexts(t))
}

// serveHTTP serves a handler over HTTP/2 without TLS.
func serveHTTP(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func dialTCP(t *testing.T, address string, d *guard.Dependency) *grpc.ClientConn {
	t.Helper()
	return dial(t, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}), d)
}

// HTTP → gRPC → HTTP → gRPC over net/http: both bindings say and understand the same.
func TestRankTravelsBetweenHTTPAndGRPC(t *testing.T) {
	// back is a gRPC service behind guardhttp.
	back := &service{}
	backServer := grpc.NewServer()
	testpb.RegisterTestServiceServer(backServer, back)
	t.Cleanup(backServer.Stop)
	backAddress := serveHTTP(t, guardhttp.New(newGuard(t, "back", 10), backServer))

	// store is an HTTP service that calls back.
	storeGuard := newGuard(t, "store", 10)
	callBack := caller(dialTCP(t, backAddress, storeGuard.Dependency("back")))
	var mu sync.Mutex
	var toldStore []wire.Context
	store := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		toldStore = append(toldStore, wire.ParseContext(r.Header.Get(guardhttp.ContextHeader)))
		mu.Unlock()
		guardhttp.New(storeGuard, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := callBack(r.Context()); err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
			}
		})).ServeHTTP(w, r)
	}))

	// middle is a gRPC service that calls store.
	middleGuard := newGuard(t, "middle", 10)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	client := &http.Client{Transport: guardhttp.Transport(middleGuard.Dependency("store"), base)}
	middle := &service{unary: func(ctx context.Context) error {
		for range 2 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+store, http.NoBody)
			if err != nil {
				return err
			}
			answer, err := client.Do(req)
			if err != nil {
				return err
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return status.Error(codes.Unavailable, answer.Status)
			}
		}
		return nil
	}}
	reach, _ := serve(t, middleGuard, middle)

	// front is an HTTP service that calls middle.
	frontGuard := newGuard(t, "front", 10)
	callMiddle := caller(dial(t, reach, frontGuard.Dependency("middle")))
	front := serveHTTP(t, guardhttp.New(frontGuard, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := callMiddle(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front+"/buy/7", http.NoBody)
	req.Header = http.Header{guardhttp.CriticalityHeader: {"critical"}, guardhttp.KeyHeader: {"alice"}}
	answer, err := base.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || len(middle.heard) != 2 || len(toldStore) != 4 || len(back.heard) != 8 {
		t.Fatalf("%s; middle has had %d calls, store %d, back %d", answer.Status, len(middle.heard), len(toldStore), len(back.heard))
	}
	travels(t, "front/buy", middle.contexts(t), toldStore, back.contexts(t))
	for _, c := range back.contexts(t) {
		if !c.Marked {
			t.Error("the mark of middle's client has not come to back")
		}
	}
}

// A client behind guardgrpc understands a refusal by guardhttp, and one behind guardhttp a refusal by guardgrpc.
func TestRefusalsBetweenHTTPAndGRPC(t *testing.T) {
	full := newGuard(t, "back", 1)
	if _, err := full.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	s := &service{}
	plain := grpc.NewServer()
	testpb.RegisterTestServiceServer(plain, s)
	t.Cleanup(plain.Stop)
	behindHTTP := serveHTTP(t, guardhttp.New(full, plain))
	guarded := grpc.NewServer(grpc.ChainUnaryInterceptor(UnaryServerInterceptor(full)))
	testpb.RegisterTestServiceServer(guarded, s)
	t.Cleanup(guarded.Stop)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go guarded.Serve(l)

	front := newGuard(t, "front", 10)
	ctx := metadata.AppendToOutgoingContext(t.Context(), attemptKey, "0") // not to be retried here
	if err := ask(ctx, dialTCP(t, behindHTTP, front.Dependency("http"))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}

	base := &http.Transport{Protocols: new(http.Protocols)}
	base.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(base.CloseIdleConnections)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+unaryCall,
		strings.NewReader("\x00\x00\x00\x00\x00"))
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, guardhttp.AttemptHeader: {"0"}}
	answer, err := guardhttp.Transport(front.Dependency("grpc"), base).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.Header.Get("Grpc-Status") != "8" || answer.Header.Get(guardhttp.RefusedHeader) != "concurrency" ||
		!slices.Contains([]string{"1", "2", "3"}, answer.Header.Get("Retry-After")) {
		t.Errorf("%v", answer.Header)
	}
	for _, c := range idle(t, front).Calls {
		if c.CalleeRefusals != 1 || c.Failures != 0 {
			t.Errorf("%s: %d refusals, %d failures", c.To, c.CalleeRefusals, c.Failures)
		}
	}
	if len(s.heard) > 0 {
		t.Errorf("the service has had %d calls", len(s.heard))
	}
}

// A unary call in memory, bare and with the interceptors of one side or both. The client makes it for a request, whose rank it
// hands on. Compare within one run:
//
//	go test -run - -bench Unary -benchmem -count 5 .
func BenchmarkUnary(b *testing.B) {
	for name, with := range map[string]struct{ server, client bool }{
		"bare": {}, "server": {server: true}, "client": {client: true}, "both": {true, true},
	} {
		b.Run(name, func(b *testing.B) {
			var g *guard.Guard
			var d *guard.Dependency
			ctx := b.Context()
			if with.server {
				g = newGuard(b, "back", 1000)
			}
			if with.client {
				front := newGuard(b, "front", 1000)
				d = front.Dependency("back", guard.MaxCalls(1000))
				p, err := front.Acquire(ctx, guard.Default)
				if err != nil {
					b.Fatal(err)
				}
				defer p.Release(guard.Ignored)
				ctx = guard.NewContext(ctx, p)
			}
			reach, _ := serve(b, g, quiet{})
			benchmark(ctx, b, dial(b, reach, d), codes.OK)
		})
	}
	b.Run("refused", func(b *testing.B) {
		g := newGuard(b, "back", 1)
		if _, err := g.Acquire(b.Context(), guard.Default); err != nil {
			b.Fatal(err)
		}
		reach, _ := serve(b, g, quiet{})
		benchmark(b.Context(), b, dial(b, reach, nil), codes.ResourceExhausted)
	})
}

// A refusal and an admission without the network around them.
func BenchmarkServerInterceptor(b *testing.B) {
	info := &grpc.UnaryServerInfo{FullMethod: unaryCall}
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs("user-agent", "test", ":authority", "back"))
	for name, full := range map[string]bool{"admitted": false, "refused": true} {
		g := newGuard(b, "back", 1)
		if full {
			if _, err := g.Acquire(ctx, guard.Default); err != nil {
				b.Fatal(err)
			}
		}
		intercept := UnaryServerInterceptor(g)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				intercept(ctx, nil, info, func(context.Context, any) (any, error) { return nil, nil })
			}
		})
	}
}

// quiet is a service that notes nothing.
type quiet struct {
	testpb.UnimplementedTestServiceServer
}

func (quiet) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, nil
}

func benchmark(ctx context.Context, b *testing.B, conn *grpc.ClientConn, want codes.Code) {
	client := testpb.NewTestServiceClient(conn)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.UnaryCall(ctx, &testpb.SimpleRequest{}); status.Code(err) != want {
			b.Fatal(err)
		}
	}
}

// C2: waiting is not work. Sixty idle streams, twice as many as there are slots, leave all slots to other calls, on the way
// in and on the way out; none of them teaches anybody a latency.
func TestIdleStreamsLeaveRoom(t *testing.T) {
	const limit, streams = 32, 60
	front, back := newGuard(t, "front", limit), newGuard(t, "back", limit)
	s := &service{
		duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			if err := s.SendHeader(nil); err != nil {
				return err
			}
			_, err := s.Recv()
			return err
		},
	}
	reach, _ := serve(t, back, s)
	d := front.Dependency("back", guard.MaxCalls(limit))
	conn := dial(t, reach, d)
	ctx, hangUp := context.WithCancel(t.Context())
	for n := range streams {
		call, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
		if err == nil {
			_, err = call.Header()
		}
		if err != nil {
			t.Fatalf("stream %d: %v", n+1, err)
		}
	}
	if out, in := front.Snapshot().Calls[0], back.Snapshot(); out.InFlight != 0 || in.InFlight != 0 || in.EndlessDeclared != streams {
		t.Errorf("slots held: %d of the way out, %d of the way in; %d streams open", out.InFlight, in.InFlight, in.EndlessDeclared)
	}
	slots := min(limit, front.Snapshot().Calls[0].Limit)
	var inside atomic.Int64
	full := make(chan struct{})
	s.unary = func(ctx context.Context) error {
		if inside.Add(1) == int64(slots) {
			close(full)
		}
		select {
		case <-full:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	patience, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	ends := make(chan error)
	for range slots {
		go func() { ends <- ask(patience, conn) }()
	}
	for range slots {
		if err := <-ends; err != nil {
			t.Errorf("beside the streams: %v", err)
		}
	}
	hangUp()
	if out, in := idle(t, front).Calls[0], idle(t, back); out.Latency.Count != uint64(slots) || in.Latency.Count != uint64(slots) || in.Failed != 0 {
		t.Errorf("latencies of %d calls on the way out and %d on the way in, want %d; %d failures", out.Latency.Count,
			in.Latency.Count, slots, in.Failed)
	}
}
