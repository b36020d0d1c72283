package guardhttp

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

func read(values ...string) carried { return carriedIn(http.Header{ContextHeader: values}) }

// What is written is read, and what cannot be read counts for nothing.
func TestContextHeader(t *testing.T) {
	full := guard.Rank{Place: 0x8f3a01c2, Drawn: true, Again: true, Group: 4, ID: 7}
	none := carried{criticality: guard.Default}
	placed := func(c carried) carried { c.rank.Place, c.rank.Drawn = 0x8f3a01c2, true; return c }
	for _, x := range []struct {
		text string
		want carried
	}{
		{contextValue(full, guard.Critical, "a;b=ü"), carried{rank: full, criticality: guard.Critical, key: "a;b=ü"}},
		{contextValue(guard.Rank{Place: 0x8f3a01c2, Drawn: true}, guard.Default, ""), placed(none)},
		{"rank=8f3a01c2;hue=blue;again;lift=9", func() carried { c := placed(none); c.rank.Again = true; return c }()},
		{"rank=8f3a01c2;group=4", placed(none)},
		{"rank=8f3a01c2;group=256;id=00000001", placed(none)},
		{"rank=8f3a01c2;again=yes", placed(none)},
		{"rank=8f3a01c2;crit=royal", placed(none)},
		{"rank=8f3a01c2;key=%zz", placed(none)},
		{"rank=8f3a01c2;key=" + strings.Repeat("k", longestKey+1), placed(none)},
		{"again;group=4;id=00000001", none},
		{"rank=8f3a01c;again", none},
		{"rank=8F3A01C2", none},
		{"rank=+f3a01c2", none},
		{"rank=ffffffff;rank=00000000", none},
		{"rank=ffffffff;" + strings.Repeat("x", longestContext), none},
		{"", none},
	} {
		if got := read(x.text); got != x.want {
			t.Errorf("%q: %+v, expected %+v", x.text, got, x.want)
		}
	}
	if got := read("rank=ffffffff", "rank=00000000"); got != none {
		t.Errorf("two headers: %+v", got)
	}
}

// Whatever arrives, what is read can be written and read again, and nothing is read from a header without a rank but the
// criticality and the key.
func FuzzContextHeader(f *testing.F) {
	f.Add("rank=8f3a01c2;crit=critical;key=alice;again;group=4;id=51d0aa37")
	f.Add("rank=8f3a01c2;;=;key=%00;crit=")
	f.Add("again;group=9;rank=")
	f.Fuzz(func(t *testing.T, text string) {
		c := read(text)
		if !c.rank.Drawn {
			if c.rank != (guard.Rank{}) {
				t.Fatalf("%q: a rank that is not drawn: %+v", text, c.rank)
			}
			return
		}
		if !strings.Contains(text, fmt.Sprintf("rank=%08x", c.rank.Place)) {
			t.Fatalf("%q: place %08x", text, c.rank.Place)
		}
		if again := read(contextValue(c.rank, c.criticality, c.key)); again.rank != c.rank || again.criticality != c.criticality {
			t.Fatalf("%q: %+v, then %+v", text, c, again)
		}
	})
}

// tier is a service whose handler calls the one behind it twice, and that notes what it is told.
type tier struct {
	*httptest.Server
	heard []carried
}

func newTier(t *testing.T, name string, behind *tier, options ...Option) *tier {
	t.Helper()
	g, err := guard.New(guard.Config{Service: name, SLO: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{}
	if behind != nil {
		client.Transport = Transport(g.Dependency("behind"), nil)
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
		self.heard = append(self.heard, carriedIn(r.Header))
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
	if !first.rank.Drawn || first.criticality != guard.Critical || first.key != "alice" {
		t.Fatalf("middle was told %+v", first)
	}
	for i, c := range append(middle.heard, back.heard...) {
		want := first
		want.rank.Again = i%2 == 1
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
		if c.criticality != guard.Default || c.key != "" || c.rank.Place == 0xffffffff || c.rank.Again != (i%2 == 1) || c.rank.Group != 0 {
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
