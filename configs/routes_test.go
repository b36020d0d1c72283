package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
)

// An SLO is all that a route needs: the rest is its service's, except for the knobs that one cannot share.
func TestRouteInheritsFromItsService(t *testing.T) {
	c := parse(t, `
  shop:
    mode: enforce
    slo: {latency: 300ms, objective: 95%, errors: 2%}
    concurrency: {min: 20, max: 400, law: aimd}
    shed: {protect: critical}
    rate: {min: 10/s, max: 100/s}
    retry: {}
    calls: {payments: {}}
    timing: {scrape_interval: 2s}
    metrics: {labels: {job: shop}}
    tuning: {gain: 0.7}
    routes:
      export: {slo: {latency: 10s}}
      bulk:
        slo: {latency: 5s, objective: 99.9%, errors: 0.1%}
        concurrency: {min: 1, max: 9}
        shed: {protect: default}
        rate: {min: 1/s, max: 9/s}
  shop-v2: {slo: {latency: 1s}, concurrency: {min: 1, max: 2}}`)
	accepted(t, c)
	names := []string{"checkout", "shop", "shop-v2", "shop/bulk", "shop/export"}
	if got := c.Names(); !slices.Equal(got, names) {
		t.Fatalf("names %q", got)
	}
	specs, sensed := map[string]control.Spec{}, map[string]signals.Service{}
	for _, s := range c.Specs() {
		specs[s.Service] = s
	}
	for _, s := range c.Signals() {
		sensed[s.Name] = s
	}
	own, export, bulk := specs["shop"], specs["shop/export"], specs["shop/bulk"]
	if export.SLO != (control.SLO{Latency: 10 * time.Second, Objective: 0.95, Errors: 0.02}) || export.Mode != control.Enforce ||
		export.Timing != own.Timing || !reflect.DeepEqual(export.Tuning, own.Tuning) ||
		!reflect.DeepEqual(export.Concurrency, own.Concurrency) ||
		export.Shed != nil || export.Rate != nil || export.Retry != nil || export.Calls != nil {
		t.Errorf("export: %+v, of %+v", export, own)
	}
	if bulk.SLO != (control.SLO{Latency: 5 * time.Second, Objective: 0.999, Errors: 0.001}) ||
		*bulk.Concurrency != (control.ConcurrencySpec{Min: 1, Max: 9, Fallback: 3, Law: control.PIDLaw}) ||
		bulk.Shed == nil || bulk.Shed.Protect != control.Default || bulk.Rate == nil || bulk.Rate.Max != 9 {
		t.Errorf("bulk: %+v", bulk)
	}
	s := sensed["shop/export"]
	if s.SLO != export.SLO || s.Labels["job"] != "shop" || s.Preset != signals.Guard || len(s.Callees) > 0 {
		t.Errorf("the sensor's view of export: %+v", s)
	}
	if learned := c.WithLearned(map[string]signals.Learned{"shop/export": {Scrape: time.Second}}); learned.Learns("shop/export") {
		t.Error("the scrape interval of a route is learned, though its service has one")
	}
	sensor, err := signals.New(c.SensorOptions(), slices.DeleteFunc(c.Signals(), func(s signals.Service) bool {
		return !strings.HasPrefix(s.Name, "shop") || s.SLO.Objective != 0.95
	}))
	if err != nil || len(sensor.Groups()) != 1 {
		t.Errorf("a service with calls and its route with the same objective do not share a query: %v", err)
	}
	if c.Compartment("shop/x") != nil || c.Compartment("x/export") != nil || c.Compartment("shop/export/x") != nil {
		t.Error("there is a compartment that the file does not have")
	}
}

