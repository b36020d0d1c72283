package signals

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
)

// more adds a row of its own to a reply.
func (rec *recording) more(signal string, labels map[string]string, value string) *recording {
	all := map[string]string{signalLabel: signal, "service": "checkout"}
	maps.Copy(all, labels)
	rec.rows = append(rec.rows, row{all, [2]any{rec.rows[0].Value[0], value}})
	return rec
}

// C10: the series of two processes under one name.
func TestCountersThatResetAreRead(t *testing.T) {
	rec := healthy(t).more(sigResets, map[string]string{"instance": "a:8080"}, "5")
	if got := text(measure(t, rec.body()).Instances[0].Resets); got != "5" {
		t.Errorf("resets %s", got)
	}
}

// C10, open-telemetry/opentelemetry-collector-contrib#32484: nothing tells the instances apart.
func TestSeriesWithoutAnInstanceCapTheMode(t *testing.T) {
	anonymous := func(rec *recording) *recording {
		for _, r := range rec.rows {
			delete(r.Metric, "instance")
		}
		return rec
	}
	if m := measure(t, healthy(t).body()); m.Capped != "" {
		t.Errorf("with a label instance: %s", m.Capped)
	}
	rec := anonymous(healthy(t).dropInstance("b:8080"))
	if m := measure(t, rec.body()); m.Invalid != "" || !strings.Contains(m.Capped, "capped at shadow") ||
		!strings.Contains(m.Capped, "keep the label instance") {
		t.Errorf("capped %q, invalid %q", m.Capped, m.Detail)
	}
	rec = anonymous(healthy(t).dropInstance("b:8080"))
	for _, r := range rec.rows {
		if r.matches(sigSeen, "") {
			r.Metric["pod"] = "checkout-1"
		}
	}
	if m := measure(t, rec.body()); !strings.Contains(m.Capped, "its series have pod, which would tell") {
		t.Errorf("capped %q", m.Capped)
	}
	s := web()
	s.InstanceLabel = "task"
	m := snapshot(t, s, later, replies{{`"latency_sum"`, anonymous(recorded(t, "histogram").dropInstance("b:8080")).body()}})
	if !strings.Contains(m.Capped, "no label task") || !strings.Contains(m.Capped, "set instance_label") {
		t.Errorf("capped %q", m.Capped)
	}
}

// C11, slo-libsonnet#46: an instance was deployed with a bucket edge at the SLO, within the window.
func TestEdgeThatIsNewerThanTheWindow(t *testing.T) {
	a := map[string]string{"instance": "a:8080"}
	edge := map[string]string{"instance": "a:8080", "le": "0.30000000000000004"}
	old := healthy(t).more(sigSeriesBefore, a, "1")
	m := measure(t, old.body())
	isMissing(t, "slow", m.Instances[0].Slow, control.NoData, "1 of 1 series had no bucket edge at the SLO of 300ms 4s ago")
	if text(m.Instances[0].Mean) != "0.08" || text(m.Instances[1].Slow) != "0" {
		t.Errorf("mean %s, slow of the other %s", text(m.Instances[0].Mean), text(m.Instances[1].Slow))
	}
	for _, le := range []string{"0.1", "1"} { // of another service
		old = old.more(sigEdgesBefore, map[string]string{"instance": "a:8080", "le": le}, "1")
	}
	isMissing(t, "slow", measure(t, old.body()).Instances[0].Slow, control.NoData, "no bucket edge")
	isMissing(t, "slow", measure(t, healthy(t).more(sigSeriesBefore, a, "2").more(sigEdgesBefore, edge, "1").body()).Instances[0].Slow,
		control.NoData, "1 of 2 series")
	there := healthy(t).more(sigSeriesBefore, a, "1").more(sigEdgesBefore, edge, "1")
	if got := text(measure(t, there.body()).Instances[0].Slow); got != "32.0101" {
		t.Errorf("slow %s", got)
	}
}

// The same for the burn rates: their windows reach back beyond the deployment.
func TestEdgeThatIsNewerThanTheBurnWindows(t *testing.T) {
	s := newSubject(checkout())
	s.SLO.Objective = 0.99
	window, other := time.Hour, 5*time.Minute
	reply := func(series, edges string) *reply {
		rec := &recording{rows: []row{{map[string]string{}, [2]any{1.0, "0"}}}}
		for _, w := range []time.Duration{window, other} {
			rec.more(burnSignal(sigCompleted, w), nil, "100000").
				more(burnSignal(sigBucket, w), map[string]string{"le": "0.3"}, "99900")
		}
		rec.more(burnSignal("series", 0), nil, "4").more(burnSignal("edges", 0), map[string]string{"le": "0.3"}, "4")
		rec.more(burnSignal("series", window), nil, series)
		if edges != "" {
			rec.more(burnSignal("edges", window), map[string]string{"le": "0.3"}, edges)
		}
		rec.more(burnSignal("series", other), nil, "4").more(burnSignal("edges", other), map[string]string{"le": "0.3"}, "4")
		r := newReply()
		for _, row := range rec.rows[1:] {
			var v float64
			if _, err := fmt.Sscan(row.Value[1].(string), &v); err != nil {
				t.Fatal(err)
			}
			sample := sample{value: v, labels: model.Metric{}}
			for name, value := range row.Metric {
				sample.labels[model.LabelName(name)] = model.LabelValue(value)
			}
			r.add(row.Metric[signalLabel], seriesKey{"checkout", ""}, sample)
		}
		return r
	}
	isMissing(t, "an hour", reply("4", "").burnRate(s, window, 14.4), control.NoData, "4 of 4 series had no bucket edge")
	isMissing(t, "an hour", reply("4", "3").burnRate(s, window, 14.4), control.NoData, "1 of 4 series had no bucket edge")
	if got := text(reply("4", "").burnRate(s, other, 14.4)); got != "0.1" {
		t.Errorf("five minutes: %s", got)
	}
	if got := text(reply("4", "4").burnRate(s, window, 14.4)); got != "0.1" {
		t.Errorf("an hour: %s", got)
	}
}

