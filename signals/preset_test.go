package signals

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

func TestClasses(t *testing.T) {
	m := snapshot(t, slowly(checkout()), later, replies{{`"class_offered"`, recorded(t, "classes").body()}})
	if m.Invalid != "" || len(m.Instances) != 1 {
		t.Fatalf("%+v", m)
	}
	in := m.Instances[0]
	for what, got := range map[string][2]string{
		"refused":          {text(in.Refused), "159.973"},
		"refused by rate":  {text(in.RefusedByRate), "39.9933"},
		"critical offered": {text(in.Classes[control.Critical].Offered), "199.966"},
		"critical refused": {text(in.Classes[control.Critical].Refused), "0"},
		"default offered":  {text(in.Classes[control.Default].Offered), "599.899"},
		"default refused":  {text(in.Classes[control.Default].Refused), "119.98"},
		"shed threshold":   {text(in.ShedThreshold), "0.5"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %s, want %s", what, got[0], got[1])
		}
	}
	isMissing(t, "a class that is not reported", in.Classes[control.Background].Refused, control.NoData,
		`guard_refused_total{reason!~"rate|callee|share|roof|endless", service="checkout"}`)
}

// A route is a service of its own in the metrics. What the roof and its share refuse is told apart.
func TestRoute(t *testing.T) {
	rec := recorded(t, "classes")
	for reason, number := range map[string]string{"share": "20", "roof": "30", "endless": "40", "callee": "50"} {
		rec.twin(sigRefusedByRate, "", reasonLabel, reason, number)
		rec.rows[len(rec.rows)-1].Metric[signalLabel] = sigRefusedElsewhere
	}
	other := rec.body()
	for i := range rec.rows {
		rec.rows[i].Metric["service"] = "checkout/export"
	}
	s := slowly(checkout())
	s.Name = "checkout/export"
	m := snapshot(t, s, later, replies{{`service="checkout/export"`, rec.body()}})
	if m.Invalid != "" || len(m.Instances) != 1 || m.Service != s.Name {
		t.Fatalf("%+v", m)
	}
	in := m.Instances[0]
	for what, got := range map[string][2]string{
		"refused": {text(in.Refused), "159.973"}, "by share": {text(in.RefusedByShare), "20"},
		"by the roof": {text(in.RefusedByRoof), "30"}, "endless": {text(in.RefusedEndless), "40"},
		"for a callee": {text(in.RefusedForCallee), "50"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %s, want %s", what, got[0], got[1])
		}
	}
	if m := snapshot(t, s, later, replies{{`service="checkout/export"`, other}}); m.Invalid != control.NoData {
		t.Errorf("the service passes for its route: %+v", m)
	}
	both := sensor(t, Options{URL: "http://prometheus"}, slowly(checkout()), s).Groups()
	if len(both) != 1 || !strings.Contains(both[0].query, `service=~"checkout|checkout/export"`) {
		t.Errorf("%d groups for a service and its route, the query is %s", len(both), both[0].query)
	}
}

// A9, kubernetes/kubernetes#99394: what an older guard does not report is unknown, not none.
func TestOlderGuardHasNoClasses(t *testing.T) {
	for _, in := range measure(t, healthy(t).body()).Instances {
		for _, c := range in.Classes {
			isMissing(t, "offered", c.Offered, control.NoData, "guard_offered_total")
			isMissing(t, "refused", c.Refused, control.NoData, "guard_refused_total")
		}
		isMissing(t, "refused by rate", in.RefusedByRate, control.NoData, `reason="rate"`)
		isMissing(t, "refused as endless", in.RefusedEndless, control.NoData, `endless"`)
		isMissing(t, "shed threshold", in.ShedThreshold, control.NoData, "guard_shed_threshold")
	}
}

