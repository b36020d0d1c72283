package actuators_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
)

// complete is a valid Setting with every knob.
func complete() actuators.Setting {
	at := time.Date(2025, 11, 25, 9, 30, 0, 0, time.UTC)
	return actuators.Setting{
		Schema: actuators.Schema, Service: "checkout", Epoch: 42, Revision: 7,
		IssuedAt: at, ChangedAt: at.Add(-time.Minute), LeaseSeconds: 180, Reason: "mean 140 ms above 120 ms",
		Concurrency: &actuators.Concurrency{
			Limit: 40, Ceiling: 80, LatencyTargetSeconds: 0.12, Fallback: 60, Min: 20, Max: 400,
		},
		Rate:  &actuators.Rate{PerSecond: 800, Burst: 80, Instances: 4, Fallback: 1000, Min: 100, Max: 5000},
		Shed:  &actuators.Shed{Threshold: 0.6, Fallback: 0.6, Min: 0.4, Max: 1},
		Retry: &actuators.Retry{BudgetRatio: 0.1, Fallback: 0.1, Min: 0, Max: 0.2},
	}
}

// ofCalls is a valid Setting of the calls to a dependency.
func ofCalls() actuators.Setting {
	s := complete()
	s.Callee, s.Rate, s.Shed, s.Retry = "payments", nil, nil, nil
	return s
}

func encode(t testing.TB, s actuators.Setting) string {
	t.Helper()
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	for _, want := range []actuators.Setting{complete(), ofCalls()} {
		got, err := actuators.Decode([]byte(encode(t, want)))
		if err != nil {
			t.Fatal(err)
		}
		if encode(t, got) != encode(t, want) {
			t.Errorf("decoded %+v, want %+v", got, want)
		}
	}
}

