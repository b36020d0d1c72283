package prom

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
	"github.com/seed-de83e32b/governor/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const interval = 200 * time.Millisecond

// page is an exporter's answer to one scrape.
type page struct {
	status      int
	contentType string
	body        string
}

// exporter answers the nth scrape with script(n), and records its answers.
type exporter struct {
	*httptest.Server
	script func(n int) page

	mu    sync.Mutex
	pages []page
}

func newExporter(t *testing.T, script func(n int) page) *exporter {
	e := &exporter{script: script}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	p := e.script(len(e.pages))
	e.pages = append(e.pages, p)
	e.mu.Unlock()
	w.Header().Set("Content-Type", p.contentType)
	w.WriteHeader(p.status)
	_, _ = io.WriteString(w, p.body)
}

func (e *exporter) address() string { return strings.TrimPrefix(e.URL, "http://") }

func (e *exporter) served() []page {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.pages)
}

const (
	classic     = "text/plain; version=0.0.4"
	openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// guarded is an instance of a service behind guard. It restarts at the 25th scrape and serves nothing of its queue from
// the 15th to the 30th.
func guarded(service string, speed int) func(n int) page {
	return func(n int) page {
		var b strings.Builder
		requests := speed * n
		if n >= 25 {
			requests = speed * (n - 25)
		}
		count := func(name, labels string, v float64) {
			fmt.Fprintf(&b, "%s{service=%q%s} %g\n", name, service, labels, v)
		}
		total := float64(requests)
		fmt.Fprintln(&b, "# TYPE guard_offered_total counter")
		count("guard_offered_total", `,criticality="critical"`, 0.25*total)
		count("guard_offered_total", `,criticality="default"`, 0.75*total)
		fmt.Fprintln(&b, "# TYPE guard_admitted_total counter")
		count("guard_admitted_total", `,criticality="default"`, 0.9*total)
		fmt.Fprintln(&b, "# TYPE guard_refused_total counter")
		count("guard_refused_total", `,reason="concurrency",criticality="default"`, 0.1*total)
		count("guard_failed_total", "", math.Floor(total/10))
		count("guard_binding_seconds_total", "", 0.01*total)
		if n < 15 || n >= 30 {
			count("guard_inflight", "", float64(n%7))
		}
		count("guard_limit", "", 96)
		count("guard_service_time_seconds", "", 0)
		count("guard_setting_revision", "", float64(7+n/20))
		fmt.Fprintln(&b, "# TYPE guard_latency_seconds histogram")
		for _, bucket := range []struct {
			le    string
			share float64
		}{{"0.1", 0.5}, {"0.3", 0.85}, {"1", 0.9}, {"+Inf", 0.9}} {
			count("guard_latency_seconds_bucket", fmt.Sprintf(",le=%q", bucket.le), bucket.share*total)
		}
		count("guard_latency_seconds_sum", "", 0.11*total)
		count("guard_latency_seconds_count", "", 0.9*total)
		return page{200, classic, b.String()}
	}
}

// odd is an exporter of everything that is unusual but legal.
func odd(n int) page {
	var b strings.Builder
	fmt.Fprintf(&b, "# HELP odd A gauge.\n# TYPE odd gauge\nodd{kind=\"nan\"} NaN\nodd{kind=\"inf\"} +Inf\n")
	fmt.Fprintf(&b, "odd{kind=\"small\"} %g\nodd{kind=\"large\"} %g\n", 1e-9*float64(n), 1e25*float64(n+1))
	fmt.Fprintf(&b, "odd{kind=\"wave\"} %g\n", math.Sin(float64(n)))
	fmt.Fprintf(&b, "odd{job=\"other\",instance=\"mine\",exported_job=\"third\"} %d\n", n)
	fmt.Fprintf(&b, "odd{kind=\"twice\"} %d\nodd{kind=\"twice\"} %d\n", n, n+1)
	fmt.Fprintf(&b, "odd{kind=\"text\",note=\"a \\\"quote\\\", a \\\\, <tag>, grün\",empty=\"\"} 1\n")
	fmt.Fprintf(&b, "odd_stamped %d %d\n", n, time.Now().UnixMilli()-300*int64(n%3)) // two of three come too late
	fmt.Fprintf(&b, "odd_stamped_once{at=\"fixed\"} 1 %d\n", time.Now().Add(-time.Minute).Truncate(time.Hour).UnixMilli())
	fmt.Fprintf(&b, "odd_summary{quantile=\"0.5\"} 1\nodd_summary{quantile=\"1\"} 2\nodd_summary_count %d\n", n)
	if n%5 == 0 {
		fmt.Fprintf(&b, "odd_flicker %d\n", n)
	}
	fmt.Fprintf(&b, "odd_churn{n=\"%d\"} 1\n", n/4)
	return page{200, classic, b.String()}
}

// open speaks OpenMetrics.
func open(n int) page {
	return page{200, openMetrics, fmt.Sprintf(`# TYPE open counter
# HELP open Requests.
open_total{code="200"} %d # {trace_id="a"} 1.0
open_created{code="200"} 1.5e9
# TYPE open_seconds histogram
# UNIT open_seconds seconds
open_seconds_bucket{le="0.1"} %d
open_seconds_bucket{le="1.0"} %d # {trace_id="b"} 0.5 %d.25
open_seconds_bucket{le="+Inf"} %d
open_seconds_count %d
open_seconds_sum %g
# EOF
`, 3*n, n, 2*n, time.Now().Unix(), 3*n, 3*n, 0.7*float64(n))}
}

// failing is down, garbled or empty at times.
func failing(n int) page {
	good := page{200, classic, fmt.Sprintf("failing_first %d\nfailing_second %d\n", n, n)}
	switch {
	case n >= 8 && n < 12:
		return page{500, classic, "sorry"}
	case n == 16:
		good.body = "failing_first 1\nfailing_third 1\nthis is {not a metric\nfailing_second 1\n"
	case n == 20:
		good.body = ""
	case n == 24:
		good.contentType = "application/json"
	case n == 28:
		good.contentType = "text/html"
	case n == 30:
		good.body = strings.TrimSuffix(good.body, "\n")
	}
	return good
}

// presetQueries returns the queries of package signals for the services: the one of every tick, and the one of the burn
// rates, which runs in the background.
func presetQueries(t *testing.T, services ...string) []string {
	t.Helper()
	var mu sync.Mutex
	var queries []string
	capture := func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(body))
		mu.Lock()
		defer mu.Unlock()
		queries = append(queries, form.Get("query"))
		return nil, cmp.Or(err, errors.New("only captured"))
	}
	var list []signals.Service
	for _, name := range services {
		list = append(list, signals.Service{
			Name:   name,
			Timing: control.Timing{Scrape: time.Second, Window: 4 * time.Second, Period: time.Second},
			SLO:    control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99},
		})
	}
	s, err := signals.New(signals.Options{URL: "http://127.0.0.1:1", RoundTripper: transport(capture)}, list)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Groups()[0].Measure(t.Context(), time.Now())
	waittest.Until(t, "the sensor asks both", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(queries) == 2
	})
	for _, query := range queries {
		if !strings.Contains(query, "governor_signal") {
			t.Fatalf("not the sensor's query: %s", query)
		}
	}
	return queries
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// queries are compared at many instants and over a range. Those in ordered have a meaningful order.
var queries = []string{
	`{__name__=~".+"}`,
	`up`, `up == 0`, `scrape_duration_seconds`, `scrape_samples_scraped`, `scrape_series_added`,
	`scrape_samples_post_metric_relabeling`,
	`timestamp(guard_limit)`, `time() - timestamp(guard_limit)`, `timestamp(odd_stamped)`, `odd_stamped_once`,
	`sum by (service) (rate(guard_offered_total[2s]))`, `sum without (criticality) (increase(guard_offered_total[3s]))`,
	`irate(guard_offered_total[2s])`, `resets(guard_offered_total[4s])`, `changes(guard_setting_revision[5s])`,
	`delta(odd[2s])`, `idelta(odd[2s])`, `deriv(odd[2s])`, `predict_linear(odd[2s], 10)`,
	`histogram_quantile(0.99, sum by (service, le) (rate(guard_latency_seconds_bucket[2s])))`,
	`histogram_quantile(0.5, sum by (le) (rate(open_seconds_bucket[2s])))`,
	`guard_latency_seconds_bucket{le="1.0"}`, `guard_latency_seconds_bucket{le="1"}`, `odd_summary{quantile="1.0"}`,
	`avg_over_time(guard_inflight[3s])`, `guard_inflight`, `count_over_time(guard_inflight[3s])`,
	`last_over_time(guard_inflight[3s])`, `present_over_time(odd_flicker[1s])`, `odd_flicker`,
	`quantile_over_time(0.9, odd{kind="wave"}[3s])`, `stddev_over_time(odd{kind="wave"}[3s])`,
	`absent(guard_inflight)`, `absent_over_time(odd_flicker[600ms])`, `absent(nothing_there{a="b"})`,
	`max_over_time(rate(guard_offered_total[1s])[3s:500ms])`, `avg_over_time(odd{kind="wave"}[3s:])`,
	`guard_limit offset 2s`, `guard_limit offset -1s`, `guard_setting_revision @ start()`, `odd{kind="wave"} @ end()`,
	`count by (kind) (odd)`, `count_values("v", guard_setting_revision)`, `group by (job) (up)`, `stdvar(odd)`,
	`sum(rate(guard_refused_total[2s])) / on () sum(rate(guard_offered_total[2s]))`,
	`guard_limit * on (instance) group_left () up`, `up and on (instance) guard_limit`, `up unless on (instance) odd`,
	`guard_limit > bool 95`, `label_replace(up, "host", "$1", "instance", "([^:]+):.*")`,
	`label_join(up, "both", "/", "job", "instance")`, `scalar(sum(up))`, `vector(time())`, `"a string"`, `1 / 0`,
	`-(0 / 0)`, `42`, `odd{note=~".*grün.*"}`, `odd{exported_job="other"}`, `{exported_exported_job!=""}`,
	`sum(odd_churn)`, `failing_first`, `failing_second`, `failing_third`, `count({__name__=~"failing.*"})`,
	`open_total`, `rate(open_total[2s])`, `open_created`, `sgn(odd)`, `clamp(odd, -1, 1)`, `round(odd, 0.5)`,
	`holt_winters(odd[2s], 0.5, 0.5)`, `topk(2, odd)`, `quantile(0.5, odd)`, `quantile(2, odd)`,
	// Errors and annotations.
	`sum(`, `rate(guard_limit)`, `nonsense(up)`, `{}`, `up[`, `up[5m]`, `up + on (job) odd`, `rate(guard_limit[2s])`,
	`histogram_quantile(0.5, up)`, `label_replace(up, "0", "", "", "(")`, `guard_offered_total{service=~"("}`, ``,
	`sort(odd)`, `sum by (le) (1`, `up{job="a",job="b"}`, `(up`, `1 + "a"`, `max_over_time(up[2s] offset 1y)`,
}

