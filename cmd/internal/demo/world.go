package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded/prom"
	"github.com/seed-de83e32b/governor/cmd/internal/hosts"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/models/live/plant"
)

// The twins, and what each owes its clients.
const (
	Servers   = 8
	Mean      = 40 * time.Millisecond
	Capacity  = 200.0 // requests per second: Servers ÷ Mean
	SLO       = 300 * time.Millisecond
	Objective = 0.99

	// StaticLimit is the fixed limit of the twin that is not governed. It is right for a service of seventeen times the
	// capacity, which answers 1024 requests in flight within the SLO. Since then the service has shrunk, or its requests
	// have grown, and nobody has changed the number.
	StaticLimit = 1024

	// Places is the size of the queue inside each service, chosen for that limit.
	Places = StaticLimit

	// The range that governor may choose from, and the guard's start: two to four times what the service needs at capacity
	// when all is well (8 in flight), and up to the same maximum as the static twin. The minimum spares a service that
	// waits for others, and so needs more in flight, most of a needless cut.
	minLimit, maxLimit, fallback = 16, 1024, 32
)

// The behavior of the clients.
const (
	BaseLoad      = 0.5 * Capacity // requests per second
	Surge         = 3.0            // times the base load
	ClientTimeout = time.Second
	Retries       = 2
	RetryWait     = 100 * time.Millisecond
)

// classes are the clients' requests by criticality, the most important first.
var classes = func() (all []load.Class) {
	for i, share := range []float64{0.2, 0.5, 0.3} {
		name := guard.Criticality(i).String()
		all = append(all, load.Class{
			Name: name, Share: share, Header: http.Header{guardhttp.CriticalityHeader: {name}},
		})
	}
	return all
}()

// A slow dependency adds dependencyDelay to the share dependencyShare of all requests.
const (
	dependencyDelay = 250 * time.Millisecond
	dependencyShare = 0.5
)

// prefix separates the demo's keys from those of a real governor.
const prefix = "governor-demo/"

// Options configure a World.
type Options struct {
	Seed uint64
	// Command runs one governor command line in this process until it ends or ctx does.
	Command func(ctx context.Context, log *slog.Logger, args ...string) error
	// Servers to use instead of the embedded ones: both, or "" for the embedded ones. The user must let this Prometheus
	// scrape Targets every second, through TargetsFile or otherwise.
	PrometheusURL, ConsulAddress string
	TargetsFile                  string // scrape targets, for Prometheus's file discovery; "": not written
	Dir                          string // for logs and configuration
}

// World is everything that runs. Its methods are safe for concurrent use.
type World struct {
	Static, Governed *Twin

	options    Options
	log        *slog.Logger
	consul     string          // host:port
	prometheus string          // URL, as the governors see it
	embedded   *embedded.World // nil: real servers
	promLink   *link           // in front of a real Prometheus
	cleanUp    []func()        // in start order
	failed     chan error      // the first command that ended by itself

	mu        sync.Mutex
	governors []*instance // the live ones
	times     float64     // the load, as a multiple of the base load
	slow      bool        // the dependency is slow
	lost      bool        // Prometheus is lost
}

// Twin is one service, its sidecar and its clients.
type Twin struct {
	Name  string
	Plant *plant.Plant
	Load  *load.Generator

	traffic, admin string // host:port of the sidecar
}

// instance is one running governor.
type instance struct {
	name   string
	client *api.Client
	consul *link
	stop   func() // returns when it has ended
}