// A15, envoyproxy/envoy#8274, Netflix/concurrency-limits#176: refusals take no time and are not latencies.
func TestHistogramCountsAdmittedOnly(t *testing.T) {
	m := snapshot(t, web(), later, replies{{`"latency_sum"`, recorded(t, "histogram").body()}})
	if m.Invalid != "" || len(m.Instances) != 2 || m.Censored {
		t.Fatalf("%+v", m)
	}
	a, b := m.Instances[0], m.Instances[1]
	for what, got := range map[string][2]string{
		"age":       {text(a.Age), "0.242"},
		"mean":      {text(a.Mean), "0.9"},
		"offered":   {text(a.Offered), "1598.72"},
		"admitted":  {text(a.Admitted), "319.744"},
		"completed": {text(a.Completed), "319.744"},
		"refused":   {text(a.Refused), "1278.97"},
		"failed":    {text(a.Failed), "15.9872"},
		"slow":      {text(a.Slow), "319.744"},
		"in flight": {text(a.InFlight), "72"},
		"quantile":  {text(m.Quantile), "0.984245"},
		"refused b": {text(b.Refused), "0"},
		"failed b":  {text(b.Failed), "0"}, // it has the label, and no series of that outcome
		"slow b":    {text(b.Slow), "0"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %s, want %s", what, got[0], got[1])
		}
	}
	isMissing(t, "limit", a.Limit, control.NoData, "no guard")
	isMissing(t, "classes", a.Classes[control.Critical].Offered, control.NoData, "no guard")

	q := sensor(t, Options{URL: "http://prometheus"}, web()).Groups()[0].query
	for _, want := range []string{
		`increase(http_request_duration_seconds_sum{handler!="/healthz", code!~"429|503", job="shop"}[4s])`,
		`increase(http_request_duration_seconds_count{handler!="/healthz", code!~"429|503", code=~"5..", job="shop"}[4s])`,
		`increase(http_request_duration_seconds_bucket{handler!="/healthz", code!~"429|503", job="shop", le=~"0\\.29{6,}[0-9]*|0\\.30*|0\\.30{6,}[0-9]+"}[4s])`,
	} {
		if !strings.Contains(q, want) {
			t.Errorf("the query has no %s:\n%s", want, q)
		}
	}
}

func TestHistogramWithoutWhatItsSelectorsAskFor(t *testing.T) {
	of := func(rec *recording) control.Measurement {
		return snapshot(t, web(), later, replies{{`"latency_sum"`, rec.body()}})
	}
	rec := func() *recording { return recorded(t, "histogram") }
	nothing := func() *recording {
		return rec().set(sigTotal, "", "0").set(sigCompleted, "", "0").set(sigLatencySum, "", "0")
	}

	m := of(rec().drop("failed_labels", ""))
	isMissing(t, "failed", m.Instances[1].Failed, control.NoData, `code!=""`)

	t.Run("everything refused", func(t *testing.T) {
		a := of(rec().drop(sigCompleted, "a:8080").drop(sigLatencySum, "a:8080").drop(sigBucket, "a:8080")).Instances[0]
		if text(a.Completed) != "0" || text(a.Slow) != "0" || text(a.Refused) != "1598.72" {
			t.Errorf("completed %s, slow %s, refused %s", text(a.Completed), text(a.Slow), text(a.Refused))
		}
		isMissing(t, "mean", a.Mean, control.NoData, "http_request_duration_seconds_sum")
	})
	t.Run("no request", func(t *testing.T) {
		m := of(nothing().set(sigInFlight, "", "0"))
		isMissing(t, "mean", m.Instances[0].Mean, control.Idle, "no request in 4s")
		if text(m.Instances[0].Offered) != "0" || m.Invalid != "" {
			t.Errorf("offered %s", text(m.Instances[0].Offered))
		}
	})
	t.Run("a hang is not idle", func(t *testing.T) {
		m := of(nothing())
		isMissing(t, "offered", m.Instances[0].Offered, control.NoData, "72 requests are in flight")
		isMissing(t, "mean", m.Instances[0].Mean, control.NoData, "72 requests are in flight")
	})
	t.Run("scraped by two jobs", func(t *testing.T) {
		m := of(rec().twin(sigSeen, "a:8080", "job", "again", "1795572139.2"))
		if m.Invalid != "" { // the twin belongs to another service: its job differs
			t.Errorf("%s %s", m.Invalid, m.Detail)
		}
		s := web()
		s.Labels = nil
		twice := rec().twin(sigSeen, "", "job", "again", "1795572139.2")
		m = snapshot(t, s, later, replies{{`"latency_sum"`, twice.body()}})
		isInvalid(t, m, control.ManySeries, "job (again, shop)")
	})
	t.Run("milliseconds", func(t *testing.T) {
		s := web()
		s.Histogram.Unit, s.SLO.Latency = "milliseconds", 10*time.Second
		r := rec()
		for _, row := range r.rows {
			if row.matches(sigBucket, "") {
				row.Metric["le"] = "10000.0"
			}
		}
		m := snapshot(t, s, later, replies{{`10000(\\.0+)?`, r.body()}})
		if a := m.Instances[0]; text(a.Mean) != "0.0009" || text(a.Slow) != "319.744" || text(m.Quantile) != "0.000984245" {
			t.Errorf("mean %s, slow %s, quantile %s", text(a.Mean), text(a.Slow), text(m.Quantile))
		}
	})
}

