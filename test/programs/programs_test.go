package programs

import (
	"path/filepath"
	"testing"
)

// outcome records how a test ended.
type outcome struct {
	testing.TB
	failed, skipped bool
}

func (o *outcome) Fatalf(string, ...any) { o.failed = true }
func (o *outcome) Skip(...any)           { o.skipped = true }

func TestMissingProgramFailsInCI(t *testing.T) {
	for _, tc := range []struct {
		ci              string
		failed, skipped bool
	}{
		{"", false, true},
		{"true", true, false},
	} {
		t.Setenv("CI", tc.ci)
		o := &outcome{TB: t}
		Find(o, "a-program-that-nobody-has")
		if o.failed != tc.failed || o.skipped != tc.skipped {
			t.Errorf("CI=%q: failed %v, skipped %v", tc.ci, o.failed, o.skipped)
		}
	}
}

func TestFoundProgram(t *testing.T) {
	if path := Find(t, "go"); filepath.Base(path) != "go" {
		t.Errorf("found %q", path)
	}
}
