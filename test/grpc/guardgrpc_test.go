package grpc_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardgrpc"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// listener runs gRPC's test service with interceptors of guardgrpc, or without if g is nil, and notes what its unary calls
// are told.
type listener struct {
	address string
	mu      sync.Mutex
	told    []metadata.MD
}

func listen(t *testing.T, g *guard.Guard, guarded ...guardgrpc.ServerOption) *listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	self := &listener{address: l.Addr().String()}
	note := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		self.mu.Lock()
		self.told = append(self.told, md)
		self.mu.Unlock()
		return next(ctx, req)
	}
	options := []grpc.ServerOption{grpc.ChainUnaryInterceptor(note)}
	if g != nil {
		options = append(options, grpc.ChainUnaryInterceptor(guardgrpc.UnaryServerInterceptor(g, guarded...)),
			grpc.ChainStreamInterceptor(guardgrpc.StreamServerInterceptor(g, guarded...)))
	}
	s := grpc.NewServer(options...)
	testpb.RegisterTestServiceServer(s, interop.NewTestServer())
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return self
}

// last returns the latest Guard-Context.
func (l *listener) last(t *testing.T) wire.Context {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	values := l.told[len(l.told)-1]["guard-context"]
	if len(values) != 1 {
		t.Fatalf("told %v", values)
	}
	return wire.ParseContext(values[0])
}

func newGuard(t *testing.T, name string, limit int) *guard.Guard {
	t.Helper()
	g, err := guard.New(guard.Config{Service: name, SLO: time.Second, Min: limit, Max: limit})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// guardgrpc changes nothing that gRPC's implementations agree upon, on neither side.
func TestInteroperabilityOfGuardgrpc(t *testing.T) {
	interoperability(t, listen(t, newGuard(t, "back", 100)).address)
}

// A client with guardgrpc in front of a service with a sidecar: the service is told of the request, and a refusal counts as
// one.
func TestGuardgrpcToSidecar(t *testing.T) {
	back := listen(t, nil)
	in, _, _ := sidecar(t, back.address, "--trusted-peers=127.0.0.0/8", "--limit.max=1")
	g := newGuard(t, "front", 10)
	d := g.Dependency("interop")
	conn, err := grpc.NewClient(in, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(guardgrpc.UnaryClientInterceptor(d)),
		grpc.WithChainStreamInterceptor(guardgrpc.StreamClientInterceptor(d)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := testpb.NewTestServiceClient(conn)

	p, err := g.Admit(t.Context(), guard.Arrival{Criticality: guard.Critical, Key: "alice", Entry: "shop/buy"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(guard.Ignored)
	ctx := guard.NewContext(t.Context(), p)
	for n := range 2 {
		if _, err := c.EmptyCall(ctx, &testpb.Empty{}); err != nil {
			t.Fatal(err)
		}
		if told := back.last(t); !told.Rank.Drawn || told.Criticality != guard.Critical || told.Key != "alice" ||
			told.Entry != "shop/buy" || told.Rank.Again { // which is what the front says to the sidecar, not of its calls
			t.Errorf("call %d: told %+v", n, told)
		}
	}

	stream, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testpb.StreamingOutputCallRequest{
		ResponseParameters: []*testpb.ResponseParameters{{Size: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // it holds the one slot of the sidecar, and none of the client's
		t.Fatal(err)
	}
	// A layer further out retries, so this one does not.
	marked := metadata.AppendToOutgoingContext(t.Context(), "guard-attempt", "0")
	if _, err := c.EmptyCall(marked, &testpb.Empty{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
	if s := g.Snapshot().Calls[0]; s.CalleeRefusals != 1 || s.Failures != 0 || s.InFlight != 0 {
		t.Errorf("%d refusals, %d failures, %d in flight", s.CalleeRefusals, s.Failures, s.InFlight)
	}
}

// A client without a guard calls a service with guardgrpc through the sidecar's way out: what it tells gets there, and the
// sidecar takes a refusal for one and passes it on.
func TestSidecarToGuardgrpc(t *testing.T) {
	g := newGuard(t, "back", 1)
	back := listen(t, g)
	_, out, admin := sidecar(t, back.address)
	_, c := client(t, out)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "guard-context", "rank=80000000;crit=critical;key=alice;api=shop%2Fbuy")
	if _, err := c.EmptyCall(ctx, &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
	if told := back.last(t); told.Rank != (guard.Rank{Place: 1 << 31, Drawn: true}) || told.Key != "alice" {
		t.Errorf("told %+v", told)
	}
	if s := g.Snapshot(); s.Admitted[guard.Critical] != 1 {
		t.Errorf("admitted %v", s.Admitted)
	}

	p, err := g.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(guard.Ignored)
	marked := metadata.AppendToOutgoingContext(t.Context(), "guard-attempt", "0")
	var trailer metadata.MD
	_, err = c.EmptyCall(marked, &testpb.Empty{}, grpc.Trailer(&trailer))
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || len(s.Details()) != 2 ||
		len(trailer["guard-refused"]) != 1 || len(trailer["grpc-retry-pushback-ms"]) != 1 {
		t.Errorf("%v, trailer %v", err, trailer)
	}
	waittest.Until(t, "the sidecar has counted the refusal", func() bool {
		resp, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		page, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(page), `guard_client_callee_refusals_total{service="interop",to="interop"} 1`) &&
			strings.Contains(string(page), `guard_client_failures_total{service="interop",to="interop"} 0`)
	})
}
