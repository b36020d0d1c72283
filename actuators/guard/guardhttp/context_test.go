package guardhttp

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// Of two headers, none counts.
func TestTwoContextsAreNone(t *testing.T) {
	h := http.Header{ContextHeader: {"rank=ffffffff", "rank=00000000"}, AnswerHeader: {"background", "background"}}
	if c, a := ContextOf(h), adviceIn(h); c.Rank.Drawn || a != (guard.Advice{}) {
		t.Errorf("read %+v and %+v", c, a)
	}
}

// tier is a service whose handler calls the one behind it twice, and that notes what it is told.
type tier struct {
	*httptest.Server
	heard []wire.Context
}

func newTier(t *testing.T, name string, behind *tier, options ...Option) *tier {
	t.Helper()
	g, err := guard.New(guard.Config{Service: name, SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{}
	if behind != nil {
		client.Transport = Transport(g.Dependency("behind"), nil, WithBaggage())
	}
	self := &tier{}
	guarded := New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for n := 0; behind != nil && n < 2; n++ {
			req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, behind.URL, http.NoBody)
			answer, err := client.Do(req)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			answer.Body.Close()
		}
	}), options...)
	self.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		self.heard = append(self.heard, ContextOf(r.Header))
		guarded.ServeHTTP(w, r)
	}))
	t.Cleanup(self.Close)
	return self
}

func ask(t *testing.T, to *tier, header http.Header) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, to.URL, http.NoBody)
	req.Header = header
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("got %s", answer.Status)
	}
}

// A request has one rank, one criticality and one key in all services, and its later calls say that they continue.
func TestRankTravels(t *testing.T) {
	back := newTier(t, "back", nil)
	middle := newTier(t, "middle", back)
	front := newTier(t, "front", middle)
	ask(t, front, http.Header{CriticalityHeader: {"critical"}, KeyHeader: {"alice"}})
	if len(middle.heard) != 2 || len(back.heard) != 4 {
		t.Fatalf("middle has had %d requests, back %d", len(middle.heard), len(back.heard))
	}
	first := middle.heard[0]
	if !first.Rank.Drawn || first.Criticality != guard.Critical || first.Key != "alice" || first.Entry != "front/" {
		t.Fatalf("middle was told %+v", first)
	}
	for i, c := range append(middle.heard, back.heard...) {
		want := first
		want.Rank.Again = i%2 == 1
		if c != want {
			t.Errorf("request %d: %+v, expected %+v", i, c, want)
		}
	}
}

// What a stranger says of its rank counts for nothing.
func TestStrangersRankIsNotBelieved(t *testing.T) {
	back := newTier(t, "back", nil)
	front := newTier(t, "front", back, WithTrust(func(*http.Request) bool { return false }))
	for range 20 {
		ask(t, front, http.Header{ContextHeader: {"rank=ffffffff;crit=critical;key=bob;again;group=9;id=00000001"}})
	}
	for i, c := range back.heard {
		if c.Criticality != guard.Default || c.Key != "" || c.Rank.Place == 0xffffffff || c.Rank.Again != (i%2 == 1) || c.Rank.Group != 0 {
			t.Errorf("back was told %+v", c)
		}
	}
	if len(back.heard) != 40 {
		t.Errorf("back has had %d requests", len(back.heard))
	}
}

// Nor does a stranger's header reach what is behind the guard, where it would be believed.
func TestStrangersRankIsRemoved(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, believed := range []bool{true, false} {
		h := New(g, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get(ContextHeader) != ""; got != believed {
				t.Errorf("believed %v: the handler sees it: %v", believed, got)
			}
		}), WithTrust(func(*http.Request) bool { return believed }))
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header.Set(ContextHeader, "rank=ffffffff;again")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if r.Header.Get(ContextHeader) == "" {
			t.Error("the header of the caller's request has changed")
		}
	}
}

// A redirect to another host hands no rank and no key to it.
func TestRedirectHandsOnNoKey(t *testing.T) {
	var heard []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard = append(heard, r.Header) }))
	defer other.Close()
	back := &tier{Server: httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))}
	defer back.Close()
	ask(t, newTier(t, "front", back), http.Header{KeyHeader: {"alice"}})
	if len(heard) != 2 {
		t.Fatalf("the other host was asked %d times", len(heard))
	}
	for _, h := range heard {
		if len(h[ContextHeader]) > 0 {
			t.Errorf("the other host was told %q", h[ContextHeader])
		}
	}
}

