package consul_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
)

// bench is a store with the leader's lock taken, and a publisher behind a link.
type bench struct {
	store     *consultest.Fake
	link      *faultyStore
	client    *consul.Client
	publisher *consul.Publisher
	fence     consul.Fence
}

func newBench(t *testing.T, epoch uint64, options consul.PublisherOptions) *bench {
	t.Helper()
	b := &bench{store: consultest.NewFake()}
	b.link = &faultyStore{store: b.store}
	b.client = b.store.Client()
	b.publisher = consul.NewPublisher(consultest.ClientOf(b.link), actuators.Keys{}, options)
	id, _, err := b.client.Session().CreateNoChecks(&api.SessionEntry{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.fence = consul.Fence{Key: actuators.Keys{}.Leader(), Session: id, Epoch: epoch}
	if ok, _, err := b.client.KV().Acquire(&api.KVPair{Key: b.fence.Key, Session: id}, nil); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return b
}

func (b *bench) setting(service string, limit int, last actuators.Setting) actuators.Setting {
	return consultest.Setting(service, limit, b.fence.Epoch, last)
}

func (b *bench) stored(t *testing.T, service string) (actuators.Setting, uint64) {
	t.Helper()
	pair := b.store.Pair(actuators.Keys{}.Setting(service))
	if pair == nil {
		return actuators.Setting{}, 0
	}
	s, err := actuators.Decode(pair.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s, pair.ModifyIndex
}

// Item A21: openark/orchestrator#1302: 525 operations exceeded the limit of 64 in production. Here each service is one
// small transaction, and a failure affects no other service.
func TestFleetThatChangesAtOnceIsWrittenServiceByService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, consul.PublisherOptions{})
		var inFlight, most, operations atomic.Int64
		b.link.fail(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/txn" {
				return false
			}
			if n := inFlight.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer inFlight.Add(-1)
			time.Sleep(5 * time.Millisecond)
			operations.Add(1)
			b.store.ServeHTTP(w, r)
			return true
		})
		// Somebody else has written service 17.
		mine := &api.KVPair{Key: actuators.Keys{}.Setting("service-17"), Value: []byte("mine")}
		if _, err := b.client.KV().Put(mine, nil); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		errs := make([]error, 200)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				s := b.setting(fmt.Sprintf("service-%d", i), 40, actuators.Setting{})
				_, errs[i] = b.publisher.Publish(t.Context(), b.fence, s, 0)
			})
		}
		all.Wait()
		for i, err := range errs {
			if i == 17 {
				if !errors.Is(err, consul.ErrConflict) {
					t.Errorf("service 17: %v, want ErrConflict", err)
				}
			} else if err != nil {
				t.Errorf("service %d: %v", i, err)
			}
		}
		if operations.Load() != 200 {
			t.Errorf("%d transactions for 200 services", operations.Load())
		}
		if most.Load() > 8 {
			t.Errorf("%d transactions at once, want at most 8", most.Load())
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the fleet took %s", took)
		}
	})
}

func TestWriteWithoutTheLockIsFencedWhateverElseIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, consul.PublisherOptions{})
		if _, err := b.client.Session().Destroy(b.fence.Session, nil); err != nil {
			t.Fatal(err)
		}
		for name, index := range map[string]uint64{"good index": 0, "stale index": 3} {
			_, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 40, actuators.Setting{}), index)
			if !errors.Is(err, consul.ErrFenced) || errors.Is(err, consul.ErrConflict) {
				t.Errorf("%s: %v, want ErrFenced", name, err)
			}
		}
	})
}

// A timeout says nothing about the write. The key does.
func TestLostAnswerIsLookedUp(t *testing.T) {
	txnOnly := func(do func(r *http.Request)) func(http.ResponseWriter, *http.Request) bool {
		return func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/txn" {
				return false
			}
			do(r)
			<-r.Context().Done()
			return true
		}
	}
	t.Run("it was written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, consul.PublisherOptions{})
			b.link.fail(txnOnly(func(r *http.Request) { b.store.ServeHTTP(discard{}, r) }))
			index, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 40, actuators.Setting{}), 0)
			if _, stored := b.stored(t, "checkout"); err != nil || index != stored || index == 0 {
				t.Errorf("index %d, %v; want %d, as stored", index, err, stored)
			}
		})
	})
	t.Run("it was not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, consul.PublisherOptions{})
			b.link.fail(txnOnly(func(*http.Request) {}))
			start := time.Now()
			_, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 40, actuators.Setting{}), 0)
			if !errors.Is(err, consul.ErrUnknown) {
				t.Errorf("%v, want ErrUnknown: it may still land", err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("the call took %s", took)
			}
		})
	})
	t.Run("nothing can be known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, consul.PublisherOptions{})
			b.link.fail(hang)
			start := time.Now()
			_, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 40, actuators.Setting{}), 0)
			if !errors.Is(err, consul.ErrUnknown) {
				t.Errorf("%v, want ErrUnknown", err)
			}
			if took := time.Since(start); took > 3500*time.Millisecond {
				t.Errorf("the call took %s, want a bounded time", took)
			}
		})
	})
	t.Run("it lands late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 1, consul.PublisherOptions{})
			first := b.setting("checkout", 40, actuators.Setting{})
			index, err := b.publisher.Publish(t.Context(), b.fence, first, 0)
			if err != nil {
				t.Fatal(err)
			}
			late := make(chan struct{})
			landed := make(chan struct{})
			b.link.fail(txnOnly(func(r *http.Request) {
				body := r.Clone(t.Context())
				go func() { <-late; b.store.ServeHTTP(discard{}, body); close(landed) }()
			}))
			second := b.setting("checkout", 50, first)
			if _, err := b.publisher.Publish(t.Context(), b.fence, second, index); !errors.Is(err, consul.ErrUnknown) {
				t.Fatalf("%v, want ErrUnknown", err)
			}
			b.link.mend()
			third := b.setting("checkout", 60, second)
			if _, err := b.publisher.Publish(t.Context(), b.fence, third, index); err != nil {
				t.Fatal(err)
			}
			close(late)
			<-landed
			if s, _ := b.stored(t, "checkout"); s.Concurrency.Limit != 60 {
				t.Errorf("limit %d: the late write overtook the newer one", s.Concurrency.Limit)
			}
		})
	})
}

