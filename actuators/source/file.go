package source

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/files"
)

// File is a source of one Setting from a file that holds its JSON. The file may be missing at first, be replaced by a
// rename, or be a symbolic link that changes, as in a mounted ConfigMap (mounted as a folder: a subPath is never updated).
// Also rewriting it in place works: what is not JSON, or gone, counts only if the next reading finds the same.
//
// What is not a regular file, or cannot be read, leaves the last Setting in force. Nobody renews the lease of a Setting
// that a person writes into a file, so after the lease its fallbacks count. It implements guard.Source and is safe for
// concurrent use.
type File struct {
	Path string
	// Every is the time between two readings; 0: a second.
	Every time.Duration
	// OnError, if set, is called when the file cannot be read, once for each error in a row.
	OnError func(error)
}

// Watch implements guard.Source. The file is delivered whatever service its Setting is for: a guard refuses another one's.
func (f File) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	return watch(ctx, service, func() error {
		return poll(ctx, f.Every, f.OnError, func(r *reading) { r.read(part{}, f.Path) }, ofService(apply))
	})
}

// Dir is a source of the Settings of several services, and of their calls, from files below a folder. The layout is that of
// the keys in Consul:
//
//	SERVICE/setting
//	SERVICE/calls/CALLEE/setting
//
// Otherwise it is like File. It implements guard's Source and CallSource.
type Dir struct {
	Path string
	// Every is the time between two readings; 0: a second.
	Every time.Duration
	// OnError, if set, is called when something cannot be read, once for each error in a row.
	OnError func(error)
}

// Watch implements guard.Source.
func (d Dir) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	return d.watch(ctx, service, false, ofService(apply))
}

// WatchCalls implements guard.CallSource.
func (d Dir) WatchCalls(ctx context.Context, service string, apply func(callee string, raw []byte)) error {
	return d.watch(ctx, service, true, ofCalls(apply))
}

func (d Dir) watch(ctx context.Context, service string, parts bool, apply func(p part, raw []byte)) error {
	return watch(ctx, service, func() error {
		of := filepath.Join(d.Path, service)
		return poll(ctx, d.Every, d.OnError, func(r *reading) {
			r.read(part{}, filepath.Join(of, "setting"))
			if parts {
				r.list(callsKind, filepath.Join(of, callsKind))
			}
		}, apply)
	})
}

// reading is what one look at the files found.
type reading struct {
	found   map[part][]byte // nil: it does not exist
	unknown map[part]bool   // could not be read; with the name "": all of that kind
	errs    []error
}

// read reads the file of p, and of one that is too long a byte more than is allowed, so that Accept reports it.
func (r *reading) read(p part, name string) {
	raw, err := files.Read(name, actuators.MaxBytes+1)
	switch {
	case err == nil:
		r.found[p] = raw
	case errors.Is(err, fs.ErrNotExist):
		r.found[p] = nil
	default:
		r.fail(p, err)
	}
}

// list reads the Settings of one kind, each in a folder of its own.
func (r *reading) list(kind, folder string) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.fail(part{kind: kind}, err)
	}
	for _, e := range entries {
		if actuators.ValidServiceName(e.Name()) == nil {
			r.read(part{kind, e.Name()}, filepath.Join(folder, e.Name(), "setting"))
		}
	}
}

func (r *reading) fail(p part, err error) {
	r.unknown[p] = true
	r.errs = append(r.errs, err)
}

// knows says whether the reading knows of p, present or not.
func (r *reading) knows(p part) bool { return !r.unknown[p] && !r.unknown[part{kind: p.kind}] }

// poll looks at files again and again, and delivers what changes. It blocks until ctx ends and returns its error.
func poll(
	ctx context.Context, every time.Duration, onError func(error), look func(*reading), apply func(p part, raw []byte),
) error {
	if every <= 0 {
		every = time.Second
	}
	told, doubted, trouble := told{}, map[part][]byte{}, ""
	for {
		r := &reading{found: map[part][]byte{}, unknown: map[part]bool{}}
		look(r)
		for p := range told {
			if _, ok := r.found[p]; !ok {
				r.found[p] = nil
			}
		}
		for _, p := range sorted(r.found) {
			raw := r.found[p]
			if !r.knows(p) {
				continue
			}
			// Between two writes, or two renames, somebody may find half a file, or none.
			last, again := doubted[p]
			delete(doubted, p)
			if (raw == nil || !json.Valid(raw)) && !(again && same(last, raw)) {
				if known, ok := told[p]; !ok || !same(known, raw) {
					doubted[p] = raw
				}
				continue
			}
			told.deliver(p, raw, apply)
		}
		if err := errors.Join(r.errs...); err == nil {
			trouble = ""
		} else if onError != nil && err.Error() != trouble {
			trouble = err.Error()
			onError(err)
		}
		if err := sleep(ctx, every); err != nil {
			return err
		}
	}
}

// sleep waits, and returns the error of ctx if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
