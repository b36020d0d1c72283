package guardhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// ask sends a request of this version of HTTP and type to h.
func ask(h http.Handler, major int, kind string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/shop.Cart/Add", nil)
	r.ProtoMajor = major
	r.Header.Set("Content-Type", kind)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A refusal is an answer that a client of gRPC understands. Others get the status of HTTP.
func TestRefusalOfGRPC(t *testing.T) {
	g := newGuard(t, 1)
	p, err := g.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	h := guardhttp.New(g, http.NotFoundHandler())
	check := func(major int, kind string, grpc bool) http.Header {
		t.Helper()
		w := ask(h, major, kind)
		head := w.Header()
		if head.Get(guardhttp.RefusedHeader) == "" || (w.Code == http.StatusOK) != grpc || (head.Get("Grpc-Status") == "8") != grpc ||
			(head.Get("Grpc-Message") != "") != grpc || (head.Get("Content-Type") == kind) != grpc || (w.Body.Len() == 0) != grpc {
			t.Errorf("HTTP/%d %s: %d %v %q", major, kind, w.Code, head, w.Body)
		}
		return head
	}
	check(2, "application/grpc+proto", true)
	check(2, "application/grpc; charset=utf-8", true)
	check(2, "application/grpc-web+proto", true)
	check(1, "application/grpc-web-text", true)
	check(1, "application/grpc", false)
	check(2, "application/grpcish", false)
	check(2, "application/proto", false)
	if ms := check(2, "application/grpc", true).Get("Grpc-Retry-Pushback-Ms"); ms < "1000" || ms > "3000" {
		t.Errorf("pushback of %s ms, want 1 s to 3 s", ms)
	}
	p.Release(guard.Ignored)

	apply(t, g, actuators.Rate{PerSecond: 0.1, Burst: 1}, 1)
	ask(h, 2, "application/grpc")
	if message := check(2, "application/grpc", true).Get("Grpc-Message"); message != "refused: too many requests for now, try again later and more slowly" {
		t.Errorf("%q", message)
	}
}

// While a guard has been refusing for a second, gRPC's clients are told not to retry.
func TestRefusalOfGRPCThatIsHopeless(t *testing.T) {
	now := time.Now()
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	h := guardhttp.New(g, http.NotFoundHandler())
	pushback := ""
	for range 100 * 128 { // a guard that refuses seldom reads the clock
		now = now.Add(100 * time.Microsecond)
		pushback = ask(h, 2, "application/grpc").Header().Get("Grpc-Retry-Pushback-Ms")
	}
	if pushback != "-1" {
		t.Errorf("pushback %q, want -1", pushback)
	}
}

// The outcome of a call is its grpc-status, wherever it is.
func TestOutcomesOfGRPC(t *testing.T) {
	for _, key := range []string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		for code := range 17 {
			g := newGuard(t, 1)
			ask(guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusOK)
				w.Header()[key] = []string{fmt.Sprint(code)}
			})), 2, "application/grpc")
			want := uint64(0)
			switch code {
			case 2, 4, 12, 13, 14, 15:
				want = 1
			}
			if n := g.Snapshot().Failed; n != want {
				t.Errorf("%s: %d: %d failures, want %d", key, code, n, want)
			}
		}
	}
	g := newGuard(t, 1)
	ask(guardhttp.New(g, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), 2, "application/grpc")
	if n := g.Snapshot().Failed; n != 1 {
		t.Errorf("%d failures without a status, want 1", n)
	}
}
