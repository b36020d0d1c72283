package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/servers"
)

// The fleet of the tests across hops, and what it is asked for:
//
//	        ┌──► cart ──────┐          buy     front, cart, and stock twice
//	front ──┤               ├──► stock
//	        └──► catalog ───┘          browse  front and catalog
//	                                   look    front, catalog, and stock once
const (
	stockServers = 4
	stockMean    = 40 * time.Millisecond
	stockServes  = 100.0 // calls a second: stockServers ÷ stockMean
	callsOfBuy   = 2.0

	calmBuy    = 26.0                         // requests a second
	surgeBuy   = 5 * stockServes / callsOfBuy // five times what stock could serve of them alone
	browseRate = 60.0
	lookRate   = 15.0

	userSLO = 800 * time.Millisecond
	settle  = 4 * time.Second // from the beginning of the surge until it is measured
)

// slos are the latency objectives of the services.
var slos = map[string]string{"front": "800ms", "cart": "600ms", "catalog": "600ms", "stock": "300ms"}

var services = []string{"front", "cart", "catalog", "stock"}

// paths are the ways of the requests through the fleet.
var paths = map[string]string{"buy": "/cart/stock", "browse": "/catalog", "look": "/catalog/stock"}

// kind says how the services of a fleet call each other.
type kind struct {
	name  string
	naive bool     // as most services do, without any guard; else through guard
	old   []string // services of a version that knows nothing of Guard-Context
}

// fleet is one set of the four services.
type fleet struct {
	*scene
	kind
	front, cart, catalog, stock *tier
}

// world is what a fleet bound to it is governed by.
type world struct {
	consul     *servers.TestConsul
	prometheus *servers.TestPrometheus
	governor   *servers.Process
	address    string // of governor
	pages      string // of cart's sidecar
}

// buildGovernor compiles governor beside the tier.
func (s *scene) buildGovernor() string {
	s.t.Helper()
	binary := filepath.Join(s.dir, "governor")
	cmd := exec.CommandContext(s.t.Context(), "go", "build", "-o", binary, "github.com/seed-de83e32b/governor/cmd/governor")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("build governor: %v\n%s", err, out)
	}
	return binary
}

// address is a free host:port.
func (s *scene) address() string {
	s.t.Helper()
	address, err := servers.FreeAddress()
	if err != nil {
		s.t.Fatal(err)
	}
	return address
}

// run runs governor with args until the test ends; it is ready when page answers.
func (s *scene) run(governor, name, page string, w *world, args ...string) *servers.Process {
	s.t.Helper()
	p := &servers.Process{
		Name: name, Path: governor, Args: args, Log: filepath.Join(s.dir, name+".log"),
		Env: []string{"CONSUL_HTTP_ADDR=" + w.consul.Address()},
		Ready: func(ctx context.Context) error {
			_, err := get(ctx, page)
			return err
		},
	}
	if err := p.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { p.Stop() })
	return p
}

