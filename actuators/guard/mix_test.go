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

// A slow API fails at once, its callers send more, and the others queue: by what it takes in calm, the mean might be 0.2 s longer.
func TestFailingAtOnceHidesNoQueue(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		p := newPlant(simGuard(t, Config{Fallback: 1000, Min: 4, Max: 1000}), seed)
		p.servers, p.export = 32, time.Second
		p.rate, p.exports = 288, 8.0/288
		p.run(2 * time.Minute)
		p.rate, p.exports, p.export = 1500, 0.2, 5*time.Millisecond
		p.run(10 * time.Second)
		p.run(20 * time.Second)
		if late := float64(p.slow) / float64(p.good+p.slow); p.refused == 0 || late > 0.05 {
			t.Errorf("a mean of %v, %.0f%% are late, and %d were refused", p.mean(), 100*late, p.refused)
		}
	})
}

// What a request waits for in guarded calls is known anyway, and counts once.
func TestCallsAreNoMix(t *testing.T) {
	g := simGuard(t, Config{Fallback: 1000, Min: 4, Max: 1000})
	d, now := g.Dependency("db"), epoch
	ask := func(route string, call time.Duration) {
		p, err := g.AdmitAt(now, Arrival{Route: route})
		if err != nil {
			t.Fatal(err)
		}
		if call > 0 {
			c := d.StartAt(NewContext(t.Context(), p), now, CallOptions{})
			a, err := c.TryAt(now, "")
			if err != nil {
				t.Fatal(err)
			}
			a.DoneAt(now.Add(call), Result{})
		}
		p.ReleaseAt(now.Add(call+40*time.Millisecond), Success)
	}
	for range 1000 {
		ask("/calls", 500*time.Millisecond)
		for range 9 {
			ask("/works", 0)
		}
		now = now.Add(100 * time.Millisecond)
	}
	from := g.tally(now.Sub(epoch))
	for range 100 {
		ask("/calls", 500*time.Millisecond)
		ask("/works", 0)
	}
	if w := g.tally(now.Sub(epoch) + time.Second).since(from); math.Abs(w.alone()-0.04) > 1e-6 {
		t.Errorf("of a mean of %.0f ms, the service's own is %.0f, want 40", 1e3*w.mean, 1e3*w.alone())
	}
}

// Requests whose latency counts for nothing neither shift the mean nor teach what is usual.
func TestUncountedRequestsAreNoMix(t *testing.T) {
	g := simGuard(t, Config{Fallback: 1000, Min: 4, Max: 1000})
	d, now := g.Dependency("db"), epoch
	ask := func(route string, took time.Duration, o Outcome, unmet bool) {
		p, err := g.AdmitAt(now, Arrival{Route: route})
		if err != nil {
			t.Fatal(err)
		}
		if unmet {
			c := d.StartAt(NewContext(t.Context(), p), now, CallOptions{})
			a, err := c.TryAt(now, "")
			if err != nil {
				t.Fatal(err)
			}
			a.DoneAt(now, Result{Outcome: Failure, Advice: Advice{NoRetry: true}})
		}
		p.ReleaseAt(now.Add(took), o)
	}
	calm := func(o Outcome) {
		for range 1000 {
			ask("/slow", time.Second, o, false)
			for range 9 {
				ask("/fast", 40*time.Millisecond, Success, false)
			}
			now = now.Add(100 * time.Millisecond)
		}
	}
	calm(Ignored)
	ask("/slow", time.Second, Success, false)
	if shifted := g.tally(now.Sub(epoch)).shifted; shifted != 0 {
		t.Errorf("ignored requests teach, so that the shift is %v s", shifted)
	}
	calm(Success)
	for _, c := range []struct {
		name  string
		took  time.Duration
		o     Outcome
		unmet bool
	}{
		{"ignored", time.Second, Ignored, false},
		{"canceled soon", time.Millisecond, Canceled, false},
		{"cut short by a call", time.Millisecond, Failure, true},
	} {
		from := g.tally(now.Sub(epoch))
		ask("/slow", c.took, c.o, c.unmet)
		if w := g.tally(now.Sub(epoch)); w.finished != from.finished || w.shifted != from.shifted {
			t.Errorf("%s: %d are counted, and shift by %v s", c.name, w.finished-from.finished, w.shifted-from.shifted)
		}
	}
}

// finish counts a request of an API that took so long, all of it its own.
func (f *fair) finish(id uint64, took time.Duration) { f.complete(id, Default, took, took) }

// A fifth of the requests is of an API that takes 1 s, the others take 50 ms: 240 ms on average. How long they take while
// they queue is no matter.
func TestShiftsOfTheMix(t *testing.T) {
	slow, fast, unknown := idOf("slow"), idOf("fast"), idOf("unknown")
	learned := func(queue time.Duration) *fair {
		f := &fair{mix: mix{longest: 3 * time.Second}}
		for range 100 {
			f.finish(slow, time.Second+queue)
			for range 4 {
				f.finish(fast, 50*time.Millisecond+queue)
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
			f.finish(slow, time.Second)
			for range 4 {
				f.finish(fast, time.Second)
			}
		}, 0},
		{"slow ones", 0, func(f *fair) { f.finish(slow, time.Second) }, 0.76},
		{"fast ones that queue", 0, func(f *fair) { f.finish(fast, 2*time.Second) }, -0.19},
		{"a queue that was taken for calm", 500 * time.Millisecond, func(f *fair) { f.finish(slow, time.Second) }, 0.76},
		{"an API that is not known", 0, func(f *fair) { f.finish(unknown, time.Second) }, 0},
		{"no API", 0, func(f *fair) { f.finish(0, time.Second) }, 0},
		{"one that may be excused", 0, func(f *fair) { f.finish(slow, 3*time.Second) }, 0},
		{"an overload teaches nothing", 0, func(f *fair) {
			for range 100 {
				f.finish(fast, 2*time.Second)
			}
			f.learnMix(lesson{span: 2 * time.Second})
			f.mix.shifted = 0
			f.finish(slow, time.Second)
		}, 0.76},
		{"but that an API has become faster", 0, func(f *fair) {
			for range 10 { // s
				for range 10 {
					f.finish(slow, 100*time.Millisecond)
					f.finish(fast, 2*time.Second)
				}
				f.learnMix(lesson{span: time.Second})
			}
			f.mix.shifted = 0
			f.finish(slow, 100*time.Millisecond)
		}, 0.04},
		{"the fast ones of a burst finish first", 0, func(f *fair) {
			for range 100 {
				f.finish(slow, 500*time.Millisecond)
			}
			f.learnMix(lesson{span: 2 * time.Second})
			f.mix.shifted = 0
			f.finish(slow, time.Second)
		}, 0.76},
	} {
		f := learned(c.queue)
		if c.do(f); math.Abs(f.shifted()-c.want) > 1e-9 {
			t.Errorf("%s: shifted by %v s, want %v s", c.name, f.shifted(), c.want)
		}
	}
}
