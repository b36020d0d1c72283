// Package guardotel puts what a guard decides into traces of OpenTelemetry, and the traces into the guard's latency histogram:
//
//	observer := new(guardotel.Observer)
//	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Observer: observer})
//	prometheus.MustRegister(guardprom.New(g, guardprom.WithExemplars(observer.Exemplars)))
//
// A request that is admitted or refused sets attributes on the current span: that of otelhttp or otelgrpc, if they are around
// the guard.
//
//	guard.service          string   the guarded service, or SERVICE/ROUTE
//	guard.admitted         boolean
//	guard.refusal.reason   string   of a refusal, see guard.Refusal: "concurrency", "rate", "endless" and so on
//	guard.criticality      string   "critical", "default", "sheddable" or "background"
//	guard.route            string   what was asked for, if it is known
//	guard.entry            string   the API through which the request entered the fleet, if that was elsewhere
//	guard.in_flight        int      requests in flight, just after the decision; of all routes together, if there are any
//	guard.limit            int      of them
//	guard.shed_threshold   double   occupancy above which the least important requests are refused
//
// An attempt of a guarded call sets attributes on the current span if that is one of a client: otelhttp's Transport, or
// otelgrpc's handler, around the guard's. On any other span, a refused attempt adds the event guard.call.refused with them, and
// an admitted one nothing.
//
//	guard.call.to               string   the dependency
//	guard.call.instance         string   if it is known
//	guard.call.attempt          int      1 for the first
//	guard.call.admitted         boolean
//	guard.call.refusal.reason   string   "deadline", "breaker" or "bulkhead"; of a refusal
//	guard.call.in_flight        int      calls in flight, just after the decision
//	guard.call.limit            int      of them
//
// Keys of users and tenants are left out. Spans that do not record cost one look into the context.
package guardotel

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// The attributes of a request.
const (
	Service       = attribute.Key("guard.service")
	Admitted      = attribute.Key("guard.admitted")
	RefusalReason = attribute.Key("guard.refusal.reason")
	Criticality   = attribute.Key("guard.criticality")
	Route         = attribute.Key("guard.route")
	Entry         = attribute.Key("guard.entry")
	InFlight      = attribute.Key("guard.in_flight")
	Limit         = attribute.Key("guard.limit")
	ShedThreshold = attribute.Key("guard.shed_threshold")
)

// The attributes of an attempt of a call, and the name of the event of one that was refused.
const (
	CallTo            = attribute.Key("guard.call.to")
	CallInstance      = attribute.Key("guard.call.instance")
	CallAttempt       = attribute.Key("guard.call.attempt")
	CallAdmitted      = attribute.Key("guard.call.admitted")
	CallRefusalReason = attribute.Key("guard.call.refusal.reason")
	CallInFlight      = attribute.Key("guard.call.in_flight")
	CallLimit         = attribute.Key("guard.call.limit")
	CallRefused       = "guard.call.refused"
)

// Observer is a guard.Observer. The zero value is ready to use, by guards of different services. Do not copy it.
type Observer struct {
	histograms sync.Map // string: *histogram. By the service, or SERVICE/ROUTE.
}

// histogram has the last request of a sampled trace for each doubling of the latency, from 1 µs on.
type histogram [doublings]atomic.Pointer[finished]

// doublings is how many there are up to an hour; the last one counts what is above.
const doublings = 33

type finished struct {
	span trace.SpanContext
	took time.Duration
	at   time.Time
}

// Arrived implements guard.Observer.
func (o *Observer) Arrived(ctx context.Context, d guard.Decision) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attributes := []attribute.KeyValue{
		Service.String(d.Service), Admitted.Bool(d.Err == nil), Criticality.String(d.Arrival.Criticality.String()),
		InFlight.Int(d.InFlight), Limit.Int(d.Limit), ShedThreshold.Float64(d.ShedThreshold),
	}
	if d.Arrival.Route != "" {
		attributes = append(attributes, Route.String(d.Arrival.Route))
	}
	if d.Arrival.Entry != "" {
		attributes = append(attributes, Entry.String(d.Arrival.Entry))
	}
	if refusal, ok := errors.AsType[*guard.Refusal](d.Err); ok {
		attributes = append(attributes, RefusalReason.String(refusal.Reason()))
	}
	span.SetAttributes(attributes...)
}

// Called implements guard.Observer.
func (o *Observer) Called(ctx context.Context, d guard.CallDecision) {
	span := trace.SpanFromContext(ctx)
	own := ofClient(span)
	if !span.IsRecording() || !own && d.Err == nil {
		return
	}
	attributes := []attribute.KeyValue{
		CallTo.String(d.To), CallAttempt.Int(d.Attempt), CallAdmitted.Bool(d.Err == nil),
		CallInFlight.Int(d.InFlight), CallLimit.Int(d.Limit),
	}
	if d.Instance != "" {
		attributes = append(attributes, CallInstance.String(d.Instance))
	}
	if refusal, ok := errors.AsType[*guard.CallRefusal](d.Err); ok {
		attributes = append(attributes, CallRefusalReason.String(refusal.Reason()))
	}
	if own {
		span.SetAttributes(attributes...)
	} else {
		span.AddEvent(CallRefused, trace.WithAttributes(attributes...))
	}
}

// ofClient says whether a span is that of one call. The SDK's spans tell their kind.
func ofClient(span trace.Span) bool {
	s, ok := span.(interface{ SpanKind() trace.SpanKind })
	return ok && s.SpanKind() == trace.SpanKindClient
}

// Finished implements guard.Observer.
func (o *Observer) Finished(ctx context.Context, service string, took time.Duration) {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() {
		return
	}
	i := min(bits.Len64(uint64(took.Microseconds())), doublings-1)
	h, ok := o.histograms.Load(service)
	if !ok {
		h, _ = o.histograms.LoadOrStore(service, new(histogram))
	}
	h.(*histogram)[i].Store(&finished{span, took, time.Now()})
}

// Exemplars returns the last request of a sampled trace for each doubling of the latency, in seconds, of a service or, as
// SERVICE/ROUTE, of a route, with the labels trace_id and span_id, for guardprom.WithExemplars. Prometheus reads them from the
// OpenMetrics format, and keeps them with the feature exemplar-storage.
func (o *Observer) Exemplars(service string) (all []prometheus.Exemplar) {
	h, ok := o.histograms.Load(service)
	if !ok {
		return nil
	}
	for i := range h.(*histogram) {
		if f := h.(*histogram)[i].Load(); f != nil {
			all = append(all, prometheus.Exemplar{
				Value:     f.took.Seconds(),
				Labels:    prometheus.Labels{"trace_id": f.span.TraceID().String(), "span_id": f.span.SpanID().String()},
				Timestamp: f.at,
			})
		}
	}
	return all
}
