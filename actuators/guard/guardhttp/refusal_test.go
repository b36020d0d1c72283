package guardhttp_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// full is a guard without room, which sheds, and has been refusing for two seconds: its refusals say all that one may say.
func full(t *testing.T) *guard.Guard {
	t.Helper()
	start, passed := time.Now(), atomic.Int64{}
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1, ShedThreshold: 0.5,
		Now: func() time.Time { return start.Add(time.Duration(passed.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Acquire(t.Context(), guard.Critical); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		passed.Add(int64(100 * time.Millisecond))
		guardhttp.New(g, http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	return g
}

// protocols are the requests that are refused in different ways.
func protocols() map[string]*http.Request {
	all := map[string]*http.Request{}
	for _, kind := range []string{"", "application/grpc", "application/grpc-web+proto", "application/connect+json"} {
		r := httptest.NewRequest(http.MethodPost, "/shop.Cart/Add", nil)
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		r.ProtoMajor = 2
		all[kind] = r
	}
	all["unary"] = httptest.NewRequest(http.MethodGet, "/shop.Cart/Add?message=x&connect=v1", nil)
	return all
}

// A refusal allocates nothing, whatever the protocol of the client is.
func TestRefusalDoesNotAllocate(t *testing.T) {
	h := guardhttp.New(full(t), http.NotFoundHandler())
	for name, r := range protocols() {
		w := &discard{http.Header{}}
		if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		for _, header := range []string{guardhttp.RefusedHeader, guardhttp.NoRetryHeader, guardhttp.AnswerHeader} {
			if w.Header().Get(header) == "" {
				t.Errorf("%s: no %s in %v", name, header, w.Header())
			}
		}
	}
}

// Whoever appends to the header of a refusal changes no other answer.
func TestRefusalsShareNothingThatGrows(t *testing.T) {
	h := guardhttp.New(full(t), http.NotFoundHandler())
	for name, r := range protocols() {
		for range 100 { // with each Retry-After
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			for field, values := range w.Header() {
				if slices.Contains(values, "more") || len(values) != 1 {
					t.Fatalf("%s: %s is %q", name, field, values)
				}
				if cap(values) > 1 && field != "Content-Type" { // that of the request
					t.Errorf("%s: %s has room for %d values", name, field, cap(values))
				}
				w.Header().Add(field, "more")
			}
		}
	}
}
