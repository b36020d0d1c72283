package main

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/explain"
	"github.com/seed-de83e32b/governor/test/servers"
)

var explainedAt = time.Date(2026, time.November, 24, 14, 3, 27, 0, time.UTC)

// frozenLoop is a loop that a person froze while its service is slow.
func frozenLoop() api.Loop {
	at := explainedAt.Add(-2 * time.Second)
	nan := control.Number(math.NaN())
	return api.Loop{
		Service: "checkout", Knob: control.KnobConcurrency, Mode: control.Enforce,
		Unit: api.Requests, MeasuredUnit: api.Seconds,
		Min: 20, Max: 400, Fallback: 89, SLO: api.SLO{LatencySeconds: 0.3, Objective: 0.99, Errors: 0.001},
		Since: explainedAt.Add(-38 * time.Second),
		Published: &api.Published{
			Key: "k", Value: 72, Epoch: 41, Revision: 881, ChangedAt: explainedAt.Add(-38 * time.Second),
		},
		Order: &actuators.Order{
			Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412", At: explainedAt.Add(-40 * time.Second),
			ExpiresAt: explainedAt.Add(14*time.Minute + 20*time.Second),
		},
		Decision: control.Decision{
			Service: "checkout", Knob: control.KnobConcurrency, Mode: control.Enforce, At: at, State: control.Frozen,
			Detail: "ana: INC-1412", Reason: "frozen at 72 until 2026-11-24 14:17:47 UTC: ana: INC-1412",
			Setpoint: 0.112, Measured: 0.148, From: 72, Raw: nan, Value: 72, Ceiling: 144,
			Terms: control.Terms{Law: "pid", Error: nan, P: nan, I: nan, D: nan},
			Gates: control.Gates{
				Binds: true, Occupancy: 0.97, BindingShare: 0.91, Floor: 26, FloorTest: "idle", OwnLatencySeconds: 0.0398,
			},
			Inputs: control.Inputs{
				AgeSeconds: 1.2, WindowSeconds: 20, Requests: 41820, Throughput: 644, RefusedShare: 0.31, Quantile: 0.284,
				SlowRatio: 0.021, FailedRatio: 0.0001, Burn5m: 6.1, Burn1h: 3.9, EffectiveLimit: 80, Instances: 9, Applied: 9,
			},
		},
	}
}

func statusOf(instance string) api.Status {
	return api.Status{
		Instance: instance, Role: api.Leader, Now: explainedAt, Leader: api.LeaderInfo{Instance: instance, Epoch: 41},
	}
}

const frozenExplained = `checkout/concurrency, mode enforce, steered by gov-a, the leader of epoch 41

state     FROZEN, since 14:02:49 UTC (38 s)
          a person stopped the loop
why       frozen at 72 until 2026-11-24 14:17:47 UTC: ana: INC-1412
bound by  the order of ana: the value stays, whatever the measurements
ordered   frozen by ana at 14:02:47 UTC (40 s ago) until 14:17:47 UTC (in 14
          min): INC-1412
in force  72 requests in flight per instance, published with revision 881 of
          epoch 41, changed 38 s ago
          all 9 instances report this revision or a later one
          between decisions a guard's reflex may raise its limit up to 144
          bounds 20 to 400, fallback 89

what it measured, with the age of each now
  mean latency                148 ms, setpoint 112 ms (over 20 s, 3.2 s old)
  p99 latency                 284 ms, SLO 300 ms (over 20 s, 3.2 s old)
  slow requests               2.1%, allowed 1% (over 20 s, 3.2 s old)
  failed requests             0.01%, allowed 0.1% (over 20 s, 3.2 s old)
  error budget burn, 5 min    6.1 × its budget
  error budget burn, 1 h      3.9 × its budget
  arrivals                    41820 (over 20 s, 3.2 s old)
  completed, per instance     644/s (over 20 s, 3.2 s old)
  refused                     31% (over 20 s, 3.2 s old)
  limit of the instances      80 (3.2 s old)
  in flight ÷ limit           97% (3.2 s old)
  time with the limit full    91% (over 20 s, 3.2 s old)
  Little's-law floor          26
  own latency (learned)       39.8 ms
  instances                   9 (3.2 s old)

what would change it
  - governor resume checkout/concurrency --reason=TEXT
  - the end of the order at 14:17:47 UTC, in 14 min: the loop then continues
    from the value in force
`

