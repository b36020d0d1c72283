package servers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Kind names a server that this package can run.
type Kind string

// The servers.
const (
	KindConsul          Kind = "consul"
	KindPrometheus      Kind = "prometheus"
	KindVictoriaMetrics Kind = "victoriametrics"
)

// Kinds lists every server.
var Kinds = []Kind{KindConsul, KindPrometheus, KindVictoriaMetrics}

// recipe says how to recognize a suitable server on PATH, and how to build one.
type recipe struct {
	env            string // names a binary to use as it is
	module, pkg    string // what to build, in the nested module test/tools/<kind>
	buildFlags     []string
	versionArg     string
	version        *regexp.Regexp // first two groups: major, minor
	atLeast        [2]int
	expectedLength string // for people who wait
}

var recipes = map[Kind]recipe{
	KindConsul: {
		env:            "GOVERNOR_TEST_CONSUL",
		module:         "github.com/hashicorp/consul",
		pkg:            "github.com/hashicorp/consul",
		buildFlags:     []string{"-ldflags=-s -w"},
		versionArg:     "version",
		version:        regexp.MustCompile(`Consul v(\d+)\.(\d+)`),
		atLeast:        [2]int{1, 15},
		expectedLength: "once, some minutes on two cores",
	},
	KindPrometheus: {
		env:    "GOVERNOR_TEST_PROMETHEUS",
		module: "github.com/prometheus/prometheus",
		pkg:    "github.com/prometheus/prometheus/cmd/prometheus",
		// The discoveries of all clouds are two thirds of the build; static and file discovery remain.
		buildFlags:     []string{"-tags=remove_all_sd,netgo", "-ldflags=-s -w"},
		versionArg:     "--version",
		version:        regexp.MustCompile(`prometheus, version (\d+)\.(\d+)`),
		atLeast:        [2]int{3, 0},
		expectedLength: "once, some minutes on two cores",
	},
	KindVictoriaMetrics: {
		env:            "GOVERNOR_TEST_VICTORIAMETRICS",
		module:         "github.com/VictoriaMetrics/VictoriaMetrics",
		pkg:            "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
		buildFlags:     []string{"-ldflags=-s -w"},
		versionArg:     "-version",
		version:        regexp.MustCompile(`victoria-metrics.*v(\d+)\.(\d+)`),
		atLeast:        [2]int{1, 100},
		expectedLength: "once, a minute or two",
	},
}

// Binary returns the path of a runnable server, and builds the server if it finds no suitable one (see the package
// comment for the order). It reports slow steps to logf. Any number of processes may call it at once.
func Binary(ctx context.Context, kind Kind, logf func(format string, args ...any)) (string, error) {
	r, ok := recipes[kind]
	if !ok {
		return "", fmt.Errorf("obtain server %q: unknown, want one of %v", kind, Kinds)
	}
	if path := os.Getenv(r.env); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("obtain %s from %s: %w; correct or unset the variable", kind, r.env, err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath(string(kind)); err == nil && r.suitable(ctx, path) {
		return filepath.Abs(path)
	}
	path, err := r.cached(ctx, kind, logf)
	if err != nil {
		return "", fmt.Errorf("obtain %s: %w; a server on PATH or in %s is used instead of a build", kind, err, r.env)
	}
	return path, nil
}

// suitable reports whether the binary at path reports a version of at least atLeast.
func (r recipe) suitable(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, r.versionArg).Output()
	if err != nil {
		return false
	}
	m := r.version.FindSubmatch(out)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	return major > r.atLeast[0] || major == r.atLeast[0] && minor >= r.atLeast[1]
}

// cached returns the build in the user's cache directory, and makes it first if it is missing. The directory's name
// contains everything that the result depends on, so a cached build is never stale and never rebuilt.
func (r recipe) cached(ctx context.Context, kind Kind, logf func(string, ...any)) (string, error) {
	tools, err := toolModule(kind)
	if err != nil {
		return "", err
	}
	version, err := requiredVersion(ctx, tools, r.module)
	if err != nil {
		return "", err
	}
	key, err := r.key(ctx, tools)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "governor", "servers", fmt.Sprintf("%s-%s-%s", kind, version, key))
	path := filepath.Join(dir, string(kind))
	if isFile(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, path+".lock", func() {
		logf("%s %s: another process is building it, waiting", kind, version)
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if isFile(path) {
		return path, nil
	}
	logf("building %s %s, %s", kind, version, r.expectedLength)
	began := time.Now()
	if err := r.build(ctx, tools, path, func() {
		logf("still building %s %s after %s", kind, version, time.Since(began).Round(time.Second))
	}); err != nil {
		return "", fmt.Errorf("build version %s: %w", version, err)
	}
	logf("built %s %s in %s: %s", kind, version, time.Since(began).Round(time.Second), path)
	return path, nil
}

// build compiles to path, which appears only once it is complete. It calls waiting twice a minute.
func (r recipe) build(ctx context.Context, tools, path string, waiting func()) error {
	temporary := path + ".partial"
	args := append([]string{"build"}, r.buildFlags...)
	cmd := goCommand(ctx, tools, append(args, "-o", temporary, r.pkg)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				os.Remove(temporary)
				return fmt.Errorf("go build %s in %s: %w\n%s", r.pkg, tools, err, out.Bytes())
			}
			return os.Rename(temporary, path)
		case <-tick.C:
			waiting()
		}
	}
}

// key hashes what a build depends on: the pinned modules, the compiler, the flags, the platform.
func (r recipe) key(ctx context.Context, tools string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(tools, name))
		if err != nil {
			return "", err
		}
		h.Write(b)
	}
	// The toolchain is that of the nested module, not the one that compiled this package.
	out, err := goCommand(ctx, tools, "env", "GOVERSION", "CGO_ENABLED").Output()
	if err != nil {
		return "", fmt.Errorf("go env in %s: %w", tools, explain(err))
	}
	fmt.Fprintf(h, "%s\n%q\n%s/%s\n", out, r.buildFlags, runtime.GOOS, runtime.GOARCH)
	return fmt.Sprintf("%x", h.Sum(nil)[:6]), nil
}

// toolModule finds the nested module that builds kind, from the working directory upwards: tests run in their package's
// directory, commands in the root of the tree or below.
func toolModule(kind Kind) (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; {
		candidate := filepath.Join(dir, "test", "tools", string(kind))
		if isFile(filepath.Join(candidate, "go.mod")) {
			return candidate, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no test/tools/%s in %s or above it; run inside the source tree", kind, start)
		}
		dir = parent
	}
}

// requiredVersion reads the required version of module from the go.mod in dir, without the leading v.
func requiredVersion(ctx context.Context, dir, module string) (string, error) {
	out, err := goCommand(ctx, dir, "mod", "edit", "-json").Output()
	if err != nil {
		return "", fmt.Errorf("go mod edit -json in %s: %w", dir, explain(err))
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return "", err
	}
	for _, r := range mod.Require {
		if r.Path == module {
			return strings.TrimPrefix(r.Version, "v"), nil
		}
	}
	return "", fmt.Errorf("%s/go.mod does not require %s", dir, module)
}

// goCommand prepares the go command in the module at dir, independent of the caller's workspace and flags.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "PWD="+dir)
	return cmd
}

// explain adds the command's standard error.
func explain(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}

// lock takes the advisory lock on the file at path, which the kernel drops if this process dies. It calls waiting once
// if another process holds it.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			told = true
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
