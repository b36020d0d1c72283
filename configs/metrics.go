package configs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/configs/internal/strict"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
)

// metrics checks how to find the service in Prometheus, and reports each problem at its own key.
func (c *checker) metrics(m *Metrics, at string) {
	preset := signals.Preset(m.Preset)
	for label := range m.Labels {
		k := strict.Join(at+".labels", label)
		if !signals.ValidLabelName(label) {
			c.doc.Add(k, "%q; expected a label name: letters, digits and underscores, no digit first", label)
		} else if label == "service" && preset == signals.Guard {
			c.doc.Add(k, "the label service is reserved for the service's name; expected other labels")
		}
	}
	switch k := at + ".instance_label"; {
	case !c.doc.Has(k):
	case preset == signals.Guard:
		c.doc.Add(k, "preset guard tells instances apart by the label instance; expected another preset, or no instance_label")
	case !signals.ValidLabelName(m.InstanceLabel):
		c.doc.Add(k, "%q; expected a label name: letters, digits and underscores, no digit first", m.InstanceLabel)
	}
	switch k := at + ".histogram"; {
	case m.Histogram != nil && preset != signals.HTTPHistogram:
		c.doc.Add(k, "set with preset %s, which reads no histogram of yours; expected preset: http_histogram", m.Preset)
	case m.Histogram != nil && c.doc.OK(k):
		c.histogram(m, k)
	case m.Histogram == nil && preset == signals.HTTPHistogram && c.doc.OK(k) && !c.doc.Misspelled(at):
		c.doc.Add(at, "preset http_histogram needs a histogram; expected histogram: {metric: …}")
	}
	c.queries(m, at+".queries")
}

func (c *checker) histogram(m *Metrics, at string) {
	h := m.Histogram
	if k := at + ".metric"; !signals.ValidMetricName(h.Metric) {
		c.doc.Add(k, "%q; expected the name of a metric, like http_request_duration_seconds", h.Metric)
	} else if i := strings.LastIndex(h.Metric, "_"); i > 0 && slices.Contains([]string{"_bucket", "_sum", "_count"}, h.Metric[i:]) {
		c.doc.Add(k, "%q; expected the name without %s: %s", h.Metric, h.Metric[i:], h.Metric[:i])
	}
	for _, s := range []struct{ key, text, metric string }{
		{"selector", h.Selector, "no"},
		{"admitted", h.Admitted, "no"},
		{"failed", h.Failed, "no"},
		{"refused", h.Refused, "may"},
		{"inflight", h.InFlight, "must"},
	} {
		k := strict.Join(at, s.key)
		if !c.doc.Has(k) {
			continue
		}
		named, ok := c.selector(k, s.text)
		switch {
		case !ok:
		case named && s.metric == "no":
			c.doc.Add(k, "%q names a metric, but selects from the histogram; expected matchers, like code=~\"5..\"", s.text)
		case !named && s.metric == "must":
			c.doc.Add(k, "%q names no metric; expected the name of a gauge, like http_requests_in_flight", s.text)
		}
	}
	if len(m.Labels) == 0 && h.Selector == "" {
		c.warn(at, "neither labels nor a selector: every series of %s in Prometheus counts as this service", h.Metric)
	}
}

// selector reports problems with a selector, whose braces may be left out, and whether it names a metric.
func (c *checker) selector(at, text string) (named, ok bool) {
	if strings.TrimSpace(text) == "" {
		c.doc.Add(at, "no selector; expected matchers, like code=~\"5..\", or nothing at all")
		return false, false
	}
	// There are braces if one comes before anything quoted.
	open, closed := "{", "}"
	if i := strings.IndexAny(text, "{\"'`"); i >= 0 && text[i] == '{' {
		open, closed = "", ""
	}
	matchers, err := promQL.ParseMetricSelector(open + text + closed)
	if err != nil && open != "" {
		if bare, bareErr := promQL.ParseMetricSelector(text); bareErr == nil { // a name alone
			matchers, err = bare, nil
		}
	}
	if err != nil {
		offset, complaint := offense(err)
		c.promQL(at, text, offset-len(open), complaint)
		return false, false
	}
	for _, m := range matchers {
		named = named || m.Name == model.MetricNameLabel
	}
	return named, true
}

// windowVariable stands for the window in a query. For the syntax check a duration of the same length replaces it, so
// that the parser's positions match the file.
const (
	windowVariable = "$window"
	windowStandIn  = "000001s"
)

