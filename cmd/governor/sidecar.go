package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	consulapi "github.com/hashicorp/consul/api"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	webflag "github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
)

// sidecarAdmin is the default address of the sidecar's own pages. It is separate, so that they hide no path of the
// upstream.
const sidecarAdmin = ":9748"

type sidecarOptions struct {
	listen       string
	upstream     *url.URL
	drain        time.Duration
	egress       egressFlag
	egressLimit  time.Duration
	consulPrefix string
	guard        guard.Config
	allowHosts   []string
	web          *web.FlagConfig
}

func sidecarCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("sidecar", "Run a reverse proxy that guards a service written in any language. It refuses what "+
		"the service cannot carry, with 503 and Retry-After, and obeys governor. With --egress it also guards the calls "+
		"of the service to others, with retries, breaker and bulkhead. Without Consul it uses its fallback and its reflex. "+
		"It finds Consul through CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on.")
	o := sidecarOptions{}
	cmd.Flag("service", "Name of the service, as in governor's configuration.").Required().
		PlaceHolder("NAME").StringVar(&o.guard.Service)
	cmd.Flag("slo.latency", "Latency of a good request, at most.").Required().
		PlaceHolder("300ms").DurationVar(&o.guard.SLO)
	cmd.Flag("upstream", "URL of the service.").Default("http://127.0.0.1:8080").URLVar(&o.upstream)
	cmd.Flag("listen", "Address for the service's clients.").Default(":8081").StringVar(&o.listen)
	cmd.Flag("egress", "Forward port through which the service calls a dependency, under deadline, retries, breaker and "+
		"bulkhead: the name of the dependency, the address to listen on, and the URLs of its instances, like "+
		egressExample+". Listens on 127.0.0.1 if there is no host before the port; unix:/path is a socket. Repeat it for "+
		"each dependency.").PlaceHolder(egressSyntax).SetValue(&o.egress)
	cmd.Flag("egress-timeout", "How long a call through a forward port may take, retries included. 0: as long as the "+
		"service waits.").Default("0s").DurationVar(&o.egressLimit)
	cmd.Flag("limit.min", "Lowest limit of requests in flight. 0: as published, else 1.").
		Default("0").IntVar(&o.guard.Min)
	cmd.Flag("limit.max", "Highest limit. 0: as published, else 1000.").Default("0").IntVar(&o.guard.Max)
	cmd.Flag("limit.fallback", "The limit before governor has published one, and after a long silence of governor. "+
		"0: the geometric mean of the bounds.").Default("0").IntVar(&o.guard.Fallback)
	reflex := cmd.Flag("reflex", "Let the sidecar adapt the limit to the latency between governor's decisions. "+
		"Without it the limit is exactly as published.").Default("true").Bool()
	cmd.Flag("cache-file", "File that keeps the last setting, for starts while Consul is down.").PlaceHolder("FILE").
		StringVar(&o.guard.CacheFile)
	cmd.Flag("consul.prefix", "Prefix of governor's keys.").Default(actuators.DefaultPrefix).StringVar(&o.consulPrefix)
	cmd.Flag("drain-timeout", "How long requests in flight may take to finish after SIGTERM.").
		Default("30s").DurationVar(&o.drain)
	allowHostFlag(cmd, &o.allowHosts)
	o.web = webflag.AddFlags(cmd, sidecarAdmin)
	return cmd.FullCommand(), func(ctx context.Context, log *slog.Logger) error {
		o.guard.NoReflex = !*reflex
		return o.run(ctx, log)
	}
}

func (o sidecarOptions) run(ctx context.Context, log *slog.Logger) error {
	if err := o.check(); err != nil {
		return err
	}
	o.guard.Logger = log.With("component", "guard")
	g, err := guard.New(o.guard)
	if err != nil {
		return err
	}
	clientConfig := consulapi.DefaultConfig()
	client, err := consulapi.NewClient(clientConfig)
	if err != nil {
		return fmt.Errorf("the client for Consul at %s: %w", clientConfig.Address, err)
	}
	watcher := &consul.Watcher{
		Client: client, Keys: actuators.Keys{Prefix: o.consulPrefix},
		OnError: func(err error) { log.Warn("Cannot watch the settings; the last one stays in force", "err", err) },
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return listenError("listen", o.listen, err)
	}
	ports := make([]net.Listener, len(o.egress))
	for i, e := range o.egress {
		if ports[i], err = e.listen(); err != nil {
			return err
		}
	}

	log.Info("Guarding", "service", o.guard.Service, "listen", listener.Addr(), "upstream", o.upstream.Redacted(),
		"consul", clientConfig.Address)
	var group run.Group
	group.Add(run.SignalHandler(ctx, os.Interrupt, syscall.SIGTERM))
	// The group interrupts its members one after the other. While the service finishes its requests, it still makes calls,
	// so the forward ports close last. All have one time limit.
	var cutoff time.Time
	serve := func(flag, address string, l net.Listener, handler http.Handler) {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		group.Add(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return listenError(flag, address, err)
			}
			return nil
		}, func(error) {
			if cutoff.IsZero() {
				cutoff = time.Now().Add(o.drain)
			}
			ctx, cancel := context.WithDeadline(context.Background(), cutoff)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				log.Warn("Cut off requests in flight", flag, address, "after", o.drain)
				_ = server.Close()
			}
		})
	}
	proxy := newProxy(o.upstream, log)
	if len(o.egress) == 0 {
		serve("listen", o.listen, listener, guardhttp.New(g, proxy))
	} else {
		inbound, base := newInboundRequests(mostInbound), direct()
		base.ExpectContinueTimeout = time.Second // do not take a large upload that will be refused
		serve("listen", o.listen, listener, guardhttp.New(g, inbound.through(proxy)))
		for i, e := range o.egress {
			log.Info("Forwarding", "to", e.dependency, "listen", ports[i].Addr(), "instances", e.urls())
			serve("egress", e.String(), ports[i], newForwardPort(g, e, base, inbound, o.egressLimit, log))
		}
	}
	addServer(&group, adminHandler(g), o.web, o.allowHosts, "", log)
	watching, stop := context.WithCancel(context.Background())
	group.Add(func() error { return g.Run(watching, watcher) }, func(error) { stop() })

	err = group.Run()
	logStop(log, "Stopped", err)
	return err
}

