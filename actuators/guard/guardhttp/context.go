package guardhttp

import (
	"context"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// The headers of what guards tell each other; package wire has their fields. Of two headers of one name, none counts.
const (
	ContextHeader = "Guard-Context" // of a request: what travels with it over every hop
	AnswerHeader  = "Guard-Answer"  // of an answer: what it advises
)

const (
	baggageHeader = "Baggage" // W3C's headers, of which this package reads a part
	traceHeader   = "Traceparent"

	// alikeHeader is what many servers take for the ContextHeader, in the form that net/http gives it.
	alikeHeader = "Guard_context"
)

var names = wire.Names{
	Context: ContextHeader, Alike: alikeHeader, Baggage: baggageHeader,
	Criticality: CriticalityHeader, Key: KeyHeader, Attempt: AttemptHeader,
}

// ContextOf reads what a request says in the ContextHeader or, without one, in its baggage.
func ContextOf(h http.Header) wire.Context {
	return names.Read(func(name string) []string { return h[name] })
}

// SetContext makes h say c, in place of what ContextOf reads there: in the ContextHeader, and in the baggage if there is
// something to replace or if baggage is true. It writes new slices and leaves the old ones as they are.
func SetContext(h http.Header, c wire.Context, baggage bool) { names.Set(h, c, baggage) }

// RemoveContext removes from h what ContextOf reads, here or after another service has copied it in its own way.
func RemoveContext(h http.Header) { names.Remove(h) }

// Headers by which a client may claim to matter, each with the one that many servers take for it.
var (
	contextHeaders     = []string{ContextHeader, alikeHeader}
	criticalityHeaders = []string{CriticalityHeader, "Guard_criticality"}
	keyHeaders         = []string{KeyHeader, "Guard_key"}
)

// claims says whether header has one of the names, or a context in its baggage.
func claims(header http.Header, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return len(header[name]) > 0 }) ||
		wire.InBaggage(header[baggageHeader])
}

// adviceIn reads the AnswerHeader and the NoRetryHeader.
func adviceIn(h http.Header) guard.Advice {
	a := wire.ParseAdvice(only(h, AnswerHeader))
	a.NoRetry = a.NoRetry || noRetryIn(h)
	return a
}

func only(h http.Header, name string) string { return wire.Only(h[name]) }

// advise puts what an answer advises into its header; failing: it is one that might be retried. Of what a handler has passed
// on from the answer to a call, a higher threshold stays, and the hint not to retry; that requests are Background was said of
// another service. A stranger is told neither: its own rank counts for nothing here, so it could only learn how full the
// service is.
func advise(h http.Header, a guard.Advice, failing, stranger bool) {
	if passed := h[AnswerHeader]; a == (guard.Advice{}) && len(passed) == 0 {
		return
	}
	passed := adviceIn(h)
	a.Threshold = max(a.Threshold, passed.Threshold)
	a.NoRetry = failing && (a.NoRetry || passed.NoRetry)
	if stranger || a == (guard.Advice{}) {
		delete(h, AnswerHeader)
	} else {
		h[AnswerHeader] = adviceValue(a)
	}
	if a.NoRetry {
		h[NoRetryHeader] = noRetry
	}
}

// lastAdvice is what the last answer advised, with its text: mostly, the next one advises the same.
var lastAdvice atomic.Pointer[advised]

type advised struct {
	guard.Advice
	value []string // of the AnswerHeader, in many answers, like those of refused
}

// adviceValue is the value of the AnswerHeader.
func adviceValue(a guard.Advice) []string {
	if last := lastAdvice.Load(); last != nil && last.Advice == a {
		return last.value
	}
	next := &advised{a, []string{wire.FormatAdvice(a)}}
	lastAdvice.Store(next)
	return next.value
}