// daemonAnswers serves one loop like a governor.
func daemonAnswers(t *testing.T, l api.Loop, status api.Status) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.VersionHeader, "0.3.0")
		w.Header().Set("Content-Type", "application/json")
		var answer any = status
		switch r.URL.Path {
		case "/api/v1/loops/checkout/concurrency":
			answer = l
		case "/api/v1/status":
		default:
			w.WriteHeader(http.StatusNotFound)
			answer = api.Error{Error: "there is no loop " + r.URL.Path, Hint: "the loops are: checkout/concurrency"}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestExplain(t *testing.T) {
	url := daemonAnswers(t, frozenLoop(), statusOf("gov-a"))
	out, errs, code := playsGovernor(t, nil, "explain", "checkout/concurrency", "--connect="+url)
	if code != exitOK || errs != "" || out != frozenExplained {
		t.Errorf("exit code %d, stderr %q, stdout\n%s\nwant\n%s", code, errs, out, frozenExplained)
	}
	for _, tc := range []struct{ args, want string }{
		{"checkout/rate --connect=" + url, "(the loops are: checkout/concurrency)"},
		{"checkout/rate --connect=" + servers.Unused(t), "no governor answers at"},
	} {
		_, errs, code := playsGovernor(t, nil, append([]string{"explain"}, strings.Split(tc.args, " ")...)...)
		if code != exitError || !strings.Contains(errs, tc.want) {
			t.Errorf("governor explain %s: exit code %d, stderr %q, want it to say %q", tc.args, code, errs, tc.want)
		}
	}
}

// The name of a service or a route is no loop, but the answer says which loops it has.
func TestExplainSaysWhichLoopsARouteHas(t *testing.T) {
	var there []api.Loop
	for _, name := range []string{"checkout", "checkout/export"} {
		for _, knob := range []control.Knob{control.KnobConcurrency, control.KnobShed} {
			there = append(there, api.Loop{Service: name, Knob: knob})
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.VersionHeader, "0.3.0")
		w.Header().Set("Content-Type", "application/json")
		var answer any = there
		if r.URL.Path != "/api/v1/loops" {
			w.WriteHeader(http.StatusNotFound)
			answer = api.Error{Error: "there is no loop " + r.URL.Path}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	for name, want := range map[string]string{
		"checkout/export":      "checkout/export is a route, and a loop is asked for: it has checkout/export/concurrency, checkout/export/shed",
		"checkout/exprot":      "there is no loop or route checkout/exprot; did you mean checkout/export?",
		"checkout/export/rate": "there is no loop checkout/export/rate; checkout/export has checkout/export/concurrency, checkout/export/shed",
		"checkout":             "checkout is a service, and a loop is asked for: it has checkout/concurrency, checkout/shed",
	} {
		_, errs, code := playsGovernor(t, nil, "explain", name, "--connect="+server.URL)
		if code != exitError || !strings.Contains(errs, want) {
			t.Errorf("governor explain %s: exit code %d, stderr %q, want it to say %q", name, code, errs, want)
		}
	}
}

// The name of a measurement that fills its column stands on a line of its own, whatever its length.
func TestLongNamesOfMeasurementsKeepTheirDistance(t *testing.T) {
	l := frozenLoop()
	l.Decision.Inputs.RefusedBy.Concurrency = 0.36
	l.Decision.Learned.OwnLatency = control.Estimate{Samples: 1, AgeSeconds: 3}
	l.Decision.Inputs.Dependencies = []control.Calls{{Name: strings.Repeat("d", 100), Requests: 3, Mean: 0.02}}
	text := explanation(explain.Subject{Loop: l, Status: statusOf("gov-a"), Now: explainedAt})
	for _, want := range []string{
		"\n  refused by the concurrency limit\n                              36% (over 20 s, 3.2 s old)\n",
		"d\n                              0 of 0 in flight, mean 20 ms", "39.8 ms, from 1 window, 3 s old\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
}

// Foreign text is cleaned before it is laid out, and no line is wider than a terminal of 80 columns.
func TestExplanationFitsAndIsCleaned(t *testing.T) {
	l := frozenLoop()
	long := strings.Repeat("https://wiki.example/", 8)
	l.Order.Actor, l.Order.Reason = hostile, strings.Repeat("日本語の理由はとても長い、", 4)+long
	l.Decision.Reason, l.Decision.Detail = hostile+long, hostile
	l.Decision.Inputs.Outliers = []string{hostile, long}
	l.Published.Error = hostile
	text := explanation(explain.Subject{Loop: l, Status: statusOf(hostile), Now: explainedAt})
	if bad := acted(text); bad != "" || strings.Contains(text, "\nlevel=info") {
		t.Errorf("it shows %s:\n%s", bad, text)
	}
	for _, want := range []string{"red", "日本語", "https://wiki.example/", "level=info msg=forged"} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("it does not say %s:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if w := ansi.StringWidth(strings.TrimSuffix(line, "\n")); w > explainWidth {
			t.Errorf("%d columns: %s", w, line)
		}
	}
}
