package configs

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
)

// The file in the README, with its defaults filled in.
func TestMinimalFile(t *testing.T) {
	c, warnings, err := Load("minimal.yml")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load: %v, warnings %v", err, warnings)
	}
	want := []control.Spec{{
		Service: "checkout",
		Mode:    control.Enforce,
		SLO:     control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.001},
		Timing: control.Timing{
			Scrape: 5 * time.Second, Window: 20 * time.Second, Period: 5 * time.Second, PublishDelay: 300 * time.Millisecond,
		},
		Concurrency: &control.ConcurrencySpec{Min: 20, Max: 400, Fallback: 89, Law: control.PIDLaw},
	}}
	if got := c.Specs(); !reflect.DeepEqual(got, want) {
		t.Errorf("Specs:\n got %+v\nwant %+v", got, want)
	}
	if c.Prometheus.HTTPMethod != "POST" || !c.Prometheus.FollowRedirects || !c.Prometheus.EnableHTTP2 {
		t.Errorf("defaults of prometheus: %+v", c.Prometheus)
	}
	if c.Consul.Prefix != "governor/" || c.Consul.SessionTTL.String() != "10s" || c.Consul.Lease.String() != "3m" {
		t.Errorf("defaults of consul: %+v", c.Consul)
	}
	if len(c.Hash) != 12 || c.File != "minimal.yml" {
		t.Errorf("file %q hash %q", c.File, c.Hash)
	}
	accepted(t, c)
}

func TestExampleOfExistingMetrics(t *testing.T) {
	c, warnings, err := Load("existing-metrics.yml")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load: %v, warnings %v", err, warnings)
	}
	accepted(t, c)
	for _, s := range c.Signals() {
		if !s.ShowsBinding() {
			t.Errorf("%s could not be enforced", s.Name)
		}
	}
}

func TestAnnotatedFileSaysTheDefaults(t *testing.T) {
	c, warnings, err := Load("annotated.yml")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load: %v, warnings %v", err, warnings)
	}
	accepted(t, c)
	spec := c.Specs()[0]
	// The fields of the file, rounded to its digits, equal what control derives when nothing is set.
	set, derived := reflect.ValueOf(spec.Tuning), reflect.ValueOf(control.Tuning{}.WithDefaults(spec.Timing))
	for i := range set.NumField() {
		a, b := reflect.Indirect(set.Field(i)), reflect.Indirect(derived.Field(i))
		name := set.Type().Field(i).Name
		switch {
		case !a.IsValid():
			t.Errorf("tuning %s: not set by any key", name)
		case a.CanFloat() && (a.Float() < 0.995*b.Float() || a.Float() > 1.005*b.Float()), a.CanInt() && a.Int() != b.Int():
			t.Errorf("tuning %s: the file has %v, the default is %v", name, a, b)
		}
	}
	spec.Tuning = control.Tuning{}
	bare := `
prometheus: {url: "http://localhost:9090"}
services:
  checkout:
    slo: {latency: 300ms}
    concurrency: {min: 20, max: 400}
    shed: {protect: critical}
    rate: {min: 100/s, max: 5000/s}
    retry: {}
    calls: {payments: {}}`
	d, _, err := Parse("f.yml", []byte(bare))
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Specs()[0]; !reflect.DeepEqual(got, spec) {
		t.Errorf("without the keys that have defaults:\n got %+v\nwant %+v", got, spec)
	}
}

// accepted checks what Load accepts against the packages that use it.
func accepted(t *testing.T, c *Config) {
	t.Helper()
	for _, spec := range c.Specs() {
		if _, err := control.NewLoopSet(spec); err != nil {
			t.Errorf("control refuses what Load accepts: %v", err)
		}
	}
	options := c.SensorOptions()
	options.HTTP = nil // its files do not exist
	if _, err := signals.New(options, c.Signals()); err != nil {
		t.Errorf("signals refuses what Load accepts: %v", err)
	}
}

// Every gain, window and gate of control can be set.
func TestEveryTuningReachesControl(t *testing.T) {
	c := parse(t, `
    tuning:
      {gain: 0.5, proportional_gain: 0.1, derivative_gain: 0.2, cut_max: 0.3, raise_max: 0.4, deadband: 0.06, refusing_at: 2%, refused_cut: 7%,
       min_requests: 9, stale_after: 10s, target_weight: 0.11, floor_test_hold: 12s, aimd_increase: 13%}`)
	p, d := 0.1, 0.2
	want := control.Tuning{
		Gain: 0.5, ProportionalGain: &p, DerivativeGain: &d, CutMax: 0.3, RaiseMax: 0.4,
		Deadband: 0.06, RefusingAt: 0.02, RefusedCut: 0.07,
		MinRequests: 9, StaleAfter: 10 * time.Second, TargetWeight: 0.11, FloorTestHold: 12 * time.Second,
		AIMDIncrease: 0.13,
	}
	if got := c.Specs()[0].Tuning; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i, v := 0, reflect.ValueOf(want); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("control.Tuning.%s has no key", v.Type().Field(i).Name)
		}
	}
	if got := c.Signals()[0].StaleAfter; got != 10*time.Second {
		t.Errorf("signals: stale after %s, want 10s", got)
	}
}

