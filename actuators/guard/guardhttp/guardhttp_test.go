package guardhttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func newGuard(t testing.TB, limit int) *guard.Guard {
	t.Helper()
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: limit, Max: limit})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// serve runs handler behind g on a real server and returns its URL.
func serve(t *testing.T, g *guard.Guard, handler http.HandlerFunc, options ...guardhttp.Option) string {
	t.Helper()
	s := httptest.NewUnstartedServer(guardhttp.New(g, handler, options...))
	s.Config.ErrorLog = nil
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, url string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// drains waits until so many requests are in flight: a handler returns after its client has read the last byte.
func drains(t *testing.T, g *guard.Guard, inFlight int) {
	t.Helper()
	waittest.Until(t, fmt.Sprintf("%d in flight", inFlight), func() bool {
		return g.Snapshot().InFlight == inFlight
	})
}

// ends waits until the last declared request has ended.
func ends(t *testing.T, g *guard.Guard) {
	t.Helper()
	waittest.Until(t, "no declared request in flight", func() bool { return g.Snapshot().EndlessDeclared == 0 })
}

func TestRefusal(t *testing.T) {
	g := newGuard(t, 1)
	if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	url := serve(t, g, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
	waits := map[int]bool{}
	for range 50 {
		resp := get(t, url, guardhttp.CriticalityHeader, "sheddable")
		body, _ := io.ReadAll(resp.Body)
		reason := resp.Header.Get(guardhttp.RefusedHeader)
		if resp.StatusCode != http.StatusServiceUnavailable || reason != "concurrency" {
			t.Fatalf("status %s, %s %q", resp.Status, guardhttp.RefusedHeader, reason)
		}
		if len(body) == 0 {
			t.Error("no body for the person who reads it")
		}
		wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 3 {
			t.Fatalf("Retry-After %q, expected whole seconds, 1 to 3", resp.Header.Get("Retry-After"))
		}
		waits[wait] = true
	}
	if len(waits) < 2 {
		t.Errorf("every caller was told the same wait: %v", waits)
	}
	if n := g.Snapshot().Refused["concurrency"][guard.Sheddable]; n != 50 {
		t.Errorf("%d sheddable requests refused, expected 50", n)
	}
}

// apply puts a Setting with these two knobs in force; the limit is the guard's own.
func apply(t testing.TB, g *guard.Guard, rate actuators.Rate, threshold float64) {
	t.Helper()
	rate.Instances, rate.Fallback, rate.Max = 1, 1e6, 1e6
	raw, err := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 1, Revision: 1, LeaseSeconds: 180, Rate: &rate,
		Shed: &actuators.Shed{Threshold: threshold, Fallback: threshold, Max: 1},
	}.Encode()
	if err == nil {
		err = g.Apply(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// 429 tells a client that it is too fast, and how long to wait: here the next token takes ten seconds.
func TestRefusalByRate(t *testing.T) {
	g := newGuard(t, 10)
	apply(t, g, actuators.Rate{PerSecond: 0.1, Burst: 1}, 1)
	url := serve(t, g, answer)
	if resp := get(t, url); resp.StatusCode != http.StatusOK {
		t.Fatalf("the first request got %s", resp.Status)
	}
	resp := get(t, url)
	reason := resp.Header.Get(guardhttp.RefusedHeader)
	if resp.StatusCode != http.StatusTooManyRequests || reason != "rate" {
		t.Errorf("status %s, %s %q", resp.Status, guardhttp.RefusedHeader, reason)
	}
	if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || wait < 9 || wait > 30 {
		t.Errorf("Retry-After %q, expected the time to the next token or up to three times that",
			resp.Header.Get("Retry-After"))
	}
}

// Shedding is 503 as well. The key comes from the header, or from wherever WithKey finds it.
func TestShedByCriticalityAndKey(t *testing.T) {
	const limit, inFlight = 100, 85
	start := time.Now()
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: limit, Max: limit,
		Now: func() time.Time { return start }, // so that the shares stay as they are: a quarter for each class
	})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, g, actuators.Rate{PerSecond: 1e6, Burst: 1}, 0.6)
	for range inFlight {
		if _, err := g.Acquire(t.Context(), guard.Critical); err != nil {
			t.Fatal(err)
		}
	}
	header := serve(t, g, answer)
	function := serve(t, g, answer, guardhttp.WithKey(func(r *http.Request) string { return r.URL.Query().Get("user") }))
	admitted := func(url, criticality, key string) bool {
		t.Helper()
		resp := get(t, url, guardhttp.CriticalityHeader, criticality, guardhttp.KeyHeader, key)
		_, _ = io.Copy(io.Discard, resp.Body)
		drains(t, g, inFlight)
		reason := resp.Header.Get(guardhttp.RefusedHeader)
		if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusServiceUnavailable || reason != "shed") {
			t.Fatalf("%s, %s %q", resp.Status, guardhttp.RefusedHeader, reason)
		}
		return resp.StatusCode == http.StatusOK
	}
	count := 0
	for i := range 40 { // with 85 of 100 in flight, the lower 5/8 of the ranks are shed: half of the default class
		key := fmt.Sprintf("user-%d", i)
		byHeader := admitted(header, "default", key)
		if byHeader {
			count++
		}
		if admitted(function+"?user="+key, "default", "") != byHeader {
			t.Errorf("%s fares differently by header and by function", key)
		}
		if !admitted(header, "critical", key) || admitted(header, "background", key) {
			t.Errorf("%s: expected critical to be served, background to be shed", key)
		}
	}
	if count < 8 || count > 32 {
		t.Errorf("%d of 40 users of the default class served, expected about half", count)
	}
}