func ordered(query string) bool {
	return strings.HasPrefix(query, "sort") || strings.HasPrefix(query, "topk")
}

// The real Prometheus scrapes exporters that record every answer. Its own series up says when each scrape happened, so
// the same scrapes can be fed to the embedded one, whatever the timing of the machine. Then both must give the same
// answers, digit by digit.
func TestSameScrapesGiveTheSameAnswers(t *testing.T) {
	exporters := []*exporter{
		newExporter(t, guarded("checkout", 10)), newExporter(t, guarded("search", 23)), newExporter(t, odd),
		newExporter(t, open), newExporter(t, failing),
	}
	var groups []servers.TargetGroup
	for i, e := range exporters {
		groups = append(groups, servers.TargetGroup{
			Targets: []string{e.address()}, Labels: map[string]string{"zone": fmt.Sprint("z", i%2)},
		})
	}
	real := servers.Prometheus(t, servers.ScrapeInterval(interval), servers.Targets(groups...))
	ask := func(query string) answer { return get(t, real.URL(), "/api/v1/query", url.Values{"query": {query}}) }
	waittest.Until(t, "each target is scraped 40 times", func() bool {
		return !slices.ContainsFunc(exporters, func(e *exporter) bool { return len(e.served()) < 40 })
	})
	gone := exporters[len(exporters)-1].address()
	real.SetTargets(groups[:len(groups)-1]...)
	waittest.Until(t, "what the removed target exposed is stale", func() bool {
		return len(ask(fmt.Sprintf("{instance=%q}", gone)).vector(t)) == 0
	})

	ours := New(Options{ScrapeInterval: interval})
	first, lastOfAll, lastOfGone := replay(t, ours, real.URL(), exporters, groups)
	embedded := httptest.NewServer(ours)
	defer embedded.Close()

	var instants []time.Time
	for at := first.Add(-interval); at.Before(lastOfGone); at = at.Add(487 * time.Millisecond) {
		instants = append(instants, at)
	}
	// The real one continues to scrape, and a sample with its own timestamp may be 0.6 s late.
	instants = append(instants, lastOfGone, lastOfAll.Add(-time.Second))
	all := slices.Concat(presetQueries(t, "checkout", "search"), presetQueries(t, "checkout"), queries)
	compare := func(method, path string, form url.Values, keepOrder bool) {
		t.Helper()
		want, got := request(t, real.URL(), method, path, form), request(t, embedded.URL, method, path, form)
		if difference := want.difference(got, keepOrder); difference != "" {
			t.Errorf("%s %s %v:\n%s", method, path, form, difference)
		}
		if want.embedded || !got.embedded {
			t.Errorf("%s %s: does the real one say that it is embedded, or the embedded one not?", method, path)
		}
	}
	for i, query := range all {
		for j, at := range instants {
			form := url.Values{"query": {query}, "time": {stamp(at)}}
			compare([]string{http.MethodGet, http.MethodPost}[(i+j)%2], "/api/v1/query", form, ordered(query))
		}
		for _, step := range []string{"333ms", "1"} {
			form := url.Values{"query": {query}, "start": {stamp(first)}, "end": {stamp(lastOfGone)}, "step": {step}}
			compare(http.MethodPost, "/api/v1/query_range", form, false)
		}
	}
	at := stamp(lastOfGone)
	during := "&start=" + stamp(first) + "&end=" + at
	for _, c := range []struct {
		path, form string
		getOnly    bool
	}{
		{path: "labels"},
		{path: "labels", form: "match[]=odd&match[]=up"},
		{path: "labels", form: "match[]={}"},
		{path: "labels", form: "match[]=odd&limit=2"},
		{path: "labels", form: "limit=-1"},
		{path: "labels", form: "start=yesterday"},
		{path: "labels", form: "match[]=sum("},
		{path: "label/__name__/values", getOnly: true},
		{path: "label/service/values", getOnly: true},
		{path: "label/kind/values", form: "match[]=odd{kind!='nan'}", getOnly: true},
		{path: "label/le/values", form: "limit=9", getOnly: true},
		{path: "label/none/values", getOnly: true},
		{path: "label/U__zone/values", getOnly: true},
		{path: "label/zone/values", form: "match[]={}", getOnly: true},
		{path: "series"},
		{path: "series", form: "match[]=odd" + during},
		{path: "series", form: "match[]=odd&match[]={job!=''}" + during},
		{path: "series", form: "match[]={}"},
		{path: "series", form: "match[]=odd&limit=nine"},
		{path: "series", form: "match[]=odd("},
		{path: "query"},
		{path: "query", form: "query=up&time=never"},
		{path: "query", form: "query=up&timeout=never"},
		{path: "query", form: "query=up&timeout=0"},
		{path: "query", form: "query=sort(odd{kind=~'small|wave|large'})&time=" + at + "&limit=2"},
		{path: "query", form: "query=odd&lookback_delta=100ms&time=" + at},
		{path: "query", form: "query=up&lookback_delta=x"},
		{path: "query", form: "query=up&limit=-3"},
		{path: "query", form: "query=up&time=2006-01-02T15:04:05Z"},
		{path: "query_range", form: "query=up"},
		{path: "query_range", form: "query=up&start=2&end=1&step=1"},
		{path: "query_range", form: "query=up&start=1&end=2&step=0"},
		{path: "query_range", form: "query=up&start=1&end=2&step=one"},
		{path: "query_range", form: "query=up&start=1&end=20000&step=1"},
	} {
		form, err := url.ParseQuery(c.form)
		if err != nil {
			t.Fatal(err)
		}
		compare(http.MethodGet, "/api/v1/"+c.path, form, false)
		if !c.getOnly {
			compare(http.MethodPost, "/api/v1/"+c.path, form, false)
		}
	}
}

