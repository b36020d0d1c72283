package contract

import (
	"testing"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a client with its own connections, closed with the test.
func connect(t *testing.T, address, token string) *consul.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address, config.Token = address, token
	client, err := consul.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestRealConsulKeepsTheContract(t *testing.T) {
	consultest.Run(t, connect(t, servers.Consul(t).Address(), ""))
}
