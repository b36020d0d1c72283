package consul_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/consul/consultest"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// Whatever a person writes as Consul's address reaches Consul, or is refused with a reason.
func TestAddressIsNormalizedOrRefused(t *testing.T) {
	store := consultest.NewFake()
	var auth atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		auth.Store(user + ":" + password)
		http.StripPrefix("/behind", store).ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tt := range []struct{ address, shown, auth string }{
		{"http://" + host + "/behind", "http://" + host + "/behind", ":"},
		{" http://" + host + "/behind// ", "http://" + host + "/behind", ":"},
		{"HTTP://" + host + "/behind/", "http://" + host + "/behind", ":"},
		{host + "/behind/", host + "/behind", ":"},
		{"http://u:pass%20word@" + host + "/behind", "http://" + host + "/behind", "u:pass word"},
		{"u:hunter2@" + host + "/behind", host + "/behind", "u:hunter2"},
	} {
		client, err := consul.NewClient(&api.Config{Address: tt.address})
		if err != nil {
			t.Errorf("%q: %v", tt.address, err)
			continue
		}
		if _, _, err := client.KV().Get("governor/leader", nil); err != nil {
			t.Errorf("%q: %v", tt.address, err)
		}
		if client.Address() != tt.shown || auth.Load() != tt.auth {
			t.Errorf("%q: shown as %q, authenticated as %q; want %q, %q", tt.address, client.Address(), auth.Load(), tt.shown, tt.auth)
		}
		client.CloseIdleConnections()
	}
	for _, address := range []string{
		"consul", "127.0.0.1", "consul:", "http://", "http://consul:/", "tcp://consul:8500", "://consul:8500", "http://:8500",
		"consul:http", "consul:0", "consul:70000", "http://consul:8500?dc=x", "http://consul:8500#x", "http://con sul:8500",
		"unix://run/consul.sock", "http://u:hunter2@consul:x", "http://u:hun/ter2@consul:8500", "[::1", "a:b:8500",
	} {
		_, err := consul.NewClient(&api.Config{Address: address})
		if err == nil || strings.Contains(err.Error(), "hun") {
			t.Errorf("%q: error %v, want one without a password", address, err)
		}
	}
}

// Any web server answers 404, and some answer 200 to everything. Neither is a key that does not exist.
func TestServerMustProveToBeConsul(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"404": http.NotFound,
		"200": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		},
	} {
		client := consultest.ClientOf(answer)
		_, _, one := client.KV().Get("governor/leader", nil)
		_, _, all := client.KV().List("governor/", nil)
		action := actuators.Action{Kind: actuators.Freeze, Actor: "ana", Reason: "x", At: time.Now()}
		_, order := consul.NewOperators(client, actuators.Keys{}).Do(t.Context(), action)
		for _, err := range []error{one, all, order} {
			if err == nil || !strings.Contains(err.Error(), "is this the address of a Consul agent's HTTP API?") {
				t.Errorf("%s: %v, want it not to be taken for Consul", name, err)
			}
		}
	}
}

