// Tier is one service of the end-to-end tests of calls: a queue with N servers (see package models/live/plant) that calls
// other services.
//
// GET / is a request that needs no other service; GET /NAME also calls the dependency NAME, given by --call NAME=URL. GET
// and PUT /control read and change the plant; GET /metrics is for Prometheus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/models/live/plant"
)

func main() {
	app := kingpin.New("tier", "A service that calls others, to be tested.")
	listen := app.Flag("listen", "Address to serve on.").Required().String()
	service := app.Flag("service", "Name of the service.").Required().String()
	servers := app.Flag("servers", "Requests served at once.").Default("64").Int()
	mean := app.Flag("mean", "Mean service time.").Default("5ms").Duration()
	seed := app.Flag("seed", "Seed of the service times.").Default("1").Uint64()
	slo := app.Flag("slo", "Latency objective of the service; 0: no guard on the way in.").Default("300ms").Duration()
	patterns := app.Flag("patterns", "Call through guard; else with a timeout and three attempts.").Default("true").Bool()
	calls := app.Flag("call", "A dependency, NAME=URL.").StringMap()
	consulAddress := app.Flag("consul", "host:port of Consul; none: no Settings.").String()
	kingpin.MustParse(app.Parse(os.Args[1:]))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	p, err := plant.New(plant.Settings{Servers: *servers, MeanSeconds: mean.Seconds()}, *seed)
	if err == nil {
		t := &tier{plant: p, registry: prometheus.NewRegistry(), log: log, mux: http.NewServeMux()}
		if *slo > 0 {
			t.config = guard.Config{Service: *service, SLO: *slo, Logger: log}
		}
		err = t.run(ctx, *listen, *consulAddress, *patterns, *calls)
	}
	if err != nil {
		log.Error("tier ended", "err", err)
		os.Exit(1)
	}
}

type tier struct {
	plant    *plant.Plant
	config   guard.Config // of the way in; no service: no guard
	registry *prometheus.Registry
	log      *slog.Logger
	mux      *http.ServeMux
}

// run serves until ctx ends.
func (t *tier) run(ctx context.Context, listen, consulAddress string, patterns bool, calls map[string]string) error {
	t.mux.Handle("/", t.plant)
	handler := http.Handler(t.mux)
	if t.config.Service != "" {
		g, err := guard.New(t.config)
		if err != nil {
			return err
		}
		t.registry.MustRegister(guardprom.New(g))
		handler = guardhttp.New(g, t.mux)
		if consulAddress != "" {
			client, err := consul.NewClient(&api.Config{Address: consulAddress})
			if err != nil {
				return fmt.Errorf("make a client of Consul at %s: %w", consulAddress, err)
			}
			go g.Run(ctx, &consul.Watcher{Client: client})
		}
		for name, url := range calls {
			get := t.naive(name)
			if patterns {
				get = (&http.Client{Transport: guardhttp.Transport(g.Dependency(name), nil), Timeout: time.Second}).Do
			}
			t.mux.Handle("/"+name, t.route(url, get))
		}
	}
	outer := http.NewServeMux()
	outer.Handle("/", handler)
	outer.HandleFunc("/control", t.plant.Control)
	outer.Handle("/metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Addr: listen, Handler: outer, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listen, err)
	}
	return nil
}

type get func(*http.Request) (*http.Response, error)

// route serves a request that needs url first.
func (t *tier) route(url string, get get) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer, err := get(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			http.Error(w, "the service called answered "+answer.Status, http.StatusBadGateway)
			return
		}
		t.plant.ServeHTTP(w, r)
	})
}

// naive calls as most services do: a timeout for each attempt, and three attempts with backoff and jitter.
func (t *tier) naive(name string) get {
	attempts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tier_attempts_total", Help: "Attempts of calls.", ConstLabels: prometheus.Labels{"to": name},
	})
	t.registry.MustRegister(attempts)
	client := &http.Client{Timeout: time.Second}
	return func(r *http.Request) (answer *http.Response, err error) {
		for n := range 3 {
			if n > 0 {
				select {
				case <-r.Context().Done():
					return nil, r.Context().Err()
				case <-time.After(rand.N(100 * time.Millisecond << (n - 1))):
				}
			}
			attempts.Inc()
			if answer, err = client.Do(r); err == nil && answer.StatusCode < 500 {
				return answer, nil
			}
			if err == nil && n < 2 {
				answer.Body.Close()
			}
		}
		return answer, err
	}
}