// C12: edges of prometheus.LinearBuckets are sums, and their names show it.
func TestEdgesAreNumbers(t *testing.T) {
	for _, edges := range [][]float64{
		prometheus.LinearBuckets(0.1, 0.1, 20), prometheus.LinearBuckets(0.05, 0.05, 40), prometheus.LinearBuckets(0.01, 0.01, 100),
		prometheus.ExponentialBuckets(0.001, 1.5, 12), prometheus.LinearBuckets(100, 100, 30), prometheus.DefBuckets,
	} {
		for _, edge := range edges {
			le := strconv.FormatFloat(edge, 'g', -1, 64)
			s := checkout()
			s.SLO.Latency = time.Duration(math.Round(edge*1e9/1e3)) * time.Microsecond // as a person writes it
			if math.Abs(s.SLO.Latency.Seconds()-edge) > 1e-9*edge {
				continue // nobody can
			}
			if !matchesEdge(t, s, le) {
				t.Errorf("le=%q is not found for %s", le, s.SLO.Latency)
			}
		}
	}
	if !matchesEdge(t, checkout(), "0.30000000000000004") || !matchesEdge(t, checkout(), "0.29999999999999999") ||
		matchesEdge(t, checkout(), "0.3001") || matchesEdge(t, checkout(), "0.3000001") {
		t.Error("300ms")
	}
	rec := healthy(t)
	for _, r := range rec.rows {
		if r.matches(sigBucket, "") || r.matches(sigEdges, "") && r.Metric["le"] == "0.3" {
			r.Metric["le"] = "0.30000000000000004"
		}
	}
	if got := text(measure(t, rec.body()).Instances[0].Slow); got != "32.0101" {
		t.Errorf("slow %s", got)
	}
}

// matchesEdge says whether the query asks for the edge, and the answer is taken for it.
func matchesEdge(t *testing.T, s Service, le string) bool {
	t.Helper()
	pattern, err := strconv.Unquote(strings.TrimPrefix(edgePattern([]subject{newSubject(s)}), "le=~"))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile("^(?:"+pattern+")$").MatchString(le) && sameEdge(le, newSubject(s).edge())
}

// C14, VictoriaMetrics/VictoriaMetrics#272: a server that holds back the newest samples.
func TestEverythingEquallyOld(t *testing.T) {
	at := func(a, b float64) string {
		stamp := func(age float64) string {
			return strconv.FormatFloat(float64(evaluated.UnixMilli())/1000-age, 'f', 3, 64)
		}
		return healthy(t).set(sigSeen, "a:8080", stamp(a)).set(sigSeen, "b:8080", stamp(b)).body()
	}
	isInvalid(t, measure(t, at(30.4, 30.9)), control.Stale, "stale 30.4s > 3s")
	isInvalid(t, measure(t, at(30.4, 30.9)), control.Stale, "-search.latencyOffset")
	for _, ages := range [][2]float64{{30, 90}, {900, 900}} {
		if m := measure(t, at(ages[0], ages[1])); m.Invalid != control.Stale || strings.Contains(m.Detail, "latencyOffset") {
			t.Errorf("ages %v: %s %s", ages, m.Invalid, m.Detail)
		}
	}
}

// C34: an age that is no number is not written as one.
func TestUnknownAgesInWords(t *testing.T) {
	for _, age := range []string{"NaN", "-Inf"} {
		m := measure(t, healthy(t).set(sigSeen, "", age).body())
		if m.Invalid != control.Stale || strings.Contains(m.Detail, "NaN") || strings.Contains(m.Detail, "Inf") {
			t.Errorf("%s: %s %s", age, m.Invalid, m.Detail)
		}
	}
	for _, v := range []float64{1e308, math.Inf(1), math.NaN()} {
		if s := seconds(v); len(s) > 10 || strings.Contains(s, "NaN") {
			t.Errorf("%v reads %s", v, s)
		}
	}
}

// C17: an instance that left without a staleness marker has gone; one whose target cannot be scraped may be at work.
func TestGoneAndUnreachable(t *testing.T) {
	old := strconv.FormatFloat(float64(evaluated.UnixMilli())/1000-60, 'f', 3, 64)
	for _, tc := range []struct {
		name string
		rec  *recording
		gone bool
	}{
		{"fresh", healthy(t), false},
		{"its target cannot be scraped", healthy(t).set(sigSeen, "b:8080", old).set(sigUp, "b:8080", "0"), false},
		{"its target answers without it", healthy(t).set(sigSeen, "b:8080", old), true},
		{"it has no target", healthy(t).set(sigSeen, "b:8080", old).drop(sigUp, "b:8080"), true},
	} {
		m := measure(t, tc.rec.body())
		if b := m.Instances[1]; b.Gone != tc.gone || m.Instances[0].Gone {
			t.Errorf("%s: gone %v, %v", tc.name, m.Instances[0].Gone, b.Gone)
		}
	}
}
