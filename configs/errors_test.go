package configs

import (
	"errors"
	"strings"
	"testing"
)

// The message for each kind of mistake. Every file is complete except for the mistake.
func TestMessages(t *testing.T) {
	const prometheus = "prometheus: {url: \"http://localhost:9090\"}\n"
	const service = "services:\n  checkout:\n    slo: {latency: 300ms}\n    concurrency: {min: 20, max: 400}\n"
	// slo and knob are files with one line replaced: line 4 or line 5.
	slo := func(s string) string { return strings.Replace(prometheus+service, "slo: {latency: 300ms}", s, 1) }
	knob := func(s string) string {
		return strings.Replace(prometheus+service, "concurrency: {min: 20, max: 400}", s, 1)
	}
	// metrics are files whose metrics section starts on line 7; in those of histogram the selectors start on line 10.
	metrics := func(s string) string { return prometheus + service + "    metrics:\n      " + s + "\n" }
	histogram := func(s string) string {
		return metrics("preset: http_histogram\n      histogram:\n        metric: a\n" + s)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"empty file", "", `f.yml:1:1: the file is empty`},
		{"comments only", "# nothing\n\n", `f.yml:1:1: the file is empty`},
		{"empty section", "{}", `
f.yml:1:1: prometheus: missing; expected a section of keys, with at least url
f.yml:1:1: services: missing; expected a section of keys`},
		{"a list", "- prometheus", `f.yml:1:1: a list; expected a section of keys, with at least prometheus and services`},
		{"text", "prometheus", `f.yml:1:1: text; expected a section of keys, with at least prometheus and services`},
		{"no services", prometheus + "services: {}\n", `f.yml:2:1: services: no service; expected at least one`},
		{
			"second document", prometheus + service + "---\na: b\n",
			`f.yml:6:1: a second YAML document starts here; expected one document in the file`,
		},

		// YAML itself.
		{"tab", prometheus + "services:\n\tcheckout:\n", `f.yml:3:1: a tab in the indentation; expected spaces`},
		{
			"tab after spaces", slo("slo:\n      latency: 1s\n    \terrors: 1%"),
			`f.yml:6:5: a tab in the indentation; expected spaces`,
		},
		{
			"unclosed bracket", prometheus + "services: {checkout: {slo: {latency: 1s}\n",
			`f.yml:2:1: not YAML: did not find expected ',' or '}'`,
		},
		{"indentation", prometheus + "services:\n    checkout:\n  cart:\n", `f.yml:4:3: not YAML: did not find expected key`},
		{
			"missing colon", prometheus + "services:\n  checkout\n  cart:\n",
			`f.yml:4:3: not YAML: mapping values are not allowed in this context`,
		},
		{"unknown alias", slo("slo: *shared"), `f.yml:4:5: an alias of an anchor that does not exist; put text that starts with * in quotes`},
		{"control character", prometheus + "services:\x01\n", `f.yml:2:1: not YAML: control characters are not allowed`},
		{
			"explicit tag", slo("slo: {latency: !!str 300ms}"),
			`f.yml:4:20: services.checkout.slo.latency: an explicit tag; expected a duration with a unit, like 300ms, 5s or 1m without one`,
		},

		// Keys.
		{
			"unknown key", slo("slo: {latency: 300ms, targt: 1s}"),
			`f.yml:4:27: services.checkout.slo.targt: unknown key; expected one of latency, objective, errors`,
		},
		{
			"misspelled key", slo("slo: {latency: 300ms, objektive: 99%}"),
			`f.yml:4:27: services.checkout.slo.objektive: unknown key; did you mean "objective"?`,
		},
		{"swapped letters at the top", "promteheus: {url: x}\n" + service, `
f.yml:1:1: prometheus: missing; expected a section of keys, with at least url
f.yml:1:1: promteheus: unknown key; did you mean "prometheus"?`},
		{
			"deprecated key of Prometheus", "prometheus:\n  url: \"http://p:1\"\n  bearer_token: x\n" + service,
			`f.yml:3:3: prometheus.bearer_token: unknown key; expected one of url, http_method, timeout, basic_auth, ` +
				`authorization, oauth2, tls_config, follow_redirects, enable_http2, proxy_url, no_proxy, proxy_from_environment, ` +
				`proxy_connect_header, http_headers`,
		},
		{
			"misspelled knob is one mistake", knob("concurency: {min: 20, max: 400}"),
			`f.yml:5:5: services.checkout.concurency: unknown key; did you mean "concurrency"?`,
		},
		{
			"key twice", knob("concurrency: {min: 20, max: 400}\n    slo: {latency: 1s}"),
			`f.yml:6:5: services.checkout.slo: set twice, first on line 4`,
		},
		{"service twice", prometheus + service + "  checkout: {}\n", `f.yml:6:3: services.checkout: set twice, first on line 3`},
		{
			"key that is a list", slo("slo: {latency: 1s, [a]: b}"),
			`f.yml:4:24: services.checkout.slo: a list as a key; expected a word`,
		},
		{
			"merge of text", slo("slo: {latency: 1s, <<: a}"),
			`f.yml:4:28: services.checkout.slo: "a" merged with <<; expected an alias of a section`,
		},
		{
			"merge of itself", slo("slo: &a {latency: 1s, <<: *a}"),
			`f.yml:4:31: services.checkout.slo: a merge of a section that merges in turn; expected one level of <<`,
		},

		// Durations (A27): a bare 400 became 400 ns in TheThingsNetwork/lorawan-stack#270, a bad one silently the default
		// in abtreece/confd#502.
		{
			"bare duration", slo("slo: {latency: 300}"),
			`f.yml:4:20: services.checkout.slo.latency: 300 has no unit; expected a duration with one, like 300ms or 300s`,
		},
		{
			"bare fraction", slo("slo: {latency: 0.3}"),
			`f.yml:4:20: services.checkout.slo.latency: 0.3 has no unit; expected a duration with one, like 0.3ms or 0.3s`,
		},
		{
			"fraction with a unit", slo("slo: {latency: 0.3s}"),
			`f.yml:4:20: services.checkout.slo.latency: "0.3s" has a fraction or units out of order; write 300ms`,
		},
		{
			"zero", slo("slo: {latency: 0s}"),
			`f.yml:4:20: services.checkout.slo.latency: 0s is out of range; expected at least 1ms and at most 1h`,
		},
		{
			"bare zero", slo("slo: {latency: 0}"),
			`f.yml:4:20: services.checkout.slo.latency: 0 has no unit; expected a duration with one, like 0ms or 0s`,
		},
		{
			"negative", slo("slo: {latency: -5s}"),
			`f.yml:4:20: services.checkout.slo.latency: "-5s"; expected a duration with a unit, like 300ms, 5s or 1m`,
		},
		{
			"words", slo("slo: {latency: fast}"),
			`f.yml:4:20: services.checkout.slo.latency: "fast"; expected a duration with a unit, like 300ms, 5s or 1m`,
		},
		{
			"no value", slo("slo: {latency: }"),
			`f.yml:4:11: services.checkout.slo.latency: no value; expected a duration with a unit, like 300ms, 5s or 1m`,
		},
		{
			"overflow", slo("slo: {latency: 999999y}"),
			`f.yml:4:20: services.checkout.slo.latency: "999999y"; expected a duration with a unit, like 300ms, 5s or 1m`,
		},
		{
			"missing", slo("slo: {objective: 99%}"),
			`f.yml:4:5: services.checkout.slo.latency: missing; expected a duration with a unit, like 300ms, 5s or 1m`,
		},
		// A19: patroni/patroni#1579.
		{
			"session TTL that Consul refuses", prometheus + service + "consul: {session_ttl: 5s}\n",
			`f.yml:6:23: consul.session_ttl: 5s is out of range; expected at least 10s and at most 1d: Consul accepts no other TTL for a session`,
		},
		{
			"lease shorter than three periods", prometheus + service + "consul: {lease: 14s}\n",
			`f.yml:6:17: consul.lease: the lease, 14s, is shorter than three periods of 5s, so a setting would expire ` +
				`between renewals; expected a lease of at least 15s`,
		},
		{
			"window shorter than two scrapes", prometheus + service + "timing: {scrape_interval: 5s, window: 9s}\n",
			`f.yml:6:39: timing.window: 9s holds fewer than two scrapes, 5s apart, so there is no rate; expected at least 20s`,
		},

		// Shares (A27): an objective of 100% divides by a budget of zero, elastic/kibana#144823.
		{
			"bare percentage", slo("slo: {latency: 1s, objective: 99}"),
			`f.yml:4:35: services.checkout.slo.objective: 99 has no percent sign; write 99%`,
		},
		{
			"fraction", slo("slo: {latency: 1s, objective: 0.99}"),
			`f.yml:4:35: services.checkout.slo.objective: 0.99 has no percent sign; write 99% for the fraction 0.99, or 0.99%`,
		},
		{
			"bare 99.9", slo("slo: {latency: 1s, objective: 99.9}"),
			`f.yml:4:35: services.checkout.slo.objective: 99.9 has no percent sign; write 99.9%`,
		},
		{
			"no budget", slo("slo: {latency: 1s, objective: 100%}"),
			`f.yml:4:35: services.checkout.slo.objective: 100% is out of range; expected at least 50% and less than 100%: ` +
				`the rest is the error budget, which may not be zero, and below half the median itself is too slow`,
		},
		{"objective and errors exchanged", slo("slo: {latency: 1s, objective: 0.1%, errors: 99%}"), `
f.yml:4:35: services.checkout.slo.objective: 0.1% is out of range; expected at least 50% and less than 100%: ` +
			`the rest is the error budget, which may not be zero, and below half the median itself is too slow
f.yml:4:49: services.checkout.slo.errors: 99% is out of range; expected more than 0% and at most 50%: ` +
			`an error budget of zero is spent by the first failure`},
		{
			"negative share", slo("slo: {latency: 1s, errors: -1%}"),
			`f.yml:4:32: services.checkout.slo.errors: "-1%"; expected a percentage with its sign, like 99% or 0.1%`,
		},

		// The knob.
		{
			"min above max", knob("concurrency: {min: 400, max: 20}"),
			`f.yml:5:24: services.checkout.concurrency.min: 400 is above max, 20; expected min ≤ max`,
		},
		{
			"min 0", knob("concurrency: {min: 0, max: 20}"),
			`f.yml:5:24: services.checkout.concurrency.min: 0 is out of range; expected at least 1 and at most 1000000: ` +
				`closing a service on purpose is not a concurrency limit`,
		},
		{
			"fraction of a request", knob("concurrency: {min: 1.5, max: 20}"),
			`f.yml:5:24: services.checkout.concurrency.min: "1.5"; expected a whole number`,
		},
		{
			"number in quotes", knob(`concurrency: {min: "1", max: 20}`),
			`f.yml:5:24: services.checkout.concurrency.min: "1" in quotes; expected a whole number without quotes`,
		},
		{
			"fallback outside", knob("concurrency: {min: 10, max: 20, fallback: 21}"),
			`f.yml:5:47: services.checkout.concurrency.fallback: 21 is outside the bounds; expected at least min, 10, and at most max, 20`,
		},
		{
			"unknown law", knob("concurrency: {min: 1, max: 20, law: PID}"),
			`f.yml:5:41: services.checkout.concurrency.law: "PID"; expected one of pid, aimd`,
		},
		{"no knob", knob("mode: enforce"), `f.yml:3:3: services.checkout: nothing to govern; ` +
			`expected a knob: concurrency, or rate, or both; shed goes with concurrency; retry or calls for what the service calls`},
		{"knob left empty", knob("concurrency:"), `
f.yml:5:5: services.checkout.concurrency.max: missing; expected a whole number
f.yml:5:5: services.checkout.concurrency.min: missing; expected a whole number`},
		{
			"more retries than calls", knob("retry: {budget: 1.5}"),
			`f.yml:5:21: services.checkout.retry.budget: 1.5 is out of range; expected at least 0 and at most 1: more retries than calls are an outage by themselves`,
		},
		{
			"a budget in percent", knob("retry: {budget: 10%}"),
			`f.yml:5:21: services.checkout.retry.budget: "10%"; expected a number`,
		},
		{
			"a misspelled budget", knob("retry: {bugdet: 0.1}"),
			`f.yml:5:13: services.checkout.retry.bugdet: unknown key; did you mean "budget"?`,
		},
		{
			"calls to what is no name", knob("calls: {a/b: {}}"),
			`f.yml:5:13: services.checkout.calls.a/b: "a/b"; expected a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, and not only dots; '/' is not among them`,
		},
		{
			"calls with their bounds the wrong way round", knob("calls: {payments: {min: 20, max: 10}}"),
			`f.yml:5:29: services.checkout.calls.payments.min: 20 is above max, 10; expected min ≤ max`,
		},
		{
			"calls with a min alone", knob("calls: {payments: {min: 0}}"),
			`f.yml:5:29: services.checkout.calls.payments.min: 0 is out of range; expected at least 1 and at most 1000000: closing a dependency on purpose is not a limit`,
		},
		{
			"calls with a key that there is not", knob("calls: {payments: {target: 120ms}}"),
			`f.yml:5:24: services.checkout.calls.payments.target: unknown key; expected one of min, max`,
		},
		{
			"calls to nobody are nothing to govern", knob("calls: {}"),
			`f.yml:3:3: services.checkout: nothing to govern; ` +
				`expected a knob: concurrency, or rate, or both; shed goes with concurrency; retry or calls for what the service calls`,
		},
		{
			"calls without guard", histogram("        selector: a=\"b\"\n    calls: {payments: {}}"),
			`f.yml:11:5: services.checkout.calls: set with preset http_histogram, which knows nothing of calls; expected preset guard, or no calls`,
		},
		{
			"misspelled mode", knob("concurrency: {min: 1, max: 2}\n    mode: enforced"),
			`f.yml:6:11: services.checkout.mode: "enforced"; expected one of observe, shadow, enforce; did you mean "enforce"?`,
		},
		{
			"a key of an earlier version", knob("concurrency: {min: 1, max: 2}\n    tuning: {overload_at: 80%}"),
			`f.yml:6:14: services.checkout.tuning.overload_at: no longer a setting: guard and governor both count a limit as binding from 85% on, so that they cannot disagree; remove the line`,
		},
		{
			"gain at the edge of stability", knob("concurrency: {min: 1, max: 2}\n    tuning: {gain: 2}"),
			`f.yml:6:20: services.checkout.tuning.gain: 2 is out of range; expected more than 0 and less than 2: the loop oscillates from 2 on`,
		},
		{
			"infinite gain", knob("concurrency: {min: 1, max: 2}\n    tuning: {gain: .inf}"),
			`f.yml:6:20: services.checkout.tuning.gain: ".inf"; expected a number`,
		},
		{
			"not a truth value", "prometheus: {url: \"http://p:1\", enable_http2: yes}\n" + service,
			`f.yml:1:47: prometheus.enable_http2: "yes"; expected true or false`,
		},

		// The other knobs.
		{
			"bare rate", knob("rate: {min: 100, max: 5000/s}"),
			`f.yml:5:17: services.checkout.rate.min: 100 has no unit; write 100/s or 100/m`,
		},
		{
			"rate by the hour", knob("rate: {min: 100/h, max: 5000/s}"),
			`f.yml:5:17: services.checkout.rate.min: "100/h"; expected a rate with its unit, like 100/s or 6000/m`,
		},
		{
			"negative rate", knob("rate: {min: -1, max: 5000/s}"),
			`f.yml:5:17: services.checkout.rate.min: "-1"; expected a rate with its unit, like 100/s or 6000/m`,
		},
		{
			"rate of zero", knob("rate: {min: 0/s, max: 5000/s}"),
			`f.yml:5:17: services.checkout.rate.min: 0/s is out of range; expected at least 1/m and at most 1000000000/s: ` +
				`closing a service on purpose is not a rate limit`,
		},
		{
			"rate min above max", knob("rate: {min: 100/s, max: 5000/m}"),
			`f.yml:5:17: services.checkout.rate.min: 100/s is above max, 83.33333333333333/s; expected min ≤ max`,
		},
		{
			"rate that never limits", knob("rate: {min: 100/s, max: 6000/m}"),
			`f.yml:5:17: services.checkout.rate.min: 100/s is max too, and at max the rate is off, so that nothing would be ` +
				`limited; expected min < max`,
		},
		{
			"rate fallback outside", knob("rate: {min: 100/s, max: 200/s, fallback: 300/s}"),
			`f.yml:5:46: services.checkout.rate.fallback: 300/s is outside the bounds; expected at least min, 100/s, and at most max, 200/s`,
		},
		{
			"rate without max", knob("rate: {min: 100/s}"),
			`f.yml:5:5: services.checkout.rate.max: missing; expected a rate with its unit, like 100/s or 6000/m`,
		},
		{
			"shed without concurrency", knob("shed: {protect: critical}"),
			`f.yml:5:5: services.checkout.shed: shed decides whom the concurrency limit refuses first, but there is no limit; ` +
				`expected concurrency: {min: …, max: …} next to it, or no shed`,
		},
		{
			"shed beside a misspelled concurrency is one mistake", knob("concurency: {min: 1, max: 2}\n    shed: {protect: critical}"),
			`f.yml:5:5: services.checkout.concurency: unknown key; did you mean "concurrency"?`,
		},
		{
			"shed that protects all", knob("concurrency: {min: 1, max: 2}\n    shed: {protect: background}"),
			`f.yml:6:21: services.checkout.shed.protect: "background"; expected one of critical, default, sheddable`,
		},
		{
			"bare threshold", knob("concurrency: {min: 1, max: 2}\n    shed: {protect: critical, min: 0.4}"),
			`f.yml:6:36: services.checkout.shed.min: 0.4 has no percent sign; write 40% for the fraction 0.4, or 0.4%`,
		},
		{
			"threshold below the default of the other", knob("concurrency: {min: 1, max: 2}\n    shed: {protect: critical, max: 30%}"),
			`f.yml:6:36: services.checkout.shed.max: 30% is below min, 40% (the default); expected min ≤ max`,
		},
		{
			"threshold above the default of the other", knob("concurrency: {min: 1, max: 2}\n    shed: {protect: critical, min: 70%}"),
			`f.yml:6:36: services.checkout.shed.min: 70% is above max, 60% (the default); expected min ≤ max`,
		},
		{
			"shed fallback outside", knob("concurrency: {min: 1, max: 2}\n    shed: {protect: default, fallback: 80%}"),
			`f.yml:6:40: services.checkout.shed.fallback: 80% is outside the bounds; ` +
				`expected at least min, 40% (the default), and at most max, 60% (the default)`,
		},
		{
			"shed without protect", knob("concurrency: {min: 1, max: 2}\n    shed:"),
			`f.yml:6:5: services.checkout.shed.protect: missing; expected text`,
		},

		// Metrics.
		{"preset that does not exist", metrics("preset: http_histgram"), `f.yml:7:15: services.checkout.metrics.preset: "http_histgram"; ` +
			`expected one of guard, http_histogram, custom; did you mean "http_histogram"?`},
		{
			"no histogram", metrics("preset: http_histogram"),
			`f.yml:6:5: services.checkout.metrics: preset http_histogram needs a histogram; expected histogram: {metric: …}`,
		},
		{"histogram beside guard", metrics("histogram: {metric: a}"), `f.yml:7:7: services.checkout.metrics.histogram: ` +
			`set with preset guard, which reads no histogram of yours; expected preset: http_histogram`},
		{"instance label beside guard", metrics("instance_label: pod"), `f.yml:7:23: services.checkout.metrics.instance_label: ` +
			`preset guard tells instances apart by the label instance; expected another preset, or no instance_label`},
		{
			"instance label that is no label", histogram("\n      instance_label: k8s-pod"),
			`f.yml:11:23: services.checkout.metrics.instance_label: "k8s-pod"; ` +
				`expected a label name: letters, digits and underscores, no digit first`,
		},
		{
			"histogram with its suffix", metrics("preset: http_histogram\n      histogram: {metric: latency_bucket}"),
			`f.yml:8:27: services.checkout.metrics.histogram.metric: "latency_bucket"; expected the name without _bucket: latency`,
		},
		{
			"histogram that is no metric", metrics("preset: http_histogram\n      histogram: {metric: 'latency{}'}"),
			`f.yml:8:27: services.checkout.metrics.histogram.metric: "latency{}"; ` +
				`expected the name of a metric, like http_request_duration_seconds`,
		},
		{
			"misspelled selector", histogram("        admittd: a"),
			`f.yml:10:9: services.checkout.metrics.histogram.admittd: unknown key; did you mean "admitted"?`,
		},
		{"selector with a mistake", histogram("        failed: code=~5.."), `f.yml:10:23: services.checkout.metrics.histogram.failed: ` +
			`not PromQL at 1:7 of the text: unexpected character inside braces: '5'`},
		{"selector in quotes", histogram("        failed: 'code=~\"5..'"), `f.yml:10:24: services.checkout.metrics.histogram.failed: ` +
			`not PromQL at 1:7 of the text: unterminated quoted string`},
		{"selector with a bad pattern", histogram("        failed: code=~\"(\""), `f.yml:10:17: services.checkout.metrics.histogram.failed: ` +
			"not PromQL at 1:1 of the text: error parsing regexp: missing closing ): `(`"},
		{"selector with a name", histogram("        failed: errors_total{a=\"b\"}"), `f.yml:10:17: services.checkout.metrics.histogram.failed: ` +
			`"errors_total{a=\"b\"}" names a metric, but selects from the histogram; expected matchers, like code=~"5.."`},
		{"gauge without a name", histogram("        inflight: a=\"b\""), `f.yml:10:19: services.checkout.metrics.histogram.inflight: ` +
			`"a=\"b\"" names no metric; expected the name of a gauge, like http_requests_in_flight`},
		{"selector left empty", histogram("        refused: ''"), `f.yml:10:18: services.checkout.metrics.histogram.refused: ` +
			`no selector; expected matchers, like code=~"5..", or nothing at all`},
		{"custom without queries", metrics("preset: custom"), `
f.yml:6:5: services.checkout.metrics.queries.mean: missing; preset custom needs a query for it
f.yml:6:5: services.checkout.metrics.queries.offered: missing; preset custom needs a query for it`},
		{"query of no signal", metrics("queries: {p99: up}"), `f.yml:7:17: services.checkout.metrics.queries.p99: unknown key; ` +
			`expected one of offered, admitted, refused, completed, failed, slow, mean, quantile, inflight, limit`},
		{
			"query with a mistake", metrics("queries:\n        mean: rate(a[$window]) / rate(b[$window]"),
			`f.yml:8:49: services.checkout.metrics.queries.mean: not PromQL at 1:35 of the text: unclosed left parenthesis`,
		},
		{
			"query in quotes with a mistake", metrics(`queries: {mean: "rate(a[$window)"}`),
			`f.yml:7:38: services.checkout.metrics.queries.mean: not PromQL at 1:15 of the text: unexpected ")" in subquery or range, expected ":" or "]"`,
		},
		{
			"query with escapes and a mistake", metrics(`queries: {mean: "a{b=\"c\"} +"}`),
			`f.yml:7:23: services.checkout.metrics.queries.mean: not PromQL at 1:11 of the text: unexpected end of input`,
		},
		{
			"query over several lines with a mistake", metrics("queries:\n        mean: |\n          sum(a)\n            / summ(b)\n"),
			`f.yml:10:15: services.checkout.metrics.queries.mean: not PromQL at 2:5 of the text: unknown function with name "summ"`,
		},
		{"query that gives a number", metrics("queries: {mean: \"1\"}"), `f.yml:7:23: services.checkout.metrics.queries.mean: ` +
			`returns a scalar; expected an instant vector, with one sample per instance or one for all`},
		{"query that gives a range", metrics("queries: {mean: \"a[$window]\"}"), `f.yml:7:23: services.checkout.metrics.queries.mean: ` +
			`returns a range vector; expected an instant vector, with one sample per instance or one for all`},
		{"query of nothing", metrics("queries: {mean: vector(1)}"), `f.yml:7:23: services.checkout.metrics.queries.mean: ` +
			`reads no series, so its age is unknown; expected a query of the service's metrics`},
		{"query left empty", metrics("queries: {mean: ''}"), `f.yml:7:23: services.checkout.metrics.queries.mean: no query; expected PromQL`},

		// Names and addresses. The service names would end up elsewhere in the KV (A21): hashicorp/consul#15933.
		{
			"service name with a slash", prometheus + "services:\n  a//b: {slo: {latency: 1s}, concurrency: {min: 1, max: 2}}\n",
			`f.yml:3:3: services.a//b: "a//b"; expected a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, ` +
				`and not only dots; '/' is not among them`,
		},
		{
			"service name that climbs", prometheus + "services:\n  ../x: {slo: {latency: 1s}, concurrency: {min: 1, max: 2}}\n",
			`f.yml:3:3: services."../x": "../x"; expected a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, ` +
				`and not only dots; '/' is not among them`,
		},
		{"label that is no label", knob("concurrency: {min: 1, max: 2}\n    metrics: {labels: {k8s-app: a, service: b, port: 80}}"), `
f.yml:6:24: services.checkout.metrics.labels.k8s-app: "k8s-app"; expected a label name: letters, digits and underscores, no digit first
f.yml:6:36: services.checkout.metrics.labels.service: the label service is reserved for the service's name; expected other labels
f.yml:6:54: services.checkout.metrics.labels.port: YAML does not read 80 as text; expected text, in quotes: "80"`},
		{
			"URL without a scheme", "prometheus: {url: \"localhost:9090\"}\n" + service,
			`f.yml:1:19: prometheus.url: "localhost:9090"; expected a URL that starts with http:// or https:// and names a host`,
		},
		{
			"URL of a query", "prometheus: {url: \"http://p/graph?g0.expr=up\"}\n" + service,
			`f.yml:1:19: prometheus.url: "http://p/graph?g0.expr=up" has a query or a fragment; expected the base of the API`,
		},
		{"no URL", "prometheus: {}\n" + service, `f.yml:1:1: prometheus.url: missing; expected text`},
		{
			"two kinds of authentication", "prometheus:\n  url: \"http://p:1\"\n  basic_auth: {username: u}\n  authorization: {credentials_file: f}\n" + service,
			`f.yml:1:1: prometheus: at most one of basic_auth, oauth2 & authorization must be configured`,
		},
		{
			"unknown TLS version", "prometheus: {url: \"http://p:1\", tls_config: {min_version: TLS14}}\n" + service,
			`f.yml:1:59: prometheus.tls_config.min_version: "TLS14"; expected one of TLS13, TLS12, TLS11, TLS10`,
		},
		{
			"prefix", prometheus + service + "consul: {prefix: /governor}\n",
			`f.yml:6:18: consul.prefix: "/governor"; expected segments of letters, digits and . _ - : @ + ~, each followed by one slash, ` +
				`like "governor/"`,
		},
		{
			"address", prometheus + service + "consul: {address: \"tcp://c:8500\"}\n",
			`f.yml:6:19: consul.address: "tcp://c:8500": expected host:port, like 127.0.0.1:8500, or a URL that starts with ` +
				`http://, https:// or unix://`,
		},
		{
			"address without a port", prometheus + service + "consul: {address: consul}\n",
			`f.yml:6:19: consul.address: "consul": it has no port; expected host:port, like 127.0.0.1:8500, or a URL that starts ` +
				`with http://, https:// or unix://`,
		},
		{
			"certificate without key", prometheus + service + "consul: {tls_config: {cert_file: c.pem}}\n",
			`f.yml:6:10: consul.tls_config: cert_file and key_file go together; expected both or none`,
		},
		{
			"two tokens", prometheus + service + "consul: {token: a, token_file: b}\n",
			`f.yml:6:32: consul.token_file: set together with token; expected one of them`,
		},

		{"everything at once, in the order of the file", `promtheus: {}
consul: {sesion_ttl: 10s}
services:
  checkout:
    slo: {latency: 300, objective: 0.99}
    concurrency: {min: 20, max: 10}
  "": {}
`, `
f.yml:1:1: prometheus: missing; expected a section of keys, with at least url
f.yml:1:1: promtheus: unknown key; did you mean "prometheus"?
f.yml:2:10: consul.sesion_ttl: unknown key; did you mean "session_ttl"?
f.yml:5:20: services.checkout.slo.latency: 300 has no unit; expected a duration with one, like 300ms or 300s
f.yml:5:36: services.checkout.slo.objective: 0.99 has no percent sign; write 99% for the fraction 0.99, or 0.99%
f.yml:6:24: services.checkout.concurrency.min: 20 is above max, 10; expected min ≤ max
f.yml:7:3: services."": ""; expected a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, and not only dots
f.yml:7:3: services."": nothing to govern; expected a knob: concurrency, or rate, or both; shed goes with concurrency; retry or calls for what the service calls
f.yml:7:3: services."".slo: missing; expected a section of keys, with at least latency`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := Parse("f.yml", []byte(tt.file))
			if err == nil {
				t.Fatalf("accepted: %+v", c.Services)
			}
			if want := strings.TrimPrefix(tt.want, "\n"); err.Error() != want {
				t.Errorf("got\n%s\nwant\n%s", err, want)
			}
		})
	}
}

