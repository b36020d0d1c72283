// Package programs finds the programs that tests run and that this project does not build, as shells. On a developer's
// machine a test does without a program that is missing. In CI (CI=true) that would hide what is no longer tested, so the
// test fails; test/tools/debian.txt names what CI installs.
package programs

import (
	"os"
	"os/exec"
	"testing"
)

// Find returns the path of a program. Without the program the test is skipped; where CI=true it fails.
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
