package signals

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

func text(r control.Reading) string {
	if v, ok := r.Value(); ok {
		return fmt.Sprintf("%.6g", v)
	}
	why, detail := r.Why()
	return fmt.Sprintf("%s: %s", why, detail)
}

func isMissing(t *testing.T, what string, r control.Reading, want control.Reason, mentions string) {
	t.Helper()
	if why, detail := r.Why(); why != want || !strings.Contains(detail, mentions) {
		t.Errorf("%s = %s, want %s that mentions %q", what, text(r), want, mentions)
	}
}

func isInvalid(t *testing.T, m control.Measurement, want control.Reason, mentions string) {
	t.Helper()
	if m.Invalid != want || !strings.Contains(m.Detail, mentions) {
		t.Errorf("invalid = %q (%s), want %s that mentions %q", m.Invalid, m.Detail, want, mentions)
	}
}

func TestRecordedReplyOfARealServer(t *testing.T) {
	m := measure(t, healthy(t).body())
	if m.Invalid != "" || m.Partial != "" || m.Censored || len(m.Instances) != 2 {
		t.Fatalf("%+v", m)
	}
	if m.Service != "checkout" || !m.At.Equal(evaluated) || m.Window != 4*time.Second || m.Took <= 0 {
		t.Errorf("%+v", m)
	}
	a, b := m.Instances[0], m.Instances[1]
	for what, got := range map[string][2]any{
		"name a":     {a.Name, "a:8080"},
		"name b":     {b.Name, "b:8080"},
		"age":        {text(a.Age), "0.363"},
		"offered":    {text(a.Offered), "800.252"},
		"admitted":   {text(a.Admitted), "640.202"},
		"refused":    {text(a.Refused), "160.05"},
		"completed":  {text(a.Completed), "640.202"},
		"failed":     {text(a.Failed), "16.005"},
		"slow":       {text(a.Slow), "32.0101"},
		"mean":       {text(a.Mean), "0.08"},
		"inflight":   {text(a.InFlight), "12"},
		"limit":      {text(a.Limit), "96"},
		"binding":    {text(a.Binding), "0.500158"},
		"ŝ":          {text(a.ServiceTime), "0"},
		"revision":   {text(a.Revision), "7"},
		"refused b":  {text(b.Refused), "0"},
		"slow b":     {text(b.Slow), "0"},
		"quantile":   {text(m.Quantile), "0.790019"},
		"no reasons": {m.Detail, ""},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %v, want %v", what, got[0], got[1])
		}
	}
}

// A1, kedacore/keda#7475, kubernetes-sigs/prometheus-adapter#280: an idle window gives 0/0.
func TestNaNIsNotANumber(t *testing.T) {
	t.Run("while there is traffic it is a fault", func(t *testing.T) {
		m := measure(t, healthy(t).set(sigQuantile, "", "NaN").body())
		isMissing(t, "quantile", m.Quantile, control.NaN, "guard_latency_seconds_bucket")
		if m.Invalid != "" || text(m.Instances[0].Mean) != "0.08" {
			t.Errorf("the other signals are as good as before: %+v", m)
		}
	})
	t.Run("in the driving signal", func(t *testing.T) {
		m := measure(t, healthy(t).set(sigLatencySum, "a:8080", "NaN").body())
		isMissing(t, "mean", m.Instances[0].Mean, control.NaN, "guard_latency_seconds_sum")
	})
	t.Run("without traffic the service is idle", func(t *testing.T) {
		rec := healthy(t).set(sigQuantile, "", "NaN")
		for _, signal := range []string{sigOffered, sigAdmitted, sigRefused, sigCompleted, sigLatencySum, sigBucket} {
			rec.set(signal, "", "0")
		}
		m := measure(t, rec.body())
		isMissing(t, "quantile", m.Quantile, control.Idle, "no request")
		for _, in := range m.Instances {
			isMissing(t, "mean", in.Mean, control.Idle, "no request in 4s")
			if text(in.Offered) != "0" || text(in.Slow) != "0" {
				t.Errorf("offered %s, slow %s, want a known 0", text(in.Offered), text(in.Slow))
			}
		}
		if m.Invalid != "" {
			t.Errorf("known to be idle is not invalid: %s %s", m.Invalid, m.Detail)
		}
	})
	t.Run("a hang is not idle", func(t *testing.T) {
		rec := healthy(t).set(sigQuantile, "", "NaN")
		for _, signal := range []string{sigCompleted, sigLatencySum, sigBucket} {
			rec.set(signal, "", "0")
		}
		m := measure(t, rec.body())
		isMissing(t, "mean", m.Instances[0].Mean, control.NoData, "no admitted request finished in 4s")
	})
}

