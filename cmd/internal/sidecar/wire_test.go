package sidecar

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// service is an upstream that a test plays byte by byte.
type service struct{ listener net.Listener }

func newService(t *testing.T) service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return service{l}
}

func (s service) url() string { return "http://" + s.listener.Addr().String() }

// wire is one end of a connection. Nothing on it takes longer than waittest.Patience.
type wire struct {
	t *testing.T
	net.Conn
	*bufio.Reader
}

func newWire(t *testing.T, c net.Conn, err error) wire {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(waittest.Patience))
	t.Cleanup(func() { c.Close() })
	return wire{t, c, bufio.NewReader(c)}
}

// withoutContext returns the head of a request without the Guard-Context, which the service receives once.
func withoutContext(t *testing.T, head []string) (rest []string) {
	t.Helper()
	for _, line := range head {
		if !strings.HasPrefix(line, "Guard-Context: rank=") {
			rest = append(rest, line)
		}
	}
	if len(rest) != len(head)-1 {
		t.Errorf("%q, want one Guard-Context", head)
	}
	return rest
}

// accept returns the next connection of the sidecar to the service.
func (s service) accept(t *testing.T) wire {
	t.Helper()
	c, err := s.listener.Accept()
	return newWire(t, c, err)
}

func dial(t *testing.T, url string) wire {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	return newWire(t, c, err)
}

// Read and Close are those of the buffer and the connection.
func (w wire) Read(p []byte) (int, error) { return w.Reader.Read(p) }

// send writes a message in which lines end with \n.
func (w wire) send(message string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, strings.ReplaceAll(message, "\n", "\r\n")); err != nil {
		w.t.Fatal(err)
	}
}

func (w wire) closeSending() { _ = w.Conn.(*net.TCPConn).CloseWrite() }

// head reads the first line and the header of a message, and returns its lines, without that of Date.
func (w wire) head() (lines []string) {
	w.t.Helper()
	for {
		line, err := w.ReadString('\n')
		if err != nil {
			w.t.Fatalf("%v after %q", err, lines)
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			return lines
		}
		if !strings.HasPrefix(line, "Date: ") {
			lines = append(lines, line)
		}
	}
}

// expect reads exactly this, in which lines end with \n.
func (w wire) expect(message string) {
	w.t.Helper()
	want := strings.ReplaceAll(message, "\n", "\r\n")
	got := make([]byte, len(want))
	if n, err := io.ReadFull(w, got); err != nil || string(got) != want {
		w.t.Fatalf("%q, %v; want %q", got[:n], err, want)
	}
}

// silent checks that nothing comes for a moment.
func (w wire) silent(what string) {
	w.t.Helper()
	w.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if b, err := w.Peek(1); err == nil {
		rest, _ := w.Peek(w.Buffered())
		w.t.Errorf("%s: %q%q", what, b, rest)
	}
	w.SetReadDeadline(time.Now().Add(waittest.Patience))
}

func has(lines []string, line string) bool {
	for _, l := range lines {
		if strings.EqualFold(l, line) {
			return true
		}
	}
	return false
}

// A client sends a whole request, closes its sending side and reads: the answer is the service's, whatever it is and
// however late, and a failure counts as one.
func TestHalfClosedClientGetsTheAnswerOfTheService(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 204 No Content\n\n", "HTTP/1.1 500 Internal Server Error\nContent-Length: 2\n\nno",
	} {
		s := newService(t)
		g, url := front(t, s.url())
		c := dial(t, url)
		c.send("POST /order HTTP/1.1\nHost: shop\nContent-Length: 4\n\nbook")
		c.closeSending()
		up := s.accept(t)
		up.head()
		up.expect("book")
		c.silent("an answer before that of the service")
		up.send(answer)
		if got := c.head()[0]; !strings.HasPrefix(answer, got) {
			t.Errorf("%q, want %q", got, answer)
		}
		failed := uint64(0)
		if strings.Contains(answer, "500") {
			failed = 1
		}
		waittest.Until(t, "the request is over", func() bool { return g.Snapshot().Latency.Count == 1 })
		if s := g.Snapshot(); s.Failed != failed {
			t.Errorf("%q: %d failures, want %d", answer, s.Failed, failed)
		}
	}
}

