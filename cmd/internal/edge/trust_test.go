package edge

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

type setting struct {
	peers, criticality []string
	key                string
	strip              bool
}

func (s setting) trust(t *testing.T) *Trust {
	t.Helper()
	trust := &Trust{StripHeaders: s.strip}
	for _, p := range s.peers {
		if err := trust.AddPeer(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range s.criticality {
		if err := trust.AddCriticality(c); err != nil {
			t.Fatal(err)
		}
	}
	if s.key != "" {
		if err := trust.SetKey(s.key); err != nil {
			t.Fatal(err)
		}
	}
	return trust
}

// from returns a request of a peer, with headers as name, value, name, value...
func from(peer, path string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = peer
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

func certified(r *http.Request) *http.Request {
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	return r
}

const (
	stranger = "203.0.113.9:4711"
	friend   = "10.1.2.3:4711"
	socket   = "@"
)

func TestCriticalityIsBelievedOnlyFromWhomTheOperatorTrusts(t *testing.T) {
	const name = "Guard-Criticality"
	for what, c := range map[string]struct {
		setting
		request *http.Request
		want    guard.Criticality
	}{
		"nobody is believed by default":       {setting{}, from(stranger, "/", name, "critical"), guard.Default},
		"nor a neighbor on loopback":          {setting{}, from("127.0.0.1:1", "/", name, "critical"), guard.Default},
		"nor a socket's client":               {setting{}, from(socket, "/", name, "critical"), guard.Default},
		"anybody may be less important":       {setting{}, from(stranger, "/", name, "background"), guard.Background},
		"without a header":                    {setting{}, from(stranger, "/"), guard.Default},
		"a trusted block":                     {setting{peers: []string{"10.0.0.0/8"}}, from(friend, "/", name, "critical"), guard.Critical},
		"outside of the block":                {setting{peers: []string{"10.0.0.0/8"}}, from(stranger, "/", name, "critical"), guard.Default},
		"IPv4 in IPv6":                        {setting{peers: []string{"10.0.0.0/8"}}, from("[::ffff:10.1.2.3]:1", "/", name, "critical"), guard.Critical},
		"a single address":                    {setting{peers: []string{"10.1.2.3"}}, from(friend, "/", name, "critical"), guard.Critical},
		"a zone":                              {setting{peers: []string{"fe80::/10"}}, from("[fe80::1%eth0]:1", "/", name, "critical"), guard.Critical},
		"everybody":                           {setting{peers: []string{"all"}}, from(stranger, "/", name, "critical"), guard.Critical},
		"sockets":                             {setting{peers: []string{"unix"}}, from(socket, "/", name, "critical"), guard.Critical},
		"sockets, over TCP":                   {setting{peers: []string{"unix"}}, from(friend, "/", name, "critical"), guard.Default},
		"a verified certificate":              {setting{peers: []string{"certificate"}}, certified(from(stranger, "/", name, "critical")), guard.Critical},
		"no certificate":                      {setting{peers: []string{"certificate"}}, from(stranger, "/", name, "critical"), guard.Default},
		"the header named as the source":      {setting{criticality: []string{"header"}}, from(stranger, "/", name, "critical"), guard.Critical},
		"named, but the peers are others":     {setting{criticality: []string{"header"}, peers: []string{"10.0.0.0/8"}}, from(stranger, "/", name, "critical"), guard.Default},
		"another header":                      {setting{criticality: []string{"header:x-priority"}}, from(stranger, "/", "X-Priority", "critical"), guard.Critical},
		"another header, the usual is not":    {setting{criticality: []string{"header:X-Priority"}}, from(stranger, "/", name, "critical"), guard.Default},
		"words":                               {setting{criticality: []string{"header:X-Tier:gold=critical,free=background"}}, from(stranger, "/", "X-Tier", "Gold"), guard.Critical},
		"an unknown word":                     {setting{criticality: []string{"header:X-Tier:gold=critical"}}, from(stranger, "/", "X-Tier", "critical"), guard.Default},
		"twice, contradicting":                {setting{peers: []string{"all"}}, from(stranger, "/", name, "critical", name, "sheddable"), guard.Sheddable},
		"twice in one line":                   {setting{peers: []string{"all"}}, from(stranger, "/", name, "background, critical"), guard.Background},
		"an invented word beside critical":    {setting{peers: []string{"all"}}, from(stranger, "/", name, "critical", name, "x"), guard.Default},
		"upper case":                          {setting{peers: []string{"all"}}, from(stranger, "/", name, " CRITICAL "), guard.Critical},
		"all fixed":                           {setting{criticality: []string{"sheddable"}}, from(stranger, "/", name, "critical"), guard.Sheddable},
		"by path":                             {setting{criticality: []string{"/pay=critical", "/batch/*=background"}}, from(stranger, "/pay"), guard.Critical},
		"by path below":                       {setting{criticality: []string{"/pay=critical", "/batch/*=background"}}, from(stranger, "/batch/1"), guard.Background},
		"by path, neither":                    {setting{criticality: []string{"/pay=critical"}}, from(stranger, "/other", name, "critical"), guard.Default},
		"by path, then header":                {setting{criticality: []string{"/pay=sheddable", "header"}}, from(stranger, "/other", name, "critical"), guard.Critical},
		"header absent, then the fixed one":   {setting{criticality: []string{"header", "background"}}, from(stranger, "/"), guard.Background},
		"a path that only looks like the one": {setting{criticality: []string{"/pay/*=critical"}}, from(stranger, "/pay/..;/search"), guard.Default},
	} {
		if got := c.trust(t).Criticality(c.request); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestKeyIsBelievedOnlyFromWhomTheOperatorTrusts(t *testing.T) {
	const name, forwarded = "Guard-Key", "X-Forwarded-For"
	behind := setting{key: "client-address", peers: []string{"10.0.0.0/8"}}
	for what, c := range map[string]struct {
		setting
		request *http.Request
		want    string
	}{
		"nobody is believed by default":             {setting{}, from(stranger, "/", name, "a"), ""},
		"trusted peers":                             {setting{peers: []string{"10.0.0.0/8"}}, from(friend, "/", name, "a"), "a"},
		"none":                                      {setting{key: "none", peers: []string{"all"}}, from(friend, "/", name, "a"), ""},
		"the header named as the source":            {setting{key: "header"}, from(stranger, "/", name, "a"), "a"},
		"another header":                            {setting{key: "header:x-tenant"}, from(stranger, "/", "X-Tenant", "t", name, "a"), "t"},
		"the header is missing":                     {setting{key: "header:X-Tenant"}, from(stranger, "/"), ""},
		"twice the same":                            {setting{key: "header"}, from(stranger, "/", name, "a", name, "a"), "a"},
		"twice, contradicting":                      {setting{key: "header"}, from(stranger, "/", name, "a", name, "b"), ""},
		"the address":                               {setting{key: "client-address"}, from(stranger, "/", forwarded, "1.1.1.1"), "203.0.113.9"},
		"behind a trusted proxy":                    {behind, from(friend, "/", forwarded, "1.1.1.1, 203.0.113.9"), "203.0.113.9"},
		"behind two":                                {behind, from(friend, "/", forwarded, "6.6.6.6, 203.0.113.9, 10.9.9.9"), "203.0.113.9"},
		"behind two, in two lines":                  {behind, from(friend, "/", forwarded, "203.0.113.9", forwarded, "10.9.9.9"), "203.0.113.9"},
		"a trusted proxy that says nothing":         {behind, from(friend, "/"), "10.1.2.3"},
		"what a stranger says":                      {behind, from(stranger, "/", forwarded, "1.1.1.1"), "203.0.113.9"},
		"a proxy that adds the port":                {behind, from(friend, "/", forwarded, "203.0.113.9:5123, 10.9.9.9:81"), "203.0.113.9"},
		"the same with IPv6":                        {behind, from(friend, "/", forwarded, "[2001:db8:1:2::5]:5123"), "2001:db8:1:2::/64"},
		"brackets without a port":                   {behind, from(friend, "/", forwarded, "[2001:db8:1:2::5]"), "2001:db8:1:2::/64"},
		"nonsense ends the chain":                   {behind, from(friend, "/", forwarded, "203.0.113.9, unknown"), "10.1.2.3"},
		"IPv6: its network":                         {setting{key: "client-address"}, from("[2001:db8:1:2:3:4:5:6]:1", "/"), "2001:db8:1:2::/64"},
		"a socket has none":                         {setting{key: "client-address"}, from(socket, "/"), ""},
		"behind a trusted socket: who is forwarded": {setting{key: "client-address", peers: []string{"unix"}}, from(socket, "/", forwarded, "203.0.113.9"), "203.0.113.9"},
	} {
		if got := c.trust(t).Key(c.request); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

func TestStripHeadersRemovesWhatStrangersSay(t *testing.T) {
	headers := []string{"Guard-Criticality", "critical", "Guard-Attempt", "1", "Guard_Key", "a", "X-Guard", "b", "Guardian", "c"}
	left := func(s setting, peer string) (names []string) {
		h := s.trust(t).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for name := range r.Header {
				names = append(names, name)
			}
		}))
		h.ServeHTTP(httptest.NewRecorder(), from(peer, "/", headers...))
		slices.Sort(names)
		return names
	}
	if got := left(setting{strip: true}, stranger); !slices.Equal(got, []string{"Guardian", "X-Guard"}) {
		t.Errorf("of a stranger's headers %v are left", got)
	}
	if got := left(setting{strip: true, peers: []string{"10.0.0.0/8"}}, friend); len(got) != 5 {
		t.Errorf("of a trusted peer's headers only %v are left", got)
	}
	if got := left(setting{}, stranger); len(got) != 5 {
		t.Errorf("without the flag only %v are left", got)
	}
	headers = []string{"Guard-Context", "rank=ffffffff", "Guard-Answer", "background", "Baggage", "guard-context=rank%3Dffffffff"}
	if got := left(setting{strip: true}, stranger); len(got) > 0 {
		t.Errorf("of a stranger's headers %v are left", got)
	}
	headers[5] += ",a=1"
	if got := left(setting{strip: true}, stranger); !slices.Equal(got, []string{"Baggage"}) {
		t.Errorf("of a stranger's headers %v are left", got)
	}
}

// What a guarded caller says of its request counts from named peers, where the header of its own does not say it.
func TestGuardContextIsBelievedFromTrustedPeers(t *testing.T) {
	const context, header, said = "Guard-Context", "Guard-Criticality", "crit=critical;key=a"
	trusted := setting{peers: []string{"10.0.0.0/8"}}
	sources := func(names ...string) setting { return setting{peers: trusted.peers, criticality: names, key: "header"} }
	for what, x := range map[string]struct {
		setting
		request *http.Request
		c       guard.Criticality
		key     string
	}{
		"a trusted peer":            {trusted, from(friend, "/", context, said), guard.Critical, "a"},
		"in baggage":                {trusted, from(friend, "/", "Baggage", "guard-context=crit%3Dcritical;p"), guard.Critical, ""},
		"a stranger":                {trusted, from(stranger, "/", context, said), guard.Default, ""},
		"nobody is named":           {setting{}, from(friend, "/", context, said), guard.Default, ""},
		"everybody's header counts": {setting{criticality: []string{"header"}, key: "header"}, from(friend, "/", context, said), guard.Default, ""},
		"its own header":            {trusted, from(friend, "/", context, said, header, "background", "Guard-Key", "b"), guard.Background, "b"},
		"the header is a source":    {sources("header", "sheddable"), from(friend, "/", context, said), guard.Critical, "a"},
		"after a source":            {sources("/=background", "header"), from(friend, "/", context, said), guard.Background, "a"},
		"before a source":           {sources("header", "/=background"), from(friend, "/", context, "key=a"), guard.Background, "a"},
		"another header":            {setting{peers: trusted.peers, criticality: []string{"header:X-P"}, key: "header:X-T"}, from(friend, "/", context, said), guard.Default, ""},
		"none":                      {setting{peers: trusted.peers, key: "none"}, from(friend, "/", context, said), guard.Critical, ""},
	} {
		trust := x.trust(t)
		if c, key := trust.Criticality(x.request), trust.Key(x.request); c != x.c || key != x.key {
			t.Errorf("%s: %v and %q, want %v and %q", what, c, key, x.c, x.key)
		}
	}
}

func TestSourcesThatMeanNothingAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"headers":                   "expected header",
		"importance":                "expected header",
		"header:":                   "name of a header",
		"header:X Priority":         "name of a header",
		"header:X-P:high=urgent":    "like high=critical",
		"header:X-P:":               "like high=critical",
		"header:X-P:=critical":      "like high=critical",
		"/pay=important":            "expected header",
		"pay=critical":              "begins with a slash",
		"/*=critical":               "nothing to guard",
		"/pay":                      "expected header",
		"":                          "expected header",
		"header:X-P:high=critical,": "like high=critical",
	} {
		if err := new(Trust).AddCriticality(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("criticality from %q: %v, want an error with %q", text, err, want)
		}
	}
	for _, text := range []string{"", "headers", "header:", "ip", "client-addr"} {
		if err := new(Trust).SetKey(text); err == nil || !strings.Contains(err.Error(), "header") {
			t.Errorf("key from %q: %v, want an error", text, err)
		}
	}
	for _, text := range []string{"", "10.0.0.0/33", "example.com", "10.0.0.0-10.0.0.9"} {
		if err := new(Trust).AddPeer(text); err == nil {
			t.Errorf("peer %q was accepted", text)
		}
	}
}
