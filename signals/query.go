package signals

import (
	"cmp"
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

	"github.com/seed-de83e32b/governor/control"
)

// signalLabel marks each branch of a group's query in the reply.
const signalLabel = "governor_signal"

// The signals of the presets, values of signalLabel.
const (
	sigSeen             = "seen"    // time of the newest raw sample, Unix seconds
	sigUp               = "up"      // whether the target that recently exported the instance can be scraped
	sigSamples          = "samples" // raw samples in the window
	sigBefore           = "before"  // raw samples in the window before it
	sigLimit            = "limit"
	sigInFlight         = "inflight"
	sigServiceTime      = "service_time"
	sigRevision         = "revision"
	sigShedThreshold    = "shed_threshold"
	sigOffered          = "offered"
	sigAdmitted         = "admitted"
	sigRefused          = "refused"
	sigRefusedByShed    = "refused_by_shed"
	sigRefusedByRate    = "refused_by_rate"
	sigRefusedElsewhere = "refused_elsewhere" // by reason, those that say nothing about limit, shedding and rate
	sigClassOffered     = "class_offered"     // by criticality
	sigClassRefused     = "class_refused"     // by criticality, without refusals by rate and elsewhere
	sigFailed           = "failed"
	sigBinding          = "binding"
	sigWaited           = "waited"            // seconds in guarded calls; older guards lack it
	sigCutShort         = "cut_short"         // failed with a call of theirs; older guards lack both
	sigCutShortSeconds  = "cut_short_seconds" // by part
	sigCompleted        = "completed"
	sigTotal            = "total" // everything the histogram counts, admitted or refused
	sigLatencySum       = "latency_sum"
	sigBucket           = "bucket"   // completed within an SLO's latency, by le
	sigEdges            = "edges"    // the existing bucket edges, by service
	sigQuantile         = "quantile" // the objective's quantile, by service
	sigResets           = "resets"   // of the counters, in two windows
	// How many series of the histogram there were a window ago, and how many of them had an edge at an SLO, by le.
	sigSeriesBefore = "series_before"
	sigEdgesBefore  = "edges_before"
)

// hasLabels is the signal that counts the series that have the labels used by another signal's selector.
func hasLabels(signal string) string { return signal + "_labels" }

// memory is how long an instance that cannot be scraped stays in the snapshot as stale: Prometheus's own lookback.
const memory = 5 * time.Minute

// The labels of guard's counters that separate the classes, and the parts of a latency.
const (
	criticalityLabel = "criticality"
	partLabel        = "part"
)

// source is where a signal comes from: a metric, and matchers in addition to those that identify the service.
type source struct{ metric, matchers string }

// elsewhere are guard's reasons for refusals that say nothing about the limit, shedding and the rate of what they are
// counted for: a callee, the roof over all routes, the share of it, and the bound on requests that never end.
const elsewhere = "callee|share|roof|endless"

// guardSources are the metrics of the preset guard. The limit also stands for the instance: it is one raw series per
// instance and always present.
var guardSources = func() map[string]source {
	const bucket = "guard_latency_seconds_bucket"
	m := map[string]source{}
	for signal, metric := range map[string]string{
		sigSeen: "guard_limit", sigUp: "guard_limit", sigSamples: "guard_limit", sigBefore: "guard_limit",
		sigLimit: "guard_limit", sigInFlight: "guard_inflight", sigServiceTime: "guard_service_time_seconds",
		sigRevision: "guard_setting_revision", sigShedThreshold: "guard_shed_threshold",
		sigOffered: "guard_offered_total", sigAdmitted: "guard_admitted_total", sigRefused: "guard_refused_total",
		sigClassOffered: "guard_offered_total", sigFailed: "guard_failed_total",
		sigBinding: "guard_binding_seconds_total", sigWaited: "guard_call_wait_seconds_total",
		sigCutShort: "guard_cut_short_total", sigCutShortSeconds: "guard_cut_short_seconds_total",
		sigCompleted:  "guard_latency_seconds_count",
		sigLatencySum: "guard_latency_seconds_sum", sigBucket: bucket, sigEdges: bucket, sigQuantile: bucket,
	} {
		m[signal] = source{metric: metric}
	}
	m[sigRefusedByShed] = source{metric: "guard_refused_total", matchers: `reason="shed"`}
	m[sigRefusedByRate] = source{metric: "guard_refused_total", matchers: `reason="rate"`}
	m[sigRefusedElsewhere] = source{metric: "guard_refused_total", matchers: `reason=~"` + elsewhere + `"`}
	m[sigClassRefused] = source{metric: "guard_refused_total", matchers: `reason!~"rate|` + elsewhere + `"`}
	return m
}()