// The Setting of the calls to a dependency has one knob, and a reader takes neither for the other.
func TestSettingOfCalls(t *testing.T) {
	for name, change := range map[string]func(*actuators.Setting){
		"rate":   func(s *actuators.Setting) { s.Rate = complete().Rate },
		"shed":   func(s *actuators.Setting) { s.Shed = complete().Shed },
		"retry":  func(s *actuators.Setting) { s.Retry = complete().Retry },
		"callee": func(s *actuators.Setting) { s.Callee = "a//b" },
		"none":   func(s *actuators.Setting) { s.Concurrency = nil },
	} {
		s := ofCalls()
		change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for callee, reason := range map[string]actuators.RefusalReason{
		`"callee":""`: actuators.RefusedInvalid, `"callee":null`: actuators.RefusedInvalid,
		`"callee":7`: actuators.RefusedInvalid, `"callee":"cart"`: actuators.RefusedWrongService,
		`"Callee":"payments"`: actuators.RefusedWrongService, `"callee":"payments"`: "",
	} {
		raw := strings.Replace(encode(t, ofCalls()), `"callee":"payments"`, callee, 1)
		_, err := actuators.AcceptCall([]byte(raw), "checkout", "payments", actuators.Setting{})
		if got := actuators.ReasonOf(err); got != reason || (err == nil) != (reason == "") {
			t.Errorf("%s: %v, expected the reason %q", callee, err, reason)
		}
	}
	for _, c := range []struct {
		s      actuators.Setting
		callee string
	}{{ofCalls(), ""}, {complete(), "payments"}} {
		_, err := actuators.AcceptCall([]byte(encode(t, c.s)), "checkout", c.callee, actuators.Setting{})
		if got := actuators.ReasonOf(err); got != actuators.RefusedWrongService {
			t.Errorf("a setting for the callee %q at the key of %q: %v", c.s.Callee, c.callee, err)
		}
	}
	if _, err := actuators.AcceptCall([]byte(encode(t, ofCalls())), "checkout", "payments", ofCalls()); err != nil {
		t.Errorf("the same again: %v", err)
	}
	newer := ofCalls()
	newer.Revision++
	_, err := actuators.AcceptCall([]byte(encode(t, ofCalls())), "checkout", "payments", newer)
	if got := actuators.ReasonOf(err); got != actuators.RefusedOldRevision {
		t.Errorf("an older revision: %v", err)
	}
}

// Item A22: a blank policy, null fields and an oversize file each reached every reader at once (Google Cloud, 12 June
// 2025; Cloudflare, 18 November 2025; hashicorp/consul-template#1713). Here each is refused with its reason and names
// the field, and none is read as a zero.
func TestBlankOversizeOrMissingSettingIsRefused(t *testing.T) {
	whole := encode(t, complete())
	without := func(field string) string {
		at := strings.Index(whole, `"`+field+`":`)
		end := at + strings.IndexAny(whole[at:], ",}")
		if whole[end] == ',' {
			end++
		} else {
			at-- // the comma before the last field
		}
		return whole[:at] + whole[end:]
	}
	with := func(old, replacement string) string {
		if !strings.Contains(whole, old) {
			t.Fatalf("%s does not hold %s", whole, old)
		}
		return strings.Replace(whole, old, replacement, 1)
	}
	tests := []struct {
		name, raw string
		reason    actuators.RefusalReason
		names     []string // what the error must name
	}{
		{"empty value", "", actuators.RefusedNotJSON, nil},
		{"not JSON", "\x00\xff\x7fELF", actuators.RefusedNotJSON, nil},
		{"cut off", whole[:len(whole)-2], actuators.RefusedNotJSON, nil},
		{"two documents", whole + whole, actuators.RefusedNotJSON, nil},
		{"null", "null", actuators.RefusedNotJSON, nil},
		{"an array", "[]", actuators.RefusedNotJSON, nil},
		{"a string", `"40"`, actuators.RefusedNotJSON, nil},
		{
			"300 kB of unknown fields", with(`{"schema"`, `{"x":"`+strings.Repeat("y", 300<<10)+`","schema"`),
			actuators.RefusedTooLarge, nil,
		},
		{
			"deep nesting", with(`{"schema"`, `{"x":`+strings.Repeat("[", 30000)+strings.Repeat("]", 30000)+`,"schema"`),
			actuators.RefusedNotJSON, nil,
		},
		{"higher schema", with(`"schema":1`, `"schema":2`), actuators.RefusedSchema, []string{"schema 2"}},
		{
			"higher schema that means other things by its fields", `{"schema":7,"concurrency":"auto"}`,
			actuators.RefusedSchema, nil,
		},
		{
			"blank", `{}`, actuators.RefusedInvalid,
			[]string{"schema: missing", "service: missing", "epoch: missing", "revision: missing", "lease_seconds: missing"},
		},
		{"null knob", `{"schema":1,"concurrency":null}`, actuators.RefusedInvalid, []string{"concurrency: null"}},
		{"null number", with(`"limit":40`, `"limit":null`), actuators.RefusedInvalid, []string{"concurrency.limit: null"}},
		{
			"blank knob", with(`"shed":{"threshold":0.6,"fallback":0.6,"min":0.4,"max":1}`, `"shed":{}`),
			actuators.RefusedInvalid,
			[]string{"shed.threshold: missing", "shed.max: missing"},
		},
		{
			"null reason", with(`"reason":"mean 140 ms above 120 ms"`, `"reason":null`), actuators.RefusedInvalid,
			[]string{"reason: null"},
		},
		{"no limit", without("limit"), actuators.RefusedInvalid, []string{"concurrency.limit: missing"}},
		{
			"no target", without("latency_target_seconds"), actuators.RefusedInvalid,
			[]string{"concurrency.latency_target_seconds: missing"},
		},
		{
			"no retry maximum", strings.Replace(whole, `"min":0,"max":0.2}`, `"min":0}`, 1), actuators.RefusedInvalid,
			[]string{"retry.max: missing"},
		},
		{"no epoch", without("epoch"), actuators.RefusedInvalid, []string{"epoch: missing"}},
		{"no lease", without("lease_seconds"), actuators.RefusedInvalid, []string{"lease_seconds: missing"}},
		{"wrong case", with(`"limit"`, `"Limit"`), actuators.RefusedInvalid, []string{"concurrency.limit: missing"}},
		{
			"closed by zero", with(`"limit":40`, `"limit":0`), actuators.RefusedInvalid,
			[]string{"concurrency.limit: 0", "20 to 400"},
		},
		{"negative", with(`"limit":40`, `"limit":-1`), actuators.RefusedInvalid, []string{"concurrency.limit"}},
		{"fraction", with(`"limit":40`, `"limit":40.5`), actuators.RefusedInvalid, []string{"concurrency.limit", "40.5"}},
		{"string for a number", with(`"limit":40`, `"limit":"40"`), actuators.RefusedInvalid, []string{"concurrency.limit"}},
		{
			"boolean for a number", with(`"threshold":0.6`, `"threshold":true`), actuators.RefusedInvalid,
			[]string{"shed.threshold"},
		},
		{"beyond float64", with(`"burst":80`, `"burst":1e999`), actuators.RefusedInvalid, []string{"rate.burst"}},
		{
			"beyond exact integers", with(`"epoch":42`, `"epoch":9007199254740993`), actuators.RefusedInvalid,
			[]string{"epoch"},
		},
		{"object for a string", with(`"service":"checkout"`, `"service":{}`), actuators.RefusedInvalid, []string{"service"}},
		{
			"array for a knob", with(`"shed":{"threshold":0.6,"fallback":0.6,"min":0.4,"max":1}`, `"shed":[]`),
			actuators.RefusedInvalid,
			[]string{"shed: "},
		},
		{
			"time that is none", with(`"issued_at":"2025-11-25T09:30:00Z"`, `"issued_at":"now"`), actuators.RefusedInvalid,
			[]string{"issued_at"},
		},
		{
			"no knob at all", `{"schema":1,"service":"checkout","epoch":1,"revision":1,"lease_seconds":180}`,
			actuators.RefusedInvalid,
			[]string{"knobs: none"},
		},
		{"schema 0", with(`"schema":1`, `"schema":0`), actuators.RefusedInvalid, []string{"schema: 0"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := actuators.Decode([]byte(test.raw))
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if reason := actuators.ReasonOf(err); reason != test.reason {
				t.Errorf("reason %q, want %q: %v", reason, test.reason, err)
			}
			for _, name := range test.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("error does not say %q: %v", name, err)
				}
			}
			if len(err.Error()) > 2000 {
				t.Errorf("error of %d bytes for a log line", len(err.Error()))
			}
		})
	}
}

