package guardhttp_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// The route is the pattern of the router, in front of the guard or behind it. What the router does not serve has none: whoever
// tries paths would make a name with each.
func TestRouteIsThePattern(t *testing.T) {
	for _, tc := range []struct{ pattern, path, want string }{
		{"GET /orders/{id}", "/orders/7", "/orders/{id}"},
		{"/orders/", "/orders/7/items", "/orders/"},
		{"example.com/orders/{id}", "/orders/7", "/orders/{id}"},
		{"/{any...}", "/orders/7", "/{any...}"},
		{"/other", "/orders/7", ""},
	} {
		request := httptest.NewRequest(http.MethodGet, "http://example.com"+tc.path, nil)
		mux, found := http.NewServeMux(), "no handler"
		mux.HandleFunc(tc.pattern, func(_ http.ResponseWriter, r *http.Request) { found = guardhttp.PatternOf(r) })
		mux.ServeHTTP(httptest.NewRecorder(), request)
		if tc.want == "" {
			found = guardhttp.PatternOf(request)
		}
		if in := guardhttp.PatternIn(mux)(request); found != tc.want || in != tc.want {
			t.Errorf("%s: %q behind the router, %q in front of it, want %q", tc.pattern, found, in, tc.want)
		}
	}
}

// A finder may do with the request what routers do, and none of it is seen.
func TestFinderOfPatterns(t *testing.T) {
	route := guardhttp.PatternBy(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Pattern != "" || r.Body != http.NoBody {
			t.Errorf("pattern %q, body %v", r.Pattern, r.Body)
		}
		switch r.URL.Path {
		case "/orders/7":
			r.Pattern = "GET /orders/:id"
		case "/orders/7/":
			r.URL.Path = "/orders/7"
			http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
		default:
			http.NotFound(w, r)
		}
	}))
	for path, want := range map[string]string{"/orders/7": "/orders/:id", "/orders/7/": "", "/nothing": ""} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("apples"))
		r.Pattern = "/outer"
		if got := route(r); got != want || r.URL.Path != path || r.Pattern != "/outer" || r.Body == http.NoBody {
			t.Errorf("%s: %q, want %q; %s, %q", path, got, want, r.URL.Path, r.Pattern)
		}
	}
}
