package checkconfig

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded/prom"
	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/test/golden"
	"github.com/seed-de83e32b/governor/test/servers"
)

// exporter serves the metrics of one instance of checkout, which has a guard, and of one of cart, which has a histogram
// by code. Counters are a function of the time since its start.
func exporter(since time.Time, w io.Writer) {
	age := time.Since(since).Seconds()
	line := func(name, labels string, v float64) { fmt.Fprintf(w, "%s{%s} %g\n", name, labels, v) }
	kind := func(name, kind string) { fmt.Fprintf(w, "# TYPE %s %s\n", name, kind) }
	const checkout = `service="checkout"`
	for _, c := range []struct {
		name, labels string
		perSecond    float64
	}{
		{"guard_offered_total", `,criticality="critical"`, 100},
		{"guard_offered_total", `,criticality="default"`, 300},
		{"guard_admitted_total", `,criticality="critical"`, 100},
		{"guard_admitted_total", `,criticality="default"`, 250},
		{"guard_refused_total", `,reason="concurrency",criticality="default"`, 50},
		{"guard_failed_total", "", 1},
		{"guard_binding_seconds_total", "", 0.3},
	} {
		kind(c.name, "counter")
		line(c.name, checkout+c.labels, c.perSecond*age)
	}
	for name, v := range map[string]float64{
		"guard_inflight": 40, "guard_limit": 64, "guard_service_time_seconds": 0, "guard_setting_revision": 7,
	} {
		kind(name, "gauge")
		line(name, checkout, v)
	}
	histogram := func(name, labels string, perSecond, mean float64, edges ...string) {
		for _, le := range edges {
			line(name+"_bucket", labels+`,le="`+le+`"`, perSecond*age)
		}
		line(name+"_sum", labels, mean*perSecond*age)
		line(name+"_count", labels, perSecond*age)
	}
	kind("guard_latency_seconds", "histogram")
	histogram("guard_latency_seconds", checkout, 350, 0.08, "0.1", "0.3", "1", "+Inf")
	kind("http_request_duration_seconds", "histogram")
	histogram("http_request_duration_seconds", `code="200"`, 60, 0.09, "0.25", "0.5", "+Inf")
	histogram("http_request_duration_seconds", `code="429"`, 5, 0.001, "0.25", "0.5", "+Inf")
	kind("http_requests_in_flight", "gauge")
	line("http_requests_in_flight", `app="cart"`, 5)
}

// handlerTransport answers requests with a handler in this process, without a network.
type handlerTransport struct{ handler http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	h.handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// world is a Prometheus that has scraped three instances for a minute, and an in-memory Consul that records its
// requests.
type world struct {
	prometheus http.Handler
	kv         *consultest.Fake
	asked      []string
}

// inWorld runs test in a bubble, whose clock makes what is measured exact.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) { inWorldOf(t, exporter, test) }

// inWorldOf is inWorld with other instances.
func inWorldOf(t *testing.T, export func(since time.Time, w io.Writer), test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		scraped := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			export(began, w)
		})
		server := prom.New(prom.Options{
			ScrapeInterval: 5 * time.Second, Transport: handlerTransport{scraped},
			Targets: []prom.TargetGroup{{Targets: []string{"a:8080", "b:8080", "c:8080"}, Labels: map[string]string{"job": "shop"}}},
		})
		w := &world{prometheus: server, kv: consultest.NewFake()}
		var mu sync.Mutex
		w.kv.SetHook(func(_ http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			w.asked = append(w.asked, r.Method+" "+r.URL.Path)
			return false
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { server.Run(ctx) })
		defer running.Wait()
		defer cancel()
		time.Sleep(time.Minute)
		test(t, w)
	})
}

