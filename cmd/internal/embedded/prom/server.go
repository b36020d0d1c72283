package prom

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// DefaultJob is the label job of targets whose group does not set one.
const DefaultJob = "services"

// The defaults of a Server.
const (
	DefaultScrapeInterval = time.Second
	DefaultRetention      = time.Hour
	DefaultMaxSeries      = 20_000

	maxBody = 10 << 20 // bytes of one scrape
)

// TargetGroup is a set of targets (host:port) that share labels. The labels job, instance and __metrics_path__ mean
// what they mean in Prometheus.
type TargetGroup struct {
	Targets []string
	Labels  map[string]string
}

// Options has zero values that are good defaults.
type Options struct {
	Targets        []TargetGroup
	ScrapeInterval time.Duration // also the timeout of a scrape, and the step of subqueries without one
	// Retention and MaxSeries bound the memory: at most Retention / ScrapeInterval samples of 16 bytes in each of
	// MaxSeries series, and twice that while a ring is trimmed. A scrape that needs more series fails, with up = 0.
	Retention time.Duration
	MaxSeries int
	// Transport makes the scrapes; nil: the Server's own.
	Transport http.RoundTripper
	Logger    *slog.Logger
}

// Server scrapes and answers queries. Its methods are safe for concurrent use.
type Server struct {
	options Options
	head    *head
	engine  *promql.Engine
	parser  parser.Parser
	client  *http.Client
	http    http.Handler

	mu      sync.Mutex
	groups  []TargetGroup
	changed chan struct{} // closed when groups change
}

// New returns a server. It scrapes while Run runs; the query API answers at any time.
func New(options Options) *Server {
	if options.ScrapeInterval == 0 {
		options.ScrapeInterval = DefaultScrapeInterval
	}
	if options.Retention == 0 {
		options.Retention = DefaultRetention
	}
	if options.MaxSeries == 0 {
		options.MaxSeries = DefaultMaxSeries
	}
	if options.Logger == nil {
		options.Logger = promslog.NewNopLogger()
	}
	if options.Transport == nil {
		options.Transport = &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * options.ScrapeInterval}
	}
	s := &Server{
		options: options,
		head:    newHead(options.Retention, options.MaxSeries),
		parser:  parser.NewParser(parser.Options{}),
		client:  &http.Client{Transport: options.Transport},
		groups:  options.Targets,
		changed: make(chan struct{}),
	}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger:                   options.Logger,
		MaxSamples:               50_000_000,
		Timeout:                  2 * time.Minute,
		LookbackDelta:            5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return options.ScrapeInterval.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		Parser:                   s.parser,
	})
	s.http = s.routes()
	return s
}

// SetTargets replaces the scrape targets.
func (s *Server) SetTargets(groups ...TargetGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = groups
	close(s.changed)
	s.changed = make(chan struct{})
}

// Run scrapes until ctx ends. It ends like a killed process: it writes no staleness markers, and a later Run continues
// after a gap.
func (s *Server) Run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	var loops sync.WaitGroup
	defer loops.Wait()
	type key struct{ url, labels string }
	stops := map[key]context.CancelFunc{}
	for {
		s.mu.Lock()
		groups, changed := s.groups, s.changed
		s.mu.Unlock()
		wanted := map[key]bool{}
		for _, group := range groups {
			for _, address := range group.Targets {
				l, url := targetLabels(address, group.Labels)
				k := key{url, keyOf(l)}
				wanted[k] = true
				if stops[k] != nil {
					continue
				}
				removed, stop := context.WithCancel(ctx)
				stops[k] = stop
				t := newTarget(s.head, url, l)
				loops.Go(func() { s.loop(ctx, removed, t) })
			}
		}
		for k, stop := range stops {
			if !wanted[k] {
				stop()
				delete(stops, k)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			for _, stop := range stops {
				stop()
			}
			return
		}
	}
}

// loop scrapes t until removed ends. It then writes staleness markers unless ctx has ended too.
func (s *Server) loop(ctx, removed context.Context, t *target) {
	interval := s.options.ScrapeInterval
	if !sleep(removed, time.Until(phase(t, time.Now(), interval))) {
		return // never scraped: nothing to mark
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	grid := time.Now().Round(0) // wall clock, like the samples
	healthy := true
	for removed.Err() == nil {
		start := time.Now().Round(0)
		for start.Sub(grid) >= interval { // a tick was missed
			grid = grid.Add(interval)
		}
		if start.Sub(grid) <= min(interval/100, 2*time.Millisecond) {
			start = grid
		}
		r := s.scrape(ctx, t.url)
		if ctx.Err() != nil {
			return
		}
		err := t.store(start, r)
		if err != nil && healthy {
			s.options.Logger.Warn("Scrape failed", "target", t.url, "err", err)
		}
		healthy = err == nil
		select {
		case <-removed.Done():
		case <-tick.C:
		}
	}

	// Two intervals of grace: the target may just be moving to another group.
	select {
	case <-ctx.Done():
		return
	case <-tick.C:
	}
	marked := time.Now()
	select {
	case <-ctx.Done():
		return
	case <-tick.C:
	}
	if sleep(ctx, interval/10) {
		t.end(marked)
	}
}

// phase returns the next instant of t's grid. A hash spreads the grids over the interval.
func phase(t *target, now time.Time, interval time.Duration) time.Time {
	h := fnv.New64a()
	_, _ = io.WriteString(h, t.url+t.labels.String())
	offset := time.Duration(h.Sum64() % uint64(interval))
	next := now.Truncate(interval).Add(offset)
	if next.Before(now) {
		next = next.Add(interval)
	}
	return next
}

// accept is the Accept header that Prometheus sends by default.
const accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5," +
	"application/openmetrics-text;version=0.0.1;q=0.4," +
	"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

func (s *Server) scrape(ctx context.Context, url string) (r result) {
	began := time.Now()
	defer func() { r.duration = time.Since(began) }()
	ctx, cancel := context.WithTimeout(ctx, s.options.ScrapeInterval)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return result{err: err}
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "governor-embedded-prometheus")
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprint(s.options.ScrapeInterval.Seconds()))
	resp, err := s.client.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return result{err: fmt.Errorf("server returned HTTP status %s", resp.Status)}
	}
	var body bytes.Buffer
	if n, err := body.ReadFrom(io.LimitReader(resp.Body, maxBody+1)); err != nil {
		return result{err: err}
	} else if n > maxBody {
		return result{err: fmt.Errorf("the metrics are longer than %d bytes", maxBody)}
	}
	return result{body: body.Bytes(), contentType: resp.Header.Get("Content-Type")}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
