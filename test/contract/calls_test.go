package contract

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
	"github.com/seed-de83e32b/governor/test/servers"
)

// What governor decides about the retries and the calls of a service is what the guard in it then enforces: from a
// decision, through Consul, to the budget and the bulkhead. 0 is a budget like any other.
func TestDecisionsOnCallsReachTheGuard(t *testing.T) {
	client := connect(t, servers.Consul(t).Address(), "")
	keys := actuators.Keys{}
	spec := control.Spec{
		Service: "checkout", Mode: control.Enforce, SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99},
		Timing: control.Timing{Scrape: time.Second, Window: 4 * time.Second, Period: time.Second},
		Retry:  &control.RetrySpec{Budget: 0.1}, Calls: []control.CallSpec{{To: "payments", Max: 40}},
	}
	set, err := control.NewLoopSet(spec)
	if err != nil {
		t.Fatal(err)
	}
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	g.Dependency("payments")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx, &consul.Watcher{Client: client, Keys: keys}) }()
	t.Cleanup(func() { cancel(); <-done })

	session, _, err := client.Session().Create(&api.SessionEntry{TTL: "10s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	fence := consul.Fence{Key: keys.Leader(), Session: session, Epoch: 3}
	if held, _, err := client.KV().Acquire(&api.KVPair{Key: fence.Key, Session: session}, nil); err != nil || !held {
		t.Fatal(held, err)
	}
	publisher := consul.NewPublisher(client, keys, consul.PublisherOptions{})
	write := func(callee string, knob control.Knob, value float64) actuators.Setting {
		t.Helper()
		d := control.NewDecision("checkout", knob)
		d.Value, d.Publish, d.Renew, d.Reason = control.Number(value), true, true, "as the test says"
		writer := publish.Writer{Spec: set.Spec(), Callee: callee, Epoch: fence.Epoch, Lease: time.Minute}
		s, kind, err := publish.Last{}.Next(time.Now(), writer, []control.Decision{d})
		if err != nil || kind != publish.Change {
			t.Fatal(kind, err)
		}
		if _, err := publisher.Publish(t.Context(), fence, s, 0); err != nil {
			t.Fatal(err)
		}
		return s
	}
	write("", control.KnobRetry, 0)
	call := write("payments", control.KnobCall("payments"), 0.06)
	waittest.Succeeds(t, 20*time.Second, "the guard enforces both", func() error {
		s := g.Snapshot()
		if s.RetryRatio != 0 || s.Revision == 0 || s.Calls[0].Revision != call.Revision || s.Calls[0].Epoch != 3 ||
			s.Calls[0].Setpoint != 60*time.Millisecond || s.Calls[0].Limit > 40 {
			return fmt.Errorf("retry %g of revision %d, calls %+v", s.RetryRatio, s.Revision, s.Calls[0])
		}
		return nil
	})
}