// Start starts everything except the load. End the World with Stop, also after an error.
func Start(ctx context.Context, o Options) (*World, error) {
	w := &World{options: o, failed: make(chan error, 1)}
	file, err := os.Create(filepath.Join(o.Dir, "demo.log"))
	if err != nil {
		return w, err
	}
	w.cleanUp = append(w.cleanUp, func() { file.Close() })
	// Libraries that log without being asked would write over the screen.
	before := log.Writer()
	log.SetOutput(file)
	w.cleanUp = append(w.cleanUp, func() { log.SetOutput(before) })
	w.log = slog.New(slog.NewTextHandler(file, nil))
	for _, start := range []func(context.Context) error{
		w.startServers, w.startTwins, w.announceTargets, w.startGovernors,
	} {
		if err := start(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

// Stop ends everything, in reverse order.
func (w *World) Stop() {
	for _, stop := range slices.Backward(w.cleanUp) {
		stop()
	}
	w.cleanUp = nil
}

// Failed delivers an error when a part of the world ends by itself.
func (w *World) Failed() <-chan error { return w.failed }

// startServers finds or starts Prometheus and Consul.
func (w *World) startServers(ctx context.Context) error {
	o := w.options
	if (o.PrometheusURL == "") != (o.ConsulAddress == "") {
		return errors.New("give both the URL of Prometheus and the address of Consul, or neither")
	}
	if o.PrometheusURL != "" {
		u, err := url.Parse(o.PrometheusURL)
		if err != nil || u.Scheme != "http" || u.Host == "" {
			return fmt.Errorf("the Prometheus at %q: expected a URL like http://127.0.0.1:9090", o.PrometheusURL)
		}
		port := cmp.Or(u.Port(), "80")
		if w.promLink, err = newLink(net.JoinHostPort(u.Hostname(), port)); err != nil {
			return err
		}
		w.cleanUp = append(w.cleanUp, w.promLink.cut)
		u.Host = w.promLink.address
		w.prometheus, w.consul = u.String(), strings.TrimPrefix(o.ConsulAddress, "http://")
		os.Setenv(consulapi.HTTPAddrEnvName, w.consul)
		return w.forgetKeys()
	}
	// The environment's Consul variables are for another Consul.
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "CONSUL_") {
			os.Unsetenv(name)
		}
	}
	var err error
	if w.embedded, err = embedded.Start(context.WithoutCancel(ctx), embedded.Options{
		ScrapeInterval: time.Second, Logger: w.log.With("process", "embedded"),
	}); err != nil {
		return err
	}
	w.cleanUp = append(w.cleanUp, w.embedded.Stop)
	w.prometheus, w.consul = w.embedded.PrometheusURL(), w.embedded.ConsulAddr()
	os.Setenv(consulapi.HTTPAddrEnvName, w.consul) // where the sidecars look
	return nil
}

// forgetKeys removes the keys of an earlier demo from a real Consul, and this demo's keys at the end.
func (w *World) forgetKeys() error {
	client, err := consul.NewClient(nil)
	if err != nil {
		return err
	}
	if _, _, err := client.KV().Keys(prefix, "", nil); err != nil { // nothing is deleted before this has proven to be Consul
		return fmt.Errorf("read the keys of an earlier demo from Consul at %s: %w", client.Address(), err)
	}
	if _, err := client.KV().DeleteTree(prefix, nil); err != nil {
		return fmt.Errorf("remove the keys of an earlier demo from Consul at %s: %w", client.Address(), err)
	}
	w.cleanUp = append(w.cleanUp, func() { _, _ = client.KV().DeleteTree(prefix, nil) })
	return nil
}

// startTwins starts the plants and the sidecars in front of them.
func (w *World) startTwins(ctx context.Context) error {
	number := func(flag string, n int) string { return fmt.Sprintf("--limit.%s=%d", flag, n) }
	for _, twin := range []struct {
		twin   **Twin
		name   string
		limits []string
	}{
		{&w.Static, "static", []string{"--no-reflex", number("min", StaticLimit), number("max", StaticLimit)}},
		{&w.Governed, "governed", []string{
			number("min", minLimit), number("max", maxLimit), number("fallback", fallback),
		}},
	} {
		p, err := plant.New(plant.Settings{Servers: Servers, MeanSeconds: Mean.Seconds(), Places: Places}, w.options.Seed)
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listen for the service %s: %w", twin.name, err)
		}
		server := &http.Server{Handler: hosts.Names{}.Guard(p), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.Serve(listener) }()
		w.cleanUp = append(w.cleanUp, func() { server.Close() })
		ports, err := freeAddresses(2)
		if err != nil {
			return err
		}
		t := &Twin{Name: twin.name, Plant: p, traffic: ports[0], admin: ports[1]}
		args := append([]string{
			"sidecar", "--service=" + t.Name, "--slo.latency=" + SLO.String(),
			"--upstream=http://" + listener.Addr().String(), "--listen=" + t.traffic, "--web.listen-address=" + t.admin,
			"--consul.prefix=" + prefix, "--drain-timeout=1s", "--criticality-from=header",
		}, twin.limits...)
		if _, err := w.run(ctx, "sidecar-"+t.Name, "http://"+t.admin+"/-/healthy", args...); err != nil {
			return err
		}
		t.Load, err = load.Start(context.WithoutCancel(ctx), load.Config{
			URL: "http://" + t.traffic + "/", Seed: w.options.Seed, Timeout: ClientTimeout, SLO: SLO,
			Classes: classes, Retries: Retries, RetryWait: RetryWait,
		}, 0)
		if err != nil {
			return err
		}
		w.cleanUp = append(w.cleanUp, t.Load.Stop)
		*twin.twin = t
	}
	return nil
}

// Twins returns both.
func (w *World) Twins() []*Twin { return []*Twin{w.Static, w.Governed} }

// announceTargets tells Prometheus what to scrape.
func (w *World) announceTargets(context.Context) error {
	targets := w.Targets()
	if w.embedded != nil {
		w.embedded.SetTargets(prom.TargetGroup{Targets: targets})
		return nil
	}
	if w.options.TargetsFile == "" {
		return nil
	}
	text, err := json.Marshal([]map[string][]string{{"targets": targets}})
	if err != nil {
		return err
	}
	// A rename, so that Prometheus never reads half a file.
	partial := w.options.TargetsFile + ".partial"
	if err := os.WriteFile(partial, text, 0o644); err != nil {
		return fmt.Errorf("write the targets for Prometheus: %w", err)
	}
	if err := os.Rename(partial, w.options.TargetsFile); err != nil {
		return fmt.Errorf("write the targets for Prometheus: %w", err)
	}
	return nil
}

// Targets are the addresses that Prometheus must scrape.
func (w *World) Targets() []string { return []string{w.Static.admin, w.Governed.admin} }

