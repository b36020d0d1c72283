package main

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/seed-de83e32b/governor/test/servers"
)

const goodConfig = `
prometheus: {url: "http://localhost:9090"}
services:
  checkout:
    mode: enforce
    slo: {latency: 300ms, objective: 99%, errors: 0.1%}
    concurrency: {min: 20, max: 400}
`

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "governor.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCheckConfigTellsByItsExitCode(t *testing.T) {
	good := write(t, goodConfig)
	bad := write(t, strings.ReplaceAll(goodConfig, "99%", "99"))
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"check-config", good}, exitOK},
		{[]string{"check-config", good, bad}, exitError},
		{[]string{"check-config", filepath.Join(t.TempDir(), "absent.yml")}, exitError},
		{[]string{"run", "--config.file=" + bad}, exitError},
		{[]string{"sidecar", "--service=checkout", "--slo.latency=300ms", "--upstream=localhost:8080"}, exitError},
		{[]string{"sidecar", "--service=check/out", "--slo.latency=300ms"}, exitError},
		{[]string{"sidecar", "--service=checkout", "--slo.latency=300"}, exitUsage},
		{[]string{"sidecar", "--service=checkout", "--slo.latency=300ms", "--egress=payments=:9101"}, exitUsage},
		{[]string{"chekc-config"}, exitUsage},
		{[]string{"demo", "--duration=10s"}, exitError},
		{[]string{"demo", "--headless", "--consul.address=127.0.0.1:1"}, exitError},
		{[]string{"run", "--no-such-flag"}, exitUsage},
	} {
		if got := governor(tc.args); got != tc.want {
			t.Errorf("governor %s: exit code %d, want %d", strings.Join(tc.args, " "), got, tc.want)
		}
	}
}

func TestErrorsNameTheFlagTheValueAndWhatIsExpected(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	t.Setenv("CONSUL_HTTP_ADDR", servers.Unused(t))
	absent := filepath.Join(t.TempDir(), "absent.yml")
	sidecar := func(args ...string) []string {
		return append([]string{"sidecar", "--service=checkout", "--slo.latency=300ms", "--listen=127.0.0.1:0"}, args...)
	}
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"sidecar", "--service=x", "--slo.latency=300"}, []string{"--slo.latency=300: ", "300ms"}},
		{[]string{"sidecar", "--service=x", "--slo.latency=3us"}, []string{"--slo.latency=3µs: ", "1ms to 1h"}},
		{[]string{"sidecar", "--service=a//b", "--slo.latency=1s"}, []string{"--service=a//b: ", "a service name"}},
		{sidecar("--upstream=127.0.0.1:8080"), []string{"--upstream=127.0.0.1:8080: ", "http://127.0.0.1:8080"}},
		{sidecar("--limit.max=ten"), []string{"--limit.max=ten: ", "a whole number"}},
		{sidecar("--endless-max=0.5"), []string{"--endless-max=0.5: ", "a whole number"}},
		{sidecar("--limit.min=50", "--limit.max=10"), []string{"--limit.min=50: ", "--limit.max=10"}},
		{sidecar("--limit.max=10", "--limit.fallback=11"), []string{"--limit.fallback=11: ", "1 to 10"}},
		{sidecar("--limit.fallback=1001"), []string{"--limit.fallback=1001: ", "1 to 1000"}},
		{sidecar("--egress=payments=:9101"), []string{"--egress=payments: ", egressSyntax}},
		{
			sidecar("--egress=a=127.0.0.1:1=http://a", "--egress=b=127.0.0.1:1=http://b"),
			[]string{"--egress=b: LISTEN", "--egress=a has this one"},
		},
		{
			sidecar("--egress=payments=" + taken.Addr().String() + "=http://payments"),
			[]string{"--egress=payments=" + taken.Addr().String() + ": ", "choose another --egress"},
		},
		{sidecar("--egress-outside=vendor"), []string{"--egress-outside=vendor: ", "NAME of an --egress"}},
		{sidecar("--egress-timeout=-1s"), []string{"--egress-timeout=-1s: ", "like 2s"}},
		{sidecar("--cache-file=/dev/null"), []string{"--cache-file=/dev/null: ", "a regular file"}},
		{sidecar("--cache-file=" + filepath.Dir(absent)), []string{"--cache-file=", "a regular file"}},
		{sidecar("--consul.prefix=/"), []string{"--consul.prefix=/: "}},
		{sidecar("--log.level=loud"), []string{"--log.level=loud: "}},
		{
			[]string{"sidecar", "--service=x", "--slo.latency=1s", "--listen=" + taken.Addr().String()},
			[]string{"choose another --listen"},
		},
		{sidecar("--web.listen-address=" + taken.Addr().String()), []string{"choose another --web.listen-address"}},
		{[]string{"run", "--config.file=" + absent}, []string{"--config.file=" + absent, "copy configs/minimal.yml"}},
		{
			[]string{"run", "--config.file=" + write(t, goodConfig), "--web.listen-address=" + taken.Addr().String()},
			[]string{"is another governor running?", "choose another --web.listen-address"},
		},
	} {
		var log bytes.Buffer
		err := inProcess(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), tc.args...)
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("governor %s: error %v, want it to say %q", strings.Join(tc.args, " "), err, want)
			}
		}
		if strings.Contains(log.String(), "Stopped") {
			t.Errorf("governor %s: a failed start is logged as an orderly end:\n%s", strings.Join(tc.args, " "), &log)
		}
	}
}

