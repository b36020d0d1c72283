package guardhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// trip is a RoundTripper in memory.
type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return f(r)
}

// reply is an answer of a trip, with header fields in pairs.
func reply(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// script answers one attempt after the other, and repeats the last answer. It keeps when they came.
type script struct {
	mu      sync.Mutex
	answers []func() (*http.Response, error)
	at      []time.Time
	seen    []*http.Request
	bodies  []string
}

func answers(all ...func() (*http.Response, error)) *script { return &script{answers: all} }

func with(status int, body string, header ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return reply(status, body, header...), nil }
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		sent = string(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := s.answers[min(len(s.at), len(s.answers)-1)]
	s.at, s.seen, s.bodies = append(s.at, time.Now()), append(s.seen, r), append(s.bodies, sent)
	return answer()
}

func (s *script) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

func request(ctx context.Context, method, body string) *http.Request {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://payments.test/pay", r)
	if err != nil {
		panic(err)
	}
	return req
}

// calls is a transport of a new guard, and its dependency.
func calls(t testing.TB, base http.RoundTripper, options ...guardhttp.TransportOption) (http.RoundTripper, *guard.Guard) {
	t.Helper()
	g := newGuard(t, 1000)
	return guardhttp.Transport(g.Dependency("payments"), base, options...), g
}

func text(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

// What is retried, after which wait, with which mark.
func TestTransportRetries(t *testing.T) {
	refused := func() (*http.Response, error) { return nil, &net.OpError{Op: "dial", Err: errors.New("refused")} }
	reset := func() (*http.Response, error) { return nil, &net.OpError{Op: "read", Err: errors.New("reset")} }
	date := func(after time.Duration) func() (*http.Response, error) {
		return func() (*http.Response, error) {
			return reply(503, "", "Retry-After", time.Now().Add(after).UTC().Format(http.TimeFormat)), nil
		}
	}
	for _, tc := range []struct {
		name     string
		method   string
		body     string
		first    func() (*http.Response, error)
		attempts int
		least    time.Duration // waited
		most     time.Duration
	}{
		{"200", "GET", "", with(200, "ok"), 1, 0, 0},
		{"404", "GET", "", with(404, "no"), 1, 0, 0},
		{"500 may be a bug that stays", "GET", "", with(500, ""), 1, 0, 0},
		{"502", "GET", "", with(502, ""), 2, 0, 100 * time.Millisecond},
		{"503", "PUT", "x", with(503, ""), 2, 0, 100 * time.Millisecond},
		{"504", "DELETE", "", with(504, ""), 2, 0, 100 * time.Millisecond},
		{"503 to POST", "POST", "x", with(503, ""), 1, 0, 0},
		{"a guard refuses POST", "POST", "x", with(503, "", "Guard-Refused", "concurrency"), 2, 0, 100 * time.Millisecond},
		{"429 to POST", "POST", "x", with(429, "", "Retry-After", "3"), 2, 3 * time.Second, 3100 * time.Millisecond},
		{"no connection for POST", "POST", "x", refused, 2, 0, 100 * time.Millisecond},
		{"reset at POST", "POST", "x", reset, 1, 0, 0},
		{"reset at GET", "GET", "", reset, 2, 0, 100 * time.Millisecond},
		{"the hint", "GET", "", with(503, "", "Guard-No-Retry", "1"), 1, 0, 0},
		{"Retry-After in seconds", "GET", "", with(503, "", "Retry-After", "2"), 2, 2 * time.Second, 2100 * time.Millisecond},
		{"Retry-After as a date", "GET", "", date(4 * time.Second), 2, 3 * time.Second, 4100 * time.Millisecond},
		{"a past date", "GET", "", date(-time.Hour), 2, 0, 100 * time.Millisecond},
		{"in a century", "GET", "", date(876_000 * time.Hour), 1, 0, 0},
		{"absurd seconds", "GET", "", with(503, "", "Retry-After", "99999999999999999999999"), 1, 0, 0},
		{"negative seconds", "GET", "", with(503, "", "Retry-After", "-5"), 2, 0, 100 * time.Millisecond},
		{"garbage", "GET", "", with(503, "", "Retry-After", "soon"), 2, 0, 100 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := answers(tc.first, with(200, "second"))
				rt, g := calls(t, s)
				start := time.Now()
				resp, err := rt.RoundTrip(request(t.Context(), tc.method, tc.body))
				if n := s.attempts(); n != tc.attempts {
					t.Fatalf("%d attempts, expected %d", n, tc.attempts)
				}
				if err == nil {
					got := text(t, resp, nil)
					if (got == "200 second") != (tc.attempts == 2) {
						t.Errorf("answer %q", got)
					}
				}
				if waited := time.Since(start); waited < tc.least || waited > tc.most {
					t.Errorf("waited %v, expected %v to %v", waited, tc.least, tc.most)
				}
				for i, r := range s.seen {
					mark := r.Header.Get("Guard-Attempt")
					if want := fmt.Sprint(i); tc.method != "POST" && mark != want || tc.method == "POST" && mark != "" {
						t.Errorf("attempt %d of %s has the mark %q", i, tc.method, mark)
					}
					if s.bodies[i] != tc.body {
						t.Errorf("attempt %d sent %q, expected %q", i, s.bodies[i], tc.body)
					}
				}
				idle(t, g)
			})
		})
	}
}

