package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
	"github.com/seed-de83e32b/governor/test/servers"
)

// call runs the built binary without a terminal.
func call(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestOnceTable(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	out, stderr, code := call(t, "--once", "--connect", server.URL)
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	golden.File(t, filepath.Join("testdata", "once.txt"), out)
}

// TestRoutesOutsideTheScreen: in tables, documents, checks and flags, a route is a service by its whole name.
func TestRoutesOutsideTheScreen(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{Routes: true})
	defer server.Close()
	const loop = "checkout/export/concurrency"
	at := fixture.Now.Add(-time.Minute).Format(time.RFC3339)
	for args, want := range map[string]string{
		"--once":                                      "\n checkout/rate .*\n.*\n checkout/export/concurrency  +ENFORCE .*\n.*\n checkout/import/concurrency ",
		"--once --loop " + loop:                       "^[^\n]*\n1 loop [^\n]*\n\n[^\n]*\n " + loop + " .*\n[^\n]*\n$",
		"--once --loop " + loop + " --at " + at:       "\n " + loop + " ",
		"--once --output json --filter ^shop/search/": `"service": "shop/search"`,
		"--check --loop " + loop:                      "^" + loop + ": 84.6% of the requests refused .*\n" + loop + ": 9% of the admitted requests slow",
		"--check --filter ^checkout/import/":          "^checkout/import/concurrency: 15.3% of the requests refused",
		"--once --loop checkout/export":               "checkout/export is a route, and a loop is asked for: it has " + loop,
	} {
		out, stderr, _ := call(t, append(strings.Fields(args), "--connect", server.URL)...)
		if !regexp.MustCompile(want).MatchString(out + stderr) {
			t.Errorf("govtop %s does not say %s:\n%s%s", args, want, out, stderr)
		}
	}
}

// TestOnceJSON: the output decodes into the API's own types.
func TestOnceJSON(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	out, stderr, code := call(t, "--once", "--output", "json", "--connect", server.URL)
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	var got ui.Snapshot
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want, err := json.MarshalIndent(ui.Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := json.MarshalIndent(got, "", "  "); !bytes.Equal(again, want) {
		t.Errorf("the document does not say what the daemon said:\n%s", again)
	}
}

// answers is a server that gives the same answer to every request.
func answers(t *testing.T, code int, header map[string]string, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestExitCodes(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	calm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/loops") {
			w.Header().Set(api.VersionHeader, "0.3.0")
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("[]"))
			return
		}
		(&fixture.Server{}).ServeHTTP(w, r)
	}))
	defer calm.Close()

	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{
			"violation",
			[]string{"--check", "--connect", server.URL},
			exitViolation,
			"checkout/concurrency: 2.1% of the admitted requests slow, 1% allowed",
		},
		{"no violation", []string{"--check", "--connect", calm.URL}, exitOK, ""},
		{"check with once", []string{"--once", "--check", "--connect", server.URL}, exitViolation, "payments/shed: 8%"},
		{"check of one", []string{"--check", "--filter", "^feed/", "--connect", server.URL}, exitOK, ""},
		{
			"check of the others",
			[]string{"--check", "--filter", "!checkout|payments|report|billing|batch|search", "--connect", server.URL},
			exitOK, "",
		},
		{
			"refusals while the SLO is met",
			[]string{"--check", "--filter", "^search/", "--connect", server.URL},
			exitRefusals,
			"search/concurrency: 24.3% of the requests refused by the concurrency limit; needs about 3 more instances",
		},
		{
			"refusals with once",
			[]string{"--once", "--check", "--filter", "^search/", "--connect", server.URL},
			exitRefusals, "at most 5% accepted",
		},
		{
			"refusals that are accepted",
			[]string{"--check", "--max-refused=25%", "--filter", "^search/", "--connect", server.URL},
			exitOK, "",
		},
		{
			"refusals and a violation",
			[]string{"--check", "--filter", "^(report|search)/", "--connect", server.URL},
			exitViolation, "search/concurrency: 24.3%",
		},
		{
			"one loop",
			[]string{"--check", "--loop=checkout/concurrency", "--connect", server.URL},
			exitViolation, "checkout/concurrency: 2.1%",
		},
		{
			"one loop that there is not",
			[]string{"--once", "--loop=chekout/concurrency", "--connect", server.URL},
			exitError, "there is no loop chekout/concurrency; did you mean checkout/concurrency?",
		},
		{
			"an instant",
			[]string{"--once", "--at=" + fixture.Now.Add(-time.Minute).Format(time.RFC3339), "--connect", server.URL},
			exitOK, "",
		},
		{
			"an instant that is forgotten",
			[]string{"--once", "--at=1.7e9", "--connect", server.URL},
			exitError, "nothing is known of 2023-11-14T22:13:20Z: this governor remembers back to 2026-11-24T13:",
		},
		{"an instant ahead", []string{"--once", "--at=9999999999", "--connect", server.URL}, exitUsage, "this lies ahead"},
		{"an instant long ago", []string{"--once", "--at=0001-01-01T00:00:00Z", "--connect", server.URL}, exitUsage, "since 1970"},
		{"no instant", []string{"--at=yesterday", "--connect", server.URL}, exitUsage, "--at=yesterday: expected a time like"},
		{"a share above all", []string{"--check", "--max-refused=5", "--connect", server.URL}, exitUsage, "like 5% or 0.05"},
		{"no share", []string{"--check", "--max-refused=NaN", "--connect", server.URL}, exitUsage, "--max-refused=NaN"},
		{
			"check of none",
			[]string{"--check", "--filter", "chekcout", "--connect", server.URL},
			exitError,
			"none of the 10 loops matches --filter=chekcout",
		},
		{"once of none", []string{"--once", "--filter", "chekcout", "--connect", server.URL}, exitOK, ""},
		{"flags of the screen", []string{
			"--once", "--read-only", "--theme=light", "--graph=ascii", "--actor=ana",
			"--connect", server.URL,
		}, exitOK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, stderr, code := call(t, c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) || (c.says == "" && stderr != "") {
				t.Errorf("exit code %d, want %d; it says %q, want %q", code, c.code, stderr, c.says)
			}
		})
	}
	if out, _, code := call(t, "--version"); code != exitOK || !strings.HasPrefix(out, "govtop, version devel") {
		t.Errorf("--version: exit code %d, %q", code, out)
	}
}

