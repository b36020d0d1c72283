package consul_test

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The fake in this package's tests keeps the same contract as the real Consul.
func TestFakeKeepsTheContract(t *testing.T) {
	for _, c := range consultest.Cases {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.Test(t, consultest.NewFake().Client()) })
		})
	}
}
