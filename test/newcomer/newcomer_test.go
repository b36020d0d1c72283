package newcomer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/programs"
	"github.com/seed-de83e32b/governor/test/servers"
)

const (
	capacity = 200.0 // requests a second, of the services behind Caddy and HAProxy
	overload = 1.5 * capacity
	watched  = 10 * time.Second
)

// hour is what runs during a newcomer's hour.
type hour struct {
	t         *testing.T
	page      page
	dir       string
	consul    *servers.TestConsul
	addresses map[string]string // the page's, and those that are free here
	binaries  map[string]string // by the name that the page calls
	began     time.Time
}

func TestNewcomersHour(t *testing.T) {
	h := &hour{t: t, addresses: map[string]string{}, binaries: map[string]string{}, began: time.Now()}
	for _, name := range []string{"caddy", "haproxy", "sh", "socat"} {
		h.binaries[name] = programs.Find(t, name)
	}
	h.prepare()
	h.build()
	h.log("built")

	h.run("prometheus", "prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address=localhost:9090",
		"http://localhost:9090/-/ready")
	for _, address := range []string{"localhost:8002", "localhost:8011"} {
		h.run("shop-"+address, "shop "+address, "http://"+address+"/metrics")
	}
	h.run("checkout", "checkout", "http://localhost:8080/metrics")
	h.run("sidecar", h.command("sh caddy", "governor sidecar"), "http://localhost:9748/metrics")
	h.run("caddy", h.command("sh caddy", "caddy"), "http://localhost:2019/metrics")
	h.run("haproxy", h.command("sh haproxy", "haproxy"), "http://localhost:8405/metrics")
	h.run("consul-template", h.command("sh haproxy", "consul-template"), "")
	edge := h.load("http://localhost:8000/", 500*time.Millisecond, overload)
	shop := h.load("http://localhost:8010/", 300*time.Millisecond, overload)
	h.load("http://localhost:8080/buy", 300*time.Millisecond, 60)
	h.load("http://localhost:9090/api/v1/query?query=up", 400*time.Millisecond, 60)
	h.log("running under load")

	h.once(h.command("sh governor", "governor check-config governor.yml"))
	h.once("governor check-config names.yml")
	online := h.command("sh governor", "governor check-config --online")
	waittest.Succeeds(t, waittest.Patience, "the online check", func() error {
		out, err := h.try(online)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	h.log("checked online")

	// The port that the page uses may be taken by a governor that runs here.
	h.run("governor", h.command("sh governor", "governor run")+" --web.listen-address=localhost:9747",
		"http://localhost:9747/-/ready")
	services := []string{"checkout", "edge.eu", "shop", "prometheus"}
	for _, service := range services {
		h.decides(service)
		if s := h.setting(service); s.Concurrency != nil {
			t.Errorf("%s is in shadow mode and has a Setting: %+v", service, s)
		}
	}
	h.log("in shadow mode")

	shadow := h.file("governor.yml")
	h.write("governor.yml", strings.ReplaceAll(shadow, "mode: shadow", "mode: enforce"))
	if out := h.once(h.command("sh governor", "governor check-config governor.yml")); strings.Count(out, "capped at shadow") != 1 {
		t.Errorf("the check does not name the one service that stays in shadow mode:\n%s", out)
	}
	if status, body := h.post("http://localhost:9747/-/reload"); status != http.StatusOK {
		t.Fatalf("reload: %d %s", status, body)
	}
	h.obeys("checkout", func(s setting) error { return h.guarded("http://localhost:8080/metrics", s) })
	h.obeys("edge.eu", func(s setting) error { return h.guarded("http://localhost:9748/metrics", s) })
	h.obeys("shop", h.limited)
	if s := h.setting("prometheus"); s.Concurrency != nil {
		t.Errorf("nobody can limit prometheus, and it has a Setting: %+v", s)
	}
	h.log("enforced")

	explain := h.command("sh governor", "governor explain")
	for _, service := range services {
		out := h.once(strings.Replace(explain, "checkout", service, 1) + " --connect=http://localhost:9747")
		if !strings.Contains(out, service) {
			t.Errorf("%s: %s", explain, out)
		}
	}
	h.log("explained")

	from := time.Now()
	waittest.Pass(t, watched)
	to := time.Now()
	waittest.Pass(t, time.Second) // the clients' patience
	for name, g := range map[string]*load.Generator{"edge.eu": edge, "shop": shop} {
		s := g.Between(from, to)
		t.Logf("%s: %s", name, s)
		if s.Lateness > load.MaxLateness {
			t.Logf("%s: the machine was too busy for this figure to count", name)
			continue
		}
		if good := float64(s.OK) / s.Seconds(); good < 0.7*capacity {
			t.Errorf("%s: %.0f good answers a second of %.0f that it could give", name, good, capacity)
		}
		if s.Refused == 0 || s.Failed > 0 {
			t.Errorf("%s: %d refused and %d failed at %.1f times the capacity", name, s.Refused, s.Failed, overload/capacity)
		}
	}
	h.log("watched; no stumbles")
}

// prepare writes the files of the page into an empty folder. A socket's path must be short, so that it is not the test's.
func (h *hour) prepare() {
	h.t.Helper()
	var err error
	if h.dir, err = os.MkdirTemp("", "hour"); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { os.RemoveAll(h.dir) })
	if h.page, err = read("first-hour.md"); err != nil {
		h.t.Fatal(err)
	}
	h.consul = servers.Consul(h.t)
	h.addresses["localhost:8500"] = h.consul.Address()
	for file, language := range map[string]string{
		"prometheus.yml": "yaml", "governor.yml": "yaml", "Caddyfile": "caddyfile", "haproxy.cfg": "haproxy",
		"consul-template.hcl": "hcl", "names.yml": "yaml",
	} {
		text, err := h.page.block(language + " " + file)
		if err != nil {
			h.t.Fatal(err)
		}
		h.write(file, strings.ReplaceAll(h.here(text), "scrape_interval: 5s", "scrape_interval: 1s"))
	}
}

// build makes the programs that are not installed: governor and the services, the Go service as docs/guard.md has it.
func (h *hour) build() {
	h.t.Helper()
	for name, pkg := range map[string]string{"governor": "./cmd/governor", "shop": "./test/newcomer/shop"} {
		h.goBuild(root, name, pkg)
	}
	h.goBuild(filepath.Join(root, "test/tools/consul-template"), "consul-template", "github.com/hashicorp/consul-template")
	path, err := servers.Binary(h.t.Context(), servers.KindPrometheus, h.t.Logf)
	if err != nil {
		h.t.Fatal(err)
	}
	h.binaries["prometheus"] = path
	h.buildCheckout()
}

func (h *hour) goBuild(dir, name, pkg string) {
	h.t.Helper()
	h.binaries[name] = filepath.Join(h.dir, "bin", name)
	cmd := exec.CommandContext(h.t.Context(), "go", "build", "-o", h.binaries[name], pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("build %s: %v\n%s", name, err, out)
	}
}

// buildCheckout follows "First use" of docs/guard.md, in a module of its own next to governor.
func (h *hour) buildCheckout() {
	h.t.Helper()
	guide, err := read("guard.md")
	if err != nil {
		h.t.Fatal(err)
	}
	program, err := guide.block("go")
	if err != nil {
		h.t.Fatal(err)
	}
	commands, err := guide.block("sh")
	if err != nil {
		h.t.Fatal(err)
	}
	tree, err := filepath.Abs(root)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.Symlink(tree, filepath.Join(h.dir, "governor")); err != nil {
		h.t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "actuators/go.sum")) // so that nothing has to be downloaded
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("checkout/go.sum", string(sums))
	h.write("checkout/main.go", strings.ReplaceAll(program, `":8080"`, strconv.Quote(h.here("localhost:8080"))))
	cmd := exec.CommandContext(h.t.Context(), h.binaries["sh"], "-ec", commands)
	cmd.Dir = filepath.Join(h.dir, "checkout")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%s\n%v\n%s", commands, err, out)
	}
	h.binaries["checkout"] = filepath.Join(cmd.Dir, "checkout")
}

