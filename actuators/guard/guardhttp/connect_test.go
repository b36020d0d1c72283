package guardhttp_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// What a handler writes in envelopes, in pieces of any size, is judged by the last one. The tests of the bindings do this with
// the real clients and servers of connect-go.
func TestLastEnvelopeIsTheOutcome(t *testing.T) {
	const data = "\x00\x00\x00\x00\x02hi"
	for _, tc := range []struct {
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
		{"web, good", "application/grpc-web+proto", data + "\x80\x00\x00\x00\x10grpc-status: 0\r\n", false},
		{"web, failed", "application/grpc-web", data + "\x80\x00\x00\x00\x10Grpc-Status:13\r\n", true},
		{"web, without a code", "application/grpc-web", "\x80\x00\x00\x00\x06a: b\r\n", true},
		{"web, too long", "application/grpc-web", "\x80\x00\x00\x50\x00" + strings.Repeat("a: b\r\n\r\n", 2560), false},
		{"web in Base64", "application/grpc-web-text", "", false},
	} {
		for _, piece := range []int{1, 3, 100} {
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
