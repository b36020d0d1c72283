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
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
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
		return poll(ctx, f.Every, f.OnError, func(r *reading) { r.read(actuators.Part{}, f.Path) }, ofService(apply))
	})
}

// Dir is a source of the Settings of several services, and of their routes and calls, from files below a folder. The layout is that of
// the keys in Consul:
//
//	SERVICE/setting
//	SERVICE/calls/CALLEE/setting
//	SERVICE/routes/ROUTE/setting
//
// Otherwise it is like File. It implements guard's Source and PartSource.
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

// WatchParts implements guard.PartSource.
func (d Dir) WatchParts(ctx context.Context, service string, apply func(part actuators.Part, raw []byte)) error {
	return d.watch(ctx, service, true, apply)
}

func (d Dir) watch(ctx context.Context, service string, parts bool, apply func(p actuators.Part, raw []byte)) error {
	return watch(ctx, service, func() error {
		of := filepath.Join(d.Path, service)
		return poll(ctx, d.Every, d.OnError, func(r *reading) {
			r.read(actuators.Part{}, filepath.Join(of, "setting"))
			if parts {
				r.list(of, "calls", func(name string) actuators.Part { return actuators.Part{Callee: name} })
				r.list(of, "routes", func(name string) actuators.Part { return actuators.Part{Route: name} })
			}
		}, apply)
	})
}

// reading is what one look at the files found.
type reading struct {
	found   map[actuators.Part][]byte // nil: it does not exist
	unknown map[actuators.Part]bool   // could not be read
	hidden  map[string]bool           // kinds that could not be listed
	errs    []error
}

// kindOf is the folder of a part.
func kindOf(p actuators.Part) string {
	switch {
	case p.Callee != "":
		return "calls"
	case p.Route != "":
		return "routes"
	}
	return ""
}

// read reads the file of p, and of one that is too long a byte more than is allowed, so that Accept reports it.
func (r *reading) read(p actuators.Part, name string) {
	raw, err := files.Read(name, actuators.MaxBytes+1)
	switch {
	case err == nil:
		r.found[p] = raw
	case errors.Is(err, fs.ErrNotExist):
		r.found[p] = nil
	default:
		r.unknown[p] = true
		r.errs = append(r.errs, err)
	}
}

// list reads the Settings of one kind, each in a folder of its own.
func (r *reading) list(of, kind string, part func(name string) actuators.Part) {
	folder := filepath.Join(of, kind)
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.hidden[kind] = true
		r.errs = append(r.errs, err)
	}
	for _, e := range entries {
		if actuators.ValidServiceName(e.Name()) == nil {
			r.read(part(e.Name()), filepath.Join(folder, e.Name(), "setting"))
		}
	}
}

// knows says whether the reading knows of p, present or not.
func (r *reading) knows(p actuators.Part) bool { return !r.unknown[p] && !r.hidden[kindOf(p)] }

// poll looks at files again and again, and delivers what changes. It blocks until ctx ends and returns its error.
func poll(
	ctx context.Context, every time.Duration, onError func(error), look func(*reading), apply func(p actuators.Part, raw []byte),
) error {
	if every <= 0 {
		every = time.Second
	}
	told, doubted, trouble := told{}, map[actuators.Part][]byte{}, ""
	for {
		r := &reading{found: map[actuators.Part][]byte{}, unknown: map[actuators.Part]bool{}, hidden: map[string]bool{}}
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
		if err := wait.For(ctx, every); err != nil {
			return err
		}
	}
}