// A2, kedacore/keda PR 3762, prometheus/prometheus#13020.
func TestInfinityAndTheTopBucket(t *testing.T) {
	t.Run("infinity", func(t *testing.T) {
		for _, inf := range []string{"+Inf", "-Inf"} {
			m := measure(t, healthy(t).set(sigQuantile, "", inf).set(sigOffered, "a:8080", inf).body())
			isMissing(t, "quantile", m.Quantile, control.NotFinite, "Inf")
			isMissing(t, "offered", m.Instances[0].Offered, control.NotFinite, "Inf")
		}
	})
	t.Run("the largest finite edge", func(t *testing.T) {
		// The edge is spelled 1.0 and the value 1: they are compared as numbers.
		m := measure(t, healthy(t).set(sigQuantile, "", "1").body())
		if !m.Censored || text(m.Quantile) != "1" {
			t.Errorf("quantile %s, censored %v; want 1, censored", text(m.Quantile), m.Censored)
		}
	})
	t.Run("below it", func(t *testing.T) {
		if m := measure(t, healthy(t).set(sigQuantile, "", "0.999").body()); m.Censored {
			t.Error("0.999 is not censored")
		}
	})
	t.Run("edges unknown", func(t *testing.T) {
		if m := measure(t, healthy(t).drop(sigEdges, "").body()); !m.Censored {
			t.Error("without the edges a quantile may be at the top: it must count as censored")
		}
	})
}

// A3, kedacore/keda#3065, argoproj/argo-rollouts#1466.
func TestEmptyIsNotZero(t *testing.T) {
	for name, body := range map[string]string{
		"empty": `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		"null":  `{"status":"success","data":{"resultType":"vector","result":null}}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := measure(t, body)
			isInvalid(t, m, control.NoData, `guard_limit{service="checkout"} finds nothing`)
			if len(m.Instances) != 0 {
				t.Errorf("instances: %+v", m.Instances)
			}
			isMissing(t, "quantile", m.Quantile, control.NoData, `service="checkout"`)
		})
	}
	t.Run("one signal", func(t *testing.T) {
		m := measure(t, healthy(t).drop(sigLatencySum, "").drop(sigQuantile, "").body())
		isMissing(t, "mean", m.Instances[0].Mean, control.NoData, `guard_latency_seconds_sum{service="checkout"}`)
		isMissing(t, "quantile", m.Quantile, control.NoData, `guard_latency_seconds_bucket{service="checkout"}`)
		if text(m.Instances[0].Offered) != "800.252" || m.Invalid != "" {
			t.Errorf("the traffic is still known: %+v", m)
		}
	})
	t.Run("another service only", func(t *testing.T) {
		rec := healthy(t)
		for _, r := range rec.rows {
			r.Metric["service"] = "payment"
		}
		isInvalid(t, measure(t, rec.body()), control.NoData, "finds nothing")
	})
	t.Run("targets without guard", func(t *testing.T) {
		rec := healthy(t).dropInstance("a:8080", sigUp).dropInstance("b:8080", sigUp)
		isInvalid(t, measure(t, rec.body()), control.NoData, "2 targets answer scrapes")
	})
}

