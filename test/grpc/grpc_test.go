package grpc_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	orca "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // registers it
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardgrpc"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// server runs gRPC's own test service.
func server(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testpb.RegisterTestServiceServer(s, interop.NewTestServer())
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func client(t *testing.T, address string) (*grpc.ClientConn, testpb.TestServiceClient) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, testpb.NewTestServiceClient(conn)
}

func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// sidecar builds and runs the command in front of service, and as the way out to it.
func sidecar(t *testing.T, service string, flags ...string) (in, out, admin string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "governor")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/governor")
	build.Dir = "../.."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
	in, out, admin = unused(t), unused(t), unused(t)
	output := &waittest.Buffer{}
	cmd := exec.Command(binary, append([]string{
		"sidecar", "--service=interop", "--slo.latency=1s", "--upstream=http://" + service, "--listen=" + in,
		"--web.listen-address=" + admin, "--egress=interop=" + out + "=http://" + service,
	}, flags...)...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+unused(t))
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", output)
		}
	})
	for _, address := range []string{in, out, admin} {
		waittest.Until(t, "the sidecar listens at "+address, func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	return in, out, admin
}

// interoperability runs gRPC's tests. They end the process if one fails.
func interoperability(t *testing.T, address string) {
	conn, c := client(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), 2*waittest.Patience)
	defer cancel()
	for _, test := range []struct {
		name string
		run  func()
	}{
		{"empty_unary", func() { interop.DoEmptyUnaryCall(ctx, c) }},
		{"large_unary", func() { interop.DoLargeUnaryCall(ctx, c) }},
		{"client_streaming", func() { interop.DoClientStreaming(ctx, c) }},
		{"server_streaming", func() { interop.DoServerStreaming(ctx, c) }},
		{"ping_pong", func() { interop.DoPingPong(ctx, c) }},
		{"empty_stream", func() { interop.DoEmptyStream(ctx, c) }},
		{"timeout_on_sleeping_server", func() { interop.DoTimeoutOnSleepingServer(ctx, c) }},
		{"cancel_after_begin", func() { interop.DoCancelAfterBegin(ctx, c) }},
		{"cancel_after_first_response", func() { interop.DoCancelAfterFirstResponse(ctx, c) }},
		{"custom_metadata", func() { interop.DoCustomMetadata(ctx, c) }},
		{"status_code_and_message", func() { interop.DoStatusCodeAndMessage(ctx, c) }},
		{"special_status_message", func() { interop.DoSpecialStatusMessage(ctx, c) }},
		{"unimplemented_method", func() { interop.DoUnimplementedMethod(ctx, conn) }},
		{"unimplemented_service", func() { interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(conn)) }},
	} {
		t.Log(test.name)
		test.run()
	}
}

// The sidecar changes nothing that gRPC's implementations agree upon, in either direction.
func TestInteroperabilityThroughTheSidecar(t *testing.T) {
	in, out, _ := sidecar(t, server(t))
	interoperability(t, in)
	interoperability(t, out)
}

// A full service answers RESOURCE_EXHAUSTED, with a reason, and serves again as soon as it can.
func TestRefusalThroughTheSidecar(t *testing.T) {
	in, _, _ := sidecar(t, server(t), "--limit.max=1")
	_, c := client(t, in)
	stream, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testpb.StreamingOutputCallRequest{
		ResponseParameters: []*testpb.ResponseParameters{{Size: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // it holds the slot
		t.Fatal(err)
	}
	var header metadata.MD
	_, err = c.EmptyCall(t.Context(), &testpb.Empty{}, grpc.Trailer(&header))
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "at its limit") {
		t.Errorf("%v, want RESOURCE_EXHAUSTED", err)
	}
	if got := header.Get("guard-refused"); len(got) != 1 || got[0] != "concurrency" {
		t.Errorf("the trailer is %v", header)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the service has a slot again", func() bool {
		_, err := c.EmptyCall(t.Context(), &testpb.Empty{})
		return err == nil
	})
}

