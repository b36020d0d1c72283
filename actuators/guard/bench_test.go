package guard

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// beside runs subject and base in turns on all processors and reports how long an operation of subject takes, and how many
// times that of base: the median of all turns, so that a processor which is lent to somebody else for a while spoils
// neither. Both get a number of operations to do.
func beside(b *testing.B, base func(n int), unit string, subject func(n int)) {
	b.Helper()
	const turn = 1 << 16 // so long that all processors take part even in the cheapest
	workers := runtime.GOMAXPROCS(0)
	perOp := func(f func(n int)) float64 {
		var wg sync.WaitGroup
		begin := time.Now()
		for range workers {
			wg.Go(func() { f(turn) })
		}
		wg.Wait()
		return float64(time.Since(begin).Nanoseconds()) / float64(turn*workers)
	}
	var nanoseconds, ratios []float64
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += turn * workers {
		took := perOp(subject)
		nanoseconds, ratios = append(nanoseconds, took), append(ratios, took/perOp(base))
	}
	slices.Sort(nanoseconds)
	slices.Sort(ratios)
	b.ReportMetric(nanoseconds[len(nanoseconds)/2], "ns/op")
	b.ReportMetric(ratios[len(ratios)/2], unit)
}

// What a request costs, in units of what nobody can do without: two looks at the clock, a lock around a counter on the way
// in and on the way out (as golang.org/x/sync/semaphore has it), or one atomic addition to a word that all share.
//
//	go test -run - -bench Cost -cpu 1,2 ./guard
func BenchmarkCost(b *testing.B) {
	ctx := context.Background()
	request := func(g *Guard, key string) func(n int) {
		return func(n int) {
			for range n {
				p, _ := g.AcquireFor(ctx, Default, key)
				p.Release(Success)
			}
		}
	}
	routed := func(g *Guard) func(n int) {
		return func(n int) {
			for range n {
				p, _ := g.Admit(ctx, Arrival{Criticality: Default, Route: "/checkout"})
				p.Release(Success)
			}
		}
	}
	large := Config{Min: 1 << 20, Max: 1 << 20}
	for _, c := range []struct {
		name    string
		subject func(n int)
		base    func(n int)
		unit    string
	}{
		{"limit", request(newGuard(b, large), ""), readClock, "x/2clocks"},
		{"limit, rate and shed", request(knobs(b, 1e9, 0.6, 0), ""), readClock, "x/2clocks"},
		{"limit, rate and shed by tenant", request(knobs(b, 1e9, 0.6, 0), "tenant-4711"), readClock, "x/2clocks"},
		{"limit, rate and shed by route", routed(knobs(b, 1e9, 0.6, 0)), readClock, "x/2clocks"},
		{"limit without clock", requestAt(newGuard(b, large)), semaphore(), "x/semaphore"},
		{"gate", throughGate(), semaphore(), "x/semaphore"},
		{"refusal by limit", request(fullGuard(b), ""), add(), "x/add"},
		{"refusal by rate", request(knobs(b, 1, 1, 0), ""), readClock, "x/2clocks"},
		{"refusal by shed", request(knobs(b, 1e9, 0.6, 99), ""), readClock, "x/2clocks"},
	} {
		c.subject(1)
		b.Run(c.name, func(b *testing.B) { beside(b, c.base, c.unit, c.subject) })
	}
}

// fullGuard is a guard with no slot left.
func fullGuard(b *testing.B) *Guard {
	g := newGuard(b, Config{Min: 1, Max: 1})
	g.gate.enter(0, 1, 0)
	return g
}

// requestAt is a request of 40 ms by a clock that is told, so that reading the clock does not hide the rest.
func requestAt(g *Guard) func(n int) {
	start, end := g.base, g.base.Add(40*time.Millisecond)
	return func(n int) {
		for range n {
			p, _ := g.AcquireAt(start, Default)
			p.ReleaseAt(end, Success)
		}
	}
}

func throughGate() func(n int) {
	g := new(gate)
	g.setLimit(0, 1<<20)
	return func(n int) {
		for range n {
			g.enter(0, 1, 0)
			g.leave(0)
		}
	}
}

func readClock(n int) {
	base := time.Now()
	for range n {
		if time.Since(base) > 2*time.Since(base)+time.Hour {
			panic("the clock goes back")
		}
	}
}

func semaphore() func(n int) {
	var mu sync.Mutex
	size, used := 1<<20, 0
	return func(n int) {
		for range n {
			mu.Lock()
			if used < size {
				used++
			}
			mu.Unlock()
			mu.Lock()
			used--
			mu.Unlock()
		}
	}
}

func add() func(n int) {
	word := new(atomic.Uint64)
	return func(n int) {
		for range n {
			word.Add(1)
		}
	}
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
