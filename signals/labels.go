package signals

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// labelSpan is how far back the labels of a metric are looked up.
const labelSpan = time.Hour

// tryLabels tries every matcher of the user's selectors and queries against the labels that the metric has. A matcher on a
// label that it lacks is a silent mistake: it selects nothing, or, if it is negative, everything.
func (p *Probe) tryLabels(ctx context.Context, g *Group, s subject, now time.Time) {
	if s.Preset == Guard && len(s.Labels) == 0 {
		return // the selectors are governor's own
	}
	have := map[string][]string{} // label names by metric
	said := map[string]bool{}
	for _, f := range p.Signals {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(f.Selector)
		if err != nil {
			continue // no selector, or already reported
		}
		for _, selector := range parser.ExtractSelectors(expr) {
			metric := ""
			for _, m := range selector {
				if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
					metric = m.Value
				}
			}
			if metric == "" {
				continue
			}
			names, known := have[metric]
			if !known {
				found, _, _, err := g.api.LabelNames(ctx, []string{fmt.Sprintf("{%s=%q}", model.MetricNameLabel, metric)},
					now.Add(-labelSpan), now)
				if err != nil {
					return // what Prometheus cannot answer is reported elsewhere
				}
				for _, n := range found {
					if n != model.MetricNameLabel {
						names = append(names, string(n))
					}
				}
				have[metric] = names
			}
			for _, m := range selector {
				absent := m.Type == labels.MatchEqual && m.Value == "" // true of a label that is not there
				what := fmt.Sprintf("%s has no label %s", metric, m.Name)
				if len(names) == 0 || m.Name == model.MetricNameLabel || absent || slices.Contains(names, m.Name) || said[what] {
					continue
				}
				said[what] = true
				p.Unlabeled = append(p.Unlabeled, what)
				effect := "selects nothing"
				if m.Matches("") {
					effect = "selects everything"
				}
				p.advise("%s: %s, so %s %s; it has %s", f.Signal, what, m, effect, strings.Join(names, ", "))
			}
		}
	}
}