// TestErrorsHelp: for every failure, govtop says in one line what it attempted and what to try.
func TestErrorsHelp(t *testing.T) {
	closed := "http://" + servers.Unused(t)
	jsonOf := func(version string) map[string]string {
		return map[string]string{api.VersionHeader: version, "Content-Type": "application/json"}
	}
	other := answers(t, http.StatusOK, map[string]string{"Content-Type": "text/html"}, "<html>")
	login := answers(t, http.StatusUnauthorized, map[string]string{"WWW-Authenticate": "Basic"}, "Unauthorized")
	proxy := answers(t, http.StatusForbidden, nil, "Forbidden")
	denied := answers(t, http.StatusForbidden, jsonOf("0.3.0"), `{"error":"not for you\u009b2J","hint":"ask ana"}`)
	old := answers(t, http.StatusNotFound, map[string]string{api.VersionHeader: "0.1.0"}, "404 page not found")
	newer := answers(t, http.StatusOK, jsonOf("9.0.0"), `{"version":9}`)
	secure := httptest.NewUnstartedServer(&fixture.Server{})
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()

	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{
			"nobody listens",
			[]string{"--once", "--connect", closed},
			exitUnreachable,
			[]string{"no governor answers at " + closed, "connection refused", "is `governor run` running"},
		},
		{"nobody to check", []string{"--check", "--connect", closed}, exitUnreachable, []string{"connection refused"}},
		{
			"no such host",
			[]string{"--once", "--connect", "governor.invalid:9747"},
			exitUnreachable,
			[]string{"no governor answers at http://governor.invalid:9747"},
		},
		{
			"another program",
			[]string{"--once", "--connect", other},
			exitError,
			[]string{"GET " + other + "/api/v1/status", "does not come from a governor", "--web.listen-address"},
		},
		{
			"a login",
			[]string{"--once", "--connect", login},
			exitError,
			[]string{"401 Unauthorized", "asks for credentials", "https://user:password@host:port"},
		},
		{"a proxy that forbids", []string{"--once", "--connect", proxy}, exitError, []string{"403 Forbidden", "credentials"}},
		{
			"a governor that forbids",
			[]string{"--once", "--connect", denied},
			exitError,
			[]string{"/api/v1/status: not for you", "(ask ana)"},
		},
		{
			"an older governor",
			[]string{"--once", "--connect", old},
			exitError,
			[]string{"governor 0.1.0 does not have this resource", "this program is version", "that came with the daemon"},
		},
		{
			"a newer governor",
			[]string{"--once", "--output=json", "--connect", newer},
			exitError,
			[]string{"cannot read the answer of governor 9.0.0", "this program is version"},
		},
		{
			"a certificate nobody knows",
			[]string{"--once", "--connect", secure.URL},
			exitUnreachable,
			[]string{"no governor answers at " + secure.URL, "certificate", "SSL_CERT_FILE"},
		},
		{
			"https that is http",
			[]string{"--once", "--connect", strings.Replace(other, "http:", "https:", 1)},
			exitUnreachable,
			[]string{"HTTP response to HTTPS client", "try http://"},
		},
		{
			"http that is https",
			[]string{"--once", "--connect", strings.Replace(secure.URL, "https:", "http:", 1)},
			exitError,
			[]string{"does not come from a governor", "400 Bad Request", "try https://"},
		},
		{
			"a password",
			[]string{"--once", "--connect", strings.Replace(closed, "://", "://ana:secret@", 1)},
			exitUnreachable,
			[]string{"***@"},
		},
		{
			"bad address",
			[]string{"--once", "--connect", "ftp://x"},
			exitUsage,
			[]string{`--connect: "ftp://x" is not the address of a governor`, "http://127.0.0.1:9747"},
		},
		{"no address", []string{"--once", "--connect", ""}, exitUsage, []string{"--connect", "http://127.0.0.1:9747"}},
		{
			"bad filter",
			[]string{"--once", "--filter", "a[", "--connect", closed},
			exitUsage,
			[]string{"--filter=a[: missing closing ]", "like checkout or !shadow"},
		},
		{"bad filter on the screen", []string{"--filter", "(?P<"}, exitUsage, []string{"--filter=(?P<: ", "like checkout"}},
		{"unknown flag", []string{"--frobnicate"}, exitUsage, []string{"--frobnicate", "govtop --help"}},
		{
			"unknown output",
			[]string{"--once", "--output", "xml"},
			exitUsage,
			[]string{"--output=xml: expected table or json"},
		},
		{
			"unknown theme",
			[]string{"--theme", "solarized"},
			exitUsage,
			[]string{"--theme=solarized: expected auto, dark, light or mono"},
		},
		{"unknown graph", []string{"--graph", "dots"}, exitUsage, []string{"--graph=dots: expected braille, block or ascii"}},
		{"output alone", []string{"--output", "json"}, exitUsage, []string{"--output needs --once"}},
		{"no terminal", nil, exitUsage, []string{"is not a terminal", "try govtop --once"}},
		{"argument", []string{"--once", "now"}, exitUsage, []string{"now", "govtop --help"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, code := call(t, c.args...)
			if code != c.code || stdout != "" {
				t.Errorf("exit code %d, want %d; it prints %q", code, c.code, stdout)
			}
			for _, want := range c.says {
				if !strings.Contains(stderr, want) {
					t.Errorf("it says %q, want %q", stderr, want)
				}
			}
			line, more, _ := strings.Cut(stderr, "\n")
			if more != "" || !strings.HasPrefix(line, "govtop: ") || strings.ContainsAny(line, "\x00\x1b\u009b") {
				t.Errorf("not one clean line: %q", stderr)
			}
			if strings.Contains(stderr, "secret") {
				t.Errorf("it tells the password: %q", stderr)
			}
		})
	}
}