// A4, kedacore/keda PR 2092, hyperdxio/hyperdx PR 3114: which series comes first must not decide.
func TestTwoSeriesForOneInstance(t *testing.T) {
	t.Run("a signal", func(t *testing.T) {
		rec := healthy(t).drop(sigLimit, "b:8080").
			twin(sigOffered, "a:8080", "pod", "b", "90").set(sigOffered, "a:8080", "10")
		for i := range rec.rows {
			if rec.rows[i].matches(sigOffered, "a:8080") && rec.rows[i].Metric["pod"] == "" {
				rec.rows[i].Metric["pod"] = "a"
			}
		}
		one, other := measure(t, rec.body()), measure(t, rec.reversed().body())
		isMissing(t, "offered", one.Instances[0].Offered, control.ManySeries, "pod (a, b)")
		if a, b := text(one.Instances[0].Offered), text(other.Instances[0].Offered); a != b {
			t.Errorf("the order of the reply changes the text:\n%s\n%s", a, b)
		}
		if _, detail := one.Instances[0].Offered.Why(); strings.Contains(detail, "instance (") {
			t.Errorf("%q names a label that does not differ", detail)
		}
	})
	t.Run("the whole instance", func(t *testing.T) {
		rec := healthy(t).dropInstance("b:8080")
		rec.twin(sigSeen, "a:8080", "replica", "2", "1795568820.5").twin(sigLimit, "a:8080", "replica", "2", "96")
		one, other := measure(t, rec.body()), measure(t, rec.reversed().body())
		isInvalid(t, one, control.ManySeries, "replica")
		if one.Detail != other.Detail {
			t.Errorf("the order of the reply changes the text:\n%s\n%s", one.Detail, other.Detail)
		}
		isMissing(t, "limit", one.Instances[0].Limit, control.ManySeries, "replica")
	})
	t.Run("a successor under the same name", func(t *testing.T) {
		// The pod was replaced: its old series has no new samples, and must neither count nor disturb.
		rec := healthy(t).twin(sigSeen, "a:8080", "pod", "old", "1795568800").twin(sigLimit, "a:8080", "pod", "old", "400")
		m := measure(t, rec.body())
		if a := m.Instances[0]; text(a.Limit) != "96" || text(a.Age) != "0.363" || m.Invalid != "" {
			t.Errorf("limit %s, age %s, invalid %q", text(a.Limit), text(a.Age), m.Invalid)
		}
	})
}

// A5, thanos-io/thanos#622, grafana/mcp-grafana PR 946; the notes are prometheus/prometheus#13671.
func TestWarningsMakeASnapshotPartialAndNotesDoNot(t *testing.T) {
	rec := healthy(t)
	rec.warnings = []string{"No StoreAPIs matched\nfor this query"}
	m := measure(t, rec.body())
	if m.Partial != "No StoreAPIs matched for this query" || m.Invalid != "" || text(m.Instances[0].Mean) != "0.08" {
		t.Errorf("partial %q, invalid %q", m.Partial, m.Invalid)
	}

	note := "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (1:1)"
	rec = healthy(t)
	rec.infos = []string{note}
	if m := measure(t, rec.body()); m.Partial != "" {
		t.Errorf("partial %q for a note", m.Partial)
	}
	rec = healthy(t)
	rec.warnings = []string{note} // as older servers send it
	if m := measure(t, rec.body()); m.Partial != "" {
		t.Errorf("partial %q for a note among the warnings", m.Partial)
	}
}

// A6, the part of the sensor: the count is that of the window, and it is handed on however small.
func TestLittleTrafficIsCountedNotJudged(t *testing.T) {
	rec := healthy(t)
	for _, signal := range []string{sigOffered, sigAdmitted, sigCompleted} {
		rec.set(signal, "", "6")
	}
	m := measure(t, rec.body())
	if got := text(m.Instances[0].Offered); got != "6" || m.Invalid != "" {
		t.Errorf("offered %s, invalid %q", got, m.Invalid)
	}
}

