package guardgrpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

const (
	unaryCall  = "/grpc.testing.TestService/UnaryCall"
	duplexCall = "/grpc.testing.TestService/FullDuplexCall"
)

// service is gRPC's test service with these handlers; nil: it answers at once. It notes what it is told.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary  func(context.Context) error
	duplex func(testpb.TestService_FullDuplexCallServer) error
	upload func(testpb.TestService_StreamingInputCallServer) error

	mu    sync.Mutex
	heard []metadata.MD
}

func (s *service) hear(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, md)
}

// contexts returns the guard-contexts that the service has been told.
func (s *service) contexts(t *testing.T) (all []wire.Context) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, md := range s.heard {
		if len(md[contextKey]) != 1 {
			t.Errorf("told %v", md)
		}
		all = append(all, contextOf(md))
	}
	return all
}

func contextOf(md metadata.MD) wire.Context { return wire.ParseContext(wire.Only(md[contextKey])) }

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	s.hear(ctx)
	if s.unary != nil {
		if err := s.unary(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{}, nil
}

func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	s.hear(stream.Context())
	if s.duplex != nil {
		return s.duplex(stream)
	}
	return nil
}

func (s *service) StreamingInputCall(stream testpb.TestService_StreamingInputCallServer) error {
	s.hear(stream.Context())
	if s.upload != nil {
		return s.upload(stream)
	}
	return stream.SendAndClose(&testpb.StreamingInputCallResponse{})
}

// No goroutine outlives a test: neither of gRPC nor of guard.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newGuard(t testing.TB, name string, limit int) *guard.Guard {
	t.Helper()
	g, err := guard.New(guard.Config{Service: name, SLO: time.Second, Min: limit, Max: limit})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// serve serves s in memory, behind g unless it is nil, and returns how to reach it.
func serve(t testing.TB, g *guard.Guard, s testpb.TestServiceServer, options ...ServerOption) (reach grpc.DialOption, server *grpc.Server) {
	t.Helper()
	if g == nil {
		server = grpc.NewServer()
	} else {
		server = grpc.NewServer(
			grpc.ChainUnaryInterceptor(recovered, UnaryServerInterceptor(g, options...)),
			grpc.ChainStreamInterceptor(recoveredStream, StreamServerInterceptor(g, options...)))
	}
	testpb.RegisterTestServiceServer(server, s)
	l := bufconn.Listen(1 << 20)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }), server
}

// recovered and recoveredStream are what a service has around all interceptors, so that a panic ends the call only.
func recovered(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errPanic
		}
	}()
	return next(ctx, req)
}

func recoveredStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errPanic
		}
	}()
	return next(srv, s)
}

// dial connects to a service, through d unless it is nil.
func dial(t testing.TB, reach grpc.DialOption, d *guard.Dependency, options ...ClientOption) *grpc.ClientConn {
	t.Helper()
	all := []grpc.DialOption{reach, grpc.WithTransportCredentials(insecure.NewCredentials())}
	if d != nil {
		all = append(all, grpc.WithChainUnaryInterceptor(UnaryClientInterceptor(d, options...)),
			grpc.WithChainStreamInterceptor(StreamClientInterceptor(d, options...)))
	}
	conn, err := grpc.NewClient("passthrough:///service", all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func ask(ctx context.Context, conn *grpc.ClientConn, options ...grpc.CallOption) error {
	_, err := testpb.NewTestServiceClient(conn).UnaryCall(ctx, &testpb.SimpleRequest{}, options...)
	return err
}

// idle waits until no request and no call of g is in flight, and returns its state.
func idle(t testing.TB, g *guard.Guard) guard.Snapshot {
	t.Helper()
	var s guard.Snapshot
	waittest.Until(t, "nothing is in flight", func() bool {
		s = g.Snapshot()
		for _, c := range s.Calls {
			if c.InFlight > 0 {
				return false
			}
		}
		return s.InFlight == 0 && s.EndlessDeclared == 0 && (s.Roof == nil || s.Roof.InFlight == 0)
	})
	if s.DoubleReleases > 0 {
		t.Errorf("%d double releases", s.DoubleReleases)
	}
	for _, c := range s.Calls {
		if c.DoubleReleases > 0 {
			t.Errorf("%d double releases of calls", c.DoubleReleases)
		}
	}
	return s
}

// statusOfEnd turns the good end of a stream into nil.
func statusOfEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
