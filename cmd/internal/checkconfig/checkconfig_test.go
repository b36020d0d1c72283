package checkconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/configs"
)

// run checks a file with the given text in an environment without Consul's variables.
func run(t *testing.T, text string) (stdout, stderr string, code int) {
	t.Helper()
	for _, v := range []string{"CONSUL_HTTP_ADDR", "CONSUL_HTTP_SSL"} {
		if _, ok := os.LookupEnv(v); ok {
			t.Setenv(v, "")
		}
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("governor.yml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	code = Run(&out, &errs, "governor.yml")
	return out.String(), errs.String(), code
}

func TestValidFileShowsWhatIsDerived(t *testing.T) {
	stdout, stderr, code := run(t, `prometheus: {url: "http://localhost:9090"}
timing: {scrape_interval: 1s}
services:
  checkout:
    mode: enforce
    slo: {latency: 300ms, objective: 99%, errors: 0.1%}
    concurrency: {min: 20, max: 400}
  cart:
    slo: {latency: 1s}
    concurrency: {min: 1, max: 8, fallback: 4, law: aimd}
    metrics: {labels: {job: cart}}
    timing: {window: 3s}
    tuning: {gain: 0.5}
`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if want := "governor.yml:12:22: services.cart.timing.window: 3s is less than 4 × scrape_interval, 4s: " +
		"one lost scrape leaves the loop without data (warning)\n"; stderr != want {
		t.Errorf("stderr:\n%s\nwant\n%s", stderr, want)
	}
	const want = `governor.yml is valid: services 2, hash HASH

prometheus  http://localhost:9090 by POST, timeout the shorter of 10s and 80% of the period
consul      http://localhost:8500, keys governor/…, session TTL 10s, lease 3m

service        cart: shadow, decides and shows what it would do, publishes nothing
  slo          99% of requests within 1s, at most 1% fail
  timing       scrape 1s, window 3s, period 1s, publish delay 300ms
  derived      dead time θ 2.8s, settle 4.3s
  concurrency  1 to 8 in flight per instance, fallback 4, law aimd
  gains        integral 0.5, proportional 0, derivative 0
  steps        per period at most -50% down and +22% up, at least +5%; aimd adds 2%
  gates        a limit binds from 85% occupancy or 1% refused, cut from 5% refused, judged from 100 requests a window, stale after 3s
  target       weight of a period 0.179; a floor test is valid for 5m0s
  metrics      preset guard, job="cart"

service        checkout: enforce, decides and publishes
  slo          99% of requests within 300ms, at most 0.1% fail
  timing       scrape 1s, window 4s, period 1s, publish delay 300ms
  derived      dead time θ 3.3s, settle 5.3s
  concurrency  20 to 400 in flight per instance, fallback 89, law pid
  gains        integral 1, proportional 0, derivative 0
  steps        per period at most -50% down and +20% up, at least +5%; aimd adds 2%
  gates        a limit binds from 85% occupancy or 1% refused, cut from 5% refused, judged from 100 requests a window, stale after 3s
  target       weight of a period 0.152; a floor test is valid for 5m0s
  metrics      preset guard
`
	_, hash, _ := strings.Cut(stdout, "hash ")
	hash, _, _ = strings.Cut(hash, "\n")
	if len(hash) != 12 {
		t.Errorf("hash %q", hash)
	}
	if got := strings.Replace(stdout, hash, "HASH", 1); got != want {
		t.Errorf("stdout:\n%s\nwant\n%s", got, want)
	}
}

func TestKnobsAndMetricsAreShown(t *testing.T) {
	stdout, stderr, code := run(t, `prometheus: {url: "http://localhost:9090"}
services:
  gateway:
    mode: enforce
    slo: {latency: 1s}
    rate: {min: 6000/m, max: 5000/s}
    metrics:
      preset: custom
      queries:
        offered: sum by (instance) (rate(requests_total[$window]))
        mean: |
          sum by (instance) (rate(latency_sum[$window]))
            / sum by (instance) (rate(latency_count[$window]))
  front: {slo: {latency: 1s}, calls: {payments: {}, search: {max: 40}}}
  shop:
    slo: {latency: 1s}
    concurrency: {min: 1, max: 8}
    shed: {protect: default, fallback: 50%}
    rate: {min: 30/m, max: 90/s, fallback: 50/s}
    retry: {budget: 0.2}
    metrics:
      preset: http_histogram
      labels: {job: shop}
      instance_label: pod
      histogram: {metric: latency, unit: milliseconds, selector: a="b", admitted: c="d", failed: e="f", inflight: g}
`)
	if want := `governor.yml:4:11: services.gateway.mode: its metrics show neither refusals nor requests in flight, `; code != 0 ||
		!strings.HasPrefix(stderr, want) {
		t.Errorf("exit code %d, stderr:\n%s\nwant\n%s…", code, stderr, want)
	}
	shown := oneLine(stdout) // the alignment is another test's
	for _, want := range []string{
		"service gateway: shadow, decides and shows what it would do, publishes nothing " +
			"(configured enforce, capped: nothing shows whether a limit binds) slo",
		"rate 100/s to 5000/s (off) for all instances together, fallback off gains",
		"metrics preset custom query offered sum by (instance) (rate(requests_total[$window])) query mean " +
			"sum by (instance) (rate(latency_sum[$window])) / sum by (instance) (rate(latency_count[$window])) service",
		"calls to payments, within the bounds of guard: target three times its own latency, at most 400 ms " +
			"calls to search, 1 to 40 in flight per instance: target",
		"fallback 50/s retry a constant 0.20 per call to a dependency; people override it, with 0 to stop all retries gains",
		"concurrency 1 to 8 in flight per instance, fallback 3, law pid " +
			"shed protects critical, default: the classes below make room from 40% to 60% full, fallback 50% " +
			"reserve at the minimum of 1, 0 to 0 slots are kept from the least important; while all are taken, critical, " +
			"default is refused too rate 30/m to 90/s (off) for all instances together, fallback 50/s retry",
		`metrics preset http_histogram, job="shop" instances pod histogram latency in milliseconds ` +
			`selector a="b" admitted c="d" failed e="f" inflight g`,
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("does not say %s", want)
		}
	}
	if t.Failed() {
		t.Log("\n" + stdout)
	}
}

func TestInvalidFileShowsEveryProblem(t *testing.T) {
	stdout, stderr, code := run(t, `prometheus: {url: "http://localhost:9090"}
services:
  checkout:
    slo: {latency: 300, objective: 99%, erors: 0.1%}
    concurrency: {min: 20, max: 10}
`)
	const want = `governor.yml:4:20: services.checkout.slo.latency: 300 has no unit; expected a duration with one, like 300ms or 300s
governor.yml:4:41: services.checkout.slo.erors: unknown key; did you mean "errors"?
governor.yml:5:24: services.checkout.concurrency.min: 20 is above max, 10; expected min ≤ max
`
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s\nwant\n%s", code, stdout, stderr, want)
	}
}

func TestAbsentFile(t *testing.T) {
	var out, errs strings.Builder
	code := Run(&out, &errs, filepath.Join(t.TempDir(), "absent.yml"))
	if code != 1 || !strings.HasPrefix(errs.String(), "read configuration: open ") {
		t.Errorf("exit code %d, stderr %q", code, errs.String())
	}
}

// A password in the environment stays there.
func TestConsulAddressIsShownWithoutCredentials(t *testing.T) {
	for address, want := range map[string]string{
		"http://u:hunter2@consul:8500": "http://consul:8500",
		"https://consul:8501/prefix":   "https://consul:8501/prefix",
		"unix:///run/c.sock":           "unix:///run/c.sock",
	} {
		t.Setenv("CONSUL_HTTP_ADDR", address)
		if got := consulAddress(&configs.Config{}); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

// Item A27, the edits after which a running daemon was reloaded: cloudamqp/lavinmq#2091 (a bad file killed the broker, or
// was half applied), TheThingsNetwork/lorawan-stack#270 (400 read as 400 ns), elastic/kibana#144823 (100% divides by a
// budget of zero). Each is refused as a whole with its position and what was expected; a renamed service is no mistake.
func TestEditsBeforeAReload(t *testing.T) {
	const file = `prometheus: {url: "http://localhost:9090"}
timing:
  period: 10s
services:
  checkout:
    slo: {latency: 300ms, objective: 99%}
    concurrency: {min: 20, max: 400}
`
	for _, tt := range []struct{ name, old, new, want string }{
		{"tab", "  checkout:", "\tcheckout:", "governor.yml:5:1: a tab in the indentation; expected spaces"},
		{"unknown key", "objective: 99%", "targt: 99%", "governor.yml:6:27: services.checkout.slo.targt: " +
			"unknown key; expected one of latency, objective, errors"},
		{"bare number", "period: 10s", "period: 10", "governor.yml:3:11: timing.period: 10 has no unit; " +
			"expected a duration with one, like 10ms or 10s"},
		{"objective without a budget", "99%", "100%", "governor.yml:6:38: services.checkout.slo.objective: 100% is out of range; " +
			"expected at least 50% and less than 100%: the rest is the error budget, which may not be zero, " +
			"and below half the median itself is too slow"},
		{"bare objective of 100", "99%", "100", "governor.yml:6:38: services.checkout.slo.objective: 100 has no percent sign; write 100%"},
		{"bare objective", "99%", "99.9", "governor.yml:6:38: services.checkout.slo.objective: 99.9 has no percent sign; write 99.9%"},
		{"min above max", "min: 20", "min: 401", "governor.yml:7:24: services.checkout.concurrency.min: " +
			"401 is above max, 400; expected min ≤ max"},
		{"renamed service", "checkout:", "shop:", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := run(t, strings.Replace(file, tt.old, tt.new, 1))
			refused := tt.want != ""
			if refused && (code != 1 || stdout != "" || stderr != tt.want+"\n") {
				t.Errorf("exit code %d, stdout %q, stderr:\n%s\nwant\n%s", code, stdout, stderr, tt.want)
			}
			if !refused && (code != 0 || stderr != "" || !strings.Contains(oneLine(stdout), " service shop: shadow")) {
				t.Errorf("exit code %d, stderr %q, stdout:\n%s", code, stderr, stdout)
			}
		})
	}
}
