// Package world assembles the processes of the end-to-end test: a real Consul, a real Prometheus, services behind guard
// and behind the sidecar, a twin without governor, and governors. They talk over loopback as they would over a network.
//
//	          ┌──────────── Prometheus, every second ───────────┐
//	          │ scrapes                                          ▼ queries
//	checkout  ▼  guard inside                                 governor ──┐
//	search    sidecar ──► bare service                                   │ Settings
//	payments     guard inside, reflex off                                │
//	twin         guard at a fixed limit, without governor                ▼
//	   ▲                checkout, search, payments ◄────────────────── Consul
//	   └── load, open loop
//
// Each service has 8 servers of 40 ms on average, so its capacity is 200 requests per second on any machine.
package world

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/servers"
)

// The services of the world, and what each owes its clients.
const (
	Servers   = 8
	Mean      = 40 * time.Millisecond
	Capacity  = 200.0 // requests a second: Servers ÷ Mean
	SLO       = 300 * time.Millisecond
	Objective = 0.99
	Min       = 8 // of the limit
	Max       = 400

	ClientTimeout = time.Second
)

// The pace of the world, and the times that follow from it.
const (
	Scrape = time.Second
	Window = 4 * time.Second
	Period = time.Second

	// DeadTime is θ = (W + S + T)/2 + d, with the publish delay d of the default configuration.
	DeadTime = 3300 * time.Millisecond
)

// The services. Twin has no governor.
const (
	Checkout = "checkout" // guard inside
	Search   = "search"   // behind the sidecar
	Payments = "payments" // guard inside, reflex off: its limit is what governor publishes, nothing else
	Twin     = "twin"     // guard inside, at the fixed limit Max, reflex off
)

// Governed are the services that governor steers; Services are all.
var (
	Governed = []string{Checkout, Search, Payments}
	Services = []string{Checkout, Search, Payments, Twin}
)

// World is everything that runs. Start, Stop and the like are for one goroutine; reading is safe from several.
type World struct {
	Consul     *servers.ConsulServer
	Prometheus *servers.PrometheusServer
	Load       map[string]*load.Generator

	dir       string // logs, data and configuration
	bin       Binaries
	client    *http.Client
	config    string
	processes []*servers.Process // of the services and governors, in the order of their start

	// host:port by service: of the plant itself, of the address that clients call, and of the scrape target.
	plants, clients, metrics map[string]string
}

// Binaries are the programs under test.
type Binaries struct{ Governor, Govtop, Plant string }

// Build compiles the binaries into dir from the source tree that contains the working directory.
func Build(ctx context.Context, dir string) (Binaries, error) {
	root, err := treeRoot()
	if err != nil {
		return Binaries{}, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator),
		"./cmd/governor", "./cmd/govtop", "./test/e2e/plant")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return Binaries{}, fmt.Errorf("build governor, govtop and plant in %s: %w\n%s", root, err, out)
	}
	return Binaries{
		Governor: filepath.Join(dir, "governor"), Govtop: filepath.Join(dir, "govtop"), Plant: filepath.Join(dir, "plant"),
	}, nil
}

// treeRoot finds the directory of the source tree from the working directory upwards.
func treeRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	return string(bytes.TrimSpace(out)), nil
}

// Open starts a world that has nothing but Consul: StartPlant adds services, and StartPrometheus what observes them. All
// files go below dir, the logs to dir/*.log. The caller ends the world with Stop, also after an error.
func Open(ctx context.Context, dir string, bin Binaries, logf func(string, ...any)) (w *World, err error) {
	w = &World{
		dir: dir, bin: bin,
		client: &http.Client{Timeout: 3 * time.Second},
		Load:   map[string]*load.Generator{},
		plants: map[string]string{}, clients: map[string]string{}, metrics: map[string]string{},
	}
	w.Consul, err = servers.StartConsul(ctx, dir, logf)
	return w, err
}

// StartPlant runs the program plant as an instance of service, with args beside those for its address, its name and Consul.
// Everything else calls the instance by its name.
func (w *World) StartPlant(ctx context.Context, name, service string, args ...string) error {
	address, err := servers.FreeAddress()
	if err != nil {
		return err
	}
	w.plants[name], w.clients[name], w.metrics[name] = address, address, address
	_, err = w.start(ctx, name, w.bin.Plant, "http://"+address+"/control",
		append([]string{"--listen=" + address, "--service=" + service, "--consul=" + w.Consul.Address()}, args...)...)
	return err
}

