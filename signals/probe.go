package signals

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
)

// Probe is what the sensor finds out about one service, for people who are setting it up.
type Probe struct {
	Service     string
	Measurement control.Measurement // what a loop would receive, including burn rates
	Signals     []Found             // in the order of a request's lifetime
	Arrivals    control.Reading     // in one window, over all instances

	Edges []time.Duration // finite bucket edges, ascending; empty where there is no histogram
	// Below and Above are the edges next to the SLO, 0: none. AtSLO says that an edge lies exactly at the SLO; without
	// it slow requests cannot be counted.
	Below, Above time.Duration
	AtSLO        bool

	Scrape         time.Duration   // as configured or learned
	Learned        bool            // nobody has configured it
	ObservedScrape control.Reading // seconds, as found in the data
	Method         string          // method that Prometheus answered: POST or GET
	Took           time.Duration   // the slowest query
	Advice         []string        // what to change and why, most important first
	Unlabeled      []string        // labels in selectors that their metric lacks: "http_requests_total has no label status"
}

// Found is one signal of a Probe.
type Found struct {
	Signal   Signal
	Selector string          // a selector, or the user's query
	Series   control.Reading // number of series it matches now
	Age      control.Reading // of the newest sample, seconds
	Value    control.Reading // counts: over the window and all instances; otherwise the mean over the instances
	Unit     string          // of Value: requests, seconds, or ""
}

// outcomeLabels are the labels that commonly carry the outcome of a request in HTTP metrics.
var outcomeLabels = []string{
	"code", "status", "status_code", "http_status_code", "http_response_status_code", "response_code", "outcome",
	"grpc_code", "grpc_status", "grpc_response_status", "rpc_grpc_status_code", "http.response.status_code", "rpc.grpc.status_code",
}

// Probe measures one service once, thoroughly, and says what to improve. It sends a few queries, each with the deadline
// of Options.Timeout, and does not affect groups and their health. It returns an error only for an unknown service; the
// Measurement reports problems with Prometheus.
func (s *Sensor) Probe(ctx context.Context, service string) (Probe, error) {
	for _, g := range s.groups {
		for _, sub := range g.services {
			if sub.Name == service {
				return s.probe(ctx, g, sub), nil
			}
		}
	}
	return Probe{}, fmt.Errorf("probe %q: no such service", service)
}

func (s *Sensor) probe(ctx context.Context, of *Group, sub subject) Probe {
	g := s.group(sub)
	g.deadline = deadline(s.options.Timeout, math.MaxInt64)
	g.prepare(ctx, s.options)
	now := time.Now().Truncate(time.Millisecond)
	p := Probe{Service: sub.Name, Scrape: sub.Timing.Scrape, Learned: sub.Learned, Method: http.MethodPost}
	if s.options.Method != "" {
		p.Method = s.options.Method
	}

	r, a, faults := g.snapshot(ctx, now)
	switch {
	case p.Method == http.MethodGet:
	case a.reason == control.QueryError && a.method == http.MethodPost && hint(a.exchange) != "":
		g.api = v1.NewAPI(&client{Client: s.client.Client, get: true})
		if r2, a2, faults2 := g.snapshot(ctx, now); a2.reason == "" {
			p.advise("Prometheus refuses POST (status %d) and answers GET: set prometheus: {http_method: GET}", a.status)
			r, a, faults, p.Method = r2, a2, faults2, http.MethodGet
		}
	case a.reason == "" && a.method == http.MethodGet: // the API package tried again
		p.advise("Prometheus refuses POST and answers GET, so each query is sent twice: " +
			"set prometheus: {http_method: GET}")
		p.Method = http.MethodGet
	}
	if a.reason != "" {
		p.Measurement = g.invalid(now, a.took, a.reason, a.detail)[0]
		p.Took = a.took
		return p
	}
	p.Measurement = control.Measurement{
		Service: sub.Name, At: now, Window: sub.Timing.Window, Took: a.took, Partial: a.partial,
	}
	if a.skew.Abs() > sub.StaleAfter {
		p.Measurement.Invalid, p.Measurement.Detail = control.Clock, skewDetail(a.skew)
	} else {
		r.fill(&p.Measurement, sub, now, faults)
	}
	p.Took = a.took
	p.ObservedScrape = r.observedScrape(sub.Timing.Window)
	p.edges(r, sub)

	if g.burn.query != "" {
		b := g.ask(ctx, g.burn.query, now, g.deadline)
		g.burn.take(g, now, b)
		p.Took = max(p.Took, b.took)
	}
	p.Measurement.Burn = g.burn.of(sub, now)
	raw := g.ask(ctx, sub.raw(), now, g.deadline)
	p.Took = max(p.Took, raw.took)
	counts := tabulate(raw.vector, func(model.Metric) (string, bool) { return sub.Name, true }, "")
	p.signals(r, counts, sub, now)
	if raw.reason != "" {
		p.advise("the series could not be counted: %s", raw.detail)
	}
	p.Arrivals = p.value(Offered)

	p.tryLabels(ctx, g, sub, now)
	var names []string
	if sub.Preset == HTTPHistogram {
		found, _, _, err := g.api.LabelNames(ctx, []string{sub.selector(sigSeen)}, now.Add(-time.Hour), now)
		if err == nil {
			for _, n := range found {
				names = append(names, string(n))
			}
		}
	}
	p.judge(sub, names, of.deadline)
	return p
}

