package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	guardwire "github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/servers"
)

// outward is a forward port to payments, as the command makes it.
type outward struct {
	guard   *guard.Guard
	inbound *Requests
	url     string
	log     *waittest.Buffer
}

func forwardTo(t *testing.T, timeout time.Duration, targets ...string) outward {
	t.Helper()
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Max: 40, Fallback: 40})
	if err != nil {
		t.Fatal(err)
	}
	return forwardFrom(t, g, timeout, targets...)
}

func forwardFrom(t *testing.T, g *guard.Guard, timeout time.Duration, targets ...string) outward {
	t.Helper()
	logged := &waittest.Buffer{}
	c := ForwardConfig{
		Guard: g, Dependency: "payments", Transport: NewTransport(0, ""), Requests: newRequests(2), Timeout: timeout,
		Log: slog.New(slog.NewTextHandler(logged, nil)),
	}
	for _, target := range targets {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		c.Scheme, c.Instances = u.Scheme, append(c.Instances, u.Host)
	}
	url := serve(t, NewForwardPort(c), 0)
	t.Cleanup(c.Transport.CloseIdleConnections)
	return outward{g, c.Requests, url, logged}
}

func (o outward) calls(t *testing.T) guard.CallSnapshot {
	t.Helper()
	calls := o.guard.Snapshot().Calls
	if len(calls) != 1 || calls[0].To != "payments" {
		t.Fatalf("dependencies %+v", calls)
	}
	return calls[0]
}

// clock is a guard's clock that only the test moves.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1e9, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func target(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// gone is the URL of a target that refuses connections.
func gone(t *testing.T) string {
	t.Helper()
	return "http://" + servers.Unused(t)
}

func post(t *testing.T, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestForwardPortPassesRequestsOnAsTheyCame(t *testing.T) {
	var host, connection string
	payments := target(t, func(w http.ResponseWriter, r *http.Request) {
		host, connection = r.Host, r.Header.Get("Hop")
		w.Header().Set("Content-Encoding", "gzip") // and is not
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
		fmt.Fprintf(w, "%s %s %s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Accept-Encoding"),
			r.Header["X-Forwarded-For"], r.Header.Get("X-Forwarded-Proto"), r.Header.Get(guardhttp.ContextHeader))
	})
	o := forwardTo(t, 0, payments)
	r := request(t, o.url+"//pay%2Fnow?a=1;b=%zz")
	r.Host = "shop.example"
	r.Header.Set("Accept-Encoding", "br")
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set(guardhttp.ContextHeader, "request=unknown;hue=blue")
	r.Header.Set("Connection", "Hop")
	r.Header.Set("Hop", "1")
	resp, err := http.DefaultTransport.RoundTrip(r) // follows nothing itself
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if want := "GET //pay%2Fnow?a=1;b=%zz br [192.0.2.1] https "; string(body) != want {
		t.Errorf("the dependency saw %q, want %q", body, want)
	}
	if resp.StatusCode != http.StatusFound || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%d %v, want the redirect as it came", resp.StatusCode, resp.Header)
	}
	if host != strings.TrimPrefix(payments, "http://") || connection != "" {
		t.Errorf("Host %q, hop-by-hop header %q; want that of the target, and none", host, connection)
	}
	if c := o.calls(t); c.Requests != 1 || c.Attempts != 1 {
		t.Errorf("%+v, want one call", c)
	}
}

// TestForwardPortAddsNothing: a transport would ask for compression in the service's name, and decompress.
func TestForwardPortAddsNothing(t *testing.T) {
	seen := make(chan http.Header, 1)
	o := forwardTo(t, 0, target(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	header := <-seen
	delete(header, guardhttp.AttemptHeader)
	if len(header) > 0 {
		t.Errorf("the dependency received %v", header)
	}
}

func TestAnswerOfKnownLengthIsFlushed(t *testing.T) {
	received := make(chan struct{})
	o := forwardTo(t, 0, target(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "6")
		io.WriteString(w, "abc")
		http.NewResponseController(w).Flush()
		<-received
		io.WriteString(w, "def")
	}))
	resp, err := http.DefaultClient.Do(request(t, o.url))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	close(received)
	if rest, err := io.ReadAll(resp.Body); string(rest) != "def" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestEachInstanceReceivesItsOwnHost(t *testing.T) {
	seen := make(chan string, 40)
	var targets []string
	for range 2 {
		targets = append(targets, target(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.Host != r.Context().Value(http.LocalAddrContextKey).(net.Addr).String() {
				t.Errorf("%s received the request for %s", r.Context().Value(http.LocalAddrContextKey), r.Host)
			}
			seen <- r.Host
		}))
	}
	o := forwardTo(t, 0, targets...)
	hosts := map[string]bool{}
	for range cap(seen) {
		fetch(t, request(t, o.url))
		hosts[<-seen] = true
	}
	if len(hosts) != 2 {
		t.Errorf("only %v were called", hosts)
	}
}

