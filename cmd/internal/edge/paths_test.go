package edge

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBypassMatchesOnlyPathsThatEveryReaderTakesForTheSame(t *testing.T) {
	var p Paths
	for _, pattern := range []string{"/healthz", "/internal/*", "/grpc.health.v1.Health/Check"} {
		if err := p.Add(pattern); err != nil {
			t.Fatal(err)
		}
	}
	for target, want := range map[string]bool{
		"/healthz":                          true,
		"/healthz?deep=1":                   true,
		"/he%61lthz":                        true,
		"http://shop.example/healthz":       true,
		"/grpc.health.v1.Health/Check":      true,
		"/internal/a/b":                     true,
		"/internal/caf%C3%A9":               true,
		"/internal/":                        true,
		"/internal":                         false,
		"/healthz/":                         false,
		"/healthz/x":                        false,
		"/HEALTHZ":                          false,
		"//healthz":                         false,
		"/internal/../buy":                  false,
		"/internal/%2e%2e/buy":              false,
		"/internal/%2E%2E%2Fbuy":            false,
		"/internal/..%2fbuy":                false,
		"/internal%2Fbuy":                   false,
		"/internal/..;/buy":                 false,
		"/internal/%252e%252e/buy":          false,
		`/internal/..\buy`:                  false,
		"/internal//buy":                    false,
		"/internal/./buy":                   false,
		"/grpc.health.v1.Health%2FCheck":    false,
		"/buy?x=/healthz":                   false,
		"/grpc.health.v1.Health/CheckOther": false,
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(u); got != want {
			t.Errorf("%s: bypass %v, want %v", target, got, want)
		}
	}
	u, _ := url.ParseRequestURI("/internal/a/b/c")
	if n := testing.AllocsPerRun(100, func() { p.Match(u) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBypassPatternsThatMeanSomethingElseAreRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"healthz":           "begins with a slash",
		"":                  "begins with a slash",
		"*":                 "begins with a slash",
		"/*":                "nothing to guard",
		"/a?b":              "without query",
		"/a#b":              "without query",
		"/he%61lthz":        "decoded",
		"/health*":          "final /*",
		"/*/health":         "final /*",
		"/a//b":             "like /a/b",
		"/a/../b":           "like /b",
		"/a/../b/*":         "like /b",
		"/internal//*":      "like /internal",
		"http://x/healthz":  "begins with a slash",
		"/internal/*/deep*": "final /*",
	} {
		if err := new(Paths).Add(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", pattern, err, want)
		}
	}
}

func TestUpstreamThatIsTheSidecarItselfIsFoundUnderEveryName(t *testing.T) {
	dir := t.TempDir()
	socket, link := filepath.Join(dir, "s.sock"), filepath.Join(dir, "link.sock")
	if err := os.Symlink(socket, link); err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(t.TempDir(), "run")
	if err := os.Symlink(dir, linked); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own := "192.0.2.1" // no address of this host
	for _, a := range localAddressesOf(t) {
		if ip := net.ParseIP(a); !ip.IsLoopback() && ip.To4() != nil {
			own = a
		}
	}
	host, _ := os.Hostname()
	if found, err := net.DefaultResolver.LookupHost(t.Context(), host); err != nil || len(found) == 0 {
		host = "localhost"
	}
	for _, c := range []struct {
		listen, upstream string
		want             bool
	}{
		{":8081", "http://127.0.0.1:8081", true},
		{":8081", "http://localhost:8081", true},
		{":8081", "http://[::1]:8081", true},
		{":8081", "http://0.0.0.0:8081", true},
		{":8081", "http://[::ffff:127.0.0.1]:8081", true},
		{":8081", "http://127.9.9.9:8081", true},
		{":8081", "http://" + host + ":8081", true},
		{":8081", "http://" + own + ":8081", own != "192.0.2.1"},
		{"0.0.0.0:80", "http://localhost", true},
		{":443", "https://localhost", true},
		{":443", "http://localhost", false},
		{"127.0.0.1:8081", "http://localhost:8081", true},
		{"localhost:8081", "http://127.0.0.1:8081", true},
		{"[::1]:8081", "http://[::1]:8081", true},
		{"[::1]:8081", "http://127.0.0.1:8081", false},
		{"127.0.0.1:8081", "http://127.0.0.2:8081", false},
		{"127.0.0.1:8081", "http://" + own + ":8081", false},
		{":8081", "http://127.0.0.1:8080", false},
		{":8081", "http://192.0.2.7:8081", false},
		{":8081", "http://does-not.exist.invalid:8081", false},
		{":http", "http://127.0.0.1:80", true},
		{"unix:" + socket, "unix:" + socket, true},
		{"unix:" + socket, "unix://" + link, true},
		{"unix:" + socket, "unix:" + socket + ".other", false},
		{"unix:" + dir + "/not-yet.sock", "unix:" + linked + "/not-yet.sock", true},
		{"unix:" + socket, "http://127.0.0.1:8081", false},
		{":8081", "unix:" + socket, false},
	} {
		a, err := ParseAddress(c.listen, "")
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(c.upstream)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Reaches(context.Background(), u); got != c.want {
			t.Errorf("listen %s, upstream %s: itself %v, want %v", c.listen, c.upstream, got, c.want)
		}
	}
}

func localAddressesOf(t *testing.T) (all []string) {
	t.Helper()
	for ip := range localAddresses() {
		all = append(all, ip.String())
	}
	return all
}

func TestAddressesThatCannotBeListenedAtAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"8081":                  "like :8081",
		"http://127.0.0.1:8081": "like :8081",
		"127.0.0.1:70000":       "0 to 65535",
		"127.0.0.1:":            "0 to 65535",
		"unix:relative.sock":    "absolute path",
		"unix:":                 "absolute path",
	} {
		if _, err := ParseAddress(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
	if a, err := ParseAddress(":6060", "127.0.0.1"); err != nil || a != (Address{"tcp", "127.0.0.1:6060"}) {
		t.Errorf("%v %v, want loopback", a, err)
	}
}
