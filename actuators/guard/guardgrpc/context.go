package guardgrpc

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

const (
	baggageKey = "baggage" // W3C's, of which this package reads a part
	traceKey   = "traceparent"
	alikeKey   = "guard_context" // what many servers take for guard-context
)

// told reads what a call says in guard-context or, without that, in its baggage.
func told(ctx context.Context) wire.Context {
	return toldBy(func(key string) []string { return metadata.ValueFromIncomingContext(ctx, key) })
}

// toldIn is told for metadata.
func toldIn(md metadata.MD) wire.Context {
	return toldBy(func(key string) []string { return md[key] })
}

func toldBy(values func(key string) []string) wire.Context {
	if own := values(contextKey); len(own) > 0 {
		return wire.ParseContext(only(own))
	}
	return wire.ParseContext(wire.FromBaggage(values(baggageKey)))
}

// setContext makes md say c, in place of what toldIn reads there: in guard-context, and in the baggage if there is something to
// replace or if baggage is true.
func setContext(md metadata.MD, c wire.Context, baggage bool) {
	if text := c.String(); text != "" {
		md[contextKey] = []string{text}
	} else {
		delete(md, contextKey)
	}
	delete(md, alikeKey)
	if baggage || wire.InBaggage(md[baggageKey]) {
		setBaggage(md, c.Lasting().String())
	}
}

// removeContext removes from md what toldIn reads, here or after another service has copied it in its own way.
func removeContext(md metadata.MD) {
	delete(md, contextKey)
	delete(md, alikeKey)
	if wire.InBaggage(md[baggageKey]) {
		setBaggage(md, "")
	}
}

// removeAll removes everything of the guard's.
func removeAll(md metadata.MD) {
	for key := range md {
		if strings.HasPrefix(key, "guard-") {
			delete(md, key)
		}
	}
	removeContext(md)
}

func setBaggage(md metadata.MD, text string) {
	if lines := wire.SetBaggage(md[baggageKey], text); lines != nil {
		md[baggageKey] = lines
	} else {
		delete(md, baggageKey)
	}
}

// withoutContext is ctx without what removeContext removes from its incoming metadata.
func withoutContext(ctx context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(ctx, contextKey)) == 0 && len(metadata.ValueFromIncomingContext(ctx, alikeKey)) == 0 &&
		!wire.InBaggage(metadata.ValueFromIncomingContext(ctx, baggageKey)) {
		return ctx
	}
	md, _ := metadata.FromIncomingContext(ctx)
	removeContext(md)
	return metadata.NewIncomingContext(ctx, md)
}
