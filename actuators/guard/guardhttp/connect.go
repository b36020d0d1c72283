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
	"strconv"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/memo"
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
	grpcWebTextType   = grpcWebType + "-text" // the same in Base64, with padding wherever the server has flushed

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
		r.Method == http.MethodGet && saysConnect(r.URL.RawQuery):
		return connectUnary
	}
	return notConnect
}

func saysConnect(query string) bool {
	for field := range strings.SplitSeq(query, "&") {
		if field == "connect=v1" {
			return true
		}
	}
	return false
}

func hasType(h http.Header, prefix string) bool {
	values := h["Content-Type"]
	return len(values) > 0 && strings.HasPrefix(values[0], prefix)
}

// envelopesOf returns what reads an answer with this header, if it is in envelopes that can be read; else nil.
func envelopesOf(h http.Header) *lastWords {
	if len(h["Content-Encoding"]) > 0 || !hasType(h, connectStreamType) && !hasType(h, grpcWebType) {
		return nil
	}
	return &lastWords{base64: hasType(h, grpcWebTextType)}
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

	base64 bool
	digits []byte // of Base64 that wait for the rest of their four
	bad    bool   // what came is not Base64
}

// hear reads more of the body of the answer.
func (l *lastWords) hear(b []byte) {
	if !l.base64 {
		l.read(b)
		return
	}
	var decoded [384]byte
	for len(b) > 0 && !l.bad {
		var fours []byte
		if len(l.digits) == 0 && len(b) >= 4 {
			fours = b[:min(len(b), 4*len(decoded)/3)&^3]
			if i := bytes.IndexByte(fours, '='); i >= 0 { // others follow
				fours = fours[:i&^3+4]
			}
			b = b[len(fours):]
		} else {
			n := min(4-len(l.digits), len(b))
			l.digits, b = append(l.digits, b[:n]...), b[n:]
			if len(l.digits) < 4 {
				return
			}
			fours, l.digits = l.digits, l.digits[:0]
		}
		n, err := base64.StdEncoding.Decode(decoded[:], fours)
		l.bad = err != nil
		l.read(decoded[:n])
	}
}

// complete says whether the last envelope is there.
func (l *lastWords) complete() bool { return l.over && l.left == 0 && len(l.head) == envelopeHead }

func (l *lastWords) read(b []byte) {
	for len(b) > 0 && !l.complete() { // what follows the last one counts for nothing
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
	if len(l.digits) > 0 { // without padding
		rest, _ := base64.RawStdEncoding.DecodeString(string(l.digits))
		l.digits = nil
		l.read(rest)
	}
	if !l.complete() {
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

// refused is the answer to a refused request, in the forms of HTTP, gRPC and Connect. Making one costs ten times as much as
// everything else about a refusal, so each is kept: there are some hundred at most. Its values of headers go into many answers
// and are never changed; each is full, so that what appends to one copies it.
type refused struct {
	retryAfter, reason []string
	tooFast            bool // refused by the rate
	text               []byte

	pushback, message, details []string // gRPC
	unary                      []byte   // the body for a unary call of Connect
	last                       []byte   // the envelope for a stream of it
}

// refusals are the answers made so far.
var refusals memo.Map[refusalKind, *refused]

type refusalKind struct {
	reason  string
	seconds int
}

// refusedFor returns the answer for the reason that asks to wait, with google.rpc.RetryInfo and google.rpc.ErrorInfo as
// guardgrpc sends them.
func refusedFor(refusal *guard.Refusal, seconds int) *refused {
	of := refusalKind{refusal.Reason(), seconds}
	if known, ok := refusals.Load(of); ok {
		return known
	}
	text, fast := tooFull, errors.Is(refusal, guard.ErrRate)
	if fast {
		text = tooFast
	}
	message := strings.TrimSpace(text)
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
	f := &refused{
		retryAfter: []string{strconv.Itoa(seconds)},
		reason:     []string{of.reason},
		tooFast:    fast,
		text:       []byte(text),
		pushback:   []string{strconv.Itoa(1000 * seconds)},
		message:    []string{percentEncoded(message)},
		details:    []string{base64.RawStdEncoding.EncodeToString(status)},
		unary:      unary,
		last:       append(binary.BigEndian.AppendUint32([]byte{flagConnectEnd}, uint32(len(last))), last...),
	}
	refusals.Store(of, f)
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
func refuseConnect(w http.ResponseWriter, r *http.Request, kind connectKind, status int, f *refused) {
	if kind == connectUnary {
		w.Header()["Content-Type"] = jsonType
		w.WriteHeader(status)
		w.Write(f.unary)
		return
	}
	w.Header()["Content-Type"] = r.Header["Content-Type"]
	w.WriteHeader(http.StatusOK)
	w.Write(f.last)
}