func TestRefusedConnectionIsRetriedOnAnotherInstance(t *testing.T) {
	var got atomic.Int64
	alive := target(t, func(_ http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == "book" {
			got.Add(1)
		}
	})
	o := forwardTo(t, 0, gone(t), alive)
	var sent int64
	for ; o.calls(t).Retries == 0; sent++ { // every other request finds the dead instance first
		if code, _, body := fetch(t, post(t, o.url, strings.NewReader("book"))); code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
	}
	if c := o.calls(t); got.Load() != sent || c.Attempts != uint64(sent)+1 || c.Failures != 1 {
		t.Errorf("%d of %d requests came whole, %+v", got.Load(), sent, c)
	}
}

// TestLargeAndStreamedBodiesAreSentOnce: what is not kept cannot be sent again.
func TestLargeAndStreamedBodiesAreSentOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		body    io.Reader
		retried bool
	}{
		"none":              {nil, true},
		"the largest kept":  {bytes.NewReader(make([]byte, largestReplay)), true},
		"a byte more":       {bytes.NewReader(make([]byte, largestReplay+1)), false},
		"of unknown length": {io.MultiReader(strings.NewReader("x")), false},
		"small":             {strings.NewReader("x"), true},
	} {
		t.Run(name, func(t *testing.T) {
			o := forwardTo(t, 0, gone(t))
			code, header, body := fetch(t, post(t, o.url, tc.body))
			if code != http.StatusBadGateway || header.Get(guardhttp.RefusedHeader) != "" ||
				!strings.Contains(body, "call to payments failed: ") {
				t.Errorf("%d %v %q, want 502 that names the dependency and the error", code, header, body)
			}
			c := o.calls(t)
			if (c.Retries > 0) != tc.retried || (c.Suppressed["body"] > 0) == tc.retried {
				t.Errorf("%d retries, suppressed %v; retried should be %t", c.Retries, c.Suppressed, tc.retried)
			}
		})
	}
}

func TestLargeUploadArrivesWhole(t *testing.T) {
	const size = 8 << 20
	o := forwardTo(t, 0, target(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}))
	r := post(t, o.url, bytes.NewReader(make([]byte, size)))
	r.Header.Set("Expect", "100-continue")
	if code, _, body := fetch(t, r); code != http.StatusOK || body != fmt.Sprint(size, nil) {
		t.Errorf("%d %s, want %d bytes", code, body, size)
	}
}