func TestCriticality(t *testing.T) {
	g := newGuard(t, 10)
	ok := func(http.ResponseWriter, *http.Request) {}
	url := serve(t, g, ok)
	get(t, url, guardhttp.CriticalityHeader, "critical")
	get(t, url)
	get(t, url, guardhttp.CriticalityHeader, "bogus")
	byRoute := serve(t, g, ok, guardhttp.WithCriticality(func(r *http.Request) guard.Criticality {
		return guard.Background
	}))
	get(t, byRoute, guardhttp.CriticalityHeader, "critical")
	if got, want := g.Snapshot().Admitted, [4]uint64{1, 2, 0, 1}; got != want {
		t.Errorf("admitted %v, expected %v", got, want)
	}
}

func TestOutcomes(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		options []guardhttp.Option
		failed  uint64
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, nil, 0},
		{"404 is the caller's mistake", status(404), nil, 0},
		{"500", status(500), nil, 1},
		{"early hints are not the status", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(502)
		}, nil, 1},
		{"the first status counts", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "fine")
			w.WriteHeader(500)
		}, nil, 0},
		{"own rule", status(429), []guardhttp.Option{guardhttp.WithFailure(func(s int) bool { return s == 429 })}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuard(t, 10)
			get(t, serve(t, g, c.handler, c.options...))
			drains(t, g, 0)
			if s := g.Snapshot(); s.Failed != c.failed || s.Latency.Count != 1 {
				t.Errorf("failed %d, finished %d; expected %d, 1", s.Failed, s.Latency.Count, c.failed)
			}
		})
	}
}

// A23: a handler that panics, also with http.ErrAbortHandler, gives its slot back, and the panic reaches the server.
func TestPanicReleases(t *testing.T) {
	for _, value := range []any{"handler", http.ErrAbortHandler} {
		g := newGuard(t, 1)
		h := guardhttp.New(g, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(value) }))
		for range 3 {
			func() {
				defer func() {
					if got := recover(); got != value {
						t.Errorf("recovered %v, expected %v", got, value)
					}
				}()
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
			}()
		}
		if s := g.Snapshot(); s.InFlight != 0 || s.Failed != 3 {
			t.Errorf("%v: in flight %d, failed %d; expected 0, 3", value, s.InFlight, s.Failed)
		}
	}
}

// A23 (sgl-project/sglang PR 31907): a client that goes away neither leaks its slot nor counts as a failure, whatever
// the handler answers to nobody.
func TestClientThatGoesAway(t *testing.T) {
	g := newGuard(t, 1)
	entered := make(chan struct{})
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		w.WriteHeader(http.StatusBadGateway)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("the request was answered")
	}
	drains(t, g, 0)
	if s := g.Snapshot(); s.Failed != 0 {
		t.Errorf("%d failed", s.Failed)
	}
}

// A hijacked connection holds its slot until its handler returns, and its life is no latency. Both ways to hijack work.
func TestHijack(t *testing.T) {
	for name, hijack := range map[string]func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){
		"assertion": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return w.(http.Hijacker).Hijack()
		},
		"controller": func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(w).Hijack()
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 1)
			finish := make(chan struct{})
			url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
				conn, rw, err := hijack(w)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
				rw.Flush()
				<-finish
			})
			resp := get(t, url)
			if body, _ := io.ReadAll(resp.Body); string(body) != "hi" {
				t.Errorf("body %q", body)
			}
			// The only slot is free again, though the connection lives.
			if s := g.Snapshot(); s.InFlight != 0 || s.EndlessDeclared != 1 {
				t.Errorf("%d in flight, %d declared; expected 0, 1", s.InFlight, s.EndlessDeclared)
			}
			close(finish)
			ends(t, g)
			if s := g.Snapshot(); s.InFlight != 0 || s.Latency.Count != 0 || s.Failed != 0 {
				t.Errorf("in flight %d, finished %d, failed %d; expected 0, 0, 0", s.InFlight, s.Latency.Count, s.Failed)
			}
		})
	}
}