// guardHistogram is the latency histogram of the preset guard.
const guardHistogram = "guard_latency_seconds"

// nativeGuardSources are guardSources where the server keeps the native form of the histogram only.
var nativeGuardSources = func() map[string]source {
	m := maps.Clone(guardSources)
	for signal, from := range m {
		if strings.HasPrefix(from.metric, guardHistogram+"_") {
			m[signal] = source{metric: guardHistogram}
		}
	}
	return m
}()

// native is the name of the histogram of a service where it is a native one, else "".
func (s subject) native() string {
	switch {
	case !s.Native || s.Preset == Custom:
		return ""
	case s.Preset == Guard:
		return guardHistogram
	}
	return s.Histogram.Metric
}

// subject is a Service with everything derived from its description.
type subject struct {
	Service
	from map[string]source
	ids  map[string]string // labels that separate this service's series from others
}

// edge is the SLO's latency in the unit of the histogram.
func (s subject) edge() float64 { return s.SLO.Latency.Seconds() / s.Histogram.unit() }

func newSubject(s Service) subject {
	sub := subject{Service: s, ids: maps.Clone(s.Labels), from: map[string]source{}}
	switch s.Preset {
	case Guard:
		if sub.ids == nil {
			sub.ids = map[string]string{}
		}
		sub.ids["service"] = s.Name
		sub.from = guardSources
		if s.Native {
			sub.from = nativeGuardSources
		}
		if s.Calls {
			sub.from = withCalls(sub.from)
		}
	case HTTPHistogram:
		sub.from = s.Histogram.sources(s.Native)
	}
	return sub
}

// selector returns the selector with which an operator would look for the signal of the service.
func (s subject) selector(signal string) string {
	from, ok := s.from[signal]
	if !ok {
		if signal == sigSeen { // without another source, the query of arrivals says which instances exist
			signal = string(Offered)
		}
		return "the query of " + signal
	}
	return seriesOf(from.metric, joined(from.matchers, equalities(s.ids)))
}

// groupKey holds what the services of one query have in common.
type groupKey struct {
	preset                 Preset
	native, calls          bool
	histogram              Histogram
	instance, ids          string // label names
	scrape, window, period time.Duration
	objective              float64
	alone                  string // name of a service with user-supplied queries
}

func keyOf(s subject) groupKey {
	k := groupKey{
		preset: s.Preset, native: s.Native, calls: s.Calls, histogram: s.Histogram, instance: s.InstanceLabel,
		ids:    strings.Join(slices.Sorted(maps.Keys(s.ids)), ", "),
		scrape: s.Timing.Scrape, window: s.Timing.Window, period: s.Timing.Period, objective: s.SLO.Objective,
	}
	if len(s.Queries) > 0 {
		k.alone = s.Name
	}
	return k
}

// getBudget bounds a query that travels in a URL: common proxies refuse request lines above 8 KiB.
const getBudget = 7000

// fitted builds a query that names the services. If it is sent by GET and the names would make the URL too long, it
// selects all services in Prometheus instead, and the reply is filtered here.
func fitted(get bool, services []subject, build func(selectors []string) string) string {
	named := selectors(services, true)
	q := build(named)
	if get && len(url.QueryEscape(q)) > getBudget && len(named) == 1 {
		q = build(selectors(services, false))
	}
	return q
}

// builder assembles the union of all signals of a group.
type builder struct {
	key       groupKey
	from      map[string]source
	selectors []string // matchers of the services; no series matches two of them
	edges     string   // pattern of the bucket edges at the SLOs
	native    string   // name of the histogram where it is a native one
	slos      []float64
	branches  []string
}

func newBuilder(k groupKey, services []subject, selectors []string) *builder {
	b := &builder{
		key: k, from: services[0].from, selectors: selectors, edges: edgePattern(services), native: services[0].native(),
	}
	for _, s := range services {
		b.slos = append(b.slos, s.edge())
	}
	slices.Sort(b.slos)
	b.slos = slices.Compact(b.slos)
	return b
}

func (b *builder) String() string { return strings.Join(b.branches, "\nor ") }

// add adds the expression as a branch marked with the signal.
func (b *builder) add(signal, expr string) {
	b.branches = append(b.branches, fmt.Sprintf(`label_replace(%s, %q, %q, "", "")`, expr, signalLabel, signal))
}

