package consul

import (
	"encoding/json"

	"github.com/hashicorp/consul/api"
)

// Holder is the value of the leader's key, as JSON: who holds the lock, or held it last where no session does.
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
