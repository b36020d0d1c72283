package main

import (
	"net/http"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// Versions from before Guard-Context neither send nor read it, nor Guard-Answer. Proxies such as these two on both ways make
// one of a tier.

// oldServer hides Guard-Context from next, and its Guard-Answer from the client.
func oldServer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(guardhttp.ContextHeader)
		next.ServeHTTP(oldWriter{w}, r)
	})
}

type oldWriter struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w oldWriter) WriteHeader(status int) {
	w.Header().Del(guardhttp.AnswerHeader)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w oldWriter) Write(b []byte) (int, error) {
	w.Header().Del(guardhttp.AnswerHeader)
	return w.ResponseWriter.Write(b)
}

// oldTransport does the same with what is sent, and with the answer to it.
type oldTransport struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t oldTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del(guardhttp.ContextHeader)
	answer, err := t.base.RoundTrip(r)
	if err == nil {
		answer.Header.Del(guardhttp.AnswerHeader)
	}
	return answer, err
}
