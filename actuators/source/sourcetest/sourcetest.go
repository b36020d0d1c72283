// Package sourcetest is the contract of guard's Source and PartSource: what every place that Settings come from must do,
// whatever it is made of. A test of a source runs it:
//
//	func TestContract(t *testing.T) {
//		sourcetest.Run(t, func(t *testing.T) sourcetest.Subject { ... })
//	}
//
// Each test runs in fake time (testing/synctest), so a source may poll, back off and wait as long as it likes, but must not
// wait for another process.
package sourcetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
)

// Subject is a source under test, with a way to change what it delivers.
type Subject struct {
	Source guard.Source
	// Put stores the bytes as one of the Settings of the service; nil if what the source delivers is fixed.
	Put func(t *testing.T, service string, part actuators.Part, raw []byte)
	// Delete removes them.
	Delete func(t *testing.T, service string, part actuators.Part)
	// Single says that the source has one Setting for whoever asks, so its service is not looked at.
	Single bool
}

// Service is the service that the contract watches.
const Service = "checkout"

// Setting is a valid Setting of Service that is as new as its revision.
func Setting(revision uint64) actuators.Setting {
	return actuators.Setting{
		Schema: actuators.Schema, Service: Service, Epoch: 1, Revision: revision, LeaseSeconds: 180,
		Concurrency: &actuators.Concurrency{
			Limit: 40, Ceiling: 80, LatencyTargetSeconds: 0.1, Fallback: 20, Min: 10, Max: 100,
		},
	}
}

// patience is longer than any source takes to deliver a change.
const patience = 3 * time.Minute

// Run runs the contract. start returns a source that is empty, if it can be, and else holds Setting(1).
func Run(t *testing.T, start func(t *testing.T) Subject) {
	t.Helper()
	for _, test := range []struct {
		name    string
		changes bool // the source must be able to
		run     func(t *testing.T, s Subject)
	}{
		{"GuardObeys", false, guardObeys},
		{"EndsWithItsContext", false, endsWithItsContext},
		{"RefusesBadNames", false, refusesBadNames},
		{"DeliversEachChangeOnce", true, deliversEachChangeOnce},
		{"DeletedAndMissingAreNil", true, deletedAndMissingAreNil},
		{"DeliversBytesAsTheyAre", true, deliversBytesAsTheyAre},
		{"LooksAtItsOwnService", true, looksAtItsOwnService},
		{"ServesSeveral", true, servesSeveral},
		{"DeliversParts", true, deliversParts},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t)
				if test.changes && s.Put == nil {
					t.Skip("the source is fixed")
				}
				test.run(t, s)
				time.Sleep(2 * time.Second) // for what a source has abandoned
			})
		})
	}
}

// watched is a watch that runs until the test ends it.
type watched struct {
	mu     sync.Mutex
	values []string
	inside int
	end    func() error
}

const none = "<nil>"

func (w *watched) apply(t *testing.T, part actuators.Part, raw []byte) {
	w.mu.Lock()
	w.inside++
	if w.inside > 1 {
		t.Error("two calls of apply at once")
	}
	value := string(raw)
	if raw == nil {
		value = none
	}
	if part != (actuators.Part{}) {
		value = part.Callee + part.Route + "=" + value
	}
	w.values = append(w.values, value)
	w.mu.Unlock()
	clear(raw) // the bytes are the receiver's
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	w.inside--
	w.mu.Unlock()
}

// watch follows the service, and its parts if src is a PartSource and parts is true.
func watch(t *testing.T, src guard.Source, service string, parts bool) *watched {
	t.Helper()
	w := &watched{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		if parts {
			done <- src.(guard.PartSource).WatchParts(ctx, service, func(part actuators.Part, raw []byte) { w.apply(t, part, raw) })
		} else {
			done <- src.Watch(ctx, service, func(raw []byte) { w.apply(t, actuators.Part{}, raw) })
		}
	}()
	w.end = func() error {
		cancel()
		return <-done
	}
	t.Cleanup(cancel)
	return w
}

// expect waits as long as a change may take, and compares all that has been delivered.
func (w *watched) expect(t *testing.T, values ...string) {
	t.Helper()
	time.Sleep(patience)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.values, values) {
		t.Errorf("delivered %q, want %q", w.values, values)
	}
}

// expectLast is expect for the last value alone.
func (w *watched) expectLast(t *testing.T, value string) {
	t.Helper()
	time.Sleep(patience)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.values); n == 0 || w.values[n-1] != value {
		t.Errorf("delivered %q, want %q at last", w.values, value)
	}
}

// stop ends the watch.
func (w *watched) stop(t *testing.T) {
	t.Helper()
	if err := w.end(); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v, want the error of its context", err)
	}
}

