package edge

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// Trust says what is believed from whom. The zero value believes nobody: a client may then call its request less
// important than others, never more important, and has no key.
type Trust struct {
	peers       []netip.Prefix
	everybody   bool // named as a peer
	sockets     bool
	certificate bool
	named       bool // at least one peer

	criticality []criticalitySource
	key         keySource

	// StripHeaders: of requests from peers that are not believed, all Guard-* headers, and guard-context in baggage.
	StripHeaders bool
}

// AddPeer names peers that are believed: an address or CIDR block, "unix" for the clients of a Unix socket,
// "certificate" for those with a client certificate that was verified, or "all".
func (t *Trust) AddPeer(text string) error {
	switch text {
	case "all":
		t.everybody = true
	case "unix":
		t.sockets = true
	case "certificate":
		t.certificate = true
	default:
		p, err := netip.ParsePrefix(text)
		if ip, single := netip.ParseAddr(text); single == nil {
			p, err = netip.PrefixFrom(ip.Unmap().WithZone(""), ip.Unmap().BitLen()), nil
		}
		if err != nil {
			return errors.New("expected an address, a block like 10.0.0.0/8, unix, certificate or all")
		}
		t.peers = append(t.peers, p.Masked())
	}
	t.named = true
	return nil
}

// believes says whether the peer of r is believed. Where no peers are named, explicit decides: whoever names a header as
// a source says that the peers may set it.
func (t *Trust) believes(r *http.Request, explicit bool) bool {
	if !t.named {
		return explicit
	}
	if t.everybody || t.certificate && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	ip, ok := peer(r)
	return ok && t.isPeer(ip) || !ok && t.sockets
}

func (t *Trust) isPeer(ip netip.Addr) bool {
	return slices.ContainsFunc(t.peers, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// peer returns the address of the connection; false for a Unix socket.
func peer(r *http.Request) (netip.Addr, bool) {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	return p.Addr().Unmap().WithZone(""), err == nil
}

// criticalitySource is one way to find the criticality of a request. The first that knows it decides.
type criticalitySource struct {
	header string // "": a fixed one
	paths  Paths  // empty: all
	fixed  guard.Criticality
	words  map[string]guard.Criticality // nil: the names of the criticalities
}

// AddCriticality adds a source, after those added before: "header" for Guard-Criticality, "header:NAME",
// "header:NAME:WORD=CRITICALITY,...", "CRITICALITY" for all requests, or "PATH=CRITICALITY".
func (t *Trust) AddCriticality(text string) error {
	s, err := parseCriticality(text)
	if err == nil {
		t.criticality = append(t.criticality, s)
	}
	return err
}

const criticalitySyntax = "header, header:NAME, header:NAME:WORD=CRITICALITY,..., CRITICALITY or PATH=CRITICALITY, where " +
	"CRITICALITY is critical, default, sheddable or background"

func parseCriticality(text string) (s criticalitySource, err error) {
	if rest, ok := strings.CutPrefix(text, "header"); ok && (rest == "" || rest[0] == ':') {
		name, words, mapped := strings.Cut(strings.TrimPrefix(rest, ":"), ":")
		if s.header, err = headerName(name, guardhttp.CriticalityHeader, rest != ""); err != nil {
			return s, err
		}
		if mapped {
			s.words = map[string]guard.Criticality{}
			for pair := range strings.SplitSeq(words, ",") {
				word, name, _ := strings.Cut(pair, "=")
				c, known := guard.ParseCriticality(name)
				if word = strings.ToLower(word); word == "" || !known {
					return s, fmt.Errorf("expected WORD=CRITICALITY, like high=critical, not %q", pair)
				}
				s.words[word] = c
			}
		}
		return s, nil
	}
	pattern, name, byPath := strings.Cut(text, "=")
	if !byPath {
		name = text
	} else if err := s.paths.Add(pattern); err != nil {
		return s, fmt.Errorf("%w, before the =", err)
	}
	var known bool
	if s.fixed, known = guard.ParseCriticality(name); !known {
		return s, errors.New("expected " + criticalitySyntax)
	}
	return s, nil
}

func headerName(name, usual string, given bool) (string, error) {
	if !given {
		return usual, nil
	}
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", fmt.Errorf("expected the name of a header after header:, like header:X-Priority, not %q", name)
	}
	return textproto.CanonicalMIMEHeaderKey(name), nil
}

// Believes says whether what the guard of a caller says of r counts: the rank, which can only come from a peer that is named.
func (t *Trust) Believes(r *http.Request) bool { return t.believes(r, false) }

// Criticality returns the criticality of r. From a peer that is not believed, Guard-Criticality can only lower it.
func (t *Trust) Criticality(r *http.Request) guard.Criticality {
	for i := range t.criticality {
		s := &t.criticality[i]
		if s.header != "" {
			if c, ok := s.said(r.Header); ok {
				return t.limit(r, c, true)
			}
			if s.header == guardhttp.CriticalityHeader {
				if c := t.context(r).Criticality; c != guard.Default {
					return c
				}
			}
		} else if s.paths.Empty() || s.paths.Match(r.URL) {
			return s.fixed
		}
	}
	if len(t.criticality) > 0 {
		return guard.Default
	}
	if c, ok := usualCriticality.said(r.Header); ok {
		return t.limit(r, c, false)
	}
	return t.context(r).Criticality
}

// context returns what the guard of r's caller says of it. It counts where Believes, and where a header is asked for that the
// caller has not set.
func (t *Trust) context(r *http.Request) wire.Context {
	if !t.Believes(r) {
		return wire.ParseContext("")
	}
	return guardhttp.ContextOf(r.Header)
}

var usualCriticality = criticalitySource{header: guardhttp.CriticalityHeader}

func (t *Trust) limit(r *http.Request, c guard.Criticality, explicit bool) guard.Criticality {
	if c < guard.Default && !t.believes(r, explicit) {
		return guard.Default
	}
	return c
}

// said reads the header. Of several values the least important counts: values that contradict each other promote nobody.
// A word that is not known is Default.
func (s *criticalitySource) said(h http.Header) (c guard.Criticality, ok bool) {
	for _, value := range h[s.header] {
		for word := range strings.SplitSeq(value, ",") {
			next := s.word(strings.ToLower(strings.TrimSpace(word)))
			c, ok = max(c, next), true
		}
	}
	return c, ok
}

func (s *criticalitySource) word(word string) guard.Criticality {
	if s.words == nil {
		c, _ := guard.ParseCriticality(word)
		return c
	}
	if c, ok := s.words[word]; ok {
		return c
	}
	return guard.Default
}

// keySource is where the user or tenant of a request comes from.
type keySource struct {
	set     bool
	header  string
	address bool
}

// SetKey sets the source of the key: "header" for Guard-Key, "header:NAME", "client-address", or "none".
func (t *Trust) SetKey(text string) (err error) {
	t.key = keySource{set: true}
	rest, isHeader := strings.CutPrefix(text, "header")
	switch {
	case text == "none":
	case text == "client-address":
		t.key.address = true
	case isHeader && (rest == "" || rest[0] == ':'):
		t.key.header, err = headerName(strings.TrimPrefix(rest, ":"), guardhttp.KeyHeader, rest != "")
	default:
		err = errors.New("expected header, header:NAME, client-address or none")
	}
	return err
}

// Key returns the user or tenant of r, "" if it is not known: then the request is judged on its own. Two different
// values of a header are none.
func (t *Trust) Key(r *http.Request) string {
	if t.key.address {
		return t.clientAddress(r)
	}
	name := t.key.header
	if !t.key.set {
		name = guardhttp.KeyHeader
	}
	values := r.Header[name]
	if len(values) == 0 && name == guardhttp.KeyHeader {
		return t.context(r).Key
	}
	if len(values) == 0 || name == "" || !t.believes(r, t.key.set) {
		return ""
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return ""
		}
	}
	return values[0]
}

