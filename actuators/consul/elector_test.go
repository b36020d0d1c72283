package consul_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// faultyStore is one instance's connection to the store, which tests can cut or answer for.
type faultyStore struct {
	store *consultest.Fake
	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func (l *faultyStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := l.fault.Load(); fault != nil && (*fault)(w, r) {
		return
	}
	l.store.ServeHTTP(w, r)
}

func (l *faultyStore) fail(fault func(http.ResponseWriter, *http.Request) bool) {
	l.fault.Store(&fault)
}
func (l *faultyStore) mend() { l.fault.Store(nil) }

// hang takes requests and never answers, like a cut network.
func hang(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }

func noLeader(w http.ResponseWriter, _ *http.Request) bool {
	http.Error(w, "No cluster leader", http.StatusInternalServerError)
	return true
}

// governor is a running Elector with its own link.
type governor struct {
	*consul.Elector
	link   *faultyStore
	client *consul.Client
	stop   func()
	active atomic.Bool // whether its lead function runs
	log    *waittest.Buffer
}

// newGovernor starts an Elector. A fault, if given, affects its link from the first request.
func newGovernor(t *testing.T, store *consultest.Fake, name string, ttl time.Duration,
	faults ...func(http.ResponseWriter, *http.Request) bool,
) *governor {
	t.Helper()
	g := &governor{link: &faultyStore{store: store}, log: &waittest.Buffer{}}
	for _, fault := range faults {
		g.link.fail(fault)
	}
	g.client = consultest.ClientOf(g.link)
	var err error
	g.Elector, err = consul.NewElector(g.client, consul.ElectorOptions{
		Instance: name, API: "http://" + name, TTL: ttl,
		Logger: slog.New(slog.NewTextHandler(g.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Run(ctx, func(ctx context.Context, _ consul.Fence) {
			g.active.Store(true)
			<-ctx.Done()
			g.active.Store(false)
		})
	}()
	g.stop = func() { cancel(); <-done }
	t.Cleanup(g.stop)
	return g
}

func leader(t *testing.T, store *consultest.Fake) *api.KVPair {
	t.Helper()
	return store.Pair(actuators.Keys{}.Leader())
}

// advance lets fake time pass in small steps and calls check after each.
func advance(d time.Duration, check func(passed time.Duration)) {
	for start := time.Now(); time.Since(start) < d; {
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		check(time.Since(start))
	}
}

// Item A17: hashicorp/consul#9788, #1843: the old leader went on for up to 90 s after the lock was gone.
func TestLeaderThatIsCutOffStopsBeforeAnotherLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		a := newGovernor(t, store, "a", 10*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		b := newGovernor(t, store, "b", 10*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		old, ok := a.Fence()
		if !ok || b.State().Leading {
			t.Fatalf("a: %+v, b: %+v", a.State(), b.State())
		}
		publisher := consul.NewPublisher(a.client, actuators.Keys{}, consul.PublisherOptions{})
		first := consultest.Setting("checkout", 40, old.Epoch, actuators.Setting{})
		index, err := publisher.Publish(t.Context(), old, first, 0)
		if err != nil {
			t.Fatal(err)
		}
		computed := consultest.Setting("checkout", 90, old.Epoch, first)

		a.link.fail(hang)
		var steppedDown, tookOver time.Duration
		advance(40*time.Second, func(passed time.Duration) {
			if a.State().Leading && b.State().Leading || a.active.Load() && b.active.Load() {
				t.Fatalf("two leaders after %s", passed)
			}
			if steppedDown == 0 && !a.State().Leading {
				steppedDown = passed
			}
			if tookOver == 0 && b.State().Leading {
				tookOver = passed
			}
		})
		if steppedDown == 0 || steppedDown >= 10*time.Second {
			t.Errorf("a stepped down after %s, want before the TTL of 10 s is over", steppedDown)
		}
		if tookOver == 0 || tookOver > 25*time.Second {
			t.Errorf("b took over after %s, want at most 25 s", tookOver)
		}
		if err := a.State().Err; err == nil {
			t.Error("a does not say why it does not lead")
		}

		fence, _ := b.Fence()
		if fence.Epoch <= old.Epoch {
			t.Fatalf("epoch %d after %d", fence.Epoch, old.Epoch)
		}
		newer := consultest.Setting("checkout", 20, fence.Epoch, first)
		if _, err := consul.NewPublisher(b.client, actuators.Keys{}, consul.PublisherOptions{}).
			Publish(t.Context(), fence, newer, index); err != nil {
			t.Fatal(err)
		}

		a.link.mend()
		var writes atomic.Int32
		a.link.fail(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/txn" {
				writes.Add(1)
			}
			return false
		})
		if _, err := publisher.Publish(t.Context(), old, computed, index); !errors.Is(err, consul.ErrFenced) {
			t.Errorf("the write that a had computed: %v, want ErrFenced", err)
		}
		if n := writes.Load(); n != 1 {
			t.Errorf("%d attempts to write, want 1", n)
		}
		stored := store.Pair(actuators.Keys{}.Setting("checkout"))
		if s, err := actuators.Decode(stored.Value); err != nil || s.Epoch != fence.Epoch || s.Concurrency.Limit != 20 {
			t.Errorf("in the store: %s, %v", stored.Value, err)
		}
		advance(30*time.Second, func(passed time.Duration) {
			if a.State().Leading || !b.State().Leading {
				t.Fatalf("%s after a came back: a leads %v, b leads %v", passed, a.State().Leading, b.State().Leading)
			}
		})
		if got := a.State(); got.Holder.Instance != "b" || got.Err != nil {
			t.Errorf("a is %+v, want it to stand by in good order under b", got)
		}
	})
}

// Item A18: hashicorp/consul PR 912, #1162: a failed renewal during a server election threw every lock away.
func TestBlipKeepsTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		a, b := newGovernor(t, store, "a", 15*time.Second), newGovernor(t, store, "b", 15*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		if b.State().Leading {
			a, b = b, a
		}
		before, ok := a.Fence()
		if !ok {
			t.Fatal("nobody leads")
		}
		// Three seconds of errors at every phase of the renewal.
		for range 12 {
			a.link.fail(noLeader)
			b.link.fail(noLeader)
			advance(3*time.Second, func(time.Duration) {})
			a.link.mend()
			b.link.mend()
			advance(7400*time.Millisecond, func(passed time.Duration) {
				if fence, _ := a.Fence(); fence != before || b.State().Leading {
					t.Fatalf("%s after a blip: a %+v, b %+v", passed, a.State(), b.State())
				}
			})
		}
	})
}