// A long download to a client that has closed its sending side goes on as long as the client reads it.
func TestHalfClosedClientReadsALongAnswer(t *testing.T) {
	s := newService(t)
	const patience = time.Second
	_, url := frontOf(t, s.url(), 2, patience)
	c := dial(t, url)
	c.send("GET / HTTP/1.1\nHost: shop\n\n")
	c.closeSending()
	up := s.accept(t)
	up.head()
	up.send("HTTP/1.1 200 OK\nContent-Length: 4\n\n")
	c.head()
	for i := range 4 {
		up.send(fmt.Sprint(i))
		c.expect(fmt.Sprint(i))
		c.SetReadDeadline(time.Now().Add(patience / 2)) // half of it passes between two bytes
		_, _ = c.Peek(1)
		c.SetReadDeadline(time.Now().Add(waittest.Patience))
	}
}

// A client that is gone is not waited for long, and what is left is no success.
func TestGivenUpRequestIsNoSuccess(t *testing.T) {
	s := newService(t)
	g, url := frontOf(t, s.url(), 2, 50*time.Millisecond)
	c := dial(t, url)
	c.send("GET / HTTP/1.1\nHost: shop\n\n")
	c.closeSending()
	up := s.accept(t)
	up.head()
	if got := c.head()[0]; got != "HTTP/1.1 504 Gateway Timeout" {
		t.Error(got)
	}
	if _, err := io.ReadAll(up); err != nil {
		t.Error(err) // the connection ends: the service is told
	}
	waittest.Until(t, "the slot is free", func() bool { return g.Snapshot().InFlight == 0 })
	if n := g.Snapshot().Failed; n != 0 {
		t.Errorf("%d failures", n)
	}
}

// Paths and queries pass byte for byte, whatever net/url thinks of them.
func TestTargetsPassAsTheyCame(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c := dial(t, url)
	up := wire{}
	for _, tc := range []struct{ sent, want string }{
		{"GET /a|b", ""},
		{"GET /{x}", ""},
		{"GET //", ""},
		{"GET //a//b/../c/./d", ""},
		{"GET /a%2Fb%2f%7e~", ""},
		{"GET /?", ""},
		{"GET /??", ""},
		{"GET /p?q=%zz;x&{}|^`\"<>", ""},
		{"GET /a[1]\"<>^`\\", ""},
		{"GET /caf\xc3\xa9?\xff", ""},
		{"GET /a;b=c,d:e@f!$&'()*+=", ""},
		{"GET /#f?g#h", ""},
		{"OPTIONS *", ""},
		{"GET http://shop/a|b?", "GET /a|b?"},
		{"GET http://shop", "GET /"},
		{"GET http://shop?q", "GET /?q"},
		{"BREW /pot", ""},
	} {
		c.send(tc.sent + " HTTP/1.1\nHost: shop\n\n")
		if up.Conn == nil {
			up = s.accept(t)
		}
		want := tc.want
		if want == "" {
			want = tc.sent
		}
		if got := up.head()[0]; got != want+" HTTP/1.1" {
			t.Errorf("%q arrives as %q, want %q", tc.sent, got, want)
		}
		up.send("HTTP/1.1 204 No Content\n\n")
		c.head()
	}
}

// net/url reads /healthz as the path of these targets. If the service received another one, it would pass where only
// /healthz may.
func TestTargetsThatHaveTwoReadingsAreRefused(t *testing.T) {
	served := false
	url := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }), Patience)
	for _, target := range []string{
		"http:/healthz", "http:/healthz?u=://shop/buy", "x:/healthz?://shop/buy", "HTTP:/healthz://shop/buy", "http:healthz", "x:",
	} {
		c := dial(t, url)
		c.send("GET " + target + " HTTP/1.1\nHost: shop\n\n")
		if got := c.head()[0]; got != "HTTP/1.1 400 Bad Request" {
			t.Errorf("%s: %s", target, got)
		}
	}
	if served {
		t.Error("one was passed on")
	}
}

