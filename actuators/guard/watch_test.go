package guard_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/source"
)

// watching records what Watch applies.
type watching struct {
	store source.Memory
	stop  func()

	mu      sync.Mutex
	applied []actuators.Setting
}

func startWatch(t *testing.T, src func(*source.Memory) guard.Source) *watching {
	t.Helper()
	w := new(watching)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := guard.Watch(ctx, src(&w.store), "checkout", func(s actuators.Setting) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.applied = append(w.applied, s)
		}); err != nil {
			t.Error(err)
		}
	}()
	w.stop = func() {
		cancel()
		<-done
	}
	return w
}

func plain(m *source.Memory) guard.Source { return m }

// last returns what was applied last, after time for anything that is due.
func (w *watching) last(t *testing.T, after time.Duration) actuators.Setting {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.applied) == 0 {
		t.Fatal("nothing was applied")
	}
	return w.applied[len(w.applied)-1]
}

// calls is how often Watch has applied something.
func (w *watching) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.applied)
}

// knobs is a Setting with all knobs and a lease of a minute.
func knobs(epoch, revision uint64) actuators.Setting {
	return actuators.Setting{
		Schema: actuators.Schema, Service: "checkout", Epoch: epoch, Revision: revision, LeaseSeconds: 60,
		Concurrency: &actuators.Concurrency{
			Limit: 80, Ceiling: 90, LatencyTargetSeconds: 0.1, Fallback: 20, Min: 10, Max: 100,
		},
		Rate:  &actuators.Rate{PerSecond: 400, Burst: 40, Instances: 4, Borrow: 2, Fallback: 100, Min: 10, Max: 1000},
		Shed:  &actuators.Shed{Threshold: 0.5, Fallback: 1, Max: 1},
		Retry: &actuators.Retry{BudgetRatio: 0, Fallback: 0.1, Max: 1},
	}
}

func TestWatchAppliesWhatAGuardWouldAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, plain)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := w.calls(); n != 0 {
			t.Fatalf("applied %d times before there was a Setting", n)
		}
		set := func(s actuators.Setting) {
			t.Helper()
			if err := w.store.Set(s); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		set(knobs(2, 5))
		if s := w.last(t, 0); s.Revision != 5 || s.Concurrency.Limit != 80 || s.Rate.PerSecond != 400 || w.calls() != 1 {
			t.Errorf("%+v after %d calls", s, w.calls())
		}
		w.store.SetRaw("checkout", actuators.Part{}, []byte("{"))
		synctest.Wait()
		set(knobs(1, 6)) // of a leader that has been replaced
		set(knobs(2, 4)) // older
		other := knobs(2, 5)
		other.Shed.Threshold = 0.9
		set(other) // other content under a known revision
		w.store.Delete("checkout", actuators.Part{})
		synctest.Wait()
		if w.calls() != 1 {
			t.Errorf("applied what a guard refuses: %+v", w.last(t, 0))
		}
		fewer := knobs(2, 6)
		fewer.Rate, fewer.Retry = nil, nil
		fewer.Concurrency.Limit = 70
		set(fewer)
		if s := w.last(t, 0); s.Concurrency.Limit != 70 || s.Rate == nil || s.Rate.PerSecond != 400 {
			t.Errorf("a knob that the newest Setting lacks: %+v", s)
		}
		w.stop()
	})
}

// When nobody renews the lease, all knobs go to their fallbacks in the course of one more lease, and stay there.
func TestWatchDriftsToTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, plain)
		if err := w.store.Set(knobs(2, 5)); err != nil {
			t.Fatal(err)
		}
		if s := w.last(t, 59*time.Second); s.Concurrency.Limit != 80 || s.Concurrency.Ceiling != 90 || s.Rate.Borrow != 2 {
			t.Errorf("under the lease: %+v", s)
		}
		if s := w.last(t, 2*time.Second); s.Concurrency.Limit != 80 || s.Concurrency.Ceiling != 100 || s.Rate.Borrow != 0 {
			t.Errorf("when it has run out: %+v", s)
		}
		s := w.last(t, 30*time.Second)
		if l := s.Concurrency.Limit; l < 38 || l > 45 { // √(80·20) = 40
			t.Errorf("half a lease later: limit %d", l)
		}
		if p := s.Shed.Threshold; p < 0.7 || p > 0.8 {
			t.Errorf("half a lease later: threshold %g", p)
		}
		s = w.last(t, 40*time.Second)
		if s.Concurrency.Limit != 20 || s.Rate.PerSecond != 100 || s.Shed.Threshold != 1 || s.Retry.BudgetRatio != 0.1 {
			t.Errorf("in the end: %+v %+v %+v %+v", s.Concurrency, s.Rate, s.Shed, s.Retry)
		}
		n := w.calls()
		if n < 10 || n > 20 {
			t.Errorf("%d calls for one drift", n)
		}
		if w.last(t, 24*time.Hour); w.calls() != n {
			t.Error("something was applied after the drift")
		}
		if err := w.store.Set(knobs(1, 1)); err != nil { // the store was wiped
			t.Fatal(err)
		}
		if s := w.last(t, 0); s.Epoch != 1 || s.Concurrency.Limit != 80 {
			t.Errorf("after the wipe: %+v", s)
		}
		w.stop()
	})
}

// failing is a source that ends at once, at first.
type failing struct {
	*source.Memory
	left *int
}

func (f failing) WatchParts(ctx context.Context, service string, apply func(part actuators.Part, raw []byte)) error {
	if *f.left--; *f.left >= 0 {
		return errors.New("no store")
	}
	return f.Memory.WatchParts(ctx, service, apply)
}

func TestWatchSurvivesItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 3
		w := startWatch(t, func(m *source.Memory) guard.Source { return failing{m, &left} })
		if err := w.store.Set(knobs(2, 5)); err != nil {
			t.Fatal(err)
		}
		if s := w.last(t, 2*time.Minute); s.Revision != 5 || left >= 0 {
			t.Errorf("%+v, %d failures left", s, left)
		}
		w.stop()
	})
	if err := guard.Watch(t.Context(), new(source.Memory), "a/b", nil); err == nil {
		t.Error("watched a bad name")
	}
}

func TestPartOfARate(t *testing.T) {
	for _, tc := range []struct {
		rate actuators.Rate
		want string
	}{
		{actuators.Rate{PerSecond: 400, Burst: 40, Instances: 4, Max: 1000}, "100 10"},
		{actuators.Rate{PerSecond: 400, Burst: 40, Instances: 4, Borrow: 2, Max: 1000}, "200 20"},
		{actuators.Rate{PerSecond: 400, Burst: 2, Instances: 4, Borrow: 0.5, Max: 1000}, "100 1"},
		{actuators.Rate{PerSecond: 0, Burst: 1, Instances: 1, Max: 1000}, "0 1"},
		{actuators.Rate{PerSecond: 1000, Burst: 40, Instances: 4, Max: 1000}, "+Inf 0"},
	} {
		if got := fmt.Sprint(tc.rate.Part()); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.rate, got, tc.want)
		}
	}
}
