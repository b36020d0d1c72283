package guardgrpc

import (
	"context"
	"maps"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

const (
	baggageKey = "baggage" // W3C's, of which this package reads a part
	traceKey   = "traceparent"
	alikeKey   = "guard_context" // what many servers take for guard-context
)

var names = wire.Names{
	Context: contextKey, Alike: alikeKey, Baggage: baggageKey, Criticality: criticalityKey, Key: keyKey, Attempt: attemptKey,
}

// toldIn reads what a call says in guard-context or, without that, in its baggage.
func toldIn(md metadata.MD) wire.Context {
	return names.Read(func(key string) []string { return md[key] })
}

// removeAll removes everything of the guard's.
func removeAll(md metadata.MD) {
	for key := range md {
		if strings.HasPrefix(key, "guard-") {
			delete(md, key)
		}
	}
	names.Remove(md)
}

// hush returns md without what an answer advises. It leaves md as it is: the handler may use it again.
func hush(md metadata.MD) metadata.MD {
	for key := range md {
		if strings.EqualFold(key, answerKey) {
			md = maps.Clone(md)
			delete(md, key)
		}
	}
	return md
}

// withoutContext is ctx without what names.Remove removes from its incoming metadata.
func withoutContext(ctx context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(ctx, contextKey)) == 0 && len(metadata.ValueFromIncomingContext(ctx, alikeKey)) == 0 &&
		!wire.InBaggage(metadata.ValueFromIncomingContext(ctx, baggageKey)) {
		return ctx
	}
	md, _ := metadata.FromIncomingContext(ctx)
	names.Remove(md)
	return metadata.NewIncomingContext(ctx, md)
}
