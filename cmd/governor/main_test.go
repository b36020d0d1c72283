package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/exporter-toolkit/web"
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
		{[]string{"chekc-config"}, exitUsage},
		{[]string{"run", "--no-such-flag"}, exitUsage},
	} {
		if got := governor(tc.args); got != tc.want {
			t.Errorf("governor %s: exit code %d, want %d", strings.Join(tc.args, " "), got, tc.want)
		}
	}
}

func TestIdentityIsWhereOthersReachIt(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
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
