package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/hashicorp/consul/api"
)

// transport carries a Client's requests. See Client for what it adds.
type transport struct {
	address   Address
	tokenFile string
	tlsFiles  api.TLSConfig
	base      *http.Transport   // what the connections are made like
	tlsGiven  bool              // by the caller, in base
	given     http.RoundTripper // by the caller, instead of connections of our own

	mu  sync.Mutex
	now *access
}

// access is what the requests are sent with, until it is replaced as a whole.
type access struct {
	token string
	files [][]byte // contents of the TLS files, to notice a change
	http.RoundTripper
}

func newTransport(config *api.Config, address Address) (*transport, error) {
	t := &transport{address: address, tokenFile: config.TokenFile, tlsFiles: config.TLSConfig, base: config.Transport}
	t.tlsGiven = t.base.TLSClientConfig != nil // Clone may add one
	if config.HttpClient != nil {
		if t.given = config.HttpClient.Transport; t.given == nil {
			t.given = http.DefaultTransport
		}
	}
	var err error
	t.now, err = t.read(config.Token)
	return t, err
}

// read reads the files. Without a token file the token stays the same.
func (t *transport) read(token string) (*access, error) {
	a := &access{token: token, RoundTripper: t.given}
	if t.tokenFile != "" {
		raw, err := readSecret(t.tokenFile)
		if err == nil && len(raw) == 0 {
			err = errors.New("it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("the token file %s: %w", t.tokenFile, err)
		}
		a.token = string(raw)
	}
	if t.given != nil {
		return a, nil
	}
	for _, name := range []string{t.tlsFiles.CAFile, t.tlsFiles.CertFile, t.tlsFiles.KeyFile} {
		if name == "" {
			continue
		}
		raw, err := readSecret(name)
		if err != nil {
			return nil, fmt.Errorf("the TLS file %s for Consul: %w", name, err)
		}
		a.files = append(a.files, raw)
	}
	connections := t.base.Clone()
	if !t.tlsGiven {
		config, err := api.SetupTLSConfig(&t.tlsFiles)
		if err != nil {
			return nil, fmt.Errorf("TLS to Consul: %w", err)
		}
		connections.TLSClientConfig = config
	}
	t.connect(connections)
	a.RoundTripper = connections
	return a, nil
}

// mostSecret is the largest secret file, in bytes: CA bundles have a few hundred kilobytes.
const mostSecret = 4 << 20

// readSecret reads a file without the white space around its content. It does not wait for somebody who writes to a pipe.
func readSecret(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Unwrap(err) // the caller names the file
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(2 * time.Second)) // only a pipe has one
	raw, err := io.ReadAll(io.LimitReader(f, mostSecret+1))
	if err == nil && len(raw) > mostSecret {
		err = fmt.Errorf("more than %d bytes", mostSecret)
	}
	return bytes.TrimSpace(raw), err
}

// reload replaces what the requests are sent with, if the files have changed.
func (t *transport) reload() (changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next, err := t.read(t.now.token)
	if err != nil {
		return false, fmt.Errorf("%w; what was read before stays in use", err)
	}
	if next.token == t.now.token && reflect.DeepEqual(next.files, t.now.files) {
		return false, nil
	}
	before := t.now
	t.now = next
	closeIdle(before.RoundTripper)
	return true, nil
}

func (t *transport) current() *access {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// CloseIdleConnections is for http.Client.
func (t *transport) CloseIdleConnections() { closeIdle(t.current().RoundTripper) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	with := t.current()
	answer, err := with.send(r)
	if refusesUs(answer, err) && t.renewed(with) && (r.Body == nil || r.GetBody != nil) {
		if answer != nil {
			answer.Body.Close()
		}
		if r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			r = r.Clone(r.Context())
			r.Body = body
		}
		answer, err = t.current().send(r)
	}
	if err != nil {
		return nil, err
	}
	return t.checked(r, answer)
}

func (a *access) send(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context()) // a RoundTripper must not change its request
	if a.token == "" {
		r.Header.Del("X-Consul-Token")
	} else {
		r.Header.Set("X-Consul-Token", a.token)
	}
	return a.RoundTripper.RoundTrip(r)
}

