package signals

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// signalLabel marks each branch of a group's query in the reply.
const signalLabel = "governor_signal"

// The signals of the preset guard, values of signalLabel.
const (
	sigSeen        = "seen"    // time of the newest raw sample, Unix seconds, with every label of the series
	sigUp          = "up"      // whether the target that exported the instance lately can be scraped
	sigSamples     = "samples" // raw samples in the window
	sigBefore      = "before"  // raw samples in the window before it
	sigLimit       = "limit"
	sigInFlight    = "inflight"
	sigServiceTime = "service_time"
	sigRevision    = "revision"
	sigOffered     = "offered"
	sigAdmitted    = "admitted"
	sigRefused     = "refused"
	sigFailed      = "failed"
	sigBinding     = "binding"
	sigCompleted   = "completed"
	sigLatencySum  = "latency_sum"
	sigBucket      = "bucket"   // completed within an SLO's latency, by le
	sigEdges       = "edges"    // the bucket edges there are, by service
	sigQuantile    = "quantile" // the objective's quantile, by service
)

// memory is how long an instance that cannot be scraped stays in the snapshot, as stale: Prometheus's own look-back.
const memory = 5 * time.Minute

// The metrics of the preset guard.
const (
	metricLimit  = "guard_limit" // also stands for the instance: one raw series each, always there
	metricBucket = "guard_latency_seconds_bucket"
)

// gauges are read raw, one series an instance with all its labels, so that the series of a process that is gone cannot
// mix with its successor's.
var gauges = []struct{ signal, metric, expr string }{
	{sigSeen, metricLimit, "timestamp(guard_limit{%s})"},
	{sigSamples, metricLimit, "count_over_time(guard_limit{%s}[$W])"},
	{sigBefore, metricLimit, "count_over_time(guard_limit{%s}[$W] offset $W)"},
	{sigLimit, metricLimit, "guard_limit{%s}"},
	{sigInFlight, "guard_inflight", "avg_over_time(guard_inflight{%s}[$W])"},
	{sigServiceTime, "guard_service_time_seconds", "guard_service_time_seconds{%s}"},
	{sigRevision, "guard_setting_revision", "guard_setting_revision{%s}"},
}

// counters are read as increase over the window, summed over the labels that are not the instance's.
var counters = []struct{ signal, metric string }{
	{sigOffered, "guard_offered_total"},
	{sigAdmitted, "guard_admitted_total"},
	{sigRefused, "guard_refused_total"},
	{sigFailed, "guard_failed_total"},
	{sigBinding, "guard_binding_seconds_total"},
	{sigCompleted, "guard_latency_seconds_count"},
	{sigLatencySum, "guard_latency_seconds_sum"},
}

// metricOf names the metric behind a signal, for the operator.
var metricOf = func() map[string]string {
	m := map[string]string{sigUp: "up", sigBucket: metricBucket, sigEdges: metricBucket, sigQuantile: metricBucket}
	for _, g := range gauges {
		m[g.signal] = g.metric
	}
	for _, c := range counters {
		m[c.signal] = c.metric
	}
	return m
}()

// groupKey is what the services of one query have in common.
type groupKey struct {
	preset                 Preset
	scrape, window, period time.Duration
	objective              float64
}

func keyOf(s Service) groupKey {
	return groupKey{s.Preset, s.Timing.Scrape, s.Timing.Window, s.Timing.Period, s.SLO.Objective}
}

// getBudget bounds a query that travels in a URL: common proxies refuse request lines above 8 KiB.
const getBudget = 7000

// buildQuery returns the union of all signals of the services. Where the query is asked by GET and naming every
// service would make the URL too long, it reads all services in Prometheus and the reply is filtered here.
func buildQuery(k groupKey, services []Service, get bool) string {
	named := selectors(services, true)
	q := unionOf(k, services, named)
	if get && len(url.QueryEscape(q)) > getBudget && len(named) == 1 {
		q = unionOf(k, services, selectors(services, false))
	}
	return q
}

