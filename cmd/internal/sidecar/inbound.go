package sidecar

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	guardwire "github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// InboundConfig says where an Inbound goes.
type InboundConfig struct {
	Upstream *url.URL      // see CheckUpstream
	Idle     time.Duration // how long an idle connection to the service is kept; 0: IdleTimeout
	Requests *Requests     // names each request, so that its calls can be found; nil: nobody asks
	Holders  *Holders      // notes who holds a slot; nil: nobody asks
	Baggage  bool          // the service copies W3C baggage to its calls, and not Guard-Context
	Log      *slog.Logger
}

// Inbound passes requests to the service unchanged: same host, path and query. It keeps the headers of outer proxies and
// adds the peer's address to X-Forwarded-For, and what the calls of an admitted request should carry as Guard-Context. The service can trust these headers as much as without the sidecar. An
// upstream that cannot be reached is a failure of the service, 502; a client that went away, or that sends a broken body,
// is not.
type Inbound struct {
	upstream *url.URL

	scheme, host, path string // of requests to it

	requests  *Requests
	holders   *Holders
	baggage   bool
	transport *Transport
	proxy     httputil.ReverseProxy
	log       *slog.Logger
	logged    seldom
}

// NewInbound returns the handler of requests that were admitted. It works only below a handler of Server.
func NewInbound(c InboundConfig) *Inbound {
	p := &Inbound{
		upstream: c.Upstream, requests: c.Requests, holders: c.Holders, baggage: c.Baggage, log: c.Log,
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
		if name, ok := p.requests.enter(r.Context()); ok {
			exchangeOf(r.Context()).name = name
			defer p.requests.leave(name)
		}
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
	p.handOn(r.In.Context(), r.Out.Header) // after the proxy has removed what the client listed in its Connection header
}

// handOn makes h, which the service receives, say what the calls for the request in ctx should carry. Those of a request that
// the guard has not seen carry what came with it.
func (p *Inbound) handOn(ctx context.Context, h http.Header) {
	origin, ok := guard.OriginOf(ctx)
	if !ok {
		return
	}
	says := guardwire.Context{Arrival: origin, Request: exchangeOf(ctx).name}
	says.Attempt, says.Marked = guard.AttemptOf(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		says.Left = max(time.Until(deadline), 1)
	}
	guardhttp.SetContext(h, says, p.baggage)
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