// The sidecar adds the X-Forwarded headers and nothing else, and removes only what ends at each hop.
func TestHeadersPassAsTheyCame(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c := dial(t, url)
	c.send("GET / HTTP/1.1\nHost: Shop:80\nx-odd: a\t b \xe9\"\nX-Odd: \nCookie: a=1\nCookie: b=2\nConnection: keep-alive, X-Hop\n" +
		"X-Hop: 1\nX-Forwarded-For: 192.0.2.1\n\n")
	up := s.accept(t)
	got := up.head()
	want := []string{
		"GET / HTTP/1.1", "Host: Shop:80", "X-Odd: a\t b \xe9\"", "X-Odd: ", "Cookie: a=1", "Cookie: b=2",
		"X-Forwarded-For: 192.0.2.1, 127.0.0.1", "X-Forwarded-Host: Shop:80", "X-Forwarded-Proto: http",
	}
	got = withoutContext(t, got)
	for _, line := range want {
		if !has(got, line) {
			t.Errorf("%q is missing in %q", line, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%q, want %q", got, want)
	}
	up.send("HTTP/1.1 200 OK\nContent-Length: 6\nSet-Cookie: a\nSet-Cookie: b\nx-latin: \xe9\nKeep-Alive: timeout=5\n\n<html>")
	got = c.head()
	want = []string{"HTTP/1.1 200 OK", "Content-Length: 6", "Set-Cookie: a", "Set-Cookie: b", "X-Latin: \xe9"}
	for _, line := range want {
		if !has(got, line) {
			t.Errorf("%q is missing in %q", line, got)
		}
	}
	if len(got) != len(want) { // no Content-Type above all
		t.Errorf("%q, want %q", got, want)
	}
}

// A request of HTTP/1.0 without Host has none afterwards, as far as HTTP/1.1 permits, and its client gets no chunks and no
// informational answers.
func TestHTTP10Client(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c := dial(t, url)
	c.send("GET / HTTP/1.0\nExpect: 100-continue\nConnection: Upgrade\nUpgrade: echo\n\n")
	up := s.accept(t)
	got := withoutContext(t, up.head())
	want := []string{
		"GET / HTTP/1.1", "Host: " + strings.TrimPrefix(s.url(), "http://"), "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http",
	}
	if len(got) != len(want) {
		t.Errorf("%q, want %q", got, want)
	}
	up.send("HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n")
	if got := c.head(); got[0] != "HTTP/1.0 200 OK" || has(got, "Transfer-Encoding: chunked") || has(got, "Link: </a>") {
		t.Errorf("%q", got)
	}
	if rest, err := io.ReadAll(c); string(rest) != "hi" {
		t.Errorf("%q, %v", rest, err)
	}
}

// To a client of HTTP/1.0 the end of the connection is the end of an answer without a length. One that the service breaks
// off ends in an error instead.
func TestBrokenAnswerIsNoSuccessForHTTP10(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c := dial(t, url)
	c.send("GET / HTTP/1.0\n\n")
	up := s.accept(t)
	up.head()
	up.send("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhi")
	c.head()
	up.Conn.Close()
	if rest, err := io.ReadAll(c); err == nil {
		t.Errorf("a whole answer: %q", rest)
	}
}

// The same over TLS, which says by itself that the answer has ended, unless the connection ends below it.
func TestBrokenAnswerIsNoSuccessForHTTP10OverTLS(t *testing.T) {
	broken := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	s := httptest.NewUnstartedServer(nil)
	s.Config, s.Listener = Server(http.HandlerFunc(broken)), Listener(s.Listener, Patience)
	s.StartTLS()
	t.Cleanup(s.Close)
	raw, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	c := newWire(t, raw, err)
	c.send("GET / HTTP/1.0\n\n")
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("a whole answer: %q", got)
	}
}

// 304 and HEAD describe a body that does not come.
func TestAnswersWithoutABody(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c, up := dial(t, url), wire{}
	for _, tc := range []struct {
		method, answer string
		want           []string
	}{
		{
			"HEAD", "HTTP/1.1 200 OK\nContent-Length: 1234\nContent-Type: text/x\n\n",
			[]string{"HTTP/1.1 200 OK", "Content-Length: 1234", "Content-Type: text/x"},
		},
		{
			"GET", "HTTP/1.1 304 Not Modified\nContent-Length: 1234\nContent-Type: text/x\nEtag: \"a\"\n\n",
			[]string{"HTTP/1.1 304 Not Modified", "Content-Length: 1234", "Content-Type: text/x", `Etag: "a"`},
		},
		{"GET", "HTTP/1.1 204 No Content\nX: 1\n\n", []string{"HTTP/1.1 204 No Content", "X: 1"}},
		{"HEAD", "HTTP/1.1 404 Not Found\n\n", []string{"HTTP/1.1 404 Not Found"}},
	} {
		c.send(tc.method + " / HTTP/1.1\nHost: shop\n\n")
		if up.Conn == nil {
			up = s.accept(t)
		}
		up.head()
		up.send(tc.answer)
		got := c.head()
		for _, line := range tc.want {
			if !has(got, line) {
				t.Errorf("%s %q: %q is missing in %q", tc.method, tc.answer, line, got)
			}
		}
		if len(got) != len(tc.want) {
			t.Errorf("%s %q: %q", tc.method, tc.answer, got)
		}
	}
}

// Trailers pass in both directions, whether or not they were announced.
func TestTrailersPass(t *testing.T) {
	for _, announced := range []string{"Trailer: Sum\n", ""} {
		s := newService(t)
		_, url := front(t, s.url())
		c := dial(t, url)
		c.send("POST / HTTP/1.1\nHost: shop\nTE: trailers\nTransfer-Encoding: chunked\n" + announced + "\n2\nhi\n0\nSum: 1\n\n")
		up := s.accept(t)
		if got := up.head(); !has(got, "Te: trailers") || has(got, "Trailer: Sum") != (announced != "") {
			t.Errorf("%q", got)
		}
		up.expect("2\nhi\n0\nSum: 1\n\n")
		up.send("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n" + announced + "\n2\nho\n0\nSum: 2\n\n")
		if got := c.head(); has(got, "Trailer: Sum") != (announced != "") {
			t.Errorf("%q", got)
		}
		c.expect("2\nho\n0\nSum: 2\n\n")
	}
}

// The service decides about 100 (Continue).
func TestContinueIsTheServicesDecision(t *testing.T) {
	const request = "POST / HTTP/1.1\nHost: shop\nExpect: 100-continue\nContent-Length: 4\n\n"
	t.Run("yes", func(t *testing.T) {
		s := newService(t)
		_, url := front(t, s.url())
		c := dial(t, url)
		c.send(request)
		up := s.accept(t)
		if got := up.head(); !has(got, "Expect: 100-continue") {
			t.Errorf("%q", got)
		}
		c.silent("before the service has said anything")
		up.send("HTTP/1.1 100 Continue\n\n")
		c.expect("HTTP/1.1 100 Continue\n\n")
		c.send("book")
		up.expect("book")
		up.send("HTTP/1.1 201 Created\nContent-Length: 0\n\n")
		if got := c.head()[0]; got != "HTTP/1.1 201 Created" {
			t.Errorf("%q", got)
		}
	})
	for _, answer := range []string{"HTTP/1.1 417 Expectation Failed\nContent-Length: 0\n\n", "HTTP/1.1 413 Content Too Large\nConnection: close\n\n"} {
		t.Run(answer[9:12], func(t *testing.T) {
			s := newService(t)
			_, url := front(t, s.url())
			c := dial(t, url)
			c.send(request)
			up := s.accept(t)
			up.head()
			up.send(answer)
			if got := c.head()[0]; got[:12] != answer[:12] { // the phrase is the standard one
				t.Errorf("%q, want %q", got, answer)
			}
			up.Conn.(*net.TCPConn).CloseWrite()
			if rest, _ := io.ReadAll(up); len(rest) > 0 {
				t.Errorf("the service received %q, which it had refused", rest)
			}
		})
	}
}

// Informational answers pass at once, with their headers, and leave nothing in the final one.
func TestEarlyHintsPass(t *testing.T) {
	s := newService(t)
	_, url := front(t, s.url())
	c := dial(t, url)
	c.send("GET / HTTP/1.1\nHost: shop\n\n")
	up := s.accept(t)
	up.head()
	for range 7 {
		up.send("HTTP/1.1 103 Early Hints\nLink: </a>\n\n")
		if got := c.head(); len(got) != 2 || got[0] != "HTTP/1.1 103 Early Hints" || got[1] != "Link: </a>" {
			t.Fatalf("%q", got)
		}
	}
	up.send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
	if got := c.head(); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// Bytes pass at once in both directions, whatever announces their number, and an answer may begin before the body of the
// request has ended.
func TestBytesPassAtOnce(t *testing.T) {
	for _, tc := range []struct{ name, header, one, two, end string }{
		{"chunked", "Transfer-Encoding: chunked\n", "2\nhi\n", "2\nho\n", "0\n\n"},
		{"length", "Content-Length: 4\n", "hi", "ho", ""},
	} {
		s := newService(t)
		_, url := front(t, s.url())
		c := dial(t, url)
		c.send("POST / HTTP/1.1\nHost: shop\n" + tc.header + "\n" + tc.one)
		up := s.accept(t)
		up.head()
		up.expect(tc.one)
		up.send("HTTP/1.1 200 OK\n" + tc.header + "\n")
		c.head()
		up.send(tc.one)
		c.expect(tc.one)
		c.send(tc.two + tc.end)
		up.expect(tc.two + tc.end)
		up.send(tc.two + tc.end)
		c.expect(tc.two + tc.end)
	}
}

// A client that breaks its own body gets 400, and that says nothing about the service.
func TestBrokenBodyIsTheClientsFault(t *testing.T) {
	for name, body := range map[string]string{
		"size":       "Transfer-Encoding: chunked\n\nZZ\nhi\n",
		"terminator": "Transfer-Encoding: chunked\n\n2\nhixx0\n\n",
		"trailer":    "Transfer-Encoding: chunked\n\n2\nhi\n0\n: no name\n\n",
		"cut chunk":  "Transfer-Encoding: chunked\n\n5\nhi",
		"cut length": "Content-Length: 5\n\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			g, url := front(t, s.url())
			c := dial(t, url)
			c.send("POST / HTTP/1.1\nHost: shop\n" + body)
			c.closeSending()
			up := s.accept(t)
			up.head()
			if got := c.head()[0]; got != "HTTP/1.1 400 Bad Request" {
				t.Errorf("%q", got)
			}
			waittest.Until(t, "the slot is free", func() bool { return g.Snapshot().InFlight == 0 })
			if s := g.Snapshot(); s.Failed != 0 || s.Latency.Count != 0 {
				t.Errorf("%d failures, %d latencies", s.Failed, s.Latency.Count)
			}
		})
	}
}

