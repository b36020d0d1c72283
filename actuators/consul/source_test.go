package consul_test

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/source/sourcetest"
)

// The Watcher keeps the contract of all sources. That its store behaves like a real Consul is the contract of consultest.
func TestWatcherIsASource(t *testing.T) {
	sourcetest.Run(t, func(*testing.T) sourcetest.Subject {
		client, keys := consultest.NewFake().Client(), actuators.Keys{}
		return sourcetest.Subject{
			Source: &consul.Watcher{Client: client},
			Put: func(t *testing.T, service string, part actuators.Part, raw []byte) {
				t.Helper()
				if _, err := client.KV().Put(&api.KVPair{Key: keys.KeyOf(service, part), Value: raw}, nil); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T, service string, part actuators.Part) {
				t.Helper()
				if _, err := client.KV().Delete(keys.KeyOf(service, part), nil); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
