package guard_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// A guard needs a name and a latency objective. It works at once, on its fallback and its reflex. If governor runs, Run
// keeps the guard supplied with Settings.
func Example() {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}

	handle := func(ctx context.Context) error {
		permit, err := g.Acquire(ctx, guard.Default)
		if err != nil {
			return err
		}
		outcome := guard.Failure // of a panic
		defer func() { permit.Release(outcome) }()
		// ... the work ...
		outcome = guard.Success
		return nil
	}

	fmt.Println(handle(context.Background()), g.Snapshot().InFlight)
	// Output: <nil> 0
}

// Do is Acquire, the work and Release in one call, for whatever is not an HTTP handler: a consumer of a queue, a job.
func ExampleGuard_Do() {
	g, _ := guard.New(guard.Config{Service: "resize", SLO: time.Second, Max: 1})

	err := g.Do(context.Background(), guard.Sheddable, func(ctx context.Context) error {
		// The only slot is taken by this function.
		return g.Do(ctx, guard.Sheddable, func(context.Context) error { return nil })
	})

	if refusal, ok := errors.AsType[*guard.Refusal](err); ok {
		fmt.Println(refusal.Reason(), refusal.RetryAfter(), refusal.Retryable())
	}
	// Output: concurrency 1s false
}

// A nearly full guard keeps its last slots for more important requests. A key ties the verdict to the tenant: within a
// class, some tenants are refused at every request and by every instance, and the others are fully served.
func ExampleGuard_AcquireFor() {
	g, _ := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 10, Max: 10, ShedThreshold: 0.6,
	})
	ctx := context.Background()
	for range 9 {
		_, _ = g.AcquireFor(ctx, guard.Critical, "alice")
	}

	_, err := g.AcquireFor(ctx, guard.Background, "nightly-report")
	fmt.Println(errors.Is(err, guard.ErrShed))
	_, err = g.AcquireFor(ctx, guard.Critical, "bob")
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// A request beyond the rate limit is refused with the time to wait for a token. The rate is that of the Setting: one a second
// for each of four instances.
func ExampleRefusal() {
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	g, _ := guard.New(guard.Config{
		Service: "mailer", SLO: 300 * time.Millisecond,
		Now: func() time.Time { return now },
	})
	if err := g.Apply([]byte(`{
		"schema": 1, "service": "mailer", "epoch": 1, "revision": 1, "lease_seconds": 180,
		"rate": {"per_second": 4, "burst": 1, "instances": 4, "fallback": 4, "min": 0, "max": 100}
	}`)); err != nil {
		log.Fatal(err)
	}

	mail := func() string {
		permit, err := g.Acquire(context.Background(), guard.Default)
		if refusal, ok := errors.AsType[*guard.Refusal](err); ok && errors.Is(err, guard.ErrRate) {
			return fmt.Sprintf("429, Retry-After: %.0f", refusal.RetryAfter().Seconds())
		}
		defer permit.Release(guard.Success)
		return "sent"
	}

	fmt.Println(mail())
	fmt.Println(mail())
	// Output:
	// sent
	// 429, Retry-After: 1
}

// memory is a Source that holds one Setting. The one for Consul is actuators/consul's Watcher.
type memory []byte

func (m memory) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	apply(m)
	<-ctx.Done()
	return ctx.Err()
}

// Run takes Settings from any Source until its context ends.
func ExampleGuard_Run() {
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	src := memory(`{
		"schema": 1, "service": "checkout", "epoch": 3, "revision": 17, "lease_seconds": 180,
		"concurrency": {
			"limit": 64, "ceiling": 128, "latency_target_seconds": 0.12, "fallback": 90, "min": 20, "max": 400
		}
	}`)

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Run(ctx, src) }()
	for g.Snapshot().Revision == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()

	fmt.Println(<-done, g.Snapshot().Limit)
	// Output: <nil> 64
}

// Time can be an argument, for simulations: give the guard a start, and every call its instant.
func ExampleGuard_AcquireAt() {
	start := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	g, _ := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond,
		Now: func() time.Time { return start },
	})

	permit, _ := g.AcquireAt(start.Add(time.Second), guard.Default)
	permit.ReleaseAt(start.Add(1250*time.Millisecond), guard.Success)

	fmt.Println(g.SnapshotAt(start.Add(2 * time.Second)).Latency.Sum)
	// Output: 0.25
}

// One call to a dependency, as a binding or a simulation drives it: time and randomness are arguments.
func ExampleCall() {
	start := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	g, _ := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond,
		Now: func() time.Time { return start },
	})
	payments := g.Dependency("payments")

	call := payments.StartAt(context.Background(), at(0), guard.CallOptions{Idempotent: true})
	attempt, _ := call.TryAt(at(0), "10.0.0.1:80")
	failed := guard.Result{Outcome: guard.Failure}
	attempt.DoneAt(at(40), failed)

	if retry, ok := call.RetryAt(at(40), 0.5, failed); ok {
		fmt.Println("again after", retry.Wait)
		attempt, _ = call.TryAt(at(90), "10.0.0.1:80")
		attempt.DoneAt(at(130), guard.Result{Outcome: guard.Success})
	}
	s := g.SnapshotAt(at(200)).Calls[0]
	fmt.Println(s.To, s.Requests, s.Attempts, s.Failures)
	// Output:
	// again after 50ms
	// payments 1 2 1
}
