package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kingpin/v2"
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
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/actuators/source"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/sidecar"
)

// sidecarAdmin is the default address of the sidecar's own pages. It is separate, so that they hide no path of the
// upstream.
const sidecarAdmin = ":9748"

type sidecarOptions struct {
	upstream     *url.URL
	upstreamIdle time.Duration
	egress       egressFlag
	egressLimit  time.Duration
	outside      []string
	routes       routeFlag
	baggage      bool
	consulPrefix string
	settingFile  string
	guard        guard.Config
	allowHosts   []string
	web          *web.FlagConfig
	edgeOptions
}

// sidecarGroups are the headings in the help. No flag in it is one of another command.
var sidecarGroups = []flagGroup{
	{"service", "The service and its limit"},
	{"listen", "The clients"},
	{"bypass", "Trust"},
	{"drain-delay", "Stopping"},
	{"egress", "The way out"},
	{"pprof.listen", "The sidecar's own pages"},
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
	cmd.Flag("upstream", "URL of the service: http, https, h2c for HTTP/2 without TLS, or unix:/path. gRPC is always "+
		"passed on as HTTP/2.").Default("http://127.0.0.1:8080").URLVar(&o.upstream)
	cmd.Flag("upstream-idle-timeout", "How long an unused connection to the service, or to a dependency, is kept. Keep it "+
		"shorter than the idle time of that server, which could close the connection just as a request is sent on it.").
		Default("1.5s").DurationVar(&o.upstreamIdle)

	cmd.Flag("limit.min", "Lowest limit of requests in flight. 0: as published, else 1.").
		Default("0").IntVar(&o.guard.Min)
	cmd.Flag("limit.max", "Highest limit. 0: as published, else 1000.").Default("0").IntVar(&o.guard.Max)
	cmd.Flag("limit.fallback", "The limit before governor has published one, and after a long silence of governor. "+
		"0: the geometric mean of the bounds.").Default("0").IntVar(&o.guard.Fallback)
	cmd.Flag("shed-threshold", "Occupancy above which the least important requests are refused, while governor has "+
		"published none: a share of the limit. 1: nothing is shed. 0: 0.6 while requests bring a criticality, a key or a rank "+
		"along, else 1.").Default("0").
		Float64Var(&o.guard.ShedThreshold)
	cmd.Flag("fair-keys", "While the sidecar refuses, refuse first what a key of --key-from demands above its fair share. "+
		"Needs --shed-threshold below 1.").BoolVar(&o.guard.FairKeys)
	cmd.Flag("route-slo", "Give a route an SLO and a limit of its own, under one limit for the whole service: the name of the "+
		"route, and the latency of a good request of it, like export=10s. Its requests are those that --route names /NAME, or else "+
		"those whose path begins with /NAME. After the latency, options: weight=3, how much it gets while there is not enough for "+
		"all, relative to the weights of others (without one, its part of the work in calm); min, max and fallback, as --limit.min "+
		"and so on. Repeat it for each route.").PlaceHolder(routeSyntax).SetValue(&o.routes)
	cmd.Flag("weight", "The weight of the requests on no route of --route-slo, beside the weights of those. 0: it is learned.").
		Default("0").Float64Var(&o.guard.Weight)
	reflex := cmd.Flag("reflex", "Let the sidecar adapt the limit to the latency between governor's decisions. "+
		"Without it the limit is exactly as published.").Default("true").Bool()
	cmd.Flag("cache-file", "File that keeps the last setting, for starts while Consul is down.").PlaceHolder("FILE").
		StringVar(&o.guard.CacheFile)
	cmd.Flag("consul.prefix", "Prefix of governor's keys.").Default(actuators.DefaultPrefix).StringVar(&o.consulPrefix)
	cmd.Flag("setting-file", "Take the setting from this file, in place of Consul: one that consul-template writes, or in a "+
		"mounted ConfigMap. It may be missing at first. From a folder, the settings of the service, of its routes and of its calls "+
		"are taken, as SERVICE/setting, SERVICE/routes/ROUTE/setting and SERVICE/calls/CALLEE/setting.").PlaceHolder("PATH").StringVar(&o.settingFile)

	o.edgeOptions.add(cmd)

	cmd.Flag("egress", "Forward port through which the service calls a dependency, under deadline, retries, breaker and "+
		"bulkhead: the name of the dependency, the address to listen on, and the URLs of its instances, like "+
		egressExample+". Listens on 127.0.0.1 if there is no host before the port; unix:/path is a socket. Repeat it for "+
		"each dependency.").PlaceHolder(egressSyntax).SetValue(&o.egress)
	cmd.Flag("egress-timeout", "How long a call through a forward port may take, retries included. 0: as long as the "+
		"service waits.").Default("0s").DurationVar(&o.egressLimit)

	cmd.Flag("egress-outside", "Dependency outside the house: it receives no Guard-* header, so no key of a user, and what it "+
		"says of its load counts for nothing. Repeat it for each.").PlaceHolder("NAME").StringsVar(&o.outside)
	cmd.Flag("baggage", "Write Guard-Context into W3C baggage as well, as guard-context: for a service that copies baggage to "+
		"its calls.").BoolVar(&o.baggage)

	cmd.Flag("pprof.listen", "Address for profiles, /debug/pprof. Listens on 127.0.0.1 if there is no host before the port. "+
		"Without it there are none.").PlaceHolder("ADDRESS").StringVar(&o.pprof)
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
	holders := new(sidecar.Holders)
	o.guard.MaxEndless, o.guard.Routes = o.maxEndless, o.routes.with(o.guard.ShedThreshold)
	o.guard.Logger, o.guard.Holders = log.With("component", "guard"), holders.Oldest
	g, err := guard.New(o.guard)
	if err != nil {
		return err
	}
	settings, err := o.settings(log)
	if err != nil {
		return err
	}
	ports, err := o.open(log)
	if err != nil {
		return err
	}
	forward := make([]net.Listener, len(o.egress))
	for i, e := range o.egress {
		if forward[i], err = e.listen(); err != nil {
			return err
		}
	}

	log.Info("Guarding", "service", o.guard.Service, "listen", ports.traffic.Addr(), "upstream", o.upstream.Redacted(),
		"settings", settings.from, "routes", o.routes.String())
	var group run.Group
	stopping, stopped := interrupt.Context(ctx, func(again os.Signal) {
		log.Warn("Stopping at once", "signal", again)
		ports.drain.Hurry()
	})
	defer stopped()
	group.Add(interrupt.Actor(stopping))
	inbound := sidecar.InboundConfig{Upstream: o.upstream, Idle: o.upstreamIdle, Holders: holders, Baggage: o.baggage, Log: log}
	if len(o.egress) > 0 {
		inbound.Requests = sidecar.NewRequests()
	}
	handler, err := ports.handler(g, sidecar.NewInbound(inbound))
	if err != nil {
		return err
	}
	ports.addTraffic(&group, sidecar.Server(handler))
	// While the service finishes its requests, it still makes calls, so the forward ports close after the traffic's.
	outbound := sidecar.NewTransport(o.upstreamIdle, "")
	for i, e := range o.egress {
		log.Info("Forwarding", "to", e.dependency, "listen", forward[i].Addr(), "instances", e.urls())
		ports.addForward(&group, e.String(), forward[i], sidecar.Server(sidecar.NewForwardPort(sidecar.ForwardConfig{
			Guard: g, Dependency: e.dependency, Scheme: e.scheme, Instances: e.instances, Transport: outbound,
			Requests: inbound.Requests, Timeout: o.egressLimit, Outside: slices.Contains(o.outside, e.dependency),
			Baggage: o.baggage, Log: log,
		})))
	}
	ports.addProfiles(&group)
	addServer(&group, adminHandler(g, ports), o.web, o.allowHosts, "", log)
	watching, stop := context.WithCancel(context.Background())
	group.Add(func() error { return g.Run(watching, settings.Source) }, func(error) { stop() })
	onHangup(&group, func(context.Context) {
		if settings.client == nil {
			return
		}
		if err := reloadSecrets(settings.client, log); err != nil {
			log.Error("Not reloaded", "err", err)
		}
	})

	err = group.Run()
	logStop(log, "Stopped", err)
	return err
}

