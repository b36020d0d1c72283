package consul_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
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

// agent answers reads of a key as the test says, and records the time and index of each.
type agent struct {
	mu      sync.Mutex
	asked   []time.Time
	indexes []string
	answer  func(n int, w http.ResponseWriter, r *http.Request) // n counts from 1
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, time.Now())
	a.indexes = append(a.indexes, r.URL.Query().Get("index"))
	n := len(a.asked)
	a.mu.Unlock()
	a.answer(n, w, r)
}

func (a *agent) requests() (asked []time.Time, indexes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked), slices.Clone(a.indexes)
}

func value(w http.ResponseWriter, index uint64, body string) {
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	fmt.Fprintf(w, `[{"Key":"k","Value":%q,"ModifyIndex":1}]`, base64.StdEncoding.EncodeToString([]byte(body)))
}

// watched is a watch that runs for a while in fake time.
type watched struct {
	*agent
	mu     sync.Mutex
	values []string // "<nil>" for a key that does not exist
	errs   []error
}

func watchFor(t *testing.T, d time.Duration, answer func(n int, w http.ResponseWriter, r *http.Request)) *watched {
	t.Helper()
	w := &watched{agent: &agent{answer: answer}}
	watcher := consul.Watcher{Client: consultest.ClientOf(w.agent), OnError: func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.errs = append(w.errs, err)
	}}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := watcher.Watch(ctx, "checkout", func(raw []byte) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if raw == nil {
			w.values = append(w.values, "<nil>")
		} else {
			w.values = append(w.values, string(raw))
		}
	}); err == nil || ctx.Err() == nil {
		t.Errorf("Watch returned %v before its context ended", err)
	}
	time.Sleep(2 * time.Second) // for handlers that were abandoned
	return w
}

func (w *watched) expect(t *testing.T, values ...string) {
	t.Helper()
	if !slices.Equal(w.values, values) {
		t.Errorf("applied %q, want %q", w.values, values)
	}
}

func block(r *http.Request) { <-r.Context().Done() }

// Item A20a: hashicorp/consul PR 2621, cortexproject/cortex#1708: the index goes back and updates are missed forever.
func TestIndexThatGoesBackStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, time.Minute, func(n int, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 1:
				value(w, 900, "old")
			case 2:
				value(w, 40, "new")
			case 3:
				value(w, 41, "newer")
			default:
				block(r)
			}
		})
		w.expect(t, "old", "new", "newer")
		if _, indexes := w.requests(); !slices.Equal(indexes[:4], []string{"", "900", "", "41"}) {
			t.Errorf("asked with indexes %q, want none after it went back", indexes)
		}
	})
}

// Item A20b: hashicorp/consul PR 4437: index 0 causes a hot loop.
func TestIndexZeroIsNeverSentAndNeverHot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 30*time.Second, func(_ int, w http.ResponseWriter, _ *http.Request) { value(w, 0, "same") })
		w.expect(t, "same")
		asked, indexes := w.requests()
		for i, index := range indexes {
			if index != "" {
				t.Fatalf("request %d asks for index %q", i, index)
			}
		}
		if len(asked) > 31 || len(asked) < 25 {
			t.Errorf("%d requests in 30 s, want one a second", len(asked))
		}
	})
}

// Item A20c: hashicorp/consul#1244, #3890: queries return at once although nothing changed.
func TestUnchangedValueIsNoUpdateAndBoundsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 30*time.Second, func(n int, w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Millisecond)
			value(w, uint64(900+n), "same")
		})
		w.expect(t, "same")
		if asked, _ := w.requests(); len(asked) > 32 {
			t.Errorf("%d requests in 30 s for a value that never changes", len(asked))
		}
	})
}

func TestIndexZeroIsNotHotForAValueThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 30*time.Second, func(n int, w http.ResponseWriter, _ *http.Request) { value(w, 0, strconv.Itoa(n)) })
		if asked, _ := w.requests(); len(asked) > 31 {
			t.Errorf("%d requests in 30 s, want one a second", len(asked))
		}
	})
}

func TestValueThatAlwaysChangesBoundsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 10*time.Second, func(n int, w http.ResponseWriter, _ *http.Request) {
			value(w, uint64(900+n), strconv.Itoa(n))
		})
		if asked, _ := w.requests(); len(asked) > 101 || len(asked) != len(w.values) {
			t.Errorf("%d requests and %d values in 10 s, want at most ten a second", len(asked), len(w.values))
		}
	})
}

// Item A20d: a proxy cuts every long poll after a second. The watcher reads again at once, without the index.
func TestCutConnectionsAreRetriedWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 5*time.Minute, func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("index") == "" {
				value(w, 900, "same")
				return
			}
			time.Sleep(time.Second)
			panic(http.ErrAbortHandler)
		})
		w.expect(t, "same")
		asked, indexes := w.requests()
		if len(asked) > 5*60*2 || len(w.errs) < 60 {
			t.Errorf("%d requests and %d errors in 5 min", len(asked), len(w.errs))
		}
		distinct := map[time.Duration]bool{}
		for i := 1; i < len(asked); i++ {
			if indexes[i] == "" {
				distinct[asked[i].Sub(asked[i-1])] = true
			}
		}
		if len(distinct) < len(w.errs)/2 {
			t.Errorf("%d different pauses after %d cuts: no jitter", len(distinct), len(w.errs))
		}
	})
}

