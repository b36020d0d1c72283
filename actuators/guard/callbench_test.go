package guard

import (
	"testing"
	"time"
)

// A call of 40 ms through deadline, retry, breaker and bulkhead, on a clock that is told.
func BenchmarkCall(b *testing.B) {
	d, now, _ := dependency(b, MaxCalls(1<<20))
	end := now.Add(40 * time.Millisecond)
	options := CallOptions{Idempotent: true, Deadline: now.Add(time.Second)}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		c := d.StartAt(ctx, now, options)
		a, _ := c.TryAt(now, "10.0.0.1:80")
		a.DoneAt(end, Result{})
	}
}

// The same with the clock.
func BenchmarkCallWithClock(b *testing.B) {
	benchmarkCalls(b, func(b *testing.B, call func()) {
		for b.Loop() {
			call()
		}
	})
}

func BenchmarkCallParallel(b *testing.B) {
	benchmarkCalls(b, func(b *testing.B, call func()) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				call()
			}
		})
	})
}

func benchmarkCalls(b *testing.B, loop func(*testing.B, func())) {
	g := newGuard(b, Config{Min: 1 << 20, Max: 1 << 20})
	d := g.Dependency("payments", MaxCalls(1<<20))
	ctx := b.Context()
	b.ReportAllocs()
	loop(b, func() {
		c := d.Start(ctx, CallOptions{Idempotent: true})
		a, _ := c.Try("10.0.0.1:80")
		a.Done(Result{})
	})
}

// Two random choices of a hundred instances.
func BenchmarkPick(b *testing.B) {
	d, now, _ := dependency(b)
	instances := make([]string, 100)
	for i := range instances {
		instances[i] = string(rune('a'+i%26)) + string(rune('a'+i/26)) + ":80"
	}
	u := 0.0
	b.ReportAllocs()
	for b.Loop() {
		d.PickAt(now, instances, "", u)
		if u += 0.618; u >= 1 {
			u--
		}
	}
}

func BenchmarkCallRefusedByBreaker(b *testing.B) {
	d, now, _ := dependency(b)
	d.out.instances.of(0, "a").serve(0, 50, 50, bad)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		c := d.StartAt(ctx, now, CallOptions{})
		_, _ = c.TryAt(now, "a")
	}
}