// refusesUs says whether other secrets might help. Nothing was executed then.
func refusesUs(answer *http.Response, err error) bool {
	if err == nil {
		return answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden
	}
	verification, alert := new(tls.CertificateVerificationError), tls.AlertError(0)
	return errors.As(err, &verification) || errors.As(err, &alert) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		strings.Contains(err.Error(), "remote error: tls:")
}

// renewed says whether there are newer secrets than those of used, and reads them if nobody has yet. A file that cannot
// be read now changes nothing: Consul's refusal is what the caller must know.
func (t *transport) renewed(used *access) bool {
	if t.current() != used {
		return true
	}
	changed, _ := t.reload()
	return changed
}

// checked makes an answer safe to read: proven to be Consul's, of bounded size, and an error's text on one line.
func (t *transport) checked(r *http.Request, answer *http.Response) (*http.Response, error) {
	code := answer.StatusCode
	found := code == http.StatusOK || code == http.StatusNotFound
	keys := r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, t.address.path+"/v1/kv/")
	switch {
	case code/100 == 3:
		answer.Body.Close()
		return nil, fmt.Errorf("%w (it answered %d, %s%s)", errNotConsul, code, "a redirection", t.address.doubt())
	case found && keys && answer.Header.Get("X-Consul-Index") == "" && answer.Header.Get("X-Consul-Knownleader") == "":
		answer.Body.Close()
		return nil, fmt.Errorf("%w (it answered %d without Consul's headers%s)", errNotConsul, code, t.address.doubt())
	case code >= 400 && code != http.StatusConflict && !(found && keys):
		text, _ := io.ReadAll(io.LimitReader(answer.Body, mostErrorText))
		answer.Body.Close()
		answer.Body = io.NopCloser(strings.NewReader(errorText(string(text))))
	default:
		answer.Body = &boundedBody{ReadCloser: answer.Body, left: limitOf(r.Context()), most: limitOf(r.Context())}
	}
	return answer, nil
}

// errorText makes the body of an error fit on a line of a log.
func errorText(body string) string {
	text := strings.TrimSpace(strings.ToValidUTF8(body, "?"))
	if strings.HasPrefix(text, "<") {
		return "a page of HTML"
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	const most = 300
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

// errTooLarge marks an answer beyond the size limit.
var errTooLarge = errors.New("the answer is too large")

// boundedBody fails after a number of bytes.
type boundedBody struct {
	io.ReadCloser
	left, most int64
	err        error
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		err = fmt.Errorf("%w: more than %d KiB; who writes such values below governor's prefix?", errTooLarge, b.most>>10)
		b.ReadCloser.Close()
	}
	b.left -= int64(n)
	b.err = err
	return n, err
}

// connect makes c open connections that hand out no answer before a question was asked: Consul answers 429 and closes a
// connection at once if one address has too many. Go's client would write that answer to the standard error stream and
// report a lost connection. TLS connections speak HTTP/1.1, because that answer does.
func (t *transport) connect(c *http.Transport) {
	dial := c.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if t.address.scheme == "unix" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", t.address.host)
		}
	}
	c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &patientConn{Conn: conn, asked: make(chan struct{})}, nil
	}
	config := c.TLSClientConfig
	c.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		config := config.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return &patientConn{Conn: secure, asked: make(chan struct{})}, nil
	}
	c.ForceAttemptHTTP2 = false
	c.MaxResponseHeaderBytes = 64 << 10
	c.IdleConnTimeout = 30 * time.Second
}

// patientConn is a connection whose first read waits for the first write.
type patientConn struct {
	net.Conn
	once  sync.Once
	asked chan struct{}
}

// Read implements net.Conn.
func (c *patientConn) Read(p []byte) (int, error) {
	<-c.asked
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *patientConn) Write(p []byte) (int, error) {
	defer c.once.Do(func() { close(c.asked) })
	return c.Conn.Write(p)
}

// Close implements net.Conn.
func (c *patientConn) Close() error {
	defer c.once.Do(func() { close(c.asked) })
	return c.Conn.Close()
}
