package control

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What 1000 requests may have taken in calm and beyond it.
var (
	calmPart = excess{0.1, 0.1, 10.1, 1000}
	slowPart = excess{20, 20, 30, 1000}
)

// partTo is the calls to a service, of which some are lost.
func partTo(to string, lost float64, e excess) callHealth {
	return callHealth{to: to, lost: Read(lost), tried: Read(1000), excess: e}
}

// suffering is a service that suffers, with its own part and its calls.
func suffering(own excess, calls ...callHealth) Health {
	h := Health{known: true, suffers: true, own: own, calls: calls}
	if len(calls) > 0 {
		h.waits = math.Inf(1)
	}
	return h
}

func TestFindCulprit(t *testing.T) {
	end := Health{known: true, own: calmPart}
	for _, tc := range []struct {
		name     string
		services map[string]Health
		want     string // nothing: ""
	}{
		{"nobody suffers", map[string]Health{"a": {known: true, own: slowPart}}, ""},
		{"not governed at all", map[string]Health{}, ""},
		{"its own part", map[string]Health{"a": suffering(slowPart, partTo("b", 0, calmPart)), "b": end}, "a"},
		{"a callee", map[string]Health{"a": suffering(calmPart, partTo("b", 0, slowPart), partTo("c", 0, calmPart)), "b": end}, "a b"},
		{"a callee that is not governed", map[string]Health{"a": suffering(calmPart, partTo("b", 0, slowPart))}, "a b"},
		{"two calls away", map[string]Health{
			"a": suffering(calmPart, partTo("b", 0, slowPart)), "b": suffering(calmPart, partTo("c", 0, slowPart)), "c": suffering(slowPart),
		}, "a b c"},
		{"a callee that is slower than the service, though faster than another", map[string]Health{
			"a": suffering(excess{19, 19, 30, 1000}, partTo("b", 0, slowPart), partTo("c", 0, excess{9, 9, 100, 1000})), "b": end,
		}, "a b"},
		{"the one that loses more, though the other is slower", map[string]Health{
			"a": suffering(calmPart, partTo("b", 30, calmPart), partTo("c", 25, slowPart)), "b": end, "c": suffering(slowPart),
		}, "a b"},
		{"so few lost that slowness tells more", map[string]Health{
			"a": suffering(calmPart, partTo("b", 15, calmPart), partTo("c", 0, slowPart)), "c": end,
		}, "a c"},
		{"it refuses more itself than its callees lose", map[string]Health{
			"a": {known: true, suffers: true, refused: 0.3, own: slowPart, calls: []callHealth{partTo("b", 100, calmPart)}}, "b": end,
		}, "a"},
		{"it refuses, and nothing takes longer", map[string]Health{
			"a": {known: true, suffers: true, refused: 0.3, own: calmPart, calls: []callHealth{partTo("b", 0, calmPart)}}, "b": end,
		}, "a"},
		{"nothing takes longer", map[string]Health{"a": suffering(calmPart, partTo("b", 0, calmPart)), "b": end}, ""},
		{"nothing takes longer behind a loss", map[string]Health{
			"a": suffering(calmPart, partTo("b", 500, calmPart)), "b": {known: true, own: calmPart, calls: []callHealth{partTo("c", 0, calmPart)}},
		}, "a b"},
		{"few requests that vary", map[string]Health{
			"a": suffering(calmPart, partTo("b", 0, slowPart)),
			"b": {known: true, own: calmPart, calls: []callHealth{partTo("c", 0, excess{0.1, 0.1, 0.3, 10})}},
		}, "a b"},
		{"the health on the way is unknown", map[string]Health{"a": suffering(calmPart, partTo("b", 0, slowPart)), "b": {}}, ""},
		{"the entry is unknown", map[string]Health{"a": {}}, ""},
		{"losses are unknown", map[string]Health{
			"a": suffering(calmPart, callHealth{to: "b", tried: Read(10), excess: calmPart}, partTo("c", 0, slowPart)),
		}, ""},
		{"its own calm is unknown", map[string]Health{"a": suffering(excess{0, 50, 50, 1000}, partTo("b", 0, slowPart)), "b": end}, ""},
		{"and would explain less", map[string]Health{"a": suffering(excess{0, 19, 19, 1000}, partTo("b", 0, slowPart)), "b": end}, "a b"},
		{"the calm of a callee is unknown", map[string]Health{
			"a": suffering(calmPart, partTo("b", 0, slowPart), partTo("c", 0, excess{0, 40, 40, 1000})), "b": end,
		}, ""},
		{"nobody asks the last", map[string]Health{
			"a": suffering(calmPart, partTo("b", 900, calmPart)), "b": {known: true, own: unknownExcess},
		}, "a b"},
		{"a circle", map[string]Health{
			"a": suffering(calmPart, partTo("b", 0, slowPart)), "b": suffering(calmPart, partTo("a", 0, slowPart)),
		}, ""},
		{"a call of itself", map[string]Health{"a": suffering(calmPart, partTo("a", 0, slowPart))}, ""},
	} {
		if got := strings.Join(FindCulprit(tc.services, "a"), " "); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// The callees of a route are those of its service, and a route that waits for none of them blames none.
func TestDivideCalls(t *testing.T) {
	route := func(own excess, waits float64) Health {
		return Health{known: true, suffers: true, own: own, waits: waits}
	}
	services := map[string]Health{
		"a":        {known: true, suffers: true, own: slowPart, waits: 0, calls: []callHealth{partTo("b", 0, excess{40, 40, 60, 1000})}},
		"a/export": route(calmPart, 45), "a/search": route(slowPart, 15), "a/ping": route(calmPart, 0), "a/idle": {},
		"b": suffering(slowPart), "bb/x": route(slowPart, 0),
	}
	DivideCalls(services)
	for name, want := range map[string]string{
		"a": "a", "a/export": "a/export b", "a/search": "a/search", "a/ping": "", "a/idle": "", "bb/x": "bb/x",
	} {
		if got := strings.Join(FindCulprit(services, name), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	export := services["a/export"].calls[0]
	if want := (excess{30, 30, 45, 1000}); export.excess != want || export.to != "b" {
		t.Errorf("the calls of export: %+v, want %+v", export, want)
	}
	alone := map[string]Health{"a": {known: true, calls: []callHealth{partTo("b", 0, slowPart)}}, "a/x": {known: true}}
	if DivideCalls(alone); len(alone["a"].calls) != 1 || len(alone["a/x"].calls) != 0 {
		t.Errorf("where nothing tells whose calls they are: %+v", alone)
	}
}

// Whatever the services report, the search ends, names each service on the way once and none that nobody calls.
func TestFindCulpritEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}
		reading := rapid.Custom(func(t *rapid.T) Reading {
			return Read(rapid.SampledFrom([]float64{0, 1, 10, 1000, math.NaN(), math.Inf(1), -1}).Draw(t, "reading"))
		})
		part := rapid.Custom(func(t *rapid.T) excess {
			of := rapid.SampledFrom([]float64{0, 0.1, 1, 20, math.NaN(), math.Inf(1)})
			return excess{of.Draw(t, "least"), of.Draw(t, "most"), of.Draw(t, "spent"), of.Draw(t, "requests")}
		})
		services := map[string]Health{}
		for _, name := range names {
			if rapid.Bool().Draw(t, "ungoverned") {
				continue
			}
			h := Health{known: rapid.Bool().Draw(t, "known"), suffers: rapid.Bool().Draw(t, "suffers"), own: part.Draw(t, "own")}
			for _, to := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "calls") {
				h.calls = append(h.calls, callHealth{to, reading.Draw(t, "lost"), reading.Draw(t, "tried"), part.Draw(t, "part")})
			}
			services[name] = h
		}
		way := FindCulprit(services, "a")
		for i, name := range way {
			if slices.Contains(way[:i], name) {
				t.Fatalf("%v visits %s twice", way, name)
			}
			if i > 0 && !slices.ContainsFunc(services[way[i-1]].calls, func(c callHealth) bool { return c.to == name }) {
				t.Fatalf("%v: %s does not call %s", way, way[i-1], name)
			}
		}
		if len(way) > 0 && (way[0] != "a" || !services["a"].Suffers()) {
			t.Fatalf("%v, though a does not suffer", way)
		}
	})
}