// idle checks that nothing is in flight to the dependency.
func idle(t testing.TB, g *guard.Guard) {
	t.Helper()
	synctest.Wait()
	if n := inFlight(g); n != 0 {
		t.Errorf("%d calls in flight at the end", n)
	}
	if n := outgoing(g).DoubleReleases; n != 0 {
		t.Errorf("%d calls ended twice", n)
	}
}

// outgoing is the state of the dependency.
func outgoing(g *guard.Guard) guard.CallSnapshot { return g.Snapshot().Calls[0] }

func inFlight(g *guard.Guard) int { return outgoing(g).InFlight }

// A body without GetBody can be sent once.
func TestBodyThatCannotBeReplayed(t *testing.T) {
	s := answers(with(503, "first"), with(200, "second"))
	rt, g := calls(t, s)
	req := request(t.Context(), "PUT", "x")
	req.GetBody = nil
	resp, err := rt.RoundTrip(req)
	if got := text(t, resp, err); got != "503 first" || s.attempts() != 1 {
		t.Errorf("%q after %d attempts", got, s.attempts())
	}
	if n := outgoing(g).Suppressed["body"]; n != 1 {
		t.Errorf("%d suppressed because of the body", n)
	}
	// One that breaks on the way: the last real answer.
	s = answers(with(503, "first"))
	rt, _ = calls(t, s)
	req = request(t.Context(), "PUT", "x")
	req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("the file is gone") }
	resp, err = rt.RoundTrip(req)
	if got := text(t, resp, err); got != "503 first" || s.attempts() != 1 {
		t.Errorf("%q after %d attempts", got, s.attempts())
	}
}

// A deadline shorter than what the callee asks to wait: the caller gets the answer at once, not a time-out later.
func TestDeadlineShorterThanTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := answers(with(503, "busy", "Retry-After", "2"))
		rt, g := calls(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		resp, err := rt.RoundTrip(request(ctx, "GET", ""))
		if got := text(t, resp, err); got != "503 busy" {
			t.Errorf("answer %q", got)
		}
		if waited := time.Since(start); waited != 0 || s.attempts() != 1 {
			t.Errorf("waited %v for %d attempts", waited, s.attempts())
		}
		if n := outgoing(g).Suppressed["deadline"]; n != 1 {
			t.Errorf("%d suppressed by the deadline", n)
		}
		time.Sleep(2 * time.Second)
		if _, err := rt.RoundTrip(request(ctx, "POST", "x")); !errors.Is(err, guard.ErrCallDeadline) || s.attempts() != 1 {
			t.Errorf("after the deadline: %v, %d attempts", err, s.attempts())
		}
		idle(t, g)
	})
}

// A caller who gives up during the backoff comes back at once and leaves nothing behind.
func TestCanceledDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := answers(with(503, "busy", "Retry-After", "5"))
		rt, g := calls(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		_, err := rt.RoundTrip(request(ctx, "GET", ""))
		if waited := time.Since(start); !errors.Is(err, context.Canceled) || waited != time.Second || s.attempts() != 1 {
			t.Errorf("%v after %v and %d attempts", err, waited, s.attempts())
		}
		idle(t, g)
	})
}

// The wait that is given up ends there: what the request does afterwards is the service's own time.
func TestCanceledBackoffIsNoLongerWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, g := calls(t, answers(with(503, "busy", "Retry-After", "5")))
		permit, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(guard.NewContext(t.Context(), permit), 10*time.Second)
		time.AfterFunc(time.Second, cancel)
		if _, err := rt.RoundTrip(request(ctx, "GET", "")); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		time.Sleep(2 * time.Second)
		permit.Release(guard.Success)
		if l := g.Snapshot().Latency; l.Sum != 3 || l.Waited != 1 {
			t.Errorf("%v s waited of %v s, expected 1 of 3", l.Waited, l.Sum)
		}
	})
}

