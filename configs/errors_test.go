package configs

import (
	"errors"
	"strings"
	"testing"
)

// What a person reads after each kind of mistake. Every file is complete but for the mistake.
func TestMessages(t *testing.T) {
	const prometheus = "prometheus: {url: \"http://localhost:9090\"}\n"
	const service = "services:\n  checkout:\n    slo: {latency: 300ms}\n    concurrency: {min: 20, max: 400}\n"
	// slo and knob are files with one line exchanged: line 4 or line 5.
	slo := func(s string) string { return strings.Replace(prometheus+service, "slo: {latency: 300ms}", s, 1) }
	knob := func(s string) string {
		return strings.Replace(prometheus+service, "concurrency: {min: 20, max: 400}", s, 1)
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
		{"second document", prometheus + service + "---\na: b\n",
			`f.yml:6:1: a second YAML document starts here; expected one document in the file`},

		// YAML itself.
		{"tab", prometheus + "services:\n\tcheckout:\n", `f.yml:3:1: a tab in the indentation; expected spaces`},
		{"tab after spaces", slo("slo:\n      latency: 1s\n    \terrors: 1%"),
			`f.yml:6:5: a tab in the indentation; expected spaces`},
		{"unclosed bracket", prometheus + "services: {checkout: {slo: {latency: 1s}\n",
			`f.yml:2:1: not YAML: did not find expected ',' or '}'`},
		{"indentation", prometheus + "services:\n    checkout:\n  cart:\n", `f.yml:4:3: not YAML: did not find expected key`},
		{"missing colon", prometheus + "services:\n  checkout\n  cart:\n",
			`f.yml:4:3: not YAML: mapping values are not allowed in this context`},
		{"unknown alias", slo("slo: *shared"), `f.yml:4:5: an alias of an anchor that does not exist; text that starts with * goes in quotes`},
		{"control character", prometheus + "services:\x01\n", `f.yml:2:1: not YAML: control characters are not allowed`},
		{"explicit tag", slo("slo: {latency: !!str 300ms}"),
			`f.yml:4:20: services.checkout.slo.latency: an explicit tag; expected a duration with a unit, like 300ms, 5s or 1m without one`},

		// Keys.
		{"unknown key", slo("slo: {latency: 300ms, targt: 1s}"),
			`f.yml:4:27: services.checkout.slo.targt: unknown key; expected one of latency, objective, errors`},
		{"misspelt key", slo("slo: {latency: 300ms, objektive: 99%}"),
			`f.yml:4:27: services.checkout.slo.objektive: unknown key; did you mean "objective"?`},
		{"swapped letters at the top", "promethues: {url: x}\n" + service, `
f.yml:1:1: prometheus: missing; expected a section of keys, with at least url
f.yml:1:1: promethues: unknown key; did you mean "prometheus"?`},
		{"deprecated key of Prometheus", "prometheus:\n  url: \"http://p:1\"\n  bearer_token: x\n" + service,
			`f.yml:3:3: prometheus.bearer_token: unknown key; expected one of url, http_method, timeout, basic_auth, ` +
				`authorization, oauth2, tls_config, follow_redirects, enable_http2, proxy_url, no_proxy, proxy_from_environment, ` +
				`proxy_connect_header, http_headers`},
		{"misspelt knob is one mistake", knob("concurency: {min: 20, max: 400}"),
			`f.yml:5:5: services.checkout.concurency: unknown key; did you mean "concurrency"?`},
		{"key twice", knob("concurrency: {min: 20, max: 400}\n    slo: {latency: 1s}"),
			`f.yml:6:5: services.checkout.slo: set twice, first on line 4`},
		{"service twice", prometheus + service + "  checkout: {}\n", `f.yml:6:3: services.checkout: set twice, first on line 3`},
		{"key that is a list", slo("slo: {latency: 1s, [a]: b}"),
			`f.yml:4:24: services.checkout.slo: a list as a key; expected a word`},
		{"merge of text", slo("slo: {latency: 1s, <<: a}"),
			`f.yml:4:28: services.checkout.slo: "a" merged with <<; expected an alias of a section`},
		{"merge of itself", slo("slo: &a {latency: 1s, <<: *a}"),
			`f.yml:4:31: services.checkout.slo: a merge of a section that merges in turn; expected one level of <<`},

		// Durations (A27): a bare 400 became 400 ns in TheThingsNetwork/lorawan-stack#270, a bad one silently the default
		// in abtreece/confd#502.
		{"bare duration", slo("slo: {latency: 300}"),
			`f.yml:4:20: services.checkout.slo.latency: 300 has no unit; expected a duration with one, like 300ms or 300s`},
		{"bare fraction", slo("slo: {latency: 0.3}"),
			`f.yml:4:20: services.checkout.slo.latency: 0.3 has no unit; expected a duration with one, like 0.3ms or 0.3s`},
		{"fraction with a unit", slo("slo: {latency: 0.3s}"),
			`f.yml:4:20: services.checkout.slo.latency: "0.3s" has a fraction or units out of order; write 300ms`},
		{"zero", slo("slo: {latency: 0s}"),
			`f.yml:4:20: services.checkout.slo.latency: 0s is out of range; expected at least 1ms and at most 1h`},
		{"bare zero", slo("slo: {latency: 0}"),
			`f.yml:4:20: services.checkout.slo.latency: 0 has no unit; expected a duration with one, like 0ms or 0s`},
		{"negative", slo("slo: {latency: -5s}"),
			`f.yml:4:20: services.checkout.slo.latency: "-5s"; expected a duration with a unit, like 300ms, 5s or 1m`},
		{"words", slo("slo: {latency: fast}"),
			`f.yml:4:20: services.checkout.slo.latency: "fast"; expected a duration with a unit, like 300ms, 5s or 1m`},
		{"no value", slo("slo: {latency: }"),
			`f.yml:4:11: services.checkout.slo.latency: no value; expected a duration with a unit, like 300ms, 5s or 1m`},
		{"overflow", slo("slo: {latency: 999999y}"),
			`f.yml:4:20: services.checkout.slo.latency: "999999y"; expected a duration with a unit, like 300ms, 5s or 1m`},
		{"missing", slo("slo: {objective: 99%}"),
			`f.yml:4:5: services.checkout.slo.latency: missing; expected a duration with a unit, like 300ms, 5s or 1m`},
		// A19: patroni/patroni#1579.
		{"session TTL that Consul refuses", prometheus + service + "consul: {session_ttl: 5s}\n",
			`f.yml:6:23: consul.session_ttl: 5s is out of range; expected at least 10s and at most 1d: Consul accepts no other TTL for a session`},
		{"lease shorter than three periods", prometheus + service + "consul: {lease: 14s}\n",
			`f.yml:6:17: consul.lease: the lease, 14s, is shorter than three periods of 5s, so that a setting would run out ` +
				`between renewals; expected a lease of at least 15s`},
		{"window shorter than two scrapes", prometheus + service + "timing: {window: 9s}\n",
			`f.yml:6:18: timing.window: 9s holds fewer than two scrapes, 5s apart, so that no rate can be taken; expected at least 20s`},

		// Shares (A27): an objective of 100 % divides by a budget of zero, elastic/kibana#144823.
		{"bare percentage", slo("slo: {latency: 1s, objective: 99}"),
			`f.yml:4:35: services.checkout.slo.objective: 99 has no percent sign; write 99%`},
		{"fraction", slo("slo: {latency: 1s, objective: 0.99}"),
			`f.yml:4:35: services.checkout.slo.objective: 0.99 has no percent sign; write 99% for the fraction 0.99, or 0.99%`},
		{"bare 99.9", slo("slo: {latency: 1s, objective: 99.9}"),
			`f.yml:4:35: services.checkout.slo.objective: 99.9 has no percent sign; write 99.9%`},
		{"no budget", slo("slo: {latency: 1s, objective: 100%}"),
			`f.yml:4:35: services.checkout.slo.objective: 100% is out of range; expected at least 50% and less than 100%: ` +
				`the rest is the error budget, which may not be zero, and below half the median itself is too slow`},
		{"objective and errors exchanged", slo("slo: {latency: 1s, objective: 0.1%, errors: 99%}"), `
f.yml:4:35: services.checkout.slo.objective: 0.1% is out of range; expected at least 50% and less than 100%: ` +
			`the rest is the error budget, which may not be zero, and below half the median itself is too slow
f.yml:4:49: services.checkout.slo.errors: 99% is out of range; expected more than 0% and at most 50%: ` +
			`an error budget of zero is spent by the first failure`},
		{"negative share", slo("slo: {latency: 1s, errors: -1%}"),
			`f.yml:4:32: services.checkout.slo.errors: "-1%"; expected a percentage with its sign, like 99% or 0.1%`},

		// The knob.
		{"min above max", knob("concurrency: {min: 400, max: 20}"),
			`f.yml:5:24: services.checkout.concurrency.min: 400 is above max, 20; expected min ≤ max`},
		{"min 0", knob("concurrency: {min: 0, max: 20}"),
			`f.yml:5:24: services.checkout.concurrency.min: 0 is out of range; expected at least 1 and at most 1000000: ` +
				`closing a service on purpose is not a concurrency limit`},
		{"fraction of a request", knob("concurrency: {min: 1.5, max: 20}"),
			`f.yml:5:24: services.checkout.concurrency.min: "1.5"; expected a whole number`},
		{"number in quotes", knob(`concurrency: {min: "1", max: 20}`),
			`f.yml:5:24: services.checkout.concurrency.min: "1" in quotes; expected a whole number without quotes`},
		{"fallback outside", knob("concurrency: {min: 10, max: 20, fallback: 21}"),
			`f.yml:5:47: services.checkout.concurrency.fallback: 21 is outside the bounds; expected at least min, 10, and at most max, 20`},
		{"unknown law", knob("concurrency: {min: 1, max: 20, law: PID}"),
			`f.yml:5:41: services.checkout.concurrency.law: "PID"; expected one of pid, aimd`},
		{"no knob", knob("mode: enforce"), `f.yml:3:3: services.checkout: nothing to govern; expected a knob: concurrency`},
		{"knob left empty", knob("concurrency:"), `
f.yml:5:5: services.checkout.concurrency.max: missing; expected a whole number
f.yml:5:5: services.checkout.concurrency.min: missing; expected a whole number`},
		{"misspelt mode", knob("concurrency: {min: 1, max: 2}\n    mode: enforced"),
			`f.yml:6:11: services.checkout.mode: "enforced"; expected one of observe, shadow, enforce; did you mean "enforce"?`},
		{"gain at the edge of stability", knob("concurrency: {min: 1, max: 2}\n    tuning: {gain: 2}"),
			`f.yml:6:20: services.checkout.tuning.gain: 2 is out of range; expected more than 0 and less than 2: the loop oscillates from 2 on`},
		{"infinite gain", knob("concurrency: {min: 1, max: 2}\n    tuning: {gain: .inf}"),
			`f.yml:6:20: services.checkout.tuning.gain: ".inf"; expected a number`},
		{"not a truth value", "prometheus: {url: \"http://p:1\", enable_http2: yes}\n" + service,
			`f.yml:1:47: prometheus.enable_http2: "yes"; expected true or false`},

		// Names and addresses. The service names would end up elsewhere in the KV (A21): hashicorp/consul#15933.
		{"service name with a slash", prometheus + "services:\n  a//b: {slo: {latency: 1s}, concurrency: {min: 1, max: 2}}\n",
			`f.yml:3:3: services.a//b: "a//b"; expected a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, ` +
				`and not only dots; '/' is not among them`},
		{"service name that climbs", prometheus + "services:\n  ../x: {slo: {latency: 1s}, concurrency: {min: 1, max: 2}}\n",
			`f.yml:3:3: services."../x": "../x"; expected a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, ` +
				`and not only dots; '/' is not among them`},
		{"label that is no label", knob("concurrency: {min: 1, max: 2}\n    metrics: {labels: {k8s-app: a, service: b, port: 80}}"), `
f.yml:6:24: services.checkout.metrics.labels.k8s-app: "k8s-app"; expected a label name: letters, digits and underscores, no digit first
f.yml:6:36: services.checkout.metrics.labels.service: the label service carries the name of the service; expected other labels
f.yml:6:54: services.checkout.metrics.labels.port: 80 is not text to YAML; expected text, in quotes: "80"`},
		{"URL without a scheme", "prometheus: {url: \"localhost:9090\"}\n" + service,
			`f.yml:1:19: prometheus.url: "localhost:9090"; expected a URL that starts with http:// or https:// and names a host`},
		{"URL of a query", "prometheus: {url: \"http://p/graph?g0.expr=up\"}\n" + service,
			`f.yml:1:19: prometheus.url: "http://p/graph?g0.expr=up" has a query or a fragment; expected the base of the API`},
		{"no URL", "prometheus: {}\n" + service, `f.yml:1:1: prometheus.url: missing; expected text`},
		{"two kinds of authentication", "prometheus:\n  url: \"http://p:1\"\n  basic_auth: {username: u}\n  authorization: {credentials_file: f}\n" + service,
			`f.yml:1:1: prometheus: at most one of basic_auth, oauth2 & authorization must be configured`},
		{"unknown TLS version", "prometheus: {url: \"http://p:1\", tls_config: {min_version: TLS14}}\n" + service,
			`f.yml:1:59: prometheus.tls_config.min_version: "TLS14"; expected one of TLS13, TLS12, TLS11, TLS10`},
		{"prefix", prometheus + service + "consul: {prefix: /governor}\n",
			`f.yml:6:18: consul.prefix: "/governor"; expected segments of letters, digits and . _ - : @ + ~, each followed by one slash, ` +
				`like "governor/"`},
		{"address", prometheus + service + "consul: {address: \"tcp://c:8500\"}\n",
			`f.yml:6:19: consul.address: "tcp://c:8500"; expected host:port, http://…, https://… or unix://…`},
		{"certificate without key", prometheus + service + "consul: {tls_config: {cert_file: c.pem}}\n",
			`f.yml:6:10: consul.tls_config: cert_file and key_file go together; expected both or none`},
		{"two tokens", prometheus + service + "consul: {token: a, token_file: b}\n",
			`f.yml:6:32: consul.token_file: set beside token; expected one of them`},

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
f.yml:7:3: services."": nothing to govern; expected a knob: concurrency
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
		var problems Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s: got %v, want Problems", file, err)
		}
		if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "2020") {
			t.Errorf("%s: printed a secret:\n%s", file, text)
		}
	}
}
