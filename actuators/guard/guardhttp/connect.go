package guardhttp

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The protocols of Connect (https://connectrpc.com/docs/protocol) and gRPC-Web
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md). A unary call of Connect answers like any request of HTTP,
// and its status tells failures apart. A stream of Connect and every call of gRPC-Web answer 200, with messages in envelopes;
// how the call went is in the last one:
//
//	flags (1 byte) | length (4 bytes) | content
const (
	connectStreamType = "application/connect+"
	grpcWebType       = grpcType + "-web"
	grpcWebTextType   = grpcWebType + "-text" // in Base64, which is not read here

	envelopeHead     = 5
	flagCompressed   = 0x01
	flagConnectEnd   = 0x02
	flagGRPCWebEnd   = 0x80
	longestLastWords = 16 << 10
)

type connectKind uint8

const (
	notConnect connectKind = iota
	connectUnary
	connectStream
)

// connectOf says whether the client of a request understands the errors of Connect. A unary request without the header of
// the protocol is one of plain HTTP.
func connectOf(r *http.Request) connectKind {
	switch {
	case hasType(r.Header, connectStreamType):
		return connectStream
	case len(r.Header["Connect-Protocol-Version"]) > 0,
		r.Method == http.MethodGet && slices.Contains(strings.Split(r.URL.RawQuery, "&"), "connect=v1"):
		return connectUnary
	}
	return notConnect
}

func hasType(h http.Header, prefix string) bool {
	values := h["Content-Type"]
	return len(values) > 0 && strings.HasPrefix(values[0], prefix)
}

// enveloped says whether an answer with this header is in envelopes that can be read.
func enveloped(h http.Header) bool {
	return (hasType(h, connectStreamType) || hasType(h, grpcWebType) && !hasType(h, grpcWebTextType)) &&
		len(h["Content-Encoding"]) == 0
}

// connectAnswers are the codes of Connect that do not count as failures of the service, see grpcFailures.
var connectAnswers = []string{
	"canceled", "invalid_argument", "not_found", "already_exists", "permission_denied", "resource_exhausted",
	"failed_precondition", "aborted", "out_of_range", "unauthenticated",
}

// lastWords reads the envelopes of an answer as they are written, and keeps the content of the last one.
type lastWords struct {
	head []byte
	left uint32 // of the content of the present envelope
	text []byte
	over bool // the last envelope has begun
}

func (l *lastWords) read(b []byte) {
	for len(b) > 0 {
		if len(l.head) < envelopeHead {
			n := min(envelopeHead-len(l.head), len(b))
			l.head, b = append(l.head, b[:n]...), b[n:]
			if len(l.head) < envelopeHead {
				return
			}
			l.left = binary.BigEndian.Uint32(l.head[1:])
			l.over = l.over || l.head[0]&(flagConnectEnd|flagGRPCWebEnd) != 0
		}
		n := min(uint64(l.left), uint64(len(b)))
		if l.over && len(l.text)+int(n) <= longestLastWords {
			l.text = append(l.text, b[:n]...)
		}
		l.left -= uint32(n)
		b = b[n:]
		if l.left == 0 && !l.over {
			l.head = l.head[:0]
		}
	}
}

// failed says whether the call failed, so that the service is to blame. An answer without a last envelope has no end. One that
// is compressed in an unknown way, or too long, says nothing.
func (l *lastWords) failed() bool {
	if !l.over || l.left > 0 {
		return true
	}
	text := l.text
	if l.head[0]&flagCompressed != 0 {
		unzip, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return false
		}
		if text, err = io.ReadAll(io.LimitReader(unzip, longestLastWords)); err != nil {
			return false
		}
	}
	if l.head[0]&flagGRPCWebEnd != 0 {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "grpc-status") {
				return grpcFailed(strings.TrimSpace(value))
			}
		}
		return true
	}
	var end struct{ Error *struct{ Code string } }
	if json.Unmarshal(text, &end) != nil {
		return false
	}
	return end.Error != nil && !slices.Contains(connectAnswers, end.Error.Code)
}

// ErrorDomain is the domain of the google.rpc.ErrorInfo in a refusal of gRPC, gRPC-Web or Connect.
const ErrorDomain = "github.com/seed-de83e32b/governor"

// detail is one of the details of an error: a message of protobuf and its type.
type detail struct {
	kind  string
	value []byte
}

// refusalDetails are google.rpc.RetryInfo and google.rpc.ErrorInfo, the same that guardgrpc sends.
func refusalDetails(reason string, seconds int) []detail {
	return []detail{
		{"google.rpc.RetryInfo", protoBytes(nil, 1, protoVarint(nil, 1, seconds))}, // its field 1 is a Duration, seconds the first of that
		{"google.rpc.ErrorInfo", protoBytes(protoBytes(nil, 1, []byte(strings.ToUpper(reason))), 2, []byte(ErrorDomain))},
	}
}

// grpcDetails is a google.rpc.Status for the trailer grpc-status-details-bin.
func grpcDetails(code int, message string, details []detail) []byte {
	status := protoBytes(protoVarint(nil, 1, code), 2, []byte(message))
	for _, d := range details {
		any := protoBytes(protoBytes(nil, 1, []byte("type.googleapis.com/"+d.kind)), 2, d.value)
		status = protoBytes(status, 3, any)
	}
	return status
}

// protoVarint and protoBytes append a field to a message of protobuf
// (https://protobuf.dev/programming-guides/encoding). The field is one of 1 to 15.
func protoVarint(to []byte, field, value int) []byte {
	return binary.AppendUvarint(append(to, byte(field<<3)), uint64(value))
}

func protoBytes(to []byte, field int, value []byte) []byte {
	return append(binary.AppendUvarint(append(to, byte(field<<3|2)), uint64(len(value))), value...)
}

// binaryHeader is how gRPC and Connect write bytes into text.
func binaryHeader(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// failConnect answers a request of Connect with resource_exhausted: a unary one with the status, a stream with an envelope.
func failConnect(w http.ResponseWriter, r *http.Request, kind connectKind, status int, message string, details []detail) {
	type wireDetail struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	type wireError struct {
		Code    string       `json:"code"`
		Message string       `json:"message"`
		Details []wireDetail `json:"details"`
	}
	e := wireError{Code: "resource_exhausted", Message: message}
	for _, d := range details {
		e.Details = append(e.Details, wireDetail{d.kind, binaryHeader(d.value)})
	}
	if kind == connectUnary {
		body, _ := json.Marshal(e)
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
		w.WriteHeader(status)
		w.Write(body)
		return
	}
	body, _ := json.Marshal(struct {
		Error wireError `json:"error"`
	}{e})
	w.Header()["Content-Type"] = r.Header["Content-Type"]
	w.WriteHeader(http.StatusOK)
	w.Write(append(binary.BigEndian.AppendUint32([]byte{flagConnectEnd}, uint32(len(body))), body...))
}
