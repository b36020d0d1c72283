package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A page whose name was made to point to 127.0.0.1 sends its own name: it reads nothing, changes nothing and profiles
// nothing.
func TestPageThatRebindsItsNameReachesNothing(t *testing.T) {
	_, client := daemonProcess(t, write(t, goodConfig), io.Discard)
	ask := func(host, method, path string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, client.Address()+path, strings.NewReader(
			`{"actor": "mallory", "reason": "x", "expires_in_seconds": 900}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Origin", "http://"+host)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	for _, request := range []string{
		"GET /", "GET /metrics", "GET /-/healthy", "GET /-/ready", "GET /api/v1/status", "GET /api/v1/loops", "GET /api/v1/stream",
		"GET /api/v1/decisions", "GET /debug/pprof/", "GET /debug/pprof/goroutine?debug=2", "GET /nowhere", "POST /-/reload",
		"POST /api/v1/loops/checkout/concurrency/freeze", "POST /api/v1/freeze",
	} {
		method, path, _ := strings.Cut(request, " ")
		if code := ask("evil.example:9747", method, path); code != http.StatusForbidden {
			t.Errorf("%s as evil.example: %d", request, code)
		}
	}
	for _, host := range []string{"localhost:9747", "127.0.0.1"} {
		if code := ask(host, "GET", "/metrics"); code != http.StatusOK {
			t.Errorf("as %s: %d", host, code)
		}
	}
}
