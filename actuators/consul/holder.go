package consul

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Holder is the value of the leader's key, as JSON: the current holder of the lock, or the last one if no session holds
// it.
type Holder struct {
	Instance string `json:"instance"`
	API      string `json:"api"`   // base URL of its HTTP interface
	Epoch    uint64 `json:"epoch"` // of the Settings it writes
}

// ForeignLock is the error for a leader's lock that is held by a session whose value is no governor's. No governor can
// lead then.
type ForeignLock struct {
	Key     string // of the lock
	Session string // that holds it
	Name    string // of the session; may be empty, as if it could not be read
	Node    string // of the session; "": it could not be read
	consul  string // address
}

func (e *ForeignLock) Error() string {
	who := ""
	if e.Node != "" {
		who = fmt.Sprintf(" (name %q, node %s)", e.Name, e.Node)
	}
	return fmt.Sprintf("the lock %s is held by session %s%s, which is no governor's, so no governor can lead: end the program "+
		"that holds it, or take the lock from it with PUT /v1/session/destroy/%[2]s at Consul (%[4]s)",
		e.Key, e.Session, who, e.consul)
}

// LookUpHolder reads the leader's key. held says whether a session holds the lock; if not, holder is the last one, or zero.
// If the session that holds it is no governor's, the error is a *ForeignLock.
func LookUpHolder(ctx context.Context, client *Client, keys actuators.Keys) (holder Holder, held bool, err error) {
	pair, _, err := client.KV().Get(keys.Leader(), (&api.QueryOptions{}).WithContext(ctx))
	if err != nil || pair == nil {
		return Holder{}, false, explain(err, "read "+keys.Leader(), fmt.Sprintf(ruleReadPrefix, keys.Root()))
	}
	holder, err = holderOf(ctx, client, pair)
	return holder, pair.Session != "", err
}

// holderOf reads the value of the leader's key, and asks Consul about the session that holds it if that is no governor's.
func holderOf(ctx context.Context, client *Client, pair *api.KVPair) (Holder, error) {
	holder, err := parseHolder(pair)
	if err == nil && holder.Instance != "" || pair.Session == "" {
		return holder, nil
	}
	foreign := &ForeignLock{Key: pair.Key, Session: pair.Session, consul: client.Address()}
	if entry, _, err := client.Session().Info(pair.Session, (&api.QueryOptions{}).WithContext(ctx)); err == nil && entry != nil {
		foreign.Name, foreign.Node = entry.Name, entry.Node
	}
	return Holder{}, foreign
}

func parseHolder(pair *api.KVPair) (Holder, error) {
	var holder Holder
	err := json.Unmarshal(pair.Value, &holder)
	if holder.Epoch > mostHeld {
		holder.Epoch = 0 // put there by hand: no leader has counted that far, and the next one could not count on from it
	}
	return holder, err
}

// mostHeld is the highest epoch that the leader's key may contain. It lies above all that a Setting may lead to.
const mostHeld = actuators.MaxByHand + 1<<32