// replay feeds the exporters' answers to s, at the instants and with the durations that the real Prometheus at base
// reports. The last exporter's target ends. It returns the times of the first and the last scrape, and of the last
// scrape of that target.
func replay(t *testing.T, s *Server, base string, exporters []*exporter, groups []servers.TargetGroup,
) (first, last, lastOfGone time.Time) {
	t.Helper()
	type scrape struct {
		target *target
		at     time.Time
		result result
		end    bool
	}
	var scrapes []scrape
	for i, e := range exporters {
		l, address := targetLabels(e.address(), groups[i].Labels)
		target := newTarget(s.head, address, l)
		points := func(name string) [][2]any {
			query := fmt.Sprintf("%s{instance=%q}[10m]", name, e.address())
			series := get(t, base, "/api/v1/query", url.Values{"query": {query}}).vector(t)
			if len(series) != 1 {
				t.Fatalf("%d series %s of %s", len(series), name, e.URL)
			}
			return series[0].Values
		}
		up, duration, pages := points("up"), points("scrape_duration_seconds"), e.served()
		if n := len(pages) - len(up); n < 0 || n > 1 || len(duration) < len(up) {
			t.Fatalf("%d answers to %d scrapes", len(pages), len(up))
		}
		for j, p := range up {
			r := result{contentType: pages[j].contentType, body: []byte(pages[j].body)}
			if pages[j].status != http.StatusOK {
				r = result{err: errors.New("status")}
			}
			took := time.Duration(math.Round(number(t, duration[j][1]) * 1e9))
			if p[1] == "0" && took >= interval {
				r = result{err: context.DeadlineExceeded} // the answer came, and on a busy machine too late
			}
			r.duration = took
			scrapes = append(scrapes, scrape{target: target, at: millis(p[0]), result: r})
		}
		if i == len(exporters)-1 {
			lastOfGone = millis(up[len(up)-1][0])
			scrapes = append(scrapes, scrape{target: target, at: lastOfGone.Add(interval), end: true})
		}
	}
	slices.SortStableFunc(scrapes, func(a, b scrape) int { return a.at.Compare(b.at) })
	for _, c := range scrapes {
		if c.end {
			c.target.end(c.at)
			continue
		}
		_ = c.target.store(c.at, c.result) // an error is up = 0, and compared as such
	}
	return scrapes[0].at, scrapes[len(scrapes)-1].at, lastOfGone
}