// URL is where clients call a service.
func (w *World) URL(service string) string { return "http://" + w.clients[service] + "/" }

// StartPrometheus observes what has been started so far, and writes the configuration of its governors: services is its
// section "services".
func (w *World) StartPrometheus(ctx context.Context, logf func(string, ...any), services string) (err error) {
	w.Prometheus, err = servers.StartPrometheus(ctx, w.dir, logf, servers.ScrapeInterval(Scrape),
		servers.Targets(servers.TargetGroup{Targets: slices.Collect(maps.Values(w.metrics))}))
	if err != nil {
		return err
	}
	config := fmt.Sprintf("prometheus: {url: %q}\nconsul: {address: %q}\n"+
		"timing: {scrape_interval: %s, window: %s, period: %s}\nservices:\n%s",
		w.Prometheus.URL(), w.Consul.Address(), Scrape, Window, Period, services)
	w.config = filepath.Join(w.dir, "governor.yml")
	return os.WriteFile(w.config, []byte(config), 0o644)
}

// Start starts the servers and the services of the diagram; StartGovernor starts governors, StartLoad the load.
func Start(ctx context.Context, dir string, bin Binaries, logf func(string, ...any)) (*World, error) {
	w, err := Open(ctx, dir, bin, logf)
	if err != nil {
		return w, err
	}
	for i, service := range []struct{ name, kind, reflex string }{
		{Checkout, "governed", "--reflex"},
		{Search, "none", "--reflex"},
		{Payments, "governed", "--no-reflex"},
		{Twin, "static", "--no-reflex"},
	} {
		if err := w.StartPlant(ctx, service.name, service.name, "--guard="+service.kind, service.reflex,
			fmt.Sprintf("--seed=%d", i+1),
			fmt.Sprintf("--servers=%d", Servers), "--mean="+Mean.String(), "--slo="+SLO.String(),
			fmt.Sprintf("--min=%d", Min), fmt.Sprintf("--max=%d", Max),
		); err != nil {
			return w, err
		}
	}
	for _, address := range []map[string]string{w.clients, w.metrics} {
		if address[Search], err = servers.FreeAddress(); err != nil {
			return w, err
		}
	}
	if _, err := w.start(ctx, Search+"-sidecar", bin.Governor, "http://"+w.metrics[Search]+"/metrics",
		"sidecar", "--service="+Search, "--slo.latency="+SLO.String(), "--upstream=http://"+w.plants[Search],
		"--listen="+w.clients[Search], "--web.listen-address="+w.metrics[Search],
		fmt.Sprintf("--limit.min=%d", Min), fmt.Sprintf("--limit.max=%d", Max), "--drain-timeout=1s",
	); err != nil {
		return w, err
	}
	return w, w.StartPrometheus(ctx, logf, governed())
}

// governed is the section "services" of the diagram's governor.
func governed() string {
	var b strings.Builder
	for _, name := range Governed {
		fmt.Fprintf(&b, "  %s:\n    mode: enforce\n    slo: {latency: %s, objective: %g%%, errors: 0.1%%}\n"+
			"    concurrency: {min: %d, max: %d}\n    rate: {min: 20/s, max: 5000/s}\n", name, SLO, 100*Objective, Min, Max)
		if name == Payments {
			fmt.Fprintln(&b, "    retry: {}")
		}
	}
	return b.String()
}

// start runs a binary and waits until url answers 200.
func (w *World) start(ctx context.Context, name, binary, url string, args ...string) (*servers.Process, error) {
	p := &servers.Process{
		Name: name, Path: binary, Args: args, Log: filepath.Join(w.dir, name+".log"),
		Env:   []string{"CONSUL_HTTP_ADDR=" + w.Consul.Address()},
		Ready: func(ctx context.Context) error { return w.get(ctx, url, nil) },
	}
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	w.processes = append(w.processes, p)
	return p, nil
}

// Stop ends everything, in reverse order.
func (w *World) Stop() {
	for _, g := range w.Load {
		g.Stop()
	}
	for _, p := range slices.Backward(w.processes) {
		p.Stop()
	}
	if w.Prometheus != nil {
		w.Prometheus.Stop()
	}
	if w.Consul != nil {
		w.Consul.Stop()
	}
	w.client.CloseIdleConnections()
}

