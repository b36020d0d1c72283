package sidecar

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// departed is an end of a tunnel that has sent its last words and takes nothing more. They arrive only after other bytes for it
// have been dropped.
type departed struct {
	net.Conn // of what it does not have
	last     io.Reader
	writes   chan struct{}
	dropped  chan struct{} // closed: the last words arrive
	closed   chan struct{}
}

func newDeparted(last io.Reader) *departed {
	return &departed{last: last, writes: make(chan struct{}, 1), dropped: make(chan struct{}), closed: make(chan struct{})}
}

func (d *departed) Write([]byte) (int, error) {
	d.writes <- struct{}{} // there is one: the rest is dropped before it comes here
	return 0, syscall.EPIPE
}

func (d *departed) Read(p []byte) (int, error) {
	select {
	case <-d.dropped:
		return d.last.Read(p)
	case <-d.closed:
		return 0, net.ErrClosed
	}
}

func (d *departed) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return nil
}

// through runs a tunnel between a client and a service.
func through(t *testing.T, client, service net.Conn) {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite:        rewrite,
		ModifyResponse: answered,
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: service,
				Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}},
			}, nil
		}),
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/chat", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	exchanges(proxy).ServeHTTP(hijackable{httptest.NewRecorder(), client}, r)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// hijackable gives its connection away. What the server would write to it first goes nowhere.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(io.Discard)), nil
}

// TestLastWordsPassThroughATunnel: an end that takes no more has sent something before, and the other end still sends. That
// end gets all of it.
func TestLastWordsPassThroughATunnel(t *testing.T) {
	for name, connect := range map[string]func(t *testing.T, steady, departed net.Conn){
		"of the service": through,
		"of the client":  func(t *testing.T, steady, departed net.Conn) { t.Helper(); through(t, departed, steady) },
	} {
		for how, end := range map[string]error{"closed": io.EOF, "reset": syscall.ECONNRESET} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					far, steady := net.Pipe()
					d := newDeparted(io.MultiReader(strings.NewReader("last "), strings.NewReader("words"), iotest.ErrReader(end)))
					over := make(chan struct{})
					go func() { defer close(over); connect(t, steady, d) }()

					io.WriteString(far, "one")
					<-d.writes
					if _, err := io.WriteString(far, "two"); err != nil {
						t.Errorf("the tunnel has ended before the last words: %v", err)
					}
					close(d.dropped)
					if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
						t.Errorf("received %q, %v", got, err)
					}
					far.Close()
					<-over
				})
			})
		}
	}
}

// TestWritersLearnThatATunnelIsOver: a client that only sends would not see the end otherwise.
func TestWritersLearnThatATunnelIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeparted(iotest.ErrReader(io.EOF))
		e := tunnelEnd{ReadWriteCloser: d}
		close(d.dropped)
		e.Read(make([]byte, 1))
		for range 3 {
			if n, err := e.Write([]byte("dropped")); n != 7 || err != nil {
				t.Errorf("while the last words may be on their way: %d, %v", n, err)
			}
		}
		time.Sleep(lingering) // of the bubble's clock
		if _, err := e.Write([]byte("for nobody")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("after %v: %v", lingering, err)
		}
	})
}
