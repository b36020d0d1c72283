package signals

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
)

// Service describes one service to measure.
type Service struct {
	Name   string // value of the label "service": of a route, SERVICE/ROUTE
	SLO    control.SLO
	Timing control.Timing
	// Learned says that Timing.Scrape comes from Learn, or is a default until something is learned.
	Learned bool
	Preset  Preset // "": Guard
	// Native says that the histogram is a native one, exponential or with custom buckets: see Learn.
	Native bool
	// Labels are further matchers of every selector (label = value), such as job or namespace. With the preset guard
	// they are for a Prometheus that holds the service more than once; with http_histogram they name the service.
	Labels map[string]string
	// InstanceLabel distinguishes the instances; "": instance. Other labels, such as pod, are for metrics without
	// guard.
	InstanceLabel string
	// Calls asks for what the instances report of their calls to other services; with the preset guard only.
	Calls bool
	// Callees are the services that it is expected to call, for Probe.
	Callees []string
	// Histogram is for the preset http_histogram only.
	Histogram Histogram
	// Queries are user-supplied PromQL: they replace or complete what the preset reads, signal by signal. Each returns
	// one sample per instance, or one sample without the instance label for the whole service. $window stands for the
	// window. A service with such queries forms a group of its own.
	Queries map[Signal]string
	// StaleAfter is the age past which an instance's newest sample no longer counts; 0: Timing.StaleAfter().
	StaleAfter time.Duration
}

// Options says how to reach Prometheus, or any server with its query API.
type Options struct {
	URL string // base URL, such as http://localhost:9090 or https://mimir.example/prometheus
	// HTTP configures authentication, TLS, proxy and headers; nil: config.DefaultHTTPClientConfig.
	HTTP *config.HTTPClientConfig
	// RoundTripper replaces the transport that HTTP describes, for servers in the same process.
	RoundTripper http.RoundTripper
	// Method is POST ("", the default) or GET, for proxies that refuse POST.
	Method string
	// Timeout bounds one query; 0: 10 s. A group never waits longer than 0.8 of its period.
	Timeout time.Duration
}

const (
	defaultTimeout = 10 * time.Second
	deadlineShare  = 0.8 // of the period; leaves time to decide and publish before the next tick
)

// Sensor measures services through one Prometheus. Its groups may be used concurrently, each by one goroutine.
type Sensor struct {
	address string
	client  *client
	options Options
	groups  []*Group
	cancel  context.CancelFunc // ends background queries
}

// New checks the options and the services, reports all errors at once, and divides the services into groups. It does
// not contact the server: the daemon must start even if Prometheus is down.
func New(opts Options, services []Service) (*Sensor, error) {
	client, err := newClient(opts)
	if err != nil {
		return nil, err
	}
	services = slices.Clone(services)
	var errs []error
	seen := map[string]bool{}
	for i := range services {
		s := &services[i]
		if s.Preset == "" {
			s.Preset = Guard
		}
		if s.InstanceLabel == "" {
			s.InstanceLabel = model.InstanceLabel
		}
		if s.StaleAfter == 0 {
			s.StaleAfter = s.Timing.StaleAfter()
		}
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("service %q is listed twice", s.Name))
		}
		seen[s.Name] = true
		if err := s.validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	sensor := &Sensor{address: redacted(opts.URL), client: client, options: opts}
	background, cancel := context.WithCancel(context.Background())
	sensor.cancel = cancel
	byKey := map[groupKey]*Group{}
	for _, service := range services {
		s := newSubject(service)
		k := keyOf(s)
		g := byKey[k]
		if g == nil {
			g = sensor.group(s)
			byKey[k] = g
			sensor.groups = append(sensor.groups, g)
			continue
		}
		if err := g.take(s); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, g := range sensor.groups {
		g.prepare(background, opts)
	}
	return sensor, nil
}

// group returns a group with one service.
func (s *Sensor) group(first subject) *Group {
	g := &Group{
		api: v1.NewAPI(s.client), key: keyOf(first), timing: first.Timing,
		deadline: deadline(s.options.Timeout, first.Timing.Period),
		health:   Health{Error: "not asked yet"}, owner: map[string]string{},
	}
	_ = g.take(first) // cannot fail: the group is empty
	return g
}