func TestRefusedSaysWhatIsAdmitted(t *testing.T) {
	for _, tc := range []struct {
		refused, admitted string
		want              []string
	}{
		{`code="429"`, "", []string{`_sum{code!="429"`, `_count{code="429"`}},
		{
			`{code=~"429|503"}`, `code!~"429|503", code!=""`,
			[]string{`_sum{code!~"429|503", code!="",`, `_count{code=~"429|503"`},
		},
		{`rejected_total{why="limit"}`, "", []string{`_sum{job="shop"}`, `rejected_total{why="limit", job="shop"}`}},
	} {
		s := web()
		s.Histogram = Histogram{Metric: "h", Refused: tc.refused, Admitted: tc.admitted}
		q := sensor(t, Options{URL: "http://prometheus"}, s).Groups()[0].query
		for _, want := range tc.want {
			if !strings.Contains(q, want) {
				t.Errorf("refused %s: the query has no %s:\n%s", tc.refused, want, q)
			}
		}
		if strings.Contains(q, `"total"`) {
			t.Errorf("refused %s: asks for a remainder too", tc.refused)
		}
	}
}

func TestShowsBinding(t *testing.T) {
	for _, tc := range []struct {
		what string
		s    Service
		want bool
	}{
		{"guard", Service{}, true},
		{"a bare histogram", Service{Preset: HTTPHistogram, Histogram: Histogram{Failed: `code="500"`}}, false},
		{"refused", Service{Preset: HTTPHistogram, Histogram: Histogram{Refused: `code="429"`}}, true},
		{"admitted", Service{Preset: HTTPHistogram, Histogram: Histogram{Admitted: `code!="429"`}}, true},
		{"in flight", Service{Preset: HTTPHistogram, Histogram: Histogram{InFlight: "g"}}, true},
		{"a query of the refused", Service{Preset: Custom, Queries: map[Signal]string{Refused: "x"}}, true},
		{"a query of the mean", Service{Preset: Custom, Queries: map[Signal]string{Mean: "x"}}, false},
	} {
		if got := tc.s.ShowsBinding(); got != tc.want {
			t.Errorf("%s: %v", tc.what, got)
		}
	}
}

func TestServicesOfOneShapeShareAQuery(t *testing.T) {
	var services []Service
	for _, job := range []string{"a", "b", "c"} {
		s := web()
		s.Name, s.Labels = job, map[string]string{"job": job, "handler": "/"}
		services = append(services, s)
	}
	g := sensor(t, Options{URL: "http://prometheus"}, services...).Groups()
	if len(g) != 1 || !strings.Contains(g[0].query, `job=~"a|b|c", handler="/"`) {
		t.Errorf("%d groups, query\n%s", len(g), g[0].query)
	}
	services[1].Labels = services[0].Labels
	if _, err := New(Options{URL: "http://prometheus"}, services); err == nil ||
		!strings.Contains(err.Error(), `"a" and "b" read the same series`) {
		t.Errorf("error %v", err)
	}
}

