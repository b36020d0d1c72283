package edge

import (
	"net/http"
	"net/url"
	"testing"
)

// The first route that matches gives the name, however the path is written.
func TestRoutes(t *testing.T) {
	var s Routes
	for _, text := range []string{"/api/v1/buy/*=/buy", "/api/v1/buy=/buy", "/api/v1/*=/v1", "/search/*", "/shop.Cart/*=/cart"} {
		if err := s.Add(text); err != nil {
			t.Fatal(err)
		}
	}
	for target, want := range map[string]string{
		"/api/v1/buy": "/buy", "/api/v1/buy/17": "/buy", "/api/v1/basket": "/v1", "/api/v2/buy": "/api", "/search/a/b": "/search",
		"/search": "/search", "/": "/", "//api/v1/buy": "/buy", "/api/./v1/buy;x=1": "/buy", "/x/..;y/api/v1/buy/17": "/buy",
		"/api/v1/%62uy": "/buy", "/shop.Cart/Add": "/cart", "/api/v1/": "/v1",
		"//api/v1/": "/v1", "/api/v1/buy%2F17": "/buy", "/api/v1/buy/%25": "/buy", `/api/v1/buy/\x`: "/buy",
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Of(&http.Request{URL: u}); got != want {
			t.Errorf("%s: %s, expected %s", target, got, want)
		}
	}
	r := &http.Request{URL: &url.URL{Path: "/api/v1/buy/17"}}
	if n := testing.AllocsPerRun(100, func() { s.Of(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	for _, text := range []string{"", "/buy=", "/buy=buy", "buy=/buy", "/*=/all", "/a*=/a", "/a//b=/a", "/a=/"} {
		if err := s.Add(text); err == nil {
			t.Errorf("%q is a route", text)
		}
	}
}
