package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// IdleTimeout is how long an idle connection to an upstream is kept. It is shorter than what common servers keep theirs
// for (gunicorn 2 s, Node.js and Apache 5 s, Tomcat and Puma 20 s): a server that closes a connection just as the next
// request is sent on it makes that request fail.
const IdleTimeout = 1500 * time.Millisecond

const (
	schemeH2C     = "h2c"      // HTTP/2 without TLS
	schemeUnix    = "unix"     // a socket
	schemeH2CUnix = "h2c+unix" // both
)

// CheckUpstream says what is wrong with the URL of a service.
func CheckUpstream(u *url.URL) error {
	const expected = "expected a URL like http://127.0.0.1:8080, h2c://127.0.0.1:8080 for HTTP/2 without TLS, or " +
		"unix:/run/checkout.sock"
	switch {
	case u == nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return errors.New(expected + ", without query and fragment")
	case u.Scheme == schemeUnix, u.Scheme == schemeH2CUnix:
		if u.Host != "" || u.Opaque != "" || !filepath.IsAbs(u.Path) {
			return errors.New("expected an absolute path, like unix:/run/checkout.sock")
		}
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != schemeH2C, u.Host == "":
		return errors.New(expected)
	}
	return nil
}

// socketOf returns the path of the socket that an upstream is; "": it is none.
func socketOf(u *url.URL) string {
	if u.Scheme == schemeUnix || u.Scheme == schemeH2CUnix {
		return u.Path
	}
	return ""
}

// Transport sends requests to upstreams directly, without a proxy in between. A connection succeeds soon or not at all.
// The callers and the upstream decide how long an answer may take. Requests with the scheme h2c are sent as HTTP/2, and so
// are those of gRPC with the scheme http; all others with http as HTTP/1.1; with https TLS decides.
type Transport struct{ one, two http.Transport }

// NewTransport returns a Transport that keeps an idle connection for that long, or IdleTimeout if it is 0. With the path
// of a socket, all connections go there.
func NewTransport(idle time.Duration, socket string) *Transport {
	if idle == 0 {
		idle = IdleTimeout
	}
	dialer := &net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}
	dial := dialer.DialContext
	if socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	t := new(Transport)
	for _, h := range []*http.Transport{&t.one, &t.two} {
		h.DialContext = dial
		h.TLSHandshakeTimeout = 5 * time.Second
		h.MaxIdleConnsPerHost = 1024 // about the limit: fewer would close and dial connections all the time
		h.IdleConnTimeout = idle
		h.DisableCompression = true // bodies pass as they are
		h.ExpectContinueTimeout = continueAfter
		h.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second} // else a dead connection is kept
	}
	t.one.ForceAttemptHTTP2 = true
	t.two.Protocols = new(http.Protocols)
	t.two.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	plain := r
	if r.URL.Scheme == schemeH2C {
		plain = r.WithContext(r.Context())
		u := *r.URL
		u.Scheme = "http"
		plain.URL = &u
	}
	over := &t.one
	if r.URL.Scheme == schemeH2C && r.Header["Upgrade"] == nil || r.URL.Scheme == "http" && guardhttp.IsGRPC(r) {
		over = &t.two
	}
	answer, err := over.RoundTrip(plain)
	if err == nil && answer.StatusCode == http.StatusUpgradeRequired {
		exchangeOf(r.Context()).upgrade = answer.Header["Upgrade"]
	}
	return answer, err
}

// answered prepares an answer for the client.
func answered(a *http.Response) error {
	x := exchangeOf(a.Request.Context())
	for name, values := range a.Header {
		if trimmed := strings.TrimRight(name, " \t"); trimmed != name { // RFC 9112, section 5.1
			delete(a.Header, name)
			trimmed = http.CanonicalHeaderKey(trimmed)
			a.Header[trimmed] = append(a.Header[trimmed], values...)
		}
	}
	switch {
	case a.StatusCode < 100:
		return fmt.Errorf("the answer has the status %03d, which does not exist", a.StatusCode)
	case a.StatusCode == http.StatusSwitchingProtocols:
		if service, ok := a.Body.(io.ReadWriteCloser); ok {
			a.Body = &tunnelEnd{ReadWriteCloser: service}
		}
		return nil
	case a.StatusCode == http.StatusUpgradeRequired && x.upgrade != nil: // RFC 9110, section 15.5.22; ReverseProxy removes it
		a.Header["Upgrade"], a.Header["Connection"] = x.upgrade, []string{"Upgrade"}
	}
	x.upload.closeUnread(a.Header)
	return nil
}

// CloseIdleConnections is for http.Client.
func (t *Transport) CloseIdleConnections() {
	t.one.CloseIdleConnections()
	t.two.CloseIdleConnections()
}

// buffers is a pool for httputil.ReverseProxy.
type buffers struct{ pool sync.Pool }

var copyBuffers buffers

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return buffer[:]
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buffer []byte) { b.pool.Put((*[32 << 10]byte)(buffer)) }