func (w *world) look(t *testing.T, file string) (text string, code int) {
	t.Helper()
	c, _, err := configs.Parse("governor.yml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLook(t.Context(), c, w.kv.Client(), handlerTransport{w.prometheus})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	code = l.report(t.Context(), &out)
	return out.String(), code
}

const header = "prometheus: {url: \"http://prometheus:9090\"}\nconsul: {address: \"http://consul:8500\"}\nservices:\n"

const checkout = `
  checkout:
    mode: enforce
    slo: {latency: 300ms, objective: 99%, errors: 1%}
    concurrency: {min: 20, max: 400}
    shed: {protect: critical}
`

const cart = `
  cart:
    mode: enforce
    slo: {latency: 500ms, objective: 95%}
    concurrency: {min: 2, max: 40}
    metrics:
      preset: http_histogram
      labels: {job: shop}
      histogram:
        metric: http_request_duration_seconds
        admitted: code!="429"
        failed: code=~"5.."
        inflight: http_requests_in_flight{app="cart"}
`

// elect makes the store look as if a governor leads and has published a Setting of checkout.
func elect(t *testing.T, client *consul.Client) (session string) {
	t.Helper()
	keys := actuators.Keys{}
	session, _, err := client.Session().CreateNoChecks(&api.SessionEntry{TTL: "10m"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	holder, err := json.Marshal(consul.Holder{Instance: "gov-1:9747", API: "http://gov-1:9747", Epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	pair := &api.KVPair{Key: keys.Leader(), Value: holder, Session: session}
	if ok, _, err := client.KV().Acquire(pair, nil); err != nil || !ok {
		t.Fatalf("acquire the lock: %t, %v", ok, err)
	}
	now := time.Now().UTC()
	s := actuators.Setting{
		Schema: actuators.Schema, Service: "checkout", Epoch: 3, Revision: 7, LeaseSeconds: 180, Reason: "test",
		IssuedAt: now.Add(-40 * time.Second), ChangedAt: now.Add(-time.Hour),
		Concurrency: &actuators.Concurrency{
			Limit: 64, Ceiling: 128, LatencyTargetSeconds: 0.12, Fallback: 89, Min: 20, Max: 400,
		},
		Shed: &actuators.Shed{Threshold: 0.6, Fallback: 0.6, Min: 0.4, Max: 0.6},
	}
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	fence := consul.Fence{Key: keys.Leader(), Session: session, Epoch: 3}
	_, err = consul.NewPublisher(client, keys, consul.PublisherOptions{}).Publish(t.Context(), fence, s, 0)
	if err != nil {
		t.Fatalf("publish %s: %v", raw, err)
	}
	return session
}

// The whole report, for a service that is ready and one whose histogram has no bucket edge at the SLO.
func TestOnlineReport(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		elect(t, w.kv.Client())
		text, code := w.look(t, header+checkout+strings.Replace(cart, "500ms", "300ms", 1))
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		golden.File(t, "testdata/online.txt", text)
	})
}

func TestReadyIsExitCodeZero(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		asGET := strings.Replace(header, "9090\"", "9090\", http_method: GET", 1)
		if text, code := w.look(t, asGET+checkout); code != 0 || !strings.Contains(text, "  answers   GET, ") {
			t.Errorf("exit code %d:\n%s", code, text)
		}
		text, code := w.look(t, header+checkout+cart)
		if code != 0 || !strings.Contains(text, "\nReady: ") || strings.Contains(text, "MISSING") {
			t.Errorf("exit code %d:\n%s", code, text)
		}
	})
}

// The report names what is missing, and the exit code says so.
func TestOnlineNamesWhatIsMissing(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		break_     func(w *world)
		want       []string
	}{
		{name: "service that nobody exports", file: strings.Replace(checkout, "checkout:", "chekout:", 1), want: []string{
			`service     chekout: enforce`, `MISSING   a measurement (no_data)`, "Not ready: chekout",
		}},
		{name: "histogram under another name", file: strings.Replace(cart, "http_request_", "http_server_", 1), want: []string{
			`MISSING   a measurement (no_data)`,
		}},
		{
			name: "query of the user's own that finds nothing", file: checkout + "    metrics: {queries: {offered: absent_total}}\n",
			want: []string{"MISSING   offered"},
		},
		{name: "Prometheus that is down", file: checkout + cart, break_: func(w *world) {
			w.prometheus = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				http.Error(rw, "no healthy upstream", http.StatusBadGateway)
			})
		}, want: []string{"prometheus  http://prometheus:9090\n  MISSING   an answer: ", "Not ready: cart, checkout"}},
		{name: "Prometheus that hangs", file: checkout + cart, break_: func(w *world) {
			w.prometheus = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, want: []string{"  MISSING   an answer: no reply from Prometheus within 10s\n", "Not ready: cart, checkout"}},
		{name: "proxy that refuses POST", file: checkout, break_: func(w *world) {
			server := w.prometheus
			w.prometheus = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					http.Error(rw, "read-only", http.StatusMethodNotAllowed)
					return
				}
				server.ServeHTTP(rw, r)
			})
		}, want: []string{"answers   GET", "MISSING   answers to POST: set http_method: GET", "Not ready: see above"}},
		{name: "proxy that hides from POST", file: checkout, break_: func(w *world) {
			server := w.prometheus
			w.prometheus = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					http.Error(rw, "<html>bad request</html>", http.StatusBadRequest)
					return
				}
				server.ServeHTTP(rw, r)
			})
		}, want: []string{"answers   GET", "MISSING   answers to POST: set http_method: GET", "Not ready: see above"}},
		{name: "Consul without a leader", file: checkout, break_: func(w *world) {
			w.kv.SetHook(func(rw http.ResponseWriter, _ *http.Request) bool {
				http.Error(rw, "No cluster leader", http.StatusInternalServerError)
				return true
			})
		}, want: []string{"MISSING   an answer: read the settings under governor/services/: ", "No cluster leader", "Not ready: see above"}},
		{name: "token that may not read", file: checkout, break_: func(w *world) {
			w.kv.SetHook(func(rw http.ResponseWriter, _ *http.Request) bool {
				http.Error(rw, "Permission denied", http.StatusForbidden)
				return true
			})
		}, want: []string{`the token lacks the rule key_prefix "governor/services/" { policy = "read" }`}},
		{name: "token that may not read the leader", file: checkout, break_: func(w *world) {
			w.kv.SetHook(func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/leader") {
					return false
				}
				http.Error(rw, "Permission denied", http.StatusForbidden)
				return true
			})
		}, want: []string{`the token lacks the rule key_prefix "governor/" { policy = "read" }`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if tt.break_ != nil {
					tt.break_(w)
				}
				text, code := w.look(t, header+tt.file)
				if code != 1 {
					t.Errorf("exit code %d", code)
				}
				says(t, text, tt.want)
			})
		})
	}
}

