// Tier is one service of the end-to-end tests of calls: a queue with N servers (see package models/live/plant) that calls
// other services. It is a module of its own because of gRPC.
//
// GET / is a request that needs no other service. GET /NAME/REST is one that asks the dependency NAME, given by --call, for
// /REST once it has been served here. GET and PUT /control read and change the plant; GET /metrics is for Prometheus. With
// --grpc, the method Serve of the service tier takes such a path over gRPC.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardgrpc"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/models/live/plant"
)

func main() {
	t := &tier{registry: prometheus.NewRegistry(), calls: map[string]call{}}
	app := kingpin.New("tier", "A service that calls others, to be tested.")
	listen := app.Flag("listen", "Address to serve on.").Required().String()
	overGRPC := app.Flag("grpc", "Address to serve gRPC on; none: only HTTP.").String()
	service := app.Flag("service", "Name of the service.").Required().String()
	servers := app.Flag("servers", "Requests served at once.").Default("64").Int()
	mean := app.Flag("mean", "Mean service time.").Default("5ms").Duration()
	seed := app.Flag("seed", "Seed of the service times.").Default("1").Uint64()
	slo := app.Flag("slo", "Latency objective of the service; 0: no guard, and with --patterns calls with a copy of the request's Guard-Context.").
		Default("300ms").Duration()
	patterns := app.Flag("patterns", "Call through guard; else with a timeout and three attempts.").Default("true").Bool()
	calls := app.Flag("call", "A dependency, NAME=http://HOST:PORT or NAME=grpc://HOST:PORT.").StringMap()
	app.Flag("times", "Calls that a request makes of its dependency, one after the other.").Default("1").IntVar(&t.times)
	app.Flag("old", "Know nothing of Guard-Context and Guard-Answer, as a version from before them. Not for gRPC.").BoolVar(&t.old)
	consulAddress := app.Flag("consul", "host:port of Consul; none: no Settings.").String()
	kingpin.MustParse(app.Parse(os.Args[1:]))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	if t.plant, err = plant.New(plant.Settings{Servers: *servers, MeanSeconds: mean.Seconds()}, *seed); err == nil && *slo > 0 {
		err = t.protect(ctx, guard.Config{Service: *service, SLO: *slo, Logger: log}, *consulAddress)
	}
	for name, url := range *calls {
		if err == nil {
			t.calls[name], err = t.dependency(name, url, *patterns)
		}
	}
	if err == nil && *overGRPC != "" {
		err = t.listenGRPC(ctx, *overGRPC)
	}
	if err == nil {
		err = t.run(ctx, *listen)
	}
	if err != nil {
		log.Error("tier ended", "err", err)
		os.Exit(1)
	}
}

type tier struct {
	plant    *plant.Plant
	guard    *guard.Guard // nil: none
	registry *prometheus.Registry
	calls    map[string]call
	times    int
	old      bool
}

// protect puts a guard on the way in, with its Settings from Consul unless the address is "".
func (t *tier) protect(ctx context.Context, config guard.Config, consulAddress string) (err error) {
	if t.guard, err = guard.New(config); err != nil {
		return err
	}
	t.registry.MustRegister(guardprom.New(t.guard))
	if consulAddress == "" {
		return nil
	}
	client, err := consul.NewClient(&api.Config{Address: consulAddress})
	if err != nil {
		return fmt.Errorf("make a client of Consul at %s: %w", consulAddress, err)
	}
	go t.guard.Run(ctx, &consul.Watcher{Client: client})
	return nil
}

// run serves HTTP until ctx ends.
func (t *tier) run(ctx context.Context, listen string) error {
	var handler http.Handler = http.HandlerFunc(t.ServeHTTP)
	if t.guard != nil {
		handler = guardhttp.New(t.guard, handler, guardhttp.WithRoute(func(r *http.Request) string { return r.URL.Path }))
	}
	if t.old {
		handler = oldServer(handler)
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/control", t.plant.Control)
	mux.Handle("/metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: requestTimeout}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listen, err)
	}
	return nil
}

// listenGRPC serves gRPC in the background until ctx ends.
func (t *tier) listenGRPC(ctx context.Context, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(guardgrpc.UnaryServerInterceptor(t.guard)))
	server.RegisterService(&serviceDesc, t)
	go server.Serve(l)
	context.AfterFunc(ctx, server.Stop)
	return nil
}

var (
	errFull  = errors.New("the queue is full")
	errRoute = errors.New("no such dependency")
)

// serve is one request; copied is the Guard-Context that its calls hand on, where no guard in here does that.
func (t *tier) serve(ctx context.Context, path, copied string) error {
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	next, ok := t.calls[name]
	switch {
	case name != "" && !ok:
		return errRoute
	case !t.plant.Serve():
		return errFull
	case !ok:
		return nil
	}
	for range t.times {
		if err := next(ctx, "/"+rest, copied); err != nil {
			return err
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (t *tier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	copied := ""
	if t.guard == nil {
		copied = r.Header.Get(guardhttp.ContextHeader)
	}
	switch err := t.serve(r.Context(), r.URL.Path, copied); {
	case err == nil:
		w.Write([]byte("ok\n"))
	case errors.Is(err, errRoute):
		http.NotFound(w, r)
	case errors.Is(err, errFull):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}
