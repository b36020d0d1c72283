package consul

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Known is what the keys tell about the loops that there are.
type Known struct {
	// Knobs are the knobs of each service and route that the Settings carry, or that an order is in force for; all
	// knobs where one of these keys cannot be read. A service that governor does not enforce has no Setting.
	Knobs map[string][]string
	// Leader is the holder of the leader's lock; nil: there is none, or its key does not say.
	Leader *Holder
	// Used is false if there is no key at all but the kill switch: no governor has ever worked here.
	Used   bool
	Frozen bool // the kill switch is pulled
}

// Known reads which loops there are. It needs the right to read all keys of governor.
func (o *Operators) Known(ctx context.Context) (Known, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	root := o.keys.Root()
	pairs, _, err := o.client.KV().List(root, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return Known{}, explain(err, "list "+root, fmt.Sprintf("key_prefix %q { policy = \"read\" }", root))
	}
	k := Known{Knobs: map[string][]string{}}
	for _, pair := range pairs {
		if pair.Key == o.keys.Freeze() {
			k.Frozen = true
			continue
		}
		k.Used = true
		if pair.Key == o.keys.Leader() && pair.Session != "" {
			if holder, err := parseHolder(pair); err == nil {
				k.Leader = &holder
			}
		}
		if service, ok := o.keys.ServiceOf(pair.Key); ok {
			s := stored(service, "", pair)
			for _, knob := range actuators.Knobs {
				if _, _, _, ok := s.Setting.Knob(knob); ok || s.Err != nil {
					k.add(service, knob)
				}
			}
		}
		if service, ok := o.keys.OperatorOf(pair.Key); ok {
			orders, err := actuators.DecodeOperator(pair.Value, service)
			for _, knob := range actuators.Knobs {
				if _, ok := orders.Orders[knob]; ok || err != nil {
					k.add(service, knob)
				}
			}
		}
	}
	return k, nil
}

func (k *Known) add(service, knob string) {
	if !slices.Contains(k.Knobs[service], knob) {
		k.Knobs[service] = append(k.Knobs[service], knob)
	}
}
