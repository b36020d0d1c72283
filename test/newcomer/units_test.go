package newcomer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/test/programs"
)

// TestUnitsAreValid lets systemd check the units, the sidecar's as an instance. The binary is not installed here, so
// another one stands in for it.
func TestUnitsAreValid(t *testing.T) {
	analyze := programs.Find(t, "systemd-analyze")
	for file, instance := range map[string]string{
		"governor.service": "governor.service", "governor-sidecar@.service": "governor-sidecar@checkout.service",
	} {
		t.Run(instance, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, "packaging", file))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), instance)
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/governor", "/bin/true")), 0o644); err != nil {
				t.Fatal(err)
			}
			// It exits with 0 for unknown keys, too.
			out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), path) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestInstancesOfTheSidecarShareNothing: every file and folder of the sidecar's unit carries the name of its instance.
// Each instance has a user of its own, who could not read another's.
func TestInstancesOfTheSidecarShareNothing(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "packaging/governor-sidecar@.service"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "StateDirectory", "EnvironmentFile", "LoadCredential":
			found++
			if !strings.Contains(value, "%i") {
				t.Errorf("instances share %s", value)
			}
		}
	}
	if found != 3 {
		t.Errorf("%d of the three keys found", found)
	}
}