func (p *Probe) advise(format string, args ...any) {
	p.Advice = append(p.Advice, fmt.Sprintf(format, args...))
}

// raw is the query that counts the series of each signal and finds how fresh they are.
func (s subject) raw() string {
	var branches []string
	add := func(signal, expr string) {
		branches = append(branches, fmt.Sprintf(`label_replace(%s, %q, %q, "", "")`, expr, signalLabel, signal))
	}
	for _, signal := range slices.Sorted(maps.Keys(s.from)) {
		add("series_"+signal, "count("+s.selector(signal)+")")
		add("newest_"+signal, "max(timestamp("+s.selector(signal)+"))")
	}
	if len(branches) == 0 {
		return "vector(0)"
	}
	return strings.Join(branches, "\nor ")
}

// presetSignal maps the signals that a user-supplied query can provide to those of the presets.
var presetSignal = map[Signal]string{
	Offered: sigOffered, Admitted: sigAdmitted, Refused: sigRefused, Completed: sigCompleted, Failed: sigFailed,
	Slow: sigBucket, Mean: sigLatencySum, Quantile: sigQuantile, InFlight: sigInFlight, Limit: sigLimit,
}

// signals lists what was found, signal by signal: r is the reply of the tick, raw the reply about the series.
func (p *Probe) signals(r, raw *reply, s subject, now time.Time) {
	at := float64(now.UnixMilli()) / 1000
	for _, signal := range Signals() {
		f := Found{Signal: signal, Value: p.value(signal), Unit: "requests"}
		if signal == Mean || signal == Quantile {
			f.Unit = "seconds"
		}
		f.Series = control.Missing(control.NoData, "")
		f.Age = control.Missing(control.NoData, "")
		preset := presetSignal[signal]
		switch {
		case s.Queries[signal] != "":
			f.Selector = s.Queries[signal]
			f.Series = control.Read(float64(len(r.service(sigQueried(signal), s.Name))))
			newest := math.Inf(-1)
			for _, seen := range r.service(sigQueriedSeen(signal), s.Name) {
				newest = max(newest, seen.value)
			}
			f.Age = control.Read(at - newest)
		case s.from[preset].metric != "":
			f.Selector = s.selector(preset)
			if len(raw.by) > 0 { // otherwise nothing has been counted
				f.Series = control.Read(0)
			}
			if n := only(raw, "series_"+preset); !math.IsNaN(n) {
				f.Series = control.Read(n)
				f.Age = control.Read(at - only(raw, "newest_"+preset))
			}
		}
		p.Signals = append(p.Signals, f)
	}
}

