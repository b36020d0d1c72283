package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/servers"
)

// started is a governor that runs as a separate process until the test ends.
type started struct {
	*exec.Cmd
	log  waittest.Buffer
	over chan struct{}
}

func startGovernor(t *testing.T, env []string, args ...string) *started {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &started{Cmd: exec.CommandContext(t.Context(), self, args...), over: make(chan struct{})}
	s.Env = append(append(os.Environ(), plays+"=1", "CONSUL_HTTP_TOKEN="), env...)
	s.Stdout, s.Stderr = &s.log, &s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(s.over); _ = s.Wait() }()
	t.Cleanup(func() { _ = s.Process.Kill(); <-s.over })
	return s
}

func (s *started) running() bool {
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

func (s *started) send(t *testing.T, signals ...syscall.Signal) {
	t.Helper()
	for _, signal := range signals {
		if err := s.Process.Signal(signal); err != nil && s.running() {
			t.Fatal(err)
		}
	}
}

// SIGHUP means "read again" to some commands, and nothing to the others. It ends none.
func TestHangupEndsNoCommand(t *testing.T) {
	// A child inherits that SIGHUP is ignored, as under nohup, but not that it is caught.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
	address, _ := kv(t)
	asked := make(chan struct{}, 10)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	admin := servers.Unused(t)
	for name, args := range map[string][]string{
		"sidecar": {
			"sidecar", "--service=checkout", "--slo.latency=300ms", "--listen=127.0.0.1:0", "--web.listen-address=" + admin,
		},
		"demo":    {"demo"},
		"explain": {"explain", "checkout/rate", "--connect=" + silent.URL},
	} {
		t.Run(name, func(t *testing.T) {
			s := startGovernor(t, []string{"CONSUL_HTTP_ADDR=" + address}, args...)
			switch name {
			case "demo":
				waittest.Within(t, 20*time.Second, "the start", func() bool { return s.log.Len() > 0 })
			case "explain":
				<-asked
			case "sidecar":
				waittest.Within(t, 20*time.Second, "the sidecar's page", func() bool {
					resp, err := http.Get("http://" + admin + "/-/healthy")
					if err != nil {
						return false
					}
					resp.Body.Close()
					http.DefaultClient.CloseIdleConnections()
					return resp.StatusCode == http.StatusOK
				})
			}
			s.send(t, syscall.SIGHUP, syscall.SIGHUP, syscall.SIGHUP)
			waittest.Pass(t, time.Second)
			if !s.running() {
				t.Fatalf("ended by SIGHUP:\n%s", s.log.String())
			}
			s.send(t, syscall.SIGTERM)
			waittest.Within(t, 20*time.Second, "the end", func() bool { return !s.running() })
			if code := s.ProcessState.ExitCode(); code != exitOK && name != "explain" {
				t.Errorf("exit code %d after SIGTERM:\n%s", code, s.log.String())
			}
		})
	}
}

// A supervisor may send SIGTERM several times. The leader still releases its lock, so that another leads at once.
func TestSecondSIGTERMDoesNotKeepTheLock(t *testing.T) {
	address, client := kv(t)
	file := filepath.Join(t.TempDir(), "governor.yml")
	text := fmt.Sprintf("prometheus: {url: %q}\nconsul: {address: %q}\nservices:\n  checkout:\n    slo: {latency: 300ms, objective: 99%%}\n"+
		"    concurrency: {min: 20, max: 400}\n", "http://"+servers.Unused(t), address+"/")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startGovernor(t, nil, "run", "--config.file="+file, "--web.listen-address="+servers.Unused(t))
	session := func() string {
		pair, _, err := client.KV().Get(actuators.Keys{}.Leader(), nil)
		if err != nil || pair == nil {
			return ""
		}
		return pair.Session
	}
	waittest.Within(t, 30*time.Second, "a leader", func() bool { return session() != "" })
	s.send(t, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGINT)
	waittest.Within(t, 20*time.Second, "the end", func() bool { return !s.running() })
	if code := s.ProcessState.ExitCode(); code != exitOK || session() != "" || !strings.Contains(s.log.String(), "Stopped") {
		t.Errorf("exit code %d, session %q holds the lock; log:\n%s", code, session(), s.log.String())
	}
}
