package guard

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The costs of one request at the guard, beside the least that any counter costs. Compare within one run:
//
//	go test -bench . -cpu 1,2 ./guard
func BenchmarkAdmitAndRelease(b *testing.B) {
	g := newGuard(b, Config{Min: 1 << 20, Max: 1 << 20})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		p, _ := g.Acquire(ctx, Default)
		p.Release(Success)
	}
}

func BenchmarkAdmitAndReleaseParallel(b *testing.B) {
	g := newGuard(b, Config{Min: 1 << 20, Max: 1 << 20})
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, _ := g.Acquire(ctx, Default)
			p.Release(Success)
		}
	})
}

// With a rate limit, a shed threshold and a tenant.
func BenchmarkAdmitAndReleaseAllKnobs(b *testing.B) {
	g := knobs(b, 1e9, 0.6, 0)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		p, _ := g.AcquireFor(ctx, Default, "tenant-4711")
		p.Release(Success)
	}
}

func BenchmarkAdmitAndReleaseAllKnobsParallel(b *testing.B) {
	g := knobs(b, 1e9, 0.6, 0)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, _ := g.AcquireFor(ctx, Default, "tenant-4711")
			p.Release(Success)
		}
	})
}

func BenchmarkRefuseByRate(b *testing.B) { benchmarkRefusal(b, knobs(b, 1, 0.6, 0)) }
func BenchmarkRefuseByShed(b *testing.B) { benchmarkRefusal(b, knobs(b, 1e9, 0.6, 90)) }

func benchmarkRefusal(b *testing.B, g *Guard) {
	ctx := context.Background()
	_, _ = g.AcquireFor(ctx, Background, "tenant-4711")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = g.AcquireFor(ctx, Background, "tenant-4711")
	}
}

func BenchmarkRefuse(b *testing.B) {
	g := newGuard(b, Config{Min: 1, Max: 1})
	ctx := context.Background()
	_, _ = g.Acquire(ctx, Default)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = g.Acquire(ctx, Default)
	}
}

func BenchmarkRefuseParallel(b *testing.B) {
	g := newGuard(b, Config{Min: 1, Max: 1})
	ctx := context.Background()
	_, _ = g.Acquire(ctx, Default)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = g.Acquire(ctx, Default)
		}
	})
}

// The baselines: up and down again, with no limit, no clock, no latency, no metrics.

func BenchmarkBareAtomicParallel(b *testing.B) {
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n.Add(1)
			n.Add(-1)
		}
	})
}

func BenchmarkBareMutexParallel(b *testing.B) {
	var mu sync.Mutex
	n := 0
	add := func(d int) { mu.Lock(); n += d; mu.Unlock() }
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			add(1)
			add(-1)
		}
	})
}

func BenchmarkStep(b *testing.B) {
	g := newGuard(b, Config{})
	now := g.now()
	for b.Loop() {
		now += reflexPeriod
		g.mu.Lock()
		g.step(now)
		g.mu.Unlock()
	}
}

func BenchmarkSnapshot(b *testing.B) {
	g := newGuard(b, Config{})
	for b.Loop() {
		g.Snapshot()
	}
}

// A request of 40 ms on a clock that is told, so that reading the clock does not hide the rest.
func BenchmarkAdmitAndReleaseWithoutClock(b *testing.B) {
	g := newGuard(b, Config{Min: 1 << 20, Max: 1 << 20})
	start, end := g.base, g.base.Add(40*time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		p, _ := g.AcquireAt(start, Default)
		p.ReleaseAt(end, Success)
	}
}

// What the way out adds: the context of a request, and a call through the bulkhead.
func BenchmarkContext(b *testing.B) {
	g := newGuard(b, Config{Min: 1 << 20, Max: 1 << 20})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		p, _ := g.Acquire(ctx, Default)
		NewContext(ctx, p)
		p.Release(Success)
	}
}

func BenchmarkBulkhead(b *testing.B) {
	g := newGuard(b, Config{Min: 1 << 20, Max: 1 << 20})
	d := g.Dependency("payments")
	p, _ := g.Acquire(context.Background(), Default)
	ctx := NewContext(context.Background(), p)
	b.ReportAllocs()
	for b.Loop() {
		s, _ := d.acquireAt(g.now(), requestOf(ctx), 0)
		s.release(g.now(), Success)
	}
}
