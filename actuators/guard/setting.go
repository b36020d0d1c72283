package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/files"
)

// Source delivers the Settings of a service, for example the Watcher of actuators/consul. If several guards share one, it must
// be safe for concurrent use.
type Source interface {
	// Watch calls apply with the bytes of the service's Setting, first and after each change, and with nil if the key
	// does not exist, and never two calls at once. It blocks until ctx ends and rides out any trouble with the store; if it
	// returns earlier, it is called again after a pause.
	Watch(ctx context.Context, service string, apply func(raw []byte)) error
}

// PartSource is a Source that also delivers the Settings of the service's routes and of its calls.
type PartSource interface {
	Source
	// WatchParts is Watch for all Settings of the service: its own (the zero Part), those of its routes and of its
	// calls.
	WatchParts(ctx context.Context, service string, apply func(part actuators.Part, raw []byte)) error
}

// watchBackoff spreads the guards of a fleet that lost its store, with at least watchLeast between two attempts of one.
var watchBackoff = backoff{first: time.Second, most: 30 * time.Second}

const (
	watchLeast = 100 * time.Millisecond
	logEvery   = time.Minute
)

// Run keeps the guard, and its dependencies if src is a PartSource, supplied with Settings from src until ctx ends, and
// then returns nil. It blocks: the caller chooses the goroutine. If Watch fails, Run calls it again after a jittered
// pause of about 30 s at most; meanwhile the guard keeps working. A guard works without Run too, on its fallback and its reflex.
func (g *Guard) Run(ctx context.Context, src Source) error {
	attend(ctx, g.cfg.Logger, g.cfg.Service, func(heard func()) error {
		return g.watch(ctx, src, func(g *Guard, raw []byte) {
			heard()
			if g.Apply(raw) == nil && raw != nil {
				g.saveCache()
			}
		})
	})
	return nil
}

// attend calls watch until ctx ends, again after a pause if it fails. The pauses begin anew when it says that it heard
// something.
func attend(ctx context.Context, log *slog.Logger, service string, watch func(heard func()) error) {
	failures := 0
	for {
		err := watch(func() { failures = 0 })
		if ctx.Err() != nil {
			return
		}
		log.Warn("the source of settings ended; the last one stays", "service", service, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchBackoff.wait(failures, rand.Float64(), watchLeast)):
		}
		failures++
	}
}

// watch calls apply with each Setting that src delivers and the guard it is for: g, the compartment of a route, or the
// bulkhead of a dependency. Settings of routes that g does not have are for other versions of the service.
func (g *Guard) watch(ctx context.Context, src Source, apply func(g *Guard, raw []byte)) error {
	parts, ok := src.(PartSource)
	if !ok {
		return src.Watch(ctx, g.cfg.Service, func(raw []byte) { apply(g, raw) })
	}
	return parts.WatchParts(ctx, g.cfg.Service, func(part actuators.Part, raw []byte) {
		switch {
		case part == (actuators.Part{}):
			apply(g, raw)
		case part.Route != "":
			if c := g.compartment(part.Route); c != nil {
				apply(c, raw)
			}
		default:
			if d := g.calls.deliver(part.Callee, raw); d != nil {
				apply(d.pool, raw)
			}
		}
	})
}

// Apply puts the bytes of a Setting in force. It returns nil if they are in force. If they are refused, it returns the
// error of actuators.Accept, counts and logs it (at most once a minute per reason), and the guard keeps what it has.
// nil means that the key was deleted: the last good Setting stays until its lease runs out.
func (g *Guard) Apply(raw []byte) error { return g.apply(g.now(), raw) }

// ApplyAt is Apply at the instant now.
func (g *Guard) ApplyAt(now time.Time, raw []byte) error { return g.apply(now.Sub(g.base), raw) }

func (g *Guard) apply(now time.Duration, raw []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.step(now)
	if raw == nil {
		if g.regime.leased(now) {
			g.cfg.Logger.Warn("the setting is gone; its last values stay until the lease runs out",
				"service", g.cfg.Service)
		}
		return nil
	}
	news, err := g.regime.accept(now, raw)
	if err != nil {
		g.refused[actuators.ReasonOf(err)]++
		g.logged.refusal(now, g.cfg.Logger, g.cfg.Service, err)
	}
	if !news {
		return err
	}
	if g.reflex.blind {
		g.reflex.limit = g.regime.base
	}
	g.enforce(now)
	if g.roof != nil {
		g.tellRoof(now)
		g.roof.follow(now)
	}
	return nil
}

// logged is when a refused Setting was last logged, by reason.
type logged map[actuators.RefusalReason]time.Duration

// refusal logs that a Setting was refused, at most once a minute for each reason.
func (l logged) refusal(now time.Duration, log *slog.Logger, service string, err error) {
	reason := actuators.ReasonOf(err)
	if last, ok := l[reason]; ok && now-last < logEvery {
		return
	}
	l[reason] = now
	log.Error("setting refused; the last good one stays", "service", service, "reason", string(reason), "err", err)
}

// loadCache starts from the cached Setting. Its lease counts from now, as if it had just been received.
func (g *Guard) loadCache() {
	if g.cfg.CacheFile == "" {
		return
	}
	raw, err := files.Read(g.cfg.CacheFile, actuators.MaxBytes+1) // one more, so that Accept can report one that is too long
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err == nil:
		err = g.apply(0, raw)
	}
	if err != nil {
		g.cfg.Logger.Error("cached setting not used; starting from the fallback", "service", g.cfg.Service,
			"file", g.cfg.CacheFile, "err", err)
	}
}

func (g *Guard) saveCache() {
	if g.cfg.CacheFile == "" {
		return
	}
	g.mu.Lock()
	last := g.regime.last
	g.mu.Unlock()
	raw, err := last.Encode()
	if err == nil {
		err = replaceFile(g.cfg.CacheFile, raw)
	}
	if err != nil {
		g.cfg.Logger.Error("setting not cached; a start without the store would use the fallback",
			"service", g.cfg.Service, "file", g.cfg.CacheFile, "err", err)
	}
}

// replaceFile writes raw to name atomically: a reader sees either the old or the new content, even after a crash.
func replaceFile(name string, raw []byte) (err error) {
	if err := files.Regular(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(raw); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
