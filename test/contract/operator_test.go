package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// action is ana's order for the concurrency of a service, for a quarter of an hour; for "", the kill switch.
func action(kind actuators.OrderKind, service string) actuators.Action {
	a := actuators.Action{Service: service, Kind: kind, Actor: "ana", Reason: "INC-1412", At: time.Now().UTC()}
	if service != "" {
		a.Knob = "concurrency"
		if kind != actuators.Resume {
			a.ExpiresAt = a.At.Add(15 * time.Minute)
		}
	}
	if kind == actuators.Override {
		a.Value = 90
	}
	return a
}

// An operator's policy is sufficient for every order on one service and for the kill switch, and for nothing on another
// service. An error names a missing rule. Governor's own policy lets it record orders; those of the kill switch need an
// extra rule.
func TestOperatorsPolicyIsEnoughAndTheLeast(t *testing.T) {
	client := entitled(t)
	keys := actuators.Keys{}
	governor := client("governor", documented(t, "governor"))
	setting, err := consultest.Setting("checkout", 72, 1, actuators.Setting{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := governor.KV().Put(&api.KVPair{Key: keys.Setting("checkout"), Value: setting}, nil); err != nil {
		t.Fatal(err)
	}
	e, _ := run(t, governor, "a")
	waittest.Until(t, "governor leads", func() bool { return e.State().Leading })

	rules := documented(t, "operator")
	operator := consul.NewOperators(client("operator", rules), keys)
	for _, kind := range []actuators.OrderKind{actuators.Freeze, actuators.Override, actuators.Resume} {
		done, err := operator.Do(t.Context(), action(kind, "checkout"))
		if err != nil || done.Setting == nil || done.Leader == nil || done.Leader.Instance != "a" {
			t.Errorf("%s: %+v, %v", kind, done, err)
		}
	}
	for _, kind := range []actuators.OrderKind{actuators.Freeze, actuators.Resume} {
		if done, err := operator.Do(t.Context(), action(kind, "")); err != nil || done.Leader == nil {
			t.Errorf("%s all: %+v, %v", kind, done, err)
		}
	}

	recorder := consul.NewOperators(governor, keys)
	if _, err := recorder.Do(t.Context(), action(actuators.Freeze, "checkout")); err != nil {
		t.Errorf("governor records an order: %v", err)
	}
	both := documented(t, "governor") + documented(t, "kill-switch")
	trusted := consul.NewOperators(client("both", both), keys)
	if _, err := trusted.Do(t.Context(), action(actuators.Freeze, "")); err != nil {
		t.Errorf("governor pulls the kill switch with the rule for it: %v", err)
	}

	without := func(name, prefix string) *consul.Operators {
		return consul.NewOperators(client(name, without(t, rules, prefix)), keys)
	}
	for name, tc := range map[string]struct {
		operators *consul.Operators
		action    actuators.Action
		rule      string
	}{
		"another service": {
			operator, action(actuators.Freeze, "cart"),
			`key "governor/services/cart/operator" { policy = "write" }`,
		},
		"no rule for the service": {
			without("no-service", `key "governor/services/`), action(actuators.Freeze, "checkout"),
			`key "governor/services/checkout/operator" { policy = "write" }`,
		},
		"no rule for the kill switch": {
			without("no-switch", `key "governor/freeze"`), action(actuators.Freeze, ""),
			`key "governor/freeze" { policy = "write" }`,
		},
		"no rule to lift the kill switch": {
			without("no-lift", `key "governor/freeze"`), action(actuators.Resume, ""),
			`key "governor/freeze" { policy = "write" }`,
		},
		"no rule to read": {
			without("no-read", `key_prefix`), action(actuators.Freeze, "checkout"),
			`key "governor/services/checkout/setting" { policy = "read" }`,
		},
		"governor and the kill switch": {
			recorder, action(actuators.Resume, ""),
			`key "governor/freeze" { policy = "write" }`,
		},
	} {
		_, err := tc.operators.Do(t.Context(), tc.action)
		if !errors.Is(err, consul.ErrDenied) || !strings.Contains(err.Error(), tc.rule) {
			t.Errorf("%s: %v, want it denied for want of %s", name, err, tc.rule)
		}
	}
	if pair, _, err := governor.KV().Get(keys.Freeze(), nil); err != nil || pair == nil {
		t.Errorf("the kill switch was lifted by somebody who may not: %v, %v", pair, err)
	}
}

// The manual's examples of the operator keys are what governor writes and reads, and nothing else.
func TestManualsOrdersAreReal(t *testing.T) {
	only := func(text string, into any) {
		t.Helper()
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	same := func(text string, value any) {
		t.Helper()
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil || compact.String() != string(raw) {
			t.Errorf("the manual shows\n%s\ngovernor writes\n%s (%v)", &compact, raw, err)
		}
	}

	text := strings.TrimSpace(shown(t, "setting.md", "json operator"))
	var o actuators.Operator
	only(text, &o)
	same(text, o)
	o, err := actuators.DecodeOperator([]byte(text), "checkout")
	if err != nil || len(o.Orders) != 1 || len(o.Audit) != 3 {
		t.Errorf("reads as %+v, %v", o, err)
	}

	text = strings.TrimSpace(shown(t, "setting.md", "json freeze"))
	var order actuators.Order
	only(text, &order)
	same(text, order)
	if got := actuators.DecodeFreeze([]byte(text)); got != order {
		t.Errorf("reads as %+v, shows %+v", got, order)
	}
}
