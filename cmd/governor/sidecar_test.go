package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// The test binary plays governor itself when this is set.
const plays = "GOVERNOR_TEST_PLAYS"

func TestMain(m *testing.M) {
	if os.Getenv(plays) != "" {
		os.Exit(governor(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

func fetch(t *testing.T, r *http.Request) (int, http.Header, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func target(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// With --setting-file nothing is asked of Consul: the settings are those of the file, or of the folder with the calls', too.
func TestSidecarTakesSettingsFromFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "checkout", "setting")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, calls := range map[string]bool{name: false, dir: true} {
		s, err := sidecarOptions{settingFile: path}.settings(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Source.(guard.PartSource); ok != calls || s.client != nil || s.from != path {
			t.Errorf("%s: %+v", path, s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_ = s.Watch(ctx, "checkout", func(raw []byte) {
			if string(raw) != "{}" {
				t.Errorf("%s: delivered %q", path, raw)
			}
			cancel()
		})
	}
	var log strings.Builder
	if _, err := (sidecarOptions{settingFile: name + "s"}).settings(slog.New(slog.NewTextHandler(&log, nil))); err != nil ||
		!strings.Contains(log.String(), "no setting file yet") || !strings.Contains(log.String(), name+"s") {
		t.Errorf("a file that is missing: %v, log %q", err, &log)
	}
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	if s, err := (sidecarOptions{}).settings(slog.New(slog.DiscardHandler)); err != nil || s.client == nil {
		t.Errorf("without it: %+v, %v", s, err)
	}
}
