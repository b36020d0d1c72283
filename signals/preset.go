package signals

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Preset names a set of metrics the sensor knows how to read.
type Preset string

// The presets.
const (
	// Guard reads the metrics that actuators/guard and the sidecar export.
	Guard Preset = "guard"
	// HTTPHistogram reads a classic histogram that a service already has: see Histogram.
	HTTPHistogram Preset = "http_histogram"
	// Custom reads nothing but Service.Queries.
	Custom Preset = "custom"
)

// Signal names a quantity that a user-supplied query can provide.
type Signal string

// The signals. Queries of counted signals return requests per second, which are multiplied by the window.
const (
	Offered   Signal = "offered"   // arrivals, admitted or refused
	Admitted  Signal = "admitted"  // default: offered − refused
	Refused   Signal = "refused"   // default: none
	Completed Signal = "completed" // admitted requests that finished; default: admitted
	Failed    Signal = "failed"    // admitted requests that failed
	Slow      Signal = "slow"      // completed requests slower than the SLO
	Mean      Signal = "mean"      // mean latency of completed requests, seconds
	Quantile  Signal = "quantile"  // the objective's latency quantile of the service, seconds
	InFlight  Signal = "inflight"  // requests in flight
	Limit     Signal = "limit"     // concurrency limit in force
)

// Signals lists the signals that Service.Queries may name.
func Signals() []Signal {
	return []Signal{Offered, Admitted, Refused, Completed, Failed, Slow, Mean, Quantile, InFlight, Limit}
}

// counted says whether the signal counts requests over the window.
func (s Signal) counted() bool {
	switch s {
	case Offered, Admitted, Refused, Completed, Failed, Slow:
		return true
	}
	return false
}

// Histogram says how the preset http_histogram finds the signals of a service in its existing metrics. Every selector
// also gets the matchers of Service.Labels. Selectors are PromQL, with or without braces: code=~"5..".
type Histogram struct {
	// Metric is the histogram's name without _bucket, _sum or _count: http_request_duration_seconds. It counts a
	// request when the request finishes.
	Metric string
	// Unit is "seconds" or "milliseconds"; "": milliseconds if the name ends in _milliseconds or _ms, else seconds.
	Unit string
	// Selector limits the histogram to the requests that the service is judged by, such as handler!="/healthz".
	Selector string
	// Admitted selects the requests that were admitted, such as code!~"429|503"; the others count as refused. Without
	// it, refused requests, which take no time, make an overloaded service look fast.
	Admitted string
	// Refused selects the refused requests if Admitted does not: in the histogram (code="429"), or, with a metric name,
	// in a counter of its own (http_requests_rejected_total{reason="limit"}).
	Refused string
	// Failed selects the failed ones among the admitted requests, such as code=~"5..".
	Failed string
	// InFlight selects the gauge of the requests in flight, such as http_requests_in_flight.
	InFlight string
}

// NotBinding explains why a service is capped at shadow mode if ShowsBinding is false.
const NotBinding = "its metrics show neither refusals nor requests in flight, so overload cannot be told from a slow " +
	"dependency: the mode is capped at shadow; give metrics: refused, admitted or inflight, or use guard"

// ShowsBinding says whether the metrics of the service show when its limit binds: by refused requests or by requests in
// flight. Otherwise the service must not be enforced; NotBinding says why.
func (s Service) ShowsBinding() bool {
	h := s.Histogram
	_, refused := s.Queries[Refused]
	_, inFlight := s.Queries[InFlight]
	return s.Preset == Guard || s.Preset == "" || refused || inFlight ||
		s.Preset == HTTPHistogram && (h.Refused != "" || h.Admitted != "" || h.InFlight != "")
}

// unit returns one unit of the histogram in seconds.
func (h Histogram) unit() float64 {
	if h.Unit == "milliseconds" ||
		h.Unit == "" && (strings.HasSuffix(h.Metric, "_milliseconds") || strings.HasSuffix(h.Metric, "_ms")) {
		return 1e-3
	}
	return 1
}

var promQL = parser.NewParser(parser.Options{})

// selector is a parsed selector: the metric's name, if it has one, and its matchers.
type selector struct {
	metric   string
	matchers []*labels.Matcher
}

// parseSelector reads a PromQL selector; the braces may be left out.
func parseSelector(text string) (selector, error) {
	if strings.TrimSpace(text) == "" {
		return selector{}, nil
	}
	ms, err := promQL.ParseMetricSelector(text)
	if err != nil {
		var braceless error
		if ms, braceless = promQL.ParseMetricSelector("{" + text + "}"); braceless != nil {
			return selector{}, fmt.Errorf("%q is not a selector such as code=~\"5..\": %w", text, err)
		}
	}
	var s selector
	for _, m := range ms {
		switch {
		case m.Name != model.MetricNameLabel:
			s.matchers = append(s.matchers, m)
		case m.Type != labels.MatchEqual:
			return selector{}, fmt.Errorf("%q: the name of the metric must be given literally", text)
		default:
			s.metric = m.Value
		}
	}
	return s, nil
}

// String lists the matchers.
func (s selector) String() string {
	texts := make([]string, len(s.matchers))
	for i, m := range s.matchers {
		texts[i] = m.String()
	}
	return joined(texts...)
}

// exist matches the series that have the labels used by s.
func (s selector) exist() string {
	texts := make([]string, len(s.matchers))
	for i, m := range s.matchers {
		texts[i] = m.Name + `!=""`
	}
	return joined(texts...)
}

