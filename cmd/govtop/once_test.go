package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

var update = flag.Bool("update", false, "rewrite the golden output")

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
	path := filepath.Join("testdata", "once.txt")
	if *update {
		if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out != string(want) {
		t.Errorf("%s has changed; go test -update rewrites it\ngot:\n%s", path, out)
	}
}

// TestOnceJSON: what is printed reads back as the API's own types.
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

func TestExitCodes(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
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
	closed := "http://" + unused(t)

	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"unreachable", []string{"--once", "--connect", closed}, exitUnreachable, "no governor answers at " + closed},
		{"unreachable check", []string{"--check", "--connect", closed}, exitUnreachable, "connection refused"},
		{"another program", []string{"--once", "--connect", other.URL}, exitError, "does not come from a governor"},
		{"violation", []string{"--check", "--connect", server.URL}, exitViolation,
			"checkout/concurrency: 2.1% of the admitted requests slow, 1% allowed"},
		{"no violation", []string{"--check", "--connect", calm.URL}, exitOK, ""},
		{"check with once", []string{"--once", "--check", "--connect", server.URL}, exitViolation, "payments/shed: 8%"},
		{"unknown flag", []string{"--frobnicate"}, exitUsage, "govtop --help"},
		{"unknown output", []string{"--once", "--output", "xml"}, exitUsage, "xml"},
		{"output alone", []string{"--output", "json"}, exitUsage, "--once"},
		{"bad address", []string{"--once", "--connect", "ftp://x"}, exitUsage, "ftp://x"},
		{"argument", []string{"--once", "now"}, exitUsage, "now"},
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

// unused returns an address where nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