func TestUnknownFieldsAndSpellingsOfNumbersAreAccepted(t *testing.T) {
	whole := encode(t, complete())
	const head = `{"schema":1,"service":"checkout","epoch":1,"revision":1,"lease_seconds":9,`
	for name, raw := range map[string]string{
		"unknown fields":         strings.Replace(whole, `{"schema"`, `{"color":{"a":[1,null]},"schema"`, 1),
		"unknown field of knob":  strings.Replace(whole, `"limit":40`, `"limit":40,"queue":null`, 1),
		"whole number as 40.0":   strings.Replace(whole, `"limit":40`, `"limit":40.0`, 1),
		"whole number as 4e1":    strings.Replace(whole, `"limit":40`, `"limit":4e1`, 1),
		"white space":            "\n " + whole + "\n",
		"without times, reason":  head + `"shed":{"threshold":0.5,"fallback":1,"min":0,"max":1}}`,
		"zero where zero is one": head + `"retry":{"budget_ratio":0,"fallback":0,"min":0,"max":0}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := actuators.Decode([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			if s.Concurrency != nil && s.Concurrency.Limit != 40 {
				t.Errorf("limit %d, want 40", s.Concurrency.Limit)
			}
		})
	}
}

// Readers would take different ones of two fields: the last, the first or, if only the case differs, either.
func TestFieldThatIsThereTwiceIsRefused(t *testing.T) {
	whole := encode(t, complete())
	for path, raw := range map[string]string{
		"epoch":               strings.Replace(whole, `"epoch":`, `"epoch":1,"epoch":`, 1),
		"EPOCH":               strings.Replace(whole, `"epoch":`, `"EPOCH":1,"epoch":`, 1),
		"concurrency.limit":   strings.Replace(whole, `"limit":40`, `"limit":40,"limit":40`, 1),
		"concurrency.Limit":   strings.Replace(whole, `"limit":40`, `"limit":40,"Limit":1`, 1),
		"K":                   strings.Replace(whole, `{"schema"`, `{"k":1,"K":2,"schema"`, 1),
		"reaſon":              strings.Replace(whole, `"reason":`, `"reaſon":"x","reason":`, 1),
		"rate":                strings.Replace(whole, `"rate":`, `"rate":{},"rate":`, 1),
		"tags.deep.x":         strings.Replace(whole, `{"schema"`, `{"tags":[1,{"deep":{"x":1,"y":[{"x":1}],"x":2}}],"schema"`, 1),
		"concurrency.unknown": strings.Replace(whole, `"limit":40`, `"limit":40,"unknown":1,"unknown":1`, 1),
	} {
		_, err := actuators.Decode([]byte(raw))
		if actuators.ReasonOf(err) != actuators.RefusedInvalid || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s twice: %v, want it refused as invalid", path, err)
		}
	}
	same := strings.Replace(whole, `{"schema"`, `{"tags":[{"a":1},{"a":1}],"a":{"b":1},"c":{"b":1},"schema"`, 1)
	if _, err := actuators.Decode([]byte(same)); err != nil {
		t.Errorf("one name in different objects: %v", err)
	}
	order := `{"schema":1,"orders":{"rate":{"kind":"freeze","actor":"a","reason":"r","expires_at":"2030-01-01T00:00:00Z","Actor":"b"}}}`
	if _, err := actuators.DecodeOperator([]byte(order), "checkout"); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an order with two actors: %v", err)
	}
}

// Two Settings of one epoch and revision have no order: guards that read one or the other would disagree for ever.
func TestOtherContentUnderAKnownRevisionIsRefused(t *testing.T) {
	last := complete()
	if _, err := actuators.Accept([]byte(encode(t, last)), last.Service, last); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := last
	knob := *last.Concurrency
	knob.Limit++
	other.Concurrency = &knob
	_, err := actuators.Accept([]byte(encode(t, other)), last.Service, last)
	if actuators.ReasonOf(err) != actuators.RefusedRewritten {
		t.Errorf("other content: %v, want it refused as %s", err, actuators.RefusedRewritten)
	}
	other.Revision++
	if _, err := actuators.Accept([]byte(encode(t, other)), last.Service, last); err != nil {
		t.Errorf("under the next revision: %v", err)
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	s := complete()
	s.Service = "../x"
	s.LeaseSeconds = math.NaN()
	s.Concurrency.Limit = 401
	s.Concurrency.Ceiling = 30
	s.Concurrency.LatencyTargetSeconds = math.Inf(1)
	s.Rate.Instances = 0
	s.Rate.PerSecond = math.NaN()
	s.Shed.Threshold = math.NaN()
	s.Shed.Fallback = 1.1
	s.Retry.Min, s.Retry.Max = 0.5, 0.2
	problems, ok := errors.AsType[actuators.Problems](s.Validate())
	if !ok {
		t.Fatalf("Validate returned %v, want Problems", s.Validate())
	}
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
		if p.Value == "" || p.Want == "" {
			t.Errorf("%s does not say what was found and what was expected: %+v", p.Field, p)
		}
	}
	want := []string{
		"service", "lease_seconds", "concurrency.limit", "concurrency.ceiling", "concurrency.latency_target_seconds",
		"rate.per_second", "rate.instances", "shed.threshold", "shed.fallback", "retry.max", "retry.budget_ratio",
		"retry.fallback",
	}
	if !slices.Equal(fields, want) {
		t.Errorf("problems with\n%v, want\n%v", fields, want)
	}
	if _, err := s.Encode(); err == nil {
		t.Error("an invalid Setting was encoded")
	}
}

func TestEncodeRefusesWhatReadersWouldCallTooLarge(t *testing.T) {
	s := complete()
	s.Reason = strings.Repeat("because ", actuators.MaxBytes/8)
	if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("error %v, want one that says to shorten the reason", err)
	}
}

func TestOlderEpochOrLowerRevisionIsRefused(t *testing.T) {
	tests := []struct {
		lastEpoch, lastRevision, epoch, revision uint64
		want                                     actuators.RefusalReason
	}{
		{0, 0, 1, 1, ""},
		{41, 900, 42, 1, ""},
		{42, 7, 42, 8, ""},
		{42, 7, 42, 7, ""},
		{42, 7, 42, 6, actuators.RefusedOldRevision},
		{42, 7, 41, 900, actuators.RefusedOldEpoch},
	}
	for _, test := range tests {
		name := fmt.Sprintf("%d.%d after %d.%d", test.epoch, test.revision, test.lastEpoch, test.lastRevision)
		t.Run(name, func(t *testing.T) {
			s := complete()
			s.Epoch, s.Revision = test.epoch, test.revision
			last := actuators.Setting{Epoch: test.lastEpoch, Revision: test.lastRevision}
			if got := actuators.ReasonOf(s.Follows(last)); got != test.want {
				t.Errorf("refused with %q, want %q", got, test.want)
			}
			if _, err := actuators.Accept([]byte(encode(t, s)), "checkout", last); actuators.ReasonOf(err) != test.want {
				t.Errorf("Accept refused with %q, want %q", actuators.ReasonOf(err), test.want)
			}
		})
	}
}

func TestSettingOfAnotherServiceIsRefused(t *testing.T) {
	_, err := actuators.Accept([]byte(encode(t, complete())), "cart", actuators.Setting{})
	if got := actuators.ReasonOf(err); got != actuators.RefusedWrongService {
		t.Errorf("refused with %q (%v), want %q", got, err, actuators.RefusedWrongService)
	}
}

// Item A21: hashicorp/consul#15933: a name with slashes is written to another key.
func TestServiceNamesThatAreNoKeySegmentAreRefused(t *testing.T) {
	for _, name := range []string{
		"", "a//b", "../x", "a/b", "/a", "a/", ".", "..", "a b", "a\nb", "a\x00b", "\x7f", "a?b", "a#b", "a%2Fb", `a\b`,
		"über", "a\xffb", strings.Repeat("a", 129),
	} {
		if actuators.ValidServiceName(name) == nil {
			t.Errorf("accepted %q", name)
		}
	}
	for _, name := range []string{"checkout", "Shop.Cart_v2", "a", "shop:cart@eu-1+x~y", "..a", strings.Repeat("a", 128)} {
		if err := actuators.ValidServiceName(name); err != nil {
			t.Errorf("refused %q: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, prefix := range []string{"", "governor", "governor/"} {
		k := actuators.Keys{Prefix: prefix}
		for want, got := range map[string]string{
			"governor/leader":                     k.Leader(),
			"governor/freeze":                     k.Freeze(),
			"governor/services/":                  k.Services(),
			"governor/services/checkout/setting":  k.Setting("checkout"),
			"governor/services/checkout/operator": k.Operator("checkout"),
			"governor/services/checkout/":         k.Service("checkout"),

			"governor/services/checkout/calls/payments/setting": k.CallSetting("checkout", "payments"),
			"governor/services/checkout/routes/export/setting":  k.Setting("checkout/export"),
			"governor/services/checkout/routes/export/operator": k.Operator("checkout/export"),
			"governor/services/checkout/routes/export/":         k.Service("checkout/export"),
		} {
			if got != want {
				t.Errorf("prefix %q: key %q, want %q", prefix, got, want)
			}
		}
	}
	k := actuators.Keys{Prefix: "teams/shop"}
	if got, ok := k.ServiceOf("teams/shop/services/checkout/setting"); !ok || got != "checkout" {
		t.Errorf("ServiceOf = %q, %v", got, ok)
	}
	const route = "checkout/export"
	if got, ok := k.ServiceOf(k.Setting(route)); !ok || got != route {
		t.Errorf("ServiceOf = %q, %v", got, ok)
	}
	if got, ok := k.OperatorOf(k.Operator(route)); !ok || got != route {
		t.Errorf("OperatorOf = %q, %v", got, ok)
	}
	for key, want := range map[string]actuators.Part{
		k.Setting("checkout"): {}, k.Setting(route): {Route: "export"}, k.CallSetting("checkout", "a"): {Callee: "a"},
	} {
		if service, part, ok := k.PartOf(key); !ok || service != "checkout" || part != want {
			t.Errorf("PartOf(%q) = %q, %+v, %v", key, service, part, ok)
		}
	}
	if service, part, ok := k.PartOf(k.Operator(route)); ok {
		t.Errorf("PartOf(an operator key) = %q, %+v", service, part)
	}
	for _, key := range []string{
		"teams/shop/services/a//setting", "teams/shop/services/a/routes/setting", "teams/shop/services/a/routes//setting",
		"teams/shop/services//routes/b/setting", "teams/shop/services/a/routes/b/c/setting",
		"teams/shop/services/a/routes/../setting",
		"governor/services/checkout/setting", "teams/shop/services/checkout/operator", "teams/shop/services//setting",
		"teams/shop/services/a/b/setting", "teams/shop/leader", k.CallSetting("checkout", "payments"),
	} {
		if got, ok := k.ServiceOf(key); ok {
			t.Errorf("ServiceOf(%q) = %q", key, got)
		}
	}
	if service, callee, ok := k.CallOf("teams/shop/services/a/calls/b/setting"); !ok || service != "a" || callee != "b" {
		t.Errorf("CallOf = %q, %q, %v", service, callee, ok)
	}
	for _, key := range []string{
		"governor/services/a/calls/b/setting", "teams/shop/services/a/setting", "teams/shop/services/a/calls/setting",
		"teams/shop/services/a/calls//setting", "teams/shop/services//calls/b/setting",
		"teams/shop/services/a/calls/b/c/setting", "teams/shop/services/a/calls/b/operator",
		"teams/shop/services/a/routes/b/setting", "teams/shop/services/a/calls/../setting",
	} {
		if service, callee, ok := k.CallOf(key); ok {
			t.Errorf("CallOf(%q) = %q, %q", key, service, callee)
		}
	}
	for _, prefix := range []string{"/governor", "a//b", "../x", "a b/", "/"} {
		if actuators.ValidPrefix(prefix) == nil {
			t.Errorf("accepted prefix %q", prefix)
		}
	}
	for _, prefix := range []string{"", "governor", "governor/", "teams/shop/governor/"} {
		if err := actuators.ValidPrefix(prefix); err != nil {
			t.Errorf("refused prefix %q: %v", prefix, err)
		}
	}
}

// Whatever Decode accepts is valid, and encodes to something that decodes to the same Setting.
func TestDecodedSettingIsValidAndStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := complete()
		s.Epoch = rapid.Uint64().Draw(t, "epoch")
		s.Revision = rapid.Uint64().Draw(t, "revision")
		s.LeaseSeconds = rapid.Float64().Draw(t, "lease")
		s.Reason = rapid.String().Draw(t, "reason")
		s.Concurrency.Limit = rapid.IntRange(-1, 500).Draw(t, "limit")
		s.Concurrency.Max = rapid.IntRange(-1, 500).Draw(t, "max")
		s.Shed.Threshold = rapid.Float64Range(-0.5, 1.5).Draw(t, "threshold")
		raw, err := s.Encode()
		if valid := s.Validate() == nil; valid != (err == nil) {
			t.Fatalf("Validate says %v, Encode says %v", s.Validate(), err)
		}
		if err != nil {
			return
		}
		got, err := actuators.Decode(raw)
		if err != nil {
			t.Fatalf("refused what was encoded: %v\n%s", err, raw)
		}
		if again, err := got.Encode(); err != nil || string(again) != string(raw) {
			t.Fatalf("decoded and encoded again: %s (%v), want %s", again, err, raw)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(encode(f, complete())))
	f.Add([]byte(encode(f, ofCalls())))
	for _, raw := range []string{
		``, `{}`, `null`, `{"schema":1,"concurrency":null}`, `{"schema":2}`,
		`{"schema":1e0,"epoch":-0,"shed":{"min":1e-400}}`,
		`{"schema":1,"service":"a","epoch":1,"revision":1,"lease_seconds":1,` +
			`"retry":{"budget_ratio":0,"fallback":0,"min":0,"max":1}}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := actuators.Decode(raw)
		if err != nil {
			if actuators.ReasonOf(err) == "" {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("decoded an invalid Setting: %v", err)
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		if _, err := actuators.Decode(again); err != nil {
			t.Fatalf("refused its own encoding: %v", err)
		}
	})
}
