package guardhttp

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func member(text string) string { return wire.BaggageMember + "=" + url.QueryEscape(text) }

func believes(all bool) Option { return WithTrust(func(*http.Request) bool { return all }) }

// No field of a stranger's counts, in whichever header it comes, and none reaches a service behind.
func TestStrangersGainNothing(t *testing.T) {
	const all = "rank=ffffffff;crit=critical;key=bob;api=vip;again;group=9;id=00000001;attempt=1;left=3600000;early=9;request=Q7"
	fields := append(strings.Split(all, ";"), all)
	for i, field := range fields[1 : len(fields)-1] {
		fields[i+1] = "rank=ffffffff;" + field // most count with a rank only
	}
	var headers []http.Header
	for _, text := range fields {
		headers = append(headers,
			http.Header{ContextHeader: {text}},
			http.Header{baggageHeader: {"a=1", member(text)}},
			http.Header{baggageHeader: {"guard%2Dcontext=" + url.QueryEscape(text)}},
			http.Header{ContextHeader: {text}, baggageHeader: {member(text)}, traceHeader: {trace}},
		)
	}
	headers = append(headers,
		http.Header{traceHeader: {trace}},
		http.Header{http.CanonicalHeaderKey("GUARD_CONTEXT"): {all}},
		http.Header{CriticalityHeader: {"critical"}, KeyHeader: {"bob"}},
	)
	back := newTier(t, "back", nil)
	front := newTier(t, "front", back, believes(false))
	var passed []http.Header
	bare, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	note := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		passed = append(passed, r.Header)
		if deadline, ok := r.Context().Deadline(); ok {
			t.Errorf("the deadline is %v", deadline)
		}
	})
	bypassed := WithBypass(func(r *http.Request) bool { return r.URL.Path == "/healthz" })
	for _, header := range headers {
		back.heard, passed = nil, nil
		ask(t, front, header.Clone())
		if len(back.heard) != 2 {
			t.Fatalf("%v: back has had %d requests", header, len(back.heard))
		}
		for i, c := range back.heard {
			own := c.Rank.Place
			if own == 0xffffffff || own == wire.TraceRank(trace).Place {
				t.Errorf("%v: chose its place %08x", header, own)
			}
			want := wire.Context{Arrival: guard.Arrival{
				Criticality: guard.Default, Entry: "front/", Rank: guard.Rank{Place: own, Drawn: true, Again: i == 1},
			}, Marked: true}
			if c != want {
				t.Errorf("%v: back was told %+v, expected %+v", header, c, want)
			}
		}
		for _, path := range []string{"/", "/healthz"} {
			r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
			r.Header = header.Clone()
			New(bare, note, believes(false), bypassed).ServeHTTP(httptest.NewRecorder(), r)
		}
		for _, h := range passed {
			if claims(h, contextHeaders) {
				t.Errorf("%v: the handler sees %v", header, h)
			}
			if len(header[baggageHeader]) == 2 && h.Get(baggageHeader) != "a=1" {
				t.Errorf("%v: other baggage is lost: %v", header, h)
			}
		}
		if len(passed) != 2 {
			t.Fatalf("%v: %d requests were passed on", header, len(passed))
		}
	}
}

// Guards that see the same trace draw the same place, unless the request has a key or a rank, and only where the caller is
// believed by name.
func TestPlaceFromTheTrace(t *testing.T) {
	of := wire.TraceRank(trace).Place
	for _, x := range []struct {
		header  http.Header
		options []Option
		same    bool
	}{
		{http.Header{traceHeader: {trace}}, []Option{believes(true)}, true},
		{http.Header{traceHeader: {trace}}, []Option{believes(false)}, false},
		{http.Header{traceHeader: {trace}}, nil, false},
		{http.Header{traceHeader: {trace, trace}}, []Option{believes(true)}, false},
		{http.Header{traceHeader: {trace}, KeyHeader: {"alice"}}, []Option{believes(true)}, false},
		{http.Header{traceHeader: {trace}, ContextHeader: {"rank=00000007"}}, []Option{believes(true)}, false},
	} {
		back := newTier(t, "back", nil)
		ask(t, newTier(t, "front", back, x.options...), x.header)
		for _, c := range back.heard {
			if got := c.Rank.Place == of; got != x.same || !c.Rank.Drawn {
				t.Errorf("%v, %d options: back was told %+v", x.header, len(x.options), c)
			}
		}
	}
}