// settings is where the sidecar's Settings come from.
type settings struct {
	guard.Source
	from   string         // for people
	client *consul.Client // nil: not from Consul
}

func (o sidecarOptions) settings(log *slog.Logger) (settings, error) {
	onError := func(err error) { log.Warn("Cannot watch the settings; the last one stays in force", "err", err) }
	if name := o.settingFile; name != "" {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) { // consul-template may be late, or the name misspelled
			log.Warn("There is no setting file yet, so the guard starts without one; for a folder, restart the sidecar when it is "+
				"there", "path", name)
		}
		if err == nil && info.IsDir() {
			return settings{Source: source.Dir{Path: name, OnError: onError}, from: name}, nil
		}
		return settings{Source: source.File{Path: name, OnError: onError}, from: name}, nil
	}
	client, err := consul.NewClient(nil)
	if err != nil {
		return settings{}, err
	}
	watcher := &consul.Watcher{Client: client, Keys: actuators.Keys{Prefix: o.consulPrefix}, OnError: onError}
	return settings{Source: watcher, from: client.Address(), client: client}, nil
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
	if u := o.upstream; u.User != nil {
		bad("upstream", u.Host, "a URL without user and password; clients can send an Authorization header")
	} else if err := sidecar.CheckUpstream(u); err != nil {
		errs = append(errs, fmt.Errorf("--upstream=%s: %w", u.Redacted(), err))
	}
	if o.upstreamIdle <= 0 {
		bad("upstream-idle-timeout", o.upstreamIdle, "a duration above 0, like 1.5s")
	}
	if !(g.ShedThreshold >= 0 && g.ShedThreshold <= 1) {
		bad("shed-threshold", g.ShedThreshold, "a share of the limit from 0 to 1, like 0.6")
	}
	if g.FairKeys && g.ShedThreshold == 1 {
		bad("fair-keys", g.FairKeys, "a --shed-threshold below 1 beside it, like 0.6")
	}
	errs = append(errs, o.edgeOptions.check(o.upstream, *o.web.WebListenAddresses)...)
	errs = append(errs, o.egress.loops(o.upstream)...)
	for _, name := range o.outside {
		if !slices.ContainsFunc(o.egress, func(e egress) bool { return e.dependency == name }) {
			bad("egress-outside", name, "the NAME of an --egress")
		}
	}
	if o.egressLimit < 0 {
		bad("egress-timeout", o.egressLimit, "0, or how long a call may take, like 2s")
	}
	errs = append(errs, o.routes.checkWeights(g.Weight))
	errs = append(errs, checkLimits(g.Min, g.Max, g.Fallback, "--limit."))
	if info, err := os.Stat(g.CacheFile); err == nil && !info.Mode().IsRegular() {
		bad("cache-file", g.CacheFile, "a regular file, or one that does not exist yet; this is a directory, a pipe or a device")
	}
	if err := actuators.ValidPrefix(o.consulPrefix); err != nil {
		errs = append(errs, fmt.Errorf("--consul.prefix=%s: %w", o.consulPrefix, err))
	}
	return errors.Join(errs...)
}

