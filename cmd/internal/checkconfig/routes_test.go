package checkconfig

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

const route = "    routes:\n      export: {slo: {latency: 1s}}\n"

func TestRoutesAreShownLikeServices(t *testing.T) {
	stdout, stderr, code := run(t, "prometheus: {url: \"http://localhost:9090\"}\nservices:\n"+checkout+route)
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, stderr %s", code, stderr)
	}
	says(t, oneLine(stdout), []string{
		"is valid: services 1, routes 1, hash",
		"route checkout/export: enforce, decides and publishes slo 99% of requests within 1s, at most 1% fail timing",
	})
	of := strings.Split(oneLine(stdout), " route ")
	if want := "concurrency 20 to 400 in flight per instance"; len(of) != 2 || !strings.Contains(of[1], want) ||
		strings.Contains(of[1], "shed protects") {
		t.Errorf("want %s, and nothing that the route does not have:\n%s", want, stdout)
	}
}

// A route is measured, judged and looked up in the KV as a service is.
func TestOnlineLooksForTheRoutes(t *testing.T) {
	inWorldOf(t, func(since time.Time, w io.Writer) {
		exporter(since, w)
		edited(`service="checkout"`, `service="checkout/export"`)(since, w)
	}, func(t *testing.T, w *world) {
		client := w.kv.Client()
		elect(t, client)
		if _, err := client.KV().Put(&api.KVPair{Key: actuators.Keys{}.Setting("checkout/old"), Value: []byte("{}")}, nil); err != nil {
			t.Fatal(err)
		}
		text, code := w.look(t, header+checkout+route)
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		of := strings.Split(text, "route       ")
		if len(of) != 2 {
			t.Fatalf("%d routes in\n%s", len(of)-1, text)
		}
		says(t, of[0], []string{
			"  others    settings of services and routes that are not in this file: checkout/old\n",
			"service     checkout: enforce", "  setting   concurrency 64",
		})
		says(t, of[1], []string{
			"checkout/export: enforce", "  setting   none yet\n", "  instances 3, newest", "around the SLO of 1s: 300ms, 1s (the SLO)",
			`guard_limit{service="checkout/export"}`,
		})
	})
	inWorld(t, func(t *testing.T, w *world) {
		text, code := w.look(t, header+checkout+route)
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		says(t, text, []string{
			`  advice    no_data: guard_limit{service="checkout/export"} finds nothing: is the route scraped, and is it among the ` +
				"routes of the service's guard.Config?\n",
			"Not ready: checkout/export\n",
		})
	})
}
