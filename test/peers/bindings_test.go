package peers_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// An empty handler bare, behind a guard that admits, and behind one that refuses. "serve" calls ServeHTTP with a
// ResponseWriter that keeps nothing, so its allocations are those of the binding. "loopback" is a real server, asked by a
// client that only copies bytes: that is what a refusal costs a service.
var bindings = []row{
	{name: "http/serve_empty", start: func(b *testing.B) func(*testing.PB) {
		return serve(b, empty, http.StatusOK)
	}},
	{name: "http/serve_admitted", start: func(b *testing.B) func(*testing.PB) {
		return serve(b, open(b), http.StatusOK)
	}},
	{name: "http/serve_refused", start: func(b *testing.B) func(*testing.PB) {
		return serve(b, closed(b), http.StatusServiceUnavailable)
	}},
	{name: "http/loopback_empty", idles: true, start: func(b *testing.B) func(*testing.PB) {
		return loopback(b, empty, http.StatusOK)
	}},
	{name: "http/loopback_admitted", idles: true, start: func(b *testing.B) func(*testing.PB) {
		return loopback(b, open(b), http.StatusOK)
	}},
	{name: "http/loopback_refused", idles: true, start: func(b *testing.B) func(*testing.PB) {
		return loopback(b, closed(b), http.StatusServiceUnavailable)
	}},
}

var empty = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

func open(b *testing.B) http.Handler {
	return guardhttp.New(newGuard(b, guard.Config{Min: much, Max: much}), empty)
}

func closed(b *testing.B) http.Handler {
	g := newGuard(b, guard.Config{Min: 1, Max: 1, SLO: time.Hour})
	hold(b, g, 1)
	return guardhttp.New(g, empty)
}

// sink is a ResponseWriter that keeps only the status.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func serve(b *testing.B, h http.Handler, want int) func(*testing.PB) {
	return func(pb *testing.PB) {
		w := &sink{header: http.Header{}}
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
		for pb.Next() {
			clear(w.header)
			w.status = http.StatusOK
			h.ServeHTTP(w, r)
			if w.status != want {
				b.Errorf("status %d, want %d", w.status, want)
				return
			}
		}
	}
}

func loopback(b *testing.B, h http.Handler, want int) func(*testing.PB) {
	server := httptest.NewServer(h)
	b.Cleanup(server.Close)
	return func(pb *testing.PB) {
		conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		answers := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := conn.Write(question); err != nil {
				b.Error(err)
				return
			}
			if status, err := skipAnswer(answers); err != nil || status != want {
				b.Errorf("status %d, want %d; %v", status, want, err)
				return
			}
		}
	}
}

var (
	question = []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	length   = []byte("Content-Length: ")
)

// skipAnswer reads one answer of HTTP/1.1 and returns its status. It allocates nothing.
func skipAnswer(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, fmt.Errorf("no status line: %q", line)
	}
	for _, digit := range line[9:12] {
		status = 10*status + int(digit-'0')
	}
	body := 0
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return status, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			_, err = r.Discard(body)
			return status, err
		}
		if digits, ok := bytes.CutPrefix(line, length); ok {
			if body, err = strconv.Atoi(string(digits)); err != nil {
				return status, err
			}
		}
	}
}

// The client of the rows must read exactly one answer, or the next would be that of an earlier request.
func TestSkipAnswer(t *testing.T) {
	r := bufio.NewReader(bytes.NewReader([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\nX: y\r\n\r\nno\n" +
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
	for _, want := range []int{503, 200} {
		if got, err := skipAnswer(r); got != want || err != nil {
			t.Errorf("status %d, %v; want %d", got, err, want)
		}
	}
	if _, err := skipAnswer(r); !errors.Is(err, io.EOF) {
		t.Errorf("%v after the last answer, want EOF", err)
	}
}
