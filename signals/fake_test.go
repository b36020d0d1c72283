package signals

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// evaluated is the instant of the recorded reply.
var evaluated = time.UnixMilli(1795568820804)

var second = control.Timing{Scrape: time.Second, Window: 4 * time.Second, Period: time.Second}

func checkout() Service {
	return Service{
		Name: "checkout", SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99}, Timing: second,
	}
}

// row is one element of a reply.
type row struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// recording is a reply of the real Prometheus 3 to the group's query for checkout, with two instances: a, which has
// 200 arrivals a second, refuses 40 of them and is slow with 5% of the rest, and b, which is well. Tests edit it.
type recording struct {
	rows     []row
	warnings []string
	infos    []string
}

func healthy(t testing.TB) *recording { return recorded(t, "healthy") }

// recorded reads a reply of the real Prometheus 3:
//
//	healthy                 two guards
//	classes                 a guard that reports every signal, evaluated at later
//	burn                    the burn rates of that guard, 5% slow and 2.5% failed
//	histogram               the service web at later: a, which refuses four of five requests and takes 0.9 s for the
//	                        others, of which 5% fail, and b, which is well
//	own_offered, own_mean   the same by queries of the user's own; the mean over all replies
func recorded(t testing.TB, name string) *recording {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var body struct{ Data struct{ Result []row } }
	if err := json.Unmarshal(b, &body); err != nil {
		t.Fatal(err)
	}
	return &recording{rows: body.Data.Result}
}

// later is the instant of the other recorded replies.
var later = time.UnixMilli(1795572139511)

// matches says whether the row is of the signal and, unless instance is empty, of the instance.
func (r row) matches(signal, instance string) bool {
	return r.Metric[signalLabel] == signal && (instance == "" || r.Metric["instance"] == instance)
}

// set changes the value of a signal; it panics if there is none to change.
func (rec *recording) set(signal, instance, value string) *recording {
	found := false
	for i, r := range rec.rows {
		if r.matches(signal, instance) {
			rec.rows[i].Value[1] = value
			found = true
		}
	}
	if !found {
		panic(fmt.Sprintf("no row %s of %s", signal, instance))
	}
	return rec
}

// drop removes a signal; it panics if there is none to remove.
func (rec *recording) drop(signal, instance string) *recording {
	var kept []row
	for _, r := range rec.rows {
		if !r.matches(signal, instance) {
			kept = append(kept, r)
		}
	}
	if len(kept) == len(rec.rows) {
		panic(fmt.Sprintf("no row %s of %s", signal, instance))
	}
	rec.rows = kept
	return rec
}

// dropInstance removes everything of an instance, but keeps what the arguments name.
func (rec *recording) dropInstance(instance string, keep ...string) *recording {
	var kept []row
	for _, r := range rec.rows {
		keeps := r.Metric["instance"] != instance
		for _, signal := range keep {
			keeps = keeps || r.Metric[signalLabel] == signal
		}
		if keeps {
			kept = append(kept, r)
		}
	}
	rec.rows = kept
	return rec
}

// twin adds a copy of the rows of a signal with one label set differently, and a value.
func (rec *recording) twin(signal, instance, label, value, number string) *recording {
	for _, r := range rec.rows {
		if r.matches(signal, instance) {
			labels := map[string]string{}
			maps.Copy(labels, r.Metric)
			labels[label] = value
			rec.rows = append(rec.rows, row{labels, [2]any{r.Value[0], number}})
		}
	}
	return rec
}

// reversed turns the order of the rows around, as a server may do from one reply to the next.
func (rec *recording) reversed() *recording {
	for i, j := 0, len(rec.rows)-1; i < j; i, j = i+1, j-1 {
		rec.rows[i], rec.rows[j] = rec.rows[j], rec.rows[i]
	}
	return rec
}

func (rec *recording) body() string {
	b, err := json.Marshal(map[string]any{
		"status":   "success",
		"data":     map[string]any{"resultType": "vector", "result": rec.rows},
		"warnings": rec.warnings,
		"infos":    rec.infos,
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

const empty = `{"status":"success","data":{"resultType":"vector","result":[]}}`

// fake is a Prometheus that answers the queries of the ticks as its handler says, and counts them. Of burn rates it
// knows nothing.
type fake struct {
	*httptest.Server
	queries atomic.Int64
}

func newFake(t testing.TB, h http.HandlerFunc) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			return // given up before it was sent whole, as the second query is when the first has failed
		}
		if ofBurnRates(r.FormValue("query")) {
			fmt.Fprint(w, empty)
			return
		}
		f.queries.Add(1)
		h(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func ofBurnRates(query string) bool { return strings.Contains(query, "burn_completed") }

// answering returns a fake with one fixed reply.
func answering(t testing.TB, body string) *fake {
	return newFake(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
}

func sensor(t testing.TB, opts Options, services ...Service) *Sensor {
	t.Helper()
	s, err := New(opts, services)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// measure asks a fake with a fixed reply for checkout.
func measure(t testing.TB, body string) control.Measurement {
	t.Helper()
	s := sensor(t, Options{URL: answering(t, body).URL, Timeout: 10 * time.Second}, slowly(checkout()))
	return s.Groups()[0].Measure(t.Context(), evaluated)[0]
}

// web is a service without guard: its histogram counts refusals among the replies.
func web() Service {
	s := slowly(checkout())
	s.Name, s.Preset, s.Labels, s.SLO.Errors = "web", HTTPHistogram, map[string]string{"job": "shop"}, 0.01
	s.Histogram = Histogram{
		Metric: "http_request_duration_seconds", Selector: `handler!="/healthz"`, Admitted: `code!~"429|503"`,
		Failed: `code=~"5.."`, InFlight: "http_requests_in_flight",
	}
	return s
}

// own is a service that is measured by queries of the user's own.
func own() Service {
	s := slowly(checkout())
	s.Name, s.Preset = "own", Custom
	s.Queries = map[Signal]string{
		Offered: "sum by (instance) (rate(requests_total[$window]))",
		Mean:    "sum by (instance) (rate(seconds_total[$window])) / sum by (instance) (rate(requests_total[$window]))",
	}
	return s
}

// replies answers each query by the first recording whose key occurs in it, else by an empty vector.
type replies []struct {
	key  string
	body string
}

func (all replies) RoundTrip(r *http.Request) (*http.Response, error) {
	form, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(string(form))
	if err != nil {
		return nil, err
	}
	for _, reply := range all {
		if strings.Contains(values.Get("query"), reply.key) {
			return ok(reply.body), nil
		}
	}
	return ok(empty), nil
}

// snapshot measures the service once, by fixed replies.
func snapshot(t testing.TB, s Service, now time.Time, all replies) control.Measurement {
	t.Helper()
	return sensor(t, Options{URL: "http://prometheus", RoundTripper: all}, s).Groups()[0].Measure(t.Context(), now)[0]
}

// slowly gives a query time on a busy machine; the timing that matters to the reply stays.
func slowly(s Service) Service {
	s.Timing.Period = time.Minute
	return s
}
