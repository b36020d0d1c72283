package guardgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardgrpc"
)

// shop is a service with one method, and streams that it does not implement.
type shop struct {
	testpb.UnimplementedTestServiceServer
	buy func(context.Context) error
}

func (s shop) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, s.buy(ctx)
}

// listen serves in the background and returns the address.
func listen(server *grpc.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(l)
	return l.Addr().String()
}

// A guarded server whose handlers call a dependency through its guard: the rank and the deadline of a request travel with
// it. Health checks pass a full service.
func Example() {
	payments := grpc.NewServer()
	testpb.RegisterTestServiceServer(payments, shop{buy: func(context.Context) error { return nil }})
	defer payments.Stop()

	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	address := listen(payments) // "dns:///payments:50051"
	d := g.Dependency("payments")
	toPayments, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(guardgrpc.UnaryClientInterceptor(d)),
		grpc.WithChainStreamInterceptor(guardgrpc.StreamClientInterceptor(d)))
	if err != nil {
		log.Fatal(err)
	}
	defer toPayments.Close()

	options := []guardgrpc.ServerOption{
		guardgrpc.WithBypass(func(_ context.Context, method string) bool {
			return strings.HasPrefix(method, "/grpc.health.v1.Health/")
		}),
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(guardgrpc.UnaryServerInterceptor(g, options...)),
		grpc.ChainStreamInterceptor(guardgrpc.StreamServerInterceptor(g, options...)))
	testpb.RegisterTestServiceServer(server, shop{buy: func(ctx context.Context) error {
		_, err := testpb.NewTestServiceClient(toPayments).EmptyCall(ctx, &testpb.Empty{}) // with the context of the request
		return err
	}})
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer server.Stop()

	conn, err := grpc.NewClient(listen(server), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = testpb.NewTestServiceClient(conn).EmptyCall(context.Background(), &testpb.Empty{})
	fmt.Println(status.Code(err), g.Snapshot().Admitted[guard.Default], "admitted", g.Snapshot().Calls[0].Attempts, "call")
	// Output: OK 1 admitted 1 call
}

// Criticality by method, and the tenant from what the edge has found out. One stream holds its slot, because it ends as soon
// as its work is done.
func ExampleUnaryServerInterceptor_options() {
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 20, Max: 400})
	options := []guardgrpc.ServerOption{
		guardgrpc.WithCriticality(func(_ context.Context, method string) guard.Criticality {
			if method == "/grpc.testing.TestService/EmptyCall" {
				return guard.Critical
			}
			return guard.Default
		}),
		guardgrpc.WithKey(func(ctx context.Context, _ string) string {
			if tenant := metadata.ValueFromIncomingContext(ctx, "x-tenant-id"); len(tenant) == 1 {
				return tenant[0]
			}
			return ""
		}),
		guardgrpc.WithEndless(func(_ context.Context, method string, streaming bool) bool {
			return streaming && method != "/grpc.testing.TestService/StreamingOutputCall"
		}),
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(guardgrpc.UnaryServerInterceptor(g, options...)),
		grpc.ChainStreamInterceptor(guardgrpc.StreamServerInterceptor(g, options...)))
	testpb.RegisterTestServiceServer(server, shop{buy: func(context.Context) error { return nil }})
	defer server.Stop()

	conn, err := grpc.NewClient(listen(server), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = testpb.NewTestServiceClient(conn).EmptyCall(context.Background(), &testpb.Empty{})
	fmt.Println(status.Code(err), g.Snapshot().Admitted[guard.Critical])
	// Output: OK 1
}

// A method that may be executed twice is retried. What the guard refuses has a fallback.
func ExampleUnaryClientInterceptor() {
	restarts := 1
	recommendations := grpc.NewServer()
	testpb.RegisterTestServiceServer(recommendations, shop{buy: func(context.Context) error {
		if restarts--; restarts >= 0 {
			return status.Error(codes.Unavailable, "restarting")
		}
		return nil
	}})
	defer recommendations.Stop()

	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	conn, err := grpc.NewClient(listen(recommendations), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(guardgrpc.UnaryClientInterceptor(g.Dependency("recommendations"),
			guardgrpc.WithIdempotent(func(method string) bool { return method == "/grpc.testing.TestService/EmptyCall" }))))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	recommend := func(ctx context.Context) string {
		_, err := testpb.NewTestServiceClient(conn).EmptyCall(ctx, &testpb.Empty{})
		if refusal, ok := errors.AsType[*guard.CallRefusal](err); ok { // nothing was sent
			return "bestsellers, because of the " + refusal.Reason()
		}
		return status.Code(err).String()
	}
	fmt.Println(recommend(context.Background()), "after", g.Snapshot().Calls[0].Attempts, "attempts")
	late, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	fmt.Println(recommend(late))
	// Output:
	// OK after 2 attempts
	// bestsellers, because of the deadline
}
