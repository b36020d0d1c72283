package bindings

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardgrpc"
	"github.com/seed-de83e32b/governor/actuators/guard/guardotel"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// health answers its checks, one of a service called "broken" with an error.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (health) Check(
	_ context.Context, r *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	if r.GetService() == "broken" {
		return nil, status.Error(codes.Internal, "no apples")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func (health) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc_health_v1.Health_WatchServer) error {
	return s.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING})
}

// With otelgrpc's stats handlers beside the interceptors of guardgrpc, the span of the server and that of the client have what
// was decided, unary and streaming, and the latency has the span of the server for its exemplar.
func TestOTelGRPC(t *testing.T) {
	spans, observer := tracetest.NewSpanRecorder(), new(guardotel.Observer)
	provider := otelgrpc.WithTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)))
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1, Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	front, err := guard.New(guard.Config{Service: "front", SLO: 300 * time.Millisecond, Observer: new(guardotel.Observer)})
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.StatsHandler(otelgrpc.NewServerHandler(provider)),
		grpc.ChainUnaryInterceptor(guardgrpc.UnaryServerInterceptor(g)),
		grpc.ChainStreamInterceptor(guardgrpc.StreamServerInterceptor(g)))
	grpc_health_v1.RegisterHealthServer(server, health{})
	listener := bufconn.Listen(1 << 16)
	go server.Serve(listener)
	defer server.Stop()
	d := front.Dependency("checkout")
	conn, err := grpc.NewClient("passthrough:///checkout", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(provider)),
		grpc.WithChainUnaryInterceptor(guardgrpc.UnaryClientInterceptor(d)),
		grpc.WithChainStreamInterceptor(guardgrpc.StreamClientInterceptor(d)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)

	check := func(service string) error {
		_, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		return err
	}
	watch := func(string) error {
		s, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		for err == nil {
			_, err = s.Recv()
		}
		return err
	}
	// served makes a call and returns the span of the server.
	served := func(call func(string) error, service string) (span sdk.ReadOnlySpan) {
		t.Helper()
		before := len(spans.Ended())
		_ = call(service)
		waittest.Until(t, "the span of the server has ended", func() bool {
			for _, s := range spans.Ended()[before:] {
				if s.SpanKind() == trace.SpanKindServer {
					span = s
				}
			}
			return span != nil
		})
		free(t, g)
		return span
	}
	has := func(what string, span sdk.ReadOnlySpan, want map[attribute.Key]string) {
		t.Helper()
		set := attribute.NewSet(span.Attributes()...)
		for key, value := range want {
			if got, _ := set.Value(key); got.String() != value {
				t.Errorf("%s: %s is %q, want %q", what, key, got.String(), value)
			}
		}
	}
	const unary, stream = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
	admitted := served(check, "")
	has("unary", admitted, map[attribute.Key]string{
		guardotel.Service: "checkout", guardotel.Admitted: "true", guardotel.Route: unary, guardotel.Limit: "1", guardotel.InFlight: "1",
	})
	has("stream", served(watch, ""), map[attribute.Key]string{guardotel.Admitted: "true", guardotel.Route: stream})
	p, err := g.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []func(string) error{check, watch} {
		before := len(spans.Ended())
		if err := call(""); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("without room: %v", err)
		}
		waittest.Until(t, "the span of the server has ended", func() bool { return len(spans.Ended()) > before+1 })
		for _, span := range spans.Ended()[before:] {
			if span.SpanKind() == trace.SpanKindServer {
				has("refused", span, map[attribute.Key]string{guardotel.Admitted: "false", guardotel.RefusalReason: "concurrency"})
			}
		}
	}
	p.Release(guard.Ignored)
	failed := served(check, "broken")

	registry := prometheus.NewRegistry()
	registry.MustRegister(guardprom.New(g, guardprom.WithExemplars(observer.Exemplars)))
	scrape := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text")
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(scrape, r)
	// Both calls may be in one bucket, which has one exemplar.
	exemplar := func(s sdk.ReadOnlySpan) bool {
		return strings.Contains(scrape.Body.String(), `trace_id="`+s.SpanContext().TraceID().String()+`"`) &&
			strings.Contains(scrape.Body.String(), `span_id="`+s.SpanContext().SpanID().String()+`"`)
	}
	if !exemplar(admitted) && !exemplar(failed) {
		t.Errorf("no exemplar of %s or %s in:\n%s", admitted.SpanContext().TraceID(), failed.SpanContext().TraceID(), scrape.Body)
	}
}
