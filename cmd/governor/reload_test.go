package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/internal/checkconfig"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/servers"
)

// daemonProcess runs governor as a separate process, with neither Prometheus nor Consul, and returns a client for it.
func daemonProcess(t *testing.T, file string, log io.Writer) (*exec.Cmd, *api.Client) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	address := servers.Unused(t)
	cmd := exec.Command(self, "run", "--config.file="+file, "--web.listen-address="+address)
	cmd.Env = append(os.Environ(), plays+"=1", "CONSUL_HTTP_ADDR="+servers.Unused(t))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	client, err := api.NewClient("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	waittest.Until(t, "the daemon answers", func() bool { _, err := client.Status(t.Context()); return err == nil })
	return cmd, client
}

// A27: cloudamqp/lavinmq PR 2091, trusteddomainproject/OpenDMARC#322: a bad file on SIGHUP neither kills the process nor
// is half applied. TheThingsNetwork/lorawan-stack#270, elastic/kibana PR 144823: numbers without a unit, objectives that
// leave no budget.
func TestBadReloadKeepsTheConfigurationInForce(t *testing.T) {
	file := write(t, goodConfig)
	log := &waittest.Buffer{}
	cmd, client := daemonProcess(t, file, log)
	config := func() api.ConfigInfo {
		s, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Config
	}
	metric := func(line string) bool {
		resp, err := http.Get(client.Address() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(text), line+"\n")
	}
	hangUp := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	before := config()
	if !metric("governor_config_last_reload_successful 1") {
		t.Error("the metric does not show that the file was read at the start")
	}

	for name, text := range map[string]string{
		"a tab":                  strings.Replace(goodConfig, "    mode", "\tmode", 1),
		"an unknown key":         strings.Replace(goodConfig, "concurrency", "concurency", 1),
		"a period without unit":  goodConfig + "timing: {period: 10}\n",
		"an objective of 100%":   strings.Replace(goodConfig, "99%", "100%", 1),
		"a percentage without %": strings.Replace(goodConfig, "99%", "99.9", 1),
		"min above max":          strings.Replace(goodConfig, "min: 20", "min: 500", 1),
		"half a file":            goodConfig[:len(goodConfig)/2],
		"nothing at all":         "",
	} {
		t.Run(name, func(t *testing.T) {
			hangUp(text)
			var out, said bytes.Buffer
			if checkconfig.Run(&out, &said, file) == 0 {
				t.Fatal("check-config accepts it")
			}
			want := strings.TrimSpace(said.String())
			waittest.Until(t, "the status says what check-config says:\n"+want, func() bool { return config().Error == want })
			if now := config(); now.Hash != before.Hash || !now.LoadedAt.Equal(before.LoadedAt) {
				t.Errorf("the configuration in force went from %+v to %+v", before, now)
			}
			if !metric("governor_config_last_reload_successful 0") {
				t.Error("the metric does not show the failure")
			}
		})
	}
	consul := goodConfig + "consul: {prefix: other/}\n"
	hangUp(consul)
	waittest.Until(t, "a new prefix is refused", func() bool { return strings.Contains(config().Error, "restart") })

	// And then a valid file, in which a service has another name.
	hangUp(strings.Replace(goodConfig, "checkout", "checkout-v2", 1))
	waittest.Until(t, "the new configuration is in force", func() bool { return config().Hash != before.Hash })
	loops, err := client.Loops(t.Context())
	if err != nil || len(loops) != 1 || loops[0].Service != "checkout-v2" || config().Error != "" {
		t.Errorf("loops %+v, %v, status %+v", loops, err, config())
	}
	if !metric("governor_config_last_reload_successful 1") {
		t.Error("the metric does not show the success")
	}
	if n := strings.Count(log.String(), "configuration not reloaded"); n != 9 {
		t.Errorf("%d refusals in the log, want 9:\n%s", n, log)
	}

	// An open stream does not delay the exit.
	streaming := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		var once sync.Once
		ended <- client.Stream(context.Background(), 0, func(api.Event) error {
			once.Do(func() { close(streaming) })
			return nil
		})
	}()
	<-streaming
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v:\n%s", err, log)
	}
	if took := time.Since(began); took > shutdownTimeout/2 {
		t.Errorf("with a stream open it took %s to end", took)
	}
	<-ended
	http.DefaultClient.CloseIdleConnections()
}

func TestOnlyAnOpenDoorIsClosed(t *testing.T) {
	dir := t.TempDir()
	webConfig := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	users := webConfig("users.yml", "basic_auth_users: {ana: $2y$10$abc}\n")
	certificates := webConfig("mtls.yml", "tls_server_config: {client_auth_type: RequireAndVerifyClientCert}\n")
	tlsOnly := webConfig("tls.yml", "tls_server_config: {cert_file: a, key_file: b}\n")
	for _, tc := range []struct {
		listen, file string
		open         bool
	}{
		{"127.0.0.1:9747", "", true},
		{"[::1]:9747", "", true},
		{"localhost:9747", "", true},
		{":9747", "", false},
		{"0.0.0.0:9747", "", false},
		{"[::]:9747", "", false},
		{"10.0.0.7:9747", "", false},
		{"vsock://:9747", "", false},
		{":9747", users, true},
		{":9747", certificates, true},
		{":9747", tlsOnly, false},
		{":9747", filepath.Join(dir, "absent.yml"), false},
	} {
		o := runOptions{web: &web.FlagConfig{
			WebListenAddresses: &[]string{"127.0.0.1:1", tc.listen}, WebConfigFile: &tc.file, WebSystemdSocket: new(bool),
		}}
		if err := o.closed(); (err == nil) != tc.open {
			t.Errorf("%s with %q: %v", tc.listen, filepath.Base(tc.file), err)
		}
		// With systemd sockets only systemd knows the address.
		*o.web.WebSystemdSocket = true
		if err := o.closed(); (err == nil) != (tc.file == users || tc.file == certificates) {
			t.Errorf("on a socket of systemd with %q: %v", filepath.Base(tc.file), err)
		}
	}
}
