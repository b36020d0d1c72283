package source_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/source"
	"github.com/seed-de83e32b/governor/actuators/source/sourcetest"
)

var (
	_ guard.Source     = source.File{}
	_ guard.PartSource = source.Dir{}
	_ guard.Source     = source.Static{}
	_ guard.PartSource = (*source.Memory)(nil)
)

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pass lets time pass, and what is due at its end happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// rename replaces a file as consul-template does.
func rename(t *testing.T, name string, raw []byte) {
	t.Helper()
	try(t, os.MkdirAll(filepath.Dir(name), 0o755))
	try(t, os.WriteFile(name+".new", raw, 0o644))
	try(t, os.Rename(name+".new", name))
}

func TestContract(t *testing.T) {
	t.Run("Memory", func(t *testing.T) {
		sourcetest.Run(t, func(*testing.T) sourcetest.Subject {
			m := new(source.Memory)
			return sourcetest.Subject{
				Source: m,
				Put:    func(_ *testing.T, service string, part actuators.Part, raw []byte) { m.SetRaw(service, part, raw) },
				Delete: func(_ *testing.T, service string, part actuators.Part) { m.Delete(service, part) },
			}
		})
	})
	t.Run("Static", func(t *testing.T) {
		sourcetest.Run(t, func(*testing.T) sourcetest.Subject {
			return sourcetest.Subject{Source: source.Static(sourcetest.Setting(1))}
		})
	})
	t.Run("File", func(t *testing.T) {
		sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
			name := filepath.Join(t.TempDir(), "setting.json")
			return sourcetest.Subject{
				Source: source.File{Path: name}, Single: true,
				Put:    func(t *testing.T, _ string, _ actuators.Part, raw []byte) { rename(t, name, raw) },
				Delete: func(t *testing.T, _ string, _ actuators.Part) { try(t, os.Remove(name)) },
			}
		})
	})
	for _, style := range []string{"renamed", "a ConfigMap"} {
		t.Run("Dir, "+style, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) sourcetest.Subject {
				dir := t.TempDir()
				d := source.Dir{Path: dir, OnError: func(err error) { t.Error(err) }}
				if style == "renamed" {
					path := func(service string, part actuators.Part) string {
						return filepath.Join(dir, strings.TrimPrefix(actuators.Keys{}.KeyOf(service, part), actuators.Keys{}.Services()))
					}
					return sourcetest.Subject{
						Source: d,
						Put: func(t *testing.T, service string, part actuators.Part, raw []byte) {
							rename(t, path(service, part), raw)
						},
						Delete: func(t *testing.T, service string, part actuators.Part) {
							try(t, os.Remove(path(service, part)))
						},
					}
				}
				m := &configMap{dir: dir, files: map[string][]byte{}}
				return sourcetest.Subject{
					Source: d,
					Put: func(t *testing.T, service string, part actuators.Part, raw []byte) {
						m.files[strings.TrimPrefix(actuators.Keys{}.KeyOf(service, part), actuators.Keys{}.Services())] = raw
						m.swap(t)
					},
					Delete: func(t *testing.T, service string, part actuators.Part) {
						delete(m.files, strings.TrimPrefix(actuators.Keys{}.KeyOf(service, part), actuators.Keys{}.Services()))
						m.swap(t)
					},
				}
			})
		})
	}
}

// configMap is a folder as the kubelet keeps it for a mounted ConfigMap (Kubernetes' AtomicWriter): the files are in a folder
// of their own for each version, the link ..data names that, and the first part of each path is a link through ..data.
type configMap struct {
	dir     string
	files   map[string][]byte
	version int
}

func (m *configMap) swap(t *testing.T) {
	t.Helper()
	data := filepath.Join(m.dir, "..data")
	old, _ := os.Readlink(data)
	m.version++
	version := "..version" + string(rune('a'+m.version))
	try(t, os.Mkdir(filepath.Join(m.dir, version), 0o755))
	for path, raw := range m.files {
		name := filepath.Join(m.dir, version, path)
		try(t, os.MkdirAll(filepath.Dir(name), 0o755))
		try(t, os.WriteFile(name, raw, 0o644))
	}
	try(t, os.Symlink(version, data+"_tmp"))
	try(t, os.Rename(data+"_tmp", data))
	for path := range m.files {
		first, _, _ := strings.Cut(path, "/")
		if err := os.Symlink(filepath.Join("..data", first), filepath.Join(m.dir, first)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	if old != "" {
		try(t, os.RemoveAll(filepath.Join(m.dir, old)))
	}
}

// A file that is written in place is empty or half for a moment. That is no Setting, and neither is the gap between removing
// it and writing it again.
func TestHalfAFileIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "setting.json")
		var values []string
		stop := follow(t, source.File{Path: name}, func(raw []byte) { values = append(values, string(raw)) })
		write := func(text string, readings int) {
			t.Helper()
			try(t, os.WriteFile(name, []byte(text), 0o644))
			pass(time.Duration(readings) * time.Second)
		}
		write(`{"a":1}`, 3)
		write(``, 1)
		write(`{"a`, 1)
		write(`{"a":2}`, 3)
		try(t, os.Remove(name))
		pass(time.Second)
		write(`{"a":3}`, 3)
		write(`{"a":`, 3)
		stop()
		if want := []string{`{"a":1}`, `{"a":2}`, `{"a":3}`, `{"a":`}; !slices.Equal(values, want) {
			t.Errorf("delivered %q, want %q", values, want)
		}
	})
}