// A rotated token is used as soon as the old one is refused, or on Reload, without a restart.
func TestTokenFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var valid, last atomic.Value
	valid.Store("one")
	store := consultest.NewFake()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(r.Header.Get("X-Consul-Token"))
		if r.Header.Get("X-Consul-Token") != valid.Load() {
			http.Error(w, "ACL not found", http.StatusForbidden)
			return
		}
		store.ServeHTTP(w, r)
	}))
	defer server.Close()
	write("one\n")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", file)
	t.Setenv("CONSUL_HTTP_TOKEN", "of no use")
	client, err := consul.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	put := func() error {
		_, err := client.KV().Put(&api.KVPair{Key: "governor/k", Value: []byte("v")}, nil)
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	write("two")
	valid.Store("two")
	if err := put(); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	write("three")
	if changed, err := client.Reload(); !changed || err != nil {
		t.Errorf("reload: %v, %v", changed, err)
	}
	if changed, err := client.Reload(); changed || err != nil {
		t.Errorf("reload of the same: %v, %v", changed, err)
	}
	_ = put()
	if last.Load() != "three" {
		t.Errorf("after the reload: token %q", last.Load())
	}
	_, err = consul.NewOperators(client, actuators.Keys{}).Do(t.Context(), actuators.Action{
		Kind: actuators.Freeze, Actor: "ana", Reason: "x", At: time.Now(),
	})
	if !errors.Is(err, consul.ErrUnknownToken) || !errors.Is(err, consul.ErrDenied) || strings.Contains(err.Error(), "rule") {
		t.Errorf("unknown token: %v", err)
	}
	write(" \n")
	if _, err := client.Reload(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("reload of an empty file: %v, want an error that names it", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reload(); err == nil {
		t.Error("reload from a pipe in which nobody writes: no error")
	}
	valid.Store("three")
	if err := put(); err != nil {
		t.Errorf("what cannot be read does not replace what was: %v", err)
	}
	os.Remove(file)
	if _, err := consul.NewClient(&api.Config{Address: server.URL}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("start without the token file: %v", err)
	}
}

// Certificates of agents and clients last for days. Their files are read again when a handshake fails, too.
func TestCertificateAuthorityIsReadAgain(t *testing.T) {
	store := consultest.NewFake()
	server := httptest.NewTLSServer(store)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(strayCertificate(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := consul.NewClient(&api.Config{
		Address: server.URL, TLSConfig: api.TLSConfig{CAFile: file, Address: "example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if _, _, err := client.KV().Get("k", nil); err == nil {
		t.Fatal("trusts a certificate of a foreign authority")
	}
	if err := os.WriteFile(file, pemOf(server.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.KV().Get("k", nil); err != nil {
		t.Errorf("after the authority was replaced: %v", err)
	}
}

// endless is an answer without an end.
func endless(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Consul-Index", "7")
	if _, err := io.WriteString(w, `[{"Key":"governor/services/checkout/setting","Value":"`); err != nil {
		return
	}
	chunk := bytes.Repeat([]byte("QUJD"), 16<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// A guard's host must not pay for what somebody stores in Consul, or sends in its name.
func TestAnswerWithoutEndIsCutOff(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a value": endless,
		"an error": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			endless(w, r)
		},
	} {
		var sent atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer(counting{w, &sent}, r)
		}))
		client, err := consul.NewClient(&api.Config{Address: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 100)
		ctx, cancel := context.WithCancel(t.Context())
		watcher := &consul.Watcher{Client: client, MaxPause: time.Hour, OnError: func(err error) { failed <- err }}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = watcher.WatchKey(ctx, "governor/services/checkout/setting", func([]byte) { t.Errorf("%s: applied", name) })
		}()
		err = <-failed
		cancel()
		<-done
		client.CloseIdleConnections()
		server.Close()
		// The limit, and what the sockets hold.
		if sent.Load() > 16<<20 || len(err.Error()) > 1000 {
			t.Errorf("%s: %d MiB were taken before %v", name, sent.Load()>>20, err)
		}
		if name == "a value" && !strings.Contains(err.Error(), "too large") {
			t.Errorf("%s: %v, want it to be too large", name, err)
		}
	}
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Consul answers 429 to a connection beyond its limit before it has read a request, and closes it. Go's client would write
// that to standard error as an unsolicited response.
func TestTooManyConnectionsAreNamedAndNothingIsPrinted(t *testing.T) {
	var printed waittest.Buffer
	log.SetOutput(&printed)
	defer log.SetOutput(os.Stderr)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: 80\r\nConnection: close"+
				"\r\n\r\nYour IP is issuing too many concurrent connections, please rate limit your calls\n")
			conn.Close()
		}
	}()
	// A connection that is open only when its request has given up waits for the next request, with the answer in it.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	opened, gaveUp := make(chan struct{}, 100), make(chan struct{})
	transport.DialContext = func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		<-gaveUp
		opened <- struct{}{}
		return conn, err
	}
	client, err := consul.NewClient(&api.Config{Address: listener.Addr().String(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _, _ = client.KV().Get("k", (&api.QueryOptions{}).WithContext(late))
	close(gaveUp)
	<-opened
	waittest.Pass(t, 100*time.Millisecond)
	client.CloseIdleConnections()
	if client, err = consul.NewClient(&api.Config{Address: listener.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_, err := consul.NewPublisher(client, actuators.Keys{}, consul.PublisherOptions{}).Read(t.Context(), "checkout")
		if err == nil || !strings.Contains(err.Error(), "http_max_conns_per_client") {
			t.Fatalf("%v, want Consul's limit by name", err)
		}
	}
	if printed.Len() > 0 {
		t.Errorf("printed %s", printed.String())
	}
}

// A proxy that ends long polls after a while makes the watch ask for less, and its page of HTML appears nowhere.
func TestWatchBehindAProxyWithATimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 20 * time.Second
		w := watchFor(t, 10*time.Minute, func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 || !r.URL.Query().Has("index") {
				value(w, 7, "v")
				return
			}
			wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
			if err != nil {
				t.Error(err)
			}
			if wait+wait/16 < limit {
				if !pause(r, wait) {
					return
				}
				value(w, 7, "v")
				return
			}
			pause(r, limit)
			w.WriteHeader(http.StatusGatewayTimeout)
			io.WriteString(w, "<html>\n<head><title>504 Gateway Time-out</title></head>\n</html>")
		})
		w.expect(t, "v")
		if len(w.errs) != 1 || strings.ContainsAny(w.errs[0].Error(), "<\n") ||
			!strings.Contains(w.errs[0].Error(), "ended a long poll after 20s; asking for 15s at a time") {
			t.Errorf("errors %q, want one, on one line, that says what the watch does about it", w.errs)
		}
	})
}

// pause returns after d, or false if the client has gone before.
func pause(r *http.Request, d time.Duration) bool {
	select {
	case <-r.Context().Done():
		return false
	case <-time.After(d):
		return true
	}
}

// The default wait ends within the 60 s that proxies usually allow.
func TestDefaultWaitFitsIntoAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var waits []string
		watchFor(t, 30*time.Second, func(n int, w http.ResponseWriter, r *http.Request) {
			if n > 1 {
				mu.Lock()
				waits = append(waits, r.URL.Query().Get("wait"))
				mu.Unlock()
				block(r)
				return
			}
			value(w, 7, "v")
		})
		mu.Lock()
		defer mu.Unlock()
		if len(waits) == 0 {
			t.Error("no long poll")
		}
		for _, text := range waits {
			if wait, err := time.ParseDuration(text); err != nil || wait == 0 || wait+wait/16 > 55*time.Second {
				t.Errorf("asked to wait %q, %v", text, err)
			}
		}
	})
}

