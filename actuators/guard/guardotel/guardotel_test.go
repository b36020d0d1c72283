package guardotel_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/guardotel"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
)

// Traces of a service, and exemplars for its latencies.
func Example() {
	observer := new(guardotel.Observer)
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Observer: observer})
	if err != nil {
		fmt.Println(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(guardprom.New(g, guardprom.WithExemplars(observer.Exemplars)))

	mux := http.NewServeMux()

	handler := otelhttp.NewHandler(guardhttp.New(g, mux), "checkout")

	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/buy", nil))
	fmt.Println(len(observer.Exemplars("checkout")), "sampled traces")
	// Output: 0 sampled traces
}

// world is a guard with an observer, and a recorder of the spans.
type world struct {
	*guard.Guard
	observer *guardotel.Observer
	spans    *tracetest.SpanRecorder
	tracer   trace.Tracer
	now      time.Time
}

func newWorld(t *testing.T, sampler sdk.Sampler) *world {
	t.Helper()
	w := &world{observer: new(guardotel.Observer), spans: tracetest.NewSpanRecorder(), now: time.Now()}
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(w.spans), sdk.WithSampler(sampler))
	w.tracer = provider.Tracer("test")
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1, Observer: w.observer,
		Now: func() time.Time { return w.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Guard = g
	return w
}

// in runs what under a span of this kind, and returns the span.
func (w *world) in(kind trace.SpanKind, what func(ctx context.Context)) sdk.ReadOnlySpan {
	ctx, span := w.tracer.Start(context.Background(), "test", trace.WithSpanKind(kind))
	what(ctx)
	span.End()
	ended := w.spans.Ended()
	if len(ended) == 0 {
		return nil
	}
	return ended[len(ended)-1]
}

func text(attributes []attribute.KeyValue) string {
	set := attribute.NewSet(attributes...)
	return set.Encoded(attribute.DefaultEncoder())
}

func expect(t *testing.T, what string, got []attribute.KeyValue, want string) {
	t.Helper()
	if text(got) != want {
		t.Errorf("%s:\n %s, want\n %s", what, text(got), want)
	}
}

func TestSpanOfARequest(t *testing.T) {
	w := newWorld(t, sdk.AlwaysSample())
	// otelhttp is such a handler around the guard.
	serve := func() sdk.ReadOnlySpan {
		return w.in(trace.SpanKindServer, func(ctx context.Context) {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/buy/7", nil)
			r.Header.Set(guardhttp.CriticalityHeader, "sheddable")
			r.Header.Set(guardhttp.ContextHeader, "api=front%2Fshop;key=alice")
			guardhttp.New(w.Guard, http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	expect(t, "admitted", serve().Attributes(), "guard.admitted=true,guard.criticality=sheddable,guard.entry=front/shop,"+
		"guard.in_flight=1,guard.limit=1,guard.route=/buy,guard.service=checkout,guard.shed_threshold=1")

	p, err := w.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "refused", serve().Attributes(), "guard.admitted=false,guard.criticality=sheddable,guard.entry=front/shop,"+
		"guard.in_flight=1,guard.limit=1,guard.refusal.reason=concurrency,guard.route=/buy,guard.service=checkout,"+
		"guard.shed_threshold=1")
	p.Release(guard.Ignored)
}

func TestSpanOfACall(t *testing.T) {
	w := newWorld(t, sdk.AlwaysSample())
	payments := w.Dependency("payments", guard.MaxCalls(1))
	var held guard.Attempt
	try := func(ctx context.Context) {
		call := payments.Start(ctx, guard.CallOptions{})
		if a, err := call.Try("10.0.0.1:80"); err == nil {
			held = a
		}
	}
	expect(t, "admitted", w.in(trace.SpanKindClient, try).Attributes(), "guard.call.admitted=true,guard.call.attempt=1,"+
		"guard.call.in_flight=1,guard.call.instance=10.0.0.1:80,guard.call.limit=1,guard.call.to=payments")
	const refused = "guard.call.admitted=false,guard.call.attempt=1,guard.call.in_flight=1,guard.call.instance=10.0.0.1:80," +
		"guard.call.limit=1,guard.call.refusal.reason=bulkhead,guard.call.to=payments"
	expect(t, "refused", w.in(trace.SpanKindClient, try).Attributes(), refused)

	server := w.in(trace.SpanKindServer, try)
	if events := server.Events(); len(events) != 1 || events[0].Name != "guard.call.refused" || len(server.Attributes()) != 0 {
		t.Errorf("a refused call in the span of a server: %v, %v", events, server.Attributes())
	} else {
		expect(t, "event", events[0].Attributes, refused)
	}
	held.Done(guard.Result{Outcome: guard.Success})
	if server := w.in(trace.SpanKindServer, try); len(server.Events()) != 0 || len(server.Attributes()) != 0 {
		t.Errorf("an admitted call in the span of a server: %v, %v", server.Events(), server.Attributes())
	}
	held.Done(guard.Result{Outcome: guard.Success})
}

// The latency of a sampled trace is an exemplar of its bucket, the last one of each.
func TestExemplars(t *testing.T) {
	w := newWorld(t, sdk.AlwaysSample())
	request := func(took time.Duration, o guard.Outcome) trace.SpanContext {
		return w.in(trace.SpanKindServer, func(ctx context.Context) {
			p, err := w.Acquire(ctx, guard.Default)
			if err != nil {
				t.Fatal(err)
			}
			guard.NewContext(ctx, p)
			w.now = w.now.Add(took)
			p.Release(o)
		}).SpanContext()
	}
	request(110*time.Millisecond, guard.Success)
	fast := request(100*time.Millisecond, guard.Success)
	slow := request(5*time.Second, guard.Failure)
	request(400*time.Millisecond, guard.Ignored) // no latency

	registry := prometheus.NewRegistry()
	registry.MustRegister(guardprom.New(w.Guard, guardprom.WithExemplars(w.observer.Exemplars)))
	scrape := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text")
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(scrape, r)
	found := map[string]string{}
	for line := range strings.Lines(scrape.Body.String()) {
		if _, exemplar, ok := strings.Cut(line, " # "); ok {
			_, edge, _ := strings.Cut(line, `le="`)
			edge, _, _ = strings.Cut(edge, `"`)
			found[edge] = exemplar
		}
	}
	for edge, want := range map[string]struct {
		trace.SpanContext
		value string
	}{"0.12": {fast, "0.1"}, "+Inf": {slow, "5.0"}} {
		exemplar := found[edge]
		if !strings.Contains(exemplar, `trace_id="`+want.TraceID().String()+`"`) ||
			!strings.Contains(exemplar, `span_id="`+want.SpanID().String()+`"`) ||
			!strings.Contains(exemplar, "} "+want.value+" ") {
			t.Errorf("bucket %s has the exemplar %q, want that of %s", edge, exemplar, want.TraceID())
		}
	}
	if len(found) != 2 {
		t.Errorf("exemplars %v", found)
	}
}

// The latency of a route has exemplars of its own, and that of the service none of the route's.
func TestExemplarsOfRoutes(t *testing.T) {
	w := newWorld(t, sdk.AlwaysSample())
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Observer: w.observer,
		Routes: map[string]guard.Route{"export": {SLO: 10 * time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	span := w.in(trace.SpanKindServer, func(ctx context.Context) {
		p, err := g.Admit(ctx, guard.Arrival{Criticality: guard.Default, Route: "/export"})
		if err != nil {
			t.Fatal(err)
		}
		guard.NewContext(ctx, p)
		p.Release(guard.Success)
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(guardprom.New(g, guardprom.WithExemplars(w.observer.Exemplars)))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, bucket := range m.GetHistogram().GetBucket() {
				for _, label := range bucket.GetExemplar().GetLabel() {
					found[m.GetLabel()[0].GetValue()+" "+label.GetName()] = label.GetValue()
				}
			}
		}
	}
	want := map[string]string{
		"checkout/export trace_id": span.SpanContext().TraceID().String(),
		"checkout/export span_id":  span.SpanContext().SpanID().String(),
	}
	if !maps.Equal(found, want) {
		t.Errorf("exemplars %v, want %v", found, want)
	}
}

// A trace that is not sampled leaves nothing, and costs no allocation.
func TestUnsampledTraces(t *testing.T) {
	w := newWorld(t, sdk.NeverSample())
	ctx, span := w.tracer.Start(t.Context(), "test")
	defer span.End()
	request := func() {
		p, err := w.Acquire(ctx, guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		guard.NewContext(ctx, p)
		p.Release(guard.Success)
	}
	if n := testing.AllocsPerRun(1000, request); n > 1 { // NewContext's own
		t.Errorf("%g allocations", n)
	}
	if all := w.observer.Exemplars("checkout"); len(all) != 0 {
		t.Errorf("exemplars %v", all)
	}
}

// With otelhttp around the guard, on the way in and on the way out, each span has what was decided for it.
func TestOTelHTTP(t *testing.T) {
	w := newWorld(t, sdk.AlwaysSample())
	provider := otelhttp.WithTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(w.spans)))
	payments := httptest.NewServer(http.NotFoundHandler())
	defer payments.Close()
	client := &http.Client{
		Transport: otelhttp.NewTransport(guardhttp.Transport(w.Dependency("payments"), nil), provider),
	}
	serve := func() (kinds map[trace.SpanKind]attribute.Set) {
		before := len(w.spans.Ended())
		pay := func(_ http.ResponseWriter, r *http.Request) {
			r, err := http.NewRequestWithContext(r.Context(), http.MethodGet, payments.URL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		}
		otelhttp.NewHandler(guardhttp.New(w.Guard, http.HandlerFunc(pay)), "checkout", provider).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/buy", nil))
		kinds = map[trace.SpanKind]attribute.Set{}
		for _, span := range w.spans.Ended()[before:] {
			kinds[span.SpanKind()] = attribute.NewSet(span.Attributes()...)
		}
		return kinds
	}
	has := func(set attribute.Set, key attribute.Key, want string) {
		t.Helper()
		if v, _ := set.Value(key); v.String() != want {
			t.Errorf("%s is %q, want %s", key, v.String(), want)
		}
	}
	kinds := serve()
	has(kinds[trace.SpanKindServer], guardotel.Admitted, "true")
	has(kinds[trace.SpanKindClient], guardotel.CallTo, "payments")
	has(kinds[trace.SpanKindClient], guardotel.CallAdmitted, "true")

	p, err := w.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	has(serve()[trace.SpanKindServer], guardotel.RefusalReason, "concurrency")
	p.Release(guard.Ignored)
}
