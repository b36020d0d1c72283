package sidecar

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a handler below Server on a real listener. The server must have nothing to complain about.
func serve(t *testing.T, handler http.Handler, patience time.Duration) (url string) {
	t.Helper()
	errors := &waittest.Buffer{}
	s := httptest.NewUnstartedServer(nil)
	s.Config, s.Listener = Server(handler), Listener(s.Listener, patience)
	s.Config.ErrorLog = log.New(errors, "", 0)
	s.Start()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.Close()
		if errors.Len() > 0 {
			t.Errorf("the server logged:\n%s", errors)
		}
	})
	return s.URL
}

// front puts a guard of limit 2 in front of upstream, like the command.
func front(t *testing.T, upstream string) (g *guard.Guard, url string) {
	t.Helper()
	return frontOf(t, upstream, 2, Patience)
}

func frontOf(t *testing.T, upstream string, limit int, patience time.Duration) (g *guard.Guard, front string) {
	t.Helper()
	holders := new(Holders)
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: limit, Max: limit, Holders: holders.Oldest,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := holders.Oldest(5); left != nil {
			t.Errorf("noted as holders after the end: %q", left)
		}
	})
	u, err := url.Parse(upstream)
	if err == nil {
		err = CheckUpstream(u)
	}
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewInbound(InboundConfig{Upstream: u, Holders: holders, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(proxy.Close)
	return g, serve(t, guardhttp.New(g, proxy), patience)
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
	g, traffic := front(t, upstream.URL)

	r := request(t, traffic+"/metrics?a=1;b=%2F")
	r.Host = "shop.example"
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	r.Header.Set("X-Forwarded-Proto", "https") // said by the load balancer
	r.Header.Set("Accept-Encoding", "br")
	code, header, body := fetch(t, r)
	if code != http.StatusTeapot || header.Get("Upstream") != "yes" {
		t.Errorf("answer %d %v", code, header)
	}
	if want := "shop.example /metrics?a=1;b=%2F 192.0.2.1, 127.0.0.1 https br"; body != want {
		t.Errorf("the service saw %q, want %q", body, want)
	}
	if n := g.Snapshot().Admitted[guard.Default]; n != 1 {
		t.Errorf("%d admitted, want 1", n)
	}
}

func TestUpstreamThatDoesNotAnswerIsAFailure(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	g, traffic := front(t, gone.URL)
	if code, _, _ := fetch(t, request(t, traffic)); code != http.StatusBadGateway {
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
	g, traffic := front(t, upstream.URL)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	resp, err := http.DefaultClient.Do(request(t, traffic).WithContext(ctx))
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
	g, traffic := front(t, upstream.URL)
	for range 2 {
		r := request(t, traffic)
		go func() {
			if resp, err := http.DefaultClient.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
	}
	waittest.Until(t, "two in flight", func() bool { return g.Snapshot().InFlight == 2 })
	code, header, _ := fetch(t, request(t, traffic))
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" ||
		header.Get(guardhttp.RefusedHeader) != "concurrency" {
		t.Errorf("%d %v, want 503 that says why and when to return", code, header)
	}
}

// The proxy names who holds the slots, oldest first, without queries and without those that hold none any more.
func TestHoldersAreNamed(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	upstream := target(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
		}
		<-release
	})
	defer close(release)
	u, _ := url.Parse(upstream)
	var holders Holders
	proxy := NewInbound(InboundConfig{Upstream: u, Holders: &holders, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(proxy.Close)
	front := serve(t, proxy, Patience)
	for _, c := range []string{
		"GET /events HTTP/1.1\nHost: x\n\n", "GET /poll?token=secret HTTP/1.1\nHost: x\n\n",
		"POST /upload HTTP/1.1\nHost: x\nContent-Length: 9\n\nx",
	} {
		dial(t, front).send(c)
		<-entered
	}
	waittest.Until(t, "the stream holds nothing", func() bool { return len(holders.Oldest(5)) == 2 })
	got := holders.Oldest(5)
	if len(got) != 2 || !strings.HasPrefix(got[0], "GET /poll from ") || !strings.Contains(got[1], "POST /upload from ") ||
		!strings.Contains(got[1], "body") {
		t.Errorf("%q", got)
	}
	if one := holders.Oldest(1); len(one) != 1 || !strings.HasPrefix(one[0], "GET /poll") {
		t.Errorf("%q", one)
	}
}
