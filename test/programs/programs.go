// Package programs finds programs that tests run but this project does not build, such as shells. On a developer's
// machine, a test skips if its program is missing. In CI (CI=true) a skip would hide the missing coverage, so the test
// fails; test/tools/debian.txt names what CI installs.
package programs

import (
	"os"
	"os/exec"
	"testing"
)

// Find returns the path of a program. If the program is missing, the test is skipped; with CI=true it fails.
func Find(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%v; does test/tools/debian.txt name its package?", err)
	default:
		t.Skip(err)
	}
	return path
}
