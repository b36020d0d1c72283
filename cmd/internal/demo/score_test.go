package demo

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models/live/load"
)

func TestScoreCountsWhatClientsSaw(t *testing.T) {
	const ms = time.Millisecond
	began := time.Unix(1000, 0)
	spans := []Span{
		{Act{Name: calm, Load: 1}, began, began.Add(2 * time.Second)},
		{Act{Name: surge, Load: Surge}, began.Add(2 * time.Second), began.Add(3 * time.Second)},
		{Act{Name: healed, Load: 1}, began.Add(3 * time.Second), began.Add(4 * time.Second)},
	}
	at := func(s float64, class uint8, o load.Outcome, latency, last time.Duration, gaveUp uint8) load.Record {
		return load.Record{
			Due: began.Add(time.Duration(s * float64(time.Second))), Class: class, Outcome: o,
			Latency: latency, Last: last, GaveUp: gaveUp, Attempts: gaveUp + 1,
		}
	}
	records := []load.Record{
		at(0.1, 1, load.OK, 50*ms, 50*ms, 0),
		at(0.2, 1, load.Refused, 10*ms, 1*ms, 0), // refusals make no second a bad one
		at(1.5, 1, load.OK, 60*ms, 60*ms, 0),
		at(2.1, 0, load.OK, 100*ms, 100*ms, 0),
		at(2.2, 0, load.Slow, 350*ms, 100*ms, 0), // refused first: late for its client, in time for the service
		at(2.3, 0, load.TimedOut, 3*time.Second, time.Second, 3),
		at(2.4, 0, load.Refused, 10*ms, 1*ms, 0),
		at(3.1, 1, load.OK, 70*ms, 70*ms, 0),
		at(3.2, 1, load.Slow, 400*ms, 400*ms, 0),
		at(9.0, 1, load.Failed, 1*ms, 1*ms, 0), // after the end
		at(-1, 1, load.Failed, 1*ms, 1*ms, 0),
	}
	got := score(records, spans)
	want := Score{
		Offered: 9, Good: 4, GoodputRatio: 4.0 / 9, AfterRatio: 0.5, CriticalRatio: 0.5, CriticalGoodRatio: 0.25,
		SecondsAboveSLO: 2, P99Seconds: 1,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNobodyIsBlamedForWhatExceedsTheCapacity(t *testing.T) {
	began := time.Unix(1000, 0)
	var records []load.Record
	for i := range 2 * int(Capacity) {
		o := load.OK
		if i%2 == 0 {
			o = load.Refused
		}
		records = append(records, load.Record{Due: began.Add(time.Duration(i) * time.Millisecond), Outcome: o, Class: 1})
	}
	got := score(records, []Span{{Act{Name: healed, Load: 1}, began, began.Add(time.Second)}})
	if got.GoodputRatio != 1 || got.AfterRatio != 1 {
		t.Errorf("twice the capacity offered, half of it good: %+v", got)
	}
}

func TestUnknownIsNullInJSON(t *testing.T) {
	began := time.Unix(1000, 0)
	span := Span{Act{Name: calm, Load: 1}, began, began.Add(time.Second)}
	s := score([]load.Record{{Due: began, Outcome: load.Refused}}, []Span{span})
	if !math.IsNaN(float64(s.P99Seconds)) || !math.IsNaN(float64(s.CriticalRatio)) {
		t.Errorf("nothing admitted, no surge: %+v", s)
	}
	text, err := json.Marshal(Result{Static: s, Governed: s, Optimum: Score{P99Seconds: control.Number(0.2)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"p99_seconds":null`, `"critical_ratio":null`, `"valid":false`, `"p99_seconds":0.2`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