// only is the value of a signal that has one sample in the reply, of whatever service or instance.
func only(r *reply, signal string) float64 {
	for _, instances := range r.by[signal] {
		for _, samples := range instances {
			return samples[0].value
		}
	}
	return math.NaN()
}

// value aggregates a signal over the instances: the sum for counts, the mean otherwise.
func (p *Probe) value(signal Signal) control.Reading {
	if signal == Quantile {
		return p.Measurement.Quantile
	}
	sum, weight := 0.0, 0.0
	missing := control.Missing(cmp.Or(p.Measurement.Invalid, control.NoData), p.Measurement.Detail)
	for i := range p.Measurement.Instances {
		in := p.Measurement.Instances[i]
		reading := *field(&in, signal)
		v, ok := reading.Value()
		if !ok {
			missing = reading
			continue
		}
		w := 1.0
		if signal == Mean {
			w = in.Completed.Or(0)
		}
		sum, weight = sum+w*v, weight+w
	}
	switch {
	case weight == 0:
		return missing
	case signal.counted():
		return control.Read(sum)
	}
	return control.Read(sum / weight)
}

// edges lists the bucket edges and those next to the SLO.
func (p *Probe) edges(r *reply, s subject) {
	for _, le := range r.edges(s.Name) {
		v, err := strconv.ParseFloat(le, 64)
		if err != nil || math.IsInf(v, 0) || !(v > 0) || v*s.Histogram.unit() > math.MaxInt64/1e9 {
			continue
		}
		edge := time.Duration(math.Round(v * s.Histogram.unit() * 1e9))
		if n := len(p.Edges); n > 0 && p.Edges[n-1] == edge {
			continue // the same edge, spelled differently
		}
		p.Edges = append(p.Edges, edge)
		switch {
		case sameEdge(le, s.edge()):
			p.AtSLO = true
		case v < s.edge():
			p.Below = edge
		case p.Above == 0:
			p.Above = edge
		}
	}
	if s.native() != "" { // between two edges close to each other the count may be interpolated
		p.AtSLO = p.AtSLO || r.straddled(s) == ""
	}
}

// percentileSamples is how many requests must lie beyond a percentile before it says anything.
const percentileSamples = 10

// judge turns the findings into advice.
func (p *Probe) judge(s subject, labels []string, deadline time.Duration) {
	m := p.Measurement
	if m.Invalid != "" {
		p.advise("%s: %s", m.Invalid, m.Detail)
	}
	if m.Partial != "" {
		p.advise("Prometheus answers only in part (%s): governor then only tightens", m.Partial)
	}
	if !s.ShowsBinding() {
		p.advise("%s", NotBinding)
	}
	if m.Capped != "" {
		p.advise("%s", p.whichLabel(m.Capped, s, labels))
	}
	p.judgeSeparation(s, labels)
	if s.Preset != Custom && s.Queries[Slow] == "" && len(p.Edges) > 0 && !p.AtSLO {
		p.advise("no bucket edge at the SLO of %s (next to it: %s): slow requests cannot be counted, and governor only "+
			"tightens; add an edge, or move the SLO to one", s.SLO.Latency, p.next())
	}
	if s.Preset == Custom && s.Queries[Slow] == "" {
		p.advise("no query of %s: slow requests cannot be counted, and governor only tightens", Slow)
	}
	for _, f := range p.Signals {
		n, counted := f.Series.Value()
		age, aged := f.Age.Value()
		switch {
		case counted && n == 0 && f.Signal == Failed && s.Preset == HTTPHistogram:
			p.advise("%s matches no series now: nothing has failed lately, or it is misspelled", f.Selector)
		case counted && n == 0:
			p.advise("%s: nothing found for %s", f.Signal, f.Selector)
		case aged && age > s.StaleAfter.Seconds():
			p.advise("%s: the newest sample is %s old, more than %s", f.Signal, seconds(age),
				seconds(s.StaleAfter.Seconds()))
		}
	}
	if m.Invalid == "" {
		p.judgeCalls(s)
	}
	if failed := p.value(Failed); s.SLO.Errors > 0 {
		if why, detail := failed.Why(); why != "" && m.Invalid == "" {
			p.advise("failed requests cannot be counted, and governor only tightens: %s", detail)
		}
	}
	if got, ok := p.ObservedScrape.Value(); ok {
		if want := p.Scrape.Seconds(); !p.Learned && math.Abs(got-want) > 0.2*want {
			p.advise("scraped every %s, configured %s: set timing: {scrape_interval: %s}, all delays derive from it",
				seconds(got), promDuration(p.Scrape), promDuration(control.RoundInterval(got)))
		}
		if s.Timing.Window.Seconds() < 3.5*got {
			p.advise("the window of %s holds fewer than 4 samples, scraped every %s: widen it", s.Timing.Window, seconds(got))
		}
	}
	if n, ok := p.Arrivals.Value(); ok {
		if n < burnRequests {
			p.advise("%s requests in the window of %s: with fewer than %d governor does not judge; widen the window if "+
				"this is usual", format.Count(n), s.Timing.Window, burnRequests)
		} else if need := percentileSamples / (1 - s.SLO.Objective); n < need {
			p.advise("%s requests in the window of %s: the p%s needs %.0f, so the target stays at its default",
				format.Count(n), s.Timing.Window, strconv.FormatFloat(100*s.SLO.Objective, 'f', -1, 64), need)
		}
	}
	if p.Took > deadline/2 {
		p.advise("the slowest query took %s, the deadline in operation is %s", p.Took.Round(time.Millisecond), deadline)
	}
}

