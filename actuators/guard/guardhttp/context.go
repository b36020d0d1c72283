package guardhttp

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// The headers of what guards tell each other; package wire has their fields. Of two headers of one name, none counts.
const (
	ContextHeader = "Guard-Context" // of a request: what travels with it over every hop
	AnswerHeader  = "Guard-Answer"  // of an answer: what it advises
)

// contextIn reads the ContextHeader.
func contextIn(h http.Header) wire.Context { return wire.ParseContext(only(h, ContextHeader)) }

// adviceIn reads the AnswerHeader and the NoRetryHeader.
func adviceIn(h http.Header) guard.Advice {
	a := wire.ParseAdvice(only(h, AnswerHeader))
	a.NoRetry = a.NoRetry || noRetryIn(h)
	return a
}

func only(h http.Header, name string) string {
	if values := h[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// advise puts what an answer advises into its header. A threshold that a handler has passed on from another answer stays if it
// is the higher one.
func advise(h http.Header, a guard.Advice) {
	passed := adviceIn(h)
	a.Threshold = max(a.Threshold, passed.Threshold)
	a.NoRetry = a.NoRetry || passed.NoRetry
	if text := wire.FormatAdvice(a); text != "" {
		h[AnswerHeader] = []string{text}
	}
	if a.NoRetry {
		h[NoRetryHeader] = []string{"1"}
	}
}

// routeOf is the first segment of the path, or the method of gRPC.
func routeOf(r *http.Request) string {
	path := r.URL.Path
	if path == "" || IsGRPC(r) {
		return path
	}
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[:i+1]
	}
	return path
}

// withDeadline ends ctx when the caller stops waiting, as far as it says so. A connection that is to switch protocols, and
// an event stream, outlast the wait for their beginning.
func withDeadline(ctx context.Context, r *http.Request, left time.Duration) (context.Context, context.CancelFunc) {
	if left <= 0 || len(r.Header["Upgrade"]) > 0 || strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, left)
}