// here replaces the page's addresses and folders.
func (h *hour) here(text string) string {
	text = address.ReplaceAllStringFunc(text, func(a string) string {
		if h.addresses[a] == "" {
			h.addresses[a] = servers.Unused(h.t)
		}
		return h.addresses[a]
	})
	return strings.ReplaceAll(text, "/run/haproxy", h.dir)
}

func (h *hour) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hour) file(name string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func (h *hour) command(words, start string) string {
	h.t.Helper()
	line, err := h.page.command(words, start)
	if err != nil {
		h.t.Fatal(err)
	}
	return line
}

// fileName matches the arguments that are files in the newcomer's folder.
var fileName = regexp.MustCompile(`(^|=)([\w-]+\.(?:yml|cfg|hcl)|Caddyfile|data)$`)

// words returns the binary and the arguments of a command line.
func (h *hour) words(line string) (binary string, args []string) {
	h.t.Helper()
	args = strings.Fields(h.here(line))
	for i, arg := range args {
		args[i] = fileName.ReplaceAllString(arg, "${1}"+h.dir+"/${2}")
	}
	binary = h.binaries[args[0]]
	if binary == "" {
		h.t.Fatalf("%s: the page does not say where to get %s", line, args[0])
	}
	return binary, args[1:]
}

// run starts a command line of the page and waits until the URL answers; without one it does not wait.
func (h *hour) run(name, line, url string) {
	h.t.Helper()
	binary, args := h.words(line)
	p := &servers.Process{
		Name: name, Path: binary, Args: args, Log: filepath.Join(h.t.ArtifactDir(), name+".log"),
		Env: []string{"CONSUL_HTTP_ADDR=" + h.consul.Address()},
		Ready: func(ctx context.Context) error {
			if url == "" {
				return nil
			}
			_, err := fetch(ctx, h.here(url))
			return err
		},
	}
	if err := p.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		p.Stop()
		if h.t.Failed() {
			h.t.Logf("the end of %s:\n%s", p.Log, p.LogTail())
		}
	})
}

