// Package guardgrpc puts a guard in front of a gRPC server, and guards the calls of a gRPC client:
//
//	server := grpc.NewServer(
//		grpc.ChainUnaryInterceptor(guardgrpc.UnaryServerInterceptor(g)),
//		grpc.ChainStreamInterceptor(guardgrpc.StreamServerInterceptor(g)))
//
//	conn, err := grpc.NewClient("dns:///payments:50051",
//		grpc.WithChainUnaryInterceptor(guardgrpc.UnaryClientInterceptor(g.Dependency("payments"))),
//		grpc.WithChainStreamInterceptor(guardgrpc.StreamClientInterceptor(g.Dependency("payments"))))
//
// It is the counterpart of guardhttp, with the same header names in lower case as metadata, so that services behind either
// of them, and behind the sidecar, understand each other. It is a module of its own: guard itself does not depend on gRPC.
//
// # On the way in
//
// Make the interceptors the outermost ones. An admitted unary call holds one slot of the guard's limit until its handler
// returns, even by a panic, which reaches the server unchanged. A streaming call needs a slot to be admitted and gives it
// back at once, because nobody knows how long it lasts; its latency and its end count for nothing (see
// guard.Permit.Endless). WithEndless says which calls are treated in this way. A streaming call that is not holds no slot
// while it waits for its client, as in guardhttp.
//
// A refused call is answered at once with RESOURCE_EXHAUSTED. The details of the status are a google.rpc.RetryInfo, and a
// google.rpc.ErrorInfo with the reason (CONCURRENCY, RATE, SHED, CALLEE, SHARE, ROOF or ENDLESS) and the domain ErrorDomain. The
// trailer has guard-refused, retry-after in whole seconds, spread so that callers do not all return at once, and grpc-retry-pushback-ms (gRFC A6): the
// same time, or -1 if a retry is useless for now.
//
// The handler's context carries the permit: guarded calls made with it do not count as the service's own latency, and
// guard.Optional answers for it.
//
// Outcomes:
//
//	handler panicked                                 failure
//	UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
//	INTERNAL, UNAVAILABLE, DATA_LOSS                 failure, as in OpenTelemetry's conventions for servers
//	client went away before the handler returned     canceled: not a failure of the service
//	endless                                          ignored: its duration is not a latency
//	everything else                                  success
//
// The criticality comes from the metadata guard-criticality, the user or tenant from guard-key. A guarded caller sends both
// in guard-context (or in the call's W3C baggage), with the rank of its request and more, see package wire. A client that can
// set these can claim to be critical: use WithTrust, WithCriticality and WithKey where strangers call.
//
// What an answer advises (package wire, guard-answer) is in the header of a good answer and in the trailer of a failed one.
// A deadline travels as gRPC's own; only a call without one uses the time left in guard-context.
//
// # On the way out
//
// See UnaryClientInterceptor and StreamClientInterceptor.
package guardgrpc

import (
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo in the status of a refusal.
const ErrorDomain = guardhttp.ErrorDomain

// The keys of metadata are the names of guardhttp's headers.
var (
	contextKey     = strings.ToLower(guardhttp.ContextHeader)
	answerKey      = strings.ToLower(guardhttp.AnswerHeader)
	refusedKey     = strings.ToLower(guardhttp.RefusedHeader)
	criticalityKey = strings.ToLower(guardhttp.CriticalityHeader)
	keyKey         = strings.ToLower(guardhttp.KeyHeader)
	attemptKey     = strings.ToLower(guardhttp.AttemptHeader)
	loadReportKey  = strings.ToLower(guardhttp.LoadReportBinHeader)
	noRetryKey     = strings.ToLower(guardhttp.NoRetryHeader)
)

const (
	retryAfterKey = "retry-after"
	pushbackKey   = "grpc-retry-pushback-ms"
	noPushback    = "-1" // do not retry
)

// codeOf returns the code with which the server answers a handler that returned err.
func codeOf(err error) codes.Code { return statusOf(err).Code() }

func statusOf(err error) *status.Status {
	if s, ok := status.FromError(err); ok {
		return s
	}
	return status.FromContextError(err)
}

// failed says whether a call that ended with this code failed.
func failed(c codes.Code) bool { return guardhttp.GRPCFailed(int(c)) }

// adviceIn reads what an answer advises from its header or its trailer.
func adviceIn(md metadata.MD) guard.Advice {
	a := wire.ParseAdvice(wire.Only(md[answerKey]))
	a.NoRetry = a.NoRetry || len(md[noRetryKey]) > 0
	if values := md[pushbackKey]; len(values) > 0 {
		milliseconds, err := strconv.Atoi(values[0])
		a.NoRetry = a.NoRetry || err != nil || milliseconds < 0
	}
	return a
}

// advise puts what an answer advises into its header or its trailer. A stranger is told only not to retry, as in guardhttp.
func advise(md metadata.MD, a guard.Advice, stranger bool) {
	if text := wire.FormatAdvice(a); text != "" && !stranger {
		md[answerKey] = []string{text}
	}
	if a.NoRetry {
		md[noRetryKey] = []string{"1"}
		md[pushbackKey] = []string{noPushback}
	}
}