// TestAnswerBeforeTheBodyIsRead: the client gets the answer, and the next request works.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	for name, to := range map[string]string{
		"of the dependency": target(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }),
		"of the sidecar":    gone(t),
	} {
		t.Run(name, func(t *testing.T) {
			o := forwardTo(t, 0, to)
			for _, size := range []int64{largestReplay + 1, 8 << 20, largestReplay + 1} {
				r := post(t, o.url, io.LimitReader(zeros{}, size))
				r.ContentLength = size
				if code, _, body := fetch(t, r); code != http.StatusBadGateway {
					t.Errorf("%d %q, want 502", code, body)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestOpenBreakerIsAnsweredHere(t *testing.T) {
	var calls atomic.Int64
	var now clock
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Now: now.now})
	if err != nil {
		t.Fatal(err)
	}
	o := forwardFrom(t, g, 0, target(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	for range 300 {
		now.advance(20 * time.Millisecond)
		code, header, body := fetch(t, request(t, o.url))
		if code == http.StatusInternalServerError {
			continue
		}
		if code != http.StatusServiceUnavailable || header.Get(guardhttp.RefusedHeader) != "breaker" ||
			header.Get(guardhttp.NoRetryHeader) != "1" || header.Get("Retry-After") == "" {
			t.Errorf("%d %v, want 503 of the breaker, not to be retried", code, header)
		}
		for _, want := range []string{"payments", "breaker", "answer without it"} {
			if !strings.Contains(body, want) {
				t.Errorf("%q does not say %q", body, want)
			}
		}
		before := calls.Load()
		fetch(t, request(t, o.url))
		if calls.Load() != before {
			t.Error("an open breaker let a call through")
		}
		return
	}
	t.Error("300 failures did not open the breaker")
}

func TestFullBulkheadIsAnsweredHere(t *testing.T) {
	var now clock
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 2, Fallback: 2, Now: now.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	o := forwardFrom(t, g, 0, target(t, func(http.ResponseWriter, *http.Request) { <-release }))
	limit := o.calls(t).Limit
	done := make(chan struct{})
	for range limit {
		r := request(t, o.url)
		go func() {
			defer func() { done <- struct{}{} }()
			if resp, err := http.DefaultClient.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
	}
	waittest.Until(t, "the bulkhead is full", func() bool { return o.calls(t).InFlight == limit })
	for i := range 12 { // refusals 100 ms apart: after a second of them the hint stands
		code, header, body := fetch(t, request(t, o.url))
		if code != http.StatusServiceUnavailable || header.Get(guardhttp.RefusedHeader) != "bulkhead" ||
			header.Get("Retry-After") == "" || !strings.Contains(body, "payments") {
			t.Errorf("%d %v %q, want 503 of the bulkhead", code, header, body)
		}
		if hinted := header.Get(guardhttp.NoRetryHeader) == "1"; hinted != (i >= 10) {
			t.Errorf("after %d ms of refusing, the hint is given: %t", 100*i, hinted)
		}
		now.advance(100 * time.Millisecond)
	}
	close(release)
	for range limit {
		<-done
	}
	if c := o.calls(t); c.Refused["bulkhead"] != 12 {
		t.Errorf("refused %v", c.Refused)
	}
}

func TestRefusalOfTheDependencyPassesThrough(t *testing.T) {
	o := forwardTo(t, 0, target(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(guardhttp.RefusedHeader, "concurrency")
		w.Header().Set(guardhttp.NoRetryHeader, "1")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	code, header, _ := fetch(t, request(t, o.url))
	if code != http.StatusServiceUnavailable || header.Get(guardhttp.RefusedHeader) != "concurrency" ||
		header.Get("Retry-After") != "7" || header.Get(guardhttp.NoRetryHeader) != "1" {
		t.Errorf("%d %v", code, header)
	}
}

func TestTimeoutOfAForwardPort(t *testing.T) {
	o := forwardTo(t, 30*time.Millisecond, target(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	code, _, body := fetch(t, request(t, o.url))
	if code != http.StatusGatewayTimeout || !strings.Contains(body, "payments: no answer within --egress-timeout=30ms") {
		t.Errorf("%d %q", code, body)
	}
	if c := o.calls(t); c.Failures != 1 {
		t.Errorf("%d failures of the dependency, want 1", c.Failures)
	}
	// Less than nothing is left of a nanosecond: refused before it is sent.
	o = forwardTo(t, time.Nanosecond, gone(t))
	code, header, _ := fetch(t, request(t, o.url))
	if code != http.StatusServiceUnavailable || header.Get(guardhttp.RefusedHeader) != "deadline" {
		t.Errorf("%d %v, want a refusal by the deadline", code, header)
	}
}

// raw sends bytes to the forward port and returns the status line of the answer, or why there is none, with its text.
func (o outward) raw(t *testing.T, sent string) (status, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, sent); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error(), ""
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Error(err)
	}
	return answer.Status, string(text)
}

// The upload is part of the call: a body that stalls is cut off, whether it is held or streamed.
func TestTimeoutOfAnUploadThatStalls(t *testing.T) {
	o := forwardTo(t, 300*time.Millisecond, target(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	for name, sent := range map[string]string{
		"held":     "Content-Length: 10\r\n\r\nhello",
		"streamed": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	} {
		status, text := o.raw(t, "POST / HTTP/1.1\r\nHost: payments\r\n"+sent)
		if !strings.HasPrefix(status, "504") || !strings.Contains(text, "--egress-timeout=300ms") {
			t.Errorf("%s: %s %q, want 504", name, status, text)
		}
	}
}

func TestEventStreamAndUpgradeOutliveTheTimeout(t *testing.T) {
	const timeout = 50 * time.Millisecond
	over := make(chan struct{})
	events := target(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, _ := rw.ReadString('\n')
			io.WriteString(conn, line)
			return
		}
		if r.URL.Path == "/hangs" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-over
		io.WriteString(w, "data: 2\n\n")
	})
	o := forwardTo(t, timeout, events)
	passed := func() { // returns well after the timeout of a call that began before
		for range 2 {
			if code, _, _ := fetch(t, request(t, o.url+"/hangs")); code != http.StatusGatewayTimeout {
				t.Errorf("%d, want 504", code)
			}
		}
	}

	resp, err := http.DefaultClient.Do(request(t, o.url))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 9)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err) // the first event comes though the answer goes on
	}
	passed()
	close(over)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "data: 2\n\n" {
		t.Errorf("%q, %v", rest, err)
	}

	conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	passed()
	io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestStreamsBothWaysWithTrailers(t *testing.T) {
	o := forwardTo(t, 0, target(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "Lines")
		lines := bufio.NewScanner(r.Body)
		n := 0
		for lines.Scan() {
			n++
			fmt.Fprintln(w, "echo", lines.Text())
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("Lines", fmt.Sprintf("%d %s", n, r.Trailer.Get("Sum")))
	}))
	in, out := io.Pipe()
	r := post(t, o.url, in)
	r.Trailer = http.Header{"Sum": {"42"}}
	first := make(chan error, 1)
	go func() { _, err := io.WriteString(out, "a\n"); first <- err }()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	answer := bufio.NewReader(resp.Body)
	if line, err := answer.ReadString('\n'); line != "echo a\n" {
		t.Fatalf("%q, %v, while the body is still being sent", line, err)
	}
	io.WriteString(out, "b\n")
	if line, err := answer.ReadString('\n'); line != "echo b\n" {
		t.Fatalf("%q, %v", line, err)
	}
	out.Close()
	if rest, err := io.ReadAll(answer); err != nil || len(rest) > 0 || resp.Trailer.Get("Lines") != "2 42" {
		t.Errorf("%q, %v, trailer %v", rest, err, resp.Trailer)
	}
}

func TestServiceThatGivesUpIsNoFailureOfTheDependency(t *testing.T) {
	started := make(chan struct{}, 1)
	o := forwardTo(t, 0, target(t, func(_ http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Run("while it waits", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-started; cancel() }()
		if resp, err := http.DefaultClient.Do(request(t, o.url).WithContext(ctx)); err == nil {
			resp.Body.Close()
			t.Error("it was answered")
		}
	})
	t.Run("in the middle of an upload", func(t *testing.T) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nabc", 1<<20)
		<-started
		conn.Close()
	})
	waittest.Until(t, "no call in flight", func() bool { return o.calls(t).InFlight == 0 })
	if c := o.calls(t); c.Failures != 0 || c.Attempts != 2 || o.log.Len() > 0 {
		t.Errorf("%+v, log %s; want two attempts and no failure", c, o.log)
	}
}

func TestForwardPortIsNoGeneralProxy(t *testing.T) {
	o := forwardTo(t, 0, gone(t))
	r := request(t, o.url)
	r.Method, r.URL.Opaque = http.MethodConnect, "example.com:443"
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || o.calls(t).Requests != 0 {
		t.Errorf("%d, %d calls", resp.StatusCode, o.calls(t).Requests)
	}
}

// pair is a whole sidecar: an inbound side in front of service, and a forward port to payments whose URL service gets.
func egressPair(t *testing.T, payments string, service func(forward string) http.HandlerFunc) (o outward, front string) {
	t.Helper()
	o = forwardTo(t, 0, payments)
	u, err := url.Parse(target(t, service(o.url)))
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewInbound(InboundConfig{Upstream: u, Requests: o.inbound, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(proxy.Close)
	return o, serve(t, guardhttp.New(o.guard, proxy), Patience)
}

func TestCallsAreFoundToBelongToTheInboundRequest(t *testing.T) {
	for _, copies := range []bool{true, false} {
		t.Run(fmt.Sprintf("header copied %t", copies), func(t *testing.T) {
			marks := make(chan []string, 1)
			payments := target(t, func(w http.ResponseWriter, r *http.Request) {
				marks <- r.Header[guardhttp.AttemptHeader]
				w.Header().Set(guardhttp.NoRetryHeader, "1")
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			names := make(chan string, 1)
			o, front := egressPair(t, payments, func(forward string) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					call := request(t, forward)
					if copies {
						call.Header[guardhttp.ContextHeader] = r.Header[guardhttp.ContextHeader]
					}
					fetch(t, call)
					names <- guardhttp.ContextOf(r.Header).Request
					w.WriteHeader(http.StatusBadGateway)
				}
			})
			r := request(t, front)
			r.Header.Set(guardhttp.AttemptHeader, "1") // somebody further out retries
			r.Header.Set(guardhttp.ContextHeader, "request=chosen")
			r.Header.Set("Connection", guardhttp.ContextHeader) // try to have it removed
			_, header, _ := fetch(t, r)

			if name := <-names; len(name) < 20 {
				t.Errorf("the service received the name %q", name)
			}
			want, hint := "[1]", "1" // of the layer further out, and the hint for it
			if !copies {
				want, hint = "[0]", "" // this sidecar's own
			}
			if got := fmt.Sprint(<-marks); got != want || header.Get(guardhttp.NoRetryHeader) != hint {
				t.Errorf("mark %s, hint %q; want %s, %q", got, header.Get(guardhttp.NoRetryHeader), want, hint)
			}
			waittest.Until(t, "the name is forgotten", func() bool {
				o.inbound.mu.Lock()
				defer o.inbound.mu.Unlock()
				return len(o.inbound.byName) == 0
			})
		})
	}
}

func TestTimeInCallsIsNotTheServicesOwn(t *testing.T) {
	for _, copies := range []bool{true, false} {
		var now clock
		g, err := guard.New(guard.Config{Service: "checkout", SLO: time.Second, Now: now.now})
		if err != nil {
			t.Fatal(err)
		}
		o := forwardFrom(t, g, 0, target(t, func(http.ResponseWriter, *http.Request) { now.advance(400 * time.Millisecond) }))
		service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			now.advance(20 * time.Millisecond)
			call := request(t, o.url)
			if copies {
				call.Header[guardhttp.ContextHeader] = r.Header[guardhttp.ContextHeader]
			}
			fetch(t, call)
		})
		u, _ := url.Parse(target(t, service.ServeHTTP))
		proxy := NewInbound(InboundConfig{Upstream: u, Requests: o.inbound, Log: slog.New(slog.DiscardHandler)})
		fetch(t, request(t, serve(t, guardhttp.New(g, proxy), Patience)))
		proxy.Close()

		want := 0.0
		if copies {
			want = 0.4
		}
		if l := g.Snapshot().Latency; l.Count != 1 || math.Abs(l.Sum-0.42) > 1e-3 || math.Abs(l.Waited-want) > 1e-3 {
			t.Errorf("header copied %t: %d requests, %.3f s, %.3f s of it in calls; want 1, 0.420, %.3f", copies, l.Count, l.Sum,
				l.Waited, want)
		}
	}
}

// TestTooManyInboundRequests: without room for its name a request is served without one, not with the client's.
func TestTooManyInboundRequests(t *testing.T) {
	u, err := url.Parse(target(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, guardhttp.ContextOf(r.Header).Request) }))
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewInbound(InboundConfig{Upstream: u, Requests: newRequests(0), Log: slog.New(slog.DiscardHandler)})
	defer proxy.Close()
	g, err := guard.New(guard.Config{Service: "checkout", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, serve(t, guardhttp.New(g, proxy), Patience))
	r.Header.Set(guardhttp.ContextHeader, "rank=00000001;request=chosen")
	if code, _, body := fetch(t, r); code != http.StatusOK || body != "" {
		t.Errorf("%d, the service received the name %s", code, body)
	}
}

func TestHostileNamesDoNothing(t *testing.T) {
	s := newRequests(2)
	ctx := context.WithValue(t.Context(), http.ServerContextKey, "inbound")
	name, ok := s.enter(ctx)
	if !ok {
		t.Fatal("refused")
	}
	for _, text := range []string{"", "request=", "request=x", "request=" + strings.ToLower(name), "request=" + name + ";request=" + name} {
		if s.of(guardwire.ParseContext(text).Request) != nil {
			t.Errorf("%q finds a request", text)
		}
	}
	if s.of(guardwire.ParseContext("request="+name).Request) != ctx {
		t.Error("the name does not find its request")
	}
	if _, ok := s.enter(ctx); !ok {
		t.Error("the second request is refused")
	}
	if _, ok := s.enter(ctx); ok {
		t.Error("the map grows beyond its bound")
	}
	s.leave(name)
	if s.of(name) != nil {
		t.Error("a request that is over is found")
	}
	if _, ok := s.enter(ctx); !ok {
		t.Error("a request that is over takes room")
	}
}