// sources lists where each signal of a valid histogram comes from. A selector of requests with a certain outcome has a
// companion, hasLabels: with it, nothing found means none; without it, that the selector asks about labels that are not
// there.
func (h Histogram) sources(native bool) map[string]source {
	parse := func(text string) selector {
		s, _ := parseSelector(text) // validated
		return s
	}
	all, admitted, refused := parse(h.Selector), parse(h.Admitted), parse(h.Refused)
	if h.Admitted == "" && h.Refused != "" && refused.metric == "" {
		inverse, _ := refused.matchers[0].Inverse() // the only matcher
		admitted.matchers = []*labels.Matcher{inverse}
	}
	count, sum, bucket := h.Metric+"_count", h.Metric+"_sum", h.Metric+"_bucket"
	if native { // one series is all of them
		count, sum, bucket = h.Metric, h.Metric, h.Metric
	}
	every := source{count, all.String()}
	let := joined(all.String(), admitted.String())
	m := map[string]source{
		sigSeen: every, sigUp: every, sigSamples: every, sigBefore: every,
		sigCompleted: {count, let}, sigLatencySum: {sum, let},
		sigBucket: {bucket, let}, sigQuantile: {bucket, let}, sigEdges: {bucket, all.String()},
	}
	outcome := func(signal, matchers string, s selector) {
		m[signal] = source{count, joined(matchers, s.String())}
		m[hasLabels(signal)] = source{count, joined(all.String(), s.exist())}
	}
	if len(admitted.matchers) > 0 {
		outcome(sigCompleted, all.String(), admitted)
	}
	if h.Failed != "" {
		outcome(sigFailed, let, parse(h.Failed))
	}
	switch {
	case refused.metric != "":
		m[sigRefused] = source{refused.metric, refused.String()}
	case h.Refused != "":
		outcome(sigRefused, all.String(), refused)
	case h.Admitted != "":
		m[sigTotal] = every
	}
	if h.InFlight != "" {
		g := parse(h.InFlight)
		m[sigInFlight] = source{g.metric, g.String()}
	}
	return m
}

// validateHistogram reports all errors in the selectors of the service.
func (s *Service) validateHistogram(check func(ok bool, format string, args ...any)) {
	h := s.Histogram
	if s.Preset != HTTPHistogram {
		check(h == Histogram{}, "a histogram is for the preset %s only", HTTPHistogram)
		return
	}
	check(ValidMetricName(h.Metric), "the histogram's metric %q is not a metric name", h.Metric)
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		check(!strings.HasSuffix(h.Metric, suffix), "the histogram's metric %q: leave out the %s", h.Metric, suffix)
	}
	check(h.Unit == "" || h.Unit == "seconds" || h.Unit == "milliseconds",
		"the histogram's unit %q: want seconds or milliseconds", h.Unit)
	for _, f := range []struct {
		name, text string
		named      bool // may or must have a metric of its own
	}{
		{"selector", h.Selector, false},
		{"admitted", h.Admitted, false},
		{"failed", h.Failed, false},
		{"refused", h.Refused, true},
		{"inflight", h.InFlight, true},
	} {
		sel, err := parseSelector(f.text)
		check(err == nil, "%s: %v", f.name, err)
		check(f.named || sel.metric == "", "%s: %q selects from the histogram and must not name a metric", f.name, f.text)
		switch f.name {
		case "inflight":
			check(f.text == "" || err != nil || sel.metric != "", "inflight: %q does not name the metric", f.text)
		case "refused":
			check(f.text == "" || err != nil || sel.metric != "" || len(sel.matchers) > 0,
				"refused: %q selects everything", f.text)
			check(err != nil || sel.metric != "" || len(sel.matchers) < 2 || h.Admitted != "",
				"refused: the complement of %q cannot be written as one selector: set admitted too", f.text)
		}
	}
}

// windowVariable stands for the window in user-supplied queries, so that they follow its changes.
const windowVariable = "$window"

func (s *Service) validateQueries(check func(ok bool, format string, args ...any)) {
	known := map[Signal]bool{}
	for _, signal := range Signals() {
		known[signal] = true
		text, ok := s.Queries[signal]
		if !ok {
			continue
		}
		_, err := parseQuery(text, s.Timing.Window)
		check(err == nil, "query of %s: %v", signal, err)
	}
	for signal := range s.Queries {
		check(known[signal], "query of %q: no such signal (known: %v)", signal, Signals())
	}
	if s.Preset == Custom {
		check(len(s.Labels) == 0, "labels mean nothing to the preset %s: put them into the queries", Custom)
		for _, signal := range []Signal{Offered, Mean} {
			_, ok := s.Queries[signal]
			check(ok, "the preset %s needs a query of %s", Custom, signal)
		}
	}
}

// parseQuery parses a user-supplied query with its window filled in.
func parseQuery(text string, window time.Duration) (parser.Expr, error) {
	expr, err := promQL.ParseExpr(strings.ReplaceAll(text, windowVariable, promDuration(window)))
	switch {
	case err != nil:
		return nil, fmt.Errorf("not PromQL: %w", err)
	case expr.Type() != parser.ValueTypeVector:
		return nil, fmt.Errorf("%q gives a %s: want an instant vector, one sample for each instance", text, expr.Type())
	case len(parser.ExtractSelectors(expr)) == 0:
		return nil, fmt.Errorf("%q reads no series, so its freshness is unknown", text)
	}
	return expr, nil
}
