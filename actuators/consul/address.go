package consul

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Address is where a Consul agent's HTTP API is, in the form of CONSUL_HTTP_ADDR.
type Address struct {
	scheme string // http, https or unix; "": as configured elsewhere, http by default
	host   string // host, or host:port; for unix the path of the socket
	path   string // before /v1, of a proxy in between; starts with a slash, does not end with one
	auth   *api.HttpBasicAuth
}

const wantAddress = "expected host:port, like 127.0.0.1:8500, or a URL that starts with http://, https:// or unix://"

// ParseAddress reads an address: host:port, http://…, https://… or unix:///path. It ignores white space and slashes at
// the end. An error never repeats the text if it may hold a password.
func ParseAddress(text string) (Address, error) {
	text = strings.TrimSpace(text)
	said := strconv.Quote(text)
	if strings.Contains(text, "@") {
		said = "an address with credentials" // never repeated
	}
	refuse := func(format string, args ...any) (Address, error) {
		return Address{}, fmt.Errorf(said+": "+format, args...)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	switch a := (Address{scheme: strings.ToLower(scheme)}); a.scheme {
	case "unix":
		if !strings.HasPrefix(rest, "/") {
			return refuse("expected the absolute path of a socket, like unix:///run/consul.sock")
		}
		a.host = rest
		return a, nil
	case "", "http", "https":
		u, err := url.Parse("http://" + rest)
		switch {
		case rest == "" || err != nil || u.Hostname() == "" || ok && scheme == "":
			return refuse(wantAddress)
		case strings.ContainsAny(rest, "?#"):
			return refuse("it has a query or a fragment; expected the base of Consul's HTTP API")
		case !validHost(u.Hostname()):
			return refuse("no such host can exist; " + wantAddress)
		case u.Port() == "" && (!ok || strings.HasSuffix(u.Host, ":")):
			return refuse("it has no port; " + wantAddress)
		}
		if port := u.Port(); port != "" {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return refuse("port %s; expected 1 to 65535", port)
			}
		}
		if u.User != nil {
			password, _ := u.User.Password()
			a.auth = &api.HttpBasicAuth{Username: u.User.Username(), Password: password}
		}
		a.host, a.path = u.Host, strings.TrimRight(u.Path, "/")
		return a, nil
	default:
		return refuse(wantAddress)
	}
}

func validHost(host string) bool {
	return net.ParseIP(strings.SplitN(host, "%", 2)[0]) != nil || !strings.ContainsAny(host, " \t\"'`<>\\^{|}:")
}

// HasCredentials says whether the address carries a user name or a password.
func (a Address) HasCredentials() bool { return a.auth != nil }

// String returns the address without credentials.
func (a Address) String() string {
	if a.scheme == "" {
		return a.host + a.path
	}
	return a.scheme + "://" + a.host + a.path
}

// doubt says what in the address may be the reason why something else than Consul answers.
func (a Address) doubt() string {
	switch {
	case a.path != "":
		return fmt.Sprintf("; is the path %s of the address right?", a.path)
	case a.scheme == "unix":
		return ""
	}
	if _, _, err := net.SplitHostPort(a.host); err != nil {
		return "; the address has no port, and Consul's is usually 8500"
	}
	return ""
}

// address returns the address in config, with the defaults of Consul's own tools.
func addressOf(config *api.Config) (Address, error) {
	a, err := ParseAddress(config.Address)
	if err != nil {
		return Address{}, fmt.Errorf("the address of Consul (from the configuration, --consul.address or CONSUL_HTTP_ADDR): %w",
			err)
	}
	if a.path == "" {
		a.path = strings.TrimRight(config.PathPrefix, "/")
	} else if config.PathPrefix != "" {
		return Address{}, errors.New("the address of Consul has a path, and so has PathPrefix: expected one of them")
	}
	return a, nil
}