// check reports what the guard would refuse in its Config, in terms of the flags.
func (o sidecarOptions) check() error {
	var errs []error
	bad := func(flag string, value any, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s=%v: expected "+format, append([]any{flag, value}, args...)...))
	}
	g := o.guard
	if err := actuators.ValidServiceName(g.Service); err != nil {
		bad("service", g.Service, "%w", err)
	}
	if g.SLO < time.Millisecond || g.SLO > time.Hour {
		bad("slo.latency", g.SLO, "1ms to 1h, the longest latency of a good request")
	}
	if u := o.upstream; (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
		bad("upstream", u, "a URL like http://127.0.0.1:8080")
	}
	if o.egressLimit < 0 {
		bad("egress-timeout", o.egressLimit, "0, or how long a call may take, like 2s")
	}
	lo, hi := cmp.Or(g.Min, 1), cmp.Or(g.Max, max(1000, g.Min)) // as in guard.Config
	switch {
	case g.Min < 0:
		bad("limit.min", g.Min, "0 or more requests in flight")
	case g.Max < 0:
		bad("limit.max", g.Max, "0 or more requests in flight")
	case g.Max > 0 && g.Min > g.Max:
		bad("limit.min", g.Min, "at most --limit.max=%d", g.Max)
	case g.Fallback != 0 && (g.Fallback < lo || g.Fallback > hi):
		bad("limit.fallback", g.Fallback, "0, or a limit from --limit.min to --limit.max, here %d to %d", lo, hi)
	}
	if info, err := os.Stat(g.CacheFile); err == nil && !info.Mode().IsRegular() {
		bad("cache-file", g.CacheFile, "a regular file, or one that does not exist yet; this is a directory, a pipe or a device")
	}
	if err := actuators.ValidPrefix(o.consulPrefix); err != nil {
		errs = append(errs, fmt.Errorf("--consul.prefix=%s: %w", o.consulPrefix, err))
	}
	return errors.Join(errs...)
}

// keepForwarded keeps the headers, except X-Forwarded-For, in which outer proxies describe the client.
func keepForwarded(r *httputil.ProxyRequest) {
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		if said, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = said
		}
	}
}

// newProxy passes requests to the service unchanged: same host, path and query. It keeps the headers of outer proxies
// and adds the peer's address to X-Forwarded-For. The service can trust these headers as much as without the sidecar.
// An upstream that cannot be reached is a failure of the service, 502; a client that went away is not.
func newProxy(upstream *url.URL, log *slog.Logger) *httputil.ReverseProxy {
	var logged seldom
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host, r.Out.URL.RawQuery = r.In.Host, r.In.URL.RawQuery
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
			keepForwarded(r)
		},
		Transport: direct(),
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			// guard_failed_total counts them all.
			if logged.now() {
				log.Warn("The upstream did not answer", "upstream", upstream.Redacted(), "err", err)
			}
			http.Error(w, "the service behind this proxy did not answer", http.StatusBadGateway)
		},
	}
}

// direct returns a transport without a proxy in between. A connection succeeds soon or not at all. The callers and the
// service that is called decide how long an answer may take.
func direct() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        0,
		MaxIdleConnsPerHost: 1024, // about the limit: fewer would close and dial connections all the time
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // bodies pass as they are
		ForceAttemptHTTP2:   true,
	}
}

// seldom keeps a log short in an outage, in which every request fails. The zero value is ready.
type seldom struct{ last atomic.Int64 }

// now says whether the last time it said yes was more than ten seconds ago.
func (s *seldom) now() bool {
	now, last := time.Now().UnixNano(), s.last.Load()
	return now-last > int64(10*time.Second) && s.last.CompareAndSwap(last, now)
}

func adminHandler(g *guard.Guard) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		guardprom.New(g), versioncollector.NewCollector("governor_sidecar"),
		droppedLines("governor_sidecar_log_lines_dropped_total"),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "the sidecar is alive")
	})
	if page, err := web.NewLandingPage(web.LandingConfig{
		Name: "governor sidecar", Description: "Guards the service " + g.Service() + ".",
		Links: []web.LandingLinks{{Address: "/metrics", Text: "Metrics"}, {Address: "/-/healthy", Text: "Healthy"}},
	}); err == nil {
		mux.Handle("GET /{$}", page)
	}
	return mux
}