// each replaces $ in the template with each selector of the signal and joins the results.
func (b *builder) each(template, signal string, more ...string) string {
	from := b.from[signal]
	parts := make([]string, len(b.selectors))
	for i, sel := range b.selectors {
		matchers := joined(append([]string{from.matchers, sel}, more...)...)
		parts[i] = strings.Replace(template, "$", seriesOf(from.metric, matchers), 1)
	}
	return strings.Join(parts, " or ")
}

// over applies a range function to a window of each series of the signal.
func (b *builder) over(function string, window time.Duration, signal string, more ...string) string {
	return b.each(function+"($["+promDuration(window)+"])", signal, more...)
}

// by aggregates over everything except the labels of the service and those given.
func (b *builder) by(aggregation, expr string, more ...string) string {
	var names []string
	for _, name := range append(strings.Split(b.key.ids, ", "), more...) {
		names = append(names, labelName(name))
	}
	return aggregation + " by (" + joined(names...) + ") (" + expr + ")"
}

// counted is how far the counter of the signal has risen in the window: a series of its own, or the count of a native
// histogram.
func (b *builder) counted(window time.Duration, signal string, by ...string) string {
	sum := b.by("sum", b.over("increase", window, signal), by...)
	if b.native != "" && b.from[signal].metric == b.native {
		return "histogram_count(" + sum + ")"
	}
	return sum
}

// within adds the requests of the window that finished within each SLO, as the signal, by le. A native histogram tells
// the share of them, interpolated inside a bucket; upToSLO judges whether that is close enough.
func (b *builder) within(signal string, window time.Duration, by ...string) {
	if b.native == "" {
		b.add(signal, b.by("sum", b.over("increase", window, sigBucket, b.edges), append(by, model.BucketLabel)...))
		return
	}
	all := b.by("sum", b.over("increase", window, sigBucket), by...)
	parts := make([]string, len(b.slos))
	for i, edge := range b.slos {
		le := strconv.FormatFloat(edge, 'g', 15, 64)
		parts[i] = fmt.Sprintf(`label_replace(histogram_fraction(0, %s, %s) * histogram_count(%[2]s), "le", "%[1]s", "", "")`, le, all)
	}
	b.add(signal, "("+strings.Join(parts, " or ")+")")
}

// seriesOf selects the series of a metric, whose name may be any text since Prometheus 3.
func seriesOf(metric, matchers string) string {
	if model.LegacyValidation.IsValidMetricName(metric) {
		return metric + "{" + matchers + "}"
	}
	return "{" + joined(strconv.Quote(metric), matchers) + "}"
}

// ValidLabelName says whether a label may be called that: as in every Prometheus, or with dots, which Prometheus 3 knows
// from OpenTelemetry (service.name). It knows any text, but most other texts are a mistake.
func ValidLabelName(name string) bool {
	return model.LegacyValidation.IsValidLabelName(name) || dotted(name)
}

// ValidMetricName is ValidLabelName for metrics.
func ValidMetricName(name string) bool {
	return model.LegacyValidation.IsValidMetricName(name) || dotted(name)
}

func dotted(name string) bool {
	return model.UTF8Validation.IsValidLabelName(name) && strings.Contains(strings.Trim(name, "."), ".") &&
		!strings.ContainsAny(name, "{}\"'`=~!,() \t\n")
}

// labelName is how a label is written where PromQL expects its name.
func labelName(name string) string {
	if name == "" || model.LegacyValidation.IsValidLabelName(name) {
		return name
	}
	return strconv.Quote(name)
}

