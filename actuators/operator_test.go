package actuators_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// Requests are counted: an override of 21.5 of them is refused, whether or not there is a Setting to compare it with.
func TestOverrideOfAFractionOfARequestIsRefused(t *testing.T) {
	for _, tc := range []struct {
		knob  string
		value float64
		ok    bool
	}{
		{"concurrency", 21, true},
		{"concurrency", 21.5, false},
		{"concurrency", 0.5, false},
		{"concurrency", 1e-300, false},
		{"rate", 21.5, true},
		{"shed", 0.8, true},
		{"retry", 0.1, true},
	} {
		a := actuators.Action{
			Service: "checkout", Knob: tc.knob, Kind: actuators.Override, Value: tc.value, Actor: "ana", Reason: "INC-1412",
			At: noon, ExpiresAt: noon.Add(time.Hour),
		}
		if err := a.Validate(); (err == nil) != tc.ok {
			t.Errorf("%s %v: %v", tc.knob, tc.value, err)
		}
	}
}

// TestOrdersOfAKnobReplaceOneAnother: whatever people do in whatever order, each knob has its last active order, the
// document can be read back, and the audit ends with the last action.
func TestOrdersOfAKnobReplaceOneAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o actuators.Operator
		now, want := noon, map[string]actuators.Order{}
		for range rapid.IntRange(1, 120).Draw(t, "actions") {
			now = now.Add(time.Duration(rapid.IntRange(1, 3600).Draw(t, "later")) * time.Second)
			a := actuators.Action{
				Service: "checkout", Knob: rapid.SampledFrom([]string{"concurrency", "rate", "shed", "retry"}).Draw(t, "knob"),
				Kind:  rapid.SampledFrom([]actuators.OrderKind{"freeze", "override", "resume"}).Draw(t, "kind"),
				Actor: "ana", Reason: "INC-1412", At: now,
			}
			if a.Kind != actuators.Resume {
				a.ExpiresAt = now.Add(time.Duration(rapid.IntRange(1, 7200).Draw(t, "lasts")) * time.Second)
			}
			if a.Kind == actuators.Override {
				a.Value = rapid.Float64Range(0.1, 1000).Draw(t, "value")
				switch a.Knob {
				case "retry":
					a.Value = rapid.SampledFrom([]float64{0, 0.1, 1}).Draw(t, "ratio")
				case "concurrency":
					a.Value = math.Ceil(a.Value)
				}
			}
			if err := a.Validate(); err != nil {
				t.Fatal(err)
			}
			o = o.Apply(a)
			if want[a.Knob] = a.Order(); a.Kind == actuators.Resume {
				delete(want, a.Knob)
			}
			raw, err := o.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if o, err = actuators.DecodeOperator(raw, "checkout"); err != nil {
				t.Fatal(err)
			}
			for knob, order := range want {
				if got, ok := o.Orders[knob]; order.Active(now) && got != order || !order.Active(now) && ok && got.Active(now) {
					t.Fatalf("%s: %+v, want %+v", knob, got, order)
				}
			}
			if _, ok := o.Orders[a.Knob]; ok != (a.Kind != actuators.Resume) {
				t.Fatalf("%s after a %s: %v", a.Knob, a.Kind, ok)
			}
			if n := len(o.Audit); n > actuators.MaxAudit || o.Audit[n-1] != a {
				t.Fatalf("%d actions, the last %+v", n, o.Audit[n-1])
			}
		}
	})
}