// answers returns the header of what New answers: once admitted, once refused.
func answers(t *testing.T, said string, options ...Option) (admitted, refused http.Header) {
	t.Helper()
	now := time.Unix(1e9, 0)
	g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second, Min: 1, Max: 1, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler
	full := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 8 { // until it has been refusing for a second
			inner := httptest.NewRecorder()
			h.ServeHTTP(inner, r)
			refused = inner.Header()
			now = now.Add(200 * time.Millisecond)
		}
		w.Header().Set(AnswerHeader, said)
	})
	h = New(g, full, options...)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	return w.Header(), refused
}

// What a callee has said of a class of requests there, and a hint that no longer matters, end here. Strangers are told what
// every client is told, not how full the service is.
func TestWhatAnswersSay(t *testing.T) {
	const passed = "no-retry;background;threshold=1c0000000;hue=blue"
	admitted, refused := answers(t, passed)
	if got := admitted.Get(AnswerHeader); got != "threshold=1c0000000" {
		t.Errorf("a success says %q", got)
	}
	if got := refused.Get(AnswerHeader); got != "no-retry" {
		t.Errorf("a refusal says %q", got)
	}
	admitted, refused = answers(t, passed, believes(false))
	if len(admitted[AnswerHeader]) > 0 || len(refused[AnswerHeader]) > 0 {
		t.Errorf("a stranger is told %q and %q", admitted[AnswerHeader], refused[AnswerHeader])
	}
	if refused.Get(NoRetryHeader) == "" || refused.Get("Retry-After") == "" {
		t.Errorf("a stranger is not told when to come back: %v", refused)
	}
}

// What a callee has answered reaches no stranger, whichever way a handler passes it on, admitted or not.
func TestNothingPassedOnReachesStrangers(t *testing.T) {
	const passed = "threshold=1c0000000"
	for _, believed := range []bool{true, false} {
		for _, bypass := range []bool{true, false} {
			g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			h := New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				h.Set(AnswerHeader, passed)
				switch r.URL.Path {
				case "/interim":
					w.WriteHeader(http.StatusEarlyHints)
				case "/header":
					h.Set("Own", "1")
				case "/announced":
					h.Set("Trailer", AnswerHeader+", Own")
					io.WriteString(w, "whole")
					h.Set(AnswerHeader, passed)
					h.Set("Own", "1")
				case "/unannounced":
					w.WriteHeader(http.StatusOK)
					http.NewResponseController(w).Flush()
					h[http.TrailerPrefix+"guard-answer"] = []string{passed}
					h[http.TrailerPrefix+"Own"] = []string{"1"}
				}
			}), believes(believed), WithBypass(func(*http.Request) bool { return bypass }))
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			for path, own := range map[string]string{"/": "", "/interim": "", "/header": "1", "/announced": "1", "/unannounced": "1"} {
				told := 0
				hear := func(h http.Header) { told += len(h[AnswerHeader]) }
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { hear(http.Header(h)); return nil },
				})
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, http.NoBody)
				answer, err := s.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				hear(answer.Header)
				hear(answer.Trailer)
				if told > 0 != believed {
					t.Errorf("believed %v, bypass %v, %s: told %d times", believed, bypass, path, told)
				}
				if got := answer.Header.Get("Own") + answer.Trailer.Get("Own"); got != own {
					t.Errorf("%s: Own is %q", path, got)
				}
			}
		}
	}
}