// parse returns the Config of a valid file with one service, to which extra is appended.
func parse(t *testing.T, extra string) *Config {
	t.Helper()
	c, _, err := Parse("/etc/governor/f.yml", []byte(`
prometheus: {url: "http://localhost:9090"}
services:
  checkout:
    slo: {latency: 300ms}
    concurrency: {min: 20, max: 400}`+extra))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTimingInheritsThenDerives(t *testing.T) {
	for _, tt := range []struct {
		name, own, all string
		want           control.Timing
	}{
		{"nothing set", "", "", control.Timing{Scrape: 5e9, Window: 20e9, Period: 5e9, PublishDelay: 3e8}},
		{
			"global", "", "{scrape_interval: 15s, period: 30s}",
			control.Timing{Scrape: 15e9, Window: 60e9, Period: 30e9, PublishDelay: 3e8},
		},
		{"own", "{scrape_interval: 1s}", "", control.Timing{Scrape: 1e9, Window: 4e9, Period: 1e9, PublishDelay: 3e8}},
		{
			"both", "{scrape_interval: 1s}", "{scrape_interval: 15s, window: 90s, publish_delay: 1s}",
			control.Timing{Scrape: 1e9, Window: 90e9, Period: 1e9, PublishDelay: 1e9},
		},
	} {
		c := parse(t, "\n    timing: "+tt.own+"\ntiming: "+tt.all)
		if got := c.Specs()[0].Timing; got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestKnobsReachControl(t *testing.T) {
	c := parse(t, `
  own:
    slo: {latency: 1s}
    concurrency: {min: 4, max: 9}
    shed: {protect: default, min: 30%, max: 80%, fallback: 55%}
    rate: {min: 60/m, max: 2.5/s, fallback: 2/s}
  gateway: {slo: {latency: 1s}, rate: {min: 100/s, max: 5000/s}}
  ranked: {slo: {latency: 1s}, concurrency: {min: 1, max: 1}, shed: {protect: critical}}
  caller: {slo: {latency: 1s}, retry: {}, calls: {search: {max: 40}, payments: {}}}
  none: {slo: {latency: 1s}, retry: {budget: 0}}`)
	accepted(t, c)
	for i, want := range []control.Spec{
		0: {
			Service: "caller", Retry: &control.RetrySpec{Budget: 0.1},
			Calls: []control.CallSpec{{To: "payments", Min: 1, Max: control.MostCalls}, {To: "search", Min: 1, Max: 40}},
		},
		2: {Service: "gateway", Rate: &control.RateSpec{Min: 100, Max: 5000, Fallback: 5000}},
		3: {Service: "none", Retry: &control.RetrySpec{}},
		4: {
			Service: "own", Concurrency: &control.ConcurrencySpec{Min: 4, Max: 9, Fallback: 6, Law: control.PIDLaw},
			Shed: &control.ShedSpec{Protect: control.Default, Min: 0.3, Max: 0.8, Fallback: 0.55},
			Rate: &control.RateSpec{Min: 1, Max: 2.5, Fallback: 2},
		},
		5: {
			Service: "ranked", Concurrency: &control.ConcurrencySpec{Min: 1, Max: 1, Fallback: 1, Law: control.PIDLaw},
			Shed: &control.ShedSpec{Protect: control.Critical, Min: 0.4, Max: 0.6, Fallback: 0.6},
		},
	} {
		got := c.Specs()[i]
		if want.Service == "" {
			continue
		}
		if got.Service != want.Service || !reflect.DeepEqual(got.Concurrency, want.Concurrency) ||
			!reflect.DeepEqual(got.Shed, want.Shed) || !reflect.DeepEqual(got.Rate, want.Rate) ||
			!reflect.DeepEqual(got.Retry, want.Retry) || !reflect.DeepEqual(got.Calls, want.Calls) {
			t.Errorf("%s: got %+v %+v %+v %+v %+v", want.Service, got.Concurrency, got.Shed, got.Rate, got.Retry, got.Calls)
		}
	}
}

// The words of the file are control's words.
func TestCriticalitiesAreControls(t *testing.T) {
	for word, c := range criticalities {
		if c.String() != word {
			t.Errorf("%s means %s", word, c)
		}
	}
	if len(criticalities) != control.Criticalities-1 {
		t.Error("all classes but the last can be protected")
	}
}

func TestMetricsReachSignals(t *testing.T) {
	c := parse(t, `
    metrics: {labels: {job: a}}
  h:
    slo: {latency: 1s}
    concurrency: {min: 1, max: 2}
    metrics:
      preset: http_histogram
      labels: {service: shop}
      instance_label: pod
      histogram:
        {metric: m, unit: milliseconds, selector: a="b", admitted: c="d", refused: 'x{}', failed: e="f", inflight: 'g{}'}
      queries: {limit: max by (pod) (l)}
  q:
    slo: {latency: 1s}
    concurrency: {min: 1, max: 2}
    metrics:
      preset: custom
      queries:
        offered: 'rate(a[$window])'
        mean: b`)
	accepted(t, c)
	got := c.Signals()
	if s := got[0]; s.Preset != signals.Guard || !reflect.DeepEqual(s.Labels, map[string]string{"job": "a"}) {
		t.Errorf("got %+v", s)
	}
	want := signals.Histogram{
		Metric: "m", Unit: "milliseconds", Selector: `a="b"`, Admitted: `c="d"`, Refused: "x{}", Failed: `e="f"`, InFlight: "g{}",
	}
	if s := got[1]; s.Preset != signals.HTTPHistogram || s.InstanceLabel != "pod" || s.Histogram != want ||
		s.Labels["service"] != "shop" || s.Queries[signals.Limit] != "max by (pod) (l)" {
		t.Errorf("got %+v", s)
	}
	if s := got[2]; s.Preset != signals.Custom || len(s.Queries) != 2 || s.Queries[signals.Offered] != "rate(a[$window])" {
		t.Errorf("got %+v", s)
	}
	var q Queries
	own := q.bySignal()
	if len(own) != len(signals.Signals()) {
		t.Errorf("%d keys for %d signals", len(own), len(signals.Signals()))
	}
	for _, s := range signals.Signals() {
		if own[s] == nil {
			t.Errorf("no key for a query of %s", s)
		}
	}
}

// A governor that cannot see whether a limit binds would cut it whenever a dependency is slow.
func TestWhatCannotBeSeenIsNotEnforced(t *testing.T) {
	const head = "prometheus: {url: \"http://p:1\"}\nservices:\n  a:\n    slo: {latency: 1s}\n" +
		"    concurrency: {min: 1, max: 2}\n    shed: {protect: critical}\n    mode: enforce\n    metrics:\n      "
	for _, tt := range []struct {
		metrics string
		want    control.Mode
	}{
		{"preset: guard", control.Enforce},
		{"{preset: http_histogram, labels: {job: a}, histogram: {metric: m}}", control.Shadow},
		{"{preset: http_histogram, labels: {job: a}, histogram: {metric: m, inflight: g}}", control.Enforce},
		{"{preset: http_histogram, labels: {job: a}, histogram: {metric: m, refused: r}}", control.Enforce},
		{"{preset: http_histogram, labels: {job: a}, histogram: {metric: m}, queries: {refused: r}}", control.Enforce},
		{"{preset: custom, queries: {offered: a, mean: b}}", control.Shadow},
		{"{preset: custom, queries: {offered: a, mean: b, inflight: c}}", control.Enforce},
	} {
		c, warnings, err := Parse("f.yml", []byte(head+tt.metrics))
		if err != nil {
			t.Fatalf("%s: %v", tt.metrics, err)
		}
		if got := c.Specs()[0].Mode; got != tt.want {
			t.Errorf("%s: mode %s, want %s", tt.metrics, got, tt.want)
		}
		said := strings.Contains(warnings.Error(), "f.yml:7:11: services.a.mode: "+signals.NotBinding)
		if said != (tt.want == control.Shadow) {
			t.Errorf("%s: warnings %q", tt.metrics, warnings)
		}
		unsteered := strings.Contains(warnings.Error(), "f.yml:6:5: services.a.shed: preset ")
		if unsteered != (tt.metrics != "preset: guard") {
			t.Errorf("%s: warnings %q", tt.metrics, warnings)
		}
	}
}

func TestAliasesAndMergesWork(t *testing.T) {
	c := parse(t, `
  cart: &like
    mode: enforce
    slo: &slo {latency: 1s, objective: 99.9%}
    concurrency: &bounds {min: 1, max: 9}
  basket: {slo: *slo, concurrency: {<<: *bounds, max: 16, fallback: 3}}
  wishlist: {<<: *like, mode: observe}`)
	got := map[string]control.Spec{}
	for _, s := range c.Specs() {
		got[s.Service] = s
	}
	if b := got["basket"]; b.SLO.Latency != time.Second || b.SLO.Objective != 0.999 ||
		*b.Concurrency != (control.ConcurrencySpec{Min: 1, Max: 16, Fallback: 3, Law: control.PIDLaw}) {
		t.Errorf("basket: %+v %+v", b, b.Concurrency)
	}
	if w := got["wishlist"]; w.Mode != control.Observe || w.SLO.Latency != time.Second || w.Concurrency.Max != 9 {
		t.Errorf("wishlist: %+v %+v", w, w.Concurrency)
	}
}

func TestPathsStartAtTheFile(t *testing.T) {
	c := parse(t, `
consul: {token_file: token, tls_config: {ca_file: /abs/ca.pem, cert_file: c.pem, key_file: k.pem}}`)
	if got := c.Consul.TokenFile; got != "/etc/governor/token" {
		t.Errorf("token_file: %s", got)
	}
	want := ConsulTLS{CAFile: "/abs/ca.pem", CertFile: "/etc/governor/c.pem", KeyFile: "/etc/governor/k.pem"}
	if got := c.Consul.TLSConfig; got != want {
		t.Errorf("tls_config: %+v", got)
	}
	a, _, err := Load("annotated.yml")
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Prometheus.BasicAuth.PasswordFile; got != "prometheus-password" {
		t.Errorf("password_file: %s", got)
	}
}

// The environment counts if the file is silent, and a token in the file wins over both forms of the environment's. The
// client reads the environment a second time, so the test observes the outcome on the wire.
func TestConsulFromFileAndEnvironment(t *testing.T) {
	var token, dc string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, dc = r.Header.Get("X-Consul-Token"), r.URL.Query().Get("dc")
		w.Header().Set("X-Consul-Index", "1")
		w.Write([]byte("[]"))
	}))
	defer agent.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tt := range []struct {
		name, consul, wantToken, wantDC string
		env                             map[string]string
	}{
		{"environment only", "", "env", "", map[string]string{api.HTTPTokenEnvName: "env"}},
		{"token file of the environment", "", "envfile", "", map[string]string{api.HTTPTokenFileEnvName: file("e", "envfile\n")}},
		{
			"token beats both", "token: own, datacenter: north", "own", "north",
			map[string]string{api.HTTPTokenEnvName: "env", api.HTTPTokenFileEnvName: file("e", "envfile")},
		},
		{
			"token_file beats both", "token_file: " + file("own", "ownfile\n"), "ownfile", "",
			map[string]string{api.HTTPTokenEnvName: "env", api.HTTPTokenFileEnvName: file("e", "envfile")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(api.HTTPTokenEnvName, "")
			t.Setenv(api.HTTPTokenFileEnvName, "")
			t.Setenv(api.HTTPAddrEnvName, agent.URL)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			client, err := consul.NewClient(parse(t, "\nconsul: {"+tt.consul+"}").Consul.ClientConfig())
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := client.KV().List("governor/", nil); err != nil {
				t.Fatal(err)
			}
			if token != tt.wantToken || dc != tt.wantDC {
				t.Errorf("token %q datacenter %q, want %q %q", token, dc, tt.wantToken, tt.wantDC)
			}
		})
	}
	t.Setenv(api.HTTPAddrEnvName, "elsewhere:1")
	if got := parse(t, `
consul: {address: "https://consul:8501"}`).Consul.ClientConfig().Address; got != "https://consul:8501" {
		t.Errorf("address of the file: got %s", got)
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := Parse("f.yml", []byte(`prometheus: {url: "http://localhost:9090"}
timing:
  scrape_interval: 5s
  window: 15s
services:
  a: {slo: {latency: 1s}, concurrency: {min: 1, max: 2}}
  b:
    slo: {latency: 1s}
    concurrency: {min: 1, max: 2}
    timing: {period: 1s}
    tuning: {stale_after: 2s}
  c:
    slo: {latency: 1s}
    concurrency: {min: 1, max: 2}
    timing: {window: 20s}
    metrics: {preset: http_histogram, histogram: {metric: m, admitted: 'code!="429"'}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `f.yml:4:11: timing.window: 15s is less than 4 × scrape_interval, 20s: one lost scrape leaves the loop without data
f.yml:10:22: services.b.timing.period: 1s is shorter than scrape_interval, 5s: some decisions will see nothing new
f.yml:11:27: services.b.tuning.stale_after: 2s is shorter than scrape_interval, 5s: samples will look stale between scrapes
f.yml:16:39: services.c.metrics.histogram: neither labels nor a selector: every series of m in Prometheus counts as this service`
	if got := warnings.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnreadableFile(t *testing.T) {
	_, _, err := Load(filepath.Join(t.TempDir(), "absent.yml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "read configuration: open ") {
		t.Errorf("got %v", err)
	}
}

// An empty calls asks for no loop, and governor reads the calls all the same, to look for culprits.
func TestEmptyCallsAreRead(t *testing.T) {
	for extra, want := range map[string]bool{"": false, "\n    calls: {}": true} {
		if got := parse(t, extra).signal("checkout").Calls; got != want {
			t.Errorf("%q: calls are read: %v", extra, got)
		}
	}
}
