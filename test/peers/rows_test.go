package peers_test

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/go-kratos/aegis/circuitbreaker/sre"
	aegislimit "github.com/go-kratos/aegis/ratelimit"
	"github.com/go-kratos/aegis/ratelimit/bbr"
	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/sony/gobreaker/v2"
	"github.com/zeromicro/go-zero/core/breaker"
	"github.com/zeromicro/go-zero/core/load"
	"github.com/zeromicro/go-zero/core/logx"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// row is one line of the report. start makes what is measured and returns the loop that uses it, one in each goroutine.
type row struct {
	name  string
	start func(b *testing.B) func(pb *testing.PB)
	idles bool // it waits for others, so it cannot keep the cores busy
}

// BenchmarkPeers measures all rows: with -cpu 1 one goroutine, with -cpu 2 two that share the limiter. Beside the time
// that passes it reports what all cores together spent on an operation, which is no more while other programs run, too.
// The unit "cpus" is how many cores the row had. Two goroutines that took turns on one did not contend.
func BenchmarkPeers(b *testing.B) {
	for _, rows := range [][]row{floors, guards, refusals, peers, bindings} {
		for _, r := range rows {
			b.Run(r.name, func(b *testing.B) {
				loop := r.start(b)
				b.ReportAllocs()
				before := cpuTime(b)
				b.ResetTimer()
				b.RunParallel(loop)
				used := cpuTime(b) - before
				b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
				if !r.idles {
					b.ReportMetric(used.Seconds()/b.Elapsed().Seconds(), "cpus")
				}
			})
		}
	}
}

// much and perSec are limits that do not bind. cpuNever is a load of the machine, in thousandths, that it never has: a
// benchmark keeps the machine busy, and the limiters that look at that would refuse.
const (
	much     = 1 << 10
	perSec   = 1_000_000_000
	cpuNever = 1001
	slo      = 300 * time.Millisecond
)

// Sinks keep the compiler from leaving out what is measured.
var (
	sinkTime     atomic.Pointer[time.Time]
	sinkDuration atomic.Int64
)

// What any limiter with a clock, or with a counter, pays at least.
var floors = []row{
	{name: "clock/two_time.Since", start: func(*testing.B) func(*testing.PB) {
		base := time.Now()
		return func(pb *testing.PB) {
			var took time.Duration
			for pb.Next() {
				start := time.Since(base)
				took += time.Since(base) - start
			}
			sinkDuration.Store(int64(took))
		}
	}},
	{name: "clock/two_time.Now", start: func(*testing.B) func(*testing.PB) {
		return func(pb *testing.PB) {
			var took time.Duration
			var end time.Time
			for pb.Next() {
				start := time.Now()
				end = time.Now()
				took += end.Sub(start)
			}
			sinkDuration.Store(int64(took))
			sinkTime.Store(&end)
		}
	}},
	{name: "atomic/add", start: func(*testing.B) func(*testing.PB) {
		var n atomic.Int64
		return func(pb *testing.PB) {
			for pb.Next() {
				n.Add(1)
			}
		}
	}},
	{name: "sync/semaphore", start: func(*testing.B) func(*testing.PB) {
		s := semaphore.NewWeighted(much)
		return func(pb *testing.PB) {
			for pb.Next() {
				if s.TryAcquire(1) {
					s.Release(1)
				}
			}
		}
	}},
	{name: "time/rate", start: func(*testing.B) func(*testing.PB) {
		l := rate.NewLimiter(perSec, perSec)
		return func(pb *testing.PB) {
			for pb.Next() {
				l.Allow()
			}
		}
	}},
}

// A request admitted and released.
var guards = []row{
	// The limit as the whole of it: no rate, no shed threshold, no reflex, and the instants told instead of read.
	{name: "guard/limit,told_clock", start: func(b *testing.B) func(*testing.PB) {
		g := newGuard(b, guard.Config{Min: much, Max: much, NoReflex: true})
		start := time.Now()
		end := start.Add(40 * time.Millisecond)
		return func(pb *testing.PB) {
			for pb.Next() {
				p, err := g.AcquireAt(start, guard.Default)
				p.ReleaseAt(end, guard.Success)
				admitted(b, err)
			}
		}
	}},
	{name: "guard/limit", start: func(b *testing.B) func(*testing.PB) {
		return admit(b, newGuard(b, guard.Config{Min: much, Max: much}), "")
	}},
	{name: "guard/limit+rate+shed", start: func(b *testing.B) func(*testing.PB) {
		return admit(b, steered(b, slo, perSec), "")
	}},
	{name: "guard/limit+rate+shed+route", start: func(b *testing.B) func(*testing.PB) {
		return admitRoute(b, steered(b, slo, perSec))
	}},
	// A compartment of its own under a roof. A share that is in force is the limit in the compartment's word: it costs nothing.
	{name: "guard/limit+rate+shed+route+roof", start: func(b *testing.B) func(*testing.PB) {
		g := newGuard(b, guard.Config{
			Min: much, Max: much, Routes: map[string]guard.Route{"export": {SLO: slo, Min: much, Max: much}},
		})
		if err := g.ApplyRoute("export", setting(b, "checkout/export", perSec)); err != nil {
			b.Fatal(err)
		}
		return admitRoute(b, g)
	}},
	{name: "guard/limit+rate+shed+key", start: func(b *testing.B) func(*testing.PB) {
		return admit(b, steered(b, slo, perSec), "tenant-4711")
	}},
}