// A service that is configured to call what no metric knows is told so, with what the metrics do know.
func TestOnlineLooksForTheCalls(t *testing.T) {
	export := func(since time.Time, w io.Writer) {
		exporter(since, w)
		age := time.Since(since).Seconds()
		line := func(name, labels string, v float64) {
			fmt.Fprintf(w, "guard_client_%s{service=\"checkout\",to=\"payments\"%s} %g\n", name, labels, v)
		}
		line("requests_total", "", 100*age)
		line("attempts_total", "", 110*age)
		line("retries_total", "", 10*age)
		line("failures_total", "", 0)
		line("latency_seconds_sum", "", 110*0.05*age)
		line("latency_seconds_count", "", 110*age)
		line("in_flight", "", 5)
		line("limit", "", 24)
		line("latency_target_seconds", "", 0.12)
		line("own_latency_seconds", "", 0.04)
		line("breaker_instances", `,state="open"`, 1)
		line("breaker_instances", `,state="closed"`, 2)
		line("breaker_instances", `,state="half_open"`, 0)
	}
	inWorldOf(t, export, func(t *testing.T, w *world) {
		elect(t, w.kv.Client())
		text, code := w.look(t, header+checkout+"    calls: {payments: {}, paiments: {}}\n")
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		says(t, text, []string{
			"  setting   calls to payments: none yet\n",
			"  calls     to payments: 3 of 9 breakers open, 5 of 24 in flight, mean 50 ms, target 120 ms, own latency 40 ms, 0.10 retries per call\n",
			`  advice    calls to paiments: nothing found for guard_client_limit{to="paiments", service="checkout"}, so its bulkhead ` +
				"gets no target from governor; ",
			"and they have calls to payments\n",
		})
		if strings.Contains(text, "advice    calls to payments") {
			t.Errorf("what is there is said to be missing:\n%s", text)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		elect(t, w.kv.Client())
		text, _ := w.look(t, header+checkout+"    calls: {payments: {}}\n")
		says(t, text, []string{"advice    calls to payments: nothing found", "they have none at all\n"})
	})
}

// What is not missing, but worth knowing.
func TestOnlineSaysWhoseSettingItIs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		client := w.kv.Client()
		session := elect(t, client)
		for _, tt := range []struct {
			name   string
			change func() error
			want   string
		}{
			{
				"past its lease", func() error { time.Sleep(5 * time.Minute); return nil },
				"written 5m40s ago: older than its lease, 3m, so nobody renews it",
			},
			{"lock released", func() error {
				_, err := client.Session().Destroy(session, nil)
				return err
			}, "leader    nobody; the last was gov-1:9747, epoch 3"},
			{"written by hand", func() error {
				_, err := client.KV().Put(&api.KVPair{Key: "governor/services/checkout/setting", Value: []byte("64")}, nil)
				return err
			}, "setting   unreadable, the leader will replace it: "},
			{"deleted", func() error {
				_, err := client.KV().DeleteTree("governor/", nil)
				return err
			}, "leader    none has ever been elected"},
		} {
			if err := tt.change(); err != nil {
				t.Fatal(err)
			}
			text, code := w.look(t, header+checkout)
			if code != 0 || !strings.Contains(text, tt.want) {
				t.Errorf("%s: exit code %d, does not say %q:\n%s", tt.name, code, tt.want, text)
			}
		}
	})
}