// A request that carries the mark already, as one that a proxy passes on, is not retried here, and keeps its mark.
func TestRequestThatIsMarked(t *testing.T) {
	s := answers(with(503, "busy"))
	rt, g := calls(t, s)
	req := request(t.Context(), "GET", "")
	req.Header.Set("Guard-Attempt", "1")
	resp, err := rt.RoundTrip(req)
	if got := text(t, resp, err); got != "503 busy" || s.attempts() != 1 || s.seen[0].Header.Get("Guard-Attempt") != "1" {
		t.Errorf("%q after %d attempts with the mark %q", got, s.attempts(), s.seen[0].Header.Get("Guard-Attempt"))
	}
	if n := outgoing(g).Suppressed["layer"]; n != 1 {
		t.Errorf("%d suppressed by the layer", n)
	}
}

// While a retry waits, the breaker opens: the caller gets the last real answer, whole.
func TestRetryThatIsRefusedGivesTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, g := calls(t, trip(func(*http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Millisecond)
			return reply(503, "the reason, in words", "X-Detail", "kept"), nil
		}))
		var group sync.WaitGroup
		got := make(chan string, 100)
		all := func(n int, method string) {
			for range n {
				group.Go(func() {
					resp, err := rt.RoundTrip(request(t.Context(), method, ""))
					if err != nil {
						got <- err.Error()
						return
					}
					got <- resp.Header.Get("X-Detail") + ": " + text(t, resp, nil)
				})
			}
		}
		all(50, "POST") // not retried
		time.Sleep(2 * time.Second)
		all(20, "GET") // the first failure of these opens the breaker
		group.Wait()
		close(got)
		for answer := range got {
			if answer != "kept: 503 the reason, in words" {
				t.Errorf("answer %q", answer)
			}
		}
		calls := outgoing(g)
		if calls.Refused["breaker"] == 0 || calls.Retries == 0 {
			t.Errorf("refused by the breaker %d, retries %d: the test shows nothing", calls.Refused["breaker"], calls.Retries)
		}
		_, err := rt.RoundTrip(request(t.Context(), "POST", "x"))
		if refusal, ok := errors.AsType[*guard.CallRefusal](err); !ok || !errors.Is(err, guard.ErrBreakerOpen) ||
			!strings.Contains(refusal.Error(), "payments.test") {
			t.Errorf("at an open breaker: %v", err)
		}
		idle(t, g)
	})
}

// An answer that is retried is read within bounds: neither its length nor its pace holds the retry up.
func TestFailedAnswersAreDrainedWithinBounds(t *testing.T) {
	const size = 10 << 20
	long := strings.NewReader(strings.Repeat("x", size))
	defer func() {
		if n := size - long.Len(); n == 0 || n > 100<<10 {
			t.Errorf("%d bytes of the long answer were read", n)
		}
	}()
	for name, tc := range map[string]struct {
		rest io.Reader
		most time.Duration
	}{
		"long": {long, 0},
		"slow": {blocked{}, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed atomic.Int64
				s := answers(func() (*http.Response, error) {
					resp := reply(503, "")
					resp.Body = &closable{rest: tc.rest, closed: &closed, gone: make(chan struct{})}
					return resp, nil
				}, with(200, "ok"))
				rt, g := calls(t, s)
				start := time.Now()
				resp, err := rt.RoundTrip(request(t.Context(), "GET", ""))
				if got := text(t, resp, err); got != "200 ok" {
					t.Errorf("answer %q", got)
				}
				if waited := time.Since(start); waited > tc.most+100*time.Millisecond {
					t.Errorf("waited %v", waited)
				}
				if closed.Load() == 0 {
					t.Error("the body of the failed answer is still open")
				}
				idle(t, g)
			})
		})
	}
}

type blocked struct{}

func (blocked) Read([]byte) (int, error) { return 0, nil }

// closable blocks where a reader returns nothing, until it is closed.
type closable struct {
	rest   io.Reader
	closed *atomic.Int64
	once   sync.Once
	gone   chan struct{}
}

func (c *closable) Read(p []byte) (int, error) {
	n, err := c.rest.Read(p)
	if n == 0 && err == nil {
		<-c.gone
		return 0, http.ErrBodyReadAfterClose
	}
	return n, err
}

func (c *closable) Close() error {
	c.once.Do(func() { close(c.gone) })
	c.closed.Add(1)
	return nil
}

// A call holds its slot until its body is read or closed, or its context ends, whatever the caller forgets.
func TestSlotLastsAsLongAsTheBody(t *testing.T) {
	for name, end := range map[string]func(*http.Response, context.CancelFunc){
		"read":   func(r *http.Response, _ context.CancelFunc) { _, _ = io.Copy(io.Discard, r.Body) },
		"closed": func(r *http.Response, _ context.CancelFunc) { r.Body.Close() },
		"both": func(r *http.Response, _ context.CancelFunc) {
			_, _ = io.ReadAll(r.Body)
			r.Body.Close()
			r.Body.Close()
		},
		"canceled": func(_ *http.Response, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt, g := calls(t, answers(with(200, "a long answer")))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				resp, err := rt.RoundTrip(request(ctx, "GET", ""))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if n := inFlight(g); n != 1 {
					t.Errorf("%d in flight while the body is open, expected 1", n)
				}
				end(resp, cancel)
				idle(t, g)
				if s := g.Snapshot(); outgoing(g).Failures != 0 || s.DoubleReleases != 0 {
					t.Errorf("%+v", outgoing(g))
				}
			})
		})
	}
}

