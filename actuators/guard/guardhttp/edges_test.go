package guardhttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// A callback that panics, whichever it is, leaks no slot, and the panic reaches the server.
func TestPanicOfACallback(t *testing.T) {
	boom := func(*http.Request) bool { panic("boom") }
	for name, option := range map[string]guardhttp.Option{
		"failure":     guardhttp.WithFailure(func(int) bool { panic("boom") }),
		"endless":     guardhttp.WithEndless(boom),
		"bypass":      guardhttp.WithBypass(boom),
		"criticality": guardhttp.WithCriticality(func(*http.Request) guard.Criticality { panic("boom") }),
		"key":         guardhttp.WithKey(func(*http.Request) string { panic("boom") }),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 1)
			h := guardhttp.New(g, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), option)
			for range 3 {
				func() {
					defer func() {
						if got := recover(); got != "boom" {
							t.Errorf("recovered %v", got)
						}
					}()
					h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
				}()
			}
			if s := g.Snapshot(); s.InFlight != 0 || s.EndlessDeclared != 0 || s.DoubleReleases != 0 {
				t.Errorf("%d in flight, %d declared, %d released twice", s.InFlight, s.EndlessDeclared, s.DoubleReleases)
			}
		})
	}
}

// panics is a body that panics.
type panics struct{}

func (panics) Read([]byte) (int, error) { panic("boom") }
func (panics) Close() error             { return nil }

// The same on the way out.
func TestPanicOfACallbackOfTransport(t *testing.T) {
	answer := func(status int, body io.ReadCloser) trip {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: body}, nil
		}
	}
	for name, tc := range map[string]struct {
		base    trip
		option  guardhttp.TransportOption
		getBody func() (io.ReadCloser, error)
	}{
		"instances":  {answer(200, http.NoBody), guardhttp.WithInstances(func() []string { panic("boom") }), nil},
		"idempotent": {answer(200, http.NoBody), guardhttp.WithIdempotent(func(*http.Request) bool { panic("boom") }), nil},
		"base":       {func(*http.Request) (*http.Response, error) { panic("boom") }, nil, nil},
		"body":       {answer(200, panics{}), nil, nil},
		"kept body":  {answer(503, panics{}), nil, nil},
		"body again": {answer(503, http.NoBody), nil, func() (io.ReadCloser, error) { panic("boom") }},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 10)
			p, err := g.Acquire(t.Context(), guard.Default)
			if err != nil {
				t.Fatal(err)
			}
			d := g.Dependency("payments")
			var options []guardhttp.TransportOption
			if tc.option != nil {
				options = append(options, tc.option)
			}
			rt := guardhttp.Transport(d, tc.base, options...)
			req, _ := http.NewRequestWithContext(guard.NewContext(t.Context(), p), http.MethodPut, "http://payments/", nil)
			if tc.getBody != nil {
				req.Body, req.GetBody = io.NopCloser(strings.NewReader("x")), tc.getBody
			}
			func() {
				defer func() {
					if got := recover(); got != "boom" {
						t.Errorf("recovered %v", got)
					}
				}()
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.ReadAll(resp.Body)
			}()
			if n := g.Snapshot().Calls[0].InFlight; n != 0 {
				t.Errorf("%d calls in flight", n)
			}
			before := time.Now()
			waittest.Pass(t, time.Millisecond)
			passed := time.Since(before)
			p.Release(guard.Success)
			if l := g.Snapshot().Latency; l.Waited > l.Sum-passed.Seconds()/2 {
				t.Errorf("%v s of %v s waited: the call goes on", l.Waited, l.Sum)
			}
		})
	}
}

// slowClients open connections to a guard of two slots and keep their requests unfinished.
func slowClients(t *testing.T, url, start string, n int) (conns []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.(*net.TCPConn).SetReadBuffer(2 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, strings.ReplaceAll(start, "\n", "\r\n")); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	return conns
}

// Bodies that trickle in hold no slot, whatever announces their length, and what they take is not the service's latency.
func TestBodiesThatTrickleInHoldNoSlot(t *testing.T) {
	for _, header := range []string{"Content-Length: 5\n\n", "Transfer-Encoding: chunked\n\n3\n"} {
		g := newGuard(t, 2)
		reading := make(chan struct{}, 100)
		url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/upload" {
				return
			}
			first := make([]byte, 1)
			_, _ = io.ReadFull(r.Body, first)
			reading <- struct{}{}
			_, _ = io.Copy(io.Discard, r.Body)
		})
		var conns []net.Conn
		for range 5 { // two at a time: more would be refused for the moment
			conns = append(conns, slowClients(t, url, "POST /upload HTTP/1.1\nHost: x\n"+header+"a", 2)...)
			<-reading
			<-reading
			drains(t, g, 0)
		}
		if resp := get(t, url); resp.StatusCode != http.StatusOK {
			t.Errorf("%s beside ten bodies that trickle in", resp.Status)
		}
		drains(t, g, 0)
		start := time.Now()
		waittest.Pass(t, 300*time.Millisecond)
		for _, c := range conns {
			c.Close()
		}
		waittest.Until(t, "the clients have gone", func() bool { return g.Snapshot().Latency.Count == 1 })
		if s := g.Snapshot(); s.Latency.Sum > time.Since(start).Seconds()/2 || s.Failed != 0 || s.DoubleReleases != 0 {
			t.Errorf("%v s, %d failures, %d released twice", s.Latency.Sum, s.Failed, s.DoubleReleases)
		}
	}
}

