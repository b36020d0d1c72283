package configs

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
)

var yamlBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// metricsFile is a file with one service and the given metrics.
func metricsFile(metrics string) string {
	return "prometheus: {url: \"http://p:1\"}\nservices:\n  a:\n    slo: {latency: 1s}\n" +
		"    rate: {min: 0.1/s, max: 600/m}\n    metrics: " + metrics
}

// FuzzParse: for any bytes, Parse does not panic; what it refuses has problems, each on a line of the file; what it
// accepts, control and signals accept as well.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"minimal.yml", "annotated.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range []string{
		"", "\t", "\xef\xbb\xbfa: b", "%YAML 9\n", "a: b\n---\nc: d", "prometheus: !!binary x",
		"a: &a {<<: *a}", "services: &s {a: *s}", "services: {? [a] : b}",
		"services: {a: !t b}",
		"services: {a: {slo: {latency: 9223372036854775807ms, errors: 1e400%}}}",
		"prometheus: {url: \"http://p:1\"}\n" +
			"services: {a: {slo: {latency: 1s, objective: 99.9999999999999999999%}, concurrency: {min: 1, max: 1}}}",
		metricsFile("{preset: http_histogram, histogram: {metric: a, refused: 'b{c=\"d\"}', inflight: e, failed: 'code=~\"(\"'}}"),
		metricsFile("{preset: http_histogram, histogram: {metric: a, unit: milliseconds, refused: 'c=\"d\", e=\"f\"'}}"),
		metricsFile("{preset: custom, queries: {offered: 'rate(a[$window])', mean: \"b\\n + summ(c)\"}}"),
		metricsFile("\n      queries:\n        mean: |\n          sum(a)\n           / (b[$window]\n"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, warnings, err := Parse("f.yml", data)
		var problems Problems
		switch {
		case err == nil:
			for _, spec := range c.Specs() {
				if _, err := control.NewLoopSet(spec); err != nil {
					t.Errorf("control refuses what Parse accepts: %v", err)
				}
			}
			options := c.SensorOptions()
			options.HTTP = nil // its files do not exist
			if _, err := signals.New(options, c.Signals()); err != nil {
				t.Errorf("signals refuses what Parse accepts: %v", err)
			}
			problems = warnings
		case !errors.As(err, &problems) || len(problems) == 0:
			t.Fatalf("refused without a position: %v", err)
		}
		lines := 1 + strings.Count(yamlBreaks.Replace(string(data)), "\n")
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 {
				t.Errorf("a position outside the file of %d lines: %s", lines, p)
			}
			if strings.ContainsAny(p.String(), "\n\r") {
				t.Errorf("a problem on several lines: %q", p)
			}
		}
	})
}
