package main

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-de83e32b/governor/actuators"
)

// egress is one forward port: the address at which the service calls a dependency, and the dependency's instances.
type egress struct {
	dependency string
	network    string // "tcp" or "unix"
	address    string // host:port or the path of a socket
	scheme     string // of all instances
	instances  []string
}

// egressFlag is the value of --egress, which may be repeated.
type egressFlag []egress

const (
	egressSyntax  = "NAME=LISTEN=TARGET[,TARGET...]"
	egressExample = "payments=127.0.0.1:9101=http://payments:8080"
)

// IsCumulative tells kingpin that the flag may be repeated.
func (f *egressFlag) IsCumulative() bool { return true }

// String implements kingpin.Value.
func (f *egressFlag) String() string {
	names := make([]string, len(*f))
	for i, e := range *f {
		names[i] = e.dependency
	}
	return strings.Join(names, ",")
}

// Set implements kingpin.Value. Its errors name the flag, the dependency and the part that is wrong. They show no
// password that somebody wrote into a URL.
func (f *egressFlag) Set(text string) error {
	name, _, _ := strings.Cut(text, "=")
	e, err := parseEgress(text)
	if err != nil {
		return fmt.Errorf("--egress=%s: %w", safe(name), err)
	}
	for _, other := range *f {
		switch {
		case other.dependency == e.dependency:
			return fmt.Errorf("--egress=%s: NAME: expected one --egress for each dependency; put all its instances into it, "+
				"separated by commas", name)
		case other.address == e.address:
			return fmt.Errorf("--egress=%s: LISTEN %q: expected an address of its own; --egress=%s has this one", name, e.address,
				other.dependency)
		}
	}
	*f = append(*f, e)
	return nil
}

func parseEgress(text string) (e egress, err error) {
	name, rest, _ := strings.Cut(text, "=")
	listen, targets, complete := strings.Cut(rest, "=")
	if !complete {
		return e, fmt.Errorf("expected %s, like %s", egressSyntax, egressExample)
	}
	e.dependency = name
	if err := actuators.ValidServiceName(name); err != nil {
		return e, fmt.Errorf("NAME %q: expected %w", safe(name), err)
	}
	if err := e.listenOn(listen); err != nil {
		return e, err
	}
	for target := range strings.SplitSeq(targets, ",") {
		if err := e.add(target); err != nil {
			return e, err
		}
	}
	return e, nil
}

// listenOn reads the address of the forward port. Without a host it is 127.0.0.1, not all addresses: anybody who can
// connect calls the dependency in the service's name.
func (e *egress) listenOn(listen string) error {
	bad := func(expected string) error { return fmt.Errorf("LISTEN %q: expected %s", safe(listen), expected) }
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return bad("an absolute path, like unix:/run/checkout/payments.sock")
		}
		e.network, e.address = "unix", filepath.Clean(path)
		return nil
	}
	if strings.Contains(listen, "://") {
		return bad("the address of the forward port, like 127.0.0.1:9101; the URL of the dependency comes after it")
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil || !validPort(port) {
		return bad("an address like 127.0.0.1:9101, with a port from 1 to 65535, or unix:/path")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	e.network, e.address = "tcp", net.JoinHostPort(host, port)
	return nil
}

// add reads the URL of one instance.
func (e *egress) add(target string) error {
	bad := func(expected string) error { return fmt.Errorf("TARGET %q: expected %s", safe(target), expected) }
	u, err := url.Parse(target)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c", u.Hostname() == "", u.Port() != "" && !validPort(u.Port()),
		strings.HasSuffix(u.Host, ":"):
		return bad("a URL like http://payments:8080")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return bad("a URL without path and query, because those of the service's requests are passed on")
	case u.User != nil:
		return bad("a URL without user and password; the service can send an Authorization header")
	case e.scheme != "" && u.Scheme != e.scheme:
		return bad("the scheme " + e.scheme + ", as for the first TARGET")
	case slices.Contains(e.instances, u.Host):
		return bad("each instance once")
	case e.network == "tcp" && u.Host == e.address:
		return bad("the address of the dependency, not LISTEN itself")
	}
	e.scheme, e.instances = u.Scheme, append(e.instances, u.Host)
	return nil
}

func validPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// safe hides what may be a user and a password.
func safe(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return "…" + text[i:]
	}
	return text
}
