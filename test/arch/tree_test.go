package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root      = "../.."
	ourPrefix = "github.com/seed-de83e32b/governor"
)

// pkg is the description of a package by `go list -json`.
type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	Standard     bool
	Imports      []string
	Deps         []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
}

// ours reports whether path belongs to this project, in any of its modules.
func ours(path string) bool { return path == ourPrefix || strings.HasPrefix(path, ourPrefix+"/") }

// short removes our own prefix.
func short(path string) string { return strings.TrimPrefix(path, ourPrefix+"/") }

// standard reports whether path belongs to the standard library: the first element of any other path has a dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// under reports whether path is folder or below it.
func under(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// list runs go list in the module at dir (relative to the root of the tree) and decodes its answer.
func list(t *testing.T, dir string, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = filepath.Join(root, dir)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v in %s: %v\n%s", args, dir, err, stderr.Bytes())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// ourPackages lists the packages of every module that the Makefile walks.
func ourPackages(t *testing.T) []pkg {
	t.Helper()
	var all []pkg
	for _, module := range makefileList(t, "MODULES") {
		all = append(all, list(t, module, "./...")...)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package")
	}
	return all
}

// makefileList reads a list variable of the Makefile.
func makefileList(t *testing.T, name string) []string {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `\s*:=\s*(.*)$`).FindSubmatch(makefile)
	if m == nil {
		t.Fatalf("the Makefile sets no %s", name)
	}
	return strings.Fields(string(m[1]))
}

func TestMakefileListsEveryModule(t *testing.T) {
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return filepath.SkipDir
		case d.Name() == "go.mod":
			dir, err := filepath.Rel(root, filepath.Dir(path))
			found = append(found, filepath.ToSlash(dir))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := append(makefileList(t, "MODULES"), makefileList(t, "TOOL_MODULES")...)
	slices.Sort(found)
	slices.Sort(listed)
	if !slices.Equal(found, listed) {
		t.Errorf("the tree has the modules %v, the Makefile lists %v in MODULES and TOOL_MODULES", found, listed)
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range ourPackages(t) {
		if p.Doc == "" {
			t.Errorf("%s: no package comment (doc.go, or above the package clause)", short(p.ImportPath))
		}
	}
}

func TestTrackedFilesNameNoPathOfAMachine(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	// Home directories, and the folders of build machines.
	machine := regexp.MustCompile(`(?:^|[^\w.:-])(?:/(?:home|root|Users|work)/|/tmp/servers)[^\s]*`)
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not yet committed
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "test/arch/") || bytes.IndexByte(content, 0) >= 0 {
			continue
		}
		for i, line := range strings.Split(string(content), "\n") {
			if m := machine.FindString(line); m != "" {
				t.Errorf("%s:%d: %q exists on one machine only", name, i+1, m)
			}
		}
	}
}