// A request refused.
var refusals = []row{
	{name: "guard/refuse_by_limit", start: func(b *testing.B) func(*testing.PB) {
		g := newGuard(b, guard.Config{Min: 1, Max: 1, SLO: time.Hour})
		hold(b, g, 1)
		return refuse(b, g, guard.Default)
	}},
	{name: "guard/refuse_by_rate", start: func(b *testing.B) func(*testing.PB) {
		g := steered(b, time.Hour, 1e-3)
		hold(b, g, 1)
		return refuse(b, g, guard.Default)
	}},
	{name: "guard/refuse_by_shed", start: func(b *testing.B) func(*testing.PB) {
		g := steered(b, time.Hour, perSec)
		hold(b, g, much*9/10)
		return refuse(b, g, guard.Background)
	}},
	{name: "sync/semaphore_refuse", start: func(*testing.B) func(*testing.PB) {
		s := semaphore.NewWeighted(1)
		s.TryAcquire(1)
		return func(pb *testing.PB) {
			for pb.Next() {
				s.TryAcquire(1)
			}
		}
	}},
	{name: "failsafe/adaptive_refuse", start: func(*testing.B) func(*testing.PB) {
		l := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).Build()
		l.TryAcquirePermit()
		return func(pb *testing.PB) {
			for pb.Next() {
				l.TryAcquirePermit()
			}
		}
	}},
}

var peers = []row{
	{name: "failsafe/bulkhead", start: func(*testing.B) func(*testing.PB) {
		l := bulkhead.New[any](much)
		return func(pb *testing.PB) {
			for pb.Next() {
				if l.TryAcquirePermit() {
					l.ReleasePermit()
				}
			}
		}
	}},
	{name: "failsafe/rate", start: func(*testing.B) func(*testing.PB) {
		l := ratelimiter.NewBursty[any](perSec, time.Second)
		return func(pb *testing.PB) {
			for pb.Next() {
				l.TryAcquirePermit()
			}
		}
	}},
	{name: "failsafe/breaker", start: func(*testing.B) func(*testing.PB) {
		l := circuitbreaker.NewWithDefaults[any]()
		return func(pb *testing.PB) {
			for pb.Next() {
				if l.TryAcquirePermit() {
					l.RecordSuccess()
				}
			}
		}
	}},
	{name: "failsafe/adaptive", start: func(b *testing.B) func(*testing.PB) {
		l := adaptive().Build()
		return func(pb *testing.PB) {
			for pb.Next() {
				p, ok := l.TryAcquirePermit()
				if !ok {
					b.Error("the limit binds")
					return
				}
				p.Record()
			}
		}
	}},
	{name: "failsafe/adaptive+priority", start: func(b *testing.B) func(*testing.PB) {
		l := adaptive().BuildPrioritized(adaptivelimiter.NewPrioritizer())
		ctx := b.Context()
		return func(pb *testing.PB) {
			for pb.Next() {
				p, err := l.AcquirePermitWithPriority(ctx, priority.Medium)
				if !admitted(b, err) {
					return
				}
				p.Record()
			}
		}
	}},
	{name: "failsafe/rate+breaker+adaptive", start: func(b *testing.B) func(*testing.PB) {
		executor := failsafe.With[any](ratelimiter.NewBursty[any](perSec, time.Second),
			circuitbreaker.NewWithDefaults[any](), adaptive().Build())
		return func(pb *testing.PB) {
			for pb.Next() {
				admitted(b, executor.Run(nothing))
			}
		}
	}},
	{name: "gobreaker", start: func(b *testing.B) func(*testing.PB) {
		l := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{})
		return func(pb *testing.PB) {
			for pb.Next() {
				done, err := l.Allow()
				if !admitted(b, err) {
					return
				}
				done(nil)
			}
		}
	}},
	{name: "aegis/bbr", start: func(b *testing.B) func(*testing.PB) {
		l := bbr.NewLimiter(bbr.WithCPUThreshold(cpuNever))
		return func(pb *testing.PB) {
			for pb.Next() {
				done, err := l.Allow()
				if !admitted(b, err) {
					return
				}
				done(aegislimit.DoneInfo{})
			}
		}
	}},
	{name: "aegis/sre_breaker", start: func(b *testing.B) func(*testing.PB) {
		l := sre.NewBreaker()
		return func(pb *testing.PB) {
			for pb.Next() {
				if admitted(b, l.Allow()) {
					l.MarkSuccess()
				}
			}
		}
	}},
	{name: "go-zero/shedder", start: func(b *testing.B) func(*testing.PB) {
		logx.Disable()
		l := load.NewAdaptiveShedder(load.WithCpuThreshold(cpuNever))
		return func(pb *testing.PB) {
			for pb.Next() {
				p, err := l.Allow()
				if !admitted(b, err) {
					return
				}
				p.Pass()
			}
		}
	}},
	{name: "go-zero/breaker", start: func(b *testing.B) func(*testing.PB) {
		l := breaker.NewBreaker()
		return func(pb *testing.PB) {
			for pb.Next() {
				p, err := l.Allow()
				if !admitted(b, err) {
					return
				}
				p.Accept()
			}
		}
	}},
}

