package signals

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/config"

	"github.com/seed-de83e32b/governor/control"
)

func newClient(opts Options) (*client, error) {
	u, err := url.Parse(opts.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("prometheus url: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("prometheus url %q: want http://host:port or https://host:port", u.Redacted())
	}
	switch opts.Method {
	case "", http.MethodPost, http.MethodGet:
	default:
		return nil, fmt.Errorf("http_method %q: want POST or GET", opts.Method)
	}

	hc := &http.Client{Transport: opts.RoundTripper}
	if opts.RoundTripper == nil {
		cfg := config.DefaultHTTPClientConfig
		if opts.HTTP != nil {
			cfg = *opts.HTTP
		}
		if hc, err = config.NewClientFromConfig(cfg, "prometheus"); err != nil {
			return nil, fmt.Errorf("http client for prometheus at %s: %w", u.Redacted(), err)
		}
	}
	hc.Transport = sized{hc.Transport}
	inner, err := api.NewClient(api.Config{Address: opts.URL, Client: hc})
	if err != nil {
		return nil, fmt.Errorf("prometheus url %q: %w", u.Redacted(), err)
	}
	return &client{Client: inner, get: opts.Method == http.MethodGet}, nil
}

// client is api.Client with two additions: it can use GET from the start (the API package only falls back to it on 403,
// 405 and 501), and it records what happened on the wire if the context carries an exchange.
type client struct {
	api.Client
	get bool
}

// Bounds of one answer of Prometheus, uncompressed. A service with two instances takes about 14 kB, so there is room for
// fleets of ten instances a service, or for one service with a thousand.
const (
	mostBytesAlways     = 8 << 20
	mostBytesPerService = 64 << 10
)

// mostBytes bounds an answer about n services.
func mostBytes(n int) int64 { return mostBytesAlways + int64(n)*mostBytesPerService }

// sizeError is the error of reading an answer that is too large. Nothing of it is used: what was left out might matter.
type sizeError struct{ most int64 }

func (e sizeError) Error() string {
	return fmt.Sprintf("the answer of Prometheus is larger than %.1f MiB, the most that the services of the query may need: "+
		"is this the address of a Prometheus, and do their selectors match more than these services?", float64(e.most)/(1<<20))
}

// sized bounds the body of every answer.
type sized struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t sized) RoundTrip(r *http.Request) (*http.Response, error) {
	most := mostBytes(1)
	if ex, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		most = ex.most
	}
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &sizedBody{ReadCloser: resp.Body, left: most, most: most}
	}
	return resp, err
}

// CloseIdleConnections passes on what http.Client asks for.
func (t sized) CloseIdleConnections() {
	if i, ok := t.RoundTripper.(api.CloseIdler); ok {
		i.CloseIdleConnections()
	}
}

type sizedBody struct {
	io.ReadCloser
	left, most int64
}

// Read implements io.Reader.
func (b *sizedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, sizeError{b.most}
	}
	return n, err
}

// exchange is what one query saw on the wire. The API package does not expose status and headers.
type exchange struct {
	most     int64         // bytes of an answer
	method   string        // of the last request
	status   int           // of the last reply, 0: none
	skew     time.Duration // server clock minus ours; 0: no provable difference
	attempts int
}

type exchangeKey struct{}

func (c *client) Do(ctx context.Context, req *http.Request) (*http.Response, []byte, error) {
	if c.get && req.Method == http.MethodPost {
		var err error
		if req, err = asGET(req); err != nil {
			return nil, nil, err
		}
	}
	sent := time.Now()
	resp, body, err := c.Client.Do(ctx, req)
	if ex, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		ex.attempts++
		ex.method, ex.status = req.Method, 0
		if resp != nil {
			ex.status = resp.StatusCode
			ex.skew = skew(resp.Header, sent, time.Now())
		}
	}
	return resp, body, err
}

func (c *client) CloseIdleConnections() {
	if i, ok := c.Client.(api.CloseIdler); ok {
		i.CloseIdleConnections()
	}
}

// asGET moves the form of a POST into the URL.
func asGET(req *http.Request) (*http.Request, error) {
	form, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	u := *req.URL
	u.RawQuery = string(form)
	return http.NewRequest(http.MethodGet, u.String(), nil)
}

// skew returns the smallest difference between the server's clock and ours that is consistent with the reply's Date.
// Date says that the server's clock was in [Date, Date + 1 s) at some time in [sent, received].
func skew(h http.Header, sent, received time.Time) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	lowest, highest := date.Sub(received), date.Add(time.Second).Sub(sent)
	switch {
	case lowest > 0:
		return lowest
	case highest < 0:
		return highest
	}
	return 0
}

// explain turns the failure of a query into a reason and a sentence that says what to try.
func explain(err error, ex exchange, limit time.Duration) (control.Reason, string) {
	var apiErr *v1.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return control.Timeout, fmt.Sprintf("no reply from Prometheus within %s", limit)
	case errors.Is(err, context.Canceled):
		return control.Timeout, "the query was canceled before Prometheus replied"
	case !errors.As(err, &apiErr):
		return control.QueryError, brief(err.Error())
	case apiErr.Type == v1.ErrTimeout || apiErr.Type == v1.ErrCanceled:
		return control.Timeout, "Prometheus gave up on the query: " + brief(apiErr.Msg)
	}

	text := brief(apiErr.Error())
	if d := brief(apiErr.Detail); d != "" {
		text += ": " + d
	}
	// The API package reads the error's type only for 400 and 422; Prometheus sends timeouts with 503.
	if ex.status == http.StatusGatewayTimeout ||
		ex.status == http.StatusServiceUnavailable && strings.Contains(apiErr.Detail, `"errorType":"timeout"`) {
		return control.Timeout, text
	}
	if apiErr.Type == v1.ErrServer || apiErr.Type == v1.ErrClient {
		text += hint(ex)
	}
	if apiErr.Type == v1.ErrBadResponse {
		text += " (is this the address of a Prometheus API?)"
	}
	return control.QueryError, text
}

// hint says what to try after a reply that did not come from the query API, but from a proxy in between or a server
// that does not support the method used.
func hint(ex exchange) string {
	switch ex.status {
	case http.StatusUnauthorized:
		return " (check the credentials)"
	case http.StatusForbidden:
		if ex.attempts > 1 {
			return " (to POST and to GET: check the credentials)"
		}
		return " (check the credentials)"
	case http.StatusNotFound:
		return " (check the URL: the API is expected under /api/v1 of it)"
	case http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return " (the query is too long for GET: check http_method: POST)"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return ""
	}
	if ex.method == http.MethodPost {
		return " (answer to a POST, which a proxy may refuse: check http_method: GET)"
	}
	return ""
}

// brief puts external text on one line of bounded length.
func brief(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	const most = 300
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
