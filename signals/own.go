package signals

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/seed-de83e32b/governor/control"
)

// ownQuery is a user-supplied query, extended by what shows how fresh its samples are.
type ownQuery struct {
	signal Signal
	query  string
}

// faults says which user-supplied queries have no answer, and why.
type faults map[Signal]control.Reading

// The signals of a user-supplied query in the reply.
func sigQueried(s Signal) string     { return "query_" + string(s) }
func sigQueriedSeen(s Signal) string { return "query_" + string(s) + "_seen" }

func ownQueries(s subject) []ownQuery {
	var all []ownQuery
	for _, signal := range Signals() {
		if text := s.Queries[signal]; text != "" {
			all = append(all, ownQuery{signal, s.ownQuery(signal)})
		}
	}
	return all
}

// ownQuery is the user's expression plus the times of the newest samples of the series that it reads: Prometheus stamps
// the result of an expression with the evaluation time, however old the data is.
func (s subject) ownQuery(signal Signal) string {
	expr, _ := parseQuery(s.Queries[signal], s.Timing.Window) // validated
	var branches []string
	add := func(as, expr string) {
		branches = append(branches, fmt.Sprintf(`label_replace(%s, %q, %q, "", "")`, expr, signalLabel, as))
	}
	newest := func(format string) string { // newest sample of each selector; the oldest of these counts
		var parts []string
		for i, selector := range readBy(expr) {
			parts = append(parts, fmt.Sprintf(`label_replace(max by (%s) (%s), "governor_part", "%d", "", "")`,
				labelName(s.InstanceLabel), strings.Replace(format, "$", selector, 1), i))
		}
		return fmt.Sprintf("min by (%s) (%s)", labelName(s.InstanceLabel), strings.Join(parts, " or "))
	}
	w := promDuration(s.Timing.Window)
	add(sigQueried(signal), "("+expr.String()+")")
	add(sigQueriedSeen(signal), newest("timestamp($)"))
	if s.Preset == Custom && signal == Offered {
		add(sigSeen, newest("timestamp($)"))
		add(sigSamples, newest("count_over_time($["+w+"])"))
		add(sigBefore, newest("count_over_time($["+w+"] offset "+w+")"))
	}
	return strings.Join(branches, "\nor ")
}

// readBy lists the selectors of the series that the expression reads.
func readBy(expr parser.Expr) []string {
	var all []string
	for _, matchers := range parser.ExtractSelectors(expr) {
		all = append(all, "{"+selector{matchers: matchers}.String()+"}")
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// merge adds the answer to a user-supplied query. If the query gives one sample for the whole service, the sample times
// are merged over the instances too.
func (r *reply) merge(s subject, signal Signal, v model.Vector) {
	all := func(model.Metric) (string, bool) { return s.Name, true }
	t := tabulate(v, all, model.LabelName(s.InstanceLabel))
	whole := seriesKey{s.Name, ""}
	values := t.of(sigQueried(signal), s.Name)
	if _, ok := values[whole.instance]; ok && len(values) == 1 {
		for name := range t.by {
			if name == sigQueried(signal) {
				continue
			}
			best := math.Inf(-1)
			for _, sample := range t.service(name, s.Name) {
				best = max(best, sample.value)
			}
			t.by[name] = map[string]perInstance{s.Name: {whole.instance: {{model.Metric{}, best}}}}
		}
	}
	for name := range t.by {
		for instance, samples := range t.of(name, s.Name) {
			r.add(name, seriesKey{s.Name, instance}, samples...)
		}
	}
}

// field returns the field of an instance that holds the signal, nil for signals of the whole service.
func field(in *control.Instance, signal Signal) *control.Reading {
	return map[Signal]*control.Reading{
		Offered: &in.Offered, Admitted: &in.Admitted, Refused: &in.Refused, Completed: &in.Completed, Failed: &in.Failed,
		Slow: &in.Slow, Mean: &in.Mean, InFlight: &in.InFlight, Limit: &in.Limit,
	}[signal]
}

// queried reads the result of a user-supplied query for one instance.
func (r *reply) queried(s subject, signal Signal, k seriesKey, now time.Time, faults faults) control.Reading {
	if fault, failed := faults[signal]; failed {
		return fault
	}
	found, whole := r.of(sigQueried(signal), s.Name), seriesKey{s.Name, ""}
	switch {
	case len(found[k.instance]) == 0 && len(found[whole.instance]) > 0:
		return control.Missing(control.NoData, fmt.Sprintf("the query of %s gives one sample without the label %s, where "+
			"others give one for each: aggregate by (%s)", signal, s.InstanceLabel, s.InstanceLabel))
	case len(found[k.instance]) == 0 && k == whole && len(found) > 0:
		return control.Missing(control.NoData, fmt.Sprintf("the query of %s gives a sample for each %s, where others give one "+
			"for the whole service: aggregate all alike", signal, s.InstanceLabel))
	case len(found[k.instance]) == 0:
		return control.Missing(control.NoData, fmt.Sprintf("the query of %s finds nothing for %s", signal, k.instance))
	}
	reading := s.read(string(signal), found[k.instance])
	v, ok := reading.Value()
	if !ok {
		return reading
	}
	// If the query reads no samples of its own, its freshness is unknown and it is not trusted.
	age := math.Inf(1)
	for _, seen := range r.at(sigQueriedSeen(signal), k) {
		age = float64(now.UnixMilli())/1000 - seen.value
	}
	if !(age <= s.StaleAfter.Seconds()) {
		return control.Missing(control.Stale, fmt.Sprintf("the query of %s: %s", signal, s.stale(age)))
	}
	if signal.counted() {
		v *= s.Timing.Window.Seconds()
	}
	return control.Read(v)
}

// queriedQuantile reads the single quantile that a user-supplied query gives.
func (r *reply) queriedQuantile(s subject, idle bool, faults faults) control.Reading {
	if fault, failed := faults[Quantile]; failed {
		return fault
	}
	found := r.service(sigQueried(Quantile), s.Name)
	if len(found) == 1 && math.IsNaN(found[0].value) && idle {
		return control.Missing(control.Idle, fmt.Sprintf("no request finished in %s", s.Timing.Window))
	}
	return s.read(string(Quantile), found)
}
