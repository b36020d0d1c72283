package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/cmd/internal/edge"
	"github.com/seed-de83e32b/governor/cmd/internal/hosts"
	"github.com/seed-de83e32b/governor/cmd/internal/sidecar"
)

// edgeOptions are the flags about the sidecar's ports: who may connect, what is believed, and how long things may take.
type edgeOptions struct {
	listen, listenConfig, pprof       string
	bypass, endless, routes           []string
	criticality, peers                []string
	key                               string
	strip                             bool
	idle, header, client, delay, wait time.Duration
	minRate, refusal, maxEndless      int
	report                            bool
}

func (o *edgeOptions) add(cmd *kingpin.CmdClause) {
	cmd.Flag("listen", "Address for the service's clients: host:port, or unix:/path for a socket.").
		Default(":8081").StringVar(&o.listen)
	cmd.Flag("listen.config.file", "Web configuration file with the TLS of --listen: tls_server_config, also with client "+
		"certificates. Changes of it and of the certificates are used without a restart.").PlaceHolder("FILE").
		StringVar(&o.listenConfig)
	cmd.Flag("idle-timeout", "How long a client's unused connection is kept. Keep it longer than the load balancer in front "+
		"does. 0: forever.").Default("2m").DurationVar(&o.idle)
	cmd.Flag("header-timeout", "How long a client may take to send the head of a request, and for the handshake of TLS. "+
		"0: forever.").Default("10s").DurationVar(&o.header)
	cmd.Flag("client-timeout", "How long a client may keep a request waiting, while it sends the body or reads the answer. "+
		"--client-min-rate gives time back. 0: forever.").
		Default("5m").DurationVar(&o.client)
	cmd.Flag("client-min-rate", "Bytes with which a client earns another second of --client-timeout. 0: any byte earns all "+
		"of it.").Default("500").IntVar(&o.minRate)

	cmd.Flag("endless", "Path of requests that last, like long polls and streams of gRPC: exactly this one, like /events, or "+
		"all below it, like /live/*. They need a slot to be admitted and then hold none, and their latency and outcome count for "+
		"nothing. Repeat it for each.").PlaceHolder("PATH").StringsVar(&o.endless)
	cmd.Flag("endless-max", "How many such requests, WebSockets and event streams may be open before more are refused. They take "+
		"memory, here and in the service. 0: no bound.").Default("0").IntVar(&o.maxEndless)
	cmd.Flag("route", "Name of requests by their path, as PATH=NAME with a PATH like those of --endless: /api/v1/buy/*=/buy. "+
		"Without =NAME, it is the PATH up to its /*. Calls made for them carry it. Repeat it; the first that matches counts. "+
		"Without a match, the name is the first segment of the path, or the method of gRPC.").PlaceHolder("PATH=NAME").StringsVar(&o.routes)
	cmd.Flag("refusal-status", "Status of all refusals, 429 or 503. Without it, 429 for the rate limit and else 503. Use 429 if "+
		"outlier detection would take an instance that answers 503 for a broken one.").PlaceHolder("429|503").IntVar(&o.refusal)
	cmd.Flag("load-report", "Add an ORCA load report to each answer, for load balancers: requests in flight / limit. Not where "+
		"strangers receive the answers.").BoolVar(&o.report)

	cmd.Flag("bypass", "Path that is never refused nor counted, for health checks: exactly this one, like /healthz, or all "+
		"below it, like /internal/*. Repeat it for each.").PlaceHolder("PATH").StringsVar(&o.bypass)
	cmd.Flag("trusted-peers", "Peers whose Guard-* headers are believed: an address, a block like 10.0.0.0/8, certificate "+
		"(a client certificate that was verified), unix or all. Repeat it for each.").PlaceHolder("PEER").StringsVar(&o.peers)
	cmd.Flag("criticality-from", "Where the criticality of a request comes from: header (Guard-Criticality), header:NAME, "+
		"header:NAME:WORD=CRITICALITY,..., PATH=CRITICALITY, or CRITICALITY for all. Repeat it; the first that applies counts. "+
		"Without it, Guard-Criticality counts as far as it makes a request less important, and entirely from --trusted-peers.").
		PlaceHolder("SOURCE").StringsVar(&o.criticality)
	cmd.Flag("key-from", "Where the user or tenant of a request comes from: header (Guard-Key), header:NAME, client-address "+
		"or none. Without it, Guard-Key from --trusted-peers.").PlaceHolder("SOURCE").StringVar(&o.key)
	cmd.Flag("strip-headers", "Remove Guard-* headers, and guard-context in baggage, from the requests of all but "+
		"--trusted-peers, before anybody reads them.").BoolVar(&o.strip)
	cmd.Flag("drain-delay", "How long requests are still served after SIGTERM, while /-/ready fails and answers close their "+
		"connections. Make it longer than the load balancer needs to notice.").Default("0s").DurationVar(&o.delay)
	cmd.Flag("drain-timeout", "How long requests in flight may take to finish after that, switched connections included.").
		Default("30s").DurationVar(&o.wait)
}