func (c *checker) queries(m *Metrics, at string) {
	own := m.Queries.bySignal()
	for _, signal := range slices.Sorted(maps.Keys(own)) {
		k, text := strict.Join(at, string(signal)), *own[signal]
		if !c.doc.Has(k) {
			continue
		}
		expr, err := promQL.ParseExpr(strings.ReplaceAll(text, windowVariable, windowStandIn))
		switch {
		case strings.TrimSpace(text) == "":
			c.doc.Add(k, "no query; expected PromQL")
		case err != nil:
			offset, complaint := offense(err)
			c.promQL(k, text, offset, complaint)
		case expr.Type() != parser.ValueTypeVector:
			c.doc.Add(k, "returns a %s; expected an instant vector, with one sample per instance or one for all",
				parser.DocumentedType(expr.Type()))
		case len(parser.ExtractSelectors(expr)) == 0:
			c.doc.Add(k, "reads no series, so its age is unknown; expected a query of the service's metrics")
		}
	}
	if signals.Preset(m.Preset) != signals.Custom || !c.doc.OK(at) {
		return
	}
	for _, signal := range []signals.Signal{signals.Offered, signals.Mean} {
		if k := strict.Join(at, string(signal)); !c.doc.Has(k) {
			c.doc.Add(k, "missing; preset custom needs a query for it")
		}
	}
}

var promQL = parser.NewParser(parser.Options{})

// offense returns the byte offset where the parser stopped, and why.
func offense(err error) (offset int, text string) {
	var first *parser.ParseErr
	var all parser.ParseErrors
	switch {
	case errors.As(err, &all) && len(all) > 0:
		first = &all[0]
	case !errors.As(err, &first):
		return 0, err.Error()
	}
	return int(first.PositionRange.Start), first.Err.Error()
}

// promQL reports a mistake in a PromQL text, at its own position in the file if that is known, and says where in the
// text.
func (c *checker) promQL(at, text string, offset int, complaint string) {
	offset = min(max(offset, 0), len(text))
	before := text[:offset]
	line := 1 + strings.Count(before, "\n")
	column := 1 + utf8.RuneCountInString(before[1+strings.LastIndex(before, "\n"):])
	complaint = strings.ReplaceAll(complaint, windowStandIn, windowVariable)
	c.doc.AddWithin(at, text, offset, "not PromQL at %d:%d of the text: %s", line, column,
		strings.Join(strings.Fields(complaint), " "))
}

// bySignal returns the fields of q by name.
func (q *Queries) bySignal() map[signals.Signal]*string {
	return map[signals.Signal]*string{
		signals.Offered: &q.Offered, signals.Admitted: &q.Admitted, signals.Refused: &q.Refused,
		signals.Completed: &q.Completed, signals.Failed: &q.Failed, signals.Slow: &q.Slow,
		signals.Mean: &q.Mean, signals.Quantile: &q.Quantile, signals.InFlight: &q.InFlight, signals.Limit: &q.Limit,
	}
}

// signal returns the sensor's view of a service or a route.
func (c *Config) signal(name string) signals.Service {
	s := c.Compartment(name)
	m := s.Metrics
	service := signals.Service{
		Name: name,
		SLO: control.SLO{
			Latency: s.SLO.Latency.std(), Objective: float64(s.SLO.Objective), Errors: float64(s.SLO.Errors),
		},
		Timing: c.timing(name), Learned: c.Learns(name), Native: c.Learned[name].Native, Preset: signals.Preset(m.Preset), Labels: m.Labels, InstanceLabel: m.InstanceLabel,
		StaleAfter: s.Tuning.StaleAfter.std(),
	}
	// A route has no calls of its own. It asks like its service, so that one query reads both.
	of, _ := actuators.SplitCompartment(name)
	calling := cmp.Or(c.Services[of], s)
	service.Calls = service.Preset == signals.Guard && (calling.Calls != nil || calling.Retry != nil)
	for to := range s.Calls {
		service.Callees = append(service.Callees, to)
	}
	slices.Sort(service.Callees)
	if h := m.Histogram; h != nil {
		service.Histogram = signals.Histogram(*h)
	}
	for signal, text := range m.Queries.bySignal() {
		if *text == "" {
			continue
		}
		if service.Queries == nil {
			service.Queries = map[signals.Signal]string{}
		}
		service.Queries[signal] = *text
	}
	return service
}

// sensor asks the sensor itself whether it can work with the service, so that the sensor never refuses what this
// package accepts. It also says what the metrics cannot show.
func (c *checker) sensor(cfg *Config, name, at string) {
	s, service := cfg.Compartment(name), cfg.signal(name)
	local := signals.Options{URL: "http://localhost", RoundTripper: http.DefaultTransport} // nothing is sent
	if _, err := signals.New(local, []signals.Service{service}); err != nil {
		text := strings.TrimPrefix(err.Error(), fmt.Sprintf("service %q: ", name))
		c.doc.Add(at+".metrics", "%s", strings.Join(strings.Fields(text), " "))
		return
	}
	if s.Mode == string(control.Enforce) && !service.ShowsBinding() {
		c.warn(at+".mode", "%s", signals.NotBinding)
	}
	if s.Shed != nil && service.Preset != signals.Guard && s.Shed.Min != s.Shed.Max {
		c.warn(at+".shed", "preset %s shows no criticalities, so nothing will steer the threshold", s.Metrics.Preset)
	}
}
