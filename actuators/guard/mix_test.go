package guard

import (
	"math"
	"testing"
	"time"
)

// One API sends four times as many requests of 1 s, beside others of 40 ms, and nothing queues: the mean grows by half at least,
// and none of that counts.
func TestSlowerMixIsNoQueue(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := newPlant(simGuard(t, Config{Fallback: 1000, Min: 4, Max: 1000}), seed)
		p.servers, p.export = 1000, time.Second
		run := func(exports float64, span time.Duration) window {
			p.rate, p.exports = 280+exports, exports/(280+exports)
			p.run(5 * time.Second)
			from := p.g.tally(p.now)
			p.run(span)
			return p.g.tally(p.now).since(from)
		}
		before, after := run(8, 2*time.Minute), run(32, 10*time.Second)
		if after.mean < 1.5*before.mean || math.Abs(after.alone()/before.alone()-1) > 0.25 {
			t.Errorf("a mean of %.0f ms, %.0f of which count, becomes one of %.0f, %.0f of which count", 1e3*before.mean, 1e3*before.alone(),
				1e3*after.mean, 1e3*after.alone())
		}
	})
}

// A fifth of the requests is of an API that takes 1 s, the others take 50 ms: 240 ms on average. How long they take while
// they queue is no matter.
func TestShiftsOfTheMix(t *testing.T) {
	slow, fast, unknown := idOf("slow"), idOf("fast"), idOf("unknown")
	learned := func(queue time.Duration) *fair {
		f := &fair{mix: mix{longest: 3 * time.Second}}
		for range 100 {
			f.complete(slow, Default, time.Second+queue)
			for range 4 {
				f.complete(fast, Default, 50*time.Millisecond+queue)
			}
		}
		f.learnMix(lesson{span: 2 * time.Second, calm: true})
		return f
	}
	for _, c := range []struct {
		name  string
		queue time.Duration // while it learned
		do    func(f *fair)
		want  float64
	}{
		{"the mix of the calm", 0, func(f *fair) {
			f.complete(slow, Default, time.Second)
			for range 4 {
				f.complete(fast, Default, time.Second)
			}
		}, 0},
		{"slow ones", 0, func(f *fair) { f.complete(slow, Default, time.Second) }, 0.76},
		{"fast ones that queue", 0, func(f *fair) { f.complete(fast, Default, 2*time.Second) }, -0.19},
		{"a queue that was taken for calm", 500 * time.Millisecond, func(f *fair) { f.complete(slow, Default, time.Second) }, 0.76},
		{"an API that is not known", 0, func(f *fair) { f.complete(unknown, Default, time.Second) }, 0},
		{"no API", 0, func(f *fair) { f.complete(0, Default, time.Second) }, 0},
		{"one that may be excused", 0, func(f *fair) { f.complete(slow, Default, 3*time.Second) }, 0},
		{"an overload teaches nothing", 0, func(f *fair) {
			for range 100 {
				f.complete(fast, Default, 2*time.Second)
			}
			f.learnMix(lesson{span: 2 * time.Second})
			f.mix.shifted = 0
			f.complete(slow, Default, time.Second)
		}, 0.76},
	} {
		f := learned(c.queue)
		if c.do(f); math.Abs(f.shifted()-c.want) > 1e-9 {
			t.Errorf("%s: shifted by %v s, want %v s", c.name, f.shifted(), c.want)
		}
	}
}