func TestOwnQueries(t *testing.T) {
	offered, meanOf := recorded(t, "own_offered"), recorded(t, "own_mean")
	all := func(offered, mean *recording) replies {
		return replies{{"query_offered", offered.body()}, {"query_mean", mean.body()}}
	}
	m := snapshot(t, own(), later, all(offered, meanOf))
	if m.Invalid != "" || len(m.Instances) != 2 {
		t.Fatalf("%+v", m)
	}
	a := m.Instances[0]
	for what, got := range map[string][2]string{
		"age":       {text(a.Age), "0.242"},
		"offered":   {text(a.Offered), "1598.72"}, // per second, times the window
		"refused":   {text(a.Refused), "0"},       // nothing says otherwise
		"completed": {text(a.Completed), "1598.72"},
		"mean":      {text(a.Mean), "0.9"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %s, want %s", what, got[0], got[1])
		}
	}
	isMissing(t, "slow", a.Slow, control.NoData, "no query provides it")
	isMissing(t, "quantile", m.Quantile, control.NoData, "no query provides it")

	t.Run("empty", func(t *testing.T) {
		isInvalid(t, snapshot(t, own(), later, nil), control.NoData, "the query of offered finds nothing")
		m := snapshot(t, own(), later, replies{{"query_offered", offered.body()}})
		isMissing(t, "mean", m.Instances[0].Mean, control.NoData, "the query of mean finds nothing for a:8080")
	})
	t.Run("idle", func(t *testing.T) { // 0/0
		m := snapshot(t, own(), later, all(recorded(t, "own_offered").set("query_offered", "", "0"),
			recorded(t, "own_mean").set("query_mean", "", "NaN")))
		isMissing(t, "mean", m.Instances[0].Mean, control.Idle, "no request")
	})
	t.Run("NaN", func(t *testing.T) {
		m := snapshot(t, own(), later, all(offered, recorded(t, "own_mean").set("query_mean", "", "NaN")))
		isMissing(t, "mean", m.Instances[0].Mean, control.NaN, "the query of mean")
	})
	t.Run("stale", func(t *testing.T) { // A7: an expression is stamped with the evaluation time
		old := recorded(t, "own_mean").set("query_mean_seen", "a:8080", "1795571899.5")
		m := snapshot(t, own(), later, all(offered, old))
		isMissing(t, "mean", m.Instances[0].Mean, control.Stale, "stale 240s > 3s")
		if text(m.Instances[1].Mean) != "0.05" {
			t.Errorf("mean of b %s", text(m.Instances[1].Mean))
		}
		m = snapshot(t, own(), later, all(recorded(t, "own_offered").set(sigSeen, "", "1795571899.5"), meanOf))
		isInvalid(t, m, control.Stale, "240s")
		m = snapshot(t, own(), later, all(offered, recorded(t, "own_mean").drop("query_mean_seen", "")))
		isMissing(t, "mean", m.Instances[0].Mean, control.Stale, "the query of mean")
	})
	// A4, kedacore/keda PR 2092, hyperdxio/hyperdx PR 3114.
	t.Run("many series", func(t *testing.T) {
		rec := recorded(t, "own_mean").twin("query_mean", "a:8080", "pod", "b", "0.1")
		one, other := snapshot(t, own(), later, all(offered, rec)), snapshot(t, own(), later, all(offered, rec.reversed()))
		isMissing(t, "mean", one.Instances[0].Mean, control.ManySeries, "pod (, b)")
		if a, b := text(one.Instances[0].Mean), text(other.Instances[0].Mean); a != b {
			t.Errorf("the order of the reply changes the text:\n%s\n%s", a, b)
		}
	})
	t.Run("one for the service beside one for each instance", func(t *testing.T) {
		rec := recorded(t, "own_mean").dropInstance("b:8080")
		for _, r := range rec.rows {
			delete(r.Metric, "instance")
		}
		m := snapshot(t, own(), later, all(offered, rec))
		isMissing(t, "mean", m.Instances[0].Mean, control.NoData, "aggregate by (instance)")
	})
	t.Run("one for the service", func(t *testing.T) {
		values, means := recorded(t, "own_offered"), recorded(t, "own_mean")
		values.drop("query_offered", "b:8080")
		means.drop("query_mean", "b:8080")
		for _, rec := range []*recording{values, means} {
			for _, r := range rec.rows {
				if r.matches("query_offered", "") || r.matches("query_mean", "") {
					delete(r.Metric, "instance")
				}
			}
		}
		m := snapshot(t, own(), later, all(values, means))
		if len(m.Instances) != 1 || m.Instances[0].Name != "" || text(m.Instances[0].Mean) != "0.9" ||
			text(m.Instances[0].Age) != "0.189" {
			t.Errorf("%+v", m)
		}
	})
	t.Run("over a preset", func(t *testing.T) {
		s := web()
		s.Queries = map[Signal]string{Mean: own().Queries[Mean]}
		m := snapshot(t, s, later, replies{
			{"query_mean", meanOf.body()}, {`"latency_sum"`, recorded(t, "histogram").body()},
		})
		if text(m.Instances[1].Mean) != "0.05" || text(m.Instances[1].Offered) != "399.928" {
			t.Errorf("mean %s, offered %s", text(m.Instances[1].Mean), text(m.Instances[1].Offered))
		}
	})
}