// measurement is the query of a tick.
func (b *builder) measurement() string {
	k, inst := b.key, b.key.instance
	w := "[" + promDuration(k.window) + "]"
	counter := func(signal string) {
		b.add(signal, b.counted(k.window, signal, inst))
	}
	if k.preset == Guard {
		// Gauges are read raw, one series per instance with all its labels, so that the series of a process that is
		// gone cannot mix with its successor's.
		for _, g := range []struct{ signal, template string }{
			{sigSeen, "timestamp($)"},
			{sigSamples, "count_over_time($" + w + ")"},
			{sigBefore, "count_over_time($" + w + " offset " + promDuration(k.window) + ")"},
			{sigLimit, "$"},
			{sigInFlight, "avg_over_time($" + w + ")"},
			{sigServiceTime, "$"},
			{sigRevision, "$"},
			{sigShedThreshold, "$"},
		} {
			b.add(g.signal, b.each(g.template, g.signal))
		}
		b.up("(" + b.over("last_over_time", memory, sigUp) + ")")
		for _, signal := range []string{
			sigOffered, sigAdmitted, sigRefused, sigRefusedByShed, sigRefusedByRate, sigFailed, sigBinding, sigWaited, sigCutShort,
		} {
			counter(signal)
		}
		b.add(sigCutShortSeconds, b.by("sum", b.over("increase", k.window, sigCutShortSeconds), inst, partLabel))
		b.add(sigRefusedElsewhere, b.by("sum", b.over("increase", k.window, sigRefusedElsewhere), inst, reasonLabel))
		for _, signal := range []string{sigClassOffered, sigClassRefused} {
			b.add(signal, b.by("sum", b.over("increase", k.window, signal), inst, criticalityLabel))
		}
		if k.calls {
			b.calls()
		}
	} else {
		// The histogram has many series per instance. Two jobs that scrape it stay separate, so that the duplication is
		// noticed.
		b.add(sigSeen, b.by("max", b.each("timestamp($)", sigSeen), inst, model.JobLabel))
		b.add(sigSamples, b.by("max", b.over("count_over_time", k.window, sigSamples), inst, model.JobLabel))
		b.add(sigBefore, b.by("max", b.each("count_over_time($"+w+" offset "+promDuration(k.window)+")", sigBefore),
			inst, model.JobLabel))
		b.up("(" + b.by("max", b.over("present_over_time", memory, sigUp), inst, model.JobLabel, model.InstanceLabel) + ")")
		for _, signal := range []string{sigTotal, sigRefused, sigFailed} {
			if _, ok := b.from[signal]; ok {
				counter(signal)
			}
		}
		if _, ok := b.from[sigInFlight]; ok {
			b.add(sigInFlight, b.by("sum", b.over("avg_over_time", k.window, sigInFlight), inst))
		}
		b.labels(inst)
	}
	counter(sigCompleted)
	b.add(sigResets, b.by("max", b.over("resets", 2*k.window, sigCompleted), inst))
	b.coverage(sigSeriesBefore, sigEdgesBefore, k.window, inst)
	if b.native != "" {
		b.add(sigLatencySum, "histogram_sum("+b.by("sum", b.over("increase", k.window, sigLatencySum), inst)+")")
	} else {
		counter(sigLatencySum)
	}
	b.within(sigBucket, k.window, inst)
	quantile := strconv.FormatFloat(k.objective, 'f', -1, 64)
	if b.native != "" {
		b.add(sigEdges, b.by("sum", b.each("$", sigEdges))) // a histogram, which tells its buckets
		b.add(sigQuantile, fmt.Sprintf("histogram_quantile(%s, %s)", quantile, b.by("sum", b.over("increase", k.window, sigQuantile))))
		return b.String()
	}
	b.add(sigEdges, b.by("count", b.each("$", sigEdges), model.BucketLabel))
	b.add(sigQuantile, fmt.Sprintf("histogram_quantile(%s, %s)", quantile,
		b.by("sum", b.over("increase", k.window, sigQuantile), model.BucketLabel)))
	return b.String()
}

// coverage counts the series of the histogram at the beginning of a window that ends now, and those that had an edge at
// the SLOs. A service that has been deployed with a new edge lately counts its requests in all of the window, and those
// within the SLO in the latter part of it only: between the two lies no slow request.
func (b *builder) coverage(series, edges string, window time.Duration, by ...string) {
	if b.native != "" {
		return // it has no edges
	}
	then := "$"
	if window > 0 {
		then += " offset " + promDuration(window)
	}
	b.add(series, b.by("count", b.each(then, sigCompleted), by...))
	b.add(edges, b.by("count", b.each(then, sigBucket, b.edges), append(by, model.BucketLabel)...))
}

// up marks the instances in expr that were there lately with whether their target can be scraped now.
func (b *builder) up(expr string) {
	b.add(sigUp, expr+" * 0 + on (job, instance) group_left () max by (job, instance) (up)")
}

// labels counts, for each selector that uses labels of the histogram, the series that have them.
func (b *builder) labels(by ...string) {
	for _, signal := range []string{sigCompleted, sigRefused, sigFailed} {
		if has := hasLabels(signal); b.from[has].metric != "" {
			b.add(has, b.by("count", b.each("$", has), by...))
		}
	}
}

// selectors returns one set of label matchers for each distinct set of identifying labels among the services, except
// that the label with the most values is matched with all its values at once.
func selectors(services []subject, byName bool) []string {
	values := map[string]map[string]bool{}
	for _, s := range services {
		for name, value := range s.ids {
			if values[name] == nil {
				values[name] = map[string]bool{}
			}
			values[name][value] = true
		}
	}
	if len(values) == 0 {
		return []string{""}
	}
	names := slices.Sorted(maps.Keys(values))
	most := slices.MaxFunc(names, func(a, b string) int { return cmp.Compare(len(values[a]), len(values[b])) })

	matched := map[string][]string{}
	for _, s := range services {
		others := maps.Clone(s.ids)
		delete(others, most)
		matched[equalities(others)] = append(matched[equalities(others)], s.ids[most])
	}
	var out []string
	for _, others := range slices.Sorted(maps.Keys(matched)) {
		many := labelName(most) + `!=""`
		if byName {
			many = oneOf(most, matched[others])
		}
		out = append(out, joined(many, others))
	}
	return out
}

