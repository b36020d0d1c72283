// Package guardprom exposes a guard to Prometheus:
//
//	prometheus.MustRegister(guardprom.New(g))
//
// Governor's preset "guard" reads these metrics, so their names are a contract. Each has the label service. All
// counters exist at zero from the first scrape, for every criticality and reason, so that increase() sees the first
// event. The mean latency of admitted requests over a window is
//
//	rate(guard_latency_seconds_sum[1m]) / rate(guard_latency_seconds_count[1m])
//
// and the share slower than the SLO comes from the bucket whose edge is exactly the SLO. Neither includes refused
// requests: a refusal takes microseconds and would make an overloaded service look fast.
//
// This package counts nothing. The guard keeps the counts, and a scrape turns a snapshot of them into metrics, so that
// the request path does not pay for Prometheus.
package guardprom

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// Option changes what New exposes.
type Option func(*Collector)

// WithExemplars adds exemplars to guard_latency_seconds, for example those of guardotel's Observer. latest is called at each
// scrape for the service and for each of its routes, as SERVICE/ROUTE; of several in one bucket of the classic histogram the last one counts there, and the native one has them all.
func WithExemplars(latest func(service string) []prometheus.Exemplar) Option {
	return func(c *Collector) { c.exemplars = latest }
}

// Collector is the prometheus.Collector of one guard. Guards of several services can share a registry.
type Collector struct {
	guard     *guard.Guard
	exemplars func(service string) []prometheus.Exemplar // nil: none

	parts                                []*part // of the service, then of each route as in Snapshot.Routes
	retryRatio                           *prometheus.Desc
	calls                                calls
	roofLimit, roofInFlight, roofBinding *prometheus.Desc // of a guard with routes
}

// part is what the service and each of its routes have alike.
type part struct {
	offered, admitted, refused, failed    *prometheus.Desc
	demoted                               *prometheus.Desc
	latency, inFlight, limit, serviceTime *prometheus.Desc
	held, shedThreshold, rateLimit        *prometheus.Desc
	binding, revision, settingRefused     *prometheus.Desc
	doubleRelease, blind                  *prometheus.Desc
	endless, endlessTotal, endlessLimit   *prometheus.Desc
	callWait                              *prometheus.Desc
	cutShort, cutShortSum                 *prometheus.Desc
	share                                 *prometheus.Desc // of a guard with routes
}

// New returns the Collector of g.
func New(g *guard.Guard, options ...Option) *Collector {
	desc := descOf(g.Service())
	c := &Collector{
		guard:      g,
		parts:      []*part{newPart(g.Service())},
		retryRatio: desc("retry_budget_ratio", "Retries allowed as a share of requests, in force now."),
		calls:      newCalls(desc),

		roofLimit:    desc("roof_limit", "Limit over all routes together, in requests in flight."),
		roofInFlight: desc("roof_inflight", "Requests in flight under it."),
		roofBinding:  desc("roof_binding_seconds_total", "Time with at least 85% of it in flight."),
	}
	for _, route := range g.Snapshot().Routes {
		c.parts = append(c.parts, newPart(route.Service))
	}
	for _, o := range options {
		o(c)
	}
	return c
}

// descOf returns a function that makes the descriptions of the metrics of a service.
func descOf(service string) func(name, help string, labels ...string) *prometheus.Desc {
	return func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("guard_"+name, help, labels, prometheus.Labels{"service": service})
	}
}

