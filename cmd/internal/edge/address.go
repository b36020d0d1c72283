package edge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Address is where a port listens: host:port, or the path of a Unix socket after "unix:".
type Address struct {
	Network string // "tcp" or "unix"
	Address string
}

// ParseAddress reads host:port or unix:/path. Without a host, host is used; "" means all addresses.
func ParseAddress(text, host string) (Address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return Address{}, errors.New("expected an absolute path after unix:, like unix:/run/checkout/sidecar.sock")
		}
		return Address{"unix", filepath.Clean(path)}, nil
	}
	h, port, err := net.SplitHostPort(text)
	if err != nil || strings.Contains(text, "/") {
		return Address{}, errors.New("expected an address like :8081 or 127.0.0.1:8081, or unix:/path")
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return Address{}, fmt.Errorf("expected a port from 0 to 65535 after the colon, not %q", port)
	}
	if h == "" {
		h = host
	}
	return Address{"tcp", net.JoinHostPort(h, port)}, nil
}

// Listen opens the port. A socket that nobody listens at any more, left by a process that was killed, makes room.
func (a Address) Listen() (net.Listener, error) {
	if a.Network == "unix" {
		removeStale(a.Address)
	}
	return net.Listen(a.Network, a.Address)
}

func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // if it fails, listening says why
	}
}

// lookupTime bounds how long Reaches waits for DNS.
const lookupTime = 2 * time.Second

// Reaches says whether connecting to upstream would reach a itself, under whatever name: localhost, a loopback address
// of either family, the host's own name or address, or a link to the socket. A name that cannot be resolved now counts
// as another host.
func (a Address) Reaches(ctx context.Context, upstream *url.URL) bool {
	if a.Network == "unix" {
		path := upstream.Path
		if path == "" {
			path = upstream.Opaque
		}
		return strings.Contains(upstream.Scheme, "unix") && real(path) == real(a.Address)
	}
	if strings.Contains(upstream.Scheme, "unix") {
		return false
	}
	host, port, err := net.SplitHostPort(a.Address)
	if err != nil {
		return false
	}
	own, err := net.LookupPort("tcp", port)
	if err != nil || own != portOf(upstream) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	local := localAddresses()
	listens := resolve(ctx, host)
	for _, ip := range resolve(ctx, upstream.Hostname()) {
		if ip.IsUnspecified() { // connecting there reaches this host
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		for _, l := range listens {
			if l == ip || l.IsUnspecified() && (ip.IsLoopback() || local[ip]) {
				return true
			}
		}
	}
	return false
}

func real(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil { // /var/run is /run, and the socket comes later
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}

func portOf(u *url.URL) int {
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return port
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// resolve returns the addresses of host; of "", the unspecified one.
func resolve(ctx context.Context, host string) []netip.Addr {
	if host == "" {
		return []netip.Addr{netip.IPv4Unspecified()}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap().WithZone("")}
	}
	found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range found {
		found[i] = found[i].Unmap().WithZone("")
	}
	return found
}

func localAddresses() map[netip.Addr]bool {
	local := map[netip.Addr]bool{}
	found, _ := net.InterfaceAddrs()
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			local[p.Addr().Unmap().WithZone("")] = true
		}
	}
	return local
}
