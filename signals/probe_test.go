package signals

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// probed answers the queries of a probe: that of the tick and that about the raw series by recordings, and labels.
func probed(t *testing.T, s Service, tick, raw *recording, labels string) Probe {
	t.Helper()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/labels"):
			fmt.Fprint(w, labels)
		case strings.Contains(r.FormValue("query"), "newest_"):
			fmt.Fprint(w, raw.body())
		default:
			for i := range tick.rows { // evaluated now
				if row := &tick.rows[i]; row.matches(sigSeen, "") {
					row.Value[1] = fmt.Sprintf("%.3f", float64(time.Now().UnixMilli())/1000-0.3)
				}
			}
			fmt.Fprint(w, tick.body())
		}
	})
	p, err := sensor(t, Options{URL: f.URL}, s).Probe(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// series is a reply about raw series: n of each signal, the newest of them a second old.
func series(n map[string]int) *recording {
	rec := &recording{}
	for signal, count := range n {
		rec.rows = append(rec.rows,
			row{map[string]string{signalLabel: "series_" + signal}, [2]any{0, fmt.Sprint(count)}},
			row{map[string]string{signalLabel: "newest_" + signal}, [2]any{0, fmt.Sprint(time.Now().Unix() - 1)}})
	}
	return rec
}

func (p Probe) advises(t *testing.T, want ...string) {
	t.Helper()
	all := strings.Join(p.Advice, "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("no advice that mentions %q:\n%s", w, all)
		}
	}
	if len(want) == 0 && len(p.Advice) > 0 {
		t.Errorf("advice where all is well:\n%s", all)
	}
}

func TestProbe(t *testing.T) {
	guardSeries := map[string]int{}
	for signal := range guardSources {
		guardSeries[signal] = 2
	}
	s := slowly(checkout())
	s.SLO.Objective = 0.95 // whose percentile needs no more requests than there are
	p := probed(t, s, healthy(t), series(guardSeries), "")
	p.advises(t)
	isInvalid(t, p.Measurement, "", "")
	if text(p.Arrivals) != "1120.27" || text(p.ObservedScrape) != "1" || p.Method != "POST" {
		t.Errorf("arrivals %s, scraped every %s, method %s", text(p.Arrivals), text(p.ObservedScrape), p.Method)
	}
	if !p.AtSLO || p.Below != 100*time.Millisecond || p.Above != time.Second || len(p.Edges) != 3 {
		t.Errorf("edges %v: %s, %v, %s", p.Edges, p.Below, p.AtSLO, p.Above)
	}
	found := map[Signal]Found{}
	for _, f := range p.Signals {
		found[f.Signal] = f
	}
	mean := found[Mean]
	selector := `guard_latency_seconds_sum{service="checkout"}`
	if mean.Unit != "seconds" || text(mean.Series) != "2" || mean.Selector != selector {
		t.Errorf("mean: %+v", mean)
	}
	if v := mean.Value.Or(0); v < 0.055 || v > 0.065 { // weighted by completions: (640·0.08 + 320·0.02)/960
		t.Errorf("mean %s", text(mean.Value))
	}
	if age := mean.Age.Or(-1); age < 0 || age > 60 {
		t.Errorf("age %s", text(mean.Age))
	}

	s.Timing.Scrape, s.SLO.Latency = 5*time.Second, 500*time.Millisecond
	guardSeries[sigFailed] = 0
	raw := series(guardSeries)
	for i, r := range raw.rows {
		if r.matches("newest_inflight", "") {
			raw.rows[i].Value[1] = fmt.Sprint(time.Now().Unix() - 240)
		}
	}
	tick := healthy(t)
	tick.warnings = []string{"No StoreAPIs matched"}
	probed(t, s, tick, raw, "").advises(t, "scraped every 1s, configured 5s: set timing: {scrape_interval: 1s}",
		"no bucket edge at the SLO of 500ms (next to it: 300ms and 1s)", "failed: nothing found for guard_failed_total",
		"inflight: the newest sample is 24", "answers only in part (No StoreAPIs matched)")

	if _, err := sensor(t, Options{URL: "http://prometheus"}, s).Probe(t.Context(), "nobody"); err == nil {
		t.Error("a service that is not there")
	}
}