// Item A18: hashicorp/consul#2371, PR 4935: nobody led, and a forgotten renewal kept the lock.
func TestOutageEndsTheLeadAndNeverStrandsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		a, b := newGovernor(t, store, "a", 15*time.Second), newGovernor(t, store, "b", 15*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		if b.State().Leading {
			a, b = b, a
		}
		before, _ := a.Fence()

		a.link.fail(noLeader)
		b.link.fail(noLeader)
		advance(40*time.Second, func(passed time.Duration) {
			if passed > 15*time.Second && (a.State().Leading || b.State().Leading || a.active.Load()) {
				t.Fatalf("still leading after %s without a renewal", passed)
			}
		})
		var renewals atomic.Int32
		count := func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, before.Session) && strings.Contains(r.URL.Path, "renew") {
				renewals.Add(1)
			}
			return false
		}
		a.link.fail(count)
		b.link.fail(count)
		led := false
		advance(2*15*time.Second+5*time.Second, func(passed time.Duration) {
			led = a.State().Leading || b.State().Leading
			if a.State().Leading && b.State().Leading {
				t.Fatalf("two leaders %s after the outage", passed)
			}
		})
		if !led {
			t.Fatalf("nobody leads; the lock is %+v", leader(t, store))
		}
		fence, ok := a.Fence()
		if !ok {
			fence, _ = b.Fence()
		}
		if fence.Session == before.Session || fence.Epoch <= before.Epoch {
			t.Errorf("fence %+v after %+v, want a new session and a newer epoch", fence, before)
		}
		if n := renewals.Load(); n != 0 {
			t.Errorf("the old session was renewed %d times", n)
		}
		if sessions := store.Sessions(); len(sessions) != 1 {
			t.Errorf("sessions %v, want the leader's only", sessions)
		}
	})
}

