// Package hosts decides by which names a listener without credentials answers.
//
// A page in a browser cannot read what a server of another name says. But whoever owns a name can let it point to
// 127.0.0.1 after the page has been loaded (DNS rebinding): the browser then takes governor for the page's own server,
// and the page reads and changes everything that anybody can on that machine. The requests still carry the page's name
// in their Host header. So a listener that asks for no credentials answers only to names that nobody else can own, and
// to those that its operator has given it.
package hosts

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/seed-de83e32b/governor/daemon/api"
)

// Names are the names of one server. The zero value answers to localhost and to loopback addresses.
type Names struct {
	// Listen are the addresses at which it listens, as host:port. Where the host is an address, the server answers to
	// that; where it stands for all interfaces, to every address and to the name of this host.
	Listen []string
	// Anywhere says that the addresses are not known, such as those of a socket of systemd: like all interfaces.
	Anywhere bool
	// Allowed are further names without a port; *.example stands for all names below example, * for every name.
	Allowed []string
	// URLs are URLs of the server, whose hosts count as allowed. "" is none.
	URLs []string
	// Authenticated says whether the server asks for credentials: then the name does not matter. nil: it does not.
	Authenticated func() bool
	// Hint says what to do about a name that is refused.
	Hint string
}

// Guard passes the requests on that address the server by one of its names, and refuses the others with 403.
func (n Names) Guard(next http.Handler) http.Handler {
	known := n.resolve()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if known.has(r.Host) || n.Authenticated != nil && n.Authenticated() || local(r) {
			next.ServeHTTP(w, r)
			return
		}
		body, _ := json.Marshal(api.Error{Error: fmt.Sprintf("this server asks for no credentials and has not been told that it "+
			"is called %q", r.Host), Hint: n.Hint})
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(append(body, '\n'))
	})
}

// local says whether the request has come through a socket in the file system, which no page reaches.
func local(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}

// known is Names, ready to be compared with.
type known struct {
	everywhere bool // every address
	addresses  []netip.Addr
	names      []string
}

func (n Names) resolve() known {
	k := known{everywhere: n.Anywhere, names: []string{"localhost"}}
	for _, listen := range n.Listen {
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			host = listen
		}
		switch at, err := netip.ParseAddr(host); {
		case host == "" || err == nil && at.IsUnspecified():
			k.everywhere = true
		case err == nil:
			k.addresses = append(k.addresses, at.Unmap())
		default:
			k.names = append(k.names, lower(host))
		}
	}
	for _, text := range n.URLs {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" {
			k.add(u.Hostname())
		}
	}
	for _, name := range n.Allowed {
		k.add(name)
	}
	if k.everywhere { // by this name governor tells others where it is
		if name, err := os.Hostname(); err == nil {
			k.names = append(k.names, lower(name))
		}
	}
	return k
}

func (k *known) add(name string) {
	if at, err := netip.ParseAddr(name); err == nil {
		k.addresses = append(k.addresses, at.Unmap())
	} else {
		k.names = append(k.names, lower(name))
	}
}

// has says whether a Host header names the server. No header names every server: browsers always send one.
func (k known) has(host string) bool {
	if host == "" || slices.Contains(k.names, "*") {
		return true
	}
	u, err := url.Parse("http://" + host) // refuses a port that is no number
	if err != nil || u.User != nil || u.Host != host {
		return false
	}
	if at, err := netip.ParseAddr(u.Hostname()); err == nil {
		at = at.Unmap()
		return at.IsLoopback() || k.everywhere || slices.Contains(k.addresses, at)
	}
	name := lower(u.Hostname())
	return slices.ContainsFunc(k.names, func(own string) bool {
		below, wild := strings.CutPrefix(own, "*.")
		return name == own || wild && strings.HasSuffix(name, "."+below)
	})
}

// lower spells a name as it is compared: without regard to case, and to the dot that ends a complete name.
func lower(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }
