package daemon

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/seed-de83e32b/governor/control"
)

// The alert rules of docs/operations.md are PromQL, and the metrics that they name exist.
func TestAlertRulesNameMetricsThatExist(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "Useful alerts:\n\n```yaml\n")
	text, _, ok := strings.Cut(rest, "```")
	var rules []struct{ Alert, Expr, For string }
	if err := yaml.Unmarshal([]byte(text), &rules); err != nil || !ok || len(rules) < 5 {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	exported := map[string]bool{}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.start(t)
		w.overload()
		pass(time.Minute)
		w.kv.set(func(kv *memoryKV) { kv.refuse["checkout"] = errDown })
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 100 })
		pass(time.Minute)
		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		pass(time.Minute)
		families, err := g.registry.Gather()
		if err != nil {
			t.Error(err)
		}
		for _, f := range families {
			exported[f.GetName()] = true
		}
	})
	for _, rule := range rules {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
		if err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
			continue
		}
		for _, matchers := range parser.ExtractSelectors(expr) {
			for _, m := range matchers {
				if m.Name == model.MetricNameLabel && !exported[m.Value] {
					t.Errorf("%s: governor exports no %s", rule.Alert, m.Value)
				}
			}
		}
	}
}