// A reverse proxy writes 101 and then copies bytes for as long as the connection lives.
func TestSwitchedProtocolGivesItsSlotBack(t *testing.T) {
	g := newGuard(t, 1)
	finish := make(chan struct{})
	h := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusSwitchingProtocols)
		<-finish
	}))
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	}()
	waittest.Until(t, "a declared request", func() bool { return g.Snapshot().EndlessDeclared == 1 })
	if n := g.Snapshot().InFlight; n != 0 {
		t.Errorf("%d in flight after the switch", n)
	}
	close(finish)
	<-returned
	if s := g.Snapshot(); s.EndlessDeclared != 0 || s.InFlight != 0 || s.Latency.Count != 0 || s.DoubleReleases != 0 {
		t.Errorf("at the end: %d declared, %d in flight, %d finished, %d double releases",
			s.EndlessDeclared, s.InFlight, s.Latency.Count, s.DoubleReleases)
	}
}

// An event stream declared by its route needs a slot to get in, and keeps none.
func TestEndlessRoute(t *testing.T) {
	g := newGuard(t, 1)
	finish := make(chan struct{})
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			_ = http.NewResponseController(w).Flush()
			<-finish
			w.WriteHeader(http.StatusInternalServerError) // too late, and counts for nothing
		}
	}, guardhttp.WithEndless(func(r *http.Request) bool { return r.URL.Path == "/events" }))
	for range 3 {
		get(t, url+"/events")
	}
	if s := g.Snapshot(); s.EndlessDeclared != 3 || s.InFlight != 0 {
		t.Errorf("%d declared, %d in flight; expected 3, 0", s.EndlessDeclared, s.InFlight)
	}
	if resp := get(t, url+"/buy"); resp.StatusCode != http.StatusOK {
		t.Errorf("an ordinary request beside three streams: %s", resp.Status)
	}
	drains(t, g, 0)
	held, err := g.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	if resp := get(t, url+"/events"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a stream at a full service: %s", resp.Status)
	}
	held.Release(guard.Ignored)
	close(finish)
	ends(t, g)
	if s := g.Snapshot(); s.Latency.Count != 1 || s.Failed != 0 || s.EndlessDeclaredTotal != 3 {
		t.Errorf("%d finished, %d failed, %d declared ever; expected 1, 0, 3",
			s.Latency.Count, s.Failed, s.EndlessDeclaredTotal)
	}
}

// At its bound, a service takes no more requests that say that they will last, and serves all others.
func TestEndlessAreBounded(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: time.Second, Min: 10, Max: 10, MaxEndless: 1})
	if err != nil {
		t.Fatal(err)
	}
	finish := make(chan struct{})
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			_ = http.NewResponseController(w).Flush()
			<-finish
		}
	}, guardhttp.WithEndless(func(r *http.Request) bool { return r.URL.Path == "/events" }))
	get(t, url+"/events")
	for name, refused := range map[string]*http.Response{
		"declared":     get(t, url+"/events"),
		"WebSocket":    get(t, url, "Connection", "Upgrade", "Upgrade", "WebSocket"),
		"event stream": get(t, url, "Accept", "text/event-stream"),
	} {
		if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get(guardhttp.RefusedHeader) != "endless" {
			t.Errorf("%s: %s, %v", name, refused.Status, refused.Header)
		}
	}
	for name, served := range map[string]*http.Response{
		"ordinary":             get(t, url),
		"other protocol":       get(t, url, "Connection", "Upgrade", "Upgrade", "h2c"),
		"stream or whole JSON": get(t, url, "Accept", "application/json, text/event-stream"),
	} {
		if served.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", name, served.Status)
		}
	}
	close(finish)
	ends(t, g)
}

func TestStreamingReachesTheClientAtOnce(t *testing.T) {
	for name, flush := range map[string]func(http.ResponseWriter){
		"assertion":  func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"controller": func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 1)
			finish := make(chan struct{})
			url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "one\n")
				flush(w)
				<-finish
			})
			line, err := bufio.NewReader(get(t, url).Body).ReadString('\n')
			if line != "one\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
			close(finish)
			drains(t, g, 0)
		})
	}
}