// A caller that gives up on a call in flight is not a failure of the callee; a deadline that passes is. Neither is
// retried.
func TestContextEndsInFlight(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		want uint64
	}{
		"canceled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, 0},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt, g := calls(t, trip(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}))
				ctx, cancel := tc.end(t.Context())
				defer cancel()
				_, err := rt.RoundTrip(request(ctx, "GET", ""))
				if !errors.Is(err, ctx.Err()) {
					t.Errorf("error %v", err)
				}
				if s := outgoing(g); s.Failures != tc.want || s.Attempts != 1 {
					t.Errorf("%d failures, %d attempts; expected %d, 1", s.Failures, s.Attempts, tc.want)
				}
				idle(t, g)
			})
		})
	}
}

// While an instance comes back, an answer that takes long does not hold up the next probe.
func TestLongAnswerOfAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		rt, g := calls(t, trip(func(*http.Request) (*http.Response, error) {
			if down {
				return reply(500, ""), nil
			}
			return reply(200, "a long answer"), nil
		}))
		for range 50 {
			resp, err := rt.RoundTrip(request(t.Context(), "GET", ""))
			text(t, resp, err)
		}
		down = false
		time.Sleep(5 * time.Second)
		var open []*http.Response
		for range 3 {
			resp, err := rt.RoundTrip(request(t.Context(), "GET", ""))
			if err != nil {
				t.Fatalf("probe %d: %v", len(open)+1, err)
			}
			open = append(open, resp)
		}
		for _, resp := range open {
			resp.Body.Close()
		}
		idle(t, g)
	})
}

// A refusal by the rate limit concerns all instances: it is not tried at once on another.
func TestRateRefusalIsNotTriedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := answers(with(429, "", "Guard-Refused", "rate", "Retry-After", "1"), with(200, "ok"))
		rt, _ := calls(t, s, guardhttp.WithInstances(func() []string { return []string{"a:80", "b:80"} }))
		start := time.Now()
		resp, err := rt.RoundTrip(request(t.Context(), "POST", "x"))
		if got := text(t, resp, err); got != "200 ok" || time.Since(start) < time.Second {
			t.Errorf("%q after %v", got, time.Since(start))
		}
	})
}

// The Host of a request is that of its URL if it has none of its own, whichever instance it goes to.
func TestHostOfAnInstance(t *testing.T) {
	s := answers(with(200, "ok"))
	rt, _ := calls(t, s, guardhttp.WithInstances(func() []string { return []string{"10.0.0.1:80"} }))
	for _, host := range []string{"", "other.test"} {
		req := request(t.Context(), "GET", "")
		req.Host = host
		resp, err := rt.RoundTrip(req)
		text(t, resp, err)
		sent := s.seen[len(s.seen)-1]
		want := host
		if want == "" {
			want = "payments.test"
		}
		if sent.Host != want || sent.URL.Host != "10.0.0.1:80" || req.URL.Host != "payments.test" || req.Host != host {
			t.Errorf("sent to %s as %q, expected %q; the request is now %s %q", sent.URL.Host, sent.Host, want, req.URL, req.Host)
		}
	}
}