func TestFilterOfOnce(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	for filter, want := range map[string][]string{
		"SEARCH": {"search"}, "enforce hold": {}, "hold": {"auth"}, "!ENFORCE": {"cart"}, "^(auth|cart)/": {"auth", "cart"},
	} {
		out, stderr, code := call(t, "--once", "--output=json", "--filter", filter, "--connect", server.URL)
		var got ui.Snapshot
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || stderr != "" {
			t.Fatalf("%q: exit code %d, %s, %v", filter, code, stderr, err)
		}
		services := []string{}
		for _, l := range got.Loops {
			services = append(services, l.Service)
		}
		if !slices.Equal(services, want) {
			t.Errorf("%q chooses %q, want %q", filter, services, want)
		}
	}
}

// TestAFullDiskIsNoSuccess: if what is printed does not arrive, the exit code says so, and nothing panics.
func TestAFullDiskIsNoSuccess(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	defer full.Close()
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	for _, args := range []string{"--help", "--version", "--help-man", "--once", "--once --output=json", "--completion-script-bash"} {
		var errs bytes.Buffer
		cmd := exec.Command(binary(t), append(strings.Fields(args), "--connect", server.URL)...)
		cmd.Stdout, cmd.Stderr = full, &errs
		if err := cmd.Run(); err == nil || strings.Contains(errs.String(), "panic") {
			t.Errorf("govtop %s >/dev/full: %v, stderr %q", args, err, errs.String())
		}
	}
}
