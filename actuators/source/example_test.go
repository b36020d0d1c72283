package source_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/source"
)

// What an example does until a guard obeys; a service does its work.
func limitOf(g *guard.Guard, revision uint64) int {
	for g.Snapshot().Revision != revision {
		time.Sleep(time.Millisecond)
	}
	return g.Snapshot().Limit
}

// A file that consul-template writes, or that is in a mounted ConfigMap.
func ExampleFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "setting.json")
	if err := os.WriteFile(path, []byte(`{
		"schema": 1, "service": "checkout", "epoch": 1, "revision": 1, "lease_seconds": 180,
		"concurrency": {
			"limit": 40, "ceiling": 80, "latency_target_seconds": 0.12, "fallback": 20, "min": 5, "max": 100
		}
	}`), 0o644); err != nil {
		log.Fatal(err)
	}
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, NoReflex: true})
	if err != nil {
		log.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()

	go g.Run(ctx, source.File{Path: path})

	fmt.Println(limitOf(g, 1))
	// Output: 40
}

// A service without governor, with the limits of its configuration.
func ExampleStatic() {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, NoReflex: true})
	if err != nil {
		log.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()

	go g.Run(ctx, source.Static{
		Schema: actuators.Schema, Service: "checkout", Epoch: 1, Revision: 1, LeaseSeconds: 180,
		Concurrency: &actuators.Concurrency{Limit: 40, Ceiling: 80, LatencyTargetSeconds: 0.12, Fallback: 40, Min: 5, Max: 100},
	})

	fmt.Println(limitOf(g, 1))
	// Output: 40
}

// A pace that has been agreed on, for a fleet of four instances without governor.
func ExampleStatic_rate() {
	g, err := guard.New(guard.Config{Service: "mailer", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()

	go g.Run(ctx, source.Static{
		Schema: actuators.Schema, Service: "mailer", Epoch: 1, Revision: 1, LeaseSeconds: 180,
		Rate: &actuators.Rate{PerSecond: 100, Burst: 25, Instances: 4, Fallback: 100, Min: 0, Max: 1000},
	})

	_ = limitOf(g, 1)
	fmt.Println(g.Snapshot().RateLimit)
	// Output: 25
}