// oneOf matches the label with any of the values.
func oneOf(label string, values []string) string {
	if len(values) == 1 {
		return equality(label, values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return labelName(label) + "=~" + strconv.Quote(strings.Join(quoted, "|"))
}

// equalities matches each label with its value.
func equalities(labels map[string]string) string {
	var m []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		m = append(m, equality(name, labels[name]))
	}
	return strings.Join(m, ", ")
}

// equality matches one label, whose name may be any text since Prometheus 3.
func equality(name, value string) string {
	return labelName(name) + "=" + strconv.Quote(value)
}

// joined lists what is not empty.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(parts), func(p string) bool { return p == "" }), ", ")
}

// edgePattern matches the bucket edges at the SLOs of the services, in every spelling: an exporter or an older server
// writes one second as "1", OpenMetrics and Prometheus 3 as "1.0".
func edgePattern(services []subject) string {
	var all []string
	for _, s := range services {
		// Fifteen digits: the conversion from seconds may disturb the sixteenth, which is not part of the edge's name.
		v, _ := strconv.ParseFloat(strconv.FormatFloat(s.edge(), 'g', 15, 64), 64)
		all = append(all, spellings(strconv.FormatFloat(v, 'f', -1, 64))...)
		if text := strconv.FormatFloat(v, 'g', -1, 64); strings.Contains(text, "e") {
			all = append(all, regexp.QuoteMeta(text))
		}
	}
	slices.Sort(all)
	return "le=~" + strconv.Quote(strings.Join(slices.Compact(all), "|"))
}

// spellings are patterns of the ways in which a decimal number is written: with zeros behind it, and with the noise of
// a sum of binary fractions. prometheus.LinearBuckets(0.1, 0.1, 10) has no edge at 0.3 and none at 0.8, but one at
// 0.30000000000000004 and one at 0.7999999999999999. They also match what is merely close; sameEdge decides.
func spellings(decimal string) []string {
	whole, fraction, _ := strings.Cut(decimal, ".")
	exact, noisy := regexp.QuoteMeta(decimal)+"0*", regexp.QuoteMeta(decimal)
	if fraction == "" {
		exact, noisy = whole+`(\.0+)?`, whole+`\.`
	}
	all := []string{exact, noisy + `0{6,}[0-9]+`}
	if below, err := strconv.ParseUint(whole+fraction, 10, 64); err == nil && below > 0 {
		digits := fmt.Sprintf("%0*d", len(fraction)+1, below-1)
		point := len(digits) - len(fraction)
		all = append(all, digits[:point]+`\.`+digits[point:]+`9{6,}[0-9]*`)
	}
	return all
}

// sameEdge says whether the le label is the edge v, however it is spelled.
func sameEdge(le string, v float64) bool {
	e, err := strconv.ParseFloat(le, 64)
	return err == nil && math.Abs(e-v) <= 1e-9*v
}

func promDuration(d time.Duration) string { return model.Duration(d).String() }

// The signals of the burn rates: each over several windows, by service.
func burnSignal(signal string, window time.Duration) string {
	return "burn_" + signal + "_" + promDuration(window)
}

// burnWindows lists the windows of the burn rates.
func burnWindows() []time.Duration {
	var all []time.Duration
	for _, r := range control.BurnRates {
		all = append(all, r.Long, r.Short)
	}
	return all
}

// burn is the query of the burn rates.
func (b *builder) burn() string {
	for _, w := range burnWindows() {
		b.add(burnSignal(sigCompleted, w), b.counted(w, sigCompleted))
		b.within(burnSignal(sigBucket, w), w)
		b.coverage(burnSignal("series", w), burnSignal("edges", w), w)
		if _, ok := b.from[sigFailed]; ok {
			b.add(burnSignal(sigFailed, w), b.counted(w, sigFailed))
		}
	}
	if b.native != "" {
		b.add(sigEdges, b.by("sum", b.each("$", sigEdges)))
	}
	b.coverage(burnSignal("series", 0), burnSignal("edges", 0), 0)
	if b.key.preset == HTTPHistogram {
		b.labels()
	}
	return b.String()
}
