package guardhttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// A call through deadline, retry, breaker and bulkhead beside the bare transport. Compare within one run:
//
//	go test -run - -bench RoundTrip -count 5 ./guard/guardhttp
func BenchmarkRoundTrip(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "paid")
	}))
	defer server.Close()
	loopback := &http.Transport{MaxIdleConnsPerHost: 10}
	defer loopback.CloseIdleConnections()
	memory := trip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(&once{})}, nil
	})
	for name, base := range map[string]http.RoundTripper{"loopback": loopback, "memory": memory} {
		d := newGuard(b, 1000).Dependency("payments", guard.MaxCalls(1000))
		b.Run(name+"/bare", func(b *testing.B) { roundTrips(b, base, server.URL) })
		b.Run(name+"/guarded", func(b *testing.B) { roundTrips(b, guardhttp.Transport(d, base), server.URL) })
	}
}

func roundTrips(b *testing.B, rt http.RoundTripper, url string) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		resp, err := rt.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}

// once is an answer of four bytes.
type once struct{ read bool }

func (o *once) Read(p []byte) (int, error) {
	if o.read {
		return 0, io.EOF
	}
	o.read = true
	return copy(p, "paid"), nil
}