// A service that answers nonsense, or nothing, or half of what it announced, fails. Its client gets an error or a broken
// connection, never a success.
func TestBrokenAnswerIsNoSuccess(t *testing.T) {
	for name, tc := range map[string]struct{ answer, want string }{
		"nothing":        {"", "HTTP/1.1 502 Bad Gateway"},
		"no HTTP":        {"hello\n\n", "HTTP/1.1 502 Bad Gateway"},
		"status 0":       {"HTTP/1.1 000 Nothing\nContent-Length: 0\n\n", "HTTP/1.1 502 Bad Gateway"},
		"status 99":      {"HTTP/1.1 099 Little\nContent-Length: 0\n\n", "HTTP/1.1 502 Bad Gateway"},
		"status 1000":    {"HTTP/1.1 1000 Much\nContent-Length: 0\n\n", "HTTP/1.1 502 Bad Gateway"},
		"two lengths":    {"HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\nab", "HTTP/1.1 502 Bad Gateway"},
		"only hints":     {"HTTP/1.1 103 Early Hints\n\n", "HTTP/1.1 103 Early Hints"},
		"another switch": {"HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: other\n\n", "HTTP/1.1 502 Bad Gateway"},
		"cut length":     {"HTTP/1.1 200 OK\nContent-Length: 5\n\nhi", ""},
		"cut chunk":      {"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			g, url := front(t, s.url())
			c := dial(t, url)
			c.send("GET / HTTP/1.1\nHost: shop\n\n")
			up := s.accept(t)
			up.head()
			up.send(tc.answer)
			up.Conn.Close()
			resp, err := http.ReadResponse(c.Reader, nil)
			switch {
			case err != nil && tc.want == "": // not even the header has come
			case err != nil || tc.want != "" && "HTTP/1.1 "+resp.Status != tc.want:
				t.Errorf("%v, %v; want %s", resp, err, tc.want)
			case tc.want == "":
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("a whole answer: %d %q", resp.StatusCode, body)
				}
			}
			waittest.Until(t, "a failure", func() bool { return g.Snapshot().Failed == 1 })
		})
	}
}

