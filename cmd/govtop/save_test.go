package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSave(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	const name = "govtop-20261125T140327Z.json"
	for i, want := range []string{name, "govtop-20261125T140327Z-2.json", "govtop-20261125T140327Z-3.json"} {
		content := strings.Repeat("x", i+1)
		path, err := save(name, []byte(content))
		if err != nil || path != filepath.Join(dir, want) {
			t.Fatalf("saved to %s, %v; want %s", path, err, want)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "x" {
		t.Errorf("the first file was changed: %q, %v", got, err)
	}

	_, err = save("nowhere/"+name, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot export") || !strings.Contains(err.Error(), "was started") {
		t.Errorf("a directory that is not there: %v", err)
	}
}
