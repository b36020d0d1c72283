package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/promslog"

	"github.com/seed-de83e32b/governor/actuators/consul/memkv"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded/prom"
	"github.com/seed-de83e32b/governor/cmd/internal/hosts"
)

// Options has zero values that are good defaults.
type Options struct {
	Targets        []prom.TargetGroup // scraped from the start; see also World.SetTargets
	ScrapeInterval time.Duration      // default one second
	Logger         *slog.Logger       // for failed scrapes and broken servers; nil: none
}

// World is a running Prometheus and a running Consul. Its methods are safe for concurrent use.
type World struct {
	Prometheus, Consul *Part

	server *prom.Server
	store  *memkv.Store
}

// Start starts both parts. They run until ctx ends or Stop is called.
func Start(ctx context.Context, options Options) (*World, error) {
	if options.Logger == nil {
		options.Logger = promslog.NewNopLogger()
	}
	w := &World{
		server: prom.New(prom.Options{
			Targets: options.Targets, ScrapeInterval: options.ScrapeInterval, Logger: options.Logger,
		}),
		store: memkv.New(),
	}
	w.Prometheus = &Part{name: "Prometheus", handler: w.server, run: w.server.Run, logger: options.Logger}
	w.Consul = &Part{name: "Consul", handler: w.store, logger: options.Logger, run: func(ctx context.Context) {
		w.store.Resume()
		<-ctx.Done()
		w.store.Suspend()
	}}
	for _, part := range []*Part{w.Prometheus, w.Consul} {
		part.ctx = ctx
		if err := part.Start(); err != nil {
			w.Stop()
			return nil, err
		}
	}
	return w, nil
}

// Stop stops both parts.
func (w *World) Stop() {
	w.Prometheus.Stop()
	w.Consul.Stop()
}

// PrometheusURL returns the base URL of the query API. It stays the same across stops and starts.
func (w *World) PrometheusURL() string { return "http://" + w.Prometheus.Address() }

// ConsulAddr returns host:port of the HTTP API, in the form of CONSUL_HTTP_ADDR. It stays the same across stops and
// starts.
func (w *World) ConsulAddr() string { return w.Consul.Address() }

// SetTargets replaces the scrape targets of Prometheus.
func (w *World) SetTargets(groups ...prom.TargetGroup) { w.server.SetTargets(groups...) }

// Part is one server of the world.
type Part struct {
	name    string
	handler http.Handler
	run     func(context.Context) // its background work, until the context ends
	logger  *slog.Logger
	ctx     context.Context // of the world

	mu      sync.Mutex
	address string
	stop    func() // nil: it is not running
}

// Address returns host:port.
func (p *Part) Address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// Start starts the part again on the same port. It does nothing if the part is running. An error means that something
// else has taken the port.
func (p *Part) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		return nil
	}
	address := p.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("start the embedded %s: %w", p.name, err)
	}
	p.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(p.ctx)
	server := &http.Server{Handler: hosts.Names{}.Guard(p.handler), ReadHeaderTimeout: 10 * time.Second}
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })
	running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.logger.Error("The embedded server has stopped", "server", p.name, "err", err)
		}
	})
	// Cut connections, even in the middle of an answer.
	running.Go(func() { <-ctx.Done(); _ = server.Close() })
	p.stop = func() { cancel(); running.Wait() }
	return nil
}

// Stop ends the part as kill -9 ends a process, and returns once nothing of it runs. Its data is kept. Stop does
// nothing if the part is stopped.
func (p *Part) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}