func TestMessagesAboutRoutes(t *testing.T) {
	const before = "prometheus: {url: \"http://p:1\"}\nservices:\n  checkout:\n    slo: {latency: 300ms}\n"
	const file = before + "    concurrency: {min: 20, max: 400}\n"
	routes := func(s string) string { return file + "    routes:\n      " + s + "\n" }
	const reserved = ` would be ambiguous; expected a name other than concurrency, rate, shed, retry, calls, routes, setting, operator`
	var many strings.Builder
	many.WriteString(file + "    routes:\n")
	for i := range 33 {
		fmt.Fprintf(&many, "      r%d: {slo: {latency: 10s}}\n", i)
	}
	for _, tt := range []struct{ name, file, want string }{
		{
			"without an SLO", routes("export:"),
			`f.yml:7:7: services.checkout.routes.export.slo: missing; expected a section of keys, with at least latency`,
		},
		{
			"without a latency", routes("export: {slo: {objective: 99%}}"),
			`f.yml:7:16: services.checkout.routes.export.slo.latency: missing; expected a duration with a unit, like 300ms, 5s or 1m`,
		},
		{
			"misspelled", file + "    rotes: {}\n",
			`f.yml:6:5: services.checkout.rotes: unknown key; did you mean "routes"?`,
		},
		{
			"misspelled key of a route", routes("export: {slo: {latency: 10s}, concurency: {min: 1, max: 2}}"),
			`f.yml:7:37: services.checkout.routes.export.concurency: unknown key; did you mean "concurrency"?`,
		},
		{
			"what a route inherits", routes("export: {slo: {latency: 10s}, mode: enforce}"),
			`f.yml:7:37: services.checkout.routes.export.mode: unknown key; expected one of slo, concurrency, shed, rate`,
		},
		{
			"a knob's name", routes("rate: {slo: {latency: 10s}}"),
			`f.yml:7:7: services.checkout.routes.rate: "rate" is reserved: checkout/rate` + reserved,
		},
		{
			"a key's name", routes("calls: {slo: {latency: 10s}}"),
			`f.yml:7:7: services.checkout.routes.calls: "calls" is reserved: checkout/calls` + reserved,
		},
		{
			"more than a guard has", many.String(),
			`f.yml:6:5: services.checkout.routes: 33 routes; expected at most 32, as many as a guard has`,
		},
		{
			"a slash", routes("a/b: {slo: {latency: 10s}}"),
			`f.yml:7:7: services.checkout.routes.a/b: "a/b"; expected the name of a route, which is valid as a service name: ` +
				`1 to 128 ASCII letters, digits and . _ - : @ + ~, and not only dots; '/' is not among them`,
		},
		{
			"a service named like a route", strings.Replace(file, "checkout:", "checkout/export:", 1),
			`f.yml:3:3: services.checkout/export: "checkout/export"; expected a service name: ` +
				`1 to 128 ASCII letters, digits and . _ - : @ + ~, and not only dots; '/' is not among them`,
		},
		{
			"bounds", routes("export: {slo: {latency: 10s}, concurrency: {min: 3, max: 2}}"),
			`f.yml:7:56: services.checkout.routes.export.concurrency.min: 3 is above max, 2; expected min ≤ max`,
		},
		{
			"nothing to govern", before + "    rate: {min: 1/s, max: 9/s}\n    routes:\n      export: {slo: {latency: 10s}}\n",
			`f.yml:7:7: services.checkout.routes.export: nothing to govern; expected a knob: concurrency, of the route or of its ` +
				`service, or rate, or both`,
		},
		{
			"shed without a limit", before + "    rate: {min: 1/s, max: 9/s}\n    routes:\n      export:\n" +
				"        slo: {latency: 10s}\n        rate: {min: 1/s, max: 9/s}\n        shed: {protect: critical}\n",
			`f.yml:10:9: services.checkout.routes.export.shed: ` + noLimitToShed,
		},
		{
			"another preset", routes("export: {slo: {latency: 10s}}") +
				"    metrics: {preset: http_histogram, labels: {job: a}, histogram: {metric: m, inflight: g}}\n",
			`f.yml:6:5: services.checkout.routes: set with preset http_histogram, which cannot tell routes apart; expected preset ` +
				`guard, or no routes`,
		},
		{
			"queries", routes("export: {slo: {latency: 10s}}") + "    metrics: {queries: {inflight: a}}\n",
			`f.yml:6:5: services.checkout.routes: set with metrics.queries, which read the service as a whole; expected no ` +
				`queries, or no routes`,
		},
		{
			"labels, once", routes("export: {slo: {latency: 10s}}") + "    metrics: {labels: {service: a}}\n",
			`f.yml:8:24: services.checkout.metrics.labels.service: the label service is reserved for the service's name; ` +
				`expected other labels`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Parse("f.yml", []byte(tt.file))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}