// A body that breaks off is a failure of the callee; one that is canceled is not.
func TestBodyThatBreaksOff(t *testing.T) {
	for name, tc := range map[string]struct {
		cancel bool
		want   uint64
	}{"broken": {false, 1}, "canceled": {true, 0}} {
		ctx, cancel := context.WithCancel(t.Context())
		rt, g := calls(t, answers(func() (*http.Response, error) {
			resp := reply(200, "")
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{}))
			return resp, nil
		}))
		resp, err := rt.RoundTrip(request(ctx, "GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		if tc.cancel {
			cancel()
		}
		_, _ = io.ReadAll(resp.Body)
		waittest.Until(t, "nothing in flight", func() bool { return inFlight(g) == 0 })
		if n := outgoing(g).Failures; n != tc.want {
			t.Errorf("%s: %d failures, expected %d", name, n, tc.want)
		}
		cancel()
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// The answer is that of the bare transport byte for byte, trailers and switched protocols included.
func TestTransportChangesNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			io.WriteString(w, " text")
			w.Header().Set("X-Sum", "42")
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, "short and stout")
		case "/redirect":
			http.Redirect(w, r, "/teapot", http.StatusFound)
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, body)
		}
	}))
	defer server.Close()
	bare := &http.Transport{DisableCompression: true}
	defer bare.CloseIdleConnections()
	guarded, g := calls(t, bare)
	dump := func(rt http.RoundTripper, method, path, body string) string {
		t.Helper()
		var r io.Reader
		if body != "" {
			r = strings.NewReader(body)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, r)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		resp.Header.Del("Date")
		raw, err := httputil.DumpResponse(resp, true)
		if err != nil {
			t.Fatal(err)
		}
		location, _ := resp.Location()
		return fmt.Sprintf("%s%v %v %v", raw, resp.Trailer, location, resp.Request == req)
	}
	for _, tc := range [][3]string{
		{"GET", "/trailers", ""},
		{"GET", "/empty", ""},
		{"HEAD", "/", ""},
		{"GET", "/teapot", ""},
		{"POST", "/", "body"},
		{"PUT", "/", "body"},
		{"GET", "/redirect", ""},
	} {
		if want, got := dump(bare, tc[0], tc[1], tc[2]), dump(guarded, tc[0], tc[1], tc[2]); got != want {
			t.Errorf("%v:\n%s\nexpected\n%s", tc, got, want)
		}
	}
	waittest.Until(t, "nothing in flight", func() bool { return inFlight(g) == 0 })
}

// A connection that switches protocols holds no slot, and both directions work.
func TestSwitchingProtocolsThroughTransport(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		rw.WriteString("echo " + line)
		rw.Flush()
	}))
	defer server.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	rt, g := calls(t, base)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || inFlight(g) != 0 {
		t.Fatalf("body %T, %d in flight", resp.Body, inFlight(g))
	}
	defer conn.Close()
	io.WriteString(conn, "hi\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "echo hi\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// An event stream holds no slot, and its life is no latency.
func TestEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, g := calls(t, answers(with(200, "data: 1\n\n", "Content-Type", "text/event-stream; charset=utf-8")))
		resp, err := rt.RoundTrip(request(t.Context(), "GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		idle(t, g)
		time.Sleep(time.Minute)
		if got := text(t, resp, err); got != "200 data: 1\n\n" {
			t.Errorf("%q", got)
		}
		if n := outgoing(g).Latency.Count; n != 0 {
			t.Errorf("%d latencies", n)
		}
	})
}

// A long poll that is declared holds no slot while it waits for its answer, and its life is no latency.
func TestEndlessCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waiting := make(chan struct{})
		rt, g := calls(t, trip(func(*http.Request) (*http.Response, error) {
			waiting <- struct{}{}
			time.Sleep(time.Minute)
			return reply(200, "news"), nil
		}), guardhttp.WithEndlessCalls(func(r *http.Request) bool { return r.Method == "GET" }))
		for method, slots := range map[string]int{"GET": 0, "POST": 1} {
			done := make(chan string)
			go func() {
				resp, err := rt.RoundTrip(request(t.Context(), method, ""))
				done <- text(t, resp, err)
			}()
			<-waiting
			if n := outgoing(g).InFlight; n != slots {
				t.Errorf("%s: %d in flight", method, n)
			}
			if got := <-done; got != "200 news" {
				t.Errorf("%s: %q", method, got)
			}
		}
		if n := outgoing(g).Latency.Count; n != 1 {
			t.Errorf("%d latencies, expected that of the POST", n)
		}
	})
}

// One of three instances refuses everything, with the hint: each refusal is tried at once on another, any method, and
// no caller sees one. Host and redirects stay those of the request.
func TestRefusalIsTriedOnAnotherInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var perHost [3]atomic.Int64
		hosts := []string{"10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80"}
		rt, g := calls(t, trip(func(r *http.Request) (*http.Response, error) {
			i := r.URL.Host[len("10.0.0.")] - '0'
			perHost[i].Add(1)
			if r.Host != "payments.test" {
				t.Errorf("Host %q", r.Host)
			}
			if i == 0 {
				return reply(503, "", "Guard-Refused", "concurrency", "Guard-No-Retry", "1", "Retry-After", "2"), nil
			}
			return reply(200, "ok"), nil
		}), guardhttp.WithInstances(func() []string { return hosts }))
		start := time.Now()
		req := request(t.Context(), "POST", "x")
		for i := 0; i < 12 || perHost[0].Load() == 0; i++ { // not more refusals than the reserve of the budget lasts
			req.Body, _ = req.GetBody()
			resp, err := rt.RoundTrip(req)
			if got := text(t, resp, err); got != "200 ok" || resp.Request != req {
				t.Errorf("%q", got)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v", waited)
		}
		s := outgoing(g)
		if s.CalleeRefusals == 0 || s.CalleeRefusals != s.Retries || s.Failures != 0 {
			t.Errorf("%d refusals, %d retries, %d failures", s.CalleeRefusals, s.Retries, s.Failures)
		}
		idle(t, g)
	})
}

