package signals

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

func TestQueriesDoNotGrowWithServices(t *testing.T) {
	for _, n := range []int{1, 10, 300} {
		var services []Service
		for i := range n {
			s := slowly(checkout())
			s.Name = fmt.Sprintf("service-%d", i)
			s.SLO.Latency = time.Duration(100+10*i) * time.Millisecond
			s.Labels = map[string]string{"namespace": fmt.Sprint(i % 3)}
			services = append(services, s)
		}
		body := healthy(t).body()
		var ticks, burns atomic.Int64
		w := wire(func(r *http.Request) (*http.Response, error) {
			if ofBurnRates(query(t, r)) {
				burns.Add(1)
			} else {
				ticks.Add(1)
			}
			return ok(body), nil
		})
		s := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, services...)
		for _, g := range s.Groups() {
			if got := g.Measure(t.Context(), evaluated); len(got) != n || got[n-1].Service != services[n-1].Name {
				t.Errorf("%d measurements for %d services", len(got), n)
			}
		}
		s.Close() // waits for what runs in the background
		if a, b := ticks.Load(), burns.Load(); a != 1 || b > 1 {
			t.Errorf("%d services: %d queries a period and %d of burn rates, want 1 and at most 1", n, a, b)
		}
	}
}

func TestGroupsShareWhatTheQueryNeeds(t *testing.T) {
	a, b, c, d := checkout(), checkout(), checkout(), checkout()
	b.Name, b.SLO.Latency = "payment", time.Second
	c.Name, c.SLO.Objective = "search", 0.95
	d.Name, d.Timing.Window = "cart", time.Minute
	groups := sensor(t, Options{URL: "http://prometheus"}, a, b, c, d).Groups()
	var names []string
	for _, g := range groups {
		names = append(names, strings.Join(g.Services(), "+"))
	}
	if got := strings.Join(names, " "); got != "checkout+payment search cart" {
		t.Errorf("groups %s", got)
	}
	if w := groups[2].Timing().Window; w != time.Minute {
		t.Errorf("timing of the third group: window %s", w)
	}
}

// The query must be PromQL for any names and numbers that the configuration lets through.
func TestQueryParses(t *testing.T) {
	odd := checkout()
	odd.Name = `we"ird\.*|+(ü`
	odd.SLO = control.SLO{Latency: 123456 * time.Microsecond, Objective: 0.99999}
	odd.Timing = control.Timing{Scrape: 250 * time.Millisecond, Window: 1500 * time.Millisecond, Period: time.Second}
	odd.Labels = map[string]string{"job": `a"b\n`}
	also := odd
	also.Name, also.Labels = "plain", nil
	calls, native := odd, odd
	calls.Calls, native.Calls, native.Native = true, true, true
	for _, services := range [][]Service{{checkout()}, {odd}, {odd, also}, {calls}, {native}} {
		for _, g := range sensor(t, Options{URL: "http://prometheus"}, services...).Groups() {
			for _, q := range g.Queries() {
				if _, err := promQL.ParseExpr(q); err != nil {
					t.Errorf("%v\n%s", err, q)
				}
			}
		}
	}
}

func TestEverySignalIsAsked(t *testing.T) {
	q := sensor(t, Options{URL: "http://prometheus"}, checkout()).Groups()[0].query
	for signal := range guardSources {
		if n := strings.Count(q, fmt.Sprintf(`"governor_signal", %q`, signal)); n != 1 {
			t.Errorf("signal %s is asked %d times", signal, n)
		}
	}
}

func TestEdgesInEverySpelling(t *testing.T) {
	for _, tc := range []struct {
		latency time.Duration
		match   []string
		not     []string
	}{
		{300 * time.Millisecond, []string{"0.3"}, []string{"0.31", "0x3", "10.3"}},
		{time.Second, []string{"1", "1.0"}, []string{"10", "1.5", "+Inf"}},
		{10 * time.Second, []string{"10", "10.0"}, []string{"1"}},
		{50 * time.Microsecond, []string{"0.00005", "5e-05"}, []string{"5"}},
	} {
		s := checkout()
		s.SLO.Latency = tc.latency
		pattern, err := strconv.Unquote(strings.TrimPrefix(edgePattern([]subject{newSubject(s)}), "le=~"))
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile("^(?:" + pattern + ")$") // as Prometheus anchors
		for _, le := range tc.match {
			if !re.MatchString(le) || !sameEdge(le, tc.latency.Seconds()) {
				t.Errorf("%s: le=%q is not found", tc.latency, le)
			}
		}
		for _, le := range tc.not {
			if re.MatchString(le) || sameEdge(le, tc.latency.Seconds()) {
				t.Errorf("%s: le=%q is found", tc.latency, le)
			}
		}
	}
}

func TestQueryByGETFitsIntoAURL(t *testing.T) {
	many := func(labels map[string]string) (all []Service) {
		for i := range 200 {
			s := checkout()
			s.Name, s.Labels = fmt.Sprintf("service-%d", i), labels
			all = append(all, s)
		}
		return all
	}
	named := sensor(t, Options{URL: "http://prometheus"}, many(nil)...).Groups()[0].query
	if !strings.Contains(named, "service-199") {
		t.Error("by POST every service is named")
	}
	for _, labels := range []map[string]string{nil, {"job": "x"}} {
		q := sensor(t, Options{URL: "http://prometheus", Method: http.MethodGet}, many(labels)...).Groups()[0].query
		if n := len(url.QueryEscape(q)); n > getBudget {
			t.Errorf("%d bytes by GET", n)
		}
		if _, err := promQL.ParseExpr(q); err != nil {
			t.Error(err)
		}
	}
	few := sensor(t, Options{URL: "http://prometheus", Method: http.MethodGet}, checkout()).Groups()[0].query
	if !strings.Contains(few, `service="checkout"`) {
		t.Error("a short query by GET names its services")
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	bad := checkout()
	bad.Name, bad.SLO.Objective, bad.Timing.Window, bad.Labels = "bad", 1, 0, map[string]string{"a-b": "", "service": "x"}
	_, err := New(Options{URL: "http://prometheus"}, []Service{checkout(), checkout(), bad})
	for _, want := range []string{
		`"checkout" is listed twice`, "objective 1", "window 0s", `label name "a-b"`, "label service",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
	for _, opts := range []Options{{}, {URL: "localhost:9090"}, {URL: "ftp://x"}, {URL: "http://x", Method: "PUT"}} {
		if _, err := New(opts, []Service{checkout()}); err == nil {
			t.Errorf("%+v is accepted", opts)
		}
	}
	if s, err := New(Options{URL: "http://prometheus"}, nil); err != nil || len(s.Groups()) != 0 {
		t.Errorf("no services: %v", err)
	}
}

// Names with dots are those of OpenTelemetry; a dash is the name of a label in Kubernetes, which Prometheus does not see.
func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"pod": true, "service.name": true, "k8s.pod.name": true, "app.kubernetes.io/name": true,
		"": false, "k8s-app": false, "latency{}": false, `a.b="c"`: false, ".": false, "a b.c": false, "\xff.x": false,
	} {
		if got := ValidLabelName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
