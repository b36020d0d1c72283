package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// Source delivers the Settings of a service. actuators/consul's Watcher is one.
type Source interface {
	// Watch calls apply with the bytes of the service's Setting, at first and after each change, and with nil when the
	// key does not exist. It blocks until ctx ends, through any trouble with the store.
	Watch(ctx context.Context, service string, apply func(raw []byte)) error
}

const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	logEvery   = time.Minute
)

// Run keeps the guard supplied with Settings from src until ctx ends, and then returns nil. It blocks: the caller
// chooses the goroutine. A Watch that fails is called again after a jittered pause of at most 30 s; the guard meanwhile
// works on. A guard without Run works, too, on its fallback and its reflex.
func (g *Guard) Run(ctx context.Context, src Source) error {
	pause := retryFirst
	for {
		err := src.Watch(ctx, g.cfg.Service, func(raw []byte) {
			pause = retryFirst
			if g.Apply(raw) == nil && raw != nil {
				g.saveCache()
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		g.cfg.Logger.Warn("the source of settings ended; the guard keeps the last one",
			"service", g.cfg.Service, "err", err)
		// Full jitter: the guards of a fleet that lost its store must not come back together.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(rand.Int64N(int64(pause))) + pause/10):
		}
		pause = min(2*pause, retryMost)
	}
}

// Apply takes the bytes of a Setting into force. It returns nil when they are now in force, and the error of
// actuators.Accept when they were refused, counted and (at most once a minute for each reason) logged; the guard then
// keeps what it has. nil stands for a deleted key: the last good Setting stays until its lease has run out.
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
	s, err := actuators.Accept(raw, g.cfg.Service, g.regime.predecessor(now))
	if err != nil {
		g.refuse(now, err)
		return err
	}
	// The same bytes again are no news. Above all they do not renew the lease: a store that is read again must not
	// speak for a governor that has died.
	if reflect.DeepEqual(s, g.regime.last) {
		return nil
	}
	g.regime.adopt(now, s)
	if g.reflex.blind {
		g.reflex.limit = g.regime.base
	}
	g.enforce(now)
	return nil
}

func (g *Guard) refuse(now time.Duration, err error) {
	reason := actuators.ReasonOf(err)
	g.refused[reason]++
	if last, ok := g.logged[reason]; ok && now-last < logEvery {
		return
	}
	g.logged[reason] = now
	g.cfg.Logger.Error("setting refused; the last good one stays", "service", g.cfg.Service, "reason", string(reason),
		"err", err)
}

// loadCache starts from the cached Setting. Its lease counts from now, like that of one just received.
func (g *Guard) loadCache() {
	if g.cfg.CacheFile == "" {
		return
	}
	raw, err := readCache(g.cfg.CacheFile)
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

// readCache reads no more than a Setting may be long (one byte more, so that Accept can say so).
func readCache(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, actuators.MaxBytes+1))
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

// replaceFile writes raw to name in one step: whoever reads sees the old content or the new, also after a crash.
func replaceFile(name string, raw []byte) (err error) {
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
