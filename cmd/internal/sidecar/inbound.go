package sidecar

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// InboundConfig says where an Inbound goes.
type InboundConfig struct {
	Upstream *url.URL      // see CheckUpstream
	Idle     time.Duration // how long an idle connection to the service is kept; 0: IdleTimeout
	Requests *Requests     // names each request, so that its calls can be found; nil: nobody asks
	Holders  *Holders      // notes who holds a slot; nil: nobody asks
	Log      *slog.Logger
}

// Inbound passes requests to the service unchanged: same host, path and query. It keeps the headers of outer proxies and
// adds the peer's address to X-Forwarded-For. The service can trust these headers as much as without the sidecar. An
// upstream that cannot be reached is a failure of the service, 502; a client that went away, or that sends a broken body,
// is not.
type Inbound struct {
	upstream *url.URL

	scheme, host, path string // of requests to it

	requests  *Requests
	holders   *Holders
	transport *Transport
	proxy     httputil.ReverseProxy
	log       *slog.Logger
	logged    seldom
}

// NewInbound returns the handler of requests that were admitted. It works only below a handler of Server.
func NewInbound(c InboundConfig) *Inbound {
	p := &Inbound{
		upstream: c.Upstream, requests: c.Requests, holders: c.Holders, log: c.Log,
		transport: NewTransport(c.Idle, socketOf(c.Upstream)),
		scheme:    c.Upstream.Scheme, host: c.Upstream.Host, path: strings.TrimSuffix(c.Upstream.EscapedPath(), "/"),
	}
	switch p.scheme {
	case schemeUnix:
		p.scheme, p.host, p.path = "http", "localhost", ""
	case schemeH2CUnix:
		p.scheme, p.host, p.path = schemeH2C, "localhost", ""
	}
	p.proxy = httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p.transport,
		ModifyResponse: p.answered,
		ErrorHandler:   p.fail,
		BufferPool:     &copyBuffers,
		ErrorLog:       slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return p
}

// Close closes the idle connections to the service.
func (p *Inbound) Close() { p.transport.CloseIdleConnections() }

// ServeHTTP implements http.Handler.
func (p *Inbound) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.requests != nil {
		defer p.requests.admit(r)()
	}
	if p.holders != nil {
		x := exchangeOf(r.Context())
		p.holders.enter(x)
		defer p.holders.leave(x)
	}
	p.proxy.ServeHTTP(w, r)
}

// answered prepares an answer for the client. Some hold no slot from then on.
func (p *Inbound) answered(a *http.Response) error {
	if p.holders != nil && (a.StatusCode == http.StatusSwitchingProtocols || guardhttp.IsEventStream(a.Header)) {
		p.holders.leave(exchangeOf(a.Request.Context()))
	}
	return answered(a)
}

func (p *Inbound) rewrite(r *httputil.ProxyRequest) {
	rewrite(r)
	*r.Out.URL = url.URL{Scheme: p.scheme, Host: p.host}
	setTarget(r.Out.URL, r.In, p.path)
	r.Out.Host = r.In.Host
	addForwarded(r.Out.Header, r.In)
	if p.requests != nil {
		// After the proxy has removed what the client listed in its Connection header.
		r.Out.Header[RequestHeader] = r.In.Header[RequestHeader]
	}
}

// addForwarded describes the peer, as far as outer proxies have not done so.
func addForwarded(h http.Header, r *http.Request) {
	if peer, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if said := h["X-Forwarded-For"]; len(said) > 0 {
			peer = said[len(said)-1] + ", " + peer
			h["X-Forwarded-For"] = append(said[:len(said)-1:len(said)-1], peer)
		} else {
			h["X-Forwarded-For"] = []string{peer}
		}
	}
	if h["X-Forwarded-Host"] == nil && r.Host != "" {
		h["X-Forwarded-Host"] = []string{r.Host}
	}
	if h["X-Forwarded-Proto"] == nil {
		h["X-Forwarded-Proto"] = []string{"http"}
		if r.TLS != nil {
			h["X-Forwarded-Proto"] = []string{"https"}
		}
	}
}

// fail answers a request that the service did not answer.
func (p *Inbound) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	switch {
	case x.failBroken(w):
	case x.Err() != nil: // nearly always for nobody; a client that reads still gets no empty success
		x.fail(w, http.StatusGatewayTimeout, "the request was given up: you have closed your side of the connection, and "+
			"the service behind this proxy did not answer soon")
	default:
		if p.logged.now() { // guard_failed_total counts them all
			p.log.Warn("The upstream did not answer", "upstream", p.upstream.Redacted(), "err", err)
		}
		x.fail(w, http.StatusBadGateway, "the service behind this proxy did not answer")
	}
}