// judgeCalls looks for the services that this one is expected to call.
func (p *Probe) judgeCalls(s subject) {
	known := map[string]bool{}
	for _, in := range p.Measurement.Instances {
		for _, c := range in.Calls {
			known[c.To] = true
		}
	}
	for _, to := range s.Callees {
		if known[to] {
			continue
		}
		seen := "they have none at all"
		if len(known) > 0 {
			seen = "they have calls to " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
		}
		p.advise("calls to %s: nothing found for %s{%s}, so its bulkhead gets no target from governor; the metrics have an entry "+
			"from the first call on that the service makes through guard, under the name that it gives there, and %s",
			to, callPrefix+"limit", joined(equality(toLabel, to), equalities(s.ids)), seen)
	}
}

// whichLabel adds to the text which of the labels of the histogram would tell the instances apart.
func (p *Probe) whichLabel(text string, s subject, labels []string) string {
	for _, name := range identities {
		if s.Preset == HTTPHistogram && string(name) != s.InstanceLabel && slices.Contains(labels, string(name)) {
			return text + fmt.Sprintf("; %s has the label %s: instance_label: %s", s.Histogram.Metric, name, name)
		}
	}
	return text
}

// judgeSeparation warns where refused requests may be among those whose latency is measured: they take no time, and an
// overloaded service would look fast.
func (p *Probe) judgeSeparation(s subject, labels []string) {
	if s.Preset != HTTPHistogram || s.from[hasLabels(sigCompleted)].metric != "" || s.Queries[Mean] != "" {
		return
	}
	for _, name := range outcomeLabels {
		if slices.Contains(labels, name) {
			p.advise("no selector tells admitted from refused requests: if %s counts refusals too, they make an overloaded "+
				"service look fast; set admitted, such as %s!~\"429|503\"", s.Histogram.Metric, name)
			return
		}
	}
	found := "it has none at all"
	labels = slices.DeleteFunc(slices.Clone(labels), func(n string) bool { return n == model.MetricNameLabel })
	if len(labels) > 0 {
		found = "it has " + strings.Join(labels, ", ")
	}
	p.advise("%s has no label that separates refused from admitted requests (%s): if it counts refusals too, they make "+
		"an overloaded service look fast", s.Histogram.Metric, found)
}

// next names the edges next to the SLO.
func (p *Probe) next() string {
	switch {
	case p.Below == 0:
		return p.Above.String()
	case p.Above == 0:
		return p.Below.String()
	}
	return p.Below.String() + " and " + p.Above.String()
}