// check reports what is wrong, in terms of the flags.
func (o *edgeOptions) check(upstream *url.URL, admin []string) (errs []error) {
	bad := func(flag string, value any, err error) {
		errs = append(errs, fmt.Errorf("--%s=%v: %w", flag, value, err))
	}
	for flag, d := range map[string]time.Duration{
		"idle-timeout": o.idle, "header-timeout": o.header, "client-timeout": o.client, "drain-delay": o.delay,
		"drain-timeout": o.wait,
	} {
		if d < 0 {
			bad(flag, d, errors.New("expected 0 or more, like 30s"))
		}
	}
	if o.minRate < 0 {
		bad("client-min-rate", o.minRate, errors.New("expected bytes per second, like 500, or 0"))
	}
	if o.maxEndless < 0 {
		bad("endless-max", o.maxEndless, errors.New("expected a number of requests, like 5000, or 0"))
	}
	if o.refusal != 0 && o.refusal != http.StatusTooManyRequests && o.refusal != http.StatusServiceUnavailable {
		bad("refusal-status", o.refusal, errors.New("expected 429 or 503"))
	}
	if _, err := o.reads(); err != nil {
		errs = append(errs, err)
	}
	own := func(flag, text, host string) {
		a, err := edge.ParseAddress(text, host)
		if err != nil {
			bad(flag, text, err)
		} else if a.Reaches(context.Background(), upstream) {
			bad("upstream", upstream.Redacted(), fmt.Errorf("this is the sidecar itself, which listens there (--%s=%s): expected the "+
				"address at which the service listens", flag, text))
		}
	}
	own("listen", o.listen, "")
	if o.pprof != "" {
		own("pprof.listen", o.pprof, "127.0.0.1")
	}
	for _, address := range admin {
		if a, err := edge.ParseAddress(address, ""); err == nil && a.Reaches(context.Background(), upstream) {
			own("web.listen-address", address, "")
		}
	}
	return errs
}

// readings are the flags about what is believed, and which paths are not like others.
type readings struct {
	trust           edge.Trust
	bypass, endless edge.Paths
	routes          edge.Routes
}

func (o *edgeOptions) reads() (*readings, error) {
	r := &readings{trust: edge.Trust{StripHeaders: o.strip}}
	var errs []error
	each := func(flag string, values []string, add func(string) error) {
		for _, v := range values {
			if err := add(v); err != nil {
				errs = append(errs, fmt.Errorf("--%s=%s: %w", flag, v, err))
			}
		}
	}
	each("bypass", o.bypass, r.bypass.Add)
	each("endless", o.endless, r.endless.Add)
	each("route", o.routes, r.routes.Add)
	each("trusted-peers", o.peers, r.trust.AddPeer)
	each("criticality-from", o.criticality, r.trust.AddCriticality)
	if o.key != "" {
		each("key-from", []string{o.key}, r.trust.SetKey)
	}
	if why := r.trust.Contradiction(); why != "" {
		errs = append(errs, fmt.Errorf("--strip-headers: %s; name the peers that may send it with --trusted-peers", why))
	}
	return r, errors.Join(errs...)
}

// ports are the sidecar's listeners, and what they have in common.
type ports struct {
	options  *edgeOptions
	log      *slog.Logger
	drain    *edge.Drain
	patience *edge.Patience
	tls      *edge.TLS // nil: none
	traffic  net.Listener
	profiles net.Listener // nil: none
}