// C2: clients that hardly send, or hardly read, take no slot away from others, and an event stream takes none.
func TestSlowClientsTakeNoSlots(t *testing.T) {
	over := make(chan struct{})
	upstream := target(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/upload":
			_, _ = io.Copy(io.Discard, r.Body)
		case "/download":
			for range 1000 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-over
		}
	})
	defer close(over)
	g, url := frontOf(t, upstream, 1, Patience)
	for i, request := range []string{
		"POST /upload HTTP/1.1\nHost: x\nContent-Length: 9\n\nx",
		"POST /upload HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n5\nx",
		"GET /download HTTP/1.1\nHost: x\n\n",
		"GET /events HTTP/1.1\nHost: x\n\n",
	} {
		dial(t, url).send(request)
		waittest.Until(t, fmt.Sprintf("%q holds no slot", request), func() bool {
			s := g.Snapshot()
			return s.Admitted[guard.Default] == uint64(2*i+1) && s.InFlight == 0
		})
		c := dial(t, url)
		c.send("GET / HTTP/1.1\nHost: x\n\n")
		if got := c.head()[0]; got != "HTTP/1.1 200 OK" {
			t.Errorf("%s beside %q", got, request)
		}
		waittest.Until(t, "it is over", func() bool { return g.Snapshot().InFlight == 0 })
	}
}

