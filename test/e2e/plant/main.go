// Plant runs the service that the end-to-end tests and the demo overload (see package models/live/plant), as a separate
// process with real HTTP and real metrics. It has three kinds:
//
//	--guard=none      the bare service, to run behind a sidecar
//	--guard=governed  guard inside, steered by governor through Consul
//	--guard=static    guard inside at a fixed limit, without reflex and governor: the limit somebody once set by hand
//
// GET / is one request, and GET /export one that may take longer and have an SLO of its own; GET and PUT /control read and
// change the plant while it runs; GET /metrics is for Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/models/live/plant"
)

func main() {
	app := kingpin.New("plant", "A service with a queue and a fixed capacity, to be overloaded.")
	listen := app.Flag("listen", "Address to serve on.").Default("127.0.0.1:0").String()
	servers := app.Flag("servers", "Requests served at once.").Default("8").Int()
	mean := app.Flag("mean", "Mean service time.").Default("40ms").Duration()
	seed := app.Flag("seed", "Seed of the service times.").Default("1").Uint64()
	service := app.Flag("service", "Name of the service.").Default("plant").String()
	kind := app.Flag("guard", "none, governed or static.").Default("none").Enum("none", "governed", "static")
	reflex := app.Flag("reflex", "Where --guard=governed: let the guard move the limit between governor's decisions.").
		Default("true").Bool()
	slo := app.Flag("slo", "Latency objective of the service.").Default("300ms").Duration()
	exportTimes := app.Flag("export-times", "How many times as long GET /export takes.").Default("1").Float64()
	exportSLO := app.Flag("export-slo", "Where --guard=governed: latency objective of the route export; 0: it is no route of its own.").
		Default("0s").Duration()
	low := app.Flag("min", "Lowest concurrency limit.").Default("8").Int()
	high := app.Flag("max", "Highest concurrency limit; the limit where --guard=static.").Default("400").Int()
	consulAddress := app.Flag("consul", "host:port of Consul.").Default("127.0.0.1:8500").String()
	kingpin.MustParse(app.Parse(os.Args[1:]))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p, err := plant.New(plant.Settings{Servers: *servers, MeanSeconds: mean.Seconds()}, *seed)
	if err == nil {
		config := guard.Config{Service: *service, SLO: *slo, Min: *low, Max: *high, NoReflex: !*reflex, Logger: log}
		if *exportSLO > 0 {
			config.Routes = map[string]guard.Route{"export": {SLO: *exportSLO}}
		}
		handler := http.NewServeMux()
		handler.Handle("/", p)
		handler.Handle("/export", p.Times(*exportTimes))
		err = run(ctx, p, handler, *listen, *kind, config, *consulAddress, log)
	}
	if err != nil {
		log.Error("plant ended", "err", err)
		os.Exit(1)
	}
}

// run serves the plant, which answers by handler, behind its guard until ctx ends.
func run(ctx context.Context, p *plant.Plant, handler http.Handler, listen, kind string, config guard.Config, consulAddress string,
	log *slog.Logger,
) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if kind != "none" {
		if kind == "static" {
			config.Min, config.Fallback, config.NoReflex = config.Max, config.Max, true
		}
		g, err := guard.New(config)
		if err != nil {
			return err
		}
		registry.MustRegister(guardprom.New(g))
		handler = guardhttp.New(g, handler)
		if kind == "governed" {
			client, err := consul.NewClient(&api.Config{Address: consulAddress})
			if err != nil {
				return fmt.Errorf("make a client of Consul at %s: %w", consulAddress, err)
			}
			watcher := &consul.Watcher{
				Client:  client,
				OnError: func(err error) { log.Warn("watching Consul", "err", err) },
			}
			go g.Run(ctx, watcher)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/control", p.Control)
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close() // what is queued may take minutes: nobody waits for it
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listen, err)
	}
	return nil
}