// newPart returns the part called name: the service, or SERVICE/ROUTE.
func newPart(name string) *part {
	desc := descOf(name)
	return &part{
		offered:  desc("offered_total", "Requests that arrived, admitted or refused.", "criticality"),
		admitted: desc("admitted_total", "Requests admitted.", "criticality"),
		refused:  desc("refused_total", "Requests refused, by the policy that refused them.", "reason", "criticality"),
		failed:   desc("failed_total", "Admitted requests that failed; canceled by the caller is not failed."),
		demoted: desc("demoted_total", "Requests that counted as background because their API or tenant demands more than "+
			"its share."),
		latency: desc("latency_seconds", "Latency of admitted requests that finished, failed ones included, refused "+
			"ones not. One bucket edge is the SLO."),
		inFlight: desc("inflight", "Requests in flight."),
		limit:    desc("limit", "Concurrency limit enforced now, in requests in flight."),
		held: desc("held_seconds", "How long requests have held all slots of the limit and none has come free; 0 while one is "+
			"free. The log names the oldest requests."),
		serviceTime: desc("service_time_seconds", "Service time found by the reflex's floor test, 0 while none "+
			"stands; absent without a reflex."),
		shedThreshold: desc("shed_threshold", "Occupancy, in flight by limit, above which the least important requests "+
			"are refused; 1: nothing is shed."),
		rateLimit: desc("rate_limit", "Admissions per second enforced now on this instance; absent without a limit."),
		binding:   desc("binding_seconds_total", "Time with at least 85% of the limit in flight."),
		revision:  desc("setting_revision", "Revision of the Setting in force, 0 while there is none."),
		settingRefused: desc("setting_refused_total", "Settings that were refused, the last good one staying in force.",
			"reason"),
		doubleRelease: desc("double_release_total", "Permits released more than once: a mistake in the calling code."),
		blind: desc("blind", "1 while the reflex has too little data to judge and the limit is governor's or the "+
			"fallback; absent without a reflex."),
		endless: desc("endless", "Requests in flight that do not end and hold no slot, found by the guard or declared.",
			"kind"),
		endlessTotal: desc("endless_total", "Requests that did not end and gave back their slot, found by the guard or "+
			"declared.", "kind"),
		endlessLimit: desc("endless_limit", "Requests that may be in flight without end; absent without a bound."),
		callWait: desc("call_wait_seconds_total", "Part of guard_latency_seconds_sum that the requests spent in guarded "+
			"calls; the rest is the service's own latency."),
		cutShort: desc("cut_short_total", "Requests of guard_latency_seconds that failed after a guarded call of theirs was refused "+
			"or failed: no evidence of how fast the service is."),
		cutShortSum: desc("cut_short_seconds_total", "Their part of guard_latency_seconds_sum: the service's own, and what they spent "+
			"in guarded calls.", "part"),
		share: desc("share", "Share of the roof that the requests on this route, or on none, may fill, in requests in flight; "+
			"absent while there is room for all."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, p := range c.parts {
		p.describe(ch)
	}
	ch <- c.retryRatio
	c.calls.describe(ch)
	if len(c.parts) > 1 {
		for _, d := range []*prometheus.Desc{c.roofLimit, c.roofInFlight, c.roofBinding} {
			ch <- d
		}
		for _, p := range c.parts {
			ch <- p.share
		}
	}
}

func (p *part) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		p.offered, p.admitted, p.refused, p.failed, p.demoted, p.latency, p.inFlight, p.limit, p.held, p.serviceTime,
		p.shedThreshold, p.rateLimit, p.binding, p.revision, p.settingRefused, p.doubleRelease, p.blind,
		p.endless, p.endlessTotal, p.endlessLimit, p.callWait, p.cutShort, p.cutShortSum,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.guard.Snapshot()
	ch <- c.withExemplars(c.parts[0].collect(ch, s), s.Service)
	for i, route := range s.Routes {
		ch <- c.withExemplars(c.parts[i+1].collect(ch, route), route.Service)
	}
	counter, gauge := sinks(ch)
	gauge(c.retryRatio, s.RetryRatio)
	for _, call := range s.Calls {
		c.calls.collect(ch, call, s.Started)
	}
	if s.Roof != nil {
		gauge(c.roofLimit, float64(s.Roof.Limit))
		gauge(c.roofInFlight, float64(s.Roof.InFlight))
		counter(c.roofBinding, s.Roof.Binding.Seconds())
	}
}

// collect sends the metrics but that of the latency, which it returns.
func (p *part) collect(ch chan<- prometheus.Metric, s guard.Snapshot) prometheus.Metric {
	counter, gauge := sinks(ch)

	for _, crit := range guard.Criticalities() {
		counter(p.offered, float64(s.Offered[crit]), crit.String())
		counter(p.admitted, float64(s.Admitted[crit]), crit.String())
		for reason, counts := range s.Refused {
			counter(p.refused, float64(counts[crit]), reason, crit.String())
		}
	}
	counter(p.failed, float64(s.Failed))
	counter(p.demoted, float64(s.Demoted))
	counter(p.binding, s.Binding.Seconds())
	counter(p.doubleRelease, float64(s.DoubleReleases))
	for reason, n := range s.SettingRefused {
		counter(p.settingRefused, float64(n), string(reason))
	}
	gauge(p.inFlight, float64(s.InFlight))
	gauge(p.limit, float64(s.Limit))
	gauge(p.held, s.Held.Seconds())
	if s.Reflex { // its presence tells governor that a reflex runs here and tests the floor itself
		gauge(p.serviceTime, s.ServiceTime)
		blind := 0.0
		if s.Blind {
			blind = 1
		}
		gauge(p.blind, blind)
	}
	gauge(p.endless, float64(s.EndlessFound), "found")
	gauge(p.endless, float64(s.EndlessDeclared), "declared")
	counter(p.endlessTotal, float64(s.EndlessFoundTotal), "found")
	counter(p.endlessTotal, float64(s.EndlessDeclaredTotal), "declared")
	if s.MaxEndless > 0 {
		gauge(p.endlessLimit, float64(s.MaxEndless))
	}
	gauge(p.shedThreshold, s.ShedThreshold)
	if !math.IsInf(s.RateLimit, 1) { // no limit shows as a gap, and sums over instances stay meaningful
		gauge(p.rateLimit, s.RateLimit)
	}
	gauge(p.revision, float64(s.Revision))
	counter(p.callWait, s.Latency.Waited)
	counter(p.cutShort, float64(s.CutShort.Count))
	counter(p.cutShortSum, s.CutShort.Own, "own")
	counter(p.cutShortSum, s.CutShort.Waited, "calls")
	if s.Share > 0 {
		gauge(p.share, float64(s.Share))
	}
	return newHistogram(p.latency, s.Latency, s.Started)
}

// withExemplars adds the exemplars to the histogram of the latency of a service or route. Bad ones must not cost a scrape.
func (c *Collector) withExemplars(h prometheus.Metric, service string) prometheus.Metric {
	if c.exemplars == nil {
		return h
	}
	if with, err := prometheus.NewMetricWithExemplars(h, c.exemplars(service)...); err == nil {
		return with
	}
	return h // there is none, or one breaks the rules of OpenMetrics
}

// sinks return functions that send a counter and a gauge to ch.
func sinks(ch chan<- prometheus.Metric) (counter, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	send := func(kind prometheus.ValueType) func(d *prometheus.Desc, v float64, labels ...string) {
		return func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
		}
	}
	return send(prometheus.CounterValue), send(prometheus.GaugeValue)
}