// A dead instance is left out once its breaker is open, and comes back by itself.
func TestOpenInstanceIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		var onDead atomic.Int64
		dead.Store(true)
		hosts := []string{"a:80", "b:80"}
		rt, g := calls(t, trip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a:80" {
				onDead.Add(1)
				if dead.Load() {
					return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
				}
			}
			return reply(200, "ok"), nil
		}), guardhttp.WithInstances(func() []string { return hosts }))
		failed := 0
		call := func(n int) {
			for range n {
				resp, err := rt.RoundTrip(request(t.Context(), "GET", ""))
				if err != nil {
					failed++
				} else {
					text(t, resp, nil)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		for range 300 {
			if call(1); outgoing(g).Breakers["open"] > 0 {
				break
			}
		}
		if got := outgoing(g).Breakers["open"]; got != 1 {
			t.Fatalf("%d instances open", got)
		}
		before, refused := onDead.Load(), failed
		call(70) // it stays open for three quarters of a second at least
		if n := onDead.Load() - before; n != 0 || failed != refused {
			t.Errorf("%d calls to the open instance, %d failed", n, failed-refused)
		}
		dead.Store(false)
		call(2000)
		if s := outgoing(g); s.Breakers["closed"] != 2 || failed != refused {
			t.Errorf("breakers %v, %d failed after the instance was back", s.Breakers, failed-refused)
		}
		idle(t, g)
	})
}

// A person's "retry 0" holds at once.
func TestRetryZero(t *testing.T) {
	s := answers(with(503, "busy"))
	rt, g := calls(t, s)
	raw, err := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 1, Revision: 1, LeaseSeconds: 180,
		Retry: &actuators.Retry{BudgetRatio: 0, Fallback: 0.1, Max: 1},
	}.Encode()
	if err == nil {
		err = g.Apply(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(request(t.Context(), "GET", ""))
	if got := text(t, resp, err); got != "503 busy" || s.attempts() != 1 {
		t.Errorf("%q after %d attempts", got, s.attempts())
	}
}

// tier is a guarded service whose handler calls the next one, and answers 502 if that fails.
func tier(t *testing.T, name, next string, count *atomic.Int64) (url string, g *guard.Guard) {
	t.Helper()
	g, err := guard.New(guard.Config{Service: name, SLO: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{MaxIdleConnsPerHost: 20}
	t.Cleanup(base.CloseIdleConnections)
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("next"), base)}
	s := httptest.NewServer(guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, next, nil)
		resp, err := client.Do(req)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})))
	t.Cleanup(s.Close)
	return s.URL, g
}

// Three tiers with retries at each, the last one down: only the outermost caller retries, as far as its budget goes, and
// the breakers do the rest. The last tier sees fewer attempts than requests, where three attempts at each of three
// callers would be 27.
func TestRetryInsideARetry(t *testing.T) {
	var down atomic.Bool
	var last, middle, front atomic.Int64
	end := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		last.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(end.Close)
	inner, middleGuard := tier(t, "middle", end.URL, &middle)
	entry, frontGuard := tier(t, "front", inner, &front)
	g := newGuard(t, 1000)
	base := &http.Transport{MaxIdleConnsPerHost: 20}
	t.Cleanup(base.CloseIdleConnections)
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("front"), base)}
	send := func(n int) {
		for range n {
			resp, err := client.Get(entry)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}
	send(200)
	if f, m, l := front.Load(), middle.Load(), last.Load(); f != 200 || m != 200 || l != 200 {
		t.Fatalf("in calm 200 requests made %d, %d and %d attempts", f, m, l)
	}
	down.Store(true)
	send(40) // fewer than a breaker needs to judge: only budget and layers hold the attempts down
	retries := outgoing(g).Retries
	if n := last.Load() - 200; retries == 0 || retries > 14 || n > 40+int64(retries) {
		t.Errorf("the first 40 requests made %d attempts at the last tier and %d retries, expected at most 14", n, retries)
	}
	send(560)
	attempts := float64(last.Load()-200) / 600
	t.Logf("attempts per request while the last tier is down: front %.2f, middle %.2f, last %.2f; %d retries at first",
		float64(front.Load()-200)/600, float64(middle.Load()-200)/600, attempts, retries)
	if attempts > 1.1 {
		t.Errorf("%.2f attempts per request at the last tier, expected at most 1.1", attempts)
	}
	for _, inner := range []*guard.Guard{frontGuard, middleGuard} {
		if s := outgoing(inner); s.Retries > 0 || s.Suppressed["layer"] == 0 {
			t.Errorf("%s: %d retries, %d suppressed by the layer", inner.Service(), s.Retries, s.Suppressed["layer"])
		}
	}
}