// Item A19, patroni/patroni#301: a read-only tool released the leader's lock.
func TestOnlineOnlyReads(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		elect(t, w.kv.Client())
		w.asked = nil
		w.look(t, header+checkout+cart)
		if len(w.asked) == 0 {
			t.Fatal("Consul was not asked at all")
		}
		for _, request := range w.asked {
			if !strings.HasPrefix(request, "GET /v1/kv/governor/") {
				t.Errorf("asked Consul for more than a key: %s", request)
			}
		}
	})
}

// The same on the real servers, with the lock held by somebody.
func TestOnlineOnRealServers(t *testing.T) {
	began := time.Now().Add(-time.Minute)
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		exporter(began, w)
	}))
	defer instance.Close()
	prometheus := servers.Prometheus(t, servers.ScrapeInterval(500*time.Millisecond), servers.Targets(servers.TargetGroup{
		Targets: []string{strings.TrimPrefix(instance.URL, "http://")}, Labels: map[string]string{"job": "shop"},
	}))
	agent := servers.Consul(t)
	client, err := consul.NewClient(&api.Config{Address: agent.Address()})
	if err != nil {
		t.Fatal(err)
	}
	elect(t, client)
	before, _, err := client.KV().Get("governor/leader", nil)
	if err != nil {
		t.Fatal(err)
	}

	t.Chdir(t.TempDir())
	file := fmt.Sprintf("prometheus: {url: %q}\nconsul: {address: %q}\ntiming: {scrape_interval: 500ms, window: 3s}\nservices:\n",
		prometheus.URL(), agent.Address())
	if err := os.WriteFile("governor.yml", []byte(file+checkout+cart), 0o600); err != nil {
		t.Fatal(err)
	}
	wanted := []string{
		"answers   POST", "leader    gov-1:9747 at http://gov-1:9747, epoch 3", "every 500ms, configured 500ms",
		"3, around the SLO of 300ms: 100ms, 300ms (the SLO), 1s", "concurrency 64, shed 60%; epoch 3, revision 7",
		`http_request_duration_seconds_count{code!="429", job="shop"}`, "Ready: ",
	}
	waittest.Succeeds(t, 30*time.Second, "the check is content", func() error {
		var text strings.Builder
		code := Online(t.Context(), &text, &text, "governor.yml")
		unsaid := slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return strings.Contains(text.String(), s) })
		if code != 0 || len(unsaid) > 0 {
			return fmt.Errorf("exit code %d, does not say %q:\n%s", code, unsaid, &text)
		}
		return nil
	})
	after, _, err := client.KV().Get("governor/leader", nil)
	if err != nil {
		t.Fatal(err)
	}
	sessions, _, err := client.Session().List(nil)
	if err != nil {
		t.Fatal(err)
	}
	if before.ModifyIndex != after.ModifyIndex || before.Session != after.Session || len(sessions) != 1 {
		t.Errorf("the lock was touched: before %+v, after %+v, sessions %d", before, after, len(sessions))
	}
}