// take adds a service to the group.
func (g *Group) take(s subject) error {
	labels := model.Metric{}
	for name, value := range s.ids {
		labels[model.LabelName(name)] = model.LabelValue(value)
	}
	id := g.identity(labels)
	if other, taken := g.owner[id]; taken {
		return fmt.Errorf("services %q and %q read the same series: %s", other, s.Name, s.selector(sigSeen))
	}
	g.owner[id] = s.Name
	g.services = append(g.services, s)
	return nil
}

// prepare writes the queries of the group.
func (g *Group) prepare(background context.Context, opts Options) {
	get := opts.Method == http.MethodGet
	if g.key.preset != Custom {
		g.query = fitted(get, g.services, func(selectors []string) string {
			return newBuilder(g.key, g.services, selectors).measurement()
		})
	}
	g.own = ownQueries(g.services[0])
	g.burn = newBurnRates(background, opts, g, get)
}

func (s *Service) validate() error {
	var wrong []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	check(s.Name != "", "the name is empty")
	check(s.Preset == Guard || s.Preset == HTTPHistogram || s.Preset == Custom,
		"preset %q is unknown (known: %s, %s, %s)", s.Preset, Guard, HTTPHistogram, Custom)
	check(s.SLO.Latency > 0, "slo latency %s must be positive", s.SLO.Latency)
	check(s.SLO.Objective > 0 && s.SLO.Objective < 1, "slo objective %v must lie between 0 and 1", s.SLO.Objective)
	t := s.Timing
	check(t.Scrape >= time.Millisecond, "scrape interval %s must be at least 1ms", t.Scrape)
	check(t.Window >= time.Millisecond, "window %s must be at least 1ms", t.Window)
	check(t.Period >= time.Millisecond, "period %s must be at least 1ms", t.Period)
	check(s.StaleAfter > 0, "stale-after %s must be positive", s.StaleAfter)
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		check(ValidLabelName(name), "label name %q is not valid", name)
		check(name != "service" || s.Preset != Guard,
			"the label service is the name of the service and cannot be set again")
	}
	check(ValidLabelName(s.InstanceLabel), "instance label %q is not valid", s.InstanceLabel)
	check(s.InstanceLabel == model.InstanceLabel || s.Preset != Guard,
		"the preset guard tells instances apart by the label instance, not %q", s.InstanceLabel)
	s.validateHistogram(check)
	s.validateQueries(check)
	if len(wrong) > 0 {
		return fmt.Errorf("service %q: %s", s.Name, strings.Join(wrong, "; "))
	}
	return nil
}

func deadline(timeout, period time.Duration) time.Duration {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return min(timeout, time.Duration(deadlineShare*float64(period)))
}

// Groups returns the groups of services that are measured together. Each has its own pace; see Group.Timing.
func (s *Sensor) Groups() []*Group { return slices.Clone(s.groups) }

// Close ends background queries and closes idle connections to the server.
func (s *Sensor) Close() {
	s.cancel()
	for _, g := range s.groups {
		g.burn.stop()
	}
	s.client.CloseIdleConnections()
}

// Health describes how the server has answered recently.
type Health struct {
	Address string        // of the server, without credentials
	OK      bool          // the last query of every group was answered
	Error   string        // of the last failure, while not OK
	Latency time.Duration // of the last answer; with several groups, of the slowest
	LastOK  time.Time     // zero: never
	// Skew is how far the server's clock is ahead of ours (negative: behind). It comes from the Date header, which has
	// a resolution of one second; differences that the header cannot prove are 0.
	Skew time.Duration
}

// Health summarizes all groups: the worst state, and the latest success of any group. It is safe for concurrent use.
func (s *Sensor) Health() Health {
	h := Health{Address: s.address, OK: true}
	for _, g := range s.groups {
		gh := g.Health()
		if !gh.OK {
			h.OK = false
			if h.Error == "" {
				h.Error = gh.Error
			}
		}
		h.Latency = max(h.Latency, gh.Latency)
		if gh.LastOK.After(h.LastOK) {
			h.LastOK, h.Skew = gh.LastOK, gh.Skew
		}
	}
	return h
}

// redacted returns the URL without the password it may carry.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Redacted()
}