// A body that comes in the end is served under the limit again, and only the service's own time counts.
func TestBodyThatComesLate(t *testing.T) {
	g := newGuard(t, 1)
	working, proceed := make(chan struct{}), make(chan struct{})
	url := serve(t, g, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(working)
		<-proceed
	})
	c := slowClients(t, url, "POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\na", 1)[0]
	waittest.Until(t, "the request is paused", func() bool { s := g.Snapshot(); return s.Admitted[guard.Default] == 1 && s.InFlight == 0 })
	waittest.Pass(t, 300*time.Millisecond)
	io.WriteString(c, "b")
	<-working
	if n := g.Snapshot().InFlight; n != 1 {
		t.Errorf("%d in flight while the service works", n)
	}
	close(proceed)
	waittest.Until(t, "it is over", func() bool { return g.Snapshot().Latency.Count == 1 })
	if s := g.Snapshot(); s.Latency.Sum > 0.2 || s.InFlight != 0 {
		t.Errorf("%v s, %d in flight", s.Latency.Sum, s.InFlight)
	}
}

// Answers that nobody takes hold no slot either, written from memory or sent from a file.
func TestAnswersThatNobodyTakesHoldNoSlot(t *testing.T) {
	file := t.TempDir() + "/large"
	large := make([]byte, 16<<20)
	if err := os.WriteFile(file, large, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"written": func(w http.ResponseWriter, _ *http.Request) { w.Write(large) },
		"copied":  func(w http.ResponseWriter, r *http.Request) { io.Copy(w, strings.NewReader(string(large))) },
		"file":    func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 2)
			url := serve(t, g, handler)
			for i := range uint64(3) {
				slowClients(t, url, "GET / HTTP/1.1\nHost: x\n\n", 2)
				waittest.Until(t, "both are admitted and paused", func() bool {
					s := g.Snapshot()
					return s.Admitted[guard.Default] == 2*(i+1) && s.InFlight == 0
				})
			}
		})
	}
}

// An event stream is found by its type. Any other answer that goes on for ten SLOs is found, too.
func TestAnswersThatDoNotEndHoldNoSlot(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 10 * time.Millisecond, Min: 1, Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			_ = http.NewResponseController(w).Flush()
			<-over
			return
		}
		for {
			select {
			case <-over:
				return
			case <-time.After(5 * time.Millisecond):
			}
			fmt.Fprintln(w, "tick")
			_ = http.NewResponseController(w).Flush()
		}
	})
	for i, path := range []string{"/events", "/ticks"} {
		resp := get(t, url+path)
		if _, err := bufio.NewReader(io.LimitReader(resp.Body, int64(i))).ReadByte(); i > 0 && err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, path+" holds no slot", func() bool { s := g.Snapshot(); return s.InFlight == 0 && s.EndlessDeclared == i+1 })
	}
	close(over)
	ends(t, g)
	if s := g.Snapshot(); s.Latency.Count != 0 {
		t.Errorf("%d latencies", s.Latency.Count)
	}
}

// A client of HTTP/1 that has closed its sending side before its request is admitted may be reading.
func TestHalfClosedClientIsServed(t *testing.T) {
	g := newGuard(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).
		ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	if w.Code != http.StatusTeapot {
		t.Errorf("%d", w.Code)
	}
	late, stop := context.WithDeadline(t.Context(), time.Now())
	defer stop()
	w = httptest.NewRecorder()
	guardhttp.New(g, http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(late, http.MethodGet, "/", nil))
	if w.Code != http.StatusServiceUnavailable || w.Body.Len() == 0 {
		t.Errorf("%d %q after the deadline", w.Code, w.Body)
	}
}

// A client that breaks its body is answered by the handler, and it says nothing about the service.
func TestBrokenBodyIsNoFailure(t *testing.T) {
	g := newGuard(t, 1)
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	c := slowClients(t, url, "POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nZZ\n", 1)[0]
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusInternalServerError {
		t.Fatal(resp, err)
	}
	drains(t, g, 0)
	if s := g.Snapshot(); s.Failed != 0 || s.Latency.Count != 0 {
		t.Errorf("%d failures, %d latencies", s.Failed, s.Latency.Count)
	}
}