func millis(v any) time.Time { return time.UnixMilli(int64(math.Round(v.(float64) * 1000))) }

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func number(t *testing.T, v any) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(v.(string), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// answer is a reply of the API.
type answer struct {
	status      int
	contentType string
	embedded    bool
	body        []byte
}

type resultSeries struct {
	Metric map[string]string
	Values [][2]any
}

// vector returns the series of a successful answer.
func (a answer) vector(t *testing.T) []resultSeries {
	t.Helper()
	var reply struct {
		Data struct{ Result []resultSeries }
	}
	if err := json.Unmarshal(a.body, &reply); err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", a.status, err, a.body)
	}
	return reply.Data.Result
}

// difference says how other differs; "" if it means the same. The order of series has no meaning unless keepOrder.
func (a answer) difference(other answer, keepOrder bool) string {
	if a.status != other.status || a.contentType != other.contentType {
		return fmt.Sprintf("real: %d %s %s\nours: %d %s %s", a.status, a.contentType, brief(a.body), other.status,
			other.contentType, brief(other.body))
	}
	if x, y := canonical(a.body, keepOrder), canonical(other.body, keepOrder); !reflect.DeepEqual(x, y) {
		return firstDifference("", x, y)
	}
	return ""
}

// firstDifference finds where two decoded answers differ.
func firstDifference(path string, x, y any) string {
	if a, ok := x.(map[string]any); ok {
		if b, ok := y.(map[string]any); ok {
			for _, key := range slices.Sorted(maps.Keys(a)) {
				if !reflect.DeepEqual(a[key], b[key]) {
					return firstDifference(path+"."+key, a[key], b[key])
				}
			}
		}
	}
	if a, ok := x.([]any); ok {
		if b, ok := y.([]any); ok {
			for i := range min(len(a), len(b)) {
				if !reflect.DeepEqual(a[i], b[i]) {
					return firstDifference(fmt.Sprintf("%s[%d]", path, i), a[i], b[i])
				}
			}
			path = fmt.Sprintf("%s (%d and %d)", path, len(a), len(b))
		}
	}
	return fmt.Sprintf("at %s\nreal: %s\nours: %s", path, brief(x), brief(y))
}

