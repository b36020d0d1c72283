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
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	webflag "github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/cmd/internal/hosts"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/daemon"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// shutdownTimeout bounds how long answers in flight may take to finish.
const shutdownTimeout = 10 * time.Second

type runOptions struct {
	configFile  string
	instance    string
	externalURL string
	allowHosts  []string
	web         *web.FlagConfig
}

func runCommand(app *kingpin.Application) (string, command) {
	cmd := app.Command("run", "Run the daemon: measure, decide, publish. You can run several: "+
		"one leads, the others stand by.")
	var o runOptions
	cmd.Flag("config.file", "Configuration file; `governor check-config` checks it.").
		Default("governor.yml").PlaceHolder("governor.yml").StringVar(&o.configFile)
	cmd.Flag("instance", "Name of this governor among its standbys. Default: host name and port.").
		PlaceHolder("HOST:PORT").StringVar(&o.instance)
	cmd.Flag("web.external-url", "URL at which others reach this governor. Default: from host name and listen address.").
		PlaceHolder("URL").StringVar(&o.externalURL)
	allowHostFlag(cmd, &o.allowHosts)
	o.web = webflag.AddFlags(cmd, api.DefaultAddress)
	return cmd.FullCommand(), func(ctx context.Context, log *slog.Logger) error { return o.run(ctx, log) }
}

func (o runOptions) run(ctx context.Context, log *slog.Logger) error {
	config, err := load(o.configFile, log)
	if absent, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(absent, fs.ErrNotExist) {
		return fmt.Errorf("--config.file=%s: no such file: copy configs/minimal.yml there, or pass another --config.file",
			o.configFile)
	} else if problems, ok := errors.AsType[configs.Problems](err); ok {
		fmt.Fprintln(plain.NewWriter(os.Stderr), problems)
		return fmt.Errorf("%s is not valid", o.configFile)
	} else if err != nil {
		return err
	}
	learner := newLearner(log)
	setup, err := learner.setup(config)
	if err != nil {
		return err
	}
	defer setup.Close()
	client, err := consul.NewClient(config.Consul.ClientConfig())
	if err != nil {
		return err
	}
	keys := actuators.Keys{Prefix: config.Consul.Prefix}
	instance, url := o.identity()
	elector, err := consul.NewElector(client, consul.ElectorOptions{
		Keys: keys, Instance: instance, API: url,
		TTL: time.Duration(config.Consul.SessionTTL), Logger: log.With("component", "elector"),
	})
	if err != nil {
		return fmt.Errorf("leadership: %w", err)
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("governor"), droppedLines("governor_log_lines_dropped_total"),
	)
	d, err := daemon.New(daemon.Options{
		Setup: setup,
		Load: func() (daemon.Setup, error) {
			if err := reloadSecrets(client, log); err != nil {
				return daemon.Setup{}, err
			}
			return learner.reload(config, log)
		},
		Store:      consul.NewPublisher(client, keys, consul.PublisherOptions{}),
		Leadership: elector,
		Operators:  consul.NewOperators(client, keys),
		Election: func() (api.LeaderInfo, error) {
			s := elector.State()
			return api.LeaderInfo(s.Holder), s.Err
		},
		Instance:      instance,
		ConsulAddress: client.Address(), KeyOf: keys.SettingOf,
		Closed:   o.closed,
		Registry: registry, Log: log,
	})
	if err != nil {
		return err
	}

	log.Info("Starting governor", "version", version.Info(), "config", config.File, "services", len(config.Services),
		"prometheus", config.Prometheus.URL, "consul", client.Address())
	var g run.Group
	stopping, stop := interrupt.Context(ctx, nil)
	defer stop()
	g.Add(interrupt.Actor(stopping))
	addServer(&g, d.Handler(), o.web, o.allowHosts, o.externalURL, log)
	addReloads(&g, d)
	learner.add(&g, d)
	addLoops(&g, d, elector)
	err = g.Run()
	logStop(log, "Stopped; the published values stay in force", err)
	return err
}

// droppedLines counts what the log has lost.
func droppedLines(name string) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: name, Help: "Lines of the log that were dropped, because nobody read them or they could not be written.",
	}, func() float64 { return float64(logs.Dropped()) })
}

// logStop logs an orderly end. It does not log the error: the caller that gets it reports it, once.
func logStop(log *slog.Logger, what string, err error) {
	if errors.Is(err, run.ErrSignal) || errors.Is(err, context.Canceled) {
		log.Info(what, "why", err)
	}
}

// addLoops runs the loops and the election. On exit the last tick ends before the lock is released, so that the next
// leader finds nothing half done.
func addLoops(g *run.Group, d *daemon.Daemon, elector *consul.Elector) {
	ctx, cancel := context.WithCancel(context.Background())
	g.Add(func() error {
		electing, resign := context.WithCancel(context.Background())
		defer resign()
		var election sync.WaitGroup
		election.Go(func() {
			d.WhileTicking(electing, func(ctx context.Context) { elector.Run(ctx, nil) })
		})
		d.Run(ctx)
		resign()
		election.Wait()
		return nil
	}, func(error) { cancel() })
}

// allowHostFlag adds the flag that names a server without users.
func allowHostFlag(cmd *kingpin.CmdClause, names *[]string) {
	cmd.Flag("web.allow-host", "Name by which others address this server, for a server that asks for no credentials: it "+
		"answers to localhost, to the addresses at which it listens and to names given here, like governor.monitoring.svc; "+
		"*.example stands for all names below example, * for every name. Repeat it for each name.").
		PlaceHolder("NAME").StringsVar(names)
}

// addServer serves the interface for people and Prometheus, under the names that hosts.Names describes. Once it listens,
// systemd considers the process started.
func addServer(
	g *run.Group, handler http.Handler, flags *web.FlagConfig, allowHosts []string, externalURL string, log *slog.Logger,
) {
	handler = hosts.Names{
		Listen: *flags.WebListenAddresses, Anywhere: *flags.WebSystemdSocket, Allowed: allowHosts, URLs: []string{externalURL},
		Authenticated: func() bool { return authenticates(*flags.WebConfigFile) },
		Hint:          "if it is, start it with --web.allow-host=NAME, or name users in --web.config.file",
	}.Guard(handler)
	var started sync.Once
	streaming, end := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context {
			started.Do(func() { _, _ = sd.SdNotify(false, sd.SdNotifyReady) })
			return streaming
		},
	}
	server.RegisterOnShutdown(end) // a stream would never end by itself
	g.Add(func() error {
		if err := web.ListenAndServe(server, flags, log); !errors.Is(err, http.ErrServerClosed) {
			return listenError("web.listen-address", strings.Join(*flags.WebListenAddresses, ","), err)
		}
		return nil
	}, func(error) {
		_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
}

// listenError names the flag of an address where governor cannot listen, or where serving failed.
func listenError(flag, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s=%s: %w: is another governor running? if so, choose another --%[1]s", flag, address, err)
	}
	return fmt.Errorf("--%s=%s: %w", flag, address, err)
}

// identity returns the name of this governor among its standbys, and the URL at which others may reach it. For a
// listener on all addresses the URL uses the host's name.
func (o runOptions) identity() (instance, url string) {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	listen := (*o.web.WebListenAddresses)[0]
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return cmp.Or(o.instance, name), o.externalURL // not a TCP socket
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = name
	}
	instance = cmp.Or(o.instance, net.JoinHostPort(name, port))
	return instance, cmp.Or(o.externalURL, "http://"+net.JoinHostPort(host, port))
}