// checkLimits reports what is wrong with the bounds of a limit or with its fallback, whose names begin with prefix.
func checkLimits(least, most, fallback int, prefix string) error {
	bad := func(name string, value int, format string, args ...any) error {
		return fmt.Errorf("%s%s=%d: expected "+format, append([]any{prefix, name, value}, args...)...)
	}
	lo, hi := cmp.Or(least, 1), cmp.Or(most, max(1000, least)) // as in guard.Config
	switch {
	case least < 0:
		return bad("min", least, "0 or more requests in flight")
	case most < 0:
		return bad("max", most, "0 or more requests in flight")
	case most > 0 && least > most:
		return bad("min", least, "at most %smax=%d", prefix, most)
	case fallback != 0 && (fallback < lo || fallback > hi):
		return bad("fallback", fallback, "0, or a limit from %smin to %smax, here %d to %d", prefix, prefix, lo, hi)
	}
	return nil
}

func adminHandler(g *guard.Guard, p *ports) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		guardprom.New(g), versioncollector.NewCollector("governor_sidecar"),
		droppedLines("governor_sidecar_log_lines_dropped_total"),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	p.register(registry)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "the sidecar is alive")
	})
	mux.HandleFunc("GET /-/ready", p.ready)
	if page, err := web.NewLandingPage(web.LandingConfig{
		Name: "governor sidecar", Description: "Guards the service " + g.Service() + ".",
		Links: []web.LandingLinks{
			{Address: "/metrics", Text: "Metrics"}, {Address: "/-/healthy", Text: "Healthy"}, {Address: "/-/ready", Text: "Ready"},
		},
		Profiling: "false", // they have a port of their own
	}); err == nil {
		mux.Handle("GET /{$}", page)
	}
	return mux
}
