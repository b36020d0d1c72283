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
	consulPrefix string
	guard        guard.Config
	web          *web.FlagConfig
}

func sidecarCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("sidecar", "Run a reverse proxy that guards a service written in any language. It refuses what "+
		"the service cannot carry, with 503 and Retry-After, and obeys governor. Without Consul it uses its fallback "+
		"and its reflex. It finds Consul through CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on.")
	o := sidecarOptions{}
	cmd.Flag("service", "Name of the service, as in governor's configuration.").Required().
		PlaceHolder("NAME").StringVar(&o.guard.Service)
	cmd.Flag("slo.latency", "Latency of a good request, at most.").Required().
		PlaceHolder("300ms").DurationVar(&o.guard.SLO)
	cmd.Flag("upstream", "URL of the service.").Default("http://127.0.0.1:8080").URLVar(&o.upstream)
	cmd.Flag("listen", "Address for the service's clients.").Default(":8081").StringVar(&o.listen)
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

	log.Info("Guarding", "service", o.guard.Service, "listen", listener.Addr(), "upstream", o.upstream.Redacted(),
		"consul", clientConfig.Address)
	var group run.Group
	group.Add(run.SignalHandler(ctx, os.Interrupt, syscall.SIGTERM))
	traffic := &http.Server{
		Handler: guardhttp.New(g, newProxy(o.upstream, log)), ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	group.Add(func() error {
		if err := traffic.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return listenError("listen", o.listen, err)
		}
		return nil
	}, func(error) {
		ctx, cancel := context.WithTimeout(context.Background(), o.drain)
		defer cancel()
		if err := traffic.Shutdown(ctx); err != nil {
			log.Warn("Cut off requests in flight", "after", o.drain)
			_ = traffic.Close()
		}
	})
	addServer(&group, adminHandler(g), o.web, log)
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
	if err := actuators.ValidPrefix(o.consulPrefix); err != nil {
		errs = append(errs, fmt.Errorf("--consul.prefix=%s: %w", o.consulPrefix, err))
	}
	return errors.Join(errs...)
}

// forwarded are the headers, except X-Forwarded-For, in which outer proxies describe the client.
var forwarded = []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"}

// newProxy passes requests to the service unchanged: same host, path and query. It keeps the headers of outer proxies
// and adds the peer's address to X-Forwarded-For. The service can trust these headers as much as without the sidecar.
// An upstream that cannot be reached is a failure of the service, 502; a client that went away is not.
func newProxy(upstream *url.URL, log *slog.Logger) *httputil.ReverseProxy {
	var lastLog atomic.Int64
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host, r.Out.URL.RawQuery = r.In.Host, r.In.URL.RawQuery
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
			for _, name := range forwarded {
				if said, ok := r.In.Header[name]; ok {
					r.Out.Header[name] = said
				}
			}
		},
		Transport: &http.Transport{
			// The upstream is next to the sidecar: there is no proxy in between, and a connection succeeds at once or not at
			// all. The client and the service decide how long an answer may take.
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConns:        0,
			MaxIdleConnsPerHost: 1024, // about the limit: fewer would close and dial connections all the time
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true, // bodies pass as they are
			ForceAttemptHTTP2:   true,
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
				return // the client has gone
			}
			// In an outage this is every request: guard_failed_total counts them all, so the log need not.
			now, last := time.Now().UnixNano(), lastLog.Load()
			if now-last > int64(10*time.Second) && lastLog.CompareAndSwap(last, now) {
				log.Warn("The upstream did not answer", "upstream", upstream.Redacted(), "err", err)
			}
			http.Error(w, "the service behind this proxy did not answer", http.StatusBadGateway)
		},
	}
}

func adminHandler(g *guard.Guard) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		guardprom.New(g), versioncollector.NewCollector("governor_sidecar"),
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