func TestIdentityIsWhereOthersReachIt(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		options       runOptions
		listen        string
		instance, url string
	}{
		{runOptions{}, "127.0.0.1:9747", host + ":9747", "http://127.0.0.1:9747"},
		{runOptions{}, ":9800", host + ":9800", "http://" + host + ":9800"},
		{runOptions{}, "[::]:9800", host + ":9800", "http://" + host + ":9800"},
		{runOptions{instance: "a", externalURL: "https://gov/a"}, ":9800", "a", "https://gov/a"},
		{runOptions{}, "vsock://:9800", host, ""},
	} {
		tc.options.web = &web.FlagConfig{WebListenAddresses: &[]string{tc.listen}}
		if i, u := tc.options.identity(); i != tc.instance || u != tc.url {
			t.Errorf("%s: %s at %s, want %s at %s", tc.listen, i, u, tc.instance, tc.url)
		}
	}
}

func TestEveryFlagIsExplained(t *testing.T) {
	app := kingpin.New("governor", "")
	runCommand(app)
	checkCommand(app)
	sidecarCommand(app)
	demoCommand(app)
	simulateCommand(app)
	freezeCommand(app)
	resumeCommand(app)
	overrideCommand(app)
	explainCommand(app)
	for _, cmd := range app.Model().Commands {
		if cmd.Help == "" {
			t.Errorf("%s has no help", cmd.Name)
		}
		for _, f := range cmd.Flags {
			if f.Help == "" {
				t.Errorf("%s --%s has no help", cmd.Name, f.Name)
			}
		}
	}
}

// TestAFullDiskIsNoSuccess: if what a command prints does not arrive, its exit code says so, and nothing panics.
func TestAFullDiskIsNoSuccess(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	defer full.Close()
	address, _ := kv(t)
	for _, args := range []string{
		"--help", "help", "help freeze", "freeze --help", "--help-man", "--version", "--completion-script-bash",
		"check-config " + write(t, goodConfig), "simulate --list", "freeze --all --force --reason=x --consul.address=" + address,
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), self, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), plays+"=1", "USER=ana")
		cmd.Stdout, cmd.Stderr = full, &errs
		err = cmd.Run()
		if err == nil || !strings.Contains(errs.String(), "no space left on device") || strings.Contains(errs.String(), "panic") {
			t.Errorf("governor %s >/dev/full: %v, stderr %q", args, err, errs.String())
		}
	}
}

// TestWithoutACommand: a command line that names no command is a mistake, and the usage is no output.
func TestWithoutACommand(t *testing.T) {
	for _, args := range [][]string{nil, {"--log.level=debug"}} {
		out, errs, code := playsGovernor(t, nil, args...)
		if code != exitUsage || out != "" || !strings.Contains(errs, "usage: governor") || !strings.Contains(errs, "which command?") {
			t.Errorf("governor %v: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
	for _, args := range []string{"--help", "help", "--version"} {
		if out, errs, code := playsGovernor(t, nil, args); code != exitOK || out == "" || errs != "" {
			t.Errorf("governor %s: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
}