// C2: a protocol that both sides switch to is a tunnel, which holds no slot, however many are open. Nothing else is: requests
// in HTTP/2 would follow an Upgrade to it that nobody guards.
func TestUpgrade(t *testing.T) {
	s := newService(t)
	g, url := frontOf(t, s.url(), 1, Patience)
	var tunnels []wire
	for range 3 { // more than there are slots
		c := dial(t, url)
		c.send("GET /chat HTTP/1.1\nHost: shop\nConnection: Upgrade\nUpgrade: WebSocket\nSec-WebSocket-Key: k\n\n")
		up := s.accept(t)
		if got := up.head(); !has(got, "Upgrade: WebSocket") || !has(got, "Connection: Upgrade") {
			t.Fatalf("%q", got)
		}
		up.send("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\nhello")
		if got := c.head(); !has(got, "Upgrade: websocket") {
			t.Fatalf("%q", got)
		}
		c.expect("hello")
		c.send("hi")
		up.expect("hi")
		tunnels = append(tunnels, c, up)
		waittest.Until(t, "the slot is free", func() bool { return g.Snapshot().InFlight == 0 })
	}
	if n := g.Snapshot().EndlessDeclared; n != 3 {
		t.Errorf("%d tunnels counted, want 3", n)
	}
	for _, end := range tunnels {
		end.Conn.Close()
	}
	waittest.Until(t, "the tunnels are closed", func() bool { return g.Snapshot().EndlessDeclared == 0 })
	if s := g.Snapshot(); s.Latency.Count != 0 || s.Failed != 0 {
		t.Errorf("%d latencies, %d failures", s.Latency.Count, s.Failed)
	}

	for _, protocol := range []string{"h2c", "HTTP/2.0", "TLS/1.2", "h2c, websocket", "websocket, h2c"} {
		c := dial(t, url)
		c.send("GET / HTTP/1.1\nHost: shop\nConnection: Upgrade, HTTP2-Settings\nUpgrade: " + protocol + "\nHTTP2-Settings: AAMA\n\n")
		up := s.accept(t)
		if got := withoutContext(t, up.head()); len(got) != 5 {
			t.Errorf("%s: %q", protocol, got)
		}
		up.send("HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close\n\n")
		if got := c.head()[0]; got != "HTTP/1.1 200 OK" {
			t.Errorf("%s: %q", protocol, got)
		}
		up.Conn.Close()
	}
}

// An Upgrade that the service does not accept is a request like any other: it holds a slot, and its latency counts.
func TestUpgradeThatIsNotAcceptedIsNoTunnel(t *testing.T) {
	s := newService(t)
	g, url := front(t, s.url())
	c := dial(t, url)
	c.send("GET / HTTP/1.1\nHost: shop\nConnection: Upgrade\nUpgrade: websocket\n\n")
	up := s.accept(t)
	up.head()
	if n := g.Snapshot().InFlight; n != 1 {
		t.Errorf("%d in flight", n)
	}
	up.send("HTTP/1.1 426 Upgrade Required\nConnection: Upgrade\nUpgrade: chat/2\nContent-Length: 0\n\n")
	if got := c.head(); got[0] != "HTTP/1.1 426 Upgrade Required" || !has(got, "Upgrade: chat/2") {
		t.Errorf("%q", got)
	}
	waittest.Until(t, "the request counts", func() bool { return g.Snapshot().Latency.Count == 1 })
	if n := g.Snapshot().EndlessDeclaredTotal; n != 0 {
		t.Errorf("%d tunnels", n)
	}
}