// The same for an agent that is down, restarting or says 429 "too many concurrent connections"
// (hashicorp/consul#11030).
func TestFailuresBackOffUpToTheCap(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusForbidden} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watchFor(t, time.Hour, func(_ int, w http.ResponseWriter, _ *http.Request) {
					http.Error(w, "Permission denied or so", status)
				})
				w.expect(t)
				asked, _ := w.requests()
				// A mean pause of 15 s once the backoff reaches its cap.
				if len(asked) < 120 || len(asked) > 400 {
					t.Errorf("%d requests in an hour, want about 240", len(asked))
				}
				for i := 1; i < len(asked); i++ {
					if pause := asked[i].Sub(asked[i-1]); pause > 30*time.Second {
						t.Errorf("a pause of %s, above the cap", pause)
					}
				}
				if len(w.errs) != len(asked) {
					t.Errorf("%d errors reported of %d", len(w.errs), len(asked))
				}
			})
		})
	}
}

// Item A20e, and A22: git2consul-go#46: the key vanishes. The reader hears of it, and again when the key is back.
func TestDeletedKeyIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 30*time.Second, func(n int, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 1:
				value(w, 10, "one")
			case 2, 3:
				w.Header().Set("X-Consul-Index", strconv.Itoa(10+n))
				w.WriteHeader(http.StatusNotFound)
			case 4:
				value(w, 20, "one")
			case 5:
				value(w, 21, "") // an empty value is a value
			default:
				block(r)
			}
		})
		w.expect(t, "one", "<nil>", "one", "")
	})
}

// Item A20f: hashicorp/nomad#10584: a query that never returns.
func TestHangingQueryEndsByTheClientsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 10*time.Minute, func(n int, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 1:
				value(w, 10, "one")
			case 2:
				block(r)
			case 3:
				value(w, 11, "two")
			default:
				block(r)
			}
		})
		w.expect(t, "one", "two")
		asked, _ := w.requests()
		wait := 50 * time.Second
		if hung := asked[2].Sub(asked[1]); hung < wait+wait/16 || hung > wait+wait/16+4*time.Second {
			t.Errorf("the hanging query was given up after %s, want %s and a little", hung, wait+wait/16)
		}
	})
}

// A reader that reconnects to what it already has must not take it for a renewed lease.
func TestReconnectingToTheSameValueIsNoUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchFor(t, 5*time.Minute, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n%2 == 0 {
				http.Error(w, "No cluster leader", http.StatusInternalServerError)
				return
			}
			value(w, 900, "same")
		})
		w.expect(t, "same")
		if len(w.errs) < 20 {
			t.Errorf("only %d reconnections", len(w.errs))
		}
	})
}

// Item A22: a thousand guards restart together while Consul is down.
func TestFirstConnectsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{answer: func(_ int, _ http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		start := time.Now()
		var all sync.WaitGroup
		for range 1000 {
			watcher := consul.Watcher{Client: consultest.ClientOf(a)}
			all.Go(func() { _ = watcher.Watch(ctx, "checkout", func([]byte) {}) })
		}
		all.Wait()
		asked, _ := a.requests()
		perSecond := map[int]int{}
		busiest := map[int]int{} // by 100 ms
		for _, at := range asked {
			perSecond[int(at.Sub(start)/time.Second)]++
			busiest[int(at.Sub(start)/(100*time.Millisecond))]++
		}
		for slot, n := range busiest {
			if n > 400 {
				t.Errorf("%d requests in the tenth of a second number %d", n, slot)
			}
		}
		if n := perSecond[100]; n > 200 {
			t.Errorf("%d requests in a second after 100 s of Consul being down", n)
		}
	})
}

func TestWatchRefusesABadServiceName(t *testing.T) {
	watcher := consul.Watcher{Client: consultest.NewFake().Client()}
	for _, name := range []string{"", "a//b", "../x", "a\nb"} {
		if err := watcher.Watch(t.Context(), name, func([]byte) { t.Error("applied") }); err == nil {
			t.Errorf("watched %q", name)
		}
	}
}

// Item A20: hashicorp/consul#9647: abandoned long polls. One connection serves a watch for its whole life.
func TestWatchKeepsOneConnection(t *testing.T) {
	store := consultest.NewFake()
	var mu sync.Mutex
	opened := 0
	server := httptest.NewUnstartedServer(store)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	config := api.DefaultConfig()
	config.Address = server.URL
	client, err := consul.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()

	ctx, cancel := context.WithCancel(t.Context())
	values := make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&consul.Watcher{Client: client}).Watch(ctx, "checkout", func(raw []byte) { values <- string(raw) })
	}()
	<-values
	writer := store.Client() // without a connection
	for i := range 5 {
		want := strconv.Itoa(i)
		pair := &api.KVPair{Key: actuators.Keys{}.Setting("checkout"), Value: []byte(want)}
		if _, err := writer.KV().Put(pair, nil); err != nil {
			t.Fatal(err)
		}
		if got := <-values; got != want {
			t.Errorf("applied %q, want %q", got, want)
		}
	}
	cancel()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if opened != 1 {
		t.Errorf("%d connections for one watch", opened)
	}
}