// Item A21: a proxy in front of Consul has a lower size limit, hashicorp/consul#7278.
func TestTooLargeIsSaidSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, consul.PublisherOptions{})
		s := b.setting("checkout", 40, actuators.Setting{})
		s.Reason = strings.Repeat("x", 400<<10)
		if _, err := b.publisher.Publish(t.Context(), b.fence, s, 0); !errors.Is(err, consul.ErrTooLarge) {
			t.Errorf("400 kB: %v, want ErrTooLarge", err)
		}
		b.link.fail(func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "Request body(700 bytes) too large, max size: 512 bytes.", http.StatusRequestEntityTooLarge)
			return true
		})
		_, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 40, actuators.Setting{}), 0)
		if !errors.Is(err, consul.ErrTooLarge) || !strings.Contains(err.Error(), "512") {
			t.Errorf("413: %v, want ErrTooLarge in Consul's words", err)
		}
	})
}

func TestWriterRefusesWhatReadersWould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 42, consul.PublisherOptions{})
		first := b.setting("checkout", 40, actuators.Setting{})
		index, err := b.publisher.Publish(t.Context(), b.fence, first, 0)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*actuators.Setting){
			"above the hard bound": func(s *actuators.Setting) { s.Concurrency.Limit = 1001 },
			"not a number":         func(s *actuators.Setting) { s.Concurrency.LatencyTargetSeconds = math.NaN() },
			"bad name":             func(s *actuators.Setting) { s.Service = "a//b" },
			"other epoch":          func(s *actuators.Setting) { s.Epoch = 41 },
			"same revision":        func(s *actuators.Setting) { s.Revision = first.Revision },
		} {
			next := b.setting("checkout", 50, first)
			next.Concurrency = new(*next.Concurrency)
			change(&next)
			if _, err := b.publisher.Publish(t.Context(), b.fence, next, index); !errors.Is(err, consul.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
		}
		_, err = b.publisher.Publish(t.Context(), consul.Fence{Epoch: 42}, b.setting("checkout", 50, first), index)
		if !errors.Is(err, consul.ErrInvalid) {
			t.Errorf("without a fence: %v, want ErrInvalid", err)
		}
		// An epoch that no leader can follow keeps nobody from writing.
		last := first
		last.Epoch = actuators.MaxOrdinal
		far, err := last.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.KV().Put(&api.KVPair{Key: actuators.Keys{}.Setting("checkout"), Value: far}, nil); err != nil {
			t.Fatal(err)
		}
		found, err := b.publisher.Read(t.Context(), "checkout")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 50, first), found.Index); err != nil {
			t.Errorf("after the last epoch: %v", err)
		}
		// Somebody wrote a higher epoch: writing on under 42 would move the store backwards.
		ahead := first
		ahead.Epoch = 99
		raw, err := ahead.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.KV().Put(&api.KVPair{Key: actuators.Keys{}.Setting("checkout"), Value: raw}, nil); err != nil {
			t.Fatal(err)
		}
		read, err := b.publisher.Read(t.Context(), "checkout")
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 50, read.Setting), read.Index)
		if !errors.Is(err, consul.ErrInvalid) || actuators.ReasonOf(err) != actuators.RefusedOldEpoch ||
			!strings.Contains(err.Error(), "resign") {
			t.Errorf("over epoch 99: %v, want ErrInvalid that says to resign", err)
		}
	})
}

func TestMissingWriteRuleIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, consul.PublisherOptions{})
		b.link.fail(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"Results":null,"Errors":[{"OpIndex":0,"What":"failed session check"},`+
				`{"OpIndex":1,"What":"Permission denied"}]}`)
			return true
		})
		_, err := b.publisher.Publish(t.Context(), b.fence, b.setting("checkout", 40, actuators.Setting{}), 0)
		if !errors.Is(err, consul.ErrDenied) ||
			!strings.Contains(err.Error(), `key_prefix "governor/services/" { policy = "write" }`) {
			t.Errorf("%v, want ErrDenied that names the rule", err)
		}
	})
}
