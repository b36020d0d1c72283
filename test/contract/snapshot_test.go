package contract

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon"
	daemonapi "github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/servers"
)

// overloaded is a sensor over a service in overload: 400 requests a second are served, whatever its limit is. Like a
// guard, it refuses a Setting with an older revision.
type overloaded struct {
	kv    *api.KV
	newer actuators.Setting
}

func (o *overloaded) Measure(_ context.Context, now time.Time) []control.Measurement {
	limit, window := 300.0, 4.0
	if pair, _, err := o.kv.Get(actuators.Keys{}.Setting("checkout"), nil); err == nil && pair != nil {
		if s, err := actuators.Decode(pair.Value); err == nil && s.Revision >= o.newer.Revision {
			o.newer = s
		}
	}
	if c := o.newer.Concurrency; c != nil {
		limit = float64(c.Limit)
	}
	read := control.Read
	const served = 400
	slow := 0.0
	if limit/served > 0.3 {
		slow = served * window
	}
	in := control.Instance{
		Name: "a:80", Age: read(0.5), Offered: read(3 * served * window), Admitted: read(served * window),
		Refused: read(2 * served * window), RefusedByRate: read(0), Completed: read(served * window), Failed: read(0),
		Slow: read(slow), Mean: read(limit / served), InFlight: read(limit), Limit: read(limit),
		Revision: read(float64(o.newer.Revision)), ShedThreshold: read(1),
	}
	for i := range in.Classes {
		in.Classes[i] = control.Class{Offered: read(0), Refused: read(0)}
	}
	return []control.Measurement{{
		Service: "checkout", At: now, Window: 4 * time.Second, Instances: []control.Instance{in},
		Quantile: read(limit / served),
	}}
}

// A snapshot of Consul that is restored brings back an old limit in the middle of an overload. It is no edit by hand:
// the leader says that the key was set back and writes again what was in force.
func TestRestoredSnapshotIsARollbackAndNoEdit(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten periods of a second")
	}
	server := servers.Consul(t)
	client := connect(t, server.Address(), "")
	log := &waittest.Buffer{}
	elector, err := consul.NewElector(client, consul.ElectorOptions{Instance: "a:9747", Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	d, err := daemon.New(daemon.Options{
		Setup: daemon.Setup{
			Groups: []daemon.Group{{
				Sensor: &overloaded{kv: client.KV()},
				Specs: []control.Spec{{
					Service: "checkout", Mode: control.Enforce,
					SLO:         control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99, Errors: 0.01},
					Timing:      control.Timing{Scrape: time.Second, Window: 4 * time.Second, Period: time.Second, PublishDelay: 100 * time.Millisecond},
					Concurrency: &control.ConcurrencySpec{Min: 20, Max: 400, Fallback: 300},
				}},
			}},
			Prometheus: func() daemonapi.Dependency { return daemonapi.Dependency{OK: true} },
		},
		Store: consul.NewPublisher(client, actuators.Keys{}, consul.PublisherOptions{}), Leadership: elector,
		Election: func() (daemonapi.LeaderInfo, error) { return daemonapi.LeaderInfo(elector.State().Holder), nil },
		Instance: "a:9747", KeyOf: actuators.Keys{}.SettingOf, Registry: registry,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { elector.Run(ctx, nil) })
	running.Go(func() { d.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	stored := func() actuators.Setting {
		pair, _, err := client.KV().Get(actuators.Keys{}.Setting("checkout"), nil)
		if err != nil || pair == nil {
			return actuators.Setting{}
		}
		s, err := actuators.Decode(pair.Value)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	waittest.Until(t, "a first Setting", func() bool { return stored().Revision > 0 })
	first := stored()
	snapshot, _, err := client.Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := io.ReadAll(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the limit to settle", func() bool { return stored().Concurrency.Limit < first.Concurrency.Limit*2/3 })
	before := stored()
	if err := client.Snapshot().Restore(nil, bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if s := stored(); s.Revision >= before.Revision {
		t.Fatalf("the snapshot has brought back revision %d, %d was in force", s.Revision, before.Revision)
	}
	waittest.Until(t, "a newer Setting", func() bool { return stored().Revision > before.Revision })
	after := stored()
	if move := math.Log(float64(after.Concurrency.Limit) / float64(before.Concurrency.Limit)); math.Abs(move) > 0.2 {
		t.Errorf("revision %d has a limit of %d, after %d in %d and %d from the snapshot", after.Revision,
			after.Concurrency.Limit, before.Concurrency.Limit, before.Revision, first.Concurrency.Limit)
	}
	waittest.Until(t, "the rollback in the log", func() bool { return strings.Contains(log.String(), "drift=rolled_back") })
	if text := log.String(); strings.Contains(text, "drift=edited") {
		t.Errorf("the log:\n%s", text)
	}
}
