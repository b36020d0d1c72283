package daemon

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Operators record the orders of people where the leader finds them: a *consul.Operators.
type Operators interface {
	Do(ctx context.Context, a actuators.Action) (consul.Done, error)
}

// Bounds of the body of a Command: far more bytes and time than any needs.
const (
	maxCommandBytes = 16 << 10
	commandPatience = 10 * time.Second
)

func (d *Daemon) serveAudit(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	answer(w, api.Audit{Actions: d.recorder.Audit(q.Get("service"), control.Knob(q.Get("knob")))})
}

// serveOrder freezes, resumes or overrides one loop.
func (d *Daemon) serveOrder(kind actuators.OrderKind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l, ok := d.loop(w, r)
		if !ok {
			return
		}
		c, ok := commandOf(w, r)
		if !ok {
			return
		}
		now := time.Now().UTC().Round(time.Microsecond)
		a := actuators.Action{
			Service: l.Service, Knob: string(l.Knob), Kind: kind, Actor: c.Actor, Reason: c.Reason, At: now,
		}
		if kind != actuators.Resume {
			a.ExpiresAt = now.Add(time.Duration(min(c.ExpiresInSeconds, 1e9) * float64(time.Second)))
		}
		if kind == actuators.Override {
			if err := overridable(l, c.Value); err != nil {
				refuse(w, http.StatusBadRequest, fmt.Sprintf("override %s/%s: %v", l.Service, l.Knob, err), "")
				return
			}
			a.Value = *c.Value
		}
		d.order(r.Context(), w, a)
	}
}

// overridable says why a loop cannot be set to a value; nil if it can.
func overridable(l api.Loop, value *float64) error {
	switch {
	case value == nil:
		return errors.New("the value is missing, expected a number")
	case l.Mode != control.Enforce:
		return fmt.Errorf("the service is in mode %s: nothing is published, so an override would change nothing", l.Mode)
	case *value < l.Min || *value > l.Max:
		return fmt.Errorf("value %g, expected %g to %g, the bounds in the configuration", *value, l.Min, l.Max)
	}
	return nil
}

// serveOrderAll pulls or lifts the kill switch.
func (d *Daemon) serveOrderAll(kind actuators.OrderKind) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, ok := commandOf(w, r)
		if !ok {
			return
		}
		now := time.Now().UTC().Round(time.Microsecond)
		a := actuators.Action{Kind: kind, Actor: c.Actor, Reason: c.Reason, At: now}
		if c.ExpiresInSeconds != 0 {
			a.ExpiresAt = now.Add(time.Second) // to be refused: a freeze must not lose the end that the caller asked for
		}
		d.order(r.Context(), w, a)
	}
}

// shortestOrder is how long an order that expires must last at least.
const shortestOrder = time.Second

// commandOf reads a Command. For authenticated requests the actor is the authenticated identity, and the actor field is
// ignored: the owner of a verified certificate, else the user. A listener that asks only for certificates accepts any
// user name, so the certificate comes first.
func commandOf(w http.ResponseWriter, r *http.Request) (c api.Command, ok bool) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(commandPatience)) // not every connection supports it
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommandBytes))
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "cannot read the command: "+err.Error(),
			`send JSON like {"actor": "ana", "reason": "INC-1412", "expires_in_seconds": 900}`)
		return c, false
	}
	if c.ExpiresInSeconds > 0 && c.ExpiresInSeconds < shortestOrder.Seconds() {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("expires_in_seconds %g: the order would end before it is obeyed",
			c.ExpiresInSeconds), "give it at least a second")
		return c, false
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Actor = ownerOf(r.TLS.VerifiedChains[0][0])
	} else if user, _, ok := r.BasicAuth(); ok {
		c.Actor = user
	}
	return c, true
}

// ownerOf names the owner of a certificate. Workload certificates often have no common name.
func ownerOf(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	case len(c.EmailAddresses) > 0:
		return c.EmailAddresses[0]
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	}
	return "serial " + c.SerialNumber.String()
}

// order records an action in the KV, and says which governor will enforce it.
func (d *Daemon) order(ctx context.Context, w http.ResponseWriter, a actuators.Action) {
	if d.opts.Operators == nil {
		refuse(w, http.StatusNotImplemented, "this governor takes no orders", "")
		return
	}
	done, err := d.opts.Operators.Do(ctx, a)
	if err != nil {
		code, hint := http.StatusServiceUnavailable, "nothing was recorded; is Consul up?"
		switch {
		case errors.Is(err, consul.ErrRefused):
			code, hint = http.StatusBadRequest, ""
		case errors.Is(err, consul.ErrDenied):
			code, hint = http.StatusForbidden, "this governor's token may not write it: see docs/consul-acl.md"
		case errors.Is(err, consul.ErrConflict):
			code, hint = http.StatusConflict, ""
		case errors.Is(err, consul.ErrUnknown):
			hint = "it may have been recorded anyway; it is safe to give the order again"
		}
		refuse(w, code, err.Error(), hint)
		return
	}
	if a.Service == "" {
		d.recorder.ActedEverywhere(done.Action)
	}
	receipt := api.Receipt{Action: done.Action, Note: api.NotEnforced}
	switch {
	case done.LeaderErr != nil:
		receipt.Note = "recorded; the leader that enforces it is not known: " + done.LeaderErr.Error()
	case done.KillSwitch != nil:
		receipt.Note = "recorded; the kill switch outranks it until it is lifted"
	case done.Leader != nil:
		receipt.Leader = done.Leader.Instance
		receipt.Note = "recorded; " + receipt.Leader + " enforces it from its next tick"
	}
	answer(w, receipt)
}
