package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Operators writes people's orders straight into Consul. It works without a governor. It is safe for concurrent use.
type Operators struct {
	client *Client
	keys   actuators.Keys
}

// NewOperators returns the Operators of the keys under keys.
func NewOperators(client *Client, keys actuators.Keys) *Operators {
	return &Operators{client: client, keys: keys}
}

// Done is the outcome of an action.
type Done struct {
	Action  actuators.Action   // as it was recorded: text on one line
	Setting *actuators.Setting // published for the service; nil: nothing is
	Leader  *Holder            // holder of the leader's lock; nil: nobody, so nobody enforces the order yet
	// KillSwitch outranks the order of a loop until it is lifted; nil: it is not pulled.
	KillSwitch *actuators.Order
	// LeaderErr says why the leader, or the state of the kill switch, is unknown. The action is recorded anyway.
	LeaderErr error
}

// ErrRefused marks an action that is invalid in itself: nothing was written.
var ErrRefused = errors.New("refused")

const (
	operatorTimeout = 5 * time.Second
	operatorTries   = 8 // attempts while others write the same key
)

// Do records an action of a person: on the loop of a.Knob of a.Service or, if both are "", on the kill switch. The
// action must be complete. An override must be within the bounds of the Setting, if one is published. The order is in
// force from the leader's next tick.
func (o *Operators) Do(ctx context.Context, a actuators.Action) (Done, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	a.Actor, a.Reason = oneLine(a.Actor), oneLine(a.Reason)
	if a.Service == "" && a.Knob == "" {
		return o.everywhere(ctx, a)
	}
	what := fmt.Sprintf("%s %s/%s", a.Kind, a.Service, a.Knob)
	if err := errors.Join(actuators.ValidCompartment(a.Service), a.Validate()); err != nil {
		return Done{}, fmt.Errorf("%s: %w: %w", what, ErrRefused, err)
	}
	setting, err := o.get(ctx, o.keys.Setting(a.Service))
	if err != nil {
		return Done{}, err
	}
	done := Done{Action: a}
	if setting != nil {
		if s := stored(a.Service, "", setting); s.Err == nil {
			done.Setting = &s.Setting
		}
	}
	if err := checkBounds(a, done.Setting); err != nil {
		return done, fmt.Errorf("%s: %w: %w", what, ErrRefused, err)
	}
	for range operatorTries {
		written, err := o.record(ctx, a)
		if err != nil {
			return done, err
		}
		if written {
			done.Leader, done.LeaderErr = o.leader(ctx)
			pair, err := o.get(ctx, o.keys.Freeze())
			if err != nil {
				done.LeaderErr = err
			}
			done.KillSwitch = killSwitch(pair)
			return done, nil
		}
	}
	return done, fmt.Errorf("%s: others keep writing the operator key: %w, try again", what, ErrConflict)
}

// record tries once to add a to the operator key of its service; false if somebody else was faster.
func (o *Operators) record(ctx context.Context, a actuators.Action) (bool, error) {
	key := o.keys.Operator(a.Service)
	pair, err := o.get(ctx, key)
	if err != nil {
		return false, err
	}
	next := &api.KVPair{Key: key}
	var before actuators.Operator
	if pair != nil {
		next.ModifyIndex = pair.ModifyIndex
		if before, err = actuators.DecodeOperator(pair.Value, a.Service); err != nil {
			return false, fmt.Errorf("%w: it was not overwritten: fix it, or remove it with consul kv delete %s",
				err, key)
		}
	}
	if next.Value, err = before.Apply(a).Encode(); err != nil {
		return false, err
	}
	written, _, err := o.client.KV().CAS(next, (&api.WriteOptions{}).WithContext(ctx))
	return written, unsettled(explain(err, "write "+key, fmt.Sprintf(ruleWriteKey, key)))
}

// everywhere pulls or lifts the kill switch.
func (o *Operators) everywhere(ctx context.Context, a actuators.Action) (Done, error) {
	if err := a.ValidateEverywhere(); err != nil {
		return Done{}, fmt.Errorf("%s everything: %w: %w", a.Kind, ErrRefused, err)
	}
	key := o.keys.Freeze()
	// An answer to a read proves that this is Consul before anything is called written.
	_, err := o.get(ctx, key)
	if err != nil {
		return Done{}, err
	}
	if a.Kind == actuators.Resume {
		_, err = o.client.KV().Delete(key, (&api.WriteOptions{}).WithContext(ctx))
	} else {
		var raw []byte
		if raw, err = json.Marshal(a.Order()); err != nil {
			return Done{}, err
		}
		_, err = o.client.KV().Put(&api.KVPair{Key: key, Value: raw}, (&api.WriteOptions{}).WithContext(ctx))
	}
	if err != nil {
		return Done{}, unsettled(explain(err, "write "+key, fmt.Sprintf(ruleWriteKey, key)))
	}
	done := Done{Action: a}
	done.Leader, done.LeaderErr = o.leader(ctx)
	return done, nil
}

// unsettled marks the error of a write that was sent but not answered as ErrUnknown: the write may have happened or may
// still happen. It is safe to give the same order again.
func unsettled(err error) error {
	dial, _ := errors.AsType[*net.OpError](err)
	status, _ := errors.AsType[api.StatusError](err)
	switch {
	case err == nil, denied(err), dial != nil && dial.Op == "dial", status.Code/100 == 4:
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// leader returns the holder of the lock; nil if there is none.
func (o *Operators) leader(ctx context.Context) (*Holder, error) {
	holder, held, err := LookUpHolder(ctx, o.client, o.keys)
	if err != nil || !held {
		return nil, err
	}
	return &holder, nil
}

func (o *Operators) get(ctx context.Context, key string) (*api.KVPair, error) {
	pair, _, err := o.client.KV().Get(key, (&api.QueryOptions{}).WithContext(ctx))
	return pair, explain(err, "read "+key, fmt.Sprintf(ruleReadKey, key))
}

// killSwitch returns the order of the kill switch; nil if it is not pulled.
func killSwitch(pair *api.KVPair) *actuators.Order {
	if pair == nil {
		return nil
	}
	order := actuators.DecodeFreeze(pair.Value)
	return &order
}

// oneLine makes text that a person typed safe to show wherever the key is read.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD")))
}

// checkBounds refuses an override that the published Setting could not carry.
func checkBounds(a actuators.Action, s *actuators.Setting) error {
	if a.Kind != actuators.Override || s == nil {
		return nil
	}
	_, lo, hi, ok := s.Knob(a.Knob)
	switch {
	case !ok:
		return fmt.Errorf("the Setting of %s has no %s: there is nothing to override", a.Service, a.Knob)
	case a.Value < lo || a.Value > hi:
		return fmt.Errorf("value %g, expected %g to %g, the bounds in the configuration", a.Value, lo, hi)
	case a.Knob == "concurrency" && a.Value != float64(int64(a.Value)):
		return fmt.Errorf("value %g, expected a whole number of requests", a.Value)
	}
	return nil
}