// An outage is one warning at its beginning and one line at its end, not one per retry.
func TestOutageIsLoggedWhenItBeginsAndWhenItEnds(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"errors": noLeader, "no answers": hang,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := consultest.NewFake()
				a, b := newGovernor(t, store, "a", 15*time.Second), newGovernor(t, store, "b", 15*time.Second)
				advance(2*time.Second, func(time.Duration) {})
				if b.State().Leading {
					a, b = b, a
				}
				for range 2 { // the second outage is news again
					leads := a.State().Leading
					a.log.Reset()
					b.log.Reset()
					a.link.fail(fault)
					b.link.fail(fault)
					advance(5*time.Minute, func(time.Duration) {})
					a.link.mend()
					b.link.mend()
					advance(time.Minute, func(time.Duration) {})
					for _, g := range []*governor{a, b} {
						most := 1
						if (g == a) == leads {
							most = 3 // the session is not renewed, the lead is over, the lock cannot be had
						}
						text := g.log.String()
						if n := strings.Count(text, "level=WARN"); n < 1 || n > most {
							t.Errorf("%d warnings in five minutes, want 1 to %d:\n%s", n, most, text)
						}
						if n := strings.Count(text, "Consul works again"); n != 1 {
							t.Errorf("the end is told %d times:\n%s", n, text)
						}
					}
				}
			})
		})
	}
}

// Any web server answers 404, which must not look like a key that does not exist: the operator has the wrong address.
func TestAddressThatIsNotConsulsIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGovernor(t, consultest.NewFake(), "a", 10*time.Second, func(w http.ResponseWriter, r *http.Request) bool {
			http.NotFound(w, r)
			return true
		})
		advance(5*time.Second, func(time.Duration) {})
		const hint = "is this the address of a Consul agent's HTTP API?"
		if err := a.State().Err; err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%v, want the hint %q", err, hint)
		}
		setting := consultest.Setting("checkout", 40, 1, actuators.Setting{})
		_, err := consul.NewPublisher(a.client, actuators.Keys{}, consul.PublisherOptions{}).
			Publish(t.Context(), consul.Fence{Key: "governor/leader", Session: "s", Epoch: 1}, setting, 0)
		if err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%v, want the hint %q", err, hint)
		}
	})
}

// A leader that steps down while the store is away cannot destroy its session. When the store is back and that session
// still holds the lock, waiting for it to expire would leave the fleet without a leader for nothing.
func TestOwnStrandedLockIsFreedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		a := newGovernor(t, store, "a", 20*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		before, _ := a.Fence()
		a.link.fail(noLeader)
		advance(25*time.Second, func(time.Duration) {}) // beyond the TTL, before Consul's double of it
		a.link.mend()
		if pair := leader(t, store); pair.Session != before.Session {
			t.Fatalf("the lock is %+v, want it stranded", pair)
		}
		advance(8*time.Second, func(time.Duration) {})
		if fence, ok := a.Fence(); !ok || fence.Session == before.Session {
			t.Errorf("8 s after the store is back: %+v", a.State())
		}
	})
}

// Item A19: patroni/patroni#1579.
func TestSessionTTLOutsideConsulsRangeIsRefused(t *testing.T) {
	for _, ttl := range []time.Duration{5 * time.Second, 9999 * time.Millisecond, 25 * time.Hour, -1} {
		_, err := consul.NewElector(nil, consul.ElectorOptions{TTL: ttl})
		if err == nil || !strings.Contains(err.Error(), "10s to 24h") {
			t.Errorf("TTL %s: error %v, want one that gives the range", ttl, err)
		}
	}
}

// Item A19: hashicorp/consul#14515, #819: an agent that has just started has not registered its node yet.
func TestNodeThatIsNotRegisteredYetIsRetriedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		var attempts atomic.Int32
		store.SetHook(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/session/create" {
				return false
			}
			attempts.Add(1)
			http.Error(w, "rpc error making call: Missing node registration", http.StatusInternalServerError)
			return true
		})
		a := newGovernor(t, store, "a", 10*time.Second)
		advance(30*time.Second, func(time.Duration) {})
		if n := attempts.Load(); n < 4 || n > 60 {
			t.Errorf("%d attempts in 30 s", n)
		}
		if err := a.State().Err; err == nil || !strings.Contains(err.Error(), "not registered yet") {
			t.Errorf("error %v", err)
		}
		store.SetHook(nil)
		advance(7*time.Second, func(time.Duration) {})
		if !a.State().Leading {
			t.Errorf("the node is registered and nobody leads: %+v", a.State())
		}
	})
}