// hush removes what an answer advises from its header, or its trailer, however that is spelled.
func hush(h http.Header) {
	for name := range h {
		if strings.EqualFold(strings.TrimPrefix(name, http.TrailerPrefix), AnswerHeader) {
			delete(h, name)
		}
	}
}

// RouteOf returns the route of a request without WithRoute: the first segment of its CleanPath, or the method of gRPC.
func RouteOf(r *http.Request) string {
	if r.URL.Path == "" || IsGRPC(r) {
		return r.URL.Path
	}
	p := CleanPath(r.URL.Path)
	if i := strings.IndexByte(p[1:], '/'); i >= 0 {
		return p[:i+1]
	}
	return p
}

// CleanPath returns a decoded path as the handlers of most servers see it: without parameters (RFC 3986, section 3.3), empty
// segments and dot segments. A client must not get a route of its own by writing //buy, /./buy or /buy;x=1 for /buy. It does not
// allocate for a path that is clean.
func CleanPath(p string) string {
	if strings.IndexByte(p, ';') >= 0 {
		p = withoutParameters(p)
	}
	return path.Clean(p)
}

func withoutParameters(p string) string {
	var b strings.Builder
	for i, segment := range strings.Split(p, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		segment, _, _ = strings.Cut(segment, ";")
		b.WriteString(segment)
	}
	return b.String()
}

// announcesEndless says whether a request asks for a connection that lasts: a WebSocket (RFC 6455, section 4.1), or the event
// stream of an EventSource, which accepts nothing else (HTML Living Standard, section 9.2.2).
func announcesEndless(r *http.Request) bool {
	upgrade, accept := r.Header["Upgrade"], r.Header["Accept"]
	return len(upgrade) > 0 && strings.EqualFold(upgrade[0], "websocket") || len(accept) > 0 && accept[0] == eventStream
}

// PatternOf is a route for WithRoute where the guard is behind a router that sets the request's Pattern: http.ServeMux, chi
// within Group or With, Echo. It is the pattern's path, like /orders/{id}. A request without a pattern, which nobody serves, has
// no route, so that those who try paths make no names.
func PatternOf(r *http.Request) string { return pathIn(r.Pattern) }

// PatternIn is PatternOf for a mux behind the guard: it looks the request up in mux, which allocates, and a second time when
// the mux serves it.
func PatternIn(mux *http.ServeMux) func(*http.Request) string {
	return func(r *http.Request) string {
		_, pattern := mux.Handler(r)
		return pathIn(pattern)
	}
}

// PatternBy is PatternIn for a router that cannot be asked, like gin's. finder is another one of its kind, with the same
// patterns, and handlers that only set the request's Pattern. They get a copy of each request, without its body, and what they
// answer is thrown away.
func PatternBy(finder http.Handler) func(*http.Request) string {
	return func(r *http.Request) string {
		asked, url := r.WithContext(r.Context()), *r.URL // which routers change, to redirect
		asked.URL, asked.Body, asked.Pattern = &url, http.NoBody, ""
		finder.ServeHTTP(unread{}, asked)
		return pathIn(asked.Pattern)
	}
}

// unread is where an answer goes that nobody reads.
type unread struct{}

func (unread) Header() http.Header         { return http.Header{} }
func (unread) Write(b []byte) (int, error) { return len(b), nil }
func (unread) WriteHeader(int)             {}

// pathIn is the path of a pattern, without its method and host.
func pathIn(pattern string) string {
	if i := strings.IndexByte(pattern, '/'); i >= 0 {
		return pattern[i:]
	}
	return ""
}

// withDeadline ends ctx when the caller stops waiting, as far as it says so. A connection that is to switch protocols, and
// an event stream, outlast the wait for their beginning.
func withDeadline(ctx context.Context, r *http.Request, left time.Duration) (context.Context, context.CancelFunc) {
	if left <= 0 || len(r.Header["Upgrade"]) > 0 || strings.Contains(r.Header.Get("Accept"), eventStream) {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, left)
}