// histogram is a metric that is a classic and a native histogram at once, like client_golang's own: a server that
// scrapes native histograms takes the native one, any other server the buckets.
type histogram struct{ classic, native prometheus.Metric }

func newHistogram(d *prometheus.Desc, l guard.Latency, started time.Time, labels ...string) histogram {
	buckets := make(map[float64]uint64, len(l.Edges))
	for i, edge := range l.Edges {
		buckets[edge] = l.Cumulative[i]
	}
	native, err := prometheus.NewConstNativeHistogram(
		d, l.Count, l.Sum, l.Buckets, nil, l.ZeroCount, l.Schema, l.ZeroThreshold, started,
		labels...)
	if err != nil {
		native = prometheus.NewInvalidMetric(d, err)
	}
	return histogram{
		classic: prometheus.MustNewConstHistogramWithCreatedTimestamp(d, l.Count, l.Sum, buckets, started,
			labels...),
		native: native,
	}
}

func (h histogram) Desc() *prometheus.Desc { return h.classic.Desc() }

func (h histogram) Write(out *dto.Metric) error {
	if err := h.native.Write(out); err != nil {
		return err
	}
	var classic dto.Metric
	if err := h.classic.Write(&classic); err != nil {
		return err
	}
	out.Histogram.Bucket = classic.Histogram.Bucket
	return nil
}