// A7, prometheus/prometheus#1557: all samples of the reply are stamped with the evaluation time.
func TestStaleSampleIsNotFresh(t *testing.T) {
	s := checkout()
	s.Timing = control.Timing{Scrape: 5 * time.Second, Window: 20 * time.Second, Period: time.Minute}
	stale := fmt.Sprintf("%.3f", float64(evaluated.UnixMilli())/1000-240)

	f := answering(t, healthy(t).set(sigSeen, "", stale).body())
	m := sensor(t, Options{URL: f.URL}, s).Groups()[0].Measure(t.Context(), evaluated)[0]
	isInvalid(t, m, control.Stale, "stale 240s > 11s")
	if len(m.Instances) != 2 || text(m.Instances[0].Age) != "240" {
		t.Fatalf("the age must be told: %+v", m.Instances)
	}
	isMissing(t, "mean", m.Instances[0].Mean, control.Stale, "stale 240s > 11s")
	isMissing(t, "limit", m.Instances[0].Limit, control.Stale, "stale 240s > 11s")

	// One stale instance is left out of the judgement; the other is in it.
	f = answering(t, healthy(t).set(sigSeen, "a:8080", stale).body())
	m = sensor(t, Options{URL: f.URL}, s).Groups()[0].Measure(t.Context(), evaluated)[0]
	isMissing(t, "offered", m.Instances[0].Offered, control.Stale, "240s")
	if m.Invalid != "" || text(m.Instances[1].Offered) != "320.014" {
		t.Errorf("invalid %q, offered %s", m.Invalid, text(m.Instances[1].Offered))
	}

	// A limit of one's own.
	s.StaleAfter = 5 * time.Minute
	m = sensor(t, Options{URL: f.URL}, s).Groups()[0].Measure(t.Context(), evaluated)[0]
	if text(m.Instances[0].Offered) != "800.252" {
		t.Errorf("offered %s with StaleAfter 5m", text(m.Instances[0].Offered))
	}
}

func TestInstancesThatComeAndGo(t *testing.T) {
	t.Run("gone from the targets", func(t *testing.T) {
		m := measure(t, healthy(t).dropInstance("b:8080", sigOffered, sigCompleted, sigLatencySum).body())
		if len(m.Instances) != 1 || m.Instances[0].Name != "a:8080" || m.Invalid != "" {
			t.Errorf("counts that echo do not make a member: %+v", m)
		}
	})
	t.Run("cannot be scraped", func(t *testing.T) {
		m := measure(t, healthy(t).dropInstance("b:8080", sigUp, sigOffered).set(sigUp, "b:8080", "0").body())
		if len(m.Instances) != 2 || m.Invalid != "" {
			t.Fatalf("%+v", m)
		}
		isMissing(t, "offered", m.Instances[1].Offered, control.Stale, "up = 0")
		isMissing(t, "age", m.Instances[1].Age, control.Stale, "up = 0")
	})
	t.Run("starting", func(t *testing.T) {
		m := measure(t, healthy(t).drop(sigBefore, "b:8080").body())
		b := m.Instances[1]
		isMissing(t, "offered", b.Offered, control.Starting, "4s")
		isMissing(t, "age", b.Age, control.Starting, "4s")
		if text(b.Limit) != "64" || m.Invalid != "" {
			t.Errorf("what is current is known: limit %s", text(b.Limit))
		}
	})
	t.Run("all starting", func(t *testing.T) {
		m := measure(t, healthy(t).drop(sigBefore, "").body())
		isInvalid(t, m, control.Starting, "none of the 2 instances")
	})
	t.Run("too few samples for a rate", func(t *testing.T) {
		m := measure(t, healthy(t).set(sigSamples, "", "1").body())
		isInvalid(t, m, control.NoData, "1 sample in the window of 4s")
	})
}