// A decision carries the culprit and the way there, and says by which evidence.
func TestDecisionsCarryTheCulprit(t *testing.T) {
	cart := Health{known: true, suffers: true, own: calmPart, calls: []callHealth{partTo("payments", 0, slowPart)}}
	m := load{rate: 400, mean: 0.35, p99: 0.5, inFlight: 140, limit: 400, slow: 0.8}.measurement()
	c := callTo("cart", 0.03, 0.31)
	c.Requests, c.Attempts, c.Finished = Read(8000), Read(8000), Read(8000)
	m.Instances[0].Calls = []Call{c}
	step := func(m Measurement) Decision {
		r := newRig(t, checkout(), 400)
		m.Services = map[string]Health{"checkout": r.s.Health(m), "cart": cart, "payments": suffering(slowPart)}
		return r.step(m)
	}
	d := step(m)
	if d.Inputs.Culprit != "payments" || fmt.Sprint(d.Inputs.CulpritVia) != "[cart]" ||
		!strings.Contains(d.Reason, "; checkout is slow because payments is, by way of cart: 310 ms of 350 ms; ") {
		t.Errorf("culprit %q via %v: %s", d.Inputs.Culprit, d.Inputs.CulpritVia, d.Reason)
	}

	m.Instances[0].Calls[0].BreakerOpen, m.Instances[0].Calls[0].Requests = Read(2000), Read(10000)
	if d := step(m); !strings.Contains(d.Reason, "checkout fails because payments does, by way of cart: 20% of the calls to cart lost") {
		t.Errorf("an open breaker: %s", d.Reason)
	}

	m.Partial = "one of the stores does not answer"
	if d := step(m); d.Inputs.Culprit != "" {
		t.Errorf("partial data names %s", d.Inputs.Culprit)
	}
}