// TestLoadReportThroughTheSidecar reads the report as gRPC's clients do, from the trailer. Their balancers use it for calls
// that succeed, that fail, and that are refused.
func TestLoadReportThroughTheSidecar(t *testing.T) {
	in, _, _ := sidecar(t, server(t), "--limit.min=2", "--limit.max=2", "--load-report")
	_, c := client(t, in)
	utilization := func(want codes.Code) float64 {
		t.Helper()
		var trailer metadata.MD
		_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(want)}}, grpc.Trailer(&trailer))
		if status.Code(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
		reports := trailer.Get("endpoint-load-metrics-bin")
		if len(reports) != 1 {
			t.Fatalf("%v: the trailer is %v", want, trailer)
		}
		var report orca.OrcaLoadReport
		if err := proto.Unmarshal([]byte(reports[0]), &report); err != nil {
			t.Fatal(err)
		}
		return report.GetApplicationUtilization()
	}
	for _, code := range []codes.Code{codes.OK, codes.NotFound} {
		if got := utilization(code); got < 0 || got > 1 {
			t.Errorf("%v: %v of the slots are taken", code, got)
		}
	}
	for range 2 {
		waittest.Until(t, "a stream holds a slot", func() bool {
			stream, err := c.FullDuplexCall(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(&testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: 1}}})
			_, err = stream.Recv()
			return err == nil
		})
	}
	waittest.Until(t, "refusals report a full service", func() bool { return utilization(codes.ResourceExhausted) > 0.99 })
}

// TestBalancerFollowsTheLoadReports: an instance with four times the limit of another gets four times its calls from gRPC's
// own weighted round robin. Without reports, each would get half.
func TestBalancerFollowsTheLoadReports(t *testing.T) {
	for name, serve := range map[string]func(*testing.T, *guard.Guard) string{
		"guardhttp": func(t *testing.T, g *guard.Guard) string { return overNetHTTP(t, g, guardhttp.WithLoadReport()) },
		"guardgrpc": func(t *testing.T, g *guard.Guard) string { return listen(t, g, guardgrpc.WithLoadReport()).address },
	} {
		t.Run(name, func(t *testing.T) { balancerFollows(t, serve) })
	}
}

func balancerFollows(t *testing.T, serve func(*testing.T, *guard.Guard) string) {
	var small, large *guard.Guard
	var instances []resolver.Address
	for g, limit := range map[**guard.Guard]int{&small: 5, &large: 20} {
		var err error
		if *g, err = guard.New(guard.Config{Service: "interop", SLO: time.Second, Min: limit, Max: limit}); err != nil {
			t.Fatal(err)
		}
		instances = append(instances, resolver.Address{Addr: serve(t, *g)})
	}
	names := manual.NewBuilderWithScheme("instances")
	names.InitialState(resolver.State{Addresses: instances})
	conn, err := grpc.NewClient("instances:///interop", grpc.WithResolvers(names),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"weighted_round_robin": {"blackoutPeriod": "0.1s", "weightUpdatePeriod": "0.1s"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := testpb.NewTestServiceClient(conn)
	admitted := func(g *guard.Guard) uint64 { return g.Snapshot().Admitted[guard.Default] }
	waittest.Until(t, "the large instance gets most of the calls", func() bool {
		before, beside := admitted(large), admitted(small)
		for range 50 {
			if _, err := c.EmptyCall(t.Context(), &testpb.Empty{}); err != nil {
				t.Fatal(err)
			}
		}
		return admitted(large)-before >= 2*(admitted(small)-beside)
	})
}

// overNetHTTP serves gRPC by net/http behind a guard.
func overNetHTTP(t *testing.T, g *guard.Guard, options ...guardhttp.Option) (address string) {
	t.Helper()
	s := grpc.NewServer()
	testpb.RegisterTestServiceServer(s, interop.NewTestServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: guardhttp.New(g, s, options...), Protocols: new(http.Protocols)}
	h.Protocols.SetUnencryptedHTTP2(true)
	go h.Serve(l)
	t.Cleanup(func() { h.Close() })
	return l.Addr().String()
}

// A Go service that serves gRPC by net/http is guarded in the same way.
func TestServiceThatServesGRPCOverNetHTTP(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "interop", SLO: time.Second, Min: 10, Max: 10})
	if err != nil {
		t.Fatal(err)
	}
	address := overNetHTTP(t, g)
	interoperability(t, address)

	waittest.Until(t, "no call is in flight", func() bool { return g.Snapshot().InFlight == 0 })
	before := g.Snapshot().Failed
	_, c := client(t, address)
	for code, failure := range map[codes.Code]bool{codes.Internal: true, codes.Unavailable: true, codes.NotFound: false} {
		_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(code)}})
		if status.Code(err) != code {
			t.Errorf("%v, want %v", err, code)
		}
		if failure {
			before++
		}
		waittest.Until(t, "no call is in flight", func() bool { return g.Snapshot().InFlight == 0 })
		if n := g.Snapshot().Failed; n != before {
			t.Errorf("%v: %d failures, want %d", code, n, before)
		}
	}
}
