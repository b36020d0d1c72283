package guardhttp_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// flushed is a body in Base64, with padding after each part.
func flushed(parts ...string) (body string) {
	for _, part := range parts {
		body += base64.StdEncoding.EncodeToString([]byte(part))
	}
	return body
}

const (
	data   = "\x00\x00\x00\x00\x02hi"
	good   = "\x80\x00\x00\x00\x10grpc-status: 0\r\n"
	failed = "\x80\x00\x00\x00\x10Grpc-Status:13\r\n"
)

// inEnvelopes are answers in envelopes.
var inEnvelopes = []struct {
	name, kind, body string
	failed           bool
}{
	{"connect, good", "application/connect+json", data + "\x02\x00\x00\x00\x02{}", false},
	{"connect, failed", "application/connect+json", data + "\x02\x00\x00\x00\x1d{\"error\":{\"code\":\"internal\"}}", true},
	{"connect, the caller's fault", "application/connect+proto", "\x02\x00\x00\x00\x1e{\"error\":{\"code\":\"not_found\"}}", false},
	{"connect, without an end", "application/connect+json", data, true},
	{"connect, cut", "application/connect+json", data + "\x02\x00\x00\x00\x1d{\"error\"", true},
	{"connect, compressed in an unknown way", "application/connect+json", "\x03\x00\x00\x00\x02hi", false},
	{"connect, nothing", "application/connect+json", "", true},
	{"web, good", "application/grpc-web+proto", data + good, false},
	{"web, failed", "application/grpc-web", data + failed, true},
	{"web, without a code", "application/grpc-web", "\x80\x00\x00\x00\x06a: b\r\n", true},
	{"web, more after the end", "application/grpc-web", good + failed, false},
	{"web, too long", "application/grpc-web", "\x80\x00\x00\x50\x00" + strings.Repeat("a: b\r\n\r\n", 2560), false},
	{"text, good", "application/grpc-web-text", flushed(data, data, good), false},
	{"text, failed", "application/grpc-web-text+proto", flushed(data, data, failed), true},
	{"text, in one", "application/grpc-web-text", flushed(data + data + failed), true},
	{"text, in many", "application/grpc-web-text", flushed(data[:1], data[1:3], data[3:], good[:7], good[7:]), false},
	{"text, long", "application/grpc-web-text", flushed("\x00\x00\x00\x20\x00"+strings.Repeat("apples..", 1024), good), false},
	{"text, without padding", "application/grpc-web-text", strings.TrimRight(flushed(good+"\n"), "="), false},
	{"text, cut", "application/grpc-web-text", flushed(data, good[:10]), true},
	{"text, nothing", "application/grpc-web-text", "", true},
	{"text, no Base64", "application/grpc-web-text", "AAAA?" + flushed(good), true},
}

// What a handler writes in envelopes, in pieces of any size, is judged by the last one. The tests of the bindings do this with
// the real clients and servers of connect-go.
func TestLastEnvelopeIsTheOutcome(t *testing.T) {
	for _, tc := range inEnvelopes {
		for _, piece := range []int{1, 3, 100, 100_000} {
			g := newGuard(t, 1)
			guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.kind)
				w.WriteHeader(http.StatusOK)
				for rest := tc.body; rest != ""; rest = rest[min(piece, len(rest)):] {
					if piece == 3 {
						_, _ = io.WriteString(w, rest[:min(piece, len(rest))])
					} else {
						_, _ = w.Write([]byte(rest[:min(piece, len(rest))]))
					}
				}
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil))
			if got := g.Snapshot().Failed == 1; got != tc.failed {
				t.Errorf("%s, %d bytes at a time: failed %v", tc.name, piece, got)
			}
		}
	}
}

// A call through Transport is judged in the same way, also where the caller closes the body after the last envelope and before
// the end.
func TestLastEnvelopeIsTheOutcomeOfACall(t *testing.T) {
	for _, tc := range inEnvelopes {
		for _, toTheEnd := range []bool{true, false} {
			rt, g := calls(t, trip(func(*http.Request) (*http.Response, error) {
				resp := reply(http.StatusOK, tc.body, "Content-Type", tc.kind)
				resp.Body = io.NopCloser(iotest.HalfReader(strings.NewReader(tc.body)))
				return resp, nil
			}))
			resp, err := rt.RoundTrip(request(t.Context(), http.MethodPost, ""))
			if err != nil {
				t.Fatal(err)
			}
			if toTheEnd {
				_, err = io.Copy(io.Discard, resp.Body)
			} else {
				_, err = io.ReadFull(resp.Body, make([]byte, len(tc.body)))
			}
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				t.Fatal(err)
			}
			// What is closed before its end may be so because the caller has seen enough.
			want := tc.failed && (toTheEnd || strings.HasSuffix(tc.name, "failed") || strings.HasSuffix(tc.name, "a code") ||
				strings.HasSuffix(tc.name, "in one"))
			if got := outgoing(g).Failures == 1; got != want {
				t.Errorf("%s, to the end %v: failed %v", tc.name, toTheEnd, got)
			}
		}
	}
	rt, g := calls(t, trip(func(*http.Request) (*http.Response, error) {
		resp := reply(http.StatusOK, "", "Content-Type", "application/grpc-web", "Grpc-Status", "5")
		resp.Body = io.NopCloser(strings.NewReader(""))
		return resp, nil
	}))
	resp, err := rt.RoundTrip(request(t.Context(), http.MethodPost, ""))
	if got := text(t, resp, err); got != "200 " || outgoing(g).Failures != 0 {
		t.Errorf("a code in the header: %q, %d failures", got, outgoing(g).Failures)
	}
}

// A unary call is refused with the status that Connect has for the code, or the one that the host wants.
func TestRefusalOfConnect(t *testing.T) {
	for _, status := range []int{0, http.StatusServiceUnavailable} {
		g := newGuard(t, 1)
		p, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		var options []guardhttp.Option
		want := http.StatusTooManyRequests
		if status != 0 {
			want, options = status, append(options, guardhttp.WithRefusalStatus(status))
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/shop.Cart/Add", nil)
		r.Header.Set("Connect-Protocol-Version", "1")
		guardhttp.New(g, http.NotFoundHandler(), options...).ServeHTTP(w, r)
		p.Release(guard.Ignored)
		var body struct{ Code string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Code != "resource_exhausted" || w.Code != want ||
			w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d, %v, %q", w.Code, w.Header(), w.Body)
		}
	}
}

// A caller behind Transport knows a refusal of Connect and of gRPC-Web, though their status is 200.
func TestTransportKnowsRefusalsInEnvelopes(t *testing.T) {
	for _, kind := range []string{"application/connect+json", "application/grpc-web+proto"} {
		callee := newGuard(t, 1)
		p, err := callee.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		url := serve(t, callee, func(http.ResponseWriter, *http.Request) {})
		caller, err := guard.New(guard.Config{Service: "front", SLO: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		resp, err := guardhttp.Transport(caller.Dependency("checkout"), nil).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		p.Release(guard.Ignored)
		if s := caller.Snapshot().Calls[0]; s.CalleeRefusals == 0 || s.Failures != 0 {
			t.Errorf("%s: %d refusals, %d failures", kind, s.CalleeRefusals, s.Failures)
		}
	}
}
