// Sizing measures what governor costs for a number of services: it runs `governor run` on a real Prometheus and a real
// Consul, with two instances of guard for each service whose figures move, and prints one row for each number.
//
//	sizing GOVERNOR NUMBER [NUMBER …]
//
// The pace is the default: scrape interval and period 5 s, window 20 s, mode enforce. A row takes two minutes. Ratios
// between rows are worth more than the figures, which are those of one machine.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/test/servers"
)

const (
	scrape    = 5 * time.Second
	instances = 2
	rate      = 10 // requests a second, per instance

	settling  = 50 * time.Second // two windows, until every instance is judged
	measuring = time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := table(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sizing:", err)
		os.Exit(1)
	}
}

func table(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: sizing GOVERNOR NUMBER [NUMBER …]")
	}
	fmt.Println("| services | governor, % of a core | resident, MB | slowest query, s | ticks | skipped |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, arg := range args[1:] {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		row, err := measure(ctx, args[0], n)
		if err != nil {
			return fmt.Errorf("%d services: %w", n, err)
		}
		fmt.Println(row)
	}
	return nil
}

// measure returns the row of n services.
func measure(ctx context.Context, governor string, n int) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "sizing")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	targets, err := fleet(ctx, n)
	if err != nil {
		return "", err
	}
	for _, d := range []string{"consul", "prometheus"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	consul, err := servers.StartConsul(ctx, filepath.Join(dir, "consul"), logf)
	if err != nil {
		return "", err
	}
	defer consul.Stop()
	prom, err := servers.StartPrometheus(ctx, filepath.Join(dir, "prometheus"), logf, servers.ScrapeInterval(scrape),
		servers.Targets(servers.TargetGroup{Targets: targets}))
	if err != nil {
		return "", err
	}
	defer prom.Stop()
	address, err := servers.FreeAddress()
	if err != nil {
		return "", err
	}
	config := filepath.Join(dir, "governor.yml")
	if err := os.WriteFile(config, configuration(prom.URL(), consul.Address(), n), 0o600); err != nil {
		return "", err
	}
	p := &servers.Process{
		Name: "governor", Path: governor, Log: filepath.Join(dir, "governor.log"),
		Args:  []string{"run", "--config.file=" + config, "--web.listen-address=" + address},
		Ready: func(ctx context.Context) error { _, err := metrics(ctx, address); return err },
	}
	if err := p.Start(ctx); err != nil {
		return "", err
	}
	defer p.Stop()
	if err := pass(ctx, settling); err != nil {
		return "", err
	}
	before, err := look(ctx, address)
	if err != nil {
		return "", err
	}
	if err := pass(ctx, measuring); err != nil {
		return "", err
	}
	after, err := look(ctx, address)
	if err != nil {
		return "", err
	}
	ticks := after.metrics["governor_decisions_total"] - before.metrics["governor_decisions_total"]
	return fmt.Sprintf("| %d | %.1f | %.0f | %.2f | %.0f of %.0f | %.0f |", n,
		100*(after.cpu-before.cpu).Seconds()/measuring.Seconds(), after.resident/1e6,
		(after.metrics["governor_measure_duration_seconds_sum"]-before.metrics["governor_measure_duration_seconds_sum"])/
			(after.metrics["governor_measure_duration_seconds_count"]-before.metrics["governor_measure_duration_seconds_count"]),
		ticks, float64(n)*measuring.Seconds()/scrape.Seconds(),
		after.metrics["governor_ticks_skipped_total"]-before.metrics["governor_ticks_skipped_total"]), nil
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// fleet starts the instances, each with a guard for every service, and returns their addresses.
func fleet(ctx context.Context, n int) ([]string, error) {
	var targets []string
	for i := range instances {
		registry := prometheus.NewRegistry()
		var guards []*guard.Guard
		for j := range n {
			g, err := guard.New(guard.Config{Service: fmt.Sprintf("service-%d", j), SLO: 300 * time.Millisecond})
			if err != nil {
				return nil, err
			}
			if err := registry.Register(guardprom.New(g)); err != nil {
				return nil, err
			}
			guards = append(guards, g)
		}
		server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		context.AfterFunc(ctx, server.Close)
		targets = append(targets, strings.TrimPrefix(server.URL, "http://"))
		go serve(ctx, guards, rand.New(rand.NewPCG(1, uint64(i))))
	}
	return targets, nil
}

// serve lets every guard admit requests until ctx ends. They are released with a made-up duration.
func serve(ctx context.Context, guards []*guard.Guard, random *rand.Rand) {
	ticker := time.NewTicker(time.Second / rate)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, g := range guards {
				latency := time.Duration(random.ExpFloat64() * float64(40*time.Millisecond))
				if p, err := g.AcquireAt(now.Add(-latency), guard.Default); err == nil {
					p.ReleaseAt(now, guard.Success)
				}
			}
		}
	}
}

func configuration(prometheus, consul string, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "prometheus: {url: %q}\nconsul: {address: %q}\nservices:\n", prometheus, consul)
	for i := range n {
		fmt.Fprintf(&b, "  service-%d: {mode: enforce, slo: {latency: 300ms, objective: 99%%}, concurrency: {min: 4, max: 400}}\n", i)
	}
	return b.Bytes()
}

// sight is what there is to see of a governor at an instant.
type sight struct {
	cpu      time.Duration
	resident float64            // bytes
	metrics  map[string]float64 // sums over the labels
}

func look(ctx context.Context, address string) (s sight, err error) {
	s.metrics, err = metrics(ctx, address)
	s.cpu = time.Duration(s.metrics["process_cpu_seconds_total"] * float64(time.Second))
	s.resident = s.metrics["process_resident_memory_bytes"]
	return s, err
}

// metrics returns governor's own metrics, summed over their labels.
func metrics(ctx context.Context, address string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		series, value, found := strings.Cut(lines.Text(), "} ")
		if !found {
			series, value, _ = strings.Cut(lines.Text(), " ")
		}
		name, _, _ := strings.Cut(series, "{")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sums[name] += v
		}
	}
	return sums, nil
}