func TestProbeOfLittleTraffic(t *testing.T) {
	tick := healthy(t).set(sigOffered, "", "20")
	probed(t, slowly(checkout()), tick, series(nil), "").
		advises(t, "40 requests in the window of 4s: with fewer than 100")
	probed(t, slowly(checkout()), healthy(t).set(sigOffered, "", "400"), series(nil), "").
		advises(t, "800 requests in the window of 4s: the p99 needs 1000")
	probed(t, slowly(checkout()), &recording{}, series(nil), "").
		advises(t, `guard_limit{service="checkout"} finds nothing`)
}

// A15, envoyproxy/envoy#8274: say so where nothing separates refusals from the work done.
func TestProbeWarnsWhereRefusalsAreNotTold(t *testing.T) {
	s := web()
	labels := `{"status":"success","data":["__name__","handler","http_status_code","instance"]}`
	for _, a := range probed(t, s, recorded(t, "histogram"), series(nil), labels).Advice {
		if strings.Contains(a, "refus") {
			t.Errorf("advice %q where admitted is set", a)
		}
	}
	s.Histogram.Admitted = ""
	probed(t, s, recorded(t, "histogram"), series(nil), labels).
		advises(t, `set admitted, such as http_status_code!~"429|503"`)
	labels = `{"status":"success","data":["__name__","handler","instance"]}`
	s.Histogram.InFlight, s.Histogram.Failed = "", ""
	probed(t, s, recorded(t, "histogram"), series(nil), labels).advises(t,
		"no label that separates refused from admitted requests (it has handler, instance)",
		NotBinding, "failed requests cannot be counted")
}

// TestProbeNamesALabelThatTheMetricLacks: whichever selector or query it stands in, and whether it then selects nothing or
// everything.
func TestProbeNamesALabelThatTheMetricLacks(t *testing.T) {
	labels := `{"status":"success","data":["__name__","code","handler","instance","job","le","service"]}`
	for _, c := range []struct {
		change func(*Histogram)
		want   string
	}{
		{func(h *Histogram) { h.Failed = `status=~"5.."` }, `has no label status, so status=~"5.." selects nothing; it has code, handler`},
		{func(h *Histogram) { h.Failed = `status!~"2.."` }, `has no label status, so status!~"2.." selects everything`},
		{func(h *Histogram) { h.Selector = `path!="/healthz"` }, `has no label path, so path!="/healthz" selects everything`},
		{func(h *Histogram) { h.InFlight = `http_in_flight{pod="a"}` }, `http_in_flight has no label pod, so pod="a" selects nothing`},
	} {
		s := web()
		c.change(&s.Histogram)
		p := probed(t, s, recorded(t, "histogram"), series(nil), labels)
		p.advises(t, c.want)
		if len(p.Unlabeled) == 0 {
			t.Errorf("%s: it is not counted as missing", c.want)
		}
	}
	s := web()
	s.Histogram.Failed, s.Histogram.Selector = `code=~"5.."`, `shard=""` // which is true where there is no such label
	if p := probed(t, s, recorded(t, "histogram"), series(nil), labels); len(p.Unlabeled) != 0 {
		t.Errorf("it misses %v", p.Unlabeled)
	}
	if p := probed(t, s, recorded(t, "histogram"), series(nil), ""); len(p.Unlabeled) != 0 {
		t.Errorf("though Prometheus tells no labels, it misses %v", p.Unlabeled)
	}
}

// A11, grafana/mcp-grafana#632, prometheus/client_golang#1619.
func TestProbeFindsThatOnlyGETWorks(t *testing.T) {
	for _, status := range []int{403, 500} {
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				http.Error(w, "read-only", status)
				return
			}
			fmt.Fprint(w, healthy(t).body())
		})
		p, err := sensor(t, Options{URL: f.URL}, slowly(checkout())).Probe(t.Context(), "checkout")
		if err != nil || p.Method != http.MethodGet {
			t.Errorf("POST %d: method %s, %v", status, p.Method, err)
		}
		p.advises(t, "set prometheus: {http_method: GET}")
	}
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "who are you", http.StatusUnauthorized)
	})
	p, err := sensor(t, Options{URL: f.URL}, slowly(checkout())).Probe(t.Context(), "checkout")
	if err != nil || p.Method != http.MethodPost {
		t.Errorf("method %s, %v", p.Method, err)
	}
	isInvalid(t, p.Measurement, control.QueryError, "check the credentials")
}
