package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/internal/edge"
)

// The test binary plays governor itself when this is set.
const plays = "GOVERNOR_TEST_PLAYS"

func TestMain(m *testing.M) {
	if os.Getenv(plays) != "" {
		os.Exit(governor(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// sidecar puts a guard of limit 2 in front of upstream, like the command, and serves the admin pages separately.
func sidecar(t *testing.T, upstream string) (g *guard.Guard, traffic, admin *httptest.Server) {
	t.Helper()
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 2, Max: 2})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProxy(u, promslog.NewNopLogger())
	traffic = httptest.NewServer(guardhttp.New(g, proxy))
	admin = httptest.NewServer(adminHandler(g, &ports{drain: edge.NewDrain(0, 0), patience: &edge.Patience{}}))
	t.Cleanup(func() {
		traffic.Close()
		admin.Close()
		proxy.Transport.(*http.Transport).CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
	})
	return g, traffic, admin
}

func fetch(t *testing.T, r *http.Request) (int, http.Header, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSidecarPassesRequestsOnAsTheyCame(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upstream", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s %s", r.Host, r.URL.RequestURI(), r.Header.Get("X-Forwarded-For"),
			r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Accept-Encoding"))
	}))
	defer upstream.Close()
	_, traffic, admin := sidecar(t, upstream.URL)

	r := request(t, traffic.URL+"/metrics?a=1;b=%2F")
	r.Host = "shop.example"
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	r.Header.Set("X-Forwarded-Proto", "https") // said by the load balancer
	r.Header.Set("Accept-Encoding", "br")
	code, header, body := fetch(t, r)
	if code != http.StatusTeapot || header.Get("Upstream") != "yes" {
		t.Errorf("answer %d %v", code, header)
	}
	// /metrics stays the service's own; the sidecar's metrics are elsewhere.
	if want := "shop.example /metrics?a=1;b=%2F 192.0.2.1, 127.0.0.1 https br"; body != want {
		t.Errorf("the service saw %q, want %q", body, want)
	}
	counted := `guard_admitted_total{criticality="default",service="checkout"} 1`
	if _, _, own := fetch(t, request(t, admin.URL+"/metrics")); !strings.Contains(own, counted) {
		t.Errorf("the sidecar's metrics do not count the request:\n%s", own)
	}
}

func TestUpstreamThatDoesNotAnswerIsAFailure(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	g, traffic, _ := sidecar(t, gone.URL)
	if code, _, _ := fetch(t, request(t, traffic.URL)); code != http.StatusBadGateway {
		t.Errorf("%d, want 502", code)
	}
	waittest.Until(t, "one failure counted", func() bool { return g.Snapshot().Failed == 1 })
}

func TestClientThatGoesAwayIsNoFailureOfTheService(t *testing.T) {
	entered := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done() // the cancellation is passed on
	}))
	defer upstream.Close()
	g, traffic, _ := sidecar(t, upstream.URL)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	resp, err := http.DefaultClient.Do(request(t, traffic.URL).WithContext(ctx))
	if err == nil {
		resp.Body.Close()
		t.Fatal("the request was answered")
	}
	waittest.Until(t, "the slot is free again", func() bool { return g.Snapshot().InFlight == 0 })
	if n := g.Snapshot().Failed; n != 0 {
		t.Errorf("%d failures counted", n)
	}
}

func TestSidecarRefusesBeyondTheLimit(t *testing.T) {
	release := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer upstream.Close()
	defer close(release)
	g, traffic, _ := sidecar(t, upstream.URL)
	for range 2 {
		r := request(t, traffic.URL)
		go func() {
			if resp, err := http.DefaultClient.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
	}
	waittest.Until(t, "two in flight", func() bool { return g.Snapshot().InFlight == 2 })
	code, header, _ := fetch(t, request(t, traffic.URL))
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" ||
		header.Get(guardhttp.RefusedHeader) != "concurrency" {
		t.Errorf("%d %v, want 503 that says why and when to return", code, header)
	}
}
