package signals

import (
	"context"
	"math"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

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
// is a number a controller can use.
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
	var body string
	s := sensor(f, Options{URL: "http://prometheus"}, slowly(checkout()))
	s.Groups()[0].api = v1.NewAPI(canned{s.client, &body})
	f.Fuzz(func(t *testing.T, b string) {
		body = b
		m := s.Groups()[0].Measure(t.Context(), evaluated)[0]
		readings := []control.Reading{m.Quantile, s.Groups()[0].ObservedScrape()}
		for i := range m.Instances {
			in := &m.Instances[i]
			readings = append(readings, in.Age)
			for _, r := range append(current(in), windowed(in)...) {
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
	})
}