// canonical decodes a body. It writes values, which are strings in JSON, in one form, and sorts series by labels.
func canonical(body []byte, keepOrder bool) any {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return string(body)
	}
	reply, _ := v.(map[string]any)
	list, _ := reply["data"].([]any)
	if data, ok := reply["data"].(map[string]any); ok {
		list, _ = data["result"].([]any)
		if kind := data["resultType"]; kind == "scalar" {
			list = nil
		}
	}
	for _, item := range list {
		series, _ := item.(map[string]any)
		points, _ := series["values"].([]any)
		if point, ok := series["value"]; ok {
			points = append(points, point)
		}
		for _, p := range points {
			pair := p.([]any)
			if f, err := strconv.ParseFloat(pair[1].(string), 64); err == nil {
				pair[1] = strconv.FormatFloat(f, 'g', -1, 64)
			}
		}
	}
	if !keepOrder && len(list) > 0 {
		text := func(v any) string {
			if series, ok := v.(map[string]any); ok && series["metric"] != nil {
				v = series["metric"]
			}
			b, _ := json.Marshal(v)
			return string(b)
		}
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	}
	return v
}

func brief(v any) string {
	b, ok := v.([]byte)
	if !ok {
		b, _ = json.Marshal(v)
	}
	return string(b[:min(len(b), 600)])
}

func get(t *testing.T, base, path string, form url.Values) answer {
	t.Helper()
	return request(t, base, http.MethodGet, path, form)
}

func request(t *testing.T, base, method, path string, form url.Values) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	address, body := base+path, io.Reader(nil)
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	} else {
		address += "?" + form.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{
		status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), embedded: resp.Header.Get(Header) != "",
	}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return a
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: false, IdleConnTimeout: time.Second}}