// min = max is legal: it fixes the limit.
func TestFixedLimit(t *testing.T) {
	c, _, err := Parse("f.yml", []byte(`prometheus: {url: "http://p:1"}
services: {a: {slo: {latency: 1s}, concurrency: {min: 7, max: 7}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if k := c.Specs()[0].Concurrency; k.Min != 7 || k.Max != 7 || k.Fallback != 7 {
		t.Errorf("got %+v", k)
	}
}

// No message repeats a secret, whatever is wrong with it or near it.
func TestSecretsAreNeverPrinted(t *testing.T) {
	for _, file := range []string{
		`prometheus: {url: "http://u:hunter2@p:9090"}`,
		`prometheus: {url: "http://u:hunter2@p:9090/%zz"}`,
		`prometheus: {url: "u:hunter2@p"}`,
		`prometheus: {url: "http://p:1", basic_auth: {username: u, password: [hunter2]}}`,
		`prometheus: {url: "http://p:1", basic_auth: {username: u, password: {hunter2: x}}}`,
		`prometheus: {url: "http://p:1", basic_auth: {username: u, password: !!hunter2 x}}`,
		`prometheus: {url: "http://p:1", basic_auth: {password: hunter2, password_file: f}}`,
		`prometheus: {url: "http://p:1", proxy_url: "http://u:hunter2@p:9%"}`,
		`prometheus: {url: "http://p:1", http_headers: {X-Key: {secrets: hunter2}}}`,
		`prometheus: {url: "http://p:1", authorization: Bearer hunter2}`,
		`prometheus: {url: "http://p:1", basic_auth: {password: *hunter2}}`,
		`prometheus: {url: "http://p:1", proxy_url: "http://p:1", proxy_connect_header: {X-Key: hunter2}}`,
		`prometheus: {url: "http://p:1", authorization: {type: basic, credentials: hunter2}}`,
		`consul: {token: [hunter2]}`,
		`consul: {token: 2020-01-01}`,
		`consul: {token: hunter2, token_file: f}`,
		`consul: {address: "http://u:hunter2@c:8500"}`,
	} {
		_, _, err := Parse("f.yml", []byte(file))
		if _, ok := errors.AsType[Problems](err); !ok {
			t.Errorf("%s: got %v, want Problems", file, err)
		}
		if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "2020") {
			t.Errorf("%s: printed a secret:\n%s", file, text)
		}
	}
}
