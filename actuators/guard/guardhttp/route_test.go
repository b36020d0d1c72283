package guardhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// The route is the pattern of the router, in front of the guard or behind it, else the default.
func TestRouteIsThePattern(t *testing.T) {
	for _, tc := range []struct{ pattern, path, want string }{
		{"GET /orders/{id}", "/orders/7", "checkout/orders/{id}"},
		{"/orders/", "/orders/7/items", "checkout/orders/"},
		{"example.com/orders/{id}", "/orders/7", "checkout/orders/{id}"},
		{"/other", "/orders/7", "checkout/orders"},
	} {
		var entry string
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			origin, _ := guard.OriginOf(r.Context())
			entry = origin.Entry
		})
		request := func() *http.Request { return httptest.NewRequest(http.MethodGet, "http://example.com"+tc.path, nil) }
		inner := http.NewServeMux()
		inner.Handle(tc.pattern, handler)
		inner.Handle("/", handler)
		behind := http.NewServeMux()
		guarded := guardhttp.Middleware(newGuard(t, 1), guardhttp.WithRoute(guardhttp.PatternOf))
		behind.Handle(tc.pattern, guarded(handler))
		if tc.pattern == "/other" {
			tc.want = "checkout/"
			guarded(handler).ServeHTTP(httptest.NewRecorder(), request())
			if entry != "checkout/orders" {
				t.Errorf("without a pattern: %q", entry)
			}
		} else if behind.ServeHTTP(httptest.NewRecorder(), request()); entry != tc.want {
			t.Errorf("behind %s: %q, want %q", tc.pattern, entry, tc.want)
		}
		guardhttp.New(newGuard(t, 1), inner, guardhttp.WithRoute(guardhttp.PatternIn(inner))).
			ServeHTTP(httptest.NewRecorder(), request())
		if entry != tc.want {
			t.Errorf("in front of %s: %q, want %q", tc.pattern, entry, tc.want)
		}
	}
}