// StartLoad starts to call every service at rate, with the same arrivals for all.
func (w *World) StartLoad(ctx context.Context, rate float64, seed uint64) error {
	for _, name := range Services {
		g, err := load.Start(ctx, load.Config{
			URL: w.URL(name), Seed: seed, Timeout: ClientTimeout, SLO: SLO,
		}, rate)
		if err != nil {
			return err
		}
		w.Load[name] = g
	}
	return nil
}

// SetRate changes the load of every service, in requests per second.
func (w *World) SetRate(rate float64) {
	for _, g := range w.Load {
		g.SetRate(rate)
	}
}

// Metric queries the guard of a service for the sum of a metric over the series that have all the labels, each "name=value".
func (w *World) Metric(ctx context.Context, service, name string, labels ...string) (float64, error) {
	url := "http://" + w.metrics[service] + "/metrics"
	body, err := w.fetch(ctx, url)
	if err != nil {
		return 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("GET %s: %w", url, err)
	}
	family := families[name]
	if family == nil {
		return 0, fmt.Errorf("GET %s: no metric %s", url, name)
	}
	sum := 0.0
	for _, m := range family.Metric {
		found := 0
		for _, l := range m.GetLabel() {
			if slices.Contains(labels, l.GetName()+"="+l.GetValue()) {
				found++
			}
		}
		if found < len(labels) {
			continue
		}
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum, nil
}

// SetMean changes the mean service time of a service, and with it its capacity.
func (w *World) SetMean(ctx context.Context, service string, mean time.Duration) error {
	url := "http://" + w.plants[service] + "/control"
	body := fmt.Sprintf(`{"mean_seconds": %g}`, mean.Seconds())
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT %s: status %d", url, resp.StatusCode)
	}
	return nil
}

// Governor is a running governor and its HTTP interface.
type Governor struct {
	*servers.Process
	Name    string
	Address string
	world   *World
}

// StartGovernor runs a governor with the configuration of the world and waits until it is ready.
func (w *World) StartGovernor(ctx context.Context, name string) (*Governor, error) {
	address, err := servers.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := w.start(ctx, name, w.bin.Governor, "http://"+address+"/-/healthy",
		"run", "--config.file="+w.config, "--instance="+name, "--web.listen-address="+address)
	if err != nil {
		return nil, err
	}
	return &Governor{Process: p, Name: name, Address: address, world: w}, nil
}

// Operate runs a governor command line as a person would, and returns its output.
func (w *World) Operate(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.bin.Governor, args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+w.Consul.Address(), "USER=ana")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("governor %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Govtop returns the command of govtop for the governor g, with more arguments.
func (w *World) Govtop(ctx context.Context, g *Governor, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, w.bin.Govtop, append([]string{"--connect=http://" + g.Address, "--actor=ana"}, args...)...)
}

// Action is an action of a person on a loop, as in the audit and the operator key.
type Action struct {
	Service string  `json:"service"`
	Knob    string  `json:"knob"`
	Kind    string  `json:"kind"`
	Value   float64 `json:"value"`
	Actor   string  `json:"actor"`
	Reason  string  `json:"reason"`
}

// Operator is the content of a service's operator key: orders in force by knob, and past actions.
type Operator struct {
	Orders map[string]Action `json:"orders"`
	Audit  []Action          `json:"audit"`
}

// Operator reads the orders for service from Consul.
func (w *World) Operator(ctx context.Context, service string) (o Operator, err error) {
	return o, w.get(ctx, w.Consul.URL()+"/v1/kv/governor/services/"+service+"/operator?raw", &o)
}

// Audit fetches the actions of people from the governor.
func (g *Governor) Audit(ctx context.Context) ([]Action, error) {
	var answer struct {
		Actions []Action `json:"actions"`
	}
	err := g.world.get(ctx, "http://"+g.Address+"/api/v1/audit", &answer)
	return answer.Actions, err
}

// Loop is the part of governor's answer about a knob that the tests look at, decoded independently so that they notice
// a change of the wire format.
type Loop struct {
	Service  string `json:"service"`
	Decision struct {
		State      string   `json:"state"`
		HoldReason string   `json:"hold_reason"`
		Reason     string   `json:"reason"`
		Setpoint   *float64 `json:"setpoint"`
		Measured   *float64 `json:"measured"`
		Value      *float64 `json:"value"`
	} `json:"decision"`
}

// Loop fetches the concurrency knob of service.
func (g *Governor) Loop(ctx context.Context, service string) (l Loop, err error) {
	return l, g.world.get(ctx, "http://"+g.Address+"/api/v1/loops/"+service+"/concurrency", &l)
}

