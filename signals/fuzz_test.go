package signals

import (
	"context"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
)

// canned is an api.Client without a network, and thereby without goroutines: coverage then depends on the input alone.
type canned struct {
	api.Client
	body *string
}

func (c canned) Do(context.Context, *http.Request) (*http.Response, []byte, error) {
	return &http.Response{StatusCode: http.StatusOK}, []byte(*c.body), nil
}

// FuzzReply feeds the sensor whatever a server may send. Nothing may panic, and every reading that claims to be known
// is a number a controller can use. Replies are long: fuzz with -fuzzminimizetime=20x, or minimizing takes
// all the time.
func FuzzReply(f *testing.F) {
	f.Add(healthy(f).body())
	f.Add(healthy(f).twin(sigSeen, "", "pod", "b", "1795568820.5").reversed().body())
	f.Add(healthy(f).set(sigOffered, "", "NaN").set(sigLatencySum, "", "-Inf").set(sigSeen, "b:8080", "NaN").body())
	f.Add(healthy(f).set(sigCompleted, "", "1e-320").set(sigLatencySum, "", "1e308").body())
	f.Add(`{"status":"success","data":{"resultType":"vector","result":null}}`)
	f.Add(`{"status":"success","data":null}`)
	f.Add(`{"status":"success","data":{"resultType":"vector","result":[null,{"metric":null,"value":[0,"1"]}]}}`)
	f.Add(`{"status":"success","data":{"resultType":"vector","result":[` +
		`{"metric":{"governor_signal":"up","service":"checkout"},"histogram":[1,{"count":"1","sum":"1","buckets":[]}]}]}}`)
	f.Add(`{"status":"success","data":{"resultType":"vector","result":[` +
		`{"metric":{"governor_signal":"edges","le":"x","service":"checkout"},"value":[1,"1"]},` +
		`{"metric":{"governor_signal":"quantile","service":"checkout"},"value":[1,"1"]}]}}`)
	f.Add(`{"status":"error","error":"\u0000","errorType":""}`)
	f.Add(`[`)
	for _, name := range []string{"classes", "burn", "histogram", "own_offered", "own_mean"} {
		f.Add(recorded(f, name).body())
	}
	f.Add(recorded(f, "histogram").drop(sigCompleted, "a:8080").set(sigTotal, "", "-1").body())
	f.Add(recorded(f, "histogram").set(sigInFlight, "", "Inf").body())
	f.Add(recorded(f, "own_offered").set("query_offered", "", "NaN").drop(sigSamples, "a:8080").body())
	f.Add(recorded(f, "burn").set("burn_completed_1h", "", "1e308").set("burn_bucket_1h", "", "-0").body())
	var body string
	mixed := web()
	mixed.Name, mixed.Queries = "mixed", map[Signal]string{Mean: "m", Quantile: "q", Limit: "l", Refused: "r"}
	s := sensor(f, Options{URL: "http://prometheus"}, slowly(checkout()), web(), own(), mixed)
	groups := s.Groups()
	for _, g := range groups {
		g.api = v1.NewAPI(canned{s.client, &body})
		g.burn.pace, g.burn.asked = time.Hour, evaluated // asked here, not in the background
	}
	f.Fuzz(func(t *testing.T, b string) {
		body = b
		usable(t, groups[0], groups[0].Measure(t.Context(), evaluated)[0])
		a := groups[0].ask(t.Context(), "any", evaluated, time.Minute)
		if a.reason != "" {
			return
		}
		again := func() model.Vector { // a vector can be arranged once
			return groups[0].ask(t.Context(), "any", evaluated, time.Minute).vector
		}
		for _, g := range groups { // Measure would ask the user's own queries side by side
			a.vector = again()
			g.burn.take(g, evaluated, a)
			r := g.tabulate(again())
			for _, q := range g.own {
				r.merge(g.services[0], q.signal, again())
			}
			m := control.Measurement{Burn: g.burn.of(g.services[0], evaluated)}
			r.fill(&m, g.services[0], evaluated, nil)
			usable(t, g, m)
		}
	})
}

// usable fails the test unless the measurement is one that a controller can work with.
func usable(t *testing.T, g *Group, m control.Measurement) {
	t.Helper()
	readings := []control.Reading{m.Quantile, g.ObservedScrape()}
	for _, b := range m.Burn {
		readings = append(readings, b.Long, b.Short)
	}
	for i := range m.Instances {
		in := &m.Instances[i]
		readings = append(readings, in.Age)
		for _, r := range append(current(in), in.Windowed()...) {
			readings = append(readings, *r)
		}
		if i > 0 && m.Instances[i-1].Name >= in.Name {
			t.Errorf("instances are not sorted and distinct: %q, %q", m.Instances[i-1].Name, in.Name)
		}
	}
	for _, r := range readings {
		if v, known := r.Value(); known && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("known reading %v", v)
		} else if why, _ := r.Why(); !known && why == "" {
			t.Error("missing without a reason")
		}
	}
	if m.Invalid == "" && len(m.Instances) == 0 {
		t.Error("an empty snapshot claims to be valid")
	}
	if m.Invalid != "" && m.Detail == "" {
		t.Errorf("%s without a sentence", m.Invalid)
	}
}