// A9, the part of the sensor: what is missing stays apart from what is known.
func TestOneMissingSignalLeavesTheOthers(t *testing.T) {
	m := measure(t, healthy(t).drop(sigFailed, "a:8080").body())
	a := m.Instances[0]
	isMissing(t, "failed", a.Failed, control.NoData, `guard_failed_total{service="checkout"}`)
	if text(a.Mean) != "0.08" || text(a.Slow) != "32.0101" || m.Invalid != "" {
		t.Errorf("mean %s, slow %s", text(a.Mean), text(a.Slow))
	}
}

func TestSlowNeedsAnEdgeAtTheSLO(t *testing.T) {
	t.Run("missing", func(t *testing.T) {
		m := measure(t, healthy(t).drop(sigBucket, "").body())
		isMissing(t, "slow", m.Instances[0].Slow, control.NoData,
			"no bucket edge at the SLO of 300ms: guard_latency_seconds_bucket has le = 0.1, 0.3, 1.0, +Inf")
	})
	s := slowly(checkout())
	s.SLO.Latency = time.Second
	for _, spelling := range []string{"1", "1.0", "1e+00"} {
		rec := healthy(t)
		for _, r := range rec.rows {
			if r.matches(sigBucket, "") {
				r.Metric["le"] = spelling
			}
		}
		m := sensor(t, Options{URL: answering(t, rec.body()).URL}, s).Groups()[0].Measure(t.Context(), evaluated)[0]
		if got := text(m.Instances[0].Slow); got != "32.0101" {
			t.Errorf("le = %q: slow %s", spelling, got)
		}
	}
	t.Run("both spellings while the exporter changes", func(t *testing.T) {
		rec := healthy(t).set(sigBucket, "a:8080", "600").twin(sigBucket, "a:8080", "le", "0.30", "8.1916")
		if got := text(measure(t, rec.body()).Instances[0].Slow); got != "32.0101" {
			t.Errorf("slow %s, want the sum of both taken off", got)
		}
	})
	t.Run("never negative", func(t *testing.T) {
		if got := text(measure(t, healthy(t).set(sigBucket, "", "5000").body()).Instances[0].Slow); got != "0" {
			t.Errorf("slow %s", got)
		}
	})
}

func TestImplausibleValues(t *testing.T) {
	m := measure(t, healthy(t).set(sigOffered, "a:8080", "-1").set(sigBinding, "a:8080", "4.2").body())
	isMissing(t, "offered", m.Instances[0].Offered, control.Implausible, "guard_offered_total reads -1")
	if got := text(m.Instances[0].Binding); got != "1" {
		t.Errorf("binding %s: extrapolation may pass the window by a little, a share is at most 1", got)
	}
}

func TestObservedScrape(t *testing.T) {
	for _, tc := range []struct {
		what string
		rec  *recording
		want float64 // NaN: missing
	}{
		{"as configured", healthy(t), 1},
		{"half as often", healthy(t).set(sigSamples, "", "2").set(sigBefore, "", "2"), 2},
		{"an instance that has just come does not count", healthy(t).set(sigBefore, "a:8080", "1"), 1},
		{"nobody long enough", healthy(t).drop(sigBefore, ""), math.NaN()},
	} {
		g := sensor(t, Options{URL: answering(t, tc.rec.body()).URL}, slowly(checkout())).Groups()[0]
		isMissing(t, "before the first query", g.ObservedScrape(), control.NoData, "")
		g.Measure(t.Context(), evaluated)
		got, ok := g.ObservedScrape().Value()
		if ok == math.IsNaN(tc.want) || ok && got != tc.want {
			t.Errorf("%s: %s, want %v", tc.what, text(g.ObservedScrape()), tc.want)
		}
	}
}
