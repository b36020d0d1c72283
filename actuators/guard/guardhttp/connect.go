package guardhttp

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/seed-de83e32b/governor/actuators/guard"
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
	if uint32(len(text)) != binary.BigEndian.Uint32(l.head[1:]) {
		return false
	}
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

// formal is a refusal in the forms of gRPC and Connect. Making one costs ten times as much as everything else about a refusal,
// so each is kept: of each reason, there are some hundred at most.
type formal struct {
	message string
	details []string // grpc-status-details-bin
	unary   []byte   // the body for a unary call of Connect
	last    []byte   // the envelope for a stream of it
}

// formalities are the formal refusals, by reason and seconds.
var formalities sync.Map

type formality struct {
	reason  string
	seconds int
}

// formalRefusal returns the refusal for the reason that asks to wait, with google.rpc.RetryInfo and google.rpc.ErrorInfo as
// guardgrpc sends them.
func formalRefusal(refusal *guard.Refusal, seconds int) *formal {
	of := formality{refusal.Reason(), seconds}
	if known, ok := formalities.Load(of); ok {
		return known.(*formal)
	}
	text := tooFull
	if errors.Is(refusal, guard.ErrRate) {
		text = tooFast
	}
	message := strings.TrimSpace(string(text))
	delay := protoVarint(nil, 1, seconds) // a google.protobuf.Duration
	details := []struct {
		kind  string
		value []byte
	}{
		{"google.rpc.RetryInfo", protoBytes(nil, 1, delay)},
		{"google.rpc.ErrorInfo", protoBytes(protoBytes(nil, 1, []byte(strings.ToUpper(of.reason))), 2, []byte(ErrorDomain))},
	}
	status := protoBytes(protoVarint(nil, 1, GRPCResourceExhausted), 2, []byte(message)) // a google.rpc.Status
	said := connectError{Code: "resource_exhausted", Message: message}
	for _, d := range details {
		status = protoBytes(status, 3, protoBytes(protoBytes(nil, 1, []byte("type.googleapis.com/"+d.kind)), 2, d.value))
		said.Details = append(said.Details, connectDetail{d.kind, base64.RawStdEncoding.EncodeToString(d.value)})
	}
	unary, _ := json.Marshal(said) // strings only: it cannot fail
	last, _ := json.Marshal(map[string]connectError{"error": said})
	f := &formal{
		message: message,
		details: []string{base64.RawStdEncoding.EncodeToString(status)},
		unary:   unary,
		last:    append(binary.BigEndian.AppendUint32([]byte{flagConnectEnd}, uint32(len(last))), last...),
	}
	formalities.Store(of, f)
	return f
}

// connectError is the JSON of an error of Connect.
type connectError struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Details []connectDetail `json:"details"`
}

type connectDetail struct {
	Type  string `json:"type"`
	Value string `json:"value"` // in Base64
}

// protoVarint and protoBytes append a field to a message of protobuf
// (https://protobuf.dev/programming-guides/encoding). The field is one of 1 to 15.
func protoVarint(to []byte, field, value int) []byte {
	return binary.AppendUvarint(append(to, byte(field<<3)), uint64(value))
}

func protoBytes(to []byte, field int, value []byte) []byte {
	return append(binary.AppendUvarint(append(to, byte(field<<3|2)), uint64(len(value))), value...)
}

// refuseConnect answers a request of Connect: a unary one with the status, a stream with its last envelope.
func refuseConnect(w http.ResponseWriter, r *http.Request, kind connectKind, status int, f *formal) {
	if kind == connectUnary {
		w.Header()["Content-Type"] = []string{"application/json"}
		w.WriteHeader(status)
		w.Write(f.unary)
		return
	}
	w.Header()["Content-Type"] = r.Header["Content-Type"]
	w.WriteHeader(http.StatusOK)
	w.Write(f.last)
}