// Several guards in one process need one connection, and each gets what concerns it and nothing else.
func TestOneQueryServesAllGuardsOfAProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, keys := consultest.NewFake(), actuators.Keys{}
		var mu sync.Mutex
		var open, most int
		link := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			open++
			most = max(most, open)
			mu.Unlock()
			store.ServeHTTP(w, r)
			mu.Lock()
			open--
			mu.Unlock()
		})
		put := func(key, text string) {
			if _, err := store.Client().KV().Put(&api.KVPair{Key: key, Value: []byte(text)}, nil); err != nil {
				t.Error(err)
			}
		}
		const n = 30
		for i := range n {
			put(keys.Setting(fmt.Sprintf("s%d", i)), fmt.Sprintf("v%d", i))
		}
		put(keys.CallSetting("s3", "payments"), "calls")
		watcher := &consul.Watcher{Client: consultest.ClientOf(link), OnError: func(err error) { t.Error(err) }}
		applied := make([][]string, n)
		ctx, cancel := context.WithCancel(t.Context())
		left, leave := context.WithCancel(ctx)
		var watching sync.WaitGroup
		for i := range n {
			ctx := ctx
			if i == 9 {
				ctx = left
			}
			watching.Go(func() {
				_ = watcher.WatchParts(ctx, fmt.Sprintf("s%d", i), func(part actuators.Part, raw []byte) {
					mu.Lock()
					defer mu.Unlock()
					applied[i] = append(applied[i], part.Callee+"="+string(raw))
				})
			})
		}
		time.Sleep(10 * time.Second)
		mu.Lock()
		most = open
		mu.Unlock()
		put(keys.Setting("s5"), "newer")
		time.Sleep(10 * time.Second)
		leave()
		time.Sleep(10 * time.Second)
		put(keys.Setting("s9"), "to nobody")
		put(keys.Setting("s29"), "newest")
		if _, err := store.Client().KV().Delete(keys.CallSetting("s3", "payments"), nil); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		for i := range n {
			want := []string{fmt.Sprintf("=v%d", i)}
			switch i {
			case 3:
				want = append(want, "payments=calls", "payments=")
			case 5:
				want = append(want, "=newer")
			case 29:
				want = append(want, "=newest")
			}
			if !slices.Equal(applied[i], want) {
				t.Errorf("s%d: applied %q, want %q", i, applied[i], want)
			}
		}
		if most != 1 {
			t.Errorf("%d queries open at once, want 1", most)
		}
		mu.Unlock()
		cancel()
		watching.Wait()
		time.Sleep(3 * time.Second) // for handlers that were abandoned
	})
}