// The mark goes through, and an inner layer that has the mark does not retry.
func TestMarkAndHintPassThrough(t *testing.T) {
	s := answers(with(503, "busy", "Guard-No-Retry", "1"))
	g := newGuard(t, 10)
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), s)}
	status := http.StatusBadGateway
	url := serve(t, g, func(w http.ResponseWriter, r *http.Request) {
		req := request(r.Context(), "GET", "")
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
		w.WriteHeader(status)
	})
	resp := get(t, url, "Guard-Attempt", "2")
	if mark := s.seen[0].Header.Get("Guard-Attempt"); mark != "2" || s.attempts() != 1 {
		t.Errorf("mark %q, %d attempts; expected 2, 1", mark, s.attempts())
	}
	if hint := resp.Header.Get("Guard-No-Retry"); hint == "" {
		t.Error("the hint was lost")
	}
	status = http.StatusOK // a fallback: nothing to retry
	if hint := get(t, url).Header.Get("Guard-No-Retry"); hint != "" {
		t.Errorf("a good answer carries the hint %q", hint)
	}
	s.answers = []func() (*http.Response, error){with(503, "busy")}
	status = http.StatusBadGateway
	if hint := get(t, url, "Guard-Attempt", "0").Header.Get("Guard-No-Retry"); hint != "" {
		t.Errorf("a failure without the hint came back with it: %q", hint)
	}
}

// A guard's refusals carry the hint after a second of unbroken refusing.
func TestRefusalHintsAfterASecond(t *testing.T) {
	now := time.Now()
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Max: 1, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Acquire(t.Context(), guard.Default); err != nil {
		t.Fatal(err)
	}
	h := guardhttp.New(g, http.NotFoundHandler())
	for i := range 20 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if hint := w.Header().Get("Guard-No-Retry") != ""; hint != (i >= 10) {
			t.Errorf("hint %v after %d ms of refusing", hint, 100*i)
		}
		now = now.Add(100 * time.Millisecond)
	}
}

// A base that panics frees the slot, and the panic reaches the caller.
func TestBaseThatPanics(t *testing.T) {
	rt, g := calls(t, trip(func(*http.Request) (*http.Response, error) { panic("boom") }))
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recovered %v", got)
			}
		}()
		_, _ = rt.RoundTrip(request(t.Context(), "GET", ""))
	}()
	if n := inFlight(g); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// A refused request's body is closed, as the contract of RoundTripper demands.
func TestBodyOfARefusedRequestIsClosed(t *testing.T) {
	rt, _ := calls(t, answers(with(200, "")))
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	var closed atomic.Int64
	req := request(ctx, "POST", "")
	req.Body = &closable{rest: strings.NewReader("x"), closed: &closed, gone: make(chan struct{})}
	if _, err := rt.RoundTrip(req); !errors.Is(err, guard.ErrCallDeadline) || closed.Load() != 1 {
		t.Errorf("%v, closed %d times", err, closed.Load())
	}
}

// Many callers against a callee that fails in every way: afterwards no call is in flight and no goroutine is left.
func TestTransportLeaksNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch rand.IntN(6) {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			w.Header().Set("Guard-Refused", "concurrency")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
		}
	}))
	base := &http.Transport{}
	rt, g := calls(t, base)
	client := &http.Client{Transport: rt}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 25 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				resp, err := client.Do(req)
				if err == nil && (n+i)%3 > 0 { // every third caller forgets the body
					_, _ = io.CopyN(io.Discard, resp.Body, 1000)
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	group.Wait()
	client.CloseIdleConnections()
	server.Close()
	waittest.Until(t, "no call in flight", func() bool { return inFlight(g) == 0 })
	s := g.Snapshot()
	if calls := outgoing(g); calls.Requests != 200 || s.DoubleReleases != 0 {
		t.Errorf("%d requests, %d double releases", calls.Requests, s.DoubleReleases)
	}
}

// A connection that switches protocols, and a stream, are good calls to the breaker, though their latency counts for
// nothing: 1% of failures opens none, and a breaker that has opened closes again.
func TestEndlessAnswersAreGoodCalls(t *testing.T) {
	for name, good := range map[string]func() (*http.Response, error){
		"upgrade": with(101, ""), "stream": with(200, "", "Content-Type", "text/event-stream"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad, failures := with(500, ""), 0 // of a hundred
				n := 0
				tr, g := calls(t, trip(func(*http.Request) (*http.Response, error) {
					if n++; n%100 < failures {
						return bad()
					}
					return good()
				}))
				run := func(of100, calls int) guard.CallSnapshot {
					failures = of100
					for range calls {
						if resp, err := tr.RoundTrip(request(t.Context(), "GET", "")); err == nil {
							resp.Body.Close()
						}
						time.Sleep(5 * time.Millisecond)
					}
					return g.Snapshot().Calls[0]
				}
				if s := run(1, 20_000); s.BreakerOpened["failures"] != 0 {
					t.Errorf("1%% of failures: opened %v", s.BreakerOpened)
				}
				if s := run(100, 1_000); s.Breakers["closed"] != 0 {
					t.Errorf("nothing but failures for 5 s: %v", s.Breakers)
				}
				if s := run(0, 4_000); s.Breakers["closed"] != 1 {
					t.Errorf("20 s after the return: %v", s.Breakers)
				}
			})
		})
	}
}

