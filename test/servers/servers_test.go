package servers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := pollClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestConsulKeepsItsKeysOverKillAndRestart(t *testing.T) {
	c := Consul(t)
	if status, body := do(t, "PUT", c.URL()+"/v1/kv/k", "v"); status != 200 || strings.TrimSpace(body) != "true" {
		t.Fatalf("put: %d %s", status, body)
	}
	if status, body := do(t, "PUT", c.URL()+"/v1/session/create", `{"TTL":"10s"}`); status != 200 {
		t.Fatalf("a session straight after the start: %d %s", status, body)
	}
	pid := c.Pid()
	c.Kill()
	c.Kill()
	if resp, err := pollClient.Get(c.URL() + "/v1/status/leader"); err == nil {
		resp.Body.Close()
		t.Fatal("a killed Consul still answers")
	}
	c.Restart()
	if c.Pid() == pid {
		t.Errorf("process id is still %d", pid)
	}
	if status, body := do(t, "GET", c.URL()+"/v1/kv/k?raw", ""); status != 200 || body != "v" {
		t.Errorf("after the restart: %d %q, want 200 v", status, body)
	}
}

func TestPrometheusScrapesChangingTargetsAndRestarts(t *testing.T) {
	target := func(value int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "# TYPE probe gauge\nprobe %d\n", value)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	one, two := target(1), target(2)
	p := Prometheus(t, ScrapeInterval(500*time.Millisecond), Targets(TargetGroup{
		Targets: []string{one}, Labels: map[string]string{"team": "a"},
	}))
	query := func(q string) error {
		_, body := do(t, "GET", p.URL()+"/api/v1/query?query="+url.QueryEscape(q), "")
		var answer struct{ Data struct{ Result []any } }
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return err
		}
		if len(answer.Data.Result) != 1 {
			return fmt.Errorf("not one series: %s", body)
		}
		return nil
	}
	waittest.Succeeds(t, 15*time.Second, "first target", func() error { return query(`probe{team="a"} == 1`) })
	p.SetTargets(TargetGroup{Targets: []string{two}})
	waittest.Succeeds(t, 15*time.Second, "second target alone", func() error {
		if err := query(`probe{instance="` + two + `"} == 2`); err != nil {
			return err
		}
		return query(`count(probe) == 1`)
	})
	p.Kill()
	p.Restart()
	waittest.Succeeds(t, 15*time.Second, "scrapes after the restart", func() error {
		return query(`time() - timestamp(probe) < 2`)
	})
}

func TestStartReportsWhyAServerExits(t *testing.T) {
	_, err := StartPrometheus(t.Context(), t.TempDir(), t.Logf, Config("no_such_section: true\n"))
	if err == nil || !strings.Contains(err.Error(), "no_such_section") {
		t.Errorf("got %v, want an error that quotes the log", err)
	}
}

func TestLockAdmitsOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var mu sync.Mutex
	var wg sync.WaitGroup
	held, most := 0, 0
	for range 4 {
		wg.Go(func() {
			unlock, err := lock(t.Context(), path, func() {})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			held++
			most = max(most, held)
			mu.Unlock()
			mu.Lock()
			held--
			mu.Unlock()
			unlock()
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}

	unlock, err := lock(t.Context(), path, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := lock(ctx, path, cancel); err == nil {
		t.Error("took a lock that is held")
	}
}

func TestOverrideMustExist(t *testing.T) {
	t.Setenv("GOVERNOR_TEST_CONSUL", filepath.Join(t.TempDir(), "missing"))
	_, err := Binary(t.Context(), KindConsul, t.Logf)
	if err == nil || !strings.Contains(err.Error(), "GOVERNOR_TEST_CONSUL") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}

func TestPathServerMustBeRecentEnough(t *testing.T) {
	for _, tc := range []struct {
		kind    Kind
		version string
		want    bool
	}{
		{KindConsul, "Consul v1.15.4", true},
		{KindConsul, "Consul v1.14.11", false},
		{KindConsul, "Consul v2.0.0", true},
		{KindPrometheus, "prometheus, version 2.55.1 (branch: HEAD)", false},
		{KindPrometheus, "prometheus, version 3.1.0 (branch: HEAD)", true},
		{KindPrometheus, "something else", false},
	} {
		path := filepath.Join(t.TempDir(), string(tc.kind))
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+tc.version+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := recipes[tc.kind].suitable(t.Context(), path); got != tc.want {
			t.Errorf("%s %q: suitable %v, want %v", tc.kind, tc.version, got, tc.want)
		}
	}
}
