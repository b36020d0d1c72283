package servers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// PrometheusServer is a running Prometheus that scrapes the given targets.
type PrometheusServer struct {
	*Process
	port    int
	targets string // the file that discovery watches
}

// TargetGroup is a set of targets (host:port) that share labels, in the format of Prometheus's file discovery.
type TargetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Address returns host:port of the HTTP API.
func (p *PrometheusServer) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// URL returns the base URL of the HTTP API.
func (p *PrometheusServer) URL() string { return "http://" + p.Address() }

// SetTargets replaces the targets of the job "services". Prometheus notices within a second, without a reload.
func (p *PrometheusServer) SetTargets(groups ...TargetGroup) error {
	return writeTargets(p.targets, groups)
}

func writeTargets(path string, groups []TargetGroup) error {
	if groups == nil {
		groups = []TargetGroup{}
	}
	b, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	// A rename, so that Prometheus never reads half a file.
	if err := os.WriteFile(path+".partial", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".partial", path)
}

// StartPrometheus starts a server with its data in dir, which must be empty, and waits until it can be used. The caller
// ends it with Stop or Kill.
func StartPrometheus(ctx context.Context, dir string, logf func(format string, args ...any), opts ...Option) (
	*PrometheusServer, error,
) {
	return startScraper(ctx, KindPrometheus, dir, logf, opts, func(address, config, data string) []string {
		return []string{"--config.file=" + config, "--storage.tsdb.path=" + data, "--web.listen-address=" + address}
	})
}

// StartVictoriaMetrics is StartPrometheus with a single-node VictoriaMetrics, which scrapes and answers queries likewise.
// Extra flags come from Flags.
func StartVictoriaMetrics(ctx context.Context, dir string, logf func(format string, args ...any), opts ...Option) (
	*PrometheusServer, error,
) {
	return startScraper(ctx, KindVictoriaMetrics, dir, logf, opts, func(address, config, data string) []string {
		return []string{
			"-storageDataPath=" + data, "-httpListenAddr=" + address,
			"-promscrape.config=" + config, "-promscrape.config.strictParse=false", "-promscrape.fileSDCheckInterval=1s",
		}
	})
}

// startScraper starts a server that understands Prometheus's configuration file. args are its flags, for its address, the
// file and the folder of its data.
func startScraper(
	ctx context.Context, kind Kind, dir string, logf func(format string, args ...any), opts []Option,
	args func(address, config, data string) []string,
) (*PrometheusServer, error) {
	o := apply(opts)
	path, err := Binary(ctx, kind, logf)
	if err != nil {
		return nil, err
	}
	p := &PrometheusServer{targets: filepath.Join(dir, "targets.json")}
	if err := p.SetTargets(o.targets...); err != nil {
		return nil, err
	}
	configFile := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(configFile, []byte(prometheusConfig(o, p.targets)), 0o644); err != nil {
		return nil, err
	}
	name := string(kind)
	p.Process, err = startAnywhere(ctx, func() (*Process, error) {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		p.port = ports[0]
		return &Process{
			Name: name, Path: path,
			Args:  append(args(p.Address(), configFile, filepath.Join(dir, name+"-data")), o.flags...),
			Log:   filepath.Join(o.logDir(dir), name+".log"),
			Ready: p.check,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// prometheusConfig is the configuration file: one job whose targets discovery reads from a file, then the fragment.
func prometheusConfig(o options, targets string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global:\n  scrape_interval: %s\n  scrape_timeout: %s\n  evaluation_interval: %s\n",
		o.scrapeInterval, o.scrapeInterval, o.scrapeInterval)
	fmt.Fprintf(&b, "scrape_configs:\n- job_name: services\n  file_sd_configs:\n"+
		"  - files: [%q]\n    refresh_interval: 1s\n", targets)
	b.WriteString(o.config)
	return b.String()
}

func (p *PrometheusServer) check(ctx context.Context) error {
	status, body, err := get(ctx, p.URL()+"/-/ready")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("prometheus answers %d: %s", status, body)
	}
	return nil
}

// options collects the callers' options.
type options struct {
	scrapeInterval time.Duration
	targets        []TargetGroup
	config         string
	logs           string
	flags          []string
}

// logDir returns the directory for logs: next to the data by default.
func (o options) logDir(dir string) string {
	if o.logs != "" {
		return o.logs
	}
	return dir
}

func apply(opts []Option) options {
	o := options{scrapeInterval: time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Option changes how a server is started. A server ignores options that do not apply to it.
type Option func(*options)

// ScrapeInterval sets how often Prometheus scrapes (whole milliseconds; default one second).
func ScrapeInterval(d time.Duration) Option { return func(o *options) { o.scrapeInterval = d } }

// Targets sets the initial scrape targets of Prometheus; see also PrometheusServer.SetTargets.
func Targets(groups ...TargetGroup) Option { return func(o *options) { o.targets = groups } }

// Config adds a fragment to the server's configuration: YAML that continues Prometheus's scrape_configs or follows it
// at the top level; HCL or JSON that Consul merges over ours.
func Config(fragment string) Option { return func(o *options) { o.config = fragment } }

// Flags adds flags to the server's command line.
func Flags(flags ...string) Option { return func(o *options) { o.flags = flags } }

// LogDir puts the server's log into dir instead of beside its data.
func LogDir(dir string) Option { return func(o *options) { o.logs = dir } }