func unionOf(k groupKey, services []Service, selectors []string) string {
	window := promDuration(k.window)
	// each evaluates expr for every selector. The selectors match different services, so no series meets itself.
	each := func(expr string) string {
		expr = strings.ReplaceAll(expr, "$W", window)
		parts := make([]string, len(selectors))
		for i, sel := range selectors {
			parts[i] = fmt.Sprintf(expr, sel)
		}
		return strings.Join(parts, " or ")
	}
	var branches []string
	add := func(signal, expr string) {
		branches = append(branches, fmt.Sprintf(`label_replace(%s, %q, %q, "", "")`, expr, signalLabel, signal))
	}

	for _, g := range gauges {
		add(g.signal, each(g.expr))
	}
	add(sigUp, fmt.Sprintf("(%s) * 0 + on (job, instance) group_left () max by (job, instance) (up)",
		each("last_over_time(guard_limit{%s}["+promDuration(memory)+"])")))
	for _, c := range counters {
		add(c.signal, fmt.Sprintf("sum by (service, instance) (%s)", each("increase("+c.metric+"{%s}[$W])")))
	}
	add(sigBucket, fmt.Sprintf("sum by (service, instance, le) (%s)",
		each("increase(guard_latency_seconds_bucket{%s, le=~"+strconv.Quote(edgePattern(services))+"}[$W])")))
	add(sigEdges, fmt.Sprintf("count by (service, le) (%s)", each("guard_latency_seconds_bucket{%s}")))
	add(sigQuantile, fmt.Sprintf("histogram_quantile(%s, sum by (service, le) (%s))",
		strconv.FormatFloat(k.objective, 'f', -1, 64), each("increase(guard_latency_seconds_bucket{%s}[$W])")))
	return strings.Join(branches, "\nor ")
}

// selectors returns one set of label matchers for each distinct set of extra labels among the services.
func selectors(services []Service, byName bool) []string {
	names := map[string][]string{}
	for _, s := range services {
		m := labelMatchers(s.Labels)
		names[m] = append(names[m], s.Name)
	}
	var out []string
	for _, matchers := range slices.Sorted(maps.Keys(names)) {
		service := `service!=""`
		if byName {
			service = serviceMatcher(names[matchers])
		}
		if matchers != "" {
			service += ", " + matchers
		}
		out = append(out, service)
	}
	return out
}

func serviceMatcher(names []string) string {
	if len(names) == 1 {
		return "service=" + strconv.Quote(names[0])
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return "service=~" + strconv.Quote(strings.Join(quoted, "|"))
}

func labelMatchers(labels map[string]string) string {
	var m []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		m = append(m, name+"="+strconv.Quote(labels[name]))
	}
	return strings.Join(m, ", ")
}

// selector is how an operator would look for the metric of the service.
func (s Service) selector(metric string) string {
	m := serviceMatcher([]string{s.Name})
	if l := labelMatchers(s.Labels); l != "" {
		m += ", " + l
	}
	return metric + "{" + m + "}"
}

// edgePattern matches the bucket edges at the SLOs of the services, in each spelling: an exporter or an older server
// writes one second as "1", OpenMetrics and Prometheus 3 as "1.0".
func edgePattern(services []Service) string {
	var all []string
	for _, s := range services {
		v := s.SLO.Latency.Seconds()
		for _, format := range []byte{'f', 'g'} {
			text := strconv.FormatFloat(v, format, -1, 64)
			all = append(all, regexp.QuoteMeta(text))
			if !strings.ContainsAny(text, ".e") {
				all = append(all, regexp.QuoteMeta(text+".0"))
			}
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "|")
}

// sameEdge says whether the le label is the edge at the latency v, however it is spelt.
func sameEdge(le string, v float64) bool {
	e, err := strconv.ParseFloat(le, 64)
	return err == nil && math.Abs(e-v) <= 1e-9*v
}

func promDuration(d time.Duration) string { return model.Duration(d).String() }