func encoded(t *testing.T, s actuators.Setting) []byte {
	t.Helper()
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func guardObeys(t *testing.T, s Subject) {
	if s.Put != nil {
		s.Put(t, Service, actuators.Part{}, encoded(t, Setting(1)))
	}
	g, err := guard.New(guard.Config{Service: Service, SLO: 300 * time.Millisecond, NoReflex: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Run(ctx, s.Source)
	}()
	time.Sleep(patience / 2)
	synctest.Wait()
	if got := g.Snapshot(); got.Limit != 40 || !got.Leased || got.Revision < 1 {
		t.Errorf("limit %d of revision %d, leased %v", got.Limit, got.Revision, got.Leased)
	}
	cancel()
	<-done
}

func endsWithItsContext(t *testing.T, s Subject) {
	w := watch(t, s.Source, Service, false)
	time.Sleep(patience)
	w.stop(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Source.Watch(ended, Service, func([]byte) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("under a context that had ended: %v", err)
	}
}

func refusesBadNames(t *testing.T, s Subject) {
	for _, name := range []string{"", "a//b", "../x", "a\nb"} {
		if err := s.Source.Watch(t.Context(), name, func([]byte) { t.Error("delivered") }); err == nil {
			t.Errorf("watched %q", name)
		}
		if parts, ok := s.Source.(guard.PartSource); ok {
			if err := parts.WatchParts(t.Context(), name, func(actuators.Part, []byte) { t.Error("delivered") }); err == nil {
				t.Errorf("watched the parts of %q", name)
			}
		}
	}
}

func deliversEachChangeOnce(t *testing.T, s Subject) {
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	w := watch(t, s.Source, Service, false)
	w.expect(t, "1")
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	w.expect(t, "1")
	s.Put(t, Service, actuators.Part{}, []byte("2"))
	w.expect(t, "1", "2")
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	w.expect(t, "1", "2", "1")
	w.stop(t)
}

func deletedAndMissingAreNil(t *testing.T, s Subject) {
	w := watch(t, s.Source, Service, false)
	w.expect(t, none)
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	w.expect(t, none, "1")
	s.Delete(t, Service, actuators.Part{})
	w.expect(t, none, "1", none)
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	w.expect(t, none, "1", none, "1")
	w.stop(t)
}

func deliversBytesAsTheyAre(t *testing.T, s Subject) {
	s.Put(t, Service, actuators.Part{}, []byte{})
	w := watch(t, s.Source, Service, false)
	w.expect(t, "")
	s.Put(t, Service, actuators.Part{}, []byte("{ not JSON\x00\n"))
	w.expect(t, "", "{ not JSON\x00\n")
	w.stop(t)
}

func looksAtItsOwnService(t *testing.T, s Subject) {
	if s.Single {
		t.Skip("the source has one Setting")
	}
	s.Put(t, "search", actuators.Part{}, []byte("1"))
	s.Put(t, Service+"2", actuators.Part{}, []byte("2"))
	w := watch(t, s.Source, Service, false)
	w.expect(t, none)
	w.stop(t)
}

func servesSeveral(t *testing.T, s Subject) {
	a, b := watch(t, s.Source, Service, false), watch(t, s.Source, Service, false)
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	a.expectLast(t, "1")
	b.expectLast(t, "1")
	a.stop(t)
	s.Put(t, Service, actuators.Part{}, []byte("2"))
	b.expectLast(t, "2")
	b.stop(t)
}

func deliversParts(t *testing.T, s Subject) {
	if _, ok := s.Source.(guard.PartSource); !ok {
		t.Skip("the source has no Settings of routes and calls")
	}
	s.Put(t, Service, actuators.Part{}, []byte("1"))
	s.Put(t, Service, actuators.Part{Callee: "payments"}, []byte("2"))
	s.Put(t, Service, actuators.Part{Callee: "search"}, []byte("3"))
	s.Put(t, "search", actuators.Part{Callee: "payments"}, []byte("4"))
	s.Put(t, Service, actuators.Part{Route: "export"}, []byte("6"))
	w := watch(t, s.Source, Service, true)
	w.expect(t, "1", "payments=2", "search=3", "export=6")
	s.Delete(t, Service, actuators.Part{Route: "export"})
	w.expect(t, "1", "payments=2", "search=3", "export=6", "export="+none)
	s.Delete(t, Service, actuators.Part{Callee: "payments"})
	w.expect(t, "1", "payments=2", "search=3", "export=6", "export="+none, "payments="+none)
	s.Delete(t, Service, actuators.Part{})
	w.expect(t, "1", "payments=2", "search=3", "export=6", "export="+none, "payments="+none, none)
	s.Put(t, Service, actuators.Part{Callee: "payments"}, []byte("5"))
	w.expect(t, "1", "payments=2", "search=3", "export=6", "export="+none, "payments="+none, none, "payments=5")
	w.stop(t)
	alone := watch(t, s.Source, Service, false)
	alone.expect(t, none)
	alone.stop(t)
}