// governed starts a fleet with everything: cart stands behind a sidecar, catalog is called and calls by gRPC, the others have
// guard inside, and a real governor with a real Prometheus and a real Consul looks after all four.
func governed(t *testing.T, s *scene) (*fleet, *world) {
	t.Helper()
	governor := s.buildGovernor()
	w := &world{consul: servers.Consul(t), address: s.address(), pages: s.address()}
	f := &fleet{scene: s, kind: kind{name: "patterns"}}
	consul := "--consul=" + w.consul.Address()
	overGRPC := map[string]string{"stock": s.address(), "catalog": s.address()}
	f.stock = s.start("stock", consul, fmt.Sprintf("--servers=%d", stockServers), "--mean="+stockMean.String(),
		"--grpc="+overGRPC["stock"])
	forward, in := s.address(), s.address()
	f.cart = s.start("cart", "--slo=0s", "--call=stock=http://"+forward, fmt.Sprintf("--times=%g", callsOfBuy))
	s.run(governor, "cart-sidecar", "http://"+w.pages+"/-/ready", w,
		"sidecar", "--service=cart", "--slo.latency="+slos["cart"], "--upstream="+f.cart.url(""), "--listen="+in,
		"--web.listen-address="+w.pages, "--egress=stock="+forward+"="+f.stock.url(""), "--egress-timeout=1s",
		"--trusted-peers=127.0.0.0/8", "--drain-timeout=1s")
	f.catalog = s.start("catalog", consul, "--slo="+slos["catalog"], "--grpc="+overGRPC["catalog"], "--call=stock=grpc://"+overGRPC["stock"])
	f.front = s.start("front", consul, "--slo="+slos["front"], "--call=cart=http://"+in, "--call=catalog=grpc://"+overGRPC["catalog"])

	w.prometheus = servers.Prometheus(t, servers.ScrapeInterval(time.Second), servers.Targets(servers.TargetGroup{
		Targets: []string{f.stock.address, w.pages, f.catalog.address, f.front.address},
	}))
	var config strings.Builder
	fmt.Fprintf(&config, "prometheus: {url: %q}\nconsul: {address: %q}\n", w.prometheus.URL(), w.consul.Address())
	config.WriteString("timing: {scrape_interval: 1s, window: 4s, period: 1s}\nservices:\n")
	calls := map[string]string{"front": "cart: {}, catalog: {}", "cart": "stock: {}", "catalog": "stock: {}"}
	for _, name := range services {
		fmt.Fprintf(&config, "  %s:\n    mode: enforce\n    slo: {latency: %s, objective: 99%%, errors: 1%%}\n"+
			"    concurrency: {min: 4, max: 400}\n", name, slos[name])
		if calls[name] != "" {
			fmt.Fprintf(&config, "    calls: {%s}\n", calls[name])
		}
	}
	file := filepath.Join(s.dir, "governor.yml")
	if err := os.WriteFile(file, []byte(config.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	w.governor = s.run(governor, "governor", "http://"+w.address+"/-/healthy", w,
		"run", "--config.file="+file, "--web.listen-address="+w.address)
	return f, w
}

// startFleet starts a fleet without governor, in which everybody speaks HTTP.
func startFleet(s *scene, k kind) *fleet {
	s.t.Helper()
	f := &fleet{scene: s, kind: k}
	start := func(name string, args ...string) *tier {
		if k.naive {
			args = append(args, "--no-patterns", "--slo=0s")
		}
		if slo := slos[name]; !k.naive && slo != "" {
			args = append(args, "--slo="+slo)
		}
		if slices.Contains(k.old, name) {
			args = append(args, "--old")
		}
		return s.start(name+"-"+k.name, args...)
	}
	f.stock = start("stock", fmt.Sprintf("--servers=%d", stockServers), "--mean="+stockMean.String())
	f.cart = start("cart", "--call=stock="+f.stock.url(""), fmt.Sprintf("--times=%g", callsOfBuy))
	f.catalog = start("catalog", "--call=stock="+f.stock.url(""))
	f.front = start("front", "--call=cart="+f.cart.url(""), "--call=catalog="+f.catalog.url(""))
	return f
}

// figures is what a surge of buys has brought.
type figures struct {
	api map[string]load.Summary
	// Goodput of buy as a share of what stock can serve beside the looks; share of the work of stock and cart that is part of
	// a good answer.
	goodput, stockUseful, cartUseful float64
	lateness                         time.Duration
}

// users start to call front, in calm.
func (f *fleet) users(t *testing.T) map[string]*load.Generator {
	t.Helper()
	users := map[string]*load.Generator{}
	for i, api := range slices.Sorted(maps.Keys(paths)) {
		rate := map[string]float64{"buy": calmBuy, "browse": browseRate, "look": lookRate}[api]
		g, err := load.Start(t.Context(), load.Config{
			URL: f.front.url(paths[api]), Seed: uint64(i + 1), Timeout: time.Second, SLO: userSLO,
		}, rate)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Stop)
		users[api] = g
	}
	return users
}

// surge offers five times as many buys as stock can serve, measures for d what becomes of the users' requests, and stops them.
// It calls meanwhile every second.
func (f *fleet) surge(t *testing.T, users map[string]*load.Generator, d time.Duration, meanwhile func()) figures {
	t.Helper()
	users["buy"].SetRate(surgeBuy)
	waittest.Pass(t, settle)
	for range 3 {
		r := f.measure(t, users, d, meanwhile)
		t.Logf("%-10s buy %.2f of what stock can serve; browse %.3f, look %.3f of the offered; "+
			"useful %.2f of stock's work, %.2f of cart's; the load was %v late", f.name, r.goodput,
			goodShare(r.api["browse"]), goodShare(r.api["look"]), r.stockUseful, r.cartUseful, r.lateness.Round(time.Millisecond))
		if r.lateness <= load.MaxLateness {
			for _, g := range users {
				g.Stop()
			}
			return r
		}
	}
	t.Fatal("the load generator lagged in all stretches: this machine is too busy to measure on")
	return figures{}
}

// measure is surge for one stretch.
func (f *fleet) measure(t *testing.T, users map[string]*load.Generator, d time.Duration, meanwhile func()) figures {
	t.Helper()
	from, stock, cart := time.Now(), f.stock.served(t), f.cart.served(t)
	for range d / time.Second {
		waittest.Pass(t, time.Second)
		meanwhile()
	}
	to := time.Now()
	stock, cart = f.stock.served(t)-stock, f.cart.served(t)-cart
	waittest.Pass(t, time.Second) // the last requests end
	r := figures{api: map[string]load.Summary{}}
	for api, g := range users {
		s := g.Between(from, to)
		r.api[api] = s
		r.lateness = max(r.lateness, s.Lateness)
	}
	bought, looked := float64(r.api["buy"].OK), float64(r.api["look"].OK)
	r.goodput = bought / ((stockServes*to.Sub(from).Seconds() - looked) / callsOfBuy)
	r.stockUseful = (callsOfBuy*bought + looked) / stock
	r.cartUseful = bought / cart
	return r
}

// served is how many requests the plant of the service has served.
func (r *tier) served(t *testing.T) float64 {
	t.Helper()
	text, err := r.get(t.Context(), "/control")
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		Served float64 `json:"served"`
	}
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Fatal(err)
	}
	return state.Served
}