// A failure is a failure, and a refusal a refusal, in whatever media type it is told.
func TestEventStreamThatFails(t *testing.T) {
	for _, tc := range []struct {
		name               string
		header             []string
		failures, refusals uint64
	}{
		{"failed", nil, 1, 0},
		{"refused", []string{"Guard-Refused", "shed", "Guard-No-Retry", "1"}, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr, g := calls(t, answers(with(503, "no", append(tc.header, "Content-Type", "text/event-stream")...)))
			resp, err := tr.RoundTrip(request(t.Context(), "POST", ""))
			if got := text(t, resp, err); got != "503 no" {
				t.Error(got)
			}
			if s := g.Snapshot().Calls[0]; s.Failures != tc.failures || s.CalleeRefusals != tc.refusals {
				t.Errorf("%d failures, %d refusals", s.Failures, s.CalleeRefusals)
			}
		})
	}
}

// A service that passes on the refusal of a call of its own may have executed part of the request. Only what a guard says
// at the door proves that nothing was executed.
func TestPassedOnRefusalIsNoProof(t *testing.T) {
	for reason, attempts := range map[string]int{
		"bulkhead": 1, "breaker": 1, "deadline": 1, "concurrency": 2, "rate": 2, "shed": 2, "other": 2,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := answers(with(503, "", "Guard-Refused", reason), with(200, ""))
			tr, _ := calls(t, s)
			resp, err := tr.RoundTrip(request(t.Context(), "POST", "x"))
			text(t, resp, err)
			if s.attempts() != attempts {
				t.Errorf("%s: %d attempts, want %d", reason, s.attempts(), attempts)
			}
		})
	}
}

// What http.Client forgives, the transport does.
func TestSloppyBase(t *testing.T) {
	for name, base := range map[string]trip{
		"no body":              func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil },
		"no body, and retried": func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 503}, nil },
		"nothing":              func(*http.Request) (*http.Response, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, g := calls(t, base)
				resp, err := (&http.Client{Transport: tr}).Do(request(t.Context(), "GET", ""))
				if name == "nothing" {
					if err == nil {
						t.Error("no error")
					}
				} else {
					text(t, resp, err)
				}
				if s := g.Snapshot().Calls[0]; s.InFlight != 0 {
					t.Errorf("%d in flight", s.InFlight)
				}
			})
		})
	}
}

// A deadline that was forgotten, or is absurdly old, has passed. It is nothing that the callee has done.
func TestAncientDeadline(t *testing.T) {
	for _, at := range []time.Time{{}, time.Time{}.Add(1), time.Unix(0, 0), time.Unix(-1<<40, 0)} {
		s := answers(with(200, ""))
		tr, _ := calls(t, s)
		ctx, cancel := context.WithDeadline(t.Context(), at)
		defer cancel()
		if _, err := tr.RoundTrip(request(ctx, "GET", "")); !errors.Is(err, guard.ErrCallDeadline) || s.attempts() != 0 {
			t.Errorf("%v: %v after %d attempts", at, err, s.attempts())
		}
	}
}

// A redirect leads to another instance of the dependency only if it stays on its host.
func TestRedirectLeavesTheInstances(t *testing.T) {
	for location, want := range map[string]string{
		"/elsewhere": "10.0.0.1:80", "http://payments.test/elsewhere": "10.0.0.1:80",
		"http://archive.test/elsewhere": "archive.test", "https://payments.test/elsewhere": "payments.test",
	} {
		var last string
		rt, _ := calls(t, trip(func(r *http.Request) (*http.Response, error) {
			last = r.URL.Host
			switch r.URL.Path {
			case "/pay":
				return reply(302, "", "Location", location), nil
			case "/elsewhere":
				return reply(302, "", "Location", "/there"), nil
			}
			return reply(200, ""), nil
		}), guardhttp.WithInstances(func() []string { return []string{"10.0.0.1:80"} }))
		resp, err := (&http.Client{Transport: rt}).Do(request(t.Context(), "GET", ""))
		text(t, resp, err)
		if last != want {
			t.Errorf("redirected to %s: the last request went to %s, want %s", location, last, want)
		}
	}
}