// clientAddress returns the address of the client: of the peer, or, where that is named as a trusted peer, the last one
// in X-Forwarded-For that is not. Of an IPv6 address only the first 64 bits count, because one client has all the rest.
func (t *Trust) clientAddress(r *http.Request) string {
	ip, ok := peer(r)
	if t.named && t.believes(r, false) {
		hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
		for _, hop := range slices.Backward(hops) {
			next, err := hopAddress(strings.TrimSpace(hop))
			if err != nil {
				break
			}
			ip, ok = next.Unmap().WithZone(""), true
			if !t.isPeer(ip) {
				break
			}
		}
	}
	switch {
	case !ok:
		return ""
	case ip.Is6():
		p, _ := ip.Prefix(64)
		return p.String()
	}
	return ip.String()
}

// hopAddress reads an entry of X-Forwarded-For. Some load balancers add the port of the client.
func hopAddress(hop string) (netip.Addr, error) {
	if p, err := netip.ParseAddrPort(hop); err == nil {
		return p.Addr(), nil
	}
	return netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(hop, "["), "]"))
}

// Handler removes from requests what their peers may not say before next sees them.
func (t *Trust) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t.StripHeaders && !t.believes(r, false) {
			for name := range r.Header {
				if isGuards(name) {
					delete(r.Header, name)
				}
			}
			guardhttp.RemoveContext(r.Header)
		}
		next.ServeHTTP(w, r)
	})
}

// isGuards says whether a header is the guard's. Many servers take Guard_Key for Guard-Key.
func isGuards(name string) bool {
	return len(name) > 6 && strings.EqualFold(name[:5], "Guard") && (name[5] == '-' || name[5] == '_')
}

// Contradiction says why the settings cannot work together; "": they can.
func (t *Trust) Contradiction() string {
	if !t.StripHeaders || t.named {
		return ""
	}
	for _, s := range t.criticality {
		if isGuards(s.header) {
			return "removes " + s.header + ", which --criticality-from reads"
		}
	}
	if isGuards(t.key.header) {
		return "removes " + t.key.header + ", which --key-from reads"
	}
	return ""
}