// A service whose part has grown is its own culprit, if it makes calls; for others there is nobody else to name.
func TestServicesAreTheirOwnCulprits(t *testing.T) {
	calm := load{rate: 400, mean: 0.1, p99: 0.2, inFlight: 40, limit: 400}.measurement()
	slow := load{rate: 400, mean: 0.45, p99: 0.9, inFlight: 180, limit: 400, slow: 0.9}.measurement()
	for _, m := range []*Measurement{&calm, &slow} {
		c := callTo("payments", 0.03, 0.03)
		c.Requests, c.Attempts, c.Finished = Read(8000), Read(8000), Read(8000)
		m.Instances[0].Calls, m.Instances[0].Waited = []Call{c}, Read(240)
	}
	r := newRig(t, checkout(), 400)
	for range 10 {
		if d := r.step(calm); d.Inputs.Culprit != "" {
			t.Fatalf("in calm: %s", d.Inputs.Culprit)
		}
	}
	d := r.step(slow)
	if d.Inputs.Culprit != "checkout" || d.Blame() != "checkout suffers because of its own part" || strings.Contains(d.Reason, "because") {
		t.Errorf("culprit %q, %q: %s", d.Inputs.Culprit, d.Blame(), d.Reason)
	}
	slow.Instances[0].Calls = nil
	if way := FindCulprit(map[string]Health{"checkout": r.s.Health(slow)}, "checkout"); way != nil {
		t.Errorf("it waits for calls that nobody reads: %v", way)
	}
	slow.Instances[0].Waited = Read(0)
	if d := r.step(slow); d.Inputs.Culprit != "" || !r.s.Health(slow).Suffers() {
		t.Errorf("without calls: %s", d.Inputs.Culprit)
	}
}