// loop is what governor says about the concurrency of a service.
type loop struct {
	Decision struct {
		State  string `json:"state"`
		Reason string `json:"reason"`
		Inputs struct {
			Culprit string   `json:"culprit"`
			Via     []string `json:"culprit_via"`
		} `json:"inputs"`
	} `json:"decision"`
}

// loop asks governor about a service.
func (w *world) loop(t *testing.T, service string) (l loop) {
	t.Helper()
	text, err := get(t.Context(), "http://"+w.address+"/api/v1/loops/"+service+"/concurrency")
	if err == nil {
		err = json.Unmarshal([]byte(text), &l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// governs says whether governor knows enough of all services to decide.
func (w *world) governs(t *testing.T) bool {
	return !slices.ContainsFunc(services, func(service string) bool { return w.loop(t, service).Decision.State == "hold" })
}

// culprits is whom governor names, by the service that suffers.
func (w *world) culprits(t *testing.T) map[string]string {
	named := map[string]string{}
	for _, service := range services {
		if l := w.loop(t, service); l.Decision.Inputs.Culprit != "" {
			named[service] = l.Decision.Inputs.Culprit
		}
	}
	return named
}

// Bars of TestAnOverloadedBackend; what it measures is in its log.
const (
	innocentBar    = 0.97 // browse, of the offered
	goodputBar     = 0.6  // buy, of what stock can serve; runs on idle cores reached 0.77 to 1.0
	stockUsefulBar = 0.85 // of stock's work
	cartUsefulBar  = 0.45 // of cart's work: what stock refuses has been at cart before
	namedBar       = 0.8  // of the seconds, for front
	naiveBar       = 0.2  // buy without guards, at most
)

// TestAnOverloadedBackend: five times as many buys as stock can serve. Browse, which needs front and catalog only, must not
// notice; what stock can do must end in good answers; and governor must name stock, and nobody else.
func TestAnOverloadedBackend(t *testing.T) {
	s := newScene(t)
	f, w := governed(t, s)
	users := f.users(t)
	waittest.Until(t, "governor decides", func() bool { return w.governs(t) })
	waittest.Pass(t, 3*time.Second)
	seconds, named := 0, map[string]int{} // seconds in which each service named stock
	with := f.surge(t, users, 10*time.Second, func() {
		seconds++
		for service, culprit := range w.culprits(t) {
			if named[service]++; culprit != "stock" {
				t.Errorf("%s names %s: %s", service, culprit, w.loop(t, service).Decision.Reason)
			}
		}
	})
	page, err := get(t.Context(), "http://"+w.address+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	front := w.loop(t, "front")

	naive := startFleet(s, kind{name: "naive", naive: true})
	users = naive.users(t)
	waittest.Pass(t, 2*time.Second)
	without := naive.surge(t, users, 4*time.Second, func() {})

	t.Logf("in %d s, stock is named for %v; front %s", seconds, named, front.Decision.Reason)
	if got := goodShare(with.api["browse"]); got < innocentBar {
		t.Errorf("%.3f of the browses are served in time, want %v: %s", got, innocentBar, with.api["browse"])
	}
	if without.goodput > naiveBar {
		t.Errorf("without the patterns, buy is %.2f of what stock can serve: this shows nothing", without.goodput)
	}
	atLeast(t, "goodput of buy", with.goodput, goodputBar)
	atLeast(t, "useful share of stock's work", with.stockUseful, stockUsefulBar)
	atLeast(t, "useful share of cart's work", with.cartUseful, cartUsefulBar)
	atLeast(t, "share of the seconds in which front names stock", float64(named["front"])/float64(seconds), namedBar)
	if !strings.Contains(page, `governor_culprit_info{culprit="stock",service="front"} 1`) {
		t.Errorf("no metric names stock for front:\n%s", page)
	}
	w.logCounters(t, f)
}

// logCounters logs what the guards of f have counted, if the test has failed.
func (w *world) logCounters(t *testing.T, f *fleet) {
	if !t.Failed() {
		return
	}
	for _, address := range []string{f.front.address, w.pages, f.catalog.address, f.stock.address} {
		page, err := get(t.Context(), "http://"+address+"/metrics")
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "guard_") && !strings.Contains(line, "_bucket") && !strings.HasSuffix(line, " 0\n") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func atLeast(t *testing.T, what string, got, bar float64) {
	t.Helper()
	if !(got >= bar) {
		t.Errorf("%s is %.3f, want at least %v", what, got, bar)
	}
}

// mixedMargin is how much worse than a fleet of the old version a mixed one may be, as a share of what is offered or served:
// the service times of two runs of 800 calls differ by 5%.
const mixedMargin = 0.15

// TestHalfOfTheFleetIsOld: services of a version that knows nothing of Guard-Context, in the middle or at both ends of the
// way, with new ones around them. Everything works in calm, and a surge does no more harm than in a fleet that is all old.
// Cart's work is not compared: in any of them, it depends on who binds first whether stock refuses, or front's bulkhead.
func TestHalfOfTheFleetIsOld(t *testing.T) {
	s := newScene(t)
	var old figures
	for _, k := range []kind{
		{name: "all-old", old: services},
		{name: "old-middle", old: []string{"cart", "catalog"}},
		{name: "old-ends", old: []string{"front", "stock"}},
	} {
		f := startFleet(s, k)
		users := f.users(t)
		calm := time.Now()
		waittest.Pass(t, 3*time.Second)
		surge := time.Now()
		got := f.surge(t, users, 8*time.Second, func() {})
		for api, g := range users {
			atLeast(t, k.name+": "+api+" served in calm", goodShare(g.Between(calm, surge)), innocentBar)
		}
		if k.name == "all-old" {
			old = got
			continue
		}
		for _, api := range []string{"browse", "look"} {
			atLeast(t, k.name+": "+api, goodShare(got.api[api]), goodShare(old.api[api])-mixedMargin)
		}
		atLeast(t, k.name+": goodput of buy", got.goodput, old.goodput-mixedMargin)
		atLeast(t, k.name+": useful share of stock's work", got.stockUseful, old.stockUseful-mixedMargin)
	}
}