// A bypassed handler has all of the server's abilities, whoever asks.
func TestBypassedStranger(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	h := New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		_, reads := w.(io.ReaderFrom)
		if !flushes || !hijacks || !reads {
			t.Errorf("flushes %v, hijacks %v, reads %v", flushes, hijacks, reads)
		}
		io.WriteString(w, strings.Repeat("x", 1<<17))
	}), believes(false), WithBypass(func(*http.Request) bool { return true }))
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	answer, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if s := g.Snapshot(); len(body) != 1<<17 || s.Offered != [4]uint64{} || s.EndlessDeclaredTotal != 0 {
		t.Errorf("%d bytes; counted %v", len(body), s.Offered)
	}
}

// outsider is a server outside the house, which advises what it can.
func outsider(t *testing.T) (heard *[]http.Header, address string) {
	t.Helper()
	heard = &[]http.Header{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*heard = append(*heard, r.Header)
		w.Header().Set(AnswerHeader, "background;threshold=3ffffffff")
		http.NewResponseController(w).Flush()
		w.Header().Set(http.TrailerPrefix+AnswerHeader, "background;threshold=3ffffffff")
	}))
	t.Cleanup(s.Close)
	return heard, s.URL
}

// within calls fn in an admitted request of alice.
func within(t *testing.T, fn func(g *guard.Guard, r *http.Request)) {
	t.Helper()
	g, err := guard.New(guard.Config{Service: "shop", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set(ContextHeader, "rank=8f3a01c2;key=alice;attempt=0;left=60000")
	New(g, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { fn(g, r) })).ServeHTTP(httptest.NewRecorder(), r)
}

// The key of a user stays in the house, and what an outsider advises stays outside.
func TestOutsideDependency(t *testing.T) {
	for _, outside := range []bool{true, false} {
		heard, address := outsider(t)
		within(t, func(g *guard.Guard, r *http.Request) {
			var options []TransportOption
			if outside {
				options = append(options, WithoutContext())
			}
			req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, address, http.NoBody)
			req.Header = r.Header.Clone() // as a proxy does
			req.Header.Set(KeyHeader, "alice")
			req.Header.Set(baggageHeader, member("key=alice")+",a=1")
			answer, err := (&http.Client{Transport: Transport(g.Dependency("vendor"), nil, options...)}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			for _, said := range []http.Header{answer.Header, answer.Trailer} {
				if got := said.Get(AnswerHeader) == ""; got != outside {
					t.Errorf("outside %v: the answer says %v", outside, said)
				}
			}
		})
		for name, values := range (*heard)[0] {
			if outside && (strings.HasPrefix(name, "Guard-") || strings.Contains(strings.Join(values, ""), "alice")) {
				t.Errorf("told %s: %q", name, values)
			}
		}
		if !outside && ContextOf((*heard)[0]).Key != "alice" {
			t.Errorf("told %v", (*heard)[0])
		}
		if got := (*heard)[0].Get(baggageHeader); outside && got != "a=1" {
			t.Errorf("told the baggage %q", got)
		}
	}
}

// The member of baggage follows Guard-Context where it is there already, or where it is asked for.
func TestBaggageTravels(t *testing.T) {
	for _, x := range []struct {
		baggage string
		options []TransportOption
		want    string
	}{
		{"", nil, ""},
		{"a=1", nil, "a=1"},
		{"a=1", []TransportOption{WithBaggage()}, "a=1,guard-context=rank%3D8f3a01c2%3Bkey%3Dalice%3Bapi%3Dshop%252F%3Battempt%3D0"},
		{"guard-context=stale,a=1", nil, "a=1,guard-context=rank%3D8f3a01c2%3Bkey%3Dalice%3Bapi%3Dshop%252F%3Battempt%3D0"},
	} {
		heard, address := outsider(t)
		within(t, func(g *guard.Guard, r *http.Request) {
			req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, address, http.NoBody)
			if x.baggage != "" {
				req.Header.Set(baggageHeader, x.baggage)
			}
			answer, err := (&http.Client{Transport: Transport(g.Dependency("back"), nil, x.options...)}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if got := req.Header.Get(baggageHeader); got != x.baggage {
				t.Errorf("the request has changed: %q", got)
			}
		})
		if got := (*heard)[0].Get(baggageHeader); got != x.want {
			t.Errorf("%q becomes %q, expected %q", x.baggage, got, x.want)
		}
	}
}

// A call that is made for no request says what its own header says, and does not retry below a layer that does.
func TestCallOfNoRequestKeepsItsHeader(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "shop", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	heard, address := outsider(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	req.Header.Set(ContextHeader, "rank=8f3a01c2;key=alice;attempt=2;left=3600000;hue=blue")
	answer, err := (&http.Client{Transport: Transport(g.Dependency("back"), nil)}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	got := ContextOf((*heard)[0])
	if got.Left <= 0 || got.Left > time.Minute {
		t.Errorf("%v are left", got.Left)
	}
	got.Left = 0
	if want := wire.ParseContext("rank=8f3a01c2;key=alice;attempt=2"); got != want || len((*heard)[0][AttemptHeader]) > 0 {
		t.Errorf("told %+v and %v, expected %+v", got, (*heard)[0][AttemptHeader], want)
	}
}

// old is a tier that is not guarded, between two that are. What it copies from a request to its call, and adds to what it
// copies, is its own affair.
func old(t *testing.T, behind *tier, copied func(from, to http.Header)) *tier {
	t.Helper()
	self := &tier{}
	self.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		self.heard = append(self.heard, ContextOf(r.Header))
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, behind.URL, http.NoBody)
		copied(r.Header, req.Header)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answer.Body.Close()
		w.Header().Set(AnswerHeader, answer.Header.Get(AnswerHeader)+";mood=fine;no-retry=9") // of a newer version
		w.WriteHeader(answer.StatusCode)
	}))
	t.Cleanup(self.Close)
	return self
}

