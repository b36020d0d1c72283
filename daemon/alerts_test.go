package daemon

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/seed-de83e32b/governor/control"
)

// The alert rules are PromQL, and the metrics that they name exist.
func TestAlertRulesNameMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile("../packaging/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil || len(file.Groups) != 1 {
		t.Fatalf("%d groups, %v", len(file.Groups), err)
	}
	rules := file.Groups[0].Rules
	if len(rules) < 5 {
		t.Fatalf("%d rules", len(rules))
	}
	exported := map[string]bool{}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		w.calling("checkout", 20*time.Millisecond)
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.start(t)
		look := func() {
			pass(time.Minute)
			families, err := g.registry.Gather()
			if err != nil {
				t.Error(err)
			}
			for _, f := range families {
				exported[f.GetName()] = true
			}
		}
		look()
		w.overload()
		look()
		w.kv.set(func(kv *memoryKV) { kv.refuse["checkout"] = errDown })
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 100 })
		look()
		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		look()
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
