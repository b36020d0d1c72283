package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// speaks returns the protocols that a server or a client knows.
func speaks(one, two bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(one)
	p.SetUnencryptedHTTP2(two)
	return p
}

// h2cTarget is a server that speaks HTTP/1.1 and HTTP/2 without TLS.
func h2cTarget(t *testing.T, l net.Listener, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	if l != nil {
		s.Listener.Close()
		s.Listener = l
	}
	s.Config.Protocols = speaks(true, true)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// h2cClient is a client that speaks HTTP/2 without TLS.
func h2cClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: speaks(false, true)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func do(t *testing.T, c *http.Client, r *http.Request) (resp *http.Response, body string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// Clients may speak HTTP/2 without TLS. The service is spoken to in HTTP/1.1, except that gRPC needs HTTP/2, and that h2c
// asks for it. A socket is no different.
func TestProtocolsOfBothSides(t *testing.T) {
	seen := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.Host, r.RequestURI)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h2cTarget(t, l, seen)
	tcp := strings.TrimPrefix(h2cTarget(t, nil, seen), "http://")
	for _, tc := range []struct{ upstream, plain, grpc string }{
		{"http://" + tcp, "HTTP/1.1", "HTTP/2.0"},
		{"h2c://" + tcp, "HTTP/2.0", "HTTP/2.0"},
		{"unix:" + socket, "HTTP/1.1", "HTTP/2.0"},
		{"h2c+unix:" + socket, "HTTP/2.0", "HTTP/2.0"},
	} {
		_, url := front(t, tc.upstream)
		c := h2cClient(t)
		for kind, want := range map[string]string{"": tc.plain, "application/grpc+proto": tc.grpc, "application/grpc-web": tc.plain} {
			r := request(t, url+"/a%2Fb?")
			r.Host = "shop.example"
			r.Header.Set("Content-Type", kind)
			if resp, body := do(t, c, r); body != want+" shop.example /a%2Fb?" || resp.Proto != "HTTP/2.0" {
				t.Errorf("%s, %q in HTTP/2: %s %q, want %s", tc.upstream, kind, resp.Proto, body, want)
			}
		}
		r := request(t, url)
		r.Header.Set("Content-Type", "application/grpc") // that is none in HTTP/1.1
		if resp, body := do(t, http.DefaultClient, r); !strings.HasPrefix(body, tc.plain) || resp.Proto != "HTTP/1.1" {
			t.Errorf("%s in HTTP/1.1: %s %q, want %s", tc.upstream, resp.Proto, body, tc.plain)
		}
	}
}

// A tunnel needs HTTP/1.1, whatever the upstream is.
func TestUpgradeToAnHTTP2Upstream(t *testing.T) {
	s := newService(t)
	_, url := front(t, strings.Replace(s.url(), "http", "h2c", 1))
	c := dial(t, url)
	c.send("GET /chat HTTP/1.1\nHost: shop\nConnection: Upgrade\nUpgrade: websocket\n\n")
	up := s.accept(t)
	if got := up.head(); got[0] != "GET /chat HTTP/1.1" {
		t.Fatalf("%q", got)
	}
	up.send("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n")
	c.head()
}

// grpcService answers like a server of gRPC: with the status that the path names in the trailers, or in the header if it
// has nothing else to say, or never.
func grpcService(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	status := strings.Trim(r.URL.Path, "/")
	switch {
	case strings.HasPrefix(status, "early"):
		w.Header().Set("Grpc-Status", strings.TrimPrefix(status, "early"))
		return
	case status == "echo":
		_ = http.NewResponseController(w).Flush()
		buffer := make([]byte, 100)
		for {
			n, err := r.Body.Read(buffer)
			w.Write(buffer[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		status = "0"
	default:
		io.Copy(w, r.Body)
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	w.Header().Set(http.TrailerPrefix+"Custom-Bin", "AAE")
}

func grpcCall(t *testing.T, url, method string, body io.Reader) *http.Request {
	t.Helper()
	r := post(t, url+method, body)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	return r
}

// On the way in, the failures of gRPC are read from grpc-status.
func TestFailuresOfGRPCAreReadFromTheTrailers(t *testing.T) {
	upstream := h2cTarget(t, nil, grpcService)
	g, url := front(t, upstream)
	c := h2cClient(t)
	want := uint64(0)
	for code, failure := range []bool{2: true, 4: true, 12: true, 13: true, 14: true, 15: true, 16: false} {
		for _, method := range []string{"/%d", "/early%d"} {
			resp, body := do(t, c, grpcCall(t, url, fmt.Sprintf(method, code), strings.NewReader("hello")))
			early := strings.Contains(method, "early")
			got := resp.Trailer.Get("Grpc-Status")
			if early {
				got = resp.Header.Get("Grpc-Status")
			}
			if got != fmt.Sprint(code) || !early && (body != "hello" || resp.Trailer.Get("Custom-Bin") != "AAE") {
				t.Errorf("code %d: %s, %q, %v", code, got, body, resp.Trailer)
			}
			if failure {
				want++
			}
			waittest.Until(t, "no call is in flight", func() bool { return g.Snapshot().InFlight == 0 })
			if n := g.Snapshot().Failed; n != want {
				t.Errorf("%s: %d failures, want %d", fmt.Sprintf(method, code), n, want)
				want = n
			}
		}
	}
}

// Messages of a gRPC stream pass one by one in both directions.
func TestGRPCStreamsBothWays(t *testing.T) {
	upstream := h2cTarget(t, nil, grpcService)
	_, inbound := front(t, upstream)
	for name, url := range map[string]string{"in": inbound, "out": forwardTo(t, 0, upstream).url} {
		in, out := io.Pipe()
		resp, err := h2cClient(t).Do(grpcCall(t, url, "/echo", in))
		if err != nil {
			t.Fatal(err)
		}
		answer := bufio.NewReader(resp.Body)
		for i := range 3 {
			fmt.Fprintln(out, i)
			if line, err := answer.ReadString('\n'); line != fmt.Sprintln(i) {
				t.Fatalf("%s: %q, %v", name, line, err)
			}
		}
		out.Close()
		if rest, err := io.ReadAll(answer); err != nil || len(rest) > 0 || resp.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("%s: %q, %v, %v", name, rest, err, resp.Trailer)
		}
		resp.Body.Close()
	}
}

// What gRPC's clients receive from the sidecar itself is an answer of gRPC.
func TestErrorsForGRPC(t *testing.T) {
	g, url := front(t, gone(t))
	c := h2cClient(t)
	check := func(url, code, message string) http.Header {
		t.Helper()
		resp, _ := do(t, c, grpcCall(t, url, "/any", strings.NewReader("hello")))
		h := resp.Header
		if resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "application/grpc" || h.Get("Grpc-Status") != code ||
			!strings.Contains(h.Get("Grpc-Message"), message) {
			t.Errorf("%d %v, want grpc-status %s and %q", resp.StatusCode, h, code, message)
		}
		return h
	}
	check(url, "14", "did not answer")
	waittest.Until(t, "a failure", func() bool { s := g.Snapshot(); return s.Failed == 1 && s.InFlight == 0 })
	for range 2 {
		if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
			t.Fatal(err)
		}
	}
	h := check(url, "8", "at its limit")
	if h.Get(guardhttp.RefusedHeader) != "concurrency" || h.Get("Grpc-Retry-Pushback-Ms") == "" {
		t.Errorf("%v", h)
	}

	o := forwardTo(t, 0, gone(t))
	check(o.url, "14", "call to payments failed")
	for { // until the bulkhead is full
		call := o.guard.Dependency("payments").Start(t.Context(), guard.CallOptions{})
		if _, err := call.Try("elsewhere"); err != nil {
			break
		}
	}
	if h := check(o.url, "8", "as many calls"); h.Get(guardhttp.RefusedHeader) != "bulkhead" {
		t.Errorf("%v", h)
	}
}

// On the way out, too, failures are in the trailers, and a refusal of the dependency is none.
func TestFailuresOfGRPCCalls(t *testing.T) {
	full, err := guard.New(guard.Config{Service: "payments", SLO: time.Second, Min: 1, Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	guarded := guardhttp.New(full, http.HandlerFunc(grpcService))
	o := forwardTo(t, 0, h2cTarget(t, nil, guarded.ServeHTTP))
	c := h2cClient(t)
	for _, tc := range []struct {
		method            string
		failures, refused uint64
	}{
		{"/0", 0, 0}, {"/13", 1, 0}, {"/early14", 2, 0}, {"/5", 2, 0}, {"/8", 2, 0}, {"/early8", 2, 0}, {"/full", 2, 3}, // with two retries: nothing was executed
	} {
		var held guard.Permit
		if tc.method == "/full" {
			waittest.Until(t, "a free slot", func() bool { held, err = full.Acquire(t.Context(), guard.Default); return err == nil })
		}
		do(t, c, grpcCall(t, o.url, tc.method, strings.NewReader("hello")))
		held.Release(guard.Ignored)
		waittest.Until(t, "no call is in flight", func() bool { return o.calls(t).InFlight == 0 })
		if s := o.calls(t); s.Failures != tc.failures || s.CalleeRefusals != tc.refused {
			t.Errorf("%s: %d failures, %d refusals; want %d, %d", tc.method, s.Failures, s.CalleeRefusals, tc.failures, tc.refused)
		}
	}
}

// A client of HTTP/2 that resets its stream is gone. The service is told at once.
func TestResetStreamIsPassedOn(t *testing.T) {
	entered, told := make(chan struct{}), make(chan struct{})
	g, url := front(t, target(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(told)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if resp, err := h2cClient(t).Do(request(t, url).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Fatal(resp.Status)
	}
	<-told
	waittest.Until(t, "the slot is free", func() bool { return g.Snapshot().InFlight == 0 })
	if n := g.Snapshot().Failed; n != 0 {
		t.Errorf("%d failures", n)
	}
}

// A request of HTTP/2 that announces a body and ends before it is broken, like one that ends within it.
func TestBodyThatDoesNotBeginIsNoEmptyOne(t *testing.T) {
	served := make(chan string, 1)
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { served <- r.URL.Path }), Patience)
	c := dial(t, url)
	framer := http2.NewFramer(c.Conn, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(c.Conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	_ = framer.WriteSettings()
	answer := func(stream uint32, length string) (status string) {
		t.Helper()
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":authority", "shop"}, {":path", "/" + length}, {"content-length", length},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
		})
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
				return headers.PseudoValue("status")
			}
		}
	}
	if got := answer(1, "5"); got != "400" || len(served) != 0 {
		t.Errorf("5 bytes are missing: %s, passed on: %v", got, len(served) != 0)
	}
	if got := answer(3, "0"); got != "200" || <-served != "/0" {
		t.Errorf("nothing is missing: %s", got)
	}
}

// A service that breaks the body of its own call is answered 400, and the dependency is not to blame.
func TestBrokenBodyOfACallIsNoFailureOfTheDependency(t *testing.T) {
	for name, body := range map[string]string{
		"size":       "Transfer-Encoding: chunked\n\nZZ\nhi\n",
		"cut chunk":  "Transfer-Encoding: chunked\n\n5\nhi",
		"cut length": "Content-Length: 5\n\nhi",
		"cut stream": fmt.Sprintf("Content-Length: %d\n\nhi", 2*largestReplay),
	} {
		t.Run(name, func(t *testing.T) {
			o := forwardTo(t, 0, target(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
			c := dial(t, o.url)
			c.send("POST / HTTP/1.1\nHost: x\n" + body)
			c.closeSending()
			if got := c.head()[0]; got != "HTTP/1.1 400 Bad Request" {
				t.Errorf("%q", got)
			}
			for _, calls := range o.guard.Snapshot().Calls {
				if calls.Failures != 0 {
					t.Errorf("%d failures", calls.Failures)
				}
			}
		})
	}
}

// An idle connection to the service is given up before common servers close theirs.
func TestIdleConnectionIsGivenUpBeforeTheServiceDoes(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c := dial(t, url)
	c.send("GET / HTTP/1.1\nHost: shop\n\n")
	up := s.accept(t)
	up.head()
	up.send("HTTP/1.1 204 No Content\n\n")
	start := time.Now()
	if rest, err := io.ReadAll(up); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if idle := time.Since(start); idle > 2*time.Second { // gunicorn's default, the shortest
		t.Errorf("kept for %v", idle)
	}
}

// CheckUpstream accepts what the proxy understands.
func TestCheckUpstream(t *testing.T) {
	for text, good := range map[string]bool{
		"http://a:1": true, "https://a/base/": true, "h2c://a": true, "unix:/s": true, "unix:///s": true, "h2c+unix:/s": true,
		"a:1": false, "http://": false, "http://a?": false, "http://a?x": false, "http://a#f": false, "unix:s": false,
		"unix://s": false, "unix:": false, "ftp://a": false, "": false, "/s": false,
	} {
		u, err := http.NewRequest(http.MethodGet, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckUpstream(u.URL); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