// Item A19: hashicorp/consul-esm#107: the log repeated 403 without naming the missing permission.
func TestMissingPermissionIsNamedAndTheGovernorStandsBy(t *testing.T) {
	tests := []struct {
		name, path, method string
		answer             func(http.ResponseWriter)
		want               string
	}{
		{"no session rule", "/v1/session/create", http.MethodPut, func(w http.ResponseWriter) {
			http.Error(w, `Permission denied: token lacks permission 'session:write' on "node-1"`, http.StatusForbidden)
		}, `session_prefix "" { policy = "write" }`},
		{"no key write", "/v1/txn", http.MethodPut, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"Results":null,"Errors":[{"OpIndex":1,"What":"Permission denied: lacks permission 'key:write'"}]}`)
		}, `key "governor/leader" { policy = "write" }`},
		{"no key read", "/v1/kv/governor/leader", http.MethodGet, func(w http.ResponseWriter) {
			http.Error(w, "Permission denied", http.StatusForbidden)
		}, `key_prefix "governor/" { policy = "read" }`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := consultest.NewFake()
				store.SetHook(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != test.path || r.Method != test.method {
						return false
					}
					test.answer(w)
					return true
				})
				a := newGovernor(t, store, "a", 10*time.Second)
				advance(30*time.Second, func(passed time.Duration) {
					if a.State().Leading {
						t.Fatal("leads without the permission")
					}
					err := a.State().Err
					if passed > 5*time.Second && (!errors.Is(err, consul.ErrDenied) || !strings.Contains(err.Error(), test.want)) {
						t.Fatalf("after %s: error %v, want one that names %s", passed, err, test.want)
					}
				})
				store.SetHook(nil)
				advance(7*time.Second, func(time.Duration) {})
				if !a.State().Leading {
					t.Errorf("the rule is there and nobody leads: %v", a.State().Err)
				}
			})
		})
	}
}

// A standby finds out that it could not lead while another still leads, and continues to know the leader.
func TestStandbyNoticesAMissingSessionRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		newGovernor(t, store, "a", 10*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		b := newGovernor(t, store, "b", 10*time.Second, func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/session/create" {
				return false
			}
			http.Error(w, "Permission denied", http.StatusForbidden)
			return true
		})
		advance(20*time.Second, func(time.Duration) {})
		if got := b.State(); got.Holder.Instance != "a" || !errors.Is(got.Err, consul.ErrDenied) {
			t.Errorf("state %+v, want a as the holder and the missing permission", got)
		}
		if n := len(store.Sessions()); n != 1 {
			t.Errorf("%d sessions, want the leader's only", n)
		}
	})
}

// Item A19: patroni/patroni#301: somebody released the leader's lock. The leader must not continue next to its
// successor.
func TestReleasedLockEndsTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		a := newGovernor(t, store, "a", 10*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		before, _ := a.Fence()
		held := &api.KVPair{Key: before.Key, Session: before.Session}
		if ok, _, err := store.Client().KV().Release(held, nil); !ok || err != nil {
			t.Fatal(ok, err)
		}
		synctest.Wait()
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if fence, leading := a.Fence(); leading && fence == before {
			t.Error("still leading without the lock")
		}
		advance(5*time.Second, func(time.Duration) {})
		// The value is gone with the release, but the epoch is remembered.
		if fence, ok := a.Fence(); !ok || fence.Epoch <= before.Epoch {
			t.Errorf("then %+v, want to lead again with an epoch above %d", a.State(), before.Epoch)
		}
	})
}

// An epoch above the leader's own, written by hand or left by a restored snapshot, would make readers refuse everything
// the leader writes. Resigning leads to an epoch above it.
func TestResigningGetsAnEpochAboveAllInTheStore(t *testing.T) {
	for _, key := range []string{
		actuators.Keys{}.Setting("checkout"), actuators.Keys{}.CallSetting("checkout", "payments"),
		actuators.Keys{}.Setting("checkout/export"),
	} {
		synctest.Test(t, func(t *testing.T) {
			store := consultest.NewFake()
			a := newGovernor(t, store, "a", 10*time.Second)
			advance(2*time.Second, func(time.Duration) {})
			// The Setting is otherwise broken, but its epoch still counts.
			if _, err := store.Client().KV().Put(&api.KVPair{Key: key, Value: []byte(`{"epoch":99}`)}, nil); err != nil {
				t.Fatal(err)
			}
			a.Resign()
			advance(3*time.Second, func(time.Duration) {})
			if fence, ok := a.Fence(); !ok || fence.Epoch != 100 {
				t.Errorf("%s: state %+v, want to lead with epoch 100", key, a.State())
			}
		})
	}
}

// An epoch put by hand at the end of the range must leave the next leader one that readers accept.
func TestEpochWithoutRoomAboveItDoesNotCount(t *testing.T) {
	for key, value := range map[string]string{
		actuators.Keys{}.Leader():            `{"epoch":18446744073709551615}`,
		actuators.Keys{}.Setting("checkout"): `{"epoch":9007199254740991}`,
		actuators.Keys{}.Setting("search"):   `{"epoch":9007199254740990}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			store := consultest.NewFake()
			if _, err := store.Client().KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
				t.Fatal(err)
			}
			a := newGovernor(t, store, "a", 10*time.Second)
			advance(3*time.Second, func(time.Duration) {})
			if fence, ok := a.Fence(); !ok || fence.Epoch != 1 {
				t.Errorf("%s: state %+v, want to lead with epoch 1", key, a.State())
			}
		})
	}
}

func TestLeadThatReturnsResigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		e, err := consul.NewElector(store.Client(), consul.ElectorOptions{Instance: "a"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var epochs []uint64
		e.Run(ctx, func(_ context.Context, fence consul.Fence) { epochs = append(epochs, fence.Epoch) })
		if len(epochs) < 5 || len(epochs) > 200 {
			t.Errorf("led %d times in 20 s", len(epochs))
		}
		for i, epoch := range epochs {
			if epoch != uint64(i+1) {
				t.Fatalf("epochs %v, want each one above the one before", epochs)
			}
		}
		if n := len(store.Sessions()); n != 0 {
			t.Errorf("%d sessions left", n)
		}
	})
}

// The answer to the write that took the lock is lost. The lock must not stay with an unknown session.
func TestLostAnswerToTheAcquisitionStrandsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		var once atomic.Bool
		a := newGovernor(t, store, "a", 10*time.Second, func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1/txn" || once.Swap(true) {
				return false
			}
			store.ServeHTTP(discard{}, r)
			<-r.Context().Done()
			return true
		})
		advance(12*time.Second, func(time.Duration) {})
		if !once.Load() || !a.State().Leading || len(store.Sessions()) != 1 {
			t.Errorf("state %+v, sessions %v", a.State(), store.Sessions())
		}
	})
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// pausing is a log that blocks its caller for half a minute at one message, like a stopped process or a full disk.
type pausing struct {
	slog.Handler
	at string
}

func (p pausing) Enabled(context.Context, slog.Level) bool { return true }

func (p pausing) Handle(_ context.Context, r slog.Record) error {
	if r.Message == p.at {
		time.Sleep(30 * time.Second)
	}
	return nil
}

// Item A17: bsm/redislock#93: a holder that was paused past its TTL must not report that it leads.
func TestPausedLeaderDoesNotClaimToLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := consul.NewElector(consultest.NewFake().Client(), consul.ElectorOptions{
			Instance: "a", Logger: slog.New(pausing{at: "Leading"}),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); e.Run(ctx, nil) }()
		var led bool
		advance(25*time.Second, func(passed time.Duration) {
			_, leading := e.Fence()
			led = led || leading
			if leading && passed > 10*time.Second {
				t.Fatalf("claims to lead after %s without a renewal", passed)
			}
		})
		if !led {
			t.Error("never led")
		}
		cancel()
		<-done
	})
}

func TestCleanStopHandsOverWithoutTheLockDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := consultest.NewFake()
		a := newGovernor(t, store, "a", 10*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		b := newGovernor(t, store, "b", 10*time.Second)
		advance(2*time.Second, func(time.Duration) {})
		a.stop()
		advance(200*time.Millisecond, func(time.Duration) {})
		if !b.State().Leading {
			t.Errorf("200 ms after a has stopped: %+v", b.State())
		}
		if a.State().Leading || a.active.Load() {
			t.Error("a leads after it was stopped")
		}
	})
}
