package guardhttp

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// The codes of gRPC (https://grpc.io/docs/guides/status-codes) that this package and its users send.
const (
	GRPCDeadlineExceeded  = 4
	GRPCResourceExhausted = 8
	GRPCInternal          = 13
	GRPCUnavailable       = 14
)

// grpcFailures are the codes that count as failures of the service, as in OpenTelemetry's conventions for the spans of a
// gRPC server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS. The others are the caller's
// doing, answers like any other, or refusals.
var grpcFailures = [...]bool{2: true, 4: true, 12: true, 13: true, 14: true, 15: true, 16: false}

// GRPCFailed says whether a call of gRPC that ended with this code counts as a failure of the service. Numbers that are no
// codes do.
func GRPCFailed(code int) bool { return code < 0 || code >= len(grpcFailures) || grpcFailures[code] }

// grpcFailed is GRPCFailed for a grpc-status. A call without a code has no end.
func grpcFailed(status string) bool {
	code, err := strconv.Atoi(status)
	return err != nil || GRPCFailed(code)
}

const grpcType = "application/grpc"

// IsGRPC says whether a request is one of gRPC: HTTP/2 with the media type application/grpc or application/grpc+…. The
// protocols gRPC-Web and Connect are not: their failures are not in trailers.
func IsGRPC(r *http.Request) bool { return r.ProtoMajor == 2 && IsGRPCType(r.Header) }

// IsGRPCType says whether a header has a media type of gRPC, whatever the version of HTTP.
func IsGRPCType(h http.Header) bool {
	values := h["Content-Type"]
	if len(values) == 0 {
		return false
	}
	rest, ok := strings.CutPrefix(values[0], grpcType)
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// understandsGRPC says whether the client of a request reads grpc-status in the header of an answer: gRPC and gRPC-Web.
func understandsGRPC(r *http.Request) bool {
	return IsGRPC(r) || hasType(r.Header, grpcWebType)
}

// FailGRPC answers a request of gRPC, or gRPC-Web, with a code and a message: status 200, and a header that is the trailer
// at the same time.
func FailGRPC(w http.ResponseWriter, r *http.Request, code int, message string) {
	h := w.Header()
	h["Content-Type"] = r.Header["Content-Type"]
	h["Grpc-Status"] = []string{strconv.Itoa(code)}
	h["Grpc-Message"] = []string{percentEncoded(message)}
	w.WriteHeader(http.StatusOK)
}

// grpcOutcome judges a call by its grpc-status. RESOURCE_EXHAUSTED is a refusal of some kind: its latency is none, and
// unless Guard-Refused says so, the request may have been executed.
func grpcOutcome(status string) guard.Outcome {
	switch {
	case status == strconv.Itoa(GRPCResourceExhausted):
		return guard.Ignored
	case grpcFailed(status):
		return guard.Failure
	}
	return guard.Success
}

// percentEncoded encodes what a grpc-message must not contain.
func percentEncoded(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// grpcStatus returns the grpc-status of an answer, from its header, from announced trailers or from others; "": none.
func grpcStatus(header http.Header) string {
	if status := header.Get("Grpc-Status"); status != "" {
		return status
	}
	if values := header[http.TrailerPrefix+"Grpc-Status"]; len(values) > 0 {
		return values[0]
	}
	return ""
}
