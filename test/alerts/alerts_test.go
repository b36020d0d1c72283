package alerts

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/template"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/explain"
)

const file = "../../packaging/alerts.yml"

// rules are the alerts by name, in the order of the file.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(raw, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) != 1 {
		t.Fatal("expected one group of alerts")
	}
	return groups.Groups[0].Rules
}

// at is when the alerts of these tests are evaluated.
var at = time.Date(2026, time.November, 24, 14, 3, 27, 0, time.UTC)

// filled is an annotation as Prometheus fills it for an alert with these labels and this value.
func filled(t *testing.T, text string, value float64, labels map[string]string) string {
	t.Helper()
	const names = `{{ $labels := .Labels }}{{ $value := .Value }}`
	got, err := template.NewTemplateExpander(context.Background(), names+text, "alert",
		template.AlertTemplateData(labels, nil, "", promql.Sample{F: value}), model.TimeFromUnix(at.Unix()), nil, &url.URL{}, nil).Expand()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

// TestAlertsSayWhatExplainSays: an alert on a state uses the sentence of govtop and explain for it.
func TestAlertsSayWhatExplainSays(t *testing.T) {
	stated := regexp.MustCompile(`state=~?"([a-z_|]+)"`)
	told := 0
	for _, r := range rules(t) {
		found := stated.FindStringSubmatch(r.Expr)
		if found == nil {
			continue
		}
		for state := range strings.SplitSeq(found[1], "|") {
			told++
			labels := map[string]string{"service": "checkout", "knob": "concurrency", "state": state}
			want := "checkout/concurrency: " + explain.Means(control.State(state))
			if got := filled(t, r.Annotations["summary"], 1, labels); got != want || explain.Means(control.State(state)) == "" {
				t.Errorf("%s says %q, explain says %q", r.Alert, got, want)
			}
		}
	}
	if told < 5 {
		t.Errorf("%d states have an alert, expected more", told)
	}
	for _, r := range rules(t) {
		switch labels := map[string]string{"service": "checkout", "knob": "rate"}; r.Alert {
		case "GovernorHolds":
			want := "checkout/rate: " + explain.Means(control.Hold)
			if got := filled(t, r.Annotations["summary"], 1, labels); got != want {
				t.Errorf("%s says %q, explain says %q", r.Alert, got, want)
			}
		case "CulpritKnown":
			for _, culprit := range []string{"payments", "checkout"} {
				d := control.NewDecision("checkout", control.KnobShed)
				d.Inputs.Culprit = culprit
				labels := map[string]string{"service": "checkout", "culprit": culprit}
				if got := filled(t, r.Annotations["summary"], 1, labels); got != d.Blame() {
					t.Errorf("%s says %q, explain says %q", r.Alert, got, d.Blame())
				}
			}
		case "RefusesMuch":
			d := control.NewDecision("checkout", control.KnobRate)
			d.Inputs.RefusedShare = 0.67
			want := "checkout: " + explain.Refused(api.Loop{Decision: d})
			if got := filled(t, r.Annotations["summary"], 0.67, labels); got != want {
				t.Errorf("%s says %q, explain says %q", r.Alert, got, want)
			}
		}
	}
}

// TestAlertsGiveACommandThatGovtopUnderstands, with the loop and the time of the alert.
func TestAlertsGiveACommandThatGovtopUnderstands(t *testing.T) {
	for _, r := range rules(t) {
		look := filled(t, r.Annotations["look"], 1, map[string]string{"service": "checkout", "knob": "calls/payments", "state": "at_max"})
		args := strings.Fields(strings.ReplaceAll(look, "'", ""))
		app := kingpin.New("govtop", "")
		app.Terminate(nil).UsageWriter(&bytes.Buffer{})
		app.Flag("once", "").Bool()
		app.Flag("check", "").Bool()
		app.Flag("filter", "").String()
		loop, when := app.Flag("loop", "").String(), app.Flag("at", "").String()
		if _, err := app.Parse(args[1:]); err != nil || args[0] != "govtop" {
			t.Errorf("%s: %s: %v", r.Alert, look, err)
		}
		if strings.Contains(r.Annotations["summary"], "$labels.knob") && *loop != "checkout/calls/payments" {
			t.Errorf("%s is about a loop, and its command is %s", r.Alert, look)
		}
		if got, err := api.ParseInstant(*when, time.Time{}); *when != "" && (err != nil || !got.Equal(at)) {
			t.Errorf("%s: --at %s: %v, %v", r.Alert, *when, got, err)
		}
	}
}

// TestAlertsUseMetricsThatThereAre, and the manual lists the same alerts.
func TestAlertsUseMetricsThatThereAre(t *testing.T) {
	source, err := os.ReadFile("../../daemon/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := regexp.MustCompile("(?m)^\\| `([A-Z]\\w+)` \\|").FindAllStringSubmatch(string(page), -1)
	var listed, there []string
	for _, m := range manual {
		listed = append(listed, m[1])
	}
	for _, r := range rules(t) {
		there = append(there, r.Alert)
		for _, metric := range regexp.MustCompile(`governor_\w+`).FindAllString(r.Expr, -1) {
			if !bytes.Contains(source, []byte(`"`+metric+`"`)) {
				t.Errorf("%s uses %s, which governor does not have", r.Alert, metric)
			}
		}
	}
	if !slices.Equal(listed, there) {
		t.Errorf("docs/operations.md lists the alerts\n     %v, the file has\n     %v", listed, there)
	}
}