// open listens.
func (o *edgeOptions) open(log *slog.Logger) (p *ports, err error) {
	p = &ports{
		options: o, log: log, drain: edge.NewDrain(o.delay, o.wait),
		patience: &edge.Patience{Time: o.client, MinRate: o.minRate},
	}
	if o.listenConfig != "" {
		if p.tls, err = edge.NewTLS(o.listenConfig, log); err != nil {
			return nil, fmt.Errorf("--listen.config.file=%s: %w", o.listenConfig, err)
		}
	}
	traffic, err := listenAt("listen", o.listen, "")
	if err != nil {
		return nil, err
	}
	p.traffic = sidecar.Listener(traffic, sidecar.Patience)
	if o.pprof != "" {
		if p.profiles, err = listenAt("pprof.listen", o.pprof, "127.0.0.1"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func listenAt(flag, text, host string) (net.Listener, error) {
	a, err := edge.ParseAddress(text, host)
	if err == nil {
		var l net.Listener
		if l, err = a.Listen(); err == nil {
			return l, nil
		}
	}
	return nil, listenError(flag, text, err)
}

// handler puts the guard, and what is believed, in front of proxy.
func (p *ports) handler(g *guard.Guard, proxy http.Handler) (http.Handler, error) {
	reads, err := p.options.reads()
	if err != nil {
		return nil, err
	}
	options := []guardhttp.Option{
		guardhttp.WithCriticality(reads.trust.Criticality), guardhttp.WithKey(reads.trust.Key),
		guardhttp.WithTrust(reads.trust.Believes),
	}
	if !reads.bypass.Empty() {
		options = append(options, guardhttp.WithBypass(func(r *http.Request) bool { return reads.bypass.Match(r.URL) }))
	}
	if !reads.endless.Empty() {
		options = append(options, guardhttp.WithEndless(func(r *http.Request) bool { return reads.endless.Match(r.URL) }))
	}
	if !reads.routes.Empty() {
		options = append(options, guardhttp.WithRoute(reads.routes.Of))
	}
	if p.options.refusal != 0 {
		options = append(options, guardhttp.WithRefusalStatus(p.options.refusal))
	}
	if p.options.report {
		options = append(options, guardhttp.WithLoadReport())
	}
	return reads.trust.Handler(guardhttp.New(g, proxy, options...)), nil
}

// addTraffic serves the service's clients.
func (p *ports) addTraffic(group *run.Group, server *http.Server) {
	if p.tls != nil {
		server.TLSConfig = p.tls.Config()
	}
	p.add(group, "listen", p.options.listen, p.traffic, server, func(err error) {
		p.drain.Begin(errors.Is(err, run.ErrSignal))
	})
}

// addForward serves the service itself.
func (p *ports) addForward(group *run.Group, name string, l net.Listener, server *http.Server) {
	p.add(group, "egress", name, l, server, func(error) {})
}

// add serves until the group ends. The group interrupts its members one after the other, in the order of their addition.
func (p *ports) add(
	group *run.Group, flag, address string, l net.Listener, server *http.Server, begin func(error),
) {
	server.ReadHeaderTimeout, server.IdleTimeout = p.options.header, p.options.idle
	server.ErrorLog = slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)
	port := &edge.Server{HTTP: server, Listener: l, Patience: p.patience, Drain: p.drain}
	port.Open()
	group.Add(func() error {
		if err := port.Serve(); err != nil {
			return listenError(flag, address, err)
		}
		return nil
	}, func(err error) {
		begin(err)
		if n := port.Close(); n > 0 {
			p.log.Warn("Cut off requests in flight", flag, address, "requests", n, "after", p.options.wait)
		}
	})
}

// addProfiles serves the profiles. A program on this host may ask for them; a web page in a browser on this host, which
// would have to use a name of its own, may not.
func (p *ports) addProfiles(group *run.Group) {
	if p.profiles == nil {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: hosts.Names{Listen: []string{p.profiles.Addr().String()}}.Guard(mux), ReadHeaderTimeout: 10 * time.Second}
	p.log.Info("Serving profiles", "listen", p.profiles.Addr())
	group.Add(func() error {
		if err := server.Serve(p.profiles); !errors.Is(err, http.ErrServerClosed) {
			return listenError("pprof.listen", p.options.pprof, err)
		}
		return nil
	}, func(error) { _ = server.Close() })
}

// ready is the readiness page. It fails first when the sidecar stops.
func (p *ports) ready(w http.ResponseWriter, _ *http.Request) {
	if p.drain.Draining() {
		http.Error(w, "the sidecar is stopping", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "the sidecar accepts requests")
}

func (p *ports) register(r prometheus.Registerer) {
	for direction, of := range map[string]func() uint64{
		"sending": func() uint64 { n, _ := p.patience.Cut(); return n },
		"reading": func() uint64 { _, n := p.patience.Cut(); return n },
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "governor_sidecar_clients_cut_total",
			Help:        "Requests that were cut because their client was sending or reading too slowly.",
			ConstLabels: prometheus.Labels{"while": direction},
		}, func() float64 { return float64(of()) }))
	}
	if p.tls != nil {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "governor_sidecar_tls_files_ok",
			Help: "0 if the TLS files changed into something that cannot be used, so that the last ones stay in use.",
		}, func() float64 {
			if p.tls.Failed() {
				return 0
			}
			return 1
		}))
	}
}
