package consul

import (
	"encoding/json"

	"github.com/hashicorp/consul/api"
)

// Holder is the value of the leader's key, as JSON: the current holder of the lock, or the last one if no session holds
// it.
type Holder struct {
	Instance string `json:"instance"`
	API      string `json:"api"`   // base URL of its HTTP interface
	Epoch    uint64 `json:"epoch"` // of the Settings it writes
}

func parseHolder(pair *api.KVPair) (Holder, error) {
	var holder Holder
	err := json.Unmarshal(pair.Value, &holder)
	return holder, err
}