func TestOperatorKeysThatAreRefused(t *testing.T) {
	const good = `"actor":"ana","reason":"INC-1412","expires_at":"2026-11-25T13:00:00Z"`
	for raw, want := range map[string]string{
		`{`:                  "one JSON object",
		`{"schema":2}`:       "update this governor",
		`{"service":"cart"}`: "cart",
		`{"orders":{"speed":{"kind":"freeze",` + good + `}}}`:                                    "one of concurrency",
		`{"orders":{"rate":{"kind":"resume",` + good + `}}}`:                                     "freeze or override",
		`{"orders":{"rate":{"kind":"override",` + good + `}}}`:                                   "orders.rate.value: missing",
		`{"orders":{"rate":{"kind":"override","value":0,` + good + `}}}`:                         "above 0",
		`{"orders":{"retry":{"kind":"override",` + good + `}}}`:                                  "orders.retry.value: missing",
		`{"orders":{"retry":{"kind":"override","value":null,` + good + `}}}`:                     "orders.retry.value: missing",
		`{"orders":{"retry":{"kind":"override","value":-0.1,` + good + `}}}`:                     "at least 0",
		`{"orders":{"rate":{"kind":"freeze","actor":"ana","reason":"x"}}}`:                       "expires_at: missing",
		`{"orders":{"rate":{"kind":"freeze","reason":"x","expires_at":"2026-11-25T13:00:00Z"}}}`: "actor",
		`{"orders":{"rate":{"kind":"freeze","at":"2026-11-01T13:00:00Z",` + good + `}}}`:         "168h",
		strings.Repeat(" ", actuators.MaxBytes) + `{}`:                                           "bytes",
	} {
		if _, err := actuators.DecodeOperator([]byte(raw), "checkout"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v does not say %q", raw, err, want)
		}
	}
	for _, raw := range []string{
		`{}`, `{"later":1}`, `{"orders":{"rate":{"kind":"freeze",` + good + `}}}`,
		`{"orders":{"retry":{"kind":"override","value":0,` + good + `}}}`,
	} {
		if _, err := actuators.DecodeOperator([]byte(raw), "checkout"); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// TestLongPastKeepsNobodyFromOrdering: JSON writes some bytes as six.
func TestLongPastKeepsNobodyFromOrdering(t *testing.T) {
	var o actuators.Operator
	a := actuators.Action{
		Service: "checkout", Knob: "rate", Kind: actuators.Freeze, At: noon, ExpiresAt: noon.Add(time.Hour),
		Actor: strings.Repeat("<", actuators.MaxWords), Reason: strings.Repeat("&", actuators.MaxWords),
	}
	for range actuators.MaxAudit {
		o = o.Apply(a)
	}
	a.Kind, a.ExpiresAt = actuators.Resume, time.Time{}
	raw, err := o.Apply(a).Encode()
	if err != nil {
		t.Fatal(err)
	}
	o, err = actuators.DecodeOperator(raw, "checkout")
	if n := len(o.Audit); err != nil || len(o.Orders) != 0 || n < 20 || o.Audit[n-1] != a {
		t.Errorf("orders %v, %d actions, %v", o.Orders, n, err)
	}
}

func TestKillSwitchFreezesWhateverItSays(t *testing.T) {
	for raw, want := range map[string][2]string{
		"":         {"unknown", ""},
		"INC-1412": {"unknown", "INC-1412"},
		`{"kind":"freeze","actor":"ana","reason":"INC-1412","expires_at":"2020-01-01T00:00:00Z"}`: {"ana", "INC-1412"},
		`{"reason":1}`:           {"unknown", `{"reason":1}`},
		"null":                   {"unknown", "null"},
		strings.Repeat("é", 150): {"unknown", strings.Repeat("é", 100)},
		`{"reason":"INC-1412 ` + strings.Repeat("é", 1e5) + `"}`: {"unknown", "INC-1412 " + strings.Repeat("é", 95)},
	} {
		o := actuators.DecodeFreeze([]byte(raw))
		if o.Kind != actuators.Freeze || !o.Active(noon) || o.Actor != want[0] || o.Reason != want[1] {
			t.Errorf("%s: %+v", raw, o)
		}
	}
}

func FuzzDecodeOperator(f *testing.F) {
	f.Add([]byte(`{"orders":{"shed":{"kind":"override","value":0.5,"actor":"a","reason":"b",
		"expires_at":"2026-11-25T13:00:00Z"}}}`))
	f.Add([]byte(`{"audit":[null]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		actuators.DecodeFreeze(raw)
		o, err := actuators.DecodeOperator(raw, "checkout")
		if err != nil {
			return
		}
		for knob, order := range o.Orders {
			if order.ExpiresAt.IsZero() || order.Kind == actuators.Override && !(order.Value > 0) {
				t.Fatalf("%s: %+v", knob, order)
			}
		}
	})
}