// The wrapped writer claims no ability that the server's writer lacks.
func TestNoFalseClaims(t *testing.T) {
	type bare struct{ http.ResponseWriter }
	flushes := func(w http.ResponseWriter) bool { _, ok := w.(http.Flusher); return ok }
	hijacks := func(w http.ResponseWriter) bool { _, ok := w.(http.Hijacker); return ok }
	g := newGuard(t, 1)
	ask := func(outer http.ResponseWriter, flush, hijack bool) {
		t.Helper()
		guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if flushes(w) != flush || hijacks(w) != hijack {
				t.Errorf("%T: flushes %v, hijacks %v; expected %v, %v", outer, flushes(w), hijacks(w), flush, hijack)
			}
			if err := http.NewResponseController(w).Flush(); (err == nil) != flush {
				t.Errorf("%T: flush by controller: %v", outer, err)
			}
		})).ServeHTTP(outer, httptest.NewRequest(http.MethodGet, "/", nil))
	}
	ask(httptest.NewRecorder(), true, false)
	ask(bare{httptest.NewRecorder()}, false, false)
	ask(unwrapping{httptest.NewRecorder()}, true, false)
	ask(hijackable{bare{httptest.NewRecorder()}}, false, true)
}

type unwrapping struct{ inner http.ResponseWriter }

func (u unwrapping) Header() http.Header         { return u.inner.Header() }
func (u unwrapping) Write(b []byte) (int, error) { return u.inner.Write(b) }
func (u unwrapping) WriteHeader(status int)      { u.inner.WriteHeader(status) }
func (u unwrapping) Unwrap() http.ResponseWriter { return u.inner }

type hijackable struct{ http.ResponseWriter }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

func TestFilesAndBypass(t *testing.T) {
	g := newGuard(t, 1)
	file := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) },
		guardhttp.WithBypass(func(r *http.Request) bool { return r.URL.Path == "/healthy" }))
	if body, err := io.ReadAll(get(t, url).Body); len(body) != 1<<20 || err != nil {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	drains(t, g, 0)
	if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	if resp := get(t, url+"/healthy"); resp.StatusCode != http.StatusOK {
		t.Errorf("health check of a full service: %s", resp.Status)
	}
	if n := g.Snapshot().Offered[guard.Default]; n != 2 {
		t.Errorf("%d offered: the health check was counted", n)
	}
}

// The handler's context leads to the guard, and what the handler finds out about its request reaches the outside.
func TestContextAndRequest(t *testing.T) {
	g := newGuard(t, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /carts/{id}", func(_ http.ResponseWriter, r *http.Request) {
		if !guard.Optional(r.Context()) {
			t.Error("no room for optional work in an idle service")
		}
		for range 9 {
			if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
				t.Fatal(err)
			}
		}
		if guard.Optional(r.Context()) {
			t.Error("optional work in a full service")
		}
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	r := httptest.NewRequest(http.MethodPost, "/carts/7", strings.NewReader("--x\r\nContent-Disposition: form-data; "+
		"name=\"f\"; filename=\"f\"\r\n\r\ntext\r\n--x--\r\n"))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	func() {
		defer func() { _ = recover() }()
		guardhttp.New(g, mux).ServeHTTP(httptest.NewRecorder(), r)
	}()
	if r.Pattern != "POST /carts/{id}" || r.MultipartForm == nil {
		t.Errorf("pattern %q, form %v: the server cannot remove the form's files", r.Pattern, r.MultipartForm)
	}
}

// discard is the cheapest ResponseWriter, so that the benchmarks compare the middleware and not a recorder.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// A refusal and an admission through the middleware, with a handler that does nothing but answer, and one whole request
// through a real server for scale.
func BenchmarkRefused(b *testing.B) {
	g := newGuard(b, 1)
	_, _ = g.Acquire(b.Context(), guard.Default)
	benchmark(b, g)
}

func BenchmarkAdmitted(b *testing.B) { benchmark(b, newGuard(b, 1)) }

func benchmark(b *testing.B, g *guard.Guard) {
	h := guardhttp.New(g, http.HandlerFunc(answer))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := &discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

func answer(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }

func BenchmarkServerAdmitted(b *testing.B) {
	benchmarkServer(b, guardhttp.New(newGuard(b, 8), http.HandlerFunc(answer)))
}

func BenchmarkServerRefused(b *testing.B) {
	g := newGuard(b, 1)
	_, _ = g.Acquire(b.Context(), guard.Default)
	benchmarkServer(b, guardhttp.New(g, http.HandlerFunc(answer)))
}

func BenchmarkServerUnguarded(b *testing.B) { benchmarkServer(b, http.HandlerFunc(answer)) }

func benchmarkServer(b *testing.B, h http.Handler) {
	s := httptest.NewServer(h)
	defer s.Close()
	for b.Loop() {
		resp, err := http.Get(s.URL)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