// A fleet of several versions: the guards before and after a tier that knows less, or more, understand each other as far as
// that tier lets them, and every request is served.
func TestMixedFleet(t *testing.T) {
	for name, x := range map[string]struct {
		copied func(from, to http.Header)
		same   bool // the rank, the key and the entry arrive
	}{
		"knows nothing": {func(http.Header, http.Header) {}, false},
		"copies the header": {func(from, to http.Header) {
			to[ContextHeader] = from[ContextHeader]
		}, true},
		"copies baggage": {func(from, to http.Header) { to[baggageHeader] = from[baggageHeader] }, true},
		"is newer, with fields of its own": {func(from, to http.Header) {
			to.Set(ContextHeader, "v=2;"+from.Get(ContextHeader)+";hue=blue;lift=9;group=many;rank2=00000000")
		}, true},
		"damages the header": {func(from, to http.Header) {
			to.Set(ContextHeader, from.Get(ContextHeader)+";rank=ffffffff")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			last := newTier(t, "last", nil)
			back := newTier(t, "back", last)
			middle := old(t, back, x.copied)
			front := newTier(t, "front", middle)
			ask(t, front, http.Header{KeyHeader: {"alice"}})
			if len(middle.heard) != 2 || len(back.heard) != 2 || len(last.heard) != 4 {
				t.Fatalf("%d, %d and %d requests", len(middle.heard), len(back.heard), len(last.heard))
			}
			first := middle.heard[0]
			if first.Key != "alice" || !first.Rank.Drawn {
				t.Fatalf("the tier was told %+v", first)
			}
			for _, c := range append(back.heard, last.heard...) {
				same := c.Rank.Place == first.Rank.Place && c.Key == "alice" && c.Entry == "front/"
				if same != x.same || c.Rank.Place == 0xffffffff {
					t.Errorf("told %+v, the tier before %+v", c, first)
				}
			}
		})
	}
}
