package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

func TestOrdersThroughTheInterface(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	client := g.client(t)
	command := api.Command{Actor: "ana", Reason: "INC-1412", ExpiresInSeconds: 900}
	order := func(kind actuators.OrderKind, c api.Command) (api.Receipt, error) {
		return client.Order(t.Context(), "checkout", control.KnobConcurrency, kind, c)
	}

	r, err := order(actuators.Freeze, command)
	if err != nil || r.Note != api.NotEnforced || r.Leader != "" || r.Action.ExpiresAt.Sub(r.Action.At) != 15*time.Minute {
		t.Errorf("without a leader: %+v, %v", r, err)
	}
	g.win(1)
	if r, err = order(actuators.Freeze, command); err != nil || r.Leader != "test:9747" || r.Note == api.NotEnforced {
		t.Errorf("with a leader: %+v, %v", r, err)
	}
	g.workers[0].tick(t.Context(), time.Now())
	if l, err := client.Loop(t.Context(), "checkout", control.KnobConcurrency); err != nil || l.Order == nil ||
		l.Order.Reason != "INC-1412" || l.Decision.State != control.Frozen {
		t.Errorf("%+v, %v", l, err)
	}
	if a, err := client.Audit(t.Context()); err != nil || len(a.Actions) != 2 || a.Actions[0].Actor != "ana" {
		t.Errorf("audit: %+v, %v", a, err)
	}
	if _, err := order(actuators.Resume, api.Command{Actor: "bob", Reason: "over"}); err != nil {
		t.Error(err)
	}
	if r, err := client.OrderAll(t.Context(), actuators.Freeze, api.Command{Actor: "ana", Reason: "all"}); err != nil ||
		r.Action.Kind != actuators.Freeze {
		t.Errorf("kill switch: %+v, %v", r, err)
	}
	r, err = order(actuators.Freeze, command)
	if err != nil || r.Leader != "" || !strings.Contains(r.Note, "kill switch") {
		t.Errorf("under the kill switch: %+v, %v", r, err)
	}
	if _, err := client.OrderAll(t.Context(), actuators.Resume, api.Command{Actor: "bob", Reason: "over"}); err != nil {
		t.Error(err)
	}

	for name, tc := range map[string]struct {
		kind    actuators.OrderKind
		command api.Command
		want    string
	}{
		"no reason":        {actuators.Freeze, api.Command{Actor: "ana", ExpiresInSeconds: 900}, "reason"},
		"no actor":         {actuators.Freeze, api.Command{Reason: "x", ExpiresInSeconds: 900}, "actor"},
		"no expiry":        {actuators.Freeze, api.Command{Actor: "ana", Reason: "x"}, "expiry"},
		"for ever":         {actuators.Freeze, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 1e9}, "168h"},
		"no time at all":   {actuators.Freeze, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 1e-9}, "before it is obeyed"},
		"a huge number":    {actuators.Freeze, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 1e30}, "expiry: 277777h"},
		"without a number": {actuators.Override, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 9}, "the value is missing"},
		"out of bounds": {
			actuators.Override, api.Command{Actor: "ana", Reason: "x", ExpiresInSeconds: 9, Value: new(19.0)}, "20 to 400",
		},
	} {
		if _, err := order(tc.kind, tc.command); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v does not say %q", name, err, tc.want)
		}
	}
	_, err = client.OrderAll(t.Context(), actuators.Freeze, command)
	if err == nil || !strings.Contains(err.Error(), "stands until it is lifted") {
		t.Errorf("a kill switch for a quarter of an hour: %v", err)
	}
	w.kv.mu.Lock()
	w.kv.down = errDown
	w.kv.mu.Unlock()
	if _, err := order(actuators.Freeze, command); err == nil || !strings.Contains(err.Error(), "nothing was recorded") {
		t.Errorf("without Consul: %v", err)
	}
	g.opts.Closed = func() error { return errors.New("governor listens on all addresses and asks for no credentials") }
	_, err = order(actuators.Freeze, command)
	if err == nil || !strings.Contains(err.Error(), "asks for no credentials (listen on loopback") {
		t.Errorf("on an open listener: %v", err)
	}

	// Shadow publishes nothing.
	shadow := newWorld("checkout").governor(t, control.Shadow)
	other := shadow.client(t)
	command.Value = new(50.0)
	_, err = other.Order(t.Context(), "checkout", control.KnobConcurrency, actuators.Override, command)
	if err == nil || !strings.Contains(err.Error(), "shadow") {
		t.Errorf("override in shadow: %v", err)
	}
}

// TestActorIsWhoHasLoggedIn: neither a body nor a user name that was not verified can name another actor.
func TestActorIsWhoHasLoggedIn(t *testing.T) {
	workload := &url.URL{Scheme: "spiffe", Host: "shop", Path: "/ops"}
	verified := func(c x509.Certificate) *tls.ConnectionState {
		c.SerialNumber = big.NewInt(7)
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{&c}, VerifiedChains: [][]*x509.Certificate{{&c}}}
	}
	cert := x509.Certificate{Subject: pkix.Name{CommonName: "cid"}}
	claimed := verified(cert)
	claimed.VerifiedChains = nil
	for name, tc := range map[string]struct {
		tls  *tls.ConnectionState
		user string
		want string
	}{
		"nobody":                          {nil, "", "ana"},
		"a user":                          {nil, "ben", "ben"},
		"a user over TLS":                 {&tls.ConnectionState{}, "ben", "ben"},
		"a certificate":                   {verified(cert), "", "cid"},
		"a certificate, and a name":       {verified(cert), "ben", "cid"},
		"a certificate of a workload":     {verified(x509.Certificate{URIs: []*url.URL{workload}}), "", "spiffe://shop/ops"},
		"a certificate of a host":         {verified(x509.Certificate{DNSNames: []string{"ops1"}}), "", "ops1"},
		"a certificate by mail":           {verified(x509.Certificate{EmailAddresses: []string{"c@x"}}), "", "c@x"},
		"a certificate without a name":    {verified(x509.Certificate{}), "", "serial 7"},
		"a certificate that nobody asked": {claimed, "", "ana"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"actor": "ana"}`))
		r.TLS = tc.tls
		if tc.user != "" {
			r.SetBasicAuth(tc.user, "x")
		}
		if c, ok := commandOf(httptest.NewRecorder(), r); !ok || c.Actor != tc.want {
			t.Errorf("%s: the actor is %q, want %q", name, c.Actor, tc.want)
		}
	}
}