// edited is an exporter some lines of which are others.
func edited(pairs ...string) func(since time.Time, w io.Writer) {
	return func(since time.Time, w io.Writer) {
		var text strings.Builder
		exporter(since, &text)
		_, _ = strings.NewReplacer(pairs...).WriteString(w, text.String())
	}
}

// C8, C9, C10, C12, C15, C18: "ready" is computed by the code that measures, so that the check is never greener than the
// daemon; and it says the same sentence.
func TestOnlineJudgesAsTheLoopsDo(t *testing.T) {
	multiplied := func(name string, factor float64) func(since time.Time, w io.Writer) {
		return func(since time.Time, w io.Writer) {
			var text strings.Builder
			exporter(since, &text)
			for line := range strings.Lines(text.String()) {
				var v float64
				if key, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(line, name+"{") {
					if _, err := fmt.Sscan(value, &v); err == nil {
						line = fmt.Sprintf("%s} %g\n", key, v*factor)
					}
				}
				fmt.Fprint(w, line)
			}
		}
	}
	for _, tt := range []struct {
		name, file string
		export     func(since time.Time, w io.Writer)
		want       []string // "": ready
	}{
		{"C8 a sum that never moves", checkout, multiplied("guard_latency_seconds_sum", 0), []string{
			"advice    ", "implausible: ", "a mean latency of 0 ms", "MISSING   a measurement (implausible)",
		}},
		{"C9 milliseconds", cart, multiplied("http_request_duration_seconds_sum", 1000), []string{
			"implausible: ", "60/s x 90 s = 5400 requests in flight, where 5 were seen", "unit: milliseconds",
		}},
		{"C12 an edge that is a sum", checkout, edited(`le="0.3"`, `le="0.30000000000000004"`), nil},
		{"C15 streams", checkout, multiplied("guard_latency_seconds_sum", 6), []string{
			"implausible: ", "a mean latency of 480 ms",
		}},
		{"C18 more failed than finished", checkout, multiplied("guard_failed_total", 1000), []string{
			"implausible: ", "20000 requests failed of 7000 finished",
		}},
		{"C18 a bucket above the count", checkout, multiplied("guard_latency_seconds_bucket", 2), []string{
			"implausible: ", "14000 requests finished within the SLO of 7000 finished",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorldOf(t, tt.export, func(t *testing.T, w *world) {
				text, code := w.look(t, header+tt.file)
				if (code == 0) != (tt.want == nil) {
					t.Errorf("exit code %d", code)
				}
				says(t, text, tt.want)
			})
		})
	}
}

// says checks that a report contains all of want.
func says(t *testing.T, text string, want []string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("does not say %q", w)
		}
	}
	if t.Failed() {
		t.Log("\n" + text)
	}
}
