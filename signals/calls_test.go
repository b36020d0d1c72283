package signals

import (
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/seed-de83e32b/governor/control"
)

func selectorsOf(t *testing.T, s Service) (all, calls int) {
	t.Helper()
	expr, err := promQL.ParseExpr(sensor(t, Options{URL: "http://prometheus"}, s).Groups()[0].Queries()[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, matchers := range parser.ExtractSelectors(expr) {
		all++
		for _, m := range matchers {
			if m.Name == "__name__" && strings.Contains(m.Value, "guard_client_") {
				calls++
			}
		}
	}
	return all, calls
}

// A service without calls pays one selector for them, the waiting: it cannot know that nobody guards its calls.
func TestCallsAreReadWhereTheyAreAskedFor(t *testing.T) {
	const own, ofCalls = 31, 10
	if all, calls := selectorsOf(t, checkout()); all != own || calls != 0 {
		t.Errorf("without calls: %d selectors, %d of calls; want %d and none", all, calls, own)
	}
	for _, native := range []bool{false, true} {
		s := checkout()
		s.Calls, s.Native = true, native
		if _, calls := selectorsOf(t, s); calls != ofCalls {
			t.Errorf("native %v: %d selectors of calls, want %d", native, calls, ofCalls)
		}
	}
	quiet, busy := checkout(), checkout()
	busy.Name, busy.Calls = "front", true
	groups := sensor(t, Options{URL: "http://prometheus"}, quiet, busy).Groups()
	if len(groups) != 2 || strings.Contains(groups[0].Queries()[0], "guard_client_") {
		t.Errorf("a service without calls shares the query of one with: %d groups", len(groups))
	}
}

// calling is healthy, where the instance a calls payments.
func calling(t *testing.T) *recording {
	rec := healthy(t)
	a := ""
	for _, r := range rec.rows {
		if r.matches(sigLimit, "") {
			a = r.Metric["instance"]
			break
		}
	}
	add := func(signal, from, value string, labels ...string) {
		for _, r := range rec.rows {
			if !r.matches(from, a) {
				continue
			}
			of := map[string]string{"to": "payments"}
			maps.Copy(of, r.Metric)
			of[signalLabel] = signal
			for i := 0; i < len(labels); i += 2 {
				of[labels[i]] = labels[i+1]
			}
			rec.rows = append(rec.rows, row{of, [2]any{r.Value[0], value}})
			return
		}
		panic("no row " + from)
	}
	add(sigCallLimit, sigLimit, "24")
	add(sigCallInFlight, sigLimit, "3")
	add(sigCallTarget, sigLimit, "0.12")
	add(sigCallOwnLatency, sigLimit, "0.04")
	add(sigCallBreakers, sigLimit, "2", "state", "closed")
	add(sigCallBreakers, sigLimit, "1", "state", "open")
	add(sigCallRequests, sigOffered, "400")
	add(sigCallRetries, sigOffered, "20")
	add(sigCallRefused, sigOffered, "8", "reason", "breaker")
	add(sigCallOpened, sigOffered, "1", "reason", "failures")
	add(sigCallLatencyCount, sigOffered, "420")
	add(sigCallLatencySum, sigOffered, "21")
	add(sigWaited, sigOffered, "20")
	add(sigCutShort, sigOffered, "30")
	add(sigCutShortSeconds, sigOffered, "0.6", "part", "own")
	add(sigCutShortSeconds, sigOffered, "0.3", "part", "calls")
	return rec
}

func measuredCalls(t *testing.T, rec *recording) (in control.Instance) {
	t.Helper()
	s := checkout()
	s.Calls = true
	f := answering(t, rec.body())
	m := sensor(t, Options{URL: f.URL}, s).Groups()[0].Measure(t.Context(), evaluated)[0]
	if m.Invalid != "" || len(m.Instances) != 2 {
		t.Fatalf("%+v", m)
	}
	for _, in := range m.Instances {
		if len(in.Calls) > 0 {
			return in
		}
	}
	t.Fatal("nobody calls")
	return in
}

func TestCallsOfAnInstance(t *testing.T) {
	in := measuredCalls(t, calling(t).reversed())
	c := in.Calls[0]
	if c.To != "payments" || len(in.Calls) != 1 {
		t.Fatalf("%+v", in.Calls)
	}
	for what, r := range map[string][2]control.Reading{
		"cut short": {in.CutShort.Count, control.Read(30)}, "their own latency": {in.CutShort.Own, control.Read(0.6)},
		"their waiting": {in.CutShort.Waited, control.Read(0.3)},
		"waited":        {in.Waited, control.Read(20)}, "limit": {c.Limit, control.Read(24)}, "in flight": {c.InFlight, control.Read(3)},
		"target": {c.LatencyTarget, control.Read(0.12)}, "own latency": {c.OwnLatency, control.Read(0.04)},
		"closed": {c.Closed, control.Read(2)}, "open": {c.Open, control.Read(1)}, "requests": {c.Requests, control.Read(400)},
		"retries": {c.Retries, control.Read(20)}, "refused": {c.BreakerOpen, control.Read(8)},
		"opened": {c.OpenedByFailures, control.Read(1)}, "mean": {c.Mean, control.Read(0.05)}, "finished": {c.Finished, control.Read(420)},
	} {
		if text(r[0]) != text(r[1]) {
			t.Errorf("%s: %s, want %s", what, text(r[0]), text(r[1]))
		}
	}
	isMissing(t, "what it does not report", c.HalfOpen, control.NoData, "")
	isMissing(t, "attempts", c.Attempts, control.NoData, "guard_client_attempts_total")
}

// A guard that has just been replaced, or two that share a name, mix with nobody: a series counts for the instance whose
// labels it has.
func TestCallsOfAnotherProcessAreLeftOut(t *testing.T) {
	rec := calling(t)
	for i, r := range rec.rows {
		if r.matches(sigCallOwnLatency, "") {
			rec.rows[i].Metric["pod"] = "before"
		}
	}
	isMissing(t, "own latency", measuredCalls(t, rec).Calls[0].OwnLatency, control.NoData, "")
	rec = calling(t)
	rec.set(sigCallOwnLatency, "", "NaN").set(sigCallLatencySum, "", "-1")
	c := measuredCalls(t, rec).Calls[0]
	isMissing(t, "own latency", c.OwnLatency, control.NaN, "")
	isMissing(t, "mean", c.Mean, control.Implausible, "")
}

// A guard of an earlier version does not tell what it waits for: its latency is then all its own.
func TestGuardThatDoesNotTellItsWaiting(t *testing.T) {
	m := measure(t, healthy(t).body())
	isMissing(t, "waited", m.Instances[0].Waited, control.NoData, "guard_call_wait_seconds_total")
	isMissing(t, "cut short", m.Instances[0].CutShort.Count, control.NoData, "guard_cut_short_total")
	if m.Invalid != "" || m.Instances[0].Calls != nil {
		t.Errorf("%+v", m)
	}
}