// A token that may read the service's own key only keeps the guard supplied with it. The advice names the rule, and
// when somebody has added it, the calls' Settings arrive.
func TestWatchPartsWithoutTheRightToReadThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := actuators.Keys{}
		store := consultest.NewFake()
		var entitled atomic.Bool
		store.SetHook(func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("recurse") || entitled.Load() {
				return false
			}
			http.Error(w, "Permission denied: token lacks permission 'key:list'", http.StatusForbidden)
			return true
		})
		for key, text := range map[string]string{
			keys.Setting("checkout"): "own", keys.CallSetting("checkout", "payments"): "calls",
		} {
			if _, err := store.Client().KV().Put(&api.KVPair{Key: key, Value: []byte(text)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		var errs []error
		var values []string
		watcher := consul.Watcher{Client: store.Client(), OnError: func(err error) { errs = append(errs, err) }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = watcher.WatchParts(ctx, "checkout", func(part actuators.Part, raw []byte) {
				values = append(values, part.Callee+"="+string(raw))
			})
		}()
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if !slices.Equal(values, []string{"=own"}) || len(errs) != 1 || !errors.Is(errs[0], consul.ErrDenied) ||
			!strings.Contains(errs[0].Error(), `key_prefix "governor/services/checkout/" { policy = "list" }`) {
			t.Errorf("without the right: applied %q, errors %v", values, errs)
		}
		entitled.Store(true)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if !slices.Equal(values, []string{"=own", "payments=calls"}) || len(errs) != 1 {
			t.Errorf("with it: applied %q, errors %v", values, errs)
		}
		entitled.Store(false)
		time.Sleep(5 * time.Minute)
		if _, err := store.Client().KV().Put(&api.KVPair{Key: keys.Setting("checkout"), Value: []byte("newer")}, nil); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !slices.Equal(values, []string{"=own", "payments=calls", "=newer"}) || len(errs) < 2 {
			t.Errorf("without it again: applied %q, errors %v; what cannot be read is not deleted", values, errs)
		}
		cancel()
		<-done
		time.Sleep(2 * time.Second) // for handlers that were abandoned
	})
}

// From a list, Consul leaves out what the token may not read: with its default configuration, a token without any rule
// reads an empty list. That is not a service without a Setting.
func TestSettingThatConsulHidesIsNoMissingSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := actuators.Keys{}
		store := consultest.NewFake()
		var entitled atomic.Bool
		store.SetHook(func(w http.ResponseWriter, r *http.Request) bool {
			if entitled.Load() || r.Method != http.MethodGet {
				return false
			}
			if r.URL.Query().Has("recurse") {
				w.Header().Set("X-Consul-Index", "1")
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			http.Error(w, "Permission denied: anonymous token lacks permission 'key:read'", http.StatusForbidden)
			return true
		})
		for _, services := range [][]string{{"checkout"}, {"checkout", "search"}} {
			entitled.Store(false)
			if _, err := store.Client().KV().Put(&api.KVPair{Key: keys.Setting("checkout"), Value: []byte("own")}, nil); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var errs []error
			var values []string
			watcher := consul.Watcher{Client: store.Client(), OnError: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}}
			ctx, cancel := context.WithCancel(t.Context())
			var watching sync.WaitGroup
			for _, service := range services {
				watching.Go(func() {
					_ = watcher.WatchParts(ctx, service, func(_ actuators.Part, raw []byte) {
						if service == "checkout" {
							values = append(values, string(raw))
						}
					})
				})
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			mu.Lock()
			named := slices.ContainsFunc(errs, func(err error) bool {
				return errors.Is(err, consul.ErrDenied) &&
					strings.Contains(err.Error(), `key "governor/services/checkout/setting" { policy = "read" }`)
			})
			mu.Unlock()
			if !named || len(values) != 0 {
				t.Errorf("%v: without a rule: applied %q, errors %v", services, values, errs)
			}
			entitled.Store(true)
			time.Sleep(time.Minute)
			synctest.Wait()
			if !slices.Equal(values, []string{"own"}) {
				t.Errorf("%v: with it: applied %q", services, values)
			}
			cancel()
			watching.Wait()
			time.Sleep(2 * time.Second) // for handlers that were abandoned
		}
	})
}

func TestWatchPartsRefusesABadServiceName(t *testing.T) {
	watcher := consul.Watcher{Client: consultest.NewFake().Client()}
	for _, name := range []string{"", "a//b", "../x"} {
		if err := watcher.WatchParts(t.Context(), name, func(actuators.Part, []byte) { t.Error("applied") }); err == nil {
			t.Errorf("watched %q", name)
		}
	}
}