// Without the right to read all services together, or where others have too many keys there, each is followed by itself.
func TestGuardsOfAProcessThatCannotShareAQuery(t *testing.T) {
	for name, prepare := range map[string]func(store *consultest.Fake){
		"denied": func(store *consultest.Fake) {
			store.SetHook(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/kv/governor/services/" {
					return false
				}
				http.Error(w, "Permission denied: token lacks permission 'key:list'", http.StatusForbidden)
				return true
			})
		},
		"too much": func(store *consultest.Fake) {
			for i := range 20 {
				pair := &api.KVPair{Key: actuators.Keys{}.Setting(fmt.Sprintf("other%d", i)), Value: make([]byte, 40<<10)}
				if _, err := store.Client().KV().Put(pair, nil); err != nil {
					panic(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, keys := consultest.NewFake(), actuators.Keys{}
				prepare(store)
				var mu sync.Mutex
				var errs []string
				var applied []string
				watcher := &consul.Watcher{Client: store.Client(), OnError: func(err error) {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err.Error())
				}}
				ctx, cancel := context.WithCancel(t.Context())
				var watching sync.WaitGroup
				for _, service := range []string{"a", "b"} {
					if _, err := store.Client().KV().Put(&api.KVPair{Key: keys.Setting(service), Value: []byte(service)}, nil); err != nil {
						t.Fatal(err)
					}
					watching.Go(func() {
						_ = watcher.WatchParts(ctx, service, func(part actuators.Part, raw []byte) {
							mu.Lock()
							defer mu.Unlock()
							applied = append(applied, string(raw))
						})
					})
				}
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				mu.Lock()
				slices.Sort(applied)
				if !slices.Equal(applied, []string{"a", "b"}) || len(errs) != 1 ||
					!strings.Contains(errs[0], "following each of 2 services with a connection of its own") {
					t.Errorf("applied %q, errors %q", applied, errs)
				}
				mu.Unlock()
				cancel()
				watching.Wait()
				time.Sleep(3 * time.Second)
			})
		})
	}
}

// A program that holds the leader's lock by mistake keeps the fleet without a governor. Every governor says which it is.
func TestLockOfAForeignSessionIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := consultest.NewFake(), actuators.Keys{}.Leader()
		id, _, err := store.Client().Session().CreateNoChecks(&api.SessionEntry{Name: "deploy"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _, err := store.Client().KV().Acquire(&api.KVPair{Key: key, Value: []byte("mine"), Session: id}, nil); err != nil || !ok {
			t.Fatal(ok, err)
		}
		a := newGovernor(t, store, "a", 10*time.Second)
		advance(time.Minute, func(time.Duration) {})
		foreign, ok := errors.AsType[*consul.ForeignLock](a.State().Err)
		if !ok || foreign.Session != id || foreign.Name != "deploy" || foreign.Node == "" || foreign.Key != key {
			t.Fatalf("%v, want the session that holds the lock", a.State().Err)
		}
		if n := strings.Count(a.log.String(), id); n == 0 || n > 3 {
			t.Errorf("the log names the session %d times, want it in one line:\n%s", n, a.log.String())
		}
		if _, err := store.Client().Session().Destroy(id, nil); err != nil {
			t.Fatal(err)
		}
		advance(time.Minute, func(time.Duration) {})
		if s := a.State(); !s.Leading || s.Err != nil {
			t.Errorf("after it let go: %+v", s)
		}
	})
}

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

// strayCertificate returns a certificate authority that has signed nothing.
func strayCertificate(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pemOf(raw))
}