// try runs a command line of the page to its end.
func (h *hour) try(line string) (string, error) {
	h.t.Helper()
	binary, args := h.words(line)
	cmd := exec.CommandContext(h.t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+h.consul.Address())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// once is try, and a failure ends the test.
func (h *hour) once(line string) string {
	h.t.Helper()
	out, err := h.try(line)
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

func (h *hour) load(url string, slo time.Duration, rate float64) *load.Generator {
	h.t.Helper()
	g, err := load.Start(h.t.Context(), load.Config{URL: h.here(url), Seed: 1, Timeout: time.Second, SLO: slo}, rate)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(g.Stop)
	return g
}

func (h *hour) log(what string) {
	h.t.Logf("%.1f min: %s", time.Since(h.began).Minutes(), what)
}

// loop is the part of governor's answer that the test looks at.
type loop struct {
	Decision struct {
		State  string `json:"state"`
		Reason string `json:"reason"`
	} `json:"decision"`
}

func (h *hour) loop(service string) (l loop) {
	h.t.Helper()
	body, err := fetch(h.t.Context(), h.here("http://localhost:9747/api/v1/loops/"+service+"/concurrency"))
	if err == nil {
		err = json.Unmarshal(body, &l)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

// decides waits until the loop of a service no longer holds.
func (h *hour) decides(service string) {
	h.t.Helper()
	waittest.Succeeds(h.t, waittest.Patience, "a decision on "+service, func() error {
		if l := h.loop(service); l.Decision.State == "" || l.Decision.State == "hold" {
			return errors.New(l.Decision.Reason)
		}
		return nil
	})
	h.t.Logf("%s: %s", service, h.loop(service).Decision.Reason)
}

// setting is the part of a Setting that the test looks at.
type setting struct {
	Revision    float64 `json:"revision"`
	Concurrency *struct {
		Limit float64 `json:"limit"`
	} `json:"concurrency"`
}

// setting returns the Setting of a service, the zero one if there is none.
func (h *hour) setting(service string) (s setting) {
	h.t.Helper()
	body, err := fetch(h.t.Context(), h.consul.URL()+"/v1/kv/governor/services/"+service+"/setting?raw")
	if errors.Is(err, errNotFound) {
		return setting{}
	}
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// obeys waits until a service has a Setting and applies it.
func (h *hour) obeys(service string, applies func(setting) error) {
	h.t.Helper()
	waittest.Succeeds(h.t, waittest.Patience, service+" obeys", func() error {
		s := h.setting(service)
		if s.Concurrency == nil {
			return fmt.Errorf("no Setting; %s", h.loop(service).Decision.Reason)
		}
		return applies(s)
	})
}

var appliedRevision = regexp.MustCompile(`(?m)^guard_setting_revision\{.*\} (\S+)$`)

// guarded reports whether the guard whose metrics are at the URL has applied a Setting.
func (h *hour) guarded(url string, s setting) error {
	body, err := fetch(h.t.Context(), h.here(url))
	if err != nil {
		return err
	}
	m := appliedRevision.FindSubmatch(body)
	if m == nil {
		return errors.New("no guard_setting_revision")
	}
	if revision, err := strconv.ParseFloat(string(m[1]), 64); err != nil || revision < s.Revision {
		return fmt.Errorf("revision %s is applied, %v published", m[1], s.Revision)
	}
	return nil
}

var limitInForce = regexp.MustCompile(`proc\.lim: type=sint value=<(\d+)>`)

// limited reports whether HAProxy enforces the limit of a Setting. It asks as the page says.
func (h *hour) limited(s setting) error {
	ask := regexp.MustCompile("`(echo get var .*?)`").FindStringSubmatch(h.page.text)
	if ask == nil {
		return errors.New("the page does not say how to ask for the limit in force")
	}
	out, err := exec.CommandContext(h.t.Context(), h.binaries["sh"], "-c", h.here(ask[1])).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", ask[1], err, out)
	}
	m := limitInForce.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("%s: %q", ask[1], out)
	}
	if limit, err := strconv.ParseFloat(string(m[1]), 64); err != nil || math.Abs(limit-s.Concurrency.Limit) > 0 {
		return fmt.Errorf("HAProxy's limit is %s, the published one %v", m[1], s.Concurrency.Limit)
	}
	return nil
}

func (h *hour) post(url string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.here(url), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

var errNotFound = errors.New("not found")

// fetch returns the body of a page that answers 200.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", url, err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("GET %s: %w", url, errNotFound)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("GET %s: status %d: %s", url, resp.StatusCode, body)
	}
	return body, nil
}