// What the caller still waits travels, ends the context of the request, and is never longer than the service's own.
func TestDeadlineTravels(t *testing.T) {
	back := newTier(t, "back", nil)
	front := newTier(t, "front", back)
	ask(t, front, http.Header{ContextHeader: {"left=60000"}})
	for _, c := range back.heard {
		if c.Left <= 0 || c.Left > time.Minute {
			t.Errorf("back was told that %v are left", c.Left)
		}
	}
	g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		header http.Header
		ends   bool
	}{
		{http.Header{ContextHeader: {"left=1"}}, true},
		{http.Header{ContextHeader: {"left=60000"}}, false},
		{http.Header{ContextHeader: {"left=1"}, "Upgrade": {"websocket"}}, false},
		{http.Header{ContextHeader: {"left=1"}, "Accept": {"text/event-stream"}}, false},
	} {
		New(g, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			deadline, ok := r.Context().Deadline()
			if x.ends {
				<-r.Context().Done()
			}
			if r.Context().Err() != nil != x.ends || ok && time.Until(deadline) > time.Minute {
				t.Errorf("%v: %v, deadline %v", x.header, r.Context().Err(), deadline)
			}
		})).ServeHTTP(httptest.NewRecorder(), &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: x.header, ProtoMajor: 1})
	}
}

// A route is one of few by default, too.
func TestRoute(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/cart": "/cart", "/cart/17?x": "/cart", "": "", "*": "*", "/.well-known/x": "/.well-known", "/cart;": "/cart",
		"//cart": "/cart", "/./cart": "/cart", "/cart;x=1": "/cart", "/x/../cart": "/cart", "/x/..;a/cart/17": "/cart", "///": "/",
		"/cart//17": "/cart", "/cart/": "/cart", "/;x/cart": "/cart", "/../cart": "/cart", ";/cart": "/cart",
	} {
		if got := RouteOf(&http.Request{URL: &url.URL{Path: path}}); got != want {
			t.Errorf("%q: %q, expected %q", path, got, want)
		}
	}
	rpc := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/shop.Cart/Add"}, ProtoMajor: 2,
		Header: http.Header{"Content-Type": {"application/grpc"}},
	}
	if got := RouteOf(rpc); got != "/shop.Cart/Add" {
		t.Errorf("gRPC: %q", got)
	}
}

func TestRouteDoesNotAllocate(t *testing.T) {
	r := &http.Request{URL: &url.URL{Path: "/cart/17/.hidden/items"}}
	if n := testing.AllocsPerRun(100, func() { RouteOf(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// However a client writes a path, a route is one segment, and what servers take for nothing gives no other one.
func FuzzRoute(f *testing.F) {
	for _, seed := range []string{"", "cart", "cart/17", "/cart", "./cart", "x/../cart", "cart;x=1/y", "..;/cart", "\x00", "...", "a;/..;b/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		of := func(p string) string { return RouteOf(&http.Request{URL: &url.URL{Path: p}}) }
		route := of("/" + rest)
		if !strings.HasPrefix(route, "/") || strings.ContainsAny(route[1:], "/;") || route == "/." || route == "/.." || len(route) > len(rest)+1 {
			t.Errorf("%q: %q", rest, route)
		}
		for _, noise := range []string{"/", "/./", "/x/../", "/;y/", "/../"} {
			if got := of(noise + "/" + rest); got != route {
				t.Errorf("%q after %q: %q, else %q", rest, noise, got, route)
			}
		}
	})
}

// A handler that passes an answer on, as a proxy does, passes the threshold on.
func TestThresholdIsPassedOn(t *testing.T) {
	g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(AnswerHeader, "threshold=1c0000000")
		w.WriteHeader(http.StatusOK)
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	if got := w.Header()[AnswerHeader]; len(got) != 1 || got[0] != "threshold=1c0000000" {
		t.Errorf("the answer says %q", got)
	}
}

// An edge that is a proxy hands on none of a stranger's claims, bypassed or not.
func TestEdgeThatIsAProxy(t *testing.T) {
	for _, bypassed := range []bool{false, true} {
		g, err := guard.New(guard.Config{Service: "edge", SLO: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		h := New(g, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if claims(r.Header, slices.Concat(contextHeaders, criticalityHeaders, keyHeaders)) {
				t.Errorf("bypassed %v: handed on %v", bypassed, r.Header)
			}
		}), WithTrust(func(*http.Request) bool { return false }), WithBypass(func(*http.Request) bool { return bypassed }))
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.Header = http.Header{
			CriticalityHeader: {"critical"}, KeyHeader: {"vip"}, ContextHeader: {"rank=ffffffff"}, "Guard_key": {"vip"},
			"Guard_criticality": {"critical"}, "Baggage": {"guard-context=rank%3Dffffffff"},
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// Of several criticalities the least important counts, and of several keys none.
func TestSeveralClaims(t *testing.T) {
	r := &http.Request{Header: http.Header{CriticalityHeader: {"critical", "background"}, KeyHeader: {"a", "b"}}}
	if c, key := CriticalityOf(r), KeyOf(r); c != guard.Background || key != "" {
		t.Errorf("%v, %q", c, key)
	}
}