// What is not a file, or must not be read, is reported once and changes nothing; the file is found again when it is back.
func TestTroubleKeepsTheLastSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "governor")
		name := filepath.Join(dir, "setting.json")
		var values []string
		errs := make(chan error, 100)
		f := source.File{Path: name, OnError: func(err error) { errs <- err }}
		stop := follow(t, f, func(raw []byte) { values = append(values, string(raw)) })
		rename(t, name, []byte("1"))
		pass(3 * time.Second)

		for _, trouble := range []struct {
			what string
			make func() error
		}{
			{"a pipe", func() error { return syscall.Mkfifo(name, 0o644) }},
			{"a directory", func() error { return os.Mkdir(name, 0o755) }},
			{"a device", func() error { return os.Symlink("/dev/zero", name) }},
			{"too many levels of symbolic links", func() error { return os.Symlink(name, name) }},
		} {
			try(t, os.Remove(name))
			try(t, trouble.make())
			pass(time.Minute)
			if n := len(errs); n != 1 {
				t.Errorf("%s: %d errors, want one", trouble.what, n)
			} else if err := <-errs; !strings.Contains(err.Error(), trouble.what) {
				t.Errorf("%s: %v", trouble.what, err)
			}
		}
		try(t, os.RemoveAll(dir))
		pass(3 * time.Second)
		rename(t, name, []byte("2"))
		pass(3 * time.Second)
		try(t, os.WriteFile(name, make([]byte, actuators.MaxBytes+100), 0o644))
		pass(3 * time.Second)
		stop()
		if len(values) != 4 || !slices.Equal(values[:3], []string{"1", "", "2"}) || len(values[3]) != actuators.MaxBytes+1 {
			t.Errorf("delivered %.100q", values)
		}
		if len(errs) != 0 {
			t.Errorf("errors for a folder that went and came back: %v", <-errs)
		}
	})
}

// A folder that cannot be listed is not one without calls.
func TestCallsThatCannotBeListedStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		calls := filepath.Join(dir, "checkout", "calls")
		rename(t, filepath.Join(calls, "payments", "setting"), []byte("1"))
		var values []string
		var errs []error
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d := source.Dir{Path: dir, OnError: func(err error) { errs = append(errs, err) }}
			_ = d.WatchParts(ctx, "checkout", func(p actuators.Part, raw []byte) { values = append(values, p.Callee+"="+string(raw)) })
		}()
		time.Sleep(time.Minute)
		try(t, os.Rename(calls, calls+".away"))
		try(t, os.WriteFile(calls, nil, 0o644)) // not a folder
		time.Sleep(time.Minute)
		try(t, os.Remove(calls))
		try(t, os.Rename(calls+".away", calls))
		time.Sleep(time.Minute)
		cancel()
		<-done
		if want := []string{"payments=1", "="}; !slices.Equal(values, want) || len(errs) != 1 {
			t.Errorf("delivered %q, want %q; errors %v", values, want, errs)
		}
	})
}

// Static renews its lease, as a governor does that sees no reason for a change.
func TestStaticHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var revisions []uint64
		stop := follow(t, source.Static(sourcetest.Setting(7)), func(raw []byte) {
			s, err := actuators.Decode(raw)
			if err != nil {
				t.Error(err)
			}
			revisions = append(revisions, s.Revision)
		})
		time.Sleep(2*time.Minute + time.Second)
		stop()
		if !slices.Equal(revisions, []uint64{7, 8, 9}) {
			t.Errorf("revisions %d in two minutes of a lease of three", revisions)
		}
	})
	if err := (source.Static{Service: "checkout"}).Watch(t.Context(), "checkout", func([]byte) {}); err == nil {
		t.Error("watched an invalid Setting")
	}
}

// follow watches checkout in a goroutine until the function that it returns is called.
func follow(t *testing.T, src guard.Source, apply func(raw []byte)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = src.Watch(ctx, "checkout", apply)
	}()
	return func() {
		cancel()
		<-done
	}
}