// Status is governor's own status.
type Status struct {
	Instance string `json:"instance"`
	Role     string `json:"role"`
}

// Status fetches the governor's status.
func (g *Governor) Status(ctx context.Context) (s Status, err error) {
	return s, g.world.get(ctx, "http://"+g.Address+"/api/v1/status", &s)
}

// Record is an entry of the journal.
type Record struct {
	Seq      uint64 `json:"seq"`
	Wrote    bool   `json:"wrote"`
	Decision struct {
		Service string `json:"service"`
		Knob    string `json:"knob"`
		State   string `json:"state"`
	} `json:"decision"`
}

// Decisions fetches the journal after the entry since.
func (g *Governor) Decisions(ctx context.Context, since uint64) ([]Record, error) {
	var answer struct {
		Decisions []Record `json:"decisions"`
	}
	err := g.world.get(ctx, fmt.Sprintf("http://%s/api/v1/decisions?since=%d", g.Address, since), &answer)
	return answer.Decisions, err
}

// Setting is the Setting of a service in Consul.
type Setting struct {
	Epoch       uint64  `json:"epoch"`
	Revision    uint64  `json:"revision"`
	Reason      string  `json:"reason"`
	Lease       float64 `json:"lease_seconds"`
	Concurrency *struct {
		Limit   int     `json:"limit"`
		Ceiling int     `json:"ceiling"`
		Target  float64 `json:"latency_target_seconds"`
	} `json:"concurrency"`
	Retry *struct {
		BudgetRatio float64 `json:"budget_ratio"`
	} `json:"retry"`

	ModifyIndex uint64 `json:"-"` // Consul's, of the key
}

// ErrNoSetting says that Consul has no Setting for the service.
var ErrNoSetting = errors.New("no setting")

// LockHolder returns the session that holds the leader's lock; "" if none does.
func (w *World) LockHolder(ctx context.Context) (string, error) {
	var pairs []struct{ Session string }
	if err := w.get(ctx, w.Consul.URL()+"/v1/kv/governor/leader", &pairs); err != nil {
		return "", err
	}
	if len(pairs) != 1 {
		return "", fmt.Errorf("read the leader's lock: %d pairs", len(pairs))
	}
	return pairs[0].Session, nil
}

// Logs returns the end of every process's log.
func (w *World) Logs(each func(name string, tail []byte)) {
	for _, p := range w.processes {
		each(p.Log, p.LogTail())
	}
	if w.Prometheus != nil {
		each(w.Prometheus.Log, w.Prometheus.LogTail())
	}
	if w.Consul != nil {
		each(w.Consul.Log, w.Consul.LogTail())
	}
}

// Setting reads the Setting of service from Consul.
func (w *World) Setting(ctx context.Context, service string) (Setting, error) {
	var pairs []struct {
		ModifyIndex uint64
		Value       []byte
	}
	err := w.get(ctx, w.Consul.URL()+"/v1/kv/governor/services/"+service+"/setting", &pairs)
	if status, ok := errors.AsType[statusError](err); ok && status.code == http.StatusNotFound {
		return Setting{}, ErrNoSetting
	}
	if err != nil {
		return Setting{}, err
	}
	var s Setting
	if len(pairs) != 1 {
		return s, fmt.Errorf("read the setting of %s: %d pairs", service, len(pairs))
	}
	if err := json.Unmarshal(pairs[0].Value, &s); err != nil {
		return s, fmt.Errorf("read the setting of %s: %w", service, err)
	}
	if s.Concurrency == nil {
		return s, fmt.Errorf("the setting of %s has no concurrency: %s", service, pairs[0].Value)
	}
	s.ModifyIndex = pairs[0].ModifyIndex
	return s, nil
}

// statusError is an answer other than 200.
type statusError struct {
	url, body string
	code      int
}

func (e statusError) Error() string {
	return fmt.Sprintf("GET %s: status %d: %s", e.url, e.code, e.body)
}

// get fetches url, expects 200 and decodes the JSON into v unless v is nil.
func (w *World) get(ctx context.Context, url string, v any) error {
	body, err := w.fetch(ctx, url)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("GET %s: %w: %s", url, err, body)
	}
	return nil
}

// fetch fetches url and expects 200.
func (w *World) fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, statusError{url: url, body: string(body), code: resp.StatusCode}
	}
	return body, nil
}