// cpuTime is what the process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func nothing() error { return nil }

// adaptive is failsafe-go's adaptive limiter with a limit that does not move.
func adaptive() adaptivelimiter.Builder[any] {
	return adaptivelimiter.NewBuilder[any]().WithLimits(much, much, much)
}

// newGuard returns a guard whose SLO is 300 ms unless c says otherwise. One that refuses has a slot held for as long as the
// benchmark runs, and an SLO of an hour, so that it does not take what holds it for a request that never ends.
func newGuard(b *testing.B, c guard.Config) *guard.Guard {
	b.Helper()
	c.Service = "checkout"
	if c.SLO == 0 {
		c.SLO = slo
	}
	g, err := guard.New(c)
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// steered returns a guard with everything that a Setting can put in force: the limit, a shed threshold of 0.6, and a rate.
func steered(b *testing.B, slo time.Duration, perSecond float64) *guard.Guard {
	b.Helper()
	g := newGuard(b, guard.Config{Min: much, Max: much, SLO: slo})
	if err := g.Apply(setting(b, "checkout", perSecond)); err != nil {
		b.Fatal(err)
	}
	if s := g.Snapshot(); s.ShedThreshold != 0.6 || s.RateLimit != perSecond {
		b.Fatalf("in force are the shed threshold %v and the rate %v, want 0.6 and %v", s.ShedThreshold, s.RateLimit, perSecond)
	}
	return g
}

// setting is the Setting of steered.
func setting(b *testing.B, service string, perSecond float64) []byte {
	b.Helper()
	raw, err := actuators.Setting{
		Schema: actuators.Schema, Service: service, Epoch: 1, Revision: 1, LeaseSeconds: 86400, Reason: "benchmark",
		Concurrency: &actuators.Concurrency{
			Limit: much, Ceiling: much, LatencyTargetSeconds: 0.1, Fallback: much, Min: much, Max: much,
		},
		Rate: &actuators.Rate{
			PerSecond: perSecond, Burst: max(1, perSecond), Instances: 1, Fallback: perSecond, Min: perSecond, Max: 1e12,
		},
		Shed: &actuators.Shed{Threshold: 0.6, Fallback: 0.6, Min: 0, Max: 1},
	}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

// hold takes n slots until the benchmark has ended.
func hold(b *testing.B, g *guard.Guard, n int) {
	b.Helper()
	for range n {
		p, err := g.Acquire(b.Context(), guard.Critical)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.Release(guard.Ignored) })
	}
}

// admitted says whether err is nil, and fails the benchmark if it is not.
func admitted(b *testing.B, err error) bool {
	if err != nil {
		b.Error("refused:", err)
	}
	return err == nil
}

// admit acquires and releases.
func admit(b *testing.B, g *guard.Guard, key string) func(*testing.PB) {
	ctx := context.Background()
	return func(pb *testing.PB) {
		for pb.Next() {
			p, err := g.AcquireFor(ctx, guard.Default, key)
			p.Release(guard.Success)
			if !admitted(b, err) {
				return
			}
		}
	}
}

// admitRoute acquires and releases for a route.
func admitRoute(b *testing.B, g *guard.Guard) func(*testing.PB) {
	ctx := context.Background()
	return func(pb *testing.PB) {
		for pb.Next() {
			p, err := g.Admit(ctx, guard.Arrival{Criticality: guard.Default, Route: "/export"})
			p.Release(guard.Success)
			if !admitted(b, err) {
				return
			}
		}
	}
}

// refuse is refused.
func refuse(b *testing.B, g *guard.Guard, c guard.Criticality) func(*testing.PB) {
	ctx := context.Background()
	return func(pb *testing.PB) {
		for pb.Next() {
			if _, err := g.Acquire(ctx, c); err == nil {
				b.Error("admitted")
				return
			}
		}
	}
}