// startGovernors starts two governors; the first becomes the leader.
func (w *World) startGovernors(ctx context.Context) error {
	for _, name := range []string{"governor-1", "governor-2"} {
		consul, err := newLink(w.consul)
		if err != nil {
			return err
		}
		w.cleanUp = append(w.cleanUp, consul.cut)
		ports, err := freeAddresses(1)
		if err != nil {
			return err
		}
		file := filepath.Join(w.options.Dir, name+".yml")
		if err := os.WriteFile(file, []byte(w.config(consul.address)), 0o600); err != nil {
			return err
		}
		stop, err := w.run(ctx, name, "http://"+ports[0]+"/-/healthy",
			"run", "--config.file="+file, "--instance="+name, "--web.listen-address="+ports[0])
		if err != nil {
			return err
		}
		client, err := api.NewClient("http://" + ports[0])
		if err != nil {
			return err
		}
		w.cleanUp = append(w.cleanUp, client.Close)
		w.mu.Lock()
		w.governors = append(w.governors, &instance{name: name, client: client, consul: consul, stop: stop})
		w.mu.Unlock()
		if err := eventually(ctx, name+" takes part in the election", func() error {
			s, err := client.Status(ctx)
			if err == nil && (s.Leader.Instance == "" || !s.Consul.OK) {
				err = errors.New(cmp.Or(s.Consul.Error, "no leader"))
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// config is the configuration of a governor: the fastest sensible pace, and one line per knob of the service.
func (w *World) config(consul string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "prometheus: {url: %q}\n", w.prometheus)
	fmt.Fprintf(&b, "consul: {address: %q, prefix: %q}\n", consul, prefix)
	fmt.Fprintf(&b, "timing: {scrape_interval: 1s, window: 4s, period: 1s}\n")
	fmt.Fprintf(&b, "services:\n  governed:\n    mode: enforce\n    slo: {latency: %s, objective: %g%%, errors: 0.1%%}\n"+
		"    concurrency: {min: %d, max: %d, fallback: %d}\n    shed: {protect: critical}\n    rate: {min: 20/s, max: 5000/s}\n",
		SLO, 100*Objective, minLimit, maxLimit, fallback)
	return b.String()
}

// run starts a governor command in this process and waits until url answers. The returned function stops it and waits
// for its end.
func (w *World) run(ctx context.Context, name, url string, args ...string) (stop func(), err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := w.options.Command(running, w.log.With("process", name), args...)
		if running.Err() == nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			select {
			case w.failed <- fmt.Errorf("governor %s has ended: %w", strings.Join(args, " "), err):
			default:
			}
		}
	}()
	stop = func() { cancel(); <-done }
	w.cleanUp = append(w.cleanUp, stop)
	return stop, eventually(ctx, name+" answers", func() error {
		select {
		case err := <-w.failed:
			w.failed <- err
			return fatal{err}
		default:
		}
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	})
}

// fatal is an error that waiting does not fix.
type fatal struct{ error }

// eventually retries f until it succeeds, for at most ten seconds.
func eventually(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if dead, ok := errors.AsType[fatal](err); ok {
			return dead.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; last: %w", what, ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freeAddresses returns host:port of ports that were free a moment ago.
func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// SetLoad changes the load of both twins at the same instant, to a multiple of the base load.
func (w *World) SetLoad(times float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times = times
	now := time.Now()
	for _, t := range w.Twins() {
		t.Load.SetRateAt(now, times*BaseLoad)
	}
}

// SlowDependency makes a dependency of both services slow, or healthy again.
func (w *World) SlowDependency(slow bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = slow
	for _, t := range w.Twins() {
		s := t.Plant.State().Settings
		s.DependencySeconds, s.DependencyShare = 0, 0
		if slow {
			s.DependencySeconds, s.DependencyShare = dependencyDelay.Seconds(), dependencyShare
		}
		if err := t.Plant.Set(s); err != nil {
			return err
		}
	}
	return nil
}

// LosePrometheus kills the embedded Prometheus, or cuts the governors off from a real one; or it brings Prometheus
// back. It does nothing if Prometheus is already in that state.
func (w *World) LosePrometheus(lose bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if lose == w.lost {
		return nil
	}
	w.lost = lose
	switch {
	case w.embedded != nil && lose:
		w.embedded.Prometheus.Stop()
	case w.embedded != nil:
		return w.embedded.Prometheus.Start()
	case lose:
		w.promLink.cut()
	default:
		return w.promLink.mend()
	}
	return nil
}

// KillLeader ends the leading governor like kill -9, without a word to Consul: its session lives on until Consul lets
// it expire. It returns the name of the dead leader.
func (w *World) KillLeader(ctx context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.governors) < 2 {
		return "", errors.New("kill the leader: there is no standby")
	}
	for i, g := range w.governors {
		s, err := g.client.Status(ctx)
		if err != nil || s.Role != api.Leader {
			continue
		}
		g.consul.cut()
		go g.stop()
		w.governors = append(w.governors[:i:i], w.governors[i+1:]...)
		return g.name, nil
	}
	return "", errors.New("kill the leader: none of the governors leads")
}