// A10, kedacore/keda#5118: a slow query of one signal costs that signal, at its own deadline.
func TestOwnQueryThatTimesOut(t *testing.T) {
	offered := recorded(t, "own_offered").body()
	synctest.Test(t, func(t *testing.T) {
		w := wire(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(query(t, r), "query_offered") {
				return ok(offered), nil
			}
			return nil, after(r, time.Hour)
		})
		s := own()
		s.Timing.Period = 5 * time.Second
		sens := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, s)
		m := sens.Groups()[0].Measure(t.Context(), later)[0]
		isMissing(t, "mean", m.Instances[0].Mean, control.Timeout, "the query of mean: no reply from Prometheus within 4s")
		if m.Took != 4*time.Second || text(m.Instances[0].Offered) != "1598.72" {
			t.Errorf("took %s, offered %s", m.Took, text(m.Instances[0].Offered))
		}
		sens.Close()
	})
}

func TestNewRefusesQueriesAndSelectorsThatCannotWork(t *testing.T) {
	histogram := func(h Histogram) Service {
		s := web()
		h.Metric = "h"
		s.Histogram = h
		return s
	}
	queries := func(q map[Signal]string) Service {
		s := own()
		s.Queries = q
		return s
	}
	named := web()
	named.Histogram.Metric = "h_bucket"
	pod := checkout()
	pod.InstanceLabel = "pod"
	labels := own()
	labels.Labels = map[string]string{"job": "x"}
	both := checkout()
	both.Histogram.Metric = "h"
	for _, tc := range []struct {
		s    Service
		want string
	}{
		{Service{Name: "x", Preset: "magic", SLO: checkout().SLO, Timing: second}, `"magic" is unknown`},
		{named, "leave out the _bucket"},
		{histogram(Histogram{Failed: `code=~"5.."}`}), "failed: "},
		{histogram(Histogram{Failed: `code=~"(5.."`}), "failed: "},
		{histogram(Histogram{Failed: `errors{code="500"}`}), "must not name a metric"},
		{histogram(Histogram{InFlight: `{job="x"}`}), "does not name the metric"},
		{histogram(Histogram{Refused: `code="429", handler="/"`}), "set admitted too"},
		{histogram(Histogram{Refused: `{}`}), "selects everything"},
		{histogram(Histogram{Unit: "minutes"}), "want seconds or milliseconds"},
		{pod, `not "pod"`},
		{labels, "put them into the queries"},
		{both, "for the preset http_histogram only"},
		{queries(map[Signal]string{Offered: "x"}), "needs a query of mean"},
		{queries(map[Signal]string{Offered: "sum by (x", Mean: "x"}), "query of offered: not PromQL"},
		{queries(map[Signal]string{Offered: "x[5m]", Mean: "x"}), "gives a matrix"},
		{queries(map[Signal]string{Offered: "scalar(x)", Mean: "x"}), "gives a scalar"},
		{queries(map[Signal]string{Offered: "vector(1)", Mean: "x"}), "reads no series"},
		{queries(map[Signal]string{Offered: "x", Mean: "x", "p99": "x"}), `"p99": no such signal`},
	} {
		_, err := New(Options{URL: "http://prometheus"}, []Service{tc.s})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v does not mention %q", err, tc.want)
		}
	}
}

// Every query is PromQL, whatever the preset and the names.
func TestQueriesOfEveryPresetParse(t *testing.T) {
	odd := web()
	odd.Labels = map[string]string{"job": `a"b\n|+(ü`, "service": "x"}
	odd.Histogram.Selector = `handler!~"/a\"b.*", x="$window %s $"`
	odd.InstanceLabel = "pod"
	mixed := web()
	mixed.Queries = map[Signal]string{Slow: "sum by (instance) (rate(slow_total[$window]))", Limit: "limit"}
	bare := web()
	bare.Labels, bare.Histogram = nil, Histogram{Metric: "h"}
	full := own()
	for _, signal := range Signals() {
		full.Queries[signal] = `sum by (instance) (rate({__name__="a.b", c="$window"}[$window] offset 1m)) / 2 # comment`
	}
	for _, s := range []Service{web(), odd, mixed, bare, own(), full} {
		g := sensor(t, Options{URL: "http://prometheus"}, s).Groups()[0]
		for _, q := range g.Queries() {
			if _, err := promQL.ParseExpr(q); err != nil {
				t.Errorf("%v\n%s", err, q)
			}
		}
		if _, err := promQL.ParseExpr(g.services[0].raw()); err != nil {
			t.Errorf("%v\n%s", err, g.services[0].raw())
		}
	}
}
