package prometheus

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// load is the constant load that an exporter reports for its service.
type load struct {
	offered, refused, failed float64 // per second
	byRate                   float64 // those of refused that the rate limit refused
	byShare                  float64 // those that the route's share of the roof refused
	mean                     float64 // seconds
	slowShare                float64 // of the admitted: above the edge at 0.3 s and below the one at 1 s
	limit, inFlight, binding float64 // binding: share of time
	edges                    []string
	calls                    []calls
}

// calls is the constant load of the calls to a dependency.
type calls struct {
	to              string
	perSecond, mean float64 // of the calls, each of which is retried once in ten
	own             float64 // m₀, seconds
	open            int     // breakers, because of failures
}

// exporter serves /metrics of one instance of a service.
type exporter struct {
	*httptest.Server
	service string

	mu         sync.Mutex
	load       load
	since      time.Time // of the counters
	timestamps bool      // stamps its samples itself: Prometheus then writes no staleness markers for them
}

func newExporter(t *testing.T, service string, l load) *exporter {
	if l.edges == nil {
		l.edges = []string{"0.1", "0.3", "1", "+Inf"}
	}
	e := &exporter{service: service, load: l, since: time.Now()}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

// target is the instance's name in Prometheus.
func (e *exporter) target() string { return strings.TrimPrefix(e.URL, "http://") }

// restart resets the counters to zero, like a process that restarts at the same address.
func (e *exporter) restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.since = time.Now()
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	e.write(w, time.Now())
}

func (e *exporter) write(w io.Writer, now time.Time) {
	l, age := e.load, now.Sub(e.since).Seconds()
	stamp := ""
	if e.timestamps {
		stamp = fmt.Sprintf(" %d", now.UnixMilli())
	}
	line := func(name, labels string, v float64) {
		if labels != "" {
			labels = "," + labels
		}
		fmt.Fprintf(w, "%s{service=%q%s} %g%s\n", name, e.service, labels, v, stamp)
	}
	kind := func(name, kind string) { fmt.Fprintf(w, "# TYPE %s %s\n", name, kind) }

	kind("guard_offered_total", "counter")
	line("guard_offered_total", `criticality="critical"`, 0.25*l.offered*age)
	line("guard_offered_total", `criticality="default"`, 0.75*l.offered*age)
	kind("guard_admitted_total", "counter")
	admitted := (l.offered - l.refused) * age
	line("guard_admitted_total", `criticality="critical"`, 0.25*admitted)
	line("guard_admitted_total", `criticality="default"`, 0.75*admitted)
	kind("guard_refused_total", "counter")
	line("guard_refused_total", `reason="concurrency",criticality="critical"`, 0)
	line("guard_refused_total", `reason="concurrency",criticality="default"`, (l.refused-l.byRate-l.byShare)*age)
	line("guard_refused_total", `reason="rate",criticality="default"`, l.byRate*age)
	line("guard_refused_total", `reason="share",criticality="default"`, l.byShare*age)
	line("guard_refused_total", `reason="shed",criticality="default"`, 0)
	kind("guard_failed_total", "counter")
	line("guard_failed_total", "", l.failed*age)
	kind("guard_binding_seconds_total", "counter")
	line("guard_binding_seconds_total", "", l.binding*age)
	kind("guard_inflight", "gauge")
	line("guard_inflight", "", l.inFlight)
	kind("guard_limit", "gauge")
	line("guard_limit", "", l.limit)
	kind("guard_shed_threshold", "gauge")
	line("guard_shed_threshold", "", 0.5)
	kind("guard_service_time_seconds", "gauge")
	line("guard_service_time_seconds", "", 0)
	kind("guard_setting_revision", "gauge")
	line("guard_setting_revision", "", 7)
	kind("guard_latency_seconds", "histogram")
	for _, le := range l.edges {
		v := admitted
		if edge, err := strconv.ParseFloat(le, 64); err == nil && edge < 0.31 {
			v *= 1 - l.slowShare
		}
		line("guard_latency_seconds_bucket", fmt.Sprintf("le=%q", le), v)
	}
	line("guard_latency_seconds_sum", "", l.mean*admitted)
	line("guard_latency_seconds_count", "", admitted)
	kind("guard_call_wait_seconds_total", "counter")
	waited := 0.0
	for _, c := range l.calls {
		waited += c.perSecond * 1.1 * c.mean * age
	}
	line("guard_call_wait_seconds_total", "", waited)
	for _, c := range l.calls {
		about := func(name, labels string, v float64) {
			if labels != "" {
				labels = "," + labels
			}
			line("guard_client_"+name, fmt.Sprintf("to=%q%s", c.to, labels), v)
		}
		n := c.perSecond * age
		about("requests_total", "", n)
		about("attempts_total", "", 1.1*n)
		about("retries_total", "", 0.1*n)
		about("failures_total", "", 0.2*n)
		about("callee_refusals_total", "", 0.11*n)
		about("refused_total", `reason="deadline"`, 0)
		about("refused_total", `reason="breaker"`, 0.05*n)
		about("refused_total", `reason="bulkhead"`, 0.02*n)
		about("in_flight", "", c.perSecond*c.mean)
		about("limit", "", 24)
		about("latency_target_seconds", "", 3*c.own)
		about("own_latency_seconds", "", c.own)
		about("setting_revision", "", 5)
		about("breaker_instances", `state="closed"`, float64(3-c.open))
		about("breaker_instances", `state="open"`, float64(c.open))
		about("breaker_instances", `state="half_open"`, 0)
		about("breaker_opened_total", `reason="failures"`, float64(c.open)*age)
		about("breaker_opened_total", `reason="slow"`, 0)
		about("latency_seconds_sum", "", 1.1*n*c.mean)
		about("latency_seconds_count", "", 1.1*n)
	}
}
